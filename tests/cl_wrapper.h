/* cl_wrapper.h - OpenCL between a program and its driver: counts calls and objects, lets a call fail, and plays a
 * device's part again without one.
 *
 * Whatever is linked with cl_wrapper.o, and not with the OpenCL library, calls these functions; they find the library
 * when the program runs. A life that was recorded can be lived again: objects are empty then, nothing is computed, and
 * what was read from the device before is read once more. So thousands of lives take seconds, each with another call
 * that fails. */
#ifndef CL_WRAPPER_H
#define CL_WRAPPER_H

#include <stdbool.h>
#include <stddef.h>

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

typedef enum cl_kind { A_CONTEXT, A_QUEUE, A_BUFFER, A_PROGRAM, A_KERNEL, AN_EVENT, CL_KINDS } cl_kind;

extern struct cl_watch {
    bool record, replay;
    /* The call number fail_at, of those named `of` (NULL: of all), returns `code`; rest: all after it do, too. */
    const char *of;
    long fail_at;
    cl_int code;
    bool rest;
    const char *log;            /* a compiler's message, if clBuildProgram is what fails */
    bool no_compiler;           /* the device says so of itself */
    long spoil_at;              /* read number spoil_at begins with another number */
    size_t most_group;          /* not 0: no kernel takes more work-items in a group */

    long calls, counted;        /* so far: all, and those of the name `of` */
    long launches, reads;
    char failed[40];            /* the first that was made to fail; "": none */
    bool late;                  /* when it failed, everything that is read in the record had been read */
    long live[CL_KINDS];        /* objects that were not released */
    char misuse[200];           /* "": none. An object that is not there, or a place outside of a buffer */

    /* The host's memory, asked for by what is linked with this: while it is armed, request number starve_at fails. */
    bool armed;
    long starve_at, requests, blocks;   /* blocks: that were not freed */
    bool starved;
} cl_watch;

/* Forgets counts and how to fail; a record is kept until the next begins. */
void cl_watch_reset(void);
long cl_watch_live(void);       /* objects of all kinds */

#endif
