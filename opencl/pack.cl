/* pack.cl - weights as files have them, cut into the strips that products read. */

/* Rows first .. of x [O][I][taps] -> y [O / 32][taps][I][32], with zeros after the last of the O rows. x holds `rows`
 * of them, the first a multiple of 32. One work-item has one row and channel. */
__kernel void pack(__global weight_t *y, uint y_at, __global const weight_t *x, uint x_at, int first, int rows,
                   int channels, int taps)
{
    const int STRIP = 32;
    int o = (int)get_global_id(0), i = (int)get_global_id(1);
    if (i >= channels) return;
    size_t K = (size_t)channels * taps, strip = (size_t)(first + o) / STRIP;
    y += y_at + strip * K * STRIP + (size_t)i * STRIP + o % STRIP;
    x += x_at + (size_t)o * K + (size_t)i * taps;
    for (int t = 0; t < taps; t++) y[(size_t)t * channels * STRIP] = o < rows ? x[t] : 0;
}
