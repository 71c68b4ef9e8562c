#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/split.h"

#include <pcre2.h>
#include <stdlib.h>

#include "base/checked.h"

/* No expression of the table comes near these on megabytes of anything; a new row that does gets an error, not a hang. */
enum { MATCH_LIMIT = 200 * 1000 * 1000, HEAP_LIMIT_KIB = 256 * 1024 };

struct splitter {
    const pretokenizer *pre;
    pcre2_general_context *general;
    pcre2_match_context *match;
    pcre2_code *code[PRETOKENIZER_MAX_REGEX];
    size_t n;
};

/* Through these, so that tests can fail PCRE2's allocations too. */
static void *pcre_malloc(size_t n, void *user) {
    (void)user;
    return malloc(n);
}
static void pcre_free(void *p, void *user) {
    (void)user;
    free(p);
}

void splitter_close(splitter *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) pcre2_code_free(s->code[i]);
    pcre2_match_context_free(s->match);
    pcre2_general_context_free(s->general);
    free(s);
}

static galen_status compile(splitter *s, const char *regex, galen_error *err) {
    int code;
    PCRE2_SIZE offset;
    pcre2_compile_context *ctx = pcre2_compile_context_create(s->general);
    if (!ctx) return galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer %s", s->pre->name);
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, ctx);
    pcre2_compile_context_free(ctx);
    if (!re) {
        const bool is_nomem = code == PCRE2_ERROR_HEAP_FAILED;
        return galen_fail(err, is_nomem ? GALEN_E_NOMEM : GALEN_E_UNSUPPORTED, offset,
                          "pre-tokenizer %s: expression %zu: PCRE2 error %d", s->pre->name, s->n, code);
    }
    s->code[s->n++] = re;
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without it pcre2_match interprets: slower, same matches */
    return GALEN_OK;
}

galen_status splitter_open(splitter **out, const pretokenizer *pre, galen_error *err) {
    galen_status st;
    *out = NULL;
    splitter *s = calloc(1, sizeof *s);
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer %s", pre->name);
    s->pre = pre;
    s->general = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    s->match = s->general ? pcre2_match_context_create(s->general) : NULL;
    if (!s->match) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer %s", pre->name);
        goto fail;
    }
    pcre2_set_match_limit(s->match, MATCH_LIMIT);
    pcre2_set_heap_limit(s->match, HEAP_LIMIT_KIB);
    for (size_t i = 0; i < PRETOKENIZER_MAX_REGEX && pre->regex[i]; i++) {
        st = compile(s, pre->regex[i], err);
        if (st) goto fail;
    }
    *out = s;
    return GALEN_OK;
fail:
    splitter_close(s);
    return st;
}

void split_work_free(split_work *w) {
    pcre2_match_data_free(w->match);
    free(w->ends);
    free(w->spare);
    *w = (split_work){0};
}

static bool add_end(split_work *w, size_t *n, size_t end) {
    if (*n == w->spare_cap) {
        size_t cap = w->spare_cap ? w->spare_cap : 256, bytes;
        if (!size_mul(cap, 2, &cap) || !size_mul(cap, sizeof *w->spare, &bytes)) return false;
        uint32_t *p = realloc(w->spare, bytes);
        if (!p) return false;
        w->spare = p;
        w->spare_cap = cap;
    }
    w->spare[(*n)++] = (uint32_t)end;
    return true;
}

/* The next match in text[0, n) from pos on: 1 and *from, *to; 0 when there is none; < 0 a PCRE2 error. */
static int next_match(const splitter *s, const split_work *w, const pcre2_code *re, const char *text, size_t n, size_t pos,
                      size_t *from, size_t *to) {
    int rc = pcre2_match(re, (PCRE2_SPTR)text, n, pos, PCRE2_NO_UTF_CHECK, w->match, s->match);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter keeps its backtracking on the heap */
        rc = pcre2_match(re, (PCRE2_SPTR)text, n, pos, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, w->match, s->match);
    }
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return rc;
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(w->match);
    *from = ov[0];
    *to = ov[1];
    return 1;
}

/* Split the piece [begin, end) by one expression: matches and what lies between them. The expression sees the piece alone,
 * so that look-ahead ends where the piece does. */
static galen_status split_piece(const splitter *s, split_work *w, size_t index, const char *text, size_t begin, size_t end,
                                size_t *n, galen_error *err) {
    const size_t len = end - begin;
    size_t pos = 0, done = 0, from, to;
    while (pos < len) {
        const int rc = next_match(s, w, s->code[index], text + begin, len, pos, &from, &to);
        if (rc < 0) {
            return galen_fail(err, rc == PCRE2_ERROR_NOMEMORY ? GALEN_E_NOMEM : GALEN_E_RANGE, begin + pos,
                              "pre-tokenizer %s: expression %zu: PCRE2 error %d on %zu bytes", s->pre->name, index, rc, len);
        }
        if (rc == 0) break;
        if (to <= pos) break; /* no expression matches nothing; if one did, the rest stays one word */
        if (from > done && !add_end(w, n, begin + from)) goto nomem;
        if (!add_end(w, n, begin + to)) goto nomem;
        pos = done = to;
    }
    if (done < len && !add_end(w, n, end)) goto nomem;
    return GALEN_OK;
nomem:
    return galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer: words of %zu bytes", len);
}

galen_status splitter_run(const splitter *s, split_work *w, const char *text, size_t n, galen_error *err) {
    w->n = 0;
    if (!w->match) w->match = pcre2_match_data_create(1, s->general);
    if (!w->match) return galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer: match data");
    if (n == 0) return GALEN_OK;
    for (size_t i = 0; i <= s->n; i++) { /* round 0 makes the whole text one piece */
        size_t n_spare = 0, begin = 0;
        if (i == 0 && !add_end(w, &n_spare, n)) return galen_fail(err, GALEN_E_NOMEM, 0, "pre-tokenizer: words");
        for (size_t k = 0; i > 0 && k < w->n; begin = w->ends[k++]) {
            galen_status st = split_piece(s, w, i - 1, text, begin, w->ends[k], &n_spare, err);
            if (st) return st;
        }
        uint32_t *ends = w->ends;
        const size_t cap = w->cap;
        w->ends = w->spare;
        w->cap = w->spare_cap;
        w->spare = ends;
        w->spare_cap = cap;
        w->n = n_spare;
    }
    return GALEN_OK;
}
