/* app_bar.c - floor 7: the progress bar, as wide as the terminal lets it be. */
#include "app.h"
#include "os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 1000, USUAL_COLUMNS = 80, WIDEST_BAR = 30, SHORTEST_BAR = 5 };

int bar_wanted(void)
{
    const char *term = getenv("TERM");
    return sd_os_on_terminal() && !(term && strcmp(term, "dumb") == 0);   /* a dumb one cannot go back in its line */
}

/* Asked for each time, so that a window may change its size. */
int terminal_columns(void)
{
    const char *said = getenv("COLUMNS");
    int n = sd_os_terminal_columns();
    if (n < 1 && said) n = atoi(said);
    return n < 1 ? USUAL_COLUMNS : n > MOST_COLUMNS ? MOST_COLUMNS : n;
}

void clear_bar(view *v)
{
    if (v->shown) fputs("\r\033[K", stderr);
    v->shown = 0;
}

/* The text beside the bar. detail: 2 all of it, 0 the least. It counts evaluations of the network, of which some
 * samplers make more than steps: pndm 41 for 40. */
static void say_progress(char *out, size_t size, const view *v, const sd_progress *p, double each, int detail)
{
    char which[32] = "", of[48] = "", rate[32] = "", eta[32];
    double left = each * (p->total - p->done);
    int as_steps = p->total == p->steps;
    if (strcmp(p->stage, "vae") == 0) snprintf(which, sizeof which, "decoding, per cent: ");
    else if (v->pictures > 1)
        snprintf(which, sizeof which, detail ? "picture %d/%d " : "%d/%d: ", v->picture, v->pictures);
    if (p->steps && !as_steps && detail == 2) snprintf(of, sizeof of, " evaluations for %d steps", p->steps);
    if (detail) snprintf(rate, sizeof rate, "  %.3g s%s", each, as_steps ? "/step" : " each");
    if (left < 60) snprintf(eta, sizeof eta, "%.0f s", left);
    else snprintf(eta, sizeof eta, "%d:%02d min", (int)left / 60, (int)left % 60);
    snprintf(out, size, "%s%d/%d%s%s %s%s%s", which, p->done, p->total, of, rate, detail ? " " : "", eta, detail
             ? " left" : "");
}

void show_progress(void *user, const sd_progress *p)
{
    view *v = user;
    char text[160];
    if (interrupts) sd_cancel(context);   /* the signal may have come just before the call began */
    if (!v->bar) return;
    int in_bands = strcmp(p->stage, "vae") == 0 && p->done < p->total;
    if (strcmp(p->stage, "step") != 0 && strcmp(p->stage, "convert") != 0 && !in_bands) {
        clear_bar(v);
        return;
    }
    if (p->done == 1 || in_bands != v->in_bands || (in_bands && p->done < v->done)) v->spent = 0;
    v->in_bands = in_bands;
    v->done = p->done;
    v->spent += p->seconds;
    int room = terminal_columns() - 1;   /* the last column makes some terminals begin a new line */
    for (int detail = 2; detail >= 0; detail--) {
        say_progress(text, sizeof text, v, p, v->spent / p->done, detail);
        if ((int)strlen(text) + SHORTEST_BAR + 3 <= room) break;
    }
    int width = room - (int)strlen(text) - 3;
    if (width > WIDEST_BAR) width = WIDEST_BAR;
    fputc('\r', stderr);
    if (width >= SHORTEST_BAR) {
        int filled = width * p->done / p->total;
        fprintf(stderr, "[%.*s%*s] ", filled, "==============================", width - filled, "");
    }
    fprintf(stderr, "%.*s\033[K", room, text);
    v->shown = 1;
}
