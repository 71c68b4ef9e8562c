/* The assistant over a scripted engine, for the tests of its parts. The sources are included, so that each of their allocations
 * can be made to fail. For one test file each. */
#ifndef TESTS_ASSIST_HELP_H
#define TESTS_ASSIST_HELP_H

#pragma GCC diagnostic ignored "-Wunused-function" /* no file needs all of it */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "fake_engine.h"

static int fail_at = -1; /* the allocation that fails, counted from 0; -1: none */

static bool is_failing(void) {
    return fail_at >= 0 && fail_at-- == 0;
}
static void *failing_malloc(size_t n) {
    return is_failing() ? NULL : malloc(n);
}
static void *failing_calloc(size_t n, size_t size) {
    return is_failing() ? NULL : calloc(n, size);
}
static void *failing_realloc(void *p, size_t n) {
    return is_failing() ? NULL : realloc(p, n);
}
static int failing_asprintf(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int failing_asprintf(char **out, const char *fmt, ...) {
    va_list ap;
    if (is_failing()) return -1;
    va_start(ap, fmt);
    const int n = vasprintf(out, fmt, ap);
    va_end(ap);
    return n;
}
#include <time.h>
static char *failing_strdup(const char *s) {
    return is_failing() ? NULL : strdup(s);
}
#define malloc(n)     failing_malloc(n)
#define calloc(n, s)  failing_calloc(n, s)
#define realloc(p, n) failing_realloc(p, n)
#define asprintf      failing_asprintf
#undef strdup
#define strdup(s) failing_strdup(s)
#include "../../src/assist/assistant.c"
#include "../../src/assist/choose.c"
#include "../../src/assist/clauses.c"
#include "../../src/assist/differential.c"
#include "../../src/assist/edge.c"
#include "../../src/assist/evidence.c"
#include "../../src/assist/flags.c"
#include "../../src/assist/gain.c"
#include "../../src/assist/input.c"
#include "../../src/assist/items.c"
#include "../../src/assist/loop.c"
#include "../../src/assist/names.c"
#include "../../src/assist/prompts.c"
#include "../../src/assist/questions.c"
#include "../../src/assist/rank.c"
#include "../../src/assist/samples.c"
#include "../../src/assist/score.c"
#include "../../src/assist/text.c"
#include "../../src/assist/urgency.c"
#undef malloc
#undef calloc
#undef realloc
#undef asprintf
#undef strdup

/* ------------------------------------------------------------ a table of codes of three rows */

struct galen_codes {
    int unused;
};
static galen_codes fake_codes;
static const char *const coded[][3] = {{"flu", "J11.1", "Influenza"},
                                       {"cold", "J00", "Acute nasopharyngitis"},
                                       {"croup", "J11.1", "Influenza"}}; /* a synonym of flu, here */

galen_status galen_codes_open(galen_codes **out, const char *path, galen_error *err) {
    (void)path, (void)err;
    *out = &fake_codes;
    return GALEN_OK;
}
void galen_codes_close(galen_codes *c) {
    (void)c;
}
int32_t galen_codes_year(const galen_codes *c) {
    (void)c;
    return 2026;
}
galen_status galen_codes_find(const galen_codes *c, const char *name, size_t len, galen_code *out, galen_error *err) {
    (void)c, (void)err;
    char normal[128];
    *out = (galen_code){0};
    (void)text_normal(name, len, normal, sizeof normal);
    for (size_t i = 0; i < sizeof coded / sizeof coded[0]; i++) {
        if (strcmp(coded[i][0], normal) != 0) continue;
        (void)snprintf(out->code, sizeof out->code, "%s", coded[i][1]);
        out->title = coded[i][2];
        out->score = 1;
    }
    return GALEN_OK;
}

/* ------------------------------------------------------------ scripts */

static void put(float *logits, const char *word, float v) {
    logits[word_id(word)] = v;
}
static void always_flu(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    put(l, " flu", 9);
}
static void always_newline(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    put(l, "\n", 9);
}
static void always_end(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    l[FAKE_END] = 9;
}
static void always_blank(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    l[' '] = 9;
}
static void always_form(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    put(l, "confidence", 9);
    put(l, " name", 8);
    l[':'] = 7;
}
static void always_bad_byte(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    l[0xFF] = 9;
    l[0xE4] = 8; /* begins a character that never ends */
}
static void always_nul(const int32_t *h, int32_t n, float *l) {
    (void)h, (void)n;
    l[0] = 9;
    l['A'] = 8;
}
/* The same name in every spelling, then a line break. */
static void flu_spellings(const int32_t *h, int32_t n, float *l) {
    static const char *const all[] = {" flu", " Flu", "flu"};
    for (int i = 0; i < 3; i++) put(l, all[i], 9.0f - (float)i);
    for (int i = 0; i < 3; i++) {
        if (h[n - 1] == word_id(all[i])) put(l, "\n", 20);
    }
    put(l, " cold", 4);
    if (h[n - 1] == word_id(" cold")) put(l, "\n", 20);
}
/* Random logits, from the seed and the whole history. */
static void random_weights(const int32_t *h, int32_t n, float *l) {
    uint64_t x = fake.seed * 0x9E3779B97F4A7C15u + 1;
    for (int32_t i = n > 8 ? n - 8 : 0; i < n; i++) x = (x ^ (uint64_t)h[i]) * 0x100000001B3u;
    for (int32_t v = 0; v < FAKE_VOCAB; v++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        l[v] = (float)(x >> 40) / (float)(1 << 20);
    }
}
static void not_a_number(const int32_t *h, int32_t n, float *l) {
    (void)h;
    if (n > 300)
        l[7] = NAN;
    else
        always_flu(h, n, l);
}
/* A model that knows its trade: five one-word names of known probabilities; letters with a liking of their own; questions. */
static const char *const ranked_names[] = {" cold", " flu", " asthma", " Pneumonia", " croup"};
static const float ranked_logits[] = {5, 8, 6, 7, 4};
static float letter_liking[6];                        /* of the letters A to F, whatever stands behind them */
static float option_worth[6] = {1, 4, 2, 3, 0.5f, 0}; /* of ranked_names and of none of these */
static float yes_odds[6];                             /* of ranked_names and another condition, to any question */
static float urgent_odds, calm_odds;

/* Which of ranked_names is named last in text; 5 = another. */
static int last_named(const char *text) {
    const char *best = NULL;
    int which = 5;
    for (int i = 0; i < 5; i++) {
        for (const char *p = text; (p = strstr(p, ranked_names[i] + 1)); p++) {
            if (p > best) {
                best = p;
                which = i;
            }
        }
    }
    return which;
}

static void at_letters(const char *text, float *l) {
    static const char *const letters_[] = {" A", " B", " C", " D", " E", " F"};
    for (int i = 0; i < 6; i++) {
        char lead[8], line[128];
        (void)snprintf(lead, sizeof lead, "%s. ", letters_[i] + 1);
        const char *p = strstr(strstr(text, "likely cause?"), lead);
        (void)snprintf(line, sizeof line, "%.*s", (int)strcspn(p + 3, "\n"), p + 3);
        put(l, letters_[i], 10 + letter_liking[i] + option_worth[strcmp(line, "None of these") == 0 ? 5 : last_named(line)]);
    }
}

static void ranked(const int32_t *h, int32_t n, float *l) {
    static char text[8192];
    const int32_t last = h[n - 1];
    fake_tail(h, n, text, sizeof text);
    const size_t k = strlen(text);
    for (int i = 0; i < 5; i++) {
        put(l, ranked_names[i], ranked_logits[i]);
        if (last == word_id(ranked_names[i])) put(l, "\n", 30);
    }
    if (k > 7 && strcmp(text + k - 7, "Answer:") == 0) {
        const char *before = text + k - (k > 60 ? 60 : k);
        if (strstr(before, "one letter"))
            at_letters(text, l);
        else
            put(l, " yes", strstr(text, "no complaints") ? calm_odds : urgent_odds);
    }
    if (k > 14 && strcmp(text + k - 14, " the answer is") == 0) {
        const char *lead = text + k - (k > 60 ? 60 : k);
        put(l, " yes", 20 + yes_odds[last_named(strstr(lead, "If the"))]);
        put(l, " no", 20);
    }
    /* Questions: "Do you", "Have you", "Is it" ... then a finding. */
    static const char *const first[] = {" Do", " Have", " Is", " Are", " Did"}, *const found[] = {" fever?", " rash?", " cough?"};
    if (last == '.') {
        for (int i = 0; i < 5; i++) put(l, first[i], 20 - (float)i);
    }
    for (int i = 0; i < 5; i++) {
        if (last == word_id(first[i])) put(l, i == 2 ? " it" : " you", 40);
    }
    if (last == word_id(" you") || last == word_id(" it")) {
        for (int i = 0; i < 3; i++) put(l, found[i], 40 - (float)i);
    }
}

/* ------------------------------------------------------------ harness */

typedef struct heard {
    char text[2][5][512];
    bool is_ended[2][5];
    galen_assist_part parts[64];
    int n_events, stop_at; /* stop_at > 0: refuse that event */
    int n_ranked, n_triaged;
    galen_triage_level level; /* of the last triage */
} heard;

static bool hear(void *user, const galen_assist_event *e) {
    heard *h = user;
    if (h->n_events < 64) h->parts[h->n_events] = e->part;
    if (e->part == GALEN_PART_CONDITION || e->part == GALEN_PART_QUESTION) {
        const int kind = e->part == GALEN_PART_QUESTION;
        assert_in_range(e->index, 0, 4);
        assert_true(e->text_len < sizeof h->text[0][0]);
        memcpy(h->text[kind][e->index], e->text, e->text_len);
        h->text[kind][e->index][e->text_len] = '\0';
        h->is_ended[kind][e->index] = e->is_end;
    }
    if (e->part == GALEN_PART_RANKING) h->n_ranked++;
    if (e->part == GALEN_PART_TRIAGE) {
        assert_true(e->triage->level >= h->level); /* never lowered */
        h->level = e->triage->level;
        h->n_triaged++;
    }
    return ++h->n_events != h->stop_at;
}

static galen_assistant *open_opts(fake_script script, heard *h, galen_assistant_opts o) {
    galen_assistant *a = NULL;
    galen_error err = {0};
    fake.script = script;
    fake.on_eval = NULL;
    fake.n_evals = 0;
    if (h) {
        *h = (heard){0};
        o.on_event = hear;
        o.user = h;
    }
    const galen_status st = galen_assistant_open(&a, &fake_model, &o, &err);
    if (st) print_message("  %s\n", err.msg);
    assert_int_equal(st, GALEN_OK);
    return a;
}

static galen_assistant *open_with(fake_script script, heard *h, int32_t n_ctx) {
    galen_assistant_opts o = galen_assistant_default_opts();
    o.n_ctx = n_ctx;
    return open_opts(script, h, o);
}

static void check_line(const char *s, size_t cap) {
    const size_t n = strlen(s);
    assert_in_range(n, 1, cap - 1);
    assert_true(utf8_is_valid(s, n));
    assert_true(text_has_letter(s, n));
    assert_true(s[0] != ' ' && s[n - 1] != ' ');
    for (size_t i = 0; i < n; i++) assert_true((unsigned char)s[i] >= 0x20);
}

static void check_quotes(const galen_evidence *e, int32_t n, const char *text, double sign) {
    assert_in_range(n, 0, GALEN_MAX_EVIDENCE);
    for (int32_t i = 0; i < n; i++) {
        assert_true(e[i].from < e[i].to && e[i].to <= strlen(text)); /* a substring, always */
        assert_true(text_has_letter(text + e[i].from, e[i].to - e[i].from));
        assert_true(e[i].bits * sign >= EVIDENCE_BITS);
    }
}

/* Everything that must hold for any model. */
static void check_result(const galen_differential *d, const heard *h, const char *text) {
    double sum = d->other;
    bool seen[5] = {false};
    for (int i = 0; i < 5; i++) {
        const galen_condition *c = &d->conditions[i];
        check_line(c->name, GALEN_NAME_BYTES);
        for (int k = 0; k < i; k++) {
            assert_false(galen_condition_is_same(NULL, c->name, d->conditions[k].name));
            assert_true(!c->code[0] || strcmp(c->code, d->conditions[k].code) != 0);
        }
        assert_true(c->confidence >= 0 && c->confidence <= 1 && c->prior >= 0 && c->prior <= 1);
        assert_true(c->name_logprob <= 0 && c->text_logprob <= 0 && c->choice_logprob <= 0);
        assert_true(i == 0 || c->confidence <= d->conditions[i - 1].confidence);
        sum += c->confidence;
        assert_in_range(c->order, 0, 4);
        assert_false(seen[c->order]);
        seen[c->order] = true;
        check_quotes(c->support, c->n_support, text, 1);
        check_quotes(c->against, c->n_against, text, -1);
        if (!h) continue;
        assert_true(h->is_ended[0][c->order]);
        assert_string_equal(h->text[0][c->order], c->name);
    }
    assert_true(fabs(sum - 1) < 1e-6);
    assert_true(d->entropy_bits >= 0 && d->entropy_bits <= log2(6) + 1e-9);
}

static void check_questions(const galen_questions *q, const heard *h) {
    for (int i = 0; i < 5; i++) {
        const galen_question *one = &q->questions[i];
        bool is_heard = false;
        check_line(one->text, GALEN_QUESTION_BYTES);
        for (int k = 0; k < 5; k++) is_heard |= strcmp(h->text[1][k], one->text) == 0;
        assert_true(is_heard);
        assert_true(one->bits >= 0 && (i == 0 || one->bits <= q->questions[i - 1].bits));
        for (int k = 0; k < i; k++) assert_string_not_equal(one->text, q->questions[k].text);
    }
}

static const char symptoms[] = "persistent cough, fever";

static void run_both(galen_assistant *a, heard *h) {
    static galen_differential d;
    static galen_questions q;
    galen_error err = {0};
    const galen_status st = galen_assistant_diagnose(a, symptoms, strlen(symptoms), &d, &err);
    if (st) print_message("  %s\n", err.msg);
    assert_int_equal(st, GALEN_OK);
    check_result(&d, h, symptoms);
    int n = 0;
    for (int i = 0; i < 5; i++) n += d.conditions[i].n_tokens;
    assert_in_range(n, 5, DIAGNOSIS_TOKENS);
    assert_int_equal(galen_assistant_questions(a, &q, &err), GALEN_OK);
    check_questions(&q, h);
}

static void set_odds(float first, float others) {
    yes_odds[0] = first;
    for (int i = 1; i < 6; i++) yes_odds[i] = others;
}

/* p by order of writing. */
static void confidences_of(const galen_differential *d, double p[6]) {
    for (int i = 0; i < 5; i++) p[d->conditions[i].order] = d->conditions[i].confidence;
    p[5] = d->other;
}

static galen_assistant *open_case(galen_assistant_opts o, heard *h, const char *text) {
    galen_differential d;
    galen_error err = {0};
    galen_assistant *a = open_opts(ranked, h, o);
    const galen_status st = galen_assistant_diagnose(a, text, strlen(text), &d, &err);
    if (st) print_message("  %s\n", err.msg);
    assert_int_equal(st, GALEN_OK);
    return a;
}

/* Answers no to everything: red flags come first, nothing twice, Bayes' rule holds to the digit, and it ends. */

#endif
