/* tokenizer_pieces.c - floor 4: the pieces of a tokenizer's vocabulary and their ids: a list, and a hash table. CLIP
 * has 49408, and they are read whenever a program starts; most of that time is spent waiting for memory. So pieces
 * share blocks, a piece's letters lie beside what is known of it, and a new piece is put before the others of its
 * chain, which nobody needs to look at. */
#include "tokenizer_pieces.h"

#include <stdlib.h>
#include <string.h>

/* Enough for CLIP. In the largest vocabulary that is allowed, a chain has 15 pieces. */
enum { CHAINS = 1 << 16 };

typedef struct sd_block {
    struct sd_block *before;
    char s[1 << 16];
} sd_block;

/* The chain of a piece: eight letters at a time, by a multiplication whose high bits are folded back */
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
    return (size_t)(h >> 32) % CHAINS;
}

static bool is_piece(const sd_piece *x, const char *s, size_t n) { return x->n == n && memcmp(x->s, s, n) == 0; }

int32_t sd_pieces_find(const sd_pieces *p, const char *s, size_t n)
{
    const sd_piece *x = p->chain ? p->chain[chain_of(s, n)] : NULL;
    while (x && !is_piece(x, s, n)) x = x->next;
    return x ? x->id : -1;
}

int32_t sd_pieces_find_at(const sd_pieces *p, const char *s, size_t n, int32_t likely)
{
    bool is = likely >= 0 && likely < p->n && p->by_id[likely] && is_piece(p->by_id[likely], s, n);
    return is ? likely : sd_pieces_find(p, s, n);
}

void sd_pieces_fetch(const sd_pieces *p, const sd_word *word, size_t n)
{
    sd_piece *const *place[SD_PIECES_AHEAD];
    if (!p->chain) return;
    for (size_t i = 0; i < n; i++) {
        place[i] = &p->chain[chain_of(word[i].s, word[i].n)];
        SD_FETCH(place[i]);
    }
    for (size_t i = 0; i < n; i++) SD_FETCH(*place[i]);
}

static sd_status grow_list(sd_pieces *p, int32_t id, sd_error *e)
{
    int32_t cap = id + id / 2 + 1024;
    sd_piece **more = realloc(p->by_id, (size_t)cap * sizeof *more);
    if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary of %d pieces", (int)cap);
    memset(more + p->cap, 0, (size_t)(cap - p->cap) * sizeof *more);
    p->by_id = more;
    p->cap = cap;
    return SD_OK;
}

/* Memory for a piece of n letters; NULL: there is none. What is longer than a block gets one that has the rest behind
 * it. */
static sd_piece *new_piece(sd_pieces *p, size_t n)
{
    const size_t block = sizeof p->blocks->s, align = sizeof(void *);
    size_t need = (offsetof(sd_piece, s) + n + align) / align * align;
    if (!p->blocks || need > block - p->used) {
        sd_block *more = malloc(sizeof *more + (need > block ? need - block : 0));
        if (!more) return NULL;
        more->before = p->blocks;
        p->blocks = more;
        p->used = 0;
    }
    void *to = (char *)p->blocks + offsetof(sd_block, s) + p->used;
    p->used += need < block - p->used ? need : block - p->used;
    return to;
}

sd_status sd_pieces_put(sd_pieces *p, const char *s, size_t n, int64_t id, const char *path, sd_error *e)
{
    if (id < 0 || id >= SD_MOST_PIECES)
        return sd_fail(e, SD_ERR_FORMAT, "%s: expected ids from 0 to %d, found %lld for '%.*s'", path,
                       SD_MOST_PIECES - 1, (long long)id, (int)(n < 80 ? n : 80), s);
    if (id >= p->cap && grow_list(p, (int32_t)id, e) != SD_OK) return e->status;
    if (p->by_id[id])
        return sd_fail(e, SD_ERR_FORMAT, "%s: the id %lld belongs to '%.80s' and to '%.*s'", path, (long long)id,
                       p->by_id[id]->s, (int)(n < 80 ? n : 80), s);
    if (!p->chain) p->chain = calloc(CHAINS, sizeof(sd_piece *));
    sd_piece *x = p->chain ? new_piece(p, n) : NULL;
    if (!x) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary piece of %zu bytes", n);
    sd_piece **chain = &p->chain[chain_of(s, n)];
    *x = (sd_piece){.next = *chain, .n = (uint32_t)n, .id = (int32_t)id};
    memcpy(x->s, s, n);
    x->s[n] = 0;
    *chain = p->by_id[id] = x;
    if (id >= p->n) p->n = (int32_t)id + 1;
    return SD_OK;
}

void sd_pieces_free(sd_pieces *p)
{
    for (sd_block *block = p->blocks, *before; block; block = before) {
        before = block->before;
        free(block);
    }
    free(p->by_id);
    free(p->chain);
    *p = (sd_pieces){0};
}
