/* test_weights.c - binding by tables: names in every spelling, shapes, one report of everything that is wrong,
 * and what of a weight changes when somebody changes it. */
#include <math.h>

#include "test.h"
#include "../weights.h"
#include "tempdir.h"

typedef struct block { sd_tensor w, b, shortcut, scale; } block;

/* o, i: channels; s: o where there is a shortcut */
static const sd_bind_row rows[] = {
    {offsetof(block, w), "conv1.weight", "in_layers.2.weight", "oi33", 0},
    {offsetof(block, b), "conv1.bias", "in_layers.2.bias", "o", 0},
    {offsetof(block, shortcut), "conv_shortcut.weight", "skip_connection.weight", "si11", 0},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const float numbers[4096];
#define F(name, nd, ...) {name, SD_F32, nd, {__VA_ARGS__}, numbers}

static sd_store open_with(const sd_traced *t, size_t n)
{
    sd_store s = {0};
    sd_error e = {0};
    temp_clear();
    if (sd_safetensors_write(temp_path("m.safetensors"), t, n, &e) || sd_store_open_dir(&s, temp_path(""), "m", &e))
        print_error("%s\n", e.text);
    assert_int_equal(e.status, SD_OK);
    return s;
}

static void bind(sd_binder *b, block *to, const char *hf, const char *ldm, int64_t o, int64_t i, int64_t s)
{
    sd_bind(b, to, rows, ROWS, hf, ldm, "ois", (const int64_t[]){o, i, s});
}

static void expect_shape(const sd_tensor *t, int nd, const int64_t *dim)
{
    assert_int_equal(t->nd, nd);
    for (int i = 0; i < nd; i++) assert_int_equal(t->dim[i], dim[i]);
}

typedef struct lines { char text[8192]; int n; } lines;

static void collect(void *user, int level, const char *line)
{
    lines *l = user;
    l->n += level == SD_LOG_WARNING;
    strncat(l->text, line, sizeof l->text - strlen(l->text) - 2);
    strcat(l->text, "\n");
}

TEST(fields_get_shape_type_data_and_name)
{
    const sd_traced t[] = {{"x.conv1.weight", SD_F16, 4, {4, 2, 3, 3}, numbers},
                           F("x.conv1.bias", 1, 4),
                           F("x.conv_shortcut.weight", 4, 4, 2, 1, 1)};
    sd_store s = open_with(t, 3);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    memset(&k, 0x55, sizeof k);
    bind(&b, &k, "x.", NULL, 4, 2, 4);
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_OK);
    expect_shape(&k.w, 4, (const int64_t[]){4, 2, 3, 3});
    assert_int_equal(k.w.dt, SD_F16);
    assert_ptr_equal(k.w.data, sd_store_find(&s, "x.conv1.weight")->data);
    assert_string_equal(k.w.name, "x.conv1.weight");
    expect_shape(&k.b, 1, (const int64_t[]){4});
    expect_shape(&k.shortcut, 4, (const int64_t[]){4, 2, 1, 1});
    assert_int_equal(b.tensors, 3);
    assert_int_equal(b.params, 72 + 4 + 8);
    assert_int_equal(b.bytes, 144 + 16 + 32);
    for (int i = 0; i < 3; i++) assert_true(sd_store_find(&s, t[i].name)->used);
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(a_row_with_a_zero_letter_is_absent)
{
    const sd_traced t[] = {F("conv1.weight", 4, 4, 4, 3, 3), F("conv1.bias", 1, 4)};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    memset(&k, 0x55, sizeof k);
    bind(&b, &k, "", NULL, 4, 4, 0);
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_OK);
    assert_int_equal(k.shortcut.nd, 0);
    assert_null(k.shortcut.data);
    assert_int_equal(b.tensors, 2);
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(names_are_found_in_every_spelling)
{
    /* diffusers' own name goes first, then the stripped one, then CompVis' */
    const sd_traced t[] = {F("text_model.a.conv1.weight", 4, 4, 2, 3, 3), F("a.conv1.weight", 4, 4, 2, 3, 3),
                           F("a.conv1.bias", 1, 4), F("in.1.0.in_layers.2.bias", 1, 4),
                           F("in.1.0.skip_connection.weight", 2, 4, 2)};
    sd_store s = open_with(t, 5);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e, .strip = "text_model."};
    block k;
    bind(&b, &k, "text_model.a.", "in.1.0.", 4, 2, 4);
    assert_int_equal(sd_bind_finish(&b, "text encoder", NULL), SD_OK);
    assert_string_equal(k.w.name, "text_model.a.conv1.weight");
    assert_string_equal(k.b.name, "a.conv1.bias");
    assert_string_equal(k.shortcut.name, "in.1.0.skip_connection.weight");
    assert_false(sd_store_find(&s, "a.conv1.weight")->used);
    sd_binder_free(&b);

    sd_binder no_ldm = {.store = &s, .err = &e};   /* neither strip nor CompVis' names */
    bind(&no_ldm, &k, "text_model.a.", NULL, 4, 2, 4);
    assert_int_equal(sd_bind_finish(&no_ldm, "text encoder", NULL), SD_ERR_MISSING);
    assert_int_equal(no_ldm.missing, 2);
    sd_binder_free(&no_ldm);
    sd_store_close(&s);
}

/* One file with several networks in it. */
TEST(a_root_stands_before_every_name_and_before_those_that_nobody_bound)
{
    const sd_traced t[] = {F("model.diffusion_model.conv1.weight", 4, 4, 2, 3, 3),
                           F("model.diffusion_model.in.in_layers.2.bias", 1, 4),
                           F("model.diffusion_model.extra", 1, 4), F("model.diffusion_model.logit_scale", 1, 4),
                           F("first_stage_model.conv1.weight", 4, 4, 2, 3, 3), F("conv1.bias", 1, 4)};
    sd_store s = open_with(t, SD_COUNT(t));
    sd_error e = {0};
    lines l = {{0}, 0};
    const sd_log log = {collect, &l};
    sd_binder b = {.store = &s, .err = &e, .root = "model.diffusion_model."};
    block k;
    bind(&b, &k, "", "in.", 4, 2, 0);
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_OK);
    assert_string_equal(k.w.name, "model.diffusion_model.conv1.weight");
    assert_string_equal(k.w.path, "conv1.weight");
    assert_string_equal(k.b.name, "model.diffusion_model.in.in_layers.2.bias");
    sd_store_log_unused(&s, b.root, "unet", &log);
    assert_non_null(strstr(l.text, "unet: not used: model.diffusion_model.extra in "));
    assert_non_null(strstr(l.text, "unet: 1 tensor of its files is not used"));
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(a_leaf_without_a_compvis_name_keeps_its_own)
{
    static const sd_bind_row row = {offsetof(block, w), "ff.net.2.weight", NULL, "o", 0};
    const sd_traced t[] = {F("in.ff.net.2.weight", 1, 4)};
    sd_store s = open_with(t, 1);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, &row, 1, "down.", "in.", "o", (const int64_t[]){4});
    assert_string_equal(k.w.name, "in.ff.net.2.weight");
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* The VAE of the published SD 1.x folders has query, key, value, proj_attn. */
TEST(attention_is_found_under_diffusers_older_names)
{
    static const sd_bind_row attn[] = {{offsetof(block, w), "to_q.weight", "q.weight", "oo", 0},
                                       {offsetof(block, b), "to_k.bias", "k.bias", "o", 0},
                                       {offsetof(block, shortcut), "to_v.weight", "v.weight", "oo", 0},
                                       {offsetof(block, scale), "to_out.0.weight", "proj_out.weight", "oo", 0}};
    const sd_traced t[] = {F("mid.attentions.0.query.weight", 2, 4, 4), F("mid.attentions.0.key.bias", 1, 4),
                           F("mid.attentions.0.value.weight", 4, 4, 4, 1, 1),
                           F("mid.attentions.0.proj_attn.weight", 2, 4, 4)};
    sd_store s = open_with(t, 4);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, attn, 4, "mid.attentions.0.", "mid.attn_1.", "o", (const int64_t[]){4});
    assert_int_equal(sd_bind_finish(&b, "vae", NULL), SD_OK);
    assert_string_equal(k.w.name, "mid.attentions.0.query.weight");
    assert_string_equal(k.w.path, "mid.attentions.0.to_q.weight");
    assert_string_equal(k.b.name, "mid.attentions.0.key.bias");
    assert_string_equal(k.shortcut.name, "mid.attentions.0.value.weight");
    assert_string_equal(k.scale.name, "mid.attentions.0.proj_attn.weight");
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(trailing_ones_do_not_matter_but_others_do)
{
    const struct { int nd; int64_t dim[4]; const char *want; bool fits; } cases[] = {
        {2, {4, 2}, "oi11", true}, {4, {4, 2, 1, 1}, "oi", true}, {3, {4, 2, 1}, "oi", true},
        {4, {4, 2, 1, 1}, "oi11", true}, {1, {4}, "o", true}, {2, {4, 1}, "o", true}, {0, {0}, "1", true},
        {1, {1}, "11", true},
        {2, {2, 4}, "oi", false}, {2, {1, 4}, "o", false}, {1, {8}, "oi", false}, {4, {4, 2, 3, 1}, "oi33", false},
        {4, {4, 2, 3, 3}, "oi", false}, {3, {1, 4, 2}, "oi", false}, {2, {4, 0}, "oi", false}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_traced t = {"w", SD_F32, cases[i].nd, {0}, numbers};
        memcpy(t.dim, cases[i].dim, sizeof t.dim);
        const sd_bind_row row = {offsetof(block, w), "w", NULL, cases[i].want, 0};
        sd_store s = open_with(&t, 1);
        sd_error e = {0};
        sd_binder b = {.store = &s, .err = &e};
        block k;
        sd_bind(&b, &k, &row, 1, "", NULL, "oi", (const int64_t[]){4, 2});
        assert_int_equal(sd_bind_finish(&b, "x", NULL), cases[i].fits ? SD_OK : SD_ERR_SHAPE);
        if (!cases[i].fits) assert_int_equal(k.w.nd, 0);
        else if (t.nd) expect_shape(&k.w, t.nd, t.dim);   /* the file's own shape */
        else expect_shape(&k.w, 1, (const int64_t[]){1});
        sd_binder_free(&b);
        sd_store_close(&s);
    }
}

/* The writer takes 4 dimensions, files up to 8. */
TEST(more_dimensions_than_four_fit_if_they_are_ones)
{
    static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[4,2,1,1,1,1],\"data_offsets\":[0,32]}}";
    unsigned char file[8 + sizeof header - 1 + 32] = {sizeof header - 1};
    memcpy(file + 8, header, sizeof header - 1);
    temp_clear();
    temp_write("m.safetensors", file, sizeof file);
    sd_store s;
    sd_error e = {0};
    assert_int_equal(sd_store_open_dir(&s, temp_path(""), "m", &e), SD_OK);
    sd_binder b = {.store = &s, .err = &e};
    block k;
    static const sd_bind_row row = {offsetof(block, w), "w", NULL, "oi", 0};
    sd_bind(&b, &k, &row, 1, "", NULL, "oi", (const int64_t[]){4, 2});
    assert_int_equal(sd_bind_finish(&b, "x", NULL), SD_OK);
    expect_shape(&k.w, 4, (const int64_t[]){4, 2, 1, 1});
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* ------------------------------------------------------------------------------------- report */

TEST(everything_wrong_is_reported_at_once)
{
    const sd_traced t[] = {F("0.conv1.weight", 4, 4, 9, 3, 3), F("0.conv1.bias", 1, 4),
                           F("1.conv1.weight", 4, 4, 4, 3, 3)};
    sd_store s = open_with(t, 3);
    sd_error e = {0};
    lines l = {{0}, 0};
    const sd_log log = {collect, &l};
    sd_binder b = {.store = &s, .err = &e};
    block k[2];
    bind(&b, &k[0], "0.", NULL, 4, 4, 4);
    bind(&b, &k[1], "1.", NULL, 4, 4, 0);
    assert_int_equal(e.status, SD_OK);   /* nothing is said before the end */
    assert_int_equal(sd_bind_finish(&b, "unet", &log), SD_ERR_MISSING);
    assert_string_equal(e.text,
                        "unet: 2 tensors missing (0.conv_shortcut.weight, 1.conv1.bias) and 1 of another shape or type "
                        "(0.conv1.weight: expected [4,4,3,3], found [4,9,3,3])");
    assert_int_equal(l.n, 0);            /* the sentence says it all */
    assert_int_equal(k[0].w.nd, 0);
    assert_null(k[0].w.data);
    assert_int_equal(k[0].shortcut.nd, 0);
    assert_int_equal(k[1].w.nd, 4);
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(a_long_list_is_cut_in_the_sentence_and_whole_in_the_log)
{
    const sd_traced t[] = {F("unrelated", 1, 4)};
    sd_store s = open_with(t, 1);
    sd_error e = {0};
    lines l = {{0}, 0};
    const sd_log log = {collect, &l};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    char prefix[32];
    for (int i = 0; i < 20; i++) {
        snprintf(prefix, sizeof prefix, "block.%d.", i);
        bind(&b, &k, prefix, NULL, 4, 4, 4);
    }
    assert_int_equal(sd_bind_finish(&b, "unet", &log), SD_ERR_MISSING);
    assert_string_equal(
        e.text,
        "unet: 60 tensors missing (block.0.conv1.weight, block.0.conv1.bias, block.0.conv_shortcut.weight, "
        "block.1.conv1.weight and 56 more)");
    assert_int_equal(l.n, 60);
    assert_non_null(strstr(l.text, "unet: missing: block.0.conv1.weight\n"));
    assert_non_null(strstr(l.text, "unet: missing: block.19.conv_shortcut.weight\n"));
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(integer_weights_do_not_fit)
{
    const sd_traced t[] = {{"conv1.weight", SD_I8, 4, {4, 4, 3, 3}, numbers}, F("conv1.bias", 1, 4)};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    bind(&b, &k, "", NULL, 4, 4, 0);
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_ERR_SHAPE);
    assert_string_equal(e.text, "unet: 1 tensor of another shape or type (conv1.weight: expected floats, found I8)");
    assert_int_equal(k.w.nd, 0);
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* An unknown dtype: the file opens, and only who asks for the tensor hears of it. */
TEST(a_dtype_that_we_do_not_have_matters_where_it_is_bound)
{
    const sd_traced t[] = {F("conv1.weight", 4, 4, 4, 3, 3), F("conv1.bias", 1, 4), {"extra", SD_I8, 1, {4}, numbers}};
    for (int bound = 0; bound < 2; bound++) {
        size_t n;
        sd_store s = open_with(t, 3);
        sd_store_close(&s);
        char *file = temp_read("m.safetensors", &n), *at = NULL;
        const char *find = bound ? "\"F32\"" : "\"I8\"", *put = bound ? "\"Q4\" " : "\"Q4\"";
        for (size_t i = 8; i + 5 < n && !at; i++)
            if (memcmp(file + i, find, strlen(find)) == 0) at = file + i;
        assert_non_null(at);
        memcpy(at, put, strlen(put));
        temp_write("m.safetensors", file, n);
        free(file);
        sd_error e = {0};
        if (sd_store_open_dir(&s, temp_path(""), "m", &e)) fail_msg("%s", e.text);
        sd_binder b = {.store = &s, .err = &e};
        block k;
        bind(&b, &k, "", NULL, 4, 4, 0);
        assert_int_equal(sd_bind_finish(&b, "unet", NULL), bound ? SD_ERR_SHAPE : SD_OK);
        if (bound) assert_non_null(strstr(e.text, "expected floats, found Q4"));
        sd_binder_free(&b);
        sd_store_close(&s);
    }
}

TEST(an_earlier_error_is_the_one_reported)
{
    const sd_traced t[] = {F("unrelated", 1, 4)};
    sd_store s = open_with(t, 1);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    bind(&b, &k, "", NULL, 4, 4, 0);
    sd_fail(&e, SD_ERR_MEMORY, "earlier");
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_ERR_MEMORY);
    assert_string_equal(e.text, "earlier");
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* --------------------------------------------------------------------- identity, own numbers, flags */

static float ramp[4096];   /* 0, 1, 2, ... */

static void fill_ramp(void)
{
    for (size_t i = 0; i < SD_COUNT(ramp); i++) ramp[i] = (float)i;
}

static float at(const sd_tensor *t, size_t i)
{
    float x;
    memcpy(&x, (const char *)t->data + i * sizeof x, sizeof x);
    return x;
}

TEST(weights_of_a_model_have_ids_of_their_own_over_all_its_modules)
{
    const sd_traced t[] = {F("conv1.weight", 4, 4, 4, 3, 3), F("conv1.bias", 1, 4)};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    sd_binder unet = {.store = &s, .err = &e};
    block k, other;
    bind(&unet, &k, "", NULL, 4, 4, 0);
    sd_binder control = {.store = &s, .err = &e, .last_id = unet.last_id};
    bind(&control, &other, "", NULL, 4, 4, 0);
    assert_int_equal(e.status, SD_OK);
    const uint32_t ids[] = {k.w.id, k.b.id, other.w.id, other.b.id};
    for (size_t i = 0; i < SD_COUNT(ids); i++) assert_int_equal(ids[i], i + 1);
    assert_int_equal(k.shortcut.id, 0);   /* absent */
    sd_binder_free(&unet);
    sd_binder_free(&control);
    sd_store_close(&s);
}

TEST(a_weight_is_found_by_its_name_and_changed_in_a_copy_of_its_own)
{
    const sd_traced t[] = {{"x.in_layers.2.weight", SD_F32, 4, {2, 2, 3, 3}, ramp}, {"x.in_layers.2.bias", SD_F32, 1,
                           {2}, ramp}};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    bind(&b, &k, "unet.", "x.", 2, 2, 0);
    const uint32_t id = k.w.id;
    const void *file = k.w.data;
    assert_null(sd_weight_find(&b, "x.in_layers.2.weight"));
    sd_weight *w = sd_weight_find(&b, "unet.conv1.weight");
    assert_ptr_equal(w->field, &k.w);
    assert_int_equal(k.w.version, 0);

    float *own = sd_weight_own(&b, w, SD_F32);
    assert_ptr_not_equal(own, file);
    assert_ptr_equal(own, k.w.data);
    assert_memory_equal(own, file, 36 * sizeof *own);
    assert_int_equal(k.w.version, 1);
    own[0] = 7;
    assert_ptr_equal(sd_weight_own(&b, w, SD_F32), own);   /* changed again, where it is */
    assert_int_equal(k.w.version, 2);
    assert_int_equal(k.w.id, id);
    assert_float_equal(at(&k.w, 0), 7, 0);
    assert_float_equal(((const float *)file)[0], 0, 0);    /* the file is as it was */
    assert_int_equal(k.b.version, 0);
    sd_store_used(&s, k.w.data, 36 * sizeof *own);         /* streaming: no page of the file is meant */
    sd_store_used(&s, NULL, 0);
    assert_float_equal(at(&k.w, 0), 7, 0);
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(own_numbers_can_be_wider_than_those_of_the_file)
{
    static const uint16_t halves[] = {0x3C00, 0xC000, 0x3555, 0x0001};   /* 1, -2, 0.333, 2^-24 */
    static const sd_bind_row row = {offsetof(block, w), "w", NULL, "o", 0};
    const sd_traced t[] = {{"w", SD_F16, 1, {4}, halves}};
    sd_store s = open_with(t, 1);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, &row, 1, "", NULL, "o", (const int64_t[]){4});
    float *own = sd_weight_own(&b, sd_weight_find(&b, "w"), SD_F32);
    assert_int_equal(k.w.dt, SD_F32);
    const float expected[] = {1, -2, 0.333251953125f, 0x1p-24f};
    assert_memory_equal(own, expected, sizeof expected);
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* As OpenCLIP has the attention of its text encoder, and transformers the same. */
static const sd_bind_row fused_rows[] = {
    {offsetof(block, w), "q_proj.weight", "in_proj_weight", "oi", SD_BIND_SLICE(0, 3)},
    {offsetof(block, b), "k_proj.weight", "in_proj_weight", "oi", SD_BIND_SLICE(1, 3)},
    {offsetof(block, shortcut), "v_proj.weight", "in_proj_weight", "oi", SD_BIND_SLICE(2, 3)},
    {offsetof(block, scale), "v_proj.bias", "in_proj_bias", "o", SD_BIND_SLICE(2, 3)},
};

static void bind_fused(sd_binder *b, block *k)
{
    sd_bind(b, k, fused_rows, SD_COUNT(fused_rows), "layers.0.", "resblocks.0.", "oi", (const int64_t[]){2, 4});
}

TEST(a_slice_is_a_part_of_a_fused_tensor)
{
    const sd_traced t[] = {{"resblocks.0.in_proj_weight", SD_F32, 2, {6, 4}, ramp},
                           {"resblocks.0.in_proj_bias", SD_F32, 1, {6}, ramp}};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    lines l = {{0}, 0};
    const sd_log log = {collect, &l};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    bind_fused(&b, &k);
    assert_int_equal(sd_bind_finish(&b, "text_encoder_2", NULL), SD_OK);
    const sd_tensor *part[] = {&k.w, &k.b, &k.shortcut};
    for (size_t i = 0; i < 3; i++) {
        expect_shape(part[i], 2, (const int64_t[]){2, 4});
        assert_float_equal(at(part[i], 0), (double)(8 * i), 0);
        assert_float_equal(at(part[i], 7), (double)(8 * i + 7), 0);
        sd_store_used(&s, part[i]->data, 8 * sizeof(float));
        for (size_t n = 0; n < i; n++) assert_int_not_equal(part[i]->id, part[n]->id);
    }
    expect_shape(&k.scale, 1, (const int64_t[]){2});
    assert_float_equal(at(&k.scale, 0), 4, 0);
    assert_string_equal(k.b.path, "layers.0.k_proj.weight");
    assert_string_equal(k.b.name, "resblocks.0.in_proj_weight");
    assert_int_equal(b.bytes, (24 + 2) * sizeof(float));
    assert_int_equal(b.params, 24 + 2);
    sd_store_log_unused(&s, NULL, "text_encoder_2", &log);
    assert_string_equal(l.text, "");
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* The flags are about what the other convention's name stands for. */
TEST(under_the_plain_name_a_row_with_a_slice_is_the_whole_tensor)
{
    const sd_traced t[] = {{"layers.0.q_proj.weight", SD_F32, 2, {2, 4}, ramp},
                           {"layers.0.k_proj.weight", SD_F32, 2, {2, 4}, ramp},
                           {"resblocks.0.in_proj_weight", SD_F32, 2, {5, 4}, ramp},
                           {"layers.0.v_proj.bias", SD_F32, 1, {2}, ramp}};
    sd_store s = open_with(t, 4);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    bind_fused(&b, &k);
    assert_int_equal(sd_bind_finish(&b, "te", NULL), SD_ERR_SHAPE);
    assert_string_equal(e.text, "te: 1 tensor of another shape or type (layers.0.v_proj.weight: expected [6,4], found "
                                "[5,4])");
    expect_shape(&k.b, 2, (const int64_t[]){2, 4});
    assert_float_equal(at(&k.b, 0), 0, 0);
    sd_binder_free(&b);
    sd_store_close(&s);
}

TEST(a_transposed_tensor_gets_numbers_of_its_own_the_right_way_round)
{
    static const sd_bind_row row = {offsetof(block, w), "text_projection.weight", "text_projection", "oi",
                                    SD_BIND_TRANSPOSE};
    for (int as_ldm = 0; as_ldm < 2; as_ldm++) {
        const sd_traced t[] = {{as_ldm ? "text_projection" : "text_projection.weight", SD_F32, 2, {3, 2}, ramp}};
        sd_store s = open_with(t, 1);
        sd_error e = {0};
        sd_binder b = {.store = &s, .err = &e};
        block k;
        sd_bind(&b, &k, &row, 1, "", "", "oi", as_ldm ? (const int64_t[]){2, 3} : (const int64_t[]){3, 2});
        assert_int_equal(sd_bind_finish(&b, "te", NULL), SD_OK);
        const float turned[] = {0, 2, 4, 1, 3, 5};
        if (as_ldm) expect_shape(&k.w, 2, (const int64_t[]){2, 3});
        else expect_shape(&k.w, 2, (const int64_t[]){3, 2});
        assert_memory_equal(k.w.data, as_ldm ? turned : ramp, sizeof turned);
        assert_int_equal(k.w.version, 0);
        assert_true((b.weight[0].own != NULL) == (as_ldm == 1));
        assert_true(sd_store_find(&s, t[0].name)->used);
        sd_binder_free(&b);
        sd_store_close(&s);
    }
    const sd_traced wrong[] = {{"text_projection", SD_F32, 2, {2, 3}, ramp}};
    sd_store s = open_with(wrong, 1);
    sd_error e = {0};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, &row, 1, "", "", "oi", (const int64_t[]){2, 3});
    assert_int_equal(sd_bind_finish(&b, "te", NULL), SD_ERR_SHAPE);
    assert_non_null(strstr(e.text, "expected [3,2], found [2,3]"));
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* --------------------------------------------------------------------------------- scales and blocks */

static const unsigned char eighths[4] = {0x20, 0x28, 0x30, 0xB8};   /* E4M3: 1/8, 1/4, 1/2, -1 */
static const sd_bind_row scaled_row = {offsetof(block, w), "to_q.weight", NULL, "oi", 0};

/* Binds to_q.weight [2,2] with this tensor beside it; what is wrong with it, or its numbers in y. */
static sd_error bind_scaled(sd_traced scale, float y[4])
{
    const sd_traced t[] = {{"x.to_q.weight", SD_F8_E4M3, 2, {2, 2}, eighths}, scale};
    sd_store s = open_with(t, 2);
    sd_error e = {0};
    lines l = {{0}, 0};
    const sd_log log = {collect, &l};
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, &scaled_row, 1, "x.", NULL, "oi", (const int64_t[]){2, 2});
    if (!sd_bind_finish(&b, "unet", NULL)) sd_widen_weight(y, &k.w, 0, 4, &sd_kern_spec);
    sd_store_log_unused(&s, NULL, "unet", &log);
    assert_string_equal(l.text, "");
    sd_binder_free(&b);
    sd_store_close(&s);
    return e;
}

TEST(a_weight_has_the_scale_that_stands_beside_it_under_either_name)
{
    static const float three = 3, one = 1;
    static const uint16_t half_of_three = 0x4200;
    const sd_traced scales[] = {
        {"x.to_q.scale_weight", SD_F32, 0, {0}, &three}, {"x.to_q.weight_scale", SD_F32, 1, {1}, &three},
        {"x.to_q.weight_scale", SD_F16, 2, {1, 1}, &half_of_three}, {"x.to_q.scale_weight", SD_F32, 0, {0}, &one},
        {"x.to_q.scale_input", SD_F32, 0, {0}, &three}, {"x.to_q.input_scale", SD_F32, 0, {0}, &three},
        {"scaled_fp8", SD_F8_E4M3, 1, {2}, eighths},
    };
    for (size_t i = 0; i < SD_COUNT(scales); i++) {
        float y[4] = {0}, times = i < 3 ? 3 : 1;
        sd_error e = bind_scaled(scales[i], y);
        if (e.status) fail_msg("%s", e.text);
        const float want[] = {times / 8, times / 4, times / 2, -times};
        assert_memory_equal(y, want, sizeof want);
    }
}

TEST(a_scale_that_is_no_number_is_named_and_refused)
{
    static const float bad[] = {0, -INFINITY, NAN, 1};
    static const int64_t whole = 2;
    const struct { sd_traced t; const char *says; } cases[] = {
        {{"x.to_q.scale_weight", SD_F32, 1, {2}, &bad[2]}, "x.to_q.scale_weight: expected one number, found F32 [2]"},
        {{"x.to_q.scale_weight", SD_I64, 0, {0}, &whole}, "x.to_q.scale_weight: expected one number, found I64 []"},
        {{"x.to_q.weight_scale", SD_F32, 0, {0}, &bad[0]}, "x.to_q.weight_scale: expected a scale, found 0"},
        {{"x.to_q.scale_weight", SD_F32, 0, {0}, &bad[1]}, "x.to_q.scale_weight: expected a scale, found -inf"},
        {{"x.to_q.scale_weight", SD_F32, 0, {0}, &bad[2]}, "x.to_q.scale_weight: expected a scale, found nan"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        float y[4];
        sd_error e = bind_scaled(cases[i].t, y);
        assert_int_equal(e.status, SD_ERR_SHAPE);
        if (!strstr(e.text, cases[i].says)) fail_msg("%s", e.text);
    }
}

static sd_status put_raw(void *user, UNUSED size_t i, FILE *to, UNUSED const char *path, UNUSED sd_error *e)
{
    const sd_traced *t = user;
    size_t n = 1;
    for (int k = 0; k < t->nd; k++) n *= (size_t)t->dim[k];
    assert_int_equal(fwrite(t->data, sd_dtype_bytes(t->dtype, n), 1, to), 1);
    return SD_OK;
}

/* Binds one tensor of a GGUF file, whose numbers are the ramp as Q8_0; what is wrong with it, or its numbers in y. */
static sd_error bind_blocks(const sd_bind_row *row, sd_traced t, int64_t o, int64_t i, float *y, bool *own)
{
    unsigned char raw[SD_COUNT(ramp) / 32 * 34];
    size_t n = 1;
    for (int k = 0; k < t.nd; k++) n *= (size_t)t.dim[k];
    sd_narrow(raw, SD_Q8_0, ramp, n);
    t.data = raw;
    const sd_file_plan p = {.tensor = &t, .n = 1, .put = put_raw, .user = &t};
    sd_store s = {0};
    sd_error e = {0};
    temp_clear();
    if (sd_gguf_write_plan(temp_path("m.gguf"), &p, &e) || sd_store_open_file(&s, temp_path("m.gguf"), &e))
        fail_msg("%s", e.text);
    sd_binder b = {.store = &s, .err = &e};
    block k;
    sd_bind(&b, &k, row, 1, "", "", "oi", (const int64_t[]){o, i});
    if (!sd_bind_finish(&b, "unet", NULL)) {
        sd_widen_weight(y, &k.w, 0, (size_t)sd_numel(&k.w), &sd_kern_spec);
        *own = b.weight[0].own != NULL;
        assert_true(*own == (k.w.dt == SD_F32) && k.w.version == 0);
    }
    sd_binder_free(&b);
    sd_store_close(&s);
    return e;
}

TEST(a_matrix_of_blocks_stays_in_its_file_and_all_else_becomes_floats)
{
    static const sd_bind_row matrix = {offsetof(block, w), "w", NULL, "oi", 0},
        vector = {offsetof(block, w), "w", NULL, "o", 0},
        third = {offsetof(block, w), "q", "w", "oi", SD_BIND_SLICE(2, 3)},
        turned = {offsetof(block, w), "p", "w", "oi", SD_BIND_TRANSPOSE};
    const struct { const sd_bind_row *row; sd_traced t; int64_t o, i; bool own; size_t first, step; } cases[] = {
        {&matrix, {"w", SD_Q8_0, 2, {4, 32}, NULL}, 4, 32, false, 0, 1},
        {&vector, {"w", SD_Q8_0, 1, {64}, NULL}, 64, 0, true, 0, 1},
        {&third, {"w", SD_Q8_0, 2, {6, 32}, NULL}, 2, 32, false, 128, 1},
        {&turned, {"w", SD_Q8_0, 2, {4, 32}, NULL}, 32, 4, true, 0, 32},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        float y[4096] = {0}, all[4096];
        unsigned char raw[SD_COUNT(all) / 32 * 34];
        bool own = false;
        sd_narrow(raw, SD_Q8_0, ramp, SD_COUNT(all));
        sd_widen(all, raw, SD_Q8_0, SD_COUNT(all), &sd_kern_spec);
        sd_error e = bind_blocks(cases[i].row, cases[i].t, cases[i].o, cases[i].i, y, &own);
        if (e.status) fail_msg("%s", e.text);
        assert_int_equal(own, cases[i].own);
        for (size_t k = 0; k < 4; k++)   /* of a transposed one, numbers of a column follow each other */
            if (y[k] != all[cases[i].first + k * cases[i].step])
                fail_msg("case %zu, number %zu: %g", i, k, (double)y[k]);
    }
}

TEST(an_optional_tensor_may_be_absent_but_not_misshapen)
{
    static const sd_bind_row row = {offsetof(block, w), "cond_proj.weight", NULL, "oi", SD_BIND_OPTIONAL};
    const sd_traced cases[] = {{"other", SD_F32, 1, {4}, ramp}, {"cond_proj.weight", SD_F32, 2, {4, 2}, ramp},
                               {"cond_proj.weight", SD_F32, 2, {4, 3}, ramp}};
    const sd_status expected[] = {SD_OK, SD_OK, SD_ERR_SHAPE};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_store s = open_with(&cases[i], 1);
        sd_error e = {0};
        sd_binder b = {.store = &s, .err = &e};
        block k;
        sd_bind(&b, &k, &row, 1, "", NULL, "oi", (const int64_t[]){4, 2});
        assert_int_equal(sd_bind_finish(&b, "unet", NULL), expected[i]);
        assert_int_equal(b.tensors, i > 0);
        assert_int_equal(k.w.nd, i == 1 ? 2 : 0);
        sd_binder_free(&b);
        sd_store_close(&s);
    }
    sd_error e = {0};
    sd_binder shapes = {.err = &e};
    block k;
    sd_bind(&shapes, &k, &row, 1, "", NULL, "oi", (const int64_t[]){4, 2});
    assert_int_equal(k.w.nd, 0);   /* without a file nothing says that it is there */
    assert_int_equal(shapes.tensors, 0);
    sd_binder_free(&shapes);
}

/* --------------------------------------------------------------------------------- without files */

static void visit(void *user, const char *name, const sd_tensor *shape)
{
    char s[96];
    lines *l = user;
    if (l->n++ < 2) strcat(strcat(strcat(strcat(l->text, name), " "), sd_shape_text(shape, s)), "\n");
}

TEST(without_a_store_shapes_and_names_are_bound)
{
    lines l = {{0}, 0};
    sd_error e = {0};
    sd_binder b = {.err = &e, .visit = visit, .user = &l};
    block k, more;
    bind(&b, &k, "x.", "y.", 320, 4, 0);
    for (int i = 0; i < 1000; i++) bind(&b, &more, "z.", NULL, 1, 1, 0);   /* names must stay where they are */
    assert_int_equal(sd_bind_finish(&b, "unet", NULL), SD_OK);
    expect_shape(&k.w, 4, (const int64_t[]){320, 4, 3, 3});
    assert_null(k.w.data);
    assert_int_equal(k.w.dt, SD_F32);
    assert_string_equal(k.w.name, "x.conv1.weight");
    assert_int_equal(k.shortcut.nd, 0);
    assert_int_equal(b.tensors, 2002);
    assert_int_equal(b.params, 320 * 36 + 320 + 1000 * 10);
    assert_int_equal(b.bytes, 4 * b.params);
    assert_int_equal(b.missing, 0);
    assert_int_equal(l.n, 2002);
    assert_string_equal(l.text, "x.conv1.weight [320,4,3,3]\nx.conv1.bias [320]\n");
    sd_binder_free(&b);
}

TEST(a_wrong_table_is_an_error_not_a_crash)
{
    static const struct { const char *shape; int64_t o;
                         } bad[] = {{"ox", 4}, {"ooooo", 4}, {"o", -1}, {"ooo", (int64_t)1 << 40}, {"0x", 4}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        sd_binder b = {.err = &e};
        block k;
        const sd_bind_row row = {offsetof(block, w), "w", NULL, bad[i].shape, 0};
        sd_bind(&b, &k, &row, 1, "", NULL, "o", &bad[i].o);
        assert_int_equal(e.status, SD_ERR_ARG);
        assert_int_equal(k.w.nd, 0);
        sd_binder_free(&b);
    }
    char prefix[300];
    memset(prefix, 'p', sizeof prefix - 1);
    prefix[sizeof prefix - 1] = 0;
    sd_error e = {0};
    sd_binder b = {.err = &e};
    block k;
    bind(&b, &k, prefix, NULL, 4, 4, 0);
    assert_int_equal(e.status, SD_ERR_ARG);
    sd_binder_free(&b);
}

int main(void)
{
    fill_ramp();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_get_shape_type_data_and_name),
        cmocka_unit_test(a_row_with_a_zero_letter_is_absent),
        cmocka_unit_test(names_are_found_in_every_spelling),
        cmocka_unit_test(a_root_stands_before_every_name_and_before_those_that_nobody_bound),
        cmocka_unit_test(a_leaf_without_a_compvis_name_keeps_its_own),
        cmocka_unit_test(attention_is_found_under_diffusers_older_names),
        cmocka_unit_test(trailing_ones_do_not_matter_but_others_do),
        cmocka_unit_test(more_dimensions_than_four_fit_if_they_are_ones),
        cmocka_unit_test(everything_wrong_is_reported_at_once),
        cmocka_unit_test(a_long_list_is_cut_in_the_sentence_and_whole_in_the_log),
        cmocka_unit_test(integer_weights_do_not_fit),
        cmocka_unit_test(a_dtype_that_we_do_not_have_matters_where_it_is_bound),
        cmocka_unit_test(an_earlier_error_is_the_one_reported),
        cmocka_unit_test(weights_of_a_model_have_ids_of_their_own_over_all_its_modules),
        cmocka_unit_test(a_weight_is_found_by_its_name_and_changed_in_a_copy_of_its_own),
        cmocka_unit_test(own_numbers_can_be_wider_than_those_of_the_file),
        cmocka_unit_test(a_slice_is_a_part_of_a_fused_tensor),
        cmocka_unit_test(under_the_plain_name_a_row_with_a_slice_is_the_whole_tensor),
        cmocka_unit_test(a_transposed_tensor_gets_numbers_of_its_own_the_right_way_round),
        cmocka_unit_test(a_weight_has_the_scale_that_stands_beside_it_under_either_name),
        cmocka_unit_test(a_scale_that_is_no_number_is_named_and_refused),
        cmocka_unit_test(a_matrix_of_blocks_stays_in_its_file_and_all_else_becomes_floats),
        cmocka_unit_test(an_optional_tensor_may_be_absent_but_not_misshapen),
        cmocka_unit_test(without_a_store_shapes_and_names_are_bound),
        cmocka_unit_test(a_wrong_table_is_an_error_not_a_crash),
    };
    return cmocka_run_group_tests_name("weights", tests, temp_make, temp_remove);
}
