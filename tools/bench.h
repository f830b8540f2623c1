/* bench.h - bench_compare.c for bench.c. */
#ifndef BENCH_H
#define BENCH_H

/* Prints what became slower or faster by more than `percent` from one `bench --json` to another. 0: nothing became
 * slower, 1: something did, 2: they could not be compared. */
int bench_compare(const char *before, const char *after, double percent);

#endif
