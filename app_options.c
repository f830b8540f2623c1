/* app_options.c - floor 7: the options of drawing, and every option at its default. */
#include "app.h"

#include <string.h>

void settings_init(settings *s)
{
    memset(s, 0, sizeof *s);
    s->batch_count = 1;
    sd_params_init(&s->p);
}

static const cli_option draw_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to draw"},
    {CLI_TEXT, 'p', "prompt", AT(p.prompt), 0, 0, "TEXT",
     "what the picture shows; @FILE: the text of a file, -: of\nthe standard input (-n takes them too)"},
    {CLI_TEXT, 'n', "negative-prompt", AT(p.negative_prompt), 0, 0, "TEXT", "what it does not show"},
    {CLI_TEXT, 0, "prompts", AT(prompts), 0, 0, "FILE",
     "a prompt in each line, with options behind it if it has\nits own: a red apple --steps 30 --seed 5"},
    MODEL_OPTION,
    {CLI_TEXT, 0, "from", AT(from), 0, 0, "FILE",
     "draws the picture FILE again: what is not given comes from\nits text; see sd show"},
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE",
     "FILE.png or FILE.ppm (default " DEFAULT_OUTPUT "); more pictures\nbecome FILE_2.png, FILE_3.png, ..., or as "
         "a_%03d.png says;\nDIR/: into a directory; -: standard output"},
    {CLI_INT, 'W', "width", AT(p.width), 1, 65536, "N", "pixels, a multiple of 8 (default: the model's own)"},
    {CLI_INT, 'H', "height", AT(p.height), 1, 65536, "N", "the same for the height"},
    {CLI_SEED, 's', "seed", AT(seed), 0, 0, "N", "of torch's CPU generator (default, and -1: random, printed)"},
    {CLI_TEXT, 0, "rng", AT(p.rng), 0, 0, "NAME",
     "whose seed it is: torch-cpu (default), torch-cuda, numpy,\nnumpy-pcg64, torch-cuda:sms=40,threads=1024, ...; "
         "or\nFILE.safetensors, whose numbers are given out in order"},
    {CLI_TEXT, 0, "sampler-rng", AT(p.sampler_rng), 0, 0, "NAME",
     "another generator for the samplers' noise; also brownian"},
    {CLI_FLAG, 0, "seed-per-image", AT(p.seed_per_image), 0, 0, NULL,
     "with --batch-size: picture i has its own generator, seed + i"},
    {CLI_FLAG, 0, "explain-seed", AT(explain_seed), 0, 0, NULL,
     "prints each draw: who, from which generator, how many"},
    {CLI_INT, 'b', "batch-count", AT(batch_count), 1, 10000, "N",
     "so many pictures one after another; their seeds count up\nfrom --seed"},
    {CLI_INT, 0, "batch-size", AT(p.batch), 1, 512, "N",
     "pictures drawn together from one seed, as diffusers'\nnum_images_per_prompt"},
    {CLI_INT, 0, "keep", AT(p.keep), 1, 512, "N", "of a --batch-size only picture N"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to draw it"},
    {CLI_INT, 0, "steps", AT(p.sampling.steps), 1, 1000, "N",
     "steps of the sampler (default 25); some evaluate the\nnetwork more often, pndm once more: see sd schedule"},
    {CLI_NUMBER, 0, "cfg-scale", AT(p.guidance.scale), -1000, 1000, "X",
     "guidance (default: the model's, else 7.5);\n1 and less: none, in half the time"},
    SAMPLER_OPTIONS,
    {CLI_TEXT, 0, "prediction", AT(p.sampling.prediction), 0, 0, "NAME",
     "what the UNet predicts: epsilon, v_prediction, sample"},
    {CLI_BOOL, 0, "clip-sample", AT(p.sampling.clip_sample), 0, 0, "BOOL",
     "ddim: clip the predicted latents (true, false)"},
    {CLI_NUMBER, 0, "eta", AT(p.sampling.eta), 0, 1, "X",
     "share of fresh noise in each step (default: ddim 0, euler_a 1)"},
    {CLI_NUMBER, 0, "s-churn", AT(p.sampling.s_churn), 0, 1000, "X",
     "euler, heun, dpm2: noise that is put back on in a run"},
    {CLI_NUMBER, 0, "s-tmin", AT(p.sampling.s_tmin), 0, 1e6, "X", "... at sigmas from here"},
    {CLI_NUMBER, 0, "s-tmax", AT(p.sampling.s_tmax), 0, 1e6, "X", "... up to here (default: all)"},
    {CLI_NUMBER, 0, "s-noise", AT(p.sampling.s_noise), 0, 10, "X",
     "deviation of that noise and of the ancestral samplers'\n(default 1)"},
    {CLI_NUMBER, 0, "guidance-rescale", AT(p.guidance.rescale), 0, 1, "X",
     "share by which a guided prediction is brought\nback to its deviation before guidance (default 0)"},
    {CLI_INT, 0, "clip-skip", AT(p.clip_skip), -1, 1000, "N",
     "1: the text encoder's last layer (default, also 0 and -1),\n2: the one before it, ..."},
    {CLI_TEXT, 0, "noise", AT(noise), 0, 0, "FILE",
     "initial noise from a safetensors file: its tensor \"noise\"\nor its only one, [batch,channels,height/8,width/8]"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Beginning from a picture"},
    {CLI_TEXT, 'i', "init-img", AT(init), 0, 0, "FILE",
     "PNG, JPEG or PNM; without -W and -H its own size, to the\nnearest multiple of 8"},
    {CLI_NUMBER, 0, "strength", AT(p.edit.strength), 0, 1, "X",
     "how much of it is changed: share of the steps that are\ntaken (default 0.8; where something is masked, 1)"},
    {CLI_TEXT, 0, "mask", AT(mask), 0, 0, "FILE",
     "white is repainted, black is kept (default: the picture's\nalpha if half of it is seen through anywhere)"},
    {CLI_FLAG, 0, "alpha-mask", AT(p.edit.alpha_mask), 0, 0, NULL,
     "the picture's alpha is the mask, whatever it holds"},
    {CLI_FLAG, 0, "invert-mask", AT(p.edit.invert_mask), 0, 0, NULL, "the other way round"},
    {CLI_NUMBER, 0, "mask-blur", AT(p.edit.mask_blur), 0, 1000, "X", "softens the mask's edge by so many pixels"},
    {CLI_BOOL, 0, "paste-back", AT(p.edit.paste_back), 0, 0, "BOOL",
     "pixels that are kept come back byte for byte (default)"},
    {CLI_INT, 0, "inpaint-crop", AT(p.edit.inpaint_crop), 0, 16384, "N",
     "works on the mask and N pixels around it alone, at the\nmodel's size, and pastes the result back"},
    {CLI_TEXT, 0, "outpaint", AT(outpaint), 0, 0, "L,T,R,B", "adds pixels left, top, right and bottom and paints them"},
    {CLI_TEXT, 0, "resize", AT(p.edit.resize), 0, 0, "HOW", "to -W and -H: stretch (default), crop, pad"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "How to compute it"},
    THREADS_OPTION,
    {CLI_FLAG, 0, "precise", AT(precise), 0, 0, NULL, "every sum in double, no BLAS: three to four times as slow"},
    GEMM_OPTION,
    RESIDENCY_OPTION,
    MEMORY_OPTION,
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What to tell"},
    {CLI_TEXT, 0, "trace", AT(trace), 0, 0, "FILE",
     "every intermediate tensor, by its diffusers name, to\nFILE.safetensors"},
    {CLI_TEXT, 0, "trace-filter", AT(trace_filter), 0, 0, "GLOBS",
     "only those: \"latents.*,step.0.unet.mid_block*\"; see\nsd trace --list"},
    {CLI_WORD, 0, "timings", AT(timings), 0, 0, "json",
     "seconds per stage and peak memory, as text or as JSON in\nthe last line of the output"},
    {CLI_WORD, 0, "profile", AT(profile), 0, 0, "json",
     "seconds, GFLOP/s, bytes and share of what the machine can\ndo, of each block and operation; as text or as JSON"},
    {CLI_TEXT, 0, "save-steps", AT(save_steps), 0, 0, "DIR",
     "the picture as each step predicts it: DIR/step_000" PICTURE_ENDING ", ..."},
    {CLI_WORD, 0, "preview", AT(preview), 0, 0, PREVIEW_WORDS,
     "shows it in the terminal: kitty's and iTerm2's protocols,\nelse coloured blocks; proj: a pixel per latent, "
         "vae:\ndecoded (default: up to 256x256), none"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "only the seed, and errors"},
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "everything that was decided, and where errors were raised"},
    {CLI_FLAG, 0, "version", AT(version), 0, 0, NULL, "the version and how it was built; with -v the machine too"},
    HELP_OPTION,
};
const cli_command draw_command = {
    NULL,
    "sd - Stable Diffusion in C\n\n"
    "usage: sd -p TEXT [options]          draws a picture\n"
    "       sd -p TEXT -i FILE [options]  changes, repaints or extends one\n"
    "       sd --from FILE [options]      draws a picture again from its text\n"
    "       sd show FILE                  what a picture's text says\n"
    "       sd encode FILE... [options]   pictures to latents\n"
    "       sd decode FILE... [options]   latents to pictures\n"
    "       sd roundtrip FILE...          what is lost on the way there and back\n"
    "       sd tokenize TEXT [options]    the tokens of a text\n"
    "       sd plan [options]             the networks of a model, unrolled\n"
    "       sd samplers                   samplers and schedules, with their papers\n"
    "       sd schedule [options]         the timesteps and noise levels of a run\n"
    "       sd trace --list [options]     the tensors that --trace would write\n"
    "       sd help encode, sd help tokenize and so on for each\n",
    draw_options, COUNT(draw_options), NULL, 0, 0, NULL};
