/* test_config_keys.c - model_config.c and sampler_config.c: what each key of the configuration files does, against the
 * installed libraries (tests/golden/config.txt, written by tools/golden_config.py). A value that changes nothing there
 * is accepted here and changes nothing; one that changes the result changes it here too, or is refused by the key's
 * name. */
#include <math.h>

#include "sched.h"
#include "test.h"
#include "../net.h"
#include "../rng.h"
#include "../sampler.h"
#include "tempdir.h"

typedef struct seen {
    unsigned char bytes[4096];   /* what a configuration comes to */
    size_t n;
} seen;

static sd_status read_unet(seen *s, const char *path, sd_error *e)
{
    sd_unet_config c;
    if (sd_unet_config_read(&c, path, e)) return e->status;
    memset(c.notes, 0, sizeof c.notes);
    c.width = c.height = 0;      /* of the picture: the network does not know them */
    memcpy(s->bytes, &c, s->n = sizeof c);
    return SD_OK;
}

static sd_status read_vae(seen *s, const char *path, sd_error *e)
{
    sd_vae_config c;
    if (sd_vae_config_read(&c, path, e)) return e->status;
    memset(c.notes, 0, sizeof c.notes);
    memcpy(s->bytes, &c, s->n = sizeof c);
    return SD_OK;
}

static sd_status read_text(seen *s, const char *path, sd_error *e)
{
    sd_clip_config c;
    if (sd_clip_config_read(&c, path, e)) return e->status;
    memcpy(s->bytes, &c, s->n = sizeof c);
    return SD_OK;
}

static sd_status model(void *user, int i, double t, const float *input, float *prediction)
{
    (void)user;
    (void)i;
    for (int k = 0; k < 40; k++) prediction[k] = (float)(0.9 * sin(1.3 * (double)input[k]) + 0.05 * cos(0.02 * t));
    return SD_OK;
}

static sd_status draw(void *user, double from, double to, float *out, size_t n)
{
    (void)from;
    (void)to;
    sd_rng_normal(user, out, n);
    return SD_OK;
}

/* The timesteps of a run and what is drawn. */
static sd_status read_scheduler(seen *s, const char *path, sd_error *e)
{
    sd_sched_config c;
    sd_sampler *sampler;
    sd_rng rng;
    float x[40];
    if (sched_read(&c, path, NULL, e)) return e->status;
    sd_sched_as_pipeline(&c, false);
    if (sd_sampler_new(&sampler, &c, 6, e)) return e->status;
    double all[80] = {0};
    int n = sd_sampler_count(sampler);
    assert_in_range(n, 1, 39);
    for (int i = 0; i < n; i++) all[40 + i] = sd_sampler_timestep(sampler, i);
    sd_rng_seed(&rng, 1);
    sd_rng_normal(&rng, x, 40);
    for (int k = 0; k < 40; k++) x[k] *= (float)sd_sampler_init_sigma(sampler);
    sd_denoiser d = {&rng, model, NULL, NULL, draw, 1, NULL, NULL};
    assert_int_equal(sd_sampler_run(sampler, x, 40, &d, e), SD_OK);
    for (int k = 0; k < 40; k++) all[k] = (double)x[k];
    memcpy(s->bytes, all, s->n = sizeof all);
    sd_sampler_free(sampler);
    return SD_OK;
}

typedef sd_status reading(seen *s, const char *path, sd_error *e);

static reading *reader_of(const char *part)
{
    return strcmp(part, "unet") == 0 ? read_unet : strcmp(part, "vae") == 0 ? read_vae
         : strcmp(part, "text_encoder") == 0 ? read_text : read_scheduler;
}

/* {...base..., "key": value}: of two values for a key the last one counts. */
static const char *with(const char *base, const char *key, const char *value)
{
    sd_text t = {0};
    sd_text_addn(&t, base, strlen(base) - 1);
    if (key) sd_text_add(&t, ",\"%s\":%s", key, value);
    sd_text_add(&t, "}");
    assert_false(t.failed);
    temp_write("config.json", t.s, t.n);
    free(t.s);
    return temp_path("config.json");
}

static int wrong;   /* all of them are shown */
#define WRONG(...) (wrong++, print_error(__VA_ARGS__))

static void judge(const char *part, const char *base, const seen *truth, const char *key, const char *outcome,
                  const char *value)
{
    seen now = {.n = 0};
    sd_error e = {0};
    bool read = reader_of(part)(&now, with(base, key, value), &e) == SD_OK;
    bool same = read && now.n == truth->n && memcmp(now.bytes, truth->bytes, now.n) == 0;
    if (!read && e.status != SD_ERR_UNSUPPORTED && e.status != SD_ERR_FORMAT && e.status != SD_ERR_ARG)
        WRONG("%s %s %s: status %d, %s\n", part, key, value, e.status, e.text);
    if (strcmp(outcome, "same") == 0 && !same)
        WRONG("%s %s: %s changes nothing, but is %s %s\n", part, key, value, read ? "another configuration"
              : "refused:", e.text);
    if (strcmp(outcome, "other") == 0 && same)
        WRONG("%s %s: %s changes the result and is taken for nothing\n", part, key, value);
    if (strcmp(outcome, "other") == 0 && !read && !strstr(e.text, key))
        WRONG("%s %s %s: the key is not named: %s\n", part, key, value, e.text);
}

TEST(every_key_means_what_it_means_there)
{
    size_t n;
    sd_error opening = {0};
    char *text, *base = NULL;
    if (sd_read_file("tests/golden/config.txt", 1 << 20, &text, &n, &opening)) fail_msg("%s", opening.text);
    seen truth = {.n = 0};
    int values = 0, bases = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char part[64], key[64], outcome[16];
        int used = 0;
        if (sscanf(line, "base %63s %n", part, &used) == 1) {
            sd_error e = {0};
            base = line + used;
            if (reader_of(part)(&truth, with(base, NULL, NULL), &e)) fail_msg("%s: %s", part, e.text);
            bases++;
        } else if (sscanf(line, "value %63s %63s %15s %n", part, key, outcome, &used) == 3) {
            judge(part, base, &truth, key, outcome, line + used);
            values++;
        }
    }
    free(text);
    assert_int_equal(bases, 19);
    assert_true(values > 1000);
    if (wrong) fail_msg("%d of %d values", wrong, values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_means_what_it_means_there),
    };
    return cmocka_run_group_tests_name("config keys", tests, temp_make, temp_remove);
}

