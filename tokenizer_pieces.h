/* tokenizer_pieces.h - floor 4: the pieces of a tokenizer's vocabulary and their ids. */
#ifndef SD_TOKENIZER_PIECES_H
#define SD_TOKENIZER_PIECES_H

#include "base.h"

#define SD_MOST_PIECES 1000000   /* larger vocabularies are a mistake in a file */

typedef struct sd_piece {
    struct sd_piece *next;                      /* in its chain */
    int32_t id;
    uint32_t n;
    char s[];                                   /* n bytes and a 0 */
} sd_piece;

typedef struct sd_pieces {
    struct sd_block *blocks; size_t used;       /* the newest block of memory, and how much of it is in use */
    sd_piece **by_id;                           /* NULL where no piece has that id */
    int32_t n, cap;                             /* largest id + 1 */
    sd_piece **chain;                           /* lists, chosen by the piece's letters; the newest is first */
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
/* n words, at most SD_PIECES_AHEAD, that will be looked for: their places are fetched, all at the same time. */
#define SD_PIECES_AHEAD 32
typedef struct sd_word { const char *s; size_t n; } sd_word;
void sd_pieces_fetch(const sd_pieces *p, const sd_word *word, size_t n);
/* Gives a piece (n bytes, none of them 0) its id. If a piece comes twice, the later id counts, as in a Python dict. */
sd_status sd_pieces_put(sd_pieces *p, const char *s, size_t n, int64_t id, const char *path, sd_error *e);
void sd_pieces_free(sd_pieces *p);

#endif
