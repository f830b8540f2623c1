/* model_taesd.c - floor 6: where a TAESD is: which file or directory has its encoder, and which its decoder. */
#include "json.h"
#include "model.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static const char *const ways[] = {"decoder", "encoder"};   /* by the index of their places */

/* Does this directory's config.json name diffusers' class? */
static bool is_diffusers_dir(const char *dir)
{
    char path[PATH_BYTES];
    sd_error unread = {.status = SD_OK};
    if (sd_path_join(path, sizeof path, dir, "config.json", &unread) || !sd_is_file(path)) return false;
    sd_json *root = sd_json_read(path, (size_t)1 << 20, &unread);
    const char *class = sd_json_text(sd_json_get(root, "_class_name"));
    bool tiny = class && strcmp(class, "AutoencoderTiny") == 0;
    sd_json_free(root);
    return tiny;
}

static sd_status from_diffusers_dir(const char *dir, sd_origin *out, bool *found)
{
    snprintf(out->dir, sizeof out->dir, "%s", dir);
    snprintf(out->weights, sizeof out->weights, "%s", dir);
    *found = true;
    return SD_OK;
}

static sd_status from_file(sd_model *m, const char *path, int way, sd_origin *out, bool *found, sd_error *e)
{
    sd_source *s = sd_model_source(m, path, NULL, e);
    if (!s) return e->status;
    sd_network *n = &out->made;
    *n = (sd_network){.part = SD_PART_VAE, .has_config = true, .config_from = "shapes"};
    bool there = sd_taesd_from_shapes(&s->store, way == 0, &n->vae, &n->root, &n->naming);
    if (there && n->vae.levels) {
        out->source = s;
        out->network = n;
        *found = true;
        return SD_OK;
    }
    const char *is = s->what.kind_name;
    bool taesd = s->what.kind == SD_FILE_TAESD, unknown = s->what.kind == SD_FILE_UNKNOWN;
    if (there && (taesd || unknown))
        return sd_fail(e, SD_ERR_MISSING, "%s: its tensors do not make a TAESD's %s: some are missing or have shapes "
                       "that do not go together", path, ways[way]);
    if (taesd) return SD_OK;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is no TAESD: it is %s%s%s", path, unknown ? "" : sd_article(is),
                   unknown ? "" : " ", is);
}

/* ------------------------------------------------------------------------------------- directories */

/* The author's files in a directory, where there may be those for SDXL beside those for SD 1 and 2. */
typedef struct listing {
    int way;
    bool wants_xl;
    int score;         /* of the name */
    char name[256];
    bool any;          /* there is a file of either way */
} listing;

static void see(void *user, const char *name)
{
    static const char *const endings[] = {".pt", ".pth", ".safetensors"};   /* the last is preferred */
    listing *l = user;
    char glob[64];
    for (int k = 0; k < (int)SD_COUNT(endings); k++) {
        for (int way = 0; way < 2; way++) {
            snprintf(glob, sizeof glob, "*taesd*_%s%s", ways[way], endings[k]);
            if (!sd_glob(glob, name) || *name == '.' || strlen(name) >= sizeof l->name) continue;
            int score = 1 + k + ((strstr(name, "taesdxl") != NULL) == l->wants_xl ? 4 : 0);
            l->any = true;
            if (way != l->way || score <= l->score) continue;
            l->score = score;
            snprintf(l->name, sizeof l->name, "%s", name);
        }
    }
}

static bool is_sdxl(const sd_model *m)
{
    const sd_module *x = sd_model_module(m, SD_PART_UNET, 0);
    return x ? ((const sd_unet_net *)x->net)->cfg.add_in_dim > 0 : m->family && m->family->unet.add_in_dim > 0;
}

static sd_status from_dir(sd_model *m, const sd_model_request *q, const char *dir, int way, sd_origin *out, bool *found,
                          sd_error *e)
{
    char path[PATH_BYTES];
    sd_path_kind kind;
    listing l = {.way = way, .wants_xl = is_sdxl(m)};
    if (is_diffusers_dir(dir)) return from_diffusers_dir(dir, out, found);
    if (sd_path_join(path, sizeof path, dir, "vae", e)) return e->status;
    if (is_diffusers_dir(path)) return from_diffusers_dir(path, out, found);
    if (sd_os_list(dir, see, &l) && l.any) {
        if (!l.score) return SD_OK;
        return sd_path_join(path, sizeof path, dir, l.name, e) ? e->status : from_file(m, path, way, out, found, e);
    }
    if (sd_path_resolve(path, &kind, dir, q->log, e)) return e->status;
    if (kind == SD_PATH_FILE) return from_file(m, path, way, out, found, e);
    if (is_diffusers_dir(path)) return from_diffusers_dir(path, out, found);
    return sd_fail(e, SD_ERR_MISSING, "%s has no TAESD: neither a config.json of an AutoencoderTiny nor "
                   "taesd_decoder.safetensors", dir);
}

/* ---------------------------------------------------------------------------------------- one way */

static sd_status look(sd_model *m, const sd_model_request *q, const char *path, int way, sd_origin *out, bool *found,
                      sd_error *e)
{
    if (sd_find_dir(path, e)) return from_dir(m, q, path, way, out, found, e);
    if (e->status) return e->status;
    if (sd_is_file(path)) return from_file(m, path, way, out, found, e);
    return sd_fail(e, SD_ERR_MISSING, "there is no TAESD %s: neither a file nor a directory", path);
}

sd_status sd_taesd_find(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                        bool *found, sd_error *e)
{
    const char *given = q->options->taesd, *comma = given ? strrchr(given, ',') : NULL;
    char path[PATH_BYTES];
    *found = false;
    if (!given) return SD_OK;
    if (strlen(given) >= PATH_BYTES) return sd_fail(e, SD_ERR_ARG, "the TAESD's path is too long: %.100s...", given);
    strcpy(path, given);
    if (comma && sd_is_absent(given)) {   /* two files, in either order */
        path[comma - given] = 0;
        if (look(m, q, comma + 1, place->index, out, found, e) || *found) return e->status;
    }
    if (look(m, q, path, place->index, out, found, e) || *found || place->optional) return e->status;
    return sd_fail(e, SD_ERR_MISSING, "%s has no decoder of a TAESD", given);
}

bool sd_taesd_suffices(const sd_model *m, const sd_model_request *q)
{
    bool model_has = q->options->vae || (m->main && sd_recognised_network(&m->main->what, SD_PART_VAE, 0))
        || (m->kind == SD_PATH_PART && m->only == SD_PART_VAE);
    char path[PATH_BYTES];
    sd_error too_long = {.status = SD_OK};
    if (m->kind == SD_PATH_MODEL && !sd_path_join(path, sizeof path, m->at, "vae", &too_long))
        model_has = model_has || !sd_is_absent(path);
    return !model_has && !m->taesd_for_previews && sd_model_module(m, SD_PART_TAESD, 1);
}
