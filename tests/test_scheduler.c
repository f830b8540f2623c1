/* test_scheduler.c - sampler_config.c: what a scheduler_config.json means, against diffusers
 * (tests/golden/scheduler.txt, made by tools/golden_sampler.py), and how bad files end. */
#define _POSIX_C_SOURCE 200809L
#include "sched.h"
#include "../sampler_run.h"

#include <math.h>
#include <unistd.h>

#include "test.h"
static char folder[] = "/tmp/sd-test-scheduler-XXXXXX";
static char path[sizeof folder + 32];

static int make_folder(UNUSED void **state)
{
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/scheduler_config.json", folder);
    return 0;
}

static int remove_folder(UNUSED void **state)
{
    remove(path);
    return rmdir(folder);
}

static void write_file(const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static sd_status read_text(sd_sched_config *c, const char *json, const char *sampler, sd_error *e)
{
    write_file(json, strlen(json));
    *e = (sd_error){.status = SD_OK};
    return sched_read(c, path, sampler, e);
}

static void accepts(const char *json, const char *sampler)
{
    sd_sched_config c;
    sd_error e = {0};
    if (read_text(&c, json, sampler, &e)) fail_msg("%s: %s", json, e.text);
}

static void refuses(const char *json, const char *sampler, sd_status status, const char *because)
{
    sd_sched_config c;
    sd_error e = {0};
    if (read_text(&c, json, sampler, &e) != status || !strstr(e.text, because))
        fail_msg("%s: expected %s with \"%s\", found %s: %s", json, sd_status_name(status), because,
                 sd_status_name(e.status), e.text);
}

/* Prints the settings as the golden file does. */
static void print_settings(char *out, size_t size, const sd_sched_config *c)
{
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2"};
    snprintf(out, size, "%s %s %s %.17g %.17g %d %d %d %d %d %d %.17g", sd_prediction_name(c->prediction),
             sd_spacing_name(c->spacing), betas[c->beta_schedule], c->beta_start, c->beta_end, c->train_steps,
             c->steps_offset, c->set_alpha_to_one, c->clip_sample, c->skip_prk_steps, c->rescale_zero_snr,
             c->clip_sample_range);
}

static void check_as(const char *json, const char *line)
{
    char name[16], method[16], found[256];
    int used = 0;
    assert_int_equal(sscanf(line, "%15s %n", name, &used), 1);
    line += used;
    bool own = strcmp(name, "own") == 0;
    if (own) {
        assert_int_equal(sscanf(line, "%15s %n", method, &used), 1);
        line += used;
    }
    sd_sched_config c;
    sd_error e = {0};
    if (read_text(&c, json, own ? NULL : name, &e)) fail_msg("%s", e.text);
    assert_string_equal(sd_method_name(c.method), own ? method : name);
    print_settings(found, sizeof found, &c);
    assert_string_equal(found, line);
    assert_true(c.eta == (c.method == SD_EULER_A ? 1 : 0));
}

static void check_pipeline(const char *json, const char *line)
{
    sd_sched_config c;
    sd_error e = {0};
    assert_int_equal(read_text(&c, json, NULL, &e), SD_OK);
    sd_sched_as_pipeline(&c, false);
    int offset, clip;
    assert_int_equal(sscanf(line, "%d %d", &offset, &clip), 2);
    assert_int_equal(c.steps_offset, offset);
    assert_int_equal(c.clip_sample, clip);
}

/* Every file read as its own class and as every other one; the pipeline's two changes. */
TEST(files_mean_what_they_mean_in_diffusers)
{
    FILE *f = fopen("tests/golden/scheduler.txt", "r");
    if (!f) fail_msg("tests/golden/scheduler.txt is missing");
    char line[2048], json[2048] = "";
    int files = 0, readings = 0, pipelines = 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "config ", 7) == 0) {
            strcpy(json, line + 7);
            files++;
        } else if (strncmp(line, "as ", 3) == 0) {
            check_as(json, line + 3);
            readings++;
        } else if (strncmp(line, "pipeline ", 9) == 0) {
            check_pipeline(json, line + 9);
            pipelines++;
        }
    }
    fclose(f);
    assert_true(files >= 12 && readings >= 4 * files && pipelines >= 11);
}

/* Trap 35: DDIM's class ends at alpha 1 and clips, PNDM's does neither; a file without the keys depends on the class.
 * */
TEST(twin_with_one_default_for_all_classes_is_wrong)
{
    sd_sched_config ddim, pndm, euler;
    sd_error e = {0};
    assert_int_equal(read_text(&ddim, "{\"_class_name\": \"DDIMScheduler\"}", NULL, &e), SD_OK);
    assert_int_equal(read_text(&pndm, "{\"_class_name\": \"PNDMScheduler\"}", NULL, &e), SD_OK);
    assert_int_equal(read_text(&euler, "{\"_class_name\": \"EulerDiscreteScheduler\"}", NULL, &e), SD_OK);
    assert_true(ddim.set_alpha_to_one && !pndm.set_alpha_to_one && ddim.clip_sample && !pndm.clip_sample);
    assert_true(ddim.spacing == SD_SPACE_LEADING && euler.spacing == SD_SPACE_LINSPACE);
    /* and to change the class is not to keep the old one's defaults */
    assert_int_equal(read_text(&pndm, "{\"_class_name\": \"DDIMScheduler\"}", "pndm", &e), SD_OK);
    assert_false(pndm.set_alpha_to_one);
}

#define DDIM "{\"_class_name\": \"DDIMScheduler\", "
#define PNDM "{\"_class_name\": \"PNDMScheduler\", "
#define EULER "{\"_class_name\": \"EulerDiscreteScheduler\", "
#define DPM "{\"_class_name\": \"DPMSolverMultistepScheduler\", "
#define DDPM "{\"_class_name\": \"DDPMScheduler\", "
#define UNIPC "{\"_class_name\": \"UniPCMultistepScheduler\", "
#define EULER_A "{\"_class_name\": \"EulerAncestralDiscreteScheduler\", "
#define SINGLE "{\"_class_name\": \"DPMSolverSinglestepScheduler\", "
#define SA "{\"_class_name\": \"SASolverScheduler\", "

TEST(keys_that_would_change_the_result_are_refused)
{
    static const struct { const char *json, *key; } cases[] = {
        {DDIM "\"trained_betas\": [0.1]}", "trained_betas"}, {EULER_A "\"trained_betas\": [0.1]}", "trained_betas"},
        {DPM "\"use_flow_sigmas\": true}", "use_flow_sigmas"},
        {DPM "\"algorithm_type\": \"dpmsolver\"}", "algorithm_type"},
        {DDPM "\"variance_type\": \"learned\"}", "learned"},
        {UNIPC "\"predict_x0\": false}", "predict_x0"}, {UNIPC "\"disable_corrector\": [0]}", "disable_corrector"},
        {UNIPC "\"solver_p\": \"other\"}", "solver_p"}, {DPM "\"lambda_min_clipped\": 1000}", "lambda_min_clipped"},
        {DPM "\"variance_type\": \"learned_range\"}", "learned_range"},
        {SINGLE "\"algorithm_type\": \"dpmsolver\"}", "\"dpmsolver\""},
        {SINGLE "\"algorithm_type\": \"sde-dpmsolver++\"}", "sde-dpmsolver++"},
        {SA "\"algorithm_type\": \"noise_prediction\"}", "noise_prediction"},
        {EULER "\"interpolation_type\": \"log_linear\"}", "interpolation_type"},
        {EULER "\"timestep_type\": \"continuous\", \"prediction_type\": \"v_prediction\"}", "timestep_type"},
        {EULER "\"final_sigmas_type\": \"other\"}", "final_sigmas_type"},
        {DDIM "\"prediction_type\": \"flow_prediction\"}", "flow_prediction"},
        {PNDM "\"timestep_spacing\": \"karras\"}", "karras"}, {PNDM "\"beta_schedule\": \"sigmoid\"}", "sigmoid"},
        {"{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}", "FlowMatchEulerDiscreteScheduler"},
        {"{\"_class_name\": \"ddim\"}", "\"ddim\""},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) refuses(cases[i].json, NULL, SD_ERR_UNSUPPORTED, cases[i].key);
}

TEST(values_that_change_nothing_and_keys_of_other_classes_pass)
{
    accepts(DDIM "\"trained_betas\": null, \"thresholding\": false, \"use_karras_sigmas\": true}", NULL);
    accepts(EULER_A "\"use_karras_sigmas\": true, \"thresholding\": true, \"clip_sample\": \"what\"}", NULL);
    accepts(EULER "\"use_karras_sigmas\": null, \"interpolation_type\": \"linear\", \"timestep_type\": \"discrete\", "
            "\"final_sigmas_type\": \"zero\", \"sigma_min\": 0.1, \"thresholding\": true}", NULL);
    accepts(EULER "\"use_karras_sigmas\": true}", "ddim");
    refuses(DDIM "\"use_flow_sigmas\": true}", "unipc", SD_ERR_UNSUPPORTED, "use_flow_sigmas");
    accepts("{}", "pndm");
    accepts(UNIPC "\"disable_corrector\": [], \"solver_p\": null}", NULL);
    accepts(SINGLE "\"algorithm_type\": \"dpmsolver++\", \"variance_type\": \"fixed_small\"}", NULL);
    accepts(SA "\"algorithm_type\": \"dpmsolver++\"}", NULL);
}

/* What DPMSolverMultistepScheduler.save_pretrained writes is not JSON, but Python reads it. */
TEST(the_infinity_that_diffusers_saves_is_read)
{
    accepts(DPM "\"lambda_min_clipped\": -Infinity, \"solver_order\": 2}", NULL);
    accepts(DPM "\"lambda_min_clipped\": -Infinity}", "euler");
    refuses(DPM "\"lambda_min_clipped\": Infinity}", NULL, SD_ERR_UNSUPPORTED, "lambda_min_clipped");
    refuses(DPM "\"beta_start\": Infinity}", NULL, SD_ERR_FORMAT, "beta_start");
    refuses(DPM "\"beta_schedule\": \"a \\\" Infinity\"}", NULL, SD_ERR_UNSUPPORTED, "a \" Infinity");
    refuses("{\"a\": -Infinit}", "ddim", SD_ERR_FORMAT, "is not JSON from byte");
}

/* A sampler that does not read them would run on DDPM's betas. */
TEST(every_sampler_for_such_models_reads_betas_and_prediction)
{
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        sd_sched_config c;
        sd_error e = {0};
        if (m == SD_IPNDM || m == SD_EDM_EULER) continue;   /* of their own */
        const char *json = "{\"beta_start\": 0.00123, \"beta_schedule\": \"squaredcos_cap_v2\", "
                           "\"prediction_type\": \"v_prediction\"}";
        if (read_text(&c, json, sd_method_name((sd_method)m), &e)) fail_msg("%s", e.text);
        if (c.beta_start != 0.00123 || c.beta_schedule != SD_BETA_COSINE || c.prediction != SD_PRED_V)
            fail_msg("%s does not read the file", sd_method_name((sd_method)m));
    }
}

static sd_sched_config reads(const char *json, const char *sampler)
{
    sd_sched_config c;
    sd_error e = {0};
    if (read_text(&c, json, sampler, &e)) fail_msg("%s: %s", json, e.text);
    return c;
}

TEST(keys_of_the_other_classes_are_read)
{
    assert_int_equal(reads(EULER "\"use_karras_sigmas\": true}", NULL).curve, SD_CURVE_KARRAS);
    assert_int_equal(reads(EULER "\"use_exponential_sigmas\": true}", NULL).curve, SD_CURVE_EXPONENTIAL);
    assert_int_equal(reads(EULER "\"use_beta_sigmas\": true}", NULL).curve, SD_CURVE_BETA);
    assert_int_equal(reads(DPM "\"use_lu_lambdas\": true}", NULL).curve, SD_CURVE_LU);
    /* Euler a knows no such key */
    assert_int_equal(reads(EULER "\"use_karras_sigmas\": true}", "euler_a").curve, SD_CURVE_SPACED);
    assert_true(reads(EULER "\"final_sigmas_type\": \"sigma_min\"}", NULL).final_sigma_min);
    refuses(EULER "\"use_karras_sigmas\": true, \"use_beta_sigmas\": true}", NULL, SD_ERR_FORMAT,
            "one schedule too many");
    refuses(DPM "\"solver_order\": 4}", NULL, SD_ERR_FORMAT, "order of dpm++2m should be 1..3, found 4");
    refuses(UNIPC "\"lower_order_final\": false}", NULL, SD_ERR_FORMAT, "cannot end at sigma 0");
    assert_true(reads(DDIM "\"thresholding\": true, \"sample_max_value\": 2}", NULL).threshold_max == 2);
    assert_true(reads(DDIM "\"thresholding\": true}", "unipc").thresholding);
    assert_false(reads(DDIM "\"thresholding\": true}", "euler").thresholding);
    refuses(DDIM "\"sample_max_value\": 0.5}", NULL, SD_ERR_FORMAT, "sample_max_value");
    assert_true(reads(DDPM "\"variance_type\": \"fixed_large\"}", NULL).variance_large);
    assert_int_equal(reads(UNIPC "\"solver_type\": \"bh1\"}", NULL).solver, SD_SOLVER_BH1);
    assert_int_equal(reads(UNIPC "\"solver_type\": \"heun\"}", NULL).solver, SD_SOLVER_BH2);   /* as the class does */
    assert_int_equal(reads(DPM "\"solver_type\": \"heun\"}", NULL).solver, SD_SOLVER_HEUN);
    assert_int_equal(reads(DPM "\"solver_type\": \"bh1\"}", NULL).solver, SD_SOLVER_MIDPOINT);
    const char *lcm = "{\"_class_name\": \"LCMScheduler\", \"original_inference_steps\": 40}";
    assert_int_equal(reads(lcm, NULL).original_steps, 40);
    assert_int_equal(reads(SA "\"predictor_order\": 3}", NULL).order, 3);
    assert_int_equal(reads(SA "\"predictor_order\": 3}", NULL).corrector_order, 2);
    assert_int_equal(reads(SA "\"corrector_order\": 1}", NULL).corrector_order, 1);
    refuses(SA "\"corrector_order\": 4}", NULL, SD_ERR_FORMAT, "corrector should be 1..3, found 4");
}

/* Four of A1111's samplers are one class of diffusers; what the file says picks one, and a sampler's name overrules
 * it. */
TEST(one_class_is_several_samplers)
{
    static const char sde3[] = DPM "\"algorithm_type\": \"sde-dpmsolver++\", \"solver_order\": 3}";
    sd_sched_config c = reads(DPM "\"solver_order\": 3}", NULL);
    assert_true(c.method == SD_DPMPP_2M && c.order == 3);
    c = reads(sde3, NULL);
    assert_true(c.method == SD_DPMPP_3M_SDE && c.order == 3);
    assert_int_equal(reads(DPM "\"algorithm_type\": \"sde-dpmsolver++\"}", NULL).method, SD_DPMPP_2M_SDE);
    c = reads(sde3, "dpm++2m");
    assert_true(c.method == SD_DPMPP_2M && c.order == 2 && c.program == SD_DIFFUSERS);
    c = reads(sde3, "dpm++2m@kdiffusion");
    assert_true(c.method == SD_DPMPP_2M && c.order == 2 && c.program == SD_KDIFFUSION);
    assert_int_equal(reads(sde3, "dpm_fast").program, SD_KDIFFUSION);
    /* any name but the class' own tells the order */
    assert_true(reads(sde3, "DPM++ 2M").order == 2 && reads(sde3, "dpmpp_2m").order == 2);
    assert_int_equal(reads(DPM "\"solver_order\": 1}", "DPMSolverMultistepScheduler").order, 1);
}

TEST(the_last_of_repeated_keys_counts)
{
    sd_sched_config c;
    sd_error e = {0};
    assert_int_equal(read_text(&c, DDIM "\"steps_offset\": 1, \"steps_offset\": 2}", NULL, &e), SD_OK);
    assert_int_equal(c.steps_offset, 2);
}

TEST(values_of_the_wrong_kind_or_size_are_refused)
{
    static const struct { const char *json, *because; } cases[] = {
        {DDIM "\"steps_offset\": \"1\"}", "steps_offset should be a whole number, found text"},
        {DDIM "\"steps_offset\": 1.5}", "steps_offset should be a whole number"},
        {DDIM "\"steps_offset\": -1}", "steps_offset should be 0..1000, found -1"},
        {DDIM "\"num_train_timesteps\": 0}", "num_train_timesteps should be 1..100000"},
        {DDIM "\"num_train_timesteps\": 1e300}", "num_train_timesteps should be a whole number"},
        {DDIM "\"num_train_timesteps\": 100001}", "num_train_timesteps should be 1..100000"},
        {DDIM "\"beta_start\": null}", "beta_start should be a number, found null"},
        {DDIM "\"beta_start\": -0.1}", "beta_start should lie between 0 and 1"},
        {DDIM "\"beta_end\": 1e999}", "beta_end should lie between 0 and 1"},
        {DDIM "\"beta_schedule\": 3}", "beta_schedule should be text, found a number"},
        {DDIM "\"clip_sample\": \"yes\"}", "clip_sample should be true or false, found text"},
        {DDIM "\"clip_sample_range\": -1}", "clip_sample_range should be positive"},
        {DDIM "\"prediction_type\": [1]}", "prediction_type should be text, found a list"},
        {"{\"_class_name\": 7}", "_class_name should be the name of a scheduler class"},
        {"{\"beta_start\": 0.1}", "_class_name should be"}, {"[]", "expected a JSON object, found a list"},
        {"17", "expected a JSON object, found a number"}, {"", "is not JSON from byte"}, {"{", "is not JSON from byte"},
        {DDIM "}", "is not JSON from byte"}, {"{} garbage", "is not JSON from byte"},
            {"\xff\xfe{}", "is not JSON from byte"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) refuses(cases[i].json, NULL, SD_ERR_FORMAT, cases[i].because);
}

TEST(every_truncation_of_a_file_is_refused)
{
    static const char json[] = PNDM "\"beta_end\": 0.012, \"trained_betas\": null, \"skip_prk_steps\": true}";
    sd_sched_config c;
    sd_error e = {.status = SD_OK};
    accepts(json, NULL);
    for (size_t n = 0; n + 1 < sizeof json - 1; n++) {
        write_file(json, n);
        e.status = SD_OK;
        assert_int_equal(sched_read(&c, path, NULL, &e), SD_ERR_FORMAT);
    }
    write_file("{}\0garbage", 10);
    e.status = SD_OK;
    assert_int_equal(sched_read(&c, path, "ddim", &e), SD_ERR_FORMAT);
}

TEST(files_that_cannot_be_read_say_why)
{
    sd_sched_config c;
    sd_error e = {.status = SD_OK};
    assert_int_equal(sched_read(&c, folder, NULL, &e), SD_ERR_ARG);
    e.status = SD_OK;
    remove(path);
    assert_int_equal(sched_read(&c, path, NULL, &e), SD_ERR_MISSING);
    assert_non_null(strstr(e.text, path));
    size_t huge = ((size_t)1 << 20) + 1;
    char *spaces = malloc(huge);
    assert_non_null(spaces);
    memset(spaces, ' ', huge);
    write_file(spaces, huge);
    free(spaces);
    e.status = SD_OK;
    assert_int_equal(sched_read(&c, path, NULL, &e), SD_ERR_FORMAT);
}

TEST(names_are_read_and_written)
{
    static const struct { const char *name; sd_method m; } samplers[] = {
        {"ddim", SD_DDIM}, {"pndm", SD_PNDM}, {"plms", SD_PNDM}, {"euler", SD_EULER}, {"euler_a", SD_EULER_A},
        {"DDIMScheduler", SD_DDIM}, {"PNDMScheduler", SD_PNDM}, {"EulerDiscreteScheduler", SD_EULER},
        {"EulerAncestralDiscreteScheduler", SD_EULER_A}, {"DPM++ 2M", SD_DPMPP_2M}, {"Euler a", SD_EULER_A},
        {"sample_dpmpp_2m_sde", SD_DPMPP_2M_SDE}, {"heun@kdiffusion", SD_HEUN}, {"ipndm@comfy", SD_IPNDM}};
    sd_error e = {.status = SD_OK};
    for (size_t i = 0; i < SD_COUNT(samplers); i++) {
        sd_method m = SD_DDIM;
        assert_int_equal(sd_method_parse(&m, NULL, samplers[i].name, &e), SD_OK);
        assert_int_equal(m, samplers[i].m);
    }
    for (int i = 0; i < 3; i++) {
        sd_prediction p = SD_PRED_EPSILON;
        sd_spacing s = SD_SPACE_LEADING;
        assert_int_equal(sd_prediction_parse(&p, sd_prediction_name((sd_prediction)i), &e), SD_OK);
        assert_int_equal(sd_spacing_parse(&s, sd_spacing_name((sd_spacing)i), &e), SD_OK);
        assert_true((int)p == i && (int)s == i);
    }
    assert_string_equal(sd_method_name((sd_method)99), "?");
    assert_string_equal(sd_prediction_name((sd_prediction)9), "?");
    assert_string_equal(sd_spacing_name((sd_spacing)9), "?");
}

/* What people type, from the menus and option lists of A1111, ComfyUI and stable-diffusion.cpp. */
TEST(names_of_other_programs_are_known_in_any_spelling)
{
    static const struct { const char *name; sd_method m; const char *schedule; } typed[] = {
        {"dpmpp_2m", SD_DPMPP_2M, NULL}, {"dpmpp_sde", SD_DPMPP_SDE, NULL}, {"euler_ancestral", SD_EULER_A, NULL},
        {"uni_pc", SD_UNIPC, NULL}, {"uni_pc_bh2", SD_UNIPC, NULL}, {"dpm_2", SD_DPM2, NULL}, {"PLMS", SD_PNDM, NULL},
        {"dpm_2_ancestral", SD_DPM2_A, NULL}, {"DPM++ 2M Karras", SD_DPMPP_2M, "karras"}, {"Heun", SD_HEUN, NULL},
        {"dpm++ 2m sde  exponential", SD_DPMPP_2M_SDE, "exponential"}, {"DPM++ (2M)", SD_DPMPP_2M, NULL},
        {"dpmpp-2m-karras", SD_DPMPP_2M, "karras"}, {"DPM2 a Karras", SD_DPM2_A, "karras"}, {"LCM", SD_LCM, NULL},
        {"DPM2 Align Your Steps", SD_DPM2, "align_your_steps"}, {"Euler SGM Uniform", SD_EULER, "sgm_uniform"},
        {"ddim_trailing", SD_DDIM, "trailing"}, {"DDIM Trailing", SD_DDIM, "trailing"}, {"EULER A", SD_EULER_A, NULL},
        {"k_euler_a", SD_EULER_A, NULL}, {"k_dpmpp_2s_a", SD_DPMPP_2S_A, NULL},
        {"dpmpp_3m_sde_gpu", SD_DPMPP_3M_SDE, NULL},
        {"DPM++ 3M SDE Exponential", SD_DPMPP_3M_SDE, "exponential"}, {"dpm++2s_a", SD_DPMPP_2S_A, NULL},
        {"dpm_fast", SD_DPM_FAST, NULL}, {"Restart", SD_RESTART, NULL}, {"euler_ge", SD_GRADIENT_ESTIMATION, NULL},
        {"k_res_multistep", SD_RES_MULTISTEP, NULL}, {"RES Multistep Karras", SD_RES_MULTISTEP, "karras"},
        {"res_multistep_ancestral", SD_RES_MULTISTEP_A, NULL}, {"res_multistep@comfy", SD_RES_MULTISTEP, NULL},
        {"DPM++ 2M Karras@kdiffusion", SD_DPMPP_2M, "karras"}};
    sd_error e = {.status = SD_OK};
    for (size_t i = 0; i < SD_COUNT(typed); i++) {
        sd_method m = SD_DDIM;
        const char *schedule = sd_method_schedule(typed[i].name), *want = typed[i].schedule;
        if (sd_method_parse(&m, NULL, typed[i].name, &e) || m != typed[i].m)
            fail_msg("\"%s\": %s", typed[i].name, e.text);
        if (!schedule != !want || (want && strcmp(schedule, want) != 0))
            fail_msg("\"%s\": %s", typed[i].name, schedule);
    }
    static const struct { const char *name; sd_curve c; } curves[] = {
        {"Karras", SD_CURVE_KARRAS}, {"SGM Uniform", SD_CURVE_SGM_UNIFORM}, {"SGMUniform", SD_CURVE_SGM_UNIFORM},
        {"KL Optimal", SD_CURVE_KL_OPTIMAL}, {"Align Your Steps", SD_CURVE_AYS_SD1}, {"ays", SD_CURVE_AYS_SD1},
        {"discrete", SD_CURVE_LINSPACE_K}, {"Uniform", SD_CURVE_LINSPACE_K}, {"Automatic", SD_CURVE_SPACED},
        {"DDIM", SD_CURVE_DDIM_UNIFORM}, {"karras@comfy", SD_CURVE_KARRAS_K}, {"LU Lambdas", SD_CURVE_LU}};
    for (size_t i = 0; i < SD_COUNT(curves); i++) {
        sd_curve c = SD_CURVE_VP_K;
        if (sd_curve_parse(&c, curves[i].name, &e) || c != curves[i].c) fail_msg("\"%s\": %s", curves[i].name, e.text);
    }
    static const struct { const char *name; sd_prediction p; } predictions[] = {
        {"eps", SD_PRED_EPSILON}, {"v", SD_PRED_V}, {"V-Prediction", SD_PRED_V}, {"x0", SD_PRED_SAMPLE}};
    for (size_t i = 0; i < SD_COUNT(predictions); i++) {
        sd_prediction p = SD_PRED_EPSILON;
        if (sd_prediction_parse(&p, predictions[i].name, &e) || p != predictions[i].p)
            fail_msg("%s", predictions[i].name);
    }
}

TEST(what_only_other_programs_have_is_refused_with_what_to_use)
{
    static const struct { const char *name, *instead; } samplers[] = {
        {"euler_cfg_pp", "without it"}, {"res_multistep_cfg_pp", "without it"},
        {"DDIM CFG++", "without it"}, {"dpm++2mv2", "dpm++2m"},
        {"er_sde", "dpm++3m_sde"},
        {"DPM++ 2M SDE Heun Karras", "dpm++2m_sde"}, {"dpm++2m_sde_bt", "brownian"}, {"heunpp2", "heun"}};
    for (size_t i = 0; i < SD_COUNT(samplers); i++) {
        sd_method m;
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_method_parse(&m, NULL, samplers[i].name, &e), SD_ERR_ARG);
        if (!strstr(e.text, "not supported: ") || !strstr(e.text, samplers[i].instead)) fail_msg("%s", e.text);
    }
    static const struct { const char *name, *instead; } curves[] = {
        {"gits", "align_your_steps"}, {"smoothstep", "sgm_uniform"}, {"flux2", "another kind"}};
    for (size_t i = 0; i < SD_COUNT(curves); i++) {
        sd_curve c;
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_curve_parse(&c, curves[i].name, &e), SD_ERR_ARG);
        if (!strstr(e.text, "not supported: ") || !strstr(e.text, curves[i].instead)) fail_msg("%s", e.text);
    }
}

TEST(no_spelling_means_two_samplers)
{
    for (int i = 0; i < SD_METHOD_COUNT; i++)
        for (int k = 0; k < SD_METHOD_COUNT; k++) {
            const sd_sampler_info *a = sd_method_about((sd_method)i), *b = sd_method_about((sd_method)k);
            if (i != k && (sd_same_name(a->name, b->name) || sd_same_name(a->label, b->label)
                           || sd_same_name(a->name, b->label)))
                fail_msg("%s and %s", a->name, b->name);
        }
    assert_true(sd_same_name("DPM++ 2M", "dpmpp_2m") && !sd_same_name("dpm2", "dpm2_a") && !sd_same_name("", "ddim"));
}

TEST(unknown_names_list_what_there_is)
{
    static const struct { const char *name, *nearest; } bad[] = {
        {"", "ddim"}, {"DDiN", "ddim"}, {"heum", "heun"}, {"eulr a", "euler_a"}, {"dpm++ 2n", "dpm++2m"},
        {"unipcc", "unipc"},
        {"a very long name that is no sampler at all, longer than any that anybody would think of", "the nearest are"}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_method m;
        sd_prediction p;
        sd_spacing s;
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_method_parse(&m, NULL, bad[i].name, &e), SD_ERR_ARG);
        if (*bad[i].name) assert_non_null(strstr(e.text, bad[i].nearest));
        e.status = SD_OK;
        assert_int_equal(sd_prediction_parse(&p, bad[i].name, &e), SD_ERR_ARG);
        assert_non_null(strstr(e.text, "v_prediction"));
        e.status = SD_OK;
        assert_int_equal(sd_spacing_parse(&s, bad[i].name, &e), SD_ERR_ARG);
        assert_non_null(strstr(e.text, "trailing"));
    }
    sd_curve c;
    sd_method m;
    sd_error e = {.status = SD_OK};
    assert_int_equal(sd_curve_parse(&c, "karas", &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "the nearest schedules are karras"));
    static const struct { const char *name, *because; } programs[] = {
        {"ddim@kdiffusion", "ddim@kdiffusion is not there"}, {"dpm_fast@diffusers", "is not there"},
        {"euler@comfy", "is not there"}, {"res_multistep@diffusers", "res_multistep is comfy's"},
        {"euler@nobody", "unknown program"}, {"euler@", "unknown program"}};
    for (size_t i = 0; i < SD_COUNT(programs); i++) {
        e.status = SD_OK;
        assert_int_equal(sd_method_parse(&m, NULL, programs[i].name, &e), SD_ERR_ARG);
        assert_non_null(strstr(e.text, programs[i].because));
    }
}

TEST(every_name_of_every_sampler_and_schedule_is_found)
{
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const sd_sampler_info *a = sd_method_about((sd_method)i);
        sd_method m;
        sd_program p;
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_method_parse(&m, &p, a->name, &e), SD_OK);
        assert_true((int)m == i && p == sd_method_row_of(m)->home);
        assert_int_equal(sd_method_parse(&m, &p, a->label, &e), SD_OK);
        assert_int_equal(m, i);
        if (a->comfyui) {
            assert_int_equal(sd_method_parse(&m, &p, a->comfyui, &e), SD_OK);
            assert_true((int)m == i && p == sd_method_row_of(m)->home);
        }
        if (a->kdiffusion) {
            assert_int_equal(sd_method_parse(&m, &p, a->kdiffusion, &e), SD_OK);
            assert_true((int)m == i && p == SD_KDIFFUSION);
        }
        assert_true(a->paper && a->order >= 0 && a->order <= 4);
    }
    for (int i = 0; i < SD_CURVE_SIGMAS; i++) {
        sd_curve c;
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_curve_parse(&c, sd_curve_name((sd_curve)i), &e), SD_OK);
        assert_int_equal(c, i);
    }
}

/* diffusers' pipelines pass eta = 0 to every step that takes it (DDIMScheduler, TCDScheduler; of these TCD's own is
 * 0.3), and have no way to the ancestral samplers' share of noise. */
TEST(a_pipeline_passes_its_own_eta)
{
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        sd_sched_config c;
        sd_sched_defaults(&c, (sd_method)m);
        assert_true(c.eta == (m == SD_TCD ? 0.3 : sd_method_about((sd_method)m)->eta));
        double own = c.eta;
        sd_sched_as_pipeline(&c, false);
        assert_true(c.eta == (m == SD_TCD || m == SD_DDIM ? 0 : own));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_mean_what_they_mean_in_diffusers),
        cmocka_unit_test(twin_with_one_default_for_all_classes_is_wrong),
        cmocka_unit_test(keys_that_would_change_the_result_are_refused),
        cmocka_unit_test(values_that_change_nothing_and_keys_of_other_classes_pass),
        cmocka_unit_test(the_infinity_that_diffusers_saves_is_read),
        cmocka_unit_test(every_sampler_for_such_models_reads_betas_and_prediction),
        cmocka_unit_test(keys_of_the_other_classes_are_read),
        cmocka_unit_test(one_class_is_several_samplers),
        cmocka_unit_test(the_last_of_repeated_keys_counts),
        cmocka_unit_test(values_of_the_wrong_kind_or_size_are_refused),
        cmocka_unit_test(every_truncation_of_a_file_is_refused),
        cmocka_unit_test(files_that_cannot_be_read_say_why),
        cmocka_unit_test(names_are_read_and_written),
        cmocka_unit_test(unknown_names_list_what_there_is),
        cmocka_unit_test(names_of_other_programs_are_known_in_any_spelling),
        cmocka_unit_test(what_only_other_programs_have_is_refused_with_what_to_use),
        cmocka_unit_test(no_spelling_means_two_samplers),
        cmocka_unit_test(every_name_of_every_sampler_and_schedule_is_found),
        cmocka_unit_test(a_pipeline_passes_its_own_eta),
    };
    return cmocka_run_group_tests_name("scheduler", tests, make_folder, remove_folder);
}
