/* fuzz_options.c - the program's command lines: any words, up to the moment when weights would be read. The first byte
 * says which command, each other word ends at a 0 byte. Every word is allowed but paths that lead elsewhere, for some
 * options write files. */
#define _XOPEN_SOURCE 700
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_WORDS = 24, MOST_TEXT = 400 };

int sd_program(int argc, char **argv);   /* main of main.c */

static char model[1200];

/* The program is called again and again in a directory of its own. */
static void begin(void)
{
    if (*model) return;
    char here[1024];
    fuzz_demand(getcwd(here, sizeof here) != NULL && setenv("OMP_WAIT_POLICY", "passive", 1) == 0);
    snprintf(model, sizeof model, "%s/weights/tiny", here);
    fuzz_demand(chdir(fuzz_dir()) == 0);
}

/* Command, model: reading the one in the box costs a millisecond without weights; commands with weights get one that is
 * not there. */
typedef struct beginning { const char *command; bool with_model, finds_it; } beginning;
static const beginning beginnings[] = {
    {NULL, true, false}, {"schedule", true, true}, {"tokenize", true, true}, {"encode", true, false},
    {"decode", true, false}, {"roundtrip", true, false}, {"plan", false, false}, {"samplers", false, false},
    {"profiles", false, false}, {"convert", false, false},
    {"inspect", false, false}, {"compare", false, false}, {"devices", false, false}, {"tune", false, false},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *argv[MOST_WORDS + 5] = {(char[]){"sd"}};
    int argc = 1;
    if (n == 0 || memchr(data + 1, '/', n - 1)) return 0;
    begin();
    const beginning *b = &beginnings[data[0] % SD_COUNT(beginnings)];
    fuzz_bytes words = {data + 1, n - 1};
    if (b->command) argv[argc++] = (char *)(uintptr_t)b->command;
    for (int i = 0; i < MOST_WORDS && words.left; i++) {
        const char *word = fuzz_text(&words, MOST_TEXT);
        if (word) argv[argc++] = (char *)(uintptr_t)word;
    }
    if (b->with_model) {
        argv[argc++] = (char[]){"-m"};
        argv[argc++] = b->finds_it ? model : (char[]){"/no/such/model"};
    }
    int code = sd_program(argc, argv);
    fuzz_demand(code >= 0 && code <= 2);
    fuzz_free();
    return 0;
}
