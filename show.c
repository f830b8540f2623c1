/* show.c - floor 7: sd samplers and sd schedule. */
#include "show.h"
#include "app.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------- sd samplers */

static void json_member(const char *key, const char *value, const char *after)
{
    printf("\"%s\":", key);
    if (value) cli_json_string(value);
    else printf("null");
    fputs(after, stdout);
}

static void sampler_as_json(const sd_sampler_info *s)
{
    static const char *const draws[] = {"never", "with eta", "always"};
    printf("{");
    json_member("name", s->name, ",");
    json_member("diffusers", s->diffusers, ",");
    json_member("a1111", s->a1111, ",");
    json_member("kdiffusion", s->kdiffusion, ",");
    json_member("paper", s->paper, ",");
    json_member("draws", draws[s->draws], ",");
    printf("\"order\":%d,\"eta\":%g}", s->order, s->eta);
}

static void sampler_as_text(const sd_sampler_info *s)
{
    static const char *const draws[] = {"", ", noise if eta > 0", ", noise"};
    char order[16] = "-";
    if (s->order) snprintf(order, sizeof order, "%d", s->order);
    printf("%-14s order %s, eta %g%s\n", s->name, order, s->eta, draws[s->draws]);
    printf("    A1111 \"%s\"", s->a1111);
    if (s->diffusers) printf(", diffusers %s", s->diffusers);
    if (s->kdiffusion) printf(", k-diffusion %s%s", s->kdiffusion, s->diffusers ? " (here @kdiffusion)" : "");
    printf("\n    %s\n", s->paper);
}

int show_samplers(int json)
{
    sd_sampler_info s;
    if (json) printf("{\"samplers\":[");
    for (int i = 0; sd_get_sampler(i, &s); i++) {
        if (json && i) printf(",");
        if (json) sampler_as_json(&s);
        else sampler_as_text(&s);
    }
    printf(json ? "],\"schedules\":[" : "\nSchedules:");
    for (int i = 0; sd_schedule_name(i); i++) {
        if (json) printf("%s\"%s\"", i ? "," : "", sd_schedule_name(i));
        else printf(" %s", sd_schedule_name(i));
    }
    printf(json ? "]}\n" : "\nSpacings: leading trailing linspace\n");
    return CLI_OK;
}

/* -------------------------------------------------------------------------------- sd schedule */

enum { MOST_CURVES = 8, MOST_EVALS = 4096 };

typedef struct curve {
    char name[48];
    int n;                /* evaluations; sigma and alpha have one number more */
    double t[MOST_EVALS], sigma[MOST_EVALS + 1], alpha[MOST_EVALS + 1];
} curve;

static int read_curve(sd_ctx *ctx, const sd_params *p, curve *c)
{
    sd_status status = sd_schedule(ctx, p, &c->n, NULL, NULL, NULL);
    if (!status && c->n > MOST_EVALS) return cli_error(CLI_USAGE, "%d evaluations are more than can be shown", c->n);
    if (!status) status = sd_schedule(ctx, p, &c->n, c->t, c->sigma, c->alpha);
    if (status) return cli_error(exit_code(status), "%s", sd_error_text(ctx));
    return CLI_OK;
}

static void number_list(const char *key, const double *x, int n, const char *after)
{
    printf("\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        if (i) printf(",");
        if (isfinite(x[i])) printf("%.9g", x[i]);
        else printf("null");   /* zero terminal SNR begins at an infinite sigma */
    }
    printf("]%s", after);
}

static void curve_as_json(const curve *c)
{
    printf("{");
    json_member("schedule", c->name, ",");
    printf("\"evaluations\":%d,", c->n);
    number_list("timesteps", c->t, c->n, ",");
    number_list("sigmas", c->sigma, c->n + 1, ",");
    number_list("alphas_cumprod", c->alpha, c->n + 1, "}");
}

static void curve_as_text(const curve *c)
{
    if (*c->name) printf("%s\n", c->name);
    if (!c->n) printf("The sampler decides on its noise levels while it runs.\n");
    else printf("   i   timestep        sigma  alphas_cumprod\n");
    for (int i = 0; i < c->n; i++) printf("%4d %10.6g %12.6g  %.6g\n", i, c->t[i], c->sigma[i], c->alpha[i]);
    if (c->n) printf(" end            %12.6g  %.6g\n", c->sigma[c->n], c->alpha[c->n]);
}

/* ---- the picture: sigma on a logarithmic scale over the evaluations */

enum { WIDTH = 800, HEIGHT = 500, MARGIN = 24 };
static const double LEAST = 1e-2, MOST = 1e2;   /* sigma at the lower and upper edge */
static const struct { const char *name; uint8_t rgb[3]; } colours[MOST_CURVES] = {
    {"blue", {31, 119, 180}}, {"orange", {255, 127, 14}}, {"green", {44, 160, 44}}, {"red", {214, 39, 40}},
    {"purple", {148, 103, 189}}, {"brown", {140, 86, 75}}, {"pink", {227, 119, 194}}, {"grey", {110, 110, 110}}};

static void dot(uint8_t *rgb, int x, int y, const uint8_t *colour)
{
    if (x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT) memcpy(rgb + 3 * ((size_t)y * WIDTH + (size_t)x), colour, 3);
}

static void line(uint8_t *rgb, double x0, double y0, double x1, double y1, int thick, const uint8_t *colour)
{
    int n = (int)ceil(fmax(fmax(fabs(x1 - x0), fabs(y1 - y0)), 1));
    for (int i = 0; i <= n; i++) {
        int x = (int)lrint(x0 + (x1 - x0) * i / n), y = (int)lrint(y0 + (y1 - y0) * i / n);
        for (int dx = 0; dx < thick; dx++)
            for (int dy = 0; dy < thick; dy++) dot(rgb, x + dx, y + dy, colour);
    }
}

static double height_of(double sigma)
{
    double share = log(fmin(fmax(sigma, LEAST), MOST) / LEAST) / log(MOST / LEAST);
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN);
}

static double place_of(const curve *c, int i) { return MARGIN + (double)i * (WIDTH - 2 * MARGIN) / (c->n ? c->n : 1); }

static int plot_curves(sd_ctx *ctx, const curve *c, int count, const char *path, FILE *legend)
{
    static const uint8_t frame[] = {60, 60, 60}, grid[] = {222, 222, 222};
    sd_image image = {.width = WIDTH, .height = HEIGHT, .rgb = malloc(3 * WIDTH * HEIGHT)};
    if (!image.rgb) return cli_error(CLI_FAILURE, "out of memory");
    memset(image.rgb, 255, 3 * WIDTH * HEIGHT);
    for (double sigma = LEAST; sigma <= MOST * 1.01; sigma *= 10)
        line(image.rgb, MARGIN, height_of(sigma), WIDTH - MARGIN, height_of(sigma), 1, grid);
    line(image.rgb, MARGIN, MARGIN, MARGIN, HEIGHT - MARGIN, 1, frame);
    line(image.rgb, MARGIN, HEIGHT - MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN, 1, frame);
    for (int k = 0; k < count; k++) {
        const uint8_t *colour = colours[k].rgb;
        for (int i = 0; i < c[k].n; i++) {
            double x = place_of(&c[k], i), y = height_of(c[k].sigma[i]);
            line(image.rgb, x, y, place_of(&c[k], i + 1), height_of(c[k].sigma[i + 1]), 2, colour);
            line(image.rgb, x - 3, y, x + 3, y, 3, colour);
        }
        fprintf(legend, "%s: %s\n", colours[k].name, *c[k].name ? c[k].name : "the model's schedule");
    }
    fprintf(legend, "%s: sigma from %g to %g by powers of ten, over the evaluations\n", path, LEAST, MOST);
    sd_status status = sd_image_write(ctx, path, &image, NULL);
    free(image.rgb);
    return status ? cli_error(exit_code(status), "%s", sd_error_text(ctx)) : CLI_OK;
}

int show_schedules(sd_ctx *ctx, const sd_params *p, const char *schedules, int json, const char *plot)
{
    curve *c = calloc(MOST_CURVES, sizeof *c);
    int code = CLI_OK, count = 0;
    if (!c) return cli_error(CLI_FAILURE, "out of memory");
    const char *at = schedules ? schedules : "";
    do {
        size_t n = strcspn(at, ",");
        sd_params one = *p;
        if (count == MOST_CURVES || n >= sizeof c->name) {
            code = cli_error(CLI_USAGE, "more than %d schedules, or too long a name: \"%s\"", MOST_CURVES, at);
            break;
        }
        memcpy(c[count].name, at, n);
        if (schedules) one.schedule = c[count].name;
        code = read_curve(ctx, &one, &c[count++]);
        at += n;
    } while (!code && *at++ == ',');
    if (!code && json) printf("[");
    for (int k = 0; !code && k < count; k++) {
        if (json && k) printf(",");
        if (json) curve_as_json(&c[k]);
        else curve_as_text(&c[k]);
    }
    if (!code && json) printf("]\n");
    if (!code && plot) code = plot_curves(ctx, c, count, plot, json ? stderr : stdout);
    free(c);
    return code;
}
