/* test_config.c - config.json files: what is read, what is refused, and that nothing is read past its bounds. */
#define _POSIX_C_SOURCE 200809L
#include <unistd.h>

#include "test.h"
#include "../net.h"

static char dir[] = "/tmp/sd-config-XXXXXX", file[64];

static const char *with(const char *json)
{
    snprintf(file, sizeof file, "%s/config.json", dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(json, f);
    fclose(f);
    return file;
}

#define TINY "{\"_class_name\":\"AutoencoderTiny\",\"encoder_block_out_channels\":[64,64,64,64]"
#define SD21 "{\"_class_name\":\"UNet2DConditionModel\",\"act_fn\":\"silu\",\"attention_head_dim\":[5,10,20,20]," \
    "\"block_out_channels\":[320,640,1280,1280]," \
    "\"center_input_sample\":false,\"cross_attention_dim\":1024,\"down_block_types\":[\"CrossAttnDownBlock2D\"," \
    "\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"DownBlock2D\"]," \
    "\"layers_per_block\":2,\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"," \
    "\"CrossAttnUpBlock2D\"],\"use_linear_projection\":true," \
    "\"sample_size\":96,\"upcast_attention\":true,\"num_class_embeds\":null}"
#define SDXL "{\"attention_head_dim\":[5,10,20],\"block_out_channels\":[320,640,1280]," \
    "\"cross_attention_dim\":2048,\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\"," \
    "\"CrossAttnDownBlock2D\"],\"up_block_types\":[\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\",\"UpBlock2D\"]," \
    "\"transformer_layers_per_block\":[1,2,10],\"use_linear_projection\":true," \
    "\"sample_size\":128,\"addition_embed_type\":\"text_time\",\"addition_time_embed_dim\":256," \
    "\"projection_class_embeddings_input_dim\":2816}"

TEST(published_files_give_the_families_we_name)
{
    sd_error e = {0};
    sd_unet_config c;
    const struct { const char *json, *family; } cases[] = {{SD21, "sd21"}, {SDXL, "sdxl"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        assert_int_equal(sd_unet_config_read(&c, with(cases[i].json), &e), SD_OK);
        const sd_unet_config *f = &sd_family_find(cases[i].family)->unet;
        for (int k = 0; k < f->levels; k++) {
            assert_int_equal(c.channels[k], f->channels[k]);
            assert_int_equal(c.layers[k], f->layers[k]);
            assert_int_equal(c.depth[k], f->depth[k]);
            assert_int_equal(c.up_depth[k], f->up_depth[k]);
            assert_int_equal(c.heads[k], f->heads[k]);
        }
        assert_int_equal(c.levels, f->levels);
        assert_int_equal(c.mid_depth, f->mid_depth);
        assert_int_equal(c.context_dim, f->context_dim);
        assert_int_equal(c.add_in_dim, f->add_in_dim);
        assert_int_equal(c.linear_projection, f->linear_projection);
        assert_true(c.height == f->height && c.width == f->width);
        assert_true(c.norm_eps == f->norm_eps && c.groups == f->groups);
    }
    assert_null(sd_family_find("sd3"));
}

TEST(absent_keys_take_the_class_defaults)
{
    sd_error e = {0};
    sd_unet_config u;
    sd_vae_config v;
    sd_clip_config t;
    assert_int_equal(sd_unet_config_read(&u, with("{}"), &e), SD_OK);
    assert_true(u.levels == 4 && u.channels[3] == 1280 && u.depth[0] == 1 && u.depth[3] == 0 && u.up_depth[0] == 1
                && u.up_depth[3] == 0);
    assert_true(u.heads[2] == 8 && u.flip_sin_to_cos && u.norm_eps == 1e-5 && !u.linear_projection);
    assert_int_equal(sd_vae_config_read(&v, with("{\"block_out_channels\":[64,128]}"), &e), SD_OK);
    assert_true(v.scaling_factor == 0.18215 && v.quant_conv && v.mid_attention && v.groups == 32 && v.levels == 2);
    assert_true(v.latent_rgb[0][0] == 0.298f && v.latent_rgb[3][2] == -0.473f && v.latent_rgb[4][1] == 0);
    assert_int_equal(sd_vae_config_read(&v, with("{\"_latent_rgb\":[[1,2,3],[4,5,6],[7,8,9],[-1,0,1.5],[0.25,0.5,1]]}"),
                                        &e), SD_OK);
    assert_true(v.latent_rgb[0][2] == 3 && v.latent_rgb[1][0] == 4 && v.latent_rgb[3][2] == 1.5f
                && v.latent_rgb[4][2] == 1);
    assert_int_equal(sd_clip_config_read(&t, with("{\"hidden_act\":\"gelu\",\"projection_dim\":512}"), &e), SD_OK);
    /* only ...WithProjection has the tensor */
    assert_true(t.act == SD_ACT_GELU && t.projection == 0 && t.eps == 1e-5);
    assert_int_equal(sd_clip_config_read(&t, with("{\"architectures\":[\"CLIPTextModelWithProjection\"]}"), &e), SD_OK);
    assert_true(t.act == SD_ACT_QUICK_GELU && t.projection == 512);
}

typedef sd_status reading(void *c, const char *path, sd_error *e);
static sd_status unet(void *c, const char *path, sd_error *e) { return sd_unet_config_read(c, path, e); }
static sd_status vae(void *c, const char *path, sd_error *e) { return sd_vae_config_read(c, path, e); }
static sd_status clip(void *c, const char *path, sd_error *e) { return sd_clip_config_read(c, path, e); }

TEST(what_cannot_be_done_is_refused_by_name)
{
    union { sd_unet_config u; sd_vae_config v; sd_clip_config t; } c;
    const struct { reading *read; const char *json; sd_status status; const char *says; } cases[] = {
        {unet, "", SD_ERR_FORMAT, "is not JSON from byte 0 on: a value is expected"},
        {unet, "[1]", SD_ERR_FORMAT, "JSON object"},
        {unet, "{} x", SD_ERR_FORMAT, "is not JSON from byte 3 on: there is more after its end"},
        {unet, "{\"block_out_channels\":320}", SD_ERR_FORMAT, "block_out_channels"},
        {unet, "{\"block_out_channels\":[]}", SD_ERR_FORMAT, "block_out_channels"},
        {unet, "{\"block_out_channels\":[1,2,3,4,5,6,7,8,9]}", SD_ERR_FORMAT, "1 to 8"},
        {unet, "{\"block_out_channels\":[320,-1]}", SD_ERR_FORMAT, "block_out_channels"},
        {unet, "{\"block_out_channels\":[32.5]}", SD_ERR_FORMAT, "whole number"},
        {unet, "{\"block_out_channels\":[1e300]}", SD_ERR_FORMAT, "block_out_channels"},
        {unet, "{\"layers_per_block\":0}", SD_ERR_FORMAT, "layers_per_block"},
        {unet, "{\"layers_per_block\":[2,2]}", SD_ERR_FORMAT, "4 entries"},
        {unet, "{\"norm_num_groups\":7}", SD_ERR_FORMAT, "norm_num_groups 7"},
        {unet, "{\"attention_head_dim\":7}", SD_ERR_FORMAT, "7 attention heads"},
        {unet, "{\"use_linear_projection\":1}", SD_ERR_FORMAT, "use_linear_projection"},
        {unet, "{\"norm_eps\":\"x\"}", SD_ERR_FORMAT, "norm_eps"},
        {unet, "{\"down_block_types\":[\"KDownBlock2D\",\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\"]}",
         SD_ERR_UNSUPPORTED, "KDownBlock2D"},
        {unet, "{\"down_block_types\":[\"DownBlock2D\"]}", SD_ERR_FORMAT, "4 entries"},
        {unet, "{\"down_block_types\":[1,2,3,4]}", SD_ERR_UNSUPPORTED, "down_block_types"},
        {unet, "{\"mid_block_type\":\"UNetMidBlock2DSimpleCrossAttn\"}", SD_ERR_UNSUPPORTED, "UNetMidBlock2DSimple"},
        {unet, "{\"mid_block_type\":7}", SD_ERR_UNSUPPORTED, "mid_block_type"},
        {unet, "{\"class_embed_type\":\"timestep\"}", SD_ERR_UNSUPPORTED, "class_embed_type"},
        {unet, "{\"time_cond_proj_dim\":-1}", SD_ERR_FORMAT, "time_cond_proj_dim"},
        {unet, "{\"num_class_embeds\":1.5}", SD_ERR_FORMAT, "num_class_embeds"},
        {unet, "{\"only_cross_attention\":[true,false]}", SD_ERR_FORMAT, "4 entries"},
        {unet, "{\"only_cross_attention\":[1,2,3,4]}", SD_ERR_FORMAT, "true or false"},
        {unet, "{\"act_fn\":\"gelu\"}", SD_ERR_UNSUPPORTED, "only silu"},
        {unet, "{\"resnet_time_scale_shift\":\"scale_shift\"}", SD_ERR_UNSUPPORTED, "scale_shift"},
        {unet, "{\"conv_in_kernel\":5}", SD_ERR_UNSUPPORTED, "conv_in_kernel"},
        {unet, "{\"transformer_layers_per_block\":[1,[2,2],3,4]}", SD_ERR_FORMAT,
         "reverse_transformer_layers_per_block"},
        {unet, "{\"transformer_layers_per_block\":[1,[2,2,2],3,4]}", SD_ERR_FORMAT,
         "2 entries for a block of 2 layers"},
        {unet, "{\"transformer_layers_per_block\":[1,2]}", SD_ERR_FORMAT, "4 entries"},
        {unet, "{\"_class_name\":\"SD3Transformer2DModel\"}", SD_ERR_UNSUPPORTED, "SD3Transformer2DModel"},
        {vae, "{\"_class_name\":\"AsymmetricAutoencoderKL\"}", SD_ERR_UNSUPPORTED, "AsymmetricAutoencoderKL"},
        {vae, TINY ",\"act_fn\":\"silu\"}", SD_ERR_UNSUPPORTED, "act_fn \"silu\" is not supported, only relu"},
        {vae, TINY ",\"upsample_fn\":\"bilinear\"}", SD_ERR_UNSUPPORTED, "upsample_fn"},
        {vae, TINY ",\"upsampling_scaling_factor\":4}", SD_ERR_FORMAT, "upsampling_scaling_factor"},
        {vae, TINY ",\"num_encoder_blocks\":[1,3,3]}", SD_ERR_FORMAT, "encoder_block_out_channels must have 3 entries"},
        {vae, TINY ",\"num_decoder_blocks\":[3,3,1],\"decoder_block_out_channels\":[64,64,64]}", SD_ERR_FORMAT,
         "do not make pictures of the same size"},
        {vae, TINY ",\"decoder_block_out_channels\":[64,64,32,64]}", SD_ERR_UNSUPPORTED, "must all be the same"},
        {vae, TINY ",\"num_decoder_blocks\":\"x\"}", SD_ERR_FORMAT, "num_decoder_blocks"},
        {vae, "{\"block_out_channels\":[128],\"scaling_factor\":0}", SD_ERR_FORMAT, "scaling_factor"},
        {vae, "{\"block_out_channels\":[128],\"scaling_factor\":1e-300}", SD_ERR_FORMAT,
         "scaling_factor must be a number from 1e-06 to 1e+06"},
        {unet, "{\"norm_eps\":-1e-5}", SD_ERR_FORMAT, "norm_eps"},
        {unet, "{\"norm_eps\":1e-5,\"norm_eps\":0}", SD_ERR_FORMAT, "norm_eps"},   /* the last one counts */
        {unet, "{\"freq_shift\":160}", SD_ERR_FORMAT, "freq_shift"},   /* half of the channels: a division by 0 */
        {unet, "{\"cross_attention_dim\":[768,768,768,1024]}", SD_ERR_UNSUPPORTED,
         "cross_attention_dim differs between levels"},
        {unet, "{\"time_embedding_dim\":640}", SD_ERR_UNSUPPORTED, "time_embedding_dim 640"},
        {unet, "{\"sample_size\":[16]}", SD_ERR_FORMAT, "sample_size"},
        {unet, "{\"sample_size\":[16,24.5]}", SD_ERR_FORMAT, "sample_size"},
        {clip, "{\"layer_norm_eps\":-1}", SD_ERR_FORMAT, "layer_norm_eps"},
        {clip, "{\"use_attention_mask\":true}", SD_ERR_UNSUPPORTED, "use_attention_mask true"},
        {vae, "{\"block_out_channels\":[100]}", SD_ERR_FORMAT, "norm_num_groups"},
        {vae, "{\"in_channels\":4}", SD_ERR_FORMAT, "in_channels"},
        {vae, "{\"_latent_rgb\":1}", SD_ERR_FORMAT, "_latent_rgb must be 5 lists of 3 numbers"},
        {vae, "{\"_latent_rgb\":[]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,\"3\"]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,1e300]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],4,[1,2,3],[1,2,3],[1,2,3]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {vae, "{\"_latent_rgb\":[[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}", SD_ERR_FORMAT, "_latent_rgb"},
        {clip, "{\"hidden_act\":\"relu\"}", SD_ERR_UNSUPPORTED, "relu"},
        {clip, "{\"hidden_size\":10,\"num_attention_heads\":3}", SD_ERR_FORMAT, "3 heads"},
        {clip, "{\"vocab_size\":\"many\"}", SD_ERR_FORMAT, "vocab_size"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {0};
        sd_status got = cases[i].read(&c, with(cases[i].json), &e);
        if (got != cases[i].status || !strstr(e.text, cases[i].says))
            fail_msg("%s: status %d, \"%s\"", cases[i].json, got, e.text);
    }
    sd_error e = {0};
    assert_int_equal(sd_unet_config_read(&c.u, "/nonexistent/config.json", &e), SD_ERR_MISSING);
}

TEST(what_is_ignored_is_said)
{
    const struct { reading *read; const char *json, *says; } cases[] = {
        {vae, "{\"block_out_channels\":[128],\"shift_factor\":0.1159}", "shift_factor 0.1159 is ignored"},
        {vae, "{\"block_out_channels\":[128],\"shift_factor\":0,\"latents_mean\":[0,0],\"latents_std\":[1,1.0],"
         "\"force_upcast\":true}", NULL},
        {vae, "{\"block_out_channels\":[128],\"latents_mean\":[0,0.5]}", "latents_mean [0,0.5] is ignored"},
        {vae, "{\"block_out_channels\":[128],\"latents_std\":[1,2]}", "latents_std [1,2] is ignored"},
        {unet, "{\"resnet_out_scale_factor\":2}", "resnet_out_scale_factor 2 is ignored"},
        {unet, "{\"resnet_skip_time_act\":true}", "resnet_skip_time_act true is ignored"},
        {unet, "{\"cross_attention_norm\":\"layer_norm\"}", "cross_attention_norm \"layer_norm\" is ignored"},
        {unet, "{\"resnet_out_scale_factor\":1.0,\"resnet_skip_time_act\":false,\"cross_attention_norm\":null,"
         "\"dropout\":0.1}", NULL},
        {unet, "{\"_diffusers_version\":\"0.6.0\",\"sample_size\":32}",
         "sample_size 32 of diffusers 0.6.0 is taken for 64"},
        {unet, "{\"_diffusers_version\":\"0.9.0\",\"sample_size\":32}", NULL},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        union { sd_unet_config u; sd_vae_config v; } c;
        sd_error e = {0};
        if (cases[i].read(&c, with(cases[i].json), &e)) fail_msg("%s: %s", cases[i].json, e.text);
        const char *notes = cases[i].read == vae ? c.v.notes : c.u.notes;
        if (cases[i].says ? !strstr(notes, cases[i].says) : *notes) fail_msg("%s: %s", cases[i].json, notes);
    }
}

TEST(a_native_size_may_be_a_height_and_a_width)
{
    sd_error e = {0};
    sd_unet_config c;
    assert_int_equal(sd_unet_config_read(&c, with("{\"sample_size\":[16,24]}"), &e), SD_OK);
    assert_true(c.height == 16 && c.width == 24);
    assert_int_equal(sd_unet_config_read(&c, with("{\"sample_size\":[16,24],\"_diffusers_version\":\"0.6.0\"}"), &e),
                     SD_OK);
    assert_true(c.height == 16 && c.width == 24);   /* the pipelines ask for one number */
    assert_int_equal(sd_unet_config_read(&c, with("{\"sample_size\":32,\"_diffusers_version\":\"0.8.0.dev0\"}"), &e),
                     SD_OK);
    assert_true(c.height == 64 && c.width == 64);
}

/* Of every family, and of one with depths of its own on both ways. */
TEST(a_configuration_that_is_written_reads_back_the_same)
{
    static const sd_unet_config odd = {
        .in_channels = 4, .out_channels = 4, .levels = 3, .channels = {32, 64, 96}, .layers = {1, 2, 2},
        .depth = {0, 2, 1}, .up_depth = {3, 2, 1}, .layer_depth = {{0}, {2, 1}, {0}}, .heads = {4, 4, 8},
        .up_layer_depth = {{0}, {2, 1, 3}, {0}}, .mid_depth = 1, .groups = 8, .norm_eps = 1e-6, .context_dim = 24,
        .only_cross = {true, false, true}, .height = 16, .width = 24, .freq_shift = 1};
    const sd_family *f;
    sd_error e = {0};
    for (size_t i = 0; (f = sd_family_at(i)) != NULL || i == 0; i++) {
        sd_unet_config u = f->unet, v;
        sd_vae_config a;
        sd_clip_config t;
        char *text[4] = {sd_unet_config_text(&u, &e), sd_vae_config_text(&f->vae, &e)};
        for (int k = 0; k < f->n_clip; k++) text[2 + k] = sd_clip_config_text(&f->clip[k], &e);
        assert_int_equal(sd_unet_config_parse(&v, text[0], f->name, &e), SD_OK);
        u.ldm_gap = 0;
        for (int k = u.levels; k < SD_MAX_LEVELS; k++) u.channels[k] = v.channels[k] = u.heads[k] = u.layers[k] = 0;
        if (u.mid != SD_MID_ATTENTION) u.mid_depth = v.mid_depth;
        if (memcmp(&u, &v, sizeof u)) fail_msg("%s: %s", f->name, text[0]);
        assert_int_equal(sd_vae_config_parse(&a, text[1], f->name, &e), SD_OK);
        memcpy(a.latent_rgb, f->vae.latent_rgb, sizeof a.latent_rgb);   /* the family has it, no file */
        assert_memory_equal(&a, &f->vae, sizeof a);
        for (int k = 0; k < f->n_clip; k++) {
            assert_int_equal(sd_clip_config_parse(&t, text[2 + k], f->name, &e), SD_OK);
            assert_memory_equal(&t, &f->clip[k], sizeof t);
        }
        for (int k = 0; k < 4; k++) free(text[k]);
    }
    sd_unet_config v;
    char *text = sd_unet_config_text(&odd, &e);
    assert_non_null(text);
    assert_int_equal(sd_unet_config_parse(&v, text, "odd", &e), SD_OK);
    for (int k = v.levels; k < SD_MAX_LEVELS; k++) v.channels[k] = 0;
    if (memcmp(&odd, &v, sizeof v)) fail_msg("%s", text);
    free(text);
    sd_vae_config a, b;   /* a TAESD */
    assert_int_equal(sd_vae_config_parse(&a, TINY ",\"num_encoder_blocks\":[1,2,3,0],\"scaling_factor\":0.5}", "tiny",
                                         &e), SD_OK);
    assert_true(a.tiny && a.tiny_encoder.blocks[2] == 3 && a.tiny_decoder.blocks[3] == 1 && a.tiny_decoder.width == 64);
    text = sd_vae_config_text(&a, &e);
    assert_int_equal(sd_vae_config_parse(&b, text, "tiny", &e), SD_OK);
    if (memcmp(&a, &b, sizeof a)) fail_msg("%s", text);
    free(text);
}

static int make_dir(UNUSED void **state) { return mkdtemp(dir) ? 0 : -1; }
static int remove_dir(UNUSED void **state) { unlink(file); return rmdir(dir); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_files_give_the_families_we_name),
        cmocka_unit_test(absent_keys_take_the_class_defaults),
        cmocka_unit_test(what_cannot_be_done_is_refused_by_name),
        cmocka_unit_test(what_is_ignored_is_said),
        cmocka_unit_test(a_native_size_may_be_a_height_and_a_width),
        cmocka_unit_test(a_configuration_that_is_written_reads_back_the_same),
    };
    return cmocka_run_group_tests_name("config", tests, make_dir, remove_dir);
}
