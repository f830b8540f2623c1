/* test_convert.c - sd convert: names, shapes, types and bytes of what is written, what is kept beside the tensors, and
 * that a failure leaves nothing. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../convert.h"
#include "child.h"
#include "context.h"
#include "synth.h"
#include "tempdir.h"

/* ---------------------------------------------------------------------------------------- what tests share */

static const char *const module_files[] = {"unet/diffusion_pytorch_model.safetensors",
                                           "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"};

static const char *in(const char *dir, const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return temp_path(path);
}

/* A model with weights from a formula, in a directory of this name. */
static const char *synth(const char *name, const char *config, const synth_options *options)
{
    sd_error e = {0};
    assert_int_equal(mkdir(temp_path(name), 0777), 0);
    if (synth_write_model(temp_path(name), config, options, &e)) fail_msg("%s", e.text);
    return temp_path(name);
}

static sd_convert_options to_path(const char *path)
{
    sd_convert_options o;
    sd_convert_options_init(&o);
    o.output = path;
    return o;
}

static const char *configured_as;   /* sd_options.config */
static const char *with_vae;        /* a file whose VAE takes the place of the model's */
static char said[512];   /* by the last conversion that failed */
static char notices[4096];

static void hear(void *user, int level, const char *line)
{
    (void)user;
    if (level < 2) snprintf(notices + strlen(notices), sizeof notices - strlen(notices), "%s\n", line);
}

static sd_status try_to_convert(const char *model, const sd_convert_options *o)
{
    sd_options open;
    sd_ctx *c;
    sd_options_init(&open);
    open.model = model;
    open.config = configured_as;
    open.vae = with_vae;
    open.log = hear;
    *notices = 0;
    if (o->only) open.parts = *o->only == 'u' ? SD_PART_UNET : *o->only == 'v' ? SD_PART_VAE : SD_PART_TEXT;
    sd_status status = sd_open(&c, &open);
    if (!status) status = sd_convert(c, o);
    snprintf(said, sizeof said, "%s", sd_error_text(c));
    sd_close(c);
    return status;
}

static void convert(const char *model, const sd_convert_options *o)
{
    if (try_to_convert(model, o)) fail_msg("%s to %s: %s", model, o->output, said);
}

static void convert_plainly(const char *model, const char *to)
{
    const sd_convert_options o = to_path(to);
    convert(model, &o);
}

static void expect_refusal(const char *model, const sd_convert_options *o, sd_status status, const char *says)
{
    int before = temp_files();
    sd_status got = try_to_convert(model, o);
    if (got != status || !strstr(said, says)) fail_msg("%s: %s", sd_status_name(got), said);
    assert_int_equal(temp_files(), before);
}

static sd_weight_file open_file(const char *path)
{
    sd_weight_file f;
    sd_error e = {0};
    if (sd_weight_file_open(&f, path, &e)) fail_msg("%s", e.text);
    return f;
}

static const sd_entry *entry(const sd_weight_file *f, const char *name)
{
    const sd_entry *t = sd_weight_file_find(f, name);
    if (!t) fail_msg("%s has no %s", f->path, name);
    return t;
}

static void expect_shape(const sd_entry *t, int nd, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t want[] = {a, b, c, d};
    if (t->nd != nd || memcmp(t->dim, want, (size_t)nd * sizeof *want))
        fail_msg("%s: %d dimensions [%d,%d,%d,%d]", t->name, t->nd, (int)t->dim[0], (int)t->dim[1], (int)t->dim[2],
                 (int)t->dim[3]);
}

static void expect_same_numbers(const sd_entry *a, const sd_entry *b)
{
    if (a->dt != b->dt || a->bytes != b->bytes || memcmp(a->data, b->data, a->bytes))
        fail_msg("%s and %s differ", a->name, b->name);
}

/* ---------------------------------------------------------------------------------------- directories */

TEST(a_directory_becomes_the_same_directory)
{
    convert_plainly("weights/tiny", temp_path("copy"));
    static const char *const files[] = {
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
        "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        char original[200];
        snprintf(original, sizeof original, "weights/tiny/%s", files[i]);
        if (!same_files(original, in("copy", files[i]))) fail_msg("%s differs", files[i]);
    }
    assert_string_equal(notices, "");
    temp_clear();
}

TEST(a_directory_that_exists_is_not_written_into)
{
    assert_int_equal(mkdir(temp_path("there"), 0777), 0);
    sd_convert_options o = to_path(temp_path("there"));
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "exists already");
    o = to_path("weights/tiny");
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "exists already");
    o = to_path(temp_path("no/such/place"));
    expect_refusal("weights/tiny", &o, SD_ERR_MISSING, "no/such/place: No such file");
    temp_clear();
}

TEST(slashes_behind_a_directorys_name_do_not_count)
{
    convert_plainly("weights/tiny", temp_path("copy//"));
    assert_true(same_files("weights/tiny/model_index.json", temp_path("copy/model_index.json")));
    temp_clear();
}

/* The shards as diffusers splits: none above the limit, the index names each tensor once. */
TEST(shards_have_an_index_and_all_tensors)
{
    sd_convert_options o = to_path(temp_path("shards"));
    sd_store s, whole;
    sd_error e = {0};
    size_t n;
    o.shard_bytes = 4000000;
    convert("weights/tiny", &o);
    char *index = temp_read("shards/unet/diffusion_pytorch_model.safetensors.index.json", &n);
    const char *begins = "{\n  \"metadata\": {\n    \"total_size\": 14156392\n  },\n  \"weight_map\": {\n"
                         "    \"conv_in.bias\": \"diffusion_pytorch_model-00001-of-00004.safetensors\",\n";
    assert_memory_equal(index, begins, strlen(begins));
    assert_string_equal(index + n - 6, "  }\n}\n");
    free(index);
    assert_int_equal(sd_store_open_dir(&s, temp_path("shards/unet"), "diffusion_pytorch_model", &e), SD_OK);
    assert_int_equal(sd_store_open_dir(&whole, "weights/tiny/unet", "diffusion_pytorch_model", &e), SD_OK);
    assert_int_equal(s.n_files, 4);
    assert_int_equal(sd_store_count(&s), sd_store_count(&whole));
    for (size_t i = 0; i < s.n_files; i++) {
        uint64_t bytes = 0;
        for (size_t k = 0; k < s.file[i].n; k++) bytes += s.file[i].entry[k].bytes;
        assert_true(bytes <= o.shard_bytes);
    }
    for (size_t i = 0; i < sd_store_count(&whole); i++) {
        const sd_entry *t = sd_store_at(&whole, i), *u = sd_store_find(&s, t->name);
        assert_non_null(u);
        expect_same_numbers(t, u);
    }
    sd_store_close(&s);
    sd_store_close(&whole);
    assert_true(same_files("weights/tiny/vae/diffusion_pytorch_model.safetensors",
                           temp_path("shards/vae/diffusion_pytorch_model.safetensors")));   /* it fits into one */
    temp_clear();
}

TEST(parts_that_are_not_written_are_null_in_model_index)
{
    const char *index = "{\"_class_name\":\"StableDiffusionPipeline\",\"requires_safety_checker\":true,"
                        "\"safety_checker\":[\"stable_diffusion\",\"StableDiffusionSafetyChecker\"],"
                        "\"unet\":[\"diffusers\",\"UNet2DConditionModel\"]}";
    synth("model", "sd1-small", NULL);
    temp_write("model/model_index.json", index, strlen(index));
    convert_plainly(temp_path("model"), temp_path("copy"));
    size_t n;
    char *text = temp_read("copy/model_index.json", &n);
    assert_string_equal(text, "{\n  \"_class_name\": \"StableDiffusionPipeline\",\n"
                              "  \"requires_safety_checker\": false,\n"
                              "  \"safety_checker\": [\n    null,\n    null\n  ],\n"
                              "  \"unet\": [\n    \"diffusers\",\n    \"UNet2DConditionModel\"\n  ]\n}\n");
    free(text);
    temp_clear();
}

/* ---------------------------------------------------------------------------------------- single files */

typedef struct twin { const char *ldm, *hf; } twin;

static void expect_twins(const sd_weight_file *single, const char *dir, const char *module, const char *root,
                         const twin *twins, size_t n)
{
    char path[300], name[200];
    snprintf(path, sizeof path, "%s/%s", dir, module);
    sd_weight_file f = open_file(path);
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s", root, twins[i].ldm);
        expect_same_numbers(entry(single, name), entry(&f, twins[i].hf));
    }
    sd_weight_file_close(&f);
}

/* One name of each rule by which CompVis' names differ [diffusers, convert_diffusers_to_original_stable_diffusion]. */
static const twin unet_twins[] = {
    {"time_embed.0.weight", "time_embedding.linear_1.weight"},
    {"input_blocks.0.0.bias", "conv_in.bias"},
    {"input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"},
    {"middle_block.1.transformer_blocks.0.attn2.to_k.weight",
     "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"},
    {"middle_block.2.out_layers.3.bias", "mid_block.resnets.1.conv2.bias"},
    {"output_blocks.0.0.skip_connection.weight", "up_blocks.0.resnets.0.conv_shortcut.weight"},
    {"out.0.weight", "conv_norm_out.weight"},
    {"out.2.weight", "conv_out.weight"},
};
static const twin vae_twins[] = {
    {"encoder.down.0.block.0.norm1.weight", "encoder.down_blocks.0.resnets.0.norm1.weight"},
    {"encoder.down.0.downsample.conv.bias", "encoder.down_blocks.0.downsamplers.0.conv.bias"},
    {"decoder.mid.attn_1.q.weight", "decoder.mid_block.attentions.0.to_q.weight"},
    {"decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"},
    {"decoder.up.0.block.0.nin_shortcut.weight", "decoder.up_blocks.3.resnets.0.conv_shortcut.weight"},
    {"quant_conv.weight", "quant_conv.weight"},
};

TEST(a_single_file_has_the_names_of_compvis_and_openai)
{
    static const twin text_twins[] = {
        {"text_model.encoder.layers.1.self_attn.k_proj.bias", "text_model.encoder.layers.1.self_attn.k_proj.bias"},
        {"text_model.embeddings.position_embedding.weight", "text_model.embeddings.position_embedding.weight"},
    };
    const char *dir = synth("model", "sd1-small", NULL);
    convert_plainly(dir, temp_path("single.safetensors"));
    sd_weight_file f = open_file(temp_path("single.safetensors"));
    expect_twins(&f, dir, module_files[0], "model.diffusion_model.", unet_twins, SD_COUNT(unet_twins));
    expect_twins(&f, dir, module_files[1], "first_stage_model.", vae_twins, SD_COUNT(vae_twins));
    expect_twins(&f, dir, module_files[2], "cond_stage_model.transformer.", text_twins, SD_COUNT(text_twins));
    const sd_entry *q = entry(&f, "first_stage_model.decoder.mid.attn_1.q.weight");
    expect_shape(q, 4, q->dim[0], q->dim[0], 1, 1);
    const sd_entry *p = entry(&f, "model.diffusion_model.middle_block.1.proj_in.weight");
    expect_shape(p, 4, p->dim[0], p->dim[0], 1, 1);
    sd_weight_file_close(&f);
    temp_clear();
}

TEST(a_single_file_of_sd2_has_openclips_fused_projection_and_linear_layers)
{
    const char *const parts[] = {"q", "k", "v"};
    char name[100];
    const char *dir = synth("model", "sd2-small", NULL);
    convert_plainly(dir, temp_path("single.safetensors"));
    sd_weight_file f = open_file(temp_path("single.safetensors")), text = open_file(in("model", module_files[2]));
    const sd_entry *whole = entry(&f, "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight");
    const sd_entry *bias = entry(&f, "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_bias");
    expect_shape(whole, 2, 3 * whole->dim[1], whole->dim[1], 0, 0);
    expect_shape(bias, 1, 3 * whole->dim[1], 0, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "text_model.encoder.layers.1.self_attn.%s_proj.weight", parts[i]);
        const sd_entry *t = entry(&text, name);
        assert_memory_equal((const char *)whole->data + i * t->bytes, t->data, t->bytes);
        snprintf(name, sizeof name, "text_model.encoder.layers.1.self_attn.%s_proj.bias", parts[i]);
        t = entry(&text, name);
        assert_memory_equal((const char *)bias->data + i * t->bytes, t->data, t->bytes);
    }
    expect_same_numbers(entry(&f, "cond_stage_model.model.positional_embedding"),
                        entry(&text, "text_model.embeddings.position_embedding.weight"));
    expect_same_numbers(entry(&f, "cond_stage_model.model.ln_final.bias"),
                        entry(&text, "text_model.final_layer_norm.bias"));
    const sd_entry *p = entry(&f, "model.diffusion_model.middle_block.1.proj_in.weight");
    expect_shape(p, 2, p->dim[0], p->dim[0], 0, 0);
    sd_weight_file_close(&f);
    sd_weight_file_close(&text);
    (void)dir;
    temp_clear();
}

TEST(a_single_file_keeps_configurations_and_texts_of_the_directory)
{
    size_t n;
    char *config = slurp("weights/tiny/unet/config.json", &n);
    convert_plainly("weights/tiny", temp_path("single.safetensors"));
    sd_weight_file f = open_file(temp_path("single.safetensors"));
    assert_string_equal(sd_weight_file_meta(&f, "format"), "pt");
    assert_string_equal(sd_weight_file_meta(&f, "sd:unet/config.json"), config);
    assert_string_equal(sd_weight_file_meta(&f, "sd:vae/__metadata__"), "{\"format\":\"pt\"}");
    assert_non_null(sd_weight_file_meta(&f, "sd:scheduler/scheduler_config.json"));
    assert_non_null(sd_weight_file_meta(&f, "sd:tokenizer/special_tokens_map.json"));
    assert_null(sd_weight_file_meta(&f, "sd:tokenizer/merges.txt"));
    sd_weight_file_close(&f);
    free(config);
    temp_clear();
}

TEST(one_part_has_no_root_and_either_spelling)
{
    sd_convert_options o = to_path(temp_path("vae.safetensors"));
    o.only = "vae";
    convert("weights/tiny", &o);
    sd_weight_file f = open_file(o.output);
    entry(&f, "decoder.mid.attn_1.q.weight");
    assert_non_null(sd_weight_file_meta(&f, "sd:vae/config.json"));
    assert_null(sd_weight_file_meta(&f, "sd:unet/config.json"));
    sd_weight_file_close(&f);
    o.spelling = "diffusers";
    o.output = temp_path("other.safetensors");
    convert("weights/tiny", &o);
    f = open_file(o.output);
    entry(&f, "decoder.mid_block.attentions.0.to_q.weight");
    sd_weight_file_close(&f);
    o = to_path(temp_path("part"));
    o.only = "unet";
    convert("weights/tiny", &o);
    assert_true(same_files("weights/tiny/unet/config.json", temp_path("part/config.json")));
    assert_true(same_files("weights/tiny/unet/diffusion_pytorch_model.safetensors",
                           temp_path("part/diffusion_pytorch_model.safetensors")));
    assert_int_equal(access(temp_path("part/model_index.json"), F_OK), -1);
    temp_clear();
}

/* ---------------------------------------------------------------------------------------- there and back */

static void expect_same_directory(const char *a, const char *b)
{
    static const char *const files[] = {
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        char x[600], y[600];
        snprintf(x, sizeof x, "%s/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/%s", b, files[i]);
        if (!same_files(x, y)) fail_msg("%s and %s differ", x, y);
    }
}

TEST(a_directory_comes_back_from_a_single_file_and_from_gguf)
{
    static const char *const single[] = {"single.safetensors", "single.gguf"};
    static const char *const configs[] = {"sd1-small", "sd2-small", "asym-small"};
    for (size_t i = 0; i < SD_COUNT(single); i++) {
        convert_plainly("weights/tiny", temp_path(single[i]));
        convert_plainly(temp_path(single[i]), temp_path("back"));
        expect_same_directory("weights/tiny", temp_path("back"));
        temp_clear();
        for (size_t k = 0; k < SD_COUNT(configs); k++) {   /* one copy first: synth.c has its own order of tensors */
            synth("model", configs[k], NULL);
            convert_plainly(temp_path("model"), temp_path("copy"));
            convert_plainly(temp_path("model"), temp_path(single[i]));
            convert_plainly(temp_path(single[i]), temp_path("back"));
            expect_same_directory(temp_path("copy"), temp_path("back"));
            temp_clear();
        }
    }
}

TEST(a_single_file_becomes_the_same_single_file)
{
    convert_plainly("weights/tiny", temp_path("a.safetensors"));
    convert_plainly(temp_path("a.safetensors"), temp_path("b.safetensors"));
    convert_plainly(temp_path("a.safetensors"), temp_path("c.gguf"));
    convert_plainly(temp_path("c.gguf"), temp_path("d.safetensors"));
    assert_true(same_files(temp_path("a.safetensors"), temp_path("b.safetensors")));
    assert_true(same_files(temp_path("a.safetensors"), temp_path("d.safetensors")));
    temp_clear();
}

static void draw(const char *model, const char *picture)
{
    RUN("-m", model, "-p", "a red apple", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "-q", "-o", picture);
    expect_success(model);
}

TEST(pictures_are_the_same_before_and_after)
{
    static const char *const outputs[] = {"b.safetensors", "c.gguf", "d", "e"};
    static const char *const models[] = {"weights/tiny", "sd2-small"};
    for (size_t k = 0; k < SD_COUNT(models); k++) {
        const char *model = k ? synth("model", models[k], NULL) : models[k];
        char kept[600];
        snprintf(kept, sizeof kept, "%s", model);
        draw(kept, temp_path("a.ppm"));
        for (size_t i = 0; i < SD_COUNT(outputs); i++) {
            sd_convert_options o = to_path(temp_path(outputs[i]));
            if (i == 3) o.shard_bytes = 300000;
            convert(kept, &o);
            draw(o.output, temp_path("b.ppm"));
            if (!same_files(temp_path("a.ppm"), temp_path("b.ppm"))) fail_msg("%s draws another picture", outputs[i]);
        }
        temp_clear();
    }
}

/* A single file with averages of the UNet's weights: as many, under the names of ldm's LitEma, twice as large. */
static size_t write_with_averages(const char *single, const char *to, bool without_one)
{
    sd_weight_file f = open_file(single);
    sd_traced *t = calloc(2 * f.n, sizeof *t);
    char **names = calloc(f.n, sizeof *names);
    float **numbers = calloc(f.n, sizeof *numbers);
    size_t n = 0, averages = 0;
    sd_error e = {0};
    assert_true(t && names && numbers);
    for (size_t i = 0; i < f.n; i++) {
        const sd_entry *x = &f.entry[i];
        t[n] = (sd_traced){x->name, x->dt, x->nd, {0}, x->data};
        memcpy(t[n].dim, x->dim, sizeof t[n].dim);
        n++;
        if (strncmp(x->name, "model.diffusion_model.", 22) != 0 || (without_one && averages == 100)) {
            averages += strncmp(x->name, "model.diffusion_model.", 22) == 0;
            continue;
        }
        size_t count = x->bytes / sd_dtype_size(x->dt);
        char *name = names[averages] = calloc(1, strlen(x->name) + 8), *c = name + 25;
        float *y = numbers[averages++] = malloc(count * sizeof *y);
        assert_true(name && y);
        memcpy(name, "model_ema.diffusion_model", 25);
        for (const char *p = x->name + 22; *p; p++)
            if (*p != '.') *c++ = *p;
        sd_widen(y, x->data, x->dt, count, &sd_kern_spec);
        for (size_t k = 0; k < count; k++) y[k] *= 2;
        t[n] = (sd_traced){name, SD_F32, x->nd, {0}, y};
        memcpy(t[n].dim, x->dim, sizeof t[n].dim);
        n++;
    }
    if (sd_safetensors_write(to, t, n, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < averages; i++) {
        free(names[i]);
        free(numbers[i]);
    }
    free(t);
    free(names);
    free(numbers);
    sd_weight_file_close(&f);
    return averages;
}

TEST(averages_of_training_become_the_unet_if_asked_for)
{
    sd_convert_options o = to_path(temp_path("a.safetensors"));
    o.type = "F32";
    convert("weights/tiny", &o);
    write_with_averages(temp_path("a.safetensors"), temp_path("with.safetensors"), false);
    write_with_averages(temp_path("a.safetensors"), temp_path("without.safetensors"), true);
    configured_as = "weights/tiny";
    o = to_path(temp_path("plain.safetensors"));
    convert(temp_path("with.safetensors"), &o);
    assert_non_null(strstr(notices, "that no network needs are left out (model_ema.diffusion_model"));
    o = to_path(temp_path("ema.safetensors"));
    o.ema = 1;
    convert(temp_path("with.safetensors"), &o);
    assert_null(strstr(notices, "left out"));
    sd_weight_file plain = open_file(temp_path("plain.safetensors")), ema = open_file(o.output);
    assert_int_equal(plain.n, ema.n);
    for (size_t i = 0; i < ema.n; i++) {
        const sd_entry *t = &ema.entry[i], *u = entry(&plain, t->name);
        double times = strncmp(t->name, "model.diffusion_model.", 22) == 0 ? 2 : 1;
        const float *x = t->data, *y = u->data;
        for (size_t k = 0; k < t->bytes / sizeof *x; k++)
            if ((double)x[k] != times * (double)y[k]) fail_msg("%s", t->name);
    }
    sd_weight_file_close(&plain);
    sd_weight_file_close(&ema);
    o = to_path(temp_path("none.safetensors"));
    o.ema = 1;
    expect_refusal(temp_path("without.safetensors"), &o, SD_ERR_MISSING, "no average (EMA)");
    o.only = "vae";
    o.output = temp_path("vae.safetensors");   /* of other parts there are none */
    convert(temp_path("without.safetensors"), &o);
    o = to_path(temp_path("all.safetensors"));
    o.keep_all = 1;
    convert(temp_path("with.safetensors"), &o);
    assert_null(strstr(notices, "left out"));
    sd_weight_file all = open_file(o.output), with = open_file(temp_path("with.safetensors"));
    assert_int_equal(all.n, with.n);
    sd_weight_file_close(&all);
    sd_weight_file_close(&with);
    configured_as = NULL;
    temp_clear();
}

/* ---------------------------------------------------------------------------------------- types */

static void expect_converted(const sd_entry *t, const sd_entry *from, sd_dtype to)
{
    size_t n = from->bytes / sd_dtype_size(from->dt);
    float *x = malloc((n + 1) * sizeof *x);
    void *y = malloc(sd_dtype_bytes(to, n) + 1);
    assert_non_null(x);
    assert_non_null(y);
    sd_widen(x, from->data, from->dt, n, &sd_kern_spec);
    sd_narrow(y, to, x, n);
    if (t->dt != to || memcmp(t->data, y, t->bytes)) fail_msg("%s is not %s", t->name, sd_dtype_name(to));
    free(x);
    free(y);
}

/* What stays as it is under a type of few digits. */
static bool is_small(const sd_entry *t, sd_dtype to)
{
    return sd_dtype_size(to) < 2 && (t->nd < 2 || strstr(t->name, "embedding") ||
                                     t->dim[t->nd - 1] % (int64_t)sd_dtype_block(to) != 0);
}

TEST(types_are_as_torch_and_ggml_round_and_vectors_stay)
{
    static const struct { const char *type, *file; sd_dtype dt; } cases[] = {
        {"F32", "a.safetensors", SD_F32}, {"bf16", "b.safetensors", SD_BF16}, {"F64", "c.safetensors", SD_F64},
        {"F16", "d.gguf", SD_F16}, {"F8_E4M3", "e.safetensors", SD_F8_E4M3}, {"q8_0", "f.gguf", SD_Q8_0},
        {"keep", "g.gguf", SD_F16},
    };
    sd_weight_file original = open_file("weights/tiny/unet/diffusion_pytorch_model.safetensors");
    for (size_t k = 0; k < SD_COUNT(cases); k++) {
        size_t converted = 0;
        sd_convert_options o = to_path(temp_path(cases[k].file));
        o.type = cases[k].type;
        o.only = "unet";
        o.spelling = "diffusers";
        convert("weights/tiny", &o);
        sd_weight_file f = open_file(o.output);
        assert_int_equal(f.n, original.n);
        for (size_t i = 0; i < f.n; i++) {
            const sd_entry *t = &f.entry[i], *from = entry(&original, t->name);
            bool small = is_small(from, cases[k].dt);
            converted += !small;
            expect_shape(t, from->nd, from->dim[0], from->dim[1], from->dim[2], from->dim[3]);
            expect_converted(t, from, small ? SD_F16 : cases[k].dt);
        }
        assert_true(converted > 20);
        sd_weight_file_close(&f);
    }
    sd_weight_file_close(&original);
    temp_clear();
}

TEST(types_and_names_that_do_not_exist_are_refused)
{
    sd_convert_options o = to_path(temp_path("a.safetensors"));
    o.type = "F17";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "\"F17\"");
    o.type = "Q4_0";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "\"Q4_0\"");
    o.type = "Q8_0";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "a safetensors file cannot hold Q8_0");
    o = to_path(temp_path("a.ckpt"));
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "a.ckpt: files of this kind are not written");
    o = to_path("-");
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "not written to the standard output");
    o = to_path(temp_path("a.gguf"));
    o.type = "F8_E4M3";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "a GGUF file cannot hold F8_E4M3");
    o = to_path(temp_path("a.safetensors"));
    o.spelling = "flax";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "\"flax\"");
    o.spelling = "diffusers";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "one part only");
    o = to_path(temp_path("a"));
    o.spelling = "ldm";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "single files");
    o = to_path(temp_path("a.gguf"));
    o.shard_bytes = 1000;
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "shards are for a directory");
    o = to_path(temp_path("a.gguf"));
    o.only = "text_encoder_2";
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "no text_encoder_2");
    o = to_path(NULL);
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "output must not be NULL");
}

/* ---------------------------------------------------------------------------------------- other promises */

TEST(the_same_input_gives_the_same_bytes)
{
    static const char *const files[][2] = {{"a.safetensors", "b.safetensors"}, {"a.gguf", "b.gguf"}};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        convert_plainly("weights/tiny", temp_path(files[i][0]));
        convert_plainly("weights/tiny", temp_path(files[i][1]));
        assert_true(same_files(temp_path(files[i][0]), temp_path(files[i][1])));
    }
    temp_clear();
}

/* A model whose text encoder's file has two tensors more. */
static const char *model_with_leftovers(void)
{
    static const int64_t ids[] = {0, 1, 2};
    static const float other[] = {5};
    sd_traced t[200];
    size_t n = 0;
    sd_error e = {0};
    const char *dir = synth("model", "sd1-small", NULL);
    sd_weight_file f = open_file(in("model", module_files[2]));
    for (; n < f.n; n++) {
        const sd_entry *x = &f.entry[n];
        assert_true(n + 2 < SD_COUNT(t));
        t[n] = (sd_traced){x->name, x->dt, x->nd, {0}, x->data};
        memcpy(t[n].dim, x->dim, sizeof t[n].dim);
    }
    t[n++] = (sd_traced){"text_model.embeddings.position_ids", SD_I64, 2, {1, 3}, ids};
    t[n++] = (sd_traced){"logit_scale", SD_F32, 0, {0}, other};
    assert_int_equal(sd_safetensors_write(in("model", "text_encoder/new.safetensors"), t, n, &e), SD_OK);
    sd_weight_file_close(&f);
    assert_int_equal(rename(in("model", "text_encoder/new.safetensors"), in("model", module_files[2])), 0);
    return dir;
}

TEST(tensors_that_no_network_needs_are_kept_only_if_asked_for)
{
    model_with_leftovers();
    sd_convert_options o = to_path(temp_path("a.safetensors"));
    convert(temp_path("model"), &o);
    assert_non_null(strstr(notices, "2 tensors that no network needs are left out (logit_scale, ...): --keep-all"));
    sd_weight_file f = open_file(o.output);
    assert_null(sd_weight_file_find(&f, "cond_stage_model.transformer.text_model.embeddings.position_ids"));
    sd_weight_file_close(&f);
    o = to_path(temp_path("b.safetensors"));
    o.keep_all = 1;
    convert(temp_path("model"), &o);
    assert_null(strstr(notices, "left out"));
    f = open_file(o.output);
    const sd_entry *t = entry(&f, "cond_stage_model.transformer.text_model.embeddings.position_ids");
    assert_int_equal(t->dt, SD_I64);
    expect_shape(t, 2, 1, 3, 0, 0);
    expect_shape(entry(&f, "cond_stage_model.transformer.logit_scale"), 0, 0, 0, 0, 0);
    sd_weight_file_close(&f);
    temp_clear();
}

/* They are other networks' tensors, not such as nobody needs, and must not come along with what is kept. */
TEST(a_network_that_is_not_taken_leaves_nothing_behind)
{
    sd_convert_options o = to_path(temp_path("all.safetensors")), vae = to_path(temp_path("vae.safetensors"));
    convert("weights/tiny", &o);
    vae.only = "vae";
    vae.keep_all = 1;
    convert(o.output, &vae);
    assert_null(strstr(notices, "left out"));
    with_vae = vae.output;
    for (int keep_all = 0; keep_all < 2; keep_all++) {
        sd_convert_options joined = to_path(temp_path("joined.safetensors"));
        joined.keep_all = keep_all;
        convert(o.output, &joined);
        assert_null(strstr(notices, "left out"));
        assert_true(same_files(o.output, joined.output));
    }
    with_vae = NULL;
    temp_clear();
}

/* What a directory gets if the input has no texts: here made of a model that has them. */
TEST(texts_that_are_made_say_what_was_opened)
{
    static const struct { const char *name; int module; } names[] = {
        {"model_index.json", -1}, {"tokenizer/special_tokens_map.json", 0}, {"tokenizer/tokenizer_config.json", 0},
        {"tokenizer/vocab.json", 0}, {"text_encoder/config.json", 1}, {"unet/config.json", 2}, {"vae/config.json", 3}};
    char path[200];
    size_t n;
    sd_ctx *c = open_tiny(SD_PART_ALL, 1);
    const sd_conversion v = {.c = c, .err = &c->err, .target = SD_TARGET_DIRECTORY};
    assert_int_equal(mkdir(temp_path("made"), 0777), 0);
    assert_int_equal(mkdir(temp_path("made/scheduler"), 0777), 0);
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        char *text = sd_convert_make(&v, names[i].module < 0 ? NULL : c->model.module[names[i].module], names[i].name);
        if (!text) fail_msg("%s: %s", names[i].name, c->err.text);
        snprintf(path, sizeof path, "made/%.*s", (int)strcspn(names[i].name, "/"), names[i].name);
        if (strchr(names[i].name, '/')) mkdir(temp_path(path), 0777);
        snprintf(path, sizeof path, "made/%s", names[i].name);
        temp_write(path, text, strlen(text));
        free(text);
    }
    sd_close(c);
    assert_true(same_files(temp_path("made/tokenizer/vocab.json"), "weights/tiny/tokenizer/vocab.json"));
    static const char *const copied[] = {"scheduler/scheduler_config.json", "tokenizer/merges.txt",
                                         "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
                                         "vae/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < SD_COUNT(copied); i++) {
        snprintf(path, sizeof path, "weights/tiny/%s", copied[i]);
        char *bytes = slurp(path, &n);
        snprintf(path, sizeof path, "made/%s", copied[i]);
        temp_write(path, bytes, n);
        free(bytes);
    }
    RUN("-m", "weights/tiny", "-p", "a red apple", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "-o",
        temp_path("a.ppm"));
    expect_success("the model itself");
    RUN("-m", temp_path("made"), "-p", "a red apple", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "-o",
        temp_path("b.ppm"));
    expect_success("the model with texts that were made");
    assert_true(same_files(temp_path("a.ppm"), temp_path("b.ppm")));
    temp_clear();
}

/* ---------------------------------------------------------------------------------------- failures */

TEST(a_full_disk_leaves_nothing)
{
    static const struct { const char *name; size_t bytes; } cases[] = {
        {"a.safetensors", 1000}, {"a.safetensors", 9000000}, {"a.gguf", 3000000}, {"a", 100}, {"a", 600000},
        {"a", 12000000}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_convert_options o = to_path(temp_path(cases[i].name));
        temp_disk_limit(cases[i].bytes);
        sd_status status = try_to_convert("weights/tiny", &o);
        temp_disk_limit(0);
        if (status != SD_ERR_IO || !strstr(said, "File too large")) fail_msg("%s: %s", cases[i].name, said);
        assert_int_equal(temp_files(), 0);
    }
}

static void stop(void *user, const sd_progress *p)
{
    assert_string_equal(p->stage, "convert");
    if (p->done == p->total / 2) sd_cancel(user);
}

TEST(a_request_to_stop_ends_it_and_leaves_nothing)
{
    static const char *const names[] = {"a.safetensors", "a.gguf", "a"};
    sd_ctx *c = open_tiny(SD_PART_ALL, 1);
    sd_set_progress(c, stop, c);
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        const sd_convert_options o = to_path(temp_path(names[i]));
        assert_int_equal(sd_convert(c, &o), SD_ERR_CANCELLED);
        assert_int_equal(temp_files(), 0);
    }
    sd_close(c);
}

TEST(the_input_is_never_written_over)
{
    char path[300];
    sd_convert_options o = to_path("weights/tiny/unet/diffusion_pytorch_model.safetensors");
    expect_refusal("weights/tiny", &o, SD_ERR_ARG, "is the input");
    synth("model", "sd1-small", NULL);
    snprintf(path, sizeof path, "%s", in("model", module_files[1]));
    assert_int_equal(symlink(path, temp_path("link.safetensors")), 0);
    o = to_path(temp_path("link.safetensors"));
    expect_refusal(temp_path("model"), &o, SD_ERR_ARG, "is the input");
    temp_clear();
}

TEST(the_program_converts_and_says_what_is_wrong_in_one_line)
{
    RUN("convert", "weights/tiny", temp_path("a.safetensors"), "--type", "f32");
    expect_success("convert");
    assert_non_null(strstr(ran.out, "a.safetensors\n"));
    RUN("convert", "weights/tiny", temp_path("b"), "--shards", "4MB", "-q");
    expect_success("convert");
    assert_string_equal(ran.out, "");
    temp_clear();
    static const struct { const char *args[4], *word; } cases[] = {
        {{NULL}, "give a model and an output"},
        {{"--shards", "x"}, "give a model"},
        {{"weights/tiny", "%", "--shards", "5 apples"}, "\"5 apples\""},
        {{"weights/tiny", "%", "--only", "lora"}, "\"lora\""},
        {{"weights/tiny", "%", "--type", "F17"}, "\"F17\""},
        {{"weights/none", "%"}, "weights/none"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        const char *a[4];
        for (int k = 0; k < 4; k++)
            a[k] = cases[i].args[k] && *cases[i].args[k] == '%' ? temp_path("a") : cases[i].args[k];
        RUN("convert", a[0], a[1], a[2], a[3]);
        expect_error(cases[i].word, 2, cases[i].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_becomes_the_same_directory),
        cmocka_unit_test(a_directory_that_exists_is_not_written_into),
        cmocka_unit_test(slashes_behind_a_directorys_name_do_not_count),
        cmocka_unit_test(shards_have_an_index_and_all_tensors),
        cmocka_unit_test(parts_that_are_not_written_are_null_in_model_index),
        cmocka_unit_test(a_single_file_has_the_names_of_compvis_and_openai),
        cmocka_unit_test(a_single_file_of_sd2_has_openclips_fused_projection_and_linear_layers),
        cmocka_unit_test(a_single_file_keeps_configurations_and_texts_of_the_directory),
        cmocka_unit_test(one_part_has_no_root_and_either_spelling),
        cmocka_unit_test(a_directory_comes_back_from_a_single_file_and_from_gguf),
        cmocka_unit_test(a_single_file_becomes_the_same_single_file),
        cmocka_unit_test(pictures_are_the_same_before_and_after),
        cmocka_unit_test(averages_of_training_become_the_unet_if_asked_for),
        cmocka_unit_test(types_are_as_torch_and_ggml_round_and_vectors_stay),
        cmocka_unit_test(types_and_names_that_do_not_exist_are_refused),
        cmocka_unit_test(the_same_input_gives_the_same_bytes),
        cmocka_unit_test(tensors_that_no_network_needs_are_kept_only_if_asked_for),
        cmocka_unit_test(a_network_that_is_not_taken_leaves_nothing_behind),
        cmocka_unit_test(texts_that_are_made_say_what_was_opened),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(a_request_to_stop_ends_it_and_leaves_nothing),
        cmocka_unit_test(the_input_is_never_written_over),
        cmocka_unit_test(the_program_converts_and_says_what_is_wrong_in_one_line),
    };
    return cmocka_run_group_tests(tests, child_setup, child_teardown);
}
