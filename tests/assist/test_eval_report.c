/* galen eval's numbers: statistics against values of scipy 1.17.1 (and statsmodels, scikit-learn, numpy), rows and back, reports
 * counted by hand, two runs compared. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "assist/json_line.h"
#include "eval/report.h"
#include "eval/results.h"

#define NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

/* scipy.stats.binomtest(hits, n).proportion_ci(method='wilson') */
static void test_wilson(void **state) {
    (void)state;
    static const struct {
        int32_t hits, n;
        double low, high;
    } rows[] = {
        {0, 1, 0.0000000000, 0.7934506856},    {1, 1, 0.2065493144, 1.0000000000},    {0, 10, 0.0000000000, 0.2775327999},
        {10, 10, 0.7224672001, 1.0000000000},  {1, 15, 0.0118668955, 0.2981652987},   {134, 135, 0.9592359170, 0.9986912118},
        {37, 150, 0.1845816296, 0.3214032943}, {12, 101, 0.0692871945, 0.1962705261}, {500, 1000, 0.4690696004, 0.5309303996},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const fit_interval w = stats_wilson(rows[i].hits, rows[i].n);
        NEAR(w.value, (double)rows[i].hits / rows[i].n, 1e-15);
        NEAR(w.low, rows[i].low, 1e-9);
        NEAR(w.high, rows[i].high, 1e-9);
    }
    const fit_interval none = stats_wilson(0, 0);
    assert_true(none.low <= 0 && none.high >= 1);
}

/* scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue */
static void test_mcnemar(void **state) {
    (void)state;
    static const struct {
        int32_t b, c;
        double p;
    } rows[] = {{0, 0, 1},
                {1, 0, 1},
                {5, 0, 0.0625},
                {6, 2, 0.2890625},
                {12, 2, 0.012939453125},
                {30, 20, 0.202638751065},
                {3, 3, 1},
                {100, 60, 0.00195372803406}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const stats_pairs p = {.both = 9, .only_first = rows[i].b, .only_second = rows[i].c, .neither = 4};
        const stats_pairs q = {.only_first = rows[i].c, .only_second = rows[i].b};
        NEAR(stats_mcnemar(&p), rows[i].p, 1e-11);
        NEAR(stats_mcnemar(&q), rows[i].p, 1e-11);
    }
}

/* The first row is Newcombe's own example (1998, table III: 0.0569 to 0.3404); all were computed from statsmodels' Wilson limits.
 */
static void test_paired_difference(void **state) {
    (void)state;
    static const struct {
        stats_pairs p;
        double value, low, high;
    } rows[] = {
        {{36, 12, 2, 0}, 0.2, 0.0569295840, 0.3404276030},   {{0, 0, 0, 5}, 0, -0.4344824648, 0.4344824648},
        {{5, 0, 0, 0}, 0, -0.4344824648, 0.4344824648},      {{43, 0, 1, 0}, -0.0227272727, -0.1180770970, 0.0597180084},
        {{20, 12, 3, 15}, 0.18, 0.0295309579, 0.3167309477}, {{1, 2, 30, 4}, -0.7567567568, -0.8744737830, -0.5208091604},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const fit_interval d = stats_paired_difference(&rows[i].p);
        NEAR(d.value, rows[i].value, 1e-9);
        NEAR(d.low, rows[i].low, 1e-9);
        NEAR(d.high, rows[i].high, 1e-9);
    }
    const stats_pairs none = {0};
    assert_true(stats_paired_difference(&none).low <= -1);
}

/* numpy.quantile([3, 1, 2, 10], [.05, .5, .95]) */
static void test_quantiles(void **state) {
    (void)state;
    double v[] = {3, 1, 2, 10}, one[] = {7};
    NEAR(stats_quantile(v, 4, 0.05), 1.15, 1e-12);
    NEAR(stats_quantile(v, 4, 0.5), 2.5, 1e-12);
    NEAR(stats_quantile(v, 4, 0.95), 8.95, 1e-12);
    NEAR(stats_quantile(one, 1, 0.05), 7, 0);
    NEAR(stats_quantile(one, 0, 0.05), 0, 0);
}

/* ------------------------------------------------------------ calibration */

static const fit_case scored[] = {
    {.name = {0, 0.45, -0.41, -1.34, -0.68},
     .choice = {-1.89, -1.94, -3.23, -1.92, -0.64, -3.55},
     .text = {-95.34, -97.39, -100.1, -97.33, -101.36},
     .n_text = 35,
     .has_choice = true,
     .right = 0},
    {.name = {-1.49, 0.09, 2.01, -0.74, -0.93},
     .choice = {-1.14, -1.88, -2.64, 0, -1.24, -3.2},
     .text = {-95.79, -100.02, -97.67, -105.16, -98.61},
     .n_text = 33,
     .has_choice = true,
     .right = 3},
    {.name = {0.73, 0.54, 0.16, -1.4, -0.04},
     .choice = {-1.93, -1.42, -2.19, -1.32, -2.07, -1.33},
     .text = {-106.75, -108.14, -101.22, -103.6, -99.34},
     .n_text = 32,
     .has_choice = true,
     .right = 5},
    {.name = {1.04, -2.02, -0.69, -2.85, -1.93},
     .choice = {-0.56, -2.68, -1.8, -2.46, -1.87, -3.19},
     .text = {-91.02, -103.33, -102.5, -99.18, -98.03},
     .n_text = 57,
     .has_choice = true,
     .right = 1},
    {.name = {-2.76, -0.35, -1.9, 0.41, 0.24},
     .choice = {-2.58, -2.2, -1.1, -0.85, -3.32, -2.79},
     .text = {-100.71, -100.82, -97.19, -97.92, -104.13},
     .n_text = 54,
     .has_choice = true,
     .right = 2},
    {.name = {-0.28, -3.78, -0.81, -0.07, 0.17},
     .choice = {-1.35, -3.99, -2.46, -2.1, -0.74, -1.31},
     .text = {-100.32, -99.86, -104.22, -98.96, -103.43},
     .n_text = 42,
     .has_choice = true,
     .right = 0},
    {.name = {-2.3, -0.72, -1.47, -1.21, 1.59},
     .choice = {-2.33, -2.37, -2.25, -0.48, -2.43, -2.3},
     .text = {-96.11, -99.23, -99.64, -102.36, -100.47},
     .n_text = 59,
     .has_choice = true,
     .right = 4},
    {.name = {-1.21, -0.05, 1.33, -0.88, -0.17},
     .choice = {-1.65, -2.12, -2.2, -3.11, -2.01, -2.44},
     .text = {-107.99, -104.53, -98.55, -108.51, -96.61},
     .n_text = 33,
     .has_choice = true,
     .right = 5},
};
enum { N_SCORED = sizeof scored / sizeof scored[0] };

/* The confidences computed in numpy from rank.c's formula; ECE in 15 bins and the mean square by numpy, AUROC by
 * sklearn.metrics.roc_auc_score. */
static void test_calibration(void **state) {
    (void)state;
    static const struct {
        galen_calibration k;
        double ece, brier, auroc, top1;
        int32_t bins[FIT_BINS];
    } rows[] = {
        {{.temperature = 1, .name_weight = 0.5, .text_weight = 2},
         0.182217388654,
         0.153353562969,
         0.416666666667,
         0.25,
         {16, 8, 4, 1, 5, 3, 1, 0, 1, 0, 0, 0, 0, 1, 0}},
        {{.temperature = 2.5, .name_weight = 0.3, .text_weight = 1, .other_bias = 0.4},
         0.062979178459,
         0.127578634217,
         0.571428571429,
         0.125,
         {2, 13, 19, 4, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
    };
    for (size_t i = 0; i < 2; i++) {
        fit_report r;
        fit_bin bins[FIT_BINS];
        double ece = 0;
        assert_int_equal(fit_measure(scored, N_SCORED, &rows[i].k, 1, &r, NULL), GALEN_OK);
        NEAR(r.ece.value, rows[i].ece, 1e-11);
        NEAR(r.brier.value, rows[i].brier, 1e-11);
        NEAR(r.auroc.value, rows[i].auroc, 1e-11);
        NEAR(r.top1.value, rows[i].top1, 1e-12);
        fit_bins(scored, N_SCORED, &rows[i].k, bins);
        for (int b = 0; b < FIT_BINS; b++) {
            assert_int_equal(bins[b].n, rows[i].bins[b]);
            ece += fabs(bins[b].sum - bins[b].n_right) / (N_SCORED * 5);
        }
        NEAR(ece, rows[i].ece, 1e-11);
    }
}

/* ------------------------------------------------------------ rows */

/* A row with something in every member. */
static eval_row sample(int number) {
    eval_row r = {.expected = "Sarcoidosis",
                  .expected_code = "D86.9",
                  .tier = 2,
                  .least = 3,
                  .most = 4,
                  .level = 3,
                  .n_flags = 2,
                  .rules_s = 0.25,
                  .status = EVAL_DONE,
                  .other = 0.125,
                  .model_level = 4,
                  .first_s = 1.5,
                  .ranked_s = 2.5,
                  .name_rank = 2,
                  .category_rank = 1,
                  .n_categories = 2,
                  .questions = {EVAL_DONE, 4, 1, 2, 1, 3, 1, 2, GALEN_STOP_NO_GAIN, 7.5}};
    (void)snprintf(r.key, sizeof r.key, "%032d", number);
    (void)snprintf(r.id, sizeof r.id, "case %d \"\xC3\xA9\"", number);
    (void)snprintf(r.categories[0], CASE_CATEGORY_BYTES, "sepsis");
    (void)snprintf(r.categories[1], CASE_CATEGORY_BYTES, "gi_bleed");
    r.scores = scored[number % N_SCORED];
    for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
        r.conditions[i] =
            (eval_condition){.confidence = 0.3 - 0.05 * i, .order = 4 - i, .is_name = i == 1, .is_category = i == 0};
        (void)snprintf(r.conditions[i].name, sizeof r.conditions[i].name, "condition %d", i);
        if (i < 3) (void)snprintf(r.conditions[i].code, sizeof r.conditions[i].code, "A0%c.1", '0' + i);
    }
    return r;
}

static void test_round_trip(void **state) {
    (void)state;
    eval_row in[4] = {sample(1), sample(2), sample(3), sample(4)}, out;
    in[1].status = in[1].questions.status = EVAL_REFUSED; /* then the model's members are not written */
    in[2].tier = in[2].least = in[2].most = -1;
    in[2].expected[0] = in[2].expected_code[0] = in[2].id[0] = '\0';
    in[2].n_categories = 0;
    in[3].questions.reached = -1;
    eval_head head = {.seed = 7,
                      .max_questions = 3,
                      .calibration = {.size = sizeof(galen_calibration),
                                      .temperature = 2,
                                      .name_weight = 0.25,
                                      .text_weight = 1,
                                      .other_bias = -0.5,
                                      .n_cases = 30}},
              head_out;
    (void)snprintf(head.model_name, sizeof head.model_name, "a model");
    for (int i = 0; i < 4; i++) {
        size_t n, m;
        bool is_head;
        json_t *j = row_json(&in[i]);
        char *line = json_line_write(j, &n);
        assert_non_null(line);
        assert_int_equal(result_parse(line, n, &is_head, &head_out, &out, NULL), GALEN_OK);
        assert_false(is_head);
        json_t *again = row_json(&out);
        char *second = json_line_write(again, &m);
        assert_string_equal(line, second);
        assert_int_equal(out.tier * 100 + out.least * 10 + out.most, in[i].tier * 100 + in[i].least * 10 + in[i].most);
        assert_int_equal(out.level * 100 + out.n_flags * 10 + out.n_categories,
                         in[i].level * 100 + in[i].n_flags * 10 + in[i].n_categories);
        assert_string_equal(out.id, in[i].id);
        assert_string_equal(out.expected_code, in[i].expected_code);
        if (i == 0) {
            assert_memory_equal(out.scores.name, in[0].scores.name, sizeof out.scores.name); /* to the last bit */
            assert_memory_equal(out.scores.choice, in[0].scores.choice, sizeof out.scores.choice);
            assert_memory_equal(out.scores.text, in[0].scores.text, sizeof out.scores.text);
            assert_int_equal(out.scores.n_text * 10 + out.scores.right, in[0].scores.n_text * 10 + in[0].scores.right);
            assert_int_equal(out.model_level * 100 + out.name_rank * 10 + out.category_rank, 421);
            assert_int_equal(out.conditions[1].order * 10 + out.conditions[1].is_name, 31);
            assert_int_equal(out.questions.n_asked * 1000 + out.questions.n_yes * 100 + out.questions.n_no * 10 +
                                 out.questions.n_unknown,
                             4121);
            assert_int_equal(out.questions.start_rank * 100 + out.questions.end_rank * 10 + out.questions.reached, 312);
            assert_int_equal(out.questions.stop, GALEN_STOP_NO_GAIN);
            NEAR(out.rules_s + out.first_s + out.ranked_s + out.questions.seconds + out.other, 0.25 + 1.5 + 2.5 + 7.5 + 0.125, 0);
        }
        json_decref(j);
        json_decref(again);
        free(line);
        free(second);
    }
    size_t n;
    bool is_head;
    json_t *j = head_json(&head);
    char *line = json_line_write(j, &n);
    assert_int_equal(result_parse(line, n, &is_head, &head_out, &out, NULL), GALEN_OK);
    assert_true(is_head);
    assert_null(head_differs(&head, &head_out));
    head_out.device[0] = 'x'; /* a result does not depend on it: the same file may go on elsewhere */
    assert_null(head_differs(&head, &head_out));
    head_out.calibration.temperature = 3;
    assert_string_equal(head_differs(&head, &head_out), "calibration");
    head_out.seed = 8;
    assert_string_equal(head_differs(&head, &head_out), "seed");
    json_decref(j);
    free(line);
}

/* Each member that is gone or of another type is an error that names it; none is taken for something else. */
static void test_damaged_rows(void **state) {
    (void)state;
    static const struct {
        const char *object, *key; /* object NULL: the row itself */
    } members[] = {{NULL, "key"},           {NULL, "id"},
                   {"labels", "diagnosis"}, {"labels", "tier"},
                   {"labels", "least"},     {"labels", "categories"},
                   {"rules", "level"},      {"rules", "n_flags"},
                   {"rules", "seconds"},    {"model", "status"},
                   {"model", "conditions"}, {"model", "other"},
                   {"model", "name_rank"},  {"model", "level"},
                   {"model", "first_s"},    {"questions", "status"},
                   {"questions", "n_yes"},  {"questions", "stop"},
                   {"questions", "reached"}};
    const eval_row in = sample(1);
    eval_row out;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        for (int way = 0; way < 2; way++) {
            galen_error err = {0};
            char want[64];
            json_t *j = row_json(&in), *o = members[i].object ? json_object_get(j, members[i].object) : j;
            assert_non_null(json_object_get(o, members[i].key));
            if (way)
                assert_int_equal(json_object_del(o, members[i].key), 0);
            else
                assert_int_equal(json_object_set_new(o, members[i].key, json_pack("{}")), 0);
            assert_int_equal(row_from_json(j, &out, &err), GALEN_E_FORMAT);
            (void)snprintf(want, sizeof want, "\"%s\"", members[i].key);
            assert_non_null(strstr(err.msg, want));
            json_decref(j);
        }
    }
    json_t *j = row_json(&in);
    json_t *first = json_array_get(json_object_get(json_object_get(j, "model"), "conditions"), 0);
    assert_int_equal(json_object_set_new(first, "order", json_integer(0)), 0); /* two of one order */
    assert_int_equal(row_from_json(j, &out, NULL), GALEN_E_FORMAT);
    json_decref(j);
}

/* ------------------------------------------------------------ results files */

typedef struct bytes {
    const char *s;
    size_t n;
} bytes;

static long read_bytes(void *user, char *buf, size_t cap) {
    bytes *b = user;
    const size_t k = b->n < cap ? b->n : cap;
    memcpy(buf, b->s, k);
    b->s += k;
    b->n -= k;
    return (long)k;
}

static char file[65536];
static size_t n_file;

static void put_line(json_t *j) {
    size_t n;
    char *line = json_line_write(j, &n);
    assert_true(n_file + n + 2 < sizeof file);
    memcpy(file + n_file, line, n);
    n_file += n;
    file[n_file++] = '\n';
    free(line);
    json_decref(j);
}

static void test_results(void **state) {
    (void)state;
    const eval_head head = {.seed = 1};
    eval_results r;
    n_file = 0;
    put_line(head_json(&head));
    for (int i = 0; i < 20; i++) {
        const eval_row row = sample(i % 15); /* five of them twice */
        put_line(row_json(&row));
    }
    for (size_t cut = 0; cut < 3; cut++) { /* whole; killed in the last line; killed before its break */
        bytes b = {file, n_file - (cut == 1 ? 40 : cut == 2)};
        assert_int_equal(results_read(&r, read_bytes, &b, NULL), GALEN_OK);
        assert_true(r.has_head);
        assert_int_equal(r.is_cut, cut == 1);
        assert_int_equal(r.n, 15);
        assert_non_null(results_find(&r, sample(14).key));
        assert_null(results_find(&r, "nothing"));
        results_free(&r);
    }
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"{\"kind\":\"case\"}\n", "line 1: a case's \"key\""},
        {"{\"text\":\"canary\"}\n", "line 1: no line of a results file"},
        {"canary\n", "line 1: not one JSON object"},
        {"{\"kind\":\"head\",\"schema_version\":2}\n", "line 1: the first line's \"schema_version\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        galen_error err = {0};
        bytes b = {bad[i].text, strlen(bad[i].text)};
        assert_int_equal(results_read(&r, read_bytes, &b, &err), GALEN_E_FORMAT);
        assert_int_equal(strncmp(err.msg, bad[i].why, strlen(bad[i].why)), 0);
        assert_null(strstr(err.msg, "canary"));
    }
    bytes none = {"", 0};
    assert_int_equal(results_read(&r, read_bytes, &none, NULL), GALEN_OK);
    assert_false(r.has_head);
    results_free(&r);
    n_file = 0;
    const eval_row row = sample(1);
    put_line(row_json(&row));
    galen_error err = {0};
    bytes headless = {file, n_file};
    assert_int_equal(results_read(&r, read_bytes, &headless, &err), GALEN_E_FORMAT);
    assert_non_null(strstr(err.msg, "\"head\""));
}

/* ------------------------------------------------------------ reports */

/* Rows small enough to count by hand. */
static void test_report(void **state) {
    (void)state;
    eval_row rows[6];
    memset(rows, 0, sizeof rows);
    for (int i = 0; i < 6; i++) {
        rows[i] = (eval_row){.tier = -1, .least = -1, .most = -1, .questions = {.reached = -1}};
        (void)snprintf(rows[i].key, sizeof rows[i].key, "%032d", i);
    }
    /* a critical case two levels too low; an urgent one above; a routine one escalated; a level that is met */
    rows[0].tier = 2, rows[0].least = 3, rows[0].most = 4, rows[0].level = rows[0].model_level = 1;
    rows[1].tier = 1, rows[1].least = 2, rows[1].most = 3, rows[1].level = rows[1].model_level = 4;
    rows[2].tier = 0, rows[2].least = 0, rows[2].most = 1, rows[2].level = rows[2].model_level = 2;
    rows[3].least = rows[3].most = 2, rows[3].level = rows[3].model_level = 2;
    rows[0].n_categories = rows[1].n_categories = 1;
    memcpy(rows[0].categories[0], "sepsis", 7);
    memcpy(rows[1].categories[0], "sepsis", 7);
    /* two lists: a code found third, a name without a code found first; then the questions */
    memcpy(rows[4].expected, "Gout", 5), memcpy(rows[4].expected_code, "M10.9", 6);
    rows[4].status = EVAL_DONE, rows[4].category_rank = 3, rows[4].name_rank = 0, rows[4].scores = scored[0];
    rows[4].questions = (eval_questions){EVAL_DONE, 5, 2, 1, 2, 3, 1, 2, GALEN_STOP_COUNT, 10};
    memcpy(rows[5].expected, "A rare thing", 13);
    rows[5].status = EVAL_DONE, rows[5].name_rank = 1, rows[5].scores = scored[2];
    rows[5].questions = (eval_questions){EVAL_DONE, 1, 0, 0, 1, 0, 0, -1, GALEN_STOP_NO_GAIN, 2};
    const eval_head head = {.seed = 1};
    eval_report *r = malloc(sizeof *r);
    assert_non_null(r);
    assert_int_equal(eval_report_make(rows, 6, &head, r, NULL), GALEN_OK);
    assert_int_equal(r->n, 6);
    assert_int_equal(r->n_diagnosis, 2);
    assert_int_equal(r->n_coded, 1);
    assert_int_equal(r->n_labelled, 4);
    assert_int_equal(r->n_unlabelled, 0);
    assert_int_equal(r->category[0].hits * 10 + r->category[0].n, 1);
    assert_int_equal(r->category[1].hits * 10 + r->category[1].n, 11);
    assert_int_equal(r->name[0].hits * 10 + r->name[0].n, 12);
    assert_int_equal(r->rules.sensitivity.hits * 10 + r->rules.sensitivity.n, 23); /* critical missed, urgent and the level not */
    assert_int_equal(r->rules.false_alarms.hits * 10 + r->rules.false_alarms.n, 11);
    assert_int_equal(r->rules.under.hits * 10 + r->rules.under.n, 14);
    assert_int_equal(r->rules.far_under.hits, 1);
    assert_int_equal(r->rules.over.hits, 2);
    assert_int_equal(r->rules.labels[CASE_N_TIERS + 2].n, 1);
    assert_int_equal(r->rules.labels[EVAL_N_LABELS - 1].n, 2); /* no label */
    assert_int_equal(r->n_categories, 1);
    assert_int_equal(r->categories[0].escalated.hits * 10 + r->categories[0].escalated.n, 12);
    assert_int_equal(r->n_scored, 2);
    assert_false(r->is_calibrated);
    assert_int_equal(r->loop.n, 2);
    assert_int_equal(r->loop.n_never, 1);
    assert_int_equal(r->loop.by[1].hits, 0); /* by one question */
    assert_int_equal(r->loop.by[2].hits, 1); /* by three        */
    assert_int_equal(r->loop.in_five.hits, 1);
    assert_int_equal(r->loop.moved.only_first, 1);
    assert_int_equal(r->loop.n_yes * 100 + r->loop.n_no * 10 + r->loop.n_unknown, 213);
    NEAR(r->loop.reached.median, 2, 0);
    NEAR(r->questions_s.median, 6, 1e-12);
    json_t *j = eval_report_json(r);
    assert_non_null(j);
    json_decref(j);
    assert_int_equal(eval_report_make(rows, 0, &head, r, NULL), GALEN_OK); /* nothing was done */
    j = eval_report_json(r);
    assert_non_null(j);
    json_decref(j);
    free(r);
}

static void test_compare(void **state) {
    (void)state;
    eval_row a[4] = {sample(1), sample(2), sample(3), sample(4)}, b[4] = {sample(3), sample(2), sample(9), sample(1)};
    b[0].category_rank = 0;               /* case 3: found by the first run alone */
    a[1].name_rank = 1;                   /* case 2: first in the first run alone */
    b[3].questions.status = EVAL_REFUSED; /* case 1: its questions are not compared */
    a[2].model_level = 2;                 /* case 3: its level is reached by the second alone */
    eval_comparison c;
    assert_int_equal(eval_compare(a, 4, b, 4, &c, NULL), GALEN_OK);
    assert_int_equal(c.n_both, 3);
    assert_int_equal(c.n_only_first, 1);
    assert_int_equal(c.n_only_second, 1);
    assert_int_equal(c.pairs[0].pairs.only_first, 1);
    assert_int_equal(c.pairs[0].pairs.both, 2);
    assert_int_equal(c.pairs[2].pairs.only_first, 1);
    assert_int_equal(c.pairs[4].pairs.only_second, 1);
    assert_int_equal(c.pairs[5].pairs.both, 2);
    NEAR(c.pairs[0].difference.value, 1.0 / 3, 1e-12);
    assert_int_equal(eval_compare(a, 0, b, 4, &c, NULL), GALEN_OK);
    assert_int_equal(c.n_only_second, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson),       cmocka_unit_test(test_mcnemar),     cmocka_unit_test(test_paired_difference),
        cmocka_unit_test(test_quantiles),    cmocka_unit_test(test_calibration), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damaged_rows), cmocka_unit_test(test_results),     cmocka_unit_test(test_report),
        cmocka_unit_test(test_compare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
