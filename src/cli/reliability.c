#include "cli/reliability.h"

#include <math.h>

#include "eval/stats.h"

enum { WIDTH = 560, HEIGHT = 640, LEFT = 64, TOP = 90, SIDE = 460, COUNTS = 36 }; /* COUNTS: height of the bins' counts */

/* Okabe and Ito's palette, as in plot.c. */
static const char *const colors[2] = {"#0072b2", "#d55e00"};

static void put_text(FILE *out, const char *s) {
    for (; *s; s++) {
        if (*s == '<' || *s == '>' || *s == '&')
            (void)fprintf(out, "&#%d;", *s);
        else
            (void)fputc((unsigned char)*s < 0x20 || *s == 0x7F ? ' ' : *s, out);
    }
}

static double at_x(double p) {
    return LEFT + p * SIDE;
}

static double at_y(double p) {
    return TOP + (1 - p) * SIDE;
}

static void put_axes(FILE *out) {
    for (int i = 0; i <= 5; i++) {
        const double v = i / 5.0;
        (void)fprintf(out, "<path class='grid' d='M%.1f %.1fH%.1fM%.1f %.1fV%.1f'/>", at_x(0), at_y(v), at_x(1), at_x(v), at_y(0),
                      at_y(1));
        (void)fprintf(out, "<text x='%.1f' y='%.1f' text-anchor='end'>%.1f</text>", at_x(0) - 8, at_y(v) + 4, v);
        (void)fprintf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>%.1f</text>\n", at_x(v), at_y(0) + 18 + COUNTS, v);
    }
    (void)fprintf(out, "<path class='even' d='M%.1f %.1fL%.1f %.1f'/>\n", at_x(0), at_y(0), at_x(1), at_y(1));
    (void)fprintf(out, "<text x='%d' y='%d' text-anchor='middle'>confidence shown; below the axis: how many</text>",
                  LEFT + SIDE / 2, HEIGHT - 14);
    (void)fprintf(out,
                  "<text transform='translate(18 %d) rotate(-90)' text-anchor='middle'>share that was right (95 %%)</text>\n",
                  TOP + SIDE / 2);
}

static int32_t largest(const fit_bin *b) {
    int32_t most = 1;
    for (int i = 0; i < FIT_BINS; i++) most = b[i].n > most ? b[i].n : most;
    return most;
}

/* Heights by the square root, so that a few stand beside many. */
static void put_counts(const fit_bin *b, FILE *out) {
    const double most = sqrt(largest(b));
    for (int i = 0; i < FIT_BINS; i++) {
        const double h = sqrt(b[i].n) / most * (COUNTS - 6);
        if (b[i].n)
            (void)fprintf(out, "<rect class='count' x='%.1f' y='%.1f' width='%.1f' height='%.1f'><title>%d</title></rect>\n",
                          at_x((double)i / FIT_BINS) + 1, at_y(0) + 2, (double)SIDE / FIT_BINS - 2, h, (int)b[i].n);
    }
}

static void put_series(const fit_bin *b, int number, FILE *out) {
    const double aside = number * 3.0; /* two series' bars beside each other */
    for (int i = 0; i < FIT_BINS; i++) {
        if (!b[i].n) continue;
        const fit_interval r = stats_wilson(b[i].n_right, b[i].n);
        const double x = at_x(b[i].sum / b[i].n) + aside;
        (void)fprintf(out, "<path stroke='%s' stroke-width='1.5' d='M%.1f %.1fV%.1f'/>", colors[number], x, at_y(r.low),
                      at_y(r.high));
        (void)fprintf(out, "<circle cx='%.1f' cy='%.1f' r='4.5' fill='%s'><title>%d of %d right</title></circle>\n", x,
                      at_y(r.value), colors[number], (int)b[i].n_right, (int)b[i].n);
    }
}

static void put_name(int number, const char *name, FILE *out) {
    (void)fprintf(out, "<circle cx='%d' cy='%d' r='4.5' fill='%s'/><text x='%d' y='%d'>%s</text>\n", LEFT + 16,
                  TOP + 18 + number * 20, colors[number], LEFT + 28, TOP + 22 + number * 20, name);
}

bool reliability_svg(const reliability *r, FILE *out) {
    (void)fprintf(out,
                  "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' role='img'>\n"
                  "<style>text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}.grid{stroke:#8886}"
                  ".even{stroke:#888;stroke-dasharray:6 5;stroke-width:1.5}.count{fill:#888a}.ground{fill:#fff}"
                  "@media(prefers-color-scheme:dark){text{fill:#ddd}.ground{fill:#161616}}</style>\n"
                  "<rect class='ground' width='%d' height='%d'/>\n<text x='%d' y='28' class='title'>",
                  WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    put_text(out, r->title);
    for (int i = 0; i < 2; i++) {
        (void)fprintf(out, "</text><text x='%d' y='%d'>", LEFT, 50 + 20 * i);
        put_text(out, r->lines[i]);
    }
    (void)fputs("</text>\n", out);
    put_axes(out);
    put_counts(r->shown, out);
    if (r->raw) {
        put_series(r->raw, 1, out);
        put_name(0, "as shown, calibrated", out);
        put_name(1, "without the calibration", out);
    }
    put_series(r->shown, 0, out);
    (void)fputs("</svg>\n", out);
    return !ferror(out);
}
