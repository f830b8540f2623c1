/* network.c - see network.h */
#define _POSIX_C_SOURCE 200809L
#include "network.h"

#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "tempdir.h"

const char *const network_configs[3] = {"sd1-small", "sd2-small", "asym-small"};

void network_open(network *n, const char *config, unsigned parts, int precise, const synth_options *options)
{
    sd_error e = {0};
    sd_options o;
    char dir[512];
    memset(n, 0, sizeof *n);
    n->config = config;
    snprintf(dir, sizeof dir, "%s", temp_path(config));
    mkdir(dir, 0777);
    if (synth_write_model(dir, config, options, &e) || golden_open(&n->golden, config, &e)) fail_msg("%s", e.text);
    sd_options_init(&o);
    o.model = dir;
    o.parts = parts;
    o.precise = precise;
    if (sd_open(&n->ctx, &o)) fail_msg("%s", sd_error_text(n->ctx));
    assert_int_equal(sd_set_trace(n->ctx, NULL, network_compare, n), SD_OK);
}

void network_close(network *n)
{
    sd_close(n->ctx);
    golden_close(&n->golden);
}

void network_check(network *n, const char *name, int nd, const int64_t *dim, const float *x)
{
    golden_result r = golden_compare(&n->golden, name, nd, dim, x);
    if (!r.found) fail_msg("%s: no golden for %s", n->config, name);
    if (!r.same_shape) fail_msg("%s: %s has another shape", n->config, name);
    if (!(r.ratio <= 1))
        fail_msg("%s: %s: error %.3g exceeds its bound %.3g (torch's float32: %.3g)", n->config, name, r.error, r.bound,
                 r.e32);
    n->compared++;
    n->sum_log += log(fmax(r.error, 1e-9));
    n->sum_log32 += log(fmax(r.e32, 1e-9));
    if (r.ratio >= n->worst) {
        n->worst = r.ratio;
        snprintf(n->worst_name, sizeof n->worst_name, "%s", name);
    }
}

void network_compare_found(void *user, const sd_traced *t)
{
    network *n = user;
    char name[256];
    snprintf(name, sizeof name, "%s%s", n->prefix, t->name);
    if (t->dtype == SD_F32 && golden_compare(&n->golden, name, t->nd, t->dim, t->data).found)
        network_check(n, name, t->nd, t->dim, t->data);
}

void network_compare(void *user, const sd_traced *t)
{
    network *n = user;
    char name[256];
    if (t->dtype != SD_F32) return;   /* tokens: compared as what they are */
    /* the same in every run */
    bool shared = strncmp(t->name, "text_encoder.", 13) == 0 || strcmp(t->name, "prompt_embeds") == 0;
    if (shared && *n->prefix && t->dim[0] != 2) return;   /* a run without guidance, or of several pictures */
    snprintf(name, sizeof name, "%s%s", shared ? "" : n->prefix, t->name);
    network_check(n, name, t->nd, t->dim, t->data);
}

void network_finish(network *n, const char *prefix, const char *part, const char *name)
{
    const char *unseen = golden_unseen(&n->golden, prefix), *mistake = NULL;
    if (unseen) fail_msg("%s: nothing was traced under %s", n->config, unseen);
    print_message("%s: %d tensors, worst %.2f of its bound (%s), mean error %.1e, torch-float32 %.1e\n", n->config,
                  n->compared, n->worst, n->worst_name,
                  exp(n->sum_log / n->compared), exp(n->sum_log32 / n->compared));
    if (!part) return;
    double least = golden_least_mistake(&n->golden, part, &mistake);
    golden_result r = golden_compare(&n->golden, name, 0, NULL, NULL);
    if (!(least > 10 * fmax(3 * r.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", n->config, mistake ? mistake : "-", least);
}

float *network_input(const network *n, const char *name, int64_t dim[4])
{
    sd_error e = {0};
    float *x = synth_input(n->config, name, dim, &e);
    if (!x) fail_msg("%s", e.text);
    return x;
}
