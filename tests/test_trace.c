/* test_trace.c - traced tensors arrive under their names and in PyTorch's order; files are whole or not there. */
#define _POSIX_C_SOURCE 200809L
#include <unistd.h>

#include "test.h"
#include "../ops_cpu.h"
#include "../tensors.h"
#include "../trace.h"
#include "../weights.h"
#include "tempdir.h"

static sd_cpu cpu = {.threads = 2};

typedef struct heard { sd_traced t; char name[400]; float x[64]; int n; } heard;

static void hear(void *user, const sd_traced *t)
{
    heard *h = user;
    h->n++;
    h->t = *t;
    snprintf(h->name, sizeof h->name, "%s", t->name);
    size_t bytes = sd_dtype_size(t->dtype);
    for (int i = 0; i < t->nd; i++) bytes *= (size_t)t->dim[i];
    if (t->data && bytes <= sizeof h->x) memcpy(h->x, t->data, bytes);
}

static sd_tensor tensor(float *x, int nd, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (sd_tensor){.nd = nd, .dim = {a, b, c, d}, .dt = SD_F32, .data = x};
}

static void expect_dims(const sd_traced *t, int nd, const int64_t *dim)
{
    assert_int_equal(t->nd, nd);
    for (int i = 0; i < nd; i++) assert_int_equal(t->dim[i], dim[i]);
}

static sd_trace *to_function(sd_run *r, const char *filter, heard *h)
{
    memset(h, 0, sizeof *h);
    assert_int_equal(sd_trace_to_callback(&r->trace, filter, hear, h, r->err), SD_OK);
    return r->trace;
}

static sd_trace *to_file(sd_run *r, const char *filter, const char *name)
{
    assert_int_equal(sd_trace_to_file(&r->trace, filter, temp_path(name), r->err), SD_OK);
    return r->trace;
}

TEST(nobody_listening_costs_nothing)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float x[1] = {0};
    assert_false(sd_traces(&r));
    sd_trace_prefix(&r, "a.");
    sd_trace_tensor(&r, tensor(x, 1, 1, 0, 0, 0), "a");
    sd_trace_transposed(&r, tensor(x, 3, 1, 1, 1, 0), "a");
    sd_trace_numbers(&r, 1, (const int64_t[]){1}, x, "a");
    assert_int_equal(e.status, SD_OK);
    assert_int_equal(sd_trace_finish(NULL, &e), SD_OK);
    sd_trace_abort(NULL);
}

TEST(names_carry_the_prefix_and_pass_the_filter)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    heard h;
    float x[2] = {1, 2};
    sd_tensor t = tensor(x, 2, 1, 2, 0, 0);
    to_function(&r, "step.?.unet.mid_block*,latents.*", &h);
    assert_true(sd_traces(&r));
    sd_trace_tensor(&r, t, "mid_block.resnets.%d", 0);
    assert_int_equal(h.n, 0);
    sd_trace_prefix(&r, "step.%d.unet.", 3);
    sd_trace_tensor(&r, t, "mid_block.resnets.%d", 0);
    assert_int_equal(h.n, 1);
    assert_string_equal(h.name, "step.3.unet.mid_block.resnets.0");
    expect_dims(&h.t, 2, (const int64_t[]){1, 2});
    assert_int_equal(h.t.dtype, SD_F32);
    assert_memory_equal(h.x, x, sizeof x);
    sd_trace_tensor(&r, t, "conv_in");
    assert_int_equal(h.n, 1);
    sd_trace_prefix(&r, "%s", "");
    sd_trace_tensor(&r, t, "latents.%d", 7);
    assert_string_equal(h.name, "latents.7");
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
    const char *everything[] = {NULL, ""};
    for (int i = 0; i < 2; i++) {
        to_function(&r, everything[i], &h);
        sd_trace_tensor(&r, t, "any.thing");
        assert_int_equal(h.n, 1);
        sd_trace_abort(r.trace);
    }
}

TEST(feature_maps_are_handed_on_as_nchw)
{
    /* [N,H,W,C] = [2,1,2,3]: pixel by pixel, channels together. By hand: channel by channel, pixels together. */
    float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    const float nchw[12] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    heard h;
    to_function(&r, NULL, &h);
    sd_trace_tensor(&r, tensor(x, 4, 2, 1, 2, 3), "x");
    expect_dims(&h.t, 4, (const int64_t[]){2, 3, 1, 2});
    assert_memory_equal(h.x, nchw, sizeof nchw);
    assert_true(x[1] == 1);   /* the original stays as it is */
    sd_trace_transposed(&r, tensor(x, 3, 2, 2, 3, 0), "x");
    expect_dims(&h.t, 3, (const int64_t[]){2, 3, 2});
    assert_memory_equal(h.x, nchw, sizeof nchw);
    sd_trace_tensor(&r, tensor(x, 3, 2, 2, 3, 0), "x");   /* tokens are in PyTorch's order already */
    expect_dims(&h.t, 3, (const int64_t[]){2, 2, 3});
    assert_memory_equal(h.x, x, sizeof x);
    sd_trace_numbers(&r, 4, (const int64_t[]){2, 1, 2, 3}, x, "x");
    expect_dims(&h.t, 4, (const int64_t[]){2, 1, 2, 3});
    assert_memory_equal(h.x, x, sizeof x);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
}

static sd_status keep_place(void *user, const sd_traced *t, float *writable, sd_error *e)
{
    assert_null(writable);
    *(const void **)user = t->data;
    return e->status;
}

/* A sink that needs no order gets a tensor as it lies, unless another needs PyTorch's. */
TEST(nothing_is_copied_for_sinks_that_need_no_order)
{
    float x[12] = {0};
    const void *place[2] = {NULL};
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    sd_sink sink = {.user = &place[0], .see = keep_place, .unordered = true};
    assert_int_equal(sd_trace_new(&r.trace, NULL, &sink, &e), SD_OK);
    sd_trace_tensor(&r, tensor(x, 4, 2, 1, 2, 3), "x");
    assert_ptr_equal(place[0], x);
    sink.user = &place[1];
    sink.unordered = false;
    assert_int_equal(sd_trace_add(r.trace, "y", &sink, &e), SD_OK);
    sd_trace_tensor(&r, tensor(x, 4, 2, 1, 2, 3), "x");   /* the other wants none of this */
    assert_ptr_equal(place[0], x);
    sd_trace_tensor(&r, tensor(x, 4, 2, 1, 2, 3), "y");
    assert_ptr_not_equal(place[0], x);
    assert_ptr_equal(place[0], place[1]);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
}

typedef struct compare { const float *x; int64_t N, P, C; size_t wrong; int n; } compare;

static void compare_nchw(void *user, const sd_traced *t)
{
    compare *c = user;
    const float *y = t->data;
    c->n++;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t p = 0; p < c->P; p++)
            for (int64_t k = 0; k < c->C; k++)
                c->wrong += y[(n * c->C + k) * c->P + p] != c->x[(n * c->P + p) * c->C + k];
}

TEST(transposing_is_right_for_every_size_and_thread_count)
{
    const int64_t sizes[][4] = {{1, 1, 1, 1},    {1, 7, 5, 3},    {2, 16, 16, 16}, {3, 17, 19, 17},
                                {1, 20, 30, 47}, {2, 1, 257, 33}, {1, 3, 1, 320},  {1, 40, 40, 4},
                                {2, 90, 91, 17}};   /* the last one takes several threads */
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    compare c = {0};
    assert_int_equal(sd_trace_to_callback(&r.trace, NULL, compare_nchw, &c, &e), SD_OK);
    for (size_t i = 0; i < SD_COUNT(sizes); i++) {
        const int64_t *s = sizes[i];
        size_t n = (size_t)(s[0] * s[1] * s[2] * s[3]);
        float *x = malloc(n * sizeof *x);
        for (size_t k = 0; k < n; k++) x[k] = (float)k;
        c.x = x, c.N = s[0], c.P = s[1] * s[2], c.C = s[3];
        for (cpu.threads = 1; cpu.threads < 5; cpu.threads++) {
            sd_trace_tensor(&r, tensor(x, 4, s[0], s[1], s[2], s[3]), "x");
            sd_trace_transposed(&r, tensor(x, 3, s[0], s[1] * s[2], s[3], 0), "x");
        }
        free(x);
    }
    assert_int_equal(c.n, 8 * SD_COUNT(sizes));
    assert_int_equal(c.wrong, 0);
    sd_trace_abort(r.trace);
}

TEST(without_numbers_names_and_shapes_are_handed_on)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_null};
    heard h;
    to_function(&r, NULL, &h);
    sd_trace_tensor(&r, tensor(NULL, 4, 2, 8, 9, 320), "down");
    assert_int_equal(h.n, 1);
    assert_string_equal(h.name, "down");
    assert_null(h.t.data);
    expect_dims(&h.t, 4, (const int64_t[]){2, 320, 8, 9});
    sd_trace_transposed(&r, tensor(NULL, 3, 1, 64, 32, 0), "group_norm");
    expect_dims(&h.t, 3, (const int64_t[]){1, 32, 64});
    assert_null(h.t.data);
    sd_trace_abort(r.trace);
    temp_clear();
    to_file(&r, NULL, "null.safetensors");
    sd_trace_tensor(&r, tensor(NULL, 4, 2, 8, 9, 320), "down");
    sd_trace_tensor(&r, tensor(NULL, 4, 2, 8, 9, 320), "down");   /* no duplicate either: nothing is kept */
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
}

TEST(a_run_that_failed_is_not_traced)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    heard h;
    float x[1] = {0};
    to_function(&r, NULL, &h);
    sd_fail(&e, SD_ERR_CANCELLED, "cancelled");
    sd_trace_tensor(&r, (sd_tensor){0}, "x");
    sd_trace_transposed(&r, (sd_tensor){0}, "x");
    sd_trace_numbers(&r, 1, (const int64_t[]){1}, x, "x");
    assert_int_equal(h.n, 0);
    sd_error_clear(&e);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);   /* the run's error is not the trace's */
}

/* --------------------------------------------------------------------------------------- files */

TEST(a_trace_file_is_a_safetensors_file)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float map[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, t[1] = {981};
    const float nchw[12] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    const int64_t tokens[3] = {49406, 320, 49407};
    temp_clear();
    to_file(&r, "*", "t.safetensors");
    assert_false(sd_is_file(temp_path("t.safetensors")));
    sd_trace_readonly(&r, SD_F32, 1, (const int64_t[]){1}, t, "timestep.%d", 0);
    sd_trace_readonly(&r, SD_I64, 2, (const int64_t[]){1, 3}, tokens, "tokens");
    sd_trace_prefix(&r, "step.0.unet.");
    sd_trace_tensor(&r, tensor(map, 4, 2, 1, 2, 3), "conv_in");
    assert_false(sd_is_file(temp_path("t.safetensors")));
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
    assert_int_equal(temp_files(), 1);   /* nothing temporary is left */
    sd_weight_file f;
    assert_int_equal(sd_weight_file_open(&f, temp_path("t.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, 3);
    const sd_entry *a = sd_weight_file_find(&f, "timestep.0"), *b = sd_weight_file_find(&f, "tokens"),
                   *c = sd_weight_file_find(&f, "step.0.unet.conv_in");
    assert_true(a && b && c);
    assert_memory_equal(a->data, t, sizeof t);
    assert_memory_equal(b->data, tokens, sizeof tokens);
    assert_memory_equal(c->data, nchw, sizeof nchw);
    assert_int_equal(b->dt, SD_I64);
    assert_int_equal(c->dim[1], 3);
    assert_int_equal((uintptr_t)b->data % 8, 0);   /* though a lone float came before */
    sd_weight_file_close(&f);
}

TEST(many_large_tensors_keep_their_places)
{
    enum { N = 700, SIZE = 777 };
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float *x = malloc(SIZE * sizeof *x);
    to_file(&r, NULL, "many.safetensors");
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < SIZE; k++) x[k] = (float)(i * SIZE + k);
        sd_trace_tensor(&r, tensor(x, 1, SIZE, 0, 0, 0), "%d", i * 37 % N);   /* in no order */
    }
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
    sd_weight_file f;
    assert_int_equal(sd_weight_file_open(&f, temp_path("many.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, N);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i * 37 % N);
        const sd_entry *t = sd_weight_file_find(&f, name);
        float ends[2];
        memcpy(&ends[0], t->data, sizeof(float));
        memcpy(&ends[1], (const float *)t->data + SIZE - 1, sizeof(float));
        assert_true(ends[0] == (float)(i * SIZE) && ends[1] == (float)(i * SIZE + SIZE - 1));
    }
    sd_weight_file_close(&f);
    free(x);
}

TEST(an_aborted_trace_leaves_nothing)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float x[2] = {1, 2};
    temp_clear();
    to_file(&r, NULL, "t.safetensors");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "x");
    sd_trace_abort(r.trace);
    assert_int_equal(temp_files(), 0);
}

TEST(a_name_twice_is_an_error_at_once)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float x[2] = {1, 2};
    temp_clear();
    to_file(&r, NULL, "t.safetensors");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "latents.0");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "latents.1");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "latents.0");
    assert_int_equal(e.status, SD_ERR_ARG);
    assert_non_null(strstr(e.text, "has \"latents.0\" already"));
    sd_error_clear(&e);
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "latents.2");
    assert_int_equal(e.status, SD_ERR_ARG);   /* it stays broken, and says so */
    sd_error_clear(&e);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "has \"latents.0\" already"));
    assert_int_equal(temp_files(), 0);
}

TEST(a_filter_that_matches_nothing_is_an_error_with_an_example)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    float x[2] = {1, 2};
    temp_clear();
    to_file(&r, "unet.mid_blok*", "t.safetensors");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "unet.mid_block.resnets.0");
    assert_int_equal(e.status, SD_OK);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "\"unet.mid_blok*\" matches none of 1 names, such as unet.mid_block.resnets.0"));
    assert_int_equal(temp_files(), 0);
    sd_error_clear(&e);
    to_file(&r, "x", "t.safetensors");   /* nothing ran: nothing to complain of */
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
    assert_int_equal(temp_files(), 1);
}

TEST(names_of_any_length_end_in_an_error_not_an_overrun)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    heard h;
    float x[1] = {0};
    char name[2000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    to_function(&r, NULL, &h);
    sd_trace_prefix(&r, "%s", name);
    sd_trace_tensor(&r, tensor(x, 1, 1, 0, 0, 0), "%s", name);
    assert_int_equal(e.status, SD_ERR_ARG);
    assert_int_equal(h.n, 0);
    sd_trace_abort(r.trace);
}

TEST(only_floats_are_transposed)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    heard h;
    float x[4] = {0};
    sd_tensor half = tensor(x, 4, 1, 2, 2, 2);
    half.dt = SD_F16;
    to_function(&r, NULL, &h);
    sd_trace_tensor(&r, half, "x");
    assert_int_equal(e.status, SD_ERR_ARG);
    assert_int_equal(h.n, 0);
    sd_trace_abort(r.trace);
}

TEST(a_place_that_cannot_be_written_is_known_at_once)
{
    sd_error e = {0};
    sd_trace *t = (sd_trace *)(void *)&e;
    temp_clear();
    assert_int_equal(sd_trace_to_file(&t, NULL, temp_path("no/such/t.safetensors"), &e), SD_ERR_MISSING);
    assert_null(t);
    assert_non_null(strstr(e.text, "no/such/t.safetensors: No such file or directory"));
    sd_error_clear(&e);
    assert_int_equal(sd_trace_to_file(&t, NULL, "weights", &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "is a directory"));
    assert_int_equal(temp_files(), 0);
    assert_int_equal(sd_trace_to_file(&t, NULL, temp_path("t.safetensors"), &e),
                     SD_ERR_ARG);   /* an earlier error is kept */
    assert_null(t);
    assert_int_equal(sd_trace_to_callback(&t, NULL, hear, NULL, &e), SD_ERR_ARG);
    assert_null(t);
}

TEST(a_disk_that_fills_up_leaves_nothing)
{
    enum { N = 20000 };
    const struct { size_t limit; int tensors; bool while_running; } cases[] = {
        {100000, 3, true},   /* while tensors come */
        {3 * N * 4 + 50, 3, false},   /* the data fit, data and header do not */
        {3 * N * 4 - 4, 3, false},   /* the last bytes are still in the buffer: noticed when it is flushed, or before */
    };
    float *x = calloc(N, sizeof *x);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {0}, running;
        sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
        temp_clear();
        to_file(&r, NULL, "t.safetensors");
        temp_disk_limit(cases[i].limit);
        for (int k = 0; k < cases[i].tensors; k++) sd_trace_tensor(&r, tensor(x, 1, N, 0, 0, 0), "%d", k);
        running = e;
        sd_error_clear(&e);
        sd_status got = sd_trace_finish(r.trace, &e);
        temp_disk_limit(0);
        if (cases[i].while_running) assert_int_equal(running.status, SD_ERR_IO);
        assert_int_equal(got, SD_ERR_IO);
        assert_non_null(strstr(e.text, "t.safetensors"));
        assert_non_null(strstr(e.text, "File too large"));
        assert_int_equal(temp_files(), 0);
    }
    free(x);
}

/* ------------------------------------------------------------------------------- directories of .npy files */

/* Two tensors out of the alphabet's order, with a setting. */
static sd_status to_directory(const char *first, const char *second, sd_error *e)
{
    sd_run r = {.err = e, .be = &sd_backend_cpu, .device = &cpu};
    float x[2] = {1, 2};
    const int64_t ids[1] = {49407}, dim[] = {1};
    char path[600];
    snprintf(path, sizeof path, "%s/", temp_path("d"));
    if (sd_trace_to_file(&r.trace, NULL, path, e)) return e->status;
    sd_trace_note(&r, "seed", "1");
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "%s", first);
    sd_trace_readonly(&r, SD_I64, 1, dim, ids, "%s", second);
    sd_trace_note(&r, "seed", "2");
    return sd_trace_finish(r.trace, e);
}

static void expect_order(const char *first, const char *second, const char *seed)
{
    sd_error e = {0};
    sd_tensors t;
    if (sd_tensors_open(&t, temp_path("d"), &e)) fail_msg("%s", e.text);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.at[0]->name, first);
    assert_string_equal(t.at[1]->name, second);
    assert_int_equal(t.executed, seed != NULL);
    assert_int_equal(t.n_meta, seed != NULL);
    if (seed) assert_string_equal(t.meta[0].value, seed);
    sd_tensors_close(&t);
}

TEST(a_directory_keeps_the_order_and_the_settings)
{
    sd_error e = {0};
    temp_clear();
    assert_int_equal(to_directory("z", "a", &e), SD_OK);
    expect_order("z", "a", "2");
    assert_int_equal(to_directory("b", "a", &e), SD_OK);   /* nothing stays of the trace that was there */
    expect_order("b", "a", "2");
    remove(temp_path("d/tensors.json"));
    expect_order("a", "b", NULL);                          /* by name, then */
    temp_clear();
}

TEST(a_trace_takes_no_directory_with_the_arrays_of_another_program)
{
    sd_error e = {0};
    size_t n;
    temp_clear();
    assert_int_equal(to_directory("z", "a", &e), SD_OK);
    char *array = temp_read("d/z.npy", &n);
    temp_write("d/mine.npy", array, n);
    assert_int_equal(to_directory("b", "a", &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "it has mine.npy"));
    sd_error_clear(&e);
    sd_tensors t;   /* the list lacks one of them: names alone tell the order */
    assert_int_equal(sd_tensors_open(&t, temp_path("d"), &e), SD_OK);
    assert_int_equal(t.n, 3);
    assert_string_equal(t.at[0]->name, "a");
    sd_tensors_close(&t);
    free(array);
    temp_clear();
}

TEST(a_run_that_fails_leaves_the_directory_as_it_was)
{
    sd_error e = {0};
    temp_clear();
    assert_int_equal(to_directory("z", "a", &e), SD_OK);
    assert_int_equal(to_directory("y", "y", &e), SD_ERR_ARG);   /* a name twice ends the run */
    expect_order("z", "a", "2");
    sd_error_clear(&e);
    assert_int_equal(to_directory("a/b", "a", &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "\"a/b\" cannot be the name of a file"));
    temp_clear();
}

TEST(a_damaged_list_of_tensors_is_an_error)
{
    static const struct { const char *text, *word; } wrong[] = {
        {"{\"tensors\": [\"z\", \"a\"", "tensors.json"}, {"[]", "expected a JSON object"},
        {"{\"tensors\": {}}", "must have a list of names"}, {"{\"tensors\": [1]}", "must be a list of names"},
        {"{\"tensors\": [], \"settings\": 1}", "settings, if any, as an object"},
    };
    sd_error e = {0};
    temp_clear();
    assert_int_equal(to_directory("z", "a", &e), SD_OK);
    for (size_t i = 0; i < SD_COUNT(wrong); i++) {
        sd_tensors t;
        temp_write("d/tensors.json", wrong[i].text, strlen(wrong[i].text));
        assert_int_equal(sd_tensors_open(&t, temp_path("d"), &e), SD_ERR_FORMAT);
        if (!strstr(e.text, wrong[i].word)) fail_msg("not \"%s\" but %s", wrong[i].word, e.text);
        sd_error_clear(&e);
    }
    static const char numbers[] = "{\"tensors\": [\"z\", \"a\", \"gone\"], \"settings\": {\"steps\": 20}}";
    temp_write("d/tensors.json", numbers, sizeof numbers - 1);   /* settings as numbers, and a file that is not there */
    expect_order("z", "a", "20");
    temp_clear();
}

TEST(a_disk_that_fills_up_leaves_no_file_in_the_directory)
{
    sd_error e = {0};
    temp_clear();
    temp_disk_limit(100);   /* less than the header of an array */
    sd_status status = to_directory("z", "a", &e);
    temp_disk_limit(0);
    assert_int_equal(status, SD_ERR_IO);
    remove(temp_path("d"));
    assert_int_equal(temp_files(), 0);   /* it was empty */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_listening_costs_nothing),
        cmocka_unit_test(names_carry_the_prefix_and_pass_the_filter),
        cmocka_unit_test(feature_maps_are_handed_on_as_nchw),
        cmocka_unit_test(transposing_is_right_for_every_size_and_thread_count),
        cmocka_unit_test(nothing_is_copied_for_sinks_that_need_no_order),
        cmocka_unit_test(without_numbers_names_and_shapes_are_handed_on),
        cmocka_unit_test(a_run_that_failed_is_not_traced),
        cmocka_unit_test(a_trace_file_is_a_safetensors_file),
        cmocka_unit_test(many_large_tensors_keep_their_places),
        cmocka_unit_test(an_aborted_trace_leaves_nothing),
        cmocka_unit_test(a_name_twice_is_an_error_at_once),
        cmocka_unit_test(a_filter_that_matches_nothing_is_an_error_with_an_example),
        cmocka_unit_test(names_of_any_length_end_in_an_error_not_an_overrun),
        cmocka_unit_test(only_floats_are_transposed),
        cmocka_unit_test(a_place_that_cannot_be_written_is_known_at_once),
        cmocka_unit_test(a_disk_that_fills_up_leaves_nothing),
        cmocka_unit_test(a_directory_keeps_the_order_and_the_settings),
        cmocka_unit_test(a_trace_takes_no_directory_with_the_arrays_of_another_program),
        cmocka_unit_test(a_run_that_fails_leaves_the_directory_as_it_was),
        cmocka_unit_test(a_damaged_list_of_tensors_is_an_error),
        cmocka_unit_test(a_disk_that_fills_up_leaves_no_file_in_the_directory),
    };
    return cmocka_run_group_tests_name("trace", tests, temp_make, temp_remove);
}
