/* tokenizer_pieces.c - floor 4: the pieces of a tokenizer's vocabulary and their ids: a list, and a hash table. CLIP
 * has 49408, and they are read whenever a program starts; most of that time is spent waiting for memory. So their
 * letters share blocks of memory, and a new piece goes to the end of its chain: most rules are made of the first pieces
 * of a vocabulary, and those are then found without a look at others. */
#include "tokenizer_pieces.h"

#include <stdlib.h>
#include <string.h>

/* Enough for CLIP. In the largest vocabulary that is allowed, a chain has 15 pieces. */
enum { CHAIN_BITS = 16, CHAINS = 1 << CHAIN_BITS };

typedef struct sd_letters {
    struct sd_letters *before;
    char s[1 << 16];
} sd_letters;

/* The chain of a piece: eight letters at a time, by a multiplication. Only its highest bits depend on all letters. */
static size_t chain_of(const char *s, size_t n)
{
    uint64_t h = n, letters = 0;
    for (; n >= sizeof letters; s += sizeof letters, n -= sizeof letters) {
        memcpy(&letters, s, sizeof letters);
        h = (h ^ letters) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    letters = 0;
    for (size_t i = 0; i < n; i++) letters = letters << 8 | (unsigned char)s[i];
    h = (h ^ letters) * 0x9e3779b97f4a7c15u;
    return (size_t)(h >> (64 - CHAIN_BITS));
}

static bool is_piece(const sd_piece *x, const char *s, size_t n) { return x->n == n && memcmp(x->s, s, n) == 0; }

/* The link of a chain that leads to a piece, or the one at its end. */
static int32_t *link_to(const sd_pieces *p, const char *s, size_t n)
{
    int32_t *link = &p->chain[chain_of(s, n)];
    while (*link >= 0 && !is_piece(&p->piece[*link], s, n)) link = &p->piece[*link].next;
    return link;
}

int32_t sd_pieces_find(const sd_pieces *p, const char *s, size_t n) { return p->chain ? *link_to(p, s, n) : -1; }

int32_t sd_pieces_find_at(const sd_pieces *p, const char *s, size_t n, int32_t likely)
{
    bool is = likely >= 0 && likely < p->n && p->piece[likely].s && is_piece(&p->piece[likely], s, n);
    return is ? likely : sd_pieces_find(p, s, n);
}

static sd_status grow_list(sd_pieces *p, int32_t id, sd_error *e)
{
    int32_t cap = id + id / 2 + 1024;
    sd_piece *more = realloc(p->piece, (size_t)cap * sizeof *more);
    if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary of %d pieces", (int)cap);
    memset(more + p->cap, 0, (size_t)(cap - p->cap) * sizeof *more);
    p->piece = more;
    p->cap = cap;
    return SD_OK;
}

/* A copy of n letters and a 0; NULL: no memory. What is longer than a block gets one that has the rest behind it. */
static const char *keep(sd_pieces *p, const char *s, size_t n)
{
    const size_t block = sizeof p->letters->s;
    if (!p->letters || n + 1 > block - p->used) {
        sd_letters *more = malloc(sizeof *more + (n + 1 > block ? n + 1 - block : 0));
        if (!more) return NULL;
        more->before = p->letters;
        p->letters = more;
        p->used = 0;
    }
    char *to = (char *)p->letters + offsetof(sd_letters, s) + p->used;
    memcpy(to, s, n);
    to[n] = 0;
    p->used += n + 1 < block - p->used ? n + 1 : block - p->used;
    return to;
}

sd_status sd_pieces_put(sd_pieces *p, const char *s, size_t n, int64_t id, const char *path, sd_error *e)
{
    if (id < 0 || id >= SD_MOST_PIECES)
        return sd_fail(e, SD_ERR_FORMAT, "%s: expected ids from 0 to %d, found %lld for '%.*s'", path,
                       SD_MOST_PIECES - 1, (long long)id, (int)(n < 80 ? n : 80), s);
    if (id >= p->cap && grow_list(p, (int32_t)id, e) != SD_OK) return e->status;
    sd_piece *x = &p->piece[id];
    if (x->s)
        return sd_fail(e, SD_ERR_FORMAT, "%s: the id %lld belongs to '%.80s' and to '%.*s'", path, (long long)id, x->s,
                       (int)(n < 80 ? n : 80), s);
    if (!p->chain) {
        p->chain = malloc(CHAINS * sizeof *p->chain);
        if (p->chain) memset(p->chain, -1, CHAINS * sizeof *p->chain);
    }
    x->s = p->chain ? keep(p, s, n) : NULL;
    if (!x->s) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary piece of %zu bytes", n);
    int32_t *link = link_to(p, s, n);   /* the later of two equal pieces goes before the other */
    x->n = (uint32_t)n;
    x->next = *link;
    *link = (int32_t)id;
    if (id >= p->n) p->n = (int32_t)id + 1;
    return SD_OK;
}

void sd_pieces_free(sd_pieces *p)
{
    for (sd_letters *block = p->letters, *before; block; block = before) {
        before = block->before;
        free(block);
    }
    free(p->piece);
    free(p->chain);
    *p = (sd_pieces){0};
}
