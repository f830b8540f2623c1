/* test_weights.c - binding by tables: names in every spelling, shapes, and one report of everything that is wrong. */
#include "test.h"
#include "../weights.h"
#include "needs.h"
#include "tempdir.h"

typedef struct block { sd_tensor w, b, shortcut, scale; } block;

/* o, i: channels; s: o where there is a shortcut */
static const sd_bind_row rows[] = {
    {offsetof(block, w), "conv1.weight", "in_layers.2.weight", "oi33"},
    {offsetof(block, b), "conv1.bias", "in_layers.2.bias", "o"},
    {offsetof(block, shortcut), "conv_shortcut.weight", "skip_connection.weight", "si11"},
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
    assert_ptr_equal(k.w.host, sd_store_find(&s, "x.conv1.weight")->data);
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
    assert_null(k.shortcut.host);
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

TEST(a_leaf_without_a_compvis_name_keeps_its_own)
{
    static const sd_bind_row row = {offsetof(block, w), "ff.net.2.weight", NULL, "o"};
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
    static const sd_bind_row attn[] = {{offsetof(block, w), "to_q.weight", "q.weight", "oo"},
                                       {offsetof(block, b), "to_k.bias", "k.bias", "o"},
                                       {offsetof(block, shortcut), "to_v.weight", "v.weight", "oo"},
                                       {offsetof(block, scale), "to_out.0.weight", "proj_out.weight", "oo"}};
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
        const sd_bind_row row = {offsetof(block, w), "w", NULL, cases[i].want};
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
    static const sd_bind_row row = {offsetof(block, w), "w", NULL, "oi"};
    sd_bind(&b, &k, &row, 1, "", NULL, "oi", (const int64_t[]){4, 2});
    assert_int_equal(sd_bind_finish(&b, "x", NULL), SD_OK);
    expect_shape(&k.w, 4, (const int64_t[]){4, 2, 1, 1});
    sd_binder_free(&b);
    sd_store_close(&s);
}

/* ------------------------------------------------------------------------------------- report */

typedef struct lines { char text[8192]; int n; } lines;

static void collect(void *user, int level, const char *line)
{
    lines *l = user;
    l->n += level == SD_LOG_WARNING;
    strncat(l->text, line, sizeof l->text - strlen(l->text) - 2);
    strcat(l->text, "\n");
}

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
    assert_null(k[0].w.host);
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
    assert_null(k.w.host);
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
        const sd_bind_row row = {offsetof(block, w), "w", NULL, bad[i].shape};
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
    const struct CMUnitTest tests[] = {
        unit_test_needing(NEED_JSON, fields_get_shape_type_data_and_name),
        unit_test_needing(NEED_JSON, a_row_with_a_zero_letter_is_absent),
        unit_test_needing(NEED_JSON, names_are_found_in_every_spelling),
        unit_test_needing(NEED_JSON, a_leaf_without_a_compvis_name_keeps_its_own),
        unit_test_needing(NEED_JSON, attention_is_found_under_diffusers_older_names),
        unit_test_needing(NEED_JSON, trailing_ones_do_not_matter_but_others_do),
        unit_test_needing(NEED_JSON, more_dimensions_than_four_fit_if_they_are_ones),
        unit_test_needing(NEED_JSON, everything_wrong_is_reported_at_once),
        unit_test_needing(NEED_JSON, a_long_list_is_cut_in_the_sentence_and_whole_in_the_log),
        unit_test_needing(NEED_JSON, integer_weights_do_not_fit),
        unit_test_needing(NEED_JSON, a_dtype_that_we_do_not_have_matters_where_it_is_bound),
        unit_test_needing(NEED_JSON, an_earlier_error_is_the_one_reported),
        cmocka_unit_test(without_a_store_shapes_and_names_are_bound),
        cmocka_unit_test(a_wrong_table_is_an_error_not_a_crash),
    };
    return cmocka_run_group_tests_name("weights", tests, temp_make, temp_remove);
}
