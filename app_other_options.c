/* app_other_options.c - floor 7: options of other programs, for people who come from there: stable-diffusion.cpp (its
 * option list of August 2026), CompVis' scripts, diffusers' arguments, A1111's prompts from file. */
#include "app_cli.h"

#define ARGS "what a file does not say of itself is given with --config"
#define OTHER_KIND "it is for models of another kind"
#define NO_TILES "--vae-memory decodes large pictures in bands, which change nothing"
#define NO_LORA "no LoRA is read: merge it into the model's files first"
#define NO_CONTROL "there is no ControlNet; -i FILE begins from a picture"
#define NO_ADAPTER "there is no adapter for pictures; -i FILE begins from one"
#define NO_EMBEDDINGS "no textual inversion is read: describe it in the prompt"
#define NO_HIRES "draw, then give the picture to -i with -W, -H and --strength"
#define NO_UPSCALER "-i FILE with -W, -H and --strength 0.3 enlarges and repaints; the x4-upscaler is a model (-m)"
#define NO_VIDEO "it draws pictures alone"
#define NO_CACHE "every step is computed; fewer --steps are the way to be faster"
#define ONE_GUIDANCE "guidance is --cfg-scale and --guidance-rescale"
#define ON_DEVICE "one device computes everything: --device, and sd devices lists them"
#define IN_MEMORY "weights stay in the CPU's memory, a device gets them when it needs them"
#define METADATA "the parameters are in the picture itself: sd show FILE prints them, sd --from FILE draws by them"

const cli_other_option cli_other_options[] = {
    /* other names of options that are here */
    {0, "noise-in", CLI_SAME, "noise", NULL},
    {0, "num-inference-steps", CLI_SAME, "steps", NULL}, {0, "num-steps", CLI_SAME, "steps", NULL},
    {0, "n-steps", CLI_SAME, "steps", NULL}, {0, "ddim-steps", CLI_SAME, "steps", NULL},
    {0, "guidance-scale", CLI_SAME, "cfg-scale", NULL}, {0, "scale", CLI_SAME, "cfg-scale", NULL},
    {0, "cfg", CLI_SAME, "cfg-scale", NULL}, {0, "sampler", CLI_SAME, "sampling-method", NULL},
    {0, "sampler-name", CLI_SAME, "sampling-method", NULL}, {0, "sample-method", CLI_SAME, "sampling-method", NULL},
    {0, "schedule", CLI_SAME, "scheduler", NULL}, {0, "schedule-type", CLI_SAME, "scheduler", NULL},
    {0, "uncond-prompt", CLI_SAME, "negative-prompt", NULL}, {0, "negative", CLI_SAME, "negative-prompt", NULL},
    {0, "n-iter", CLI_SAME, "batch-count", NULL}, {0, "n-samples", CLI_SAME, "batch-size", NULL},
    {0, "num-images-per-prompt", CLI_SAME, "batch-size", NULL}, {0, "ddim-eta", CLI_SAME, "eta", NULL},
    {0, "init-image", CLI_SAME, "init-img", NULL}, {0, "img2img", CLI_SAME, "init-img", NULL},
    {0, "mask-image", CLI_SAME, "mask", NULL}, {0, "mask-path", CLI_SAME, "mask", NULL},
    {0, "denoising-strength", CLI_SAME, "strength", NULL}, {0, "img2img-strength", CLI_SAME, "strength", NULL},
    {0, "img-cfg-scale", CLI_SAME, "image-cfg-scale", NULL},
    {0, "image-guidance-scale", CLI_SAME, "image-cfg-scale", NULL},
    {0, "latents-out", CLI_SAME, "output", NULL}, {0, "refiner-switch-at", CLI_SAME, "refiner-at", NULL},
    {0, "refiner-model", CLI_SAME, "refiner", NULL},
    {0, "clip_l", CLI_SAME, "text-encoder", NULL}, {0, "clip_g", CLI_SAME, "text-encoder-2", NULL},
    {0, "diffusion-model", CLI_SAME, "unet", NULL}, {0, "vae-path", CLI_SAME, "vae", NULL},
    {0, "tae", CLI_SAME, "taesd", NULL},
    {0, "original-config", CLI_SAME, "config", NULL}, {0, "use-ema", CLI_SAME, "ema", NULL},
    {0, "ckpt", CLI_SAME, "model", NULL}, {0, "H", CLI_SAME, "height", NULL}, {0, "W", CLI_SAME, "width", NULL},
    {0, "outdir", CLI_SAME, "output", NULL}, {0, "out", CLI_SAME, "output", NULL},
    {0, "from-file", CLI_SAME, "prompts", NULL}, {0, "prompts-file", CLI_SAME, "prompts", NULL},

    /* what is so here in any case: taken, and said to be nothing */
    {0, "mmap", CLI_NOTHING, NULL, "files are mapped unless --residency ram"},
    {0, "fa", CLI_NOTHING, NULL, "attention works in pieces in any case"},
    {0, "diffusion-fa", CLI_NOTHING, NULL, "attention works in pieces in any case"},
    {0, "diffusion-conv-direct", CLI_NOTHING, NULL, "each convolution's algorithm goes by its shape, see sd plan"},
    {0, "vae-conv-direct", CLI_NOTHING, NULL, "each convolution's algorithm goes by its shape, see sd plan"},
    {0, "offload-to-cpu", CLI_NOTHING, NULL, IN_MEMORY}, {0, "clip-on-cpu", CLI_NOTHING, NULL, ON_DEVICE},
    {0, "vae-on-cpu", CLI_NOTHING, NULL, ON_DEVICE}, {0, "control-net-cpu", CLI_NOTHING, NULL, ON_DEVICE},
    {0, "auto-fit", CLI_NOTHING, NULL, IN_MEMORY}, {0, "backend", CLI_NOTHING, "cpu", ON_DEVICE},
    {0, "params-backend", CLI_NOTHING, "cpu", IN_MEMORY},
    {0, "type", CLI_NOTHING, "f32", "weights are used in the type that their file has, sums are float32"},
    {0, "precision", CLI_NOTHING, "full|float32|f32",
     "weights are used in the type that their file has, sums are float32"},
    {'M', "mode", CLI_NOTHING, "img_gen|txt2img|img2img",
     "the options say it: -i FILE begins from a picture; the other "
     "modes are commands, see sd --help"},
    {0, "color", CLI_NOTHING, NULL, "there is nothing to colour"},

    /* what has no meaning here */
    {0, "prompt-file", CLI_REFUSED, NULL, "-p @FILE reads the prompt from a file"},
    {0, "negative-prompt-file", CLI_REFUSED, NULL, "-n @FILE reads the negative prompt from a file"},
    {0, "plms", CLI_REFUSED, NULL, "it is --sampling-method pndm"},
    {0, "eager-load", CLI_REFUSED, NULL, "--residency ram reads the weights at once"},
    {0, "stream-layers", CLI_REFUSED, NULL, "--residency stream holds the fewest weights"},
    {0, "max-vram", CLI_REFUSED, NULL, "--residency stream holds the fewest weights"},
    {0, "list-devices", CLI_REFUSED, NULL, "sd devices lists them"},
    {0, "split-mode", CLI_REFUSED, NULL, ON_DEVICE}, {0, "rpc-servers", CLI_REFUSED, NULL, ON_DEVICE},
    {0, "tensor-type-rules", CLI_REFUSED, NULL,
     "weights are used in the type that their file has"},
    {0, "vae-format", CLI_REFUSED, NULL, ARGS}, {0, "model-args", CLI_REFUSED, NULL, ARGS},
    {0, "clip_vision", CLI_REFUSED, NULL, NO_ADAPTER}, {0, "t5xxl", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "llm*", CLI_REFUSED, NULL, OTHER_KIND}, {0, "qwen*", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "high-noise-*", CLI_REFUSED, NULL, OTHER_KIND}, {0, "uncond-diffusion-model", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "embeddings-connectors", CLI_REFUSED, NULL, OTHER_KIND}, {0, "audio-vae", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "flow-shift", CLI_REFUSED, NULL, OTHER_KIND}, {0, "moe-boundary", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "vace-strength", CLI_REFUSED, NULL, OTHER_KIND}, {0, "guidance", CLI_REFUSED, NULL, ONE_GUIDANCE},
    {0, "slg-scale", CLI_REFUSED, NULL, ONE_GUIDANCE},
    {0, "skip-layer*", CLI_REFUSED, NULL, ONE_GUIDANCE}, {0, "extra-sample-args", CLI_REFUSED, NULL, ONE_GUIDANCE},
    {0, "timestep-shift", CLI_REFUSED, NULL, "--timesteps LIST gives the timesteps themselves"},
    {0, "force-sdxl-vae-conv-scale", CLI_REFUSED, NULL, OTHER_KIND},
    {0, "vae-tiling", CLI_REFUSED, NULL, NO_TILES}, {0, "vae-tile-*", CLI_REFUSED, NULL, NO_TILES},
    {0, "vae-relative-tile-size", CLI_REFUSED, NULL, NO_TILES}, {0, "extra-tiling-args", CLI_REFUSED, NULL, NO_TILES},
    {0, "temporal-tiling", CLI_REFUSED, NULL, NO_TILES},
    {0, "tiling", CLI_REFUSED, NULL, "convolutions pad with zeros: pictures do not tile"},
    {0, "circular*", CLI_REFUSED, NULL, "convolutions pad with zeros: pictures do not tile"},
    {0, "lora*", CLI_REFUSED, NULL, NO_LORA}, {0, "embd-dir", CLI_REFUSED, NULL, NO_EMBEDDINGS},
    {0, "control-*", CLI_REFUSED, NULL, NO_CONTROL}, {0, "canny", CLI_REFUSED, NULL, NO_CONTROL},
    {0, "ip-adapter*", CLI_REFUSED, NULL, NO_ADAPTER}, {0, "photo-maker", CLI_REFUSED, NULL, NO_ADAPTER},
    {0, "pm-*", CLI_REFUSED, NULL, NO_ADAPTER}, {0, "pulid-*", CLI_REFUSED, NULL, NO_ADAPTER},
    {'r', "ref-*", CLI_REFUSED, NULL, NO_ADAPTER}, {0, "increase-ref-index", CLI_REFUSED, NULL, NO_ADAPTER},
    {0, "disable-auto-resize-ref-image", CLI_REFUSED, NULL, NO_ADAPTER},
    {0, "ad-*", CLI_REFUSED, NULL, "nothing is detected; --mask FILE says what is repainted"},
    {0, "extra-ad-args", CLI_REFUSED, NULL, "nothing is detected; --mask FILE says what is repainted"},
    {0, "restore-faces", CLI_REFUSED, NULL, "nothing is detected; --mask FILE says what is repainted"},
    {0, "hires*", CLI_REFUSED, NULL, NO_HIRES}, {0, "upscale-*", CLI_REFUSED, NULL, NO_UPSCALER},
    {0, "motion-module", CLI_REFUSED, NULL, NO_VIDEO}, {0, "video-frames", CLI_REFUSED, NULL, NO_VIDEO},
    {0, "fps", CLI_REFUSED, NULL, NO_VIDEO}, {0, "end-img", CLI_REFUSED, NULL, NO_VIDEO},
    {0, "cache-*", CLI_REFUSED, NULL, NO_CACHE}, {0, "scm-*", CLI_REFUSED, NULL, NO_CACHE},
    {0, "preview-path", CLI_REFUSED, NULL, "--save-steps DIR writes the picture of each step"},
    {0, "preview-interval", CLI_REFUSED, NULL, "each step is shown"},
    {0, "preview-noisy", CLI_REFUSED, NULL, "what a step predicts is shown; the trace has the latents"},
    {0, "output-begin-idx", CLI_REFUSED, NULL, "pictures are counted from 1; -o a_%03d.png says where"},
    {0, "disable-image-metadata", CLI_REFUSED, NULL, "a picture without text is a FILE.ppm"},
    {0, "image", CLI_REFUSED, NULL, METADATA}, {0, "metadata-*", CLI_REFUSED, NULL, METADATA},
    {0, "convert-name", CLI_REFUSED, NULL, "models are read as they are"},
    {0, "imat-*", CLI_REFUSED, NULL, "models are read as they are"},
    {0, "subseed*", CLI_REFUSED, NULL, "noise comes from one seed; --noise FILE takes any mixture of two"},
    {0, "seed-resize-*", CLI_REFUSED, NULL, "noise comes from one seed; --noise FILE takes any mixture of two"},
    {0, "styles", CLI_REFUSED, NULL, "write them into the prompt"},
    {0, "outpath-*", CLI_REFUSED, NULL, "-o says where pictures go"},
    {0, "do-not-save-*", CLI_REFUSED, NULL, "-o says where pictures go"},
    {0, "skip-grid", CLI_NOTHING, NULL, "no grid is made"},
    {0, "skip-save", CLI_REFUSED, NULL, "-o says where pictures go"},
    {0, NULL, CLI_REFUSED, NULL, NULL},
};
