/* fuzz_config.c - the JSON files of a model directory: UNet, VAE, text encoder, scheduler. The first byte says which.
 * What is read must lie within what the networks and samplers can be built from: a plan is made of it, and a
 * schedule. */
#include "fuzz.h"

#include "../net.h"
#include "../sampler.h"

#include <stdlib.h>
#include <string.h>

static void schedule(const sd_sched_config *c, int steps)
{
    sd_sampler *s = NULL;
    sd_error e = {0};
    sd_error_clear(&e);
    sd_status status = sd_sampler_new(&s, c, steps, &e);
    fuzz_demand_sentence(status, e.text);
    sd_sampler_free(s);
}

static sd_status read_schedule(sd_sched_config *c, const uint8_t *data, size_t n, sd_error *e)
{
    char *text = malloc(n + 1);
    if (!text) return sd_fail(e, SD_ERR_MEMORY, "no memory");
    memcpy(text, data, n);
    text[n] = 0;
    sd_sched_parse_as(c, text, "a text", NULL, e);
    free(text);
    return e->status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_error e = {0};
    sd_error_clear(&e);
    if (n == 0) return 0;
    const char *path = fuzz_file("config.json", data + 1, n - 1);
    sd_unet_config unet;
    sd_vae_config vae;
    sd_clip_config clip;
    sd_sched_config sched;
    sd_status status;
    switch (data[0] % 4) {
    case 0: status = sd_unet_config_read(&unet, path, &e); break;
    case 1: status = sd_vae_config_read(&vae, path, &e); break;
    case 2: status = sd_clip_config_read(&clip, path, &e); break;
    default: status = read_schedule(&sched, data + 1, n - 1, &e);
    }
    fuzz_demand_sentence(status, e.text);
    if (!status && data[0] % 4 == 3) schedule(&sched, 1 + data[0] / 4);
    fuzz_remove("config.json");
    return 0;
}
