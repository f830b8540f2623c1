/* test_vae.c - every module of encoder and decoder against float64. */
#include "test.h"
#include "network.h"
#include "needs.h"
#include "provider.h"
#include "tempdir.h"

static void decode(network *n)
{
    int64_t dim[4];
    float *latents = network_input(n, "vae_latents", dim),
        *picture = malloc((size_t)(dim[0] * 3 * 64 * dim[2] * dim[3]) * sizeof *picture);
    if (sd_vae_decode(n->ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, picture))
        fail_msg("%s", sd_error_text(n->ctx));
    free(latents);
    free(picture);
}

static void encode(network *n)
{
    int64_t dim[4];
    float *picture = network_input(n, "picture", dim);
    int h = (int)dim[2] / 8, w = (int)dim[3] / 8;
    const int64_t out[4] = {dim[0], 4, h, w};
    size_t count = (size_t)(dim[0] * 4 * h * w);
    float *mean = malloc(count * sizeof *mean), *logvar = malloc(count * sizeof *logvar);
    if (sd_vae_encode(n->ctx, (int)dim[0], h, w, picture, mean, logvar)) fail_msg("%s", sd_error_text(n->ctx));
    network_check(n, "vae.mean", 4, out, mean);
    network_check(n, "vae.logvar", 4, out, logvar);
    free(picture);
    free(mean);
    free(logvar);
}

static void against_float64(int precise, const sd_blas *blas)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        network_open(&n, network_configs[i], SD_PART_VAE, precise, NULL);
        n.ctx->cpu.blas = blas;
        decode(&n);
        encode(&n);
        network_finish(&n, "vae.", "decoder", "vae.decoder.conv_out");
        network_finish(&n, "vae.", "encoder", "vae.mean");
        network_close(&n);
        temp_clear();
    }
}

TEST(every_module_is_within_its_bound_of_float64) { against_float64(0, NULL); }
TEST(every_module_is_within_its_bound_precisely) { against_float64(1, NULL); }
TEST(every_module_is_within_its_bound_with_openblas)
{
    if (!openblas()) skip();
    against_float64(0, openblas());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_is_within_its_bound_of_float64),
        unit_test_needing(NEED_CPU, every_module_is_within_its_bound_precisely),
        unit_test_needing(NEED_CPU, every_module_is_within_its_bound_with_openblas),
    };
    return cmocka_run_group_tests_name("vae", tests, temp_make, temp_remove);
}
