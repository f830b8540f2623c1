/* test_redraw.c - pictures drawn again from their own text, byte for byte, with every group of options; other programs'
 * texts; sd show. */
#define _XOPEN_SOURCE 700
#include <unistd.h>

#include "test.h"
#include "../sd.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#ifdef SD_WITH_PNG
#include <png.h>

enum { MOST = 40 };

/* sd with these arguments, in the directory that holds the files. */
static void run_here(const char *const *args)
{
    run_with.cwd = temp_path(".");
    run_list(args);
}
#define HERE(...) run_here((const char *const[]){__VA_ARGS__, NULL})

/* Draws with `args`, 32x32 and 3 steps unless they say else, into first.png. */
static void draw_first(const char *what, const char *const *args)
{
    const char *all[MOST + 16] = {"-q", "-p", "a red car", "-o", "first.png", "-s", "5"};
    int n = 7, i = 0;
    bool sized = false, stepped = false;
    for (; args[i]; i++) {
        sized |= !strcmp(args[i], "-W") || !strcmp(args[i], "-i");
        stepped |= !strcmp(args[i], "--steps") || !strcmp(args[i], "--sigmas") || !strcmp(args[i], "--timesteps");
    }
    for (i = 0; args[i] && n < MOST; i++) all[n++] = args[i];
    const char *more[] = {sized ? NULL : "-W", sized ? NULL : "32", sized ? NULL : "-H", sized ? NULL : "32",
                          stepped ? NULL : "--steps", stepped ? NULL : "3"};
    for (i = 0; i < 6; i++)
        if (more[i]) all[n++] = more[i];
    all[n] = NULL;
    run_here(all);
    expect_success(what);
}

/* ... and draws `name` again from its text: the same file, and nothing that would be another one. */
static void expect_again(const char *what, const char *name)
{
    HERE("--from", name, "-o", "again.png");
    expect_success(what);
    static const char *const bad[] = {"another", "not followed", "not understood", "unknown"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (strstr(ran.err, bad[i])) fail_msg("%s: %s", what, ran.err);
    if (!same_files(temp_path(name), temp_path("again.png"))) {
        HERE("show", name);
        print_message("%s\n", ran.out);
        HERE("show", "again.png");
        print_message("%s\n", ran.out);
        fail_msg("%s: %s is another picture when it is drawn again", what, name);
    }
}

#define AGAIN(what, ...) \
    do { \
        draw_first(what, (const char *const[]){__VA_ARGS__, NULL}); \
        expect_again(what, "first.png"); \
    } while (0)

/* ----------------------------------------------------------------------------------------- files */

static void write_png(const char *name, int width, int height, png_uint_32 format, const uint8_t *pixels)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height,
        .format = format};
    assert_true(png_image_write_to_file(&image, temp_path(name), 0, pixels, 0, NULL));
}

/* car.png 40x32, odd.png 45x37, mask.png 40x32 (a white square), hole.png (transparent there), faint.png (alpha 200
 * there) */
static void write_pictures(void)
{
    enum { W = 45, H = 37 };
    static uint8_t rgb[W * H * 3], rgba[W * H * 4], mask[W * H];
    static const struct { const char *name; int width, height; uint8_t alpha; } pictures[] = {
        {"car.png", 40, 32, 255}, {"odd.png", W, H, 255}, {"hole.png", 40, 32, 0}, {"faint.png", 40, 32, 200}};
    for (size_t k = 0; k < sizeof pictures / sizeof *pictures; k++) {
        int width = pictures[k].width, height = pictures[k].height;
        for (int i = 0; i < width * height; i++) {
            int x = i % width, y = i / width, in = x >= 10 && x < 26 && y >= 8 && y < 20;
            const uint8_t colour[] = {(uint8_t)(x * 5), (uint8_t)(y * 6), (uint8_t)(in ? 250 : 30)};
            memcpy(rgb + 3 * i, colour, 3);
            memcpy(rgba + 4 * i, colour, 3);
            rgba[4 * i + 3] = in ? pictures[k].alpha : 255;
            mask[i] = in ? 255 : 0;
        }
        if (pictures[k].alpha == 255) write_png(pictures[k].name, width, height, PNG_FORMAT_RGB, rgb);
        else write_png(pictures[k].name, width, height, PNG_FORMAT_RGBA, rgba);
        write_png(width == W ? "oddmask.png" : "mask.png", width, height, PNG_FORMAT_GRAY, mask);
    }
}

static int setup(void **state)
{
    char model[4096];   /* the program runs elsewhere, and a build may lie anywhere */
    if (child_setup(state) || !realpath("weights/tiny", model) || setenv("SD_MODEL", model, 1)) return -1;
    write_pictures();
    return 0;
}

/* ------------------------------------------------------------------------------- with our own text */

/* The same model is its own refiner here. As two commands it draws the same pixels. */
TEST(a_refiner_and_latents_are_drawn_again)
{
    const char *model = getenv("SD_MODEL");
    draw_first("a refiner", (const char *const[]){"--refiner", model, "--refiner-at", "0.5", NULL});
    HERE("--from", "first.png", "--refiner", model, "-o", "again.png");
    expect_success("a refiner");
    assert_true(same_files(temp_path("first.png"), temp_path("again.png")));
    HERE("--from", "first.png", "-o", "again.png");
    assert_int_not_equal(ran.code, 0);
    assert_non_null(strstr(ran.err, "first.png: the refiner tiny went on with it: give that with --refiner"));
    HERE("-q", "-p", "a red car", "-s", "5", "-W", "32", "-H", "32", "--steps", "3", "--denoising-end", "0.5", "-o",
         "base.safetensors");
    expect_success("latents out");
    AGAIN("latents", "--denoising-start", "0.5", "--latents-in", "base.safetensors");
}

TEST(every_sampler_is_drawn_again)
{
    sd_sampler_info about;
    int drawn = 0, refused = 0;
    for (int i = 0; sd_get_sampler(i, &about); i++)
        for (int k = 0; k < 2; k++) {
            char name[64];
            if (k && !(about.kdiffusion && about.diffusers)) continue;
            snprintf(name, sizeof name, "%s%s", about.name, k ? "@kdiffusion" : "");
            HERE("-q", "-p", "a red car", "-W", "32", "-H", "32", "--steps", "4", "-s", "9", "--sampling-method", name,
                "-o", "first.png");
            refused += ran.code == 2;
            if (ran.code == 2) continue;   /* not with this model */
            expect_success(name);
            expect_again(name, "first.png");
            drawn++;
        }
    print_message("%d samplers drawn again, %d not possible with the model\n", drawn, refused);
    assert_true(drawn >= 34 && refused <= 1);
}

TEST(every_schedule_is_drawn_again)
{
    static const char *const samplers[] = {"euler", "dpm++2m", "euler@kdiffusion"};
    int drawn = 0;
    for (size_t s = 0; s < sizeof samplers / sizeof *samplers; s++) {
        for (int i = 0; sd_schedule_name(i); i++, drawn++)
            AGAIN(sd_schedule_name(i), "--sampling-method", samplers[s], "--scheduler", sd_schedule_name(i));
        static const char *const spacings[] = {"leading", "trailing", "linspace"};
        for (size_t i = 0; i < 3; i++, drawn++) AGAIN(spacings[i], "--sampling-method", samplers[s], "--scheduler",
            spacings[i]);
    }
    print_message("%d schedules drawn again\n", drawn);
    assert_true(drawn >= 60);
    AGAIN("a sampler and a schedule in one name", "--sampling-method", "DPM++ 2M Karras");
    AGAIN("a spacing beside a schedule", "--sampling-method", "euler", "--scheduler", "karras", "--spacing",
        "trailing");
}

TEST(settings_of_the_sampler_are_drawn_again)
{
    AGAIN("sigmas", "--sampling-method", "euler", "--sigmas",
        "14.6146412293,6.123456789012345,2.7,0.30000000000000004,0");
    AGAIN("timesteps", "--sampling-method", "euler", "--timesteps", "980,600.5,333.3333333333333,20");
    AGAIN("timesteps of a sampler that counts them", "--sampling-method", "lcm", "--timesteps", "980,601,20");
    AGAIN("eta", "--sampling-method", "ddim", "--eta", "0.3333333333333333");
    AGAIN("no eta", "--sampling-method", "euler_a", "--eta", "0");
    AGAIN("order", "--sampling-method", "dpm++2m", "--order", "1");
    AGAIN("churn", "--sampling-method", "euler", "--s-churn", "1.7", "--s-tmin", "0.05", "--s-tmax", "50", "--s-noise",
        "1.003");
    AGAIN("churn everywhere", "--sampling-method", "heun", "--s-churn", "2");
    AGAIN("noise of an ancestral sampler", "--sampling-method", "euler_a", "--s-noise", "0.9");
    AGAIN("rescaled guidance", "--cfg-scale", "9.123456789", "--guidance-rescale", "0.7");
    AGAIN("no guidance", "--cfg-scale", "1");
    AGAIN("epsilon", "--prediction", "epsilon");
    AGAIN("sample", "--prediction", "sample", "--sampling-method", "ddim");
    AGAIN("offset, last alpha, clipping", "--sampling-method", "ddim", "--steps-offset", "3", "--set-alpha-to-one",
        "true", "--clip-sample", "true");
    AGAIN("clip skip", "--clip-skip", "2");
    AGAIN("scalar kernels", "--precise", "--steps", "1");
    AGAIN("size", "-W", "40", "-H", "24");
}

TEST(prompts_are_taken_as_they_are)
{
    static const char *const prompts[] = {
        "", " two  blanks ", "two\nlines", "a\nNegative prompt: b", "Negative prompt: x",
            "x\nSteps: 3, Sampler: Euler, Seed: 7, Size: 8x8",
        "quotes \" and \\ and 'these'", "tr\xc3\xa8s bon", "\xe7\x8c\xab", "\xc3\x83\xc2\xa9", "tab\there", "a\r\nb",
            "end\n", "\n\nbegin",
        "1, 2: 3", "@home"};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        char prompt[128];
        snprintf(prompt, sizeof prompt, "%s%s", *prompts[i] == '@' ? "@" : "", prompts[i]);   /* "@" alone is a file */
        draw_first(prompts[i], (const char *const[]){"-p", prompt, "-n", prompts[(i + 5) % 15], NULL});
        expect_again(prompts[i], "first.png");
        HERE("show", "first.png", "--json");
        expect_success("show");
    }
}

TEST(randomness_is_drawn_again)
{
    static const char *const streams[] = {"torch-cuda", "cuda", "torch-cuda:sms=2,threads=256", "numpy", "numpy-pcg64",
        "numpy-pcg64-f32"};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        AGAIN(streams[i], "--rng", streams[i], "--sampling-method", "euler_a");
    AGAIN("two streams", "--sampler-rng", "brownian", "--sampling-method", "dpm++sde@kdiffusion");
    AGAIN("a stream of the samplers'", "--sampler-rng", "torch-cpu", "--sampling-method", "euler_a");
    AGAIN("a large seed", "-s", "18446744073709551615", "--rng", "torch-cuda");
    HERE("-q", "-p", "x", "-W", "32", "-H", "32", "--steps", "2", "-s", "77", "--trace", "noise.safetensors",
        "--trace-filter", "noise", "-o", "x.png");
    expect_success("noise");
    AGAIN("noise", "--noise", "noise.safetensors");
    AGAIN("numbers", "--rng", "noise.safetensors", "--sampling-method", "ddim");
    AGAIN("numbers of the sampler's", "--sampler-rng", "noise.safetensors", "--sampling-method", "euler_a", "--steps",
        "1");
}

TEST(each_picture_of_a_batch_is_drawn_again)
{
    static const char *const ways[] = {NULL, "--seed-per-image"};
    for (size_t i = 0; i < 2; i++) {
        char *text[3];
        draw_first("batch", (const char *const[]){"--batch-size", "3", "--sampling-method", "euler_a", ways[i], NULL});
        static const char *const names[] = {"first.png", "first_2.png", "first_3.png"};
        for (int k = 0; k < 3; k++) {
            expect_again("batch", names[k]);
            HERE("show", names[k]);
            text[k] = strdup(ran.out);
        }
        assert_true(strcmp(text[0], text[1]) != 0 && strcmp(text[1], text[2]) != 0);
        assert_non_null(strstr(text[1], i ? "Seed: 6," : "Seed: 5,"));   /* as A1111 tells it */
        assert_non_null(strstr(text[1], "Batch size: 3, Batch pos: 1,"));
        for (int k = 0; k < 3; k++) free(text[k]);
    }
    HERE("--from", "first_2.png", "--batch-size", "3", "-o", "all.png");   /* a batch is asked for: all of it comes */
    expect_success("all");
    HERE("-q", "--from", "first.png", "--keep", "2", "-o", "second.png");
    expect_success("keep");
    assert_true(same_files(temp_path("second.png"), temp_path("first_2.png")));
    draw_first("count", (const char *const[]){"-b", "2", NULL});
    expect_again("count", "first_2.png");
}

TEST(image_to_image_is_drawn_again)
{
    AGAIN("image to image", "-i", "car.png");
    AGAIN("strength", "-i", "car.png", "--strength", "0.7777777777777778", "--steps", "5");
    AGAIN("an odd size", "-i", "odd.png");
    AGAIN("stretched", "-i", "car.png", "-W", "24", "-H", "48");
    AGAIN("cropped", "-i", "car.png", "-W", "24", "-H", "48", "--resize", "crop");
    AGAIN("padded", "-i", "car.png", "-W", "24", "-H", "48", "--resize", "pad");
    AGAIN("a batch of one picture", "-i", "car.png", "--batch-size", "2");
    expect_again("second of a batch", "first_2.png");
    AGAIN("a little transparent", "-i", "faint.png");
}

TEST(inpainting_is_drawn_again)
{
    AGAIN("mask", "-i", "car.png", "--mask", "mask.png");
    AGAIN("part of the steps", "-i", "car.png", "--mask", "mask.png", "--strength", "0.5", "--steps", "4");
    AGAIN("inverted", "-i", "car.png", "--mask", "mask.png", "--invert-mask");
    AGAIN("blurred", "-i", "car.png", "--mask", "mask.png", "--mask-blur", "1.2345");
    AGAIN("not pasted", "-i", "car.png", "--mask", "mask.png", "--paste-back", "false");
    AGAIN("cropped", "-i", "car.png", "--mask", "mask.png", "--inpaint-crop", "3", "-W", "32", "-H", "24");
    AGAIN("a size of its own", "-i", "odd.png", "--mask", "oddmask.png");
    AGAIN("resized", "-i", "odd.png", "--mask", "oddmask.png", "-W", "48", "-H", "40");
    AGAIN("alpha", "-i", "hole.png");
    AGAIN("alpha inverted", "-i", "hole.png", "--invert-mask");
    AGAIN("alpha by force", "-i", "faint.png", "--alpha-mask");
    AGAIN("outpainting", "-i", "car.png", "--outpaint", "8,0,16,3");
    AGAIN("outpainting an odd size with a hole", "-i", "odd.png", "--mask", "oddmask.png", "--outpaint", "1,2,3,4");
}

/* ------------------------------------------------------------------------------------ around it */

TEST(what_is_given_counts_more_than_the_text)
{
    draw_first("first", (const char *const[]){"--sampling-method", "ddim", "--eta", "1", "--steps", "4", "-n", "rain",
        NULL});
    static const struct { const char *args[8]; const char *in_text, *not_in_text; } cases[] = {
        {{"-s", "6"}, "Seed: 6,", "Seed: 5,"},
        {{"-p", "a dog"}, "a dog\n", "a red car"},
        {{"-n", ""}, "a red car\nSteps", "rain"},
        {{"--steps", "3"}, "Steps: 3,", "Steps: 4,"},
        {{"--sampling-method", "euler"}, "Sampler: Euler,", "Eta"},      /* ddim's eta is not euler's */
        {{"--sampling-method", "euler", "--scheduler", "karras"}, "Schedule type: Karras,", "spaced"},
        {{"--sampling-method", "euler", "--sigmas", "14,1,0"}, "Sigmas: \"14,1,0\"", "Steps: 4"},
        {{"--cfg-scale", "2"}, "CFG scale: 2,", "CFG scale: 3,"},
        {{"-W", "40"}, "Size: 40x32,", "Size: 32x32"},
        {{"--precise"}, "Kernels: precise,", "Kernels: avx"},
        {{"-i", "car.png"}, "Denoising strength: 0.8,", "Mask"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *args[16] = {"-q", "--from", "first.png", "-o", "other.png"};
        for (int k = 0; k < 8 && cases[i].args[k]; k++) args[5 + k] = cases[i].args[k];
        run_here(args);
        expect_success(cases[i].args[0]);
        HERE("show", "other.png");
        char *blank = strstr(ran.out, "\n\n");
        assert_non_null(blank);
        *blank = 0;
        if (!strstr(ran.out, cases[i].in_text)) fail_msg("case %zu: no \"%s\" in %s", i, cases[i].in_text, ran.out);
        if (strstr(ran.out, cases[i].not_in_text)) fail_msg("case %zu: \"%s\" in %s", i, cases[i].not_in_text, ran.out);
        if (strcmp(cases[i].args[0], "-i")) expect_again(cases[i].args[0], "other.png");
    }
}

TEST(files_are_looked_for_here_and_beside_the_picture)
{
    draw_first("inpainting", (const char *const[]){"-i", "car.png", "--mask", "mask.png", NULL});
    RUN("--from", temp_path("first.png"), "-o", temp_path("again.png"));
    expect_success("beside");
    assert_true(same_files(temp_path("first.png"), temp_path("again.png")));
    assert_int_equal(rename(temp_path("mask.png"), temp_path("moved.png")), 0);
    HERE("--from", "first.png", "-o", "no.png");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "its mask was mask.png, which is neither here nor beside it: give it with --mask"));
    HERE("--from", "first.png", "--mask", "moved.png", "-q", "-o", "again.png");
    expect_success("moved");
    HERE("--from", "first.png", "--mask", "car.png", "-o", "again.png");   /* another one: said, and done */
    expect_success("another");
    assert_non_null(strstr(ran.err, "warning: the mask is another one"));
    assert_int_equal(rename(temp_path("moved.png"), temp_path("mask.png")), 0);
}

TEST(the_models_name_has_no_path_and_no_newline)
{
    static const struct { const char *link, *name; } models[] = {
        {"two\nlines", "Model: \"two\\nlines\","}, {"a, b", "Model: \"a, b\","}, {"plain", "Model: plain,"}, {"\xff",
            "Model: ?,"}};
    static const char *const endings[] = {"", "/", "/.", "/./", "//"};
    char here[4096], target[4096 + 16], link[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(target, sizeof target, "%s/weights/tiny", here);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
            char model[4200];
            snprintf(link, sizeof link, "%s", temp_path(models[i].link));
            remove(link);
            assert_int_equal(symlink(target, link), 0);
            snprintf(model, sizeof model, "%s%s", link, endings[k]);
            draw_first(model, (const char *const[]){"-m", model, NULL});
            HERE("show", "first.png");
            if (!strstr(ran.out, models[i].name)) fail_msg("%s is not in %s", models[i].name, ran.out);
            remove(link);
        }
    run_with.cwd = target;
    RUN("-q", "-m", ".", "-p", "x", "-W", "32", "-H", "32", "--steps", "1", "-o", temp_path("first.png"));
    expect_success("model .");
    HERE("show", "first.png");
    assert_non_null(strstr(ran.out, "Model: tiny,"));
}

TEST(another_model_is_noticed)
{
    size_t n;
    draw_first("first", (const char *const[]){"-s", "3", NULL});
    char *png = slurp(temp_path("first.png"), &n), *text = malloc(n);
    HERE("show", "first.png");
    snprintf(text, n, "%s", ran.out);
    *strstr(text, "\n\n") = 0;
    char *print = strstr(text, "Model fingerprint: ") + 19;
    *print = *print == '0' ? '1' : '0';
    spill(temp_path("changed.txt"), text, strlen(text));
    HERE("--from", "changed.txt", "-o", "again.png");   /* a text will do as well */
    expect_success("changed");
    assert_non_null(strstr(ran.err, "this is not the model that drew the picture"));
    free(png);
    free(text);
}

/* ------------------------------------------------------------------------------- other programs' */

TEST(a1111_and_sdcpp_are_drawn_as_far_as_they_can_be_followed)
{
    static const char a1111[] =
        "a cat <lora:detail:0.8>\nNegative prompt: blurry\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG "
            "scale: 7, Seed: 1, "
        "Size: 32x40, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Lora hashes: \"detail: 7c6bad76eb54\", Clip "
            "skip: 2, "
        "RNG: CPU, Version: v1.10.1";
    static const char sdcpp[] =
        "a cat\nSteps: 3, CFG scale: 5.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 32x32, "
        "Model: v1-5-pruned-emaonly.safetensors, RNG: cuda, Sampler: euler_a karras, Version: stable-diffusion.cpp";
    spill(temp_path("a.txt"), a1111, strlen(a1111));
    spill(temp_path("c.txt"), sdcpp, strlen(sdcpp));
    HERE("show", "a.txt");
    expect_success("a1111");
    assert_non_null(strstr(ran.out,
        "\nsd -p 'a cat <lora:detail:0.8>' -n blurry -W 32 -H 40 -s 1 --steps 3 --cfg-scale 7 "
                                    "--sampling-method dpm++2m@kdiffusion --scheduler karras@kdiffusion --clip-skip "
                                        "2\n"));
    assert_non_null(strstr(ran.err, "sd: not followed: Lora hashes\n"));
    HERE("--from", "a.txt", "-o", "a.png");
    expect_success("a1111");
    assert_non_null(strstr(ran.err, "the model was v1-5-pruned-emaonly"));
    assert_non_null(strstr(ran.out, "32x40"));
    HERE("show", "c.txt");
    expect_success("sd.cpp");
    assert_non_null(strstr(ran.out, "\nsd -p 'a cat' -W 32 -H 32 -s 42 --rng torch-cuda --steps 3 --cfg-scale 5 "
                                    "--sampling-method euler_a@kdiffusion --scheduler karras@kdiffusion\n"));
    HERE("-q", "--from", "c.txt", "-o", "c.png");
    expect_success("sd.cpp");
    char jpeg[512] = "\xFF\xD8\xFF\xFE\0\0parameters";   /* with sd.cpp's text as its comment */
    size_t n = 17 + sizeof sdcpp;
    jpeg[5] = (char)(n - 4);
    memcpy(jpeg + 17, sdcpp, sizeof sdcpp);
    assert_true(n - 4 < 256);
    spill(temp_path("c.jpg"), jpeg, n);
    HERE("-q", "--from", "c.jpg", "-o", "j.png");
    expect_success("a JPEG");
    assert_true(same_files(temp_path("c.png"), temp_path("j.png")));
}

TEST(a_picture_may_come_through_a_pipe)
{
    char command[8192], here[4096];
    assert_non_null(realpath(getenv("SD_PROGRAM") ? getenv("SD_PROGRAM") : "./sd", here));
    snprintf(command, sizeof command, "cat docs/apple.png | %s show /dev/stdin > %s", here, temp_path("said"));
    assert_int_equal(system(command), 0);
}

/* A value that cannot be read is not taken for 0 or for the default. */
TEST(broken_values_are_named_and_not_guessed)
{
    static const struct { const char *settings, *word, *command; } cases[] = {
        {"Seed: 12ab, Size: 32x32", "sd: Seed is not understood: 12ab\nsd: no seed can be read", "sd -p 'a cat' -W 32"},
        {"Seed: , Size: 32x32", "no seed can be read", "sd -p 'a cat' -W 32"},
        {"Size: 32x32", "no seed can be read", "sd -p 'a cat' -W 32"},
        {"Seed: 1, Size: 0x0", "sd: Size is not understood: 0x0\n", "sd -p 'a cat' -s 1"},
        {"Seed: 1, Size: 32x-8", "sd: Size is not understood: 32x-8\n", "sd -p 'a cat' -s 1"},
        {"Seed: 1, Sigmas: \"5, 1, 0\"", "", "--sigmas 5,1,0 "},
        {"Seed: 1, Sigmas: \"5,x,0\"", "sd: Sigmas is not understood: 5,x,0\n", "--steps 3 "},
        {"Seed: 1, Timesteps: \"900,,0\"", "sd: Timesteps is not understood: 900,,0\n", "--steps 3 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "a cat\nSteps: 3, Sampler: Euler, %s, Version: sd 0.1.0", cases[i].settings);
        spill(temp_path("b.txt"), text, strlen(text));
        HERE("show", "b.txt");
        expect_success(cases[i].settings);
        if (!strstr(ran.err, cases[i].word) || (!*cases[i].word && *ran.err))
            fail_msg("%s: %s", cases[i].settings, ran.err);
        if (!strstr(ran.out, cases[i].command)) fail_msg("%s: %s", cases[i].settings, ran.out);
    }
    HERE("--from", "b.txt", "--steps", "2", "-W", "32", "-H", "32", "-o", "first.png");   /* its seed */
    assert_non_null(strstr(ran.out, "seed: 1\n"));
    spill(temp_path("b.txt"), "a cat", 5);
    HERE("--from", "b.txt", "--steps", "2", "-W", "32", "-H", "32", "-o", "first.png");
    expect_success("a prompt alone");
    assert_null(strstr(ran.out, "seed: 0\n"));   /* random: once in 2^32 */
}

TEST(what_has_no_text_is_said_in_one_line)
{
    HERE("show", "car.png");
    assert_int_equal(ran.code, 2);
    assert_string_equal(ran.err, "sd: car.png has no text of settings (a PNG's chunk `parameters`)\n");
    HERE("--from", "car.png", "-o", "no.png");
    assert_int_equal(ran.code, 2);
    HERE("--from", "nothing.png", "-o", "no.png");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "nothing.png"));
    HERE("show");
    assert_int_equal(ran.code, 2);
    spill(temp_path("escape.txt"), "a \x1b[31mcat\nSteps: \x1b[2J, Seed: 1, Size: 8x8\n", 44);
    HERE("show", "escape.txt");
    assert_null(strchr(ran.out, 27));
    assert_null(strchr(ran.err, 27));
}

/* What `sd show` prints is a command: it draws the same file. */
TEST(the_command_that_is_shown_draws_the_picture)
{
    draw_first("first", (const char *const[]){"-p", "it's a \"cat\"", "--sampling-method", "dpm++2m_sde", "--sigmas",
        "14.6,3.3333333333333335,0",
                                              "--batch-size", "2", "-i", "car.png", "--mask", "mask.png", NULL});
    HERE("show", "first_2.png");
    expect_success("show");
    char *line = strstr(ran.out, "\n\nsd "), command[8192], here[4096];
    assert_non_null(line);
    assert_non_null(realpath(getenv("SD_PROGRAM") ? getenv("SD_PROGRAM") : "./sd", here));
    snprintf(command, sizeof command, "cd %s && %s %.*s -q -o shown.png >/dev/null", temp_path("."), here,
             (int)strcspn(line + 5, "\n"), line + 5);
    assert_int_equal(system(command), 0);
    assert_true(same_files(temp_path("first_2.png"), temp_path("shown.png")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refiner_and_latents_are_drawn_again),
        cmocka_unit_test(every_sampler_is_drawn_again),
        cmocka_unit_test(every_schedule_is_drawn_again),
        cmocka_unit_test(settings_of_the_sampler_are_drawn_again),
        unit_test_needing(NEED_UNICODE, prompts_are_taken_as_they_are),
        cmocka_unit_test(randomness_is_drawn_again),
        cmocka_unit_test(each_picture_of_a_batch_is_drawn_again),
        cmocka_unit_test(image_to_image_is_drawn_again),
        cmocka_unit_test(inpainting_is_drawn_again),
        cmocka_unit_test(what_is_given_counts_more_than_the_text),
        cmocka_unit_test(files_are_looked_for_here_and_beside_the_picture),
        cmocka_unit_test(the_models_name_has_no_path_and_no_newline),
        cmocka_unit_test(another_model_is_noticed),
        cmocka_unit_test(a1111_and_sdcpp_are_drawn_as_far_as_they_can_be_followed),
        cmocka_unit_test(a_picture_may_come_through_a_pipe),
        cmocka_unit_test(broken_values_are_named_and_not_guessed),
        cmocka_unit_test(what_has_no_text_is_said_in_one_line),
        cmocka_unit_test(the_command_that_is_shown_draws_the_picture),
    };
    return cmocka_run_group_tests(tests, setup, child_teardown);
}

#else

int main(void) { return skip_group(NEED_PNG, "pictures_are_drawn_again"); }

#endif
