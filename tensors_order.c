/* tensors_order.c - floor 3: which of two names of a trace is computed first, by the names alone.
 *
 * A name is a path. Its beginning says which stage of a run it is from. Then its parts are compared one by one: known
 * words by their place in a table, numbers by size, others by alphabet. A module's output comes after those of the
 * modules inside it. Blocks that take turns, resnets.0, attentions.0, resnets.1, are compared by number first. */
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

/* The stages of a run. `each`: there is one for each evaluation, and a number follows. */
static const struct { const char *begin; int stage; bool each; } stages[] = {
    {"tokens", 0, false}, {"text_encoder", 1, false}, {"text_encoder_2", 2, false}, {"prompt_embeds", 3, false},
    {"noise", 4, false}, {"vae.encoder", 5, false}, {"vae.quant_conv", 6, false}, {"masked_image", 7, false},
    {"image_latents", 8, false}, {"mask", 8, false}, {"masked_image_latents", 8, false},
    {"latents", 10, true}, {"timestep", 11, true}, {"step", 12, true}, {"vae", 20, false}, {"image", 21, false},
};
enum { FIRST_OF_STEP = 10, LAST_OF_STEP = 12, OTHER_STAGE = 30 };

/* Modules in the order of execution, whatever they are inside: no two networks disagree. */
static const char *const words[] = {
    "text_model", "embeddings", "layer_norm1", "q_proj", "k_proj", "v_proj", "out_proj", "self_attn", "layer_norm2",
    "fc1", "activation_fn", "fc2", "mlp", "encoder", "final_layer_norm", "text_projection", "unet",
    "post_quant_conv", "decoder", "time_proj", "time_embedding", "add_time_proj", "add_embedding", "linear_1", "act",
    "linear_2", "conv_in", "down_blocks", "norm", "group_norm", "proj_in", "transformer_blocks", "norm1", "conv1",
    "attn1", "time_emb_proj", "norm2", "conv2", "attn2", "norm3", "to_q", "to_k", "to_v", "to_out", "ff", "net",
    "proj", "proj_out", "conv_shortcut", "resnets", "attentions", "downsamplers", "upsamplers", "mid_block",
    "up_blocks", "conv", "conv_norm_out", "conv_act", "conv_out", "quant_conv", "noise_pred_uncond", "noise_pred_text",
    "noise_pred_image", "noise_pred", "denoised",
};

typedef struct stage { int of; long step; const char *rest; } stage;

static size_t part_length(const char *s) { return strcspn(s, "."); }

static stage stage_of(const char *name)
{
    stage s = {OTHER_STAGE, 0, name};
    size_t longest = 0;
    for (size_t i = 0; i < SD_COUNT(stages); i++) {
        size_t n = strlen(stages[i].begin);
        if (n <= longest || !sd_begins_with(name, stages[i].begin) || (name[n] && name[n] != '.')) continue;
        longest = n;
        s.of = stages[i].stage;
        s.rest = name + n + (name[n] == '.');
        s.step = stages[i].each ? strtol(s.rest, NULL, 10) : 0;
    }
    return s;
}

static bool is_number(const char *s, size_t n) { return n && n < 10 && strspn(s, "0123456789") >= n; }

static size_t rank(const char *s, size_t n)
{
    size_t i = 0;
    while (i < SD_COUNT(words) && !(strlen(words[i]) == n && memcmp(words[i], s, n) == 0)) i++;
    return i;
}

static int by_size(long a, long b) { return (a > b) - (a < b); }

static int compare_parts(const char *a, size_t m, const char *b, size_t n)
{
    if (is_number(a, m) && is_number(b, n)) return by_size(strtol(a, NULL, 10), strtol(b, NULL, 10));
    size_t p = rank(a, m), q = rank(b, n);
    if (p != q) return p < q ? -1 : 1;
    int order = strncmp(a, b, m < n ? m : n);
    return order ? order : by_size((long)m, (long)n);
}

/* Of "resnets.3.conv1" 3; -1 of what takes no turns with others. */
static long turn(const char *s)
{
    static const char *const alternate[] = {"resnets.", "attentions."};
    for (size_t i = 0; i < SD_COUNT(alternate); i++)
        if (sd_begins_with(s, alternate[i])) return strtol(s + strlen(alternate[i]), NULL, 10);
    return -1;
}

static int compare_paths(const char *a, const char *b)
{
    while (*a && *b) {
        size_t m = part_length(a), n = part_length(b);
        long p = turn(a), q = turn(b);
        if (p >= 0 && q >= 0 && p != q) return by_size(p, q);
        int order = compare_parts(a, m, b, n);
        if (order) return order;
        a += m + (a[m] == '.');
        b += n + (b[n] == '.');
    }
    return *b ? 1 : *a ? -1 : 0;
}

int sd_trace_order(const char *a, const char *b)
{
    stage s = stage_of(a), t = stage_of(b);
    bool in_steps = s.of >= FIRST_OF_STEP && s.of <= LAST_OF_STEP && t.of >= FIRST_OF_STEP && t.of <= LAST_OF_STEP;
    if (in_steps && s.step != t.step) return by_size(s.step, t.step);
    if (s.of != t.of) return by_size(s.of, t.of);
    return compare_paths(s.rest, t.rest);
}
