/* weights_skip.c - floor 3: tensors that published files contain and no network needs. */
#include "weights.h"

/* The first rule that fits counts. A name is looked up whole, and without the root of its network. */
static const sd_skip_rule rules[] = {
    {"position_ids,*.position_ids", "the list of positions 0 to 76, which is known without it"},
    {"attn_mask,*.attn_mask", "the causal mask, which is known without it"},
    {"logit_scale,*.logit_scale", "CLIP's temperature, which only its training needs"},
    {"*model.transformer.resblocks.23.*,transformer.resblocks.23.*,*.encoder.layers.23.*,encoder.layers.23.*",
     "the last layer of OpenCLIP-H, whose result Stable Diffusion 2 does not use"},
    {"*.text_projection,text_projection,*.text_projection.weight,text_projection.weight",
     "a text encoder's projection, which Stable Diffusion 1 and 2 do not use"},
    {"betas,alphas_cumprod,alphas_cumprod_prev,sqrt_alphas_cumprod,sqrt_one_minus_alphas_cumprod,"
     "log_one_minus_alphas_cumprod,sqrt_recip_alphas_cumprod,sqrt_recipm1_alphas_cumprod,posterior_variance,"
     "posterior_log_variance_clipped,posterior_mean_coef1,posterior_mean_coef2,denoiser.sigmas,"
     "model_sampling.sigmas,model_sampling.log_sigmas",
     "a table of the noise schedule, which follows from its configuration"},
    {"scale_factor", "the scaling factor of latents, which is known of the family"},
    {"logvar,loss.*,first_stage_model.loss.*,vae.loss.*", "a part of the training's loss"},
    {"model_ema.decay,model_ema.num_updates", "a counter of the averages of weights"},
    {"model_ema.*", "an average of a weight over the training; the weights themselves are used"},
    {"optimizer_states.*,lr_schedulers.*,callbacks.*,loops.*,global_step,epoch", "a state of the training"},
    {"v_pred,ztsnr,edm_vpred.sigma_min,edm_vpred.sigma_max,edm_mean,edm_std", "a mark of what the UNet predicts"},
    {"scaled_fp8,*.scaled_fp8,*.comfy_quant", "a mark of how weights are stored"},
    {"*.scale_weight,*.weight_scale,*.scale_input,*.input_scale", "the scale of a weight in 8-bit floats"},
    {"embedding_manager.*", "what is left of the training of an embedding"},
    {"depth_model.*", "a network that guesses depths (MiDaS), which the depth map's maker runs"},
    {"low_scale_model.*", "a table of the noise for the small picture"},
    {"embedder.*,noise_augmentor.*", "unCLIP's encoder of pictures"},
    {"safety_checker.*,*.concept_embeds,*.special_care_embeds", "a part of the safety checker"},
    {"*.vision_model.*,vision_model.*,*visual_projection.weight,*.model.visual.*",
     "a part of CLIP's encoder of pictures"},
};

const sd_skip_rule *sd_skip_find(const char *name)
{
    for (size_t i = 0; i < SD_COUNT(rules); i++)
        if (sd_glob_list(rules[i].glob, name)) return &rules[i];
    return NULL;
}
