/* ops_opencl.h - floor 2: what the files of the OpenCL backend share.
 *
 * The backend asks for OpenCL 1.2 and for nothing that 3.0 has made optional: no sub-groups, no 16-bit arithmetic, no
 * doubles. Kernels are in opencl/: common.cl comes before each of the other files. Two kinds of device are told apart
 * (struct sd_cl, `cpu`): on a CPU a work-group is one work-item, which calculates in vectors; elsewhere a work-group
 * has many, which share local memory.
 *
 * Rules for kernels: global sizes are multiples of local ones; no return before a barrier, and no barrier in a branch
 * that a part of the group takes; the number of a group is GROUP(d) of common.cl and not get_group_id(d), because a
 * launch may be cut into pieces; sums are in float, over at most 256 terms at a time, in an order that depends on
 * shapes alone, without N; functions are static, or some compilers would look for them elsewhere. */
#ifndef SD_OPS_OPENCL_H
#define SD_OPS_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "profile.h"

/* A packed matrix is cut into strips of so many output channels: [O / STRIP][K][STRIP], zeros after the last channel.
 * K counts (ky, kx, i): kh kw I numbers. */
enum { SD_CL_STRIP = 32 };

/* How the numbers of a weight stand in the device's memory. Kernels are built with -DWEIGHT=0, 1 or 2. */
typedef enum sd_cl_type { SD_CL_FLOAT, SD_CL_HALF, SD_CL_BFLOAT } sd_cl_type;

typedef struct sd_cl_block { uintptr_t address; size_t bytes, part; cl_mem *buffer; int buffers; } sd_cl_block;

struct sd_cl_program;
struct sd_cl_weight;

/* A buffer that is written again and again. */
typedef struct sd_cl_slot { cl_mem buffer; size_t bytes; cl_event written, done; } sd_cl_slot;

/* rows and columns of a tensor seen as a matrix; how many pieces of so many there are */
static inline int64_t sd_cl_columns(sd_tensor t) { return t.dim[t.nd - 1]; }
static inline int64_t sd_cl_rows(sd_tensor t) { return sd_numel(&t) / sd_cl_columns(t); }
static inline int64_t sd_cl_div_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* Which row of the table of shapes was measured to be the fastest for a product. */
typedef struct sd_cl_choice { int64_t M, N, K; bool conv; int shape; } sd_cl_choice;

/* What run->device points to. */
typedef struct sd_cl {
    cl_platform_id platform;
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;             /* in order */
    char name[128], platform_name[128], platform_version[128], driver[64];
    int number;                         /* over all platforms */
    char label[160];                    /* "opencl:0 NAME" */
    char refused[192];                  /* why it cannot be used, a sentence after its name; "": it can */
    cl_device_type type;
    bool cpu;
    bool shares_memory;                 /* with the host */
    size_t units;                       /* compute units */
    cl_uint vector;                     /* floats that its vectors hold */
    size_t most_group, local_memory;    /* work-items of a group; bytes that it shares */
    size_t step;                        /* work-items that run in step; 0: a kernel is asked */
    uint64_t memory, most;              /* bytes of the device; of one buffer, at most 2^31 floats */
    char cache[4096];                   /* directory of built programs and measured choices; "": none */
    const sd_kern *kern;                /* the host's kernels, which widen weights of types that no kernel reads */
    const sd_log *log;

    /* ops_opencl_memory.c */
    sd_cl_block *block;
    size_t blocks, block_cap;
    uintptr_t next_address;
    uint64_t taken;                     /* bytes of all buffers that there are now */
    cl_mem scratch;
    size_t scratch_size;
    cl_mem nothing;                     /* stands for an absent bias */

    /* ops_opencl_program.c */
    struct sd_cl_program *program;
    size_t programs, program_cap;
    bool rebuild;                       /* what the cache has of programs is not to be trusted */

    /* ops_opencl_weights.c */
    cl_command_queue uploads;           /* NULL until there is one */
    struct sd_cl_weight *weight;
    size_t weights, weight_cap;
    sd_cl_slot slot[3], passing[4];     /* weights on their way; weights that do not stay: a packed one, and others */
    unsigned next_slot, next_passing;
    uint64_t weight_bytes;              /* of weights that stay while there is memory */
    uint64_t uses, entered;             /* of weights, so far; when the network was entered that is computed now */
    bool streams;                       /* no weight stays but for small ones */

    /* ops_opencl_gemm.c: what was measured; empty: a rule chooses */
    sd_cl_choice *choice;
    size_t choices;
    int only;                           /* this row and no other, counted from 1; 0: what is chosen */
    uint32_t given_up;                  /* bits: rows of the table whose kernels take no group that large */

    /* ops_opencl_launch.c: how far the host may run ahead of the device */
    double since_mark, marked, quantum, mark_time;   /* work; seconds */
    double least_quantum;               /* tests have launches cut into smaller pieces */
    cl_event mark;
} sd_cl;

static inline sd_cl *sd_cl_of(const sd_run *r) { return r->device; }

/* ---- ops_opencl_device.c */
/* All devices of all platforms, not opened, in the order in which they are counted. SD_ERR_DEVICE if there is none.
 * free() the list. */
typedef struct sd_cl_list { sd_cl *device; size_t n; } sd_cl_list;
sd_status sd_cl_find_devices(sd_cl_list *l, sd_error *e);
const char *sd_cl_type_name(const sd_cl *cl);   /* "GPU", "accelerator", "CPU", "other" */
/* Which of them is meant, and why; l->n and an error that says what there is. which: "opencl", "opencl:N" or
 * "opencl:NAME", where NAME is a part of a device's or a platform's name. A GPU goes before an accelerator and that
 * before a CPU, then more memory before less. */
enum { SD_CL_WHY = 96 };
size_t sd_cl_choose(const sd_cl_list *l, const char *which, char why[SD_CL_WHY], sd_error *e);
/* NULL and an error if it cannot be opened. cache: see sd_cl. */
sd_cl *sd_cl_open_found(const sd_cl *found, const char *cache, const sd_kern *kern, const sd_log *log, sd_error *e);
/* All three of them. */
sd_cl *sd_cl_open(const char *which, const char *cache, const sd_kern *kern, const sd_log *log, sd_error *e);
void sd_cl_close(sd_cl *cl);   /* NULL is harmless. The run's memory must have been freed */

/* ---- ops_opencl_check.c */
/* Small cases of every entry of `be`, which is sd_backend_opencl but for a test's twins of it, compared with the CPU's
 * specification. thorough: products in tiles of every shape, too. SD_ERR_DEVICE and which operation is wrong. */
typedef struct sd_cl_checked {
    int cases;                          /* that were right */
    double worst;                       /* the largest error, as a share of its bound */
    double seconds;
} sd_cl_checked;
sd_status sd_cl_check(sd_cl *cl, const sd_backend *be, bool thorough, sd_cl_checked *done, sd_error *e);

/* ---- ops_opencl_launch.c */
/* Raises the error of a call of OpenCL that returned `code`, unless that is CL_SUCCESS: true. */
bool sd_cl_failed(sd_run *r, cl_int code, const char *call);
const char *sd_cl_code_name(cl_int code);   /* "CL_OUT_OF_RESOURCES" */

/* A kernel and its arguments, in the order in which it has them. After an error nothing more is done.
 *   sd_cl_call k = sd_cl_begin(r, "rows", "add", "");
 *   sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_int(&k, n);
 *   sd_cl_run(&k, (size_t[]){64}, (size_t[]){groups}, work); */
typedef struct sd_cl_call {
    sd_run *r;
    const char *name;
    cl_kernel kernel;
    size_t most_group;
    cl_uint arguments;
} sd_cl_call;
/* The kernel of opencl/<program>.cl, built with these options ("-DTM=8 -DTN=8") at its first use. */
sd_cl_call sd_cl_begin(sd_run *r, const char *program, const char *kernel, const char *options);
void sd_cl_buffer(sd_cl_call *c, cl_mem buffer, size_t at);  /* two arguments: __global float *x, uint x_at; floats */
void sd_cl_tensor(sd_cl_call *c, sd_tensor t);               /* the same for a tensor of the device */
void sd_cl_int(sd_cl_call *c, int64_t n);                    /* int */
void sd_cl_float(sd_cl_call *c, double x);                   /* float */
/* `group` work-items times `groups` along each of three dimensions. A long launch is cut into several, so that the
 * device is never busy for long with what a cancelled call has asked for. work: about how many multiplications, or
 * numbers read and written. */
void sd_cl_run(sd_cl_call *c, const size_t group[3], const size_t groups[3], double work);
void sd_cl_wait(sd_run *r);                                  /* until all is done */

/* ---- ops_opencl_memory.c */
typedef struct sd_cl_place { cl_mem buffer; size_t at; } sd_cl_place;   /* at: floats */
sd_cl_place sd_cl_find(const sd_run *r, sd_tensor t);
/* Working memory within an operation, kept for the next; NULL and an error if there is none. */
cl_mem sd_cl_scratch(sd_run *r, size_t bytes);
/* NULL and an error; what: "the weights". what NULL: no error, and no weight has to make room for it. */
cl_mem sd_cl_new_buffer(sd_run *r, size_t bytes, const char *what);
bool sd_cl_has_left(const sd_cl *cl, size_t bytes);
void sd_cl_free_buffer(sd_cl *cl, cl_mem buffer);
float *sd_cl_host_room(sd_run *r, int64_t n);   /* for numbers on their way; free() it; NULL and an error */
void *sd_cl_alloc(sd_run *r, size_t bytes, const char *what);
void sd_cl_release(sd_run *r, void *data);
void sd_cl_trim(sd_run *r);
sd_room sd_cl_room(const sd_run *r);
void sd_cl_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first);
void sd_cl_download(sd_run *r, sd_tensor x, float *to, bool channels_first);
void sd_cl_copy(sd_run *r, sd_tensor y, sd_tensor x);

/* ---- ops_opencl_program.c */
/* NULL and an error if it cannot be built. most_group: how many work-items a group of this kernel may have. */
cl_kernel sd_cl_kernel(sd_run *r, const char *program, const char *kernel, const char *options, size_t *most_group);
void sd_cl_free_programs(sd_cl *cl);
/* Of these texts, as hexadecimal digits. */
enum { SD_CL_HASH = 65 };
void sd_cl_hash(char hex[SD_CL_HASH], const char *const *text, size_t n);
/* After a failed self-test. True: programs came from the cache; they are freed, and from now on everything is built
 * from source, and kept anew. */
bool sd_cl_distrust_cache(sd_cl *cl);
/* <cache>/opencl/<name>; make: its directory is made if it is not there. False: there is no cache. */
#define SD_CL_PATH 4352
bool sd_cl_cached_path(const sd_cl *cl, const char *name, bool make, char path[SD_CL_PATH]);
/* opencl/<name>.cl, put into the program when that is built; NULL: there is none. */
const char *sd_cl_source(const char *name);

/* ---- ops_opencl_weights.c: a weight's copy on the device, made at its first use and found again by id and version */
typedef struct sd_cl_matrix { cl_mem buffer; sd_cl_type type; } sd_cl_matrix;
sd_cl_matrix sd_cl_packed(sd_run *r, const sd_tensor *w);   /* strips; buffer NULL and an error if it fails */
cl_mem sd_cl_floats(sd_run *r, const sd_tensor *w);         /* as in the file, floats; w NULL: cl->nothing */
/* What an operation makes of a weight, in the place of the packed weight: kept as that is, but only while less than
 * half of the memory is taken. NULL: it is not kept; or an error. */
typedef void sd_cl_making(sd_run *r, cl_mem to, const void *with);
cl_mem sd_cl_made(sd_run *r, const sd_tensor *w, size_t bytes, sd_cl_making *make, const void *with);
void sd_cl_enter(sd_run *r, bool stream);
bool sd_cl_evict(sd_cl *cl);   /* frees the weight that was not used for the longest time; false: none can go */
void sd_cl_free_weights(sd_cl *cl);

/* ---- ops_opencl_gemm.c */
/* c[b] = a[b] w[b]^T + bias for b < batch: a [M][K], w packed strips of K rows, c [M][N]; strides in numbers from one b
 * to the next. w_at and w_stride are multiples of four. The bits of a row do not depend on M or batch. */
typedef struct sd_cl_product {
    cl_mem a, w, c, bias;      /* bias: cl->nothing if there is none */
    size_t a_at, w_at, c_at, a_stride, w_stride, c_stride;   /* in numbers */
    sd_cl_type type;           /* of w */
    int64_t M, N, K, batch;
} sd_cl_product;
void sd_cl_multiply(sd_run *r, const sd_cl_product *p);
/* Shapes of tiles: how many rows their table has; can this device run that one; which one is used (batch: as often).
 * All give the same bits. */
int sd_cl_shapes(void);
void sd_cl_shape_text(int row, char text[32]);   /* "128x64x16, 8x4": of a group, with so many terms; of a work-item */
bool sd_cl_shape_runs(const sd_cl *cl, int row);
int sd_cl_shape_for(const sd_cl *cl, int64_t M, int64_t N, int64_t K, int64_t batch, bool conv);
void sd_cl_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b);
void sd_cl_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
sd_conv_how sd_cl_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c);

/* ---- ops_opencl_tune.c */
/* The speed of multiplications and additions, and of bytes that are copied; takes about `seconds` for each. */
sd_status sd_cl_measure_roofs(sd_run *r, sd_roofs *roofs, double seconds);
/* Measures which shapes of tiles are fastest and keeps that for this device; fn as in sd_tune (sd.h). */
sd_status sd_cl_tune(sd_run *r, int (*fn)(void *user, const sd_tuned *tuned), void *user);
void sd_cl_read_choices(sd_cl *cl);     /* what was kept; none: a rule chooses */
void sd_cl_forget_choices(sd_cl *cl);

/* ---- ops_opencl_winograd.c: 3x3 with stride 1 and padding 1 by F(4x4,3x3), of at least 16 channels in and out */
bool sd_cl_winograd_pays(const sd_cl *cl, const int64_t x[4], const int64_t w[4], sd_conv c);
void sd_cl_winograd(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);

/* ---- ops_opencl_attention.c */
void sd_cl_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);

/* ---- ops_opencl_norm.c */
void sd_cl_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, bool silu);
void sd_cl_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel);
void sd_cl_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, int64_t pixels);
void sd_cl_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu);
void sd_cl_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps);

/* ---- ops_opencl_rows.c: element-wise operations, and those that move numbers */
void sd_cl_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift);
void sd_cl_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act);
void sd_cl_geglu(sd_run *r, sd_tensor y, sd_tensor x);
void sd_cl_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);
void sd_cl_add_channels(sd_run *r, sd_tensor y, sd_tensor bias);
void sd_cl_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);
void sd_cl_upsample(sd_run *r, sd_tensor y, sd_tensor x);
void sd_cl_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position);

#endif
