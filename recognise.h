/* recognise.h - floor 4: what a file of tensors is, and why: decided from names, shapes and the texts of its header. */
#ifndef SD_RECOGNISE_H
#define SD_RECOGNISE_H

#include <string.h>

#include "net.h"

/* A single file that sd convert made keeps the files of a directory, but for its weights, as texts of its header
 * under this and their names: "sd:unet/config.json". */
#define SD_KEPT "sd:"
static inline bool sd_is_kept(const char *pair) { return sd_begins_with(pair, SD_KEPT); }   /* the key of a text */

typedef enum sd_file_kind {
    SD_FILE_UNKNOWN,       /* nobody here knows its tensors */
    SD_FILE_CHECKPOINT,    /* several networks of one model */
    SD_FILE_UNET,          /* one network alone */
    SD_FILE_VAE,
    SD_FILE_TEXT,
    SD_FILE_LORA,          /* changes of weights: LoRA and its relatives */
    SD_FILE_EMBEDDING,     /* a textual inversion */
    SD_FILE_HYPERNETWORK,
    SD_FILE_CONTROLNET,    /* what steers a UNet by a picture: ControlNet, Control-LoRA, LLLite, T2I-Adapter */
    SD_FILE_IP_ADAPTER,
    SD_FILE_TAESD,         /* a small autoencoder */
    SD_FILE_UPSCALER,      /* ESRGAN and its relatives */
    SD_FILE_OTHER          /* a network of another kind, known by its name only */
} sd_file_kind;

/* Some of a file's tensors. */
typedef struct sd_share { size_t tensors; uint64_t params, bytes; } sd_share;

/* A network in a file. */
typedef struct sd_network {
    unsigned part;                 /* SD_PART_UNET, SD_PART_VAE or SD_PART_TEXT */
    int index;                     /* of text encoders: 0, 1 */
    const char *root;              /* what all its names begin with: "model.diffusion_model."; "": nothing */
    const char *naming;            /* "LDM", "diffusers", "OpenCLIP", "transformers" */
    bool has_config;               /* it is complete. false: heads, groups and epsilons are unknown, since no family
                                    * has a network of these shapes; they are what they most likely are */
    const char *config_from;       /* "shapes", or the key of the header's text that is its config.json */
    sd_unet_config unet;           /* of these three, the part's own; the others are all zero */
    sd_vae_config vae;
    sd_clip_config clip;
    int class_in;                  /* as in sd_family */
    sd_share all, by_type[SD_DTYPE_UNKNOWN + 1];   /* by sd_dtype; tensors that are known and skipped do not count */
} sd_network;

enum { SD_NETWORKS = 6 };          /* more than a file has */

/* What is known of a file that changes a model or stands beside it. */
typedef struct sd_adapter {
    const char *method;            /* "LoRA", "LoHa", "DoRA", "ControlNet", ... as kind_name, or finer */
    const char *naming;            /* "kohya", "diffusers", "PEFT", "LyCORIS", "LDM"; NULL: it has only one */
    const char *base;              /* the models that it fits by its shapes: "SD 1", "SD 2", "SDXL"; NULL: undecided */
    const char *says;              /* the base model as the header says; NULL: it does not */
    int rank_min, rank_max;        /* 0: it has no ranks */
    double alpha_min, alpha_max;   /* 0: it has none */
    struct { const char *network; size_t modules; } target[5];   /* what it changes: "unet", "text_encoder", ... */
    int n_targets;
    size_t modules;                /* all of them */
    int vectors, width[2];         /* of an embedding; width[1]: the second text encoder's, 0: none */
} sd_adapter;

typedef struct sd_skipped { const sd_skip_rule *rule; size_t tensors; } sd_skipped;

typedef struct sd_recognised {
    sd_file_kind kind;
    const char *kind_name;         /* "checkpoint", "LoRA", "T2I-Adapter", "Flux": for people */
    const char *layout;            /* "LDM", "diffusers", "mixed": of the UNet, else of the first network; NULL: none */
    sd_network network[SD_NETWORKS];
    int n_networks;
    const sd_family *family;       /* NULL: unknown. Families whose shapes are the same are told apart by the
                                    * prediction; if that is not decided, this is the first of them, and
                                    * sd_family_with finds the others */
    const char *refusal;           /* why a model of this kind cannot be run, a sentence; NULL: nothing speaks
                                    * against it */
    const char *prediction;        /* "epsilon", "v_prediction"; NULL: not decided */
    const char *hint;              /* the prediction that is likely when none is decided; or NULL */
    bool zero_snr;                 /* betas are to be rescaled to zero terminal SNR */
    double sigma_min, sigma_max;   /* edm_vpred.sigma_min and _max; 0: none */
    int pad[2];                    /* each tokenizer's padding id */
    double scaling_factor;         /* of latents; 0: no VAE and no family */
    size_t ema;                    /* tensors that are averages of others (model_ema.*) */
    sd_skipped skipped[64];        /* known tensors that no network needs, by rule */
    int n_skipped;
    const char **leftover;         /* names of the tensors that nobody knows; the store has the texts */
    size_t n_leftover;
    sd_adapter adapter;            /* of kinds that are no networks of a model */
    sd_text why;                   /* one sentence a line: each says what was decided, and the key or shape by which */
} sd_recognised;

/* Looks at names, shapes, texts and numbers that stand alone (an alpha), and for the hint at one bias. SD_OK also for a
 * file that nobody knows; an error only if memory runs out. Texts of the result belong to it or to the store. */
sd_status sd_recognise(const sd_store *s, sd_recognised *out, sd_error *e);
void sd_recognised_free(sd_recognised *r);

/* Which of a model's networks of one part this is: the only one, the first or the second of two, the refiner's only
 * one. */
typedef enum sd_role { SD_ROLE_ONLY = 1, SD_ROLE_FIRST = 2, SD_ROLE_SECOND = 4, SD_ROLE_REFINERS = 8 } sd_role;
/* What the names of a network begin with in a single file that is written; openclip: it is a text encoder of theirs. */
const char *sd_root_written(unsigned part, sd_role role, bool openclip);

/* Where in a name the first root begins under which a file may have a network, not necessarily at its beginning; the
 * longest one there. It is of this part and, of text encoders, the first or second. NULL: there is none. */
const char *sd_root_find(const char *name, unsigned *part, int *index, size_t *length);

/* recognise_shapes.c: a configuration from the shapes of the tensors whose names begin with root, in either spelling.
 * False: they do not make such a network. */
bool sd_unet_from_shapes(const sd_store *s, const char *root, sd_unet_config *c, int *class_in);
bool sd_vae_from_shapes(const sd_store *s, const char *root, sd_vae_config *c);
/* recognise_taesd.c: one way of a TAESD, the other being absent; what its names begin with, and whose names they are.
 * False: the file does not have it. Its configuration has no levels if its tensors do not go together. */
bool sd_taesd_from_shapes(const sd_store *s, bool decoder, sd_vae_config *c, const char **root, const char **naming);
bool sd_clip_from_shapes(const sd_store *s, const char *root, sd_clip_config *c, const char **naming);

/* recognise_adapters.c: kind, name and adapter of a file that is no network of a model; their sentences are added to
 * `why`. False: it is nothing of the kind. */
bool sd_recognise_adapter(const sd_store *s, sd_recognised *out);
bool sd_adapter_knows(const sd_recognised *r, const char *name);   /* is this tensor a part of what was recognised? */

/* "a" or "an" before a kind's name. */
static inline const char *sd_article(const char *name) { return *name && strchr("AEIOaeiou", *name) ? "an" : "a"; }

/* The number in r->network of the network that a tensor's name belongs to; -1: none. A root may be empty, so the
 * longest one that the name begins with counts. */
int sd_network_of(const sd_recognised *r, const char *name);
/* The i-th network of a part; NULL: there is none. */
const sd_network *sd_recognised_network(const sd_recognised *r, unsigned part, int i);

#endif
