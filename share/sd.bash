# bash completion for sd, written by sd help --completion bash
_sd()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= options
    COMPREPLY=()
    if [ "$COMP_CWORD" -gt 1 ]; then
        case ${COMP_WORDS[1]} in
        help|version|encode|decode|roundtrip|text|unet|step|convert|show|inspect|compare|selftest|diagnose|wrong|extract|replay|devices|tune|tokenize|plan|samplers|schedule|profiles|trace) command=${COMP_WORDS[1]} ;;
        esac
    fi
    case $command in
    encode)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        -s|--seed) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --ema --output --width --height --resize --seed --unscaled --device --threads --precise --gemm --residency --max-memory --vae-memory --quiet --verbose --help " ;;
    decode)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --ema --output --unscaled --device --threads --precise --gemm --residency --max-memory --vae-memory --quiet --verbose --help " ;;
    roundtrip)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --ema --output --width --height --resize --device --threads --precise --gemm --residency --max-memory --vae-memory --quiet --verbose --help " ;;
    text)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokens-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --clip-skip) return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --output --uncond --tokens-in --clip-skip --trace --trace-filter --device --threads --precise --gemm --residency --max-memory --vae-memory --quiet --verbose --help " ;;
    unet)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --latents) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --timestep) return ;;
        --embeds) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --pooled) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --time-ids) return ;;
        --timestep-cond) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --class-label) return ;;
        --cfg-scale) return ;;
        --guidance-rescale) return ;;
        --image-cfg-scale) return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --ema --latents --timestep --embeds --pooled --time-ids --timestep-cond --class-label --cfg-scale --guidance-rescale --image-cfg-scale --output --trace --trace-filter --device --threads --precise --gemm --residency --max-memory --vae-memory --quiet --verbose --help " ;;
    step)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --latents) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --pred) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --from-step) return ;;
        --from) return ;;
        --to) return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --steps) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --first-latents) COMPREPLY=($(compgen -W "sigma root comfy" -- "$cur")); return ;;
        --whole-timesteps) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction sample" -- "$cur")); return ;;
        --clip-sample) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --eta) return ;;
        --s-churn) return ;;
        --s-tmin) return ;;
        --s-tmax) return ;;
        --s-noise) return ;;
        --denoising-start) return ;;
        --denoising-end) return ;;
        --refiner-at) return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        --batch-size) return ;;
        -s|--seed) return ;;
        --rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32" -- "$cur")); return ;;
        --sampler-rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32 brownian" -- "$cur")); return ;;
        --noise) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --latents --pred --from-step --from --to --output --steps --sampling-method --scheduler --spacing --sigmas --timesteps --first-latents --whole-timesteps --order --steps-offset --set-alpha-to-one --prediction --clip-sample --eta --s-churn --s-tmin --s-tmax --s-noise --denoising-start --denoising-end --refiner-at --width --height --batch-size --seed --rng --sampler-rng --seed-per-image --noise --quiet --verbose --help " ;;
    convert)
        case $prev in
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --type) return ;;
        --only) return ;;
        --spelling) return ;;
        --shards) return ;;
        esac
        options="--unet --vae --text-encoder --text-encoder-2 --tokenizer --config --type --only --spelling --shards --ema --keep-all --quiet --verbose --help " ;;
    show)
        case $prev in
        --tensor) return ;;
        --filter) return ;;
        esac
        options="--tensor --filter --all --csv --hash --json --quiet --help " ;;
    inspect)
        case $prev in
        esac
        options="--values --tensors --hash --metadata --diff --json --quiet --help " ;;
    compare)
        case $prev in
        --names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --html) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --rtol) return ;;
        --atol) return ;;
        --floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --injected) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --measure-floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        esac
        options="--all --names --calls --html --rtol --atol --floor --injected --measure-floor --json --quiet --help " ;;
    selftest)
        case $prev in
        --only) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        esac
        options="--only --device --threads --all --json --quiet --help " ;;
    diagnose)
        case $prev in
        -p|--prompt) return ;;
        -n|--negative-prompt) return ;;
        --prompts) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner-at) return ;;
        --from) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        -s|--seed) return ;;
        --rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32" -- "$cur")); return ;;
        --sampler-rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32 brownian" -- "$cur")); return ;;
        -b|--batch-count) return ;;
        --batch-size) return ;;
        --keep) return ;;
        --bytes) COMPREPLY=($(compgen -W "round truncate half-up" -- "$cur")); return ;;
        --like) COMPREPLY=($(compgen -W "diffusers compvis a1111 comfy sdcpp" -- "$cur")); return ;;
        --steps) return ;;
        --cfg-scale) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --first-latents) COMPREPLY=($(compgen -W "sigma root comfy" -- "$cur")); return ;;
        --whole-timesteps) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction sample" -- "$cur")); return ;;
        --clip-sample) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --eta) return ;;
        --s-churn) return ;;
        --s-tmin) return ;;
        --s-tmax) return ;;
        --s-noise) return ;;
        --denoising-start) return ;;
        --denoising-end) return ;;
        --from-step) return ;;
        --guidance-rescale) return ;;
        --image-cfg-scale) return ;;
        --clip-skip) return ;;
        --noise) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --latents-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokens-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --embeds-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --timestep-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -i|--init-img) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --strength) return ;;
        --mask) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --mask-blur) return ;;
        --strength-steps) COMPREPLY=($(compgen -W "share above share+1 all" -- "$cur")); return ;;
        --posterior) COMPREPLY=($(compgen -W "sample mean again" -- "$cur")); return ;;
        --mask-rule) COMPREPLY=($(compgen -W "latents x0 both" -- "$cur")); return ;;
        --paste-back) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --inpaint-crop) return ;;
        --outpaint) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        --depth) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --noise-level) return ;;
        --original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --negative-target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --aesthetic-score) return ;;
        --negative-aesthetic-score) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --trace-stats) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-hash) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --inject) return ;;
        --inject-filter) return ;;
        --inject-names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor-starts) return ;;
        --stop-after) return ;;
        --timings) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --profile) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --save-steps) COMPREPLY=($(compgen -d -- "$cur")); return ;;
        --preview) COMPREPLY=($(compgen -W "none proj vae taesd tae" -- "$cur")) ;;
        esac
        options="--all --json --help --prompt --negative-prompt --prompts --model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --taesd-preview-only --ema --refiner --refiner-at --from --output --width --height --seed --rng --sampler-rng --seed-per-image --explain-seed --batch-count --batch-size --keep --bytes --like --steps --cfg-scale --sampling-method --scheduler --spacing --sigmas --timesteps --first-latents --whole-timesteps --order --steps-offset --set-alpha-to-one --prediction --clip-sample --eta --s-churn --s-tmin --s-tmax --s-noise --denoising-start --denoising-end --from-step --guidance-rescale --image-cfg-scale --clip-skip --noise --latents-in --tokens-in --embeds-in --timestep-in --init-img --strength --mask --alpha-mask --invert-mask --mask-blur --strength-steps --posterior --mask-rule --paste-back --inpaint-crop --outpaint --resize --depth --noise-level --original-size --crop --target-size --negative-original-size --negative-crop --negative-target-size --aesthetic-score --negative-aesthetic-score --device --threads --precise --gemm --residency --max-memory --vae-memory --trace --trace-filter --trace-stats --trace-hash --inject --inject-filter --inject-names --floor --floor-starts --stop-after --timings --profile --save-steps --preview --quiet --verbose --version --help " ;;
    wrong)
        case $prev in
        esac
        options="--json --help " ;;
    extract)
        case $prev in
        --module) return ;;
        --trace) return ;;
        --inject-names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -p|--prompt) return ;;
        -n|--negative-prompt) return ;;
        --prompts) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner-at) return ;;
        --from) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        -s|--seed) return ;;
        --rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32" -- "$cur")); return ;;
        --sampler-rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32 brownian" -- "$cur")); return ;;
        -b|--batch-count) return ;;
        --batch-size) return ;;
        --keep) return ;;
        --bytes) COMPREPLY=($(compgen -W "round truncate half-up" -- "$cur")); return ;;
        --like) COMPREPLY=($(compgen -W "diffusers compvis a1111 comfy sdcpp" -- "$cur")); return ;;
        --steps) return ;;
        --cfg-scale) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --first-latents) COMPREPLY=($(compgen -W "sigma root comfy" -- "$cur")); return ;;
        --whole-timesteps) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction sample" -- "$cur")); return ;;
        --clip-sample) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --eta) return ;;
        --s-churn) return ;;
        --s-tmin) return ;;
        --s-tmax) return ;;
        --s-noise) return ;;
        --denoising-start) return ;;
        --denoising-end) return ;;
        --from-step) return ;;
        --guidance-rescale) return ;;
        --image-cfg-scale) return ;;
        --clip-skip) return ;;
        --noise) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --latents-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokens-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --embeds-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --timestep-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -i|--init-img) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --strength) return ;;
        --mask) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --mask-blur) return ;;
        --strength-steps) COMPREPLY=($(compgen -W "share above share+1 all" -- "$cur")); return ;;
        --posterior) COMPREPLY=($(compgen -W "sample mean again" -- "$cur")); return ;;
        --mask-rule) COMPREPLY=($(compgen -W "latents x0 both" -- "$cur")); return ;;
        --paste-back) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --inpaint-crop) return ;;
        --outpaint) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        --depth) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --noise-level) return ;;
        --original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --negative-target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --aesthetic-score) return ;;
        --negative-aesthetic-score) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --trace-stats) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-hash) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --inject) return ;;
        --inject-filter) return ;;
        --inject-names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor-starts) return ;;
        --stop-after) return ;;
        --timings) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --profile) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --save-steps) COMPREPLY=($(compgen -d -- "$cur")); return ;;
        --preview) COMPREPLY=($(compgen -W "none proj vae taesd tae" -- "$cur")) ;;
        esac
        options="--module --trace --inject-names --output --help --prompt --negative-prompt --prompts --model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --taesd-preview-only --ema --refiner --refiner-at --from --output --width --height --seed --rng --sampler-rng --seed-per-image --explain-seed --batch-count --batch-size --keep --bytes --like --steps --cfg-scale --sampling-method --scheduler --spacing --sigmas --timesteps --first-latents --whole-timesteps --order --steps-offset --set-alpha-to-one --prediction --clip-sample --eta --s-churn --s-tmin --s-tmax --s-noise --denoising-start --denoising-end --from-step --guidance-rescale --image-cfg-scale --clip-skip --noise --latents-in --tokens-in --embeds-in --timestep-in --init-img --strength --mask --alpha-mask --invert-mask --mask-blur --strength-steps --posterior --mask-rule --paste-back --inpaint-crop --outpaint --resize --depth --noise-level --original-size --crop --target-size --negative-original-size --negative-crop --negative-target-size --aesthetic-score --negative-aesthetic-score --device --threads --precise --gemm --residency --max-memory --vae-memory --trace --trace-filter --trace-stats --trace-hash --inject --inject-filter --inject-names --floor --floor-starts --stop-after --timings --profile --save-steps --preview --quiet --verbose --version --help " ;;
    replay)
        case $prev in
        esac
        options="--help " ;;
    devices)
        case $prev in
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        esac
        options="--check --device --json --help " ;;
    tune)
        case $prev in
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        esac
        options="--device --json --help " ;;
    tokenize)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --ema --json --ids --file --help " ;;
    plan)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        esac
        options="--model --config --width --height --json --help " ;;
    samplers)
        case $prev in
        esac
        options="--json --help " ;;
    schedule)
        case $prev in
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --steps) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --plot) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        esac
        options="--model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --ema --steps --sampling-method --scheduler --spacing --sigmas --timesteps --order --steps-offset --set-alpha-to-one --json --plot --help " ;;
    profiles)
        case $prev in
        esac
        options="--json --help " ;;
    trace)
        case $prev in
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --filter) return ;;
        -p|--prompt) return ;;
        -n|--negative-prompt) return ;;
        --prompts) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner-at) return ;;
        --from) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        -s|--seed) return ;;
        --rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32" -- "$cur")); return ;;
        --sampler-rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32 brownian" -- "$cur")); return ;;
        -b|--batch-count) return ;;
        --batch-size) return ;;
        --keep) return ;;
        --bytes) COMPREPLY=($(compgen -W "round truncate half-up" -- "$cur")); return ;;
        --like) COMPREPLY=($(compgen -W "diffusers compvis a1111 comfy sdcpp" -- "$cur")); return ;;
        --steps) return ;;
        --cfg-scale) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --first-latents) COMPREPLY=($(compgen -W "sigma root comfy" -- "$cur")); return ;;
        --whole-timesteps) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction sample" -- "$cur")); return ;;
        --clip-sample) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --eta) return ;;
        --s-churn) return ;;
        --s-tmin) return ;;
        --s-tmax) return ;;
        --s-noise) return ;;
        --denoising-start) return ;;
        --denoising-end) return ;;
        --from-step) return ;;
        --guidance-rescale) return ;;
        --image-cfg-scale) return ;;
        --clip-skip) return ;;
        --noise) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --latents-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokens-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --embeds-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --timestep-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -i|--init-img) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --strength) return ;;
        --mask) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --mask-blur) return ;;
        --strength-steps) COMPREPLY=($(compgen -W "share above share+1 all" -- "$cur")); return ;;
        --posterior) COMPREPLY=($(compgen -W "sample mean again" -- "$cur")); return ;;
        --mask-rule) COMPREPLY=($(compgen -W "latents x0 both" -- "$cur")); return ;;
        --paste-back) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --inpaint-crop) return ;;
        --outpaint) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        --depth) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --noise-level) return ;;
        --original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --negative-target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --aesthetic-score) return ;;
        --negative-aesthetic-score) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --trace-stats) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-hash) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --inject) return ;;
        --inject-filter) return ;;
        --inject-names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor-starts) return ;;
        --stop-after) return ;;
        --timings) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --profile) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --save-steps) COMPREPLY=($(compgen -d -- "$cur")); return ;;
        --preview) COMPREPLY=($(compgen -W "none proj vae taesd tae" -- "$cur")) ;;
        esac
        options="--list --stats --hash-only --output --filter --help --prompt --negative-prompt --prompts --model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --taesd-preview-only --ema --refiner --refiner-at --from --output --width --height --seed --rng --sampler-rng --seed-per-image --explain-seed --batch-count --batch-size --keep --bytes --like --steps --cfg-scale --sampling-method --scheduler --spacing --sigmas --timesteps --first-latents --whole-timesteps --order --steps-offset --set-alpha-to-one --prediction --clip-sample --eta --s-churn --s-tmin --s-tmax --s-noise --denoising-start --denoising-end --from-step --guidance-rescale --image-cfg-scale --clip-skip --noise --latents-in --tokens-in --embeds-in --timestep-in --init-img --strength --mask --alpha-mask --invert-mask --mask-blur --strength-steps --posterior --mask-rule --paste-back --inpaint-crop --outpaint --resize --depth --noise-level --original-size --crop --target-size --negative-original-size --negative-crop --negative-target-size --aesthetic-score --negative-aesthetic-score --device --threads --precise --gemm --residency --max-memory --vae-memory --trace --trace-filter --trace-stats --trace-hash --inject --inject-filter --inject-names --floor --floor-starts --stop-after --timings --profile --save-steps --preview --quiet --verbose --version --help " ;;
    help) options="encode decode roundtrip text unet step convert show inspect compare selftest diagnose wrong extract replay devices tune tokenize plan samplers schedule profiles trace " ;;
    version) return ;;
    *)
        case $prev in
        -p|--prompt) return ;;
        -n|--negative-prompt) return ;;
        --prompts) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -m|--model) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --unet) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --vae) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --text-encoder-2) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokenizer) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --config) COMPREPLY=($(compgen -W "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner" -- "$cur")); return ;;
        --taesd) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --refiner-at) return ;;
        --from) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -W|--width) return ;;
        -H|--height) return ;;
        -s|--seed) return ;;
        --rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32" -- "$cur")); return ;;
        --sampler-rng) COMPREPLY=($(compgen -W "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32 brownian" -- "$cur")); return ;;
        -b|--batch-count) return ;;
        --batch-size) return ;;
        --keep) return ;;
        --bytes) COMPREPLY=($(compgen -W "round truncate half-up" -- "$cur")); return ;;
        --like) COMPREPLY=($(compgen -W "diffusers compvis a1111 comfy sdcpp" -- "$cur")); return ;;
        --steps) return ;;
        --cfg-scale) return ;;
        --sampling-method) COMPREPLY=($(compgen -W "ddim pndm euler euler_a heun dpm2 dpm2_a lms dpm++2m dpm++2m_sde dpm++3m_sde dpm++2s dpm++2s_a dpm++sde dpm_fast dpm_adaptive unipc deis sa_solver ddpm lcm tcd ipndm edm_euler ddim_inverse restart gradient_estimation res_multistep res_multistep_a" -- "$cur")); return ;;
        --scheduler) COMPREPLY=($(compgen -W "spaced karras exponential beta lu_lambdas linspace@kdiffusion karras@kdiffusion exponential@kdiffusion polyexponential vp sgm_uniform simple ddim_uniform beta@comfy kl_optimal align_your_steps align_your_steps_sdxl leading trailing linspace" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "leading trailing linspace" -- "$cur")); return ;;
        --sigmas) return ;;
        --timesteps) return ;;
        --first-latents) COMPREPLY=($(compgen -W "sigma root comfy" -- "$cur")); return ;;
        --whole-timesteps) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --order) return ;;
        --steps-offset) return ;;
        --set-alpha-to-one) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction sample" -- "$cur")); return ;;
        --clip-sample) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --eta) return ;;
        --s-churn) return ;;
        --s-tmin) return ;;
        --s-tmax) return ;;
        --s-noise) return ;;
        --denoising-start) return ;;
        --denoising-end) return ;;
        --from-step) return ;;
        --guidance-rescale) return ;;
        --image-cfg-scale) return ;;
        --clip-skip) return ;;
        --noise) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --latents-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --tokens-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --embeds-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --timestep-in) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -i|--init-img) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --strength) return ;;
        --mask) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --mask-blur) return ;;
        --strength-steps) COMPREPLY=($(compgen -W "share above share+1 all" -- "$cur")); return ;;
        --posterior) COMPREPLY=($(compgen -W "sample mean again" -- "$cur")); return ;;
        --mask-rule) COMPREPLY=($(compgen -W "latents x0 both" -- "$cur")); return ;;
        --paste-back) COMPREPLY=($(compgen -W "true false" -- "$cur")); return ;;
        --inpaint-crop) return ;;
        --outpaint) return ;;
        --resize) COMPREPLY=($(compgen -W "stretch crop pad" -- "$cur")); return ;;
        --depth) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --noise-level) return ;;
        --original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-original-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --negative-crop) COMPREPLY=($(compgen -W "," -- "$cur")); return ;;
        --negative-target-size) COMPREPLY=($(compgen -W "x" -- "$cur")); return ;;
        --aesthetic-score) return ;;
        --negative-aesthetic-score) return ;;
        --device) COMPREPLY=($(compgen -W "cpu opencl" -- "$cur")); return ;;
        -t|--threads) return ;;
        --gemm) COMPREPLY=($(compgen -W "own openblas" -- "$cur")); return ;;
        --residency) COMPREPLY=($(compgen -W "map stream ram" -- "$cur")); return ;;
        --max-memory) return ;;
        --vae-memory) return ;;
        --trace) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-filter) return ;;
        --trace-stats) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --trace-hash) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --inject) return ;;
        --inject-filter) return ;;
        --inject-names) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --floor-starts) return ;;
        --stop-after) return ;;
        --timings) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --profile) COMPREPLY=($(compgen -W "json" -- "$cur")) ;;
        --save-steps) COMPREPLY=($(compgen -d -- "$cur")); return ;;
        --preview) COMPREPLY=($(compgen -W "none proj vae taesd tae" -- "$cur")) ;;
        esac
        options="--prompt --negative-prompt --prompts --model --unet --vae --text-encoder --text-encoder-2 --tokenizer --config --taesd --taesd-preview-only --ema --refiner --refiner-at --from --output --width --height --seed --rng --sampler-rng --seed-per-image --explain-seed --batch-count --batch-size --keep --bytes --like --steps --cfg-scale --sampling-method --scheduler --spacing --sigmas --timesteps --first-latents --whole-timesteps --order --steps-offset --set-alpha-to-one --prediction --clip-sample --eta --s-churn --s-tmin --s-tmax --s-noise --denoising-start --denoising-end --from-step --guidance-rescale --image-cfg-scale --clip-skip --noise --latents-in --tokens-in --embeds-in --timestep-in --init-img --strength --mask --alpha-mask --invert-mask --mask-blur --strength-steps --posterior --mask-rule --paste-back --inpaint-crop --outpaint --resize --depth --noise-level --original-size --crop --target-size --negative-original-size --negative-crop --negative-target-size --aesthetic-score --negative-aesthetic-score --device --threads --precise --gemm --residency --max-memory --vae-memory --trace --trace-filter --trace-stats --trace-hash --inject --inject-filter --inject-names --floor --floor-starts --stop-after --timings --profile --save-steps --preview --quiet --verbose --version --help "
        [ "$COMP_CWORD" -gt 1 ] || options="help version encode decode roundtrip text unet step convert show inspect compare selftest diagnose wrong extract replay devices tune tokenize plan samplers schedule profiles trace $options" ;;
    esac
    [ -n "$command" ] && [ "$command" != help ] && [ "${cur#-}" = "$cur" ] && COMPREPLY+=($(compgen -f -- "$cur"))
    COMPREPLY+=($(compgen -W "$options" -- "$cur"))
}
complete -o filenames -F _sd sd
