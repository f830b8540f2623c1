/* diagnose.h - floor 6: the mistakes that we know, as rows of a table; and what each says of a foreign trace. */
#ifndef SD_DIAGNOSE_H
#define SD_DIAGNOSE_H

#include "compare.h"
#include "ops_wrong.h"
#include "pipeline.h"

#include <math.h>

/* ---- mistakes.c */

/* What may be done to a traced tensor itself, `value` says how. */
typedef enum sd_seen_wrong {
    SD_SEEN_RIGHT,
    SD_SEEN_TIMES,       /* times value */
    SD_SEEN_HALVES,      /* the halves of the batch exchanged */
    SD_SEEN_BYTES,       /* value 0: down to 255ths; 1: to the nearest of them */
    SD_SEEN_REVERSED,    /* its channels in reverse: BGR */
    SD_SEEN_GUIDED,      /* u + k (c - u) of the UNet's answers; k = value + power w, where w is the guidance scale */
    SD_SEEN_GUIDED_TWICE,   /* of three answers: the scales of text and picture are exchanged */
    SD_SEEN_PADDED,      /* tokens behind the end token are `value` */
    SD_SEEN_NOT_BEGUN,   /* tokens without the one for the start */
    SD_SEEN_EXCLAIMED,   /* tokens before the end that are 0 become `value` */
    SD_SEEN_FIRST,       /* the first latents: value 0: as the noise is; 1: times sigma; 2: times sqrt(sigma^2 + 1) */
    SD_SEEN_WHOLE,       /* value 0: down to whole numbers; 1: to the nearest */
    SD_SEEN_MEAN,        /* the mean of the posterior in the place of its sample */
    SD_SEEN_INVERTED,    /* value - x */
    SD_SEEN_ZEROED,      /* zeros in the first half of the batch */
    SD_SEEN_EXCHANGED,   /* columns: value 0: 0 and 1, 4 and 5; 1: 2 and 3; 2: 0,1 and 4,5 */
    SD_SEEN_GUIDANCE     /* the guidance scale's embedding: value 0: of 1000 w; 1: cosines first; 2: of w - 1 */
} sd_seen_wrong;

/* One thing that implementations get wrong. It is a change in an operation, in a traced tensor, or in a parameter of
 * the run or of its scheduler; the others are zero. */
typedef struct sd_mistake {
    const char *id;
    int trap;                /* its number in docs/TRAPS.md; 0: it is not there */
    const char *what;        /* what is wrong, as a statement */
    const char *source;      /* what is right, and where that stands */
    const char *signature;   /* how its error looks */
    const char *where;       /* names of tensors: operations between the tensor before and these are altered; or
                              * they themselves are */
    sd_wrong_op op;
    sd_seen_wrong seen;
    const char *set;         /* "key=value" of sd_params_set; "key=+1": one more */
    const char *sched;       /* `"key":value,...` of scheduler_config.json */
    double value;            /* of `seen` */
    bool subtle;             /* its error may be less than float32's bounds: it is looked for where nothing diverges */
    bool arithmetic;         /* no mistake, but a coarser way to compute, which some choose */
    int power;               /* op.value, or value, is scaling_factor to this power, if it is not 0; of SD_SEEN_GUIDED
                              * see there */
} sd_mistake;

extern const sd_mistake sd_mistakes[];
extern const size_t sd_mistake_count;

/* ---- diagnose.c */

/* One tensor of the run. */
typedef struct sd_judged {
    const char *name;
    const sd_entry *theirs;  /* NULL: they do not have it */
    bool other_shape;
    int nd;
    int64_t dim[4];
    float *kept;             /* their numbers; NULL: they are read when they are needed */
    uint64_t odd;            /* of theirs are NaN or infinite; they have been counted if `kept` or `counted` */
    bool counted;
    double norm;             /* sum of squares of theirs */
    double ours, wrong;      /* sums of (theirs - ours)^2, of (theirs - wrong)^2; negative: not compared */
    bool diverges;
    int by;                  /* the finding that explains it; -1: none */
    bool needed;             /* in this run it must be computed */
    bool judged;             /* in this run it is compared */
    unsigned char place;     /* bit i: the i-th mistake of this run is made before it */
} sd_judged;

/* What making a mistake says. */
typedef struct sd_tried {
    const sd_mistake *m[SD_MOST_WRONG];   /* the second is NULL unless it is a pair */
    double first;            /* of the residual at the tensor in question it explains this share */
    double all;              /* ... of all that diverge */
    size_t places, made;     /* where it would show; where theirs shows it */
    size_t at, not_at;       /* the first tensor where theirs shows it; where not; n: none */
} sd_tried;

enum { SD_MOST_TRIED = 8, SD_MOST_FINDINGS = 16 };

/* One tensor that diverges on their own inputs, and the mistakes that were tried. */
typedef struct sd_finding {
    size_t at;
    sd_tried best[SD_MOST_TRIED];   /* the best first */
    int n, tried;
    bool subtle;             /* it did not diverge, and the mistake explains it all the same */
    size_t explained;        /* tensors that it explains */
    size_t again;            /* nothing explains it, and in so many other steps the same tensor diverges */
    sd_text signs;           /* a line for each sign of the difference (diagnose_signs.c) */
} sd_finding;

/* A setting of theirs that is another one. */
typedef struct sd_other {
    char key[48];
    char *theirs, *here;     /* `here` NULL: it was not asked for */
    bool of_header;          /* their file tells it; false: it follows from their numbers */
    bool taken;              /* our run is made with theirs from now on */
    bool harmless;           /* it explains no divergence: what it changes is taken from theirs in any case */
} sd_other;
enum { SD_MOST_OTHER = 32 };

typedef struct sd_diagnosis {
    sd_ctx *c;
    sd_params asked;         /* what was asked for, and then settings of theirs */
    sd_other other[SD_MOST_OTHER];
    int n_other;
    sd_index notes;          /* what our run says of its settings, if it is asked to */
    bool noting;
    sd_params p;             /* of the run that is made now */
    sd_tensors run, theirs;  /* those of our run have no numbers */
    sd_judged *t;
    size_t n, compared, diverge, unexplained;
    sd_finding finding[SD_MOST_FINDINGS];
    int n_findings;
    sd_wrong wrong;
    const sd_mistake *now[SD_MOST_WRONG];
    size_t at, last;         /* the tensor that the run makes next; the last one that is looked at */
    bool stopped;            /* the run ended at `last` */
    sd_finding *signs_of;    /* in this run signs are looked for; NULL: not */
    float *room[2];          /* their numbers, ours */
    size_t room_size[2];
    double may_keep;         /* bytes of their numbers that may stay in memory */
    int runs;
    double seconds;
} sd_diagnosis;

/* A tensor is computed with up to so many before it: queries, keys and values are computed together and shown one
 * after the other, and a mistake in the values shows only in the attention's result. */
enum { SD_WINDOW = 4 };

/* A mistake that explains so much of a tensor's residual is the one. */
#define SD_NAMED 0.9
static inline bool sd_is_named(const sd_finding *f) { return f->n && (f->subtle || f->best[0].first >= SD_NAMED); }
/* What is named is no mistake, but a coarser way to compute. */
static inline bool sd_is_arithmetic(const sd_finding *f)
{
    const sd_mistake *const *m = f->best[0].m;
    return sd_is_named(f) && m[0]->arithmetic && (!m[1] || m[1]->arithmetic);
}
bool sd_only_arithmetic(const sd_diagnosis *d);   /* all that was found is */
static inline double sd_judged_error(const sd_judged *t)   /* the relative L2 error */
{
    return t->ours <= 0 ? 0 : t->norm > 0 ? sqrt(t->ours / t->norm) : HUGE_VAL;
}

static inline bool sd_is_comparable(const sd_judged *t) { return t->theirs && !t->other_shape; }

/* ---- diagnose_theirs.c */
size_t sd_judged_index(const sd_diagnosis *d, const char *name);   /* d->n: there is none */
/* Their numbers of a tensor; valid until the next call. NULL: an error. */
const float *sd_their_numbers(sd_diagnosis *d, sd_judged *t, sd_error *e);
sd_status sd_diagnosis_room(sd_diagnosis *d, int k, size_t n, sd_error *e);   /* d->room[k] is of n numbers or more */

/* ---- diagnose_run.c
 * Runs ours with the mistakes d->now, as far as tensor d->last. An error that a mistake leads to is none of ours:
 * false then, and when the caller wants to stop. */
bool sd_diagnosis_run(sd_diagnosis *d);

/* ---- diagnose_spoil.c: x, which is tensor `at` of the run, as the mistake leaves it. */
void sd_spoil(sd_diagnosis *d, const sd_mistake *m, size_t at, const sd_traced *t, float *x, size_t n, sd_error *e);

/* ---- diagnose_settings.c: what of theirs are other settings, not mistakes; our run is made with these.
 * What their file says; before the tensors are known. */
sd_status sd_settings_of_header(sd_diagnosis *d, sd_error *e);
/* What their numbers say of prompts and guidance. *sizes: the run has others, and its tensors must be listed again. */
sd_status sd_settings_of_numbers(sd_diagnosis *d, bool *sizes, sd_error *e);
/* Which sampler theirs is, if not ours; behind the run without mistakes. True: our run is to be made again. */
bool sd_settings_of_sampler(sd_diagnosis *d);
/* Where their noise is from; behind the run without mistakes. */
void sd_settings_of_noise(sd_diagnosis *d);

/* ---- diagnose_search.c: which mistakes explain what diverges */
void sd_find_mistakes(sd_diagnosis *d);

/* ---- diagnose_signs.c: a line for each sign by which the difference is known: their numbers of a tensor, and ours
 * from the same inputs, in PyTorch's order. */
void sd_add_signs(const float *theirs, const float *ours, int nd, const int64_t *dim, sd_text *t);

/* ---- diagnose_text.c */
void sd_diagnosis_text(const sd_diagnosis *d, const sd_inspect_options *o, bool all, sd_text *t);
void sd_diagnosis_json(const sd_diagnosis *d, sd_text *t);

#endif
