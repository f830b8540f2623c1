/* tokenizer.c - floor 4: CLIP's byte-pair encoding, from a text to 77 ids.
 *
 * It follows, id for id, transformers 5.23's CLIPTokenizer (tokenizers 0.23.3):
 *
 *   1. added tokens that are not `normalized` are cut out of the raw text, longest first;
 *   2. each part between them: NFC; runs of white space become one space; lower case, each character by itself (no
 *      final sigma; U+0130 becomes "i" and U+0307);
 *   3. added tokens that are `normalized` are cut out of the result;
 *   4. the rest is split by
 *      <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 *      and what matches nothing (white space) is dropped;
 *   5. each word is written as its UTF-8 bytes, the last one marked "</w>". Neighbours are merged: the earliest rule of
 *      merges.txt first, and of several places the leftmost first [Sennrich et al. 2016, algorithm 1];
 *   6. BOS, the first 75 ids, EOS, then the pad token up to 77.
 *
 * ftfy and BasicTokenizer, which older releases ran first, are gone in 5.23; `do_lower_case` changes nothing.
 * Everything is read on opening and constant afterwards, so one tokenizer serves any number of threads. */
#include "json.h"
#include "net.h"
#include "tokenizer_pieces.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ID SD_MOST_PIECES
#define MAX_ADDED 10000                   /* lists of added tokens are searched linearly */
#define MAX_FILE ((size_t)64 << 20)       /* tokenizer.json of CLIP has 3.6 MB */
#define BOS_TEXT "<|startoftext|>"
#define EOS_TEXT "<|endoftext|>"
#define END_OF_WORD "</w>"

enum { CHAINS = 1 << 16 };                /* enough for CLIP's rules */
typedef struct merge_rule { int32_t left, right, result, next; } merge_rule;   /* next: of its chain; -1: none */

typedef struct added_token { sd_codes text; int32_t id; bool normalized; } added_token;

struct sd_tokenizer {
    sd_pieces pieces;
    merge_rule *rule;               /* by rank */
    int32_t *chain;                 /* (left, right) -> rank of the newest rule in one of CHAINS lists; -1: none */
    added_token *added; size_t n_added;
    int32_t byte_id[256], last_byte_id[256];   /* of a byte inside and at the end of a word; -1: none */
    int32_t bos, eos, pad, unk;     /* unk -1: none */
};

/* ------------------------------------------------------------------------ vocabulary and rules */

static int32_t find_piece(const sd_tokenizer *t, const char *s, size_t n) { return sd_pieces_find(&t->pieces, s, n); }

static sd_status put_piece(sd_tokenizer *t, const char *s, size_t n, int64_t id, const char *path, sd_error *e)
{
    return sd_pieces_put(&t->pieces, s, n, id, path, e);
}

static int32_t *chain_of(const sd_tokenizer *t, int32_t left, int32_t right)
{
    return &t->chain[sd_mix(sd_mix(SD_MIX_BEGIN, (uint32_t)left), (uint32_t)right) % CHAINS];
}

/* The rank of the rule that joins two pieces; -1: none does. Of equal rules the last one counts. */
static int32_t find_rule(const sd_tokenizer *t, int32_t left, int32_t right)
{
    int32_t rank = *chain_of(t, left, right);
    while (rank >= 0 && (t->rule[rank].left != left || t->rule[rank].right != right)) rank = t->rule[rank].next;
    return rank;
}

static sd_status reserve_rules(sd_tokenizer *t, size_t n, const char *path, sd_error *e)
{
    if (n > MAX_ID) return sd_fail(e, SD_ERR_FORMAT, "%s: expected at most %d merges, found %zu", path, MAX_ID, n);
    t->rule = malloc((n + 1) * sizeof *t->rule);
    t->chain = malloc(CHAINS * sizeof *t->chain);
    if (!t->rule || !t->chain) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu merges of %s", n, path);
    memset(t->chain, -1, CHAINS * sizeof *t->chain);
    return SD_OK;
}

/* Adds the rule "left right" with this rank. With `derive` its result becomes a new piece; its id is rank + 512, after
 * the bytes. CLIP's vocab.json gives it the same. */
static sd_status add_rule(sd_tokenizer *t, const char *left, size_t nl, const char *right, size_t nr, int32_t rank,
                          bool derive, const char *path, sd_error *e)
{
    char room[128], *both = nl + nr <= sizeof room ? room : malloc(nl + nr);
    if (!both) return sd_fail(e, SD_ERR_MEMORY, "no memory for the merges of %s", path);
    memcpy(both, left, nl);
    memcpy(both + nl, right, nr);
    if (!derive || put_piece(t, both, nl + nr, 512 + (int64_t)rank, path, e) == SD_OK) {
        merge_rule r = {find_piece(t, left, nl), find_piece(t, right, nr),
                        sd_pieces_find_at(&t->pieces, both, nl + nr, 512 + rank), -1};
        if (r.left < 0 || r.right < 0 || r.result < 0) {
            sd_fail(e, SD_ERR_FORMAT, "%s: merge %d makes '%.*s' of '%.*s' and '%.*s', not all in the vocabulary",
                    path, (int)rank + 1, (int)(nl + nr < 80 ? nl + nr : 80), both, (int)(nl < 80 ? nl : 80), left,
                    (int)(nr < 80 ? nr : 80), right);
        } else {
            int32_t *chain = chain_of(t, r.left, r.right);
            r.next = *chain;
            t->rule[*chain = rank] = r;
        }
    }
    if (both != room) free(both);
    return e->status;
}

/* merges.txt: a line "left right" for each rule, best first; lines that begin with #version are comments. */
static sd_status read_merges(sd_tokenizer *t, const char *path, bool derive, sd_error *e)
{
    char *data;
    size_t n, lines = 1;
    if (sd_read_file(path, MAX_FILE, &data, &n, e) != SD_OK) return e->status;
    for (size_t i = 0; i < n; i++) lines += data[i] == '\n';
    if (lines > MAX_ID) sd_fail(e, SD_ERR_FORMAT, "%s: expected at most %d lines, found %zu", path, MAX_ID, lines);
    if (e->status == SD_OK) reserve_rules(t, lines, path, e);
    int32_t rank = 0, line = 0;
    for (size_t at = 0, end; at < n && e->status == SD_OK; at = end + 1) {
        for (end = at; end < n && data[end] != '\n'; end++) { }
        size_t len = end - at - (end > at && data[end - 1] == '\r');
        const char *s = data + at, *space = memchr(s, ' ', len);
        line++;
        if (len >= 8 && memcmp(s, "#version", 8) == 0) continue;
        if (!space || space == s || space == s + len - 1 || memchr(space + 1, ' ', len - (size_t)(space - s) - 1) ||
            memchr(s, 0, len)) {
            sd_fail(e, SD_ERR_FORMAT, "%s, line %d: expected two symbols with one space between, found '%.*s'", path,
                    (int)line, (int)(len < 80 ? len : 80), s);
            break;
        }
        size_t nl = (size_t)(space - s);
        add_rule(t, s, nl, space + 1, len - nl - 1, rank++, derive, path, e);
    }
    free(data);
    return e->status;
}

/* Byte-level BPE writes a byte as a printable character [Radford et al. 2019, GPT-2's bytes_to_unicode]: the 188
 * printable Latin-1 bytes stand for themselves, the other 68 for U+0100, U+0101, ... CLIP's vocabulary begins in this
 * order: `order` lists the bytes; written[b] is how byte b is written. */
static void byte_symbols(char written[256][3], unsigned char order[256])
{
    int n = 0, others = 0;
    for (int printable = 1; printable >= 0; printable--)
        for (int b = 0; b < 256; b++) {
            if (printable != ((b > ' ' && b < 127) || (b > 0xa0 && b != 0xad))) continue;
            unsigned char utf8[4];
            size_t len = sd_utf8_encode(utf8, printable ? b : 256 + others++);
            memcpy(written[b], utf8, len);
            written[b][len] = 0;
            order[n++] = (unsigned char)b;
        }
}

/* The vocabulary that follows from merges.txt: 256 bytes, the same at the end of a word, the merges, BOS, EOS. */
static sd_status derive_vocabulary(sd_tokenizer *t, const char *merges, sd_error *e)
{
    char written[256][3], text[8];
    unsigned char order[256];
    byte_symbols(written, order);
    for (int i = 0; i < 512 && e->status == SD_OK; i++) {
        int n = snprintf(text, sizeof text, "%s%s", written[order[i & 255]], i < 256 ? "" : END_OF_WORD);
        put_piece(t, text, (size_t)n, i, merges, e);
    }
    if (e->status == SD_OK) read_merges(t, merges, true, e);
    if (e->status == SD_OK) put_piece(t, BOS_TEXT, strlen(BOS_TEXT), t->pieces.n, merges, e);
    if (e->status == SD_OK) put_piece(t, EOS_TEXT, strlen(EOS_TEXT), t->pieces.n, merges, e);
    return e->status;
}

/* ---------------------------------------------------------------------------- special tokens
 * In transformers a chain of overrides decides which tokens are cut out of the text, and how. It makes published
 * directories differ more than their authors meant (the table in tests/test_tokenizer.c has examples). The rules:
 *   a. tokenizer_config.json names bos, eos, unk, pad (defaults: BOS_TEXT, EOS_TEXT, EOS_TEXT, EOS_TEXT);
 *   b. if that file has `added_tokens_decoder`, its tokens come first and special_tokens_map.json is not read; if not,
 *      special_tokens_map.json wins over (a), and added_tokens.json and tokenizer.json's added_tokens come first;
 *   c. a token named in (a) that (b) describes takes that description; a new one is added after them. If a token has
 *      several descriptions, the last added counts. A token given as a string is not `normalized`; an object says
 *      itself whether it is.
 * So SD 2's pad "!" (special_tokens_map.json) is an added token: id 0, and each "!" in a prompt becomes id 0 too, where
 * SD 1 gives 256 ("!</w>") or a merged run; open_clip, which SD 2 was trained with, gives 256. */

typedef struct token_spec {
    const char *text;
    bool object, special;
    int normalized;   /* 0, 1; -1: not given, so the opposite of `special` */
    bool known;       /* counts as special in added_tokens.json: named as a string, or in special_tokens_map.json */
    int64_t id;
} token_spec;
typedef struct token_list { token_spec *v; size_t n, cap; } token_list;

enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, NAMED };

static bool is_normalized(const token_spec *x) { return x->normalized < 0 ? !x->special : x->normalized != 0; }

static bool list_add(token_list *l, token_spec x, sd_error *e)
{
    if (l->n == MAX_ADDED) {
        sd_fail(e, SD_ERR_UNSUPPORTED, "the tokenizer's files list more than %d added tokens", MAX_ADDED);
        return false;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        token_spec *v = realloc(l->v, cap * sizeof *v);
        if (!v) {
            sd_fail(e, SD_ERR_MEMORY, "no memory for %zu added tokens", cap);
            return false;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = x;
    return true;
}

static const token_spec *list_find(const token_list *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].text, text) == 0) return &l->v[i];
    return NULL;
}

/* Rule (c): adds x unless `described` has the token or the list has the very same description. */
static bool list_add_new(token_list *l, const token_list *described, token_spec x, sd_error *e)
{
    if (list_find(described, x.text)) return true;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].text, x.text) == 0 && l->v[i].object == x.object && l->v[i].special == x.special &&
            is_normalized(&l->v[i]) == is_normalized(&x)) return true;
    return list_add(l, x, e);
}

/* From now on the token is cut out of texts; it gets the next free id if the vocabulary lacks it. */
static sd_status add_token(sd_tokenizer *t, const token_spec *x, const char *dir, sd_error *e)
{
    size_t n = strlen(x->text), at = 0;
    if (find_piece(t, x->text, n) < 0 && put_piece(t, x->text, n, t->pieces.n, dir, e) != SD_OK) return e->status;
    int32_t id = find_piece(t, x->text, n);
    while (at < t->n_added && t->added[at].id != id) at++;
    if (at == t->n_added) {
        added_token *more = realloc(t->added, (at + 1) * sizeof *more);
        if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu added tokens", at + 1);
        t->added = more;
        memset(&more[at], 0, sizeof *more);
        more[at].id = id;
        t->n_added++;
    }
    added_token *a = &t->added[at];
    a->normalized = is_normalized(x);
    sd_codes raw = {0};
    if (sd_utf8_decode(&raw, x->text, "an added token", e)) {
        if (a->normalized) {
            sd_normalize(&a->text, raw.c, raw.n, e);
        } else {
            free(a->text.c);
            a->text = raw;
            memset(&raw, 0, sizeof raw);
        }
    }
    free(raw.c);
    return e->status;
}

/* Looks up what the BPE model itself knows, before the added tokens enter the vocabulary. */
static void find_bytes(sd_tokenizer *t, const char *unk)
{
    char written[256][3], text[8];
    unsigned char order[256];
    byte_symbols(written, order);
    for (int b = 0; b < 256; b++) {
        int n = snprintf(text, sizeof text, "%s%s", written[b], END_OF_WORD);
        t->byte_id[b] = find_piece(t, written[b], strlen(written[b]));
        t->last_byte_id[b] = find_piece(t, text, (size_t)n);
    }
    t->unk = find_piece(t, unk, strlen(unk));
}

static sd_status finish_tokens(sd_tokenizer *t, token_spec named[NAMED], token_list *described, const token_list *extra,
                               const char *dir, sd_error *e)
{
    token_list adds = {0};
    int32_t *ids[NAMED] = {&t->bos, &t->eos, NULL, NULL, &t->pad, NULL, NULL};
    find_bytes(t, named[UNK].text);
    for (size_t i = 1; i < described->n; i++)   /* by id: insertion sort, there are a handful */
        for (size_t k = i; k && described->v[k - 1].id > described->v[k].id; k--) {
            token_spec x = described->v[k];
            described->v[k] = described->v[k - 1];
            described->v[k - 1] = x;
        }
    for (size_t i = 0; i < described->n; i++) list_add(&adds, described->v[i], e);
    for (int i = 0; i < NAMED; i++)
        if (named[i].text) list_add_new(&adds, described, named[i], e);
    for (size_t i = 0; i < extra->n; i++) list_add_new(&adds, described, extra->v[i], e);
    for (size_t i = 0; i < adds.n && e->status == SD_OK; i++) {
        for (int k = 0; k < NAMED; k++)   /* a token with a name is special, whatever its description says */
            if (named[k].text && strcmp(named[k].text, adds.v[i].text) == 0) adds.v[i].special = true;
        if (adds.v[i].text[0]) add_token(t, &adds.v[i], dir, e);
        else sd_fail(e, SD_ERR_FORMAT, "%s: a special token is empty", dir);
    }
    free(adds.v);
    for (int i = 0; i < NAMED; i++)
        if (ids[i] && e->status == SD_OK) *ids[i] = find_piece(t, named[i].text, strlen(named[i].text));
    return e->status;
}

/* ------------------------------------------------------------------------------- JSON files */

static const token_spec default_names[NAMED] = {
    [BOS] = {.text = BOS_TEXT, .special = true}, [EOS] = {.text = EOS_TEXT, .special = true},
    [UNK] = {.text = EOS_TEXT, .special = true}, [PAD] = {.text = EOS_TEXT, .special = true},
};
enum { FILE_ALL, FILE_VOCAB, FILE_CONFIG, FILE_MAP, FILE_ADDED, N_FILES };
static const char *const json_names[N_FILES] = {"tokenizer.json", "vocab.json", "tokenizer_config.json",
                                                "special_tokens_map.json", "added_tokens.json"};

typedef struct dir_files {
    char path[N_FILES][1024], merges[1024];
    bool have[N_FILES];
    const char *dir, *pad;   /* pad: the padding token, if no file may say it */
} dir_files;

static sd_status json_vocabulary(sd_tokenizer *t, const sd_json *vocab, const char *path, sd_error *e)
{
    if (!sd_json_is(vocab, SD_JSON_OBJECT))
        return sd_fail(e, SD_ERR_FORMAT, "%s: expected an object of pieces and ids", path);
    for (const sd_json *x = vocab->first; x && e->status == SD_OK; x = x->next) {
        double id = sd_json_is(x, SD_JSON_NUMBER) ? x->number : -1;
        if (!(id >= 0 && id < MAX_ID) || id != sd_json_int(x))
            return sd_fail(e, SD_ERR_FORMAT, "%s: expected an id from 0 to %d for '%.80s', found another value", path,
                           MAX_ID - 1, x->key);
        put_piece(t, x->key, strlen(x->key), sd_json_int(x), path, e);
    }
    if (e->status == SD_OK && !t->pieces.n) sd_fail(e, SD_ERR_FORMAT, "%s: the vocabulary is empty", path);
    return e->status;
}

/* model.merges of tokenizer.json: ["left right", ...] or [["left", "right"], ...]. */
static sd_status json_merges(sd_tokenizer *t, const sd_json *merges, const char *path, sd_error *e)
{
    int n = sd_json_is(merges, SD_JSON_LIST) ? sd_json_count(merges) : -1;
    if (n < 0) return sd_fail(e, SD_ERR_FORMAT, "%s: expected a list model.merges", path);
    if (reserve_rules(t, (size_t)n, path, e) != SD_OK) return e->status;
    int32_t rank = 0;
    for (const sd_json *x = merges->first; x && e->status == SD_OK; x = x->next, rank++) {
        const char *left = x->text, *right = NULL;
        size_t nl = 0;
        if (sd_json_is(x, SD_JSON_TEXT) && strchr(left, ' ')) {
            right = strchr(left, ' ') + 1;
            nl = (size_t)(right - left) - 1;
        } else if (sd_json_is(x, SD_JSON_LIST) && sd_json_text(x->first) && sd_json_text(x->first->next)) {
            left = x->first->text;
            right = x->first->next->text;
            nl = strlen(left);
        }
        if (!right) return sd_fail(e, SD_ERR_FORMAT, "%s: expected two symbols in merge %d", path, (int)rank + 1);
        add_rule(t, left, nl, right, strlen(right), rank, false, path, e);
    }
    return e->status;
}

static sd_status read_spec(token_spec *out, const sd_json *x, bool special, const char *path, sd_error *e)
{
    static const char *const stripping[] = {"lstrip", "rstrip", "single_word"};
    token_spec s = {.text = x->text, .special = true};
    if (sd_json_is(x, SD_JSON_OBJECT)) {
        const sd_json *content = sd_json_get(x, "content");
        const sd_json *normalized = sd_json_get(x, "normalized");
        s.object = true;
        s.text = sd_json_is(content, SD_JSON_TEXT) ? content->text : NULL;
        s.special = special || sd_json_is(sd_json_get(x, "special"), SD_JSON_TRUE);
        s.normalized = sd_json_is_bool(normalized) ? sd_json_is(normalized, SD_JSON_TRUE) != 0 : -1;
        for (size_t i = 0; i < SD_COUNT(stripping); i++)
            if (sd_json_is(sd_json_get(x, stripping[i]), SD_JSON_TRUE))
                return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: the token '%.80s' asks for %s, which is not supported", path,
                               s.text ? s.text : "", stripping[i]);
    }
    s.known = special || !s.object;
    if (!s.text)
        return sd_fail(e, SD_ERR_FORMAT, "%s: a special token is neither a string nor an object with content", path);
    *out = s;
    return SD_OK;
}

/* Reads "bos_token" and so on, and the list of further special tokens; its older key counts only without the newer. */
static sd_status read_names(token_spec named[NAMED], token_list *extra, const sd_json *root, bool special,
                            const char *path, sd_error *e)
{
    static const char *const keys[NAMED] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};
    static const char *const lists[] = {"extra_special_tokens", "additional_special_tokens"};
    for (int i = 0; i < NAMED && e->status == SD_OK; i++) {
        const sd_json *x = sd_json_get(root, keys[i]);
        if (x && !sd_json_is(x, SD_JSON_NULL)) read_spec(&named[i], x, special, path, e);
    }
    for (size_t i = 0; i < SD_COUNT(lists) && e->status == SD_OK; i++) {
        const sd_json *list = sd_json_get(root, lists[i]);
        if (list && list->first && !sd_json_is(list, SD_JSON_LIST))
            return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: expected a list for %s", path, lists[i]);
        if (i == 1 && extra->n) break;
        for (const sd_json *x = list ? list->first : NULL; x && e->status == SD_OK; x = x->next) {
            token_spec s = {0};
            if (read_spec(&s, x, special, path, e) != SD_OK) return e->status;
            s.known = s.known && !(special && i == 1);
            list_add(extra, s, e);
        }
    }
    return e->status;
}

/* Adds or replaces by id, as the dict `added_tokens_decoder` does. */
static void describe(token_list *l, token_spec s, sd_error *e)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].id == s.id) {
            l->v[i] = s;
            return;
        }
    list_add(l, s, e);
}

/* A list of {"id", "content", ...}, or an object {"id": {"content", ...}}. */
static sd_status read_described(token_list *l, const sd_json *list, const char *path, sd_error *e)
{
    for (const sd_json *x = list ? list->first : NULL; x && e->status == SD_OK; x = x->next) {
        const sd_json *id = sd_json_get(x, "id");
        token_spec s = {0};
        if (read_spec(&s, x, false, path, e) != SD_OK) return e->status;
        s.id = sd_json_is(id, SD_JSON_NUMBER) ? sd_json_int(id) : x->key ? strtol(x->key, NULL, 10) : 0;
        describe(l, s, e);
    }
    return e->status;
}

static sd_status read_special(sd_tokenizer *t, sd_json *const file[N_FILES], const dir_files *d, sd_error *e)
{
    const sd_json *config = file[FILE_CONFIG];
    token_spec named[NAMED];
    token_list described = {0}, extra = {0};
    memcpy(named, default_names, sizeof named);
    if (d->pad) named[PAD] = (token_spec){.text = d->pad, .special = true, .known = true};
    const sd_json *decoder = sd_json_get(config, "added_tokens_decoder");
    const sd_json *length = sd_json_get(config, "model_max_length");
    if (sd_json_is(length, SD_JSON_NUMBER) && length->number < SD_TOKENS)
        sd_fail(e, SD_ERR_UNSUPPORTED, "%s: expected a model_max_length of %d, found %g", d->path[FILE_CONFIG],
                SD_TOKENS, length->number);
    if (e->status == SD_OK && config) read_names(named, &extra, config, false, d->path[FILE_CONFIG], e);
    if (e->status == SD_OK && decoder) read_described(&described, decoder, d->path[FILE_CONFIG], e);
    if (!decoder) {
        const sd_json *all = sd_json_get(file[FILE_ALL], "added_tokens");
        if (e->status == SD_OK && file[FILE_MAP])
            read_names(named, &extra, file[FILE_MAP], true, d->path[FILE_MAP], e);
        const sd_json *added = file[FILE_ADDED] ? file[FILE_ADDED]->first : NULL;
        for (const sd_json *x = added; x && e->status == SD_OK; x = x->next) {
            const token_spec *also = list_find(&extra, x->key);
            token_spec s = {.text = x->key, .object = true, .special = also && also->known, .id = sd_json_int(x)};
            for (int i = 0; i < NAMED; i++)
                if (named[i].known && strcmp(named[i].text, s.text) == 0) s.special = true;
            s.normalized = !s.special;
            describe(&described, s, e);
        }
        if (e->status == SD_OK) read_described(&described, all, d->path[FILE_ALL], e);
    }
    for (int i = 0; i < NAMED; i++) {
        const token_spec *x = named[i].text ? list_find(&described, named[i].text) : NULL;
        if (x) named[i] = *x;
    }
    if (e->status == SD_OK) finish_tokens(t, named, &described, &extra, d->dir, e);
    free(described.v);
    free(extra.v);
    return e->status;
}

/* Reads vocabulary, merges and special tokens: from tokenizer.json if it exists, as transformers does. */
static sd_status read_dir(sd_tokenizer *t, const dir_files *d, sd_error *e)
{
    sd_json *file[N_FILES] = {0};
    for (int i = 0; i < N_FILES && e->status == SD_OK; i++)
        if (d->have[i] && !(i == FILE_VOCAB && d->have[FILE_ALL])) file[i] = sd_json_read(d->path[i], MAX_FILE, e);
    if (e->status == SD_OK && d->have[FILE_ALL]) {
        const char *path = d->path[FILE_ALL];
        const sd_json *model = sd_json_get(file[FILE_ALL], "model");
        const sd_json *type = sd_json_get(model, "type");
        if (type && !(sd_json_is(type, SD_JSON_TEXT) && strcmp(type->text, "BPE") == 0))
            sd_fail(e, SD_ERR_UNSUPPORTED, "%s: expected a model of type BPE", path);
        else if (json_vocabulary(t, sd_json_get(model, "vocab"), path, e) == SD_OK)
            json_merges(t, sd_json_get(model, "merges"), path, e);
    } else if (e->status == SD_OK && d->have[FILE_VOCAB]) {
        json_vocabulary(t, file[FILE_VOCAB], d->path[FILE_VOCAB], e);
        sd_json_free(file[FILE_VOCAB]);   /* the rules get its memory */
        file[FILE_VOCAB] = NULL;
        if (e->status == SD_OK) read_merges(t, d->merges, false, e);
    } else if (e->status == SD_OK) {
        derive_vocabulary(t, d->merges, e);
    }
    if (e->status == SD_OK) read_special(t, file, d, e);
    for (int i = 0; i < N_FILES; i++) sd_json_free(file[i]);
    return e->status;
}

/* ----------------------------------------------------------------------------------- encoding */

typedef struct symbol { int32_t id, prev, next; } symbol;      /* of a word; id < 0: merged into its left one */
typedef struct candidate { int32_t rank, at, result; } candidate; /* a rule that fitted symbol `at` when queued */

typedef struct encoder {
    const sd_tokenizer *t;
    sd_error *e;
    sd_tokens *out;
    size_t total;                           /* ids so far, including those that do not fit */
    symbol *sym; size_t cap_sym;
    candidate *heap; size_t n_heap, cap_heap;
} encoder;

static void emit(encoder *en, int32_t id)
{
    if (en->total < SD_TOKENS - 2) en->out->id[1 + en->total] = id;
    en->total++;
}

static bool before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* Queues the rule for the symbol at `at` and its right neighbour, if there is one. The queue is a binary heap. */
static void push(encoder *en, int32_t at)
{
    if (at < 0 || en->sym[at].next < 0) return;
    int32_t rank = find_rule(en->t, en->sym[at].id, en->sym[en->sym[at].next].id);
    if (rank < 0) return;
    if (en->n_heap == en->cap_heap) {
        size_t cap = en->cap_heap ? 2 * en->cap_heap : 256;
        candidate *heap = realloc(en->heap, cap * sizeof *heap);
        if (!heap) {
            sd_fail(en->e, SD_ERR_MEMORY, "no memory for %zu merge candidates", cap);
            return;
        }
        en->heap = heap;
        en->cap_heap = cap;
    }
    candidate x = {rank, at, en->t->rule[rank].result};
    size_t k = en->n_heap++;
    for (; k && before(&x, &en->heap[(k - 1) / 2]); k = (k - 1) / 2) en->heap[k] = en->heap[(k - 1) / 2];
    en->heap[k] = x;
}

static candidate pop(encoder *en)
{
    candidate top = en->heap[0], x = en->heap[--en->n_heap];
    size_t k = 0;
    for (size_t child; (child = 2 * k + 1) < en->n_heap; k = child) {
        if (child + 1 < en->n_heap && before(&en->heap[child + 1], &en->heap[child])) child++;
        if (!before(&en->heap[child], &x)) break;
        en->heap[k] = en->heap[child];
    }
    en->heap[k] = x;
    return top;
}

/* Step 5 for symbols 0..n-1. O(n log n): each merge queues at most two candidates. A candidate made obsolete by another
 * merge is recognised by its result when its turn comes. */
static void merge_word(encoder *en, size_t n)
{
    symbol *s = en->sym;
    en->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) push(en, (int32_t)i);
    while (en->n_heap && en->e->status == SD_OK) {
        candidate top = pop(en);
        int32_t at = top.at, right = s[at].next;
        if (s[at].id < 0 || right < 0) continue;
        int32_t rank = find_rule(en->t, s[at].id, s[right].id);
        if (rank < 0 || en->t->rule[rank].result != top.result) continue;
        s[at].id = top.result;
        s[at].next = s[right].next;
        s[right].id = -1;
        if (s[at].next >= 0) s[s[at].next].prev = at;
        push(en, s[at].prev);
        push(en, at);
    }
}

static void encode_word(encoder *en, const int32_t *c, size_t n)
{
    unsigned char utf8[4];
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += sd_utf8_encode(utf8, c[i]);
    if (bytes > en->cap_sym) {
        size_t cap = bytes + bytes / 2 + 64;
        symbol *sym = realloc(en->sym, cap * sizeof *sym);
        if (!sym) {
            sd_fail(en->e, SD_ERR_MEMORY, "no memory for a word of %zu characters", n);
            return;
        }
        en->sym = sym;
        en->cap_sym = cap;
    }
    int32_t k = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = sd_utf8_encode(utf8, c[i]);
        for (size_t j = 0; j < len; j++, k++) {
            bool last = i + 1 == n && j + 1 == len;
            int32_t id = last ? en->t->last_byte_id[utf8[j]] : en->t->byte_id[utf8[j]];
            if (id < 0) id = en->t->unk;   /* happens only if the vocabulary lacks a byte */
            if (id < 0) {
                sd_fail(en->e, SD_ERR_FORMAT, "the vocabulary has neither the byte 0x%02x%s nor an unknown token",
                        utf8[j], last ? " at the end of a word" : "");
                return;
            }
            en->sym[k] = (symbol){id, k - 1, last ? -1 : k + 1};
        }
    }
    if (k > 1) merge_word(en, (size_t)k);
    for (int32_t i = 0; i >= 0; i = en->sym[i].next) emit(en, en->sym[i].id);
}

/* Length of the ASCII string `s` if the text begins with it, else 0. */
static size_t begins(const int32_t *c, size_t n, const char *s)
{
    size_t i = 0;
    while (s[i] && i < n && c[i] == s[i]) i++;
    return s[i] ? 0 : i;
}

/* Step 4. Where the last match ended, the alternatives are tried in their order, so "!'s" becomes "!'" and "s". */
static void split_words(encoder *en, const int32_t *c, size_t n)
{
    static const char *const special[] = {BOS_TEXT, EOS_TEXT};
    static const char *const contraction[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0, len; i < n && en->e->status == SD_OK; i += len) {
        char class = sd_char_class(c[i]);
        len = 1;
        if (class == 'S') continue;
        size_t whole = 0, part = 0;
        for (size_t k = 0; k < SD_COUNT(special) && !whole; k++) whole = begins(c + i, n - i, special[k]);
        for (size_t k = 0; k < SD_COUNT(contraction) && !part; k++) part = begins(c + i, n - i, contraction[k]);
        if (whole) {   /* here it is no added token, and the byte-level step splits it again with GPT-2's expression */
            encode_word(en, c + i, 2);
            encode_word(en, c + i + 2, whole - 4);
            encode_word(en, c + i + whole - 2, 2);
            len = whole;
            continue;
        }
        if (part) len = part;
        else while (class != 'N' && i + len < n && sd_char_class(c[i + len]) == class) len++;   /* numbers singly */
        encode_word(en, c + i, len);
    }
}

/* Steps 1 to 4: cuts out the added tokens of one kind and passes on what is between them. (Two `normalized` tokens that
 * differ only in case are the same after step 2. Here the first one added counts, in the oracle a random one.) */
static void cut_added(encoder *en, const int32_t *c, size_t n, bool normalized)
{
    sd_codes norm = {0};
    size_t begin = 0;
    for (size_t i = 0; i <= n && en->e->status == SD_OK; i++) {
        const added_token *best = NULL;
        for (size_t k = 0; i < n && k < en->t->n_added; k++) {
            const added_token *a = &en->t->added[k];
            if (a->normalized == normalized && a->text.n && a->text.c[0] == c[i] && a->text.n <= n - i &&
                memcmp(a->text.c, c + i, a->text.n * sizeof *c) == 0 && (!best || a->text.n > best->text.n)) best = a;
        }
        if (!best && i < n) continue;
        if (i > begin && normalized) split_words(en, c + begin, i - begin);
        else if (i > begin && sd_normalize(&norm, c + begin, i - begin, en->e)) cut_added(en, norm.c, norm.n, true);
        if (!best) break;
        emit(en, best->id);
        begin = i + best->text.n;
        i = begin - 1;
    }
    free(norm.c);
}

/* ----------------------------------------------------------------------------------- interface */

static sd_status open_as(sd_tokenizer **out, const char *dir, const char *pad, sd_error *e)
{
    dir_files d = {.dir = dir, .pad = pad};
    *out = NULL;
    for (int i = 0; i < N_FILES; i++) {
        if (sd_path_join(d.path[i], sizeof d.path[i], dir, json_names[i], e) != SD_OK) return e->status;
        d.have[i] = (!pad || i == FILE_VOCAB) && sd_is_file(d.path[i]);
    }
    if (sd_path_join(d.merges, sizeof d.merges, dir, "merges.txt", e) != SD_OK) return e->status;
    if (!d.have[FILE_ALL] && !sd_is_file(d.merges))
        return sd_fail(e, SD_ERR_MISSING, "expected merges.txt or tokenizer.json in %s, found neither", dir);
    sd_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return sd_fail(e, SD_ERR_MEMORY, "no memory for a tokenizer");
    t->bos = t->eos = t->pad = t->unk = -1;
    if (read_dir(t, &d, e) != SD_OK) {
        sd_tokenizer_close(t);
        return e->status;
    }
    *out = t;
    return SD_OK;
}

sd_status sd_tokenizer_open(sd_tokenizer **out, const char *dir, sd_error *e) { return open_as(out, dir, NULL, e); }

sd_status sd_tokenizer_open_padded(sd_tokenizer **out, const char *dir, const char *pad, sd_error *e)
{
    return open_as(out, dir, pad, e);
}

void sd_tokenizer_close(sd_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].text.c);
    sd_pieces_free(&t->pieces);
    free(t->rule);
    free(t->chain);
    free(t->added);
    free(t);
}

sd_status sd_tokenizer_encode(const sd_tokenizer *t, const char *text, sd_tokens *out, sd_error *e)
{
    encoder en = {.t = t, .e = e, .out = out};
    sd_codes raw = {0};
    memset(out, 0, sizeof *out);
    if (sd_utf8_decode(&raw, text ? text : "", "the text", e)) cut_added(&en, raw.c, raw.n, false);
    free(raw.c);
    free(en.sym);
    free(en.heap);
    if (e->status != SD_OK) return e->status;
    size_t kept = en.total < SD_TOKENS - 2 ? en.total : SD_TOKENS - 2;
    out->n = (int)kept + 2;
    out->dropped = (int)(en.total - kept);
    out->id[0] = t->bos;
    out->id[kept + 1] = t->eos;
    for (size_t i = kept + 2; i < SD_TOKENS; i++) out->id[i] = t->pad;
    return SD_OK;
}

const char *sd_tokenizer_piece(const sd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->pieces.n ? t->pieces.piece[id].s : NULL;
}
