/* model_hints.c - floor 6: what the name of a file says of a model that draws in few steps.
 *
 * Such models have the shapes of their families, and often nothing in the file tells them apart. A name can be wrong,
 * and a file must not draw another picture because it was renamed: what a name says is told, and decides nothing. */
#include "model_hints.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_GUIDANCE " --cfg-scale 1"

/* A word in the name of a file whose UNet is of these families, and how its makers' cards say that it is drawn: with
 * %d steps, or with one. */
static const struct { const char *word, *families, *title, *steps, *one; bool whole; } hints[] = {
    {"turbo", "sdxl", "SDXL-Turbo", "--config sdxl-turbo", NULL, false},
    {"turbo", "sd21,sd21-base", "SD-Turbo", "--config sd-turbo", NULL, false},
    {"lightning", "sdxl", "SDXL-Lightning", "--config sdxl-lightning --steps %d",
     "--config sdxl-lightning --steps 1 --prediction sample", false},
    {"hyper", "sdxl", "Hyper-SD", "--sampling-method ddim --spacing trailing --steps %d" NO_GUIDANCE,
     "--sampling-method lcm --timesteps 800" NO_GUIDANCE, false},
    {"hyper", "sd15", "Hyper-SD", "--sampling-method ddim --spacing trailing --steps %d" NO_GUIDANCE, NULL, false},
    {"lcm", "sd15,sdxl,ssd-1b", "made of LCM-LoRA", "--sampling-method lcm --steps %d" NO_GUIDANCE, NULL, true},
};

static bool is_letter(char c) { return isalpha((unsigned char)c) != 0; }

/* Where the word is in a name, in any case. whole: no letters stand beside it. */
static const char *find_word(const char *name, const char *word, bool whole)
{
    size_t n = strlen(word);
    for (const char *at = name; *at; at++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)at[i]) == word[i]) i++;
        if (i == n && !(whole && ((at > name && is_letter(at[-1])) || is_letter(at[n])))) return at;
    }
    return NULL;
}

/* "4step", "4-steps", "4 steps": 4; 0: the name says none. */
static int steps_in(const char *name)
{
    const char *at = find_word(name, "step", false), *digit = at;
    if (digit && digit > name && strchr("-_ ", digit[-1])) digit--;
    at = digit;
    while (digit && digit > name && isdigit((unsigned char)digit[-1])) digit--;
    long n = digit && digit < at ? strtol(digit, NULL, 10) : 0;
    return n >= 1 && n <= 64 ? (int)n : 0;
}

bool sd_few_hint_find(sd_few_hint *out, const char *path, const sd_family *f)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *out = (sd_few_hint){0};
    for (size_t i = 0; i < SD_COUNT(hints) && f; i++) {
        if (!sd_glob_list(hints[i].families, f->name) || !find_word(name, hints[i].word, hints[i].whole)) continue;
        int steps = steps_in(name);
        out->word = hints[i].word;
        out->title = hints[i].title;
        if (steps == 1 && hints[i].one) snprintf(out->options, sizeof out->options, "%s", hints[i].one);
        else {
            const char *at = strstr(hints[i].steps, "%d");
            int before = (int)(at ? at - hints[i].steps : (long)strlen(hints[i].steps));
            snprintf(out->options, sizeof out->options, "%.*s", before, hints[i].steps);
            size_t room = sizeof out->options - (size_t)before;
            if (at) snprintf(out->options + before, room, "%d%s", steps ? steps : 4, at + 2);
        }
        return true;
    }
    return false;
}
