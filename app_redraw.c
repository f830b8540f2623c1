/* app_redraw.c - floor 7: pictures drawn again from their text: `sd --from FILE`, and `sd show`, which says what it
 * would take from there. */
#include "app.h"
#include "os.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The memory that settings from a text point into. */
enum { INIT, MASK, DEPTH, NOISE, LATENTS, RNG, SAMPLER_RNG, FILES };
struct from_text {
    sd_recipe *recipe;
    char path[FILES][PATH_SIZE];
    char *prompt[2];
};

void free_from_text(settings *s)
{
    struct from_text *r = s->from_text;
    if (!r) return;
    sd_recipe_free(r->recipe);
    free(r->prompt[0]);
    free(r->prompt[1]);
    free(r);
    s->from_text = NULL;
}

/* A text of a file, which may hold anything, in a terminal: no control characters but ends of lines, also not those
 * that UTF-8 has in two bytes. */
static void print_clean(FILE *to, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        int two = c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0;
        fputc(two || (*c < 32 && *c != '\n') || *c == 127 ? '?' : *c, to);
        if (two) c++;
    }
}

static void notify(const settings *s, const char *kind, const char *text)
{
    if (s->quiet) return;
    for (const char *end; *text; text = *end ? end + 1 : end) {
        char line[1024];
        end = text + strcspn(text, "\n");
        snprintf(line, sizeof line, "sd: %s%.*s\n", kind, (int)(end - text > 900 ? 900 : end - text), text);
        print_clean(stderr, line);
    }
}

static int read_recipe(const char *path, char **text, sd_recipe **recipe)
{
    char error[512];
    *recipe = NULL;
    sd_status status = sd_image_text_read(path, text, error);
    if (!status) status = sd_recipe_read(*text, recipe, error);
    return status ? cli_error(exit_code(status), "%s", error) : CLI_OK;
}

/* ----------------------------------------------------------------------------- text into settings */

/* Where the file is that a text names: here, or beside the file that has the text. If it is in neither place, NULL
 * where it must be, else its name. */
static const char *find(struct from_text *r, int which, const char *name, const char *beside, int must_be)
{
    char *path = r->path[which];
    const char *slash = strrchr(beside, '/');
    if (!name || sd_os_may_read(name)) return name;
    int n = slash ? snprintf(path, PATH_SIZE, "%.*s/%s", (int)(slash - beside), beside, name) : PATH_SIZE;
    if (n < PATH_SIZE && sd_os_may_read(path)) return path;
    return must_be ? NULL : name;
}

static const char *find_numbers(struct from_text *r, int which, const char *rng, const char *beside)
{
    return rng && ends_with(rng, ".safetensors") ? find(r, which, rng, beside, 0) : rng;
}

/* A prompt as -p takes it, where "@" stands for a file and "-" for the standard input. NULL: no memory. */
static const char *typed_prompt(const char *prompt, char **owned)
{
    int file = prompt && *prompt == '@', input = prompt && strcmp(prompt, "-") == 0;
    if (!file && !input) return prompt;
    *owned = malloc(strlen(prompt) + 2);
    if (*owned) sprintf(*owned, file ? "@%s" : "%s ", prompt);
    return *owned;
}

/* must_be: a file that is not there is left out; otherwise it keeps its name. */
static int take_recipe(settings *s, struct from_text *r, const char *from, int must_be)
{
    const sd_params *p = r->recipe->params;
    s->from_text = r;
    sd_params_copy(&s->p, p);
    s->p.prompt = typed_prompt(p->prompt, &r->prompt[0]);
    s->p.negative_prompt = typed_prompt(p->negative_prompt, &r->prompt[1]);
    s->seed = (cli_seed){r->recipe->has_seed, p->seed};
    s->precise = r->recipe->precise;
    s->gemm = r->recipe->gemm == SD_GEMM_OWN ? "own" : r->recipe->gemm == SD_GEMM_OPENBLAS ? "openblas" : NULL;
    s->threads = r->recipe->threads > 0 ? r->recipe->threads : 0;
    if ((p->prompt && !s->p.prompt) || (p->negative_prompt && !s->p.negative_prompt))
        return no_memory();
    if (p->sampling.sigmas || p->sampling.timesteps) s->p.sampling.steps = SD_DEFAULT;
    s->init = find(r, INIT, p->edit.init_name, from, must_be);
    s->mask = find(r, MASK, p->edit.mask_name, from, must_be);
    s->depth = find(r, DEPTH, p->edit.depth_name, from, must_be);
    s->noise = find(r, NOISE, p->noise_name, from, must_be);
    s->latents = find(r, LATENTS, p->latents_name, from, must_be);
    s->p.rng = find_numbers(r, RNG, p->rng, from);
    s->p.sampler_rng = find_numbers(r, SAMPLER_RNG, p->sampler_rng, from);
    return CLI_OK;
}

/* Drops what the text says where the command line says something that it does not go with. */
static void make_room(settings *s, const cli_command *line, const cli_given *given)
{
#define GIVEN(name) cli_is_given(line, given, name)
    sd_params *p = &s->p;
    int levels = GIVEN("sigmas") || GIVEN("timesteps"), sampler = GIVEN("sampling-method");
    if (sampler) {   /* another one has its own way */
        p->sampling.schedule = p->sampling.spacing = NULL;
        p->sampling.eta = SD_DEFAULT;
        p->sampling.order = p->sampling.steps_offset = SD_DEFAULT;
        p->sampling.set_alpha_to_one = p->sampling.clip_sample = SD_DEFAULT;
    }
    if (sampler || GIVEN("scheduler") || GIVEN("steps") || levels) p->sampling.sigmas = p->sampling.timesteps = NULL;
    if (levels) p->sampling.schedule = NULL;
    if (GIVEN("batch-size")) p->keep = 0;
    if (GIVEN("mask")) p->edit.alpha_mask = 0;
    if (GIVEN("alpha-mask")) s->mask = NULL;
    if (GIVEN("gemm")) s->precise = 0;
    if (GIVEN("precise")) s->gemm = NULL;
    if (GIVEN("outpaint")) p->edit.inpaint_crop = p->width = p->height = SD_DEFAULT;
    if (GIVEN("inpaint-crop")) memset(p->edit.outpaint, 0, sizeof p->edit.outpaint);
#undef GIVEN
}

/* The same for a device, which must be known by name: the CPU has all of it. */
static void make_room_for_device(settings *s, const cli_command *line, const cli_given *given)
{
    if (!s->device || !*s->device || strcmp(s->device, "cpu") == 0) return;
    if (!cli_is_given(line, given, "precise")) s->precise = 0;
    if (!cli_is_given(line, given, "gemm")) s->gemm = NULL;
}

static int check_files(const settings *s)
{
    const sd_recipe *r = s->from_text->recipe;
    const struct { const char *what, *name, *option; int missing; } files[] = {
        {"it began from", r->params->edit.init_name, "-i", r->from_picture && !s->init},
        {"its mask was", r->params->edit.mask_name, "--mask", r->mask_hash && !s->mask && !s->p.edit.alpha_mask},
        {"its depth map was", r->params->edit.depth_name, "--depth", r->depth_hash && !s->depth},
        {"its noise came from", r->params->noise_name, "--noise", r->noise_hash && !s->noise},
        {"it went on from the latents", r->params->latents_name, "--latents-in", r->latents_hash && !s->latents},
    };
    if (r->refiner && !s->refiner && s->p.sampling.refiner_at < 1)
        return cli_error(CLI_USAGE, "%s: the refiner %s went on with it: give that with --refiner, or draw without one "
                         "by --refiner-at 1", s->from, r->refiner);
    for (size_t i = 0; i < COUNT(files); i++)
        if (files[i].missing)
            return cli_error(CLI_USAGE, "%s: %s %s, which is neither here nor beside it: give it with %s", s->from,
                             files[i].what, files[i].name ? files[i].name : "a file without a name", files[i].option);
    return CLI_OK;
}

int settings_from_text(settings *s, const cli_command *line, int argc, char **argv, const cli_given *given)
{
    const char *from = s->from;
    char *text = NULL;
    struct from_text *r = calloc(1, sizeof *r);
    if (!r) return no_memory();
    sd_params_free(&s->p);
    settings_init(s);
    int code = read_recipe(from, &text, &r->recipe);
    if (code) free(r);
    else code = take_recipe(s, r, from, 1);
    if (!code) make_room(s, line, given);
    if (!code) code = cli_parse(line, argc, argv, s, NULL);   /* what it says counts more than the text */
    if (!code) make_room_for_device(s, line, given);
    if (!code) code = check_files(s);
    if (!code) notify(s, "", r->recipe->notices);
    sd_free(text);
    return code;
}

static void compare(const settings *s, const char *was, const char *is, const char *what)
{
    if (was && is && strcmp(was, is) != 0) notify(s, "warning: ", what);
}

int warn_of_differences(const settings *s)
{
    char *text, error[512];
    sd_recipe *now;
    if (!s->from_text) return CLI_OK;
    const sd_recipe *then = s->from_text->recipe;
    sd_status status = sd_parameters_text(context, &s->p, &text);
    if (status) return report(s, status);
    status = sd_recipe_read(text, &now, error);
    sd_free(text);
    if (status) return cli_error(exit_code(status), "%s", error);
    compare(s, then->model_hash, now->model_hash, "this is not the model that drew the picture: give that with -m");
    compare(s, then->taesd_hash ? then->taesd_hash : "", now->taesd_hash ? now->taesd_hash : "",
            then->taesd ? "the picture was decoded by a TAESD, and that one is not given: give it with --taesd"
            : "the picture was decoded by the model's VAE, without --taesd");
    compare(s, then->init_hash, now->init_hash, "the picture to begin from is another one");
    compare(s, then->mask_hash, now->mask_hash, "the mask is another one");
    compare(s, then->depth_hash, now->depth_hash, "the depth map is another one");
    compare(s, then->noise_hash, now->noise_hash, "the noise is another one");
    compare(s, then->refiner_hash, now->refiner_hash, "this is not the refiner that went on with the picture");
    compare(s, then->latents_hash, now->latents_hash, "the latents to go on from are others");
    compare(s, then->rng_hash, now->rng_hash, "the file of random numbers is another one");
    compare(s, then->sampler_rng_hash, now->sampler_rng_hash, "the samplers' file of random numbers is another one");
    if (strcmp(then->device ? then->device : "", now->device ? now->device : "") != 0)
        compare(s, then->device ? then->device : "the CPU", now->device ? now->device : "the CPU",
                "the picture was drawn by another device: its last bits may differ (--device chooses it)");
    else
        compare(s, then->kernels, now->kernels,
                "the picture was drawn with other vector instructions: its last bits may differ (SD_ISA chooses them)");
    if (!then->model_hash && then->model && now->model && strcmp(then->model, now->model) != 0) {
        char line[256];
        snprintf(line, sizeof line, "the model was %.200s", then->model);
        notify(s, "", line);
    }
    sd_recipe_free(now);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------------- sd show */

/* The value that an option of `s` has, as it would be typed; NULL if it is the default. */
static const char *value_of(const cli_option *o, const settings *s, const settings *plain, char number[32],
                            char **owned)
{
    const void *field = (const char *)s + o->target, *other = (const char *)plain + o->target;
    int a, b;
    double x, y;
    switch (o->kind) {
    case CLI_TEXT: return *(const char *const *)field;
    case CLI_SET: return sd_params_get(&s->p, o->name, owned, NULL) ? NULL : *owned;
    case CLI_SEED:
        snprintf(number, 32, "%llu", (unsigned long long)s->seed.value);
        return s->seed.given ? number : NULL;
    case CLI_NUMBER:
        memcpy(&x, field, sizeof x);
        memcpy(&y, other, sizeof y);
        snprintf(number, 32, "%.17g", x);
        for (int digits = 1; digits < 17; digits++) {
            char shorter[32];
            snprintf(shorter, sizeof shorter, "%.*g", digits, x);
            if (strtod(shorter, NULL) != x) continue;
            memcpy(number, shorter, sizeof shorter);
            break;
        }
        return x == y || (isnan(x) && isnan(y)) ? NULL : number;
    case CLI_INT: case CLI_COUNT: case CLI_BOOL: case CLI_FLAG:
        memcpy(&a, field, sizeof a);
        memcpy(&b, other, sizeof b);
        if (a == b) return NULL;
        if (o->kind == CLI_BOOL || o->kind == CLI_FLAG) return a ? "true" : "false";
        snprintf(number, 32, "%d", a);
        return number;
    default: return NULL;
    }
}

/* As the shell reads it back. */
static void print_word(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,@%+=-";
    if (*word && !word[strspn(word, plain)]) {
        printf(" %s", word);
        return;
    }
    fputs(" '", stdout);
    for (char one[2] = ""; *word; word++) {
        one[0] = *word;
        fputs(*word == '\'' ? "'\\''" : one, stdout);
    }
    putchar('\'');
}

static void print_options(const settings *s, int json)
{
    settings plain;
    const char *comma = "";
    settings_init(&plain);
    for (size_t i = 0; i < draw_command.n_options; i++) {
        const cli_option *o = &draw_command.option[i];
        char number[32], name[40], *owned = NULL;
        const char *value = o->kind == CLI_HEADING ? NULL : value_of(o, s, &plain, number, &owned);
        if (!value) continue;
        if (o->letter) snprintf(name, sizeof name, "-%c", o->letter);
        else snprintf(name, sizeof name, "--%s", o->name);
        if (json) printf("%s\"%s\"", comma, name);
        else printf(" %s", name);
        comma = ",";
        if (o->kind == CLI_FLAG) continue;
        if (json) putchar(',');
        if (json) cli_json_string(value);
        else print_word(value);
        sd_free(owned);
    }
}

static void show_json(const settings *s, const settings *taken, const char *text, const sd_recipe *r)
{
    const struct { const char *key, *value; } rows[] = {
        {"file", s->file}, {"text", text}, {"writer", r->writer}, {"model", r->model}, {"prompt", r->params->prompt},
        {"negative_prompt", r->params->negative_prompt}, {"notices", r->notices}};
    putchar('{');
    for (size_t i = 0; i < COUNT(rows); i++) {
        printf("\"%s\":", rows[i].key);
        if (rows[i].value) cli_json_string(rows[i].value);
        else printf("null");
        putchar(',');
    }
    printf("\"options\":[");
    print_options(taken, 1);
    printf("]}\n");
}

int show_text(settings *s, const char *argv0)
{
    settings taken;
    char *text = NULL;
    struct from_text *r = calloc(1, sizeof *r);
    (void)argv0;
    settings_init(&taken);
    if (!r) return no_memory();
    taken.from_text = r;
    int code = read_recipe(s->file, &text, &r->recipe);
    if (!code) code = take_recipe(&taken, r, s->file, 0);
    if (!code && s->json) {
        show_json(s, &taken, text, r->recipe);
    } else if (!code) {
        print_clean(stdout, text);
        fputs("\n\nsd", stdout);
        print_options(&taken, 0);
        putchar('\n');
        fflush(stdout);
        notify(s, "", r->recipe->notices);
    }
    sd_free(text);
    free_from_text(&taken);
    return code;
}
