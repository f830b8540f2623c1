/* selftest_synth.h - floor 6: small models with weights from a formula, and what diffusers in float64 made of them, for
 * sd selftest and for tests. tools/make_golden.py explains both kinds of file. */
#ifndef SD_SELFTEST_SYNTH_H
#define SD_SELFTEST_SYNTH_H

#include "weights.h"

/* ---- selftest_synth.c: a description, and the models it describes */

/* Number i = gain * u_i + offset with u_i in [-1,1) from `stream` and i; rounded to bfloat16 when asked. The bits are
 * those of tools/synth.py. */
void sd_synth_fill(float *out, const char *stream, size_t n, double gain, double offset, bool bf16);

/* Tensors that own their names and numbers. */
typedef struct sd_tensor_set {
    sd_traced *tensor;
    char **name;
    size_t n;
} sd_tensor_set;
/* data, from malloc, belongs to the set from now on; NULL is an error: no memory. */
sd_status sd_tensor_set_add(sd_tensor_set *s, const char *name, sd_dtype dt, int nd, const int64_t *dim, void *data,
                            sd_error *e);
void sd_tensor_set_free(sd_tensor_set *s);

/* A text with an item in each line. */
typedef struct sd_description {
    char *text, *next;   /* the file, to be freed; what has not been read of it */
    bool bf16;           /* weights are rounded */
} sd_description;
sd_status sd_describe(sd_description *d, const char *path, sd_error *e);
/* The next line's first word and what follows it, both NUL-terminated in place; NULL at the end. */
char *sd_next_item(sd_description *d, char **rest);

/* "NAME GAIN OFFSET DIM..." */
typedef struct sd_tensor_line {
    char name[128];
    double gain, offset;
    int nd;
    int64_t dim[4];
    size_t n;
} sd_tensor_line;
bool sd_is_tensor_line(const char *word);
sd_status sd_parse_tensor_line(sd_tensor_line *t, const char *s, sd_error *e);
/* The numbers of a line that begins with `word`: of the stream STREAMS.PART.NAME. NULL: no memory. */
float *sd_line_numbers(const sd_tensor_line *t, const char *word, const char *streams, const char *part, bool bf16);

/* An input that a description has, in PyTorch's order; free() it. NULL on failure. */
float *sd_synth_input(const char *description, const char *name, int64_t dim[4], sd_error *e);

/* A file in a directory, or in one below it, which is made. */
sd_status sd_write_into(const char *dir, const char *name, const char *data, size_t n, sd_error *e);
sd_status sd_make_parent(const char *path, sd_error *e);

/* Writes the model into the existing directory `dir`, in diffusers' layout; merges: CLIP's merges.txt. `wrote` is told
 * of each file. */
sd_status sd_synth_write(const char *dir, const char *description, const char *merges,
                         void (*wrote)(void *user, const char *name), void *user, sd_error *e);

/* Pictures by formula: a picture, a mask for it, a depth map of width * height numbers (NULL: no memory). */
sd_status sd_synth_picture(sd_image *out, int width, int height);
sd_status sd_synth_mask(sd_image *out, int width, int height);
float *sd_synth_depth(int width, int height);

/* ---- selftest_golden.c: the truth */

typedef struct sd_golden {
    sd_weight_file file;
} sd_golden;
sd_status sd_golden_open(sd_golden *g, const char *path, sd_error *e);
void sd_golden_close(sd_golden *g);

typedef struct sd_golden_result {
    bool found, same_shape;
    double error;    /* rel-L2 over the stored numbers, or that of the whole tensor's norm, whichever is larger */
    double e32;      /* torch-float32's own error */
    double bound;    /* max(3 e32, 2e-6) */
    double ratio;    /* error / bound */
} sd_golden_result;
/* x is a whole tensor in PyTorch's order. */
sd_golden_result sd_golden_compare(sd_golden *g, const char *name, int nd, const int64_t *dim, const float *x);
/* The numbers stored under a name, all n of them, as they are; false: there are not n, or they are not floats. */
bool sd_golden_read(sd_golden *g, const char *name, float *out, size_t n);
/* The tensor NAME ENDING; NULL: there is none. */
sd_entry *sd_golden_entry(const sd_golden *g, const char *name, const char *ending);
/* The first name under `prefix` that was never compared or read; NULL: none. */
const char *sd_golden_unseen(const sd_golden *g, const char *prefix);
/* Nothing under `prefix` has been compared or read. */
void sd_golden_forget(sd_golden *g, const char *prefix);

#endif
