#!/bin/sh
# Runs a test program on the simulator Oclgrind and asks that it reports nothing: first accesses out of bounds, data
# races, barriers that a part of a group misses, and wrong calls; then numbers that are used and were never written,
# which needs kernels that are not optimized.
# usage: tools/oclgrind.sh PROGRAM
set -u
export CMOCKA_MESSAGE_OUTPUT=STDOUT SD_DEVICE=opencl
command -v oclgrind >/dev/null 2>&1 || { echo "oclgrind is not installed: make deps-dev" >&2; exit 1; }
program=$1 log=$1.oclgrind failed=0

simulate() {   # what is looked at, oclgrind's options
    what=$1
    shift
    rm -f "$log.reports"
    oclgrind "$@" --log "$log.reports" "$program" > "$log" 2>&1
    rc=$?
    passed=$(grep -c -F '[       OK ]' "$log")
    reports=$(grep -c -v -e '^[[:space:]]*$' "$log.reports")
    echo "oclgrind: $what: $passed tests, $reports lines of reports"
    [ "$rc" = 0 ] || { grep -v -F -e '[       OK ]' -e '[ RUN ' "$log" | tail -n 40; failed=1; }
    [ "$reports" = 0 ] || { head -n 60 "$log.reports"; failed=1; }
    [ "$passed" -gt 0 ] || failed=1
}

simulate "bounds, races, barriers, calls" --check-api --data-races
simulate "numbers never written" --uninitialized --build-options -O0
[ "$failed" = 0 ]
