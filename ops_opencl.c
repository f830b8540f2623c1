/* ops_opencl.c - floor 2: the OpenCL backend: its entries, operation by operation. */
#include "ops_opencl.h"

const sd_backend sd_backend_opencl = {
    .name = "opencl",
    .alloc = sd_cl_alloc,
    .release = sd_cl_release,
    .trim = sd_cl_trim,
    .upload = sd_cl_upload,
    .download = sd_cl_download,
    .copy = sd_cl_copy,
    .sinusoid = sd_cl_sinusoid,
    .linear = sd_cl_linear,
    .conv2d = sd_cl_conv2d,
    .describe = sd_cl_describe,
    .attention = sd_cl_attention,
    .group_norm = sd_cl_group_norm,
    .norm_sums = sd_cl_norm_sums,
    .norm_scale = sd_cl_norm_scale,
    .norm_apply = sd_cl_norm_apply,
    .layer_norm = sd_cl_layer_norm,
    .act = sd_cl_act,
    .geglu = sd_cl_geglu,
    .add = sd_cl_add,
    .add_channels = sd_cl_add_channels,
    .concat = sd_cl_concat,
    .upsample = sd_cl_upsample,
    .embed = sd_cl_embed,
};
