/* model.h - floor 6: what was opened: the modules of a model, their files and their networks. */
#ifndef SD_MODEL_H
#define SD_MODEL_H

#include "net.h"
#include "sampler.h"

/* A kind of module, and all that is particular to it. */
typedef struct sd_module_kind {
    unsigned part;         /* SD_PART_* */
    const char *title;     /* in sentences: "the UNet" */
    /* A new network from what its directory says of it; NULL, and an error, if that does not work out. */
    void *(*read)(const char *dir, const sd_log *log, sd_error *e);
    sd_status (*bind)(void *net, sd_binder *b);   /* NULL: it has no weights */
    void (*free)(void *net);
} sd_module_kind;

/* Where a model's layout has a module: a layout is a table of these, in the order in which they are opened. */
typedef struct sd_module_place {
    const sd_module_kind *kind;
    const char *name;      /* in the log, and in front of its traced names */
    const char *dir;       /* in the model's directory */
    const char *stem;      /* of its files: dir/stem.safetensors, see sd_store_open_dir; NULL: it has no weights */
    const char *root;      /* what stands before all its names in the files: "model.diffusion_model."; NULL: nothing */
    const char *strip;     /* a prefix that files may lack: "text_model."; NULL: none */
    bool optional;         /* models without that directory do without it */
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
    sd_module **module;            /* each for itself: binders point into them */
    int n;
    const sd_unet_net *unet;       /* the first network of each kind; all zero if none was opened, so that it can be */
    const sd_vae *vae;             /* asked */
    const sd_clip *text;
    const sd_tokenizer *tokenizer; /* NULL: none was opened */
    const sd_module *in_use;       /* whose weights may be in memory */
    char *sched_path;              /* scheduler_config.json */
    sd_sched_config sched;         /* what it says */
    char fingerprint[17];          /* "" until somebody asks */
} sd_model;

/* Opens the parts of the model in this directory. On failure too sd_model_close is to be called. */
sd_status sd_model_open(sd_model *m, const char *path, unsigned parts, int residency, const sd_log *log, sd_error *e);
void sd_model_close(sd_model *m);

/* SD_ERR_ARG unless all these parts were opened. */
sd_status sd_model_need(const sd_model *m, unsigned parts, sd_error *e);
/* The i-th module of a part, i = 0, 1, ...; NULL if there is none. */
sd_module *sd_model_module(const sd_model *m, unsigned part, int i);

/* A module's turn: the weights of the others leave memory, which holds those of one module then. Their pages stay in
 * the system's cache while it has room, and a module that goes on, as the UNet does, keeps its own. False: it was its
 * turn already. */
bool sd_model_use(sd_model *m, const sd_module *module);

/* A hash of some bytes of every bound weight, 16 digits: two models that differ in one merged adapter differ, and
 * nobody waits for gigabytes. */
const char *sd_model_fingerprint(sd_model *m);

#endif
