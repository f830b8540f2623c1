/* app_devices.c - floor 7: sd devices: what can compute, which of it would be chosen and why, what is refused and
 * why. */
#include "app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option devices_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "check", AT(check), 0, 0, NULL,
     "computes small cases of every operation on each device and\ncompares them with the CPU; exit code 1 if one is "
     "refused"},
    {CLI_TEXT, 0, "device", AT(device), 0, 0, "NAME",
     "which one this means: opencl (default), opencl:1,\nopencl:nvidia"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    HELP_OPTION,
};
const cli_command devices_command = {
    "devices",
    "usage: sd devices [--check] [--device NAME] [--json]\n\n"
    "Lists what can compute, by the names that --device takes: the CPU, and the devices that OpenCL's drivers know.\n",
    devices_options, COUNT(devices_options), NULL, 0, 0, NULL};

typedef struct listing { const settings *s; int n, refused; } listing;

/* What --device would have to be for the chosen one. */
static const char *asked_for(const settings *s)
{
    const char *asked = s->device && *s->device ? s->device : getenv("SD_DEVICE");
    return asked && *asked && strcmp(asked, "cpu") != 0 ? asked : "opencl";
}

static void text_of_device(const sd_device_info *d, const char *asked)
{
    printf("%s: %s (%s)\n", d->which, d->name, d->type);
    if (*d->platform) printf("    platform  %s, %s\n    driver    %s\n", d->platform, d->platform_version, d->driver);
    printf("    memory    %.1f GB", (double)d->memory / 1e9);
    if (*d->platform) printf(", %.1f GB in one buffer", (double)d->largest / 1e9);
    else printf(" free");
    printf("\n    units     %zu", d->units);
    if (*d->platform)
        printf(", work-groups of up to %zu work-items, which share %.0f KB", d->group, (double)d->shared / 1024);
    printf("\n");
    if (d->checked)
        printf("    checked   %d cases in %.2f s, the largest error is %.2f of its bound\n", d->checked,
               d->check_seconds, d->check_worst);
    if (*d->refused) printf("    refused   it cannot be used: %s\n", d->refused);
    if (d->chosen) printf("    chosen    by --device %s: %s\n", asked, d->why);
}

static void json_of_device(const sd_device_info *d)
{
    const struct { const char *key, *value; } texts[] = {
        {"device", d->which}, {"name", d->name}, {"type", d->type}, {"platform", d->platform},
        {"platform_version", d->platform_version}, {"driver", d->driver}, {"refused", d->refused}, {"why", d->why}};
    for (size_t i = 0; i < COUNT(texts); i++) {
        printf("%s\"%s\":", i ? "," : "{", texts[i].key);
        cli_json_string(texts[i].value);
    }
    printf(",\"chosen\":%s,\"memory\":%llu,\"largest\":%llu,\"shared\":%llu,\"units\":%zu,\"group\":%zu",
           d->chosen ? "true" : "false", (unsigned long long)d->memory, (unsigned long long)d->largest,
           (unsigned long long)d->shared, d->units, d->group);
    if (d->checked)
        printf(",\"checked\":%d,\"check_seconds\":%.6f,\"check_worst\":%.4g", d->checked, d->check_seconds,
               d->check_worst);
    printf("}");
}

static void see(void *user, const sd_device_info *d)
{
    listing *l = user;
    l->refused += *d->refused != 0;
    if (l->s->json && l->n) printf(",");
    l->n++;
    if (l->s->json) json_of_device(d);
    else text_of_device(d, asked_for(l->s));
    fflush(stdout);   /* checking the next may take seconds */
}

/* That there is no device but the CPU is an answer, unless one was asked for. */
int run_devices(settings *s, const char *argv0)
{
    listing l = {s, 0, 0};
    char error[512];
    (void)argv0;
    if (s->json) printf("{\"devices\":[");
    sd_status status = sd_devices(s->device, s->check, see, &l, error);
    if (s->json) {
        printf("],\"error\":");
        cli_json_string(error);
        printf("}\n");
    }
    if (status && (s->device || status == SD_ERR_ARG || status == SD_ERR_MEMORY))
        return cli_error(exit_code(status), "%s", error);
    if (status && !s->json) printf("%s\n", error);
    return s->check && l.refused ? CLI_FAILURE : CLI_OK;
}
