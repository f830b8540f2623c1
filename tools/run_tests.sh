#!/bin/sh
# Runs cmocka binaries and the example, and ends in one line that counts them all.
# usage: tools/run_tests.sh TEST... -- ALONE... -- EXAMPLE [PICTURE]
# JOBS of the tests run at a time, one if that is not set; ALONE run after them, one by one: they measure time.
# Without PICTURE the example is skipped: a build may be unable to read models.
# Shown of a binary that passes: its name, its counts and what its tests printed, such as why some were skipped; of one
# that fails: everything.
set -u
export CMOCKA_MESSAGE_OUTPUT=STDOUT
# Threads that wait for each other in a loop stall everything where other work wants the cores: let them sleep instead.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

passed=0 failed=0 skipped=0
TEST_LIMIT=
command -v timeout >/dev/null 2>&1 && TEST_LIMIT="timeout 1200"
export TEST_LIMIT

count() { grep -c -F "$1" "$log"; }
skipped() { [ "$1" = 0 ] || echo ", $1 skipped"; }

report() {   # a test that has ended
    log=$1.log
    [ -s "$1.rc" ] || echo "it was not run to its end" | tee "$1.rc" >>"$log"
    rc=$(cat "$1.rc")
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
}

# TEST.log gets what a test prints; its exit code and its name are said when it has ended. Where nobody hears that any
# longer, no other test begins.
run() {   # tests, options of xargs
    tests=$1
    shift
    [ -z "$tests" ] || printf '%s\n' $tests | xargs -n 1 "$@" sh -c '$TEST_LIMIT "$0" >"$0.log" 2>&1; echo "$? $0"'
}

together='' alone=''
while [ "$1" != -- ]; do together="$together $1"; shift; done
shift
while [ "$1" != -- ]; do alone="$alone $1"; shift; done
shift
example=$1 picture=${2:-} ended=$1.ended

set -- $together $alone
for test; do rm -f "$test.rc"; : >"$test.log"; done
rm -f "$ended" && mkfifo "$ended" || exit 2
{ run "$together" ${JOBS:+-P "$JOBS"}; run "$alone"; } >"$ended" &
while read -r rc ended_test; do
    echo "$rc" >"$ended_test.rc"
    while [ $# -gt 0 ] && [ -s "$1.rc" ]; do report "$1"; shift; done
done <"$ended"
rm -f "$ended"
for test; do report "$test"; done   # whoever ran them is gone

[ -z "$picture" ] || rm -f "$picture"
if [ -z "$picture" ]; then
    echo "$(basename "$example"): skipped"
    skipped=$((skipped + 1))
elif "$example" "a red apple on a white background" "$picture" && [ -s "$picture" ]; then
    echo "$(basename "$example"): drew $picture"
    passed=$((passed + 1))
else
    echo "$(basename "$example"): failed"
    failed=$((failed + 1))
fi

echo "$passed passed, $failed failed$(skipped "$skipped")"
[ "$failed" = 0 ]
