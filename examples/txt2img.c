/* txt2img.c - the smallest program that draws: cc txt2img.c $(pkg-config --cflags --libs sd) -o txt2img
 * Where the library is in a place of its own, add -Wl,-rpath,THAT_PLACE (README.md, "The library").
 *
 * usage: txt2img PROMPT OUTPUT.png [MODEL] */
#include <sd.h>

#include <stdio.h>

static void on_progress(void *user, const sd_progress *p)
{
    (void)user;
    if (p->done == p->total) fprintf(stderr, "%s done\n", p->stage);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s PROMPT OUTPUT.png [MODEL]\n", argv[0]);
        return 2;
    }
    sd_ctx *ctx;
    sd_options options;
    sd_options_init(&options);
    options.model = argc > 3 ? argv[3] : NULL;   /* NULL: the model that comes with the library */
    sd_status status = sd_open(&ctx, &options);

    sd_params params;
    sd_params_init(&params);
    params.prompt = argv[1];
    params.sampling.steps = 20;
    params.seed = 42;

    sd_image image = {0};
    if (!status) {
        sd_set_progress(ctx, on_progress, NULL);
        status = sd_generate(ctx, &params, &image);
    }
    if (!status) status = sd_image_write(ctx, argv[2], &image, NULL);
    if (status) fprintf(stderr, "%s\n", sd_error_text(ctx));
    sd_image_free(&image);
    sd_close(ctx);
    return status ? 1 : 0;
}
