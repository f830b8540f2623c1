#!/bin/sh
# Draws the same pictures with two programs sd and compares the files byte by byte: every sampler, every task, the options that change
# a picture, a trace. For changes that must not change anything.
# usage: tools/same_pictures.sh OLD NEW        each the path of a program; the exit code tells whether anything differs
set -u
[ $# = 2 ] || { echo "usage: $0 OLD NEW" >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2")
cd "$(dirname "$0")/.." || exit 2
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
same=0 differ=0

# compare NAME OPTIONS...: file NAME of both programs
compare() {
    name=$1
    shift
    "$old" -q -m weights/tiny -s 7 -p "a red apple" "$@" -o "$dir/old.png" > "$dir/old.out" 2>&1
    before=$?
    "$new" -q -m weights/tiny -s 7 -p "a red apple" "$@" -o "$dir/new.png" > "$dir/new.out" 2>&1
    after=$?
    if [ $before = $after ] && [ $before = 0 ] && cmp -s "$dir/old.png" "$dir/new.png"; then same=$((same + 1))
    else differ=$((differ + 1)); echo "$name: other bytes (exit codes $before and $after)"; tail -n 1 "$dir/new.out"; fi
    rm -f "$dir"/*.png
}

for sampler in $("$old" samplers --json | tr ',{' '\n\n' | sed -n 's/^"name":"\([^"]*\)".*/\1/p'); do
    compare "$sampler" --sampling-method "$sampler" --steps 6
done
for schedule in karras exponential beta sgm_uniform simple ddim_uniform kl_optimal align_your_steps trailing linspace; do
    compare "schedule $schedule" --sampling-method dpm++2m --scheduler $schedule --steps 5
done
compare "negative prompt" -n "blue" --cfg-scale 5 --steps 4
compare "no guidance" --cfg-scale 1 --steps 4
compare "guidance rescale" --guidance-rescale 0.7 --steps 4
compare "clip skip" --clip-skip 2 --steps 4
compare "size" -W 96 -H 64 --steps 4
compare "batch" --batch-size 2 --keep 2 --steps 4
compare "seed per image" --batch-size 2 --seed-per-image --steps 4
for rng in torch-cuda numpy numpy-pcg64; do compare "rng $rng" --rng $rng --steps 4; done
compare "brownian" --sampling-method dpm++sde --sampler-rng brownian --steps 4
compare "sigmas" --sampling-method euler --sigmas 14,5,1,0
compare "timesteps" --sampling-method dpm++2m --timesteps 900,500,100
compare "order" --sampling-method unipc --order 3 --steps 5
compare "eta" --sampling-method ddim --eta 0.5 --steps 4
compare "churn" --sampling-method euler --s-churn 2 --steps 4
compare "v prediction" --prediction v --steps 4
compare "precise" --precise --steps 2
compare "stream" --residency stream --steps 2
"$old" -q -m weights/tiny -s 3 -p "a green pear" --steps 6 -o "$dir/init.ppm" > "$dir/init.out" 2>&1 || { cat "$dir/init.out"; exit 2; }
init=$dir/init.ppm
printf 'P5 2 2 255\n\377\377\0\0' > "$dir/mask.pgm"
compare "image to image" -i "$init" --strength 0.6 --steps 6
compare "image to image, ancestral" -i "$init" --strength 0.5 --sampling-method euler_a --steps 6
compare "inpainting" -i "$init" --mask "$dir/mask.pgm" --steps 5
compare "inpainting, blurred" -i "$init" --mask "$dir/mask.pgm" --mask-blur 2 --invert-mask --strength 0.8 --steps 5
compare "inpainting a crop" -i "$init" --mask "$dir/mask.pgm" --inpaint-crop 8 --steps 5
compare "outpainting" -i "$init" --outpaint 8,0,8,0 --steps 5
compare "resizing" -i "$init" -W 96 -H 64 --resize crop --steps 5
for program in "$old" "$new"; do
    "$program" -q -m weights/tiny -s 7 -p "a red apple" --steps 2 --trace "$dir/trace.safetensors" -o "$dir/t.png" > /dev/null 2>&1
    mv "$dir/trace.safetensors" "$dir/trace.$([ "$program" = "$old" ] && echo old || echo new)" 2> /dev/null
done
if cmp -s "$dir/trace.old" "$dir/trace.new"; then same=$((same + 1)); else differ=$((differ + 1)); echo "trace: other bytes"; fi
echo "$same files the same, $differ differ"
[ $differ = 0 ]
