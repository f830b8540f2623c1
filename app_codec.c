/* app_codec.c - floor 7: sd encode, sd decode and sd roundtrip: the VAE on its own. */
#include "app_stages.h"
#include "os.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_OPTIONS \
    {CLI_INT, 'W', "width", AT(p.width), 1, 65536, "N", \
     "resized to so many pixels, a multiple of 8 (default: the\npicture's own size to the nearest)"}, \
    {CLI_INT, 'H', "height", AT(p.height), 1, 65536, "N", "the same for the height"}, \
    {CLI_TEXT, 0, "resize", AT(p.edit.resize), 0, 0, "HOW", "to that size: stretch (default), crop, pad"}

static const cli_option encode_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    TAESD_OPTION,
    EMA_OPTION,
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "PATH",
     "FILE.safetensors, or FILE.npy with the latents alone; of\nseveral pictures, a directory (default: "
     "NAME.safetensors here)"},
    SIZE_OPTIONS,
    {CLI_SEED, 's', "seed", AT(seed), 0, 0, "N", "of the sample, from torch's CPU generator (default: random)"},
    {CLI_FLAG, 0, "unscaled", AT(unscaled), 0, 0, NULL, "the sample as the VAE has it, without scaling_factor"},
    COMPUTE_OPTIONS,
};
const cli_command encode_command = {
    "encode",
    "usage: sd encode PICTURE... [-o PATH] [-s N] [--unscaled]\n\n"
    "Writes what the VAE's encoder makes of a picture: mean and logvar of the posterior, and latents, a sample of it\n"
    "times the model's scaling_factor, as the UNet takes them. Each is [1,4,height/8,width/8].\n",
    encode_options, COUNT(encode_options), "a picture", AT(files), 1, NULL};

static const cli_option decode_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    TAESD_OPTION,
    EMA_OPTION,
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "PATH",
     "FILE.png or FILE.ppm; of several files, a directory\n(default: NAME" PICTURE_ENDING " here)"},
    {CLI_FLAG, 0, "unscaled", AT(unscaled), 0, 0, NULL, "they are as the VAE has them, without scaling_factor"},
    COMPUTE_OPTIONS,
};
const cli_command decode_command = {
    "decode",
    "usage: sd decode LATENTS... [-o PATH] [--unscaled]\n\n"
    "Draws the tensor \"latents\" of a file, .safetensors or .npy, or its only one, or FILE:NAME: [N,4,h,w]\n"
    "or [4,h,w].\n"
    "More than one become FILE_2, FILE_3, ...\n",
    decode_options, COUNT(decode_options), "a file of latents", AT(files), 1, NULL};

static const cli_option roundtrip_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    TAESD_OPTION,
    EMA_OPTION,
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "PATH",
     "keeps what came back: FILE.png or FILE.ppm; of several\npictures, a directory"},
    SIZE_OPTIONS,
    COMPUTE_OPTIONS,
};
const cli_command roundtrip_command = {
    "roundtrip",
    "usage: sd roundtrip PICTURE... [-o PATH]\n\n"
    "Encodes a picture, decodes the posterior's mean, and prints how much of it came back: the peak\n"
    "signal-to-noise ratio of its bytes and the structural similarity of its brightness.\n",
    roundtrip_options, COUNT(roundtrip_options), "a picture", AT(files), 1, NULL};

/* -------------------------------------------------------------------------------------- names */

/* "dir/name.png" -> "name" and its length. */
static const char *stem(const char *path, size_t *n)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    *n = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    return name;
}

/* Where the result of a file goes: the output itself, or the file's name with another ending, in the directory that the
 * output is. */
static int output_path(char path[PATH_SIZE], const settings *s, const char *file, const char *ending)
{
    size_t n;
    const char *name = stem(file, &n), *dir = s->output ? s->output : ".";
    int slash = ends_with(dir, "/");
    int itself = s->output && s->files.n == 1 && !slash && sd_os_look(s->output, NULL) != SD_OS_DIRECTORY;
    int used = itself ? snprintf(path, PATH_SIZE, "%s", s->output)
                      : snprintf(path, PATH_SIZE, "%s%s%.*s%s", dir, slash ? "" : "/", (int)n, name, ending);
    return used < PATH_SIZE ? CLI_OK : cli_error(CLI_USAGE, "the output path is longer than %d bytes", PATH_SIZE - 1);
}

static int check_files(const settings *s, const cli_command *c, const char *ending)
{
    int picture = strcmp(ending, PICTURE_ENDING) == 0;
    if (s->files.n == 0) return cli_error(CLI_USAGE, "give %s; see --help", c->positional);
    for (size_t i = 0; i < s->files.n; i++)
        for (size_t k = 0; k < i; k++) {
            size_t a, b;
            const char *one = stem(s->files.v[i], &a), *other = stem(s->files.v[k], &b);
            if (a == b && memcmp(one, other, a) == 0 && c != &roundtrip_command)
                return cli_error(CLI_USAGE, "%s and %s would be written to one file", s->files.v[k], s->files.v[i]);
        }
    if (!s->output) return CLI_OK;
    if (s->files.n > 1 || ends_with(s->output, "/")) return check_directory("results", s->output);
    if (sd_os_look(s->output, NULL) == SD_OS_DIRECTORY || is_stream(s->output)) return CLI_OK;
    if (!(picture ? is_picture_name : is_latents_name)(s->output))
        return cli_error(CLI_USAGE, "the output's name must end in %s, not \"%s\"",
                         picture ? ENDINGS : ".safetensors or .npy", s->output);
    return check_writable("output", s->output);
}

/* ----------------------------------------------------------------------------- one picture, encoded */

typedef struct coded {
    sd_image image;       /* at the size that was encoded */
    int h, w;             /* of the latents */
    size_t n;             /* numbers in a latent */
    float *picture;       /* [3,H,W] in [-1,1] */
    float *mean, *logvar, *latents;
} coded;

static void coded_free(coded *c)
{
    sd_image_free(&c->image);
    free(c->picture);
    free(c->mean);
    free(c->logvar);
    free(c->latents);
    memset(c, 0, sizeof *c);
}

/* The size at which a picture is encoded. Exit code. */
static int choose_size(const settings *s, int own, int tall, int scale, int *width, int *height)
{
    *width = s->p.width > 0 ? s->p.width : nearest_multiple(own, scale);
    *height = s->p.height > 0 ? s->p.height : nearest_multiple(tall, scale);
    if (*width % scale == 0 && *height % scale == 0) return CLI_OK;
    return cli_error(CLI_USAGE, "width and height must be multiples of %d, not %dx%d", scale, *width, *height);
}

/* Reads the picture at that size into c->image, c->h and c->w, after a check that there is memory for all of it. */
static int read_picture(const settings *s, const char *file, int scale, coded *c)
{
    char hash[33] = "";
    sd_image read = {0};
    int own = 0, tall = 0, width = 0, height = 0;
    sd_status status = sd_image_size(context, file, &own, &tall);
    if (status) return report(s, status);
    int code = own ? choose_size(s, own, tall, scale, &width, &height) : CLI_OK;
    if (!code && own) status = sd_vae_fits(context, height / scale, width / scale);
    if (!code && !status && own)
        status = sd_image_read_fitted(context, file, width, height, s->p.edit.resize, &read, hash);
    else if (!code && !status) status = sd_image_read(context, file, &read);   /* it can be read only once */
    int fitted = own && *hash;
    if (!code && !status && !fitted) {   /* a PNG may say at its end that it is turned */
        own = read.width;
        tall = read.height;
        code = choose_size(s, own, tall, scale, &width, &height);
    }
    if (!code && !status && !fitted) status = sd_vae_fits(context, height / scale, width / scale);
    if (!code && !status)
        status = sd_image_resize(context, &read, width, height, fitted ? NULL : s->p.edit.resize, &c->image);
    sd_image_free(&read);
    if (code || status) return code ? code : report(s, status);
    c->h = height / scale;
    c->w = width / scale;
    if ((width != own || height != tall) && !s->quiet && s->p.width <= 0 && s->p.height <= 0)
        fprintf(stderr, "sd: %s of %dx%d becomes %dx%d, multiples of %d\n", file, own, tall, width, height, scale);
    return CLI_OK;
}

static int encode(const settings *s, const char *file, coded *c)
{
    sd_model_info info = {0};
    sd_status status = sd_get_info(context, &info);
    int code = status ? report(s, status) : read_picture(s, file, info.scale, c);
    if (code) return code;
    size_t pixels = (size_t)c->image.width * (size_t)c->image.height;
    c->n = (size_t)info.latent_channels * (size_t)c->h * (size_t)c->w;
    c->picture = malloc(3 * pixels * sizeof *c->picture);
    c->mean = malloc(c->n * sizeof *c->mean);
    c->logvar = malloc(c->n * sizeof *c->logvar);
    c->latents = malloc(c->n * sizeof *c->latents);
    if (!c->picture || !c->mean || !c->logvar || !c->latents) return no_memory();
    status = sd_image_to_floats(context, &c->image, c->picture);
    if (!status) status = sd_vae_encode(context, 1, c->h, c->w, c->picture, c->mean, c->logvar);
    return status ? report(s, status) : CLI_OK;
}

/* Noise as torch draws it for the seed. */
static void sample(coded *c, uint64_t seed, double factor)
{
    sd_randn(seed, c->latents, c->n);
    sd_vae_sample(c->mean, c->logvar, c->latents, c->n, factor, c->latents);
}

static int encode_file(const settings *s, const char *file, uint64_t seed)
{
    char path[PATH_SIZE];
    sd_model_info info = {0};
    coded c = {0};
    int code = output_path(path, s, file, ".safetensors");
    if (!code) code = encode(s, file, &c);
    if (!code) {
        sd_get_info(context, &info);
        sample(&c, seed, s->unscaled ? 1 : info.encoding_factor);
        const sd_traced tensors[] = {
            {"latents", SD_F32, 4, {1, info.latent_channels, c.h, c.w}, c.latents},
            {"logvar", SD_F32, 4, {1, info.latent_channels, c.h, c.w}, c.logvar},
            {"mean", SD_F32, 4, {1, info.latent_channels, c.h, c.w}, c.mean},
        };
        sd_status status = sd_tensors_write(context, path, tensors, ends_with(path, ".npy") ? 1 : COUNT(tensors));
        if (status) code = report(s, status);
        else if (!s->quiet) printf("%s: [1,%d,%d,%d]\n", path, info.latent_channels, c.h, c.w);
    }
    coded_free(&c);
    return code;
}

int run_encode(settings *s, const char *argv0)
{
    view v = {.s = s};
    int code = check_files(s, &encode_command, ".safetensors");
    if (!code) code = open_model(s, argv0, SD_PART_VAE, &v);
    uint64_t seed = s->seed.given ? s->seed.value : random_seed();
    if (!code) printf("seed: %llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < s->files.n && !code; i++) {
        code = stopped();
        if (!code) code = encode_file(s, s->files.v[i], seed);
    }
    return code;
}

/* ------------------------------------------------------------------------------------- decoding */

/* latents [C,h,w], times 1/factor, to a picture of bytes. */
static int decode(const settings *s, const float *latents, int channels, int h, int w, double factor, sd_image *image)
{
    sd_model_info info = {0};
    sd_get_info(context, &info);
    size_t n = (size_t)channels * (size_t)h * (size_t)w;
    size_t pixels = (size_t)h * (size_t)w * (size_t)info.scale * (size_t)info.scale;
    float *own = malloc(n * sizeof *own), *picture = malloc(3 * pixels * sizeof *picture);
    *image = (sd_image){0};
    int code = own && picture ? CLI_OK : no_memory();
    for (size_t i = 0; i < n && !code; i++) own[i] = (float)((double)latents[i] / factor);
    sd_status status = code ? SD_OK : sd_vae_decode(context, 1, h, w, own, picture);
    if (!code && !status) status = sd_image_from_floats(context, w * info.scale, h * info.scale, picture, image);
    if (status) code = report(s, status);
    free(own);
    free(picture);
    return code;
}

static int write_picture(const settings *s, const char *path, const sd_image *image)
{
    sd_status status = sd_image_write(context, path, image, NULL);
    if (status) return report(s, status);
    if (!s->quiet) printf("%s: %dx%d\n", path, image->width, image->height);
    return CLI_OK;
}

/* All latents of a tensor that was read: d is its shape, nd dimensions. */
static int decode_tensor(const settings *s, const char *file, const float *data, int nd, const int64_t dim[4])
{
    char base[PATH_SIZE], path[PATH_SIZE];
    sd_model_info info = {0};
    sd_image image;
    sd_get_info(context, &info);
    int64_t many = nd == 4 ? dim[0] : 1;
    const int64_t *d = nd == 4 ? dim + 1 : dim;   /* C, h, w */
    if ((nd != 3 && nd != 4) || many < 1 || many > 1024 || d[0] != info.latent_channels || d[1] < 1 || d[2] < 1 ||
        d[1] > 8192 || d[2] > 8192)
        return cli_error(CLI_USAGE,
                         "%s: latents must be [N,%d,h,w] or [%d,h,w], found %d dimensions: [%lld,%lld,%lld,%lld]", file,
                         info.latent_channels, info.latent_channels, nd, (long long)dim[0], (long long)dim[1],
                         (long long)dim[2], (long long)dim[3]);
    size_t n = (size_t)(d[0] * d[1] * d[2]);
    int code = check_finite(file, data, (size_t)many * n);
    if (!code) code = output_path(base, s, file, PICTURE_ENDING);
    for (int64_t i = 0; i < many && !code; i++) {
        code = stopped();
        if (!code && i && is_stream(base))
            code = cli_error(CLI_USAGE, "a pipe or a device takes one picture, %s has more", file);
        if (!code) code = picture_path(path, base, (int)i + 1);
        if (!code)
            code = decode(s, data + (size_t)i * n, (int)d[0], (int)d[1], (int)d[2],
                          s->unscaled ? 1 : info.scaling_factor, &image);
        if (code) break;
        code = write_picture(s, path, &image);
        sd_image_free(&image);
    }
    return code;
}

int run_decode(settings *s, const char *argv0)
{
    view v = {.s = s};
    int code = check_files(s, &decode_command, PICTURE_ENDING);
    if (!code) code = open_model(s, argv0, SD_PART_VAE, &v);
    for (size_t i = 0; i < s->files.n && !code; i++) {
        float *data;
        int nd;
        int64_t dim[4];
        sd_status status = sd_tensor_read(context, s->files.v[i], "latents", &data, &nd, dim);
        code = status ? report(s, status) : decode_tensor(s, s->files.v[i], data, nd, dim);
        if (!status) sd_free(data);
    }
    return code;
}

/* ----------------------------------------------------------------------------- there and back */

/* 10 log10(255^2 / mean squared difference), in dB. */
static double psnr(const sd_image *a, const sd_image *b)
{
    size_t n = 3 * (size_t)a->width * (size_t)a->height;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a->data[i] - (double)b->data[i];
        sum += d * d;
    }
    return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : (double)INFINITY;
}

static double brightness(const sd_image *image, int x, int y)   /* [ITU-R BT.601] */
{
    const uint8_t *p = image->data + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
    return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

/* Structural similarity [Wang et al. 2004, eq. 13], the mean over all windows of 8x8 pixels that begin at even places;
 * its constants are the paper's. */
static double ssim(const sd_image *a, const sd_image *b)
{
    enum { SIDE = 8 };
    const double c1 = 0.01 * 255 * 0.01 * 255, c2 = 0.03 * 255 * 0.03 * 255, n = SIDE * SIDE;
    double total = 0;
    long windows = 0;
    for (int y = 0; y + SIDE <= a->height; y += 2)
        for (int x = 0; x + SIDE <= a->width; x += 2, windows++) {
            double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
            for (int k = 0; k < SIDE * SIDE; k++) {
                double u = brightness(a, x + k % SIDE, y + k / SIDE), v = brightness(b, x + k % SIDE, y + k / SIDE);
                sa += u;
                sb += v;
                saa += u * u;
                sbb += v * v;
                sab += u * v;
            }
            double ma = sa / n, mb = sb / n, va = saa / n - ma * ma, vb = sbb / n - mb * mb, cov = sab / n - ma * mb;
            total += (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        }
    return total / (double)windows;   /* both sides are multiples of 8 */
}

int run_roundtrip(settings *s, const char *argv0)
{
    view v = {.s = s};
    double psnr_sum = 0, ssim_sum = 0;
    int code = check_files(s, &roundtrip_command, PICTURE_ENDING);
    if (!code) code = open_model(s, argv0, SD_PART_VAE, &v);
    for (size_t i = 0; i < s->files.n && !code; i++) {
        char path[PATH_SIZE];
        sd_model_info info = {0};
        sd_image back = {0};
        coded c = {0};
        code = stopped();
        if (!code) code = encode(s, s->files.v[i], &c);
        sd_get_info(context, &info);
        if (!code) code = decode(s, c.mean, info.latent_channels, c.h, c.w, 1, &back);
        if (!code) {
            double p = psnr(&c.image, &back), q = ssim(&c.image, &back);
            psnr_sum += p;
            ssim_sum += q;
            printf("%s: %dx%d  PSNR %.2f dB  SSIM %.4f\n", s->files.v[i], back.width, back.height, p, q);
        }
        if (!code && s->output) code = output_path(path, s, s->files.v[i], PICTURE_ENDING);
        if (!code && s->output) code = write_picture(s, path, &back);
        sd_image_free(&back);
        coded_free(&c);
    }
    if (!code && s->files.n > 1)
        printf("mean of %zu: PSNR %.2f dB  SSIM %.4f\n", s->files.n, psnr_sum / (double)s->files.n,
               ssim_sum / (double)s->files.n);
    return code;
}
