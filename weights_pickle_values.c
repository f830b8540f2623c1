/* weights_pickle_values.c - floor 3: looking at the values that a pickle left: what they are, what is in them. */
#include "weights_pickle.h"

#include <string.h>

sd_pickled_kind sd_pickle_kind(const sd_pickle *p, sd_pickled v)
{
    return v < p->n ? (sd_pickled_kind)p->value[v].kind : SD_PICKLED_NOTHING;
}

bool sd_pickle_int(const sd_pickle *p, sd_pickled v, int64_t *i)
{
    if (sd_pickle_kind(p, v) != SD_PICKLED_INT) return false;
    *i = p->value[v].u.i;
    return true;
}

const char *sd_pickle_text(const sd_pickle *p, sd_pickled v, size_t *n)
{
    sd_pickled_kind kind = sd_pickle_kind(p, v);
    if (kind != SD_PICKLED_TEXT && kind != SD_PICKLED_BYTES && kind != SD_PICKLED_LONG) return NULL;
    *n = p->value[v].n;
    return (const char *)p->data + p->value[v].u.at;
}

bool sd_pickle_text_is(const sd_pickle *p, sd_pickled v, const char *text)
{
    size_t n = 0;
    const char *s = sd_pickle_kind(p, v) == SD_PICKLED_TEXT ? sd_pickle_text(p, v, &n) : NULL;
    return s && n == strlen(text) && memcmp(s, text, n) == 0;
}

/* ------------------------------------------------------------------------------------ containers */

sd_pickle_items sd_pickle_begin(const sd_pickle *p, sd_pickled v)
{
    sd_pickled_kind kind = sd_pickle_kind(p, v);
    if (kind == SD_PICKLED_STORAGE) return sd_pickle_begin(p, p->value[v].u.list.first);
    bool has = kind >= SD_PICKLED_TUPLE && kind <= SD_PICKLED_DICT;
    return (sd_pickle_items){p, has ? p->value[v].u.list.first : 0, 0};
}

bool sd_pickle_next(sd_pickle_items *at, sd_pickled *item)
{
    const uint32_t *word = at->p->word;
    if (at->chunk && at->i == word[at->chunk + 1]) {
        at->chunk = word[at->chunk];
        at->i = 0;
    }
    if (!at->chunk) return false;
    *item = word[at->chunk + 2 + at->i++];
    return true;
}

size_t sd_pickle_count(const sd_pickle *p, sd_pickled v)
{
    sd_pickled_kind kind = sd_pickle_kind(p, v);
    if (kind == SD_PICKLED_STORAGE) return sd_pickle_count(p, p->value[v].u.list.first);
    return kind >= SD_PICKLED_TUPLE && kind <= SD_PICKLED_DICT ? p->value[v].n : 0;
}

sd_pickled sd_pickle_item(const sd_pickle *p, sd_pickled v, size_t i)
{
    sd_pickled item = 0;
    sd_pickle_items at = sd_pickle_begin(p, v);
    while (sd_pickle_next(&at, &item))
        if (i-- == 0) return item;
    return 0;
}

sd_pickled sd_pickle_get(const sd_pickle *p, sd_pickled dict, const char *key)
{
    sd_pickled k, v, found = 0;
    if (sd_pickle_kind(p, dict) != SD_PICKLED_DICT) return 0;
    sd_pickle_items at = sd_pickle_begin(p, dict);
    while (sd_pickle_next(&at, &k) && sd_pickle_next(&at, &v))
        if (sd_pickle_text_is(p, k, key)) found = v;
    return found;
}

static sd_pickled member(const sd_pickle *p, sd_pickled v, int which)
{
    return sd_pickle_kind(p, v) == SD_PICKLED_OBJECT ? p->word[p->value[v].u.list.first + (uint32_t)which] : 0;
}

static sd_pickled class_of(const sd_pickle *p, sd_pickled v) { return member(p, v, SD_PICKLED_CLASS); }
sd_pickled sd_pickle_args(const sd_pickle *p, sd_pickled v) { return member(p, v, SD_PICKLED_ARGS); }
sd_pickled sd_pickle_state(const sd_pickle *p, sd_pickled v) { return member(p, v, SD_PICKLED_STATE); }
sd_pickled sd_pickle_pairs(const sd_pickle *p, sd_pickled v) { return member(p, v, SD_PICKLED_PAIRS); }

const sd_global *sd_pickle_global(const sd_pickle *p, sd_pickled v)
{
    if (sd_pickle_kind(p, v) == SD_PICKLED_OBJECT) v = class_of(p, v);
    return sd_pickle_kind(p, v) == SD_PICKLED_GLOBAL ? sd_global_at(p->value[v].n) : NULL;
}

void sd_pickle_name(const sd_pickle *p, sd_pickled v, char *out, size_t size)
{
    size_t m = 0, n = 0;
    if (sd_pickle_kind(p, v) == SD_PICKLED_OBJECT) v = class_of(p, v);
    bool named = sd_pickle_kind(p, v) == SD_PICKLED_GLOBAL;
    const char *module = named ? sd_pickle_text(p, p->value[v].u.list.first, &m) : NULL;
    const char *name = named ? sd_pickle_text(p, p->value[v].u.list.last, &n) : NULL;
    if (name) snprintf(out, size, "%.*s.%.*s", (int)m, module, (int)n, name);   /* each is shorter than 128 bytes */
    else snprintf(out, size, "something without a name");
}
