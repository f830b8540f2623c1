/* compare.h - floor 6: what `sd compare` finds out about two traces, and the ways to tell it. */
#ifndef SD_COMPARE_H
#define SD_COMPARE_H

#include "inspect.h"
#include "tensors.h"

typedef enum sd_verdict {
    SD_AGREES,
    SD_DIVERGES,       /* the numbers are further apart than float32 makes them */
    SD_OTHER_SHAPE,
    SD_UNREADABLE,     /* a type that we do not have */
    SD_ONLY_REF,       /* the other has no tensor of this name */
    SD_ONLY_MINE,
    SD_VERDICTS
} sd_verdict;

/* A tensor of one trace or of both. */
typedef struct sd_compared {
    const sd_entry *ref, *mine;    /* NULL: this one has it not */
    sd_verdict verdict;
    sd_distance d;                 /* of a pair that could be compared, as what follows */
    double error;                  /* the relative L2 error */
    double level;                  /* what errors are before it, to which its own is compared */
    double floor;                  /* what float32 itself does there; 0: not known, and `level` stands for it */
    const char *key;               /* the name under which it was looked for: mapped, by the rules, with its prefix */
    double value[2];               /* the numbers at d.at */
    const char *layout;            /* in which MINE's numbers fit; NULL: as they are */
    bool halves;                   /* of that layout: the halves of the batch are exchanged */
    const int *order;              /* of that layout: in which order REF's dimensions lie in MINE's memory; or NULL */
} sd_compared;

/* A setting that the two runs do not share. */
typedef struct sd_setting {
    const char *key, *ref, *mine;
    char how[160];                 /* of lists: where they part, and by how much; "" */
} sd_setting;

/* Where in one tensor the error is. */
enum { SD_BINS = 44, SD_MAP = 64 };
typedef struct sd_detail {
    uint64_t bin[SD_BINS];         /* numbers by |difference| / rms of REF: below 1e-10, then 4 bins a decade */
    int channel_dim;               /* along which channels lie; -1: none */
    int64_t channels;
    double *channel;               /* relative L2 error of each */
    int rows, columns;             /* of the map; 0: the tensor is no picture [N,C,H,W] */
    int64_t height, width;
    double map[SD_MAP][SD_MAP];    /* rms of the difference in each cell of the picture */
    double side[4], inside;        /* the same of the outermost rows and columns, top, bottom, left, right; of the
                                    * rest */
} sd_detail;

/* Tensors of one module: a resnet, a layer, an attention with its blocks, or a single tensor. */
typedef struct sd_added {
    const char *name;              /* its first `length` letters */
    size_t length;
    double inherited;              /* the largest error of its inputs; -1: it has none */
    double error;                  /* of its result */
    double added;                  /* what it does itself; -1: not known */
    double times;                  /* measured: in what one operation may be off; estimated: error in inherited */
    const sd_compared *at;         /* measured: the tensor of the module that has most; NULL: none */
} sd_added;

typedef struct sd_names { char **name; size_t n; } sd_names;

/* The file of --names. */
typedef struct sd_mapped { const sd_entry *of; int line; } sd_mapped;   /* a tensor of MINE, and what renamed it */
typedef struct sd_mapping {
    const char *path;              /* NULL: there is none */
    int *line, lines;              /* the numbers of its lines */
    bool *used;                    /* which of them lead a tensor of MINE to one of REF */
    sd_mapped *renamed;            /* n; of NULL: no line did */
    size_t n;
    int unused, first_unused;      /* lines that do not, and the number of the first */
} sd_mapping;

typedef struct sd_comparison {
    sd_tensors ref, mine;
    sd_names key[2];               /* names under which tensors of the two are the same; by the places in their lists */
    sd_compared *row;              /* in the order of execution */
    size_t n, count[SD_VERDICTS];
    size_t compared;               /* pairs whose numbers were compared */
    char prefix[2][256];           /* put before the names of REF and of MINE, so that they match */
    bool exchanged;                /* some have the halves of their batch exchanged */
    size_t renamed, relaid;        /* pairs under two names, pairs in another layout */
    size_t joined;                 /* pairs of which one side was computed in several calls */
    sd_mapping mapping;
    size_t taken, first_taken;     /* of MINE, under a name under which another is compared already; the first's row */
    size_t cut, cut_open;          /* names that GGML cut and that were found, and those that several names fit */
    const char *order;             /* where the order is from: "REF's file", ... */
    size_t first, good;            /* rows: the first that does not agree, the last before it that does; n: none */
    size_t worst;                  /* of the pairs; n: none */
    bool apart;                    /* one run went on with the other's tensors, so that each is judged alone */
    sd_setting *setting;           /* n_settings, of `settings` that both files tell */
    size_t n_settings, settings;
    bool may_guess;                /* pairs may be guessed where names do not tell; those of MINE that were */
    const sd_entry **guessed;
    size_t n_guessed, not_guessed; /* not_guessed: names of MINE, if the pairs are too many to guess among; else 0 */
    sd_tolerance within;
    sd_detail *detail;             /* of `first`, if its numbers were compared; NULL: none */
    const char *floors;            /* the file that the rows' floors are from; NULL: none */
    size_t floored;                /* pairs that have one */
    sd_added *module;             /* n_modules, in order */
    size_t n_modules, added;       /* added: modules that do more than one operation may be off */
    bool measured;                 /* what they add was measured, else it is an estimate */
    struct sd_comparison *own;     /* of the trace that went on with the tensors of a side; NULL: there is none */
    int own_side;                  /* of that one: 0 REF's, 1 MINE's */
} sd_comparison;

static inline bool sd_is_fault(const sd_compared *r) { return r->verdict > SD_AGREES && r->verdict < SD_ONLY_REF; }
static inline const char *sd_compared_name(const sd_compared *r) { return (r->ref ? r->ref : r->mine)->name; }
/* Was its error computed? */
static inline bool sd_has_error(const sd_compared *r) { return r->verdict <= SD_DIVERGES; }

/* How many times its floor, or else the level, its error is. */
static inline double sd_times(const sd_compared *r) { return r->error / (r->floor > 0 ? r->floor : r->level); }

/* ---- compare.c: fills c->row and c->key from the names of c->ref and c->mine, which are open; looks at no number */
sd_status sd_compare_rows(sd_comparison *c, const char *mapping, sd_error *e);

/* ---- compare.c: opens two traces, matches their tensors and measures every pair. sd_comparison_free in any case. */
sd_status sd_comparison_make(sd_comparison *c, const char *ref, const char *mine, const sd_compare_options *given,
                             sd_error *e);
void sd_comparison_free(sd_comparison *c);

/* ---- compare_mapping.c: renames c->key[1] by a file; path NULL: does nothing */
sd_status sd_compare_map(sd_comparison *c, const char *path, sd_error *e);
sd_status sd_compare_check_mapping(sd_comparison *c, sd_error *e);   /* which of its lines did nothing, by the rows */
void sd_mapping_free(sd_mapping *m);

/* ---- compare_names.c: fills c->key and c->prefix; mapping: a file of names, NULL: none */
sd_status sd_compare_names(sd_comparison *c, const char *mapping, sd_error *e);
void sd_names_free(sd_names *of);
char *sd_plain_name(const char *name);   /* by the rules; free() it. NULL: out of memory */
int sd_by_text(const void *a, const void *b);
char **sd_sorted_names(const sd_names *of, sd_error *e);   /* the list to be freed, not its names; NULL: no memory */
bool sd_has_name(char *const *sorted, size_t n, const char *name);
/* Where the names of a list are in it. free() x->list. */
typedef struct sd_named { const char *name; size_t place; } sd_named;
typedef struct sd_name_index { sd_named *list; size_t n; } sd_name_index;
sd_status sd_index_names(sd_name_index *x, const sd_names *of, sd_error *e);
const sd_named *sd_find_name(const sd_name_index *x, const char *name);   /* NULL: it is not there */
/* The next line's first two words, in place, the second "" if there is none; false at the end. Lines that are blank or
 * begin with # count for nothing. */
bool sd_next_words(char **at, char **first, char **second, int *line);

enum { GGML_LETTERS = 63 };   /* of a tensor's name are kept by GGML [GGML_MAX_NAME, ggml.h] */
/* ---- compare_cut.c: names of 63 letters, which GGML cut, become those of the other side that begin so; side: 0 REF's,
 * 1 MINE's. Counts c->cut and c->cut_open. */
sd_status sd_compare_cut(sd_comparison *c, int side, sd_error *e);
bool sd_may_be_cut(const sd_tensors *t);                      /* are its longest names of 63 letters? */
bool sd_is_cut(const sd_tensors *t, const sd_entry *x);       /* is this one's? */

/* ---- compare_ldm.c: gives CompVis', OpenCLIP's and stable-diffusion.cpp's names those of diffusers, as the other side
 * has them */
sd_status sd_ldm_names(sd_names *names, const sd_names *diffusers, sd_error *e);
/* What must stand before names of `few` so that more than half of them are names of `all`; "" if nothing helps. */
sd_status sd_find_prefix(const sd_names *few, const sd_names *all, char prefix[256], sd_error *e);

/* ---- compare_parts.c: a batch that was computed in calls of fewer samples: joins what are parts of one tensor, by
 * names or because they are from several files ... */
sd_status sd_join_parts(sd_names *names, sd_tensors *t, sd_error *e);
/* ... and parts those again that do not fit a tensor of the other side; prefix: what was put before all names. */
sd_status sd_part_misfits(sd_names *names, sd_tensors *t, const sd_names *others, const sd_tensors *other,
                          const char *prefix, sd_error *e);

/* ---- compare_guess.c: pairs by order, shape and numbers, if hardly any name is in both; gives MINE's the names of
 * REF's */
sd_status sd_compare_guess(sd_comparison *c, const sd_names *ref, sd_names *mine, sd_error *e);
bool sd_is_guess(const sd_comparison *c, const sd_compared *r);

/* ---- compare_settings.c: settings that the two files tell of their runs, and what these begin from */
sd_status sd_compare_settings(sd_comparison *c, sd_error *e);
/* Who made a trace: "sd 0.1.0, avx512"; "": not told. */
void sd_add_maker(sd_text *t, const sd_tensors *of);
/* How many numbers of each side are no numbers. */
void sd_add_odd(sd_text *t, const sd_compared *r);
/* How MINE's input differs from REF's, a few words. */
void sd_add_input(sd_text *t, const sd_compared *r);

/* ---- compare_floor.c: what float32 itself does to each tensor, as a table and as a file */
#define SD_LEAST_FLOOR 6e-8   /* one rounding, 2^-24 */
typedef struct sd_floor { char *name; double value; size_t place; } sd_floor;   /* value < 0: told elsewhere */
typedef struct sd_floors {
    sd_floor *list;            /* in the order in which they were added */
    size_t n, cap;
    sd_floor **by_name;        /* each name once */
    size_t n_names;
} sd_floors;
sd_status sd_floors_add(sd_floors *f, const char *name, double value, sd_error *e);
/* After the last was added: of each name the largest value counts. */
sd_status sd_floors_settle(sd_floors *f, sd_error *e);
/* Adds those of a file, or of a table that comes with the program: "sd15"; and settles. */
sd_status sd_floors_read(sd_floors *f, const char *path, sd_error *e);
/* head: lines that begin with #. */
sd_status sd_floors_write(const sd_floors *f, const char *path, const char *head, sd_error *e);
void sd_floors_free(sd_floors *f);
/* compare_measure.c: an error where a file is that has something else. */
sd_status sd_floors_check_output(const char *path, sd_error *e);
/* Sets the rows' floors; path NULL: there are none. */
sd_status sd_compare_floors(sd_comparison *c, const char *path, sd_error *e);

/* ---- compare_layout.c: tries MINE's numbers in other layouts, if they are of another shape or far away. *exchanged:
 * have others before it the halves of their batches exchanged? */
sd_status sd_compare_layouts(sd_compared *r, const sd_tolerance *within, bool *exchanged, sd_error *e);
/* Those that the shapes alone allow, as they are first; how many. */
enum { SD_LAYOUTS = 7 };
typedef struct sd_layout { const char *name; const int *order; } sd_layout;   /* name NULL: as they are */
size_t sd_layouts_by_shape(const sd_entry *ref, const sd_entry *mine, sd_layout found[SD_LAYOUTS]);
/* MINE's numbers as a tensor of REF's shape; `stride` is where that says how. False: its layout is no order of
 * dimensions. */
bool sd_layout_view(const sd_compared *r, sd_entry *view, int64_t stride[8]);

/* ---- compare_detail.c: where in the first tensor that diverges the error is */
sd_status sd_compare_detail(sd_comparison *c, sd_error *e);
void sd_detail_free(sd_detail *d);
/* A clause each: "in 3 of 320 channels ..."; "at the right and the bottom ..."; nothing if nothing stands out. */
void sd_add_detail(sd_text *t, const sd_comparison *c);

/* ---- compare_verdict.c: which errors are no longer float32's own; sets verdicts, levels, first, good and worst */
void sd_compare_judge(sd_comparison *c);
/* How many pairs have NaN or infinities on both sides; if any, *first is the first one's row. */
size_t sd_odd_in_both(const sd_comparison *c, size_t *first);
/* In levels, or in floors where these are known: above which a tensor diverges with those behind it, and alone. */
void sd_compare_bounds(const sd_comparison *c, double *near, double *far);
int sd_by_size(const void *a, const void *b);   /* of two doubles, for qsort */
#define SD_INPUT_ERROR 1e-6   /* what is copied, not computed, is wrong above that */

/* ---- compare_apart.c: did one of the runs go on with the other's tensors? Then these are the levels. */
double sd_one_operation(const char *name);   /* how far the one whose result this is may be off in float32 */
bool sd_compare_is_apart(const sd_comparison *c);
sd_status sd_compare_levels_apart(sd_comparison *c, sd_error *e);
bool sd_is_input(const char *name);   /* what a run begins from: tokens, noise, timesteps */

/* ---- compare_modules.c: fills c->module and estimates what each adds */
sd_status sd_compare_modules(sd_comparison *c, sd_error *e);
size_t sd_module_length(const char *name);   /* how many letters of a tensor's name are its module's */
/* ---- compare_added.c: the same, measured if there is something to measure it by */
sd_status sd_compare_added(sd_comparison *c, const sd_compare_options *o, sd_error *e);

/* ---- what one number says of a pair */
double sd_cosine(const sd_distance *d);      /* 1: the same direction */
double sd_nmse_db(const sd_distance *d);     /* 10 log10 of squares / norm; -infinity: the same */
/* b = scale a + shift, the best in the sense of least squares; false: a has one value alone. *left: what that does not
 * explain, as a share of squares. */
bool sd_fit(const sd_distance *d, double *scale, double *shift, double *left);

/* ---- compare_text.c, compare_json.c */
typedef struct sd_compare_style { const sd_inspect_options *o; bool all; } sd_compare_style;
void sd_compare_text(const sd_comparison *c, const sd_compare_style *s, sd_text *t);
void sd_add_what_modules_add(sd_text *t, const sd_comparison *c);   /* what the columns of their table are */
void sd_compare_json(const sd_comparison *c, sd_text *t);
/* Only a page of ours, or nothing, is written over. */
sd_status sd_compare_check_html(const char *path, sd_error *e);
sd_status sd_compare_write_html(const sd_comparison *c, const char *path, sd_error *e);   /* compare_html.c */

#endif
