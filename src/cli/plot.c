#include "cli/plot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

const char *plot_value(double v, char out[PLOT_VALUE_BYTES]) {
    (void)snprintf(out, PLOT_VALUE_BYTES, v >= 1000 ? "%.0f" : "%.4g", v);
    return out;
}

/* ---------------------------------------------------------------- text */

static double largest(const plot *p) {
    double most = 0;
    for (int s = 0; s < p->n_series; s++)
        for (int i = 0; i < p->series[s].n; i++) {
            const plot_point *q = &p->series[s].points[i];
            if (!isnan(q->y)) most = fmax(most, fmax(q->y, q->high));
        }
    return most;
}

static void label_of(const plot *p, const plot_series *s, int i, char *out, size_t cap) {
    if (p->is_bars && p->labels[i])
        (void)snprintf(out, cap, "%s", p->labels[i]);
    else
        (void)snprintf(out, cap, "%g", s->points[i].x);
}

void plot_text(const plot *p, FILE *out, int n_columns, const char *mark_on, const char *mark_off) {
    const plot_series *s = &p->series[0];
    const double most = largest(p);
    char label[64], value[PLOT_VALUE_BYTES];
    int widest = 0;
    for (int i = 0; i < s->n; i++) {
        label_of(p, s, i, label, sizeof label);
        widest = (int)strlen(label) > widest ? (int)strlen(label) : widest;
    }
    const int room = n_columns - widest - 14 > 8 ? n_columns - widest - 14 : 8;
    (void)fprintf(out, "%s\n", p->title);
    for (int i = 0; i < s->n; i++) {
        const plot_point *q = &s->points[i];
        label_of(p, s, i, label, sizeof label);
        if (isnan(q->y)) {
            (void)fprintf(out, "%*s  -\n", widest, label);
            continue;
        }
        const int n = most > 0 ? (int)(q->y / most * room + 0.5) : 0;
        (void)fprintf(out, "%s%*s  ", i == s->marked ? mark_on : "", widest, label);
        for (int k = 0; k < n; k++) (void)fputc('#', out);
        (void)fprintf(out, " %s%s%s\n", plot_value(q->y, value), i == s->marked ? "  <-" : "", i == s->marked ? mark_off : "");
    }
    const bool is_wide = (int)(strlen(p->x_name) + strlen(p->y_name)) + 4 > n_columns;
    (void)fprintf(out, "%*s%s(%s)\n", widest, p->x_name, is_wide ? "\n" : "  ", p->y_name);
}

/* ---------------------------------------------------------------- SVG */

enum { WIDTH = 720, HEIGHT = 420, LEFT = 80, RIGHT = 20, TOP = 50, BOTTOM = 60 };

/* The largest 1, 2 or 5 times a power of ten that makes at least n steps of span. */
static double nice_step(double span, int n) {
    const double raw = span / n, power = pow(10, floor(log10(raw)));
    const double r = raw / power;
    return (r >= 5 ? 5 : r >= 2 ? 2 : 1) * power;
}

static void put_escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        default:
            (void)fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
        }
    }
}

typedef struct frame {
    double x0, x1, y1; /* data at the left, the right and the top; the bottom is 0 */
} frame;

static double at_x(const frame *f, double x) {
    return LEFT + (f->x1 > f->x0 ? (x - f->x0) / (f->x1 - f->x0) : 0.5) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y) {
    return HEIGHT - BOTTOM - y / f->y1 * (HEIGHT - TOP - BOTTOM);
}

static frame find_frame(const plot *p) {
    frame f = {INFINITY, -INFINITY, largest(p)};
    for (int s = 0; s < p->n_series; s++)
        for (int i = 0; i < p->series[s].n; i++) {
            f.x0 = fmin(f.x0, p->series[s].points[i].x);
            f.x1 = fmax(f.x1, p->series[s].points[i].x);
        }
    if (!(f.x1 >= f.x0)) f.x0 = f.x1 = 0;
    const double pad = p->is_bars ? 0.5 : 0.04 * (f.x1 - f.x0); /* a label at an end stays off the axis */
    f.x0 -= pad;
    f.x1 += pad;
    if (!(f.y1 > 0)) f.y1 = 1;
    const double step = nice_step(f.y1, 4);
    f.y1 = ceil(f.y1 / step * 1.08) * step; /* a label above the highest stays below the legend */
    return f;
}

static void put_axes(const plot *p, const frame *f, FILE *out) {
    const double y_step = nice_step(f->y1, 4);
    for (int i = 0; i * y_step <= f->y1 * 1.0001; i++) {
        const double y = i * y_step;
        (void)fprintf(out, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, WIDTH - RIGHT, at_y(f, y),
                      at_y(f, y));
        (void)fprintf(out, "<text x='%d' y='%.1f' text-anchor='end'>%g</text>\n", LEFT - 8, at_y(f, y) + 4, y);
    }
    if (p->is_bars) {
        for (int i = 0; i < p->series[0].n; i++) {
            (void)fprintf(out, "<text x='%.1f' y='%d' text-anchor='middle'>", at_x(f, i), HEIGHT - BOTTOM + 20);
            put_escaped(out, p->labels[i] ? p->labels[i] : "");
            (void)fputs("</text>\n", out);
        }
    } else if (f->x1 > f->x0) {
        const double x_step = fmax(1, nice_step(f->x1 - f->x0, 6)); /* layers and threads are whole */
        for (int i = (int)ceil(f->x0 / x_step); i * x_step <= f->x1 * 1.0001; i++)
            (void)fprintf(out, "<text x='%.1f' y='%d' text-anchor='middle'>%g</text>\n", at_x(f, i * x_step),
                          HEIGHT - BOTTOM + 20, i * x_step);
    }
    (void)fprintf(out, "<text x='%d' y='24' class='title'>", LEFT);
    put_escaped(out, p->title);
    (void)fprintf(out, "</text>\n<text x='%d' y='%d' text-anchor='middle'>", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18);
    put_escaped(out, p->x_name);
    (void)fprintf(out, "</text>\n<text transform='translate(18 %d) rotate(-90)' text-anchor='middle'>",
                  (TOP + HEIGHT - BOTTOM) / 2);
    put_escaped(out, p->y_name);
    (void)fputs("</text>\n", out);
}

/* Okabe and Ito's palette: told apart by colour-blind readers. */
static const char *const colors[PLOT_MAX_SERIES] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7"};

static void put_legend(const plot *p, int number, FILE *out) {
    const int x = LEFT + number * ((WIDTH - LEFT - RIGHT) / p->n_series);
    (void)fprintf(out, "<rect x='%d' y='34' width='12' height='12' fill='%s'/><text x='%d' y='45'>", x, colors[number], x + 18);
    put_escaped(out, p->series[number].name);
    (void)fputs("</text>\n", out);
}

static void put_series(const plot *p, int number, const frame *f, FILE *out) {
    const plot_series *s = &p->series[number];
    const char *color = colors[number];
    char value[PLOT_VALUE_BYTES];
    const double slot = p->is_bars ? (double)(WIDTH - LEFT - RIGHT) / (f->x1 - f->x0) : 0, width = slot * 0.7 / p->n_series;
    if (!p->is_bars) {
        bool is_open = false;
        (void)fprintf(out, "<path fill='none' stroke-width='2' stroke='%s' d='", color);
        for (int i = 0; i < s->n; i++) {
            const bool is_there = !isnan(s->points[i].y);
            if (is_there)
                (void)fprintf(out, "%c%.1f %.1f", is_open ? 'L' : 'M', at_x(f, s->points[i].x), at_y(f, s->points[i].y));
            is_open = is_there;
        }
        (void)fputs("'/>\n", out);
    }
    for (int i = 0; i < s->n; i++) {
        const plot_point *q = &s->points[i];
        if (isnan(q->y)) continue;
        const double x = at_x(f, q->x) + (p->is_bars ? (number - (p->n_series - 1) / 2.0) * width : 0), y = at_y(f, q->y);
        if (p->is_bars)
            (void)fprintf(out, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>", x - width / 2, y, width * 0.94,
                          HEIGHT - BOTTOM - y, color);
        else
            (void)fprintf(out, "<circle cx='%.1f' cy='%.1f' r='%d' fill='%s'/>", x, y, i == s->marked ? 6 : 3, color);
        if (q->high > q->low)
            (void)fprintf(out, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' class='spread'/>", x, x, at_y(f, q->low),
                          at_y(f, q->high));
        if (p->is_bars || i == s->marked)
            (void)fprintf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>%s</text>", x, at_y(f, fmax(q->y, q->high)) - 9,
                          plot_value(q->y, value));
        (void)fputc('\n', out);
    }
    if (p->n_series > 1) put_legend(p, number, out);
}

static bool plot_svg(const plot *p, FILE *out) {
    const frame f = find_frame(p);
    (void)fprintf(out,
                  "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' role='img'>\n"
                  "<style>text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}.grid{stroke:#8886}"
                  ".spread{stroke:#555;stroke-width:2}.ground{fill:#fff}"
                  "@media(prefers-color-scheme:dark){text{fill:#ddd}.ground{fill:#161616}.spread{stroke:#bbb}}</style>\n"
                  "<rect class='ground' width='%d' height='%d'/>\n",
                  WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_axes(p, &f, out);
    for (int s = 0; s < p->n_series; s++) put_series(p, s, &f, out);
    (void)fputs("</svg>\n", out);
    return !ferror(out);
}

cli_exit plot_write(cli *c, const plot *p, const char *path) {
    char safe[256];
    errno = 0;
    FILE *out = fopen(path, "w");
    const bool is_written = out && plot_svg(p, out) && fflush(out) == 0;
    const int why = errno;
    if (out && fclose(out) == 0 && is_written) return CLI_DONE;
    term_error(c, "%s: cannot be written: %s", term_safe(path, safe, sizeof safe), strerror(why ? why : EIO));
    return CLI_FAILED;
}
