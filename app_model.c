/* app_model.c - floor 7: the open model: where it is, opening it, and what it says. */
#include "app.h"
#include "os.h"

#include <stdio.h>
#include <string.h>

static void show_line(void *user, int level, const char *line)
{
    view *v = user;
    int wanted = v->s->verbose ? 2 : v->s->quiet ? -1 : 1;
    if (level > wanted) return;
    clear_bar(v);
    fprintf(stderr, "sd: %s%s\n", level == 0 ? "warning: " : "", line);
}

int report(const settings *s, sd_status status)
{
    if (status == SD_ERR_CANCELLED) return cli_error(CLI_INTERRUPTED, "interrupted");
    if (s->verbose)
        return cli_error(exit_code(status), "%s [%s, %s]", sd_error_text(context), sd_status_name(status),
                         sd_error_place(context));
    return cli_error(exit_code(status), "%s", sd_error_text(context));
}

/* The directory the program lies in; NULL if that cannot be told. */
static const char *program_dir(const char *argv0, char path[PATH_SIZE])
{
    if (!sd_os_program_path(path, PATH_SIZE) &&
        (!strchr(argv0, '/') || snprintf(path, PATH_SIZE, "%s", argv0) >= PATH_SIZE))
        return NULL;
    char *slash = strrchr(path, '/');
    if (!slash) return NULL;
    *slash = 0;
    return *path ? path : "/";
}

const char *default_model(const char *argv0, char model[PATH_SIZE])
{
    char dir[PATH_SIZE];
    return sd_default_model(program_dir(argv0, dir), model, PATH_SIZE) ? model : NULL;
}

/* The place of an option's word in a list; -1 if it is not there. */
static int place_of(const char *word, const char *const *list, int n)
{
    while (n-- > 0 && strcmp(word, list[n]) != 0) continue;
    return n;
}

static int read_words(const settings *s, sd_options *o)
{
    static const char *const residency[] = {[SD_RESIDENCY_MAP] = "map", [SD_RESIDENCY_STREAM] = "stream",
                                            [SD_RESIDENCY_RAM] = "ram"};
    static const char *const gemm[] = {[SD_GEMM_OWN] = "own", [SD_GEMM_OPENBLAS] = "openblas"};
    if (s->residency && (o->residency = place_of(s->residency, residency, COUNT(residency))) < 0)
        return cli_error(CLI_USAGE, "--residency must be map, stream or ram, not \"%s\"", s->residency);
    if (s->gemm && (o->gemm = place_of(s->gemm, gemm, COUNT(gemm))) < 0)
        return cli_error(CLI_USAGE, "--gemm must be own or openblas, not \"%s\"", s->gemm);
    return CLI_OK;
}

int open_model(const settings *s, const char *argv0, unsigned parts, view *v)
{
    char model[PATH_SIZE];
    sd_options o;
    sd_options_init(&o);
    o.model = s->model ? s->model : default_model(argv0, model);
    o.parts = parts;
    o.unet = s->unet;
    o.vae = s->vae;
    o.taesd = s->taesd;
    o.taesd_preview_only = s->taesd_preview_only;
    o.text_encoder = s->text_encoder;
    o.text_encoder_2 = s->text_encoder_2;
    o.tokenizer = s->tokenizer;
    o.config = s->config;
    o.refiner = s->refiner;
    o.ema = s->ema;
    if (s->threads > 0) o.threads = s->threads;
    o.precise = s->precise;
    o.device = s->device;
    o.memory = (uint64_t)(1e9 * s->max_memory);
    o.vae_memory = (uint64_t)(1e9 * s->vae_memory);
    if (read_words(s, &o)) return CLI_USAGE;
    o.log = show_line;
    o.user = v;
    sd_status status = sd_open(&context, &o);
    return status ? report(s, status) : stopped();
}
