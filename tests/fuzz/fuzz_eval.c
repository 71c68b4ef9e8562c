/* Files of galen eval: a list of cases, a file of results, a patient who is asked. The first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "assist/json_line.h"
#include "eval/patient.h"
#include "eval/report.h"
#include "eval/results.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef struct bytes {
    const char *s;
    size_t n, most;
} bytes;

static void require(bool ok) {
    if (!ok) abort();
}

static long read_bytes(void *user, char *buf, size_t cap) {
    bytes *b = user;
    size_t k = b->n < cap ? b->n : cap;
    k = k < b->most ? k : b->most;
    memcpy(buf, b->s, k);
    b->s += k;
    b->n -= k;
    return (long)k;
}

/* Any bytes make a list; each case is whole. */
static void fuzz_cases(const char *s, size_t n) {
    bytes b = {s, n, 13};
    eval_list l = {.skip = (int32_t)(n % 3), .limit = (int32_t)(n % 5)};
    require(eval_list_add(&l, 0, read_bytes, &b, NULL) == GALEN_OK);
    for (int32_t i = 0; i < l.n; i++) {
        const eval_case *c = &l.cases[i];
        require(strlen(c->c.text) == c->c.n && c->c.n_names <= CASE_MAX_NAMES && strlen(c->key) == EVAL_KEY_BYTES - 1);
        require(c->c.least <= c->c.most && c->c.most <= (int32_t)GALEN_TRIAGE_EMERGENCY_AMBULANCE && c->line > 0);
    }
    eval_list_free(&l);
}

/* What is taken for results can be reported, and written to the same bytes that it is read from again. */
static void fuzz_results(const char *s, size_t n) {
    bytes b = {s, n, 4096};
    eval_results r;
    if (results_read(&r, read_bytes, &b, NULL)) return;
    eval_report *rep = malloc(sizeof *rep);
    if (rep && !eval_report_make(r.rows, r.n, &r.head, rep, NULL)) {
        json_t *j = eval_report_json(rep);
        require(j != NULL);
        json_decref(j);
    }
    free(rep);
    for (int32_t i = 0; i < r.n; i++) {
        eval_row again;
        json_t *j = row_json(&r.rows[i]);
        require(j && row_from_json(j, &again, NULL) == GALEN_OK && strcmp(again.key, r.rows[i].key) == 0);
        json_decref(j);
    }
    results_free(&r);
}

/* Facts, a zero byte, a question. */
static void fuzz_patient(const char *s, size_t n) {
    const char *zero = memchr(s, '\0', n), *question = zero ? zero + 1 : s;
    const size_t n_facts = zero ? (size_t)(zero - s) : n, n_question = n - (size_t)(question - s);
    patient *p;
    if (patient_open(&p, s, n_facts, NULL)) return;
    const galen_answer_kind kind = patient_answer(p, question, n_question);
    require(kind != GALEN_ANSWER_TEXT && kind == patient_answer(p, question, n_question));
    patient_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static void (*const parts[])(const char *s, size_t n) = {fuzz_cases, fuzz_results, fuzz_patient};
    if (n) parts[data[0] % 3]((const char *)data + 1, n - 1);
    return 0;
}
