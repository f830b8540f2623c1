/* ops_opencl_attention.c - floor 2: attention with a running softmax. */
#include "ops_opencl.h"

void sd_cl_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    (void)r;
    (void)y;
    (void)q;
    (void)k;
    (void)v;
    (void)heads;
    (void)causal;
    sd_fail(r->err, SD_ERR_UNSUPPORTED, "not yet");
}
