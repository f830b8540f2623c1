/* ops_wrong.h - floor 2: operations done wrongly on purpose, as other implementations have done them: a backend that
 * hands every operation on to the CPU's, with what a mistake alters in it. The networks above know nothing of it. */
#ifndef SD_OPS_WRONG_H
#define SD_OPS_WRONG_H

#include "ops_cpu.h"

/* What is done wrongly, and `value` says how. It alters the operations of its heading; others stay as they are. */
typedef enum sd_wrong_kind {
    SD_RIGHT,
    /* ---- group norm, layer norm */
    SD_WRONG_EPS,            /* value: the eps */
    SD_WRONG_EPS_OUTSIDE,    /* (x - mean) / (deviation + eps), where eps belongs under the root */
    SD_WRONG_UNBIASED,       /* the variance is divided by n - 1 */
    SD_WRONG_GROUPS,         /* value: so many groups, if they fit */
    SD_WRONG_NO_GAIN,        /* neither gain nor bias */
    /* ---- products: linear layers and convolutions */
    SD_WRONG_NO_BIAS,
    SD_WRONG_TRANSPOSED,     /* of a square matrix, or of each kernel, rows and columns exchanged */
    SD_WRONG_FLIPPED,        /* kernels turned by 180 degrees: a convolution in the mathematical sense */
    SD_WRONG_ROUNDED,        /* what is multiplied has value bits behind the point: 10, 7 */
    SD_WRONG_HALF,           /* results are float16: infinity beyond 65504. Of norms too */
    SD_WRONG_FLUSHED,        /* weights below float16's normal numbers are zero */
    SD_WRONG_NO_SCALE,       /* the scale beside an 8-bit weight is left out */
    SD_WRONG_POOLED,         /* text_projection is of the row: value 0: the first; 1: the last */
    SD_WRONG_INPUT_TIMES,    /* the input times value */
    SD_WRONG_NO_SILU,        /* a resnet projects the time embedding, not its SiLU */
    SD_WRONG_ORDER,          /* value: 0: key and value exchanged; 1: query and key; 2: k,v,q for q,k,v; 3: v,q,k */
    /* ---- convolutions */
    SD_WRONG_PADDING,        /* value: an sd_wrong_pads */
    SD_WRONG_CONV_HALF,      /* what a convolution multiplies is float16 */
    SD_WRONG_SHOWN,          /* value: an sd_wrong_order of the input's channels */
    SD_WRONG_BILINEAR,       /* the picture is enlarged by bilinear interpolation (also in `upsample`) */
    /* ---- attention */
    SD_WRONG_HEADS,          /* value: so many heads; 0: as many as a head has columns; -64: of 64 columns */
    SD_WRONG_HEADS_LAST,     /* columns are taken as [column, head], not as [head, column] */
    SD_WRONG_SCALE,          /* q k^T times value; 0: over the root of all columns; -1: it is not scaled */
    SD_WRONG_CAUSAL,         /* value 1: tokens do not see later ones; 0: they do */
    SD_WRONG_MASK,           /* nothing behind a text's end is attended to */
    /* ---- activations */
    SD_WRONG_ACT,            /* value: the sd_act */
    SD_WRONG_TANH,           /* GELU's tanh form, in GEGLU too */
    SD_WRONG_GEGLU_QUICK,    /* x sigma(1.702 x) for GELU */
    SD_WRONG_GEGLU_SILU,     /* SiLU for GELU */
    SD_WRONG_GATE_FIRST,     /* the first half is the gate */
    /* ---- sums and joins */
    SD_WRONG_NOT_ADDED,      /* value 0: the first alone; 1: the second */
    SD_WRONG_NORM_ADDED,     /* the last group norm's result is added to, not its input */
    SD_WRONG_JOIN,           /* [b | a] */
    /* ---- embeddings */
    SD_WRONG_SIN_FIRST,
    SD_WRONG_FREQUENCIES,    /* value: what is subtracted from half the columns */
    SD_WRONG_TIME_PLUS,      /* the timestep plus value */
    SD_WRONG_TIME_TIMES,     /* the timestep times value */
    SD_WRONG_NO_POSITION,    /* tokens without their positions */
    SD_WRONG_POSITION_PLUS   /* token t has position t + value; the last one's if there is none */
} sd_wrong_kind;

typedef enum sd_wrong_pads {
    SD_PADS_AFTER,      /* with stride 2: right and bottom only */
    SD_PADS_AROUND,     /* with stride 2: all round */
    SD_PADS_BEFORE,     /* with stride 2: left and top only */
    SD_PADS_EDGE,       /* with stride 1: the border's pixels are repeated */
    SD_PADS_MIRROR,     /* ... mirrored */
    SD_PADS_WRAP        /* ... those of the other side follow */
} sd_wrong_pads;

/* What stands behind the latents: a mask and kept latents, 9 in all; a picture's latents, 8; a depth map, 5. */
typedef enum sd_wrong_order {
    SD_SHOWN_FIRST,           /* it stands before the latents */
    SD_SHOWN_MASK_FIRST,      /* the mask stands before all */
    SD_SHOWN_MASK_LAST,       /* the mask stands behind all */
    SD_SHOWN_MASK_INVERTED,
    SD_SHOWN_NEGATIVE         /* the depth has the other sign */
} sd_wrong_order;

typedef struct sd_wrong_op { sd_wrong_kind kind; double value; } sd_wrong_op;

enum { SD_MOST_WRONG = 2 };   /* mistakes at once */

/* What run->device points to. Whoever runs the networks sets it before each operation. */
typedef struct sd_wrong {
    sd_cpu cpu;                          /* first, where the CPU's entries look for it */
    sd_wrong_op op[SD_MOST_WRONG];       /* the mistakes of this run */
    bool here[SD_MOST_WRONG];            /* ... are made in the next operations */
    bool skip;                           /* products and norms are not computed: somebody will replace their results */
    float *normed;                       /* the last group norm's result, for SD_WRONG_NORM_ADDED */
    size_t normed_room;
    float *raw;                          /* what SiLU was last taken of, for SD_WRONG_NO_SILU */
    size_t raw_numbers;
    float *projected[3];                 /* where the last queries, keys and values are */
    size_t projected_numbers[3];
    int32_t *ends;                       /* of each text the place of its end token, for SD_WRONG_MASK */
    int64_t texts;
    const float *rows;                   /* the last layer norm's result [n,t,c], for SD_WRONG_POOLED */
    size_t rows_dim[3];
    int32_t *ids;                        /* tokens in the place of the next that are embedded, if as many */
    size_t n_ids;
} sd_wrong;

extern const sd_backend sd_backend_wrong;
/* ---- ops_wrong_numbers.c */
void sd_wrong_round(float *x, size_t n, int bits);
void sd_wrong_half(float *x, size_t n);
void sd_wrong_flush(float *x, size_t n);
void sd_wrong_turn_kernels(float *w, size_t kernels, size_t side, bool flip);
void sd_wrong_turn_matrix(float *w, size_t n);
void sd_wrong_shown(float *to, const float *x, size_t pixels, size_t c, sd_wrong_order how);

/* ---- ops_wrong.c */
void sd_wrong_free(sd_wrong *w);   /* what it keeps; the CPU's scratch stays */

#endif
