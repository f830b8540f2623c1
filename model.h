/* model.h - floor 6: an opened model: its modules, their files and their networks. */
#ifndef SD_MODEL_H
#define SD_MODEL_H

#include "model_hints.h"
#include "recognise.h"
#include "sampler.h"

/* A file of weights, or the files of a directory's part. Modules share it if they are in one file. */
typedef struct sd_source {
    char *path;
    sd_store store;
    bool recognised;       /* then `what` says what is in it */
    sd_recognised what;
} sd_source;

/* Where a module's configuration and weights are. */
typedef struct sd_origin {
    char dir[4096];              /* a directory with its config.json, or with a tokenizer's files; "": none */
    char weights[4096];          /* the directory of its weights; "": they are in a file, or there are none */
    sd_source *source;           /* of its weights; NULL: still to be opened */
    const sd_network *network;   /* in a file: its names' root, and its configuration from keys and shapes */
    const sd_family *family;     /* the family whose configuration it has, whatever a file says; NULL: none was named */
    sd_network made;             /* of a TAESD: what `network` points to */
    const char *pad;             /* a tokenizer's padding token, if `dir` does not say it; NULL: it does */
} sd_origin;

/* A part that sd.h does not have: what stands for the VAE is opened with it. */
enum { SD_PART_TAESD = 1 << 16 | SD_PART_VAE };

/* A kind of module, with everything that is particular to it. */
typedef struct sd_module_kind {
    unsigned part;         /* SD_PART_* */
    const char *title;     /* in sentences: "the UNet" */
    /* Makes a new network from its configuration; index: 0, 1 of text encoders. NULL, and an error, on failure. */
    void *(*read)(const sd_origin *from, int index, const sd_log *log, sd_error *e);
    sd_status (*bind)(void *net, sd_binder *b);   /* NULL: it has no weights */
    void (*free)(void *net);
} sd_module_kind;

/* A module that a model may have. The table of these is in the order in which they are opened. */
typedef struct sd_module_place {
    const sd_module_kind *kind;
    int index;             /* 0, 1 of its kind */
    const char *name;      /* in the log, in front of its traced names, and of its directory in diffusers' layout */
    const char *stem;      /* of its files in a directory, see sd_store_open_dir; NULL: it has no weights */
    const char *strip;     /* a prefix that files may lack: "text_model."; NULL: none */
    bool optional;         /* a model may lack it */
    const char *or_name;   /* a model that has this one may lack it; NULL: none */
    size_t given;          /* offset in sd_options of the path that replaces it */
    const char *option;    /* the same as an option of the program: "--unet" */
    bool beside;           /* it is no part of a model's own files: sd_taesd_find finds it */
} sd_module_place;

typedef struct sd_module {
    const sd_module_kind *kind;
    const sd_module_place *place;
    void *net;             /* sd_tokenizer, sd_clip, sd_unet_net or sd_vae */
    sd_store *files;       /* of its source, which other modules may use too; NULL: it has no weights */
    sd_binder binder;
    bool from_shapes;      /* its configuration is what shapes and a family say */
    char *dir;             /* the directory of its config.json, or of a tokenizer's files; NULL: its configuration is a
                            * family's, or follows from its file */
    bool padded;           /* a tokenizer's padding is not what that directory says */
} sd_module;

/* What a path is. */
typedef enum sd_path_kind {
    SD_PATH_FILE,
    SD_PATH_MODEL,      /* a directory with a directory for each part */
    SD_PATH_PART        /* a directory of one part: config.json and weights, or a tokenizer's files */
} sd_path_kind;

/* What the YAML of an LDM checkpoint says; zeros: nothing. */
typedef struct sd_yaml_facts {
    const char *prediction;        /* "epsilon", "v_prediction", "sample" */
    double beta_start, beta_end;
    int image_size;                /* of latents */
    char name[160];                /* its path, for sentences */
} sd_yaml_facts;

typedef struct sd_model {
    char *path;                    /* as it was given */
    char *at;                      /* where that leads to */
    sd_path_kind kind;
    unsigned only;                 /* of a directory of one part: which it is */
    const sd_source *main;         /* if `at` is a file */
    const sd_family *config_family;   /* what --config names: a family, ... */
    char *config_dir;              /* ... or a directory; both NULL: there is no --config, or it is a YAML file */
    unsigned parts;                /* those that were asked for */
    char *taesd;                   /* a TAESD's path, as it was given; NULL: there is none */
    bool taesd_for_previews;       /* ... alone: the VAE decodes and encodes */
    float latent_rgb[5][3];        /* sd_vae_config's, or what the family has */
    int residency;                 /* SD_RESIDENCY_* */
    sd_source **source;            /* allocated one by one, because stores are pointed into */
    int n_sources;
    sd_module **module;            /* the same, because of binders */
    int n;
    uint32_t last_id;              /* before those of its weights */
    const sd_unet_net *unet;       /* the first network of each kind; if none was opened, one that is all zero, ... */
    const sd_vae *vae;             /* ... so that these four are never NULL. What decodes: the VAE, or a TAESD */
    const sd_vae *encoder;         /* what encodes: the same, unless that is a TAESD without an encoder */
    const sd_vae *preview;         /* what decodes previews: a TAESD; NULL: none was given */
    const sd_clip *text;
    const sd_tokenizer *tokenizer; /* NULL: none was opened */
    const sd_module *in_use;       /* the module whose weights may be in memory */
    const char *layout;            /* "diffusers directory", "LDM file", ... */
    int config_size;               /* of latents, in the UNet's config.json, where that told the family; else 0 */
    const sd_family *family;       /* NULL: its UNet is none of a published family, or was not opened */
    sd_yaml_facts yaml;
    char *sched_text;              /* a scheduler_config.json */
    bool stands_in;                /* ... of the family, for there is none of the model */
    char *sched_name;              /* where it is from, for sentences */
    sd_sched_config sched;         /* its settings */
    char *low_res_text;            /* the upscaler's low_res_scheduler/scheduler_config.json; NULL: there is none */
    sd_sched_config low_res;       /* its settings, or those of the published one */
    int most_noise;                /* max_noise_level in its model_index.json, else 350 */
    bool zeros_for_no_negative;    /* force_zeros_for_empty_prompt, see sd_params.negative_prompt */
    bool scored;                   /* requires_aesthetics_score: it is a refiner */
    bool asks;                     /* the prediction is not decided: the UNet is to be asked (model_probe.c) */
    char prediction_why[256];
    sd_few_hint few;               /* what the name of the UNet's file says, where nothing else does */
    char fingerprint[17];          /* "" until somebody asks */
} sd_model;

#define SD_LOW_RES "low_res_scheduler/scheduler_config.json"

/* What to open besides sd_options. */
typedef struct sd_model_request {
    const char *path;              /* the model, never NULL */
    const sd_options *options;
    const char *merges;            /* a directory with CLIP's merges, for models without a tokenizer; NULL: none */
    const sd_log *log;
    uint32_t last_id;              /* of the weights of another model that is in use at the same time */
} sd_model_request;

/* Opens the parts of a model. Call sd_model_close in any case, even on failure. */
sd_status sd_model_open(sd_model *m, const sd_model_request *q, sd_error *e);
uint32_t sd_model_last_id(const sd_model *m);   /* of its weights */
void sd_model_close(sd_model *m);

/* SD_ERR_ARG unless all these parts were opened. */
sd_status sd_model_need(const sd_model *m, unsigned parts, sd_error *e);
/* The module with this network; NULL if there is none. */
sd_module *sd_model_module_of(const sd_model *m, const void *net);
/* The i-th module of a part, i = 0, 1, ...; NULL if there is none. */
sd_module *sd_model_module(const sd_model *m, unsigned part, int i);

/* Reads the model's scheduler as this sampler does (NULL: as the class that it names), and as its pipeline changes
 * it. */
sd_status sd_model_read_sched(const sd_model *m, const char *sampler, sd_sched_config *s, sd_error *e);
/* The UNet predicts this, because of `why`: the scheduler, the family and the native size follow. */
sd_status sd_model_decide(sd_model *m, sd_prediction prediction, const char *why, const sd_log *log, sd_error *e);

/* Begins to use a module: the weights of the others leave the process' memory, which then holds those of one module.
 * Their pages stay in the system's cache while it has room. A module that is used again and again, as the UNet is,
 * keeps its weights. False: the module was in use already. */
bool sd_model_use(sd_model *m, const sd_module *module);

/* No module is used for a while: all weights leave memory in that way. */
void sd_model_rest(sd_model *m);

/* A hash of some bytes of every bound weight, 16 digits. Models that differ in one merged adapter have different ones,
 * and yet not all gigabytes are read. */
const char *sd_model_fingerprint(sd_model *m);
/* The same of a TAESD that draws; false: none does. The model's own does not count it, as it does not draw alone. */
bool sd_model_taesd_fingerprint(const sd_model *m, char hex[17]);

/* ---- model_layouts.c: where the parts of a model are */
/* What the model's path is; a file is opened. */
sd_status sd_model_find_layout(sd_model *m, const sd_model_request *q, sd_error *e);
/* Follows a path to what is meant: out of a repository in Hugging Face's cache to its snapshot, and to the only file of
 * weights in a directory that is neither of the other two. An error if nothing is there, or several such files. */
sd_status sd_path_resolve(char out[4096], sd_path_kind *kind, const char *path, const sd_log *log, sd_error *e);
/* The config.json of a part in the directory of its file, as people keep them together; false: there is none. */
bool sd_config_beside(char path[4096], const char *file, unsigned part);
sd_status sd_origin_find(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                         bool *found, sd_error *e);
/* The source with this path, opened if it was not; stem: of a directory's files; NULL: it is a file. */
sd_source *sd_model_source(sd_model *m, const char *path, const char *stem, sd_error *e);
sd_status sd_source_recognise(sd_source *s, sd_error *e);
extern const sd_module_place sd_module_places[];
extern const size_t sd_module_place_count;

/* ---- model_taesd.c */
sd_status sd_taesd_find(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                        bool *found, sd_error *e);
/* Is the VAE not needed? It is opened all the same where the model has one. */
bool sd_taesd_suffices(const sd_model *m, const sd_model_request *q);

/* ---- model_schedule.c: the scheduler and the prediction of a model, and why */
/* Before modules are opened, because a tokenizer's padding follows from the family. */
sd_status sd_model_find_family(sd_model *m, const sd_model_request *q, sd_error *e);
sd_status sd_model_find_sched(sd_model *m, const sd_model_request *q, sd_error *e);
/* After the UNet is known: the scheduler that noises the picture which an upscaler enlarges. */
sd_status sd_model_find_low_res(sd_model *m, sd_error *e);
/* After them: what the modules take from the family and from each other. */
sd_status sd_model_settle(sd_model *m, sd_error *e);

#endif
