/* Reading a case's turns, and writing text: what every format needs. */
#include "assist/export.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "assist/export_impl.h"
#include "base/error.h"
#include "base/utf8.h"
#include "galen/assist.h"

#define DOCUMENT_MAX ((size_t)1 << 30)

/* ---------------------------------------------------------------- reading */

words get_words(const json_t *object, const char *key) {
    const json_t *s = json_object_get(object, key);
    return json_is_string(s) ? (words){json_string_value(s), json_string_length(s)} : (words){"", 0};
}

double get_number(const json_t *object, const char *key, double otherwise) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

const json_t *get_item(const json_t *object, const char *key, size_t i) {
    const json_t *item = json_array_get(json_object_get(object, key), i);
    return json_is_object(item) ? item : NULL;
}

size_t get_length(const json_t *object, const char *key) {
    return json_array_size(json_object_get(object, key));
}

/* The exchange of a number, in order of numbers; NULL when there is no room. Numbers mostly come in order. */
static exchange *exchange_of(case_view *v, int64_t number) {
    size_t i = v->n_exchanges;
    while (i && v->exchanges[i - 1].number > number) i--;
    if (i && v->exchanges[i - 1].number == number) return &v->exchanges[i - 1];
    if (v->n_exchanges == EXPORT_MAX_QUESTIONS) return NULL;
    memmove(&v->exchanges[i + 1], &v->exchanges[i], (v->n_exchanges - i) * sizeof *v->exchanges);
    v->n_exchanges++;
    v->exchanges[i] = (exchange){.number = number};
    return &v->exchanges[i];
}

static void note_turn(case_view *v, const export_turn *t, const json_t *turn) {
    const json_t *number = json_object_get(turn, "number");
    exchange *e = NULL;
    if (strcmp(t->kind, "symptoms") == 0) v->symptoms = turn;
    if (strcmp(t->kind, "triage") == 0) v->triage = turn;
    if (strcmp(t->kind, "closed") == 0) v->end = turn;
    if (strcmp(t->kind, "differential") == 0) {
        v->differential = turn;
        v->differential_ms = t->time_ms;
    }
    const bool is_question = strcmp(t->kind, "question") == 0, is_answer = strcmp(t->kind, "answer") == 0;
    if ((is_question || is_answer) && json_is_integer(number)) e = exchange_of(v, json_integer_value(number));
    if (e && is_question) e->question = turn;
    if (e && is_answer) {
        e->answer = turn;
        e->answered_ms = t->time_ms;
    }
}

galen_status view_open(case_view *v, const export_case *c, galen_error *err) {
    *v = (case_view){.c = c};
    v->turns = calloc(c->n_turns + 1, sizeof(json_t *));
    if (!v->turns) return galen_fail(err, GALEN_E_NOMEM, 0, "case %lld: %zu turns", (long long)c->id, c->n_turns);
    for (size_t i = 0; i < c->n_turns; i++) {
        json_error_t e = {0};
        v->turns[i] = json_loadb(c->turns[i].json, c->turns[i].n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        if (!v->turns[i]) {
            /* jansson sets no code where an allocation failed, and one for everything that is wrong with the text. */
            const bool is_memory = json_error_code(&e) == json_error_out_of_memory || json_error_code(&e) == json_error_unknown;
            view_close(v);
            return is_memory ? galen_fail(err, GALEN_E_NOMEM, 0, "case %lld: turn %zu", (long long)c->id, i + 1)
                             : galen_fail(err, GALEN_E_FORMAT, e.position > 0 ? (uint64_t)e.position : 0,
                                          "case %lld: turn %zu is not JSON that can be read (byte %d)", (long long)c->id, i + 1,
                                          e.position);
        }
        note_turn(v, &c->turns[i], v->turns[i]);
    }
    return GALEN_OK;
}

void view_close(case_view *v) {
    for (size_t i = 0; v->turns && i < v->c->n_turns; i++) json_decref(v->turns[i]);
    free(v->turns);
    *v = (case_view){0};
}

words answer_words(const json_t *answer) {
    const words kind = get_words(answer, "kind");
    return strcmp(kind.text, "text") == 0 || !kind.n ? get_words(answer, "text") : kind;
}

const char *level_words(words level) {
    for (int i = GALEN_TRIAGE_SELF_CARE; i <= GALEN_TRIAGE_EMERGENCY_AMBULANCE; i++) {
        static const char *const names[] = {"self_care", "consultation", "consultation_24", "emergency", "emergency_ambulance"};
        static const char *const said[] = {"Minor: advice is enough.", "See a clinician; no hurry.",
                                           "See a clinician within a day.", "Go to an emergency department now.",
                                           "Call an ambulance."};
        if (strlen(names[i]) == level.n && memcmp(names[i], level.text, level.n) == 0) return said[i];
    }
    return "";
}

/* ---------------------------------------------------------------- writing */

static bool reserve(growing *g, size_t n) {
    if (g->is_failed) return false;
    if (n < g->cap - g->n) return true; /* and a NUL */
    size_t cap = g->cap ? g->cap : 4096;
    while (cap - g->n <= n && cap < DOCUMENT_MAX) cap *= 2;
    char *bytes = cap - g->n > n ? realloc(g->bytes, cap) : NULL;
    if (!bytes) {
        g->is_failed = true;
        return false;
    }
    g->bytes = bytes;
    g->cap = cap;
    return true;
}

void put(growing *g, const char *bytes, size_t n) {
    if (!reserve(g, n) || !g->bytes) return;
    if (n) memcpy(g->bytes + g->n, bytes, n);
    g->n += n;
    g->bytes[g->n] = '\0';
}

void put_text(growing *g, const char *text) {
    put(g, text, strlen(text));
}

void put_format(growing *g, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        g->is_failed = true;
    else
        put(g, text, (size_t)n);
}

galen_status growing_end(growing *g, export_text *out, galen_error *err) {
    if (!g->is_failed && !g->bytes) put(g, "", 0);
    if (g->is_failed) {
        const galen_status st = galen_fail(err, g->cap >= DOCUMENT_MAX ? GALEN_E_RANGE : GALEN_E_NOMEM, 0,
                                           "a document longer than %zu bytes", g->cap);
        free(g->bytes);
        *g = (growing){0};
        return st;
    }
    *out = (export_text){g->bytes, g->n};
    *g = (growing){0};
    return GALEN_OK;
}

bool next_character(words w, size_t *i, const char **bytes, size_t *n, uint32_t *cp) {
    if (*i >= w.n) return false;
    *n = utf8_decode(w.text + *i, w.n - *i, cp);
    *bytes = w.text + *i;
    const bool is_bad = *n == 0 || (*cp < 0x20 && *cp != '\n' && *cp != '\t' && *cp != '\r') || (*cp >= 0x7F && *cp < 0xA0);
    *i += *n ? *n : 1;
    if (is_bad) {
        *cp = 0xFFFD;
        *bytes = "\xEF\xBF\xBD";
        *n = 3;
    }
    return true;
}

const char *time_text(int64_t ms, char out[TIME_BYTES]) {
    const int64_t last = 253402300799999; /* the end of 9999 */
    struct tm t = {0};
    if (ms < 0) ms = 0;
    if (ms > last) ms = last;
    const time_t seconds = (time_t)(ms / 1000);
    (void)gmtime_r(&seconds, &t);
    const size_t n = strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &t);
    (void)snprintf(out + n, TIME_BYTES - n, ".%03dZ", (int)(ms % 1000));
    return out;
}

/* ---------------------------------------------------------------- formats */

static const struct {
    const char *name;
    export_format format;
} formats[] = {
    {"text", EXPORT_TEXT}, {"markdown", EXPORT_MARKDOWN}, {"json", EXPORT_JSON}, {"html", EXPORT_HTML}, {"fhir", EXPORT_FHIR}};

bool export_format_find(const char *name, export_format *out) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) != 0) continue;
        *out = formats[i].format;
        return true;
    }
    return false;
}

galen_status export_write(export_format format, const export_case *c, export_text *out, galen_error *err) {
    case_view v;
    *out = (export_text){0};
    galen_status st = view_open(&v, c, err);
    if (st) return st;
    switch (format) {
    case EXPORT_TEXT:
    case EXPORT_MARKDOWN:
        st = export_markdown(&v, format == EXPORT_TEXT, out, err);
        break;
    case EXPORT_JSON:
        st = export_json(&v, out, err);
        break;
    case EXPORT_HTML:
        st = export_html(&v, out, err);
        break;
    case EXPORT_FHIR:
        st = export_fhir(&v, out, err);
        break;
    default:
        st = galen_fail(err, GALEN_E_ARG, 0, "export format %d", (int)format);
    }
    view_close(&v);
    return st;
}
