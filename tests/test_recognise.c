/* test_recognise.c - what files are, told from the names and shapes of their tensors. */
#include "test.h"
#include "layouts.h"
#include "made.h"
#include "../sampler.h"
#include "tempdir.h"

static void published(made *m, const char *file)
{
    key_list l;
    sd_error e = {0};
    memset(m, 0, sizeof *m);
    if (key_list_find(&l, file, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < l.n; i++) put(m, l.key[i].name, l.key[i].dt, l.key[i].nd, l.key[i].dim);
    key_list_free(&l);
}

/* ------------------------------------------------------------------------------------ published files */

typedef struct expected {
    const char *file;
    sd_file_kind kind;
    const char *layout, *family, *prediction;   /* NULL: none, not decided */
    int networks;
    size_t unet[2], text[2], skipped, ema;      /* tensors and parameters of the UNet and the first text encoder */
} expected;

/* Counts of tensors and parameters are those of the published files. */
static const expected networks[] = {
    {"v1-5-pruned-emaonly.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 15, 0},
    {"v1-5-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 701, 686},
    {"sd-v1-5-inpainting.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15-inpaint", "epsilon", 3,
     {686, 859535364}, {196, 123060480}, 15, 0},
    {"instruct-pix2pix-00-22000.safetensors", SD_FILE_CHECKPOINT, "LDM", "instruct-pix2pix", "epsilon", 3,
     {686, 859532484}, {196, 123060480}, 701, 686},
    {"sd1-finetune-fp16.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 1, 0},
    {"sd1-finetune-old.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 0, 0},
    {"v2-1_768-ema-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3,
     {686, 865910724}, {280, 340387840}, 28, 0},
    {"v2-1_512-ema-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3,
     {686, 865910724}, {280, 340387840}, 28, 0},
    {"512-inpainting-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21-inpaint", "epsilon", 3,
     {686, 865925124}, {280, 340387840}, 28, 0},
    {"512-depth-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd2-depth", "epsilon", 3,
     {686, 865913604}, {280, 340387840}, 0, 0},
    {"x4-upscaler-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "x4-upscaler", "v_prediction", 3,
     {687, 473398020}, {280, 340387840}, 36, 0},
    {"sd2-sgm.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3, {686, 865910724}, {280, 340387840}, 15, 0},
    {"sd2-exported.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3, {686, 865910724}, {280, 340387840}, 0, 0},
    {"sd_xl_base_1.0.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl", "epsilon", 4,
     {1680, 2567463684}, {196, 123060480}, 2, 0},
    {"sd_xl_refiner_1.0.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl-refiner", "epsilon", 3,
     {1220, 2259526660}, {389, 694659840}, 1, 0},
    {"sd_xl_base_1.0_inpainting_0.1.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl-inpaint", "epsilon", 4,
     {1680, 2567478084}, {196, 123060480}, 2, 0},
    {"sd_xl_turbo_1.0_fp16.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl", "epsilon", 4,
     {1680, 2567463684}, {196, 123060480}, 2, 0},
    {"SSD-1B.safetensors", SD_FILE_CHECKPOINT, "LDM", "ssd-1b", "epsilon", 4,
     {944, 1331334404}, {196, 123060480}, 2, 0},
    {"segmind-vega.safetensors", SD_FILE_CHECKPOINT, "LDM", "vega", "epsilon", 4,
     {564, 745225604}, {196, 123060480}, 2, 0},
    {"small-sd.safetensors", SD_FILE_CHECKPOINT, "LDM", "small-sd", "epsilon", 3,
     {442, 579384964}, {196, 123060480}, 0, 0},
    {"tiny-sd.safetensors", SD_FILE_CHECKPOINT, "mixed", "tiny-sd", "epsilon", 3,
     {358, 323384964}, {196, 123060480}, 0, 0},
    {"LCM_Dreamshaper_v7.safetensors", SD_FILE_CHECKPOINT, "LDM", "lcm", "epsilon", 3,
     {687, 859602884}, {196, 123060480}, 1, 0},
    {"vae-ft-mse-840000-ema-pruned.safetensors", SD_FILE_VAE, "LDM", NULL, NULL, 1, {0}, {0}, 2, 0},
    {"vae/diffusion_pytorch_model.safetensors", SD_FILE_VAE, "diffusers", NULL, NULL, 1, {0}, {0}, 0, 0},
    {"vae-old/diffusion_pytorch_model.safetensors", SD_FILE_VAE, "diffusers", NULL, NULL, 1, {0}, {0}, 0, 0},
    {"unet/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "sd15", "epsilon", 1,
     {686, 859520964}, {0}, 0, 0},
    {"unet-lcm/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "lcm", "epsilon", 1,
     {687, 859602884}, {0}, 0, 0},
    {"unet-xl/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "sdxl", "epsilon", 1,
     {1680, 2567463684}, {0}, 0, 0},
    {"text_encoder/model.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1, {0}, {196, 123060480}, 1, 0},
    {"text_encoder-xl/model.fp16.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {196, 123060480}, 0, 0},
    {"text_encoder_2/model.fp16.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {517, 694659840}, 0, 0},
    {"text_encoder-2-1/model.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {372, 340387840}, 1, 0},
};

static size_t skipped(const sd_recognised *r)
{
    size_t n = 0;
    for (int i = 0; i < r->n_skipped; i++) n += r->skipped[i].tensors;
    return n;
}

static void assert_share(const sd_network *n, const size_t want[2])
{
    if (!want[0]) {
        assert_null(n);
        return;
    }
    assert_non_null(n);
    assert_int_equal(n->all.tensors, want[0]);
    assert_int_equal(n->all.params, want[1]);
}

TEST(every_published_file_is_its_family_to_the_last_tensor)
{
    for (size_t i = 0; i < SD_COUNT(networks); i++) {
        const expected *x = &networks[i];
        made m;
        published(&m, x->file);
        const sd_recognised *r = recognise(&m);
        assert_int_equal(r->kind, x->kind);
        assert_same_text(r->layout, x->layout);
        assert_same_text(r->family ? r->family->name : NULL, x->family);
        assert_same_text(r->prediction, x->prediction);
        assert_int_equal(r->n_networks, x->networks);
        assert_share(sd_recognised_network(r, SD_PART_UNET, 0), x->unet);
        assert_share(sd_recognised_network(r, SD_PART_TEXT, 0), x->text);
        if (x->skipped) assert_int_equal(skipped(r), x->skipped);
        assert_int_equal(r->ema, x->ema);
        assert_int_equal(r->n_leftover, 0);
        for (int k = 0; k < r->n_networks; k++) assert_true(r->network[k].has_config);
        done(&m);
    }
}

/* What shapes do not tell is the family's. A wrong number of heads would fit every shape. */
TEST(heads_and_sizes_are_the_familys)
{
    static const struct { const char *file; int heads[4], size, clip[2]; sd_act act[2]; } cases[] = {
        {"v1-5-pruned-emaonly.safetensors", {8, 8, 8, 8}, 64, {12}, {SD_ACT_QUICK_GELU}},
        {"v2-1_768-ema-pruned.safetensors", {5, 10, 20, 20}, 96, {16}, {SD_ACT_GELU}},
        {"sd2-sgm.safetensors", {5, 10, 20, 20}, 96, {16}, {SD_ACT_GELU}},
        {"x4-upscaler-ema.safetensors", {8, 8, 8, 8}, 128, {16}, {SD_ACT_GELU}},
        {"sd_xl_base_1.0.safetensors", {5, 10, 20}, 128, {12, 20}, {SD_ACT_QUICK_GELU, SD_ACT_GELU}},
        {"sd_xl_refiner_1.0.safetensors", {6, 12, 24, 24}, 128, {20}, {SD_ACT_GELU}},
        {"tiny-sd.safetensors", {8, 8, 8}, 64, {12}, {SD_ACT_QUICK_GELU}},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m;
        published(&m, cases[i].file);
        const sd_recognised *r = recognise(&m);
        const sd_unet_config *c = &sd_recognised_network(r, SD_PART_UNET, 0)->unet;
        for (int k = 0; k < 4; k++) assert_int_equal(c->heads[k], cases[i].heads[k]);
        assert_int_equal(c->width, cases[i].size);
        assert_int_equal(c->groups, 32);
        for (int k = 0; k < 2 && cases[i].clip[k]; k++) {
            const sd_clip_config *t = &sd_recognised_network(r, SD_PART_TEXT, k)->clip;
            assert_int_equal(t->heads, cases[i].clip[k]);
            assert_int_equal(t->act, cases[i].act[k]);
            assert_int_equal(r->pad[k], cases[i].act[k] == SD_ACT_GELU ? 0 : 49407);
        }
        done(&m);
    }
}

/* Every tensor of every published network has its place in the network that shapes and family make. */
static void assert_binds(made *m, const sd_network *n)
{
    sd_error e = {0};
    sd_binder b = {.store = &m->store, .root = n->root, .strip = "text_model.", .err = &e};
    sd_unet_net unet;
    sd_vae vae;
    sd_clip clip;
    if (n->part == SD_PART_UNET) {
        assert_int_equal(sd_unet_walk(&unet, &n->unet, &e), SD_OK);
        sd_unet_bind(&unet, &b);
        sd_unet_free(&unet);
    } else if (n->part == SD_PART_VAE) {
        assert_int_equal(sd_vae_walk(&vae, &n->vae, &e), SD_OK);
        sd_vae_bind(&vae, &b);
        sd_vae_free(&vae);
    } else {
        sd_clip_bind(&clip, &n->clip, &b);
        sd_clip_free(&clip);
    }
    if (sd_bind_finish(&b, n->root, NULL)) fail_msg("%s", e.text);
    sd_binder_free(&b);
}

TEST(every_tensor_of_the_published_networks_has_its_place)
{
    enum { MOST = 1280 * 1280 * 4 };   /* bigG's projection, the only one that is copied */
    void *zeros = calloc(1, MOST);
    assert_non_null(zeros);
    for (size_t i = 0; i < SD_COUNT(networks); i++) {
        made m;
        published(&m, networks[i].file);
        for (size_t k = 0; k < m.file.n; k++) m.file.entry[k].data = zeros;
        const sd_recognised *r = recognise(&m);
        size_t used = 0, all = 0;
        for (int k = 0; k < r->n_networks; k++) {
            assert_binds(&m, &r->network[k]);
            all += r->network[k].all.tensors;
        }
        for (size_t k = 0; k < m.file.n; k++) used += m.file.entry[k].used;
        assert_int_equal(used, all);
        done(&m);
    }
    free(zeros);
}

/* All of a list but the i-th name. */
static void put_all_but(made *m, const key_list *l, size_t i)
{
    memset(m, 0, sizeof *m);
    for (size_t k = 0; k < l->n; k++)
        if (k != i) put(m, l->key[k].name, l->key[k].dt, l->key[k].nd, l->key[k].dim);
}

/* How many tensors a recognised network has not found. */
static size_t lacking(made *m, const sd_network *n)
{
    sd_error e = {0};
    sd_binder b = {.store = &m->store, .root = n->root, .strip = "text_model.", .err = &e};
    sd_unet_net unet;
    sd_vae vae;
    sd_clip clip;
    if (n->part == SD_PART_UNET && !sd_unet_walk(&unet, &n->unet, &e)) {
        sd_unet_bind(&unet, &b);
        sd_unet_free(&unet);
    } else if (n->part == SD_PART_VAE && !sd_vae_walk(&vae, &n->vae, &e)) {
        sd_vae_bind(&vae, &b);
        sd_vae_free(&vae);
    } else if (n->part == SD_PART_TEXT) {
        sd_clip_bind(&clip, &n->clip, &b);
        sd_clip_free(&clip);
    }
    size_t missing = b.missing;
    assert_int_equal(b.wrong, 0);
    sd_binder_free(&b);
    return missing;
}

/* Otherwise a file with one hole would be a model of no family, or, worse, another network: a VAE without its
 * post_quant_conv draws other pictures, and nobody is told. Not so the names by which a network is found at all, and
 * the first convolution, whose channels tell families apart. */
TEST(a_file_that_lacks_one_tensor_is_still_its_family_and_lacks_that_one)
{
    static const char *const files[] = {"v1-5-pruned-emaonly.safetensors", "vae/diffusion_pytorch_model.safetensors",
                                        "unet/diffusion_pytorch_model.safetensors"};
    static const char *const found_by = "*input_blocks.0.0.weight,conv_in.weight,*output_blocks.0.0.in_layers.2.weight,"
                                        "up_blocks.0.resnets.0.conv1.weight,*token_embedding.weight";
    void *zeros = calloc(1, 1280 * 1280 * 4);
    assert_non_null(zeros);
    for (size_t f = 0; f < SD_COUNT(files); f++) {
        key_list l;
        sd_error e = {0};
        made m;
        if (key_list_find(&l, files[f], &e)) fail_msg("%s", e.text);
        put_all_but(&m, &l, l.n);
        const sd_family *family = recognise(&m)->family;
        done(&m);
        for (size_t i = 0; i < l.n; i++) {
            const char *name = l.key[i].name;
            if (sd_skip_find(name) || sd_glob_list(found_by, name) || !sd_glob("*.weight", name)) continue;
            put_all_but(&m, &l, i);
            for (size_t k = 0; k < m.file.n; k++) m.file.entry[k].data = zeros;
            const sd_recognised *r = recognise(&m);
            size_t missing = 0;
            for (int k = 0; k < r->n_networks; k++) missing += lacking(&m, &r->network[k]);
            if (r->family != family || missing != 1 || r->n_leftover)
                fail_msg("%s without %s: family %s, %zu missing, %zu unknown", files[f], name,
                         r->family ? r->family->name : "none", missing, r->n_leftover);
            for (int k = 0; k < r->n_networks; k++) assert_true(r->network[k].has_config);
            done(&m);
        }
        key_list_free(&l);
    }
    free(zeros);
}

/* What a binder asks for, as a file in one of the two spellings. A tensor of several parts is there once. */
static void put_bound(made *m, const sd_binder *b, const char *root, bool ldm)
{
    for (size_t i = 0; i < b->n_weights; i++) {
        const sd_weight *w = &b->weight[i];
        int64_t dim[4], parts = ldm ? sd_bind_parts(w->flags) : 1;
        char name[300];
        if (ldm && sd_bind_part(w->flags)) continue;
        snprintf(name, sizeof name, "%s%s", root, ldm && *w->ldm ? w->ldm : w->path);
        memcpy(dim, w->field->dim, sizeof dim);
        dim[0] *= parts;
        if (ldm && w->flags & SD_BIND_TRANSPOSE) {
            dim[0] = w->field->dim[1];
            dim[1] = w->field->dim[0];
        }
        put(m, name, SD_F16, w->field->nd, dim);
    }
}

static void put_unet(made *m, const sd_unet_config *c, bool ldm)
{
    sd_error e = {0};
    sd_binder b = {.err = &e};
    sd_unet_net u;
    assert_int_equal(sd_unet_walk(&u, c, &e), SD_OK);
    assert_int_equal(sd_unet_bind(&u, &b), SD_OK);
    put_bound(m, &b, ldm ? "model.diffusion_model." : "unet.", ldm);
    sd_unet_free(&u);
    sd_binder_free(&b);
}

static void put_vae(made *m, const sd_vae_config *c, bool ldm)
{
    sd_error e = {0};
    sd_binder b = {.err = &e};
    sd_vae v;
    assert_int_equal(sd_vae_walk(&v, c, &e), SD_OK);
    assert_int_equal(sd_vae_bind(&v, &b), SD_OK);
    put_bound(m, &b, ldm ? "first_stage_model." : "vae.", ldm);
    sd_vae_free(&v);
    sd_binder_free(&b);
}

static void put_clip(made *m, const sd_clip_config *c, int i, bool ldm)
{
    static const char *const roots[2][2] = {{"text_encoder.", "conditioner.embedders.0.model."},
                                            {"text_encoder_2.", "conditioner.embedders.1.model."}};
    sd_error e = {0};
    sd_binder b = {.err = &e};
    sd_clip t;
    assert_int_equal(sd_clip_bind(&t, c, &b), SD_OK);
    put_bound(m, &b, roots[i][ldm], ldm);
    sd_clip_free(&t);
    sd_binder_free(&b);
}

static void assert_unet_is(const sd_unet_config *found, const sd_unet_config *c)
{
    for (int i = 0; i < c->levels; i++) {
        assert_true(found->channels[i] == c->channels[i] && found->layers[i] == c->layers[i]);
        assert_true(found->heads[i] == c->heads[i]);
        for (int k = 0; k < c->layers[i]; k++)
            assert_int_equal(sd_unet_depth(found, false, i, k), sd_unet_depth(c, false, i, k));
        for (int k = 0; k <= c->layers[i]; k++)
            assert_int_equal(sd_unet_depth(found, true, i, k), sd_unet_depth(c, true, i, k));
        if (c->depth[i]) assert_int_equal(found->only_cross[i], c->only_cross[i]);
    }
    assert_true(found->levels == c->levels && found->mid == c->mid && found->ldm_gap == 0);
    assert_int_equal(found->mid_depth, c->mid == SD_MID_ATTENTION ? c->mid_depth : 0);
    assert_true(found->in_channels == c->in_channels && found->out_channels == c->out_channels);
    assert_true(found->context_dim == c->context_dim && found->add_in_dim == c->add_in_dim);
    assert_true(found->add_time_dim == c->add_time_dim && found->class_embeds == c->class_embeds);
    assert_true(found->time_cond_dim == c->time_cond_dim && found->width == c->width && found->height == c->height);
    assert_true(found->norm_eps == c->norm_eps && found->groups == c->groups && found->flip_sin_to_cos);
}

TEST(every_family_comes_back_from_its_own_names_in_both_spellings)
{
    const sd_family *f;
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++) {
        for (int ldm = 0; ldm < 2 && !f->class_in; ldm++) {
            made m = {0};
            put_unet(&m, &f->unet, ldm);
            put_vae(&m, &f->vae, ldm);
            for (int k = 0; k < f->n_clip; k++) put_clip(&m, &f->clip[k], k, ldm);
            const sd_recognised *r = recognise(&m);
            if (!r->family || sd_family_of(&f->unet, 0) != sd_family_of(&r->family->unet, 0)) fail_msg("%s", r->why.s);
            assert_int_equal(r->n_networks, 2 + f->n_clip);
            assert_string_equal(r->layout, ldm ? "LDM" : "diffusers");
            sd_unet_config want = f->unet;
            want.width = want.height = r->family->unet.width;   /* of families alike, the first */
            assert_unet_is(&sd_recognised_network(r, SD_PART_UNET, 0)->unet, &want);
            assert_memory_equal(&sd_recognised_network(r, SD_PART_VAE, 0)->vae, &f->vae, sizeof f->vae);
            for (int k = 0; k < f->n_clip; k++) {
                const sd_network *n = sd_recognised_network(r, SD_PART_TEXT, k);
                assert_string_equal(n->naming, ldm ? "OpenCLIP" : "transformers");
                assert_memory_equal(&n->clip, &f->clip[k], sizeof f->clip[k]);
            }
            assert_int_equal(r->n_leftover, 0);
            done(&m);
        }
    }
}

/* unCLIP's embedding is spelled as SDXL's in CompVis' names. */
TEST(unclip_is_known_in_both_spellings_and_refused)
{
    static const struct { const char *key; int width, ldm; const char *family; } cases[] = {
        {"model.diffusion_model.label_emb.0.0.weight", 2048, 1, "sd21-unclip-h"},
        {"model.diffusion_model.label_emb.0.0.weight", 1536, 1, "sd21-unclip-l"},
        {"unet.class_embedding.linear_1.weight", 2048, 0, "sd21-unclip-h"},
        {"unet.class_embedding.linear_1.weight", 1536, 0, "sd21-unclip-l"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m = {0};
        put_unet(&m, &sd_family_find("sd21")->unet, cases[i].ldm);
        with(&m, cases[i].key, 1280, cases[i].width, 0, 0);
        const sd_recognised *r = recognise(&m);
        assert_string_equal(r->family->name, cases[i].family);
        assert_non_null(strstr(r->refusal, "unCLIP"));
        done(&m);
    }
}

/* ---------------------------------------------------------------------------------------- prediction */

static const struct mark { const char *tensor, *text, *value, *prediction, *family; } marks[] = {
    {"v_pred", NULL, NULL, "v_prediction", "sd21"},
    {"edm_vpred.sigma_max", NULL, NULL, "v_prediction", "sd21"},
    {NULL, "modelspec.prediction_type", "v", "v_prediction", "sd21"},
    {NULL, "modelspec.prediction_type", "v_prediction", "v_prediction", "sd21"},
    {NULL, "modelspec.prediction_type", "epsilon", "epsilon", "sd21-base"},
    {NULL, "modelspec.architecture", "stable-diffusion-v2-768-v", "v_prediction", "sd21"},
    {NULL, "modelspec.architecture", "stable-diffusion-v2-512", "epsilon", "sd21-base"},
    {NULL, "global_step", "875000", "epsilon", "sd21-base"},
    {NULL, "sd:scheduler/scheduler_config.json", "{\"prediction_type\":\"v_prediction\"}", "v_prediction", "sd21"},
    {NULL, "sd:scheduler/scheduler_config.json", "{}", "epsilon", "sd21-base"},
    {NULL, "modelspec.prediction_type", "", NULL, "sd21"},
    {NULL, "global_step", "110000", NULL, "sd21"},
};

static void add_mark(made *m, const struct mark *x)
{
    if (x->tensor) with(m, x->tensor, 1, 0, 0, 0);
    else text(m, x->text, x->value);
}

TEST(marks_and_texts_of_the_header_decide_the_prediction)
{
    for (size_t i = 0; i < SD_COUNT(marks); i++) {
        made m;
        published(&m, "v2-1_512-ema-pruned.safetensors");
        add_mark(&m, &marks[i]);
        const sd_recognised *r = recognise(&m);
        assert_same_text(r->prediction, marks[i].prediction);
        assert_string_equal(r->family->name, marks[i].family);
        const char *by = marks[i].tensor ? marks[i].tensor : marks[i].text;
        assert_true(!marks[i].prediction == !strstr(r->why.s, by));
        done(&m);
    }
}

TEST(the_first_mark_counts_and_families_whose_shapes_are_their_own_need_none)
{
    made m;
    published(&m, "sd_xl_base_1.0.safetensors");
    text(&m, "modelspec.prediction_type", "epsilon");
    with(&m, "v_pred", 1, 0, 0, 0);
    with(&m, "ztsnr", 1, 0, 0, 0);
    const sd_recognised *r = recognise(&m);
    assert_string_equal(r->prediction, "v_prediction");
    assert_true(r->zero_snr);
    assert_string_equal(r->family->name, "sdxl");   /* no family of these shapes predicts v */
    assert_null(r->refusal);
    done(&m);
    published(&m, "sd_xl_base_1.0.safetensors");
    r = recognise(&m);
    assert_string_equal(r->prediction, "epsilon");
    assert_false(r->zero_snr);
    text(&m, "ss_zero_terminal_snr", "True");
    assert_true(recognise(&m)->zero_snr);
    done(&m);
    published(&m, "sd_xl_base_1.0.safetensors");
    text(&m, "ss_zero_terminal_snr", "False");
    assert_false(recognise(&m)->zero_snr);
    done(&m);
}

TEST(a_title_tells_turbo_and_lightning_models_apart)
{
    static const struct { const char *file, *title, *mark, *family, *prediction; } cases[] = {
        {"sd_xl_turbo_1.0_fp16.safetensors", "Stable Diffusion XL Turbo", NULL, "sdxl-turbo", "epsilon"},
        {"sd_xl_turbo_1.0_fp16.safetensors", "Stable Diffusion XL", NULL, "sdxl", "epsilon"},
        {"sd_xl_turbo_1.0_fp16.safetensors", "sdxl_turbo", NULL, "sdxl-turbo", "epsilon"},
        {"sd_xl_base_1.0.safetensors", "SDXL-Lightning", NULL, "sdxl-lightning", "epsilon"},
        {"v2-1_512-ema-pruned.safetensors", "SD-Turbo", NULL, "sd-turbo", "epsilon"},
        {"v2-1_512-ema-pruned.safetensors", "sd_turbo", NULL, "sd-turbo", "epsilon"},
        {"v2-1_512-ema-pruned.safetensors", "a turbo that predicts v", "v_pred", "sd21", "v_prediction"},
        {"v1-5-pruned-emaonly.safetensors", "turbo", NULL, "sd15", "epsilon"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m;
        published(&m, cases[i].file);
        text(&m, "modelspec.title", cases[i].title);
        if (cases[i].mark) with(&m, cases[i].mark, 1, 0, 0, 0);
        const sd_recognised *r = recognise(&m);
        assert_string_equal(r->family->name, cases[i].family);
        assert_string_equal(r->prediction, cases[i].prediction);
        done(&m);
    }
}

/* Transformers' names, all 24 layers and the projection: of which 23 layers count. */
TEST(the_last_layer_of_a_whole_clip_h_does_not_count)
{
    made m;
    published(&m, "text_encoder-2-1/model.safetensors");
    size_t n = recognise(&m)->network[0].all.tensors;
    with(&m, "text_model.encoder.layers.23.mlp.fc1.weight", 4096, 1024, 0, 0);
    with(&m, "text_projection.weight", 512, 1024, 0, 0);
    const sd_recognised *r = recognise(&m);
    assert_true(r->network[0].has_config && r->network[0].clip.layers == 23 && r->network[0].clip.projection == 0);
    assert_int_equal(r->network[0].all.tensors, n);
    assert_int_equal(skipped(r), 3);
    done(&m);
}

/* Transformers' names with OpenCLIP's projection, which is the transpose: so stable-diffusion.cpp writes it. */
TEST(a_projection_may_be_openclips_among_transformers_names)
{
    enum { MOST = 128 * 64 * 2 };
    sd_clip_config c = {.vocab = 99, .positions = 77, .width = 64, .heads = 1, .layers = 2, .ff = 128,
                        .act = SD_ACT_QUICK_GELU, .eps = 1e-5};
    void *zeros = calloc(1, MOST);
    made m = {0};
    put_clip(&m, &c, 1, false);
    with(&m, "text_encoder_2.text_model.text_projection", 64, 32, 0, 0);
    for (size_t k = 0; k < m.file.n; k++) m.file.entry[k].data = zeros;
    const sd_network *n = sd_recognised_network(recognise(&m), SD_PART_TEXT, 1);
    c.projection = 32;
    assert_memory_equal(&n->clip, &c, sizeof c);
    assert_binds(&m, n);
    for (size_t k = 0; k < m.file.n; k++) assert_true(m.file.entry[k].used);
    assert_int_equal(m.is.n_skipped, 0);
    done(&m);
    free(zeros);
}

TEST(continuous_noise_levels_are_known_and_refused)
{
    static const float sigma = 120;
    made m;
    published(&m, "sd_xl_base_1.0.safetensors");
    numbers(&m, "edm_vpred.sigma_max", &sigma, 1);
    const sd_recognised *r = recognise(&m);
    assert_true(r->sigma_max == 120 && r->sigma_min == 0);
    assert_non_null(strstr(r->refusal, "CosXL"));
    done(&m);
    published(&m, "sd_xl_base_1.0.safetensors");
    with(&m, "edm_mean", 1, 4, 0, 0);
    assert_null(recognise(&m)->refusal);
    with(&m, "edm_std", 1, 4, 0, 0);
    assert_non_null(strstr(recognise(&m)->refusal, "Playground"));
    done(&m);
}

TEST(a_bias_hints_at_the_prediction_and_decides_nothing)
{
    static const struct { float spread; const char *hint; } cases[] = {
        {0, NULL}, {0.05f, "epsilon"}, {0.08f, "epsilon"}, {0.1f, "v_prediction"}, {0.3f, "v_prediction"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        float x[320];
        made m;
        published(&m, "v2-1_768-ema-pruned.safetensors");
        for (int k = 0; k < 320; k++) x[k] = 0.5f + (k % 2 ? cases[i].spread : -cases[i].spread);
        for (size_t k = 0; k < m.file.n; k++)
            if (strstr(m.file.entry[k].name, "output_blocks.11.1.transformer_blocks.0.norm1.bias"))
                m.file.entry[k].data = x;
        const sd_recognised *r = recognise(&m);
        assert_null(r->prediction);
        assert_same_text(r->hint, cases[i].hint);
        done(&m);
    }
}

/* ---------------------------------------------------------------------------------- where networks are */

TEST(each_root_is_found_in_each_spelling)
{
    static const struct { unsigned part; int index; const char *root; } roots[] = {
        {SD_PART_UNET, 0, "model.diffusion_model."}, {SD_PART_UNET, 0, "diffusion_model."}, {SD_PART_UNET, 0, "unet."},
        {SD_PART_UNET, 0, ""}, {SD_PART_VAE, 0, "first_stage_model."}, {SD_PART_VAE, 0, "vae."}, {SD_PART_VAE, 0, ""},
        {SD_PART_TEXT, 0, "cond_stage_model.transformer."}, {SD_PART_TEXT, 0, "cond_stage_model.model."},
        {SD_PART_TEXT, 0, "conditioner.embedders.0.transformer."},
        {SD_PART_TEXT, 0, "conditioner.embedders.0.model."}, {SD_PART_TEXT, 0, "text_encoder."},
        {SD_PART_TEXT, 0, ""}, {SD_PART_TEXT, 1, "conditioner.embedders.1.model."},
        {SD_PART_TEXT, 1, "conditioner.embedders.1.transformer."},
        {SD_PART_TEXT, 1, "cond_stage_model.1.transformer."}, {SD_PART_TEXT, 1, "text_encoder_2."}};
    static const struct { unsigned part; const char *naming, *key; } spellings[] = {
        {SD_PART_UNET, "LDM", "output_blocks.0.0.in_layers.2.weight"},
        {SD_PART_UNET, "diffusers", "up_blocks.0.resnets.0.conv1.weight"},
        {SD_PART_VAE, "LDM", "decoder.mid.block_1.conv1.weight"},
        {SD_PART_VAE, "LDM", "encoder.mid.block_1.conv1.weight"},
        {SD_PART_VAE, "diffusers", "decoder.mid_block.resnets.0.conv1.weight"},
        {SD_PART_VAE, "diffusers", "encoder.mid_block.resnets.0.conv1.weight"},
        {SD_PART_TEXT, "transformers", "text_model.embeddings.token_embedding.weight"},
        {SD_PART_TEXT, "transformers", "embeddings.token_embedding.weight"},
        {SD_PART_TEXT, "OpenCLIP", "token_embedding.weight"}};
    for (size_t i = 0; i < SD_COUNT(roots); i++) {
        for (size_t k = 0; k < SD_COUNT(spellings); k++) {
            if (roots[i].part != spellings[k].part) continue;
            char name[200];
            made m = {0};
            snprintf(name, sizeof name, "%s%s", roots[i].root, spellings[k].key);
            with(&m, name, 8, 8, 0, 0);
            const sd_recognised *r = recognise(&m);
            const sd_network *n = sd_recognised_network(r, roots[i].part, roots[i].index);
            assert_non_null(n);
            assert_string_equal(n->root, roots[i].root);
            assert_string_equal(n->naming, spellings[k].naming);
            assert_int_equal(r->n_networks, 1);
            assert_false(n->has_config);
            assert_non_null(strstr(r->why.s, name));
            done(&m);
        }
    }
}

/* ------------------------------------------------------------------------- models that no family has */

static char *read_text(const char *path)
{
    char *data;
    size_t n;
    sd_error e = {0};
    if (sd_read_file(path, 1 << 20, &data, &n, &e)) fail_msg("%s", e.text);
    return data;
}

/* The entries of a part of the model in the box, under a root. */
static void add_tiny(made *m, const char *part, const char *stem, const char *root)
{
    char dir[64], name[200];
    sd_store s;
    sd_error e = {0};
    snprintf(dir, sizeof dir, "weights/tiny/%s", part);
    if (sd_store_open_dir(&s, dir, stem, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < sd_store_count(&s); i++) {
        const sd_entry *t = sd_store_at(&s, i);
        snprintf(name, sizeof name, "%s%s", root, t->name);
        put(m, name, t->dt, t->nd, t->dim);
    }
    sd_store_close(&s);
}

static void tiny(made *m)
{
    memset(m, 0, sizeof *m);
    add_tiny(m, "unet", "diffusion_pytorch_model", "unet.");
    add_tiny(m, "vae", "diffusion_pytorch_model", "vae.");
    add_tiny(m, "text_encoder", "model", "text_encoder.");
}

TEST(shapes_of_an_unknown_model_give_all_but_heads_and_groups)
{
    made m;
    sd_error e = {0};
    sd_unet_config u;
    sd_vae_config v;
    sd_clip_config t;
    tiny(&m);
    const sd_recognised *r = recognise(&m);
    assert_int_equal(r->kind, SD_FILE_CHECKPOINT);
    assert_null(r->family);
    assert_non_null(strstr(r->why.s, "no family has a UNet of these shapes: conv_in reads 4 channels"));
    assert_int_equal(sd_unet_config_read(&u, "weights/tiny/unet/config.json", &e), SD_OK);
    assert_int_equal(sd_vae_config_read(&v, "weights/tiny/vae/config.json", &e), SD_OK);
    assert_int_equal(sd_clip_config_read(&t, "weights/tiny/text_encoder/config.json", &e), SD_OK);
    const sd_network *n = sd_recognised_network(r, SD_PART_UNET, 0);
    const sd_unet_config *c = &n->unet;
    assert_false(n->has_config);
    assert_true(c->in_channels == u.in_channels && c->out_channels == u.out_channels && c->levels == u.levels);
    assert_true(c->mid == u.mid && c->mid_depth == u.mid_depth && c->context_dim == u.context_dim);
    assert_true(c->linear_projection == u.linear_projection);
    assert_memory_equal(c->layers, u.layers, sizeof c->layers);
    for (int i = 0; i < c->levels; i++)
        assert_true(c->channels[i] == u.channels[i] && c->depth[i] == u.depth[i] && c->up_depth[i] == u.up_depth[i]);
    n = sd_recognised_network(r, SD_PART_VAE, 0);
    assert_true(n->vae.levels == v.levels && n->vae.layers == v.layers && n->vae.latent_channels == v.latent_channels);
    assert_true(n->vae.quant_conv == v.quant_conv && n->vae.post_quant_conv == v.post_quant_conv);
    assert_true(n->vae.mid_attention == v.mid_attention && n->vae.in_channels == 3 && n->vae.out_channels == 3);
    for (int i = 0; i < v.levels; i++) assert_int_equal(n->vae.channels[i], v.channels[i]);
    n = sd_recognised_network(r, SD_PART_TEXT, 0);
    assert_true(n->clip.vocab == t.vocab && n->clip.width == t.width && n->clip.layers == t.layers);
    assert_true(n->clip.ff == t.ff && n->clip.positions == t.positions && n->clip.projection == t.projection);
    done(&m);
}

TEST(the_header_says_how_prompts_are_padded)
{
    static const struct { const char *map, *map_2; int pad[2]; } cases[] = {
        {NULL, NULL, {49407, 0}},
        {"{\"pad_token\":\"!\"}", NULL, {0, 0}},
        {"{\"pad_token\":{\"content\":\"!\",\"lstrip\":false}}", "{\"pad_token\":\"<|endoftext|>\"}", {0, 49407}},
        {"{\"pad_token\":\"<pad>\"}", "{}", {49407, 0}},
        {"no JSON", NULL, {49407, 0}},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m;
        published(&m, "sd_xl_base_1.0.safetensors");
        if (cases[i].map) text(&m, "sd:tokenizer/special_tokens_map.json", cases[i].map);
        if (cases[i].map_2) text(&m, "sd:tokenizer_2/special_tokens_map.json", cases[i].map_2);
        const sd_recognised *r = recognise(&m);
        assert_int_equal(r->pad[0], cases[i].pad[0]);
        assert_int_equal(r->pad[1], cases[i].pad[1]);
        done(&m);
    }
}

TEST(the_second_text_encoder_has_its_own_text)
{
    made m;
    char *json = read_text("weights/tiny/text_encoder/config.json");
    tiny(&m);
    add_tiny(&m, "text_encoder", "model", "text_encoder_2.");
    text(&m, "sd:text_encoder_2/config.json", json);
    const sd_recognised *r = recognise(&m);
    assert_false(sd_recognised_network(r, SD_PART_TEXT, 0)->has_config);
    assert_true(sd_recognised_network(r, SD_PART_TEXT, 1)->has_config);
    free(json);
    done(&m);
}

/* Half a VAE, in the spelling of each convention. */
TEST(a_half_of_a_vae_tells_its_levels)
{
    static const char *const files[] = {"vae-ft-mse-840000-ema-pruned.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors"};
    static const char *const halves[] = {"encoder.", "decoder."};
    for (int i = 0; i < 4; i++) {
        made m;
        published(&m, files[i / 2]);
        size_t n = 0;
        for (size_t k = 0; k < m.file.n; k++)   /* without the other half */
            if (strncmp(m.file.entry[k].name, halves[1 - i % 2], 8) != 0) m.file.entry[n++] = m.file.entry[k];
            else free(m.file.entry[k].name);
        m.file.n = n;
        const sd_network *v = sd_recognised_network(recognise(&m), SD_PART_VAE, 0);
        assert_non_null(v);
        assert_true(v->has_config && v->vae.levels == 4 && v->vae.layers == 2 && v->vae.latent_channels == 4);
        assert_true(v->vae.channels[0] == 128 && v->vae.channels[1] == 256 && v->vae.channels[3] == 512);
        done(&m);
    }
}

TEST(configurations_in_the_header_come_before_shapes)
{
    static const struct { unsigned part; const char *key, *path; } texts[] = {
        {SD_PART_UNET, "sd:unet/config.json", "weights/tiny/unet/config.json"},
        {SD_PART_VAE, "sd:vae/config.json", "weights/tiny/vae/config.json"},
        {SD_PART_TEXT, "sd:text_encoder/config.json", "weights/tiny/text_encoder/config.json"}};
    made m;
    sd_error e = {0};
    sd_unet_config u;
    tiny(&m);
    for (size_t i = 0; i < SD_COUNT(texts); i++) {
        char *json = read_text(texts[i].path);
        text(&m, texts[i].key, json);
        free(json);
        const sd_recognised *r = recognise(&m);
        for (size_t k = 0; k < SD_COUNT(texts); k++) {
            const sd_network *n = sd_recognised_network(r, texts[k].part, 0);
            assert_int_equal(n->has_config, k <= i);
            assert_string_equal(n->config_from, k <= i ? texts[k].key : "shapes");
        }
    }
    assert_int_equal(sd_unet_config_read(&u, texts[0].path, &e), SD_OK);
    const sd_unet_config *c = &sd_recognised_network(&m.is, SD_PART_UNET, 0)->unet;
    assert_memory_equal(c->heads, u.heads, sizeof u.heads);
    assert_int_equal(c->groups, u.groups);
    done(&m);
    tiny(&m);
    text(&m, "sd:unet/config.json", "{\"act_fn\":\"mish\"}");
    const sd_recognised *r = recognise(&m);
    assert_false(sd_recognised_network(r, SD_PART_UNET, 0)->has_config);
    assert_non_null(strstr(r->why.s, "is not used: sd:unet/config.json: act_fn"));
    done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_file_is_its_family_to_the_last_tensor),
        cmocka_unit_test(heads_and_sizes_are_the_familys),
        cmocka_unit_test(every_tensor_of_the_published_networks_has_its_place),
        cmocka_unit_test(a_file_that_lacks_one_tensor_is_still_its_family_and_lacks_that_one),
        cmocka_unit_test(every_family_comes_back_from_its_own_names_in_both_spellings),
        cmocka_unit_test(unclip_is_known_in_both_spellings_and_refused),
        cmocka_unit_test(marks_and_texts_of_the_header_decide_the_prediction),
        cmocka_unit_test(the_first_mark_counts_and_families_whose_shapes_are_their_own_need_none),
        cmocka_unit_test(a_title_tells_turbo_and_lightning_models_apart),
        cmocka_unit_test(the_last_layer_of_a_whole_clip_h_does_not_count),
        cmocka_unit_test(a_projection_may_be_openclips_among_transformers_names),
        cmocka_unit_test(continuous_noise_levels_are_known_and_refused),
        cmocka_unit_test(a_bias_hints_at_the_prediction_and_decides_nothing),
        cmocka_unit_test(each_root_is_found_in_each_spelling),
        cmocka_unit_test(shapes_of_an_unknown_model_give_all_but_heads_and_groups),
        cmocka_unit_test(the_header_says_how_prompts_are_padded),
        cmocka_unit_test(the_second_text_encoder_has_its_own_text),
        cmocka_unit_test(a_half_of_a_vae_tells_its_levels),
        cmocka_unit_test(configurations_in_the_header_come_before_shapes),
    };
    return cmocka_run_group_tests_name("recognise", tests, temp_make, temp_remove);
}
