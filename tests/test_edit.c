/* test_edit.c - image to image, inpainting and outpainting: whole runs against diffusers' pipelines in float64
 * (tools/golden_edit.py), then sizes, masks, notices, what comes back byte for byte, and every sentence of refusal. */
#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "../pipeline_edit.h"
#include "network.h"
#include "pictures.h"
#include "tempdir.h"

/* ------------------------------------------------------------------------------- pictures by formula */

static sd_image new_image(int width, int height)
{
    sd_image i = {width, height, 3, calloc((size_t)width * (size_t)height, 3)};
    assert_non_null(i.data);
    return i;
}

/* A mask: `inside` in the rectangle, `outside` around it. */
static sd_image make_mask(int width, int height, sd_rect r, uint8_t inside, uint8_t outside)
{
    sd_image i = new_image(width, height);
    for (int p = 0; p < width * height; p++) {
        int x = p % width - r.x, y = p / width - r.y;
        memset(i.data + 3 * p, x >= 0 && y >= 0 && x < r.width && y < r.height ? inside : outside, 3);
    }
    return i;
}

/* The same with alpha, opaque all over. */
static void add_alpha(sd_image *i)
{
    size_t n = (size_t)i->width * (size_t)i->height;
    uint8_t *rgba = malloc(4 * n);
    assert_non_null(rgba);
    for (size_t p = 0; p < n; p++) {
        memcpy(rgba + 4 * p, i->data + 3 * p, 3);
        rgba[4 * p + 3] = 255;
    }
    free(i->data);
    i->data = rgba;
    i->channels = 4;
}

static void set_alpha(sd_image *i, int from, int n, uint8_t alpha)
{
    for (int p = from; p < from + n; p++) i->data[4 * p + 3] = alpha;
}

/* --------------------------------------------------------------------------------------- the models */

typedef struct lines { char text[2048]; } lines;   /* what was logged */

static void keep_line(void *user, int level, const char *line)
{
    lines *l = user;
    size_t n = strlen(l->text);
    if (level <= 1) snprintf(l->text + n, sizeof l->text - n, "%s\n", line);
}

static sd_ctx *open_model(const char *config, lines *log)
{
    sd_error e = {0};
    sd_options o;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", temp_path(config));
    mkdir(dir, 0777);
    if (synth_write_model(dir, config, NULL, &e)) fail_msg("%s", e.text);
    sd_options_init(&o);
    o.model = dir;
    o.log = log ? keep_line : NULL;
    o.user = log;
    return open_context(&o, SD_OK);
}

/* One model for all tests but those of the goldens. */
static sd_ctx *ctx;
static lines said;

static int open_shared(void **state)
{
    if (temp_make(state)) return 1;
    ctx = open_model("sd1-small", &said);
    return 0;
}

static int close_shared(void **state)
{
    sd_close(ctx);
    return temp_remove(state);
}

static sd_params params_for(const sd_image *init, const sd_image *mask)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = "a cat";
    p.sampling.steps = 2;
    p.guidance.scale = 1;
    p.seed = 3;
    p.edit.init = init;
    p.edit.mask = mask;
    said.text[0] = 0;
    return p;
}

static sd_edit prepared(const sd_params *p, int *width, int *height)
{
    sd_edit e;
    sd_params q = *p;
    q.width = *width = p->width == SD_DEFAULT ? 0 : p->width;
    q.height = *height = p->height == SD_DEFAULT ? 0 : p->height;
    p = &q;
    sd_begin(ctx);
    if (sd_edit_resolve(ctx, p, width, height, &e)) fail_msg("%s", sd_error_text(ctx));
    sd_edit plan = e;
    if (sd_edit_fill(ctx, p, *width, *height, &e)) fail_msg("%s", sd_error_text(ctx));
    /* The pictures are what the plan says, and a plan has none. */
    assert_true(!plan.init.data && !plan.mask.data && !plan.whole.data && !plan.soft.data);
    assert_true(e.masked == plan.masked && e.masked == (e.mask.data != NULL) && e.masked == (e.soft.data != NULL));
    assert_true(e.init.width == *width && e.init.height == *height);
    assert_true(e.out_width == plan.out_width && e.out_height == plan.out_height && e.strength == plan.strength);
    assert_true(e.out_width <= e.whole.width && e.out_height <= e.whole.height);
    sd_end(ctx);
    return e;
}

static sd_image generated(const sd_params *p)
{
    sd_image out = {0};
    if (sd_generate(ctx, p, &out)) fail_msg("%s", sd_error_text(ctx));
    return out;
}

static const uint8_t *rgb_at(const sd_image *i, int x,
                             int y) { return i->data + 3 * ((size_t)y * (size_t)i->width + (size_t)x); }

/* --------------------------------------------------------------------------- against diffusers */

typedef struct kind {
    const char *config, *name;
    bool masked;
    double once[5], twice[5];   /* strengths, for samplers of one and of two evaluations a step */
} kind;
static const kind kinds[] = {
    {"sd1-small", "img2img", false, {0.2, 0.5, 0.8, 1.0}, {0.5}},
    {"sd1-small", "inpaint", true, {0.2, 0.5, 0.8, 1.0}, {0.5, 1.0}},
    {"inpaint-small", "inpaint9", true, {0.5, 1.0}, {0}},
};
static const struct { const char *name; bool twice; } golden_samplers[] = {
    {"ddim", false}, {"pndm", false}, {"euler", false}, {"euler_a", false},
    {"heun", true}, {"dpm2", true}, {"dpm2_a", true}, {"dpm++sde", true},
};

static void run_kind(network *n, const kind *k)
{
    enum { WIDTH = 56, HEIGHT = 40 };
    synth_run_list list;
    sd_error e = {0};
    sd_image init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    if (synth_runs(&list, k->config, &e)) fail_msg("%s", e.text);
    for (size_t s = 0; s < SD_COUNT(golden_samplers); s++) {
        const double *strength = golden_samplers[s].twice ? k->twice : k->once;
        for (int i = 0; strength[i] > 0; i++) {
            sd_params p = params_for(&init, k->masked ? &mask : NULL);
            sd_image out;
            p.prompt = list.prompt;
            p.negative_prompt = list.negative;
            p.sampling.steps = 5;
            p.guidance.scale = 7.5;
            p.seed = 31;
            p.sampling.sampler = golden_samplers[s].name;
            p.edit.strength = strength[i];
            snprintf(n->prefix, sizeof n->prefix, "%s.%s.%g.", k->name, p.sampling.sampler, p.edit.strength);
            if (sd_generate(n->ctx, &p, &out)) fail_msg("%s: %s", n->prefix, sd_error_text(n->ctx));
            sd_image_free(&out);
        }
    }
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* Every step's latents and the final ones; every golden is met, and the known mistakes would be seen. */
TEST(runs_agree_with_diffusers_in_float64)
{
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        sd_error e = {0};
        char path[128], prefix[32], last[64];
        network n = {.config = kinds[i].config, .ctx = open_model(kinds[i].config, NULL)};
        snprintf(path, sizeof path, "tests/golden/edit_%s.safetensors", kinds[i].config);
        if (sd_weight_file_open(&n.golden.file, path, &e)) fail_msg("%s", e.text);
        assert_int_equal(sd_set_trace(n.ctx, "latents.*", network_compare, &n), SD_OK);
        run_kind(&n, &kinds[i]);
        snprintf(prefix, sizeof prefix, "%s.", kinds[i].name);
        snprintf(last, sizeof last, "%s.ddim.1.latents.5", kinds[i].name);
        network_finish(&n, prefix, kinds[i].name, last);
        network_close(&n);
    }
}

/* Each name comes once: a run that encodes the picture and its kept part can be traced into a file. */
TEST(both_encodings_of_a_run_have_names_of_their_own)
{
    sd_error e = {0};
    sd_weight_file file;
    sd_ctx *nine = open_model("inpaint-small", NULL);
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, (sd_rect){12, 10, 20, 16}, 255, 0), out;
    sd_params p = params_for(&init, &mask);
    p.edit.strength = 0.5;
    char path[512];
    snprintf(path, sizeof path, "%s", temp_path("both.safetensors"));
    assert_int_equal(sd_trace_open(nine, path, NULL), SD_OK);
    if (sd_generate(nine, &p, &out)) fail_msg("%s", sd_error_text(nine));
    assert_int_equal(sd_trace_close(nine), SD_OK);
    if (sd_weight_file_open(&file, path, &e)) fail_msg("%s", e.text);
    static const char *const names[] = {
        "vae.encoder.conv_in", "vae.quant_conv", "image_latents", "vae.decoder.conv_out", "masked_image_latents",
        "masked_image.vae.encoder.conv_in", "masked_image.vae.quant_conv"};
    for (size_t i = 0; i < SD_COUNT(names); i++)
        if (!sd_weight_file_find(&file, names[i])) fail_msg("no %s", names[i]);
    sd_weight_file_close(&file);
    sd_image_free(&out);
    sd_image_free(&init);
    sd_image_free(&mask);
    sd_close(nine);
}

/* ------------------------------------------------------------------------------------------- sizes */

TEST(sizes_are_those_of_the_picture_unless_given)
{
    static const struct {
        int w, h, W, H, masked, crop, outpaint[4], work_w, work_h, out_w, out_h;
        const char *notice;
    } cases[] = {
        {64, 48, 0, 0, 0, -1, {0}, 64, 48, 64, 48, ""},
        {50, 45, 0, 0, 0, -1, {0}, 48, 48, 48, 48, "the picture of 50x45 becomes 48x48, multiples of 8\n"},
        {1, 1, 0, 0, 0, -1, {0}, 8, 8, 8, 8, "the picture of 1x1 becomes 8x8, multiples of 8\n"},
        {3, 100, 0, 0, 0, -1, {0}, 8, 104, 8, 104, "the picture of 3x100 becomes 8x104, multiples of 8\n"},
        {50, 45, 40, 0, 0, -1, {0}, 40, 48, 40, 48, ""},
        {50, 45, 40, 24, 0, -1, {0}, 40, 24, 40, 24, ""},
        {50, 45, 40, 24, 1, -1, {0}, 40, 24, 40, 24, ""},
        {50, 45, 0, 0, 1, -1, {0}, 56, 48, 50, 45,
         "the picture of 50x45 is widened to multiples of 8 for the model, and comes back in its own size\n"},
        {64, 48, 0, 0, 1, -1, {0}, 64, 48, 64, 48, ""},
        {200, 100, 0, 0, 1, 5, {0}, 64, 64, 200, 100, ""},        /* sd1-small's own size is 64 */
        {200, 100, 32, 24, 1, 0, {0}, 32, 24, 200, 100, ""},
        {64, 48, 0, 0, 0, -1, {8, 0, 16, 0}, 88, 48, 88, 48, ""},
        {50, 45, 0, 0, 0, -1, {1, 2, 3, 5}, 56, 56, 54, 52, ""},  /* no multiples of 8 anywhere */
        {50, 45, 0, 0, 1, -1, {0, 0, 0, 1}, 56, 48, 50, 46, ""},
        {1, 1, 0, 0, 0, -1, {7, 7, 0, 0}, 8, 8, 8, 8, ""},
        {1, 1, 0, 0, 0, -1, {10, 0, 0, 0}, 16, 8, 11, 1, ""},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        int w, h;
        sd_image init = golden_picture(cases[i].w, cases[i].h);
        sd_image mask = make_mask(cases[i].w, cases[i].h, (sd_rect){20, 10, 9, 9}, 255, 0);
        sd_params p = params_for(&init, cases[i].masked ? &mask : NULL);
        p.width = cases[i].W;
        p.height = cases[i].H;
        if (cases[i].crop >= 0) p.edit.inpaint_crop = cases[i].crop;
        memcpy(p.edit.outpaint, cases[i].outpaint, sizeof p.edit.outpaint);
        sd_edit e = prepared(&p, &w, &h);
        if (w != cases[i].work_w || h != cases[i].work_h) fail_msg("case %zu works on %dx%d", i, w, h);
        if (e.out_width != cases[i].out_w || e.out_height != cases[i].out_h)
            fail_msg("case %zu gives %dx%d", i, e.out_width, e.out_height);
        assert_int_equal(e.init.width, w);
        assert_int_equal(e.init.height, h);
        if (strcmp(said.text, cases[i].notice) != 0) fail_msg("case %zu says \"%s\"", i, said.text);
        sd_edit_free(&e);
        sd_image_free(&init);
        sd_image_free(&mask);
    }
}

/* Pictures without pixels: who asks what a run would be (the program does before it begins) waits for no resizing. */
TEST(settings_are_resolved_without_a_look_at_pixels)
{
    static const struct { int masked, W, crop, outpaint, w, h; double strength; } cases[] = {
        {0, 0, -1, 0, 104, 64, 0.8}, {1, 0, -1, 0, 104, 72, 1}, {1, 48, -1, 0, 48, 64, 1}, {1, 0, 3, 0, 64, 64, 1},
        {0, 0, -1, 9, 112, 72, 1},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_image init = {101, 67, 3, NULL};
        sd_params r, p = params_for(&init, cases[i].masked ? &init : NULL);
        if (cases[i].W) p.width = cases[i].W;
        if (cases[i].crop >= 0) p.edit.inpaint_crop = cases[i].crop;
        p.edit.outpaint[1] = p.edit.outpaint[2] = cases[i].outpaint / 2;
        p.edit.outpaint[0] = cases[i].outpaint % 2;
        p.edit.mask_blur = 3;
        if (sd_resolve_params(ctx, &p, &r)) fail_msg("%s", sd_error_text(ctx));
        if (r.width != cases[i].w || r.height != cases[i].h) fail_msg("case %zu: %dx%d", i, r.width, r.height);
        assert_true(r.edit.strength == cases[i].strength);
    }
}

TEST(resizing_stretches_crops_or_pads)
{
    sd_image init = new_image(80, 40);   /* left half black, right half white */
    for (int i = 0; i < 80 * 40; i++) memset(init.data + 3 * i, i % 80 < 40 ? 0 : 255, 3);
    static const char *const ways[] = {"stretch", "crop", "pad"};
    for (size_t i = 0; i < 3; i++) {
        int w, h;
        sd_params p = params_for(&init, NULL);
        p.width = p.height = 32;
        p.edit.resize = ways[i];
        sd_edit e = prepared(&p, &w, &h);
        /* Where black ends and white begins is the middle in all of them; how steep it is tells the scale: 80 or 40 or
         * 80 pixels to 32. */
        assert_in_range(e.init.data[3 * (16 * 32 + 4)], 0, 3);
        assert_in_range(e.init.data[3 * (16 * 32 + 27)], 252, 255);
        assert_in_range(e.init.data[3 * (1 * 32 + 27)], 252, 255);   /* padding repeats the edge */
        sd_edit_free(&e);
    }
    sd_image mask = make_mask(80, 40, (sd_rect){0, 0, 80, 40}, 255, 0);
    sd_params p = params_for(&init, &mask);
    int w, h;
    p.width = p.height = 32;
    p.edit.resize = "pad";
    sd_edit e = prepared(&p, &w, &h);
    /* padding is kept */
    for (int y = 0; y < 32; y++) assert_int_equal(e.mask.data[y * 32 + 5], y >= 8 && y < 24 ? 255 : 0);
    sd_edit_free(&e);
    sd_image_free(&mask);
    sd_image_free(&init);
}

/* ------------------------------------------------------------------------------------------- masks */

static size_t count_white(const sd_image *m)
{
    size_t n = 0;
    for (int i = 0; i < m->width * m->height; i++) {
        assert_true(m->data[i] == 0 || m->data[i] == 255);
        n += m->data[i] == 255;
    }
    return n;
}

TEST(bright_is_repainted_from_one_half_on)
{
    static const struct { uint8_t inside, outside; int invert; size_t white; bool nothing; const char *says; } cases[] =
        {
        {255, 0, 0, 100, false, ""},
        {255, 0, 1, 64 * 48 - 100, false, ""},
        {128, 127, 0, 100, false, ""},
        {127, 128, 0, 64 * 48 - 100, false, ""},
        {0, 0, 0, 0, true, "the mask is black: nothing is repainted\n"},
        {127, 90, 0, 0, true, "the mask is black: nothing is repainted\n"},
        {255, 255, 0, 64 * 48, false, "the mask is white: everything is repainted\n"},
        {0, 0, 1, 64 * 48, false, "the mask is white: everything is repainted\n"},
    };
    sd_image init = golden_picture(64, 48);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        int w, h;
        sd_image mask = make_mask(64, 48, (sd_rect){20, 10, 10, 10}, cases[i].inside, cases[i].outside);
        sd_params p = params_for(&init, &mask);
        p.edit.invert_mask = cases[i].invert;
        sd_edit e = prepared(&p, &w, &h);
        assert_int_equal(count_white(&e.mask), cases[i].white);
        assert_int_equal(e.nothing, cases[i].nothing);
        assert_string_equal(said.text, cases[i].says);
        assert_true(e.masked && e.strength == 1);   /* the default where something is masked */
        sd_edit_free(&e);
        sd_image_free(&mask);
    }
    sd_image_free(&init);
}

TEST(a_mask_of_another_size_is_resized)
{
    int w, h;
    sd_image init = golden_picture(64, 48), mask = make_mask(128, 96, (sd_rect){40, 20, 20, 20}, 255, 0);
    sd_params p = params_for(&init, &mask);
    sd_edit e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 100);
    assert_int_equal(e.mask.data[10 * 64 + 20], 255);
    assert_int_equal(e.mask.data[9 * 64 + 20], 0);
    sd_edit_free(&e);
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(transparent_is_repainted_where_no_mask_is_given)
{
    int w, h;
    sd_image init = golden_picture(64, 48), mask = make_mask(64, 48, (sd_rect){0, 0, 8, 8}, 255, 0);
    add_alpha(&init);
    sd_params p = params_for(&init, NULL);
    sd_edit e = prepared(&p, &w, &h);      /* an alpha that hides nothing is no mask */
    assert_false(e.masked);
    assert_true(fabs(e.strength - 0.8) < 1e-12);
    sd_edit_free(&e);
    set_alpha(&init, 0, 5, 0);
    set_alpha(&init, 5, 1, 127);          /* half transparent: more than half of it is repainted */
    set_alpha(&init, 6, 1, 128);
    e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 6);
    sd_edit_free(&e);
    p.edit.invert_mask = 1;
    e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 64 * 48 - 6);
    sd_edit_free(&e);
    p = params_for(&init, &mask);          /* a mask that is given counts alone */
    e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 64);
    sd_edit_free(&e);
    set_alpha(&init, 0, 64 * 48, 0);       /* all of it transparent */
    p = params_for(&init, NULL);
    e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 64 * 48);
    sd_edit_free(&e);
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* Editors leave a pixel of alpha 254 here and there. A mask of that is black, and image to image a copy. */
TEST(alpha_that_hides_less_than_half_is_no_mask)
{
    int w, h;
    sd_image init = golden_picture(64, 48), mask = make_mask(64, 48, (sd_rect){0, 0, 8, 8}, 255, 0);
    add_alpha(&init);
    set_alpha(&init, 0, 1, 254);
    set_alpha(&init, 1, 1, 128);
    memset(init.data, 55, 3);
    memset(init.data + 4, 55, 3);
    sd_params p = params_for(&init, NULL);
    sd_edit e = prepared(&p, &w, &h);
    assert_false(e.masked || e.nothing);
    assert_true(fabs(e.strength - 0.8) < 1e-12);
    assert_string_equal(said.text, "the picture is a little transparent, which is no mask: it is laid over white\n");
    assert_int_equal(e.init.data[0], 56);    /* 255 + (55 - 255)*254/255 */
    assert_int_equal(e.init.data[3], 155);   /* 255 + (55 - 255)*128/255 */
    for (int i = 2; i < 64 * 48; i++) assert_memory_equal(e.init.data + 3 * i, init.data + 4 * i, 3);
    sd_edit_free(&e);
    p = params_for(&init, &mask);          /* neither is it beside another mask */
    e = prepared(&p, &w, &h);
    assert_int_equal(count_white(&e.mask), 64);
    assert_non_null(strstr(said.text, "laid over white"));
    assert_int_equal(e.whole.data[3], 155);
    sd_edit_free(&e);
    p = params_for(&init, NULL);           /* unless that is what is wanted */
    p.edit.alpha_mask = 1;
    e = prepared(&p, &w, &h);
    assert_true(e.masked && e.nothing);
    assert_int_equal(e.init.data[3], 55);
    assert_string_equal(said.text, "the mask is black: nothing is repainted\n");
    sd_edit_free(&e);
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(a_blurred_mask_fades_where_the_result_is_pasted)
{
    int w, h;
    sd_image init = golden_picture(64, 48), mask = make_mask(64, 48, (sd_rect){20, 10, 20, 20}, 255, 0);
    sd_params p = params_for(&init, &mask);
    p.edit.mask_blur = 3;
    sd_edit e = prepared(&p, &w, &h);
    count_white(&e.mask);                                   /* the networks' mask stays of two values */
    const uint8_t *row = e.soft.data + 20 * 64;
    for (int x = 10; x < 30; x++) assert_true(row[x] <= row[x + 1]);
    assert_true(row[17] > 0 && row[17] < 128 && row[23] > 128 && row[23] < 255 && row[0] == 0 && row[30] == 255);
    sd_edit_free(&e);
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* ------------------------------------------------------------------------------ what comes back */

/* Of the pixels of `out`: those with keep(x, y) are those of `init` at x - dx, y - dy; of the others some are not. */
static void expect_kept(const sd_image *out, const sd_image *init, int dx, int dy, bool (*keep)(int x, int y),
                        const char *what)
{
    int kept = 0, other = 0, changed = 0;
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            int ox = x - dx, oy = y - dy;
            bool inside = ox >= 0 && oy >= 0 && ox < init->width && oy < init->height;
            bool same = inside && memcmp(rgb_at(out, x, y), rgb_at(init, ox, oy), 3) == 0;
            if (inside && keep(ox, oy)) {
                if (!same) fail_msg("%s: the pixel at %d,%d is not what it was", what, x, y);
                kept++;
            } else {
                other++;
                changed += !same;
            }
        }
    if (kept == 0 || changed * 2 < other) fail_msg("%s: %d kept, %d of %d others are new", what, kept, changed, other);
}

static bool outside_hole(int x, int y) { return x < 12 || y < 10 || x >= 32 || y >= 26; }
static bool far_from_hole(int x, int y) { return x < 2 || y < 0 || x >= 42 || y >= 36; }
static bool everywhere(int x, int y) { (void)x; (void)y; return true; }
static const sd_rect hole = {12, 10, 20, 16};

TEST(kept_pixels_come_back_byte_for_byte)
{
    static const struct { int w, h, crop; double blur; const char *what; } cases[] = {
        {48, 40, -1, 0, "plain"}, {50, 43, -1, 0, "no multiples of 8"}, {48, 40, 3, 0, "cropped"},
            {101, 67, 0, 0, "cropped, an odd size"},
        {64, 48, -1, 2, "blurred"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_image init = golden_picture(cases[i].w, cases[i].h), mask = make_mask(cases[i].w, cases[i].h, hole, 255, 0);
        sd_params p = params_for(&init, &mask);
        if (cases[i].crop >= 0) p.edit.inpaint_crop = cases[i].crop;
        p.edit.mask_blur = cases[i].blur;
        sd_image out = generated(&p);
        assert_int_equal(out.width, cases[i].w);
        assert_int_equal(out.height, cases[i].h);
        if (cases[i].blur > 0) {
            for (int y = 0; y < out.height; y++)
                for (int x = 0; x < out.width; x++)
                    if (far_from_hole(x, y)) assert_memory_equal(rgb_at(&out, x, y), rgb_at(&init, x, y), 3);
        } else {
            expect_kept(&out, &init, 0, 0, outside_hole, cases[i].what);
        }
        sd_image_free(&out);
        sd_image_free(&init);
        sd_image_free(&mask);
    }
}

/* The known mistake: what the VAE gives back for pixels that were kept is not what they were. */
TEST(without_pasting_back_they_do_not)
{
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, hole, 255, 0);
    sd_params p = params_for(&init, &mask);
    p.edit.paste_back = 0;
    sd_image out = generated(&p);
    int changed = 0;
    for (int y = 0; y < 40; y++)
        for (int x = 0; x < 48; x++)
            changed += outside_hole(x, y) && memcmp(rgb_at(&out, x, y), rgb_at(&init, x, y), 3) != 0;
    assert_true(changed > 100);
    sd_image_free(&out);
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(a_black_mask_gives_the_picture_back)
{
    for (int crop = -1; crop < 1; crop++)
        for (int size = 40; size < 44; size += 3) {
            sd_image init = golden_picture(48, size), mask = make_mask(48, size, hole, 0, 0);
            sd_params p = params_for(&init, &mask);
            if (crop >= 0) p.edit.inpaint_crop = crop;
            sd_image out = generated(&p);
            assert_int_equal(out.height, size);
            assert_memory_equal(out.data, init.data, (size_t)(48 * size * 3));
            sd_image_free(&out);
            sd_image_free(&init);
            sd_image_free(&mask);
        }
}

TEST(a_white_mask_at_full_strength_does_not_depend_on_the_picture)
{
    sd_image a = golden_picture(48, 40), b = new_image(48, 40), mask = make_mask(48, 40, hole, 255, 255);
    sd_params p = params_for(&a, &mask), q = params_for(&b, &mask);
    sd_image out_a = generated(&p), out_b = generated(&q);
    assert_memory_equal(out_a.data, out_b.data, 48 * 40 * 3);
    sd_image_free(&out_a);
    sd_image_free(&out_b);
    sd_image_free(&a);
    sd_image_free(&b);
    sd_image_free(&mask);
}

TEST(outpainting_keeps_the_picture_and_fills_the_rest)
{
    static const int margins[][4] = {{8, 8, 8, 8}, {0, 0, 13, 0}, {3, 0, 0, 9}, {5, 7, 1, 2}};
    for (size_t i = 0; i < SD_COUNT(margins); i++)
        for (int masked = 0; masked < 2; masked++) {
            sd_image init = golden_picture(50, 43), mask = make_mask(50, 43, hole, 255, 0);
            sd_params p = params_for(&init, masked ? &mask : NULL);
            memcpy(p.edit.outpaint, margins[i], sizeof p.edit.outpaint);
            sd_image out = generated(&p);
            assert_int_equal(out.width, 50 + p.edit.outpaint[0] + p.edit.outpaint[2]);
            assert_int_equal(out.height, 43 + p.edit.outpaint[1] + p.edit.outpaint[3]);
            expect_kept(&out, &init, p.edit.outpaint[0], p.edit.outpaint[1], masked ? outside_hole : everywhere,
                        masked ? "outpainted, masked" : "outpainted");
            sd_image_free(&out);
            sd_image_free(&init);
            sd_image_free(&mask);
        }
}

TEST(the_smallest_and_the_longest_pictures_are_changed)
{
    static const struct { int w, h, masked, outpaint; } cases[] = {{1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 0, 5},
                                                                   {2048, 1, 0, 0}, {1, 2048, 1, 0}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_image init = golden_picture(cases[i].w, cases[i].h), mask = make_mask(cases[i].w, cases[i].h,
                (sd_rect){0, 0, 1, 1}, 255, 0);
        sd_params p = params_for(&init, cases[i].masked ? &mask : NULL);
        p.edit.outpaint[0] = p.edit.outpaint[3] = cases[i].outpaint;
        sd_image out = generated(&p);
        assert_true(out.width > 0 && out.height > 0);
        sd_image_free(&out);
        sd_image_free(&init);
        sd_image_free(&mask);
    }
}

TEST(a_picture_of_the_greatest_length_has_its_hole_repainted)
{
    sd_image init = golden_picture(16384, 16), mask = make_mask(16384, 16, (sd_rect){9000, 4, 12, 8}, 255, 0);
    sd_params p = params_for(&init, &mask);
    p.edit.inpaint_crop = 4;
    sd_image out = generated(&p);
    int changed = 0;
    for (int x = 0; x < 16384; x++)
        for (int y = 0; y < 16; y++) {
            bool same = memcmp(rgb_at(&out, x, y), rgb_at(&init, x, y), 3) == 0;
            if (x < 9000 || x >= 9012 || y < 4 || y >= 12) assert_true(same);
            changed += !same;
        }
    assert_true(changed > 48);
    sd_image_free(&out);
    p = params_for(&init, NULL);
    p.edit.outpaint[2] = 1;
    assert_int_equal(sd_generate(ctx, &p, &out), SD_ERR_ARG);
    assert_string_equal(sd_error_text(ctx),
                        "the picture would grow to 16385x16, at most 16384 pixels a side are possible");
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* A batch begins from one picture with different noise; the same seed gives the same bytes. */
TEST(a_batch_is_several_pictures_of_one_seed)
{
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, hole, 255, 0), out[2], again[2];
    sd_params p = params_for(&init, &mask);
    p.batch = 2;
    assert_int_equal(sd_generate(ctx, &p, out), SD_OK);
    assert_int_equal(sd_generate(ctx, &p, again), SD_OK);
    assert_memory_equal(out[0].data, again[0].data, 48 * 40 * 3);
    assert_memory_equal(out[1].data, again[1].data, 48 * 40 * 3);
    assert_memory_not_equal(out[0].data, out[1].data, 48 * 40 * 3);
    expect_kept(&out[1], &init, 0, 0, outside_hole, "the second of a batch");
    for (int i = 0; i < 2; i++) {
        sd_image_free(&out[i]);
        sd_image_free(&again[i]);
    }
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* Draws of the picture's posterior, by the generator that gave them. */
static void count_posteriors(void *user, const sd_random_draw *d)
{
    int *of = user;
    if (strcmp(d->who, "posterior of the picture") == 0) of[d->image]++;
}

/* StableDiffusionImg2ImgPipeline.prepare_latents: each generator of a list draws a sample of the posterior, so that
 * each picture is the one that its seed draws alone. StableDiffusionInpaintPipeline encodes one picture, and the first
 * generator alone draws. */
TEST(a_generator_per_picture_draws_a_posterior_per_picture)
{
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, hole, 255, 0), out[3];
    for (int masked = 0; masked < 2; masked++) {
        sd_params p = params_for(&init, masked ? &mask : NULL);
        int posteriors[3] = {0};
        p.batch = 3;
        p.seed_per_image = 1;
        p.sampling.sampler = "euler_a";
        sd_set_random_draw(ctx, count_posteriors, posteriors);
        if (sd_generate(ctx, &p, out)) fail_msg("%s", sd_error_text(ctx));
        sd_set_random_draw(ctx, NULL, NULL);
        for (int i = 0; i < 3; i++) assert_int_equal(posteriors[i], i == 0 || !masked);
        p.batch = 1;
        for (int i = 0; i < 3; i++, p.seed++) {
            sd_image alone = generated(&p);
            bool same = memcmp(alone.data, out[i].data, 48 * 40 * 3) == 0;
            assert_true(same == (i == 0 || !masked));
            sd_image_free(&alone);
            sd_image_free(&out[i]);
        }
    }
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* ------------------------------------------------------------------------------------ Runge-Kutta */

typedef struct timesteps_seen { double t[32]; int n; } timesteps_seen;

static void see_timestep(void *user, const sd_traced *t)
{
    timesteps_seen *all = user;
    if (all->n < 32) all->t[all->n++] = (double)*(const float *)t->data;
}

/* PNDM with Runge-Kutta, whose list of timesteps has 9 more entries than steps: image to image begins at entry 9 of 19
 * of diffusers' list (10 steps, strength 0.1). Its inpainting pipeline never takes Runge-Kutta: PLMS's list of 11, from
 * entry 5 on. */
TEST(pndm_with_runge_kutta_begins_where_diffusers_begins)
{
    static const double slice[] = {651, 651, 601, 601, 501, 401, 301, 201, 101, 1},
        plms[] = {501, 401, 301, 201, 101, 1};
    static const char config[] = "{\"_class_name\":\"PNDMScheduler\",\"beta_start\":0.00085,\"beta_end\":0.012,"
                                 "\"beta_schedule\":\"scaled_linear\",\"skip_prk_steps\":false}";
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, hole, 255, 0);
    sd_close(open_model("sd1-small", NULL));
    temp_write("sd1-small/scheduler/scheduler_config.json", config, sizeof config - 1);
    sd_options o;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", temp_path("sd1-small"));
    sd_options_init(&o);
    o.model = dir;
    sd_ctx *c = open_context(&o, SD_OK);
    for (int masked = 0; masked < 2; masked++) {
        timesteps_seen all = {.n = 0};
        sd_image out;
        sd_params p = params_for(&init, masked ? &mask : NULL);
        p.sampling.steps = 10;
        p.edit.strength = masked ? 0.5 : 0.1;
        assert_int_equal(sd_set_trace(c, "timestep.*", see_timestep, &all), SD_OK);
        if (sd_generate(c, &p, &out)) fail_msg("%s", sd_error_text(c));
        int n = masked ? 6 : 10;
        if (all.n != n) fail_msg("%d evaluations, expected %d", all.n, n);
        for (int i = 0; i < n; i++) assert_true(all.t[i] == (masked ? plms[i] : slice[i]));
        sd_image_free(&out);
    }
    sd_close(c);
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* ---------------------------------------------------------------------------------------- refusals */

static void expect_refused(const sd_params *p, const char *sentence)
{
    sd_image out = {0};
    sd_params resolved;
    sd_status status = sd_generate(ctx, p, &out);
    if (status != SD_ERR_ARG) fail_msg("status %s, not arg, for: %s", sd_status_name(status), sentence);
    assert_string_equal(sd_error_text(ctx), sentence);
    assert_null(out.data);
    assert_int_equal(sd_resolve_params(ctx, p, &resolved), SD_ERR_ARG);   /* and before any work */
    assert_string_equal(sd_error_text(ctx), sentence);
}

TEST(what_cannot_be_done_is_said_in_one_sentence)
{
    sd_image init = golden_picture(48, 40), mask = make_mask(48, 40, hole, 255, 0);
    sd_params p;
#define REFUSED(sentence, ...) do { p = params_for(&init, &mask); __VA_ARGS__; expect_refused(&p, sentence); } while (0)
    REFUSED("strength 0 leaves none of 2 steps: a strength of 0.5 or more is needed", p.edit.strength = 0);
    REFUSED("strength must be 0 to 1, not 1.5", p.edit.strength = 1.5);
    REFUSED("strength must be 0 to 1, not nan", p.edit.strength = (double)NAN);
    REFUSED("strength 0.4 leaves none of 2 steps: 3 steps or more are needed, or a strength of 0.5 or more",
            p.edit.strength = 0.4);
    REFUSED("strength 0.8 leaves none of 1 step: 2 steps or more are needed, or a strength of 1 or more",
            p.edit.mask = NULL; p.sampling.steps = 1);
    REFUSED("mask blur must be 0 to 1000 pixels, not -1", p.edit.mask_blur = -1);
    REFUSED("mask blur must be 0 to 1000 pixels, not nan", p.edit.mask_blur = (double)NAN);
    REFUSED("inpaint crop must be 0 to 16384 pixels, not -2", p.edit.inpaint_crop = -2);
    REFUSED("inpaint crop must be 0 to 16384 pixels, not 16385", p.edit.inpaint_crop = 16385);
    REFUSED("outpaint must be 0 to 16384 pixels on the top, not -1", p.edit.outpaint[1] = -1);
    REFUSED("outpaint must be 0 to 16384 pixels on the bottom, not 20000", p.edit.outpaint[3] = 20000);
    REFUSED("outpainting takes its size from the picture: width and height are not possible with it",
            p.edit.outpaint[0] = 8; p.width = 64);
    REFUSED("outpaint and inpaint crop are not possible together", p.edit.outpaint[0] = 8; p.edit.inpaint_crop = 0);
    REFUSED("the picture would grow to 16432x40, at most 16384 pixels a side are possible", p.edit.outpaint[0] = 16384);
    REFUSED("inpaint crop needs a mask, or a picture with transparent parts",
            p.edit.mask = NULL; p.edit.inpaint_crop = 4);
    REFUSED("a mask and the picture's alpha as mask were given: choose one", p.edit.alpha_mask = 1);
    REFUSED("the picture has no alpha to be the mask", p.edit.mask = NULL; p.edit.alpha_mask = 1);
    REFUSED("resize must be stretch, crop or pad, not \"fill\"", p.edit.resize = "fill");
    REFUSED("a mask, a strength or outpainting needs a picture to begin from", p.edit.init = NULL);
    REFUSED("a mask, a strength or outpainting needs a picture to begin from",
            p.edit.init = p.edit.mask = NULL; p.edit.strength = 0.5);
    REFUSED("a mask, a strength or outpainting needs a picture to begin from",
            p.edit.init = p.edit.mask = NULL; p.edit.outpaint[2] = 8);
    REFUSED("width must be a multiple of 8, not 60: 56 and 64 are the nearest", p.width = 60);
#undef REFUSED
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(an_inpainting_model_wants_something_to_paint)
{
    sd_ctx *nine = open_model("inpaint-small", NULL);
    sd_image init = golden_picture(48, 40), out = {0};
    sd_params p = params_for(NULL, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sd_generate(nine, &p, &out), SD_ERR_ARG);
        assert_string_equal(sd_error_text(nine), "this model is made for inpainting: it needs a picture and a mask");
        p.edit.init = &init;
    }
    p.edit.outpaint[0] = 8;
    assert_int_equal(sd_generate(nine, &p, &out), SD_OK);
    assert_int_equal(out.width, 56);
    sd_image_free(&out);
    sd_image_free(&init);
    sd_close(nine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_agree_with_diffusers_in_float64),
        cmocka_unit_test(both_encodings_of_a_run_have_names_of_their_own),
        cmocka_unit_test(sizes_are_those_of_the_picture_unless_given),
        cmocka_unit_test(settings_are_resolved_without_a_look_at_pixels),
        cmocka_unit_test(resizing_stretches_crops_or_pads),
        cmocka_unit_test(bright_is_repainted_from_one_half_on),
        cmocka_unit_test(a_mask_of_another_size_is_resized),
        cmocka_unit_test(transparent_is_repainted_where_no_mask_is_given),
        cmocka_unit_test(alpha_that_hides_less_than_half_is_no_mask),
        cmocka_unit_test(a_blurred_mask_fades_where_the_result_is_pasted),
        cmocka_unit_test(kept_pixels_come_back_byte_for_byte),
        cmocka_unit_test(without_pasting_back_they_do_not),
        cmocka_unit_test(a_black_mask_gives_the_picture_back),
        cmocka_unit_test(a_white_mask_at_full_strength_does_not_depend_on_the_picture),
        cmocka_unit_test(outpainting_keeps_the_picture_and_fills_the_rest),
        cmocka_unit_test(the_smallest_and_the_longest_pictures_are_changed),
        cmocka_unit_test(a_picture_of_the_greatest_length_has_its_hole_repainted),
        cmocka_unit_test(a_batch_is_several_pictures_of_one_seed),
        cmocka_unit_test(a_generator_per_picture_draws_a_posterior_per_picture),
        cmocka_unit_test(pndm_with_runge_kutta_begins_where_diffusers_begins),
        cmocka_unit_test(what_cannot_be_done_is_said_in_one_sentence),
        cmocka_unit_test(an_inpainting_model_wants_something_to_paint),
    };
    return cmocka_run_group_tests_name("edit", tests, open_shared, close_shared);
}
