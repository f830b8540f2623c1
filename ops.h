/* ops.h - floor 2: tensors, shape rules and the whole-tensor operations the networks are written in.
 *
 * Activations are channels-last: [N,H,W,C] for feature maps and [N,T,C] for tokens, so that a 1x1 convolution, a linear
 * layer and the token view are the same bytes. Weights stay as the file has them: [O,I] or [O,I,kh,kw], F32, F16 or
 * BF16.
 *
 * An operation checks shapes, counts its work, takes its result from the arena and hands over to the backend. With the
 * null backend (every entry NULL) nothing is computed: the same forward function yields shapes, FLOPs and the arena's
 * exact peak.
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
    void *host;          /* NULL under the null backend */
    const char *name;    /* weights: the key it was bound to; activations: NULL */
    const char *path;    /* weights: diffusers' name for it */
    uint32_t id;         /* weights: whose numbers these are, 1, 2, ... within a model; 0: a weight that nobody
                          * numbered, or an activation */
    uint32_t version;    /* ... and how often they have been replaced, see sd_weight_own in weights.h. What is kept of a
                          * weight is kept under both */
} sd_tensor;

typedef enum sd_act { SD_ACT_NONE = 0, SD_ACT_SILU, SD_ACT_GELU, SD_ACT_QUICK_GELU } sd_act;

/* enlarge: of the picture enlarged to twice its size, each pixel standing for 2x2, without making that picture */
typedef struct sd_conv { int stride, pad_top, pad_left, pad_bottom, pad_right; bool enlarge; } sd_conv;

typedef struct sd_run sd_run;

/* One entry per whole-tensor operation; it varies by device. Shapes have been checked. Entries may fuse
 * (group_norm takes its activation) and choose their algorithm. */
typedef struct sd_backend {
    const char *name;
    /* y = x W^T + b. x is [rows, I], y [rows, O]. */
    void (*linear)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b);
    void (*conv2d)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
    /* softmax(q k^T / sqrt(d)) v per head; q [N,T,H d], k and v [N,S,H d] */
    void (*attention)(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);
    void (*group_norm)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                       double eps, bool silu);
    void (*layer_norm)(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps);
    void (*act)(sd_run *r, sd_tensor y, sd_tensor x, sd_act act);
    void (*geglu)(sd_run *r, sd_tensor y, sd_tensor x);
    void (*add)(sd_run *r, sd_tensor y, sd_tensor x);
    void (*add_channels)(sd_run *r, sd_tensor y, sd_tensor bias);
    void (*concat)(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b);
    void (*upsample)(sd_run *r, sd_tensor y, sd_tensor x);
    void (*embed)(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position);
} sd_backend;

/* How sd_backend_cpu computes a convolution: a function of one picture's shape (x [N,H,W,I], w [O,I,kh,kw]), not of
 * N. */
typedef enum sd_conv_how { SD_CONV_LINEAR, SD_CONV_UNFOLD, SD_CONV_WINOGRAD, SD_CONV_WINOGRAD_ENLARGED } sd_conv_how;
sd_conv_how sd_conv_choose(const sd_kern *k, const int64_t x[4], const int64_t w[4], sd_conv c);
const char *sd_conv_name(sd_conv_how how);
/* Multiplications that this takes for a result y [N,H,W,O] of a 3x3 kernel or smaller, as a share of the plain
 * sum's. */
double sd_conv_share(sd_conv_how how, const int64_t y[4]);

extern const sd_backend sd_backend_null;   /* ops.c */
extern const sd_backend sd_backend_cpu;    /* ops_cpu.c */

struct sd_trace;
struct sd_profile;

/* Results that are the same in every pass of a network, by the weight they came from; see sd_linear_once. All zero:
 * none yet. */
typedef struct sd_kept {
    struct { const sd_tensor *w; sd_tensor y; } *item;
    int n;
} sd_kept;
void sd_kept_free(sd_kept *k);

/* What one computation carries along. */
struct sd_run {
    sd_error *err;                      /* sticky */
    sd_arena arena;
    const sd_backend *be;
    const sd_kern *kern;
    bool blas;                          /* OpenBLAS does the products of linear layers and unfolded convolutions */
    int threads;
    sd_cache_sizes caches;              /* what blocks are made to fit; all zero: unknown, they are then small */
    struct sd_trace *trace;             /* NULL: off */
    struct sd_profile *profile;         /* profile.h; NULL: off */
    const char *step;                   /* module path being computed, for error texts; may be NULL */
    double flops;                       /* multiplications and additions so far */
    void (*watch)(void *user, int step, sd_tensor y);   /* called after each step of a plan; may be NULL */
    void *watch_user;
    void (*used)(void *user, const sd_tensor *w);       /* called when a matrix or kernel of weights was used; may be
                                                         * NULL */
    void *used_user;
    sd_kept *kept;                      /* NULL: nothing is kept */
    void *scratch;                      /* the backend's own working memory, kept between operations */
    size_t scratch_size;
};

void sd_run_free(sd_run *r);            /* arena and scratch */
/* At least `bytes` of SD_ALIGN-aligned working memory, contents undefined; NULL (and r->err set) when there is none. */
void *sd_scratch(sd_run *r, size_t bytes);
void sd_scratch_free(sd_run *r);
/* Any float dtype at any alignment to float. */
void sd_widen(float *y, const void *x, sd_dtype dt, size_t n, const sd_kern *k);

static inline bool sd_ok(const sd_run *r) { return r->err->status == SD_OK; }
static inline bool sd_is_cancelled(const sd_run *r) { return sd_told_to_stop(r->err); }
static inline float *sd_f32(sd_tensor t) { return (float *)t.host; }

int64_t sd_numel(const sd_tensor *t);
/* "[2,320,64,64]" into buf */
const char *sd_shape_text(const sd_tensor *t, char buf[96]);

/* A new F32 tensor from the arena, contents undefined. */
sd_tensor sd_new(sd_run *r, int nd, const int64_t *dim);
sd_tensor sd_new2(sd_run *r, int64_t a, int64_t b);
sd_tensor sd_new3(sd_run *r, int64_t a, int64_t b, int64_t c);
sd_tensor sd_new4(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d);
/* A new F32 tensor with these numbers; NULL: contents undefined. */
sd_tensor sd_upload(sd_run *r, int nd, const int64_t *dim, const float *numbers);
/* The same bytes seen as another shape. */
sd_tensor sd_view3(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c);
sd_tensor sd_view4(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c, int64_t d);

size_t sd_mark(const sd_run *r);
void sd_reset(sd_run *r, size_t mark);
/* Frees everything above `mark` but y, which is moved down to it. */
sd_tensor sd_keep(sd_run *r, size_t mark, sd_tensor y);

/* ---- the operations. A trailing underscore: works in place. */
sd_tensor sd_linear(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b);              /* [..,I] -> [..,O] */
/* sd_linear of an x that no pass changes: the first one of those that share run->kept computes it, the others find it
 * there. */
sd_tensor sd_linear_once(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b);
/* [N,H,W,I] -> [N,H',W',O] */
sd_tensor sd_conv2d(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
sd_tensor sd_attention(sd_run *r, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);
sd_tensor sd_group_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps,
                        bool silu);
sd_tensor sd_layer_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps);
sd_tensor sd_silu(sd_run *r, sd_tensor x);
void sd_act_(sd_run *r, sd_tensor x, sd_act act);
sd_tensor sd_geglu(sd_run *r, sd_tensor x);                                  /* [..,2C] -> [..,C] */
void sd_add_(sd_run *r, sd_tensor y, sd_tensor x);
void sd_add_channels_(sd_run *r, sd_tensor y, sd_tensor bias);               /* y [N,..,C] += bias [N,C] */
sd_tensor sd_concat(sd_run *r, sd_tensor a, sd_tensor b);                    /* along channels */
sd_tensor sd_upsample(sd_run *r, sd_tensor x, int64_t h, int64_t w);         /* nearest, to h x w */
sd_tensor sd_embed(sd_run *r, const int32_t *ids, int64_t n, int64_t t, const sd_tensor *token,
                   const sd_tensor *position);

#endif
