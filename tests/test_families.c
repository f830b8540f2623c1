/* test_families.c - the families of published models, and the tensors that no network needs. */
#include "sched.h"
#include "test.h"
#include "tempdir.h"
#include "../net.h"
#include "../sampler.h"

/* scheduler_config.json of each family as published: class, prediction, spacing, last beta, what is particular. */
static const struct { const char *family; sd_method method; sd_spacing spacing; double beta_end; } schedulers[] = {
    {"sd15", SD_PNDM, SD_SPACE_LEADING, 0.012},
    {"sd15-inpaint", SD_DDIM, SD_SPACE_LEADING, 0.012},
    {"instruct-pix2pix", SD_EULER_A, SD_SPACE_LINSPACE, 0.012},
    {"lcm", SD_LCM, SD_SPACE_LEADING, 0.012},
    {"small-sd", SD_DPMPP_2M, SD_SPACE_LINSPACE, 0.012},
    {"sd21", SD_DDIM, SD_SPACE_LEADING, 0.012},
    {"sd21-base", SD_PNDM, SD_SPACE_LEADING, 0.012},
    {"sd21-inpaint", SD_PNDM, SD_SPACE_LEADING, 0.012},
    {"sd2-depth", SD_PNDM, SD_SPACE_LEADING, 0.012},
    {"sd-turbo", SD_EULER, SD_SPACE_TRAILING, 0.012},
    {"x4-upscaler", SD_DDIM, SD_SPACE_LEADING, 0.02},
    {"sdxl", SD_EULER, SD_SPACE_LEADING, 0.012},
    {"sdxl-refiner", SD_EULER, SD_SPACE_LEADING, 0.012},
    {"sdxl-turbo", SD_EULER_A, SD_SPACE_TRAILING, 0.012},
    {"sdxl-lightning", SD_EULER, SD_SPACE_TRAILING, 0.012},
    {"ssd-1b", SD_EULER, SD_SPACE_LEADING, 0.012},
};

static sd_sched_config scheduler_of(const sd_family *f)
{
    sd_sched_config c;
    sd_error e = {0};
    temp_write("scheduler_config.json", f->scheduler, strlen(f->scheduler));
    if (sched_read(&c, temp_path("scheduler_config.json"), NULL, &e)) fail_msg("%s: %s", f->name, e.text);
    return c;
}

TEST(every_familys_scheduler_is_read_and_predicts_what_the_family_does)
{
    const sd_family *f;
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++) {
        sd_sched_config c = scheduler_of(f);
        assert_string_equal(sd_prediction_name(c.prediction), f->prediction);
        assert_int_equal(c.beta_schedule, SD_BETA_SCALED_LINEAR);
        assert_false(c.set_alpha_to_one);
        assert_int_equal(c.train_steps, 1000);
    }
    for (size_t i = 0; i < SD_COUNT(schedulers); i++) {
        sd_sched_config c = scheduler_of(sd_family_find(schedulers[i].family));
        assert_int_equal(c.method, schedulers[i].method);
        assert_int_equal(c.spacing, schedulers[i].spacing);
        assert_true(c.beta_end == schedulers[i].beta_end);
    }
}

/* Facts that no shape tells, from the published config.json and tokenizer files. */
TEST(families_have_the_published_sizes_paddings_and_scaling_factors)
{
    static const struct { const char *family; int size, pad[2]; double scaling; } facts[] = {
        {"sd15", 64, {49407}, 0.18215}, {"instruct-pix2pix", 64, {49407}, 0.18215}, {"lcm", 96, {49407}, 0.18215},
        {"sd21", 96, {0}, 0.18215}, {"sd21-base", 64, {0}, 0.18215}, {"sd21-inpaint", 64, {0}, 0.18215},
        {"sd2-depth", 64, {0}, 0.18215}, {"sd-turbo", 64, {0}, 0.18215}, {"x4-upscaler", 128, {0}, 0.08333},
        {"sdxl", 128, {49407, 0}, 0.13025}, {"sdxl-turbo", 64, {49407, 0}, 0.13025},
        {"sdxl-refiner", 128, {0}, 0.13025}};
    for (size_t i = 0; i < SD_COUNT(facts); i++) {
        const sd_family *f = sd_family_find(facts[i].family);
        assert_true(f->unet.width == facts[i].size && f->unet.height == facts[i].size);
        assert_true(f->pad[0] == facts[i].pad[0] && f->pad[1] == facts[i].pad[1]);
        assert_true(f->vae.scaling_factor == facts[i].scaling);
    }
}

/* Guidance scales of diffusers' pipelines, and steps and scales of model cards. */
TEST(families_have_steps_and_guidance_of_their_own)
{
    static const struct { const char *family; int steps; double guidance; } facts[] = {
        {"sd15", 25, 7.5}, {"sd21", 25, 7.5}, {"sdxl", 25, 5}, {"sdxl-inpaint", 25, 7.5}, {"sdxl-refiner", 25, 5},
        {"instruct-pix2pix", 25, 7.5}, {"x4-upscaler", 75, 9}, {"lcm", 4, 8.5}, {"sd-turbo", 1, 0},
        {"sdxl-turbo", 1, 0}, {"sdxl-lightning", 4, 0}};
    const sd_family *f;
    for (size_t i = 0; i < SD_COUNT(facts); i++) {
        f = sd_family_find(facts[i].family);
        assert_int_equal(f->steps, facts[i].steps);
        assert_true(f->guidance == facts[i].guidance);
    }
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++) assert_true(f->steps >= 1 && f->guidance >= 0);
}

/* A model of no published shapes is drawn as the first family with such inputs. */
TEST(a_small_model_is_drawn_as_the_family_whose_inputs_it_has)
{
    static const struct { const char *like; sd_unet_config c; } cases[] = {
        {"sd15", {.in_channels = 4}}, {"sd15-inpaint", {.in_channels = 9}}, {"instruct-pix2pix", {.in_channels = 8}},
        {"sd2-depth", {.in_channels = 5}}, {"x4-upscaler", {.in_channels = 7, .class_embeds = 10}},
        {"lcm", {.in_channels = 4, .time_cond_dim = 12}}, {"sdxl", {.in_channels = 4, .add_in_dim = 60}},
        {"sdxl-inpaint", {.in_channels = 9, .add_in_dim = 60}}};
    for (size_t i = 0; i < SD_COUNT(cases); i++)
        assert_string_equal(sd_family_of_inputs(&cases[i].c)->name, cases[i].like);
    assert_null(sd_family_of_inputs(&(sd_unet_config){.in_channels = 3}));
}

TEST(a_family_is_found_by_its_shapes_and_by_what_it_predicts)
{
    const sd_family *f, *sd21 = sd_family_find("sd21");
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++) {
        const sd_family *g = sd_family_of(&f->unet, f->class_in);
        assert_true(g == f || f->unet.context_dim >= 1024);   /* SD 1 has no two families of the same shapes */
        assert_non_null(sd_family_with(g, f->prediction));
        assert_ptr_equal(sd_family_find(f->name), f);
    }
    assert_string_equal(sd_family_with(sd21, "epsilon")->name, "sd21-base");
    assert_ptr_equal(sd_family_with(sd_family_find("sd21-base"), "v_prediction"), sd21);
    assert_null(sd_family_with(sd_family_find("sd15"), "v_prediction"));
    sd_unet_config c = sd21->unet;
    c.heads[0] = 10;               /* heads do not count, ... */
    c.linear_projection = false;   /* nor how a projection is stored */
    assert_ptr_equal(sd_family_of(&c, 0), sd21);
}

/* Each of these changes is one that a shape tells. */
TEST(every_shape_counts)
{
    const sd_unet_config *f = &sd_family_find("sdxl")->unet;
    sd_unet_config c[14];
    for (size_t i = 0; i < SD_COUNT(c); i++) c[i] = *f;
    c[0].in_channels = 6;
    c[1].out_channels = 8;
    c[2].levels = 2;
    c[3].channels[1] = 600;
    c[4].layers[2] = 3;
    c[5].depth[2] = 9;
    c[6].up_depth[1] = 1;
    c[7].up_layer_depth[2][1] = 4;
    c[8].mid = SD_MID_NONE;
    c[9].mid_depth = 9;
    c[10].context_dim = 1024;
    c[11].add_in_dim = 2560;
    c[12].class_embeds = 1000;
    c[13].time_cond_dim = 256;
    assert_string_equal(sd_family_of(f, 0)->name, "sdxl");
    for (size_t i = 0; i < SD_COUNT(c); i++) assert_null(sd_family_of(&c[i], 0));
    assert_null(sd_family_of(f, 2048));
    sd_unet_config x4 = sd_family_find("x4-upscaler")->unet;
    x4.only_cross[1] = false;
    assert_null(sd_family_of(&x4, 0));
}

/* ------------------------------------------------------------------------------------ skipped tensors */

TEST(known_tensors_that_no_network_needs_are_skipped_for_a_reason)
{
    static const struct { const char *name, *why; } skipped[] = {
        {"cond_stage_model.transformer.text_model.embeddings.position_ids", "positions"},
        {"embeddings.position_ids", "positions"}, {"position_ids", "positions"}, {"attn_mask", "mask"},
        {"transformer.resblocks.23.ln_1.weight", "last layer"},
        {"model_sampling.sigmas", "noise schedule"}, {"model_sampling.log_sigmas", "noise schedule"},
        {"vae.loss.logvar", "loss"}, {"lr_schedulers.0", "training"}, {"callbacks.x", "training"},
        {"loops.x", "training"}, {"global_step", "training"}, {"epoch", "training"},
        {"edm_vpred.sigma_min", "predicts"}, {"edm_std", "predicts"}, {"unet.scaled_fp8", "stored"},
        {"unet.conv_in.comfy_quant", "stored"}, {"unet.conv_in.scale_input", "scale of a weight"},
        {"unet.conv_in.input_scale", "scale of a weight"},
        {"safety_checker.vision_model.post_layernorm.weight", "safety checker"},
        {"checker.concept_embeds", "safety checker"}, {"checker.special_care_embeds", "safety checker"},
        {"cond_stage_model.transformer.vision_model.post_layernorm.weight", "encoder of pictures"},
        {"text_encoder.visual_projection.weight", "encoder of pictures"},
        {"cond_stage_model.model.visual.conv1.weight", "encoder of pictures"},
        {"cond_stage_model.model.attn_mask", "mask"},
        {"cond_stage_model.model.logit_scale", "temperature"},
        {"logit_scale", "temperature"},
        {"cond_stage_model.model.transformer.resblocks.23.ln_1.weight", "last layer"},
        {"conditioner.embedders.0.model.transformer.resblocks.23.ln_1.weight", "last layer"},
        {"cond_stage_model.transformer.text_model.encoder.layers.23.layer_norm1.weight", "last layer"},
        {"encoder.layers.23.layer_norm1.weight", "last layer"},
        {"cond_stage_model.model.text_projection", "projection"}, {"text_projection", "projection"},
        {"text_encoder.text_projection.weight", "projection"}, {"text_projection.weight", "projection"},
        {"alphas_cumprod", "noise schedule"}, {"betas", "noise schedule"},
        {"sqrt_recipm1_alphas_cumprod", "noise schedule"}, {"posterior_mean_coef2", "noise schedule"},
        {"denoiser.sigmas", "noise schedule"},
        {"scale_factor", "scaling factor"},
        {"logvar", "loss"}, {"loss.discriminator.main.0.weight", "loss"}, {"first_stage_model.loss.logvar", "loss"},
        {"model_ema.decay", "counter"}, {"model_ema.num_updates", "counter"},
        {"model_ema.diffusion_modelinput_blocks00weight", "average"},
        {"optimizer_states.0", "training"},
        {"v_pred", "predicts"}, {"ztsnr", "predicts"}, {"edm_vpred.sigma_max", "predicts"}, {"edm_mean", "predicts"},
        {"scaled_fp8", "stored"},
        {"model.diffusion_model.input_blocks.1.1.proj_in.scale_weight", "scale of a weight"},
        {"unet.conv_in.weight_scale", "scale of a weight"},
        {"embedding_manager.initial_embeddings.x", "embedding"},
        {"depth_model.model.pretrained.cls_token", "depths"},
        {"low_scale_model.betas", "small picture"},
        {"embedder.model.visual.proj", "unCLIP"}, {"noise_augmentor.data_mean", "unCLIP"},
        {"safety_checker.concept_embeds", "safety checker"},
        {"vision_model.embeddings.class_embedding", "encoder of pictures"},
    };
    static const char *const needed[] = {
        "model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight", "first_stage_model.encoder.conv_in.weight",
        "cond_stage_model.model.transformer.resblocks.22.ln_1.weight", "cond_stage_model.model.positional_embedding",
        "text_model.embeddings.position_embedding.weight", "text_model.encoder.layers.22.layer_norm1.weight",
        "model_emb.weight"};
    for (size_t i = 0; i < SD_COUNT(skipped); i++) {
        const sd_skip_rule *rule = sd_skip_find(skipped[i].name);
        if (!rule || !strstr(rule->why, skipped[i].why)) fail_msg("%s: %s", skipped[i].name, rule ? rule->why : "none");
    }
    for (size_t i = 0; i < SD_COUNT(needed); i++)
        if (sd_skip_find(needed[i])) fail_msg("%s is skipped", needed[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_familys_scheduler_is_read_and_predicts_what_the_family_does),
        cmocka_unit_test(families_have_the_published_sizes_paddings_and_scaling_factors),
        cmocka_unit_test(families_have_steps_and_guidance_of_their_own),
        cmocka_unit_test(a_small_model_is_drawn_as_the_family_whose_inputs_it_has),
        cmocka_unit_test(a_family_is_found_by_its_shapes_and_by_what_it_predicts),
        cmocka_unit_test(every_shape_counts),
        cmocka_unit_test(known_tensors_that_no_network_needs_are_skipped_for_a_reason),
    };
    return cmocka_run_group_tests_name("families", tests, temp_make, temp_remove);
}
