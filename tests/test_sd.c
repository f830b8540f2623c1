/* test_sd.c - the public interface on the model in the box: what an embedding program relies on. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <unistd.h>

#include "test.h"
#include "network.h"
#include "provider.h"
#include "tempdir.h"

static sd_image draw(sd_ctx *c, const sd_params *p)
{
    sd_image image;
    if (sd_generate(c, p, &image) != SD_OK) fail_msg("%s", sd_error_text(c));
    return image;
}

static size_t bytes(const sd_image *i) { return (size_t)i->width * (size_t)i->height * 3; }

/* ---- drawing */

static void stop_at_first_step(void *user, const sd_progress *p)
{
    if (strcmp(p->stage, "step") == 0) sd_cancel(user);
}

TEST(a_seed_means_one_picture)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    sd_image a = draw(c, &p), b = draw(c, &p);
    assert_memory_equal(a.data, b.data, bytes(&a));
    p.seed++;
    sd_image d = draw(c, &p);
    assert_memory_not_equal(a.data, d.data, bytes(&a));
    sd_image_free(&a);
    sd_image_free(&b);
    sd_image_free(&d);
    sd_close(c);
}

/* Nothing of a prompt stays for the next one, not even if the run that knew it was left in the middle. */
TEST(a_prompt_leaves_no_trace)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0), *fresh = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64), other = short_run("a green tree in a field", 64);
    sd_image left;
    other.prompt = "a red apple";
    sd_set_progress(c, stop_at_first_step, c);
    assert_int_equal(sd_generate(c, &other, &left), SD_ERR_CANCELLED);
    sd_set_progress(c, NULL, NULL);
    sd_image before = draw(c, &other), a = draw(c, &p), b = draw(fresh, &p);
    assert_memory_equal(a.data, b.data, bytes(&a));
    assert_memory_not_equal(a.data, before.data, bytes(&a));
    sd_image_free(&before);
    sd_image_free(&a);
    sd_image_free(&b);
    sd_close(c);
    sd_close(fresh);
}

/* One generator draws [B,4,h,w]: the first picture of a batch is the picture drawn alone, given the same noise. */
TEST(a_batch_begins_with_the_picture_drawn_alone)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    sd_image one = draw(c, &p), three[3];
    p.batch = 3;
    assert_int_equal(sd_generate(c, &p, three), SD_OK);
    assert_memory_equal(one.data, three[0].data, bytes(&one));   /* products depend on no batch: the same bits */
    assert_memory_not_equal(one.data, three[1].data, bytes(&one));
    sd_image_free(&one);
    for (int i = 0; i < 3; i++) sd_image_free(&three[i]);
    sd_close(c);
}

TEST(given_noise_replaces_the_seed)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    float noise[4 * 8 * 8];
    sd_randn(p.seed, noise, 256);
    sd_image a = draw(c, &p);
    p.noise = noise;
    p.noise_count = 256;
    p.seed = 1;
    sd_image b = draw(c, &p);
    assert_memory_equal(a.data, b.data, bytes(&a));
    p.noise_count = 255;
    assert_int_equal(sd_generate(c, &p, &b), SD_ERR_ARG);
    assert_string_equal(sd_error_text(c), "the initial noise must be [1,4,8,8], 256 numbers, not 255");
    sd_image_free(&a);
    sd_image_free(&b);
    sd_close(c);
}

typedef struct draws { int n; size_t numbers, from_seed; int levels; } draws;

static void count_draw(void *user, const sd_random_draw *d)
{
    draws *s = user;
    bool torch = strncmp(d->stream, "torch", 5) == 0, path = strncmp(d->stream, "brownian", 8) == 0;
    if (torch || path) assert_int_equal(d->seed, 7);
    if (torch) assert_int_equal(d->position, s->from_seed);
    if (torch) s->from_seed += d->count;
    s->n++;
    s->numbers += d->count;
    s->levels += d->between_levels;
}

/* All that a run draws can be numbers of a file: the first latents and what the sampler adds. */
TEST(a_file_of_numbers_is_a_random_stream)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    float numbers[3 * 256];
    draws s = {0};
    const char *path = temp_path("numbers.safetensors");
    sd_traced t = {.name = "noise", .dtype = SD_F32, .nd = 1, .dim = {3 * 256}, .data = numbers};
    sd_randn(p.seed, numbers, 3 * 256);
    p.sampling.sampler = "euler_a";
    sd_image a = draw(c, &p);
    assert_int_equal(sd_tensors_write(c, path, &t, 1), SD_OK);
    p.rng = path;
    p.seed = 7;
    sd_set_random_draw(c, count_draw, &s);
    sd_image b = draw(c, &p);
    assert_memory_equal(a.data, b.data, bytes(&a));
    assert_int_equal(s.numbers, 3 * 256);
    sd_set_random_draw(c, NULL, NULL);
    p.sampling.steps = 3;
    assert_int_equal(sd_generate(c, &p, &b), SD_ERR_SHAPE);
    assert_non_null(strstr(sd_error_text(c), "has 768 numbers, 768 of them used, and 256 are needed"));
    p.rng = "nowhere.safetensors";
    assert_int_equal(sd_generate(c, &p, &b), SD_ERR_MISSING);
    sd_image_free(&a);
    sd_image_free(&b);
    temp_clear();
    sd_close(c);
}

TEST(guidance_of_one_takes_one_evaluation_of_the_prompt_alone)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    p.guidance.scale = 1;
    sd_image a = draw(c, &p);
    p.negative_prompt = "anything";
    sd_image b = draw(c, &p);
    assert_memory_equal(a.data, b.data, bytes(&a));
    sd_image_free(&a);
    sd_image_free(&b);
    sd_close(c);
}

/* ---- generators */

static void first_of_noise(void *user, const sd_traced *t)
{
    if (strcmp(t->name, "noise") == 0) memcpy(user, t->data, 4 * sizeof(float));
}

/* The first normals of seed 0 that each of these programs publishes or prints. */
TEST(a_seed_belongs_to_a_generator)
{
    const struct { const char *rng; double first[4]; } known[] = {
        {NULL, {-1.12584, -1.15236, -0.25058, -0.43388}},
        {"torch-cuda", {-0.924662, -0.425344, -2.643846, 0.145184}},
        {"numpy", {1.764052, 0.400157, 0.978738, 2.240893}}};
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        sd_params p = short_run("a green tree in a field", 64);
        float got[4] = {0};
        p.rng = known[i].rng;
        p.seed = 0;
        p.sampling.steps = 1;
        assert_int_equal(sd_set_trace(c, "noise", first_of_noise, got), SD_OK);
        sd_image image = draw(c, &p);
        for (int k = 0; k < 4; k++) assert_true(fabs(got[k] - known[i].first[k]) < 1e-5);
        sd_image_free(&image);
    }
    sd_params p = short_run("a green tree in a field", 64);
    sd_image image;
    p.rng = "dice";
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_ARG);
    sd_close(c);
}

TEST(a_seed_per_image_makes_each_picture_repeatable)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    sd_image both[2];
    p.batch = 2;
    p.seed_per_image = 1;
    p.sampling.sampler = "euler_a";   /* draws in every step */
    assert_int_equal(sd_generate(c, &p, both), SD_OK);
    p.batch = 1;
    p.seed++;
    sd_image second = draw(c, &p);
    assert_memory_equal(second.data, both[1].data, bytes(&second));
    assert_memory_not_equal(both[0].data, both[1].data, bytes(&second));
    for (int i = 0; i < 2; i++) sd_image_free(&both[i]);
    sd_image_free(&second);
    sd_close(c);
}

TEST(every_draw_can_be_explained)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    draws s = {0};
    p.sampling.sampler = "euler_a";
    sd_set_random_draw(c, count_draw, &s);
    sd_image image = draw(c, &p);
    assert_int_equal(s.n, 3);   /* the latents, and each of two steps */
    assert_int_equal(s.numbers, 3 * 256);
    sd_image_free(&image);
    s = (draws){0};
    p.sampler_rng = "brownian";
    image = draw(c, &p);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.levels, 2);
    sd_image_free(&image);
    float noise[256];
    s = (draws){0};
    sd_randn(1, noise, 256);
    p.noise = noise;
    p.noise_count = 256;
    p.sampler_rng = NULL;
    image = draw(c, &p);
    assert_int_equal(s.n, 3);   /* given numbers are told of, too */
    assert_int_equal(s.from_seed, 2 * 256);
    sd_image_free(&image);
    sd_close(c);
}

/* The last step of these goes down to level 0, below what the path spans. */
TEST(a_brownian_path_reaches_the_last_step)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    p.width = p.height = 32;
    p.sampling.sampler = "dpm++2m_sde";
    p.sampler_rng = "brownian";
    for (p.sampling.steps = 2; p.sampling.steps < 8; p.sampling.steps++) {
        sd_image image = draw(c, &p);
        sd_image_free(&image);
    }
    sd_close(c);
}

/* ---- parameters */

TEST(every_bad_parameter_has_its_sentence)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    const struct { const char *says; } cases[] = {
        {"width must be a multiple of 8, not 100: 96 and 104 are the nearest"},
        {"height must be 1 to 65536 pixels, not -8"}, {"steps must be 1 to 1000, not 0"},
        {"steps must be 1 to 1000, not 1001"}, {"batch must be 1 to 512, not 0"}, {"eta must be 0 to 1, not 2"},
        {"guidance scale must be -1000 to 1000, not inf"},
        {"clip skip must be 1 to 3, not 4"}, {"steps offset must be 0 to 999, not 1000"}, {"sampler"}, {"spacing"},
        {"prediction"},
        {"order 3 needs 3 steps or more, not 2"}};
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        sd_params p = short_run("a green tree in a field", 64);
        sd_image image;
        switch (i) {
        case 0: p.width = 100; break;
        case 1: p.height = -8; break;
        case 2: p.sampling.steps = 0; break;
        case 3: p.sampling.steps = 1001; break;
        case 4: p.batch = 0; break;
        case 5: p.sampling.eta = 2; break;
        case 6: p.guidance.scale = INFINITY; break;
        case 7: p.clip_skip = 4; break;
        case 8: p.sampling.steps_offset = 1000; break;
        case 9: p.sampling.sampler = "unknown"; break;
        case 10: p.sampling.spacing = "unknown"; break;
        case 11: p.sampling.prediction = "unknown"; break;
        default: p.sampling.order = 3, p.sampling.sampler = "dpm++2m"; break;
        }
        assert_int_equal(sd_generate(c, &p, &image), SD_ERR_ARG);
        if (!strstr(sd_error_text(c), cases[i].says)) fail_msg("case %d: %s", i, sd_error_text(c));
    }
    sd_params p = short_run("a green tree in a field", 64);
    p.prompt = "caf\xe9";
    sd_image image;
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_ARG);
    sd_close(c);
}

TEST(resolved_parameters_and_their_text)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p, r;
    char *text;
    sd_params_init(&p);
    p.prompt = "a cat";
    p.negative_prompt = "blurry";
    assert_int_equal(sd_resolve_params(c, &p, &r), SD_OK);
    assert_int_equal(r.width, 128);
    assert_string_equal(r.sampling.sampler, "pndm");
    assert_string_equal(r.sampling.prediction, "v_prediction");
    assert_string_equal(r.sampling.spacing, "leading");
    assert_int_equal(r.sampling.steps_offset, 1);
    assert_int_equal(sd_parameters_text(c, &p, &text), SD_OK);
    char *print = strstr(text, "Model fingerprint: "), *kernels = strstr(text, "Kernels: ");
    assert_non_null(print);
    assert_non_null(kernels);
    memset(print + 19, '#', 16);   /* whichever weights and machine */
    memmove(kernels + 9, strchr(kernels, ','), strlen(strchr(kernels, ',')) + 1);
    assert_string_equal(text,
                        "a cat\nNegative prompt: blurry\nSteps: 25, Sampler: PLMS, Schedule name: spaced, CFG scale: "
                            "3, Seed: 0, "
                              "Size: 128x128, Model fingerprint: ################, Model: tiny, RNG: CPU, "
                              "Timestep spacing: leading, Steps offset: 1, Prediction: v_prediction, Set alpha to "
                                  "one: false, "
                              "Clip sample: false, Kernels: , Version: sd " SD_VERSION);
    sd_free(text);
    sd_close(c);
}

TEST(a_schedule_is_told_before_any_work)
{
    sd_ctx *c = open_tiny(SD_PART_UNET, 0);
    sd_params p;
    int n;
    double t[32], sigma[33], alpha[33];
    sd_params_init(&p);
    p.sampling.steps = 20;
    assert_int_equal(sd_schedule(c, &p, &n, NULL, NULL, NULL), SD_OK);
    assert_int_equal(n, 21);   /* PNDM takes its second timestep twice */
    assert_int_equal(sd_schedule(c, &p, &n, t, sigma, alpha), SD_OK);
    assert_true(t[0] == 951 && t[1] == 901 && t[2] == 901 && t[3] == 851);
    p.sampling.sampler = "euler";   /* its class default is linspace, and the file names no spacing */
    assert_int_equal(sd_schedule(c, &p, &n, t, sigma, alpha), SD_OK);
    assert_int_equal(n, 20);
    assert_true(t[0] == 999 && fabs(sigma[0] - 14.6146) < 1e-4 && sigma[20] == 0);
    p.sampling.spacing = "leading";
    assert_int_equal(sd_schedule(c, &p, &n, t, sigma, alpha), SD_OK);
    assert_true(t[0] == 951 && fabs(sigma[0] - 11.0283) < 1e-4 && fabs(sigma[1] - 8.3907) < 1e-4
                && fabs(sigma[2] - 6.5064) < 1e-4);
    sd_close(c);
}

/* ---- stages */

TEST(stages_check_what_was_opened)
{
    sd_ctx *c = open_tiny(SD_PART_TOKENIZER, 0);
    float x[8];
    sd_tokens t;
    sd_params p = short_run("a green tree in a field", 64);
    sd_image image;
    assert_int_equal(sd_tokenize(c, "a photo of a cat", &t), SD_OK);
    const int32_t want[] = {49406, 320, 1125, 539, 320, 2368, 49407, 49407};
    assert_memory_equal(t.id, want, sizeof want);
    assert_int_equal(t.n, 7);
    assert_string_equal(sd_token_piece(c, 2368), "cat</w>");
    assert_int_equal(sd_encode_text(c, "a", 0, x, 8), SD_ERR_ARG);
    assert_string_equal(sd_error_text(c), "the text encoder was not opened");
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_ARG);
    assert_int_equal(sd_unet(c, 1, 1, 1, x, x, x, x), SD_ERR_ARG);
    assert_int_equal(sd_vae_decode(c, 1, 1, 1, x, x), SD_ERR_ARG);
    sd_close(c);
}

TEST(encoding_a_decoded_picture_finds_its_latents_again)
{
    sd_ctx *c = open_tiny(SD_PART_VAE, 0);
    enum { S = 8, N = 4 * S * S };
    float latents[N], *picture = malloc(3 * 64 * S * S * sizeof *picture), mean[N], logvar[N];
    for (int i = 0; i < N; i++) latents[i] = 3 * (float)sin(0.7 * i / S);
    assert_int_equal(sd_vae_decode(c, 1, S, S, latents, picture), SD_OK);
    assert_int_equal(sd_vae_encode(c, 1, S, S, picture, mean, logvar), SD_OK);
    double dot = 0, a = 0, b = 0;
    for (int i = 0; i < N; i++) {
        dot += (double)latents[i] * mean[i];
        a += (double)latents[i] * latents[i];
        b += (double)mean[i] * mean[i];
        assert_true(logvar[i] >= -30 && logvar[i] <= 20);
    }
    assert_true(dot / sqrt(a * b) > 0.5);   /* a lossy round trip, but no scrambled one */
    assert_int_equal(sd_vae_decode(c, 0, S, S, latents, picture), SD_ERR_ARG);
    free(picture);
    sd_close(c);
}

/* Guidance, batch and schedule put aside: the pieces give the picture that sd_generate gives. */
TEST(the_stages_make_up_the_pipeline)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    p.sampling.steps = 1;
    p.guidance.scale = 1;
    sd_image whole = draw(c, &p);
    enum { N = 4 * 8 * 8, D = 96 };
    static float noise[N], context[77 * D], v[N], latents[N], picture[3 * 64 * 64];
    double t, alpha[2];
    float t32;
    int n;
    sd_randn(p.seed, noise, N);
    assert_int_equal(sd_encode_text(c, p.prompt, 0, context, 77 * D), SD_OK);
    assert_int_equal(sd_schedule(c, &p, &n, &t, NULL, alpha), SD_OK);
    t32 = (float)t;
    assert_int_equal(sd_unet(c, 1, 8, 8, noise, &t32, context, v), SD_OK);
    for (int i = 0; i < N; i++) {   /* DDIM with v-prediction: x0 = sqrt(a) x - sqrt(1-a) v, eps = sqrt(a) v + sqrt(1-a)
                                     * x */
        double x0 = sqrt(alpha[0]) * noise[i] - sqrt(1 - alpha[0]) * v[i],
            eps = sqrt(alpha[0]) * v[i] + sqrt(1 - alpha[0]) * noise[i];
        latents[i] = (float)((double)(float)(sqrt(alpha[1]) * x0 + sqrt(1 - alpha[1]) * eps) / 0.18215);
    }
    assert_int_equal(sd_vae_decode(c, 1, 8, 8, latents, picture), SD_OK);
    for (int i = 0; i < 64 * 64; i++)
        for (int k = 0; k < 3; k++) {
            double want = 255 * fmin(fmax(picture[k * 64 * 64 + i] / 2 + 0.5, 0), 1);
            assert_true(fabs(want - whole.data[3 * i + k]) <= 0.51);
        }
    sd_image_free(&whole);
    sd_close(c);
}

/* ---- trace */

typedef struct seen { int n, tokens, latents, noise_pred, unet, image; int64_t first_dim[4]; } seen;

static void look(void *user, const sd_traced *t)
{
    seen *s = user;
    s->n++;
    s->tokens += strcmp(t->name, "tokens") == 0 && t->dtype == SD_I64 && t->dim[0] == 2 && t->dim[1] == 77;
    s->latents += strncmp(t->name, "latents.", 8) == 0 && t->nd == 4 && t->dim[1] == 4;
    s->noise_pred += strcmp(t->name, "step.1.noise_pred") == 0;
    s->unet += strcmp(t->name, "step.0.unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k") == 0 && t->nd == 3
        && t->dim[1] == 77;
    s->image += strcmp(t->name, "image") == 0 && t->dim[1] == 3 && t->dim[2] == 64;
}

TEST(tracing_names_everything_and_changes_nothing)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    sd_image plain = draw(c, &p);
    seen s = {0};
    assert_int_equal(sd_set_trace(c, NULL, look, &s), SD_OK);
    sd_image traced = draw(c, &p);
    assert_memory_equal(plain.data, traced.data, bytes(&plain));
    assert_true(s.n > 400);
    assert_int_equal(s.tokens, 1);
    assert_int_equal(s.latents, 3);
    assert_int_equal(s.noise_pred, 1);
    assert_int_equal(s.unet, 1);
    assert_int_equal(s.image, 1);
    seen few = {0};
    assert_int_equal(sd_set_trace(c, "latents.*,image", look, &few), SD_OK);
    sd_image again = draw(c, &p);
    assert_int_equal(few.n, 4);
    sd_image_free(&plain);
    sd_image_free(&traced);
    sd_image_free(&again);
    sd_close(c);
}

TEST(a_traced_file_can_be_read_back)
{
    char dir[] = "/tmp/sd-api-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/t.safetensors", dir);
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    assert_int_equal(sd_trace_open(c, path, "noise,latents.*"), SD_OK);
    sd_image image = draw(c, &p);
    assert_int_not_equal(access(path, F_OK), 0);   /* not there before it is complete */
    assert_int_equal(sd_trace_close(c), SD_OK);
    float *data, want[256];
    int nd;
    int64_t dim[4];
    assert_int_equal(sd_tensor_read(c, path, "noise", &data, &nd, dim), SD_OK);
    sd_randn(p.seed, want, 256);
    assert_int_equal(nd, 4);
    assert_memory_equal(data, want, sizeof want);
    sd_free(data);
    assert_int_equal(sd_tensor_read(c, path, "absent", &data, &nd, dim), SD_ERR_MISSING);
    assert_int_equal(sd_tensor_read(c, path, NULL, &data, &nd, dim), SD_ERR_ARG);
    sd_image_free(&image);
    sd_close(c);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

/* ---- cancelling, threads, precision */

TEST(a_cancelled_context_can_be_used_again)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p = short_run("a green tree in a field", 64);
    sd_image image;
    p.sampling.steps = 50;
    sd_set_progress(c, stop_at_first_step, c);
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_CANCELLED);
    sd_timings t;
    sd_get_timings(c, &t);
    assert_int_equal(t.n_steps, 1);
    sd_set_progress(c, NULL, NULL);
    p.sampling.steps = 1;
    image = draw(c, &p);
    sd_image_free(&image);
    sd_close(c);
}

typedef struct worker { uint64_t seed; sd_image image; sd_status status; } worker;

static void *work(void *user)
{
    worker *w = user;
    sd_options o;
    sd_ctx *c;
    sd_params p = short_run("a green tree in a field", 64);
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.threads = 1;
    p.seed = w->seed;
    w->status = sd_open(&c, &o);
    if (!w->status) w->status = sd_generate(c, &p, &w->image);
    sd_close(c);
    return NULL;
}

TEST(two_contexts_work_in_two_threads)
{
    worker alone[2] = {{.seed = 3}, {.seed = 4}}, together[2] = {{.seed = 3}, {.seed = 4}};
    pthread_t id[2];
    for (int i = 0; i < 2; i++) work(&alone[i]);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&id[i], NULL, work, &together[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(id[i], NULL);
        assert_int_equal(together[i].status, SD_OK);
        assert_memory_equal(alone[i].image.data, together[i].image.data, bytes(&alone[i].image));
        sd_image_free(&alone[i].image);
        sd_image_free(&together[i].image);
    }
}

TEST(precise_agrees_with_fast)
{
    sd_options o;
    sd_options_init(&o);
    o.precise = 1;
    sd_ctx *fast = open_tiny(SD_PART_ALL, 0), *precise = open_context(&o, SD_OK);
    sd_params p = short_run("a green tree in a field", 64);
    p.sampling.steps = 1;
    sd_image a = draw(fast, &p), b = draw(precise, &p);
    for (size_t i = 0; i < bytes(&a); i++) assert_true(abs(a.data[i] - b.data[i]) <= 1);
    sd_image_free(&a);
    sd_image_free(&b);
    sd_close(fast);
    sd_close(precise);
}

static sd_ctx *open_with(int gemm, int threads, int precise, sd_status want)
{
    sd_options o;
    sd_options_init(&o);
    o.gemm = gemm;
    if (threads) o.threads = threads;
    o.precise = precise;
    return open_context(&o, want);
}

/* Every stage's numbers, for samples taken together or one by one. */
enum { SAMPLES = 3, SIDE = 8, LATENT = 4 * SIDE * SIDE, PIXELS = 3 * 64 * SIDE * SIDE, TEXT = 77 * 96 };
typedef struct numbers {
    float context[SAMPLES][TEXT], predicted[SAMPLES][LATENT], picture[SAMPLES][PIXELS], mean[SAMPLES][LATENT],
        logvar[SAMPLES][LATENT];
} numbers;

static void run_stages(sd_ctx *c, numbers *y, int together)
{
    static float noise[SAMPLES * LATENT];
    const float times[SAMPLES] = {501, 12, 999};
    const char *const text[SAMPLES] = {"a green tree", "", "a red apple on a white background, in the evening light"};
    sd_randn(5, noise, SAMPLES * LATENT);
    for (int i = 0; i < SAMPLES; i++) assert_int_equal(sd_encode_text(c, text[i], 0, y->context[i], TEXT), SD_OK);
    for (int i = 0; i < SAMPLES; i += together) {
        assert_int_equal(sd_unet(c, together, SIDE, SIDE, noise + i * LATENT, times + i, y->context[i],
                                 y->predicted[i]), SD_OK);
        assert_int_equal(sd_vae_decode(c, together, SIDE, SIDE, noise + i * LATENT, y->picture[i]), SD_OK);
        assert_int_equal(sd_vae_encode(c, together, SIDE, SIDE, y->picture[i], y->mean[i], y->logvar[i]), SD_OK);
    }
}

TEST(own_products_give_one_result_for_any_threads_and_batch)
{
    const int threads[] = {1, 2, 3, 7};
    numbers *first = calloc(2, sizeof *first), *other = first + 1;
    assert_non_null(first);
    for (int i = 0; i < 4; i++) {
        sd_ctx *c = open_with(SD_GEMM_OWN, threads[i], 0, SD_OK);
        for (int together = 1; together <= SAMPLES; together += SAMPLES - 1) {
            numbers *y = i == 0 && together == 1 ? first : other;
            run_stages(c, y, together);
            assert_memory_equal(first, y, sizeof *y);
        }
        sd_close(c);
    }
    free(first);
}

TEST(products_have_two_providers)
{
    sd_params p = short_run("a green tree in a field", 64);
    sd_model_info info;
    sd_ctx *c = open_with(SD_GEMM_OWN, 2, 0, SD_OK);
    sd_image own = draw(c, &p);
    assert_int_equal(sd_get_info(c, &info), SD_OK);
    assert_string_equal(info.gemm, "own");
    sd_close(c);
    sd_close(open_with(3, 2, 0, SD_ERR_ARG));
    sd_close(open_with(SD_GEMM_OWN, 2, 1, SD_OK));
    if (!openblas()) {
        c = open_with(SD_GEMM_OPENBLAS, 2, 0, SD_ERR_UNSUPPORTED);
        assert_non_null(strstr(sd_error_text(c), "OpenBLAS"));
        sd_close(c);
        sd_image_free(&own);
        return;
    }
    char *text;
    c = open_with(SD_GEMM_OPENBLAS, 2, 0, SD_OK);
    sd_image blas = draw(c, &p);
    assert_int_equal(sd_get_info(c, &info), SD_OK);
    assert_string_equal(info.gemm, "openblas");
    assert_int_equal(sd_parameters_text(c, &p, &text), SD_OK);
    assert_non_null(strstr(text, ", Products: openblas,"));   /* other bits: the picture says so */
    sd_free(text);
    for (size_t i = 0; i < bytes(&own); i++) assert_true(abs(own.data[i] - blas.data[i]) <= 1);
    sd_image_free(&blas);
    sd_close(c);
    c = open_with(SD_GEMM_OPENBLAS, 2, 1, SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "precise adds in double"));
    sd_close(c);
    sd_image_free(&own);
}

static size_t resident_kb(void)   /* 0 where the system does not tell in this way */
{
    size_t kb = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssFile: %zu", &kb) == 1) break;
    if (f) fclose(f);
    return kb;
}

TEST(where_weights_are_changes_no_bit)
{
    sd_image first = {0};
    size_t files[3];
    for (int how = SD_RESIDENCY_MAP; how <= SD_RESIDENCY_RAM; how++) {
        sd_options o;
        sd_ctx *c;
        sd_options_init(&o);
        o.model = "weights/tiny";
        o.residency = how;
        assert_int_equal(sd_open(&c, &o), SD_OK);
        sd_params p = short_run("a green tree in a field", 64);
        sd_image once = draw(c, &p), again = draw(c, &p);
        assert_memory_equal(once.data, again.data, bytes(&once));
        if (how == SD_RESIDENCY_MAP) first = once;
        else assert_memory_equal(first.data, once.data, bytes(&once));
        if (how != SD_RESIDENCY_MAP) sd_image_free(&once);
        sd_image_free(&again);
        size_t before = resident_kb();
        sd_close(c);
        size_t after = resident_kb();
        files[how] = before > after ? before - after : 0;   /* what was left of the mapped files */
    }
    sd_image_free(&first);
    /* pages come back in clusters: not nothing */
    if (files[SD_RESIDENCY_MAP]) assert_true(files[SD_RESIDENCY_STREAM] < files[SD_RESIDENCY_MAP]);
    assert_true(files[SD_RESIDENCY_RAM] < 64);
    sd_options o;
    sd_ctx *c;
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.residency = 3;
    assert_int_equal(sd_open(&c, &o), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "residency"));
    sd_close(c);
}

TEST(what_cannot_be_opened_says_why)
{
    const struct { const char *path; sd_status status; const char *says; } cases[] = {
        {"/nonexistent", SD_ERR_MISSING, "no model directory /nonexistent"},
        {"Makefile", SD_ERR_FORMAT, "Makefile"}, {"tests", SD_ERR_MISSING, "tests has nothing of a model"},
        {"/dev/null", SD_ERR_ARG, "/dev/null is a pipe or a device"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sd_options o;
        sd_ctx *c;
        sd_options_init(&o);
        o.model = cases[i].path;
        assert_int_equal(sd_open(&c, &o), cases[i].status);
        assert_non_null(strstr(sd_error_text(c), cases[i].says));
        assert_true(*sd_error_place(c));
        sd_close(c);
    }
    setenv("SD_ISA", "z80", 1);
    sd_options o;
    sd_ctx *c;
    sd_options_init(&o);
    assert_int_equal(sd_open(&c, &o), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "SD_ISA=z80"));
    sd_close(c);
    unsetenv("SD_ISA");
    sd_close(NULL);
}

TEST(the_model_describes_itself)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_model_info info;
    assert_int_equal(sd_get_info(c, &info), SD_OK);
    assert_int_equal(info.width, 128);
    assert_int_equal(info.scale, 8);
    assert_int_equal(info.context_dim, 96);
    assert_string_equal(info.prediction, "v_prediction");
    assert_string_equal(info.sampler, "pndm");
    assert_true(info.scaling_factor == 0.18215);
    assert_non_null(strstr(sd_build_info(), "kernels: scalar"));
    assert_string_equal(sd_version(), SD_VERSION);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_means_one_picture),
        cmocka_unit_test(a_prompt_leaves_no_trace),
        cmocka_unit_test(a_batch_begins_with_the_picture_drawn_alone),
        cmocka_unit_test(given_noise_replaces_the_seed),
        cmocka_unit_test(a_file_of_numbers_is_a_random_stream),
        cmocka_unit_test(guidance_of_one_takes_one_evaluation_of_the_prompt_alone),
        cmocka_unit_test(a_seed_belongs_to_a_generator),
        cmocka_unit_test(a_seed_per_image_makes_each_picture_repeatable),
        cmocka_unit_test(every_draw_can_be_explained),
        cmocka_unit_test(a_brownian_path_reaches_the_last_step),
        cmocka_unit_test(every_bad_parameter_has_its_sentence),
        cmocka_unit_test(resolved_parameters_and_their_text),
        cmocka_unit_test(a_schedule_is_told_before_any_work),
        cmocka_unit_test(stages_check_what_was_opened),
        cmocka_unit_test(encoding_a_decoded_picture_finds_its_latents_again),
        cmocka_unit_test(the_stages_make_up_the_pipeline),
        cmocka_unit_test(tracing_names_everything_and_changes_nothing),
        cmocka_unit_test(a_traced_file_can_be_read_back),
        cmocka_unit_test(a_cancelled_context_can_be_used_again),
        cmocka_unit_test(two_contexts_work_in_two_threads),
        cmocka_unit_test(precise_agrees_with_fast),
        cmocka_unit_test(own_products_give_one_result_for_any_threads_and_batch),
        cmocka_unit_test(products_have_two_providers),
        cmocka_unit_test(where_weights_are_changes_no_bit),
        cmocka_unit_test(what_cannot_be_opened_says_why),
        cmocka_unit_test(the_model_describes_itself),
    };
    return cmocka_run_group_tests_name("sd", tests, temp_make, temp_remove);
}
