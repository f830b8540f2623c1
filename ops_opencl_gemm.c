/* ops_opencl_gemm.c - floor 2: products and convolutions as products. */
#include "ops_opencl.h"

void sd_cl_multiply(sd_run *r, const sd_cl_product *p)
{
    (void)r;
    (void)p;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    (void)r;
    (void)y;
    (void)x;
    (void)w;
    (void)b;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    (void)r;
    (void)y;
    (void)x;
    (void)w;
    (void)b;
    (void)c;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

sd_conv_how sd_cl_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    (void)r;
    (void)x;
    (void)w;
    (void)c;
    return (sd_conv_how){0};
}
