/* ops.h - floor 2: tensors, shape rules and the whole-tensor operations of which the networks are made.
 *
 * Activations are channels-last: [N,H,W,C] for feature maps and [N,T,C] for tokens, so that a 1x1 convolution, a linear
 * layer and the token view are the same bytes. Weights stay as the file has them: [O,I] or [O,I,kh,kw], of any type
 * that sd_widen_weight makes floats of.
 *
 * An operation checks shapes, counts its work, allocates its result in the arena and calls the backend. With the null
 * backend (every entry NULL) nothing is computed: the same forward function yields shapes, FLOPs and the arena's exact
 * peak.
 *
 * Errors stick: once run->err is set every operation is a no-op, so that a forward function reads as mathematics. */
#ifndef SD_OPS_H
#define SD_OPS_H

#include "base.h"
#include "kernels.h"

typedef struct sd_tensor {
    int nd;              /* 0: absent (an optional weight that is not there) */
    int64_t dim[4];
    sd_dtype dt;         /* SD_F32 for every activation */
    float scale;         /* weights: their numbers are to be multiplied by it; 0: they are not */
    void *data;          /* activations: an address in the backend's memory, which only the backend may dereference
                          * (others use sd_upload, sd_download); weights: host memory. NULL under the null backend */
    const char *name;    /* weights: the key it was bound to; activations: NULL */
    const char *path;    /* weights: diffusers' name for it */
    uint32_t id;         /* weights: 1, 2, ... within the models of a run; 0: a weight without number, or an
                          * activation */
    uint32_t version;    /* weights: how often their numbers were replaced (sd_weight_own in weights.h). Whatever is
                          * kept of a weight is kept under id and version */
} sd_tensor;

typedef enum sd_act {
    SD_ACT_NONE = 0, SD_ACT_SILU, SD_ACT_GELU, SD_ACT_QUICK_GELU, SD_ACT_RELU,
    SD_ACT_SOFT_CLAMP, SD_ACT_TO_UNIT, SD_ACT_FROM_UNIT   /* of a TAESD; kernels.h has the formulas */
} sd_act;

/* A picture of which only some rows are computed at a time. x has the picture's rows from number `first` on, of
 * `height` in all; the result begins with its row number `from`. height 0: x and the result are whole. */
typedef struct sd_rows { int64_t height, first, from; } sd_rows;

/* enlarge: convolve the picture enlarged to twice its size, each pixel standing for 2x2, without making that picture.
 * A row's bits are the same whether it is computed with the whole picture or in a band (rows). */
typedef struct sd_conv { int stride, pad_top, pad_left, pad_bottom, pad_right; bool enlarge; sd_rows rows; } sd_conv;

/* A band of a convolution's result begins at a multiple of so many rows, and ends at one or with the picture: an
 * algorithm that computes tiles of pixels may have tiles as high as that. */
static inline int64_t sd_conv_band(sd_conv c) { return c.enlarge ? 8 : 4; }
/* The height of the picture of which x [N,H,W,I] has all rows or some. */
static inline int64_t sd_conv_height(const int64_t x[4], sd_conv c) { return c.rows.height ? c.rows.height : x[1]; }
/* The rows first .. end - 1 of a picture of `height` rows that the rows from .. to - 1 of the result are made of. */
void sd_conv_reads(sd_conv c, int64_t kernel_height, int64_t height, int64_t from, int64_t to, int64_t *first,
                   int64_t *end);

typedef struct sd_run sd_run;

/* How a backend computes a convolution. */
typedef struct sd_conv_how {
    const char *name;    /* of the algorithm */
    double share;        /* its multiplications, as a share of the plain sum's */
} sd_conv_how;

/* Memory that can still be had: so many bytes in all; and at once, for one tensor (a multiple of SD_ALIGN; 0: all). */
typedef struct sd_room { double bytes; size_t part; } sd_room;

/* A device: one entry per whole-tensor operation, and its memory. Shapes have been checked. Operations may fuse
 * (group_norm takes its activation) and choose their algorithm. docs/MAP.md, "A backend", says what a porter writes. */
typedef struct sd_backend {
    const char *name;

    /* ---- memory, SD_ALIGN-aligned, contents undefined. Returns NULL if there is none: `what` is then named in the
     * error ("the working space of the UNet"); if it is NULL no error is raised, because the caller can do without. */
    void *(*alloc)(sd_run *r, size_t bytes, const char *what);
    void (*release)(sd_run *r, void *data);                   /* frees what alloc returned; NULL is harmless */
    void (*trim)(sd_run *r);                                  /* frees what is held for speed alone */
    /* What alloc can still give, if it must, beside what is allocated now. NULL: the host's memory. */
    sd_room (*room)(const sd_run *r);
    /* From now on another network's weights are used: copies of others may go. stream: no copy should stay after its
     * use. NULL: the backend has no copies. */
    void (*enter)(sd_run *r, bool stream);
    /* Numbers from and to the host. channels_first: [N,C,...] on the host, as in PyTorch, is [N,...,C] in the
     * tensor. */
    void (*upload)(sd_run *r, sd_tensor y, const float *from, bool channels_first);
    void (*download)(sd_run *r, sd_tensor x, float *to, bool channels_first);
    void (*copy)(sd_run *r, sd_tensor y, sd_tensor x);        /* y may overlap x, from a lower address */

    /* ---- operations */
    void (*sinusoid)(sd_run *r, sd_tensor y, const float *value, bool flip, double shift);   /* value: host memory */
    /* y = x W^T + b. x is [rows, I], y [rows, O]. */
    void (*linear)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b);
    void (*conv2d)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
    /* How conv2d would compute this, from the shapes alone: x [N,H,W,I], w [O,I,kh,kw]. It must depend neither on N
     * nor, but for the share, on c.rows, if that says that x is a part of a picture with H = c.rows.height. */
    sd_conv_how (*describe)(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c);
    /* softmax(q k^T / sqrt(d)) v per head; q [N,T,H d], k and v [N,S,H d] */
    void (*attention)(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);
    /* y may be x */
    void (*group_norm)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                       double eps, bool silu);
    /* Group norm in three parts, for a picture in bands; the bits are group_norm's. Sums and scale: see
     * sd_norm_sums_new. */
    void (*norm_sums)(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel);
    void (*norm_scale)(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                       double eps, int64_t pixels);
    void (*norm_apply)(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu);
    void (*layer_norm)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps);
    void (*act)(sd_run *r, sd_tensor y, sd_tensor x, sd_act act);
    void (*geglu)(sd_run *r, sd_tensor y, sd_tensor x);
    void (*add)(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);   /* y may be a or b */
    void (*add_channels)(sd_run *r, sd_tensor y, sd_tensor bias);
    void (*concat)(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);
    void (*upsample)(sd_run *r, sd_tensor y, sd_tensor x);
    void (*embed)(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position);
} sd_backend;

extern const sd_backend sd_backend_null;   /* ops.c */
extern const sd_backend sd_backend_cpu;    /* ops_cpu.c */
extern const sd_backend sd_backend_opencl; /* ops_opencl.c, in builds with OPENCL=1 */

struct sd_trace;
struct sd_profile;

/* Results of sd_linear_cached, in the backend's memory, found by the weight and by the version of the input. */
typedef struct sd_cached {
    struct { uint32_t id, weight_version; uint64_t version; sd_tensor y; } *item;
    int n;
} sd_cached;

/* The state of one computation. */
struct sd_run {
    sd_error *err;                      /* sticky */
    const sd_backend *be;
    void *device;                       /* the backend's own: struct sd_cpu of ops_cpu.h; the null backend has none */
    sd_arena arena;                     /* of the backend's memory, see sd_reserve */
    sd_cached kept;
    struct sd_trace *trace;             /* NULL: off */
    struct sd_profile *profile;         /* profile.h; NULL: off */
    const char *step;                   /* module path being computed, for error texts; may be NULL */
    double flops;                       /* multiplications and additions so far */
    void (*watch)(void *user, int step, sd_tensor y);   /* called after each step of a network; may be NULL */
    void *watch_user;
    void (*used)(void *user, const sd_tensor *w);       /* called when a matrix or kernel of weights was used;
                                                         * may be NULL */
    void *used_user;
};

/* What the run's backend has. Where that is the CPU, sd_room_of asks the system, which takes as long as an operation or
 * two of a small network; who wants `part` alone takes sd_arena_part_of. */
sd_room sd_room_of(const sd_run *r);
size_t sd_arena_part_of(const sd_run *r);
/* Gives the arena at least `bytes` of working memory and empties it. `what`: see sd_backend.alloc. */
sd_status sd_reserve(sd_run *r, size_t bytes, const char *what);
void sd_forget_cached(sd_run *r);              /* frees what sd_linear_cached keeps */
void sd_run_free(sd_run *r);            /* ... and the working memory, and what the backend holds for speed */

static inline bool sd_ok(const sd_run *r) { return r->err->status == SD_OK; }
static inline bool sd_is_cancelled(const sd_run *r) { return sd_stop_requested(r->err); }
/* False where nothing is computed: tensors have shapes, but no numbers. */
static inline bool sd_has_numbers(const sd_run *r) { return r->be->download != NULL; }

static inline int64_t sd_numel(const sd_tensor *t)
{
    int64_t n = t->nd > 0;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    return n;
}
/* "[2,320,64,64]" into buf */
const char *sd_shape_text(const sd_tensor *t, char buf[96]);

/* ops_types.c. Converts numbers of the host, of any float dtype at any alignment, to float. n: whole blocks. */
void sd_widen(float *y, const void *x, sd_dtype dt, size_t n, const sd_kern *k);
/* Numbers at .. at + n - 1 of a weight, times its scale. */
void sd_widen_weight(float *y, const sd_tensor *w, size_t at, size_t n, const sd_kern *k);
/* ops_narrow.c. The other way round: floats to F32, F16, BF16, F64, an F8 type or Q8_0, at any alignment, each to the
 * nearest number, ties to even, with torch's and gguf's bits. Too large is infinity, but for E4M3,
 * which has none: there it is the largest number. */
void sd_narrow(void *y, sd_dtype dt, const float *x, size_t n);
bool sd_can_narrow(sd_dtype dt);

/* A new F32 tensor from the arena, contents undefined. */
sd_tensor sd_new2(sd_run *r, int64_t a, int64_t b);
sd_tensor sd_new3(sd_run *r, int64_t a, int64_t b, int64_t c);
sd_tensor sd_new4(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d);
/* A new F32 tensor with these numbers of the host; NULL: contents undefined. */
sd_tensor sd_new_from(sd_run *r, int nd, const int64_t *dim, const float *numbers);
/* From PyTorch's order: a new [N,H,W,C] with the numbers of an [N,C,H,W]. */
sd_tensor sd_new_from_nchw(sd_run *r, int64_t n, int64_t c, int64_t h, int64_t w, const float *numbers);
/* Copies all numbers of a tensor from the host, and to it. */
void sd_upload(sd_run *r, sd_tensor y, const float *from);
void sd_download(sd_run *r, sd_tensor x, float *to);
/* The same if the host has PyTorch's order: x [N,..,C] <-> [N,C,..] */
void sd_upload_channels_first(sd_run *r, sd_tensor y, const float *from);
void sd_download_channels_first(sd_run *r, sd_tensor x, float *to);
/* The first n samples of x: the same bytes. */
sd_tensor sd_samples(sd_run *r, sd_tensor x, int64_t n);
/* x, if it has n samples; else a new tensor with all of its samples again and again, n in the end. */
sd_tensor sd_repeat(sd_run *r, sd_tensor x, int64_t n);
/* The same bytes seen as another shape. */
sd_tensor sd_view2(sd_run *r, sd_tensor x, int64_t a, int64_t b);
sd_tensor sd_view3(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c);
sd_tensor sd_view4(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c, int64_t d);

/* Memory is taken in the order of a stack. What lies above the mark is lost with the next convolution, which may use it
 * to work in; only that convolution's own operands may lie there. */
size_t sd_mark(const sd_run *r);
void sd_reset(sd_run *r, size_t mark);
/* Frees everything above `mark` but y, which is moved down to it. */
sd_tensor sd_move_down(sd_run *r, size_t mark, sd_tensor y);
void sd_copy(sd_run *r, sd_tensor y, sd_tensor x);   /* y may overlap x, from a lower address */

/* ---- the operations. A trailing underscore: works in place. */
sd_tensor sd_linear(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b);              /* [..,I] -> [..,O] */
/* sd_linear of an x whose numbers have this version. Until sd_forget_cached, the result is kept and found again by
 * weight and version. Version 0: not kept. */
sd_tensor sd_linear_cached(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, uint64_t version);
/* The shape y [N,H',W',O] of a convolution's result. False: the picture is smaller than the kernel. */
bool sd_conv_result(const int64_t x[4], const int64_t w[4], sd_conv c, int64_t y[4]);
sd_tensor sd_conv2d(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
/* The same into y, whose rows may be a band of the result. */
void sd_conv2d_into(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
/* conv2d, 3x3 with padding 1, of x enlarged to h x w by repeating its nearest pixels. */
sd_tensor sd_upsample_conv2d(sd_run *r, sd_tensor x, int64_t h, int64_t w, const sd_tensor *kernel, const sd_tensor *b);
sd_tensor sd_attention(sd_run *r, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);
sd_tensor sd_group_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps,
                        bool silu);
void sd_group_norm_(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps, bool silu);
/* Group norm [+ SiLU] of one picture that is never whole: the sums over each run of SD_NORM_RUN pixels, band after band
 * from the top; then what each channel is scaled by; then each band. The backend decides what the numbers are. */
enum { SD_NORM_RUN = 512 };
sd_tensor sd_norm_sums_new(sd_run *r, int64_t pixels, int64_t channels);
sd_tensor sd_norm_scale_new(sd_run *r, int64_t channels);
void sd_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel);   /* pixel: number of x's first; 0 begins */
void sd_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                   double eps, int64_t pixels);
void sd_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu);   /* y may be x */
sd_tensor sd_layer_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps);
sd_tensor sd_silu(sd_run *r, sd_tensor x);
void sd_act_(sd_run *r, sd_tensor x, sd_act act);
sd_tensor sd_geglu(sd_run *r, sd_tensor x);                                  /* [..,2C] -> [..,C] */
void sd_add_(sd_run *r, sd_tensor y, sd_tensor x);
void sd_add_into(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);          /* y = a + b; y may be a or b */
void sd_add_channels_(sd_run *r, sd_tensor y, sd_tensor bias);               /* y [N,..,C] += bias [N,C] */
sd_tensor sd_concat(sd_run *r, sd_tensor a, sd_tensor b);                    /* along channels */
sd_tensor sd_upsample(sd_run *r, sd_tensor x, int64_t h, int64_t w);         /* nearest, to h x w */
/* Sinusoidal embedding of n numbers of the host, [n,dim]; kernels.h has the formula (sdk_sinusoid). */
sd_tensor sd_sinusoid(sd_run *r, int64_t n, int64_t dim, const float *value, bool flip, double shift);
/* token[ids[n,t]] + position[t], [n,t,C]; position NULL: none is added. */
sd_tensor sd_embed(sd_run *r, const int32_t *ids, int64_t n, int64_t t, const sd_tensor *token,
                   const sd_tensor *position);

#endif
