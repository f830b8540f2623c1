/* app_options.c - floor 7: the options of drawing, and every option at its default. */
#include "app.h"

#include <string.h>

void settings_init(settings *s)
{
    memset(s, 0, sizeof *s);
    s->rtol = s->atol = -1;   /* not given */
    s->floor_starts = SD_DEFAULT;
    s->batch_count = 1;
    sd_params_init(&s->p);
}

/* Options of drawing. PARAM and PARAMS stand for rows of the library's table of parameters. */
static const cli_option drawing[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to draw"},
    PARAM("prompt"),
    PARAM("negative_prompt"),
    {CLI_TEXT, 0, "prompts", AT(prompts), 0, 0, "FILE",
     "draws each line of FILE: a prompt, and options of its own if\nit has any: a red apple --steps 30 --seed 5"},
    MODEL_OPTION,
    PART_OPTIONS,
    TAESD_OPTION,
    {CLI_FLAG, 0, "taesd-preview-only", AT(taesd_preview_only), 0, 0, NULL,
     "it decodes the pictures of --preview alone"},
    EMA_OPTION,
    REFINER_OPTION,
    PARAM("refiner_at"),
    {CLI_TEXT, 0, "from", AT(from), 0, 0, "FILE",
     "draws the picture FILE again, by the text that it keeps;\nfurther options change what they say; see sd show"},
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE",
     "FILE.png or FILE.ppm (default " DEFAULT_OUTPUT "); further\npictures become FILE_2.png, FILE_3.png, ..., or "
     "are counted\nas a_%03d.png says; DIR/: in a directory; -: standard output;\nFILE.safetensors, FILE.npy: the last "
     "latents, without a picture"},
    PARAM("width"),
    PARAM("height"),
    PARAM("seed"),
    PARAM("rng"),
    PARAM("sampler_rng"),
    PARAM("seed_per_image"),
    {CLI_FLAG, 0, "explain-seed", AT(explain_seed), 0, 0, NULL,
     "prints each draw of random numbers: what for, from which\ngenerator, how many"},
    {CLI_INT, 'b', "batch-count", AT(batch_count), 1, 10000, "N",
     "draws N pictures one after another, with seed, seed + 1, ..."},
    PARAMS(""),
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to draw it"},
    PARAM("steps"),
    PARAM("guidance_scale"),
    PARAMS("sampling"),
    PARAMS("guidance"),
    PARAM("clip_skip"),
    PARAM("noise_name"),
    PARAM("latents_name"),
    {CLI_TEXT, 0, "tokens-in", AT(tokens_in), 0, 0, "FILE",
     "ids in the prompts' place, [texts,77]: \"tokens\" of a trace or\nof sd text, or the only tensor; SDXL: and "
     "\"tokens_2\""},
    {CLI_TEXT, 0, "embeds-in", AT(embeds), 0, 0, "FILE",
     "what the text encoders are to have made, [texts,77,width]:\n\"prompt_embeds\", or the only tensor; SDXL: and\n"
     "\"pooled_prompt_embeds\""},
    {CLI_TEXT, 0, "timestep-in", AT(timestep), 0, 0, "FILE",
     "what the UNet is told at each evaluation: \"timesteps\", or the\n"
     "only tensor, or a trace's timestep.0, timestep.1, ...; the\nsampler goes by its own"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Beginning from a picture"},
    PARAMS("edit"),
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What SDXL is told of sizes"},
    PARAMS("sdxl"),
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to compute it"},
    DEVICE_OPTION,
    THREADS_OPTION,
    {CLI_FLAG, 0, "precise", AT(precise), 0, 0, NULL, "every sum in double, no BLAS: three to four times as slow"},
    GEMM_OPTION,
    RESIDENCY_OPTION,
    MEMORY_OPTION,
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to tell"},
    {CLI_TEXT, 0, "trace", AT(trace), 0, 0, "FILE",
     "writes every intermediate tensor, by its name in diffusers,\nto FILE.safetensors; or to DIR/, a .npy file for "
     "each"},
    {CLI_TEXT, 0, "trace-filter", AT(trace_filter), 0, 0, "GLOBS",
     "writes only these: \"latents.*,step.0.unet.mid_block*\"; see\nsd trace --list"},
    {CLI_TEXT, 0, "trace-stats", AT(trace_stats), 0, 0, "FILE",
     "writes what each tensor is like: mean, deviation, extremes,\nnorm, NaN; FILE.json, FILE.csv, or a text"},
    {CLI_TEXT, 0, "trace-hash", AT(trace_hash), 0, 0, "FILE",
     "writes the SHA-256 of each tensor, as sha256sum does"},
    {CLI_TEXT, 0, "inject", AT(inject), 0, 0, "REF",
     "goes on with the tensors of another program's trace, so that\neach module is judged alone, on REF's inputs"},
    {CLI_TEXT, 0, "inject-filter", AT(inject_filter), 0, 0, "GLOBS",
     "only with these: \"text_encoder.*,step.*.unet.*\""},
    {CLI_TEXT, 0, "inject-names", AT(names), 0, 0, "FILE",
     "names of REF and what they are here, a pair in each line"},
    {CLI_TEXT, 0, "floor", AT(floor), 0, 0, "FILE",
     "first measures what float32 itself does to each tensor of this\n"
     "run, in ten runs more, for sd compare --floor FILE"},
    {CLI_INT, 0, "floor-starts", AT(floor_starts), 0, 64, "N",
     "from N starts one rounding apart (default 8), in N + 2 runs"},
    {CLI_TEXT, 0, "stop-after", AT(stop_after), 0, 0, "NAME",
     "ends the run once that tensor was traced, without a picture:\nstep.0.unet.mid_block.attentions.0"},
    {CLI_WORD, 0, "timings", AT(timings), 0, 0, "json",
     "prints seconds per stage and peak memory, as text or as\nJSON in the last line of the output"},
    {CLI_WORD, 0, "profile", AT(profile), 0, 0, "json",
     "prints for each block and operation its seconds, GFLOP/s,\nbytes and share of what the machine can do"},
    {CLI_TEXT, 0, "save-steps", AT(save_steps), 0, 0, "DIR",
     "writes the picture as each step predicts it:\nDIR/step_000" PICTURE_ENDING ", ..."},
    {CLI_WORD, 0, "preview", AT(preview), 0, 0, PREVIEW_WORDS,
     "shows that picture in the terminal, by kitty's or iTerm2's\n"
     "protocol, else in coloured blocks; vae: decoded (default up\nto 256x256); taesd: by the TAESD "
     "(default where there is\none); proj: a pixel per latent; none"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "prints only the seed, and errors"},
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "prints what was decided, and where errors were raised"},
    {CLI_FLAG, 0, "version", AT(version), 0, 0, NULL,
     "the version and how it was built; with -v the machine and\nits devices too"},
    HELP_OPTION,
};

/* ------------------------------------------------------------------- rows of the library's table */

/* Parameters that stand in a field of the settings of their own until a picture is drawn. */
static const struct { const char *key; cli_kind kind; size_t target; } own_fields[] = {
    {"seed", CLI_SEED, AT(seed)}, {"init_name", CLI_TEXT, AT(init)}, {"mask_name", CLI_TEXT, AT(mask)},
    {"noise_name", CLI_TEXT, AT(noise)}, {"depth_name", CLI_TEXT, AT(depth)}, {"latents_name", CLI_TEXT, AT(latents)},
};

/* Counts whose default can also be asked for by a number, from `least` to 0. stable-diffusion.cpp says --clip-skip
 * -1. */
static const struct { const char *key; double least; } counts[] = {{"clip_skip", -1}, {"order", 0}};

static cli_option option_for(const sd_param_info *r)
{
    static const cli_kind kinds[] = {
        [SD_PARAM_TEXT] = CLI_TEXT, [SD_PARAM_FILE] = CLI_TEXT, [SD_PARAM_INT] = CLI_INT, [SD_PARAM_BOOL] = CLI_BOOL,
        [SD_PARAM_NUMBER] = CLI_NUMBER, [SD_PARAM_SEED] = CLI_SEED, [SD_PARAM_LIST] = CLI_SET,
        [SD_PARAM_MARGINS] = CLI_SET, [SD_PARAM_PAIR] = CLI_SET};
    cli_option o = {kinds[r->type], r->letter, r->option, AT(p) + r->offset, r->least, r->most, r->value, r->help};
    if (r->type == SD_PARAM_BOOL && !r->value) o.kind = CLI_FLAG;
    if (o.kind == CLI_SET) o.target = AT(p);
    for (size_t i = 0; i < COUNT(counts); i++)
        if (strcmp(r->key, counts[i].key) == 0) {
            o.kind = CLI_COUNT;
            o.least = counts[i].least;
        }
    for (size_t i = 0; i < COUNT(own_fields); i++)
        if (strcmp(r->key, own_fields[i].key) == 0) {
            o.kind = own_fields[i].kind;
            o.target = own_fields[i].target;
        }
    return o;
}

static int is_listed(const cli_option *rows, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].kind == CLI_PARAM && strcmp(rows[i].name, key) == 0) return 1;
    return 0;
}

size_t expand_options(cli_option *out, const cli_option *rows, size_t n)
{
    sd_param_info r;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        int one = rows[i].kind == CLI_PARAM, group = rows[i].kind == CLI_PARAMS;
        if (!one && !group) out[count++] = rows[i];
        for (int k = 0; (one || group) && sd_get_param(k, &r); k++)
            if (one ? strcmp(rows[i].name, r.key) == 0
                    : strcmp(rows[i].name, r.group) == 0 && !is_listed(rows, n, r.key))
                out[count++] = option_for(&r);
    }
    return count;
}

static cli_option draw_options[MOST_OPTIONS];

void fill_options(void)
{
    draw_command.n_options = expand_options(draw_options, drawing, COUNT(drawing));
}

cli_command draw_command = {
    NULL,
    "sd - Stable Diffusion in C\n\n"
    "usage: sd -p TEXT [options]          draws a picture\n"
    "       sd -p TEXT -i FILE [options]  changes, repaints or extends one\n"
    "       sd --from FILE [options]      draws a picture again from its text\n"
    "       sd show FILE                  what a picture's text says\n"
    "       sd encode FILE... [options]   pictures to latents\n"
    "       sd decode FILE... [options]   latents to pictures\n"
    "       sd roundtrip FILE...          what is lost on the way there and back\n"
    "       sd text TEXT... [options]     texts to embeddings\n"
    "       sd unet [options]             one evaluation of the UNet, from files\n"
    "       sd step [options]             one step of a sampler, from files\n"
    "       sd convert IN OUT [options]   a model in other files and types\n"
    "       sd inspect FILE... [options]  what a model's files are, and what is in them\n"
    "       sd compare REF MINE...        where a trace diverges from another\n"
    "       sd selftest                   does this build compute here what it should\n"
    "       sd diagnose THEIRS [options]  which known mistake a foreign trace shows\n"
    "       sd wrong                      the mistakes that are known\n"
    "       sd extract [options]          one module of a run in a file of its own\n"
    "       sd replay CASE...             computes such a file again\n"
    "       sd devices [options]          what can compute: the CPU, GPUs\n"
    "       sd tokenize TEXT [options]    the tokens of a text\n"
    "       sd plan [options]             the networks of a model, unrolled\n"
    "       sd samplers                   samplers and schedules, with their papers\n"
    "       sd profiles [PROGRAM]         what other programs do otherwise: --like\n"
    "       sd schedule [options]         the timesteps and noise levels of a run\n"
    "       sd trace [options]            a run's tensors: names, statistics, hashes\n"
    "       sd help encode, sd help tokenize and so on for each\n",
    draw_options, 0, NULL, 0, 0, NULL};
