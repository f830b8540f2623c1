/* weights_pickle.c - floor 3: the stack machine that a pickle is written for [Python's pickletools.py], without what
 * makes pickles dangerous: it never imports, calls or sets anything, see weights_pickle.h.
 *
 * Values are numbers of 16 bytes in one list; the items of lists stand in chunks in another list of 32-bit words:
 * the next chunk or 0, how many items follow, the items. So there is nothing to recurse into, and freeing is two calls.
 * Memory is bounded by what was read of the pickle so far (`room`). */
#include "text.h"
#include "weights_pickle.h"

#include <stdlib.h>
#include <string.h>

/* The first values, made once: most of what a pickle pushes are these, and they take no memory. */
enum { NONE = 1, FALSE_, TRUE_, EMPTY_TUPLE, SMALL, SMALL_END = SMALL + 256 };
#define HELD_BEFORE ((size_t)64 << 10)      /* bytes of memory that every pickle may take, however short it is */
#define HELD_MOST ((size_t)1 << 30)         /* bytes that no pickle may take */

typedef struct list32 { uint32_t *at; size_t n, cap; } list32;

typedef struct machine {
    sd_pickle *p;
    size_t n, from, at, op;   /* end of the data, where the pickle began, next byte, present instruction */
    list32 stack, marks, memo;
    bool stopped;
    const char *what;
    sd_error *e;
} machine;

/* The operand of an instruction. */
typedef struct operand { int64_t i; double f; const char *s; size_t n; const char *s2; size_t n2; } operand;

static bool no(const machine *m, const char *why)
{
    sd_fail(m->e, SD_ERR_FORMAT, "%s: byte %zu of the pickle (instruction 0x%02x): %s", m->what, m->op,
            m->p->data[m->op], why);
    return false;
}

/* ----------------------------------------------------------------------------------------- memory */

static size_t held(const machine *m)
{
    size_t words = m->p->n_words + m->stack.n + m->marks.n + m->memo.n;
    return m->p->n * sizeof(sd_pickled_value) + words * sizeof(uint32_t);
}

/* Makes room for `more` items of `size` bytes in a list. */
static void *room(machine *m, void *list, size_t *cap, size_t n, size_t more, size_t size)
{
    size_t read = m->at - m->from, want = held(m) + more * size;
    if (want > HELD_MOST || want / SD_PICKLE_GROWTH > read + HELD_BEFORE / SD_PICKLE_GROWTH)
        return no(m, "takes more memory than torch's pickles do: refused"), NULL;
    if (n + more <= *cap) return list;
    size_t most = 2 * *cap > n + more ? 2 * *cap : n + more + 64;
    void *grown = realloc(list, most * size);
    if (!grown) sd_fail(m->e, SD_ERR_MEMORY, "%s: no memory to read its pickle", m->what);
    else *cap = most;
    return grown;
}

static bool add32(machine *m, list32 *l, uint32_t v)
{
    uint32_t *at = room(m, l->at, &l->cap, l->n, 1, sizeof *at);
    if (!at) return false;
    l->at = at;
    l->at[l->n++] = v;
    return true;
}

static bool push(machine *m, sd_pickled v) { return add32(m, &m->stack, v); }

/* The new value's number; 0: no memory. */
static sd_pickled new_value(machine *m, sd_pickled_value v)
{
    sd_pickled_value *at = room(m, m->p->value, &m->p->cap, m->p->n, 1, sizeof *at);
    if (!at) return 0;
    m->p->value = at;
    at[m->p->n] = v;
    return (sd_pickled)m->p->n++;
}

static bool push_new(machine *m, sd_pickled_value v)
{
    sd_pickled made = new_value(m, v);
    return made && push(m, made);
}

/* The first of n new words; 0: no memory. */
static uint32_t new_words(machine *m, size_t n)
{
    uint32_t *at = room(m, m->p->word, &m->p->cap_words, m->p->n_words, n, sizeof *at);
    if (!at) return 0;
    m->p->word = at;
    memset(at + m->p->n_words, 0, n * sizeof *at);
    m->p->n_words += n;
    return (uint32_t)(m->p->n_words - n);
}

/* -------------------------------------------------------------------------------- lists of items */

static bool add_items(machine *m, sd_pickled list, const sd_pickled *item, size_t n)
{
    enum { NEXT, COUNT, HEAD };
    sd_pickle *p = m->p;
    uint32_t last = p->value[list].u.list.last;
    if (!n) return true;
    if (n > UINT32_MAX - p->value[list].n) return no(m, "has too many items");
    if (last && last + HEAD + p->word[last + COUNT] == p->n_words) {   /* the chunk is the newest: it can grow */
        if (!new_words(m, n)) return false;
    } else {
        uint32_t chunk = new_words(m, n + HEAD);
        if (!chunk) return false;
        if (last) p->word[last + NEXT] = chunk;
        else p->value[list].u.list.first = chunk;
        p->value[list].u.list.last = last = chunk;
    }
    memcpy(p->word + p->n_words - n, item, n * sizeof *item);
    p->word[last + COUNT] += (uint32_t)n;
    p->value[list].n += (uint32_t)n;
    return true;
}

/* ------------------------------------------------------------------------------------ the stack */

/* Nothing below the last mark may be taken from the stack. */
static bool pop(machine *m, sd_pickled *v)
{
    size_t floor = m->marks.n ? m->marks.at[m->marks.n - 1] : 0;
    if (m->stack.n <= floor) return no(m, "takes more from the stack than there is");
    *v = m->stack.at[--m->stack.n];
    return true;
}

static bool top(machine *m, sd_pickled *v)
{
    if (!pop(m, v)) return false;
    m->stack.n++;
    return true;
}

/* Takes the last mark away. What was pushed since then is stack.at[*from] and on. */
static bool pop_mark(machine *m, size_t *from)
{
    if (!m->marks.n) return no(m, "needs a mark, and there is none");
    *from = m->marks.at[--m->marks.n];
    return true;
}

static sd_pickled_kind kind_of(const machine *m, sd_pickled v) { return sd_pickle_kind(m->p, v); }

/* ------------------------------------------------------------------------------- simple values */

typedef bool instruction(machine *m, const operand *o, int x);

static bool op_refused(machine *m, const operand *o, int x)
{
    (void)o, (void)x;
    return no(m, "is an instruction that torch does not write: refused");
}

static bool op_proto(machine *m, const operand *o, int x)
{
    return o->i <= x || no(m, "is of a newer protocol than 5");
}

static bool op_frame(machine *m, const operand *o, int x)
{
    (void)x;
    return (uint64_t)o->i <= m->n - m->at || no(m, "a frame reaches beyond the file");
}

static bool op_stop(machine *m, const operand *o, int x)
{
    (void)o, (void)x;
    m->stopped = true;
    return pop(m, &m->p->root);
}

static bool op_push(machine *m, const operand *o, int x) { (void)o; return push(m, (sd_pickled)x); }

static bool push_int(machine *m, int64_t i)
{
    if (i >= 0 && i < 256) return push(m, SMALL + (sd_pickled)i);
    return push_new(m, (sd_pickled_value){.kind = SD_PICKLED_INT, .u.i = i});
}

static bool op_int(machine *m, const operand *o, int x) { (void)x; return push_int(m, o->i); }

static bool op_float(machine *m, const operand *o, int x)
{
    (void)x;
    return push_new(m, (sd_pickled_value){.kind = SD_PICKLED_FLOAT, .u.f = o->f});
}

/* Texts, bytes, long integers: x is the kind. */
static sd_pickled_value raw(const machine *m, const char *s, size_t n, int x)
{
    return (sd_pickled_value){.kind = (uint8_t)x, .n = (uint32_t)n, .u.at = (uint64_t)(s - (const char *)m->p->data)};
}

static bool op_raw(machine *m, const operand *o, int x) { return push_new(m, raw(m, o->s, o->n, x)); }

/* Two's complement, little-endian. */
static bool op_long(machine *m, const operand *o, int x)
{
    if (o->n > 8) return op_raw(m, o, x);
    uint64_t v = o->n && (unsigned char)o->s[o->n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = o->n; i-- > 0;) v = v << 8 | (unsigned char)o->s[i];
    int64_t i;
    memcpy(&i, &v, sizeof i);
    return push_int(m, i);
}

/* ---- protocol 0: lines of text */

static bool op_int_line(machine *m, const operand *o, int x)
{
    uint64_t v = 0;
    bool negative = o->n && *o->s == '-';
    size_t i = negative, n = o->n && o->s[o->n - 1] == 'L' ? o->n - 1 : o->n;
    (void)x;
    if (o->n == 2 && o->s[0] == '0' && (o->s[1] == '0' || o->s[1] == '1')) return push(m, FALSE_ + (o->s[1] == '1'));
    if (i == n) return no(m, "no number");
    for (; i < n; i++) {
        if (o->s[i] < '0' || o->s[i] > '9' || v > (uint64_t)INT64_MAX / 10 - 1)
            return no(m, "no number, or one of more than 18 digits");
        v = 10 * v + (uint64_t)(o->s[i] - '0');
    }
    return push_int(m, negative ? -(int64_t)v : (int64_t)v);
}

static bool op_float_line(machine *m, const operand *o, int x)
{
    char text[64];
    double v;
    (void)x;
    if (o->n >= sizeof text) return no(m, "no number");
    memcpy(text, o->s, o->n);
    text[o->n] = '\0';
    if (!sd_number_read(&v, text)) return no(m, "no number");
    return push_new(m, (sd_pickled_value){.kind = SD_PICKLED_FLOAT, .u.f = v});
}

/* Texts of protocol 0 have escapes. Only names without any are worth reading, and torch never wrote others. */
static bool op_text_line(machine *m, const operand *o, int x)
{
    const char *s = o->s;
    size_t n = o->n;
    if (x == '\'') {   /* quoted */
        if (n < 2 || (*s != '\'' && *s != '"') || s[n - 1] != *s) return no(m, "a string without quotes");
        s++, n -= 2;
    }
    if (memchr(s, '\\', n)) return no(m, "a text with escapes, as protocol 0 has them, is not read");
    return push_new(m, raw(m, s, n, SD_PICKLED_TEXT));
}

/* -------------------------------------------------------------------------------- containers */

static sd_pickled new_list(machine *m, int kind) { return new_value(m, (sd_pickled_value){.kind = (uint8_t)kind}); }

static bool op_empty(machine *m, const operand *o, int kind)
{
    (void)o;
    return push_new(m, (sd_pickled_value){.kind = (uint8_t)kind});
}

static bool op_mark(machine *m, const operand *o, int x)
{
    (void)o, (void)x;
    return add32(m, &m->marks, (uint32_t)m->stack.n);
}

/* A new list of what is on the stack from `from` on, in their place. */
static bool gather(machine *m, size_t from, int kind)
{
    sd_pickled list = new_list(m, kind);
    if (!list || !add_items(m, list, m->stack.at + from, m->stack.n - from)) return false;
    m->stack.n = from;
    return push(m, list);
}

static bool op_gather(machine *m, const operand *o, int kind)
{
    size_t from;
    (void)o;
    if (!pop_mark(m, &from)) return false;
    if (kind == SD_PICKLED_DICT && (m->stack.n - from) % 2) return no(m, "a key without a value");
    return gather(m, from, kind);
}

static bool op_tuple(machine *m, const operand *o, int n)
{
    size_t floor = m->marks.n ? m->marks.at[m->marks.n - 1] : 0;
    (void)o;
    if (m->stack.n - floor < (size_t)n) return no(m, "takes more from the stack than there is");
    return gather(m, m->stack.n - (size_t)n, SD_PICKLED_TUPLE);
}

/* The dictionary that an object's items are kept in. */
static sd_pickled pairs_of(machine *m, sd_pickled object)
{
    uint32_t at = m->p->value[object].u.list.first + SD_PICKLED_PAIRS;
    sd_pickled pairs = m->p->word[at] ? m->p->word[at] : new_list(m, SD_PICKLED_DICT);
    m->p->word[at] = pairs;
    return pairs;
}

/* Adds what is on the stack from `from` on to the container before it, which x says what it should be. What is
 * appended to an object is of no use to anyone. */
static bool fill(machine *m, size_t from, int x)
{
    size_t n = m->stack.n - from;
    sd_pickled to;
    m->stack.n = from;
    if (!top(m, &to)) return false;
    if (x == SD_PICKLED_DICT && n % 2) return no(m, "a key without a value");
    if (kind_of(m, to) == SD_PICKLED_OBJECT) {
        if (x != SD_PICKLED_DICT) return true;
        to = pairs_of(m, to);
    }
    if (to && kind_of(m, to) != (sd_pickled_kind)x) return no(m, "adds items to what has none");
    return to && add_items(m, to, m->stack.at + from, n);
}

static bool op_fill(machine *m, const operand *o, int x)
{
    size_t from;
    (void)o;
    return pop_mark(m, &from) && fill(m, from, x);
}

static bool op_add(machine *m, const operand *o, int x)
{
    size_t n = x == SD_PICKLED_DICT ? 2 : 1, floor = m->marks.n ? m->marks.at[m->marks.n - 1] : 0;
    (void)o;
    if (m->stack.n - floor < n + 1) return no(m, "takes more from the stack than there is");
    return fill(m, m->stack.n - n, x);
}

/* ---------------------------------------------------------------------------- stack and memo */

static bool op_pop(machine *m, const operand *o, int x)
{
    sd_pickled v;
    (void)o, (void)x;
    if (m->marks.n && m->marks.at[m->marks.n - 1] == m->stack.n) return m->marks.n--, true;   /* as Python does */
    return pop(m, &v);
}

static bool op_pop_mark(machine *m, const operand *o, int x)
{
    (void)o, (void)x;
    return pop_mark(m, &m->stack.n);
}

static bool op_dup(machine *m, const operand *o, int x)
{
    sd_pickled v;
    (void)o, (void)x;
    return top(m, &v) && push(m, v);
}

/* Writers count memo entries from 0 or 1 on, and each takes a byte at least: a larger number is made up. */
static bool op_put(machine *m, const operand *o, int x)
{
    sd_pickled v;
    (void)x;
    if (!top(m, &v)) return false;
    if (o->i < 0 || (uint64_t)o->i > m->at - m->from) return no(m, "keeps a value under a number that is too large");
    while (m->memo.n <= (uint64_t)o->i)
        if (!add32(m, &m->memo, 0)) return false;
    m->memo.at[o->i] = v;
    return true;
}

static bool op_memoize(machine *m, const operand *o, int x)
{
    sd_pickled v;
    (void)o, (void)x;
    return top(m, &v) && add32(m, &m->memo, v);
}

static bool op_get(machine *m, const operand *o, int x)
{
    (void)x;
    if (o->i < 0 || (uint64_t)o->i >= m->memo.n || !m->memo.at[o->i]) return no(m, "asks for what was never kept");
    return push(m, m->memo.at[o->i]);
}

/* Numbers in text: p1, g1. */
static bool line_number(machine *m, const operand *o, operand *to)
{
    if (!o->n || o->n > 9) return no(m, "no number");
    to->i = 0;
    for (size_t i = 0; i < o->n; i++) {
        if (o->s[i] < '0' || o->s[i] > '9') return no(m, "no number");
        to->i = 10 * to->i + (o->s[i] - '0');
    }
    return true;
}

static bool op_put_line(machine *m, const operand *o, int x)
{
    operand number;
    return line_number(m, o, &number) && op_put(m, &number, x);
}

static bool op_get_line(machine *m, const operand *o, int x)
{
    operand number;
    return line_number(m, o, &number) && op_get(m, &number, x);
}

/* ------------------------------------------------------------------------------ names and calls */

/* A text of the pickle as a C string; false if it is too long or has control characters. */
static bool copy_name(char *to, size_t size, const char *s, size_t n)
{
    if (!s || n >= size) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= 32 || (unsigned char)s[i] > 126) return false;
    memcpy(to, s, n);
    to[n] = '\0';
    return true;
}

/* The value of a name, if it is one that is known. */
static sd_pickled global(machine *m, sd_pickled module, sd_pickled name)
{
    char a[128], b[128];
    size_t na = 0, nb = 0;
    const char *sa = sd_pickle_text(m->p, module, &na), *sb = sd_pickle_text(m->p, name, &nb);
    if (!copy_name(a, sizeof a, sa, na) || !copy_name(b, sizeof b, sb, nb)) {
        no(m, "names something by no plain name: refused");
        return 0;
    }
    uint32_t row = sd_global_find(a, b);
    if (!row) {
        sd_fail(m->e, SD_ERR_UNSUPPORTED, "%s: byte %zu of the pickle names %s.%s, which a model does not need: "
                "the file is refused, and nothing in it was run", m->what, m->op, a, b);
        return 0;
    }
    return new_value(m, (sd_pickled_value){.kind = SD_PICKLED_GLOBAL, .n = row, .u.list = {module, name}});
}

static bool op_global(machine *m, const operand *o, int x)
{
    sd_pickled module = new_value(m, raw(m, o->s, o->n, SD_PICKLED_TEXT));
    sd_pickled name = module ? new_value(m, raw(m, o->s2, o->n2, SD_PICKLED_TEXT)) : 0;
    sd_pickled v = name ? global(m, module, name) : 0;
    (void)x;
    return v && push(m, v);
}

static bool op_stack_global(machine *m, const operand *o, int x)
{
    sd_pickled module, name, v;
    (void)o, (void)x;
    if (!pop(m, &name) || !pop(m, &module)) return false;
    v = global(m, module, name);
    return v && push(m, v);
}

static sd_pickled new_object(machine *m, sd_pickled class, sd_pickled args)
{
    uint32_t at = new_words(m, SD_PICKLED_OBJECT_WORDS);
    if (!at) return 0;
    m->p->word[at + SD_PICKLED_CLASS] = class;
    m->p->word[at + SD_PICKLED_ARGS] = args;
    return new_value(m, (sd_pickled_value){.kind = SD_PICKLED_OBJECT, .u.list.first = at});
}

/* A dictionary of the pairs that OrderedDict was given as a list. */
static sd_pickled new_dict(machine *m, sd_pickled list)
{
    sd_pickled dict = new_list(m, SD_PICKLED_DICT), pair;
    sd_pickle_items i = sd_pickle_begin(m->p, kind_of(m, list) == SD_PICKLED_DICT ? 0 : list);
    while (dict && sd_pickle_next(&i, &pair)) {
        sd_pickled both[2] = {sd_pickle_item(m->p, pair, 0), sd_pickle_item(m->p, pair, 1)};
        if (sd_pickle_count(m->p, pair) != 2) return no(m, "makes a dictionary of what are no pairs"), 0;
        if (!add_items(m, dict, both, 2)) return 0;
    }
    return dict;
}

/* The items of a list, as a set. What comes twice stays twice: nobody counts them. */
static sd_pickled new_set(machine *m, sd_pickled list)
{
    sd_pickled set = new_list(m, SD_PICKLED_SET), item;
    sd_pickle_items i = sd_pickle_begin(m->p, list);
    while (set && sd_pickle_next(&i, &item))
        if (!add_items(m, set, &item, 1)) return 0;
    return set;
}

/* What a call of `what` with a tuple of arguments comes to. */
static sd_pickled call(machine *m, sd_pickled what, sd_pickled args)
{
    if (kind_of(m, what) != SD_PICKLED_GLOBAL) return no(m, "calls something that is no class or function"), 0;
    if (kind_of(m, args) != SD_PICKLED_TUPLE) return no(m, "has arguments that are no tuple"), 0;
    sd_pickled first = sd_pickle_item(m->p, args, 0), third = sd_pickle_item(m->p, args, 2);
    if (sd_pickle_global(m->p, what)->kind == SD_GLOBAL_OF_TYPE && kind_of(m, first) == SD_PICKLED_GLOBAL &&
        kind_of(m, third) == SD_PICKLED_TUPLE) {
        what = first;
        args = third;
        first = sd_pickle_item(m->p, args, 0);
    }
    switch (sd_pickle_global(m->p, what)->kind) {
    case SD_GLOBAL_DICT: return new_dict(m, first);
    case SD_GLOBAL_SET: return new_set(m, first);
    case SD_GLOBAL_FIRST: return first ? first : new_list(m, SD_PICKLED_LIST);
    case SD_GLOBAL_REMADE: return new_object(m, kind_of(m, first) == SD_PICKLED_GLOBAL ? first : what, args);
    default: return new_object(m, what, args);
    }
}

/* REDUCE and NEWOBJ: a class or function and its arguments. x: that many values are above them, and ignored. */
static bool op_call(machine *m, const operand *o, int x)
{
    sd_pickled what, args, made;
    (void)o;
    while (x-- > 0)
        if (!pop(m, &args)) return false;
    if (!pop(m, &args) || !pop(m, &what)) return false;
    made = call(m, what, args);
    return made && push(m, made);
}

/* INST and OBJ of protocols 0 and 1: the arguments stand above a mark, for OBJ with the class before them. */
static bool op_call_mark(machine *m, const operand *o, int x)
{
    size_t from;
    sd_pickled what, args;
    if (!pop_mark(m, &from)) return false;
    if (x && from == m->stack.n) return no(m, "calls nothing");
    if (x) what = m->stack.at[from++];
    else if (!op_global(m, o, 0)) return false;
    else what = m->stack.at[--m->stack.n];
    if (!gather(m, from, SD_PICKLED_TUPLE)) return false;
    args = m->stack.at[--m->stack.n];
    m->stack.n = from - (size_t)x;
    sd_pickled made = call(m, what, args);
    return made && push(m, made);
}

/* An object's state. Of what Python's own containers have beside their items (`_metadata` of a state_dict), and of a
 * tensor's, nothing is needed. */
static bool op_build(machine *m, const operand *o, int x)
{
    sd_pickled state, object;
    (void)o, (void)x;
    if (!pop(m, &state) || !top(m, &object)) return false;
    sd_pickled_kind kind = kind_of(m, object);
    if (kind == SD_PICKLED_OBJECT) m->p->word[m->p->value[object].u.list.first + SD_PICKLED_STATE] = state;
    return kind == SD_PICKLED_OBJECT || kind == SD_PICKLED_DICT || kind == SD_PICKLED_LIST || kind == SD_PICKLED_SET ||
           no(m, "gives a state to something that is no object: refused");
}

/* torch's persistent ids: ("storage", type, key, place, numbers[, view]), and in old files ("module", class, file,
 * source), which means the class. */
static bool op_persistent(machine *m, const operand *o, int x)
{
    sd_pickled id, first, second;
    (void)o, (void)x;
    if (!pop(m, &id)) return false;
    first = sd_pickle_item(m->p, id, 0);
    second = sd_pickle_item(m->p, id, 1);
    if (kind_of(m, id) == SD_PICKLED_TUPLE && kind_of(m, second) == SD_PICKLED_GLOBAL) {
        if (sd_pickle_text_is(m->p, first, "module")) return push(m, second);
        if (sd_pickle_text_is(m->p, first, "storage") && sd_pickle_count(m->p, id) >= 5)
            return push_new(m, (sd_pickled_value){.kind = SD_PICKLED_STORAGE, .u.list.first = id});
    }
    return no(m, "refers to something that is no storage of torch's");
}

/* -------------------------------------------------------------------------------- instructions */

/* Operands: none; a number of 1, 2, 4, 8 bytes (little-endian, I4 signed); a double, big-endian; bytes with their
 * number in 1, 4 or 8 bytes before them; one or two lines. */
enum { NO_OPERAND, U1, U2, I4, U4, U8, F8, B1, B4, B8, LINE, LINES };

static const struct { instruction *run; uint8_t operand, x; } instructions[256] = {
    [0x80] = {op_proto, U1, 5}, [0x95] = {op_frame, U8, 0}, ['.'] = {op_stop, NO_OPERAND, 0},
    ['N'] = {op_push, NO_OPERAND, NONE}, [0x88] = {op_push, NO_OPERAND, TRUE_}, [0x89] = {op_push, NO_OPERAND, FALSE_},
    [')'] = {op_push, NO_OPERAND, EMPTY_TUPLE},
    ['J'] = {op_int, I4, 0}, ['K'] = {op_int, U1, 0}, ['M'] = {op_int, U2, 0}, ['G'] = {op_float, F8, 0},
    [0x8a] = {op_long, B1, SD_PICKLED_LONG}, [0x8b] = {op_long, B4, SD_PICKLED_LONG},
    ['X'] = {op_raw, B4, SD_PICKLED_TEXT}, [0x8c] = {op_raw, B1, SD_PICKLED_TEXT},
    [0x8d] = {op_raw, B8, SD_PICKLED_TEXT}, ['U'] = {op_raw, B1, SD_PICKLED_TEXT},
    ['T'] = {op_raw, B4, SD_PICKLED_TEXT},
    ['C'] = {op_raw, B1, SD_PICKLED_BYTES}, ['B'] = {op_raw, B4, SD_PICKLED_BYTES},
    [0x8e] = {op_raw, B8, SD_PICKLED_BYTES}, [0x96] = {op_raw, B8, SD_PICKLED_BYTES},
    ['I'] = {op_int_line, LINE, 0}, ['L'] = {op_int_line, LINE, 0}, ['F'] = {op_float_line, LINE, 0},
    ['V'] = {op_text_line, LINE, 0}, ['S'] = {op_text_line, LINE, '\''},
    ['('] = {op_mark, NO_OPERAND, 0}, [']'] = {op_empty, NO_OPERAND, SD_PICKLED_LIST},
    ['}'] = {op_empty, NO_OPERAND, SD_PICKLED_DICT}, [0x8f] = {op_empty, NO_OPERAND, SD_PICKLED_SET},
    ['t'] = {op_gather, NO_OPERAND, SD_PICKLED_TUPLE}, ['l'] = {op_gather, NO_OPERAND, SD_PICKLED_LIST},
    ['d'] = {op_gather, NO_OPERAND, SD_PICKLED_DICT}, [0x91] = {op_gather, NO_OPERAND, SD_PICKLED_SET},
    [0x85] = {op_tuple, NO_OPERAND, 1}, [0x86] = {op_tuple, NO_OPERAND, 2}, [0x87] = {op_tuple, NO_OPERAND, 3},
    ['e'] = {op_fill, NO_OPERAND, SD_PICKLED_LIST}, ['u'] = {op_fill, NO_OPERAND, SD_PICKLED_DICT},
    [0x90] = {op_fill, NO_OPERAND, SD_PICKLED_SET},
    ['a'] = {op_add, NO_OPERAND, SD_PICKLED_LIST}, ['s'] = {op_add, NO_OPERAND, SD_PICKLED_DICT},
    ['0'] = {op_pop, NO_OPERAND, 0}, ['1'] = {op_pop_mark, NO_OPERAND, 0}, ['2'] = {op_dup, NO_OPERAND, 0},
    ['q'] = {op_put, U1, 0}, ['r'] = {op_put, U4, 0}, ['p'] = {op_put_line, LINE, 0},
    [0x94] = {op_memoize, NO_OPERAND, 0},
    ['h'] = {op_get, U1, 0}, ['j'] = {op_get, U4, 0}, ['g'] = {op_get_line, LINE, 0},
    ['c'] = {op_global, LINES, 0}, [0x93] = {op_stack_global, NO_OPERAND, 0},
    ['R'] = {op_call, NO_OPERAND, 0}, [0x81] = {op_call, NO_OPERAND, 0}, [0x92] = {op_call, NO_OPERAND, 1},
    ['i'] = {op_call_mark, LINES, 0}, ['o'] = {op_call_mark, NO_OPERAND, 1},
    ['b'] = {op_build, NO_OPERAND, 0}, ['Q'] = {op_persistent, NO_OPERAND, 0},
};

/* The next n bytes. */
static bool take(machine *m, uint64_t n, const char **s)
{
    if (n > m->n - m->at || n > UINT32_MAX) return no(m, "the file ends in the middle of it");
    *s = (const char *)m->p->data + m->at;
    m->at += (size_t)n;
    return true;
}

static bool take_number(machine *m, int bytes, uint64_t *v)
{
    const char *s;
    if (!take(m, (uint64_t)bytes, &s)) return false;
    *v = sd_from_little_endian(s, (size_t)bytes);
    return true;
}

static bool take_line(machine *m, const char **s, size_t *n)
{
    const unsigned char *from = m->p->data + m->at, *end = memchr(from, '\n', m->n - m->at);
    if (!end) return no(m, "the file ends in the middle of it");
    *s = (const char *)from;
    *n = (size_t)(end - from);
    m->at += *n + 1;
    if (*n && (*s)[*n - 1] == '\r') --*n;   /* as Python 2 wrote it on Windows */
    return *n <= UINT32_MAX || no(m, "has too long a line");
}

static bool take_double(machine *m, double *f)
{
    const char *s;
    uint64_t v = 0;
    if (!take(m, 8, &s)) return false;
    for (int i = 0; i < 8; i++) v = v << 8 | (unsigned char)s[i];
    memcpy(f, &v, sizeof *f);
    return true;
}

static bool take_operand(machine *m, int which, operand *o)
{
    static const uint8_t bytes[LINES + 1] = {[U1] = 1, [U2] = 2, [I4] = 4, [U4] = 4, [U8] = 8,
                                             [B1] = 1, [B4] = 4, [B8] = 8};
    uint64_t v = 0;
    if (which == F8) return take_double(m, &o->f);
    if (which == LINE) return take_line(m, &o->s, &o->n);
    if (which == LINES) return take_line(m, &o->s, &o->n) && take_line(m, &o->s2, &o->n2);
    if (bytes[which] && !take_number(m, bytes[which], &v)) return false;
    if (which == B1 || which == B4 || which == B8) return o->n = (size_t)v, take(m, v, &o->s);
    if (which == I4) v = v & 0x80000000u ? v | 0xFFFFFFFF00000000u : v;
    memcpy(&o->i, &v, sizeof o->i);
    return true;
}

static void run(machine *m)
{
    for (size_t count = 0; !m->stopped && !m->e->status; count++) {
        operand o = {0};
        if (count % 65536 == 65535 && sd_fail_if_stopped(m->e)) return;
        if (m->at == m->n) {
            sd_fail(m->e, SD_ERR_FORMAT, "%s is cut short: its pickle has no end", m->what);
            return;
        }
        m->op = m->at++;
        int code = m->p->data[m->op];
        instruction *it = instructions[code].run ? instructions[code].run : op_refused;
        if (take_operand(m, instructions[code].operand, &o)) it(m, &o, instructions[code].x);
    }
}

/* Makes the values that are always there. Word 0 is taken, for a chunk's number 0 means that there is none. The stack
 * gets its first memory, so that its address is never NULL. */
static bool begin(machine *m)
{
    static const uint8_t kinds[] = {SD_PICKLED_NOTHING, SD_PICKLED_NONE, SD_PICKLED_BOOL, SD_PICKLED_BOOL,
                                    SD_PICKLED_TUPLE};
    for (int i = 0; i < SMALL_END && !m->e->status; i++) {
        int64_t number = i >= SMALL ? i - SMALL : i == TRUE_;
        sd_pickled_value v = {.kind = i < SMALL ? kinds[i] : (uint8_t)SD_PICKLED_INT, .u.i = number};
        new_value(m, v);
    }
    if (!m->e->status && new_words(m, 1) == 0) push(m, NONE);
    m->stack.n = 0;
    return !m->e->status;
}

sd_status sd_pickle_read(sd_pickle *p, const void *data, size_t n, size_t from, const char *what, sd_error *e)
{
    machine m = {.p = p, .n = n, .from = from, .at = from, .op = from, .what = what, .e = e};
    *p = (sd_pickle){.data = data};
    if (e->status) return e->status;
    if (from >= n) return sd_fail(e, SD_ERR_FORMAT, "%s is cut short: a pickle should be at byte %zu", what, from);
    if (begin(&m)) run(&m);
    free(m.stack.at);
    free(m.marks.at);
    free(m.memo.at);
    p->end = m.at;
    if (e->status) sd_pickle_free(p);
    return e->status;
}

void sd_pickle_free(sd_pickle *p)
{
    free(p->value);
    free(p->word);
    *p = (sd_pickle){0};
}
