/* tokenizer_pieces.h - floor 4: the pieces of a tokenizer's vocabulary and their ids. */
#ifndef SD_TOKENIZER_PIECES_H
#define SD_TOKENIZER_PIECES_H

#include "base.h"

#define SD_MOST_PIECES 1000000   /* larger vocabularies are a mistake in a file */

/* s NULL: no piece has this id. next: the id of the next piece of its chain; -1: none */
typedef struct sd_piece { const char *s; uint32_t n; int32_t next; } sd_piece;

typedef struct sd_pieces {
    struct sd_letters *letters; size_t used;    /* the newest block of letters, and how much of it is in use */
    sd_piece *piece;                            /* by id */
    int32_t n, cap;                             /* largest id + 1 */
    int32_t *chain;                             /* mixed letters -> id of a chain's first piece; -1: none */
} sd_pieces;

/* FNV-1a, one word at a time, with the high bits folded back. It begins with SD_MIX_BEGIN. */
#define SD_MIX_BEGIN 2166136261u
static inline uint32_t sd_mix(uint32_t h, uint32_t x)
{
    h = (h ^ x) * 16777619u;
    return h ^ h >> 15;
}

/* The id of a piece of n bytes; -1: there is none. */
int32_t sd_pieces_find(const sd_pieces *p, const char *s, size_t n);
/* The same, but soon if `likely` is an id of the piece; for callers to whom any of its ids is right. */
int32_t sd_pieces_find_at(const sd_pieces *p, const char *s, size_t n, int32_t likely);
/* Gives a piece (n bytes, none of them 0) its id. If a piece comes twice, the later id counts, as in a Python dict. */
sd_status sd_pieces_put(sd_pieces *p, const char *s, size_t n, int64_t id, const char *path, sd_error *e);
void sd_pieces_free(sd_pieces *p);

#endif
