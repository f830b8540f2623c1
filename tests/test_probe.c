/* test_probe.c - model_probe.c: a UNet that predicts v and one that predicts epsilon are told apart by their
 * answers. */
#define _XOPEN_SOURCE 700   /* realpath */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../ops.h"
#include "../weights.h"
#include "context.h"
#include "tempdir.h"
#include "test.h"

enum { MOST = 1024 };
static sd_traced tensor[MOST];
static char names[MOST][160];
static size_t n_tensors;
static sd_store stores[3];

/* The model in the box as one file under diffusers' names, which does not say what it predicts; and its configurations,
 * without a scheduler's. */
static int begin(void **state)
{
    static const char *const parts[][2] = {{"unet", "diffusion_pytorch_model"}, {"vae", "diffusion_pytorch_model"},
                                           {"text_encoder", "model"}};
    sd_error e = {0};
    if (temp_make(state) || mkdir(temp_path("config"), 0700)) return 1;
    for (size_t i = 0; i < 3; i++) {
        char path[80], real[4096];
        snprintf(path, sizeof path, "weights/tiny/%s", parts[i][0]);
        if (sd_store_open_dir(&stores[i], path, parts[i][1], &e)) return print_error("%s\n", e.text), 1;
        for (size_t k = 0; k < sd_store_count(&stores[i]) && n_tensors < MOST; k++) {
            const sd_entry *t = sd_store_at(&stores[i], k);
            snprintf(names[n_tensors], sizeof names[0], "%s.%s", parts[i][0], t->name);
            tensor[n_tensors] = (sd_traced){names[n_tensors], t->dt, t->nd, {0}, t->data};
            memcpy(tensor[n_tensors++].dim, t->dim, sizeof tensor->dim);
        }
        snprintf(path, sizeof path, "weights/tiny/%s/config.json", parts[i][0]);
        if (!realpath(path, real)) return 1;
        snprintf(path, sizeof path, "config/%s", parts[i][0]);
        if (mkdir(temp_path(path), 0700)) return 1;
        snprintf(path, sizeof path, "config/%s/config.json", parts[i][0]);
        if (symlink(real, temp_path(path))) return 1;
    }
    return n_tensors == MOST;
}

static int end(void **state)
{
    for (size_t i = 0; i < 3; i++) sd_store_close(&stores[i]);
    return temp_remove(state);
}

typedef struct lines { int asked; char last[400]; } lines;

static void collect(void *user, int level, const char *line)
{
    lines *l = user;
    (void)level;
    if (!strstr(line, "asked about noise")) return;
    l->asked++;
    snprintf(l->last, sizeof l->last, "%s", line);
}

static sd_ctx *open_file(lines *l)
{
    static char model[300], config[300];
    sd_error e = {0};
    sd_ctx *c;
    sd_options o;
    snprintf(model, sizeof model, "%s", temp_path("model.safetensors"));
    snprintf(config, sizeof config, "%s", temp_path("config"));
    if (sd_safetensors_write(model, tensor, n_tensors, &e)) fail_msg("%s", e.text);
    sd_options_init(&o);
    o.model = model;
    o.config = config;
    o.log = collect;
    o.user = l;
    if (sd_open(&c, &o)) fail_msg("%s", sd_error_text(c));
    return c;
}

static sd_params run(void)
{
    sd_params p = short_run("a red apple", 64);
    p.guidance.scale = 3;
    return p;
}

TEST(the_model_in_the_box_predicts_v)
{
    lines l = {0, ""};
    sd_ctx *c = open_file(&l), *tiny = open_tiny(SD_PART_ALL, 0);
    sd_params p = run();
    sd_model_info info;
    sd_image a, b, again;
    sd_get_info(c, &info);
    assert_non_null(strstr(info.prediction_why, "not decided"));
    assert_int_equal(l.asked, 0);   /* opening asks nothing */
    if (sd_generate(c, &p, &a) || sd_generate(c, &p, &again)) fail_msg("%s", sd_error_text(c));
    if (sd_generate(tiny, &p, &b)) fail_msg("%s", sd_error_text(tiny));
    assert_int_equal(l.asked, 1);   /* and the second picture neither */
    sd_get_info(c, &info);
    assert_string_equal(info.prediction, "v_prediction");
    const char *at = strstr(info.prediction_why, "correlation of ");
    assert_non_null(at);
    if (fabs(atof(at + 15)) > 0.3) fail_msg("%s", info.prediction_why);
    assert_memory_equal(a.data, b.data, 64 * 64 * 3);
    assert_memory_equal(a.data, again.data, 64 * 64 * 3);
    sd_image_free(&a);
    sd_image_free(&b);
    sd_image_free(&again);
    sd_close(c);
    sd_close(tiny);
}

TEST(a_prediction_that_is_given_is_not_asked_for)
{
    lines l = {0, ""};
    sd_ctx *c = open_file(&l);
    sd_params p = run(), resolved = run();
    p.sampling.prediction = "epsilon";
    assert_int_equal(sd_resolve_params(c, &p, &resolved), SD_OK);
    assert_string_equal(resolved.sampling.prediction, "epsilon");
    assert_int_equal(l.asked, 0);
    p.sampling.prediction = NULL;
    assert_int_equal(sd_resolve_params(c, &p, &resolved), SD_OK);
    assert_string_equal(resolved.sampling.prediction, "v_prediction");
    assert_int_equal(l.asked, 1);
    sd_close(c);
}

static const uint16_t HALF_ONE = 0x3C00, HALF_MINUS_ONE = 0xBC00, HALF_NAN = 0x7E00;

static sd_traced *find(const char *name)
{
    for (size_t i = 0; i < n_tensors; i++)
        if (strcmp(names[i], name) == 0) return &tensor[i];
    fail_msg("no %s", name);
    return NULL;
}

/* Gives a tensor numbers of its own, zeros. */
static uint16_t *renumber(const char *name)
{
    sd_traced *t = find(name);
    size_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (size_t)t->dim[i];
    uint16_t *x = calloc(n, sizeof *x);
    assert_non_null(x);
    t->data = x;
    return x;
}

/* A UNet that has learned nothing but to give back its input, which is what one that predicts epsilon does with noise.
 * Channel c of the latents goes as +x and -x through the last norm, a group for each of them, whose SiLU do not lose
 * anything: silu(x) - silu(-x) = x. */
TEST(a_unet_that_gives_back_noise_predicts_epsilon)
{
    enum { LATENTS = 4, CHANNELS = 48, GROUP = 3, MIDDLE = 4 };   /* of a 3x3 kernel */
    static const void *kept[MOST];
    void *own[8];
    for (size_t i = 0; i < n_tensors; i++) kept[i] = tensor[i].data;
    static const char *const empty[] = {"unet.conv_in.bias", "unet.conv_out.bias", "unet.conv_norm_out.bias",
                                        "unet.up_blocks.2.resnets.1.conv2.weight",
                                        "unet.up_blocks.2.resnets.1.conv2.bias",
                                        "unet.up_blocks.2.resnets.1.conv_shortcut.bias"};
    for (size_t i = 0; i < SD_COUNT(empty); i++) renumber(empty[i]);
    uint16_t *in = renumber("unet.conv_in.weight"), *out = renumber("unet.conv_out.weight"),
             *shortcut = renumber("unet.up_blocks.2.resnets.1.conv_shortcut.weight"),
             *norm = renumber("unet.conv_norm_out.weight");
    own[0] = in, own[1] = out, own[2] = shortcut, own[3] = norm;
    int joined = (int)find("unet.up_blocks.2.resnets.1.conv_shortcut.weight")->dim[1];
    for (int c = 0; c < CHANNELS; c++) {
        norm[c] = HALF_ONE;
        shortcut[c * joined + joined - CHANNELS + c] = HALF_ONE;   /* the skip, which conv_in made, comes last */
    }
    for (int c = 0; c < LATENTS; c++)
        for (int sign = 0; sign < 2; sign++) {
            int channel = GROUP * (2 * c + sign);
            in[(channel * LATENTS + c) * 9 + MIDDLE] = sign ? HALF_MINUS_ONE : HALF_ONE;
            out[(c * CHANNELS + channel) * 9 + MIDDLE] = sign ? HALF_MINUS_ONE : HALF_ONE;
        }
    lines l = {0, ""};
    sd_ctx *c = open_file(&l);
    sd_params p = run(), resolved = run();
    if (sd_resolve_params(c, &p, &resolved)) fail_msg("%s", sd_error_text(c));
    assert_string_equal(resolved.sampling.prediction, "epsilon");
    const char *at = strstr(l.last, "correlation of ");
    assert_non_null(at);
    if (atof(at + 15) < 0.98) fail_msg("%s", l.last);
    sd_close(c);
    for (size_t i = 0; i < SD_COUNT(empty); i++) free((void *)(uintptr_t)find(empty[i])->data);
    for (size_t i = 0; i < 4; i++) free(own[i]);
    for (size_t i = 0; i < n_tensors; i++) tensor[i].data = kept[i];
}

TEST(a_unet_that_answers_nan_is_an_error)
{
    sd_traced *t = find("unet.conv_out.bias");
    const void *kept = t->data;
    uint16_t *x = renumber("unet.conv_out.bias");
    x[0] = HALF_NAN;
    lines l = {0, ""};
    sd_ctx *c = open_file(&l);
    sd_params p = run(), resolved = run();
    assert_int_equal(sd_resolve_params(c, &p, &resolved), SD_ERR_NUMERIC);
    assert_non_null(strstr(sd_error_text(c), "conv_out.bias"));
    assert_int_equal(sd_resolve_params(c, &p, &resolved), SD_ERR_NUMERIC);   /* it stays open */
    p.sampling.prediction = "v";
    assert_int_equal(sd_resolve_params(c, &p, &resolved), SD_OK);
    sd_close(c);
    free(x);
    t->data = kept;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_in_the_box_predicts_v),
        cmocka_unit_test(a_prediction_that_is_given_is_not_asked_for),
        cmocka_unit_test(a_unet_that_gives_back_noise_predicts_epsilon),
        cmocka_unit_test(a_unet_that_answers_nan_is_an_error),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
