/* synth.c - test helper: writes small models from their descriptions, compares results with goldens. See synth.h. */
#define _POSIX_C_SOURCE 200809L
#include "synth.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ------------------------------------------------------------------------- the description */

static sd_status describe(sd_description *d, const char *config, sd_error *e)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/net_%s.txt", config);
    return sd_describe(d, path, e);
}

/* --------------------------------------------------------------------------------- writing */

/* "TO FROM" */
static sd_status copy_file(const char *dir, char *rest, sd_error *e)
{
    char *from = strchr(rest, ' '), *data;
    size_t n;
    if (!from) return sd_fail(e, SD_ERR_FORMAT, "copy: %.100s", rest);
    *from++ = '\0';
    if (sd_read_file(from, (size_t)1 << 24, &data, &n, e)) return e->status;
    sd_write_into(dir, rest, data, n, e);
    free(data);
    return e->status;
}

/* The weights of one part, collected until its section ends. */
typedef struct section {
    char part[32], path[128];
    sd_tensor_set set;
} section;

/* In place. Only for numbers that both types have: no rounding here. */
static void narrow(float *x, size_t n, sd_dtype dt)
{
    uint16_t *out = (uint16_t *)(void *)x;
    for (size_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, (const char *)x + 4 * i, sizeof b);
        uint32_t half = (b >> 16) & 0x8000;
        if (b & 0x7FFFFFFF) half |= ((((b >> 23) & 255) - 127 + 15) << 10) | ((b >> 13) & 0x3FF);
        uint16_t v = (uint16_t)(dt == SD_BF16 ? b >> 16 : half);
        memcpy((char *)out + 2 * i, &v, sizeof v);
    }
}

static sd_status add_tensor(section *s, const char *word, const char *rest, bool bf16, const synth_options *o,
                            sd_error *e)
{
    sd_tensor_line t;
    if (sd_parse_tensor_line(&t, rest, e)) return e->status;
    if (o->without && sd_glob(o->without, t.name)) return SD_OK;
    float *data = sd_line_numbers(&t, word, "", s->part, bf16);
    if (data && o->dtype != SD_F32) narrow(data, t.n, o->dtype);
    size_t skip = o->no_prefix && strncmp(t.name, "text_model.", 11) == 0 ? 11 : 0;
    return sd_tensor_set_add(&s->set, t.name + skip, o->dtype, t.nd, t.dim, data, e);
}

sd_status synth_tensors(sd_tensor_set *set, const char *config, const char *part, const char *streams, sd_error *e)
{
    sd_description d;
    char *rest, *word, now[32] = "";
    sd_tensor_line t;
    if (describe(&d, config, e)) return e->status;
    while (!e->status && (word = sd_next_item(&d, &rest))) {
        if (strcmp(word, "weights") == 0) sscanf(rest, "%31s", now);
        if (!sd_is_tensor_line(word) || strcmp(now, part) != 0 || sd_parse_tensor_line(&t, rest, e)) continue;
        sd_tensor_set_add(set, t.name, SD_F32, t.nd, t.dim, sd_line_numbers(&t, word, streams, part, d.bf16), e);
    }
    free(d.text);
    return e->status;
}

/* The collected tensors as one file, or as shards with their index. */
static sd_status section_write(section *of, const char *dir, const synth_options *o, sd_error *e)
{
    char path[1024];
    sd_tensor_set *s = &of->set;
    size_t shards = o->shards > 1 ? (size_t)o->shards : 1;
    if (!s->n || sd_path_join(path, sizeof path, dir, of->path, e) || sd_make_parent(path, e)) return e->status;
    if (shards == 1) {
        sd_safetensors_write(path, s->tensor, s->n, e);
        sd_tensor_set_free(s);
        return e->status;
    }
    sd_text index = {0};
    sd_text_add(&index, "{\"metadata\":{\"total_size\":0},\"weight_map\":{");
    path[strlen(path) - strlen(".safetensors")] = '\0';
    for (size_t k = 0; k < shards && !e->status; k++) {
        char shard[1100];
        size_t from = k * s->n / shards, to = (k + 1) * s->n / shards;
        snprintf(shard, sizeof shard, "%s-%05zu-of-%05zu.safetensors", path, k + 1, shards);
        for (size_t i = from; i < to; i++)
            sd_text_add(&index, "%s\"%s\":\"%s\"", i ? "," : "", s->tensor[i].name, strrchr(shard, '/') + 1);
        sd_safetensors_write(shard, s->tensor + from, to - from, e);
    }
    sd_text_add(&index, "}}\n");
    snprintf(path, sizeof path, "%s.index.json", of->path);
    if (index.failed) sd_fail(e, SD_ERR_MEMORY, "no memory for an index");
    else if (!e->status) sd_write_into(dir, path, index.s, index.n, e);
    free(index.s);
    sd_tensor_set_free(s);
    return e->status;
}

sd_status synth_write_model(const char *dir, const char *config, const synth_options *options, sd_error *e)
{
    synth_options o = {0};
    section s = {0};
    sd_description d;
    char *rest, *word;
    if (options) o = *options;
    if (describe(&d, config, e)) return e->status;
    if (o.dtype != SD_F32 && (!d.bf16 || (o.dtype != SD_F16 && o.dtype != SD_BF16)))
        sd_fail(e, SD_ERR_ARG, "%s has numbers that %s has not", config, sd_dtype_name(o.dtype));
    while (!e->status && (word = sd_next_item(&d, &rest))) {
        if (sd_is_tensor_line(word)) {
            add_tensor(&s, word, rest, d.bf16, &o, e);
            continue;
        }
        section_write(&s, dir, &o, e);
        if (strcmp(word, "file") == 0) {
            char *json = strchr(rest, ' ');
            if (!json) sd_fail(e, SD_ERR_FORMAT, "no file: %.100s", rest);
            if (json) *json++ = '\0';
            if (json && !e->status) sd_write_into(dir, rest, json, strlen(json), e);
        } else if (strcmp(word, "copy") == 0) {
            copy_file(dir, rest, e);
        } else if (strcmp(word, "weights") == 0 && sscanf(rest, "%31s %127s", s.part, s.path) != 2) {
            sd_fail(e, SD_ERR_FORMAT, "no weights: %.100s", rest);
        }
    }
    if (!e->status) section_write(&s, dir, &o, e);
    sd_tensor_set_free(&s.set);
    free(d.text);
    return e->status;
}

/* ------------------------------------------------------------------------- inputs and runs */

float *synth_input(const char *config, const char *name, int64_t dim[4], sd_error *e)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/net_%s.txt", config);
    return sd_synth_input(path, name, dim, e);
}

sd_status synth_runs(synth_run_list *runs, const char *config, sd_error *e)
{
    sd_description d;
    char *rest, *word;
    memset(runs, 0, sizeof *runs);
    if (describe(&d, config, e)) return e->status;
    while ((word = sd_next_item(&d, &rest))) {
        if (strcmp(word, "prompt") == 0) snprintf(runs->prompt, sizeof runs->prompt, "%s", rest);
        if (strcmp(word, "negative") == 0) snprintf(runs->negative, sizeof runs->negative, "%s", rest);
        if (strcmp(word, "run") != 0) continue;
        synth_run *r = &runs->run[runs->n];
        if (runs->n == SYNTH_MAX_RUNS ||
            sscanf(rest, "%31s %15s %d %d %d %lf %llu %d %lf", r->name, r->sampler, &r->width, &r->height, &r->steps,
                   &r->guidance, &r->seed, &r->batch, &r->eta) != 9) {
            sd_fail(e, SD_ERR_FORMAT, "no run: %.100s", rest);
            break;
        }
        if (strcmp(r->sampler, "-") == 0) r->sampler[0] = '\0';
        runs->n++;
    }
    free(d.text);
    return e->status;
}

/* ----------------------------------------------------------------------------- the goldens */

sd_status golden_open(golden *g, const char *config, sd_error *e)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/net_%s.safetensors", config);
    return sd_golden_open(g, path, e);
}

bool golden_read_i64(golden *g, const char *name, int64_t *out, size_t n)
{
    sd_entry *t = sd_golden_entry(g, name, "");
    if (!t || t->dt != SD_I64 || t->bytes != 8 * n) return false;
    t->used = true;
    memcpy(out, t->data, t->bytes);
    return true;
}

double golden_least_mistake(const golden *g, const char *part, const char **name)
{
    char prefix[64];
    double least = 0;
    *name = "";
    snprintf(prefix, sizeof prefix, "wrong.%s.", part);
    for (size_t i = 0; i < g->file.n; i++) {
        const sd_entry *t = &g->file.entry[i];
        if (strncmp(t->name, prefix, strlen(prefix)) != 0 || t->dt != SD_F32 || t->bytes != 4) continue;
        float error;   /* the mapping need not be aligned */
        memcpy(&error, t->data, sizeof error);
        if (!**name || (double)error < least) {
            least = (double)error;
            *name = t->name;
        }
    }
    return least;
}
