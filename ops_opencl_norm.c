/* ops_opencl_norm.c - floor 2: group norm and layer norm. */
#include "ops_opencl.h"

/* opencl/norm.cl: work-items of a group; rows of one that treats each row alone, on a CPU and elsewhere; channels of an
 * item that adds up pixels on a CPU; numbers of a sum for each channel and run */
enum { LANES = 64, CPU_ROWS = 32, GPU_ROWS = 4, CPU_CHANNELS = 16, NUMBERS = 4 };

static void run_groups(sd_cl_call *k, int64_t a, int64_t b, int64_t c, double work)
{
    sd_cl_run(k, (size_t[]){sd_cl_of(k->r)->cpu ? 1 : LANES, 1, 1}, (size_t[]){(size_t)a, (size_t)b, (size_t)c}, work);
}

/* A number with a pair of floats' digits: two arguments. */
static void pair(sd_cl_call *k, double x)
{
    sd_cl_float(k, x);
    sd_cl_float(k, x - (double)(float)x);
}

/* ---------------------------------------------------------------------------------- group norm */

typedef struct norm { int64_t pictures, pixels, channels, runs; } norm;   /* pixels of one picture */

static void add_sums(sd_run *r, sd_cl_place sums, sd_tensor x, norm n, int64_t pixel, int64_t count)
{
    sd_cl_call k = sd_cl_begin(r, "norm", "norm_sums", "");
    sd_cl_buffer(&k, sums.buffer, sums.at), sd_cl_tensor(&k, x), sd_cl_int(&k, n.channels);
    sd_cl_int(&k, pixel), sd_cl_int(&k, count), sd_cl_int(&k, n.runs);
    int64_t first = pixel / SD_NORM_RUN;
    run_groups(&k, sd_cl_div_up(pixel + count, SD_NORM_RUN) - first,
               sd_cl_div_up(n.channels, sd_cl_of(r)->cpu ? CPU_CHANNELS : LANES), n.pictures,
               4 * (double)sd_numel(&x));
}

static void find_scale(sd_run *r, sd_cl_place scale, sd_cl_place sums, const sd_tensor *g, const sd_tensor *b,
                       norm n, int groups, double eps)
{
    int64_t per = n.channels / groups;
    cl_mem gain = sd_cl_floats(r, g), bias = sd_cl_floats(r, b);
    sd_cl_call k = sd_cl_begin(r, "norm", "norm_scale", "");
    sd_cl_buffer(&k, scale.buffer, scale.at), sd_cl_buffer(&k, sums.buffer, sums.at);
    sd_cl_buffer(&k, gain, 0), sd_cl_buffer(&k, bias, 0);
    sd_cl_int(&k, n.channels), sd_cl_int(&k, per), sd_cl_int(&k, n.runs);
    pair(&k, 1 / ((double)n.pixels * (double)per)), pair(&k, eps);
    run_groups(&k, groups, n.pictures, 1,
               NUMBERS * (double)(n.pictures * n.runs * n.channels));
}

static void apply(sd_run *r, sd_tensor y, sd_tensor x, sd_cl_place scale, int64_t pixels, bool silu)
{
    sd_cl_call k = sd_cl_begin(r, "norm", "norm_apply", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_buffer(&k, scale.buffer, scale.at);
    sd_cl_int(&k, sd_cl_rows(x)), sd_cl_int(&k, sd_cl_columns(x)), sd_cl_int(&k, pixels), sd_cl_int(&k, silu);
    run_groups(&k, sd_cl_div_up(sd_cl_rows(x), sd_cl_of(r)->cpu ? CPU_ROWS : GPU_ROWS), 1, 1, 2 * (double)sd_numel(&x));
}

void sd_cl_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, bool silu)
{
    norm n = {.pictures = x.dim[0], .pixels = sd_cl_rows(x) / x.dim[0], .channels = sd_cl_columns(x)};
    n.runs = sd_cl_div_up(n.pixels, SD_NORM_RUN);
    size_t sums = (size_t)(n.pictures * n.runs * NUMBERS * n.channels);
    cl_mem scratch = sd_cl_scratch(r, (sums + (size_t)(n.pictures * 3 * n.channels)) * sizeof(float));
    add_sums(r, (sd_cl_place){scratch, 0}, x, n, 0, n.pixels);
    find_scale(r, (sd_cl_place){scratch, sums}, (sd_cl_place){scratch, 0}, g, b, n, groups, eps);
    apply(r, y, x, (sd_cl_place){scratch, sums}, n.pixels, silu);
}

/* Each run begins with the band that has its first pixel, so nothing need be zero before. */
void sd_cl_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    add_sums(r, sd_cl_find(r, sums), x, (norm){.pictures = 1, .channels = sd_cl_columns(x), .runs = sums.dim[0]}, pixel,
             sd_cl_rows(x));
}

void sd_cl_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, int64_t pixels)
{
    norm n = {.pictures = 1, .pixels = pixels, .channels = sd_cl_columns(scale)};
    n.runs = sd_cl_div_up(pixels, SD_NORM_RUN);
    find_scale(r, sd_cl_find(r, scale), sd_cl_find(r, sums), g, b, n, groups, eps);
}

void sd_cl_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu)
{
    apply(r, y, x, sd_cl_find(r, scale), sd_cl_rows(x), silu);
}

/* ---------------------------------------------------------------------------------- layer norm */

void sd_cl_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    cl_mem gain = sd_cl_floats(r, g), bias = sd_cl_floats(r, b);
    sd_cl_call k = sd_cl_begin(r, "norm", "layer_norm", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_buffer(&k, gain, 0), sd_cl_buffer(&k, bias, 0);
    sd_cl_int(&k, sd_cl_rows(x)), sd_cl_int(&k, sd_cl_columns(x));
    pair(&k, 1 / (double)sd_cl_columns(x)), pair(&k, eps);
    run_groups(&k, sd_cl_div_up(sd_cl_rows(x), sd_cl_of(r)->cpu ? CPU_ROWS : 1), 1, 1, 3 * (double)sd_numel(&x));
}
