#!/bin/sh
# The rules of the house that a compiler does not know, and the compilers' warnings as errors.
# usage: tools/lint.sh [text|build|symbols|links|options|install ...]       without arguments: all of them
set -u
cd "$(dirname "$0")/.." || exit 2
failures=0
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}   # see run_tests.sh

fail() { echo "lint: $*"; failures=$((failures + 1)); }

# ------------------------------------------------------------------------------------------- floors
# docs/MAP.md says which file stands on which floor: below a heading "### Floor N" each row of the table begins with its files. A file
# includes headers of its own floor and of those below it; sd.h, which has only types, may be included anywhere. The program sees the
# library through sd.h alone, as any other program does, and the operating system through os.h.
floors=$(awk '/^### Floor [0-9]/ { n = $3 + 0; on = 1; next } /^#/ { on = 0 }
    on && /^\| `/ { split($0, cell, "|"); gsub(/[`,]/, "", cell[2]); print n, cell[2] }' docs/MAP.md)

floor_of() { echo "$floors" | awk -v f="$1" '{ for (i = 2; i <= NF; i++) if ($i == f) print $1 }'; }

check_floors() {
    for file in *.c *.h; do
        own=$(floor_of "$file")
        [ -n "$own" ] || { fail "$file stands on no floor: enter it in docs/MAP.md"; continue; }
        for header in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
            case $header in sd.h|sd_tools.h|os.h) continue ;; esac
            below=$(floor_of "$header")
            [ -n "$below" ] || { fail "$file includes $header, which stands on no floor"; continue; }
            [ "$below" -le "$own" ] || fail "$file (floor $own) includes $header (floor $below)"
            [ "$own" -lt 7 ] || [ "$below" = 7 ] || fail "$file is to see the library through sd.h alone, not $header"
        done
    done
}

# ------------------------------------------------------------------------------------------- system
# What is beyond standard C stands in the family os_* and app_os.c alone; check_plain builds without it.
check_system() {
    for file in *.c *.h; do
        case $file in os.h|os_*.c|app_os.c) continue ;; esac
        grep -nE '^[[:space:]]*#[[:space:]]*(include[[:space:]]*<(sys/|unistd|fcntl|dirent|termios|pwd|poll|pthread|dlfcn|spawn|strings|windows|io\.h)|define[[:space:]]+_[A-Z]+_SOURCE|if.*(__unix__|__linux__|__APPLE__|_WIN32|SD_OS_))' \
            "$file" > build/lint.text && { sed "s/^/lint: $file:/" build/lint.text; fail "$file: what is beyond standard C belongs into os_*.c"; }
    done
    rm -f build/lint.text
}

# --------------------------------------------------------------------------------------------- text
check_text() {
    check_floors
    check_system
    for file in *.c *.h opencl/*.cl tests/*.c tests/*.h examples/*.c; do
        [ -f "$file" ] || continue
        lines=$(wc -l < "$file")
        case $file in tests/*) most=1200 ;; sd.h) most=900 ;; *) most=800 ;; esac   # tests are read one by one; users include one header
        [ "$lines" -le $most ] || fail "$file has $lines lines, $most are allowed"
        awk -v f="$file" '
            length($0) > 120 { print "lint: " f ":" NR ": longer than 120 columns" }
            /\t/        { print "lint: " f ":" NR ": tab" }
            /[ \r]$/    { print "lint: " f ":" NR ": white space at the end of the line" }
            /TODO|FIXME/ && !/(TODO|FIXME)\(#[0-9]+\)/ { print "lint: " f ":" NR ": a TODO names its issue: TODO(#12)" }
            NR == 1 && !/^\/\*/ { print "lint: " f ": begins without a comment that says what it owns" }
        ' "$file" > build/lint.text
        [ ! -s build/lint.text ] || { cat build/lint.text; failures=$((failures + $(wc -l < build/lint.text))); }
    done
    rm -f build/lint.text
    check_kernels
    check_traps
    check_docs
}

# OpenCL C 1.2 and nothing that a driver may lack: letters that every compiler reads, no doubles, no sub-groups, no printf; and no group's
# number that forgets where a cut launch begins (GROUP in opencl/common.cl).
check_kernels() {
    for file in opencl/*.cl; do
        LC_ALL=C grep -n '[^ -~]' "$file" && fail "$file: letters beyond ASCII"
        sed 's|/\*.*||; s|^ \* .*||' "$file" | grep -nwE 'double[0-9]*|printf|get_group_id|sub_group_[a-z_]*|cl_khr_[a-z0-9_]*|convert_half|half[0-9]* +[a-z_]+ *[=;]' &&
            fail "$file: not every driver of OpenCL 1.2 has this"
    done
}

# Every test and twin that docs/TRAPS.md names exists, and every "trap N" of a source, test or chapter stands there.
check_traps() {
    for name in $(grep -o '`[a-z0-9_.-]*_[a-z0-9_.-]*`' docs/TRAPS.md | tr -d '`' | sort -u); do
        grep -rqF -e "$name" tests tools *.h || fail "docs/TRAPS.md names $name, which is nowhere"
    done
    for n in $(cat *.c *.h tests/*.c tools/*.py docs/*.md | grep -ohiE 'traps? [0-9]+' | grep -oE '[0-9]+' | sort -un); do
        grep -q "^\*\*$n\. " docs/TRAPS.md || fail "trap $n is spoken of, and not in docs/TRAPS.md"
    done
}

# Documents can be read in a terminal, their links lead somewhere, and what they name is there: files in `code`, functions and types
# that begin with sd_, in docs/MAP.md whatever is a name.
check_docs() {
    for doc in *.md docs/*.md weights/tiny/README.md tools/train/README.md; do
        awk -v f="$doc" 'length($0) > 160 { print "lint: " f ":" NR ": longer than 160 columns" }' "$doc"
        for link in $(grep -o '](\([^):#]*\)' "$doc" | sed 's/^](//' | sort -u); do
            [ -e "$(dirname "$doc")/$link" ] || echo "lint: $doc: there is no $link"
        done
        [ "$doc" != CHANGELOG.md ] || continue   # it may speak of what was
        for name in $(grep -oE '`[a-z0-9_/]+\.(c|h|sh|py)`' "$doc" | tr -d '`' | sort -u); do
            [ -e "$name" ] || [ -e "tests/$name" ] || [ -e "tools/$name" ] || [ -e "$(dirname "$doc")/$name" ] || echo "lint: $doc: there is no file $name"
        done
        case $doc in docs/MAP.md) names='`[a-zA-Z_][a-zA-Z0-9_]*`' ;; *) names='`sd_[a-z0-9_]+' ;; esac
        for name in $(grep -oE "$names" "$doc" | tr -d '`' | sort -u); do
            grep -qw -e "$name" *.c *.h tests/*.c Makefile tools/*.sh bindings/python/*/*.py || echo "lint: $doc: $name is nowhere"
        done
    done > build/lint.docs
    [ ! -s build/lint.docs ] || { cat build/lint.docs; failures=$((failures + $(wc -l < build/lint.docs))); }
    rm -f build/lint.docs
}

# -------------------------------------------------------------------------------------------- build
build() {   # name, make's arguments
    dir=build/lint-$1
    shift
    if ! ${MAKE:-make} --no-print-directory -k BUILD="$dir" OUT="$dir" WERROR=1 "$@" objects > "$dir.log" 2>&1; then
        grep -E 'error:|undefined reference|Error [0-9]' "$dir.log" | head -n 40
        fail "make $* fails, all of it in $dir.log"
    fi
}

# Everything that a build can have, as users build it: gcc sees numbers that may not have been set, and writes beyond an array, only where
# it optimizes. The other builds look for what this one cannot: other code, another compiler, whose warnings do not depend on that.
build_gcc() { build gcc CC=gcc OPENCL=1; }

refused() {   # what the message must name, make's arguments
    word=$1
    shift
    dir=build/lint-refused
    ${MAKE:-make} --no-print-directory BUILD=$dir OUT=$dir "$@" $dir/kernels.o > $dir.log 2>&1 && fail "make $* goes through"
    grep -q -e "$word" $dir.log || { cat $dir.log; fail "make $* does not name $word"; }
    rm -rf $dir $dir.log
}

# Standard C alone, and a picture that has the same bytes.
check_plain() {
    dir=build/lint-plain
    ${MAKE:-make} --no-print-directory -k BUILD=$dir OUT=$dir WERROR=1 CC=gcc CFLAGS=-O1 CPPFLAGS=-DSD_OS_PLAIN all > $dir.log 2>&1 &&
        $dir/sd -q -p "a red apple" -s 42 --steps 2 -m weights/tiny -o $dir/a.png >> $dir.log 2>&1 &&
        build/lint-gcc/sd -q -p "a red apple" -s 42 --steps 2 -m weights/tiny -o $dir/b.png >> $dir.log 2>&1 &&
        cmp $dir/a.png $dir/b.png >> $dir.log 2>&1 || { tail -n 40 $dir.log; fail "make CPPFLAGS=-DSD_OS_PLAIN, and a picture drawn with it"; }
    rm -f $dir/a.png $dir/b.png
}

# sd.h as C++ reads it: enums are visible, and the macros that pass a size work there.
check_cxx() {
    source=build/lint-cxx.cpp
    cat > $source <<'EOF'
#include "../sd.h"
int main()
{
    sd_options options;
    sd_params params, copy;
    sd_model_info model;
    sd_sampler_info sampler;
    sd_param_info param;
    sd_machine machine;
    sd_roofs roofs;
    sd_timings timings;
    sd_options_init(&options);
    options.parts = SD_PART_ALL;
    options.residency = SD_RESIDENCY_STREAM;
    options.gemm = SD_GEMM_OWN;
    sd_params_init(&params);
    params.width = SD_DEFAULT;
    params.guidance.scale = SD_DEFAULT;
    sd_params_copy(&copy, &params);
    sd_get_machine(&machine);
    sd_get_timings(NULL, &timings);
    bool ready = sd_measure_roofs(NULL, 0, &roofs) == SD_OK && sd_get_info(NULL, &model) == SD_OK;
    bool never = sd_get_sampler(0, &sampler) && sampler.draws == SD_DRAWS_NEVER;
    bool text = sd_get_param(0, &param) && param.type == SD_PARAM_TEXT;
    return ready || SD_PROFILE_PARTS < SD_PROFILE_PRODUCTS || !never || !text;
}
EOF
    for cxx in g++ clang++; do
        command -v $cxx >/dev/null 2>&1 || continue
        $cxx -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only $source > build/lint-cxx.log 2>&1 ||
            { head -n 20 build/lint-cxx.log; fail "sd.h as C++, by $cxx"; }
    done
    rm -f $source build/lint-cxx.log
}

check_build() {
    check_cxx
    refused -ffast-math CFLAGS="-O3 -ffast-math"
    refused -ffast-math CFLAGS=-Ofast
    [ "$(uname -m)" != x86_64 ] || refused mfpmath=sse CFLAGS="-O3 -mfpmath=387"
    refused PNG=0 PNG_LIBS=-lno_such_library
    refused OPENCL=0 OPENCL=1 OPENCL_LIBS=-lno_such_library
    build_gcc
    # -O1 does not know how large a number can be, and so which texts it makes too long.
    build bare CC=gcc CFLAGS="-O1 -Wno-format-truncation" BLAS=none OPENMP=0 PNG=0 JPEG=0 UTF8PROC=0 ZLIB=0
    check_plain
    if command -v clang >/dev/null 2>&1; then build clang CC=clang CFLAGS=-O0 OPENCL=1
    else fail "clang is not installed: make deps-dev"; fi
}

# ------------------------------------------------------------------------------------------ symbols
check_symbols() {
    dir=build/lint-gcc
    build_gcc   # what is there may be older than the sources
    [ -f $dir/libsd.so ] || { fail "no $dir/libsd.so to look at"; return; }

    nm -A -u $dir/libsd.a | awk '{ print $NF " in " $1 }' | sed 's/@[^ ]*//' |
        grep -E '^(exit|_exit|_Exit|quick_exit|abort|__assert_fail|printf|vprintf|puts|putchar|perror|__printf_chk|__vprintf_chk|stdout|stderr|stdin|signal|sigaction|setlocale) ' \
        > build/lint.symbols && { cat build/lint.symbols; fail "the library must not exit, print, or touch the process' state"; }

    # Objects in sections that can be written to. Tables of constants with pointers in them are in .data.rel.ro.
    objdump -t $dir/libsd.a | awk '
        /file format/ { file = $1 }
        {
            for (i = 1; i < NF; i++)
                if ($i == "O" && ($(i + 1) ~ /^\.(data|bss|tdata|tbss)(\.|$)/ || $(i + 1) == "*COM*") && $(i + 1) !~ /^\.data\.rel\.ro/)
                    print $NF " (" $(i + 1) ") in " file
        }' > build/lint.symbols
    [ ! -s build/lint.symbols ] || { cat build/lint.symbols; fail "the library must not have mutable globals"; }

    nm -D --defined-only $dir/libsd.so | awk '{ print $NF }' | sed 's/@.*//' | sort > build/lint.exported
    grep -oh '^SD_API [^;(]*(' sd.h sd_tools.h | sed 's/(.*//; s/.*[ *]//' | sort > build/lint.declared
    if ! diff build/lint.declared build/lint.exported > build/lint.symbols; then
        cat build/lint.symbols
        fail "libsd.so exports (>) something else than sd.h declares (<)"
    fi
    rm -f build/lint.symbols build/lint.exported build/lint.declared
}

# ------------------------------------------------------------------------------------------ options
# README.md has each option that `sd help` prints.
check_options() {
    dir=build/lint-gcc
    [ -x $dir/sd ] || build_gcc
    for option in $($dir/sd help | grep -oE '^  (-.,)? *--[a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+'); do
        grep -q -e "\`$option[ \`]" README.md || fail "README.md has no $option"
    done
}

# ------------------------------------------------------------------------------------------- links
# Files that may need each other: tables name functions, which stand on what asks the tables. The kernels' has an object per instruction set,
# and those take from the specification what has no vectors; the samplers' has a row per method, whose functions ask for levels and rows; that of file
# formats has a reader per format, and readers add entries to a file. The OpenCL backend's files share one state: a launch needs memory and
# programs, and what fails there is said in the words of launches.
families='^cycle:( (kernels|precise|winograd)[a-z0-9_]*)+$|^cycle:( sampler[a-z_]*)+$|^cycle:( (npy|weights_[a-z_]*))+$|^cycle:( ops_opencl[a-z_]*)+$'
# The library's functions that no other file uses are in sd.h, or static, or a step that a test looks at. sd_weight_find waits for adapters.
unused='sd_weight_find'

check_links() {
    dir=build/lint-gcc
    build_gcc   # what is there may be older than the sources
    sh tools/links.sh $dir/main.o $dir/app_*.o $dir/libsd.a > build/lint.links
    grep '^cycle' build/lint.links | grep -vE "$families" > build/lint.text && {
        cat build/lint.text
        fail "files need each other in a circle"
    }
    awk '/^unused/ && !/ in (main|app_)/ { print $2, $4 }' build/lint.links | while read -r name file; do
        grep -qE "^SD_API .*[ *]$name\\(" sd.h sd_tools.h && continue
        source=$file.c
        case " $unused " in *" $name "*) continue ;; esac
        [ -f "$source" ] || continue   # one of several objects of a source
        if [ "$(grep -cw "$name" "$source")" -le 1 ]; then echo "lint: $source: only tests use $name"
        elif ! grep -qw "$name" tests/*.c tools/*.c; then echo "lint: $source: $name can be static"; fi
    done > build/lint.text
    [ ! -s build/lint.text ] || { cat build/lint.text; failures=$((failures + $(wc -l < build/lint.text))); }
    rm -f build/lint.text build/lint.links
}

# ------------------------------------------------------------------------------------------ install
# What a user of the library does: the README's own commands in a home of their own, the installed program, and uninstall.
check_install() {
    root=$PWD/build/lint-root
    rm -rf "$root"
    mkdir -p "$root"
    {
        with="BUILD=build/lint-gcc OUT=build/lint-gcc CC=gcc OPENCL=1 WERROR=1 PREFIX=$root/.local"
        readme=$(awk '/^## The library/ { on = 1 } on && /^```/ { if (inside) exit; inside = 1; next } inside' README.md) &&
        commands=$(printf '%s\n' "$readme" | sed "s|^make install.*|\"\$make\" --no-print-directory \$with install|; s|-o txt2img|-o \$HOME/txt2img|;
            s|^\./txt2img|cd / \&\& \$HOME/txt2img|; s|apple.png|\$HOME/a.png|") &&
        make=${MAKE:-make} with=$with HOME=$root LD_LIBRARY_PATH='' sh -ec "$commands" &&
        (cd / && "$root/.local/bin/sd" -q -p "a red apple" -s 42 --steps 20 -o "$root/b.png") &&
        [ -s "$root/a.png" ] && [ -s "$root/b.png" ] &&
        ${MAKE:-make} --no-print-directory $with uninstall
    } > build/lint-install.log 2>&1 || { cat build/lint-install.log; fail "installing, and using what was installed"; }
    rm -f "$root/txt2img" "$root/a.png" "$root/b.png"
    left=$(find "$root" ! -type d 2>/dev/null)
    [ -z "$left" ] || { echo "$left"; fail "make uninstall leaves these"; }
    rm -rf "$root"
}

mkdir -p build
[ $# -gt 0 ] || set -- text build symbols links options install
for part; do "check_$part"; done
if [ "$failures" = 0 ]; then echo "lint: nothing to say"; else echo "lint: $failures complaints"; fi
[ "$failures" = 0 ]
