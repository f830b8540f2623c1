/* recognise_adapters.c - floor 4: files that are no networks of a model: LoRAs, embeddings, ControlNets, small
 * autoencoders, upscalers, and networks of other kinds that are known by name. */
#include "recognise.h"

#include <string.h>

/* The first tensor whose name fits one of the globs; NULL: none. */
static const sd_entry *first_like(const sd_store *s, const char *globs)
{
    size_t n = sd_store_count(s);
    for (size_t i = 0; i < n; i++)
        if (sd_glob_list(globs, sd_store_at(s, i)->name)) return sd_store_at(s, i);
    return NULL;
}

/* The width of the context that cross-attention reads tells to which model something belongs. */
static const struct { int context; const char *base; } contexts[] = {
    {768, "SD 1"}, {1024, "SD 2"}, {2048, "SDXL"}, {1280, "SDXL's refiner"}};

static const char *base_of(int context)
{
    for (size_t i = 0; i < SD_COUNT(contexts); i++)
        if (contexts[i].context == context) return contexts[i].base;
    return NULL;
}

/* ------------------------------------------------------------------------------------------- LoRA */

typedef enum method { LORA, LOHA, LOKR, GLORA, IA3, OFT, DIFF, DORA, METHODS, NO_METHOD } method;
static const char *const method_names[METHODS] = {"LoRA", "LoHa", "LoKr", "GLoRA", "IA3", "OFT", "full differences",
                                                  "DoRA"};

/* The tensors of a changed module, by the ends of their names. counts: each module has exactly one of those. ranks:
 * the first dimension is the module's rank. */
static const struct factor { const char *end; method of; const char *naming; bool counts, ranks; } factors[] = {
    {".lora_down.weight", LORA, "kohya", true, true},
    {".lora_up.weight", LORA, "kohya", false, false},
    {".lora_mid.weight", LORA, "LyCORIS", false, false},
    {".lora_A.weight", LORA, "PEFT", true, true},
    {".lora_B.weight", LORA, "PEFT", false, false},
    {".lora_A.default.weight", LORA, "PEFT", true, true},
    {".lora_B.default.weight", LORA, "PEFT", false, false},
    {"_lora.down.weight", LORA, "diffusers", true, true},
    {"_lora.up.weight", LORA, "diffusers", false, false},
    {".lora.down.weight", LORA, "diffusers", true, true},
    {".lora.up.weight", LORA, "diffusers", false, false},
    {".lora_linear_layer.down.weight", LORA, "diffusers", true, true},
    {".lora_linear_layer.up.weight", LORA, "diffusers", false, false},
    {".hada_w1_a", LOHA, "LyCORIS", true, false},
    {".hada_w1_b", LOHA, "LyCORIS", false, true},
    {".hada_w2_a", LOHA, "LyCORIS", false, false},
    {".hada_w2_b", LOHA, "LyCORIS", false, false},
    {".hada_t1", LOHA, "LyCORIS", false, false},
    {".hada_t2", LOHA, "LyCORIS", false, false},
    {".lokr_w1", LOKR, "LyCORIS", true, false},
    {".lokr_w1_a", LOKR, "LyCORIS", true, false},
    {".lokr_w1_b", LOKR, "LyCORIS", false, true},
    {".lokr_w2", LOKR, "LyCORIS", false, false},
    {".lokr_w2_a", LOKR, "LyCORIS", false, false},
    {".lokr_w2_b", LOKR, "LyCORIS", false, true},
    {".lokr_t2", LOKR, "LyCORIS", false, false},
    {".a1.weight", GLORA, "LyCORIS", true, false},
    {".a2.weight", GLORA, "LyCORIS", false, true},
    {".b1.weight", GLORA, "LyCORIS", false, false},
    {".b2.weight", GLORA, "LyCORIS", false, false},
    {".on_input", IA3, "LyCORIS", true, false},
    {".oft_blocks", OFT, "LyCORIS", true, false},
    {".oft_diag", OFT, "LyCORIS", true, false},
    {".oft_R.weight", OFT, "PEFT", true, false},
    {".oft_r.weight", OFT, "PEFT", true, false},
    {".diff", DIFF, "LyCORIS", true, false},
    {".diff_b", DIFF, "LyCORIS", false, false},
    {".w_norm", DIFF, "LyCORIS", true, false},
    {".b_norm", DIFF, "LyCORIS", false, false},
    {".dora_scale", DORA, NULL, false, false},
    {".lora_magnitude_vector", DORA, NULL, false, false},
    {".lora_magnitude_vector.weight", DORA, NULL, false, false},
    {".lora_magnitude_vector.default.weight", DORA, NULL, false, false},
    {".alpha", NO_METHOD, NULL, false, false},
    {".scalar", NO_METHOD, NULL, false, false},
    {".rescale", NO_METHOD, NULL, false, false},
};

/* What a module belongs to, by the beginning of its name. The first that fits counts. */
static const struct { const char *glob, *network; } targets[] = {
    {"lora_te2_*,lycoris_te2_*,text_encoder_2.*", "text_encoder_2"},
    {"lora_te_*,lora_te1_*,lycoris_te_*,lycoris_te1_*,text_encoder.*,base_model.model.text_model.*,text_model.*",
     "text_encoder"},
    {"*single_transformer_blocks*,*double_blocks*,*joint_blocks*,transformer.*,lora_transformer_*", "transformer"},
    {"lora_unet_*,lycoris_*,unet.*,base_model.model.*,down_blocks.*,up_blocks.*,mid_block.*", "unet"},
    {"*", "other"},
};

static const struct factor *factor_of(const char *name)
{
    for (size_t i = 0; i < SD_COUNT(factors); i++)
        if (sd_ends_with(name, factors[i].end)) return &factors[i];
    return NULL;
}

bool sd_adapter_knows(const sd_recognised *r, const char *name)
{
    if (r->kind == SD_FILE_LORA) return factor_of(name) || sd_glob("bundle_emb.*", name);
    return r->kind != SD_FILE_UNKNOWN && r->kind > SD_FILE_TEXT;
}

static void count_target(sd_adapter *a, const char *name)
{
    size_t t = 0;
    int i = 0;
    while (!sd_glob_list(targets[t].glob, name)) t++;
    while (i < a->n_targets && strcmp(a->target[i].network, targets[t].network) != 0) i++;
    if (i == a->n_targets) a->target[a->n_targets++].network = targets[t].network;
    a->target[i].modules++;
    a->modules++;
}

static void widen_range(int rank, int *min, int *max)
{
    if (!rank) return;
    if (!*min || rank < *min) *min = rank;
    if (rank > *max) *max = rank;
}

static void add_alpha(sd_adapter *a, const sd_entry *t)
{
    float x;
    if (!sd_entry_floats(t, &x, 1)) return;
    if (a->alpha_max == 0 || x < a->alpha_min) a->alpha_min = x;
    if (a->alpha_max == 0 || x > a->alpha_max) a->alpha_max = x;
}

/* To which model do the changes belong? What attn2.to_k reads says it; without one, names that only one has. */
static void base_of_lora(const sd_store *s, sd_recognised *r)
{
    static const struct { const char *globs, *base; } names[] = {
        {"lora_te2_*,text_encoder_2.*,lora_unet_input_blocks_*", "SDXL"},
        {"*double_blocks*,*single_transformer_blocks*", "Flux"},
        {"*joint_blocks*", "SD 3"},
        {"lora_te_text_model_encoder_layers_12_*,text_encoder.*.layers.12.*", "SD 2"},
    };
    sd_adapter *a = &r->adapter;
    size_t n = sd_store_count(s);
    for (size_t i = 0; i < n && !a->base; i++) {
        const sd_entry *t = sd_store_at(s, i);
        const struct factor *f = factor_of(t->name);
        if (!f || !f->ranks || f->of == LOKR || !sd_glob("*attn2*to_k*", t->name)) continue;
        a->base = base_of(sd_entry_side(t, 1));
        if (a->base) sd_text_add(&r->why, "base %s: %s reads %d numbers\n", a->base, t->name, sd_entry_side(t, 1));
    }
    for (size_t i = 0; i < SD_COUNT(names) && !a->base; i++) {
        const sd_entry *t = first_like(s, names[i].globs);
        if (!t) continue;
        a->base = names[i].base;
        sd_text_add(&r->why, "base %s: the file has %s\n", a->base, t->name);
    }
}

static void describe_lora(const sd_store *s, sd_recognised *r)
{
    sd_adapter *a = &r->adapter;
    size_t n = sd_store_count(s), of[METHODS] = {0};
    bool convolutions = false;
    for (size_t i = 0; i < n; i++) {
        const sd_entry *t = sd_store_at(s, i);
        const struct factor *f = factor_of(t->name);
        if (!f) continue;
        if (f->of < METHODS) of[f->of]++;
        if (f->counts) count_target(a, t->name);
        if (f->ranks) widen_range(sd_entry_side(t, 0), &a->rank_min, &a->rank_max);
        if (f->naming && (!a->naming || strcmp(f->naming, "LyCORIS") == 0)) a->naming = f->naming;
        if (strcmp(f->end, ".alpha") == 0) add_alpha(a, t);
        convolutions = convolutions || (f->of == LORA && sd_entry_side(t, 2) > 1);
    }
    method most = LORA;
    for (method m = LORA; m < DORA; m++)
        if (of[m] > of[most]) most = m;
    a->method = of[DORA] ? method_names[DORA] : most == LORA && convolutions ? "LoCon" : method_names[most];
    r->kind_name = a->method;
    if (of[DORA]) sd_text_add(&r->why, "DoRA of %s: %zu tensors are magnitudes\n", method_names[most], of[DORA]);
    if (convolutions) sd_text_add(&r->why, "LoCon: convolutions with more than one pixel are changed too\n");
    base_of_lora(s, r);
    const sd_entry *lcm = first_like(s, "lora_unet_*time_emb_proj.lora_down.weight");
    if (lcm && a->n_targets == 1 && a->rank_min == 64 && a->rank_max == 64)
        sd_text_add(&r->why, "perhaps an LCM-LoRA: rank 64 everywhere, the UNet alone, and %s\n", lcm->name);
}

/* -------------------------------------------------------------------------------------- embeddings */

static bool is_width(int n) { return n == 768 || n == 1024 || n == 1280; }

/* diffusers' learned_embeds.bin has a tensor for each token, one or more vectors of a text encoder's width. No network
 * consists of a few such tensors alone. */
static const sd_entry *embedding_of_tokens(const sd_store *s)
{
    size_t n = sd_store_count(s);
    for (size_t i = 0; i < n; i++) {
        const sd_entry *t = sd_store_at(s, i);
        if (n > 128 || t->nd < 1 || t->nd > 2 || !is_width(sd_entry_side(t, t->nd - 1)) ||
            sd_glob_list("*.weight,*.bias,*.*.*", t->name))
            return NULL;
    }
    return n ? sd_store_at(s, 0) : NULL;
}

static void describe_embedding(const sd_store *s, sd_recognised *r)
{
    sd_adapter *a = &r->adapter;
    size_t n = sd_store_count(s);
    for (size_t i = 0; i < n; i++) {
        const sd_entry *t = sd_store_at(s, i);
        int width = t->nd ? sd_entry_side(t, t->nd - 1) : 0;
        if (!is_width(width)) continue;
        if (strcmp(t->name, "clip_g") == 0) {
            a->width[1] = width;
        } else {
            a->width[0] = width;
            a->vectors += t->nd == 2 ? sd_entry_side(t, 0) : 1;
        }
    }
    a->base = a->width[1] ? "SDXL" : base_of(a->width[0]);
    if (a->base) sd_text_add(&r->why, "base %s: %d vectors of %d%s numbers\n", a->base, a->vectors, a->width[0],
                             a->width[1] ? " and 1280" : "");
}

/* ------------------------------------------------------------------------------------- ControlNets */

static void describe_controlnet(const sd_store *s, sd_recognised *r)
{
    sd_adapter *a = &r->adapter;
    const sd_entry *k = first_like(s, "*attn2.to_k.weight"), *deep = first_like(s, "*transformer_blocks.9.*");
    const sd_entry *xl = first_like(s, "add_embedding.linear_1.weight,*label_emb.0.0.weight");
    a->naming = first_like(s, "controlnet_cond_embedding.*") ? "diffusers" : "LDM";
    a->base = xl ? "SDXL" : base_of(sd_entry_side(k, 1));
    if (xl) a->method = deep ? "ControlNet, large" : k ? "ControlNet, mid" : "ControlNet, small";
    if (xl) sd_text_add(&r->why, "base SDXL: the file has %s; %s\n", xl->name, deep ? "up to ten transformer blocks"
                        : k ? "few transformer blocks" : "no transformer block");
    else if (a->base) sd_text_add(&r->why, "base %s: %s reads %d numbers\n", a->base, k->name, sd_entry_side(k, 1));
    if (r->n_networks) sd_text_add(&r->why, "a whole model is in the file too\n");
}

/* A T2I-Adapter makes one pixel of each square of 8x8 (SD) or 16x16 (SDXL) pixels, with all their numbers as channels.
 * How many channels its first convolution reads tells which. */
static void describe_t2i(const sd_store *s, sd_recognised *r)
{
    static const struct { int channels; const char *base; } first[] = {
        {3 * 64, "SD 1"}, {64, "SD 1"}, {3 * 256, "SDXL"}, {256, "SDXL"}};
    const sd_entry *t = first_like(s, "conv_in.weight,adapter.conv_in.weight,adapter.body.0.in_conv.weight,"
                                      "body.0.in_conv.weight");
    for (size_t i = 0; i < SD_COUNT(first); i++)
        if (sd_entry_side(t, 1) == first[i].channels) r->adapter.base = first[i].base;
    if (!r->adapter.base) return;
    sd_text_add(&r->why, "base %s: %s reads %d channels\n", r->adapter.base, t->name, sd_entry_side(t, 1));
}

static void describe_context(const sd_store *s, sd_recognised *r)
{
    sd_adapter *a = &r->adapter;
    const sd_entry *k = first_like(s, "*to_k_ip.weight,*attn2.to_k.down");
    const sd_entry *deep = first_like(s, "*transformer_blocks_1_*");
    a->base = base_of(sd_entry_side(k, 1));
    if (a->base) sd_text_add(&r->why, "base %s: %s reads %d numbers\n", a->base, k->name, sd_entry_side(k, 1));
    if (a->base || !deep) return;
    a->base = "SDXL";   /* attentions of SD 1 and 2 have one block */
    sd_text_add(&r->why, "base SDXL: the file has %s\n", deep->name);
}

/* ---------------------------------------------------------------------------- small autoencoders */

/* The last convolution of each half, whose shape tells the number of latent channels. */
static const struct half { const char *key, *naming; bool encodes; int latents; } halves[] = {
    {"encoder.layers.14.weight", "diffusers", true, 0},
    {"decoder.layers.0.weight", "diffusers", false, 1},
    {"14.weight", "raw", true, 0},
    {"1.weight", "raw", false, 1},
    {"taesd_encoder.14.weight", "raw", true, 0},
    {"taesd_decoder.1.weight", "raw", false, 1},
};

/* Its first and last convolutions have 64 channels on their other side. */
static const sd_entry *half_of(const sd_store *s, const struct half *h)
{
    const sd_entry *t = sd_store_find(s, h->key);
    bool fits = t && t->nd == 4 && sd_entry_side(t, h->encodes ? 1 : 0) == 64 && sd_entry_side(t, h->latents) <= 16;
    return fits ? t : NULL;
}

static const sd_entry *small_autoencoder(const sd_store *s)
{
    static const char blocks[] = "encoder.layers.1.conv.0.weight,decoder.layers.2.conv.0.weight,1.conv.0.weight,"
                                 "3.conv.0.weight,taesd_encoder.1.conv.0.weight,taesd_decoder.3.conv.0.weight";
    for (size_t i = 0; i < SD_COUNT(halves) && first_like(s, blocks); i++)
        if (half_of(s, &halves[i])) return half_of(s, &halves[i]);
    sd_vae_config c;
    const char *root, *naming;
    for (int decoder = 0; decoder < 2; decoder++)   /* of another width, or with blocks in other places */
        if (sd_taesd_from_shapes(s, decoder, &c, &root, &naming) && c.levels) return sd_store_at(s, 0);
    return NULL;
}

static void describe_taesd(const sd_store *s, sd_recognised *r)
{
    static const char *const methods[] = {"", "TAESD encoder", "TAESD decoder", "TAESD"};
    int found = 0, latents = 0;
    for (size_t i = 0; i < SD_COUNT(halves); i++) {
        const sd_entry *t = half_of(s, &halves[i]);
        if (!t) continue;
        found |= halves[i].encodes ? 1 : 2;
        latents = sd_entry_side(t, halves[i].latents);
        r->adapter.naming = halves[i].naming;
        sd_text_add(&r->why, "its %s: %s\n", halves[i].encodes ? "encoder" : "decoder", t->name);
    }
    for (int decoder = 0; decoder < 2; decoder++) {
        sd_vae_config c;
        const char *root, *naming;
        if (found & 1 << decoder || !sd_taesd_from_shapes(s, decoder, &c, &root, &naming) || !c.levels) continue;
        r->adapter.naming = naming;
        found |= 1 << decoder;
        latents = c.latent_channels;
        sd_text_add(&r->why, "its %s: %d levels, %d channels\n", decoder ? "decoder" : "encoder", c.levels,
                    c.channels[0]);
    }
    r->adapter.method = methods[found];
    r->adapter.base = latents == 4 ? "SD 1, SD 2 or SDXL" : "a model with 16 latent channels";
    sd_text_add(&r->why, "%d latent channels: for %s\n", latents, r->adapter.base);
}

/* ----------------------------------------------------------------------------------- all of them */

typedef struct probe {
    const char *globs;             /* the name of one tensor fits; NULL: `find` looks */
    const sd_entry *(*find)(const sd_store *s);
    sd_file_kind kind;
    const char *name;
    void (*describe)(const sd_store *s, sd_recognised *r);
    bool beside;                   /* also in a file with networks of a model, which are then beside it */
    const char *refusal;
} probe;

#define LORA_GLOBS \
    "*.lora_down.weight,*.lora_A.weight,*.lora_A.default.weight,*_lora.down.weight,*.lora.down.weight," \
    "*.lora_linear_layer.down.weight,*.hada_w1_a,*.lokr_w1,*.lokr_w1_a,*.a1.weight,*.on_input,*.oft_blocks," \
    "*.oft_diag,*.oft_R.weight,*.oft_r.weight,*.diff,*.w_norm"
#define OTHER(globs, title) \
    {globs, NULL, SD_FILE_OTHER, title, NULL, true, title " is a network of another kind, which is not supported"}

/* In this order: the first that fits counts. */
static const probe probes[] = {
    {"lora_controlnet", NULL, SD_FILE_CONTROLNET, "Control-LoRA", describe_context, false,
     "a Control-LoRA is not supported"},
    {"lllite_unet*", NULL, SD_FILE_CONTROLNET, "ControlNet-LLLite", describe_context, false,
     "ControlNet-LLLite is not supported"},
    {"task_embedding,control_add_embedding.*", NULL, SD_FILE_CONTROLNET, "ControlNet-Union", describe_controlnet, false,
     "ControlNet-Union is not supported"},
    {"ip_adapter.*,image_proj.*,image_proj_model.*", NULL, SD_FILE_IP_ADAPTER, "IP-Adapter", describe_context, false,
     "an IP-Adapter is not supported"},
    {"control_model.*,input_hint_block.0.weight,controlnet_cond_embedding.conv_in.weight", NULL, SD_FILE_CONTROLNET,
     "ControlNet", describe_controlnet, true, NULL},
    {LORA_GLOBS, NULL, SD_FILE_LORA, "LoRA", describe_lora, false, NULL},
    OTHER("*individual_token_refiner*", "HunyuanVideo"),
    OTHER("*joint_blocks.*", "Stable Diffusion 3"),
    OTHER("*double_blocks.*,single_transformer_blocks.*,transformer.single_transformer_blocks.*", "Flux"),
    OTHER("*motion_modules.*", "AnimateDiff"),
    OTHER("*time_stack.*,*time_mixer.*,*temporal_transformer_blocks.*,*temporal_res_block.*", "Stable Video Diffusion"),
    OTHER("*blocks.0.cross_attn.norm_k.weight", "Wan"),
    OTHER("*adaln_single.*", "PixArt"),
    OTHER("*cap_embedder.*", "Lumina"),
    OTHER("*double_layers.*", "AuraFlow"),
    OTHER("*clip_txt_pooled_mapper.*,*clip_txt_mapper.*,clip_mapper.*", "Stable Cascade"),
    OTHER("mlp_t5.*", "Hunyuan-DiT"),
    OTHER("*t_embedder.mlp.0.weight,*pos_embed.proj.weight,model.diffusion_model.pos_embed", "a diffusion transformer"),
    OTHER("cc_projection.*", "Zero123"),
    OTHER("encoder_hid_proj.*,unet.encoder_hid_proj.*", "a UNet with projected encodings (Kandinsky, Kolors)"),
    {"adapter.body.*,body.*.block1.weight", NULL, SD_FILE_CONTROLNET, "T2I-Adapter", describe_t2i, false,
     "a T2I-Adapter is not supported"},
    {NULL, small_autoencoder, SD_FILE_TAESD, "TAESD", describe_taesd, false, NULL},
    {"*.sub.*.RDB1.conv1.0.weight", NULL, SD_FILE_UPSCALER, "ESRGAN, old names", NULL, false, NULL},
    {"*body.*.rdb1.conv1.weight,*RRDB_trunk.*", NULL, SD_FILE_UPSCALER, "ESRGAN", NULL, false, NULL},
    {"*residual_group.blocks.*", NULL, SD_FILE_UPSCALER, "SwinIR", NULL, false, NULL},
    {"320.*linear*,640.*linear*,768.*linear*,1024.*linear*,1280.*linear*", NULL, SD_FILE_HYPERNETWORK, "hypernetwork",
     NULL, false, "hypernetworks are not supported"},
    {"string_to_param.*,emb_params,clip_l,clip_g", NULL, SD_FILE_EMBEDDING, "textual inversion", describe_embedding,
     false, NULL},
    {NULL, embedding_of_tokens, SD_FILE_EMBEDDING, "textual inversion", describe_embedding, false, NULL},
    {"concept_embeds,special_care_embeds", NULL, SD_FILE_OTHER, "safety checker", NULL, false,
     "the safety checker is not supported, and not needed"},
    {"vision_model.embeddings.*,visual.*", NULL, SD_FILE_OTHER, "CLIP's encoder of pictures", NULL, false,
     "CLIP's encoder of pictures is not supported"},
    {"encoder.block.0.layer.0.SelfAttention.q.weight,*.encoder.block.0.layer.0.SelfAttention.q.weight", NULL,
     SD_FILE_OTHER, "T5", NULL, false, "the text encoder T5 is not supported"},
};

bool sd_recognise_adapter(const sd_store *s, sd_recognised *r)
{
    static const char *const says[] = {"ss_base_model_version", "modelspec.architecture"};
    for (size_t i = 0; i < SD_COUNT(probes); i++) {
        const probe *p = &probes[i];
        if (r->n_networks && !p->beside) continue;
        const sd_entry *t = p->globs ? first_like(s, p->globs) : p->find(s);
        if (!t) continue;
        r->kind = p->kind;
        r->kind_name = r->adapter.method = p->name;
        r->refusal = p->refusal;
        sd_text_add(&r->why, "%s: the file has %s\n", p->name, t->name);
        if (p->describe) p->describe(s, r);
        for (size_t k = 0; k < SD_COUNT(says) && !r->adapter.says; k++) r->adapter.says = sd_store_meta(s, says[k]);
        if (r->adapter.says) sd_text_add(&r->why, "the header says its base is %s\n", r->adapter.says);
        return true;
    }
    return false;
}
