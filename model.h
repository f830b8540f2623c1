/* model.h - floor 6: an opened model: its modules, their files and their networks. */
#ifndef SD_MODEL_H
#define SD_MODEL_H

#include "net.h"
#include "sampler.h"

/* A kind of module, with everything that is particular to it. */
typedef struct sd_module_kind {
    unsigned part;         /* SD_PART_* */
    const char *title;     /* in sentences: "the UNet" */
    /* Makes a new network from the configuration in its directory; NULL, and an error, on failure. */
    void *(*read)(const char *dir, const sd_log *log, sd_error *e);
    sd_status (*bind)(void *net, sd_binder *b);   /* NULL: it has no weights */
    void (*free)(void *net);
} sd_module_kind;

/* Where a module is in a model's directory. A layout is a table of these, in the order in which they are opened. */
typedef struct sd_module_place {
    const sd_module_kind *kind;
    const char *name;      /* in the log, and in front of its traced names */
    const char *dir;       /* in the model's directory */
    const char *stem;      /* of its files: dir/stem.safetensors, see sd_store_open_dir; NULL: it has no weights */
    const char *root;      /* the prefix of all its names in the files: "model.diffusion_model."; NULL: none */
    const char *strip;     /* a prefix that files may lack: "text_model."; NULL: none */
    bool optional;         /* a model may lack it */
    const char *or_dir;    /* a model that has this directory may lack it; NULL: none */
} sd_module_place;

typedef struct sd_module {
    const sd_module_kind *kind;
    const sd_module_place *place;
    void *net;             /* sd_tokenizer, sd_clip, sd_unet_net or sd_vae */
    sd_store files;
    sd_binder binder;
} sd_module;

typedef struct sd_model {
    char *path;
    unsigned parts;                /* those that were asked for */
    int residency;                 /* SD_RESIDENCY_* */
    sd_module **module;            /* allocated one by one, because binders point into them */
    int n;
    const sd_unet_net *unet;       /* the first network of each kind; if none was opened, one that is all zero, ... */
    const sd_vae *vae;             /* ... so that these three are never NULL */
    const sd_clip *text;
    const sd_tokenizer *tokenizer; /* NULL: none was opened */
    const sd_module *in_use;       /* the module whose weights may be in memory */
    char *sched_path;              /* scheduler_config.json */
    sd_sched_config sched;         /* its settings */
    bool zeros_for_no_negative;    /* force_zeros_for_empty_prompt, see sd_params.negative_prompt */
    char fingerprint[17];          /* "" until somebody asks */
} sd_model;

/* Opens the parts of the model in this directory. Call sd_model_close in any case, even on failure. */
sd_status sd_model_open(sd_model *m, const char *path, unsigned parts, int residency, const sd_log *log, sd_error *e);
void sd_model_close(sd_model *m);

/* SD_ERR_ARG unless all these parts were opened. */
sd_status sd_model_need(const sd_model *m, unsigned parts, sd_error *e);
/* The i-th module of a part, i = 0, 1, ...; NULL if there is none. */
sd_module *sd_model_module(const sd_model *m, unsigned part, int i);

/* Begins to use a module: the weights of the others leave the process' memory, which then holds those of one module.
 * Their pages stay in the system's cache while it has room. A module that is used again and again, as the UNet is,
 * keeps its weights. False: the module was in use already. */
bool sd_model_use(sd_model *m, const sd_module *module);

/* A hash of some bytes of every bound weight, 16 digits. Models that differ in one merged adapter have different ones,
 * and yet not all gigabytes are read. */
const char *sd_model_fingerprint(sd_model *m);

#endif
