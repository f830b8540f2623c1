/* app_samplers.c - floor 7: sd samplers and sd schedule. */
#include "app_samplers.h"
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
    json_member("comfyui", s->comfyui, ",");
    json_member("label", s->label, ",");
    json_member("paper", s->paper, ",");
    json_member("draws", draws[s->draws], ",");
    printf("\"order\":%d,\"eta\":%g}", s->order, s->eta);
}

static void sampler_as_text(const sd_sampler_info *s)
{
    static const char *const draws[] = {"", ", noise if eta > 0", ", noise"};
    char order[16] = "-";
    if (s->order) snprintf(order, sizeof order, "%d", s->order);
    printf("%-20s order %s, eta %g%s\n", s->name, order, s->eta, draws[s->draws]);
    const struct { const char *program, *name; } names[] = {
        {"A1111", s->a1111}, {"diffusers", s->diffusers}, {"k-diffusion", s->kdiffusion}, {"ComfyUI", s->comfyui}};
    const char *comma = "    ";
    for (size_t i = 0; i < COUNT(names); i++) {
        if (!names[i].name) continue;
        const char *quote = names[i].name == s->a1111 ? "\"" : "";
        printf("%s%s %s%s%s", comma, names[i].program, quote, names[i].name, quote);
        if (names[i].name == s->kdiffusion && s->diffusers) printf(" (here @kdiffusion)");
        comma = ", ";
    }
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

enum { MOST_EVALS = 4096 };

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

static int steps_of(const sd_ctx *ctx, const sd_params *p)
{
    sd_model_info info = {0};
    if (p->sampling.sigmas) return p->sampling.sigma_count - 1;
    if (p->sampling.timesteps) return p->sampling.timestep_count;
    if (p->sampling.steps != SD_DEFAULT) return p->sampling.steps;
    sd_get_info(ctx, &info);
    return info.steps;
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

/* steps: how many were asked for. A sampler may evaluate the network more than once in a step. */
static void curve_as_text(const curve *c, int steps)
{
    if (*c->name) printf("%s\n", c->name);
    if (c->n && c->n != steps) printf("%d evaluations of the network for %d steps\n", c->n, steps);
    if (!c->n) printf("The sampler decides on its noise levels while it runs.\n");
    else printf("   i   timestep        sigma  alphas_cumprod\n");
    for (int i = 0; i < c->n; i++) printf("%4d %10.6g %12.6g  %.6g\n", i, c->t[i], c->sigma[i], c->alpha[i]);
    if (c->n) printf(" end            %12.6g  %.6g\n", c->sigma[c->n], c->alpha[c->n]);
}

/* Draws the picture into `path`, and says on `legend` what its colours mean. */
static int write_plot(sd_ctx *ctx, const sd_params *p, const curve *c, int count, const char *path, FILE *legend)
{
    plot_curve curves[PLOT_MOST];
    sd_model_info info;
    sd_image image;
    char title[96] = "";
    if (sd_get_info(ctx, &info) == SD_OK)
        snprintf(title, sizeof title, "%.60s, %d steps", p->sampling.sampler ? p->sampling.sampler : info.sampler,
                 steps_of(ctx, p));
    for (int k = 0; k < count; k++) {
        curves[k] = (plot_curve){*c[k].name ? c[k].name : "the model's schedule", c[k].sigma, c[k].n};
        fprintf(legend, "%s: %s\n", plot_colour(k), curves[k].name);
    }
    if (!plot_sigmas(&image, title, curves, count)) return no_memory();
    fprintf(legend, "%s: sigma from 0.01 to 100 by powers of ten, over the evaluations\n", path);
    sd_status status = sd_image_write(ctx, path, &image, NULL);
    sd_image_free(&image);
    return status ? cli_error(exit_code(status), "%s", sd_error_text(ctx)) : CLI_OK;
}

int show_schedules(sd_ctx *ctx, const sd_params *p, const char *schedules, int json, const char *plot)
{
    curve *c = calloc(PLOT_MOST, sizeof *c);
    int code = CLI_OK, count = 0;
    if (!c) return no_memory();
    const char *at = schedules ? schedules : "";
    do {
        size_t n = strcspn(at, ",");
        sd_params one = *p;
        if (count == PLOT_MOST || n >= sizeof c->name) {
            code = cli_error(CLI_USAGE, "more than %d schedules, or too long a name: \"%s\"", PLOT_MOST, at);
            break;
        }
        memcpy(c[count].name, at, n);
        if (schedules) one.sampling.schedule = c[count].name;
        code = read_curve(ctx, &one, &c[count++]);
        at += n;
    } while (!code && *at++ == ',');
    if (!code && json) printf("[");
    for (int k = 0; !code && k < count; k++) {
        if (json && k) printf(",");
        if (json) curve_as_json(&c[k]);
        else curve_as_text(&c[k], steps_of(ctx, p));
    }
    if (!code && json) printf("]\n");
    if (!code && plot) code = write_plot(ctx, p, c, count, plot, json ? stderr : stdout);
    free(c);
    return code;
}
