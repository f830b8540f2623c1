#!/bin/sh
# Runs cmocka binaries and the example, and ends in one line that counts them all.
# usage: tools/run_tests.sh TEST... -- EXAMPLE [PICTURE]
# Without PICTURE the example is skipped: a build may be unable to read models.
# Shown of a binary that passes: its name, its counts and what its tests printed, such as why some were skipped; of one
# that fails: everything.
set -u
export CMOCKA_MESSAGE_OUTPUT=STDOUT
# Threads that wait for each other in a loop stall everything where other work wants the cores: let them sleep instead.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

passed=0 failed=0 skipped=0
limit=
command -v timeout >/dev/null 2>&1 && limit="timeout 1200"

count() { grep -c -F "$1" "$log"; }
skipped() { [ "$1" = 0 ] || echo ", $1 skipped"; }

while [ $# -gt 0 ] && [ "$1" != -- ]; do
    log=$1.log
    $limit "$1" >"$log" 2>&1
    rc=$?
    ok=$(count '[       OK ]')
    skip=$(($(grep '^\[  SKIPPED \] [^ ]*$' "$log" | sort -u | wc -l)))   # cmocka lists them once more at the end
    bad=$(($(count '[ RUN      ]') - ok - skip))
    [ "$rc" = 0 ] || [ "$bad" -gt 0 ] || bad=1    # a crash, a leak, a set-up that failed
    [ "$rc$ok$skip" != 000 ] || bad=1             # a binary without tests proves nothing
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    echo "$(basename "$1"): $ok passed, $bad failed$(skipped "$skip")"
    if [ "$bad" -gt 0 ]; then
        cat "$log"
    else
        grep -v -F -e '[==========]' -e '[ RUN      ]' -e '[       OK ]' -e '[  PASSED  ]' -e '[  SKIPPED ]' \
            -e ' SKIPPED TEST(S)' "$log" | sed '/^$/d; s/^/    /'
    fi
    shift
done
shift

[ $# = 1 ] || rm -f "$2"
if [ $# = 1 ]; then
    echo "$(basename "$1"): skipped"
    skipped=$((skipped + 1))
elif "$1" "a red apple on a white background" "$2" && [ -s "$2" ]; then
    echo "$(basename "$1"): drew $2"
    passed=$((passed + 1))
else
    echo "$(basename "$1"): failed"
    failed=$((failed + 1))
fi

echo "$passed passed, $failed failed$(skipped "$skipped")"
[ "$failed" = 0 ]
