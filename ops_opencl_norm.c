/* ops_opencl_norm.c - floor 2: group norm and layer norm. */
#include "ops_opencl.h"

void sd_cl_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, bool silu)
{
    (void)r;
    (void)y;
    (void)x;
    (void)g;
    (void)b;
    (void)groups;
    (void)eps;
    (void)silu;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    (void)r;
    (void)sums;
    (void)x;
    (void)pixel;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, int64_t pixels)
{
    (void)r;
    (void)scale;
    (void)sums;
    (void)g;
    (void)b;
    (void)groups;
    (void)eps;
    (void)pixels;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu)
{
    (void)r;
    (void)y;
    (void)x;
    (void)scale;
    (void)silu;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    (void)r;
    (void)y;
    (void)x;
    (void)g;
    (void)b;
    (void)eps;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}
