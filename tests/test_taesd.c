/* test_taesd.c - a TAESD in the place of the VAE: every module and whole runs against float64 (tools/golden_taesd.py
 * writes the truth). */
#define _POSIX_C_SOURCE 200809L
#include "test.h"

#include <math.h>
#include <sys/stat.h>

#include "network.h"
#include "pictures.h"
#include "tempdir.h"

#define TAESD "taesd-small"

/* The models of the runs, and the TAESD's directory in diffusers' layout. */
static const char *model_dir(const char *config)
{
    sd_error e = {0};
    const char *dir = temp_path(config);
    if (mkdir(dir, 0777) == 0 && synth_write_model(dir, config, NULL, &e)) fail_msg("%s", e.text);
    return dir;
}

static const char *taesd_dir(void)
{
    static char dir[512];
    snprintf(dir, sizeof dir, "%s/vae", model_dir(TAESD));
    return dir;
}

/* A model with the TAESD at this path. */
static void open_with(network *n, const char *config, unsigned parts, int precise, const char *taesd)
{
    sd_error e = {0};
    sd_options o;
    char model[512];
    memset(n, 0, sizeof *n);
    n->config = TAESD;
    if (golden_open(&n->golden, TAESD, &e)) fail_msg("%s", e.text);
    snprintf(model, sizeof model, "%s", model_dir(config));
    sd_options_init(&o);
    o.model = model;
    o.parts = parts;
    o.precise = precise;
    o.vae = taesd;
    if (sd_open(&n->ctx, &o)) fail_msg("%s", sd_error_text(n->ctx));
}

/* ----------------------------------------------------------------------------------------- modules */

static float *decode(network *n)
{
    int64_t dim[4];
    float *latents = network_input(n, "vae_latents", dim),
        *picture = malloc((size_t)(dim[0] * 3 * 64 * dim[2] * dim[3]) * sizeof *picture);
    if (sd_vae_decode(n->ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, picture))
        fail_msg("%s", sd_error_text(n->ctx));
    free(latents);
    return picture;
}

static float *encode(network *n)
{
    int64_t dim[4];
    float *picture = network_input(n, "picture", dim);
    int h = (int)dim[2] / 8, w = (int)dim[3] / 8;
    size_t count = (size_t)(dim[0] * 4 * h * w);
    float *mean = malloc(count * sizeof *mean), *logvar = malloc(count * sizeof *logvar);
    if (sd_vae_encode(n->ctx, (int)dim[0], h, w, picture, mean, logvar)) fail_msg("%s", sd_error_text(n->ctx));
    for (size_t i = 0; i < count; i++) assert_true(logvar[i] == -INFINITY);   /* it has no posterior */
    sd_vae_sample(mean, logvar, picture, count, 1, logvar);   /* any numbers are noise: they do not count */
    assert_memory_equal(mean, logvar, count * sizeof *mean);
    free(picture);
    free(logvar);
    return mean;
}

static void modules_against_float64(int precise)
{
    network n;
    open_with(&n, "sd1-small", SD_PART_VAE, precise, taesd_dir());
    assert_int_equal(sd_set_trace(n.ctx, NULL, network_compare, &n), SD_OK);
    float *picture = decode(&n), *mean = encode(&n);
    network_check(&n, "vae.picture", 4, (const int64_t[]){2, 3, 24, 40}, picture);
    network_check(&n, "vae.mean", 4, (const int64_t[]){2, 4, 3, 5}, mean);
    network_finish(&n, "vae.", "decoder", "vae.picture");
    network_finish(&n, "vae.", "encoder", "vae.mean");
    assert_int_equal(n.compared, 61);
    free(picture);
    free(mean);
    network_close(&n);
}

TEST(every_module_is_within_its_bound_of_float64) { modules_against_float64(0); }
TEST(every_module_is_within_its_bound_precisely) { modules_against_float64(1); }

/* ------------------------------------------------------------------------------------- whole runs */

typedef struct run { const char *kind, *model; int masked, steps; } run;
static const run runs[] = {{"draw", "sd1-small", 0, 3}, {"img2img", "sd1-small", 0, 3},
                           {"inpaint", "sd1-small", 1, 3}, {"inpaint9", "inpaint-small", 1, 3}};

static void params_of(const run *r, const sd_image *init, const sd_image *mask, sd_params *p)
{
    bool edits = r != &runs[0];
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = "blurry";
    if (!edits) p->width = 72;
    if (!edits) p->height = 88;
    p->seed = edits ? 31 : 20;
    p->sampling.sampler = "ddim";
    p->sampling.steps = edits ? 5 : 3;
    p->guidance.scale = 7.5;
    p->edit.init = edits ? init : NULL;
    p->edit.mask = r->masked ? mask : NULL;
    if (edits) p->edit.strength = 0.6;
}

static void compare(void *user, const sd_traced *t)
{
    network *n = user;
    char name[256];
    snprintf(name, sizeof name, "%s%s", n->prefix, t->name);
    if (t->dtype == SD_F32 && golden_compare(&n->golden, name, t->nd, t->dim, t->data).found)
        network_check(n, name, t->nd, t->dim, t->data);
}

static void draw(network *n, const run *r)
{
    const char *mistake;
    char name[64];
    sd_params p;
    sd_image image, init = golden_picture(56, 40), mask = golden_mask(56, 40);
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->kind);
    params_of(r, &init, &mask, &p);
    assert_int_equal(sd_set_trace(n->ctx, NULL, compare, n), SD_OK);
    if (sd_generate(n->ctx, &p, &image)) fail_msg("%s: %s", r->kind, sd_error_text(n->ctx));
    sd_image_free(&image);
    sd_image_free(&init);
    sd_image_free(&mask);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->kind, unseen);
    snprintf(name, sizeof name, "run.%s.image", r->kind);
    golden_result g = golden_compare(&n->golden, name, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, r->kind, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", r->kind, mistake, least);
}

TEST(runs_with_it_are_within_their_bound_of_float64)
{
    for (int precise = 0; precise < 2; precise++)
        for (size_t i = 0; i < SD_COUNT(runs); i++) {
            network n;
            open_with(&n, runs[i].model, SD_PART_ALL, precise, taesd_dir());
            draw(&n, &runs[i]);
            print_message("%s: %d tensors, worst %.2f of its bound (%s)\n", runs[i].kind, n.compared, n.worst,
                          n.worst_name);
            network_close(&n);
        }
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_module_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(every_module_is_within_its_bound_precisely, clear),
        cmocka_unit_test_teardown(runs_with_it_are_within_their_bound_of_float64, clear),
    };
    return cmocka_run_group_tests_name("taesd", tests, temp_make, temp_remove);
}
