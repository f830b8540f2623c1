/* test_tokenizer.c - ids equal to transformers' CLIPTokenizer for every kind of text and directory; what is refused.
 *
 * tests/golden/tokenizer*.txt hold the oracle's ids; tools/tokenizer_corpus.py makes them, and compares hundreds of
 * thousands of strings more. */
#define _POSIX_C_SOURCE 200809L
#include <unistd.h>

#include "test.h"
#include "../net.h"
#include "../tokenizer_pieces.h"
#include "../unicode.h"
#include "needs.h"

#ifdef SD_WITH_UTF8PROC
#include <utf8proc.h>
#endif

#define MERGES "weights/merges.txt"
#define BOS "<|startoftext|>"
#define EOS "<|endoftext|>"

/* ------------------------------------------------------------------------- directories and files */

static char work[] = "/tmp/sd-tokenizer-XXXXXX", place[128];
static char *merges;
static size_t merges_size;

static const char *const all_files[] = {"merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};

static void empty_dir(void)
{
    for (size_t i = 0; i < SD_COUNT(all_files); i++) {
        snprintf(place, sizeof place, "%s/%s", work, all_files[i]);
        remove(place);
        rmdir(place);
    }
}

static void put(const char *name, const char *content, size_t n)
{
    snprintf(place, sizeof place, "%s/%s", work, name);
    FILE *f = fopen(place, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *name, const char *content) { put(name, content, strlen(content)); }

static sd_tokenizer *open_dir(void)
{
    sd_error e = {0};
    sd_tokenizer *t = NULL;
    if (sd_tokenizer_open(&t, work, &e) != SD_OK) fail_msg("%s (%s)", e.text, e.place);
    return t;
}

#define OBJECT(text, normalized) \
    "{\"content\":\"" text "\",\"lstrip\":false,\"normalized\":" normalized ",\"rstrip\":false,\"single_word\":false}"
#define MAP(pad) "{\"bos_token\":" OBJECT(BOS, "true") ",\"eos_token\":" OBJECT(EOS, "true") \
    ",\"unk_token\":" OBJECT(EOS, "true") ",\"pad_token\":" pad "}"
#define CONFIG_SD1 "{\"model_max_length\":77,\"do_lower_case\":true,\"pad_token\":\"" EOS "\"}"

/* The published kinds of directory: SD 1 pads with EOS, SD 2's special_tokens_map.json says "!". */
static sd_tokenizer *open_style(const char *style)
{
    empty_dir();
    put("merges.txt", merges, merges_size);
    put_text("tokenizer_config.json", CONFIG_SD1);
    put_text("special_tokens_map.json", strcmp(style, "sd1") == 0 ? MAP("\"" EOS "\"") : MAP("\"!\""));
    return open_dir();
}

static sd_tokenizer *open_bare(void)
{
    empty_dir();
    put("merges.txt", merges, merges_size);
    return open_dir();
}

static void encode(const sd_tokenizer *t, const char *text, sd_tokens *out)
{
    sd_error e = {0};
    if (sd_tokenizer_encode(t, text, out, &e) != SD_OK) fail_msg("%s", e.text);
}

/* ---------------------------------------------------------------------------------------- goldens */

typedef struct golden { char style[8]; char *text; int dropped, n; int32_t id[SD_TOKENS]; } golden;
static golden *goldens;
static size_t n_goldens;

static char *unescape(const char *s)   /* \xHH */
{
    char *out = malloc(strlen(s) + 1), *o = out;
    assert_non_null(out);
    for (; *s; s++) {
        unsigned byte = (unsigned char)*s;
        if (*s == '\\') {
            assert_int_equal(sscanf(s, "\\x%2x", &byte), 1);
            s += 3;
        }
        *o++ = (char)byte;
    }
    *o = 0;
    return out;
}

static int read_goldens(UNUSED void **state)
{
    sd_error e = {0};
    char *data;
    size_t n, cap = 1024;
    if (!mkdtemp(work) || sd_read_file(MERGES, (size_t)1 << 24, &merges, &merges_size, &e) != SD_OK) return -1;
    if (sd_read_file("tests/golden/tokenizer.txt", (size_t)1 << 24, &data, &n, &e) != SD_OK) return -1;
    goldens = calloc(cap, sizeof *goldens);
    if (!goldens) return -1;
    for (char *line = data, *end; line < data + n && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (*line == '#') continue;
        assert_true(n_goldens < cap);
        golden *g = &goldens[n_goldens++];
        char *ids = strchr(strchr(line, '\t') + 1, '\t') + 1, *text = strchr(ids, '\t') + 1;
        assert_int_equal(sscanf(line, "%7s\t%d", g->style, &g->dropped), 2);
        for (char *p = ids; p < text - 1; g->n++) {
            assert_true(g->n < SD_TOKENS);
            g->id[g->n] = (int32_t)strtol(p, &p, 10);
        }
        g->text = unescape(text);
    }
    free(data);
    return n_goldens > 300 ? 0 : -1;
}

static int free_goldens(UNUSED void **state)
{
    empty_dir();
    rmdir(work);
    for (size_t i = 0; i < n_goldens; i++) free(goldens[i].text);
    free(goldens);
    free(merges);
    return 0;
}

static bool is_for(const golden *g, const char *style)
{
    return strcmp(g->style, "both") == 0 || strcmp(g->style, style) == 0;
}

static bool is_ascii(const char *s)
{
    while (*s && (unsigned char)*s < 0x80) s++;
    return !*s;
}

static void expect_goldens(const sd_tokenizer *t, const char *style, int32_t pad)
{
    size_t checked = 0;
    for (size_t i = 0; i < n_goldens; i++) {
        const golden *g = &goldens[i];
        sd_tokens k;
        if (!is_for(g, style)) continue;
#ifndef SD_WITH_UTF8PROC
        if (!is_ascii(g->text)) continue;
#endif
        encode(t, g->text, &k);
        bool same = k.n == g->n && k.dropped == g->dropped && memcmp(k.id, g->id, (size_t)g->n * sizeof *k.id) == 0;
        for (int p = k.n; p < SD_TOKENS; p++) same = same && k.id[p] == pad;
        if (!same) fail_msg("golden %zu (%s) differs: %s", i, style, g->text);
        checked++;
    }
    assert_true(checked > 100);
}

TEST(ids_are_those_of_an_sd1_directory)
{
    sd_tokenizer *t = open_style("sd1");
    expect_goldens(t, "sd1", 49407);
    sd_tokenizer_close(t);
}

TEST(ids_are_those_of_an_sd2_directory)
{
    sd_tokenizer *t = open_style("sd2");
    expect_goldens(t, "sd2", 0);
    sd_tokenizer_close(t);
}

/* ------------------------------------------------------------------- the same vocabulary, three ways */

/* Writes {"piece": id, ...} with every character of a piece that JSON or ASCII has no room for escaped. */
static void json_vocab(sd_text *out, const sd_tokenizer *t)
{
    sd_error e = {0};
    sd_codes c = {0};
    const char *piece;
    sd_text_add(out, "{");
    for (int32_t id = 0; (piece = sd_tokenizer_piece(t, id)) != NULL; id++) {
        sd_text_add(out, "%s\"", id ? "," : "");
        assert_true(sd_utf8_decode(&c, piece, "a piece", &e));
        for (size_t i = 0; i < c.n; i++)
            if (c.c[i] == '"' || c.c[i] == '\\' || c.c[i] > 126) sd_text_add(out, "\\u%04x", (unsigned)c.c[i]);
            else sd_text_add(out, "%c", (char)c.c[i]);
        sd_text_add(out, "\":%d", (int)id);
    }
    sd_text_add(out, "}");
    free(c.c);
}

TEST(vocab_json_gives_the_same_ids_as_merges_alone)
{
    sd_text vocab = {0};
    sd_tokenizer *alone = open_style("sd1");
    json_vocab(&vocab, alone);
    put("vocab.json", vocab.s, vocab.n);
    sd_tokenizer *t = open_dir();
    for (int32_t id = -1; id <= 49408; id++) {
        const char *a = sd_tokenizer_piece(alone, id), *b = sd_tokenizer_piece(t, id);
        assert_true(id >= 0 && id < 49408 ? a && b && strcmp(a, b) == 0 : !a && !b);
    }
    expect_goldens(t, "sd1", 49407);
    sd_tokenizer_close(t);
    sd_tokenizer_close(alone);
    free(vocab.s);
}

/* What transformers 5 saves: one file. It wins over vocab.json and merges.txt, here of one byte each. */
TEST(tokenizer_json_gives_the_same_ids)
{
    sd_text json = {0};
    sd_tokenizer *alone = open_style("sd2");
    sd_text_add(&json, "{\"added_tokens\":[{\"id\":0,\"content\":\"!\",\"normalized\":false,\"special\":true},"
                "{\"id\":49406,\"content\":\"" BOS "\",\"normalized\":true,\"special\":true},"
                "{\"id\":49407,\"content\":\"" EOS "\",\"normalized\":true,\"special\":true}],"
                "\"model\":{\"type\":\"BPE\",\"vocab\":");
    json_vocab(&json, alone);
    sd_tokenizer_close(alone);
    sd_text_add(&json, ",\"merges\":[");
    size_t line = 0;
    for (char *p = strchr(merges, '\n') + 1, *end; (end = strchr(p, '\n')) != NULL; p = end + 1, line++) {
        sd_text_add(&json, "%s%s", line ? "," : "", line % 2 ? "[\"" : "\"");   /* both spellings of a merge */
        for (char *c = p; c < end; c++)
            if (*c == ' ' && line % 2) sd_text_add(&json, "\",\"");
            else sd_text_add(&json, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        sd_text_add(&json, line % 2 ? "\"]" : "\"");
    }
    sd_text_add(&json, "]}}");
    assert_false(json.failed);
    empty_dir();
    put("tokenizer.json", json.s, json.n);
    put_text("vocab.json", "x");
    put_text("merges.txt", "x");
    put_text("tokenizer_config.json", "{\"pad_token\":\"!\",\"bos_token\":\"" BOS "\"}");
    sd_tokenizer *t = open_dir();
    expect_goldens(t, "sd2", 0);
    sd_tokenizer_close(t);
    free(json.s);
}

TEST(pieces_are_named_by_their_ids)
{
    sd_tokenizer *t = open_bare();
    const struct { int32_t id; const char *piece; } cases[] = {
        {0, "!"}, {256, "!</w>"}, {320, "a</w>"}, {2368, "cat</w>"}, {188, "\xc4\x80"}, {49406, BOS}, {49407, EOS},
        {-1, NULL}, {49408, NULL},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        const char *piece = sd_tokenizer_piece(t, cases[i].id);
        if (cases[i].piece) assert_string_equal(piece, cases[i].piece);
        else assert_null(piece);
    }
    sd_tokens k;
    encode(t, "a photo of a cat", &k);
    const int32_t want[] = {49406, 320, 1125, 539, 320, 2368, 49407, 49407};   /* MODELS.md 1D */
    assert_memory_equal(k.id, want, sizeof want);
    assert_int_equal(k.n, 7);
    encode(t, NULL, &k);
    assert_int_equal(k.n, 2);
    sd_tokenizer_close(t);
}

/* ---------------------------------------------------------------- pad token and the tokens cut out of texts */

/* Traps 18 and 19, and the rules a to c of tokenizer.c: what each kind of directory makes of pad, "!" and the special
 * words, all measured with transformers 5.23. */
TEST(the_pad_token_is_the_one_transformers_takes)
{
#define DESCRIBED(id, text, normalized) \
    "\"" id "\":{\"content\":\"" text "\",\"normalized\":" normalized ",\"special\":true}"
    const char *const decoder = "{\"pad_token\":\"!\",\"added_tokens_decoder\":{" DESCRIBED("0", "!", "false") ","
                                DESCRIBED("49406", BOS, "true") "," DESCRIBED("49407", EOS, "true") "}}";
    const char *const decoder_eos = "{\"pad_token\":\"" EOS "\",\"added_tokens_decoder\":{"
                                    DESCRIBED("49407", EOS, "false") "}}";
    const char *const typed = "{\"pad_token\":{\"__type\":\"AddedToken\",\"content\":\"!\",\"normalized\":true}}";
    const char *const strings = "{\"bos_token\":\"" BOS "\",\"pad_token\":\"" EOS "\"}";
    const struct { const char *what, *config, *map; int32_t pad, exclamation, upper_bos, upper_eos; } cases[] = {
        /* exclamation: id of "!" in "hi!"; upper_...: first id of "<|STARTOFTEXT|>", "<|ENDOFTEXT|>" ("<" is 27) */
        {"no files", NULL, NULL, 49407, 256, 27, 27},
        {"SD 1 as published", CONFIG_SD1, MAP("\"" EOS "\""), 49407, 256, 49406, 27},
        {"SD 2: the map wins", CONFIG_SD1, MAP("\"!\""), 0, 0, 49406, 49407},
        {"SD 2, object", CONFIG_SD1, MAP(OBJECT("!", "true")), 0, 0, 49406, 49407},
        {"pad in the config alone", "{\"pad_token\":\"!\"}", NULL, 0, 0, 27, 27},
        {"__type object", typed, NULL, 0, 0, 27, 27},
        {"XL 2: the decoder counts", decoder, MAP("\"" EOS "\""), 0, 0, 49406, 49407},
        {"with a decoder the map is not read", decoder_eos, MAP("\"!\""), 49407, 256, 27, 27},
        {"strings are taken literally", NULL, strings, 49407, 256, 27, 27},
        {"all normalized", NULL, MAP(OBJECT(EOS, "true")), 49407, 256, 49406, 49407},
        {"a new token gets the next id", NULL, "{\"pad_token\":\"[PAD]\"}", 49408, 256, 27, 27},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        empty_dir();
        put("merges.txt", merges, merges_size);
        if (cases[i].config) put_text("tokenizer_config.json", cases[i].config);
        if (cases[i].map) put_text("special_tokens_map.json", cases[i].map);
        sd_tokenizer *t = open_dir();
        sd_tokens hi, bos, eos;
        encode(t, "hi!", &hi);
        encode(t, "<|STARTOFTEXT|>", &bos);
        encode(t, "<|ENDOFTEXT|>", &eos);
        const int32_t pad = cases[i].pad;
        const int32_t got[] = {hi.id[4], hi.id[76], hi.id[2], bos.id[1], eos.id[1], hi.n};
        const int32_t want[] = {pad, pad, cases[i].exclamation, cases[i].upper_bos, cases[i].upper_eos, 4};
        for (size_t k = 0; k < SD_COUNT(want); k++)
            if (got[k] != want[k]) fail_msg("%s, value %zu: %d, not %d", cases[i].what, k, (int)got[k], (int)want[k]);
        sd_tokenizer_close(t);
    }
}

/* The vocabulary of transformers' own CLIP test, which lacks most bytes: they are unknown tokens. */
TEST(small_vocabularies_have_unknown_tokens)
{
    const char *const vocab =
        "{\"l\":0,\"o\":1,\"w\":2,\"e\":3,\"r\":4,\"s\":5,\"t\":6,\"i\":7,\"d\":8,\"n\":9,\"lo\":10,\"l</w>\":11,"
        "\"w</w>\":12,\"r</w>\":13,\"t</w>\":14,\"low</w>\":15,\"er</w>\":16,\"lowest</w>\":17,\"newer</w>\":18,"
        "\"wider\":19,\"<unk>\":20,\"" BOS "\":21,\"" EOS "\":22}";
    empty_dir();
    put_text("vocab.json", vocab);
    put_text("merges.txt", "#version: 0.2\nl o\nlo w</w>\ne r</w>\n");
    put_text("special_tokens_map.json", "{\"unk_token\":\"<unk>\",\"pad_token\":\"w\"}");
    sd_tokenizer *t = open_dir();
    sd_tokens k;
    /* the pad token "w" is cut out of words */
    const int32_t want[] = {21, 0, 20, 2, 16, 9, 20, 2, 16, 22, 2}, upper[] = {21, 15, 2, 15, 22, 2};
    encode(t, "lower newer", &k);
    assert_memory_equal(k.id, want, sizeof want);
    encode(t, "LOW wLOW", &k);
    assert_memory_equal(k.id, upper, sizeof upper);
    sd_tokenizer_close(t);

    put_text("special_tokens_map.json", "{\"unk_token\":\"<none>\"}");
    t = open_dir();
    sd_error e = {0};
    assert_int_equal(sd_tokenizer_encode(t, "x", &k, &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "0x78"));
    sd_tokenizer_close(t);
}

/* Trap 28: diffusers truncates. A1111 would go on with a second window of 75. */
TEST(long_prompts_are_truncated_and_counted)
{
    sd_tokenizer *t = open_bare();
    const int counts[] = {0, 1, 74, 75, 76, 77, 10000};
    for (size_t i = 0; i < SD_COUNT(counts); i++) {
        int kept = counts[i] < 75 ? counts[i] : 75;
        sd_text text = {0};
        sd_tokens k;
        for (int w = 0; w < counts[i]; w++) sd_text_add(&text, "cat ");
        encode(t, text.s ? text.s : "", &k);
        free(text.s);
        assert_int_equal(k.n, kept + 2);
        assert_int_equal(k.dropped, counts[i] - kept);
        assert_int_equal(k.id[0], 49406);
        for (int p = 1; p < SD_TOKENS; p++) assert_int_equal(k.id[p], p <= kept ? 2368 : 49407);
    }
    sd_tokenizer_close(t);
}

/* Numbers of pieces from the oracle. With a search through the word for each merge, these would take hours. */
TEST(a_word_of_a_million_bytes_takes_a_second)
{
    const struct { const char *first, *again; int times, dropped; } cases[] = {
        {"", "a", 1000000, 124926}, {"", "cat", 300000, 299925}, {"", EOS, 20000, 19925},
#ifdef SD_WITH_UTF8PROC
        {"a", "\xcd\x85\xcc\x81\xcc\xa3\xcc\xb4", 50000, 399926},   /* marks of classes 240, 230, 220, 1 */
        {"", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", 50000, 99925}, /* Hangul to be composed */
#endif
    };
    sd_tokenizer *t = open_bare();
    double begin = sd_now();
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_text text = {0};
        sd_tokens k;
        sd_text_add(&text, "%s", cases[i].first);
        for (int r = 0; r < cases[i].times; r++) sd_text_addn(&text, cases[i].again, strlen(cases[i].again));
        assert_false(text.failed);
        encode(t, text.s, &k);
        free(text.s);
        assert_int_equal(k.dropped, cases[i].dropped);
    }
    assert_true(sd_now() - begin < 60);   /* 1 s; leaves room for sanitizers on a busy machine */
    sd_tokenizer_close(t);
}

/* -------------------------------------------------------------------------------------- characters */

TEST(every_code_point_gives_the_ids_of_the_oracle)
{
    FILE *f = fopen("tests/golden/tokenizer_sweep.txt", "r");
    char line[256];
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    sd_tokenizer *t = open_bare();
    for (int32_t begin = 0; begin < 0x110000; begin += 4096) {
        uint64_t h = 0xcbf29ce484222325u;
        for (int32_t c = begin; c < begin + 4096; c++) {
            unsigned char utf8[4];
            char text[64];
            sd_tokens k;
            if (!c || (c >= 0xd800 && c < 0xe000)) continue;
            int len = (int)sd_utf8_encode(utf8, c);
            /* class and lower case, composition with a mark below, order after a mark of the highest class */
            const char *x = (const char *)utf8;
            snprintf(text, sizeof text, "A%.*s\xcc\xa3 1e\xcd\x85%.*sb", len, x, len, x);
            encode(t, text, &k);
            for (int i = 0; i < k.n; i++) h = (h ^ (uint64_t)k.id[i]) * 0x100000001b3u;
        }
        assert_non_null(fgets(line, sizeof line, f));
        if (strtoull(line, NULL, 16) != h) fail_msg("ids differ in the 4096 from U+%04X on", (unsigned)begin);
    }
    fclose(f);
    sd_tokenizer_close(t);
}

TEST(invalid_utf8_is_refused_and_the_byte_named)
{
    const struct { const char *text, *says; } cases[] = {
        {"\x80", "byte 0, 0x80, cannot begin a character"},
        {"ab\xbf", "byte 2, 0xbf, cannot begin a character"},
        {"\xff", "byte 0, 0xff, cannot begin a character"},
        {"\xf8\x88\x80\x80\x80", "byte 0, 0xf8, cannot begin a character"},
        {"a\xc3", "byte 1, 0xc3, begins a character that is cut short"},
        {"a\xc3(", "byte 1, 0xc3, begins a character that is cut short"},
        {"\xe2\x82", "byte 0, 0xe2, begins a character that is cut short"},
        {"\xe2\x82\xc3\xa9", "byte 0, 0xe2, begins a character that is cut short"},
        {"\xf0\x9f\x98 ", "byte 0, 0xf0, begins a character that is cut short"},
        {"x\xc0\xaf", "byte 1, 0xc0, begins a character in a longer form"},
        {"\xc1\xbf", "byte 0, 0xc1, begins a character in a longer form"},
        {"\xe0\x9f\xbf", "byte 0, 0xe0, begins a character in a longer form"},
        {"\xf0\x8f\xbf\xbf", "byte 0, 0xf0, begins a character in a longer form"},
        {"cat \xed\xa0\x80", "byte 4, 0xed, begins a surrogate"},
        {"\xed\xbf\xbf", "byte 0, 0xed, begins a surrogate"},
        {"\xf4\x90\x80\x80", "byte 0, 0xf4, begins a number above U+10FFFF"},
        {"\xf7\xbf\xbf\xbf", "byte 0, 0xf7, begins a number above U+10FFFF"},
    };
    sd_tokenizer *t = open_bare();
    sd_tokens k;
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {0};
        assert_int_equal(sd_tokenizer_encode(t, cases[i].text, &k, &e), SD_ERR_ARG);
        if (!strstr(e.text, cases[i].says)) fail_msg("case %zu: %s", i, e.text);
    }
    sd_error e = {0};
    const char *const valid = "\x7f \xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf "
                              "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf";
#ifdef SD_WITH_UTF8PROC
    assert_int_equal(sd_tokenizer_encode(t, valid, &k, &e), SD_OK);
#else
    assert_int_equal(sd_tokenizer_encode(t, valid, &k, &e), SD_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "U+0080 at byte 2"));
#endif
    sd_tokenizer_close(t);
}

/* -------------------------------------------------------------------------------------- wrong twins
 * The tokenizer once more, in the plainest way, with the known mistakes to choose from. Without a mistake it gives the
 * golden ids; with any, it must not, or the goldens could not tell. */

enum mistake { NONE, ASCII_LOWER, FINAL_SIGMA, BYTE_CLASSES, NO_NFC, NUMBERS_JOINED, NO_CONTRACTIONS, N_MISTAKES };

#ifdef SD_WITH_UTF8PROC
static struct ranked { char *text; int rank; } *ranked;   /* "left right" and its place in merges.txt, sorted by text */
static int n_rules;
static struct named { const char *text; int32_t id; } *pieces;   /* sorted by text */

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void twin_open(const sd_tokenizer *t)
{
    ranked = malloc(50000 * sizeof *ranked);
    pieces = malloc(49408 * sizeof *pieces);
    assert_true(ranked && pieces);
    char *p = strchr(merges, '\n') + 1;
    for (n_rules = 0; *p; n_rules++) {
        size_t len = strcspn(p, "\n");
        ranked[n_rules].text = calloc(len + 1, 1);
        assert_non_null(ranked[n_rules].text);
        memcpy(ranked[n_rules].text, p, len);
        ranked[n_rules].rank = n_rules;
        p += len + 1;
    }
    qsort(ranked, (size_t)n_rules, sizeof *ranked, by_text);   /* the text comes first in both structs */
    for (int32_t i = 0; i < 49408; i++) pieces[i] = (struct named){sd_tokenizer_piece(t, i), i};
    qsort(pieces, 49408, sizeof *pieces, by_text);
}

static void twin_close(void)
{
    for (int i = 0; i < n_rules; i++) free(ranked[i].text);
    free(ranked);
    free(pieces);
}

static int rank_of(const char *left, const char *right)
{
    char both[512];
    snprintf(both, sizeof both, "%.250s %.250s", left, right);
    const char *key = both;
    const struct ranked *r = bsearch(&key, ranked, (size_t)n_rules, sizeof *ranked, by_text);
    return r ? r->rank : n_rules;
}

typedef struct twin_out { int32_t id[2048]; size_t n; } twin_out;

static void twin_word(twin_out *out, const int32_t *c, size_t n)
{
    static char part[2048][256];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char utf8[4];
        size_t len = sd_utf8_encode(utf8, c[i]);
        for (size_t j = 0; j < len; j++, k++) {
            int b = utf8[j], others = 0;
            bool printable = (b > 32 && b < 127) || (b > 160 && b != 173);
            for (int x = 0; x < b; x++) others += !((x > 32 && x < 127) || (x > 160 && x != 173));
            unsigned char written[4];
            size_t w = sd_utf8_encode(written, printable ? b : 256 + others);
            assert_true(k < SD_COUNT(part));
            bool last = i + 1 == n && j + 1 == len;
            snprintf(part[k], sizeof part[k], "%.*s%s", (int)w, (const char *)written, last ? "</w>" : "");
        }
    }
    for (;;) {
        size_t best = 0;
        int least = n_rules;
        for (size_t i = 0; i + 1 < k; i++) {
            int r = rank_of(part[i], part[i + 1]);
            if (r < least) {
                least = r;
                best = i;
            }
        }
        if (least == n_rules) break;
        size_t have = strlen(part[best]);
        memcpy(part[best] + have, part[best + 1], strlen(part[best + 1]) + 1);   /* no piece has more than 64 bytes */
        memmove(part[best + 1], part[best + 2], (k - best - 2) * sizeof *part);
        k--;
    }
    for (size_t i = 0; i < k; i++) {
        const char *key = part[i];
        const struct named *x = bsearch(&key, pieces, 49408, sizeof *pieces, by_text);
        assert_true(x && out->n < SD_COUNT(out->id));
        out->id[out->n++] = x->id;
    }
}

static char twin_class(int32_t c, enum mistake m)
{
    return m == BYTE_CLASSES && c > 127 ? 'O' : sd_char_class(c);   /* the C library's isalpha, byte by byte */
}

/* Normalised characters of a text, with one mistake. */
static void twin_normalize(sd_codes *out, const char *text, enum mistake m)
{
    sd_error e = {0};
    sd_codes raw = {0};
    if (m == ASCII_LOWER || m == NO_NFC) {
        utf8proc_uint8_t *composed = m == NO_NFC ? NULL : utf8proc_NFC((const utf8proc_uint8_t *)text);
        assert_true(sd_utf8_decode(out, composed ? (const char *)composed : text, "a text", &e));
        free(composed);
        for (size_t i = 0; i < out->n; i++)
            if (m == NO_NFC || out->c[i] < 128) out->c[i] = utf8proc_tolower(out->c[i]);
        return;
    }
    assert_true(sd_utf8_decode(&raw, text, "a text", &e) && sd_normalize(out, raw.c, raw.n, &e));
    free(raw.c);
    for (size_t i = 1; m == FINAL_SIGMA && i < out->n; i++) {   /* str.lower() of Python */
        bool last = i + 1 == out->n || sd_char_class(out->c[i + 1]) != 'L';
        if (out->c[i] == 0x3c3 && sd_char_class(out->c[i - 1]) == 'L' && last) out->c[i] = 0x3c2;
    }
}

static void twin_encode(twin_out *out, const char *text, enum mistake m)
{
    static const char *const contraction[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    sd_codes c = {0};
    out->n = 0;
    twin_normalize(&c, text, m);
    for (size_t i = 0, len; i < c.n; i += len) {
        char class = twin_class(c.c[i], m);
        len = 1;
        if (class == 'S') continue;
        for (size_t k = 0; k < SD_COUNT(contraction) && len == 1 && m != NO_CONTRACTIONS; k++) {
            size_t n = strlen(contraction[k]), same = 0;
            while (same < n && i + same < c.n && c.c[i + same] == contraction[k][same]) same++;
            if (same == n) len = n;
        }
        if (len == 1 && (class != 'N' || m == NUMBERS_JOINED))
            while (i + len < c.n && twin_class(c.c[i + len], m) == class) len++;
        twin_word(out, c.c + i, len);
    }
    free(c.c);
}

TEST(known_mistakes_are_seen_by_the_goldens)
{
    static const char *const name[N_MISTAKES] = {"none", "ASCII lower case", "final sigma", "byte-wise classes",
                                                 "no NFC", "numbers joined", "no contractions"};
    sd_tokenizer *t = open_bare();
    twin_open(t);
    for (int m = NONE; m < N_MISTAKES; m++) {
        size_t differ = 0, of = 0;
        for (size_t i = 0; i < n_goldens; i++) {
            const golden *g = &goldens[i];
            if (!is_for(g, "sd1") || g->dropped || strstr(g->text, "<|")) continue;   /* it knows no special tokens */
            twin_out out;
            twin_encode(&out, g->text, (enum mistake)m);
            of++;
            differ += out.n + 2 != (size_t)g->n || memcmp(out.id, g->id + 1, out.n * sizeof *out.id) != 0;
        }
        printf("    %-18s %3zu of %zu strings differ\n", name[m], differ, of);
        if (m == NONE ? differ != 0 : differ == 0) fail_msg("%s: %zu of %zu differ", name[m], differ, of);
    }
    twin_close();
    sd_tokenizer_close(t);
}
#endif

/* Traps 18 and 19: the other family's pad token gives other ids. */
TEST(the_other_familys_pad_is_seen_by_the_goldens)
{
    sd_tokenizer *t = open_style("sd1");
    size_t differ = 0;
    for (size_t i = 0; i < n_goldens; i++) {
        sd_tokens k;
        if (strcmp(goldens[i].style, "sd2") != 0 || !is_ascii(goldens[i].text)) continue;
        encode(t, goldens[i].text, &k);
        differ += k.n != goldens[i].n || memcmp(k.id, goldens[i].id, sizeof *k.id * (size_t)k.n) != 0;
    }
    assert_true(differ > 5);
    sd_tokenizer_close(t);
}

/* ------------------------------------------------------------------------------------ what is refused */

TEST(garbage_files_are_refused_with_a_sentence)
{
#define V "vocab.json"
#define M "merges.txt"
#define P "special_tokens_map.json"
#define C "tokenizer_config.json"
#define J "tokenizer.json"
    const struct { const char *name, *content; sd_status status; const char *says; } cases[] = {
        {M, "#version: 0.2\ni n\nth\n", SD_ERR_FORMAT, "line 3: expected two symbols"},
        {M, "i n\nt h e\n", SD_ERR_FORMAT, "line 2: expected two symbols"},
        {M, "i n\n\nt h\n", SD_ERR_FORMAT, "line 2: expected two symbols"},
        {M, "i  n\n", SD_ERR_FORMAT, "line 1: expected two symbols"},
        {M, "i \n", SD_ERR_FORMAT, "line 1: expected two symbols"},
        {M, "i n\nqq z\n", SD_ERR_FORMAT, "merge 2 makes 'qqz'"},
        {M, "\x7f" "ELF\x02\x01", SD_ERR_FORMAT, "line 1: expected two symbols"},
        {M, NULL, SD_ERR_MISSING, "found neither"},
        {V, "", SD_ERR_FORMAT, "vocab.json is not JSON"},
        {V, "{\"a\":0,", SD_ERR_FORMAT, "vocab.json is not JSON from byte 7"},
        {V, "{\"a\":0} x", SD_ERR_FORMAT, "vocab.json is not JSON"},
        {V, "[1,2]", SD_ERR_FORMAT, "expected a JSON object"},
        {V, "{}", SD_ERR_FORMAT, "the vocabulary is empty"},
        {V, "{\"a\":-1}", SD_ERR_FORMAT, "expected an id from 0 to"},
        {V, "{\"a\":0.5}", SD_ERR_FORMAT, "expected an id from 0 to"},
        {V, "{\"a\":1e300}", SD_ERR_FORMAT, "expected an id from 0 to"},
        {V, "{\"a\":2000000000}", SD_ERR_FORMAT, "expected an id from 0 to"},
        {V, "{\"a\":\"0\"}", SD_ERR_FORMAT, "expected an id from 0 to"},
        {V, "{\"a\":0,\"b\":0}", SD_ERR_FORMAT, "the id 0 belongs to 'a' and to 'b'"},
        {V, "{\"a\":0}", SD_ERR_FORMAT, "not all in the vocabulary"},
        {P, "{\"pad_token\":", SD_ERR_FORMAT, "special_tokens_map.json is not JSON"},
        {P, "{\"pad_token\":7}", SD_ERR_FORMAT, "a special token is neither"},
        {P, "{\"pad_token\":{\"text\":\"!\"}}", SD_ERR_FORMAT, "a special token is neither"},
        {P, "{\"pad_token\":\"\"}", SD_ERR_FORMAT, "a special token is empty"},
        {P, "{\"pad_token\":{\"content\":\"!\",\"lstrip\":true}}", SD_ERR_UNSUPPORTED, "asks for lstrip"},
        {P, "{\"pad_token\":\"\xff\"}", SD_ERR_FORMAT, "a byte that is not UTF-8"},
        {C, "{\"model_max_length\":16}", SD_ERR_UNSUPPORTED, "expected a model_max_length of 77, found 16"},
        {C, "{\"added_tokens_decoder\":{\"0\":1}}", SD_ERR_FORMAT, "a special token is neither"},
        {C, "{\"extra_special_tokens\":{\"image\":\"<i>\"}}", SD_ERR_UNSUPPORTED, "expected a list"},
        {J, "{\"model\":{\"type\":\"Unigram\"}}", SD_ERR_UNSUPPORTED, "expected a model of type BPE"},
        {J, "{}", SD_ERR_FORMAT, "expected an object of pieces"},
        {J, "{\"model\":{\"vocab\":{\"a\":0}}}", SD_ERR_FORMAT, "expected a list model.merges"},
        {J, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[3]}}", SD_ERR_FORMAT, "expected two symbols in merge 1"},
        {J, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", SD_ERR_FORMAT, "expected two symbols in merge 1"},
        {J, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", SD_ERR_FORMAT, "not all in the vocabulary"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        empty_dir();
        put(M, merges, merges_size);
        snprintf(place, sizeof place, "%s/%s", work, cases[i].name);
        if (cases[i].content) put_text(cases[i].name, cases[i].content);
        else remove(place);
        sd_error e = {0};
        sd_tokenizer *t = (sd_tokenizer *)work;
        sd_status status = sd_tokenizer_open(&t, work, &e);
        if (status != cases[i].status || t || !strstr(e.text, cases[i].says)) fail_msg("case %zu: %s", i, e.text);
    }
    sd_error e = {0};
    sd_tokenizer *t;
    empty_dir();
    put(M, "a\0b c\n", 6);
    assert_int_equal(sd_tokenizer_open(&t, work, &e), SD_ERR_FORMAT);
    sd_error_clear(&e);
    assert_int_equal(sd_tokenizer_open(&t, "/nonexistent", &e), SD_ERR_MISSING);
}

/* A piece is looked for where the caller expects it, and found wherever it is; the slots beyond the last id, too. */
TEST(a_piece_that_is_not_where_it_is_expected_is_found)
{
    static const struct { const char *text; int32_t likely, id; } cases[] = {
        {"an", 0, 0}, {"an", 1, 0}, {"an", 2, 0}, {"an", -1, 0}, {"an", 1000000, 0}, {"ant", 0, 3}, {"antelopes", 3, 1},
        {"antelopes", 1, 1}, {"antelope", 1, -1}, {"a", 0, -1}, {"", 2, -1}};
    sd_error e = {0};
    sd_pieces p = {0};
    assert_int_equal(sd_pieces_put(&p, "an", 2, 0, "here", &e), SD_OK);
    assert_int_equal(sd_pieces_put(&p, "antelopes", 9, 1, "here", &e), SD_OK);
    assert_int_equal(sd_pieces_put(&p, "ant", 3, 3, "here", &e), SD_OK);   /* 2 is nobody's */
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        int32_t id = sd_pieces_find_at(&p, cases[i].text, strlen(cases[i].text), cases[i].likely);
        if (id != cases[i].id) fail_msg("%s, perhaps %d: %d", cases[i].text, (int)cases[i].likely, (int)id);
    }
    sd_pieces_free(&p);
}

/* As in a Python dict. Pieces share chains in the order of their coming; with so many, most chains have several. */
TEST(of_equal_pieces_the_later_one_counts_and_each_is_found_among_many)
{
    enum { MANY = 200000 };
    char text[16];
    sd_error e = {0};
    sd_pieces p = {0};
    for (int i = 0; i < MANY; i++) {
        int n = snprintf(text, sizeof text, "p%d", i % (MANY / 2) * 7919);
        assert_int_equal(sd_pieces_put(&p, text, (size_t)n, i, "here", &e), SD_OK);
    }
    for (int i = 0; i < MANY / 2; i++) {
        int n = snprintf(text, sizeof text, "p%d", i * 7919);
        assert_int_equal(sd_pieces_find(&p, text, (size_t)n), i + MANY / 2);
        assert_int_equal(sd_pieces_find_at(&p, text, (size_t)n, i), i);
        assert_string_equal(p.piece[i].s, text);
    }
    sd_pieces_free(&p);
}

/* A rule that comes twice has its later rank: "b c" comes before the second "a b". */
TEST(of_equal_rules_the_later_one_counts)
{
    static const char vocab[] = "{\"a\":0,\"b\":1,\"c</w>\":2,\"ab\":3,\"bc</w>\":4,\"" BOS "\":5,\"" EOS "\":6}";
    static const struct { const char *merges; int32_t first, second; } cases[] = {
        {"a b\nb c</w>\n", 3, 2}, {"a b\nb c</w>\na b\n", 0, 4}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_tokens k;
        empty_dir();
        put_text("vocab.json", vocab);
        put_text("merges.txt", cases[i].merges);
        sd_tokenizer *t = open_dir();
        encode(t, "abc", &k);
        assert_int_equal(k.id[1], cases[i].first);
        assert_int_equal(k.id[2], cases[i].second);
        sd_tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_an_sd1_directory),
        cmocka_unit_test(ids_are_those_of_an_sd2_directory),
        unit_test_needing(NEED_UNICODE, vocab_json_gives_the_same_ids_as_merges_alone),
        unit_test_needing(NEED_UNICODE, tokenizer_json_gives_the_same_ids),
        cmocka_unit_test(pieces_are_named_by_their_ids),
        cmocka_unit_test(the_pad_token_is_the_one_transformers_takes),
        cmocka_unit_test(small_vocabularies_have_unknown_tokens),
        cmocka_unit_test(long_prompts_are_truncated_and_counted),
        cmocka_unit_test(a_word_of_a_million_bytes_takes_a_second),
        unit_test_needing(NEED_UNICODE, every_code_point_gives_the_ids_of_the_oracle),
        cmocka_unit_test(invalid_utf8_is_refused_and_the_byte_named),
#ifdef SD_WITH_UTF8PROC
        cmocka_unit_test(known_mistakes_are_seen_by_the_goldens),
#else
        unit_test_lacking(NEED_UNICODE, known_mistakes_are_seen_by_the_goldens),
#endif
        cmocka_unit_test(the_other_familys_pad_is_seen_by_the_goldens),
        cmocka_unit_test(a_piece_that_is_not_where_it_is_expected_is_found),
        cmocka_unit_test(of_equal_pieces_the_later_one_counts_and_each_is_found_among_many),
        cmocka_unit_test(of_equal_rules_the_later_one_counts),
        cmocka_unit_test(garbage_files_are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, read_goldens, free_goldens);
}
