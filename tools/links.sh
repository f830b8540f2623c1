#!/bin/sh
# What the linker sees of the files: cycles between them, and functions that nobody outside their file calls.
# usage: tools/links.sh OBJECT... LIBRARY...
# An object uses another one when it needs a symbol that the other one defines. Prints a line for the files of each cycle, and one for each
# function that no other object uses.
set -u
nm -A -g "$@" | awk '
    NF >= 2 {
        file = $0; sub(/\.o:.*/, "", file); sub(/.*[\/:]/, "", file)
        symbol = $NF; kind = $(NF - 1)
        files[file] = 1
        if (kind == "U") { needs[file, symbol] = 1; needed[++n] = file SUBSEP symbol }
        else if (kind ~ /^[TDBRVWSC]$/) { home[symbol] = file; if (kind == "T") functions[symbol] = file }
    }
    END {
        for (i = 1; i <= n; i++) {
            split(needed[i], part, SUBSEP)
            to = home[part[2]]
            if (to == "" || to == part[1]) continue
            used[part[2]] = 1
            edge[part[1], to] = 1
        }
        # Each file with all that it reaches, over one more file in between at a time [Warshall 1962].
        for (k in files) for (i in files) if ((i, k) in edge) for (j in files) if ((k, j) in edge) edge[i, j] = 1
        for (i in files) {
            if (!((i, i) in edge)) continue
            first = i; m = 0
            for (j in files) if (((i, j) in edge) && ((j, i) in edge)) { name[++m] = j; if (j < first) first = j }
            if (first != i) continue
            for (a = 2; a <= m; a++) { x = name[a]; for (b = a - 1; b > 0 && name[b] > x; b--) name[b + 1] = name[b]; name[b + 1] = x }
            line = "cycle:"
            for (a = 1; a <= m; a++) line = line " " name[a]
            print line
        }
        for (f in functions)
            if (!(f in used) && f != "main" && f != "_init" && f != "_fini") print "unused: " f " in " functions[f]
    }' | sort
