/* The loop: the next question, what an answer does, when it is enough. */
#include "assist_help.h"

static void test_loop(void **state) {
    (void)state;
    heard h;
    galen_assistant_opts o = galen_assistant_default_opts();
    static char seen[64][GALEN_QUESTION_BYTES];
    int n = 0;
    bool is_entropy = false;
    galen_stop stop = GALEN_STOP_NONE;
    galen_error err = {0};
    o.confident = 0.999;
    o.least_bits = 1e-9;
    o.max_questions = 30;
    for (int i = 0; i < 6; i++) yes_odds[i] = (float)i - 2;
    galen_assistant *a = open_case(o, &h, symptoms);
    for (;;) {
        galen_question q, again;
        galen_update u;
        double before[6], after[6], sum = 0;
        assert_int_equal(galen_assistant_ask(a, &q, &stop, &err), GALEN_OK);
        if (stop) break;
        assert_int_equal(galen_assistant_ask(a, &again, &stop, &err), GALEN_OK);
        assert_memory_equal(&q, &again, sizeof q);
        assert_int_equal(q.number, n + 1);
        assert_true(q.bits >= 0);
        if (q.reason == GALEN_ASK_RED_FLAG) {
            assert_false(is_entropy);
            assert_non_null(q.flag_id);
        } else {
            is_entropy = true;
            assert_true(q.bits > 0);
        }
        char normal[GALEN_QUESTION_BYTES];
        (void)text_normal(q.text, strlen(q.text), normal, sizeof normal);
        for (int i = 0; i < n; i++) assert_string_not_equal(normal, seen[i]);
        memcpy(seen[n++], normal, sizeof normal);
        confidences_of(&a->found, before);
        const asked *full = &a->c.list[a->c.open];
        double p_yes[6];
        memcpy(p_yes, full->p_yes, sizeof p_yes);
        assert_int_equal(galen_assistant_answer(a, GALEN_ANSWER_NO, NULL, 0, &u, &err), GALEN_OK);
        check_result(&u.now, NULL, symptoms);
        confidences_of(&u.now, after);
        for (int i = 0; i < 6; i++) sum += before[i] *= 1 - p_yes[i];
        for (int i = 0; i < 6; i++) assert_true(fabs(before[i] / sum - after[i]) < 1e-9);
        double changes = u.change_other;
        for (int i = 0; i < 5; i++) changes += u.change[i];
        assert_true(fabs(changes) < 1e-9);
        assert_int_equal(u.now.n_answers, n);
    }
    assert_in_range(n, 3, 30);
    assert_true(is_entropy);
    assert_true(stop == GALEN_STOP_NO_GAIN || stop == GALEN_STOP_COUNT || stop == GALEN_STOP_CONFIDENT);
    assert_int_equal(h.n_ranked, n + 1);
    galen_assistant_close(a);
}

static galen_stop run_to_stop(galen_assistant *a, galen_answer_kind kind, int *n) {
    galen_error err = {0};
    galen_stop stop;
    for (*n = 0;; ++*n) {
        galen_question q;
        galen_update u;
        assert_int_equal(galen_assistant_ask(a, &q, &stop, &err), GALEN_OK);
        if (stop) {
            assert_int_equal(q.text[0], 0);
            return stop;
        }
        assert_int_equal(galen_assistant_answer(a, kind, NULL, 0, &u, &err), GALEN_OK);
        if (kind == GALEN_ANSWER_UNKNOWN) assert_true(u.bits == 0 && u.change[0] == 0);
        assert_true(*n < 100);
    }
}

static void test_stops(void **state) {
    (void)state;
    int n;
    galen_assistant_opts o = galen_assistant_default_opts();
    set_odds(0, 0); /* no question tells anything */
    galen_assistant *a = open_case(o, NULL, symptoms);
    assert_int_equal(run_to_stop(a, GALEN_ANSWER_YES, &n), GALEN_STOP_NO_GAIN);
    galen_assistant_close(a);
    set_odds(3, -3);
    o.max_questions = 2;
    o.confident = 1;
    a = open_case(o, NULL, symptoms);
    assert_int_equal(run_to_stop(a, GALEN_ANSWER_UNKNOWN, &n), GALEN_STOP_COUNT);
    assert_int_equal(n, 2);
    galen_assistant_close(a);
    o.confident = 0.9;
    o.max_questions = 0;
    a = open_case(o, NULL, symptoms);
    assert_int_equal(run_to_stop(a, GALEN_ANSWER_YES, &n), GALEN_STOP_CONFIDENT);
    assert_string_equal(a->found.conditions[0].name, "cold"); /* the one that says yes */
    galen_assistant_close(a);
}

static void test_answers(void **state) {
    (void)state;
    heard h;
    galen_question q;
    galen_update u;
    galen_stop stop;
    galen_error err = {0};
    set_odds(2, -2);
    galen_assistant *a = open_case(galen_assistant_default_opts(), &h, symptoms);
    assert_int_equal(galen_assistant_answer(a, GALEN_ANSWER_YES, NULL, 0, &u, &err), GALEN_E_ARG);
    assert_int_equal(galen_assistant_ask(a, &q, &stop, &err), GALEN_OK);
    assert_int_equal(galen_assistant_answer(a, GALEN_ANSWER_TEXT, " ... ", 5, &u, &err), GALEN_E_REFUSED);
    assert_int_equal(galen_assistant_answer(a, (galen_answer_kind)9, NULL, 0, &u, &err), GALEN_E_ARG);
    assert_int_equal(a->c.n_answered, 0);
    const galen_triage_level before = galen_assistant_triage(a)->level;
    static const char text[] = "It hurts: crushing chest pain that spreads to the left arm, with sweating";
    assert_int_equal(galen_assistant_answer(a, GALEN_ANSWER_TEXT, text, sizeof text - 1, &u, &err), GALEN_OK);
    assert_true(u.is_raised && galen_assistant_triage(a)->level > before); /* the rules read answers too */
    assert_int_equal(h.level, galen_assistant_triage(a)->level);
    size_t n_all;
    const char *all = galen_assistant_text(a, &n_all);
    assert_true(n_all == strlen(symptoms) + 1 + sizeof text - 1 && strcmp(all + strlen(symptoms) + 1, text) == 0);
    const galen_triage_level raised = galen_assistant_triage(a)->level;
    assert_int_equal(galen_assistant_ask(a, &q, &stop, &err), GALEN_OK);
    if (!stop) assert_int_equal(galen_assistant_answer(a, GALEN_ANSWER_TEXT, "no, it was nothing", 18, &u, &err), GALEN_OK);
    assert_int_equal(galen_assistant_triage(a)->level, raised); /* and never lower it */
    galen_assistant_close(a);
}

static void test_understand(void **state) {
    (void)state;
    static const struct {
        const char *text;
        galen_answer_kind kind;
    } cases[] = {{"Yes", GALEN_ANSWER_YES},
                 {"yes, since Monday", GALEN_ANSWER_YES},
                 {"No.", GALEN_ANSWER_NO},
                 {"never", GALEN_ANSWER_NO},
                 {"I don't know", GALEN_ANSWER_UNKNOWN},
                 {"not sure", GALEN_ANSWER_UNKNOWN},
                 {"only at night", GALEN_ANSWER_TEXT},
                 {"nose bleeds", GALEN_ANSWER_TEXT},
                 {"y", GALEN_ANSWER_YES},
                 {"notable pain", GALEN_ANSWER_TEXT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(understand(cases[i].text, strlen(cases[i].text)), cases[i].kind);
}

static void test_gain(void **state) {
    (void)state;
    const double even[4] = {0.25, 0.25, 0.25, 0.25}, half[4] = {1, 1, 0, 0}, same[4] = {0.3, 0.3, 0.3, 0.3};
    const double p[2] = {0.5, 0.5}, noisy[2] = {0.9, 0.1};
    assert_true(fabs(rank_entropy(even, 4) - 2) < 1e-12);
    assert_true(fabs(rank_gain(even, half, 4) - 1) < 1e-12); /* halves four equals: one bit */
    assert_true(rank_gain(even, same, 4) < 1e-12);           /* tells nothing */
    const double h = -0.9 * log2(0.9) - 0.1 * log2(0.1);     /* the binary channel's capacity, 1 - h */
    assert_true(fabs(rank_gain(p, noisy, 2) - (1 - h)) < 1e-12);
}

/* The first red-flag question of a text, answered with yes. */
static void affirm(const char *text, const char *rule, galen_triage_level level, const char *says) {
    heard h;
    galen_question q;
    galen_stop stop;
    galen_update u;
    galen_error err = {0};
    galen_assistant_opts o = galen_assistant_default_opts();
    o.has_no_urgency = true;
    galen_assistant *a = open_case(o, &h, text);
    galen_triage_level before = GALEN_TRIAGE_SELF_CARE;
    do { /* those before it are denied */
        assert_int_equal(galen_assistant_ask(a, &q, &stop, &err), GALEN_OK);
        assert_true(!stop && q.flag_id);
        const bool is_it = strcmp(q.flag_id, rule) == 0;
        before = galen_assistant_triage(a)->level;
        assert_int_equal(galen_assistant_answer(a, is_it ? GALEN_ANSWER_YES : GALEN_ANSWER_NO, NULL, 0, &u, &err), GALEN_OK);
    } while (strcmp(q.flag_id, rule) != 0);
    size_t n;
    const char *read = galen_assistant_text(a, &n);
    const galen_triage *t = galen_assistant_triage(a);
    bool has_flag = false;
    for (int32_t i = 0; i < t->n_flags; i++)
        has_flag |= strcmp(t->flags[i].id, rule) == 0 && t->flags[i].level == level && strlen(t->flags[i].source) > 3;
    assert_true(has_flag);
    assert_int_equal(t->level, level);
    assert_int_equal(u.is_raised, level > before); /* weighed words may have raised it before */
    if (says)
        assert_non_null(strstr(read, says));
    else
        assert_int_equal(n, strlen(text)); /* a yes to a list says nothing that rules may read */
    galen_assistant_close(a);
}

static void test_affirmed(void **state) {
    (void)state;
    affirm("it burns when I pee", "renal.uti-fever", GALEN_TRIAGE_CONSULTATION_24, NULL);
    affirm("rash and fever", "infection.meningococcal", GALEN_TRIAGE_EMERGENCY_AMBULANCE, "does not fade");
    affirm("24 year old woman, pelvic pain", "obstetric.pain", GALEN_TRIAGE_EMERGENCY, "could be pregnant");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),       cmocka_unit_test(test_stops), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_understand), cmocka_unit_test(test_gain),  cmocka_unit_test(test_affirmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
