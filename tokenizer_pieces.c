/* tokenizer_pieces.c - floor 4: the pieces of a tokenizer's vocabulary and their ids: a list, and a hash table. CLIP
 * has 49408, and they are read whenever a program starts. So their letters share blocks of memory, and a slot of the
 * table knows the mixed letters of its piece: most comparisons end there. */
#include "tokenizer_pieces.h"

#include <stdlib.h>
#include <string.h>

typedef struct sd_letters {
    struct sd_letters *before;
    char s[1 << 16];
} sd_letters;

typedef struct sd_piece_slot { uint32_t mixed; int32_t id; } sd_piece_slot;   /* id < 0: empty */

/* Eight letters at a time, by a multiplication whose high bits are folded back */
static uint32_t mix_letters(const char *s, size_t n)
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
    return (uint32_t)(h ^ h >> 32);
}

static bool is_piece(const sd_pieces *p, int32_t id, const char *s, size_t n)
{
    return strncmp(p->text[id], s, n) == 0 && !p->text[id][n];
}

/* The slot of a piece, or the empty one where it belongs. */
static sd_piece_slot *slot_of(const sd_pieces *p, const char *s, size_t n, uint32_t mixed)
{
    size_t k = mixed & (p->n_slot - 1);
    for (int32_t id; (id = p->slot[k].id) >= 0; k = (k + 1) & (p->n_slot - 1))
        if (p->slot[k].mixed == mixed && is_piece(p, id, s, n)) break;
    return &p->slot[k];
}

int32_t sd_pieces_find(const sd_pieces *p, const char *s, size_t n)
{
    return p->n_slot ? slot_of(p, s, n, mix_letters(s, n))->id : -1;
}

int32_t sd_pieces_find_at(const sd_pieces *p, const char *s, size_t n, int32_t likely)
{
    bool is = likely >= 0 && likely < p->n && p->text[likely] && is_piece(p, likely, s, n);
    return is ? likely : sd_pieces_find(p, s, n);
}

static sd_status grow_slots(sd_pieces *p, sd_error *e)
{
    size_t n = p->n_slot ? 2 * p->n_slot : 1024;
    sd_piece_slot *slot = malloc(n * sizeof *slot);
    if (!slot) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary of %zu pieces", p->words);
    for (size_t i = 0; i < n; i++) slot[i].id = -1;
    for (size_t i = 0; i < p->n_slot; i++) {
        size_t k = p->slot[i].mixed & (n - 1);
        if (p->slot[i].id < 0) continue;
        while (slot[k].id >= 0) k = (k + 1) & (n - 1);
        slot[k] = p->slot[i];
    }
    free(p->slot);
    p->slot = slot;
    p->n_slot = n;
    return SD_OK;
}

static sd_status grow_list(sd_pieces *p, int32_t id, sd_error *e)
{
    int32_t cap = id + id / 2 + 1024;
    const char **more = realloc(p->text, (size_t)cap * sizeof *more);
    if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary of %d pieces", (int)cap);
    memset(more + p->cap, 0, (size_t)(cap - p->cap) * sizeof *more);
    p->text = more;
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
    if (p->text[id])
        return sd_fail(e, SD_ERR_FORMAT, "%s: the id %lld belongs to '%.80s' and to '%.*s'", path, (long long)id,
                       p->text[id], (int)(n < 80 ? n : 80), s);
    if (2 * (p->words + 1) > p->n_slot && grow_slots(p, e) != SD_OK) return e->status;
    p->text[id] = keep(p, s, n);
    if (!p->text[id]) return sd_fail(e, SD_ERR_MEMORY, "no memory for a vocabulary piece of %zu bytes", n);
    if (id >= p->n) p->n = (int32_t)id + 1;
    uint32_t mixed = mix_letters(s, n);
    sd_piece_slot *slot = slot_of(p, s, n, mixed);
    p->words += slot->id < 0;
    *slot = (sd_piece_slot){mixed, (int32_t)id};
    return SD_OK;
}

void sd_pieces_free(sd_pieces *p)
{
    for (sd_letters *block = p->letters, *before; block; block = before) {
        before = block->before;
        free(block);
    }
    free(p->text);
    free(p->slot);
    *p = (sd_pieces){0};
}
