/* sd.c - floor 6: the public interface: contexts, sd_generate, and reading and writing files for the caller. */
#include "cond.h"
#include "pipeline_task.h"
#include "pipeline_edit.h"
#include "params.h"
#include "profile.h"
#include "rng.h"
#include "tensors.h"
#include "trace_table.h"
#include "unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifndef SD_DATADIR
#define SD_DATADIR "/usr/local/share/sd"
#endif

/* ------------------------------------------------------------------------------- small things */

const char *sd_version(void) { return SD_VERSION; }

const char *sd_build_info(void)
{
    return "kernels: scalar"
#ifdef SD_HAVE_SSE2
           " sse2"
#endif
#ifdef SD_HAVE_AVX2
           " avx2"
#endif
#ifdef SD_HAVE_AVX512
           " avx512"
#endif
#ifdef SD_HAVE_NEON
           " neon"
#endif
#ifdef SD_WITH_SIMDE
           ", emulated avx512 and neon"
#endif
#ifdef SD_WITH_OPENBLAS
           "; OpenBLAS"
#else
           "; no BLAS"
#endif
#ifdef _OPENMP
           ", OpenMP"
#else
           ", no OpenMP"
#endif
#ifdef SD_WITH_UTF8PROC
           ", utf8proc"
#else
           ", no utf8proc (ASCII prompts only)"
#endif
#ifdef SD_WITH_PNG
           ", libpng"
#else
           ", no libpng (writes PPM)"
#endif
#ifdef SD_WITH_JPEG
           ", libjpeg"
#else
           ", no libjpeg (reads no JPEG)"
#endif
#ifdef SD_WITH_ZLIB
           ", zlib"
#else
           ", no zlib (reads no compressed .ckpt)"
#endif
#ifdef SD_WITH_OPENCL
           ", OpenCL"
#else
           ", no OpenCL"
#endif
        ;
}

void sd_free(void *p) { free(p); }

void sd_options_init_sized(sd_options *o, size_t size)
{
    const sd_options init = {.size = size, .parts = SD_PART_ALL, .threads = SD_DEFAULT};
    if (o) sd_copy_struct(o, size, &init, sizeof init);
}

void sd_randn(uint64_t seed, float *out, size_t n)
{
    sd_rng rng;
    sd_rng_seed(&rng, seed);
    if (out) sd_rng_normal(&rng, out, n);
}

const char *sd_error_text(const sd_ctx *c) { return c ? c->err.text : "out of memory"; }
const char *sd_error_place(const sd_ctx *c) { return c ? c->err.place : ""; }

void sd_cancel(sd_ctx *c)
{
    if (c) sd_flag_set(&c->halt.stop, 1);
}

void sd_abandon(sd_ctx *c)
{
    if (c && sd_flag_get(&c->halt.writing)) sd_os_remove_now(c->halt.temp);
}


void sd_set_progress(sd_ctx *c, void (*fn)(void *, const sd_progress *), void *user)
{
    if (!c) return;
    c->progress = fn;
    c->progress_user = user;
}

void sd_set_random_draw(sd_ctx *c, void (*fn)(void *, const sd_random_draw *), void *user)
{
    if (!c) return;
    c->random_draw = fn;
    c->random_draw_user = user;
}

void sd_set_step(sd_ctx *c, void (*fn)(void *user, const sd_denoised *step), void *user)
{
    if (!c) return;
    c->step = fn;
    c->step_user = user;
}

void sd_get_timings_sized(const sd_ctx *c, sd_timings *t, size_t size)
{
    const sd_timings none = {0};
    if (t) sd_copy_struct(t, size, c ? &c->timings : &none, sizeof none);
}

int sd_default_model(const char *program_dir, char *path, size_t size)
{
    if (!path || !size) return 0;
    const char *chosen = getenv("SD_MODEL");
    /* sd_open will check whether it exists */
    if (chosen && *chosen) return snprintf(path, size, "%s", chosen) < (int)size;
    const char *const dirs[] = {program_dir, SD_DATADIR, "."}, *const sub[] = {"weights/tiny", "tiny", "weights/tiny"};
    for (size_t i = 0; i < SD_COUNT(dirs); i++) {
        if (!dirs[i]) continue;
        int n = snprintf(path, size, "%s/%s", dirs[i], sub[i]);
        sd_error unknown = {.status = SD_OK};   /* sd_open will report it */
        if (n > 0 && (size_t)n < size && (sd_find_dir(path, &unknown) || unknown.status)) return 1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------ opening */

bool sd_find_data(const char *installed, const char *beside, char path[4096])
{
    char program[3072] = "";
    if (!sd_os_program_path(program, sizeof program)) *program = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    const char *const dirs[] = {slash ? program : NULL, SD_DATADIR, "."}, *const files[] = {beside, installed, beside};
    for (size_t i = 0; i < SD_COUNT(dirs); i++) {
        if (!dirs[i] || snprintf(path, 4096, "%s/%s", dirs[i], files[i]) >= 4096) continue;
        if (sd_is_file(path) && !sd_is_absent(path)) return true;
    }
    return false;
}

/* CLIP's merges are the same in every published model. */
static const char *find_merges(char dir[4096])
{
    if (!sd_find_data("merges.txt", "weights/merges.txt", dir)) return NULL;
    *strrchr(dir, '/') = 0;
    return dir;
}

static const char *gemm_name(const sd_ctx *c) { return c->cpu.blas ? "openblas" : "own"; }

static sd_status choose_gemm(sd_ctx *c, const sd_options *o)
{
    if (o->gemm < SD_GEMM_OWN || o->gemm > SD_GEMM_OPENBLAS)
        return sd_fail(&c->err, SD_ERR_ARG, "gemm must be SD_GEMM_OWN or SD_GEMM_OPENBLAS, not %d", o->gemm);
    if (o->gemm == SD_GEMM_OWN) return SD_OK;
    if (o->precise)
        return sd_fail(&c->err, SD_ERR_ARG, "precise adds in double, which OpenBLAS does not: choose one of them");
    if (!sd_blas_load(&c->openblas, &c->err)) c->cpu.blas = &c->openblas;
    return c->err.status;
}

/* As many as the caller wants; else one for each core that the process may use. */
static void choose_threads(sd_ctx *c, const sd_options *o)
{
    c->cpu.threads = o->threads > 0 ? o->threads : sd_cores_usable();
#ifndef _OPENMP
    if (o->threads > 1)
        sd_logf(&c->log, SD_LOG_WARNING, "this build has no OpenMP: one thread instead of %d", o->threads);
    c->cpu.threads = 1;
#endif
}

static sd_status choose_kernels(sd_ctx *c, const sd_options *o)
{
    const char *isa = getenv("SD_ISA");
    c->cpu.kern = (o->precise ? sd_kern_select_precise : sd_kern_select)(isa && *isa ? isa : NULL);
    if (!c->cpu.kern) return sd_fail(&c->err, SD_ERR_ARG, "SD_ISA=%.40s is unknown or cannot run on this machine", isa);
    choose_threads(c, o);
    c->cpu.caches = sd_caches_find();
    if (choose_gemm(c, o)) return c->err.status;
    sd_logf(&c->log, SD_LOG_DETAIL, "kernels %s, products %s, %d threads", c->cpu.kern->name, gemm_name(c),
            c->cpu.threads);
    const sd_cache_sizes *s = &c->cpu.caches;
    sd_logf(&c->log, SD_LOG_DETAIL, "caches of %zu, %zu and %zu KB (%s)", s->l1 >> 10, s->l2 >> 10, s->l3 >> 10,
            s->from);
    return SD_OK;
}

/* Parts without networks need no device. */
static sd_status choose_device(sd_ctx *c, const sd_options *o)
{
    const char *own = o->precise ? "precise adds in double" : c->cpu.blas ? "OpenBLAS multiplies" : NULL;
    if (own && o->device && *o->device && strcmp(o->device, "cpu") != 0)
        return sd_fail(&c->err, SD_ERR_ARG, "%s on the CPU, not on %.60s: choose one of them", own, o->device);
    bool computes = o->parts & (SD_PART_TEXT | SD_PART_UNET | SD_PART_VAE);
    return sd_device_open(&c->run, &c->cpu, own || !computes ? "cpu" : o->device, o->cache, &c->log);
}

static sd_status open_all(sd_ctx *c, const sd_options *o)
{
    char path[4096];
    if (!o->model && !sd_default_model(NULL, path, sizeof path))
        return sd_fail(&c->err, SD_ERR_MISSING,
                       "no model given, and the default model is neither in weights/tiny nor in %s/tiny", SD_DATADIR);
    if (o->threads != SD_DEFAULT && (o->threads < 1 || o->threads > 1024))
        return sd_fail(&c->err, SD_ERR_ARG, "threads must be 1 to 1024, not %d", o->threads);
    if (choose_kernels(c, o) || choose_device(c, o)) return c->err.status;
    char merges[4096];
    const sd_model_request q = {.path = o->model ? o->model : path, .options = o, .merges = find_merges(merges),
                                .log = &c->log};
    if (sd_model_open(&c->model, &q, &c->err) || !o->refiner) return c->err.status;
    return sd_open_refiner(c, o, q.merges);
}

/* Takes over the caller's options, which may come from another version of sd.h; NULL: the defaults. */
static sd_status take_options(sd_options *out, const sd_options *given, sd_error *e)
{
    sd_options_init(out);
    if (!given) return SD_OK;
    size_t size = given->size;
    if (size < offsetof(sd_options, parts) || size > sizeof *out)
        return sd_fail(e, SD_ERR_ARG,
                       "options has a size of %zu bytes, %zu are the most here: call sd_options_init first", size,
                       sizeof *out);
    memcpy(out, given, size);
    out->size = sizeof *out;
    if (!out->parts) out->parts = SD_PART_ALL;
    if (out->residency == SD_DEFAULT) out->residency = SD_RESIDENCY_MAP;
    if (out->gemm == SD_DEFAULT) out->gemm = SD_GEMM_OWN;
    if (out->precise == SD_DEFAULT) out->precise = 0;
    if (out->ema == SD_DEFAULT) out->ema = 0;
    if (out->taesd_preview_only == SD_DEFAULT) out->taesd_preview_only = 0;
    return SD_OK;
}

sd_status sd_open(sd_ctx **out, const sd_options *options)
{
    double start = sd_now();
    sd_options o;
    if (!out) return SD_ERR_ARG;
    sd_ctx *c = *out = calloc(1, sizeof *c);
    if (!c) return SD_ERR_MEMORY;
    take_options(&o, options, &c->err);
    c->log = (sd_log){o.log, o.user};
    c->err.halt = &c->halt;
    c->halt.memory = o.memory;
    c->vae_memory = o.vae_memory;
    c->run = (sd_run){.err = &c->err, .be = &sd_backend_cpu, .device = &c->cpu};
    c->depth = 1;
    if (!c->err.status && !open_all(c, &o)) sd_fail_if_stopped(&c->err);
    c->timings.load = sd_now() - start;
    c->broken = c->err;
    return sd_end(c);
}

void sd_close(sd_ctx *c)
{
    if (!c) return;
    sd_trace_abort(c->run.trace);
    free(c->run.profile);
    sd_apart_free(&c->apart);
    sd_device_close(&c->run);
    sd_model_close(&c->model);
    sd_model_close(&c->refiner);
    free(c->step_seconds);
    free(c);
}

sd_status sd_get_info_sized(const sd_ctx *c, sd_model_info *info, size_t size)
{
    if (!c || c->broken.status) return c ? c->broken.status : SD_ERR_MEMORY;
    if (!info) return SD_ERR_ARG;
    const sd_model *m = &c->model;
    bool vae = m->parts & SD_PART_VAE;
    int scale = vae ? sd_vae_scale(&m->vae->cfg) : 8;
    const sd_cond_plan *plan = sd_cond_plan_of(m);
    const sd_task *task = m->unet->cfg.in_channels ? sd_task_of(&m->unet->cfg) : NULL;
    sd_own_values own = sd_own_values_of(m);
    const sd_model_info all = {
        .path = m->path,
        .prediction = sd_prediction_name(m->sched.prediction),
        .sampler = sd_method_name(m->sched.method),
        .width = scale * m->unet->cfg.width,
        .height = scale * m->unet->cfg.height,
        .scale = scale,
        .latent_channels = vae ? m->vae->cfg.latent_channels : m->unet->cfg.out_channels,
        .context_dim = m->parts & SD_PART_TEXT ? sd_cond_width(m, plan) : m->unet->cfg.context_dim,
        .scaling_factor = m->vae->cfg.scaling_factor,
        .kernels = c->cpu.kern ? c->cpu.kern->name : "none",
        .gemm = gemm_name(c),
        .threads = c->cpu.threads,
        .family = m->family ? m->family->name : "",
        .layout = m->layout,
        .prediction_why = m->prediction_why,
        .in_channels = m->unet->cfg.in_channels,
        .pooled_dim = sd_cond_pooled_width(m, plan),
        .time_ids = plan->n_ids,
        .class_labels = m->unet->cfg.class_embeds,
        .time_cond_dim = m->unet->cfg.time_cond_dim,
        .task = task ? task->name : "",
        .enlarges = task && task->enlarges ? scale : 1,
        .steps = own.steps,
        .guidance_scale = own.guidance,
        .encoding_factor = m->encoder->cfg.scaling_factor,
        .device = sd_device_name(&c->run),
        .text_encoders = m->parts & SD_PART_TEXT ? plan->encoders : 0,
    };
    sd_copy_struct(info, size, &all, sizeof all);
    return SD_OK;
}

sd_status sd_measure_roofs_sized(sd_ctx *c, double seconds, sd_roofs *roofs, size_t size)
{
    sd_roofs all = {0};
    if (sd_begin(c) || sd_check_not_null(c, "roofs", roofs)) return sd_end(c);
    if (!(seconds > 0 && seconds <= 60))
        sd_fail(&c->err, SD_ERR_ARG, "a measurement takes up to 60 seconds, not %g", seconds);
    else sd_device_roofs(&c->run, &c->cpu, seconds, &all);
    sd_copy_struct(roofs, size, &all, sizeof all);
    return sd_end(c);
}

sd_status sd_devices(const char *device, int check, void (*fn)(void *user, const sd_device_info *device), void *user,
                     char error[512])
{
    sd_error e = {.status = SD_OK};
    if (!fn) sd_fail(&e, SD_ERR_ARG, "a list of devices needs a function that takes it");
    else sd_device_list(device, check, fn, user, &e);
    if (error) snprintf(error, 512, "%s", e.text);
    return e.status;
}

sd_status sd_tune(const char *device, const char *cache, int (*fn)(void *user, const sd_tuned *tuned), void *user,
                  char error[512])
{
    sd_error e = {.status = SD_OK};
    sd_device_tune(device, cache, fn, user, &e);
    if (error) snprintf(error, 512, "%s", e.text);
    return e.status;
}

/* -------------------------------------------------------------------------------------- trace */

static sd_status set_trace(sd_ctx *c, sd_trace *t)
{
    sd_trace_abort(c->run.trace);
    c->run.trace = t;
    return sd_end(c);
}

sd_status sd_set_trace(sd_ctx *c, const char *filter, void (*fn)(void *, const sd_traced *), void *user)
{
    sd_trace *t = NULL;
    if (sd_begin(c)) return sd_end(c);
    if (fn) sd_trace_to_callback(&t, filter, fn, user, &c->err);
    return set_trace(c, t);
}

sd_status sd_trace_open(sd_ctx *c, const char *path, const char *filter)
{
    sd_trace *t = NULL;
    if (sd_begin(c)) return sd_end(c);
    if (!sd_check_not_null(c, "the trace's path", path)) sd_trace_to_file(&t, filter, path, &c->err);
    return set_trace(c, t);
}

sd_status sd_trace_stop_after(sd_ctx *c, const char *name)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "the tensor's name", name))
        sd_trace_add_stop(&c->run.trace, name, &c->err);
    return sd_end(c);
}

static sd_status add_table(sd_ctx *c, const char *path, const char *filter, bool hashes)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "the table's path", path))
        sd_trace_to_table(&c->run.trace, filter, path, hashes, &c->err);
    return sd_end(c);
}

sd_status sd_trace_stats(sd_ctx *c, const char *path, const char *filter) { return add_table(c, path, filter, false); }

sd_status sd_trace_hashes(sd_ctx *c, const char *path, const char *filter) { return add_table(c, path, filter, true); }

sd_status sd_trace_close(sd_ctx *c)
{
    if (sd_begin(c)) return sd_end(c);
    if (c->run.trace) sd_trace_finish(c->run.trace, &c->err);
    c->run.trace = NULL;
    return sd_end(c);
}

sd_status sd_set_profile(sd_ctx *c, void (*fn)(void *, const sd_profiled *), void *user)
{
    if (sd_begin(c)) return sd_end(c);
    free(c->run.profile);
    c->run.profile = fn ? sd_profile_new(c->cpu.threads, fn, user) : NULL;
    if (fn && !c->run.profile) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for a profile");
    return sd_end(c);
}

/* --------------------------------------------------------------------------------------- drawing */

/* A run that was to end after a tensor has done so. */
static void forgive_stop(sd_ctx *c)
{
    if (sd_trace_stopped(c->run.trace) && c->err.status == SD_ERR_CANCELLED) sd_error_clear(&c->err);
}

sd_status sd_generate(sd_ctx *c, const sd_params *params, sd_image *images)
{
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "images", images))
        return sd_end(c);
    const char *filter;
    for (int i = 0; (filter = sd_trace_strict_filter(c->run.trace, i)) && !c->err.status; i++)
        sd_rehearse(c, params, filter, NULL, NULL);
    if (!c->err.status) sd_run_pipeline(c, params, images, NULL, 0);
    forgive_stop(c);
    return sd_end(c);
}

sd_status sd_generate_latents(sd_ctx *c, const sd_params *params, float *latents, size_t count)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "params", params) && !sd_check_not_null(c, "latents", latents))
        sd_run_pipeline(c, params, NULL, latents, count);
    forgive_stop(c);
    return sd_end(c);
}

/* ------------------------------------------------------------------------- pictures and tensors in files */

static void warn_unended(sd_ctx *c, const char *path, bool unended)
{
    if (unended) sd_logf(&c->log, SD_LOG_WARNING, "%s is cut off behind its pixels: all of them are there", path);
}

sd_status sd_image_read(sd_ctx *c, const char *path, sd_image *image)
{
    bool unended;
    if (image) *image = (sd_image){0};
    if (!sd_begin(c) && !sd_check_not_null(c, "image", image) && !sd_check_not_null(c, "path", path)
        && !sd_image_load(image, path, NULL, &unended, &c->err))
        warn_unended(c, path, unended);
    return sd_end(c);
}

sd_status sd_image_size(sd_ctx *c, const char *path, int *width, int *height)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !sd_check_not_null(c, "width", width)
        && !sd_check_not_null(c, "height", height))
        sd_image_sides(width, height, path, &c->err);
    return sd_end(c);
}

sd_status sd_image_read_fitted(sd_ctx *c, const char *path, int width, int height, const char *how, sd_image *image,
                               char hash[33])
{
    sd_fitted f = {.width = width, .height = height};
    bool unended;
    if (image) *image = (sd_image){0};
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !sd_check_not_null(c, "image", image)
        && !sd_check_not_null(c, "hash", hash) && !sd_fit_parse(&f.fit, how, &c->err)
        && !sd_image_load(image, path, &f, &unended, &c->err)) {
        memcpy(hash, f.hash, sizeof f.hash);
        warn_unended(c, path, unended);
    }
    return sd_end(c);
}

sd_status sd_image_resize(sd_ctx *c, const sd_image *image, int width, int height, const char *how, sd_image *out)
{
    sd_fit fit;
    if (out) *out = (sd_image){0};
    if (sd_begin(c) || sd_check_image(c, "the picture", image) || sd_check_not_null(c, "out", out)) return sd_end(c);
    sd_image opaque = {0};
    if (image->channels == 4 && !sd_image_to_rgb(&opaque, image, NULL, &c->err)) image = &opaque;
    if (!sd_fit_parse(&fit, how, &c->err))
        sd_image_fit(out, image, width, height, fit, SD_FILTER_LANCZOS, NULL, &c->err);
    sd_image_free(&opaque);
    return sd_end(c);
}

sd_status sd_image_to_floats(sd_ctx *c, const sd_image *image, float *out)
{
    if (!sd_begin(c) && !sd_check_image(c, "the picture", image) && !sd_check_not_null(c, "out", out))
        sd_image_to_float(out, image);
    return sd_end(c);
}

sd_status sd_image_from_floats(sd_ctx *c, int width, int height, const float *from, sd_image *image)
{
    if (image) *image = (sd_image){0};
    if (!sd_begin(c) && !sd_check_not_null(c, "image", image) && !sd_check_not_null(c, "from", from))
        sd_image_from_float(image, width, height, from, false, SD_BYTES_ROUND, &c->err);
    return sd_end(c);
}

sd_status sd_image_write(sd_ctx *c, const char *path, const sd_image *image, const char *text)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !sd_check_image(c, "the picture", image)
        && (!text || !sd_utf8_check(text, "the picture's text", &c->err)))
        sd_image_save(path, image, text, &c->err);
    return sd_end(c);
}

sd_status sd_tensors_write(sd_ctx *c, const char *path, const sd_traced *tensors, size_t n)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !(n && sd_check_not_null(c, "tensors", tensors)))
        sd_write_tensors(path, tensors, n, &c->err);
    return sd_end(c);
}

sd_status sd_tensor_read(sd_ctx *c, const char *path, const char *name, float **data, int *nd, int64_t dim[4])
{
    if (data) *data = NULL;
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !sd_check_not_null(c, "data", data)
        && !sd_check_not_null(c, "nd", nd) && !sd_check_not_null(c, "dim", dim))
        sd_read_floats(path, name, data, nd, dim, &c->err);
    return sd_end(c);
}

static sd_status depth_of_picture(sd_ctx *c, const char *path, float **depth, int *width, int *height)
{
    sd_image image = {0}, grey = {0};
    bool unended;
    if (!sd_image_load(&image, path, NULL, &unended, &c->err) && !sd_mask_from_luma(&grey, &image, &c->err)) {
        size_t n = (size_t)grey.width * (size_t)grey.height;
        warn_unended(c, path, unended);
        *width = grey.width;
        *height = grey.height;
        *depth = malloc(n * sizeof **depth);
        for (size_t i = 0; i < n && *depth; i++) (*depth)[i] = grey.data[i];
        if (!*depth) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the depth map %s", path);
    }
    sd_image_free(&image);
    sd_image_free(&grey);
    return c->err.status;
}

static sd_status depth_of_numbers(sd_ctx *c, const char *path, float **depth, int *width, int *height)
{
    int nd;
    int64_t d[4];
    if (sd_read_floats(path, "depth", depth, &nd, d, &c->err)) return c->err.status;
    int64_t ones = 1, h = nd > 1 ? d[nd - 2] : 0, w = nd > 1 ? d[nd - 1] : 0;
    for (int i = 0; i < nd - 2; i++) ones *= d[i];
    if (ones != 1 || h < 1 || w < 1 || h > SD_IMAGE_SIDE || w > SD_IMAGE_SIDE) {
        free(*depth);
        *depth = NULL;
        return sd_fail(&c->err, SD_ERR_SHAPE, "%s: a depth map is [height,width], each 1 to %d, perhaps with ones "
                       "before them; found %d dimensions: [%lld,%lld,%lld,%lld]", path, SD_IMAGE_SIDE, nd,
                       (long long)d[0], (long long)d[1], (long long)d[2], (long long)d[3]);
    }
    *width = (int)w;
    *height = (int)h;
    return SD_OK;
}

sd_status sd_depth_read(sd_ctx *c, const char *path, float **depth, int *width, int *height)
{
    if (depth) *depth = NULL;
    if (!sd_begin(c) && !sd_check_not_null(c, "path", path) && !sd_check_not_null(c, "depth", depth)
        && !sd_check_not_null(c, "width", width) && !sd_check_not_null(c, "height", height))
        (sd_has_ending(path, ".safetensors") ? depth_of_numbers : depth_of_picture)(c, path, depth, width, height);
    return sd_end(c);
}
