#!/bin/sh
# Fuzzes the targets tests/fuzz_*.c one after the other under ASan and UBSan.
# usage: tools/fuzz.sh SECONDS TARGET...       CC: a clang with libFuzzer
# Inputs to begin with are made of the project's own files; what finds new paths is kept in build/fuzz/corpus/TARGET. The exit code tells whether
# anything was found; then the input is build/fuzz/TARGET-crash-*, to be given to build/fuzz/tests/TARGET.
set -u
cd "$(dirname "$0")/.." || exit 2
seconds=$1
shift
dir=build/fuzz
mkdir -p $dir
${MAKE:-make} --no-print-directory BUILD=$dir OUT=$dir CC="$CC" OPENMP=0 BLAS=none ISA=scalar FUZZ_LINK=-fsanitize=fuzzer \
    CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DSD_LIBFUZZER" \
    fuzz-build || exit 1

# A file with something before it: fuzz_config's first byte says which configuration it is.
seed() {   # target, name, first byte as octal or -, file
    [ -f "$4" ] || return 0
    { [ "$3" = - ] || printf "\\$3"; head -c 4096 "$4"; } > "$dir/seeds/$1/$2"
}

seeds() {
    mkdir -p $dir/seeds/$1 $dir/corpus/$1
    case $1 in
    fuzz_image) seed $1 apple - docs/apple.png
        printf 'P6 2 1 255\nabcdef' > $dir/seeds/$1/p6 ;;
    fuzz_text) seed $1 png 000 docs/apple.png
        exif='MM\0*\0\0\0\010\0\1\207i\0\4\0\0\0\1\0\0\0\032\0\0\0\0\0\1\222\206\0\7\0\0\0\022\0\0\0,\0\0\0\0UNICODE\0\0a\0c\0a\0t\0,'
        comment='parameters\0a cat\nSteps: 3, Sampler: Euler a\0'
        xmp='<sdcpp:parameters>a &lt;cat&gt;\nSteps: 3</sdcpp:parameters>'
        printf "\\0\\377\\330\\377\\341\\0FExif\\0\\0$exif\\377\\332" > $dir/seeds/$1/jpeg
        printf "\\0\\377\\330\\377\\376\\0\\051$comment\\377\\332" > $dir/seeds/$1/comment
        printf "\\0RIFF\\0\\0\\0\\0WEBPEXIF>\\0\\0\\0$exif" > $dir/seeds/$1/webp
        printf "\\0RIFF\\0\\0\\0\\0WEBPXMP <\\0\\0\\0$xmp" > $dir/seeds/$1/xmp
        printf '\001a cat\nNegative prompt: x\nSteps: 3, Sampler: DPM++ 2M Karras, Size: 8x8, Sigmas: "14,1,0", Outpaint: "1,2,3,4"' > $dir/seeds/$1/text ;;
    fuzz_safetensors) printf '\054\0\0\0\0\0\0\0{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}xx' > $dir/seeds/$1/small ;;
    fuzz_recognise|fuzz_inspect) root=model.diffusion_model; down=$root.input_blocks up=$root.output_blocks
        printf "%s\\n" "$down.0.0.weight 8,4,3,3" "$down.1.0.in_layers.2.weight 8,8,3,3" "$down.3.0.op.weight 8,8,3,3" \
            "$down.4.0.in_layers.2.weight 16,8,3,3" "$down.4.1.transformer_blocks.0.attn1.to_q.weight 16,16" \
            "$down.4.1.transformer_blocks.0.attn2.to_k.weight 16,768" "$up.0.0.in_layers.2.weight 16,32,3,3" \
            "$up.1.0.in_layers.2.weight 16,24,3,3" "$up.2.1.conv.weight 16,16,3,3" "$up.3.0.in_layers.2.weight 8,24,3,3" \
            "$up.4.0.in_layers.2.weight 8,16,3,3" "$root.out.2.weight 4,8,3,3" "v_pred 1" > $dir/seeds/$1/ldm
        printf '%s\n' 'conv_in.weight 8,4,3,3' 'conv_out.weight 4,8,3,3' 'down_blocks.0.resnets.0.conv1.weight 8,8,3,3' \
            'up_blocks.0.resnets.0.conv1.weight 8,16,3,3' 'up_blocks.0.resnets.1.conv1.weight 8,16,3,3' \
            '=sd:unet/config.json {"block_out_channels":[32],"sample_size":8}' > $dir/seeds/$1/unet
        printf '%s\n' 'vae.decoder.mid.block_1.conv1.weight 8,8,3,3' 'vae.decoder.up.0.block.0.conv1.weight 8,8,3,3' \
            'vae.decoder.conv_in.weight 8,4,3,3' 'text_encoder.token_embedding.weight 9,64' \
            'text_encoder.positional_embedding 77,64' 'text_encoder.transformer.resblocks.0.mlp.c_fc.weight 256,64' \
            'text_encoder.text_projection 64,8' 'vae.decoder.conv_out.weight 3,8,3,3' > $dir/seeds/$1/parts
        printf '%s\n' 'lora_unet_mid_block_attentions_0_proj_in.lora_down.weight 4,768' 'lora_te1_x.hada_w1_b 4,8' \
            'lora_te1_x.alpha 1' 'unet.x.dora_scale 8,1' '=ss_base_model_version sd_v1' > $dir/seeds/$1/lora
        printf '%s\n' 'encoder.layers.14.weight 4,64,3,3' 'encoder.layers.1.conv.0.weight 64,64,3,3' 'emb_params 2,768' \
            'control_model.input_hint_block.0.weight 16,3,3,3' > $dir/seeds/$1/others ;;
    fuzz_gguf) seed $1 types - tests/golden/types.gguf; seed $1 written - tests/golden/written.gguf ;;
    fuzz_npy) printf "\\0\\223NUMPY\\1\\0\\073\\0{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), } \\n12345678" > $dir/seeds/$1/f4
        printf "\\0\\223NUMPY\\1\\0\\073\\0{'descr': '|b1', 'fortran_order': False, 'shape': (3, ), }\\n123" > $dir/seeds/$1/b1
        for f in stored deflated; do seed $1 $f 001 tests/golden/$f.npz; done ;;
    fuzz_zip) for f in deflated protocol4 script; do seed $1 $f - tests/golden/pickle/$f.pt; done ;;
    fuzz_pickle) for f in lightning network script; do seed $1 raw-$f 000 tests/golden/pickle/$f.pkl; seed $1 $f 002 tests/golden/pickle/$f.pkl; done
        for f in deflated.pt protocol4.pt legacy4.pt network_legacy.pth embedding_dict.pt; do seed $1 $f 001 tests/golden/pickle/$f; done
        printf '\0(dp0\nS"a"\np1\nI7\nsVb\nL8L\nsF1.5\n0(iargparse\nNamespace\n.' > $dir/seeds/$1/old ;;
    fuzz_config) seed $1 unet 000 weights/tiny/unet/config.json; seed $1 vae 001 weights/tiny/vae/config.json
        seed $1 clip 002 weights/tiny/text_encoder/config.json; seed $1 sched 043 weights/tiny/scheduler/scheduler_config.json ;;
    fuzz_json) seed $1 unet 001 weights/tiny/unet/config.json
        printf '\0{"a":[1,-0.5e+3,"\\ud83d\\ude00\\n"],"a":{"b":null,"c":[true,false]},"":1e999}' > $dir/seeds/$1/text
        printf '\1{"a":-Infinity,"a":1,"b":{"a":2,"a":[]}}' > $dir/seeds/$1/python ;;
    fuzz_yaml) printf 'model:\n  target: a.B  # c\n  params:\n    linear_start: 1.0e-04\n    ch_mult: [ 1,2,\n      4 ]\n    use_ema: False\n' > $dir/seeds/$1/ldm
        printf -- '---\na:\n- b: 1\n  c: "x\\n"\n- - d\n  - '"'it''s'"'\ne: {}\n"f": ~\n' > $dir/seeds/$1/lists ;;
    fuzz_tokenizer) printf '\0#version: 0.2\na b\nab c</w>\n\377a cat 12 \303\244' > $dir/seeds/$1/merges
        seed $1 config 003 weights/tiny/tokenizer/tokenizer_config.json; seed $1 special 004 weights/tiny/tokenizer/special_tokens_map.json ;;
    fuzz_options) printf '\0-p\0a cat\0--steps\0007\0--cfg-scale\0003.5\0-s\0001\0-W\00064\0' > $dir/seeds/$1/draw
        printf '\1--sampling-method\0euler\0--sigmas\00014.6,2,0\0--scheduler\0karras\0' > $dir/seeds/$1/schedule
        printf '\1--timesteps\000999,500,1\0--json\0' > $dir/seeds/$1/timesteps
        printf '\2--ids\0a cat\0' > $dir/seeds/$1/tokenize; printf '\6--config\0sd15\0-W\00064\0' > $dir/seeds/$1/plan ;;
    esac
}

failed=0
for target; do
    seeds "$target"
    log=$dir/$target.log
    $dir/tests/"$target" -max_total_time="$seconds" -max_len=4096 -timeout=60 -rss_limit_mb=2048 -artifact_prefix="$PWD/$dir/$target-" \
        -print_final_stats=1 -close_fd_mask=3 "$PWD/$dir/corpus/$target" "$PWD/$dir/seeds/$target" > "$log" 2>&1 || { failed=1; grep -E 'ERROR|SUMMARY|Test unit' "$log"; }
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, $(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1) edges"
done
exit $failed
