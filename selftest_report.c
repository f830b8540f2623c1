/* selftest_report.c - floor 6: what a self-test found: a table that can be pasted where people ask, and JSON. */
#include "inspect.h"
#include "selftest.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = SD_CHECK_TABLES + SD_CHECK_DEVICES, LABEL = 30 };

#if defined(__clang__)
#define COMPILER __VERSION__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

typedef struct totals { size_t rows, failed, skipped; unsigned long long cases; } totals;

static totals count(const sd_selftest_run *s, const char *group)
{
    totals t = {0};
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        if (group && strcmp(r->group, group) != 0) continue;
        t.rows++;
        t.failed += sd_check_failed(r);
        t.skipped += *r->skipped != 0;
        t.cases += (unsigned long long)r->cases;
    }
    return t;
}

/* ------------------------------------------------------------------------------------------- the text */

static void add_head(const sd_selftest_run *s, const sd_selftest_style *style, sd_text *t)
{
    char machine[256];
    totals all = count(s, NULL);
    if (all.failed) sd_text_add(t, "sd %s self-test: %zu of %zu checks FAILED", SD_VERSION, all.failed, all.rows);
    else sd_text_add(t, "sd %s self-test: all %zu checks passed", SD_VERSION, all.rows - all.skipped);
    sd_text_add(t, " (%llu comparisons in %.1f s)\n\n", all.cases, style->seconds);
    sd_text_add(t, "machine    %s, %d threads\ncompiler   %s\nbuild      %s\nkernels    ",
                sd_os_machine(machine, sizeof machine), s->threads, COMPILER, sd_build_info());
    for (int i = 0; i < s->tables; i++)
        sd_text_add(t, "%s%s", i ? ", " : "", s->table[i].name);
    sd_text_add(t, "\n");
    for (int i = 0; i < s->devices; i++) {
        const sd_check_device *d = &s->device[i];
        sd_text_add(t, "device     %s %s%s%s\n", d->which, d->name, *d->refused ? ", refused: " : "", d->refused);
        if (*d->left_out) sd_text_add(t, "           not checked: %s\n", d->left_out);
    }
    if (!s->devices) sd_text_add(t, "device     none: %s\n", s->no_device);
}

static void add_cell(sd_text *t, const sd_check_row *r, int width)
{
    char cell[24];
    if (!r || *r->skipped) snprintf(cell, sizeof cell, "-");
    else if (sd_check_failed(r)) snprintf(cell, sizeof cell, r->worst < 1e5 ? "%.1f FAIL" : "FAIL", r->worst);
    else if (r->worst > 0) snprintf(cell, sizeof cell, "%.2f", r->worst);
    else snprintf(cell, sizeof cell, "=");
    sd_text_add(t, "%*s", width, cell);
}

/* The rows that depend on nothing: a line each with `all`, else one line for the group. */
static void add_plain(const sd_selftest_run *s, const sd_selftest_style *style, const char *group, const char *said,
                      sd_text *t)
{
    const sd_check_row *worst = NULL;
    totals n = count(s, group);
    if (!n.rows) return;
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        if (strcmp(r->group, group) == 0 && (!worst || !(r->worst <= worst->worst))) worst = r;
    }
    sd_text_add(t, "%-*s", LABEL, said);
    add_cell(t, worst, 10);
    sd_text_add(t, "   %zu, %llu comparisons", n.rows - n.skipped, n.cases);
    if (worst->worst > 0) sd_text_add(t, "; the worst: %s", worst->what);
    sd_text_add(t, "\n");
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        if (strcmp(r->group, group) != 0 || !(style->all || *r->skipped)) continue;
        sd_text_add(t, "  %-*s", LABEL - 2, r->what);
        add_cell(t, r, 10);
        if (*r->skipped) sd_text_add(t, "   %s\n", r->skipped);
        else sd_text_add(t, "   %d\n", r->cases);
    }
}

static const sd_check_row *find_row(const sd_selftest_run *s, const sd_check_row *like, const char *on)
{
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        if (strcmp(r->group, like->group) == 0 && strcmp(r->what, like->what) == 0 && strcmp(r->on, on) == 0) return r;
    }
    return NULL;
}

/* The rows that depend on kernels or a device: a column for each. */
static void add_table(const sd_selftest_run *s, sd_text *t)
{
    const char *on[COLUMNS];
    int columns = 0;
    bool any = false;
    for (int i = 0; i < s->tables; i++) on[columns++] = s->table[i].name;
    for (int i = 0; i < s->devices; i++)
        if (!*s->device[i].refused && !*s->device[i].left_out) on[columns++] = s->device[i].which;
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        bool first = *r->on != 0;
        for (size_t k = 0; k < i && first; k++)
            first = !*s->row[k].on || strcmp(s->row[k].group, r->group) != 0 || strcmp(s->row[k].what, r->what) != 0;
        if (!first) continue;
        if (!any) sd_text_add(t, "\n%-*s", LABEL, "");
        for (int k = 0; k < columns && !any; k++) sd_text_add(t, "%12s", on[k]);
        if (!any) sd_text_add(t, "\n");
        any = true;
        char label[80];
        snprintf(label, sizeof label, "%s%s", strcmp(r->group, "kernels") == 0 ? "kernels: " : "", r->what);
        sd_text_add(t, "%-*s", LABEL, label);
        for (int k = 0; k < columns; k++) add_cell(t, find_row(s, r, on[k]), 12);
        sd_text_add(t, "\n");
    }
}

void sd_selftest_text(const sd_selftest_run *s, const sd_selftest_style *style, sd_text *t)
{
    add_head(s, style, t);
    sd_text_add(t, "\nThe largest error as a share of its bound; =: the same bits, or no error\n\n");
    add_plain(s, style, "generators", "random numbers", t);
    add_plain(s, style, "tokenizer", "tokenizer", t);
    add_plain(s, style, "samplers", "samplers", t);
    add_plain(s, style, "threads", "same bits with other threads", t);
    add_table(s, t);
    if (count(s, NULL).failed) sd_text_add(t, "\nWhat failed, and where first\n");
    for (size_t i = 0; i < s->n; i++) {
        const sd_check_row *r = &s->row[i];
        if (sd_check_failed(r))
            sd_text_add(t, "  %s, %s%s%s: %s\n", r->group, r->what, *r->on ? ", " : "", r->on, r->why);
    }
}

/* ----------------------------------------------------------------------------------------------- JSON */

static void add_json_row(sd_text *t, const sd_check_row *r)
{
    sd_add_json_text(t, "{\"group\":", r->group);
    sd_add_json_text(t, ",\"what\":", r->what);
    sd_add_json_text(t, ",\"on\":", *r->on ? r->on : NULL);
    sd_text_add(t, ",\"comparisons\":%d", r->cases);
    sd_add_json_number(t, ",\"worst\":", r->worst);
    sd_text_add(t, ",\"passed\":%s", *r->skipped ? "null" : sd_check_failed(r) ? "false" : "true");
    sd_add_json_text(t, ",\"why\":", *r->why ? r->why : *r->skipped ? r->skipped : NULL);
    sd_text_add(t, "}");
}

void sd_selftest_json(const sd_selftest_run *s, const sd_selftest_style *style, sd_text *t)
{
    char machine[256];
    totals all = count(s, NULL);
    sd_text_add(t, "{\"sd\":\"%s\",\"passed\":%s,\"checks\":%zu,\"failed\":%zu,\"comparisons\":%llu", SD_VERSION,
                all.failed ? "false" : "true", all.rows, all.failed, all.cases);
    sd_add_json_number(t, ",\"seconds\":", style->seconds);
    sd_add_json_text(t, ",\"machine\":", sd_os_machine(machine, sizeof machine));
    sd_text_add(t, ",\"threads\":%d", s->threads);
    sd_add_json_text(t, ",\"compiler\":", COMPILER);
    sd_add_json_text(t, ",\"build\":", sd_build_info());
    sd_text_add(t, ",\"kernels\":[");
    for (int i = 0; i < s->tables; i++) sd_add_json_text(t, i ? "," : "", s->table[i].name);
    sd_text_add(t, "],\"devices\":[");
    for (int i = 0; i < s->devices; i++) {
        sd_add_json_text(t, i ? ",{\"device\":" : "{\"device\":", s->device[i].which);
        sd_add_json_text(t, ",\"name\":", s->device[i].name);
        sd_add_json_text(t, ",\"refused\":", *s->device[i].refused ? s->device[i].refused : NULL);
        sd_add_json_text(t, ",\"left_out\":", *s->device[i].left_out ? s->device[i].left_out : NULL);
        sd_text_add(t, "}");
    }
    sd_text_add(t, "],\"rows\":[");
    for (size_t i = 0; i < s->n; i++) {
        if (i) sd_text_add(t, ",");
        add_json_row(t, &s->row[i]);
    }
    sd_text_add(t, "]}\n");
}
