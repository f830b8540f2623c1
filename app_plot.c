/* app_plot.c - floor 7: the picture of sd schedule --plot: noise levels over the evaluations, with axes, numbers and a
 * legend. Everything is lines, the letters too. They are drawn three times as large and averaged, which makes them
 * smooth. */
#include "app_samplers.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 800, HEIGHT = 500, LEFT = 70, RIGHT = 24, TOP = 46, BOTTOM = 58, FINE = 3 };
static const double LEAST = 1e-2, MOST = 1e2;   /* sigma at the lower and upper edge */
static const uint8_t ink[] = {50, 50, 50}, grid[] = {222, 222, 222}, white[] = {255, 255, 255};

/* A picture FINE times as large in both directions. Coordinates are in pixels of the small one. */
typedef struct canvas { uint8_t *rgb; int w, h; } canvas;

/* ---------------------------------------------------------------------------------------- lines */

static void spot(canvas *c, double x, double y, double radius, const uint8_t *colour)
{
    double r = radius * FINE, cx = x * FINE, cy = y * FINE;
    for (int j = (int)floor(cy - r); j <= (int)ceil(cy + r); j++)
        for (int i = (int)floor(cx - r); i <= (int)ceil(cx + r); i++) {
            double dx = i + 0.5 - cx, dy = j + 0.5 - cy;
            if (i >= 0 && i < c->w && j >= 0 && j < c->h && dx * dx + dy * dy <= r * r)
                memcpy(c->rgb + 3 * ((size_t)j * (size_t)c->w + (size_t)i), colour, 3);
        }
}

static void line(canvas *c, double x0, double y0, double x1, double y1, double thick, const uint8_t *colour)
{
    int n = (int)ceil(fmax(fabs(x1 - x0), fabs(y1 - y0)) * FINE) + 1;
    for (int i = 0; i <= n; i++) spot(c, x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n, thick / 2, colour);
}

/* -------------------------------------------------------------------------------------- letters */

/* Strokes on a grid: two digits a point, x from 0 to 4 and y from 0 (top) by 6 (base line) to 8; a blank lifts the
 * pen. */
static const char *const digits[] = {
    "103041453616050110", "112026 1636", "01103041420646", "01103041423323 334445361605", "36300444",
    "400002324345361605", "4020020516364544331304", "004016", "103041423313020110 1304051636454433",
    "0626444130100102133342"};
static const char *const letters[] = {
    "12324346 441405163645", "0006 0312324345361605", "4332120305163645", "4046 4332120305163645",
    "04444332120305163645", "40302126 0232", "4332120305163645 4247381807", "0006 0312324346", "2226 2020",
    "3237281807 3030", "0006 4204 2346", "2026", "0206 03122326 23324346", "0206 0312324346", "123243453616050312",
    "0208 0312324345361605", "4248 4332120305163645", "0206 03123243", "43321203143445361605", "20253645 0242",
    "0205163645 4246", "022642", "0216233642", "0246 4206", "0226 42261808", "02420646"};
static const struct { char c; const char *strokes; } signs[] = {
    {'+', "2125 0343"}, {'-', "0343"}, {'.', "2626"}, {',', "2617"}, {':', "2323 2626"}, {'(', "30111536"},
    {')', "10313516"}, {'/', "4006"}, {'_', "0747"}, {'=', "0242 0444"}, {'<', "410345"}, {'%', "4006 0110 3645"},
    {'@', "36160501103041443323243433"}, {' ', ""}};

static const char *strokes_of(char letter)
{
    unsigned char c = (unsigned char)tolower((unsigned char)letter);
    if (c >= '0' && c <= '9') return digits[c - '0'];
    if (c >= 'a' && c <= 'z') return letters[c - 'a'];
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if ((unsigned char)signs[i].c == c) return signs[i].strokes;
    return "0006464000";   /* a box */
}

enum { ADVANCE = 9 };   /* from letter to letter */
static const double UNIT = 1.5;

static double width_of(const char *text) { return (double)strlen(text) * ADVANCE; }

/* x: the left end; y: the base line. */
static void write_text(canvas *c, double x, double y, const char *text)
{
    for (; *text; text++, x += ADVANCE) {
        double px = -1, py = 0;
        for (const char *s = strokes_of(*text); *s; s++) {
            if (*s == ' ') {
                px = -1;
                continue;
            }
            double nx = x + UNIT * (s[0] - '0'), ny = y + UNIT * (s[1] - '0' - 6);
            line(c, px < 0 ? nx : px, px < 0 ? ny : py, nx, ny, 1.5, ink);
            px = nx;
            py = ny;
            s++;
        }
    }
}

/* ----------------------------------------------------------------------------------------- axes */

static double height_of(double sigma)
{
    double share = log(fmin(fmax(sigma, LEAST), MOST) / LEAST) / log(MOST / LEAST);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static double across(double share) { return LEFT + share * (WIDTH - LEFT - RIGHT); }

static void tick_across(canvas *c, double share, const char *text)
{
    double x = across(share);
    line(c, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5, 1, ink);
    write_text(c, x - width_of(text) / 2, HEIGHT - BOTTOM + 20, text);
}

/* The smallest of 1, 2, 5, 10, 20, ... of which at most ten make n. */
static int nice_step(int n)
{
    int step = 1;
    for (int k = 0; n / step > 10; k++) step = step / (k % 3 == 1 ? 2 : 1) * (k % 3 == 1 ? 5 : 2);
    return step;
}

/* evaluations: how many all curves have; 0: they differ, and the axis shows shares of the run. */
static void draw_axes(canvas *c, int evaluations)
{
    char text[32];
    for (double sigma = LEAST; sigma <= MOST * 1.01; sigma *= 10) {
        double y = height_of(sigma);
        line(c, LEFT, y, WIDTH - RIGHT, y, 1, grid);
        snprintf(text, sizeof text, "%s%g", sigma < LEAST * 1.01 ? "<" : "", sigma);
        write_text(c, LEFT - 8 - width_of(text), y + 4, text);
    }
    line(c, LEFT, TOP, LEFT, HEIGHT - BOTTOM, 1, ink);
    line(c, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, 1, ink);
    for (int i = 0; i <= (evaluations ? evaluations : 100); i += evaluations ? nice_step(evaluations) : 25) {
        snprintf(text, sizeof text, "%d%s", i, evaluations ? "" : "%");
        tick_across(c, evaluations ? (double)i / evaluations : i / 100.0, text);
    }
    const char *what = evaluations ? "evaluation of the network" : "share of the run";
    write_text(c, across(0.5) - width_of(what) / 2, HEIGHT - 16, what);
}

/* --------------------------------------------------------------------------------------- curves */

static const uint8_t colours[PLOT_MOST][3] = {{31, 119, 180}, {255, 127, 14}, {44, 160, 44}, {214, 39, 40},
                                              {148, 103, 189}, {140, 86, 75}, {227, 119, 194}, {110, 110, 110}};
static const char *const colour_names[PLOT_MOST] = {"blue", "orange", "green", "red", "purple", "brown", "pink",
                                                    "grey"};

const char *plot_colour(int k) { return colour_names[k]; }

static void draw_curve(canvas *c, const plot_curve *curve, const uint8_t *colour)
{
    for (int i = 0; i < curve->n; i++) {
        double x = across((double)i / curve->n), y = height_of(curve->sigma[i]);
        line(c, x, y, across((i + 1.0) / curve->n), height_of(curve->sigma[i + 1]), 2.4, colour);
        if (curve->n <= 100) spot(c, x, y, 3.6, colour);
    }
}

static void draw_legend(canvas *c, const plot_curve *curve, int count)
{
    enum { ROW = 18, SAMPLE = 26 };
    double widest = 0;
    for (int k = 0; k < count; k++) widest = fmax(widest, width_of(curve[k].name));
    double left = WIDTH - RIGHT - 16 - widest - SAMPLE, top = TOP + 10;
    for (double y = top - 6; y < top + count * ROW; y += 0.5) line(c, left - 8, y, WIDTH - RIGHT - 4, y, 1, white);
    for (int k = 0; k < count; k++) {
        double y = top + k * ROW + ROW / 2.0 - 2;
        line(c, left, y, left + SAMPLE - 8, y, 3, colours[k]);
        spot(c, left + (SAMPLE - 8) / 2.0, y, 3.6, colours[k]);
        write_text(c, left + SAMPLE, y + 4, curve[k].name);
    }
}

static void average(uint8_t *to, const canvas *c)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int k = 0; k < 3; k++) {
                int sum = 0;
                for (int j = 0; j < FINE * FINE; j++)
                    sum += c->rgb[3 * ((y * FINE + j / FINE) * c->w + x * FINE + j % FINE) + k];
                *to++ = (uint8_t)((sum + FINE * FINE / 2) / (FINE * FINE));
            }
}

int plot_sigmas(sd_image *image, const char *title, const plot_curve *curve, int count)
{
    canvas c = {malloc((size_t)3 * WIDTH * FINE * HEIGHT * FINE), WIDTH * FINE, HEIGHT * FINE};
    *image = (sd_image){WIDTH, HEIGHT, 3, malloc((size_t)3 * WIDTH * HEIGHT)};
    if (c.rgb && image->data) {
        int evaluations = curve[0].n;
        for (int k = 1; k < count; k++)
            if (curve[k].n != evaluations) evaluations = 0;
        memset(c.rgb, 255, (size_t)3 * WIDTH * FINE * HEIGHT * FINE);
        draw_axes(&c, evaluations);
        for (int k = 0; k < count; k++) draw_curve(&c, &curve[k], colours[k]);
        draw_legend(&c, curve, count);
        write_text(&c, 12, 24, "sigma (noise level)");
        write_text(&c, WIDTH - RIGHT - width_of(title), 24, title);
        average(image->data, &c);
    }
    int done = c.rgb && image->data;
    free(c.rgb);
    if (!done) sd_image_free(image);
    return done;
}
