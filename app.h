/* app.h - floor 7: what the commands of the program share: settings, the open model, messages, checks of paths. */
#ifndef SD_APP_H
#define SD_APP_H

#include <signal.h>
#include <stddef.h>

#include "app_cli.h"
#include "sd.h"

#ifdef SD_WITH_PNG
#define ENDINGS ".png or .ppm"
#define PICTURE_ENDING ".png"
#else
#define ENDINGS ".ppm (this build has no libpng)"
#define PICTURE_ENDING ".ppm"
#endif
#define DEFAULT_OUTPUT "output" PICTURE_ENDING

enum { PATH_SIZE = 4096 };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

typedef struct settings {
    const char *model, *unet, *vae, *taesd, *text_encoder, *text_encoder_2, *tokenizer, *refiner;   /* paths */
    int ema, taesd_preview_only;
    const char *output, *noise, *latents, *trace, *trace_filter, *trace_stats, *trace_hash;
    const char *prompts, *init, *mask, *depth;
    const char *from;              /* a picture whose text says what is not given */
    struct from_text *from_text;   /* what that text said: app_redraw.c's */
    sd_params p;
    cli_seed seed;
    int batch_count, threads, precise;
    const char *residency, *gemm, *device;
    double max_memory;             /* GB; 0: what the system has free */
    double vae_memory;             /* GB; 0: as above */
    int quiet, verbose, timings, profile;   /* timings, profile: 1 as text, 2 as JSON */
    int explain_seed;
    int version, help;
    const char *save_steps;
    int preview;                   /* 1: as the size allows; 2, 3, ...: PREVIEW_WORDS */
    /* the other commands */
    const char *text, *file, *config, *plot;
    cli_list files;
    int ids, json, unscaled, list;
    const char *type, *only, *spelling, *shards;   /* of sd convert */
    int keep_all;
    const char *tensors;           /* globs */
    int values, hash, metadata, diff;
    int check;                     /* of sd devices */
    int all, calls;                /* of sd compare; all: also of sd show */
    double rtol, atol;
    const char *html;
    int csv;                       /* of sd show */
    int stats, draws;              /* of sd trace; draws: a run follows, without a picture */
    const char *names;             /* of sd compare, and --inject-names */
    const char *inject, *inject_filter, *module;
    int uncond, class_label;       /* of sd text and sd unet */
    const char *stop_after;
    const char *pred, *level_from, *level_to;   /* of sd step */
    const char *tokens_in, *timestep, *embeds, *pooled, *time_ids, *timestep_cond;
    const char *floor, *measure_floor, *injected;
    int floor_starts;
} settings;

#define PREVIEW_WORDS "none|proj|vae|taesd|tae"   /* the last is stable-diffusion.cpp's */
enum { PREVIEW_NONE = 2, PREVIEW_PROJ, PREVIEW_VAE, PREVIEW_TAESD, PREVIEW_TAE };

#define AT(field) offsetof(settings, field)

/* Are the tensors of the run to be written, or what they are like? */
static inline int traces(const settings *s) { return s->trace || s->trace_stats || s->trace_hash; }

#define MODEL_OPTION {CLI_TEXT, 'm', "model", AT(model), 0, 0, "PATH", \
                      "model: a file, or a directory in diffusers layout\n" \
                      "(default: $SD_MODEL, or weights/tiny beside the program or\nwhere it was installed)"}
/* What replaces parts of a model, and what it does not say of itself. */
#define PART_OPTIONS \
    {CLI_TEXT, 0, "unet", AT(unet), 0, 0, "PATH", "takes the UNet from another file or directory"}, \
    {CLI_TEXT, 0, "vae", AT(vae), 0, 0, "PATH", "takes the VAE from another file or directory"}, \
    {CLI_TEXT, 0, "text-encoder", AT(text_encoder), 0, 0, "PATH", "the same for the text encoder"}, \
    {CLI_TEXT, 0, "text-encoder-2", AT(text_encoder_2), 0, 0, "PATH", "the same for the second text encoder"}, \
    {CLI_TEXT, 0, "tokenizer", AT(tokenizer), 0, 0, "PATH", "a directory with merges.txt or tokenizer.json"}, \
    {CLI_TEXT, 0, "config", AT(config), 0, 0, "PATH", \
     "what a file does not say of itself: a directory in diffusers\nlayout, an LDM YAML file, or a family (sd15, sd21)"}
#define TAESD_OPTION \
    {CLI_TEXT, 0, "taesd", AT(taesd), 0, 0, "PATH", \
     "a TAESD, which encodes and decodes in the VAE's place: its\nfile, DECODER,ENCODER, or a directory"}
#define EMA_OPTION \
    {CLI_FLAG, 0, "ema", AT(ema), 0, 0, NULL, \
     "draws with the averages of the UNet's weights that a\ncheckpoint keeps beside them"}
#define REFINER_OPTION \
    {CLI_TEXT, 0, "refiner", AT(refiner), 0, 0, "PATH", \
     "a second model, which takes over at --refiner-at: SDXL's\nrefiner, or any model with latents of the same kind"}
#define HELP_OPTION {CLI_FLAG, 'h', "help", AT(help), 0, 0, NULL, "this text"}

/* Rows in tables of options that expand_options replaces: by a parameter of the library, and by all parameters of a
 * group that have no row of their own. */
#define PARAM(key) {CLI_PARAM, 0, key, 0, 0, 0, NULL, NULL}
#define PARAMS(group) {CLI_PARAMS, 0, group, 0, 0, 0, NULL, NULL}

#define MEMORY_OPTION {CLI_NUMBER, 0, "max-memory", AT(max_memory), 0, 1e6, "GB", \
                       "refuses a run that needs more (default: what the system\n" \
                       "has free)"}, \
                      {CLI_NUMBER, 0, "vae-memory", AT(vae_memory), 0, 1e6, "GB", \
                       "working memory of the VAE, about: large pictures are\n" \
                       "then computed in bands, the same bits in more time\n" \
                       "(default: in bands if memory would not suffice)"}
#define RESIDENCY_OPTION {CLI_TEXT, 0, "residency", AT(residency), 0, 0, "HOW", \
                          "where weights are: map: in mapped files (default); stream:\n" \
                          "there too, and out of memory after use; ram: read at once"}

#define THREADS_OPTION {CLI_INT, 't', "threads", AT(threads), -1, 1024, "N", \
                        "default, 0 and -1: one per core that the process may use"}

#define DEVICE_OPTION {CLI_TEXT, 0, "device", AT(device), 0, 0, "NAME", \
                       "what computes: cpu (default, or what $SD_DEVICE says);\n" \
                       "opencl, opencl:1, opencl:nvidia: a GPU, see sd devices"}

#define GEMM_OPTION {CLI_TEXT, 0, "gemm", AT(gemm), 0, 0, "WHOSE", \
                     "matrix products: own (default; the same bits for any number\n" \
                     "of threads and in any batch) or openblas"}

/* ---- app_options.c */
void settings_init(settings *s);   /* nothing given: every option at its default */
extern cli_command draw_command;
/* To be called first: puts the rows of the library's table into the tables of options, of drawing and of the other
 * commands. */
void fill_options(void);
void fill_command_options(void);   /* app_commands.c */
/* Copies rows to out[MOST_OPTIONS], where PARAM and PARAMS are replaced; out may be rows if there is no PARAMS. Returns
 * how many there are. */
size_t expand_options(cli_option *out, const cli_option *rows, size_t n);

extern sd_ctx *context;   /* the open model; global for the signal handler */
extern volatile sig_atomic_t interrupts;
extern volatile sig_atomic_t cleans_up;   /* 1: a command without a model looks at those, and removes its files */

typedef enum preview_kind { PREVIEW_BLOCKS, PREVIEW_KITTY, PREVIEW_ITERM2 } preview_kind;

/* A progress bar is drawn when stderr is a terminal. */
typedef struct view {
    const settings *s;
    int bar, shown;        /* shown: the cursor stands behind a bar */
    int in_bands, done;    /* what the bar showed last: a picture that is decoded in bands, and how far it was */
    int preview;           /* pictures of steps are shown */
    int picture, pictures; /* runs of the pipeline, one after another */
    double spent;          /* seconds in steps of this picture */
    preview_kind kind;     /* with --preview */
    int rows;              /* lines that the last preview took */
} view;

/* ---- app_process.c */
void hold_standard_streams(void);   /* before anything is opened */
void let_threads_sleep(char **argv);
void catch_signals(void);
int output_to_stdout(settings *s);
int exit_code(sd_status status);
/* Says the error of a command whose exit code 1 says what it found: never 1. */
int could_not(sd_status status, const char *error);
extern int memory_ran_out;   /* some status said so, or no_memory did */
int no_memory(void);         /* says it. Exit code */
int errno_code(int why);   /* of a system call of the program's own */
/* To be asked between calls into the library, which end by themselves: after a signal CLI_INTERRUPTED, with a
 * message. */
int stopped(void);
uint64_t random_seed(void);

/* ---- app_model.c */
/* Says what the last call into the library met. Exit code. */
int report(const settings *s, sd_status status);
/* NULL if there is none. */
const char *default_model(const char *argv0, char model[PATH_SIZE]);
int open_model(const settings *s, const char *argv0, unsigned parts, view *v);

/* ---- app_paths.c */
/* Upper and lower case alike, as in the library. A name that is nothing but an ending has none. */
int ends_with(const char *s, const char *end);
int is_picture_name(const char *path);
int is_latents_name(const char *path);     /* .safetensors, .npy: a run ends with latents, without a picture */
int is_stream(const char *path);   /* a pipe, a device or a descriptor, whatever its name */
/* Finds now what would make writing fail minutes later. */
int check_writable(const char *what, const char *path);
/* The same for a directory, which is made if it is not there. */
int check_directory(const char *what, const char *path);
int check_trace(const char *path);   /* the same for --trace: a file, or DIR/ */
/* No result of a run is written over what it reads, or over another; output: one more, or NULL. */
int check_kept(const settings *s, const char *output);
/* "a/b.png" for the first picture, "a/b_2.png" for the second; of "b_%03d.png" b_001.png and b_002.png. */
int picture_path(char path[PATH_SIZE], const char *output, int index);

/* ---- app_prepare.c */
/* Numbers of a file must be finite. Exit code. */
int check_finite(const char *file, const float *x, size_t n);
/* A side to the nearest multiple of the model's scale. */
int nearest_multiple(int side, int scale);
/* Files that a run begins from. */
typedef struct inputs {
    sd_image init, mask;
    char init_hash[33];
    float *noise, *depth, *latents;
    char *prompt[2];         /* of read_prompts() */
    struct record *record;   /* with --from-step */
    struct given_inputs *given;
} inputs;
/* Reads them, and finds everything that can be wrong with the parameters before a seed is printed. Exit code. */
int prepare(settings *s, inputs *in, view *v);
int read_given_noise(settings *s, inputs *in);   /* --noise alone */
void inputs_free(inputs *in);

/* ---- app_prompts.c: prompts from files */
/* "@FILE" and "-" become what is in them, without the last newline; "@@..." is a text that begins with @. owned: to be
 * freed when it is no longer used. */
int read_text(const char **text, char **owned);
/* -p and -n: "@FILE" and "-" become the texts of a file; owned: to be freed when they are no longer used. */
int read_prompts(settings *s, char *owned[2]);
typedef struct prompt_line { char *text; int number; } prompt_line;
typedef struct prompt_lines {
    const char *path;
    char *text;
    prompt_line *line;   /* those that are not blank and no comments (#) */
    int n;
} prompt_lines;
int prompt_lines_read(prompt_lines *l, const char *path);
void prompt_lines_free(prompt_lines *l);
/* What line i asks for: the common settings, its prompt, its options. *text is to be freed when they are no longer
 * used. Messages begin with the line's place until cli_where(NULL, 0). */
int prompt_line_settings(const prompt_lines *l, int i, const settings *common, settings *s, char **text);

/* ---- the commands */
typedef struct command {
    const cli_command *line;
    int (*run)(settings *s, const char *argv0);
} command;
extern const command other_commands[];   /* app_commands.c; ends with a NULL line */
/* app_codec.c */
extern const cli_command encode_command, decode_command, roundtrip_command;
int run_encode(settings *s, const char *argv0);
int run_decode(settings *s, const char *argv0);
int run_roundtrip(settings *s, const char *argv0);

/* app_stages.c */
extern const cli_command text_command;
extern cli_command unet_command, step_command;
void fill_unet_options(void);
void fill_step_options(void);
int run_step(settings *s, const char *argv0);
int run_text(settings *s, const char *argv0);
int run_unet(settings *s, const char *argv0);

/* app_convert.c */
extern const cli_command convert_command;
int run_convert(settings *s, const char *argv0);
/* app_inspect.c */
extern const cli_command inspect_command;
int run_inspect(settings *s, const char *argv0);
/* For the library's functions that read files; `user` is the view: a line on the terminal that is written over. */
int show_reading(void *user, const char *what, double done, double total);

/* app_case.c */
extern const cli_command extract_command, replay_command;
int run_extract(settings *s, const char *argv0);
int run_replay(settings *s, const char *argv0);

/* app_compare.c */
extern const cli_command compare_command;
int run_compare(settings *s, const char *argv0);

/* ---- app_selftest.c */
extern const cli_command selftest_command;
int run_selftest(settings *s, const char *argv0);
/* app_show.c */
/* ---- app_profiles.c */
extern const cli_command profiles_command;
int run_profiles(settings *s, const char *argv0);
extern const cli_command show_command;
int run_show(settings *s, const char *argv0);
/* ---- app_trace.c */
extern const cli_command trace_command;
int run_trace(settings *s, const char *argv0);   /* may leave what is to be drawn: settings.draws */

/* app_diagnose.c */
extern const cli_command wrong_command, diagnose_command;
int run_wrong(settings *s, const char *argv0);
int run_diagnose(settings *s, const char *argv0);

/* app_devices.c */
extern const cli_command devices_command;
int run_devices(settings *s, const char *argv0);

/* app_tune.c */
extern const cli_command tune_command;
int run_tune(settings *s, const char *argv0);

/* ---- app_man.c, app_complete.c: what is installed beside the program, written to stdout. Exit code. */
int man_page(void);
int completion(const char *shell);   /* bash, zsh, fish */

/* ---- app_redraw.c: --from, and sd show */
/* Settings from the text of s->from, and over them the command line, which has been read once: `given`. */
int settings_from_text(settings *s, const cli_command *line, int argc, char **argv, const cli_given *given);
void free_from_text(settings *s);
/* Warns of a model and of files that are not those that the text was written with. */
int warn_of_differences(const settings *s);
int show_text(settings *s, const char *argv0);   /* sd show of a picture */

/* ---- app_bar.c: progress on a terminal */
int bar_wanted(void);
int terminal_columns(void);
void clear_bar(view *v);
/* For sd_set_progress; `user` is the view. */
void show_progress(void *user, const sd_progress *p);

/* ---- app_profile.c: what the operations of a run took */
typedef struct profile profile;
/* Listens to the context from now on. Exit code; profile_free in any case. */
int profile_begin(const settings *s, profile **p);
void profile_free(profile *p);
/* Measures the machine for a second, then prints everything. Exit code. */
int profile_print(profile *p, int json);

/* ---- app_preview.c: pictures in a terminal */
/* What the environment says of the terminal; 0 if it is to show no pictures: TERM=dumb, or NO_COLOR where they would be
 * coloured blocks. */
int preview_detect(preview_kind *kind);
/* Draws on stderr, over the picture that was drawn before (*rows lines of it; 0: none). SD_OK, or the library's
 * status. */
sd_status preview_show(preview_kind kind, const sd_image *image, int *rows);

#endif
