#!/bin/sh
# Runs a test program on the simulator Oclgrind and asks that it reports nothing: no access out of bounds, no data race,
# no use of what was never written, no barrier that a part of a group misses, no wrong call. And that every kernel of
# opencl/ was run.
# usage: tools/oclgrind.sh PROGRAM
set -u
export CMOCKA_MESSAGE_OUTPUT=STDOUT SD_DEVICE=opencl
log=$1.oclgrind
command -v oclgrind >/dev/null 2>&1 || { echo "oclgrind is not installed: make deps-dev" >&2; exit 1; }

oclgrind --check-api --data-races --uninitialized --inst-counts --log "$log.reports" "$1" > "$log" 2>&1
rc=$?
reports=$(grep -c -v '^[[:space:]]*$' "$log.reports" 2>/dev/null)
ran=$(sed -n "s/.*xecuted for kernel '\(.*\)'.*/\1/p" "$log" "$log.reports" | sort -u)
missing=
for kernel in $(sed -n 's/^ *\(__\)\{0,1\}kernel .*void \([a-z0-9_]*\)(.*/\2/p' opencl/*.cl | sort -u); do
    echo "$ran" | grep -qx "$kernel" || missing="$missing $kernel"
done
passed=$(grep -c -F '[       OK ]' "$log")
echo "oclgrind: $passed tests, $(echo "$ran" | grep -c .) kernels, $reports lines of reports"
[ "$rc" = 0 ] || { grep -v -F -e '[       OK ]' -e '[ RUN ' "$log" | tail -n 40; echo "oclgrind: $1 fails"; }
[ "$reports" = 0 ] || head -n 60 "$log.reports"
[ -z "$missing" ] || echo "oclgrind: never run:$missing"
[ "$rc" = 0 ] && [ "$reports" = 0 ] && [ -z "$missing" ] && [ "$passed" -gt 0 ]
