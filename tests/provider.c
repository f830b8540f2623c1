/* provider.c - see provider.h. */
#include "test.h"
#include "provider.h"

#include <math.h>

#ifdef SD_WITH_OPENCL
#include "opencl.h"
static sd_cl *device[2];   /* as what it is, and as a GPU */
#endif

static double worst[PROVIDERS];
static const char *const names[PROVIDERS] = {"the specification", "own kernels", "OpenBLAS", "OpenCL",
                                             "OpenCL as on a GPU"};

const sd_blas *openblas(void)
{
    static sd_blas loaded;
    sd_error err = {0};
    return loaded.sgemm || !sd_blas_load(&loaded, &err) ? &loaded : NULL;
}

static bool is_there(int provider)
{
    if (provider < BLAS) return true;
    if (provider == BLAS) return openblas();
#ifdef SD_WITH_OPENCL
    sd_cl **cl = &device[provider - DEVICE];
    if (!getenv("SD_DEVICE")) return false;
    if (!*cl) *cl = cl_open(provider == DEVICE_AS_GPU);
    return *cl;
#else
    return false;
#endif
}

int next_provider(int after)
{
    for (after++; after < PROVIDERS && !is_there(after);) after++;
    return after;
}

sd_run run_of(int provider, sd_cpu *cpu, int threads, sd_error *err)
{
    const sd_kern *k = provider == SPECIFICATION ? sd_kern_select_precise(NULL) : sd_kern_select(NULL);
    *cpu = (sd_cpu){.kern = k, .threads = threads, .blas = provider == BLAS ? openblas() : NULL};
#ifdef SD_WITH_OPENCL
    if (provider >= DEVICE)
        return (sd_run){.err = err, .be = &sd_backend_opencl, .device = device[provider - DEVICE]};
#endif
    return (sd_run){.err = err, .be = &sd_backend_cpu, .device = cpu};
}

void start(bench *b, int provider, int threads)
{
    memset(b, 0, sizeof *b);
    b->provider = provider;
    b->run = run_of(provider, &b->cpu, threads, &b->err);
    assert_int_equal(sd_reserve(&b->run, (size_t)64 << 20, "a test"), SD_OK);
}

void stop(bench *b)
{
    while (b->copies) free(b->copy[--b->copies]);
    sd_run_free(&b->run);
}

static uint32_t state = 1;
void reseed(uint32_t seed) { state = seed; }
float rnd(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((double)(state >> 8) / (1 << 23) - 1);
}

void fill(float *x, size_t n) { for (size_t i = 0; i < n; i++) x[i] = rnd(); }

sd_tensor scaled4(bench *b, int64_t n, int64_t h, int64_t w, int64_t c, float scale, float mean)
{
    size_t count = (size_t)(n * h * w * c);
    float *x = malloc(count * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++) x[i] = rnd() * scale + mean;
    sd_tensor t = sd_new_from(&b->run, 4, (const int64_t[]){n, h, w, c}, x);
    free(x);
    return t;
}

sd_tensor random4(bench *b, int64_t n, int64_t h, int64_t w, int64_t c) { return scaled4(b, n, h, w, c, 1, 0); }

const float *numbers_of(bench *b, sd_tensor t)
{
    float *x = malloc((size_t)sd_numel(&t) * sizeof *x);
    assert_true(x && b->copies < BENCH_COPIES);
    b->copy[b->copies++] = x;
    sd_download(&b->run, t, x);
    if (b->err.status) fail_msg("%s: %s", names[b->provider], b->err.text);
    return x;
}

double rel_l2(const float *x, const double *truth, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += (x[i] - truth[i]) * (x[i] - truth[i]);
        s += truth[i] * truth[i];
    }
    return sqrt(d / (s > 0 ? s : 1));
}

void expect_near(bench *b, sd_tensor x, const double *truth, double bound)
{
    double share = rel_l2(numbers_of(b, x), truth, (size_t)sd_numel(&x)) / bound;
    if (!(share < 1)) fail_msg("%s: an error of %.2g, the bound is %.2g", names[b->provider], share * bound, bound);
    worst[b->provider] = fmax(worst[b->provider], share);
}

int close_providers(void **unused)
{
    (void)unused;
    for (int i = 0; i < PROVIDERS; i++)
        if (worst[i] > 0) print_message("%s: at most %.2f of a bound\n", names[i], worst[i]);
#ifdef SD_WITH_OPENCL
    for (int i = 0; i < 2; i++) sd_cl_close(device[i]);
#endif
    return 0;
}
