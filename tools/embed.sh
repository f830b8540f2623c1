#!/bin/sh
# Prints C that has the texts of opencl/*.cl, so that a program needs no files beside it: an array for each file, because a string
# literal of C99 may have no more than 4095 characters.
# usage: tools/embed.sh FILE.cl ...
set -eu
echo '/* Made from opencl/ by tools/embed.sh. */'
echo '#include "ops_opencl.h"'
echo '#include <string.h>'
for file in "$@"; do
    printf 'static const char %s[] = {' "$(basename "$file" .cl)_text"
    od -An -v -tu1 "$file" | awk '{ for (i = 1; i <= NF; i++) printf "%s%s,", i == 1 ? "\n" : "", $i }'
    echo '0};'
done
echo 'const char *sd_cl_source(const char *name)'
echo '{'
echo '    static const struct { const char *name, *text; } sources[] = {'
for file in "$@"; do
    name=$(basename "$file" .cl)
    printf '        {"%s", %s_text},\n' "$name" "$name"
done
echo '    };'
echo '    for (size_t i = 0; i < SD_COUNT(sources); i++)'
echo '        if (strcmp(sources[i].name, name) == 0) return sources[i].text;'
echo '    return NULL;'
echo '}'
