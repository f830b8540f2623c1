/* main.c - floor 7: the program sd. It sees the library through sd.h alone.
 *
 * stdout has what was asked for (seeds, names of pictures, ids, plans, timings), stderr everything else: one line per
 * error, notices, and on a terminal a progress bar. */
#include "app.h"
#include "os.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option draw_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to draw"},
    {CLI_TEXT, 'p', "prompt", AT(p.prompt), 0, 0, "TEXT",
     "what the picture shows; @FILE: the text of a file, -: of\nthe standard input (-n takes them too)"},
    {CLI_TEXT, 'n', "negative-prompt", AT(p.negative_prompt), 0, 0, "TEXT", "what it does not show"},
    {CLI_TEXT, 0, "prompts", AT(prompts), 0, 0, "FILE",
     "a prompt in each line, with options behind it if it has\nits own: a red apple --steps 30 --seed 5"},
    MODEL_OPTION,
    {CLI_TEXT, 0, "from", AT(from), 0, 0, "FILE",
     "draws the picture FILE again: what is not given comes from\nits text; see sd show"},
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE",
     "FILE.png or FILE.ppm (default " DEFAULT_OUTPUT "); more pictures\nbecome FILE_2.png, FILE_3.png, ..., or as "
         "a_%03d.png says;\nDIR/: into a directory; -: standard output"},
    {CLI_INT, 'W', "width", AT(p.width), 1, 65536, "N", "pixels, a multiple of 8 (default: the model's own)"},
    {CLI_INT, 'H', "height", AT(p.height), 1, 65536, "N", "the same for the height"},
    {CLI_SEED, 's', "seed", AT(seed), 0, 0, "N", "of torch's CPU generator (default, and -1: random, printed)"},
    {CLI_TEXT, 0, "rng", AT(p.rng), 0, 0, "NAME",
     "whose seed it is: torch-cpu (default), torch-cuda, numpy,\nnumpy-pcg64, torch-cuda:sms=40,threads=1024, ...; "
         "or\nFILE.safetensors, whose numbers are given out in order"},
    {CLI_TEXT, 0, "sampler-rng", AT(p.sampler_rng), 0, 0, "NAME",
     "another generator for the samplers' noise; also brownian"},
    {CLI_FLAG, 0, "seed-per-image", AT(p.seed_per_image), 0, 0, NULL,
     "with --batch-size: picture i has its own generator, seed + i"},
    {CLI_FLAG, 0, "explain-seed", AT(explain_seed), 0, 0, NULL,
     "prints each draw: who, from which generator, how many"},
    {CLI_INT, 'b', "batch-count", AT(batch_count), 1, 10000, "N",
     "so many pictures one after another; their seeds count up\nfrom --seed"},
    {CLI_INT, 0, "batch-size", AT(p.batch), 1, 512, "N",
     "pictures drawn together from one seed, as diffusers'\nnum_images_per_prompt"},
    {CLI_INT, 0, "keep", AT(p.keep), 1, 512, "N", "of a --batch-size only picture N"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to draw it"},
    {CLI_INT, 0, "steps", AT(p.sampling.steps), 1, 1000, "N",
     "steps of the sampler (default 25); some evaluate the\nnetwork more often, pndm once more: see sd schedule"},
    {CLI_NUMBER, 0, "cfg-scale", AT(p.guidance.scale), -1000, 1000, "X",
     "guidance (default: the model's, else 7.5);\n1 and less: none, in half the time"},
    SAMPLER_OPTIONS,
    {CLI_TEXT, 0, "prediction", AT(p.sampling.prediction), 0, 0, "NAME",
     "what the UNet predicts: epsilon, v_prediction, sample"},
    {CLI_BOOL, 0, "clip-sample", AT(p.sampling.clip_sample), 0, 0, "BOOL",
     "ddim: clip the predicted latents (true, false)"},
    {CLI_NUMBER, 0, "eta", AT(p.sampling.eta), 0, 1, "X",
     "share of fresh noise in each step (default: ddim 0, euler_a 1)"},
    {CLI_NUMBER, 0, "s-churn", AT(p.sampling.s_churn), 0, 1000, "X",
     "euler, heun, dpm2: noise that is put back on in a run"},
    {CLI_NUMBER, 0, "s-tmin", AT(p.sampling.s_tmin), 0, 1e6, "X", "... at sigmas from here"},
    {CLI_NUMBER, 0, "s-tmax", AT(p.sampling.s_tmax), 0, 1e6, "X", "... up to here (default: all)"},
    {CLI_NUMBER, 0, "s-noise", AT(p.sampling.s_noise), 0, 10, "X",
     "deviation of that noise and of the ancestral samplers'\n(default 1)"},
    {CLI_NUMBER, 0, "guidance-rescale", AT(p.guidance.rescale), 0, 1, "X",
     "share by which a guided prediction is brought\nback to its deviation before guidance (default 0)"},
    {CLI_INT, 0, "clip-skip", AT(p.clip_skip), -1, 1000, "N",
     "1: the text encoder's last layer (default, also 0 and -1),\n2: the one before it, ..."},
    {CLI_TEXT, 0, "noise", AT(noise), 0, 0, "FILE",
     "initial noise from a safetensors file: its tensor \"noise\"\nor its only one, [batch,channels,height/8,width/8]"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Beginning from a picture"},
    {CLI_TEXT, 'i', "init-img", AT(init), 0, 0, "FILE",
     "PNG, JPEG or PNM; without -W and -H its own size, to the\nnearest multiple of 8"},
    {CLI_NUMBER, 0, "strength", AT(p.edit.strength), 0, 1, "X",
     "how much of it is changed: share of the steps that are\ntaken (default 0.8; where something is masked, 1)"},
    {CLI_TEXT, 0, "mask", AT(mask), 0, 0, "FILE",
     "white is repainted, black is kept (default: the picture's\nalpha if half of it is seen through anywhere)"},
    {CLI_FLAG, 0, "alpha-mask", AT(p.edit.alpha_mask), 0, 0, NULL,
     "the picture's alpha is the mask, whatever it holds"},
    {CLI_FLAG, 0, "invert-mask", AT(p.edit.invert_mask), 0, 0, NULL, "the other way round"},
    {CLI_NUMBER, 0, "mask-blur", AT(p.edit.mask_blur), 0, 1000, "X", "softens the mask's edge by so many pixels"},
    {CLI_BOOL, 0, "paste-back", AT(p.edit.paste_back), 0, 0, "BOOL",
     "pixels that are kept come back byte for byte (default)"},
    {CLI_INT, 0, "inpaint-crop", AT(p.edit.inpaint_crop), 0, 16384, "N",
     "works on the mask and N pixels around it alone, at the\nmodel's size, and pastes the result back"},
    {CLI_TEXT, 0, "outpaint", AT(outpaint), 0, 0, "L,T,R,B", "adds pixels left, top, right and bottom and paints them"},
    {CLI_TEXT, 0, "resize", AT(p.edit.resize), 0, 0, "HOW", "to -W and -H: stretch (default), crop, pad"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to compute it"},
    THREADS_OPTION,
    {CLI_FLAG, 0, "precise", AT(precise), 0, 0, NULL, "every sum in double, no BLAS: three to four times as slow"},
    GEMM_OPTION,
    RESIDENCY_OPTION,
    MEMORY_OPTION,
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to tell"},
    {CLI_TEXT, 0, "trace", AT(trace), 0, 0, "FILE",
     "every intermediate tensor, by its diffusers name, to\nFILE.safetensors"},
    {CLI_TEXT, 0, "trace-filter", AT(trace_filter), 0, 0, "GLOBS",
     "only those: \"latents.*,step.0.unet.mid_block*\"; see\nsd trace --list"},
    {CLI_WORD, 0, "timings", AT(timings), 0, 0, "json",
     "seconds per stage and peak memory, as text or as JSON in\nthe last line of the output"},
    {CLI_WORD, 0, "profile", AT(profile), 0, 0, "json",
     "seconds, GFLOP/s, bytes and share of what the machine can\ndo, of each block and operation; as text or as JSON"},
    {CLI_TEXT, 0, "save-steps", AT(save_steps), 0, 0, "DIR",
     "the picture as each step predicts it: DIR/step_000" PICTURE_ENDING ", ..."},
    {CLI_WORD, 0, "preview", AT(preview), 0, 0, PREVIEW_WORDS,
     "shows it in the terminal: kitty's and iTerm2's protocols,\nelse coloured blocks; proj: a pixel per latent, "
         "vae:\ndecoded (default: up to 256x256), none"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "only the seed, and errors"},
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "everything that was decided, and where errors were raised"},
    {CLI_FLAG, 0, "version", AT(version), 0, 0, NULL, "the version and how it was built; with -v the machine too"},
    HELP_OPTION,
};
const cli_command draw_command = {
    NULL,
    "sd - Stable Diffusion in C\n\n"
    "usage: sd -p TEXT [options]          draws a picture\n"
    "       sd -p TEXT -i FILE [options]  changes, repaints or extends one\n"
    "       sd --from FILE [options]      draws a picture again from its text\n"
    "       sd show FILE                  what a picture's text says\n"
    "       sd encode FILE... [options]   pictures to latents\n"
    "       sd decode FILE... [options]   latents to pictures\n"
    "       sd roundtrip FILE...          what is lost on the way there and back\n"
    "       sd tokenize TEXT [options]    the tokens of a text\n"
    "       sd plan [options]             the networks of a model, unrolled\n"
    "       sd samplers                   samplers and schedules, with their papers\n"
    "       sd schedule [options]         the timesteps and noise levels of a run\n"
    "       sd trace --list [options]     the tensors that --trace would write\n"
    "       sd help encode, sd help tokenize and so on for each\n",
    draw_options, COUNT(draw_options), NULL, 0, 0, NULL};

/* ------------------------------------------------------------------------------------- context */

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
    static const char *const gemm[] = {[SD_GEMM_DEFAULT] = "default", [SD_GEMM_OWN] = "own",
                                       [SD_GEMM_OPENBLAS] = "openblas"};
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
    o.threads = s->threads > 0 ? s->threads : 0;
    o.precise = s->precise;
    o.memory = (uint64_t)(1e9 * s->max_memory);
    if (read_words(s, &o)) return CLI_USAGE;
    o.log = show_line;
    o.user = v;
    sd_status status = sd_open(&context, &o);
    return status ? report(s, status) : stopped();
}

/* ------------------------------------------------------------------------------ before any work */

int read_lists(settings *s)
{
    int code = cli_numbers("sigmas", s->sigmas, s->sigma_list, MOST_LEVELS, &s->p.sampling.sigma_count);
    if (!code)
        code = cli_numbers("timesteps", s->timesteps, s->timestep_list, MOST_LEVELS, &s->p.sampling.timestep_count);
    if (!code && s->sigmas && s->p.sampling.sigma_count < 2)
        code = cli_error(CLI_USAGE, "--sigmas needs two numbers or more: a step has two ends");
    if (s->sigmas) s->p.sampling.sigmas = s->sigma_list;
    if (s->timesteps) s->p.sampling.timesteps = s->timestep_list;
    return code;
}

int check_finite(const char *file, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return cli_error(CLI_USAGE, "%s: number %zu of %zu is %g, which no latent can be", file, i + 1, n,
                             (double)x[i]);
    return CLI_OK;
}

int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    for (size_t i = 0; n > m && i < m; i++)
        if (tolower((unsigned char)s[n - m + i]) != end[i]) return 0;
    return n > m;
}

int is_stream(const char *path)
{
    return sd_os_descriptor(path) >= 0 || sd_os_look(path, NULL) == SD_OS_STREAM;
}

int is_picture_name(const char *path)
{
    if (is_stream(path)) return 1;
#ifdef SD_WITH_PNG
    if (ends_with(path, ".png")) return 1;
#endif
    return ends_with(path, ".ppm");
}

int check_writable(const char *what, const char *path)
{
    char dir[PATH_SIZE];
    if (snprintf(dir, sizeof dir, "%s", path) >= PATH_SIZE)
        return cli_error(CLI_USAGE, "the %s path is longer than %d bytes", what, PATH_SIZE - 1);
    if (sd_os_look(path, NULL) == SD_OS_DIRECTORY)
        return cli_error(CLI_USAGE, "cannot write the %s %s: it is a directory", what, path);
    if (is_stream(path)) return CLI_OK;
    char *slash = strrchr(dir, '/');
    if (!slash) snprintf(dir, sizeof dir, ".");
    else slash[slash == dir] = 0;
    sd_os_kind kind = sd_os_look(dir, NULL);
    if (kind == SD_OS_FILE || kind == SD_OS_STREAM)
        return cli_error(CLI_USAGE, "cannot write the %s %s: %s is not a directory", what, path, dir);
    if (kind != SD_OS_DIRECTORY || !sd_os_may_write_in(dir))
        return cli_error(errno_code(errno), "cannot write the %s %s: %s", what, path, strerror(errno));
    return CLI_OK;
}

int check_directory(const char *what, const char *path)
{
    if (!sd_os_make_directory(path))
        return cli_error(errno_code(errno), "cannot make the directory %s for the %s: %s", path, what, strerror(errno));
    if (sd_os_look(path, NULL) == SD_OS_FILE || is_stream(path))
        return cli_error(CLI_USAGE, "cannot write the %s into %s: it is not a directory", what, path);
    if (!sd_os_may_write_in(path))
        return cli_error(errno_code(errno), "cannot write the %s into %s: %s", what, path, strerror(errno));
    return CLI_OK;
}

/* A name without any ending, as of a pipe, may stand for everything. */
static int has_other_ending(const char *path, const char *ending)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strchr(name, '.') && !ends_with(path, ending);
}

/* several: more runs of the pipeline than one */
static int check_draw(const settings *s, int several)
{
    if (!s->p.prompt)
        return cli_error(CLI_USAGE, "there is nothing to draw: give a prompt with -p \"TEXT\"; see sd --help");
    if (!is_picture_name(s->output))
        return cli_error(CLI_USAGE, "the output's name must end in " ENDINGS ", not \"%s\"", s->output);
    if (s->trace_filter && !s->trace) return cli_error(CLI_USAGE, "--trace-filter needs --trace FILE");
    const char *single = s->trace ? "trace" : s->noise ? "noise" : s->save_steps ? "save-steps" : NULL;
    if (is_stream(s->output) && (several || s->batch_count > 1 || s->p.batch > 1))
        return cli_error(CLI_USAGE,
                         "the standard output, a pipe or a device takes one picture: several need names of files");
    if (several && single) return cli_error(CLI_USAGE, "--%s is for one run, --prompts asks for several", single);
    if (s->batch_count > 1 && single)
        return cli_error(CLI_USAGE, "--%s is for one run, --batch-count asks for %d; --batch-size draws several in one",
                         single, s->batch_count);
    int code = check_writable("output", s->output);
    if (!code && s->save_steps) code = check_directory("steps", s->save_steps);
    if (code || !s->trace) return code;
    if (strcmp(s->trace, "-") == 0)
        return cli_error(CLI_USAGE, "a trace goes to a file, not to the standard output: --trace FILE.safetensors");
    if (has_other_ending(s->trace, ".safetensors"))
        return cli_error(CLI_USAGE, "a trace is a safetensors file: its name must end in .safetensors, not \"%s\"",
                         s->trace);
    return check_writable("trace", s->trace);
}

/* p->noise from the file; its shape must be [batch,C,height/scale,width/scale], not only its count. r: p, resolved. */
static int read_noise(const settings *s, sd_params *p, const sd_params *r, float **noise)
{
    sd_model_info info = {0};
    int nd;
    int64_t d[4];
    sd_status status = sd_tensor_read(context, s->noise, "noise", noise, &nd, d);
    if (!status) status = sd_get_info(context, &info);
    if (status) return report(s, status);
    const int64_t want[] = {r->batch, info.latent_channels, r->height / info.scale, r->width / info.scale};
    if (nd != 4 || memcmp(d, want, sizeof want) != 0)
        return cli_error(CLI_USAGE,
                         "%s: the noise must be [%lld,%lld,%lld,%lld], found %d dimensions: [%lld,%lld,%lld,%lld]",
                         s->noise, (long long)want[0], (long long)want[1], (long long)want[2], (long long)want[3], nd,
                         (long long)d[0], (long long)d[1], (long long)d[2], (long long)d[3]);
    p->noise = *noise;
    p->noise_count = (size_t)(d[0] * d[1] * d[2] * d[3]);
    return check_finite(s->noise, *noise, p->noise_count);
}

/* ---- pictures to begin from */

static int parse_outpaint(const char *text, int margins[4])
{
    int used = 0;
    int got = sscanf(text, "%5d,%5d,%5d,%5d%n", &margins[0], &margins[1], &margins[2], &margins[3], &used);
    if (got == 4 && !text[used]) return CLI_OK;
    return cli_error(CLI_USAGE, "--outpaint takes four numbers of pixels, left,top,right,bottom, not \"%s\"", text);
}

static int read_pictures(settings *s, inputs *in)
{
    if (s->outpaint && parse_outpaint(s->outpaint, s->p.edit.outpaint)) return CLI_USAGE;
    sd_status status = s->init ? sd_image_read(context, s->init, &in->init) : SD_OK;
    if (!status && s->mask && !interrupts) status = sd_image_read(context, s->mask, &in->mask);
    if (status || interrupts) return status ? report(s, status) : stopped();
    if (s->init) s->p.edit.init = &in->init;
    if (s->mask) s->p.edit.mask = &in->mask;
    s->p.edit.init_name = s->init;
    s->p.edit.mask_name = s->mask;
    s->p.noise_name = s->noise;
    return CLI_OK;
}

/* ------------------------------------------------------------------------------------- drawing */

/* Stages of all pictures together. */
typedef struct times {
    double load, text, vae_decode, *step;
    int n;
} times;

static int add_times(times *t)
{
    sd_timings now;
    sd_get_timings(context, &now);
    double *more = realloc(t->step, (size_t)(t->n + now.n_steps + 1) * sizeof *more);
    if (!more) return cli_error(CLI_FAILURE, "out of memory");
    t->step = more;
    for (int i = 0; i < now.n_steps; i++) t->step[t->n++] = now.steps[i];
    t->load = now.load;
    t->text += now.text;
    t->vae_decode += now.vae_decode;
    return CLI_OK;
}

static double peak_rss_mb(void)
{
    return (double)sd_memory_peak() / (1024 * 1024);
}

static void print_times(const settings *s, const times *t)
{
    double sum = 0;
    sd_model_info how;
    if (!s->timings || sd_get_info(context, &how)) return;
    for (int i = 0; i < t->n; i++) sum += t->step[i];
    if (s->timings == 2) {
        printf("{\"load\":%.6f,\"text\":%.6f,\"steps\":[", t->load, t->text);
        for (int i = 0; i < t->n; i++) printf("%s%.6f", i ? "," : "", t->step[i]);
        printf("],\"vae_decode\":%.6f,\"peak_rss_mb\":%.1f,", t->vae_decode, peak_rss_mb());
        printf("\"kernels\":\"%s\",\"gemm\":\"%s\",\"threads\":%d}\n", how.kernels, how.gemm, how.threads);
    } else {
        printf("load        %9.3f s\ntext        %9.3f s\n", t->load, t->text);
        printf("steps       %9.3f s = %d evaluations x %.3f s\n", sum, t->n, t->n ? sum / t->n : 0);
        printf("vae decode  %9.3f s\npeak memory %9.1f MB\n", t->vae_decode, peak_rss_mb());
        printf("kernels %s, products %s, %d threads\n", how.kernels, how.gemm, how.threads);
    }
}

/* "%d", "%3d" or "%03d": its length, and how it is to be filled; 0 if there is none. */
static size_t number_sign(const char *s, int *zeros, int *width)
{
    const char *c = s;
    if (*c != '%') return 0;
    *zeros = *++c == '0';
    for (*width = 0; *c >= '0' && *c <= '9' && *width < 100; c++) *width = 10 * *width + (*c - '0');
    return *c == 'd' && *width < 100 ? (size_t)(c + 1 - s) : 0;
}

static const char *find_number(const char *s, size_t *n, int *zeros, int *width)
{
    for (; *s; s++)
        if ((*n = number_sign(s, zeros, width)) > 0) return s;
    return NULL;
}

int picture_path(char path[PATH_SIZE], const char *output, int index)
{
    size_t sign = 0;
    int zeros = 0, width = 0, n;
    const char *dot = strrchr(output, '.');   /* a stream need not have one */
    const char *at = find_number(output, &sign, &zeros, &width);
    size_t stem = at ? (size_t)(at - output) : dot ? (size_t)(dot - output) : strlen(output);
    if (at && zeros) n = snprintf(path, PATH_SIZE, "%.*s%0*d%s", (int)stem, output, width, index, at + sign);
    else if (at) n = snprintf(path, PATH_SIZE, "%.*s%*d%s", (int)stem, output, width, index, at + sign);
    else if (index == 1) n = snprintf(path, PATH_SIZE, "%s", output);
    else n = snprintf(path, PATH_SIZE, "%.*s_%d%s", (int)stem, output, index, output + stem);
    return n < PATH_SIZE ? CLI_OK : cli_error(CLI_USAGE, "the output path is longer than %d bytes", PATH_SIZE - 1);
}

/* "DIR/", or a directory that is there: the usual name in it. */
static int output_in_directory(settings *s, char path[PATH_SIZE])
{
    size_t n = s->output ? strlen(s->output) : 0;
    if (!n || !(s->output[n - 1] == '/' || sd_os_look(s->output, NULL) == SD_OS_DIRECTORY)) return CLI_OK;
    int code = check_directory("pictures", s->output);
    const char *slash = s->output[n - 1] == '/' ? "" : "/";
    if (!code && snprintf(path, PATH_SIZE, "%s%s%s", s->output, slash, DEFAULT_OUTPUT) >= PATH_SIZE)
        code = cli_error(CLI_USAGE, "the output path is longer than %d bytes", PATH_SIZE - 1);
    s->output = path;
    return code;
}

static int write_pictures(const settings *s, const sd_params *p, const sd_image *images, int first)
{
    char path[PATH_SIZE], *text;
    sd_params one = *p;
    int code = CLI_OK, n = p->keep ? 1 : p->batch;
    for (int i = 0; i < n && !code; i++) {
        if (!p->keep && p->batch > 1) one.keep = i + 1;
        sd_status status = sd_parameters_text(context, &one, &text);
        if (status) return report(s, status);
        code = picture_path(path, s->output, first + i);
        if (!code && (status = sd_image_write(context, path, &images[i], text)) != SD_OK) code = report(s, status);
        if (!code && !s->quiet) printf("%s: %dx%d\n", path, images[i].width, images[i].height);
        if (!code && s->verbose) fprintf(stderr, "%s\n", text);
        sd_free(text);
    }
    return code;
}

/* One evaluation of the pipeline: batch-size pictures of one seed. */
static int draw(const settings *s, const sd_params *p, view *v, int first)
{
    sd_image *images = calloc((size_t)p->batch, sizeof *images);
    if (!images) return cli_error(CLI_FAILURE, "out of memory");
    sd_status status = s->trace ? sd_trace_open(context, s->trace, s->trace_filter) : SD_OK;
    if (!status) {
        printf("seed: %llu\n", (unsigned long long)p->seed);
        fflush(stdout);
        status = sd_generate(context, p, images);
        clear_bar(v);
    }
    int code = status ? report(s, status) : stopped();
    if (!code) {   /* the picture is there: it is written whatever becomes of its trace */
        if (s->trace && (status = sd_trace_close(context)) != SD_OK) code = report(s, status);
        int written = write_pictures(s, p, images, first);
        code = code ? code : written;
    }
    for (int i = 0; i < p->batch; i++) sd_image_free(&images[i]);
    free(images);
    return code;
}

/* ---- pictures of the steps */

static void save_step(const settings *s, const sd_denoised *step)
{
    char path[PATH_SIZE];
    sd_image image;
    for (int b = 0; b < step->batch; b++) {
        char number[16] = "";
        if (b) snprintf(number, sizeof number, "_%d", b + 1);
        int n = snprintf(path, sizeof path, "%s/step_%03d%s%s", s->save_steps, step->index, number, PICTURE_ENDING);
        if (n >= PATH_SIZE) return;
        if (sd_step_picture(context, step, b, 0, &image)) return;   /* the run ends with this error */
        sd_image_write(context, path, &image, NULL);
        sd_image_free(&image);
    }
}

/* The first picture of the batch, decoded if that is soon done. */
static void show_step(void *user, const sd_denoised *step)
{
    enum { SMALL = 32 * 32 };
    view *v = user;
    sd_image image;
    if (v->s->save_steps) save_step(v->s, step);
    int how = v->s->preview, quick = how == PREVIEW_PROJ || (how != PREVIEW_VAE && step->height * step->width > SMALL);
    if (!v->preview || sd_step_picture(context, step, 0, quick, &image)) return;
    clear_bar(v);
    preview_show(v->kind, &image, &v->rows);
    sd_image_free(&image);
}

static void show_draw(void *user, const sd_drawn *d)
{
    clear_bar(user);
    printf("draw: %s: %zu numbers of %s, seed %llu", d->who, d->count, d->stream, (unsigned long long)d->seed);
    if (d->image >= 0) printf(", picture %d", d->image + 1);
    if (d->between_levels) printf(", from sigma %.6g to %.6g\n", d->from, d->to);
    else printf(", after %llu\n", (unsigned long long)d->position);
}

int prepare(settings *s, inputs *in, view *v)
{
    sd_params resolved;
    int code = read_lists(s);
    if (!code) code = read_pictures(s, in);
    if (code) return code;
    sd_status status = sd_resolve_params(context, &s->p, &resolved);
    if (status || interrupts) return status ? report(s, status) : stopped();
    v->steps = resolved.edit.init ? (int)(resolved.sampling.steps * resolved.edit.strength) : resolved.sampling.steps;
    sd_set_progress(context, show_progress, v);
    if (s->explain_seed) sd_set_drawn(context, show_draw, v);
    if (s->save_steps || v->preview) sd_set_step(context, show_step, v);
    if (s->noise) code = read_noise(s, &s->p, &resolved, &in->noise);
    if (!code && s->trace && (status = sd_trace_list(context, &s->p, s->trace_filter, NULL, NULL)) != SD_OK)
        code = report(s, status);
    return code;
}

void inputs_free(inputs *in)
{
    sd_free(in->noise);
    sd_image_free(&in->init);
    sd_image_free(&in->mask);
}

/* Settings of one prompt: batch-count runs. *next counts pictures of all prompts, for their names. */
static int draw_prompt(settings *s, view *v, times *t, int *next)
{
    inputs in = {0};
    int code = prepare(s, &in, v);
    s->p.seed = s->seed.given ? s->seed.value : random_seed();
    if (!code) code = tell_differences(s);
    for (int i = 0; i < s->batch_count && !code; i++) {
        sd_params p = s->p;
        p.seed += (uint64_t)i;
        v->picture++;
        v->rows = 0;
        code = stopped();
        if (!code) code = draw(s, &p, v, *next);
        if (!code) code = add_times(t);
        *next += p.keep ? 1 : p.batch;
    }
    inputs_free(&in);
    return code;
}

/* Everything that can be wrong with a line shows before the first picture: all are checked, then all are drawn. */
static int draw_lines(const prompt_lines *l, const settings *common, view *v, times *t)
{
    int code = CLI_OK, next = 1;
    for (int pass = 0; pass < 2 && !code; pass++)
        for (int i = 0; i < l->n && !code; i++) {
            settings s;
            char *text = NULL, path[PATH_SIZE];
            int one = 1;
            inputs in = {0};
            code = prompt_line_settings(l, i, common, &s, &text);
            v->s = &s;
            if (!code && s.output != common->output) code = output_in_directory(&s, path);
            if (s.p.clip_skip < 0) s.p.clip_skip = 0;
            if (!code && pass == 0) {
                code = check_draw(&s, l->n > 1);
                if (!code) code = prepare(&s, &in, v);
                v->pictures += s.batch_count;
                inputs_free(&in);
            } else if (!code) {
                cli_where(NULL, 0);   /* what goes wrong now is no fault of the line */
                code = draw_prompt(&s, v, t, s.output == common->output ? &next : &one);
            }
            cli_where(NULL, 0);
            free(text);
            v->s = common;
        }
    return code;
}

static int run_draw(settings *s, const char *argv0)
{
    view v = {.s = s, .bar = !s->quiet && bar_wanted()};
    times t = {0};
    prompt_lines lines = {0};
    profile *measured = NULL;
    char *owned[2] = {NULL, NULL}, path[PATH_SIZE];
    int first = 1;
    if (!s->output) s->output = DEFAULT_OUTPUT;
    v.preview = s->preview && s->preview != PREVIEW_NONE && v.bar && preview_detect(&v.kind);
    if (s->p.clip_skip < 0) s->p.clip_skip = 0;
    int code = output_in_directory(s, path);
    if (!code) code = read_prompts(s, owned);
    if (!code && s->prompts) code = prompt_lines_read(&lines, s->prompts);
    if (!code && !s->prompts) code = check_draw(s, 0);
    if (!code) code = open_model(s, argv0, SD_PART_ALL, &v);
    if (!code && s->profile) code = profile_begin(s, &measured);
    if (!code && s->prompts) code = draw_lines(&lines, s, &v, &t);
    else if (!code) {
        v.pictures = s->batch_count;
        code = draw_prompt(s, &v, &t, &first);
    }
    if (!code && measured) code = profile_print(measured, s->profile == 2);
    if (!code) print_times(s, &t);
    profile_free(measured);
    free(t.step);
    free(owned[0]);
    free(owned[1]);
    prompt_lines_free(&lines);
    return code;
}

/* ---------------------------------------------------------------------------------------- main */

static const command drawing = {&draw_command, run_draw};

static int show_version(int verbose)
{
    sd_machine m;
    printf("sd %s\n%s\n", sd_version(), sd_build_info());
    if (!verbose) return CLI_OK;
    sd_get_machine(&m);
    printf("this machine: %s kernels, %d cores, caches of %zu KB, %zu KB and ", m.kernels, m.cores, m.l1 >> 10,
           m.l2 >> 10);
    printf("%zu KB (by %s)\n", m.l3 >> 10, m.caches_from);
    return CLI_OK;
}

static const command *find_command(const char *name)
{
    for (const command *c = other_commands; c->line; c++)
        if (strcmp(name, c->line->name) == 0) return c;
    return NULL;
}

/* A first word that is no command, for people who type sd plna, or sd "a red apple". */
static int unknown_command(const char *word)
{
    const char *names[32] = {"help", "version"}, *near;
    size_t n = 2;
    for (const command *c = other_commands; c->line && n < COUNT(names); c++) names[n++] = c->line->name;
    near = cli_nearest(word, strlen(word), names, n);
    if (near) return cli_error(CLI_USAGE, "there is no command \"%s\"; did you mean sd %s?", word, near);
    return cli_error(CLI_USAGE, "there is no command \"%s\": a prompt goes after -p and in quotes; see sd --help",
                     word);
}

/* sd help, sd help plan; and what make man asks for */
static int help(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[2], "--man") == 0) return man_page();
    if (argc == 4 && strcmp(argv[2], "--completion") == 0) return completion(argv[3]);
    const command *c = argc > 2 ? find_command(argv[2]) : &drawing;
    if (argc > 3) return cli_error(CLI_USAGE, "unexpected argument \"%s\": sd help COMMAND", argv[3]);
    if (!c) return unknown_command(argv[2]);
    cli_help(c->line);
    return CLI_OK;
}

void settings_init(settings *s)
{
    memset(s, 0, sizeof *s);
    s->batch_count = 1;
    sd_params_init(&s->p);
}

static int run_parsed(const command *c, settings *s, const char *argv0)
{
    if (!s->quiet) cli_notices();
    if (s->version) return show_version(s->verbose);
    if (s->help) cli_help(c->line);
    int code = s->help ? CLI_OK : output_to_stdout(s);
    return s->help || code ? code : c->run(s, argv0);
}

static int run_command(const command *c, int argc, char **argv, int skip)
{
    settings s;
    settings_init(&s);
    int code = cli_parse(c->line, argc - skip, argv + skip, &s);
    if (!code && s.from && !s.help && !s.version) code = recall(&s, c->line, argc - skip, argv + skip);
    if (!code) code = run_parsed(c, &s, argv[0]);
    forget(&s);
    return code;
}

static int dispatch(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    const command *c = find_command(first);
    if (c) return run_command(c, argc, argv, 2);
    if (strcmp(first, "help") == 0) return help(argc, argv);
    if (strcmp(first, "version") == 0 && argc == 2) return show_version(0);
    if (*first && *first != '-') return unknown_command(first);
    return run_command(&drawing, argc, argv, 1);
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    let_threads_sleep(argv);
    catch_signals();
    int code = dispatch(argc, argv);
    sd_ctx *done = context;
    context = NULL;   /* before it is freed: a signal may come in between */
    sd_close(done);
    if ((fflush(stdout) != 0 || ferror(stdout)) && !code)
        code = cli_error(CLI_FAILURE, "cannot write to the standard output: %s", strerror(errno));
    return code;
}
