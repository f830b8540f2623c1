/* main.c - floor 7: the program sd. It sees the library through sd.h alone.
 *
 * stdout has what was asked for (seeds, names of pictures, ids, plans, timings), stderr everything else: one line per
 * error, notices, and on a terminal a progress bar. */
#include "app.h"
#include "os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------ before any work */

/* several: --prompts has more than one line */
static int check_draw(const settings *s, int several)
{
    if (!s->p.prompt && !s->tokens_in && !s->embeds)
        return cli_error(CLI_USAGE, "there is nothing to draw: give a prompt with -p \"TEXT\"; see sd --help");
    if (!s->draws && !is_picture_name(s->output) && !is_latents_name(s->output))
        return cli_error(CLI_USAGE, "the output's name must end in " ENDINGS ", not \"%s\"", s->output);
    if (s->trace_filter && !traces(s))
        return cli_error(CLI_USAGE, "--trace-filter needs --trace FILE, --trace-stats FILE or --trace-hash FILE");
    if ((s->inject_filter || s->names) && !s->inject)
        return cli_error(CLI_USAGE, "--inject-%s needs --inject REF", s->names ? "names" : "filter");
    if (s->floor_starts != SD_DEFAULT && !s->floor)
        return cli_error(CLI_USAGE, "--floor-starts needs --floor FILE");
    const char *single = s->trace ? "trace" : s->trace_stats ? "trace-stats" : s->trace_hash ? "trace-hash"
        : s->tokens_in ? "tokens-in" : s->embeds ? "embeds-in" : s->timestep ? "timestep-in"
        : s->inject ? "inject" : s->noise ? "noise" : s->latents ? "latents-in" : s->save_steps ? "save-steps"
        : s->floor ? "floor" : NULL;
    if (is_stream(s->output) && (several || s->batch_count > 1 || s->p.batch > 1))
        return cli_error(CLI_USAGE,
                         "the standard output, a pipe or a device takes one picture: several need names of files");
    if (several && single) return cli_error(CLI_USAGE, "--%s is for one run, --prompts asks for several", single);
    if (s->batch_count > 1 && single)
        return cli_error(CLI_USAGE, "--%s is for one run, --batch-count asks for %d; --batch-size draws several in one",
                         single, s->batch_count);
    int code = check_kept(s, s->draws || is_stream(s->output) ? NULL : s->output);
    if (!code && !s->quiet && (s->p.prompt || s->p.negative_prompt) && (s->tokens_in || s->embeds))
        fprintf(stderr, "sd: prompts are not read: --%s stands for them\n", s->tokens_in ? "tokens-in" : "embeds-in");
    if (!code && !s->quiet && s->embeds && s->p.clip_skip > 1)
        fprintf(stderr, "sd: --clip-skip has no effect: the embeddings are those of --embeds-in\n");
    if (!code && !s->draws) code = check_writable("output", s->output);
    if (!code && s->save_steps) code = check_directory("steps", s->save_steps);
    if (!code && s->trace_stats) code = check_writable("table", s->trace_stats);
    if (!code && s->trace_hash) code = check_writable("table", s->trace_hash);
    if (!code && s->floor) code = check_writable("floors", s->floor);
    return code || !s->trace ? code : check_trace(s->trace);
}

/* ------------------------------------------------------------------------------------- drawing */

/* Seconds of all pictures together, by stages. */
typedef struct times {
    double load, text, vae_decode, vae_work, *step;
    int n;
} times;

static int add_times(times *t)
{
    sd_timings now;
    sd_get_timings(context, &now);
    double *more = realloc(t->step, (size_t)(t->n + now.n_steps + 1) * sizeof *more);
    if (!more) return no_memory();
    t->step = more;
    for (int i = 0; i < now.n_steps; i++) t->step[t->n++] = now.steps[i];
    t->load = now.load;
    t->text += now.text;
    t->vae_decode += now.vae_decode;
    t->vae_work = now.vae_work;
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
        printf("\"kernels\":\"%s\",\"gemm\":\"%s\",\"threads\":%d,\"vae_work\":%.3f,\"device\":", how.kernels, how.gemm,
               how.threads, t->vae_work);
        cli_json_string(how.device);
        printf("}\n");
    } else {
        printf("load        %9.3f s\ntext        %9.3f s\n", t->load, t->text);
        printf("steps       %9.3f s = %d evaluations x %.3f s\n", sum, t->n, t->n ? sum / t->n : 0);
        printf("vae decode  %9.3f s", t->vae_decode);
        if (t->vae_work > 1) printf(", in bands: %.2f times the multiplications", t->vae_work);
        printf("\npeak memory %9.1f MB\n", peak_rss_mb());
        if (strcmp(how.device, "cpu") != 0) printf("device %s\n", how.device);
        else printf("kernels %s, products %s, %d threads\n", how.kernels, how.gemm, how.threads);
    }
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

/* Room for the last latents of a run, as the tensor of a file; free its data. */
static int make_latents(const settings *s, const sd_params *p, sd_traced *t)
{
    sd_model_info info = {0};
    sd_params all;
    sd_params_init(&all);
    sd_status status = sd_get_info(context, &info);
    if (!status) status = sd_resolve_params(context, p, &all);
    if (status) return report(s, status);
    if (p->keep) return cli_error(CLI_USAGE, "a file of latents has those of the whole batch: leave out --keep");
    *t = (sd_traced){.name = "latents", .dtype = SD_F32, .nd = 4,
                     .dim = {all.batch, info.latent_channels, all.height / info.scale, all.width / info.scale}};
    t->data = calloc((size_t)(t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]), sizeof(float));
    return t->data ? CLI_OK : no_memory();
}

static int write_latents(const settings *s, const sd_traced *t, int index)
{
    char path[PATH_SIZE];
    int code = picture_path(path, s->output, index);
    sd_status status = code ? SD_OK : sd_tensors_write(context, path, t, 1);
    if (status) return report(s, status);
    if (!code && !s->quiet)
        printf("%s: latents [%lld,%lld,%lld,%lld]\n", path, (long long)t->dim[0], (long long)t->dim[1],
               (long long)t->dim[2], (long long)t->dim[3]);
    return code;
}

/* What a run makes: pictures, or the last latents. */
typedef struct results { sd_image *images; sd_traced latents; } results;

static sd_status generate(const sd_params *p, results *r)
{
    const sd_traced *t = &r->latents;
    if (!t->data) return sd_generate(context, p, r->images);
    return sd_generate_latents(context, p, (float *)t->data,
                               (size_t)(t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]));
}

/* --trace, the tables behind it, --inject, and what ends the run. */
static sd_status open_trace(const settings *s, const sd_params *p)
{
    sd_inject_options o;
    sd_inject_options_init(&o);
    o.filter = s->inject_filter;
    o.names = s->names;
    sd_status status = s->trace ? sd_trace_open(context, s->trace, s->trace_filter) : SD_OK;
    if (!status && s->trace_stats) status = sd_trace_stats(context, s->trace_stats, s->trace_filter);
    if (!status && s->trace_hash) status = sd_trace_hashes(context, s->trace_hash, s->trace_filter);
    if (!status && s->inject) status = sd_trace_inject(context, p, s->inject, &o);
    return status || !s->stop_after ? status : sd_trace_stop_after(context, s->stop_after);
}

/* What a run has made goes into files; nothing, if it was to end before that. */
static int write_results(const settings *s, const sd_params *p, const results *r, int first)
{
    if (s->stop_after && !s->quiet) printf("ended after %s\n", s->stop_after);
    if (s->stop_after || s->draws) return CLI_OK;
    return r->latents.data ? write_latents(s, &r->latents, first) : write_pictures(s, p, r->images, first);
}

/* One run of the pipeline: batch-size pictures from one seed. */
static int draw(const settings *s, const sd_params *p, view *v, int first)
{
    results r = {.images = calloc((size_t)p->batch, sizeof *r.images)};
    if (!r.images) return no_memory();
    int code = is_latents_name(s->output) ? make_latents(s, p, &r.latents) : CLI_OK;
    sd_status status = code || !s->floor ? SD_OK : sd_make_floor(context, p, s->floor_starts, s->floor);
    if (!status && !code) status = open_trace(s, p);
    if (!status && !code) {
        printf("seed: %llu\n", (unsigned long long)p->seed);
        fflush(stdout);
        status = generate(p, &r);
        clear_bar(v);
    }
    if (!code) code = status ? report(s, status) : stopped();
    if (!code) {   /* the picture is there: it is written whatever becomes of its trace */
        int traced = traces(s) || s->inject || s->stop_after;
        if (traced && (status = sd_trace_close(context)) != SD_OK) code = report(s, status);
        int written = write_results(s, p, &r, first);
        code = code ? code : written;
    }
    for (int i = 0; i < p->batch; i++) sd_image_free(&r.images[i]);
    free(r.images);
    free((void *)r.latents.data);
    return code;
}

/* Draws the pictures of one prompt: batch-count runs. *next: the number in the next picture's name. */
static int draw_prompt(settings *s, view *v, times *t, int *next)
{
    inputs in = {0};
    int code = prepare(s, &in, v);
    s->p.seed = s->seed.given ? s->seed.value : random_seed();
    if (!code) code = warn_of_differences(s);
    for (int i = 0; i < s->batch_count && !code; i++) {
        sd_params p = s->p;
        p.seed += (uint64_t)i;
        v->picture++;
        v->rows = 0;
        code = stopped();
        if (!code) code = draw(s, &p, v, *next);
        if (!code) code = add_times(t);
        *next += p.keep || is_latents_name(s->output) ? 1 : p.batch;
    }
    inputs_free(&in);
    return code;
}

/* Checks all lines, then draws them, so that a mistake in the last one shows before the first picture is drawn. */
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
            sd_params_free(&s.p);
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

static void show_device(void *user, const sd_device_info *d)
{
    (void)user;
    if (*d->platform) printf("device %s: %s, %s%s\n", d->which, d->name, d->type, *d->refused ? ", refused" : "");
}

static int show_version(int verbose)
{
    sd_machine m;
    char error[512];
    printf("sd %s\n%s\n", sd_version(), sd_build_info());
    if (!verbose) return CLI_OK;
    sd_get_machine(&m);
    printf("this machine: %s kernels, %d cores, caches of %zu KB, %zu KB and ", m.kernels, m.cores, m.l1 >> 10,
           m.l2 >> 10);
    printf("%zu KB (by %s)\n", m.l3 >> 10, m.caches_from);
    if (sd_devices("opencl", 0, show_device, NULL, error)) printf("%s\n", error);
    return CLI_OK;
}

static const command *find_command(const char *name)
{
    for (const command *c = other_commands; c->line; c++)
        if (strcmp(name, c->line->name) == 0) return c;
    return NULL;
}

/* A first word that is no command: a mistyped one (sd plna), or a prompt without -p (sd "a red apple"). */
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

static int run_parsed(const command *c, settings *s, const char *argv0)
{
    if (!s->quiet) cli_notices();
    if (s->version) return show_version(s->verbose);
    if (s->help) cli_help(c->line);
    int code = s->help ? CLI_OK : output_to_stdout(s);
    if (!s->help && !code) code = c->run(s, argv0);
    return code || !s->draws ? code : run_draw(s, argv0);
}

static int run_command(const command *c, int argc, char **argv, int skip)
{
    settings s;
    cli_given given = {{0}};
    settings_init(&s);
    int code = cli_parse(c->line, argc - skip, argv + skip, &s, &given);
    if (!code && s.from && !s.help && !s.version)
        code = settings_from_text(&s, c->line, argc - skip, argv + skip, &given);
    if (!code) code = run_parsed(c, &s, argv[0]);
    free_from_text(&s);
    sd_params_free(&s.p);
    return code;
}

static int dispatch(int argc, char **argv)
{
    static char version[] = "--version";
    const char *first = argc > 1 ? argv[1] : "";
    const command *c = find_command(first);
    if (c) return run_command(c, argc, argv, 2);
    if (strcmp(first, "help") == 0) return help(argc, argv);
    if (strcmp(first, "version") == 0) argv[1] = version;
    else if (*first && *first != '-') return unknown_command(first);
    return run_command(&drawing, argc, argv, 1);
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    let_threads_sleep(argv);
    catch_signals();
    fill_options();
    fill_command_options();
    int code = dispatch(argc, argv);
    sd_ctx *done = context;
    context = NULL;   /* before it is freed: a signal may come in between */
    sd_close(done);
    if ((fflush(stdout) != 0 || ferror(stdout)) && !code)
        code = cli_error(CLI_FAILURE, "cannot write to the standard output: %s", strerror(errno));
    if (memory_ran_out) _Exit(code);   /* OpenBLAS' end waits for threads that it could not start */
    return code;
}
