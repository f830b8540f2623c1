/* test_stages.c - stages of a run on their own, from files into files: sd text, sd unet, sd step; runs that begin or
 * end in the middle; tensors in safetensors and in NumPy's files. What they compute has the bits of one run of sd. */
#include <math.h>

#include "test.h"
#include "../sd.h"
#include "../tensors.h"
#include "child.h"
#include "reader.h"
#include "tempdir.h"

#define PROMPT "a red apple on a white background"

static const char *out(const char *name) { return temp_path(name); }

typedef struct array { float *x; int nd; int64_t d[4]; size_t n; } array;

static array numbers(const char *path, const char *name)
{
    array a;
    if (sd_tensor_read(reader, path, name, &a.x, &a.nd, a.d)) fail_msg("%s", sd_error_text(reader));
    a.n = (size_t)(a.d[0] * a.d[1] * a.d[2] * a.d[3]);
    return a;
}

/* The same shape and the same bits. */
static void same(const char *what, const char *path, const char *name, const char *other_path, const char *other)
{
    array a = numbers(path, name), b = numbers(other_path, other);
    if (a.nd != b.nd || memcmp(a.d, b.d, sizeof a.d)) fail_msg("%s: %s and %s differ in shape", what, name, other);
    if (memcmp(a.x, b.x, a.n * sizeof *a.x)) fail_msg("%s: %s and %s differ", what, name, other);
    sd_free(a.x);
    sd_free(b.x);
}

/* ------------------------------------------------------------------------------------ files */

/* The bytes are those of numpy 2.5's numpy.save. */
TEST(a_written_npy_file_has_the_bytes_of_numpy_save)
{
    static const float x[] = {0, 1, 2, 3, 4, 5};
    static const int64_t ids[] = {49406, 320, 49407};
    static const struct { const char *shape; sd_traced t; } of[] = {
        {"'<f4', 'fortran_order': False, 'shape': (2, 3), }", {"x", SD_F32, 2, {2, 3}, x}},
        {"'<i8', 'fortran_order': False, 'shape': (3,), }", {"x", SD_I64, 1, {3}, ids}},
        {"'<f4', 'fortran_order': False, 'shape': (), }", {"x", SD_F32, 0, {0}, x}},
        {"'<f4', 'fortran_order': False, 'shape': (1, 0, 3), }", {"x", SD_F32, 3, {1, 0, 3}, x}},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char want[129], dictionary[118];
        snprintf(dictionary, sizeof dictionary, "{'descr': %s", of[i].shape);
        snprintf(want, sizeof want, "\x93NUMPY\x01%cv%c%-117s\n", 1, 1, dictionary);
        want[7] = want[9] = 0;
        assert_int_equal(sd_tensors_write(reader, out("x.npy"), &of[i].t, 1), SD_OK);
        size_t n, bytes = i == 0 ? 24 : i == 1 ? 24 : i == 2 ? 4 : 0;
        char *got = temp_read("x.npy", &n);
        assert_int_equal(n, 128 + bytes);
        assert_memory_equal(got, want, 128);
        assert_memory_equal(got + 128, of[i].t.data, bytes);
        free(got);
    }
    temp_clear();
}

TEST(a_npy_file_holds_one_tensor_of_a_type_that_numpy_has)
{
    static const float x[] = {1, 2};
    const sd_traced two[] = {{"a", SD_F32, 1, {2}, x}, {"b", SD_F32, 1, {1}, x}}, narrow = {"a", SD_BF16, 1, {2}, x};
    assert_int_equal(sd_tensors_write(reader, out("x.npy"), two, 2), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(reader), "a .npy file has one tensor, not 2"));
    assert_int_equal(sd_tensors_write(reader, out("x.npy"), &narrow, 1), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(reader), "cannot hold BF16"));
    assert_int_equal(temp_files(), 0);
    char directory[512];
    snprintf(directory, sizeof directory, "%s/", out("d"));
    assert_int_equal(sd_tensors_write(reader, directory, two, 2), SD_OK);
    array a = numbers(directory, "b");
    assert_int_equal(a.n, 1);
    sd_free(a.x);
    temp_clear();
}

TEST(a_path_names_a_tensor_of_a_file)
{
    static const float x[] = {1, 2}, y[] = {3};
    static const int64_t ids[] = {49407, 1 << 24 | 1};
    const sd_traced t[] = {{"a", SD_F32, 1, {2}, x}, {"b.c", SD_F32, 1, {1}, y}, {"ids", SD_I64, 1, {1}, ids},
                           {"large", SD_I64, 1, {2}, ids}};
    char path[512];
    float *data;
    int nd;
    int64_t d[4];
    assert_int_equal(sd_tensors_write(reader, out("t.safetensors"), t, 4), SD_OK);
    snprintf(path, sizeof path, "%s:b.c", out("t.safetensors"));
    array a = numbers(path, "a");   /* what the path says counts */
    assert_int_equal(a.n, 1);
    assert_true(a.x[0] == 3);
    sd_free(a.x);
    a = numbers(out("t.safetensors"), "ids");
    assert_true(a.x[0] == 49407);
    sd_free(a.x);
    snprintf(path, sizeof path, "%s:c", out("t.safetensors"));
    assert_int_equal(sd_tensor_read(reader, path, "a", &data, &nd, d), SD_ERR_MISSING);
    assert_null(data);
    assert_int_equal(sd_tensor_read(reader, out("t.safetensors"), "large", &data, &nd, d), SD_ERR_FORMAT);
    assert_non_null(strstr(sd_error_text(reader), "16777217, which a float cannot hold"));
    assert_int_equal(sd_tensors_write(reader, out("u:b.safetensors"), t, 1), SD_OK);   /* a file that is called so */
    a = numbers(out("u:b.safetensors"), NULL);
    assert_int_equal(a.n, 2);
    sd_free(a.x);
    temp_clear();
}

/* numpy.save(numpy.asfortranarray([[1, 2], [3, 4]], float64)) */
TEST(an_array_in_fortran_s_order_is_read_as_its_shape_says)
{
    static const double columns[] = {1, 3, 2, 4};
    char head[129];
    snprintf(head, sizeof head, "\x93NUMPY\x01%cv%c%-117s\n", 1, 1,
             "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }");
    head[7] = head[9] = 0;
    char bytes[128 + sizeof columns];
    memcpy(bytes, head, 128);
    memcpy(bytes + 128, columns, sizeof columns);
    temp_write("f.npy", bytes, sizeof bytes);
    array a = numbers(out("f.npy"), NULL);
    for (int i = 0; i < 4; i++) assert_true(a.x[i] == (float)(i + 1));
    sd_free(a.x);
    temp_clear();
}

/* ---------------------------------------------------------------------------------- text and UNet */

/* A run's trace in t.safetensors, and its texts in e.safetensors. */
static void draw(void)
{
    RUN("-p", PROMPT, "-n", "blue", "-s", "3", "--steps", "2", "--sampling-method", "euler", "--cfg-scale", "5", "-W",
        "64", "-H", "72", "--trace", out("t.safetensors"), "-o", out("a.ppm"));
    expect_success("a run");
    RUN("text", "blue", PROMPT, "-o", out("e.safetensors"), "--trace", out("text.safetensors"));
    expect_success("sd text");
}

TEST(texts_are_those_of_a_run)
{
    draw();
    assert_non_null(strstr(ran.out, "prompt_embeds [2,77,96]\n"));
    same("sd text", out("e.safetensors"), "prompt_embeds", out("t.safetensors"), "prompt_embeds");
    same("sd text", out("e.safetensors"), "tokens", out("t.safetensors"), "tokens");
    RUN("compare", out("t.safetensors"), out("text.safetensors"));   /* every traced tensor of the text encoder */
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "every number is the same"));
    RUN("text", "--tokens-in", out("t.safetensors"), "-o", out("e.npy"));
    expect_success("from ids");
    assert_non_null(strstr(ran.err, "prompt_embeds alone, without tokens"));
    same("sd text --tokens-in", out("e.npy"), NULL, out("t.safetensors"), "prompt_embeds");
    RUN("text", "--uncond", PROMPT, "-o", out("u.safetensors"));
    expect_success("--uncond");
    RUN("text", "", PROMPT, "-o", out("v.safetensors"));
    expect_success("an empty text");
    assert_true(same_files(out("u.safetensors"), out("v.safetensors")));
    char from[512];
    spill(out("p.txt"), PROMPT "\n", strlen(PROMPT) + 1);
    snprintf(from, sizeof from, "@%s", out("p.txt"));
    RUN("text", "", from, "-o", out("v.safetensors"));
    expect_success("a text from a file");
    assert_true(same_files(out("u.safetensors"), out("v.safetensors")));
    temp_clear();
    RUN("text", "-", "-");
    expect_error("two texts of one input", 2, "only one of them can be -");
}

/* ddim's latents are what the UNet sees: latents, answers and their guided sum are in the trace. */
TEST(a_guided_answer_is_that_of_a_run)
{
    static const char *const method[] = {"ddim", "dpm++2m"};
    for (int i = 0; i < 2; i++) {
        char latents[512];
        RUN("-p", PROMPT, "-n", "blue", "-s", "3", "--steps", "2", "--sampling-method", method[i], "--cfg-scale", "5",
            "--guidance-rescale", i ? "0.7" : "0", "--batch-size", "2", "--trace", out("t.safetensors"), "-o",
            out("a.npy"));
        expect_success("a run of two pictures");
        snprintf(latents, sizeof latents, "%s:latents.1", out("t.safetensors"));
        array t = numbers(out("t.safetensors"), "timestep.1");
        char timestep[32];
        snprintf(timestep, sizeof timestep, "%g", (double)t.x[0]);
        sd_free(t.x);
        RUN("text", "blue", PROMPT, "-o", out("e.npy"), "-q");
        RUN("unet", "--latents", latents, "--timestep", timestep, "--embeds", out("e.npy"), "--cfg-scale", "5",
            "--guidance-rescale", i ? "0.7" : "0", "-o", out("p.safetensors"), "--trace", out("u.safetensors"));
        expect_success("sd unet");
        same("sd unet", out("p.safetensors"), "noise_pred", out("t.safetensors"), "step.1.noise_pred");
        same("sd unet", out("u.safetensors"), "unet.conv_out", out("t.safetensors"), "step.1.unet.conv_out");
        same("sd unet", out("u.safetensors"), "unet.mid_block.resnets.0", out("t.safetensors"),
             "step.1.unet.mid_block.resnets.0");
        array u = numbers(out("p.safetensors"), "noise_pred_uncond");
        array all = numbers(out("u.safetensors"), "unet.conv_out");
        assert_memory_equal(u.x, all.x, u.n * sizeof *u.x);
        sd_free(u.x);
        sd_free(all.x);
        temp_clear();
    }
}

/* Without a scale there is an answer for each row; one picture is shown to all of them. */
TEST(one_picture_is_shown_with_each_text)
{
    RUN("text", "a", "b", "c", "-o", out("e.safetensors"));
    RUN("-p", "x", "--steps", "1", "-W", "64", "-H", "64", "-o", out("x.safetensors"), "-s", "1");
    RUN("unet", "--latents", out("x.safetensors"), "--timestep", "500.5", "--embeds", out("e.safetensors"), "-o",
        out("three.npy"));
    expect_success("three texts");
    array three = numbers(out("three.npy"), NULL);
    assert_int_equal(three.d[0], 3);
    RUN("text", "b", "-q", "-o", out("b.npy"));
    RUN("unet", "--latents", out("x.safetensors"), "--timestep", "500.5", "--embeds", out("b.npy"), "-o",
        out("one.npy"));
    expect_success("one text");
    array one = numbers(out("one.npy"), NULL);
    assert_memory_equal(one.x, three.x + one.n, one.n * sizeof *one.x);
    assert_memory_not_equal(one.x, three.x, one.n * sizeof *one.x);
    sd_free(one.x);
    sd_free(three.x);
    temp_clear();
}

TEST(what_a_stage_lacks_is_said)
{
    RUN("text", "a", "b", "c", "-q", "-o", out("e.safetensors"));
    expect_success("three texts");
    RUN("unet", "--latents", out("none.npy"), "--timestep", "1", "--embeds", out("e.safetensors"));
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "none.npy"));
    RUN("-p", "x", "--steps", "1", "-W", "64", "-H", "64", "-s", "1", "-o", out("x.npy"));
    static const struct { const char *args[8], *word; } wrong[] = {
        {{"--timestep", "1"}, "give --latents FILE, --timestep T and --embeds FILE"},
        {{"--latents", "x.npy", "--embeds", "e.safetensors"}, "give --timestep T: "},
        {{"--latents", "x.npy", "--embeds", "e.safetensors", "--timestep", "1", "--cfg-scale", "7"},
         "the embeddings must have 2 rows, not 3"},
        {{"--latents", "x.npy", "--embeds", "x.npy", "--timestep", "1"},
         "the embeddings must be [N,77,96], found [1,4,8,8]"},
        {{"--latents", "x.npy", "--embeds", "e.safetensors", "--timestep", "1", "--time-ids", "1"},
         "takes no --time-ids"},
        {{"--latents", "x.npy", "--embeds", "e.safetensors", "--timestep", "1", "-o", "a.png"},
         "must end in .safetensors or .npy"},
        {{"--latents", "x.npy", "--embeds", "e.safetensors:tokens", "--timestep", "1"},
         "the embeddings must be [N,77,96], found [3,77]"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *args[12] = {"unet"};
        for (int k = 0; k < 8 && wrong[i].args[k]; k++) {
            const char *a = wrong[i].args[k];
            args[k + 1] = k % 2 && strpbrk(a, "xae") && *a != '-' ? out(a) : a;
        }
        run_list(args);
        if (ran.code != 2 || !strstr(ran.err, wrong[i].word))
            fail_msg("not \"%s\", but %d: %s", wrong[i].word, ran.code, ran.err);
    }
    RUN("text");
    assert_non_null(strstr(ran.err, "give texts, in quotes"));
    RUN("text", "--tokens-in", out("x.npy"));
    assert_non_null(strstr(ran.err, "tokens must be [N,77], found [1,4,8,8]"));
    temp_clear();
}

/* ---------------------------------------------------------------------------------------- steps */

enum { MOST = 64, N = 4 * 8 * 8 };

/* What a run has traced of its steps: n evaluations, and the latents before each and behind the last. */
typedef struct history {
    float latents[MOST][N], answer[MOST][N], timestep[MOST];
    const float *a[MOST];
    int n;
} history;

static void keep(void *user, const sd_traced *t)
{
    history *h = user;
    int i = 0;
    if (sscanf(t->name, "latents.%d", &i) == 1 && i < MOST) memcpy(h->latents[i], t->data, sizeof *h->latents);
    else if (sscanf(t->name, "timestep.%d", &i) == 1 && i < MOST) h->timestep[i] = *(const float *)t->data;
    else if (sscanf(t->name, "step.%d.", &i) == 1 && i < MOST) {
        memcpy(h->answer[i], t->data, sizeof *h->answer);
        h->a[i] = h->answer[i];
        h->n = i + 1;
    }
}

static sd_params three_steps(const char *sampler)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = PROMPT;
    p.width = p.height = 64;
    p.seed = 11;
    p.sampling.sampler = sampler;
    p.sampling.steps = 3;
    p.guidance.scale = 1;
    return p;
}

static float stepped[N], sample[N];

/* The step behind n answers. */
static sd_stepped step(sd_ctx *c, const sd_params *p, int n, const float *const *answers)
{
    const sd_given g = {.size = sizeof g, .answers = n, .noise_pred = answers, .count = N};
    sd_stepped o = {.size = sizeof o, .latents = stepped, .count = N, .sample = sample, .sample_count = N};
    if (sd_set_given(c, &g) || sd_sampler_step(c, p, &o))
        fail_msg("%s, %d: %s", p->sampling.sampler, n, sd_error_text(c));
    sd_set_given(c, NULL);
    return o;
}

/* Of the answers before it each step makes the run's latents, with all that the sampler remembers and draws. */
static void steps_are_those_of_a_run(sd_ctx *c, const sd_params *p, history *h)
{
    for (int n = 0; n <= h->n; n++) {
        const sd_stepped o = step(c, p, n, h->a);
        if (memcmp(stepped, h->latents[n], sizeof stepped))
            fail_msg("%s: other latents before evaluation %d", p->sampling.sampler, n);
        assert_int_equal(o.ended, n == h->n);
        if (!o.ended) assert_true((float)o.timestep == h->timestep[n]);
    }
    h->answer[h->n - 1][5] += 0.01F;   /* another answer makes other latents */
    step(c, p, h->n, h->a);
    assert_memory_not_equal(stepped, h->latents[h->n], sizeof stepped);
}

TEST(each_step_of_every_sampler_makes_the_latents_of_a_run)
{
    static history h;
    static float last[N];
    int tried = 0;
    sd_sampler_info about;
    sd_ctx *c;
    assert_int_equal(sd_open(&c, NULL), SD_OK);
    for (int i = 0; sd_get_sampler(i, &about); i++) {
        const sd_params p = three_steps(about.name);
        assert_int_equal(sd_set_trace(c, "latents.*,timestep.*,step.*.noise_pred", keep, &h), SD_OK);
        sd_status status = sd_generate_latents(c, &p, last, N);
        sd_set_trace(c, NULL, NULL, NULL);
        if (status || h.n >= MOST - 1) continue;   /* models of other kinds have them */
        tried++;
        steps_are_those_of_a_run(c, &p, &h);
    }
    sd_close(c);
    assert_true(tried >= 26);
}

#define STEPS "--steps", "3", "-W", "64", "-H", "64", "-s", "7", "--sampling-method"

/* euler_a scales what the UNet sees, and draws noise. */
TEST(a_run_by_hand_draws_the_picture_of_one_run)
{
    RUN("-p", PROMPT, STEPS, "euler_a", "--cfg-scale", "5", "-o", out("a.ppm"), "--trace", out("t.safetensors"));
    expect_success("one run");
    RUN("text", "--uncond", PROMPT, "-o", out("e.safetensors"));
    expect_success("sd text");
    RUN("step", STEPS, "euler_a", "-o", out("x.safetensors"));
    expect_success("sd step, the beginning");
    assert_non_null(strstr(ran.out, "latents [1,4,8,8] before evaluation 0 of 3, timestep "));
    for (int i = 0; i < 3; i++) {
        char name[32];
        RUN("unet", "--latents", out("x.safetensors"), "--embeds", out("e.safetensors"), "--cfg-scale", "5", "-o",
            out("p.npy"));
        expect_success("sd unet");
        RUN("step", STEPS, "euler_a", "--latents", out("x.safetensors"), "--pred", out("p.npy"), "-o",
            out("x.safetensors"));
        expect_success("sd step");
        assert_null(strstr(ran.err, "other latents"));
        snprintf(name, sizeof name, "latents.%d", i + 1);
        same("sd step", out("x.safetensors"), "latents", out("t.safetensors"), name);
        snprintf(name, sizeof name, "step.%d.denoised", i);
        same("sd step", out("x.safetensors"), "denoised", out("t.safetensors"), name);
    }
    assert_non_null(strstr(ran.out, "at the end, sigma 0\n"));
    RUN("step", STEPS, "euler_a", "-s", "8", "--latents", out("x.safetensors"), "--pred", out("p.npy"), "--from-step",
        "2", "-o", out("y.safetensors"));
    assert_non_null(strstr(ran.err, "make other latents before evaluation 2 than it has"));
    RUN("decode", out("x.safetensors"), "-o", out("b.ppm"));
    expect_success("sd decode");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    RUN("compare", out("t.safetensors"), out("x.safetensors"));   /* such a file is a trace of the run so far */
    assert_non_null(strstr(ran.out, "every number is the same"));
    temp_clear();
}

/* Arrays of another program: latents and an answer, and which evaluation it is; or two noise levels. */
TEST(a_step_alone_is_that_of_a_run)
{
    char latents[512], answer[512], sigma[3][32];
    RUN("-p", PROMPT, STEPS, "euler", "--trace", out("t.safetensors"), "-o", out("a.ppm"));
    expect_success("one run");
    snprintf(latents, sizeof latents, "%s:latents.1", out("t.safetensors"));
    snprintf(answer, sizeof answer, "%s:step.1.noise_pred", out("t.safetensors"));
    RUN("step", STEPS, "euler", "--latents", latents, "--pred", answer, "--from-step", "1", "-o", out("x.npy"));
    expect_success("one step");
    same("--from-step", out("x.npy"), NULL, out("t.safetensors"), "latents.2");
    RUN("step", STEPS, "euler", "--latents", out("t.safetensors"), "--from-step", "1", "-o", out("y.npy"));
    expect_success("out of a trace");
    assert_true(same_files(out("x.npy"), out("y.npy")));
    RUN("schedule", "--sampling-method", "euler", "--steps", "3", "--json");
    const char *at = strstr(ran.out, "\"sigmas\":[");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"sigmas\":[%31[^,],%31[^,],%31[^,]", sigma[0], sigma[1], sigma[2]), 3);
    RUN("step", "--sampler", "euler", "--latents", latents, "--pred", answer, "--from", sigma[1], "--to", sigma[2],
        "-o", out("z.npy"));
    expect_success("between two noise levels");
    array y = numbers(out("y.npy"), NULL), z = numbers(out("z.npy"), NULL);
    double worst = 0;
    for (size_t i = 0; i < y.n; i++) worst = fmax(worst, fabs((double)y.x[i] - (double)z.x[i]));
    assert_true(worst < 1e-6);
    sd_free(y.x);
    sd_free(z.x);
    RUN("step", "--sampler", "euler", "--latents", latents, "--pred", answer, "--from", sigma[0], "--to", sigma[2],
        "-o", out("w.npy"));
    assert_false(same_files(out("w.npy"), out("z.npy")));
    temp_clear();
}

/* A trace has what the sampler remembers; latents alone have not, and that is said. */
TEST(a_run_goes_on_from_a_step)
{
    static const char *const method[] = {"dpm++2m", "euler_a", "heun"}, *const from[] = {"1", "1", "2"};
    char latents[512], conv[64];
    for (int i = 0; i < 3; i++) {
        RUN("-p", PROMPT, STEPS, method[i], "-o", out("a.ppm"), "--trace", out("t.safetensors"));
        expect_success("one run");
        RUN("-p", PROMPT, STEPS, method[i], "-o", out("b.ppm"), "--latents-in", out("t.safetensors"), "--from-step",
            from[i], "--trace", out("u.safetensors"));
        expect_success("from a trace");
        assert_true(same_files(out("a.ppm"), out("b.ppm")));
        snprintf(conv, sizeof conv, "step.%s.unet.conv_out", from[i]);
        same("--from-step", out("u.safetensors"), conv, out("t.safetensors"), conv);
        snprintf(latents, sizeof latents, "%s:latents.%s", out("t.safetensors"), from[i]);
        RUN("-p", PROMPT, STEPS, method[i], "-o", out("c.ppm"), "--latents-in", latents, "--from-step", from[i],
            "--trace", out("u.safetensors"));
        expect_success("from latents");
        assert_non_null(strstr(ran.err, "has not all answers before evaluation "));
        same("from latents", out("u.safetensors"), conv, out("t.safetensors"), conv);
        assert_int_equal(same_files(out("a.ppm"), out("c.ppm")), i == 2);   /* heun remembers nothing */
    }
    snprintf(latents, sizeof latents, "%s:latents.1", out("t.safetensors"));
    RUN("-p", PROMPT, STEPS, "heun", "--latents-in", latents, "--from-step", "1", "-o", out("d.ppm"));
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "evaluation 1 of heun is in the middle of a step"));
    RUN("-p", PROMPT, STEPS, "heun", "--from-step", "1", "-o", out("d.ppm"));
    assert_non_null(strstr(ran.err, "needs the latents"));
    temp_clear();
}

TEST(a_run_ends_after_a_tensor)
{
    RUN("-p", PROMPT, STEPS, "ddim", "-o", out("a.ppm"), "--trace", out("t.safetensors"), "--stop-after",
        "step.1.unet.mid_block.resnets.0");
    expect_success("--stop-after");
    assert_non_null(strstr(ran.out, "ended after step.1.unet.mid_block.resnets.0\n"));
    assert_int_equal(temp_files(), 1);   /* the trace, and no picture */
    RUN("-p", PROMPT, STEPS, "ddim", "-o", out("b.ppm"), "--trace", out("u.safetensors"));
    RUN("compare", out("u.safetensors"), out("t.safetensors"));
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "every number is the same"));
    array last = numbers(out("t.safetensors"), "step.1.unet.mid_block.resnets.0");
    float *data;
    int nd;
    int64_t d[4];
    assert_int_equal(sd_tensor_read(reader, out("t.safetensors"), "step.1.unet.mid_block.attentions.0", &data, &nd, d),
                     SD_ERR_MISSING);
    sd_free(last.x);
    RUN("-p", PROMPT, STEPS, "ddim", "--stop-after", "latents.9");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "latents.9"));
    temp_clear();
}

TEST(what_a_step_lacks_is_said)
{
    RUN("step", STEPS, "euler", "-o", out("x.safetensors"));
    expect_success("the beginning");
    RUN("step", STEPS, "euler", "--latents", out("x.safetensors"));
    assert_non_null(strstr(ran.err, "give --pred FILE, the UNet's answer"));
    RUN("step", STEPS, "euler", "-o", out("x.npy"));
    RUN("step", STEPS, "euler", "--latents", out("x.npy"), "--pred", out("x.npy"));
    assert_non_null(strstr(ran.err, "give --from-step K"));
    RUN("step", STEPS, "ddim", "--latents", out("x.npy"), "--pred", out("x.npy"), "--from", "9", "--to", "1");
    assert_int_equal(ran.code, 2);
    RUN("step", STEPS, "euler", "--latents", out("x.npy"), "--pred", out("x.npy"), "--from", "9");
    assert_non_null(strstr(ran.err, "--from and --to are two noise levels: give both"));
    RUN("step", STEPS, "euler", "--latents", out("x.npy"), "--pred", out("x.npy"), "--from-step", "3");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "a run with 3 evaluations begins with one of 0 to 2, not 3"));
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_npy_file_has_the_bytes_of_numpy_save),
        cmocka_unit_test(a_npy_file_holds_one_tensor_of_a_type_that_numpy_has),
        cmocka_unit_test(a_path_names_a_tensor_of_a_file),
        cmocka_unit_test(an_array_in_fortran_s_order_is_read_as_its_shape_says),
        cmocka_unit_test(texts_are_those_of_a_run),
        cmocka_unit_test(a_guided_answer_is_that_of_a_run),
        cmocka_unit_test(one_picture_is_shown_with_each_text),
        cmocka_unit_test(what_a_stage_lacks_is_said),
        cmocka_unit_test(each_step_of_every_sampler_makes_the_latents_of_a_run),
        cmocka_unit_test(a_run_by_hand_draws_the_picture_of_one_run),
        cmocka_unit_test(a_step_alone_is_that_of_a_run),
        cmocka_unit_test(a_run_goes_on_from_a_step),
        cmocka_unit_test(a_run_ends_after_a_tensor),
        cmocka_unit_test(what_a_step_lacks_is_said),
    };
    return cmocka_run_group_tests_name("stages", tests, reader_setup, reader_teardown);
}
