#!/bin/sh
# How fast sd is on this machine's GPU, through OpenCL, beside PyTorch on the same card; numbers are checked first. For a
# bare machine: nothing is installed or fetched. It ends within six minutes.
#
#   tools/bench_gpu.sh --pack DIR     on any machine with a compiler: puts into DIR what a bare one may lack: programs,
#                                     OpenCL's headers and loader, and diffusers, if PYTHON (default python3) has it
#   tools/bench_gpu.sh [DIR [OUT]]    on the machine with the GPU: writes OUT/gpu.json and OUT/gpu.txt (default OUT: .)
#
# It is built here if there is a compiler, else DIR's programs run. OpenCL's headers are looked for beside CUDA's, then
# in DIR; the loader libOpenCL.so.1 by ldconfig, beside CUDA's libraries, then in DIR; the driver libnvidia-opencl.so.1 by
# ldconfig and where containers put it. A loader that knows no driver is told of that one (OCL_ICD_VENDORS).
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-python3}
MODELS=${MODELS:-sd15 sdxl}   # small: a tiny one, which tries this script where there is no GPU
PLAIN="OPENCL=1 BLAS=none PNG=0 JPEG=0 UTF8PROC=0 ZLIB=0"

first() { for f in "$@"; do [ -e "$f" ] && { echo "$f"; return 0; }; done; return 1; }
from_ldconfig() { ldconfig -p 2>/dev/null | sed -n "s/.*$1 .*=> //p" | head -n 1; }

build() {   # build DIR: bin/sd, bin/bench, bin/libsd.so
    mkdir -p "$1/bin"
    make -s -C "$here" -j"$(getconf _NPROCESSORS_ONLN)" BUILD="$1/build" OUT="$1/bin" $PLAIN all "$1/build/tools/bench" \
        && cp "$1/build/tools/bench" "$1/bin/"
}

pack() {
    mkdir -p "$1/include" "$1/lib" && dir=$(cd "$1" && pwd) && build "$dir" || exit 1
    cp -rL /usr/include/CL "$dir/include/"
    cp -L "$(from_ldconfig libOpenCL.so.1)" "$dir/lib/libOpenCL.so.1"
    found=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("diffusers").submodule_search_locations[0])' 2>/dev/null)
    [ -z "$found" ] || (cd "$found/.." && find diffusers -name '*.py' | tar -czf "$dir/diffusers.tar.gz" -T -)
    rm -rf "$dir/build" "$dir/bin/libsd.a"
    du -sh "$dir"
}
[ "${1:-}" = --pack ] && { pack "${2:?DIR}"; exit; }

# ------------------------------------------------------------------------------------------------ the machine

begin=$(date +%s)
LIMIT=350
carried=$(cd "${1:-.}" && pwd) out=${2:-.}
work=$(mktemp -d) && mkdir -p "$work/lib" "$work/vendors" "$work/part" "$work/python" "$out"
trap 'rm -rf "$work"' EXIT
left() { echo $((LIMIT - $(date +%s) + begin)); }
note() { echo "$(($(date +%s) - begin)) s: $*" | tee -a "$out/gpu.txt" >&2; }

# Runs a part with a limit of its own, in seconds. Its JSON counts only if it ended well.
part() {
    name=$1 limit=$2
    shift 2
    [ "$(left)" -lt "$limit" ] && limit=$(left)
    [ "$limit" -lt 5 ] && { note "$name: no time is left"; return 1; }
    timeout -k 2 "$limit" "$@" > "$work/$name.json" 2> "$work/$name.log"
    rc=$?
    cat "$work/$name.log" >> "$out/gpu.log"
    [ $rc = 0 ] && mv "$work/$name.json" "$work/part/$name.json"
    [ $rc = 0 ] && note "$name: done" || note "$name: exit code $rc: $(tail -n 1 "$work/$name.log")"
    return $rc
}

: > "$out/gpu.txt"
: > "$out/gpu.log"
loader=$(first "$(from_ldconfig libOpenCL.so.1)" /usr/local/cuda*/lib64/libOpenCL.so.1 \
    /usr/local/cuda*/targets/*/lib/libOpenCL.so.1 /usr/local/nvidia/lib64/libOpenCL.so.1 "$carried/lib/libOpenCL.so.1")
driver=$(first "$(from_ldconfig libnvidia-opencl.so.1)" /usr/local/nvidia/lib64/libnvidia-opencl.so.1 \
    /usr/lib/x86_64-linux-gnu/libnvidia-opencl.so.1 /usr/lib64/libnvidia-opencl.so.1 /usr/local/nvidia/lib/libnvidia-opencl.so.1 \
    /usr/local/cuda*/compat/libnvidia-opencl.so.1)
headers=$(first /usr/include/CL/cl.h /usr/local/include/CL/cl.h /usr/local/cuda*/include/CL/cl.h \
    /usr/local/cuda*/targets/*/include/CL/cl.h "$carried/include/CL/cl.h")
note "loader ${loader:-none}, driver ${driver:-none}, headers ${headers:-none}"
command -v nvidia-smi >/dev/null && note "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1)"
[ -n "$loader" ] || { note "there is no libOpenCL.so.1"; exit 1; }
ln -s "$loader" "$work/lib/libOpenCL.so.1"
ln -s "$loader" "$work/lib/libOpenCL.so"
export LD_LIBRARY_PATH="$work/lib${driver:+:$(dirname "$driver")}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -n "$driver" ] && ! grep -qs nvidia /etc/OpenCL/vendors/*.icd; then
    echo "$driver" > "$work/vendors/nvidia.icd"
    export OCL_ICD_VENDORS="$work/vendors" OCL_ICD_FILENAMES="$driver"
fi
export XDG_CACHE_HOME="$work/cache" SD_DEVICE="${SD_DEVICE:-opencl}"

# ------------------------------------------------------------------------------------------------ the parts

if [ -n "$headers" ] && command -v "${CC:-cc}" >/dev/null && command -v make >/dev/null; then
    export CPPFLAGS="-isystem $(dirname "$(dirname "$headers")")" LDFLAGS="-L$work/lib"
    note "building with ${CC:-cc}"
    (build "$work") >> "$out/gpu.log" 2>&1 || note "it could not be built, see gpu.log"
fi
bin=$(first "$work/bin/bench" "$carried/bin/bench") && bin=$(dirname "$bin") || { note "there is no program to run"; exit 1; }
sd=$bin/sd

draw() { timeout -k 2 40 "$sd" -m "$here/weights/tiny" -p "a red apple" --steps 4 --seed 7 -q --device "$1" -o "$work/$1.ppm"; }
# The largest difference of a byte of the picture, and how many differ.
compare() {
    draw cpu >/dev/null && draw "$SD_DEVICE" >/dev/null || return 1
    cmp -l "$work/cpu.ppm" "$work/$SD_DEVICE.ppm" | awk '
        function octal(s, n, i) { n = 0; for (i = 1; i <= length(s); i++) n = 8 * n + substr(s, i, 1); return n }
        { d = octal($2) - octal($3); if (d < 0) d = -d; if (d > most) most = d }
        END { printf "{\"bytes_that_differ\": %d, \"by_at_most\": %d}\n", NR, most; exit most > 1 }'
}
failed=0
part devices 100 "$sd" devices --check --json || failed=1
compare > "$work/part/picture.json" 2>> "$out/gpu.log" && note "a small picture: $(cat "$work/part/picture.json")" \
    || { failed=1; note "a small picture differs from the CPU's: $(cat "$work/part/picture.json")"; }
part tune 75 "$sd" tune --json
if command -v "$PYTHON" >/dev/null; then
    [ ! -e "$carried/diffusers.tar.gz" ] || tar -xzf "$carried/diffusers.tar.gz" -C "$work/python"
    export PYTHONPATH="$here/tools${PYTHONPATH:+:$PYTHONPATH}:$work/python"
    for model in $MODELS; do
        part "$model" 110 "$PYTHON" "$here/tools/bench_gpu.py" --library "$bin/libsd.so" --work "$work" --model "$model"
        case $? in 0|3) ;; *) failed=1 ;; esac   # 3: there is nothing to compare with
    done
else note "there is no $PYTHON to compare with"
fi
part operations 70 "$bin/bench" --device "$SD_DEVICE" --json --only operations

# ------------------------------------------------------------------------------------------------ what it says

{
    printf '{"seconds": %d, "numbers_agree": %s' $(($(date +%s) - begin)) "$([ $failed = 0 ] && echo true || echo false)"
    for name in devices picture tune operations $MODELS; do
        printf ',\n"%s": ' "$name"
        if [ -s "$work/part/$name.json" ]; then cat "$work/part/$name.json"; else echo null; fi
    done
    echo '}'
} > "$out/gpu.json"
command -v "$PYTHON" >/dev/null && "$PYTHON" "$here/tools/bench_gpu.py" --table "$out/gpu.json" | tee -a "$out/gpu.txt"
exit $failed
