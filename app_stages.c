/* app_stages.c - floor 7: sd text and sd unet: the text encoder and the UNet on their own, from files into files. */
#include "app_stages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option text_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    OUTPUT_OPTION("text.safetensors"),
    {CLI_FLAG, 0, "uncond", AT(uncond), 0, 0, NULL,
     "puts before the texts what guidance takes without a negative\nprompt: that of \"\", or zeros (SDXL)"},
    {CLI_TEXT, 0, "tokens-in", AT(tokens_in), 0, 0, "FILE",
     "ids in the place of texts, [N,77]: its tensor \"tokens\", and\n\"tokens_2\" of a second encoder"},
    {CLI_INT, 0, "clip-skip", AT(p.clip_skip), 1, 1000, "N",
     "the layer: 1 the last (default), 2 the one before it, ..."},
    STAGE_TRACE_OPTIONS,
    COMPUTE_OPTIONS,
};
const cli_command text_command = {
    "text",
    "usage: sd text TEXT|@FILE|-... [--uncond] [-o FILE]\n"
    "       sd text --tokens-in FILE [-o FILE]\n\n"
    "Writes what the text encoders make of texts: prompt_embeds [N,77,width], of SDXL pooled_prompt_embeds [N,width]\n"
    "too, and tokens [N,77]. sd text --uncond \"a red apple\" has the two rows that guidance takes.\n",
    text_options, COUNT(text_options), "a text", AT(files), 1, NULL};

static cli_option unet_options[MOST_OPTIONS];
static const cli_option unet_rows[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    EMA_OPTION,
    {CLI_TEXT, 0, "latents", AT(latents), 0, 0, "FILE",
     "what the UNet sees, [B,channels,h,w]: the tensor \"sample\" of\nthe file, else \"latents\", else its only one"},
    {CLI_TEXT, 0, "timestep", AT(timestep), 0, 0, "T",
     "a number, or a file with one for each picture (default: the\ntensor \"timestep\" of the file of latents)"},
    {CLI_TEXT, 0, "embeds", AT(embeds), 0, 0, "FILE",
     "of sd text: \"prompt_embeds\", or its only tensor, [N,77,width];\nthe latents are repeated for each row"},
    {CLI_TEXT, 0, "pooled", AT(pooled), 0, 0, "FILE",
     "SDXL: [N,width] (default: \"pooled_prompt_embeds\" of --embeds)"},
    {CLI_TEXT, 0, "time-ids", AT(time_ids), 0, 0, "LIST",
     "SDXL: height and width before scaling, crop's top and left,\n"
     "target height and width (default: the latents' size)"},
    {CLI_TEXT, 0, "timestep-cond", AT(timestep_cond), 0, 0, "FILE", "LCM: the guidance scale as it is told, [N,width]"},
    {CLI_INT, 0, "class-label", AT(class_label), 0, 1e6, "N", "upscaler: how noisy the small picture is"},
    PARAM("guidance_scale"),
    PARAM("guidance_rescale"),
    PARAM("image_guidance_scale"),
    OUTPUT_OPTION("unet.safetensors"),
    STAGE_TRACE_OPTIONS,
    COMPUTE_OPTIONS,
};
cli_command unet_command = {
    "unet",
    "usage: sd unet --latents FILE --timestep T --embeds FILE [--cfg-scale X] [-o FILE]\n\n"
    "Writes what the UNet answers, noise_pred: one for each row of the embeddings. With --cfg-scale these are guided:\n"
    "the first rows are the negative prompt's, and noise_pred is uncond + X (text - uncond).\n",
    unet_options, 0, NULL, 0, 0, NULL};

void fill_unet_options(void) { unet_command.n_options = expand_options(unet_options, unet_rows, COUNT(unet_rows)); }

/* ------------------------------------------------------------------------------- what all stages do */

int check_stage(const settings *s, const char **output, const char *usual)
{
    *output = s->output ? s->output : usual;
    if (s->trace_filter && !s->trace) return cli_error(CLI_USAGE, "--trace-filter needs --trace FILE");
    int code = check_tensors_output("output", *output);
    if (!code) code = check_kept(s, *output);
    return code || !s->trace ? code : check_trace(s->trace);
}

int open_trace(const settings *s)
{
    sd_status status = s->trace ? sd_trace_open(context, s->trace, s->trace_filter) : SD_OK;
    return status ? report(s, status) : CLI_OK;
}

int close_trace(const settings *s)
{
    sd_status status = s->trace ? sd_trace_close(context) : SD_OK;
    return status ? report(s, status) : stopped();
}

/* -------------------------------------------------------------------------------------- sd text */

/* Ids as files have them. */
static int64_t *wide_ids(const int32_t *ids, size_t n)
{
    int64_t *wide = malloc((n + 1) * sizeof *wide);
    for (size_t i = 0; i < n && wide; i++) wide[i] = ids[i];
    return wide;
}

static int write_texts(const settings *s, const char *path, const sd_text_batch *b, int width, int pooled, int encoders)
{
    sd_traced t[4] = {{"prompt_embeds", SD_F32, 3, {b->n, SD_TOKENS, width}, b->prompt_embeds}};
    size_t n = 1;
    int64_t *ids[2] = {NULL, NULL};
    int code = CLI_OK;
    if (pooled) t[n++] = (sd_traced){"pooled_prompt_embeds", SD_F32, 2, {b->n, pooled}, b->pooled_prompt_embeds};
    for (int i = 0; i < encoders && b->told && !code; i++) {
        ids[i] = wide_ids(b->ids[i], (size_t)b->told * SD_TOKENS);
        if (!ids[i]) code = no_memory();
        t[n++] = (sd_traced){i ? "tokens_2" : "tokens", SD_I64, 2, {b->told, SD_TOKENS}, ids[i]};
    }
    if (!code) code = write_numbers(s, path, t, n);
    free(ids[0]);
    free(ids[1]);
    return code;
}

static int encode_texts(const settings *s, const char *path, sd_text_batch *b)
{
    sd_model_info info = {0};
    sd_get_info(context, &info);
    size_t n = (size_t)b->n;
    int encoders = info.text_encoders;
    b->prompt_embeds_count = n * SD_TOKENS * (size_t)info.context_dim;
    b->pooled_prompt_embeds_count = n * (size_t)info.pooled_dim;
    b->prompt_embeds = malloc(b->prompt_embeds_count * sizeof(float));
    b->pooled_prompt_embeds = info.pooled_dim ? malloc(b->pooled_prompt_embeds_count * sizeof(float)) : NULL;
    for (int i = 0; i < encoders; i++) b->ids[i] = malloc(n * SD_TOKENS * sizeof **b->ids);
    int code = b->prompt_embeds && (!info.pooled_dim || b->pooled_prompt_embeds) && b->ids[0]
        && (encoders < 2 || b->ids[1]) ? open_trace(s) : no_memory();
    sd_status status = code ? SD_OK : sd_encode_texts(context, b);
    if (status) code = report(s, status);
    if (!code) code = close_trace(s);
    if (!code) code = write_texts(s, path, b, info.context_dim, info.pooled_dim, encoders);
    free(b->prompt_embeds);
    free(b->pooled_prompt_embeds);
    free(b->ids[0]);
    free(b->ids[1]);
    return code;
}

/* owned[i]: what came from a file. */
static int read_texts(const settings *s, const char **text, char **owned)
{
    int code = CLI_OK, from_input = 0;
    for (size_t i = 0; i < s->files.n; i++) from_input += strcmp(s->files.v[i], "-") == 0;
    if (from_input > 1) return cli_error(CLI_USAGE, "the standard input is one text: only one of them can be -");
    for (size_t i = 0; i < s->files.n && !code; i++) {
        text[i] = s->files.v[i];
        code = read_text(&text[i], &owned[i]);
    }
    return code;
}

int run_text(settings *s, const char *argv0)
{
    view v = {.s = s};
    const char *output, *text[MOST_TEXTS + 1] = {NULL};
    char *owned[MOST_TEXTS] = {NULL};
    int32_t *ids[2] = {NULL, NULL};
    sd_text_batch b = {.size = sizeof b, .text = text, .clip_skip = s->p.clip_skip};
    if (!s->files.n == !s->tokens_in)
        return cli_error(CLI_USAGE, "give texts, in quotes, or --tokens-in FILE; see sd text --help");
    if (s->uncond && s->tokens_in)
        return cli_error(CLI_USAGE, "--uncond is for texts: --tokens-in FILE has all rows");
    if (s->files.n + (size_t)s->uncond > MOST_TEXTS)
        return cli_error(CLI_USAGE, "at most %d texts are encoded at once", MOST_TEXTS);
    b.n = (int)s->files.n + s->uncond;
    int code = check_stage(s, &output, "text.safetensors");
    if (!code) code = read_texts(s, text + s->uncond, owned);
    if (!code) code = open_model(s, argv0, SD_PART_TEXT | (s->tokens_in ? 0 : SD_PART_TOKENIZER), &v);
    sd_model_info info = {0};
    if (!code) sd_get_info(context, &info);
    if (!code && s->tokens_in) code = read_tokens(s, info.text_encoders, ids, &b.n);
    for (int i = 0; i < 2; i++) b.tokens[i] = ids[i];
    for (int i = 0; i < b.n && s->tokens_in && !code; i++) text[i] = "";
    if (!code) code = encode_texts(s, output, &b);
    for (size_t i = 0; i < s->files.n; i++) free(owned[i]);
    free(ids[0]);
    free(ids[1]);
    return code;
}

/* -------------------------------------------------------------------------------------- sd unet */

/* What the UNet is given, as the files have it: B pictures, E rows of embeddings, `rows` evaluations. */
typedef struct question {
    numbers latents, timestep, embeds, pooled, timestep_cond;
    double time_ids[6];
    int B, E, rows, passes;
    sd_unet_input in;
    float *own[5];          /* what `in` points to: sample, timestep, embeddings, pooled, time ids */
    int32_t *labels;
} question;

static void question_free(question *q)
{
    numbers_free(&q->latents);
    numbers_free(&q->timestep);
    numbers_free(&q->embeds);
    numbers_free(&q->pooled);
    numbers_free(&q->timestep_cond);
    for (size_t i = 0; i < COUNT(q->own); i++) free(q->own[i]);
    free(q->labels);
}

/* A number, or a file of numbers; of the latents' file, if neither is given. */
static int read_timestep(const settings *s, question *q)
{
    static const char *const names[] = {"timestep", NULL};
    char *end = NULL;
    double x = s->timestep ? strtod(s->timestep, &end) : 0;
    if (s->timestep && end != s->timestep && !*end) {
        q->timestep = (numbers){malloc(sizeof(float)), 0, {1, 1, 1, 1}};
        if (!q->timestep.data) return no_memory();
        *q->timestep.data = (float)x;
        return CLI_OK;
    }
    if (s->timestep) return read_numbers(s, s->timestep, names, &q->timestep);
    int code = find_numbers(s, s->latents, "timestep", &q->timestep);
    if (code || q->timestep.data) return code;
    return cli_error(CLI_USAGE, "give --timestep T: %s has no tensor \"timestep\"", s->latents);
}

/* n timesteps: one for all, one for each picture, or one for each row. */
static int wrong_timesteps(const question *q, size_t n)
{
    if (q->rows == 1) return cli_error(CLI_USAGE, "there are %zu timesteps, and one is needed", n);
    if (q->B == 1 || q->B == q->rows)
        return cli_error(CLI_USAGE, "there are %zu timesteps: one or %d are possible", n, q->rows);
    return cli_error(CLI_USAGE, "there are %zu timesteps: one, %d or %d are possible", n, q->B, q->rows);
}

/* How many rows the UNet gets, and from which the guided ones are. */
static int count_rows(const settings *s, question *q)
{
    int guides = s->p.guidance.scale != SD_DEFAULT;
    q->B = (int)q->latents.dim[0];
    q->E = (int)q->embeds.dim[0];
    q->passes = 1;
    if (guides) {
        sd_status status = sd_guide_answers(context, &s->p.guidance, q->B, 1, NULL, NULL, &q->passes);
        if (status) return report(s, status);
        q->rows = q->passes * q->B;
        if (q->E == q->rows || q->E == q->passes) return CLI_OK;
        if (q->passes == 1)
            return cli_error(CLI_USAGE, "%s: this UNet is asked once for a picture, with the prompt alone, so the "
                             "embeddings must have 1 row, not %d: see sd text without --uncond", s->embeds, q->E);
        return cli_error(CLI_USAGE, "%s: guidance asks the UNet %d times for a picture, so the embeddings must have %d "
                         "rows, not %d: see sd text --uncond", s->embeds, q->passes, q->passes, q->E);
    }
    q->rows = q->B > q->E ? q->B : q->E;
    if (q->B == q->E || q->B == 1 || q->E == 1) return CLI_OK;
    return cli_error(CLI_USAGE, "%s has %d pictures and %s %d rows: as many, or one of them", s->latents, q->B,
                     s->embeds, q->E);
}

/* What a file must have: a tensor by one of its names, of such a shape. */
typedef struct wanted { const char *names[3], *what; int nd; int64_t dim[4]; } wanted;

static int read_wanted(const settings *s, const char *file, const wanted *w, numbers *t)
{
    int code = read_numbers(s, file, w->names, t);
    return code ? code : expect_shape(file, w->what, t, w->nd, w->dim);
}

/* SDXL's vectors: of their own file, or of the embeddings'. */
static int read_pooled(const settings *s, const sd_model_info *info, question *q)
{
    const wanted pooled = {{"pooled_prompt_embeds"}, "the pooled embeddings", 2, {q->E, info->pooled_dim}};
    if (s->pooled) return read_wanted(s, s->pooled, &pooled, &q->pooled);
    if (!info->pooled_dim) return CLI_OK;
    int code = find_numbers(s, s->embeds, pooled.names[0], &q->pooled);
    if (!code && !q->pooled.data)
        return cli_error(CLI_USAGE, "give --pooled FILE: %s has no tensor \"%s\"", s->embeds, pooled.names[0]);
    return code ? code : expect_shape(s->embeds, pooled.what, &q->pooled, pooled.nd, pooled.dim);
}

static int read_timestep_cond(const settings *s, const sd_model_info *info, question *q)
{
    const wanted cond = {{"timestep_cond"}, "timestep_cond", 2, {q->rows, info->time_cond_dim}};
    if (s->timestep_cond && !info->time_cond_dim) return cli_error(CLI_USAGE, "this UNet takes no --timestep-cond");
    if (s->timestep_cond) return read_wanted(s, s->timestep_cond, &cond, &q->timestep_cond);
    if (!info->time_cond_dim) return CLI_OK;
    return cli_error(CLI_USAGE, "give --timestep-cond FILE, [%d,%d]: this UNet is told the guidance scale so, as the "
                     "tensor \"timestep_cond\" of a run's trace has it", q->rows, info->time_cond_dim);
}

static int read_question(const settings *s, const sd_model_info *info, question *q)
{
    const wanted latents = {{"sample", "latents"}, "what the UNet sees", 4, {0, info->in_channels, 0, 0}};
    const wanted embeds = {{"prompt_embeds"}, "the embeddings", 3, {0, SD_TOKENS, info->context_dim}};
    int code = read_wanted(s, s->latents, &latents, &q->latents);
    if (!code) code = read_wanted(s, s->embeds, &embeds, &q->embeds);
    if (!code && (q->latents.dim[0] > MOST_TEXTS || q->embeds.dim[0] > MOST_TEXTS))
        code = cli_error(CLI_USAGE, "at most %d rows are possible", MOST_TEXTS);
    if (!code) code = count_rows(s, q);
    if (!code) code = read_timestep(s, q);
    size_t n = code ? 0 : numbers_count(&q->timestep);
    if (!code && n != 1 && n != (size_t)q->B && n != (size_t)q->rows) code = wrong_timesteps(q, n);
    if (!code) code = read_pooled(s, info, q);
    return code ? code : read_timestep_cond(s, info, q);
}

/* "1024,1024,0,0,1024,1024" */
static int read_time_ids(const settings *s, const sd_model_info *info, question *q)
{
    double h = (double)q->latents.dim[2] * info->scale, w = (double)q->latents.dim[3] * info->scale;
    const double usual[6] = {h, w, 0, 0, info->time_ids == 5 ? 6 : h, w};
    const char *at = s->time_ids;
    memcpy(q->time_ids, usual, sizeof usual);
    for (int i = 0; i < info->time_ids && at; i++) {
        char *end;
        q->time_ids[i] = strtod(at, &end);
        int last = i + 1 == info->time_ids;
        if (end == at || *end != (last ? 0 : ',') || !isfinite(q->time_ids[i]))
            return cli_error(CLI_USAGE, "--time-ids must be %d numbers with commas between them, not \"%s\"",
                             info->time_ids, s->time_ids);
        at = end + 1;
    }
    return at && !info->time_ids ? cli_error(CLI_USAGE, "this UNet takes no --time-ids") : CLI_OK;
}

/* rows x size out of x, which has `have` rows: one after the other, and again (`cycle`); or each several times. */
static float *spread(const float *x, size_t have, size_t rows, size_t size, int cycle)
{
    float *y = malloc(rows * size * sizeof *y);
    for (size_t i = 0; i < rows && y; i++)
        memcpy(y + i * size, x + (cycle ? i % have : i / (rows / have)) * size, size * sizeof *y);
    return y;
}

/* The files' numbers, a row for each evaluation, as the pipeline lays them: latents again and again, each text as often
 * as there are pictures. */
static int arrange(const settings *s, const sd_model_info *info, question *q)
{
    size_t rows = (size_t)q->rows, B = (size_t)q->B, E = (size_t)q->E, n = numbers_count(&q->latents) / B;
    sd_unet_input *in = &q->in;
    *in = (sd_unet_input){.size = sizeof *in, .batch = q->rows, .h = (int)q->latents.dim[2],
                          .w = (int)q->latents.dim[3]};
    float ids[6];
    for (int i = 0; i < 6; i++) ids[i] = (float)q->time_ids[i];
    in->sample = q->own[0] = spread(q->latents.data, B, rows, n, 1);
    in->timestep = q->own[1] = spread(q->timestep.data, numbers_count(&q->timestep), rows, 1, 1);
    in->encoder_hidden_states = q->own[2] = spread(q->embeds.data, E, rows, SD_TOKENS * (size_t)info->context_dim, 0);
    in->text_embeds = q->own[3] = q->pooled.data ? spread(q->pooled.data, E, rows, (size_t)info->pooled_dim, 0) : NULL;
    in->time_ids = q->own[4] = info->time_ids ? spread(ids, 1, rows, (size_t)info->time_ids, 1) : NULL;
    in->timestep_cond = q->timestep_cond.data;
    in->class_labels = q->labels = info->class_labels ? malloc(rows * sizeof *q->labels) : NULL;
    for (size_t i = 0; i < rows && q->labels; i++) q->labels[i] = s->class_label;
    return in->sample && in->timestep && in->encoder_hidden_states && (!q->pooled.data || in->text_embeds)
        && (!info->time_ids || in->time_ids) && (!info->class_labels || q->labels) ? CLI_OK : no_memory();
}

/* answers [rows,C,h,w] into the file, guided if that was asked for. */
static int write_answers(const settings *s, const char *path, const question *q, int channels, float *answers)
{
    const int64_t h = q->in.h, w = q->in.w;
    size_t n = (size_t)channels * (size_t)h * (size_t)w, one = (size_t)q->B * n;
    sd_traced t[3] = {{"noise_pred", SD_F32, 4, {q->rows, channels, h, w}, answers}};
    if (s->p.guidance.scale == SD_DEFAULT) return write_numbers(s, path, t, 1);
    float *guided = malloc(one * sizeof *guided);
    int passes = 0;
    if (!guided) return no_memory();
    sd_status status = sd_guide_answers(context, &s->p.guidance, q->B, n, answers, guided, &passes);
    t[0].data = guided;
    t[0].dim[0] = q->B;
    t[1] = t[2] = t[0];
    t[1].name = "noise_pred_uncond";
    t[1].data = answers;
    t[2].name = "noise_pred_text";
    t[2].data = answers + one;
    int code = status ? report(s, status) : write_numbers(s, path, t, passes == 2 ? 3 : 1);
    free(guided);
    return code;
}

static int ask(const settings *s, const char *path, question *q, int channels)
{
    float *answers = malloc((size_t)q->rows * (size_t)channels * (size_t)q->in.h * (size_t)q->in.w * sizeof *answers);
    int code = answers ? open_trace(s) : no_memory();
    sd_status status = code ? SD_OK : sd_unet_evaluate(context, &q->in, answers);
    if (status) code = report(s, status);
    if (!code) code = close_trace(s);
    if (!code) code = write_answers(s, path, q, channels, answers);
    free(answers);
    return code;
}

int run_unet(settings *s, const char *argv0)
{
    view v = {.s = s};
    const char *output;
    sd_model_info info = {0};
    question q = {0};
    if (!s->latents || !s->embeds)
        return cli_error(CLI_USAGE, "give --latents FILE, --timestep T and --embeds FILE; see sd unet --help");
    int code = check_stage(s, &output, "unet.safetensors");
    if (!code) code = open_model(s, argv0, SD_PART_UNET, &v);
    if (code) return code;
    sd_get_info(context, &info);
    code = read_question(s, &info, &q);
    if (!code) code = read_time_ids(s, &info, &q);
    if (!code) code = arrange(s, &info, &q);
    if (!code) code = ask(s, output, &q, info.latent_channels);
    question_free(&q);
    return code;
}
