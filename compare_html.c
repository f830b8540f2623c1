/* compare_html.c - floor 6: what `sd compare` found, as a page that needs nothing else: the text, the errors over the
 * order of execution, where in the first bad tensor the error is, and a table of all tensors. */
#include "compare.h"
#include "os.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDE = 960, HIGH = 300, LEFT = 56, BOTTOM = 24, MOST_CHANNELS = 1280 };
/* Decades that are drawn, of errors and of how many times their floor or level they are. */
typedef struct scale { double least, most; } scale;
static const scale of_errors = {-10, 2}, of_times = {-3, 5};

static void add_escaped(sd_text *t, const char *s)
{
    for (; *s; s++) {
        if (*s == '<') sd_text_add(t, "&lt;");
        else if (*s == '>') sd_text_add(t, "&gt;");
        else if (*s == '&') sd_text_add(t, "&amp;");
        else if (*s == '"') sd_text_add(t, "&quot;");
        else sd_text_addn(t, s, 1);
    }
}

/* ------------------------------------------------------------------------ errors over the order of execution */

static double x_of(const sd_comparison *c, size_t i) { return LEFT + ((double)i + 0.5) * (WIDE - LEFT) / (double)c->n; }

static double y_of(const scale *s, double x)
{
    double decades = x > 0 ? log10(x) : s->least;
    if (!(decades > s->least)) decades = s->least;
    if (decades > s->most) decades = s->most;
    return HIGH - BOTTOM - (decades - s->least) / (s->most - s->least) * (HIGH - BOTTOM - 8);
}

static void add_axes(sd_text *t, const scale *s)
{
    int step = s == &of_errors ? 2 : 1;
    for (int k = (int)s->least; k <= (int)s->most; k += step) {
        double y = y_of(s, pow(10, k));
        sd_text_add(t, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text class=axis x=%d y=%.1f>", LEFT, WIDE, y, y,
                    LEFT - 6, y + 4);
        if (k == (int)s->least) sd_text_add(t, "&le; ");
        sd_text_add(t, "1e%d</text>\n", k);
    }
}

/* Stages and steps have a line where they begin: "text_encoder", "step.0". */
static void add_stages(sd_text *t, const sd_comparison *c)
{
    char last[32] = "";
    double free_from = 0;
    for (size_t i = 0; i < c->n; i++) {
        const char *name = sd_compared_name(&c->row[i]);
        char now[32];
        size_t n = strcspn(name, ".");
        if (strncmp(name, "step.", 5) == 0) n = 5 + strcspn(name + 5, ".");
        bool stage = name[n] == '.' && (strncmp(name, "step.", 5) == 0 || strncmp(name, "text_encoder", 12) == 0 ||
                                        strncmp(name, "vae.", 4) == 0);
        if (!stage) continue;
        snprintf(now, sizeof now, "%.*s", (int)(n < 31 ? n : 31), name);
        if (strcmp(now, last) == 0) continue;
        strcpy(last, now);
        sd_text_add(t, "<line class=stage x1=%.1f x2=%.1f y1=8 y2=%d />", x_of(c, i), x_of(c, i), HIGH - BOTTOM);
        if (x_of(c, i) < free_from) continue;
        sd_text_add(t, "<text class=stages x=%.1f y=%d>", x_of(c, i), HIGH - 8);
        add_escaped(t, now);
        sd_text_add(t, "</text>\n");
        free_from = x_of(c, i) + 7 * (double)strlen(now) + 6;
    }
}

/* What errors are compared to: a step for each tensor. */
static void add_levels(sd_text *t, const sd_comparison *c)
{
    sd_text_add(t, "<path class=level d=\"");
    bool begun = false;
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        if (!sd_has_error(r)) continue;
        sd_text_add(t, "%s%.1f %.1f", begun ? "L" : "M", x_of(c, i),
                    y_of(&of_errors, r->floor > 0 ? r->floor : r->level));
        begun = true;
    }
    sd_text_add(t, "\" />\n");
}

static void add_points(sd_text *t, const sd_comparison *c, const scale *s)
{
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        if (!sd_has_error(r)) continue;
        double y = s == &of_times ? sd_times(r) : r->error;
        sd_text_add(t, "<circle%s cx=%.1f cy=%.1f r=%s><title>", r->verdict == SD_DIVERGES ? " class=bad" : "",
                    x_of(c, i), y_of(s, y), c->n > 400 ? "1.5" : "2.5");
        add_escaped(t, sd_compared_name(r));
        sd_text_add(t, " %.3g</title></circle>\n", y);
    }
}

static void add_first_mark(sd_text *t, const sd_comparison *c)
{
    if (c->first == c->n) return;
    double x = x_of(c, c->first);
    bool right = x > WIDE / 2;
    sd_text_add(t, "<line class=first x1=%.1f x2=%.1f y1=8 y2=%d /><text class=\"first%s\" x=%.1f y=18>", x, x,
                HIGH - BOTTOM, right ? " right" : "", right ? x - 5 : x + 5);
    add_escaped(t, sd_compared_name(&c->row[c->first]));
    sd_text_add(t, "</text>\n");
}

/* From where on a tensor diverges alone, and from where on with those behind it. */
static void add_bounds(sd_text *t, const sd_comparison *c)
{
    double near, far;
    sd_compare_bounds(c, &near, &far);
    const double at[] = {near, far};
    for (int i = 0; i < 2; i++)
        sd_text_add(t, "<line class=bound x1=%d x2=%d y1=%.1f y2=%.1f />\n", LEFT, WIDE, y_of(&of_times, at[i]),
                    y_of(&of_times, at[i]));
}

static void add_curves(sd_text *t, const sd_comparison *c)
{
    sd_text_add(t, "<h2>Relative L2 error of each tensor, in the order of execution</h2>\n");
    sd_text_add(t, "<svg viewBox=\"0 0 %d %d\">\n", WIDE, HIGH);
    add_axes(t, &of_errors);
    add_stages(t, c);
    add_levels(t, c);
    add_points(t, c, &of_errors);
    add_first_mark(t, c);
    sd_text_add(t, "</svg>\n<p class=note>Grey line: %s, to which each is compared. Red: it diverges. The first is "
                "marked. A tensor's name appears where the pointer rests.</p>\n",
                c->floors ? "what float32 itself does to each, where that is known" :
                c->apart ? "what one operation may be off" : "what errors before it are like");
    sd_text_add(t, "<h2>The same in times of %s</h2>\n<svg viewBox=\"0 0 %d %d\">\n",
                c->floors ? "each tensor's floor" : "that line", WIDE, HIGH);
    add_axes(t, &of_times);
    add_stages(t, c);
    add_bounds(t, c);
    add_points(t, c, &of_times);
    add_first_mark(t, c);
    sd_text_add(t, "</svg>\n<p class=note>%s</p>\n", c->apart ? "Dashed: what is above diverges." : "Dashed: what is "
                "above the upper line diverges, what is above the lower one if most of those behind it are too far "
                "away as well.");
}

/* ------------------------------------------------------------------------------------------------ modules */

static double wide_of(double error) { return error > 1e-8 ? 14 * (log10(error < 1 ? error : 1) + 8) : 0; }

/* What each inherits as a grey bar, what it adds as one before it, on a logarithmic scale. */
static void add_modules(sd_text *t, const sd_comparison *c)
{
    static const char *const heads[] = {"inherited", "result", "added", "x"};
    if (!c->n_modules) return;
    sd_text_add(t, "<h2>Modules</h2>\n<p class=note>");
    sd_text words = {0};
    sd_add_what_modules_add(&words, c);
    add_escaped(t, words.s ? words.s : "");
    free(words.s);
    sd_text_add(t, ". Bars: grey what is inherited, blue what is added, from 1e-8 to 1.</p>\n<table><tr><th>module");
    for (size_t i = 0; i < SD_COUNT(heads); i++) sd_text_add(t, "<th>%s", heads[i]);
    sd_text_add(t, "<th>\n");
    for (size_t i = 0; i < c->n_modules; i++) {
        const sd_added *m = &c->module[i];
        const double column[] = {m->inherited, m->error, m->added};
        char name[1024];
        snprintf(name, sizeof name, "%.*s", (int)m->length, m->name);
        sd_text_add(t, "<tr%s><td>", c->measured && m->times > 1 ? " class=bad" : "");
        add_escaped(t, name);
        for (size_t k = 0; k < SD_COUNT(column); k++)
            if (column[k] >= 0) sd_text_add(t, "<td>%.2e", column[k]);
            else sd_text_add(t, "<td>");
        if (m->times >= 0) sd_text_add(t, "<td>%.3g", m->times);
        else sd_text_add(t, "<td>");
        sd_text_add(t, "<td><i style=\"width:%.0fpx\"></i><b style=\"width:%.0fpx\"></b>\n", wide_of(m->inherited),
                    wide_of(m->added));
    }
    sd_text_add(t, "</table>\n");
}

/* --------------------------------------------------------------------------------- the first bad tensor */

static void add_histogram(sd_text *t, const sd_detail *d)
{
    uint64_t most = 1;
    for (int i = 0; i < SD_BINS; i++) most = d->bin[i] > most ? d->bin[i] : most;
    sd_text_add(t, "<figure><svg viewBox=\"0 0 480 200\">\n");
    for (int i = 0; i < SD_BINS; i++) {
        double high = 170 * (double)d->bin[i] / (double)most;
        sd_text_add(t, "<rect x=%.1f y=%.1f width=9.5 height=%.1f><title>%llu</title></rect>\n", 20 + 10.4 * i,
                    176 - high, high, (unsigned long long)d->bin[i]);
    }
    for (int k = -10; k <= 0; k += 2)
        sd_text_add(t, "<text class=tick x=%.1f y=192>1e%d</text>\n", 20 + 10.4 * (4 * (k + 10) + 1), k);
    sd_text_add(t, "</svg><figcaption>How many numbers differ by how much of REF's rms</figcaption></figure>\n");
}

static void add_channels(sd_text *t, const sd_detail *d)
{
    double most = 0;
    int64_t n = d->channels < MOST_CHANNELS ? d->channels : MOST_CHANNELS;
    if (n < 2) return;
    for (int64_t i = 0; i < n; i++) most = d->channel[i] > most && d->channel[i] < HUGE_VAL ? d->channel[i] : most;
    sd_text_add(t, "<figure><svg viewBox=\"0 0 480 200\">\n");
    for (int64_t i = 0; i < n && most > 0; i++) {
        double high = 170 * (d->channel[i] < most ? d->channel[i] : most) / most, wide = 440.0 / (double)n;
        sd_text_add(t, "<rect x=%.2f y=%.1f width=%.2f height=%.1f><title>channel %lld: %.3g</title></rect>\n",
                    20 + wide * (double)i, 176 - high, n < 100 ? wide * 0.9 : wide, high, (long long)i, d->channel[i]);
    }
    sd_text_add(t, "<text class=tick x=20 y=192>0</text><text class=tick x=450 y=192>%lld</text></svg>"
                "<figcaption>Relative L2 error of each channel, at most %.3g</figcaption></figure>\n",
                (long long)(n - 1), most);
}

static void add_map(sd_text *t, const sd_detail *d)
{
    double most = 0;
    for (int i = 0; i < d->rows; i++)
        for (int k = 0; k < d->columns; k++) most = d->map[i][k] > most ? d->map[i][k] : most;
    if (!d->rows || !(most > 0)) return;
    sd_text_add(t, "<figure><svg class=map viewBox=\"0 0 %d %d\">\n", d->columns, d->rows);
    for (int i = 0; i < d->rows; i++)
        for (int k = 0; k < d->columns; k++) {
            int grey = (int)(255.5 - 255 * d->map[i][k] / most);
            sd_text_add(t, "<rect x=%d y=%d width=1 height=1 fill=\"#ff%02x%02x\" />", k, i, (unsigned)grey,
                        (unsigned)grey);
        }
    sd_text_add(t, "\n</svg><figcaption>Where in the picture: rms of the difference over all channels, at most %.3g"
                "</figcaption></figure>\n", most);
}

static void add_first(sd_text *t, const sd_comparison *c)
{
    if (!c->detail) return;
    sd_text_add(t, "<h2>");
    add_escaped(t, sd_compared_name(&c->row[c->first]));
    sd_text_add(t, "</h2>\n<div class=figures>\n");
    add_histogram(t, c->detail);
    add_channels(t, c->detail);
    add_map(t, c->detail);
    sd_text_add(t, "</div>\n");
}

/* ---------------------------------------------------------------------------------------------- the table */

static void add_row(sd_text *t, const sd_compared *r, bool first)
{
    static const char *const says[SD_VERDICTS] = {"", "diverges", "another shape", "unreadable", "only REF",
                                                  "only MINE"};
    const sd_entry *x = r->ref ? r->ref : r->mine;
    sd_text_add(t, "<tr%s%s><td>", sd_is_fault(r) ? " class=bad" : "", first ? " id=first" : "");
    add_escaped(t, x->name);
    if (r->ref && r->mine && strcmp(r->ref->name, r->mine->name) != 0) {
        sd_text_add(t, "<br><small>");
        add_escaped(t, r->mine->name);
        sd_text_add(t, "</small>");
    }
    sd_text_add(t, "<td>");
    sd_add_shape(t, x->nd, x->dim);
    if (sd_has_error(r))
        sd_text_add(t, "<td>%.2e<td>%.3g<td>%.2e<td>%.8f<td>%.3g %%", r->error, sd_times(r), r->d.max,
                    sd_cosine(&r->d), r->d.n ? 100 * (double)r->d.outside / (double)r->d.n : 0);
    else sd_text_add(t, "<td><td><td><td><td>");
    sd_text_add(t, "<td>%s %s\n", says[r->verdict], r->layout ? r->layout : "");
}

static const char style[] =
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}"
    "h1{font-size:1.2em}h2{font-size:1em;margin-top:2em}pre{white-space:pre-wrap;background:#f5f5f5;padding:1em}"
    "svg{width:100%;height:auto}.grid{stroke:#e5e5e5}.stage{stroke:#d0d8f0}.first{stroke:#c00;fill:#c00}"
    "text{font:11px sans-serif;fill:#555;stroke:none}text.first{fill:#c00;stroke:none}.axis,.right{text-anchor:end}"
    "circle{fill:#2a6}circle.bad{fill:#c00}.level{fill:none;stroke:#aaa}svg:not(.map) rect{fill:#48a}"
    ".figures{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;flex:1 1 20em;max-width:30em}.map{max-height:20em}"
    "figcaption,.note{color:#555;font-size:.9em}table{border-collapse:collapse;font-size:.85em}"
    "td,th{padding:.1em .6em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child,td:last-child"
    "{text-align:left}i,b{display:block;height:.35em;background:#bbb}b{background:#48a}.bound{stroke:#c88;"
    "stroke-dasharray:4}tr.bad td{color:#c00}small{color:#777}";

static const char begin[] = "<!doctype html>\n<html lang=en><meta charset=utf-8><title>sd compare</title>";

static void add_page(const sd_comparison *c, sd_text *t)
{
    const sd_inspect_options o = {.size = sizeof o, .columns = 110};
    sd_text text = {0};
    sd_compare_text(c, &(sd_compare_style){&o, false}, &text);
    size_t line = text.s ? strcspn(text.s, "\n") : 0;
    sd_text_add(t, "%s", begin);
    sd_text_add(t, "<style>%s</style>\n<h1>", style);
    if (text.s && text.s[line]) text.s[line++] = 0;
    add_escaped(t, text.s ? text.s : "");
    sd_text_add(t, "</h1>\n");
    add_curves(t, c);
    add_first(t, c);
    add_modules(t, c);
    sd_text_add(t, "<h2>In words</h2>\n<pre>");
    add_escaped(t, text.s && !text.failed ? text.s + line : "");
    sd_text_add(t, "</pre>\n<h2>All tensors</h2>\n<table><tr><th>name<th>shape<th>relative L2<th>x %s<th>max abs"
                "<th>cosine<th>outside<th>\n", c->floors ? "floor" : "level");
    for (size_t i = 0; i < c->n; i++) add_row(t, &c->row[i], i == c->first);
    sd_text_add(t, "</table>\n</html>\n");
    t->failed |= text.failed;
    free(text.s);
}

sd_status sd_compare_check_html(const char *path, sd_error *e)
{
    char there[sizeof begin - 1];
    uint64_t bytes = 0;
    if (sd_os_look(path, &bytes) != SD_OS_FILE || !bytes || sd_is_stream(path)) return e->status;
    FILE *f = fopen(path, "rb");
    bool ours = f && fread(there, 1, sizeof there, f) == sizeof there && memcmp(there, begin, sizeof there) == 0;
    if (f) fclose(f);
    return ours ? e->status
        : sd_fail(e, SD_ERR_ARG, "%.300s is there and is no page of sd compare: the page needs a name of its own",
                  path);
}

sd_status sd_compare_write_html(const sd_comparison *c, const char *path, sd_error *e)
{
    sd_text t = {0};
    sd_outfile o;
    add_page(c, &t);
    if (t.failed) sd_fail(e, SD_ERR_MEMORY, "no memory for the page %s", path);
    else if (!sd_outfile_open(&o, path, e)) {
        if (fwrite(t.s, 1, t.n, o.f) == t.n) sd_outfile_commit(&o, e);
        else {
            sd_outfile_abort(&o);
            sd_fail(e, SD_ERR_IO, "cannot write the page %s", path);
        }
    }
    free(t.s);
    return e->status;
}
