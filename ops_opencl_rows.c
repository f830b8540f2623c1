/* ops_opencl_rows.c - floor 2: element-wise operations, and those that move numbers. */
#include "ops_opencl.h"

void sd_cl_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    (void)r;
    (void)y;
    (void)value;
    (void)flip;
    (void)shift;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    (void)r;
    (void)y;
    (void)x;
    (void)act;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    (void)r;
    (void)y;
    (void)x;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_add(sd_run *r, sd_tensor y, sd_tensor x)
{
    (void)r;
    (void)y;
    (void)x;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    (void)r;
    (void)y;
    (void)bias;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    (void)r;
    (void)y;
    (void)a;
    (void)b;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    (void)r;
    (void)y;
    (void)x;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}

void sd_cl_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    (void)r;
    (void)y;
    (void)ids;
    (void)token;
    (void)position;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}
