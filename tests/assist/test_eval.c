/* galen eval's pure parts: lines, the list of cases, the simulated patient, statistics, rows, reports. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/patient.h"
#include "eval/report.h"
#include "eval/results.h"

/* ------------------------------------------------------------ bytes that come in pieces */

typedef struct pieces {
    const char *s;
    size_t n, at, most; /* most: bytes of one read */
    bool fails;         /* at the end              */
} pieces;

static long read_piece(void *user, char *buf, size_t cap) {
    pieces *p = user;
    size_t k = p->n - p->at;
    if (k == 0 && p->fails) return -1;
    k = k < cap ? k : cap;
    k = k < p->most ? k : p->most;
    memcpy(buf, p->s + p->at, k);
    p->at += k;
    return (long)k;
}

static void test_lines(void **state) {
    (void)state;
    static const struct {
        const char *text, *lines[4];
        bool is_cut;
        const char *why;
    } cases[] = {
        {"", {NULL}, false, "an empty file"},
        {"a", {"a"}, true, "no break at the end"},
        {"a\nb\n", {"a", "b"}, false, "two lines"},
        {"\n\nx\n", {"", "", "x"}, false, "empty lines are lines"},
        {"\xEF\xBB\xBF{}\n\xEF\xBB\xBF\n", {"{}", "\xEF\xBB\xBF"}, false, "a mark before the first line alone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t most = 1; most < 9; most += 3) {
            pieces p = {cases[i].text, strlen(cases[i].text), 0, most, false};
            lines l = {.read = read_piece, .user = &p};
            const char *s;
            size_t n;
            for (int k = 0; k < 4 && cases[i].lines[k]; k++) {
                assert_int_equal(lines_next(&l, &s, &n), LINES_TEXT);
                assert_int_equal(n, strlen(cases[i].lines[k]));
                assert_memory_equal(s, cases[i].lines[k], n);
                assert_int_equal(l.number, k + 1);
            }
            assert_int_equal(l.is_cut, cases[i].is_cut);
            assert_int_equal(lines_next(&l, &s, &n), LINES_END);
            assert_int_equal(lines_next(&l, &s, &n), LINES_END);
            lines_free(&l);
        }
    }
}

/* A line of the longest length, one more, and a gigabyte that is never held. */
typedef struct endless {
    uint64_t left;
    size_t n_tail;
    const char *tail;
} endless;

static long read_endless(void *user, char *buf, size_t cap) {
    endless *e = user;
    if (e->left) {
        const size_t k = e->left < cap ? (size_t)e->left : cap;
        memset(buf, 'x', k);
        e->left -= k;
        return (long)k;
    }
    const size_t k = e->n_tail < cap ? e->n_tail : cap;
    memcpy(buf, e->tail, k);
    e->tail += k;
    e->n_tail -= k;
    return (long)k;
}

static void test_long_lines(void **state) {
    (void)state;
    static const struct {
        uint64_t n;
        lines_result first;
    } cases[] = {{LINES_MAX_BYTES - 1, LINES_TEXT},
                 {LINES_MAX_BYTES, LINES_LONG},
                 {LINES_MAX_BYTES + 1, LINES_LONG},
                 {(uint64_t)1 << 30, LINES_LONG}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        endless e = {cases[i].n, 6, "\nnext\n"};
        lines l = {.read = read_endless, .user = &e};
        const char *s;
        size_t n;
        assert_int_equal(lines_next(&l, &s, &n), cases[i].first);
        assert_true(l.cap <= LINES_MAX_BYTES + 1);
        assert_int_equal(lines_next(&l, &s, &n), LINES_TEXT);
        assert_int_equal(l.number, 2);
        assert_memory_equal(s, "next", 4);
        assert_int_equal(lines_next(&l, &s, &n), LINES_END);
        lines_free(&l);
    }
    pieces p = {"a\nb", 3, 0, 9, true};
    lines l = {.read = read_piece, .user = &p};
    const char *s;
    size_t n;
    assert_int_equal(lines_next(&l, &s, &n), LINES_TEXT);
    assert_int_equal(lines_next(&l, &s, &n), LINES_FAILED);
    lines_free(&l);
}

/* ------------------------------------------------------------ cases */

/* What is said of a line that is no case; nothing of the line is quoted. */
static void test_broken_lines(void **state) {
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"not json", "not one JSON object"},
        {"{\"text\":\"canary\"", "not one JSON object"},
        {"{\"text\":\"canary\",\"text\":\"b\"}", "not one JSON object"},
        {"{\"text\":\"canary\"} {}", "not one JSON object"},
        {"{\"text\":\"\\u0000\"}", "not one JSON object"},
        {"[]", "no case: neither"},
        {"7", "not one JSON object"},
        {"{}", "no case: neither"},
        {"{\"text\":7}", "no case: neither"},
        {"{\"OSCE_Examination\":{\"Correct_Diagnosis\":\"canary\"}}", "no case: neither"},
        {"{\"input\":{\"history\":\"canary\"}}", "no case: neither"},
        {"{\"text\":\"a\",\"tier\":\"canary\"}", "\"tier\" is not"},
        {"{\"text\":\"a\",\"tier\":3}", "\"tier\" is not"},
        {"{\"text\":\"a\",\"level\":\"canary\"}", "\"level\" is not"},
        {"{\"text\":\"a\",\"diagnosis\":{\"canary\":1}}", "\"diagnosis\" is neither"},
        {"{\"text\":\"a\",\"diagnosis\":[\"b\",7]}", "\"diagnosis\" holds"},
        {"{\"text\":\"a\",\"facts\":7}", "\"facts\" is neither"},
        {"{\"text\":\"a\",\"opening\":[]}", "\"opening\" is no text"},
        {"{\"text\":\"a\",\"code\":\"canary\"}", "\"code\" is not"},
        {"{\"text\":\"a\",\"code\":\"M32.\"}", "\"code\" is not"},
        {"{\"text\":\"a\",\"code\":\"M32.12345\"}", "\"code\" is not"},
        {"{\"text\":\"a\",\"code\":\"M3\"}", "\"code\" is not"},
        {"{\"text\":\"a\",\"code\":32}", "\"code\" is not"},
        {"{\"text\":\"a\",\"id\":7}", "\"id\" is no text"},
        {"{\"text\":\"a\",\"id\":\"canary canary canary canary canary canary canary canary canary canary\"}",
         "\"id\" is no text"},
        {"{\"input\":{\"chief_complaint\":\"a\"},\"labels\":{\"gold_risk_tier\":\"canary\"}}", "\"gold_risk_tier\" is not"},
        {"{\"input\":{\"chief_complaint\":\"a\"},\"labels\":{\"gold_red_flag_categories\":[7]}}", "\"gold_red_flag_categories\""},
        {"{\"OSCE_Examination\":{\"Patient_Actor\":{\"History\":\"a\"},\"Correct_Diagnosis\":7}}", "\"Correct_Diagnosis\" is no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eval_list l = {.n = 0};
        pieces p = {cases[i].line, strlen(cases[i].line), 0, 1000, false};
        assert_int_equal(eval_list_add(&l, 0, read_piece, &p, NULL), GALEN_OK);
        assert_int_equal(l.n, 0);
        assert_int_equal(l.n_broken, 1);
        assert_int_equal(l.problems[0].line, 1);
        if (strncmp(l.problems[0].why, cases[i].why, strlen(cases[i].why)) != 0)
            print_message("  %s: %s\n", cases[i].line, l.problems[0].why);
        assert_int_equal(strncmp(l.problems[0].why, cases[i].why, strlen(cases[i].why)), 0);
        assert_null(strstr(l.problems[0].why, "canary"));
        eval_list_free(&l);
    }
}

static void test_list(void **state) {
    (void)state;
    static const char file[] =
        "\n{\"text\":\"a\",\"id\":\"1\"}\r\n  \n{\"text\":\"b\",\"id\":\"1\"}\n{\"text\":\"a\",\"id\":\"1\"}\n"
        "{\"text\":\"c\0\"}\n{\"text\":\"d\"}\n{\"text\":\"e\"}";
    eval_list l = {.n = 0};
    pieces p = {file, sizeof file - 1, 0, 7, false};
    assert_int_equal(eval_list_add(&l, 0, read_piece, &p, NULL), GALEN_OK);
    assert_int_equal(l.n, 3);
    assert_string_equal(l.cases[0].c.text, "a");
    assert_int_equal(l.cases[0].line, 2);
    assert_int_equal(strlen(l.cases[0].key), 32);
    assert_int_equal(l.n_twice, 2);
    assert_int_equal(l.n_broken, 1);
    assert_string_equal(l.problems[0].why, "its id is that of an earlier line");
    assert_string_equal(l.problems[1].why, "the same line as an earlier one");
    assert_string_equal(l.problems[2].why, "it has a NUL byte");
    p.at = 0; /* the same lines in another file add nothing; an id may come again there */
    assert_int_equal(eval_list_add(&l, 1, read_piece, &p, NULL), GALEN_OK);
    assert_int_equal(l.n, 3);
    assert_int_equal(l.n_twice, 7);
    pieces other = {"{\"text\":\"z\",\"id\":\"1\"}", 21, 0, 64, false};
    assert_int_equal(eval_list_add(&l, 2, read_piece, &other, NULL), GALEN_OK);
    assert_int_equal(l.n, 4);
    eval_list_free(&l);

    eval_list part = {.skip = 1, .limit = 1};
    p.at = 0;
    assert_int_equal(eval_list_add(&part, 0, read_piece, &p, NULL), GALEN_OK);
    assert_int_equal(part.n, 1);
    assert_true(part.is_limited);
    assert_string_equal(part.cases[0].c.text, "d");
    eval_list_free(&part);

    eval_list many = {.n = 0}; /* more problems than are kept */
    char *broken = malloc(2 * 100);
    assert_non_null(broken);
    for (int i = 0; i < 100; i++) memcpy(broken + 2 * i, "x\n", 2);
    pieces q = {broken, 200, 0, 64, false};
    assert_int_equal(eval_list_add(&many, 0, read_piece, &q, NULL), GALEN_OK);
    assert_int_equal(many.n_broken, 100);
    assert_int_equal(many.problems[EVAL_MAX_PROBLEMS - 1].line, EVAL_MAX_PROBLEMS);
    free(broken);
    eval_list_free(&many);

    galen_error err = {0};
    eval_list failed = {.n = 0};
    pieces r = {file, 30, 0, 64, true};
    assert_int_equal(eval_list_add(&failed, 0, read_piece, &r, &err), GALEN_E_IO);
    assert_int_equal(failed.n, 1);
    eval_list_free(&failed);
}

static void test_labels(void **state) {
    (void)state;
    static const struct {
        const char *line;
        int32_t tier, least, most;
    } cases[] = {
        {"{\"text\":\"a\"}", -1, -1, -1},
        {"{\"text\":\"a\",\"tier\":\"routine\"}", 0, 0, 1},
        {"{\"text\":\"a\",\"tier\":\"urgent\"}", 1, 2, 3},
        {"{\"text\":\"a\",\"tier\":\"critical\"}", 2, 3, 4},
        {"{\"text\":\"a\",\"level\":\"consultation_24\"}", -1, 2, 2},
        {"{\"input\":{\"chief_complaint\":\"a\"},\"labels\":{\"gold_risk_tier\":\"critical\"}}", 2, 3, 4},
        {"{\"input\":{\"chief_complaint\":\"a\"}}", -1, -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        labelled_case c;
        assert_int_equal(cases_parse(cases[i].line, strlen(cases[i].line), &c, NULL), GALEN_OK);
        assert_int_equal(c.tier, cases[i].tier);
        assert_int_equal(c.least, cases[i].least);
        assert_int_equal(c.most, cases[i].most);
        cases_free(&c);
    }
    static const char *const codes[] = {"I10", "M32.9", "S73.016A", "C4A.9"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        char line[64];
        labelled_case with;
        (void)snprintf(line, sizeof line, "{\"text\":\"a\",\"code\":\"%s\"}", codes[i]);
        assert_int_equal(cases_parse(line, strlen(line), &with, NULL), GALEN_OK);
        assert_string_equal(with.code, codes[i]);
        cases_free(&with);
    }
    static const char osce[] =
        "{\"OSCE_Examination\":{\"Patient_Actor\":{\"Demographics\":\"40-year-old man\",\"History\":\"Ill\",\"Symptoms\":{"
        "\"Primary_Symptom\":\"Cough\",\"Secondary_Symptoms\":[\"Sweats\"]},\"Social_History\":\"Smokes\",\"Allergies\":["
        "\"Nuts\"],"
        "\"Review_of_Systems\":{\"Heart\":\"No palpitations\"}},\"Physical_Examination_Findings\":{\"Chest\":{\"Breath_Sounds\":"
        "\"Crackles\"}},\"Test_Results\":{\"X-ray\":\"Canary\"},\"Correct_Diagnosis\":\"Canary\"}}";
    labelled_case c;
    assert_int_equal(cases_parse(osce, strlen(osce), &c, NULL), GALEN_OK);
    assert_string_equal(c.text, "40-year-old man. Ill. Cough. Sweats. No palpitations.");
    assert_string_equal(c.opening, "40-year-old man. Cough.");
    assert_non_null(strstr(c.facts, "Smokes"));
    assert_non_null(strstr(c.facts, "Allergies: Nuts"));
    assert_non_null(strstr(c.facts, "Breath Sounds: Crackles"));
    assert_null(strstr(c.facts, "Canary")); /* neither tests nor the diagnosis */
    cases_free(&c);
}

/* ------------------------------------------------------------ the patient */

static void test_patient(void **state) {
    (void)state;
    static const char facts[] =
        "48-year-old woman.\nShe reports chest pressure for two hours, worse on exertion, and shortness of breath.\n"
        "She vomited twice this morning.\nDenies fever, chills or palpitations.\nNo swelling of the legs.\n"
        "Asthma since childhood.\nHad a stroke 10 years ago.\nHer mother had breast cancer.\nSmokes one pack a day.\n"
        "Takes warfarin and metformin.\nAbdomen: tender in the left lower quadrant.\nItching of the palms at night.\n";
    static const struct {
        const char *question;
        galen_answer_kind kind;
        const char *why;
    } cases[] = {
        {"Do you have chest pain?", GALEN_ANSWER_YES, "a synonym that the rules know"},
        {"Are you short of breath?", GALEN_ANSWER_YES, "another wording"},
        {"Have you been vomiting?", GALEN_ANSWER_YES, "another ending"},
        {"Do you have a fever?", GALEN_ANSWER_NO, "denied"},
        {"Do you have any chills?", GALEN_ANSWER_NO, "denied, further on in the list"},
        {"Have you had palpitations?", GALEN_ANSWER_NO, "the last of the list"},
        {"Do you have fever or chest pain?", GALEN_ANSWER_YES, "one of two"},
        {"Do you have fever, chills, or a rash?", GALEN_ANSWER_NO, "denied or not recorded"},
        {"Do you have a rash?", GALEN_ANSWER_UNKNOWN, "not recorded: not guessed"},
        {"Are your legs swollen?", GALEN_ANSWER_NO, "denied in other words, which the rules know"},
        {"Do you have swelling in your legs?", GALEN_ANSWER_NO, "denied in other words"},
        {"Do you have asthma?", GALEN_ANSWER_YES, "past and lasting"},
        {"Have you ever had a stroke?", GALEN_ANSWER_YES, "asked for the past"},
        {"Does anyone in your family have breast cancer?", GALEN_ANSWER_YES, "asked for the family"},
        {"Does anyone in your family have asthma?", GALEN_ANSWER_UNKNOWN, "hers is not her family's"},
        {"Do you have breast cancer?", GALEN_ANSWER_UNKNOWN, "her mother's is not hers"},
        {"Do you smoke?", GALEN_ANSWER_YES, "a word that no rule knows, by its stem"},
        {"Do you take warfarin?", GALEN_ANSWER_YES, "a drug"},
        {"Is there itching of your palms?", GALEN_ANSWER_YES, "two words in one sentence"},
        {"Is there itching of your legs?", GALEN_ANSWER_UNKNOWN, "two words in two sentences"},
        {"How long have you had chest pain?", GALEN_ANSWER_UNKNOWN, "no yes or no"},
        {"What makes the chest pain worse?", GALEN_ANSWER_UNKNOWN, "no yes or no"},
        {"Do you?", GALEN_ANSWER_UNKNOWN, "asks for nothing"},
        {"", GALEN_ANSWER_UNKNOWN, "empty"},
        {"\xff\xfe\x00?", GALEN_ANSWER_UNKNOWN, "no text"},
    };
    patient *p;
    assert_int_equal(patient_open(&p, facts, sizeof facts - 1, NULL), GALEN_OK);
    int n_bad = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const galen_answer_kind got = patient_answer(p, cases[i].question, strlen(cases[i].question));
        if (got != cases[i].kind)
            print_message("  %s: %s, not %s (%s)\n", cases[i].question, galen_answer_kind_name(got),
                          galen_answer_kind_name(cases[i].kind), cases[i].why);
        n_bad += got != cases[i].kind;
    }
    assert_int_equal(n_bad, 0);
    patient_close(p);
    patient_close(NULL);
    assert_int_equal(patient_open(&p, "", 0, NULL), GALEN_OK); /* knows nothing */
    assert_int_equal(patient_answer(p, "Do you have a fever?", 20), GALEN_ANSWER_UNKNOWN);
    patient_close(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines),        cmocka_unit_test(test_long_lines),
                                       cmocka_unit_test(test_broken_lines), cmocka_unit_test(test_list),
                                       cmocka_unit_test(test_labels),       cmocka_unit_test(test_patient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
