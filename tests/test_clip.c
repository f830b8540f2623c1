/* test_clip.c - clip.c: OpenCLIP's names and layouts of the weights give the same network as those of transformers. */
#include "../net.h"
#include "synth.h"
#include "tempdir.h"
#include "test.h"

static const sd_clip_config small = {.vocab = 5, .positions = 3, .width = 4, .heads = 2, .layers = 2, .ff = 8,
                                     .act = SD_ACT_GELU, .eps = 1e-5, .projection = 3};

enum { MOST = 64, NUMBERS = 48 };
typedef struct names { sd_traced t[MOST]; float x[MOST][NUMBERS]; char name[MOST][96]; size_t n; } names;

/* A tensor whose numbers are those of `stream`, which starts at the same numbers in both files. */
static float *add(names *f, const char *name, int64_t rows, int64_t columns, const char *stream)
{
    size_t n = (size_t)(rows * columns), i = f->n++;
    assert_true(i < MOST && n <= NUMBERS);
    snprintf(f->name[i], sizeof f->name[i], "%s", name);
    f->t[i] = (sd_traced){f->name[i], SD_F32, columns > 1 ? 2 : 1, {rows, columns}, f->x[i]};
    sd_synth_fill(f->x[i], stream, n, 1, 0, false);
    return f->x[i];
}

static void add_pair(names *f, const char *module, int64_t rows, int64_t columns, const char *stream)
{
    char name[96], of[96];
    snprintf(name, sizeof name, "%s.weight", module);
    snprintf(of, sizeof of, "%s.w", stream);
    add(f, name, rows, columns, of);
    snprintf(name, sizeof name, "%s.bias", module);
    snprintf(of, sizeof of, "%s.b", stream);
    add(f, name, rows, 1, of);
}

/* The same numbers as transformers has them. */
static void transformers(names *f)
{
    static const char *const qkv[] = {"q_proj", "k_proj", "v_proj"};
    add(f, "text_model.embeddings.token_embedding.weight", 5, 4, "token");
    add(f, "text_model.embeddings.position_embedding.weight", 3, 4, "position");
    add_pair(f, "text_model.final_layer_norm", 4, 1, "final");
    add(f, "text_projection.weight", 3, 4, "projection");
    for (int i = 0; i < 2; i++) {
        char module[80], in[80];
        const struct { const char *name, *stream; int64_t rows, columns; } one[] = {
            {"layer_norm1", "ln1", 4, 1}, {"layer_norm2", "ln2", 4, 1}, {"self_attn.out_proj", "out", 4, 4},
            {"mlp.fc1", "fc1", 8, 4}, {"mlp.fc2", "fc2", 4, 8}};
        for (size_t k = 0; k < SD_COUNT(one); k++) {
            snprintf(module, sizeof module, "text_model.encoder.layers.%d.%s", i, one[k].name);
            snprintf(in, sizeof in, "%s%d", one[k].stream, i);
            add_pair(f, module, one[k].rows, one[k].columns, in);
        }
        for (size_t k = 0; k < 3; k++) {
            snprintf(module, sizeof module, "text_model.encoder.layers.%d.self_attn.%s", i, qkv[k]);
            snprintf(in, sizeof in, "%s%d", qkv[k], i);
            add_pair(f, module, 4, 4, in);
        }
    }
}

/* ... and as OpenCLIP has them: query, key and value are one matrix, the projection is the other way round. */
static void openclip(names *f)
{
    static const char *const qkv[] = {"q_proj", "k_proj", "v_proj"};
    float straight[12];
    add(f, "token_embedding.weight", 5, 4, "token");
    add(f, "positional_embedding", 3, 4, "position");
    add_pair(f, "ln_final", 4, 1, "final");
    sd_synth_fill(straight, "projection", 12, 1, 0, false);
    float *turned = add(f, "text_projection", 4, 3, "");
    for (size_t i = 0; i < 12; i++) turned[i % 4 * 3 + i / 4] = straight[i];
    for (int i = 0; i < 2; i++) {
        char module[80], in[80];
        const struct { const char *name, *stream; int64_t rows, columns; } one[] = {
            {"ln_1", "ln1", 4, 1}, {"ln_2", "ln2", 4, 1}, {"attn.out_proj", "out", 4, 4},
            {"mlp.c_fc", "fc1", 8, 4}, {"mlp.c_proj", "fc2", 4, 8}};
        for (size_t k = 0; k < SD_COUNT(one); k++) {
            snprintf(module, sizeof module, "transformer.resblocks.%d.%s", i, one[k].name);
            snprintf(in, sizeof in, "%s%d", one[k].stream, i);
            add_pair(f, module, one[k].rows, one[k].columns, in);
        }
        snprintf(module, sizeof module, "transformer.resblocks.%d.attn.in_proj_weight", i);
        float *w = add(f, module, 12, 4, "");
        snprintf(module, sizeof module, "transformer.resblocks.%d.attn.in_proj_bias", i);
        float *b = add(f, module, 12, 1, "");
        for (size_t k = 0; k < 3; k++) {
            snprintf(in, sizeof in, "%s%d.w", qkv[k], i);
            sd_synth_fill(w + 16 * k, in, 16, 1, 0, false);
            snprintf(in, sizeof in, "%s%d.b", qkv[k], i);
            sd_synth_fill(b + 4 * k, in, 4, 1, 0, false);
        }
    }
}

typedef struct opened { sd_store store; sd_clip clip; sd_binder binder; sd_error e; } opened;

static void open_clip(opened *o, const char *stem, void (*fill)(names *))
{
    static names f;
    char file[80];
    memset(&f, 0, sizeof f);
    memset(o, 0, sizeof *o);
    fill(&f);
    snprintf(file, sizeof file, "%s.safetensors", stem);
    sd_safetensors_write(temp_path(file), f.t, f.n, &o->e);
    sd_store_open_dir(&o->store, temp_path(""), stem, &o->e);
    o->binder = (sd_binder){.store = &o->store, .err = &o->e, .strip = "text_model."};
    sd_clip_bind(&o->clip, &small, &o->binder);
    sd_bind_finish(&o->binder, "text_encoder", NULL);
    if (o->e.status) fail_msg("%s", o->e.text);
}

static void close_clip(opened *o)
{
    sd_clip_free(&o->clip);
    sd_binder_free(&o->binder);
    sd_store_close(&o->store);
}

TEST(openclip_and_transformers_names_give_the_same_network)
{
    static opened hf, open;
    open_clip(&hf, "transformers", transformers);
    open_clip(&open, "openclip", openclip);
    assert_int_equal(hf.binder.n_weights, 5 + 2 * 16);
    assert_int_equal(open.binder.n_weights, hf.binder.n_weights);
    for (size_t i = 0; i < hf.binder.n_weights; i++) {
        const sd_weight *x = &hf.binder.weight[i], *y = sd_weight_find(&open.binder, x->path);
        assert_non_null(y);
        if (x->field->nd != y->field->nd || memcmp(x->field->dim, y->field->dim, sizeof x->field->dim) != 0
            || memcmp(x->field->data, y->field->data, (size_t)sd_numel(x->field) * sizeof(float)) != 0)
            fail_msg("%s differs", x->path);
    }
    close_clip(&hf);
    close_clip(&open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(openclip_and_transformers_names_give_the_same_network)};
    return cmocka_run_group_tests(tests, temp_make, temp_remove);
}
