/* convert_made.c - floor 6: configurations for a directory in diffusers' layout, if the input has none, for example a
 * single file of another program. They are made from what was opened. */
#include "convert.h"
#include "json.h"
#include "pipeline_task.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ model_index.json */

static bool has(const sd_conversion *v, const char *module)
{
    for (int i = 0; i < v->c->model.n; i++)
        if (strcmp(v->c->model.module[i]->place->name, module) == 0) return true;
    return false;
}

/* The pipeline that a model is for: by its text encoders and what its UNet is made for. */
static const char *pipeline_class(const sd_conversion *v)
{
    const sd_unet_config *c = &v->c->model.unet->cfg;
    const sd_task *task = sd_task_of(c);
    if (has(v, "text_encoder_2") && !has(v, "text_encoder")) return "StableDiffusionXLImg2ImgPipeline";
    if (has(v, "text_encoder_2")) return task && task->xl_pipeline ? task->xl_pipeline : "StableDiffusionXLPipeline";
    if (c->time_cond_dim) return "LatentConsistencyModelPipeline";
    return task ? task->pipeline : "StableDiffusionPipeline";
}

static void add_part(sd_text *t, const char *name, const char *library, const char *class)
{
    if (class) sd_text_add(t, ",\"%s\":[\"%s\",\"%s\"]", name, library, class);
    else sd_text_add(t, ",\"%s\":[null,null]", name);
}

static char *make_index(const sd_conversion *v, const char *name)
{
    static const struct { const char *name, *library, *class; bool sdxl; } parts[] = {
        {"feature_extractor", NULL, NULL, false}, {"image_encoder", NULL, NULL, false},
        {"safety_checker", NULL, NULL, false},
        {"text_encoder", "transformers", "CLIPTextModel", false},
        {"text_encoder_2", "transformers", "CLIPTextModelWithProjection", true},
        {"tokenizer", "transformers", "CLIPTokenizer", false},
        {"tokenizer_2", "transformers", "CLIPTokenizer", true},
        {"unet", "diffusers", "UNet2DConditionModel", false}, {"vae", "diffusers", "AutoencoderKL", false},
    };
    bool sdxl = has(v, "text_encoder_2");
    sd_text t = {0};
    const sd_sampler_info *about = sd_method_about(v->c->model.sched.method);
    sd_text_add(&t, "{\"_class_name\":\"%s\",\"_diffusers_version\":\"0.42.1\"", pipeline_class(v));
    if (sdxl) sd_text_add(&t, ",\"force_zeros_for_empty_prompt\":%s", has(v, "text_encoder") ? "true" : "false");
    if (sdxl && !has(v, "text_encoder")) sd_text_add(&t, ",\"requires_aesthetics_score\":true");
    if (!sdxl) sd_text_add(&t, ",\"requires_safety_checker\":false");
    add_part(&t, "scheduler", "diffusers", about->diffusers ? about->diffusers : "DDIMScheduler");
    for (size_t i = 0; i < SD_COUNT(parts); i++)
        if (sdxl || !parts[i].sdxl)
            add_part(&t, parts[i].name, parts[i].library, has(v, parts[i].name) ? parts[i].class : NULL);
    const sd_task *task = sd_task_of(&v->c->model.unet->cfg);
    if (task && task->needs_depth) add_part(&t, "depth_estimator", NULL, NULL);
    if (task && task->enlarges) {
        add_part(&t, "low_res_scheduler", "diffusers", "DDPMScheduler");
        sd_text_add(&t, ",\"max_noise_level\":%d", v->c->model.most_noise);
    }
    sd_text_add(&t, "}");
    return sd_json_lines_of(&t, name, v->err);
}

/* ------------------------------------------------------------------------------------ the tokenizer */

/* The padding: the piece that stands last in an empty text's ids. */
static const char *padding(const sd_conversion *v, const sd_tokenizer *t)
{
    sd_tokens ids;
    if (sd_tokenizer_encode(t, "", &ids, v->err)) return NULL;
    return sd_tokenizer_piece(t, ids.id[SD_TOKENS - 1]);
}

/* special_tokens_map.json: the special tokens of CLIP's tokenizer, and the one that pads, which is "!" in the
 * tokenizers of OpenCLIP's encoders. tokenizer_config.json has further settings. */
static char *make_tokens(const sd_conversion *v, const sd_module *x, const char *name)
{
    const char *pad = padding(v, x->net);
    sd_text t = {0};
    if (!pad) return NULL;
    sd_text_add(&t, "{\"bos_token\":\"<|startoftext|>\",\"eos_token\":\"<|endoftext|>\",\"pad_token\":");
    sd_text_quoted(&t, strcmp(pad, "!</w>") == 0 ? "!" : pad);
    sd_text_add(&t, ",\"unk_token\":\"<|endoftext|>\"");
    if (strstr(name, "tokenizer_config"))
        sd_text_add(&t, ",\"add_prefix_space\":false,\"do_lower_case\":true,\"errors\":\"replace\","
                        "\"model_max_length\":77,\"tokenizer_class\":\"CLIPTokenizer\"");
    sd_text_add(&t, "}");
    return sd_json_lines_of(&t, name, v->err);
}

/* The ids of all pieces, on one line as published files have them. transformers wants the file, though it follows from
 * merges.txt. */
static char *make_vocabulary(const sd_conversion *v, const sd_module *x, const char *name)
{
    sd_text t = {0};
    const char *piece;
    for (int id = 0; (piece = sd_tokenizer_piece(x->net, id)) != NULL; id++) {
        sd_text_add(&t, id ? ", " : "{");
        sd_text_quoted(&t, piece);
        sd_text_add(&t, ": %d", id);
    }
    sd_text_add(&t, "}");
    if (!t.failed) return t.s;
    sd_fail(v->err, SD_ERR_MEMORY, "no memory for %s", name);
    free(t.s);
    return NULL;
}

/* ---------------------------------------------------------------------------------------- any text */

static char *make_config(const sd_conversion *v, const sd_module *x)
{
    switch (x->kind->part) {
    case SD_PART_UNET: return sd_unet_config_text(&((const sd_unet_net *)x->net)->cfg, v->err);
    case SD_PART_VAE: return sd_vae_config_text(&((const sd_vae *)x->net)->cfg, v->err);
    default: return sd_clip_config_text(&((const sd_clip *)x->net)->cfg, v->err);
    }
}

char *sd_convert_make(const sd_conversion *v, const sd_module *x, const char *name)
{
    if (strcmp(name, "model_index.json") == 0) return make_index(v, name);
    if (!x) return NULL;
    if (x->kind->part != SD_PART_TOKENIZER) return make_config(v, x);
    if (strstr(name, "vocab.json")) return make_vocabulary(v, x, name);
    return strstr(name, "merges.txt") ? NULL : make_tokens(v, x, name);
}
