#!/bin/sh
# Runs a test program on the simulator Oclgrind and asks that it reports nothing: of accesses out of bounds, data races,
# barriers that a part of a group misses, and wrong calls; or of numbers that are used and were never written, which
# needs kernels that are not optimized.
# usage: tools/oclgrind.sh accesses|written PROGRAM
set -u
export CMOCKA_MESSAGE_OUTPUT=STDOUT SD_DEVICE=opencl
command -v oclgrind >/dev/null 2>&1 || { echo "oclgrind is not installed: make deps-dev" >&2; exit 1; }

case $1 in
accesses) what="bounds, races, barriers, calls" options="--check-api --data-races" ;;
written) what="numbers never written" options="--uninitialized --build-options -O0" ;;
*) echo "accesses or written, not $1" >&2; exit 2 ;;
esac
program=$2 log=$2.$1 failed=0

rm -f "$log.reports"
oclgrind $options --log "$log.reports" "$program" > "$log" 2>&1
rc=$?
passed=$(grep -c -F '[       OK ]' "$log")
reports=$(grep -c -v -e '^[[:space:]]*$' "$log.reports")
echo "oclgrind: $what: $passed tests, $reports lines of reports"
[ "$rc" = 0 ] || { grep -v -F -e '[       OK ]' -e '[ RUN ' "$log" | tail -n 40; failed=1; }
[ "$reports" = 0 ] || { head -n 60 "$log.reports"; failed=1; }
[ "$passed" -gt 0 ] || failed=1
[ "$failed" = 0 ]
