/* The assistant's pure parts: names, clauses, fitting, calibration files, labelled cases, turns as JSON. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "assist/calibration.h"
#include "assist/case.h"
#include "assist/cases.h"
#include "assist/clauses.h"
#include "assist/names.h"
#include "assist/record.h"
#include "assist/text.h"
#include "base/rng.h"
#include "tensor/log_sum.h"

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool is_same;
    } cases[] = {
        {"Crohn's disease", "Crohn disease", true},
        {"Infarction of the heart", "Heart infarction", true},
        {"Haemorrhoids", "hemorrhoid", true},
        {"Oedema", "Edema", true},
        {"Down syndrome", "Down's Syndrome", true},
        {"Pneumonia", "pneumonia.", true},
        {"COVID-19", "Covid 19", true},
        {"Viral pneumonia", "Bacterial pneumonia", false},
        {"Acute bronchitis", "Chronic bronchitis", false},
        {"Disease", "Syndrome", false},
        {"Pertussis", "Pertussi", false},
        {"Abscess", "Absces", false},
        {"Type 1 diabetes", "Type 2 diabetes", false},
        {"Heart attack", "Myocardial infarction", false}, /* that takes the table of codes */
        {"\xE8\x82\xBA\xE7\x82\x8E", "\xE8\x82\xBA\xE7\x82\x8E", true},
        {"\xC3\x89pilepsie", "\xC3\xA9pilepsie", true}, /* a capital with an accent */
        {"E\xCC\x81pilepsie", "epilepsie", true},       /* the accent as a character of its own */
        {"\xD0\x93\xD0\xA0\xD0\x98\xD0\x9F\xD0\x9F", "\xD0\xB3\xD1\x80\xD0\xB8\xD0\xBF\xD0\xBF", true}, /* Russian */
        {"\xCE\x93\xCE\xA1\xCE\x99\xCE\xA0\xCE\x97", "\xCE\xB3\xCF\x81\xCE\xB9\xCF\x80\xCE\xB7", true}, /* Greek */
        {"Flu\xE2\x80\x8B", "Fl\xE2\x80\x8Bu", true},                                                   /* a blank of no width */
        {"heart\xE2\x80\x94"
         "attack \xF0\x9F\x98\xB7",
         "Heart attack", true},                                /* a dash, a picture */
        {"\xEF\xBC\xA6\xEF\xBD\x8C\xEF\xBD\x95", "flu", true}, /* full-width letters */
        {"\xD0\x93\xD0\xA0\xD0\x98\xD0\x9F", "\xD0\xB3\xD1\x80\xD0\xB8\xD0\xBF\xD0\xBF", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (galen_condition_is_same(NULL, cases[i].a, cases[i].b) != cases[i].is_same)
            print_message("  %s - %s\n", cases[i].a, cases[i].b);
        assert_int_equal(galen_condition_is_same(NULL, cases[i].a, cases[i].b), cases[i].is_same);
    }
    char a[64], b[64];
    (void)question_key("Do you have a history of cancer?", 32, a, sizeof a);
    (void)question_key("Has the patient had any history of cancer?", 42, b, sizeof b);
    assert_string_equal(a, b);
    assert_int_equal(name_key("abc def", 7, a, 4), 3); /* no room for the second */
}

static void test_clauses(void **state) {
    (void)state;
    static const struct {
        const char *text, *parts[6], *why;
    } cases[] = {
        {"persistent cough, fever, and chest pain for 3 days", {"persistent cough", "fever", "chest pain for 3 days"}, "a list"},
        {"Temp 38.5 C; BP 120/80. No rash!", {"Temp 38.5 C", "BP 120/80", "No rash"}, "a number keeps its point"},
        {"Fieber 38,5 und Husten", {"Fieber 38,5 und Husten"}, "and its comma"},
        {"sandy eyes AND itching", {"sandy eyes", "itching"}, "\"and\" is a word, not a part of one"},
        {"pain with\nwalking", {"pain", "walking"}, "a joint at a line's end"},
        {"... ; , !", {NULL}, "marks alone"},
        {"", {NULL}, "nothing"},
        {"  \xE5\x92\xB3\xE5\x97\xBD\xEF\xBC\x8C\xE5\x8F\x91\xE7\x83\xAD ",
         {"\xE5\x92\xB3\xE5\x97\xBD", "\xE5\x8F\x91\xE7\x83\xAD"},
         "a wide comma"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clause c[8];
        const int32_t n = clauses_find(cases[i].text, strlen(cases[i].text), c, 8);
        print_message("  %s\n", cases[i].why);
        for (int32_t k = 0; k < n; k++) {
            assert_non_null(cases[i].parts[k]);
            assert_int_equal(c[k].to - c[k].from, strlen(cases[i].parts[k]));
            assert_memory_equal(cases[i].text + c[k].from, cases[i].parts[k], c[k].to - c[k].from);
        }
        assert_null(cases[i].parts[n]);
    }
    clause two[2];
    assert_int_equal(clauses_find("a, b, c", 7, two, 2), 2); /* the rest is left out */
}

/* Cases of a model whose logits are three times too steep: which of the six is right is drawn from the true ones. */
static void draw_cases(fit_case *f, int32_t n) {
    for (int32_t c = 0; c < n; c++) {
        double p[6], sum = 0, at = rng_uniform(7, (uint64_t)c, 100);
        f[c] = (fit_case){.has_choice = true, .n_text = 1, .right = 5};
        for (int i = 0; i < 6; i++) {
            const double l = 3 * rng_uniform(7, (uint64_t)c, (uint64_t)i);
            f[c].choice[i] = 3 * l;
            if (i < 5) f[c].name[i] = f[c].text[i] = 0;
            sum += p[i] = exp(l);
        }
        for (int i = 0; i < 5; i++) {
            at -= p[i] / sum;
            if (at < 0) {
                f[c].right = i;
                break;
            }
        }
    }
}

static void test_fit(void **state) {
    (void)state;
    enum { N = 600 };
    static fit_case f[N];
    galen_calibration k = {.temperature = 1, .name_weight = 0.5, .text_weight = 2}, raw = {.temperature = 1, .text_weight = 0};
    fit_report before, after, again;
    galen_error err = {0};
    draw_cases(f, N);
    fit_calibration(f, N / 2, &k);
    /* (1 - w) / T is what the steepness comes to: a third, within what 300 cases can say */
    assert_true(fabs((1 - k.name_weight) / k.temperature - 1.0 / 3) < 0.12);
    assert_int_equal(fit_measure(f + N / 2, N / 2, &raw, 1, &before, &err), GALEN_OK);
    assert_int_equal(fit_measure(f + N / 2, N / 2, &k, 1, &after, &err), GALEN_OK);
    assert_true(after.ece.value < 0.05 && before.ece.value > 0.1); /* the bar of calibration */
    assert_true(after.brier.value < before.brier.value);
    assert_true(after.ece.low <= after.ece.value + 0.05 && after.ece.high >= after.ece.value);
    assert_true(after.auroc.low < after.auroc.value && after.auroc.value < after.auroc.high && after.auroc.value > 0.5);
    assert_int_equal(fit_measure(f + N / 2, N / 2, &k, 1, &again, &err), GALEN_OK);
    assert_memory_equal(&after, &again, sizeof after); /* the same seed, the same intervals */
    assert_int_equal(fit_measure(f, 0, &k, 1, &again, &err), GALEN_E_ARG);
}

/* By hand: four cases of confidence 0.5 and more. */
static void test_measures(void **state) {
    (void)state;
    fit_case f[4] = {0};
    const galen_calibration k = {.temperature = 1, .name_weight = 0, .text_weight = 0};
    fit_report r;
    const double first[4] = {0.9, 0.8, 0.7, 0.6}; /* hits: 0.9 and 0.7 */
    for (int c = 0; c < 4; c++) {
        f[c].has_choice = true;
        f[c].right = c % 2 ? 5 : 0;
        for (int i = 0; i < 6; i++) f[c].choice[i] = log(i == 0 ? first[c] : (1 - first[c]) / 5);
    }
    assert_int_equal(fit_measure(f, 4, &k, 1, &r, NULL), GALEN_OK);
    assert_true(fabs(r.auroc.value - 0.75) < 1e-12); /* of four pairs three are in order */
    assert_true(fabs(r.top1.value - 0.5) < 1e-12 && fabs(r.top5.value - 0.5) < 1e-12);
    double brier = 0;
    for (int c = 0; c < 4; c++) {
        const double y = c % 2 ? 0 : 1, rest = (1 - first[c]) / 5;
        brier += (first[c] - y) * (first[c] - y) + 4 * rest * rest;
    }
    assert_true(fabs(r.brier.value - brier / 20) < 1e-12);
}

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_calibration_file(void **state) {
    (void)state;
    galen_error err = {0};
    fit_report r = {.ece = {0.0625, 0.02, 0.06}, .brier = {0.1, 0, 0.2}, .auroc = {0.7, 0.6, 0.8}};
    galen_calibration k = {.size = sizeof k, .temperature = 2.5, .name_weight = 0.25, .text_weight = 1.5, .n_cases = 30}, back;
    (void)snprintf(k.model_sha256, sizeof k.model_sha256, "%s", SHA);
    (void)snprintf(k.prompt_version, sizeof k.prompt_version, "builtin-0123456789ab");
    json_t *j = calibration_json(&k, &r, &r, 31, NULL, SHA);
    char *text = json_dumps(j, JSON_REAL_PRECISION(17));
    json_decref(j);
    assert_non_null(text);
    assert_int_equal(calibration_parse(text, strlen(text), "k", &back, &err), GALEN_OK);
    assert_true(back.temperature == 2.5 && back.name_weight == 0.25 && back.text_weight == 1.5 && back.n_cases == 30);
    assert_true(back.ece == 0.0625 && strcmp(back.model_sha256, SHA) == 0 && strcmp(back.prompt_version, k.prompt_version) == 0);
    for (size_t n = 0; n < strlen(text); n++) { /* cut anywhere: refused, and the default is left */
        assert_int_equal(calibration_parse(text, n, "k", &back, &err), GALEN_E_FORMAT);
        assert_true(back.temperature == 1 && back.n_cases == 0);
    }
    static const struct {
        const char *from, *to, *why;
    } spoils[] = {{"2.5", "0", "temperature"},
                  {"2.5", "-1", "temperature"},
                  {"2.5", "1e9", "temperature"},
                  {"0.25", "\"x\"", "name_weight"},
                  {"30", "0", "held_out.n_cases"},
                  {"cdef\"", "cdeg\"", "model_sha256"},
                  {"builtin-", "builtin-builtin-builtin-builtin-builtin-", "prompt_version"}};
    for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
        char bad[4096];
        const char *at = strstr(text, spoils[i].from);
        assert_non_null(at);
        (void)snprintf(bad, sizeof bad, "%.*s%s%s", (int)(at - text), text, spoils[i].to, at + strlen(spoils[i].from));
        assert_int_equal(calibration_parse(bad, strlen(bad), "k", &back, &err), GALEN_E_FORMAT);
        assert_non_null(strstr(err.msg, spoils[i].why));
    }
    free(text);
    assert_int_equal(galen_calibration_find("none", &back, &err), GALEN_E_ARG);
}

static void test_cases(void **state) {
    (void)state;
    static const struct {
        const char *line, *text, *name;
        galen_status st;
    } cases[] = {
        {"{\"text\":\"cough\",\"diagnosis\":\"Flu (influenza)\"}", "cough", "influenza", GALEN_OK},
        {"{\"text\":\"cough\",\"diagnosis\":[\"Flu\",\"Cold\"],\"id\":\"a\"}", "cough", "Cold", GALEN_OK},
        {"{\"OSCE_Examination\":{\"Patient_Actor\":{\"Demographics\":\"30-year-old\",\"Symptoms\":{\"Primary_Symptom\":\"Rash\","
         "\"Secondary_Symptoms\":[\"Itch\",\"Fever\"]}},\"Correct_Diagnosis\":\"Measles\"}}",
         "30-year-old. Rash. Itch. Fever.", "Measles", GALEN_OK},
        {"{\"input\":{\"chief_complaint\":\"Chest "
         "pain\",\"demographics\":{\"age\":62,\"sex\":\"male\"},\"vitals\":{\"heart_rate\":138,"
         "\"systolic_bp\":82,\"diastolic_bp\":54}},\"labels\":{\"gold_risk_tier\":\"critical\"}}",
         "62-year-old male. Chest pain. Heart rate 138. Blood pressure 82/54 mmHg.", NULL, GALEN_OK},
        {"{\"text\":7}", NULL, NULL, GALEN_E_FORMAT},
        {"[]", NULL, NULL, GALEN_E_FORMAT},
        {"{\"text\":\"x\"", NULL, NULL, GALEN_E_FORMAT},
        {"", NULL, NULL, GALEN_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        labelled_case c;
        galen_error err = {0};
        assert_int_equal(cases_parse(cases[i].line, strlen(cases[i].line), &c, &err), cases[i].st);
        if (cases[i].text) assert_string_equal(c.text, cases[i].text);
        bool has = !cases[i].name;
        for (int32_t k = 0; k < c.n_names; k++) has |= strcmp(c.names[k], cases[i].name ? cases[i].name : "") == 0;
        assert_true(has);
        cases_free(&c);
    }
    labelled_case c;
    galen_differential d = {0};
    assert_int_equal(cases_parse(cases[0].line, strlen(cases[0].line), &c, NULL), GALEN_OK);
    for (int i = 0; i < 5; i++) d.conditions[i] = (galen_condition){.name = "x", .order = 4 - i};
    (void)snprintf(d.conditions[1].name, sizeof d.conditions[1].name, "Influenza");
    assert_int_equal(cases_right(&c, &d, NULL), 3);
    (void)snprintf(d.conditions[1].name, sizeof d.conditions[1].name, "Gout");
    assert_int_equal(cases_right(&c, &d, NULL), 5);
    cases_free(&c);
}

/* Offsets outside the text, bytes that are no UTF-8, numbers that are none: a turn is JSON all the same. */
static void test_record(void **state) {
    (void)state;
    galen_differential d = {.urgency = -1};
    static const char text[] = "f\xE8ver \"x\"";
    for (int i = 0; i < 5; i++) {
        galen_condition *c = &d.conditions[i];
        (void)snprintf(c->name, sizeof c->name, "c%d", i);
        c->n_support = 2;
        c->support[0] = (galen_evidence){0, 5, 1.5};
        c->support[1] = (galen_evidence){7, 99, NAN};
    }
    json_t *j = record_differential(&d, NULL, text, sizeof text - 1, NULL);
    assert_non_null(j);
    const json_t *s = json_object_get(json_array_get(json_object_get(j, "conditions"), 0), "support");
    assert_string_equal(json_string_value(json_object_get(json_array_get(s, 0), "quote")), "f\xEF\xBF\xBDver");
    assert_string_equal(json_string_value(json_object_get(json_array_get(s, 1), "quote")), "");
    assert_true(json_is_null(json_object_get(json_array_get(s, 1), "bits")));
    assert_true(json_is_null(json_object_get(j, "agreement")) && json_is_null(json_object_get(j, "device")));
    json_decref(j);
    j = record_answer(3, GALEN_ANSWER_TEXT, text, sizeof text - 1);
    assert_string_equal(json_string_value(json_object_get(j, "text")), "f\xEF\xBF\xBDver \"x\"");
    json_decref(j);
    j = record_closed(GALEN_STOP_NO_GAIN);
    assert_string_equal(json_string_value(json_object_get(j, "reason")), "no_gain");
    json_decref(j);
}

/* The vectors' exponential against libm's, at vocabulary sizes around a block. */
static void test_log_sum(void **state) {
    (void)state;
    static float l[5000];
    for (int32_t n = 1; n < 5000; n += n < 40 ? 1 : 997) {
        double most = -1e30, sum = 0;
        for (int32_t i = 0; i < n; i++) l[i] = (float)(40 * rng_uniform(3, (uint64_t)n, (uint64_t)i) - 30);
        for (int32_t i = 0; i < n; i++) most = l[i] > most ? (double)l[i] : most;
        for (int32_t i = 0; i < n; i++) sum += exp((double)l[i] - most);
        assert_true(fabs(log_sum(l, n) - (most + log(sum))) < 2e-6);
    }
    l[0] = -INFINITY;
    l[1] = 3;
    assert_true(isnan(log_sum(l, 2)));
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int32_t at = 0; at < 37; at++)
        for (int k = 0; k < 3; k++) {
            for (int32_t i = 0; i < 37; i++) l[i] = i == at ? bad[k] : (float)i;
            assert_true(isnan(log_sum(l, 37)));
        }
}

/* What a reader cannot see is in no line. */
static void test_invisible(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"Fl\xE2\x80\x8Bu", "Flu"}, /* a blank of no width */
        {"\xEF\xBB\xBF- \xE2\x80\x8F"
         "Flu",
         "Flu"},                      /* a byte-order mark, a list mark, a direction mark */
        {"soft\xC2\xADly", "softly"}, /* a soft hyphen */
        {"a\xC2\xA0\xE3\x80\x80"
         "b",
         "a b"}, /* wide blanks */
        {"a\xE2\x81\xA6\xC2\x85"
         "b",
         "a b"}, /* isolates and controls */
        {"\xF3\xA0\x81\xA1"
         "a",
         "a"},                                                                            /* a tag */
        {"\xD9\x85\xDB\x8C\xE2\x80\x8C\xD8\xB4", "\xD9\x85\xDB\x8C\xE2\x80\x8C\xD8\xB4"}, /* Persian writes with joiners */
        {"\xE2\x80\x8B", ""},
    };
    assert_false(text_has_letter("\xD9\xA3\xD9\xA8 \xE0\xA5\xA7 120", 13)); /* Arabic and Indian digits are digits */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        assert_int_equal(text_line(cases[i].in, strlen(cases[i].in), out, sizeof out), strlen(cases[i].out));
        assert_string_equal(out, cases[i].out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),    cmocka_unit_test(test_clauses),          cmocka_unit_test(test_fit),
        cmocka_unit_test(test_measures), cmocka_unit_test(test_calibration_file), cmocka_unit_test(test_cases),
        cmocka_unit_test(test_record),   cmocka_unit_test(test_log_sum),          cmocka_unit_test(test_invisible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
