/* convert.c - floor 6: writes an opened model into other files. */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

static sd_status write_file(sd_conversion *v)
{
    sd_texts texts = {0};
    if (!sd_convert_texts(v, &texts)) sd_convert_write(v, v->o.output, 0, v->n, &texts);
    sd_texts_free(&texts);
    return v->err->status;
}

static sd_status write_all(sd_conversion *v)
{
    bool directory = v->target == SD_TARGET_DIRECTORY;
    if (directory && !v->o.only && sd_probe(v->c)) return v->err->status;   /* scheduler_config.json has the answer */
    if (sd_convert_list(v)) return v->err->status;
    return directory ? sd_convert_directory(v) : write_file(v);
}

static sd_status read_type(sd_conversion *v)
{
    const char *name = v->o.type;
    v->keep = !name || strcmp(name, "keep") == 0;
    for (int d = SD_F32; d <= SD_Q6_K && !v->keep; d++) {
        v->to = (sd_dtype)d;
        if (sd_can_narrow(v->to) && sd_same_name(sd_dtype_name(v->to), name)) return SD_OK;
    }
    if (v->keep) return SD_OK;
    return sd_fail(v->err, SD_ERR_ARG,
                   "type must be keep, F32, F16, BF16, F64, F8_E4M3, F8_E5M2 or Q8_0, not \"%.40s\"", name);
}

static sd_status read_spelling(sd_conversion *v)
{
    const char *s = v->o.spelling;
    bool ldm = s && strcmp(s, "ldm") == 0, diffusers = s && strcmp(s, "diffusers") == 0, one = v->o.only;
    if (s && !ldm && !diffusers)
        return sd_fail(v->err, SD_ERR_ARG, "spelling must be ldm or diffusers, not \"%.40s\"", s);
    if (ldm && v->target == SD_TARGET_DIRECTORY)
        return sd_fail(v->err, SD_ERR_ARG, "a directory has diffusers' names: the spelling ldm is for single files");
    if (diffusers && v->target != SD_TARGET_DIRECTORY && !one)
        return sd_fail(v->err, SD_ERR_ARG, "no program reads a whole model in one file under diffusers' names: write "
                       "one part only, or a directory");
    v->ldm = v->target != SD_TARGET_DIRECTORY && !diffusers;
    return SD_OK;
}

/* Only a VAE has names in the files of CompVis. */
static sd_status check_has_names(const sd_conversion *v)
{
    const sd_module *x;
    for (int i = 0; v->ldm && (x = sd_convert_module(v, i)) != NULL; i++)
        if (x->kind->part == SD_PART_VAE && ((const sd_vae *)x->net)->cfg.tiny)
            return sd_fail(v->err, SD_ERR_UNSUPPORTED, "the model's VAE is a TAESD, for which a model's file has no "
                           "names: write a directory, or another part alone");
    return SD_OK;
}

/* Refuses to write over a file of the input: it is read while the output is written. */
static sd_status check_apart(const sd_conversion *v)
{
    char *to = sd_os_full_path(v->o.output);
    const sd_module *x;
    for (int i = 0; to && !v->err->status && (x = sd_convert_module(v, i)) != NULL; i++)
        for (size_t k = 0; k < x->files->n_files && !v->err->status; k++) {
            char *from = sd_os_full_path(x->files->file[k].path);
            if (from && strcmp(from, to) == 0)
                sd_fail(v->err, SD_ERR_ARG, "%s is the input: it cannot be the output too", v->o.output);
            free(from);
        }
    free(to);
    return v->err->status;
}

/* Not every other name is meant for a directory. */
static sd_status check_name(const sd_conversion *v)
{
    static const char *const not_written[] = {".ckpt", ".pt", ".pth", ".bin", ".onnx"};
    const char *path = v->o.output;
    if (strcmp(path, "-") == 0)
        return sd_fail(v->err, SD_ERR_ARG, "a model is not written to the standard output: name a file or a directory");
    for (size_t i = 0; i < SD_COUNT(not_written); i++)
        if (sd_has_ending(path, not_written[i]))
            return sd_fail(v->err, SD_ERR_ARG, "%s: files of this kind are not written; X.safetensors, X.gguf or a "
                           "directory's name are possible", path);
    return SD_OK;
}

static sd_status check_options(sd_conversion *v)
{
    const char *path = v->o.output;
    bool safetensors = sd_has_ending(path, ".safetensors"), gguf = sd_has_ending(path, ".gguf");
    v->target = safetensors ? SD_TARGET_SAFETENSORS : gguf ? SD_TARGET_GGUF : SD_TARGET_DIRECTORY;
    if (check_name(v) || read_type(v) || read_spelling(v)) return v->err->status;
    if (v->o.shard_bytes && v->target != SD_TARGET_DIRECTORY)
        return sd_fail(v->err, SD_ERR_ARG, "shards are for a directory, not for %s", path);
    if (!sd_convert_module(v, 0))
        return sd_fail(v->err, SD_ERR_ARG, "the input has no %s", v->o.only ? v->o.only : "weights");
    return check_has_names(v) ? v->err->status : check_apart(v);
}

static void tell(const sd_conversion *v)
{
    const sd_log *log = &v->c->log;
    if (v->dropped)
        sd_logf(log, SD_LOG_NOTICE, "%zu tensor%s that no network needs %s left out (%s%s)%s", v->dropped,
                v->dropped == 1 ? "" : "s", v->dropped == 1 ? "is" : "are", v->first_dropped,
                v->dropped == 1 ? "" : ", ...", v->o.keep_all ? "" : ": --keep-all keeps what it can");
    if (v->rescaled)
        sd_logf(log, SD_LOG_NOTICE, "%zu tensors with a scale of their own have become F32", v->rescaled);
}

void sd_convert_options_init_sized(sd_convert_options *o, size_t size)
{
    const sd_convert_options init = {.size = size};
    if (o) sd_copy_struct(o, size, &init, sizeof init);
}

sd_status sd_convert(sd_ctx *c, const sd_convert_options *o)
{
    if (sd_begin(c) || sd_check_not_null(c, "options", o)) return sd_end(c);
    sd_conversion v = {.c = c, .err = &c->err};
    if (o->size < offsetof(sd_convert_options, type) || o->size > sizeof v.o) {
        sd_fail(&c->err, SD_ERR_ARG, "options has a size of %zu bytes: call sd_convert_options_init first", o->size);
        return sd_end(c);
    }
    memcpy(&v.o, o, o->size);
    if (!sd_check_not_null(c, "output", v.o.output) && !check_options(&v) && !write_all(&v)) tell(&v);
    for (size_t i = 0; i < v.n; i++) free(v.out[i].name);
    free(v.out);
    return sd_end(c);
}
