/* test_blocks.c - weights in 8-bit floats and in blocks compute what the same weights as floats do, bit for bit. */
#include <sys/stat.h>

#include "test.h"
#include "../weights.h"
#include "context.h"
#include "numbers.h"
#include "provider.h"
#include "tempdir.h"

/* ------------------------------------------------------------------------------------------ operations */

enum { ROWS = 40, COLUMNS = 256, NUMBERS = ROWS * COLUMNS };

/* The row of numbers of this type in the golden file, again and again, as a matrix. */
static sd_tensor matrix_of(sd_dtype dt, unsigned char *room)
{
    sd_weight_file f;
    sd_error e = {0};
    if (sd_weight_file_open(&f, "tests/golden/types.gguf", &e)) fail_msg("%s", e.text);
    const sd_entry *t = sd_weight_file_find(&f, sd_dtype_name(dt));
    assert_non_null(t);
    size_t bytes = sd_dtype_bytes(dt, COLUMNS);
    assert_int_equal(t->bytes, bytes);
    for (int i = 0; i < ROWS; i++)   /* each row begins elsewhere, where blocks are shorter than it */
        for (size_t k = 0, block = sd_dtype_bytes(dt, sd_dtype_block(dt)); k < bytes; k += block)
            memcpy(room + (size_t)i * bytes + k, (const char *)t->data + (k + (size_t)i * block) % bytes, block);
    sd_weight_file_close(&f);
    return (sd_tensor){.nd = 2, .dim = {ROWS, COLUMNS}, .dt = dt, .data = room};
}

/* Each operation that reads weights of any type: numbers of its result in y. */
static size_t use(const sd_kern *k, int threads, const sd_blas *blas, const sd_tensor *w, float *y)
{
    static float x[7 * COLUMNS], places[3 * COLUMNS];
    static const int32_t ids[] = {0, 39, 17};
    sd_error err = {0};
    sd_cpu cpu = {.kern = k, .threads = threads, .blas = blas};
    sd_run run = {.err = &err, .be = &sd_backend_cpu, .device = &cpu};
    const sd_tensor position = {.nd = 2, .dim = {3, COLUMNS}, .data = places};
    for (size_t i = 0; i < SD_COUNT(x); i++) x[i] = (float)((int)(i * 37 % 101) - 50) / 50.0f;
    if (sd_reserve(&run, 1 << 20, "a test")) fail_msg("%s", err.text);
    sd_tensor in = sd_new_from(&run, 2, (const int64_t[]){7, COLUMNS}, x);
    sd_tensor out = sd_linear(&run, in, w, NULL), words = sd_embed(&run, ids, 1, 3, w, &position);
    if (err.status) fail_msg("%s", err.text);
    sd_download(&run, out, y);
    sd_download(&run, words, y + 7 * ROWS);
    sd_run_free(&run);
    return 7 * ROWS + 3 * COLUMNS;
}

TEST(every_type_of_blocks_computes_what_its_floats_do)
{
    static const sd_dtype types[] = {SD_Q8_0, SD_Q4_0, SD_Q4_1, SD_Q5_0, SD_Q5_1,
                                     SD_Q2_K, SD_Q3_K, SD_Q4_K, SD_Q5_K, SD_Q6_K};
    static float floats[NUMBERS], want[4096], got[4096];
    static unsigned char room[NUMBERS * 2];
    for (size_t i = 0; i < SD_COUNT(types); i++)
        for (int turn = 0; turn < 4; turn++) {
            const sd_kern *k = turn == 0 ? sd_kern_select_precise(NULL) : sd_kern_select(NULL);
            int threads = turn == 2 ? 2 : 1;
            const sd_blas *blas = turn == 3 ? openblas() : NULL;
            sd_tensor w = matrix_of(types[i], room), plain = w;
            sd_widen(floats, room, types[i], NUMBERS, &sd_kern_spec);
            plain.dt = SD_F32;
            plain.data = floats;
            size_t n = use(k, threads, blas, &plain, want);
            assert_int_equal(use(k, threads, blas, &w, got), n);
            assert_memory_equal(got, want, n * sizeof *want);
            assert_true(want[0] != 0 && fnv1a_f32(want, n) != fnv1a_f32(want + 1, n));
        }
}

/* --------------------------------------------------------------------------------------- whole pictures */

/* How a copy of the model in the box has its weights. */
typedef struct form {
    sd_dtype dt;
    float scale;         /* of matrices and kernels; 0: none */
    bool flat;           /* kernels are stored flat, as types of blocks need it; their shapes are texts */
    bool widened;        /* ... and then as floats again */
    bool forgotten;      /* the scales are not written: what a reader makes of the file that ignores them */
} form;

enum { MOST = 1024 };
typedef struct copy {
    form as;
    sd_traced tensor[2 * MOST];
    char name[2 * MOST][160], key[MOST][160], shape[MOST][64];
    const sd_entry *of[2 * MOST];   /* NULL: a scale */
    sd_pair meta[MOST];
    size_t n, n_meta;
} copy;
static copy c;

static bool is_matrix(const sd_entry *t) { return t->nd > 1 && strstr(t->name, ".weight"); }

static size_t count(int nd, const int64_t *dim)
{
    size_t n = 1;
    for (int i = 0; i < nd; i++) n *= (size_t)dim[i];
    return n;
}

static void plan_scale(const sd_entry *t)
{
    size_t i = c.n++;
    snprintf(c.name[i], sizeof c.name[i], "%.*s.scale_weight", (int)(strlen(t->name) - 7), t->name);
    c.tensor[i] = (sd_traced){c.name[i], SD_F32, 0, {0}, NULL};
}

static void plan_tensor(const sd_entry *t)
{
    size_t i = c.n++, numbers = count(t->nd, t->dim), block = sd_dtype_block(c.as.dt);
    bool rows = (size_t)t->dim[t->nd - 1] % block == 0, flat = c.as.flat && !rows && numbers % block == 0;
    sd_dtype dt = is_matrix(t) && (rows || flat) ? c.as.dt : SD_F32;
    c.of[i] = t;
    c.tensor[i] = (sd_traced){t->name, c.as.widened ? SD_F32 : dt, t->nd, {0}, NULL};
    memcpy(c.tensor[i].dim, t->dim, sizeof c.tensor[i].dim);
    if (dt != SD_F32 && c.as.widened) c.tensor[i].data = "by way of the type";
    if (dt != SD_F32 && flat && !c.as.widened) {
        size_t m = c.n_meta++;
        snprintf(c.key[m], sizeof c.key[m], "comfy.gguf.orig_shape.%s", t->name);
        snprintf(c.shape[m], sizeof c.shape[m], "[%d,%d,%d,%d]", (int)t->dim[0], (int)t->dim[1],
                 t->nd > 2 ? (int)t->dim[2] : 1, t->nd > 3 ? (int)t->dim[3] : 1);
        c.meta[m] = (sd_pair){c.key[m], c.shape[m]};
        c.tensor[i].nd = 2;
        c.tensor[i].dim[0] = (int64_t)(numbers / block);
        c.tensor[i].dim[1] = (int64_t)block;
    }
    if (dt != SD_F32 && c.as.scale != 0 && !c.as.widened && !c.as.forgotten) plan_scale(t);
}

/* The numbers of a tensor in its new form. */
static sd_status put_numbers(UNUSED void *user, size_t i, FILE *to, UNUSED const char *path, UNUSED sd_error *e)
{
    const sd_traced *t = &c.tensor[i];
    if (!c.of[i]) {
        assert_int_equal(fwrite(&c.as.scale, sizeof(float), 1, to), 1);
        return SD_OK;
    }
    size_t n = count(c.of[i]->nd, c.of[i]->dim);
    bool narrow = t->dtype != SD_F32 || t->data;
    float *x = malloc(n * sizeof *x);
    unsigned char *raw = malloc(n * sizeof(double));
    sd_widen(x, c.of[i]->data, c.of[i]->dt, n, &sd_kern_spec);
    for (size_t k = 0; k < n && narrow && c.as.scale != 0; k++) x[k] /= c.as.scale;
    sd_narrow(raw, narrow ? c.as.dt : SD_F32, x, n);
    if (narrow && c.as.widened) {
        sd_widen(x, raw, c.as.dt, n, &sd_kern_spec);
        for (size_t k = 0; k < n && c.as.scale != 0; k++) x[k] *= c.as.scale;
        memcpy(raw, x, n * sizeof *x);
    }
    assert_int_equal(fwrite(raw, sd_dtype_bytes(t->dtype, n), 1, to), 1);
    free(raw);
    free(x);
    return SD_OK;
}

static void copy_text(const char *name)
{
    char from[256];
    size_t n;
    char *data;
    sd_error e = {0};
    snprintf(from, sizeof from, "weights/tiny/%s", name);
    if (sd_read_file(from, 1 << 24, &data, &n, &e)) fail_msg("%s", e.text);
    temp_write(name, data, n);
    free(data);
}

static void copy_weights(const char *part, const char *stem, form as)
{
    char dir[256], name[256];
    sd_error e = {0};
    sd_store s = {0};
    snprintf(dir, sizeof dir, "weights/tiny/%s", part);
    snprintf(name, sizeof name, "%s/%s.safetensors", part, stem);
    if (sd_store_open_dir(&s, dir, stem, &e)) fail_msg("%s", e.text);
    assert_true(sd_store_count(&s) < MOST);
    c.as = as;
    c.n = c.n_meta = 0;
    memset(c.of, 0, sizeof c.of);
    for (size_t i = 0; i < sd_store_count(&s); i++) plan_tensor(sd_store_at(&s, i));
    const sd_file_plan p = {.tensor = c.tensor, .n = c.n, .meta = c.meta, .n_meta = c.n_meta, .put = put_numbers};
    bool gguf = sd_dtype_block(as.dt) > 1 && !as.widened;   /* what a file is, is told by its first bytes */
    if ((gguf ? sd_gguf_write_plan : sd_safetensors_write_plan)(temp_path(name), &p, &e)) fail_msg("%s", e.text);
    sd_store_close(&s);
}

static uint64_t draw(form as)
{
    static const char *const dirs[] = {"", "unet", "vae", "text_encoder", "tokenizer", "scheduler"};
    temp_clear();
    for (size_t i = 1; i < SD_COUNT(dirs); i++) assert_int_equal(mkdir(temp_path(dirs[i]), 0777), 0);
    static const char *const texts[] = {"model_index.json", "unet/config.json", "vae/config.json",
                                        "text_encoder/config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
                                        "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json",
                                        "scheduler/scheduler_config.json"};
    for (size_t i = 0; i < SD_COUNT(texts); i++) copy_text(texts[i]);
    copy_weights("unet", "diffusion_pytorch_model", as);
    copy_weights("vae", "diffusion_pytorch_model", as);
    copy_weights("text_encoder", "model", as);
    sd_options o;
    sd_options_init(&o);
    o.model = temp_path("");
    sd_ctx *ctx = open_context(&o, SD_OK);
    sd_params p = short_run("a red apple", 64);
    sd_image image;
    if (sd_generate(ctx, &p, &image)) fail_msg("%s", sd_error_text(ctx));
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < (size_t)image.width * (size_t)image.height * 3; i++)
        hash = (hash ^ image.data[i]) * 1099511628211u;
    sd_image_free(&image);
    sd_close(ctx);
    return hash;
}

TEST(a_picture_by_narrow_weights_is_that_of_the_same_weights_as_floats)
{
    static const form forms[] = {{.dt = SD_F8_E4M3, .scale = 0.37f}, {.dt = SD_F8_E4M3}, {.dt = SD_F8_E5M2},
                                 {.dt = SD_Q8_0, .flat = true}, {.dt = SD_F64}};
    uint64_t seen[SD_COUNT(forms)];
    for (size_t i = 0; i < SD_COUNT(forms); i++) {
        form floats = forms[i];
        floats.widened = true;
        seen[i] = draw(forms[i]);
        assert_true(seen[i] == draw(floats));
        for (size_t k = 0; k < i; k++) assert_true(seen[k] != seen[i]);
    }
    form twin = forms[0];   /* the mistake */
    twin.forgotten = true;
    assert_true(draw(twin) != seen[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_of_blocks_computes_what_its_floats_do),
        cmocka_unit_test(a_picture_by_narrow_weights_is_that_of_the_same_weights_as_floats),
    };
    return cmocka_run_group_tests_name("blocks", tests, temp_make, temp_remove);
}
