/* test_recognise_adapters.c - files that are no networks of a model: each kind from the fewest tensors that tell it. */
#include "test.h"
#include "made.h"

/* A few tensors with their sides. */
typedef struct tensor { const char *name; int dim[4]; } tensor;
typedef struct kind_case {
    const char *what;
    tensor t[4];
    sd_file_kind kind;
    const char *kind_name, *base, *method;   /* method NULL: kind_name */
    int refused;
} kind_case;

static void add(made *m, const tensor *t, size_t n)
{
    for (size_t i = 0; i < n && t[i].name; i++) with(m, t[i].name, t[i].dim[0], t[i].dim[1], t[i].dim[2], t[i].dim[3]);
}

#define OTHER(name, key) {name, {{key, {8}}}, SD_FILE_OTHER, name, NULL, NULL, 1}
/* With a key that other kinds have as well, so that the order of the probes counts. */
#define BEFORE(name, key, other) {name, {{key, {8}}, {other, {8}}}, SD_FILE_OTHER, name, NULL, NULL, 1}
#define CONTEXT(n) {320, n}
static const kind_case kinds[] = {
    {"Control-LoRA is more than a ControlNet",
     {{"lora_controlnet", {1}}, {"input_hint_block.0.weight", {16, 3, 3, 3}},
      {"input_blocks.4.1.transformer_blocks.0.attn2.to_k.down", {64, 2048}}},
     SD_FILE_CONTROLNET, "Control-LoRA", "SDXL", NULL, 1},
    {"LLLite", {{"lllite_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.down.0.weight", {64, 640}}},
     SD_FILE_CONTROLNET, "ControlNet-LLLite", "SDXL", NULL, 1},
    {"ControlNet-Union",
     {{"task_embedding", {6, 320}}, {"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}},
     SD_FILE_CONTROLNET, "ControlNet-Union", NULL, NULL, 1},
    {"ControlNet-Union by its other key",
     {{"control_add_embedding.linear_1.weight", {8, 8}}, {"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}},
     SD_FILE_CONTROLNET, "ControlNet-Union", NULL, NULL, 1},
    {"IP-Adapter", {{"ip_adapter.1.to_k_ip.weight", CONTEXT(768)}, {"image_proj.proj.weight", {3072, 1024}}},
     SD_FILE_IP_ADAPTER, "IP-Adapter", "SD 1", NULL, 1},
    {"IP-Adapter FaceID has a LoRA in it",
     {{"ip_adapter.0.to_q_lora.down.weight", {128, 320}}, {"ip_adapter.1.to_k_ip.weight", CONTEXT(2048)}},
     SD_FILE_IP_ADAPTER, "IP-Adapter", "SDXL", NULL, 1},
    {"half an IP-Adapter", {{"image_proj.norm.weight", {768}}}, SD_FILE_IP_ADAPTER, "IP-Adapter", NULL, NULL, 1},
    {"ControlNet 1.1 of SD 1",
     {{"control_model.input_hint_block.0.weight", {16, 3, 3, 3}},
      {"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", CONTEXT(768)}},
     SD_FILE_CONTROLNET, "ControlNet", "SD 1", NULL, 0},
    {"ControlNet of SD 2 without a root",
     {{"input_hint_block.0.weight", {16, 3, 3, 3}}, {"input_blocks.0.0.weight", {320, 4, 3, 3}},
      {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", CONTEXT(1024)}},
     SD_FILE_CONTROLNET, "ControlNet", "SD 2", NULL, 0},
    {"ControlNet in diffusers' names",
     {{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}, {"conv_in.weight", {320, 4, 3, 3}},
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", CONTEXT(768)}},
     SD_FILE_CONTROLNET, "ControlNet", "SD 1", NULL, 0},
    {"ControlNet of SDXL, large",
     {{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}, {"add_embedding.linear_1.weight", {1280, 2816}},
      {"down_blocks.2.attentions.0.transformer_blocks.9.attn2.to_k.weight", CONTEXT(2048)}},
     SD_FILE_CONTROLNET, "ControlNet", "SDXL", "ControlNet, large", 0},
    {"ControlNet of SDXL, mid",
     {{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}, {"add_embedding.linear_1.weight", {1280, 2816}},
      {"down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k.weight", CONTEXT(2048)}},
     SD_FILE_CONTROLNET, "ControlNet", "SDXL", "ControlNet, mid", 0},
    {"ControlNet of SDXL, small",
     {{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}, {"add_embedding.linear_1.weight", {1280, 2816}}},
     SD_FILE_CONTROLNET, "ControlNet", "SDXL", "ControlNet, small", 0},
    {"a LoRA of Flux is a LoRA",
     {{"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight", {16, 3072}}}, SD_FILE_LORA, "LoRA", "Flux",
     "LoRA", 0},
    BEFORE("HunyuanVideo", "txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.x.weight"),
    BEFORE("Stable Diffusion 3", "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
           "model.diffusion_model.t_embedder.mlp.0.weight"),
    OTHER("Flux", "double_blocks.0.img_attn.qkv.weight"),
    OTHER("Flux", "single_transformer_blocks.0.attn.to_q.weight"),
    OTHER("AnimateDiff", "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"),
    OTHER("Stable Video Diffusion", "model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight"),
    OTHER("Stable Video Diffusion", "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm1.weight"),
    OTHER("Wan", "blocks.0.cross_attn.norm_k.weight"),
    BEFORE("PixArt", "adaln_single.linear.weight", "pos_embed.proj.weight"),
    BEFORE("Lumina", "cap_embedder.0.weight", "t_embedder.mlp.0.weight"),
    BEFORE("AuraFlow", "double_layers.0.attn.w1q.weight", "t_embedder.mlp.0.weight"),
    OTHER("Stable Cascade", "clip_txt_pooled_mapper.weight"),
    OTHER("Stable Cascade", "clip_txt_mapper.weight"),
    OTHER("Stable Cascade", "clip_mapper.weight"),
    BEFORE("Hunyuan-DiT", "mlp_t5.0.weight", "t_embedder.mlp.0.weight"),
    OTHER("a diffusion transformer", "t_embedder.mlp.0.weight"),
    OTHER("a diffusion transformer", "pos_embed.proj.weight"),
    OTHER("a diffusion transformer", "model.diffusion_model.pos_embed"),
    OTHER("Stable Video Diffusion", "model.diffusion_model.input_blocks.1.0.time_mixer.mix_factor"),
    OTHER("Stable Video Diffusion", "down_blocks.0.resnets.0.temporal_res_block.norm1.weight"),
    OTHER("a UNet with projected encodings (Kandinsky, Kolors)", "unet.encoder_hid_proj.weight"),
    OTHER("Zero123", "cc_projection.weight"),
    OTHER("a UNet with projected encodings (Kandinsky, Kolors)", "encoder_hid_proj.weight"),
    {"T2I-Adapter of SD 1", {{"conv_in.weight", {320, 192, 3, 3}}, {"body.0.block1.weight", {320, 320, 3, 3}}},
     SD_FILE_CONTROLNET, "T2I-Adapter", "SD 1", NULL, 1},
    {"T2I-Adapter of SDXL, diffusers",
     {{"adapter.conv_in.weight", {320, 768, 3, 3}}, {"adapter.body.0.resnets.0.block1.weight", {320, 320, 3, 3}}},
     SD_FILE_CONTROLNET, "T2I-Adapter", "SDXL", NULL, 1},
    {"T2I-Adapter of grey pictures", {{"conv_in.weight", {320, 64, 3, 3}}, {"body.0.block1.weight", {320, 320, 3, 3}}},
     SD_FILE_CONTROLNET, "T2I-Adapter", "SD 1", NULL, 1},
    {"T2I-Adapter of SDXL for grey pictures",
     {{"adapter.body.0.in_conv.weight", {320, 256, 1, 1}}}, SD_FILE_CONTROLNET, "T2I-Adapter", "SDXL", NULL, 1},
    {"TAESD, ComfyUI's names",
     {{"taesd_encoder.1.conv.0.weight", {64, 64, 3, 3}}, {"taesd_encoder.14.weight", {4, 64, 3, 3}}},
     SD_FILE_TAESD, "TAESD", "SD 1, SD 2 or SDXL", "TAESD encoder", 0},
    {"TAESD, ComfyUI's names of the decoder",
     {{"taesd_decoder.3.conv.0.weight", {64, 64, 3, 3}}, {"taesd_decoder.1.weight", {64, 4, 3, 3}}},
     SD_FILE_TAESD, "TAESD", "SD 1, SD 2 or SDXL", "TAESD decoder", 0},
    {"TAESD, diffusers' names of the decoder",
     {{"decoder.layers.2.conv.0.weight", {64, 64, 3, 3}}, {"decoder.layers.0.weight", {64, 4, 3, 3}}},
     SD_FILE_TAESD, "TAESD", "SD 1, SD 2 or SDXL", "TAESD decoder", 0},
    {"TAESD, both halves",
     {{"encoder.layers.1.conv.0.weight", {64, 64, 3, 3}}, {"encoder.layers.14.weight", {4, 64, 3, 3}},
      {"decoder.layers.0.weight", {64, 4, 3, 3}}},
     SD_FILE_TAESD, "TAESD", "SD 1, SD 2 or SDXL", "TAESD", 0},
    {"TAESD, raw encoder", {{"1.conv.0.weight", {64, 64, 3, 3}}, {"14.weight", {4, 64, 3, 3}}}, SD_FILE_TAESD, "TAESD",
     "SD 1, SD 2 or SDXL", "TAESD encoder", 0},
    {"TAESD, raw decoder", {{"3.conv.0.weight", {64, 64, 3, 3}}, {"1.weight", {64, 4, 3, 3}}}, SD_FILE_TAESD, "TAESD",
     "SD 1, SD 2 or SDXL", "TAESD decoder", 0},
    {"TAESD of 16 channels", {{"1.conv.0.weight", {64, 64, 3, 3}}, {"14.weight", {16, 64, 3, 3}}}, SD_FILE_TAESD,
     "TAESD", "a model with 16 latent channels", "TAESD encoder", 0},
    {"ESRGAN with the names of its first release", {{"model.1.sub.0.RDB1.conv1.0.weight", {32, 64, 3, 3}}},
     SD_FILE_UPSCALER, "ESRGAN, old names", NULL, NULL, 0},
    {"ESRGAN", {{"body.0.rdb1.conv1.weight", {32, 64, 3, 3}}, {"conv_first.weight", {64, 3, 3, 3}}}, SD_FILE_UPSCALER,
     "ESRGAN", NULL, NULL, 0},
    {"SwinIR", {{"layers.0.residual_group.blocks.0.attn.proj.weight", {180, 180}}}, SD_FILE_UPSCALER, "SwinIR", NULL,
     NULL, 0},
    {"hypernetwork", {{"768.0.linear.0.weight", {1536, 768}}}, SD_FILE_HYPERNETWORK, "hypernetwork", NULL, NULL, 1},
    {"hypernetwork of another layer", {{"320.0.linear.0.weight", {640, 320}}}, SD_FILE_HYPERNETWORK, "hypernetwork",
     NULL, NULL, 1},
    {"hypernetwork of the next layer", {{"640.0.linear.0.weight", {640, 320}}}, SD_FILE_HYPERNETWORK, "hypernetwork",
     NULL, NULL, 1},
    {"hypernetwork of SD 2", {{"1024.0.linear.0.weight", {640, 320}}}, SD_FILE_HYPERNETWORK, "hypernetwork", NULL, NULL,
     1},
    {"hypernetwork of the last layer", {{"1280.0.linear.0.weight", {640, 320}}}, SD_FILE_HYPERNETWORK, "hypernetwork",
     NULL, NULL, 1},
    {"a projection of IP-Adapter Plus", {{"image_proj_model.latents", {1, 16, 768}}}, SD_FILE_IP_ADAPTER, "IP-Adapter",
     NULL, NULL, 1},
    {"T5 under a root", {{"t5xxl.encoder.block.0.layer.0.SelfAttention.q.weight", {4096, 4096}}}, SD_FILE_OTHER, "T5",
     NULL, NULL, 1},
    OTHER("Flux", "transformer.single_transformer_blocks.0.attn.to_q.weight"),
    {"safety checker", {{"concept_embeds", {17, 768}}, {"vision_model.embeddings.class_embedding", {1024}}},
     SD_FILE_OTHER, "safety checker", NULL, NULL, 1},
    {"CLIP vision", {{"vision_model.embeddings.patch_embedding.weight", {1280, 3, 14, 14}}}, SD_FILE_OTHER,
     "CLIP's encoder of pictures", NULL, NULL, 1},
    {"CLIP vision of OpenCLIP", {{"visual.conv1.weight", {1280, 3, 14, 14}}}, SD_FILE_OTHER,
     "CLIP's encoder of pictures", NULL, NULL, 1},
    {"T5", {{"encoder.block.0.layer.0.SelfAttention.q.weight", {4096, 4096}}}, SD_FILE_OTHER, "T5", NULL, NULL, 1},
    {"A1111's embedding", {{"string_to_param.*", {3, 768}}}, SD_FILE_EMBEDDING, "textual inversion", "SD 1", NULL, 0},
    {"kohya's embedding", {{"emb_params", {3, 1024}}}, SD_FILE_EMBEDDING, "textual inversion", "SD 2", NULL, 0},
    {"diffusers' embedding", {{"<cat>", {768}}, {"<cat>_1", {768}}}, SD_FILE_EMBEDDING, "textual inversion", "SD 1",
     NULL, 0},
    {"SDXL's embedding", {{"clip_l", {2, 768}}, {"clip_g", {2, 1280}}}, SD_FILE_EMBEDDING, "textual inversion", "SDXL",
     NULL, 0},
    {"an embedding for another width", {{"string_to_param.*", {3, 512}}}, SD_FILE_EMBEDDING, "textual inversion", NULL,
     NULL, 0},
    {"kohya's embedding for another width", {{"emb_params", {3, 512}}}, SD_FILE_EMBEDDING, "textual inversion", NULL,
     NULL, 0},
    {"half an embedding for another width", {{"clip_l", {3, 512}}}, SD_FILE_EMBEDDING, "textual inversion", NULL, NULL,
     0},
    {"the other half", {{"clip_g", {3, 512}}}, SD_FILE_EMBEDDING, "textual inversion", NULL, NULL, 0},
    {"nothing known", {{"something.weight", {7, 7}}}, SD_FILE_UNKNOWN, "unknown", NULL, NULL, 0},
    {"a layer is no embedding", {{"proj.weight", {4, 768}}}, SD_FILE_UNKNOWN, "unknown", NULL, NULL, 0},
    {"nor is a bias", {{"proj.bias", {768}}}, SD_FILE_UNKNOWN, "unknown", NULL, NULL, 0},
    {"a matrix of another width is no embedding", {{"<cat>", {4, 512}}}, SD_FILE_UNKNOWN, "unknown", NULL, NULL, 0},
};

TEST(each_kind_is_told_by_few_names)
{
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        const kind_case *k = &kinds[i];
        made m = {0};
        add(&m, k->t, SD_COUNT(k->t));
        const sd_recognised *r = recognise(&m);
        if (r->kind != k->kind || strcmp(r->kind_name, k->kind_name) != 0) fail_msg("%s: %s", k->what, r->why.s);
        assert_same_text(r->adapter.base, k->base);
        if (k->kind) assert_string_equal(r->adapter.method, k->method ? k->method : k->kind_name);
        assert_int_equal(r->refusal != NULL, k->refused);
        assert_int_equal(r->n_leftover, k->kind ? 0 : 1);
        assert_true(r->why.n > 0);
        done(&m);
    }
}

TEST(a_reason_names_the_tensor_that_decided)
{
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        made m = {0};
        bool named = kinds[i].kind == SD_FILE_UNKNOWN;
        add(&m, kinds[i].t, SD_COUNT(kinds[i].t));
        const sd_recognised *r = recognise(&m);
        for (size_t k = 0; k < SD_COUNT(kinds[i].t) && kinds[i].t[k].name; k++)
            named = named || strstr(r->why.s, kinds[i].t[k].name);
        if (!named) fail_msg("%s: %s", kinds[i].what, r->why.s);
        done(&m);
    }
}

TEST(a_controlnet_with_a_whole_model_is_a_controlnet)
{
    made m = {0};
    with(&m, "control_model.input_hint_block.0.weight", 16, 3, 3, 3);
    with(&m, "model.diffusion_model.output_blocks.0.0.in_layers.2.weight", 8, 8, 3, 3);
    with(&m, "first_stage_model.decoder.mid.block_1.conv1.weight", 8, 8, 3, 3);
    const sd_recognised *r = recognise(&m);
    assert_int_equal(r->kind, SD_FILE_CONTROLNET);
    assert_int_equal(r->n_networks, 2);
    assert_non_null(strstr(r->why.s, "a whole model is in the file too"));
    done(&m);
    /* what a checkpoint has beside its networks does not make it a LoRA or an embedding */
    with(&m, "model.diffusion_model.output_blocks.0.0.in_layers.2.weight", 8, 8, 3, 3);
    with(&m, "first_stage_model.decoder.mid.block_1.conv1.weight", 8, 8, 3, 3);
    with(&m, "clip_l", 2, 768, 0, 0);
    with(&m, "x.lora_down.weight", 2, 768, 0, 0);
    r = recognise(&m);
    assert_int_equal(r->kind, SD_FILE_CHECKPOINT);
    assert_int_equal(r->n_leftover, 2);
    done(&m);
}

TEST(controlnets_have_names_of_both_conventions)
{
    static const struct { tensor t[2]; const char *naming, *base; } cases[] = {
        {{{"control_model.input_hint_block.0.weight", {16, 3, 3, 3}},
          {"control_model.label_emb.0.0.weight", {1280, 2816}}}, "LDM", "SDXL"},
        {{{"input_hint_block.0.weight", {16, 3, 3, 3}}}, "LDM", NULL},
        {{{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}},
          {"add_embedding.linear_1.weight", {1280, 2816}}}, "diffusers", "SDXL"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m = {0};
        add(&m, cases[i].t, SD_COUNT(cases[i].t));
        const sd_adapter *a = &recognise(&m)->adapter;
        assert_string_equal(a->naming, cases[i].naming);
        assert_same_text(a->base, cases[i].base);
        done(&m);
    }
}

TEST(vectors_of_an_embedding_are_counted)
{
    static const struct { tensor t[3]; int vectors, width[2]; } cases[] = {
        {{{"string_to_param.*", {3, 768}}}, 3, {768, 0}},
        {{{"emb_params", {5, 1024}}}, 5, {1024, 0}},
        {{{"<cat>", {768}}}, 1, {768, 0}},
        {{{"<cat>", {768}}, {"<cat>_1", {768}}, {"<cat>_2", {768}}}, 3, {768, 0}},
        {{{"<cat>", {4, 1024}}}, 4, {1024, 0}},
        {{{"clip_l", {2, 768}}, {"clip_g", {2, 1280}}}, 2, {768, 1280}},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        made m = {0};
        add(&m, cases[i].t, SD_COUNT(cases[i].t));
        const sd_adapter *a = &recognise(&m)->adapter;
        assert_int_equal(a->vectors, cases[i].vectors);
        assert_int_equal(a->width[0], cases[i].width[0]);
        assert_int_equal(a->width[1], cases[i].width[1]);
        done(&m);
    }
}

/* --------------------------------------------------------------------------------------------- LoRA */

/* One changed module of each method; the rank is 4. */
static const struct { const char *method, *naming; tensor t[8]; int rank; } methods[] = {
    {"LoRA", "kohya", {{".lora_down.weight", {4, 768}}, {".lora_up.weight", {320, 4}}, {".alpha", {0}}}, 4},
    {"LoCon", "LyCORIS",
     {{".lora_down.weight", {4, 768, 1, 1}}, {".lora_up.weight", {320, 4, 1, 1}}, {".lora_mid.weight", {4, 4, 3, 3}}},
     4},
    {"LoCon", "kohya", {{".lora_down.weight", {4, 320, 3, 3}}, {".lora_up.weight", {320, 4, 1, 1}}}, 4},
    {"LoRA", "PEFT", {{".lora_A.weight", {4, 768}}, {".lora_B.weight", {320, 4}}}, 4},
    {"LoRA", "PEFT", {{".lora_A.default.weight", {4, 768}}, {".lora_B.default.weight", {320, 4}}}, 4},
    {"LoRA", "diffusers",
     {{".processor.to_k_lora.down.weight", {4, 768}}, {".processor.to_k_lora.up.weight", {9, 4}}}, 4},
    {"LoRA", "diffusers",
     {{".lora_linear_layer.down.weight", {4, 768}}, {".lora_linear_layer.up.weight", {320, 4}}}, 4},
    {"LoRA", "diffusers", {{".lora.down.weight", {4, 768}}, {".lora.up.weight", {320, 4}}}, 4},
    {"LoHa", "LyCORIS",
     {{".hada_w1_a", {320, 4}}, {".hada_w1_b", {4, 768}}, {".hada_w2_a", {320, 4}}, {".hada_w2_b", {4, 768}},
      {".hada_t1", {4, 4, 3, 3}}, {".hada_t2", {4, 4, 3, 3}}}, 4},
    {"LoKr", "LyCORIS",
     {{".lokr_w1", {8, 8}}, {".lokr_w2_a", {40, 4}}, {".lokr_w2_b", {4, 96}}, {".lokr_t2", {4, 4, 3, 3}}}, 4},
    {"LoKr", "LyCORIS", {{".lokr_w1_a", {8, 4}}, {".lokr_w1_b", {4, 8}}, {".lokr_w2", {40, 96}}}, 4},
    {"LoKr", "LyCORIS", {{".lokr_w1", {8, 8}}, {".lokr_w2", {40, 96}}}, 0},
    {"GLoRA", "LyCORIS",
     {{".a1.weight", {768, 4}}, {".a2.weight", {4, 768}}, {".b1.weight", {320, 4}}, {".b2.weight", {4, 320}}}, 4},
    {"IA3", "LyCORIS", {{".on_input", {1}}}, 0},
    {"OFT", "LyCORIS", {{".oft_blocks", {4, 8, 8}}, {".rescale", {320}}}, 0},
    {"OFT", "LyCORIS", {{".oft_diag", {4, 8, 8}}}, 0},
    {"OFT", "PEFT", {{".oft_R.weight", {4, 8}}}, 0},
    {"OFT", "PEFT", {{".oft_r.weight", {4, 8}}}, 0},
    {"full differences", "LyCORIS", {{".diff", {320, 768}}, {".diff_b", {320}}}, 0},
    {"full differences", "LyCORIS", {{".w_norm", {320}}, {".b_norm", {320}}}, 0},
    {"DoRA", "kohya",
     {{".lora_down.weight", {4, 768}}, {".lora_up.weight", {320, 4}}, {".dora_scale", {320, 1}}}, 4},
    {"DoRA", "PEFT",
     {{".lora_A.weight", {4, 768}}, {".lora_B.weight", {320, 4}}, {".lora_magnitude_vector", {320}}}, 4},
    {"DoRA", "PEFT", {{".lora_A.weight", {4, 768}}, {".lora_magnitude_vector.weight", {320}}}, 4},
    {"DoRA", "PEFT", {{".lora_A.default.weight", {4, 768}}, {".lora_magnitude_vector.default.weight", {320}}}, 4},
    {"LoHa", "LyCORIS", {{".hada_w1_a", {320, 4}}, {".hada_w1_b", {4, 768}}, {".scalar", {1}}}, 4},
    {"DoRA", "LyCORIS", {{".hada_w1_a", {320, 4}}, {".hada_w1_b", {4, 768}}, {".dora_scale", {320, 1}}}, 4},
};

TEST(each_method_is_told_by_the_ends_of_names)
{
    for (size_t i = 0; i < SD_COUNT(methods); i++) {
        made m = {0};
        for (size_t k = 0; k < SD_COUNT(methods[i].t) && methods[i].t[k].name; k++) {
            char name[200];
            tensor t = methods[i].t[k];
            snprintf(name, sizeof name, "lora_unet_mid_block_attentions_0_proj_in%s", t.name);
            with(&m, name, t.dim[0], t.dim[1], t.dim[2], t.dim[3]);
        }
        const sd_recognised *r = recognise(&m);
        if (r->kind != SD_FILE_LORA || strcmp(r->adapter.method, methods[i].method) != 0) fail_msg("%s", r->why.s);
        assert_string_equal(r->kind_name, methods[i].method);
        assert_string_equal(r->adapter.naming, methods[i].naming);
        assert_int_equal(r->adapter.rank_min, methods[i].rank);
        assert_int_equal(r->adapter.rank_max, methods[i].rank);
        assert_int_equal(r->adapter.modules, 1);
        assert_int_equal(r->n_leftover, 0);
        done(&m);
    }
}

static const struct { const char *name; int reads; const char *network, *base; } modules[] = {
    {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", 768, "unet", "SD 1"},
    {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", 1024, "unet", "SD 2"},
    {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", 2048, "unet", "SDXL"},
    {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", 1280, "unet", "SDXL's refiner"},
    {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight", 768, "unet", "SD 1"},
    {"base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", 768, "unet", "SD 1"},
    {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", 768, "unet", "SD 1"},
    {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight", 640, "unet", "SDXL"},
    {"lycoris_unet_mid_block_attentions_0_proj_in.lora_down.weight", 640, "unet", NULL},
    {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 768, "text_encoder", NULL},
    {"lora_te_text_model_encoder_layers_12_mlp_fc1.lora_down.weight", 1024, "text_encoder", "SD 2"},
    {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 768, "text_encoder", NULL},
    {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 1280, "text_encoder_2", "SDXL"},
    {"text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", 768, "text_encoder", NULL},
    {"text_encoder.text_model.encoder.layers.12.mlp.fc1.lora_A.weight", 1024, "text_encoder", "SD 2"},
    {"text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", 1280, "text_encoder_2", "SDXL"},
    {"base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", 768, "text_encoder", NULL},
    {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight", 3072, "transformer", "Flux"},
    {"lycoris_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 768, "text_encoder", NULL},
    {"lycoris_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 768, "text_encoder", NULL},
    {"lycoris_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", 1280, "text_encoder_2", NULL},
    {"text_model.encoder.layers.0.mlp.fc1.lora_A.weight", 768, "text_encoder", NULL},
    {"double_blocks.0.img_attn.proj.lora_A.weight", 3072, "transformer", "Flux"},
    {"single_transformer_blocks.0.attn.to_k.lora_A.weight", 3072, "transformer", "Flux"},
    {"joint_blocks.0.x_block.attn.proj.lora_A.weight", 1536, "transformer", "SD 3"},
    {"transformer.norm_out.linear.lora_A.weight", 1536, "transformer", NULL},
    {"lora_transformer_x.lora_A.weight", 1536, "transformer", NULL},
    {"up_blocks.0.attentions.0.proj_in.lora_A.weight", 640, "unet", NULL},
    {"mid_block.attentions.0.proj_in.lora_A.weight", 640, "unet", NULL},
    {"text_encoder_2.text_model.encoder.layers.23.mlp.fc1.lora_A.weight", 1280, "text_encoder_2", "SDXL"},
    {"transformer.joint_blocks.0.attn.to_k.lora_A.weight", 1536, "transformer", "SD 3"},
    {"what.lora_A.weight", 768, "other", NULL},
};

TEST(names_and_shapes_tell_what_is_changed_and_in_which_model)
{
    for (size_t i = 0; i < SD_COUNT(modules); i++) {
        made m = {0};
        with(&m, modules[i].name, 8, modules[i].reads, 0, 0);
        const sd_adapter *a = &recognise(&m)->adapter;
        assert_int_equal(a->n_targets, 1);
        assert_string_equal(a->target[0].network, modules[i].network);
        assert_same_text(a->base, modules[i].base);
        assert_int_equal(m.is.n_skipped, 0);
        done(&m);
    }
}

TEST(ranks_and_alphas_have_a_range_and_the_header_says_the_base)
{
    static const float alphas[] = {4, 16, 1};
    made m = {0};
    for (int i = 0; i < 3; i++) {
        char name[100];
        snprintf(name, sizeof name, "lora_te1_text_model_encoder_layers_%d_mlp_fc1.lora_down.weight", i);
        with(&m, name, 8 << i, 768, 0, 0);
        snprintf(name, sizeof name, "lora_te1_text_model_encoder_layers_%d_mlp_fc1.alpha", i);
        numbers(&m, name, &alphas[i], 1);
    }
    with(&m, "lora_unet_conv_in.lora_down.weight", 8, 4, 3, 3);
    with(&m, "bundle_emb.cat.clip_l", 2, 768, 0, 0);
    with(&m, "stray", 2, 0, 0, 0);
    text(&m, "modelspec.architecture", "stable-diffusion-xl-v1-base/lora");
    const sd_recognised *r = recognise(&m);
    assert_true(r->adapter.rank_min == 8 && r->adapter.rank_max == 32);
    assert_true(r->adapter.alpha_min == 1 && r->adapter.alpha_max == 16);
    assert_string_equal(r->adapter.says, "stable-diffusion-xl-v1-base/lora");
    assert_int_equal(r->adapter.modules, 4);
    assert_int_equal(r->adapter.n_targets, 2);
    assert_int_equal(r->n_leftover, 1);
    assert_string_equal(r->leftover[0], "stray");
    text(&m, "ss_base_model_version", "sdxl_base_v1-0");   /* kohya's text is the finer one */
    assert_string_equal(recognise(&m)->adapter.says, "sdxl_base_v1-0");
    done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_told_by_few_names),
        cmocka_unit_test(a_reason_names_the_tensor_that_decided),
        cmocka_unit_test(a_controlnet_with_a_whole_model_is_a_controlnet),
        cmocka_unit_test(controlnets_have_names_of_both_conventions),
        cmocka_unit_test(vectors_of_an_embedding_are_counted),
        cmocka_unit_test(each_method_is_told_by_the_ends_of_names),
        cmocka_unit_test(names_and_shapes_tell_what_is_changed_and_in_which_model),
        cmocka_unit_test(ranks_and_alphas_have_a_range_and_the_header_says_the_base),
    };
    return cmocka_run_group_tests_name("recognise_adapters", tests, NULL, NULL);
}
