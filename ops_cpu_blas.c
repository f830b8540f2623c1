/* ops_cpu_blas.c - floor 2: products by OpenBLAS. It is loaded when somebody asks for it and not before, for loading it
 * takes longer than all else that happens before main, and it starts its threads at once. */
#include "ops_cpu.h"

#include <string.h>

#ifdef SD_WITH_OPENBLAS
/* What systems call it: the number is that of its interface, which is the same for both. Homebrew's directories are not
 * where the loader looks. */
static const char *const names[] = {"libopenblas.so.0", "libopenblas.so.3", "libopenblas.so", "libopenblas.dylib",
                                    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
                                    "/usr/local/opt/openblas/lib/libopenblas.dylib"};

sd_status sd_blas_load(sd_blas *b, sd_error *e)
{
    void *library = NULL;
    for (size_t i = 0; i < SD_COUNT(names) && !library; i++) library = sd_os_library(names[i]);
    if (!library)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "OpenBLAS is not installed: nothing called %s can be loaded", *names);
    const char *(*config)(void) = (const char *(*)(void))sd_os_library_function(library, "openblas_get_config");
    b->sgemm = (sd_blas_sgemm *)sd_os_library_function(library, "cblas_sgemm");
    b->threads = (int (*)(void))sd_os_library_function(library, "openblas_get_num_threads");
    b->set_threads = (void (*)(int))sd_os_library_function(library, "openblas_set_num_threads");
    if (!config || !b->sgemm || !b->threads || !b->set_threads)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "the OpenBLAS that is installed lacks functions of the C interface");
    if (strstr(config(), "USE64BITINT"))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "the OpenBLAS that is installed has integers of 64 bits, not of 32");
    return SD_OK;
}
#else
sd_status sd_blas_load(sd_blas *b, sd_error *e)
{
    (void)b;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "this build has no OpenBLAS: only its own products");
}
#endif

/* OpenBLAS has its own threads, and their number holds for the whole process: two contexts should use the same one. */
void sd_blas_multiply(const sd_blas *b, int threads, size_t M, size_t N, size_t K, const float *A, const float *B,
                      float *C, const float *bias)
{
    enum { ROW_MAJOR = 101, AS_IT_IS = 111, TURNED = 112 };   /* CblasRowMajor, CblasNoTrans, CblasTrans */
    if (b->threads() != threads) b->set_threads(threads);
    for (size_t i = 0; bias && i < M; i++) memcpy(C + i * N, bias, N * sizeof *C);
    b->sgemm(ROW_MAJOR, AS_IT_IS, TURNED, (int)M, (int)N, (int)K, 1, A, (int)K, B, (int)K, bias ? 1.0f : 0.0f, C,
             (int)N);
}
