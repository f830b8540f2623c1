/* model_schedule.c - floor 6: what a model's weights do not say: its family, its scheduler, what its UNet predicts. It
 * is taken from what says it most plainly, and the reason is kept. */
#include "model.h"
#include "text.h"
#include "yaml.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, MOST_TEXT = 1 << 20 };

/* ------------------------------------------------------------------------------- YAML of a checkpoint */

/* The number under a key, else under the other one, which may be NULL; 0: there is none. */
static double number_at(const sd_json *root, const char *key, const char *other)
{
    const sd_json *v = sd_yaml_at(root, key);
    if (!v && other) v = sd_yaml_at(root, other);
    return sd_json_is(v, SD_JSON_NUMBER) ? v->number : 0;
}

/* LDM's parameterization is "eps", "v" or "x0"; generative-models names a class of scaling. */
static const char *prediction_at(const sd_json *root)
{
    static const struct { const char *key, *value, *prediction; } says[] = {
        {"model.params.parameterization", "eps", "epsilon"},
        {"model.params.parameterization", "v", "v_prediction"},
        {"model.params.parameterization", "x0", "sample"},
        {"model.params.denoiser_config.params.scaling_config.target", "*.EpsScaling", "epsilon"},
        {"model.params.denoiser_config.params.scaling_config.target", "*.VScaling", "v_prediction"}};
    for (size_t i = 0; i < SD_COUNT(says); i++) {
        const char *text = sd_json_text(sd_yaml_at(root, says[i].key));
        if (text && sd_glob(says[i].value, text)) return says[i].prediction;
    }
    return NULL;
}

/* A YAML of another model beside a file must not change how that is drawn. */
static sd_status check_fits(const sd_model *m, const sd_json *root, const char *path, sd_error *e)
{
    const sd_network *unet = m->main ? sd_recognised_network(&m->main->what, SD_PART_UNET, 0) : NULL;
    double channels = number_at(root, "model.params.unet_config.params.in_channels",
                                "model.params.network_config.params.in_channels");
    double context = number_at(root, "model.params.unet_config.params.context_dim",
                               "model.params.network_config.params.context_dim");
    if (!sd_json_is(sd_yaml_at(root, "model.params"), SD_JSON_OBJECT))
        return sd_fail(e, SD_ERR_FORMAT, "%s is no configuration of a model: it has no model.params", path);
    if (unet && ((channels > 0 && channels != unet->unet.in_channels)
                 || (context > 0 && context != unet->unet.context_dim)))
        return sd_fail(e, SD_ERR_SHAPE, "%s is of another model: its UNet has in_channels %g and context_dim %g, the "
                       "file's %d and %d", path, channels, context, unet->unet.in_channels, unet->unet.context_dim);
    return SD_OK;
}

static sd_status read_yaml(sd_model *m, const char *path, const sd_log *log, sd_error *e)
{
    sd_json *root = sd_yaml_read(path, e);
    if (root && !check_fits(m, root, path, e)) {
        sd_yaml_facts *y = &m->yaml;
        y->prediction = prediction_at(root);
        y->beta_start = number_at(root, "model.params.linear_start", NULL);
        y->beta_end = number_at(root, "model.params.linear_end", NULL);
        double size = number_at(root, "model.params.image_size", NULL);
        y->image_size = size >= 1 && size <= 4096 ? (int)size : 0;
        snprintf(y->name, sizeof y->name, "%s", path);
        if (sd_json_is(sd_yaml_at(root, "model.params.use_ema"), SD_JSON_TRUE) && m->main && m->main->what.ema)
            sd_logf(log, SD_LOG_NOTICE, "%s says that averages of the weights are meant (use_ema): --ema takes them",
                    path);
    }
    sd_json_free(root);
    return e->status;
}

static bool is_yaml(const char *path) { return sd_has_ending(path, ".yaml") || sd_has_ending(path, ".yml"); }

/* The file with the model's name and another ending. */
static sd_status find_yaml(sd_model *m, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES + 8];
    sd_error unread = {.status = SD_OK};
    if (!m->main) return SD_OK;
    const char *slash = strrchr(m->at, '/'), *dot = strrchr(m->at, '.');
    int n = dot && (!slash || dot > slash) ? (int)(dot - m->at) : (int)strlen(m->at);
    snprintf(path, sizeof path, "%.*s.yaml", n, m->at);
    if (sd_is_absent(path)) return SD_OK;
    if (read_yaml(m, path, log, &unread)) sd_logf(log, SD_LOG_WARNING, "not used: %s", unread.text);
    else sd_logf(log, SD_LOG_DETAIL, "%s is read for what the checkpoint does not say", path);
    return unread.status == SD_ERR_MEMORY ? sd_fail(e, SD_ERR_MEMORY, "%s", unread.text) : SD_OK;
}

/* -------------------------------------------------------------------------------------- the family */

static sd_status use_config(sd_model *m, const sd_model_request *q, sd_error *e)
{
    char names[SD_FAMILY_NAMES], path[PATH_BYTES];
    const char *config = q->options->config;
    sd_path_kind kind;
    if (!config) return find_yaml(m, q->log, e);
    m->config_family = sd_family_find(config);
    if (m->config_family) return SD_OK;
    if (is_yaml(config)) return read_yaml(m, config, q->log, e);
    bool found = sd_find_dir(config, e);
    if (e->status) return e->status;
    if (!found)
        return sd_fail(e, SD_ERR_ARG, "--config must be a directory in diffusers' layout, a YAML file, or one of %s, "
                       "not \"%.80s\"", sd_family_names(names), config);
    if (sd_path_resolve(path, &kind, config, q->log, e)) return e->status;
    m->config_dir = sd_strdup(path);
    return m->config_dir ? find_yaml(m, q->log, e) : sd_fail(e, SD_ERR_MEMORY, "no memory for a path");
}

/* The family of a UNet's config.json; NULL: of none, or there is no such file. */
static const sd_family *family_of_dir(const char *dir, int *native)
{
    char path[PATH_BYTES];
    sd_unet_config c;
    sd_error unread = {.status = SD_OK};
    if (sd_path_join(path, sizeof path, dir, "config.json", &unread) || sd_unet_config_read(&c, path, &unread))
        return NULL;
    *native = c.width;
    return sd_family_of(&c, 0);
}

/* What was recognised in the file that has the UNet; NULL: it is in a directory. */
static const sd_recognised *unet_file(sd_model *m, const sd_model_request *q, sd_error *e)
{
    char path[PATH_BYTES];
    sd_path_kind kind;
    const sd_source *s = m->main;
    if (q->options->unet) {
        if (sd_path_resolve(path, &kind, q->options->unet, q->log, e)) return NULL;
        s = kind == SD_PATH_FILE ? sd_model_source(m, path, NULL, e) : NULL;
    }
    return s ? &s->what : NULL;
}

sd_status sd_model_find_family(sd_model *m, const sd_model_request *q, sd_error *e)
{
    char dir[PATH_BYTES];
    if (use_config(m, q, e)) return e->status;
    const sd_recognised *what = unet_file(m, q, e);
    if (e->status) return e->status;
    m->family = m->config_family ? m->config_family : what ? what->family : NULL;
    if (m->family || m->kind == SD_PATH_FILE) return SD_OK;
    if (sd_path_join(dir, sizeof dir, m->at, "unet", e)) return e->status;
    m->family = family_of_dir(m->kind == SD_PATH_PART ? m->at : dir, &m->config_size);
    return SD_OK;
}

/* ----------------------------------------------------------------------------------- the scheduler */

/* Takes a scheduler's text, of which `name` says where it is from. */
static sd_status take_text(sd_model *m, const char *text, const char *name, sd_error *e)
{
    free(m->sched_text);
    free(m->sched_name);
    m->sched_text = sd_strdup(text);
    m->sched_name = sd_strdup(name);
    return m->sched_text && m->sched_name ? SD_OK : sd_fail(e, SD_ERR_MEMORY, "no memory for a scheduler's settings");
}

static sd_status take_file(sd_model *m, const char *path, sd_error *e)
{
    char *text;
    size_t n;
    if (sd_read_file(path, MOST_TEXT, &text, &n, e)) return e->status;
    if (strlen(text) < n) sd_fail(e, SD_ERR_FORMAT, "%s is not JSON: it has a NUL character", path);
    else take_text(m, text, path, e);
    free(text);
    return e->status;
}

/* Adds a key to the text; of keys that come twice, the last one counts. */
static sd_status add_key(sd_model *m, const char *key, const char *value, sd_error *e)
{
    sd_text t = {0};
    const char *end = strrchr(m->sched_text, '}');
    sd_text_addn(&t, m->sched_text, end ? (size_t)(end - m->sched_text) : 0);
    sd_text_add(&t, ",\"%s\":%s}", key, value);
    if (t.failed) {
        free(t.s);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for a scheduler's settings");
    }
    free(m->sched_text);
    m->sched_text = t.s;
    return SD_OK;
}

static sd_status add_prediction(sd_model *m, const char *prediction, sd_error *e)
{
    char value[32];
    snprintf(value, sizeof value, "\"%s\"", prediction);
    return add_key(m, "prediction_type", value, e);
}

static sd_status add_number(sd_model *m, const char *key, double x, sd_error *e)
{
    char value[SD_NUMBER_SIZE];
    return x > 0 ? add_key(m, key, sd_number_text(value, x), e) : SD_OK;
}

/* A scheduler_config.json that belongs to the model: true if there is one, or on an error. */
static bool take_own(sd_model *m, sd_error *e)
{
    static const char name[] = "scheduler/scheduler_config.json";
    char path[PATH_BYTES];
    if (m->config_dir && !sd_path_join(path, sizeof path, m->config_dir, name, e) && !sd_is_absent(path))
        return take_file(m, path, e), true;
    if (e->status || m->config_family) return e->status != SD_OK;
    if (m->kind == SD_PATH_MODEL) {
        if (!sd_path_join(path, sizeof path, m->at, name, e)) take_file(m, path, e);
        return true;
    }
    const char *text = m->main ? sd_store_meta(&m->main->store, SD_KEPT "scheduler/scheduler_config.json") : NULL;
    if (text) return take_text(m, text, "the scheduler's settings in the file's header", e), true;
    const char *slash = m->main ? strrchr(m->at, '/') : NULL;
    if (!m->main) return false;
    snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - m->at) + 1 : 0, m->at);
    if (strlen(path) + 24 > sizeof path) return false;
    strcat(path, "scheduler_config.json");
    return !sd_is_absent(path) && (take_file(m, path, e), true);
}

static void because(sd_model *m, const char *why) { snprintf(m->prediction_why, sizeof m->prediction_why, "%s", why); }

/* The sentence that decided, among those that a file was recognised by. */
static void because_of_file(sd_model *m, const sd_recognised *what)
{
    const char *at = what->why.s;
    while (at && strncmp(at, "prediction ", 11) != 0) at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
    because(m, "names and shapes of the file's tensors");
    const char *colon = at ? strstr(at, ": ") : NULL, *end = at ? at + strcspn(at, "\n") : NULL;
    if (colon && colon < end)
        snprintf(m->prediction_why, sizeof m->prediction_why, "%.*s", (int)(end - colon - 2), colon + 2);
}

/* The family's published settings. Where nothing decides what the UNet predicts, it is asked later. */
static sd_status stand_in(sd_model *m, const sd_recognised *what, const sd_log *log, sd_error *e)
{
    const char *prediction = NULL;
    char name[80], why[200];
    if (m->config_family) {
        prediction = m->family->prediction;
        snprintf(why, sizeof why, "the family %s, which --config names", m->family->name);
        because(m, why);
    } else if (m->yaml.prediction) {
        prediction = m->yaml.prediction;
        snprintf(why, sizeof why, "%.160s says so", m->yaml.name);
        because(m, why);
    } else if (what && what->prediction) {
        prediction = what->prediction;
        because_of_file(m, what);
    } else {
        prediction = what && what->hint ? what->hint : m->family ? m->family->prediction : "epsilon";
        m->asks = true;
        because(m, "not decided: before the first picture the UNet is asked, unless --prediction says it");
    }
    const sd_family *f = m->family ? sd_family_with(m->family, prediction) : NULL;
    if (f && !m->config_family) m->family = f;
    const sd_network *unet = what ? sd_recognised_network(what, SD_PART_UNET, 0) : NULL;
    const sd_family *from = m->family ? m->family : unet ? sd_family_of_inputs(&unet->unet) : NULL;
    if (!from) from = sd_family_find("sd15");
    if (!m->family)
        sd_logf(log, SD_LOG_NOTICE, "nothing says with which scheduler the model was trained: that of %s stands in",
                from->name);
    snprintf(name, sizeof name, "the scheduler of %s", from->name);
    m->stands_in = true;
    return take_text(m, from->scheduler, name, e) || add_prediction(m, prediction, e) ? e->status : SD_OK;
}

/* SD-Turbo has SD 2's shapes and SDXL-Turbo SDXL's, but their schedulers are their own, and so is SDXL-Turbo's size. A
 * directory that has both is taken for one of them; with a file alone only --config can say it. */
static void family_of_scheduler(sd_model *m)
{
    const sd_family *g;
    sd_error unread = {.status = SD_OK};
    sd_sched_config s;
    for (size_t i = 0; (g = sd_family_like(m->family, i)) != NULL; i++)
        if (!g->by_name && g->unet.width == m->config_size
            && !sd_sched_parse_as(&s, g->scheduler, g->name, NULL, &unread) && s.method == m->sched.method
            && s.spacing == m->sched.spacing) {
            m->family = g;
            return;
        }
}

static sd_status read_settings(sd_model *m, sd_error *e) { return sd_model_read_sched(m, NULL, &m->sched, e); }

sd_status sd_model_find_sched(sd_model *m, const sd_model_request *q, sd_error *e)
{
    sd_sched_as_pipeline(&m->sched, false);
    if (!(m->parts & (SD_PART_UNET | SD_PART_SCHEDULE))) return SD_OK;
    const sd_recognised *what = unet_file(m, q, e);
    bool own = !e->status && take_own(m, e);
    if (own && !e->status) because(m, m->sched_name);
    if (!own && !e->status) stand_in(m, what, q->log, e);
    if (e->status) return e->status;
    if (q->options->unet && what && what->prediction && own && !m->config_dir) {   /* a part that says it itself */
        if (add_prediction(m, what->prediction, e)) return e->status;
        because_of_file(m, what);
    }
    if (!own && what && what->zero_snr && add_key(m, "rescale_betas_zero_snr", "true", e)) return e->status;
    if (add_number(m, "beta_start", m->yaml.beta_start, e) || add_number(m, "beta_end", m->yaml.beta_end, e)
        || read_settings(m, e))
        return e->status;
    const sd_family *f = m->family ? sd_family_with(m->family, sd_prediction_name(m->sched.prediction)) : NULL;
    if (f && !m->config_family) m->family = f;
    if (f && !m->config_family && own && m->config_size) family_of_scheduler(m);
    const char *file = q->options->unet ? q->options->unet : m->at;
    if (what && !m->config_family && (!own || q->options->unet)) sd_few_hint_find(&m->few, file, m->family);
    return SD_OK;
}

sd_status sd_model_find_low_res(sd_model *m, sd_error *e)
{
    static const char name[] = SD_LOW_RES;
    char path[PATH_BYTES] = SD_LOW_RES;
    const char *dir = m->config_dir ? m->config_dir : m->kind == SD_PATH_MODEL && !m->config_family ? m->at : NULL;
    size_t n;
    if (!m->unet->cfg.class_embeds) return SD_OK;
    if (dir && !sd_path_join(path, sizeof path, dir, name, e) && !sd_is_absent(path)) {
        sd_read_file(path, MOST_TEXT, &m->low_res_text, &n, e);
    } else if (!e->status) {
        const char *kept = m->main && !m->config_family ? sd_store_meta(&m->main->store, SD_KEPT SD_LOW_RES) : NULL;
        if (kept && !(m->low_res_text = sd_strdup(kept)))
            sd_fail(e, SD_ERR_MEMORY, "no memory for a scheduler's settings");
    }
    const char *text = m->low_res_text ? m->low_res_text : sd_family_find("x4-upscaler")->low_res_scheduler;
    return e->status ? e->status : sd_sched_parse_as(&m->low_res, text, path, "ddpm", e);
}

sd_status sd_model_read_sched(const sd_model *m, const char *sampler, sd_sched_config *s, sd_error *e)
{
    if (sd_sched_parse_as(s, m->sched_text, m->sched_name, sampler, e)) return e->status;
    sd_sched_as_pipeline(s, m->unet->cfg.add_in_dim || (m->unet->cfg.time_cond_dim && s->method == SD_LCM));
    return SD_OK;
}

/* --------------------------------------------------------------------------------- what follows */

/* Shapes do not say at which size a UNet was trained. */
static void size_of_family(sd_model *m)
{
    sd_module *x = sd_model_module(m, SD_PART_UNET, 0);
    if (!x || !x->from_shapes || !m->family) return;
    sd_unet_config *c = &((sd_unet_net *)x->net)->cfg;
    c->height = m->family->unet.height;
    c->width = m->family->unet.width;
    /* All published YAMLs say 64, that of the model with 768 pixels too. */
    if (m->yaml.image_size && m->yaml.image_size != 64) c->height = c->width = m->yaml.image_size;
}

/* The VAEs of SD 1, SD 2 and SDXL differ in their scaling factors alone. */
static void scale_of_family(sd_model *m)
{
    sd_module *x = sd_model_module(m, SD_PART_VAE, 0);
    if (!x || !x->from_shapes || !m->family) return;
    sd_vae_config *c = &((sd_vae *)x->net)->cfg;
    c->scaling_factor = m->family->vae.scaling_factor;
    memcpy(c->latent_rgb, m->family->vae.latent_rgb, sizeof c->latent_rgb);
}

/* The map for rough previews: what a config.json says, or the family's, or that of SD 1 and 2. */
static void rgb_of_family(sd_model *m)
{
    const sd_module *vae = sd_model_module(m, SD_PART_VAE, 0);
    const sd_vae_config *c = vae ? &((const sd_vae *)vae->net)->cfg : &m->vae->cfg;
    if (m->family && !c->own_rgb) c = &m->family->vae;
    memcpy(m->latent_rgb, c->latent_rgb, sizeof m->latent_rgb);
}

sd_status sd_model_settle(sd_model *m, sd_error *e)
{
    size_of_family(m);
    scale_of_family(m);
    rgb_of_family(m);
    bool changed = m->unet->cfg.add_in_dim || m->unet->cfg.time_cond_dim;
    return changed ? read_settings(m, e) : SD_OK;   /* it was read as SD 1 and 2 read it */
}

sd_status sd_model_decide(sd_model *m, sd_prediction prediction, const char *why, const sd_log *log, sd_error *e)
{
    const char *name = sd_prediction_name(prediction);
    const sd_family *f = m->family ? sd_family_with(m->family, name) : NULL;
    if (f) m->family = f;
    if (m->stands_in && f && take_text(m, f->scheduler, m->sched_name, e)) return e->status;
    if (add_prediction(m, name, e) || read_settings(m, e)) return e->status;
    m->asks = false;
    because(m, why);
    size_of_family(m);
    sd_logf(log, SD_LOG_NOTICE, "the UNet predicts %s: %s", name, why);
    return SD_OK;
}
