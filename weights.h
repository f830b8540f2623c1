/* weights.h - floor 3: tensors in files, their names, and binding them to the fields of a network. */
#ifndef SD_WEIGHTS_H
#define SD_WEIGHTS_H

#include "ops.h"

/* ---- weights_file.c: one file of tensors, whatever its format, checked before anything is read from it */
#define SD_DTYPE_UNKNOWN ((sd_dtype)(SD_Q6_K + 1))

typedef struct sd_entry {
    char *name;
    sd_dtype dt;           /* SD_DTYPE_UNKNOWN: one that we do not have, an error only if the tensor is needed */
    char spelling[16];     /* the dtype as the file spells it, if it is unknown */
    int nd;
    int64_t dim[8];        /* PyTorch's order */
    const int64_t *stride; /* from one number to the next along each dimension, in numbers; NULL: contiguous. Only
                            * pickles have others */
    const void *data;      /* inside the file, or in a block of it; not necessarily aligned */
    size_t bytes;          /* from the first number to the last */
    bool used;             /* bound to a field */
} sd_entry;

typedef struct sd_pair { char *key, *value; } sd_pair;
/* The value of the first of n with this key; NULL: none has it. */
const char *sd_pair_find(const sd_pair *pair, size_t n, const char *key);

typedef struct sd_weight_file {
    char *path;
    const struct sd_file_format *format;
    sd_entry *entry;       /* sorted by name */
    size_t n, cap;
    sd_pair *meta;         /* what the file says of itself besides tensors: texts, in the order of the file */
    size_t n_meta;
    sd_os_map file;        /* the whole file, mapped or read */
    void **block;          /* memory that lives as long as the file: what had to be unpacked, lists of strides */
    size_t n_blocks;
} sd_weight_file;

/* A format of files. */
typedef struct sd_file_format {
    const char *name;      /* "safetensors" */
    bool (*is)(const unsigned char *head, size_t n);   /* does a file of n bytes begin like that? */
    /* Adds the entries and texts of f->file. It believes nothing that the file says. */
    sd_status (*read)(sd_weight_file *f, sd_error *e);
    sd_status (*check)(const sd_weight_file *f, sd_error *e);   /* after the entries were sorted; may be NULL */
} sd_file_format;
extern const sd_file_format sd_format_safetensors, sd_format_gguf, sd_format_torch_zip, sd_format_torch_legacy,
    sd_format_npy, sd_format_npz;

/* On failure nothing stays open, and closing is harmless. A mapped file must not shrink while it is open: reading what
 * is gone raises SIGBUS. */
sd_status sd_weight_file_open(sd_weight_file *f, const char *path, sd_error *e);
/* The same, but read into memory instead of mapped. */
sd_status sd_weight_file_load(sd_weight_file *f, const char *path, sd_error *e);
void sd_weight_file_close(sd_weight_file *f);
/* Advice on bytes of the mapping: they will soon be needed; they may leave memory until somebody reads them again.
 * NULL: the whole file. Does nothing if the file was read, and for bytes that are not in the mapping. */
void sd_weight_file_expect(const sd_weight_file *f, const void *data, size_t bytes);
void sd_weight_file_release(const sd_weight_file *f, const void *data, size_t bytes);
/* SD_ERR_IO if a mapped file has become shorter since it was opened. */
sd_status sd_weight_file_still_there(const sd_weight_file *f, sd_error *e);
sd_entry *sd_weight_file_find(const sd_weight_file *f, const char *name);        /* NULL: none */
const char *sd_weight_file_meta(const sd_weight_file *f, const char *key);       /* NULL: none */
const char *sd_entry_dtype(const sd_entry *t);   /* as safetensors spells it: "F32", "F8_E4M3" */
uint64_t sd_entry_numbers(const sd_entry *t);    /* how many it has */
static inline size_t sd_traced_numbers(const sd_traced *t)
{
    size_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (size_t)t->dim[i];
    return n;
}
bool sd_same_shape(int nd_a, const int64_t *a, int nd_b, const int64_t *b);   /* trailing ones do not count */
/* Its i-th dimension; 0 if t is NULL, has fewer, or if this one is no number of channels (1 to 2^20). */
int sd_entry_side(const sd_entry *t, int i);
/* Its numbers as floats in x, and how many; 0 if t is NULL, has none or more than `most`, or is not of plain floats
 * that lie one after another. */
size_t sd_entry_floats(const sd_entry *t, float *x, size_t most);

/* For readers of formats. A new entry with this name, all else zero; it is valid until the next is added. NULL, and an
 * error: out of memory, or a name that is empty, has control characters or is not UTF-8. */
sd_entry *sd_weight_file_add(sd_weight_file *f, const char *name, sd_error *e);
sd_status sd_weight_file_add_meta(sd_weight_file *f, const char *key, const char *value, sd_error *e);
/* Zeroed memory that lives as long as the file. */
void *sd_weight_file_block(sd_weight_file *f, size_t bytes, sd_error *e);
/* The entries in the order of their data, shorter ones first; to be freed. */
const sd_entry **sd_weight_file_by_place(const sd_weight_file *f, sd_error *e);
#define SD_TENSOR "%s: tensor \"%.100s\": "   /* how sentences about a tensor of a file begin */
bool sd_tensor_name_ok(const char *name);      /* not empty, no control characters */
/* Numbers are used in place, so the machine must be little-endian. */
sd_status sd_need_little_endian(const char *path, sd_error *e);

/* ---- weights_plan.c: what writers of all formats share */

/* What a file is to have, if its numbers are elsewhere. */
typedef struct sd_file_plan {
    const sd_traced *tensor;   /* n; their `data` does not count */
    size_t n;
    const sd_pair *meta;       /* n_meta texts, under different keys */
    size_t n_meta;
    /* Writes the numbers of tensor i to `to`, which becomes `path`. Called once for each tensor, in the file's
     * order. */
    sd_status (*put)(void *user, size_t i, FILE *to, const char *path, sd_error *e);
    void *user;
} sd_file_plan;
/* The bytes of a tensor's numbers. An error: its name or shape is impossible, or its type's blocks do not fit its
 * rows. */
sd_status sd_plan_bytes(const sd_traced *t, uint64_t *bytes, const char *path, sd_error *e);
/* All tensors are possible, all texts UTF-8, and no name and no key comes twice. */
sd_status sd_plan_check(const sd_file_plan *p, const char *path, sd_error *e);

/* ---- weights_gguf.c, weights_gguf_write.c: the GGUF format */
/* The number by which GGUF files name a type; -1: they cannot hold it. */
int sd_gguf_number(sd_dtype dt);
/* Writes tensors in the order given, atomically: of the types F32, F16, BF16, F64, whole numbers, and those of blocks,
 * for which a tensor's rows must be whole blocks (sd_dtype_block). Texts become texts, but for the few keys whose
 * values are whole numbers by convention: general.quantization_version and general.file_type. */
sd_status sd_gguf_write_plan(const char *path, const sd_file_plan *p, sd_error *e);

/* ---- weights_safetensors.c: the safetensors format */

/* Writes contiguous tensors, atomically. Wider dtypes come first; otherwise the order is kept. */
sd_status sd_safetensors_write(const char *path, const sd_traced *tensors, size_t n, sd_error *e);
sd_status sd_safetensors_write_plan(const char *path, const sd_file_plan *p, sd_error *e);

/* ---- npy_write.c: a .npy file with one tensor, atomically; the bytes of numpy.save */
sd_status sd_npy_write(const char *path, const sd_traced *t, sd_error *e);

/* ---- weights_store.c: several files as one set of tensors */
typedef struct sd_store {
    sd_weight_file *file;
    size_t n_files;
    bool in_memory;       /* files are read, not mapped */
} sd_store;

/* `stem` names a part of a model directory: dir/stem.safetensors, or dir/stem.safetensors.index.json with its shards;
 * else the same as .bin; else variants of them, .fp16 and .non_ema. */
sd_status sd_store_open_dir(sd_store *s, const char *dir, const char *stem, sd_error *e);
/* The same, with files read into memory instead of mapped. */
sd_status sd_store_load_dir(sd_store *s, const char *dir, const char *stem, sd_error *e);
bool sd_store_is_in(const char *dir, const char *stem);   /* is there a file of that kind? */
/* One file; an index of shards (X.safetensors.index.json) opens its shards. */
sd_status sd_store_open_file(sd_store *s, const char *path, sd_error *e);
sd_status sd_store_load_file(sd_store *s, const char *path, sd_error *e);
void sd_store_close(sd_store *s);
/* sd_weight_file_still_there of all files. */
sd_status sd_store_still_there(const sd_store *s, sd_error *e);
/* A weight of this store has been used: its pages may leave memory, and those that follow it in its file are
 * prefetched. NULL: all pages of the store may leave. */
void sd_store_used(const sd_store *s, const void *data, size_t bytes);
/* Bytes of this store may leave memory; nothing is prefetched. */
void sd_store_release(const sd_store *s, const void *data, size_t bytes);
sd_entry *sd_store_find(const sd_store *s, const char *name);
/* All entries, i = 0 .. count - 1, file by file, in the order of names. */
size_t sd_store_count(const sd_store *s);
sd_entry *sd_store_at(const sd_store *s, size_t i);
const char *sd_store_meta(const sd_store *s, const char *key);   /* of the first file that has it; NULL: none */
/* The tensor whose name is the root and then `name` without its dots, as LDM's training names the average of a weight:
 * model_ema.diffusion_modelinput_blocks00weight is that of input_blocks.0.0.weight. NULL: none. */
sd_entry *sd_store_find_dotless(const sd_store *s, const char *root, const char *name);
#define SD_AVERAGES_ROOT "model_ema.diffusion_model"   /* of the UNet's averages */
/* A rule for tensors that published files contain and no network needs (weights_skip.c). */
typedef struct sd_skip_rule {
    const char *glob;     /* several with commas between them */
    const char *why;      /* what such a tensor is: "a counter of positions", after "it is" */
} sd_skip_rule;
const sd_skip_rule *sd_skip_find(const char *name);   /* NULL: no rule for it */
/* Logs the tensors whose names begin with root (NULL: all) that nobody bound: their number as a notice, their names as
 * details. Tensors that published files contain but no network needs (position_ids, ...) do not count. */
void sd_store_log_unused(const sd_store *s, const char *root, const char *what, const sd_log *log);
/* SD_ERR_NUMERIC, naming tensor and index, if a bound tensor has a NaN or an infinity. */
sd_status sd_store_check_finite(const sd_store *s, sd_error *e);

/* ---- weights.c: binding tables
 * A row binds one tensor: it has the field's place, the leaf names in both conventions, and the shape in letters, for
 * which the caller gives values: "oi33" is [o,i,3,3]. If a letter's value is 0, the row is absent (for example a
 * shortcut that this block does not have).
 * Shapes that differ only by trailing ones have the same bytes and fit: [C,C] and [C,C,1,1]. */
typedef struct sd_bind_row {
    size_t field;          /* offsetof(struct, member) of an sd_tensor */
    const char *hf;        /* diffusers / transformers leaf name: "norm1.weight" */
    const char *ldm;       /* CompVis / OpenCLIP leaf name: "in_layers.0.weight"; NULL: the same */
    const char *shape;
    unsigned flags;        /* SD_BIND_*, 0: none */
} sd_bind_row;

/* A file may lack this tensor: then the field is absent, and nothing counts as missing. */
#define SD_BIND_OPTIONAL 1u
/* Where the two conventions store the same numbers differently, these flags say what a file has under the row's `ldm`
 * name (under `hf` it is always the row's shape). It is the transpose [i,o], as OpenCLIP's text_projection ... */
#define SD_BIND_TRANSPOSE 2u
/* ... or a convolution [o,i,1,1] where the row has a linear layer [o,i], as in CompVis' VAE attention ... */
#define SD_BIND_CONV1 4u
/* ... or `parts` tensors of the row's shape, concatenated along the first dimension, of which this is number `part`:
 * OpenCLIP's attn.in_proj_weight [3C,C] is query, key and value. */
#define SD_BIND_SLICE(part, parts) ((unsigned)(parts) << 8 | (unsigned)(part) << 16)
static inline int64_t sd_bind_parts(unsigned flags) { return flags >> 8 & 0xFF ? flags >> 8 & 0xFF : 1; }
static inline int64_t sd_bind_part(unsigned flags) { return flags >> 16 & 0xFF; }

/* A bound weight. Code that changes a model (an adapter) finds it by its name and gives it its own numbers. */
typedef struct sd_weight {
    sd_tensor *field;      /* in its network; has the weight's id and version */
    char *path;            /* diffusers' name, also field->path */
    const char *ldm;       /* its name in the other convention, without a root; "" if it has none */
    unsigned flags;        /* its row's: what a file has under that name */
    int nd;                /* dimensions in diffusers' convention; a file may have more or fewer trailing ones */
    void *own;             /* the numbers, if they are no longer the file's; else NULL */
} sd_weight;

typedef struct sd_binder {
    sd_store *store;           /* NULL: shapes only, for the plan and the null backend */
    const char *root;          /* the prefix of all names in the files: "model.diffusion_model."; or NULL */
    bool dotless;              /* names are looked for as sd_store_find_dotless does: averages are bound */
    const char *strip;         /* a prefix that files may lack: "text_model."; or NULL */
    sd_error *err;
    size_t tensors, params, bytes;   /* of what was bound so far */
    size_t missing, wrong;
    sd_text missing_list, wrong_list;   /* their names, one per line; with expected and found */
    /* called for every tensor if not NULL: for programs that write test models */
    void (*visit)(void *user, const char *name, const sd_tensor *shape);
    void *user;
    sd_weight *weight;         /* in the order of binding */
    size_t n_weights, cap_weights;
    uint32_t last_id;          /* the next id is one more: the modules of a model and its refiner share
                                * one numbering */
    bool look;                 /* names and shapes are bound, no number is read: what would have to be copied into
                                * another order stays as the file has it, so nothing may be computed with it */
} sd_binder;

/* Binds rows to the fields of `object`, which must not move. `hf` and `ldm` are the prefixes with their trailing dot
 * ("mid_block.resnets.0."); ldm NULL: only diffusers' names. letters and values give the dimensions: "oi", {320, 4}.
 * A name is looked for as hf prefix + leaf, without `strip`, as ldm prefix + leaf, and in older diffusers' spelling.
 * The field gets the file's dimensions, dtype and data, and a name and an id; these live as long as the store and the
 * binder. Missing, misshapen and integer tensors leave the field absent. */
void sd_bind(sd_binder *b, void *object, const sd_bind_row *rows, size_t n, const char *hf, const char *ldm,
             const char *letters, const int64_t *values);
/* The bound weight with this diffusers name; NULL: there is none. */
sd_weight *sd_weight_find(const sd_binder *b, const char *path);
/* Gives a weight its own numbers, for the caller to change; so its version goes up. They are a copy of its present
 * numbers as dt (its own dtype, or SD_F32; blocks and scaled numbers always become SD_F32), contiguous, aligned, and
 * freed with the binder. If it has its own numbers already, dt is ignored and they stay where they are. NULL, and an
 * error: out of memory. */
void *sd_weight_own(sd_binder *b, sd_weight *w, sd_dtype dt);
/* One status and one sentence for all that is missing or wrong: a few names in the text, all of them in the log. */
sd_status sd_bind_finish(sd_binder *b, const char *what, const sd_log *log);
void sd_binder_free(sd_binder *b);

#endif
