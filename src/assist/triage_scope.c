/* What a sentence's cues say of its words: denied, another's, past, only feared. The method is that of NegEx and ConText
 * (Chapman 2001, Harkema 2009): a cue's scope runs to the end of its clause or to a word that ends it. */
#include <string.h>

#include "assist/triage_impl.h"

enum { NEGATE_REACH = 14, LIST_ITEM_WORDS = 3 };

typedef struct cue_marks {
    uint8_t starts[MAX_TOKENS + 1]; /* a cue that ends scopes begins at this word */
} cue_marks;

static int segment_end(const sentence *s, int i) { /* of the comma-separated part that holds word i */
    int j = i + 1;
    while (j < s->n_tokens && s->tokens[j].before == BRK_NONE) j++;
    return j;
}

/* Does a list that began before the comma at word j go on behind it? It does when an "or" is still to come, or when the item is
 * short and nothing begins in it. */
static bool list_goes_on(const sentence *s, const cue_marks *m, int j, bool is_long_ok) {
    const int end = segment_end(s, j);
    for (int k = j; k < end; k++)
        if (m->starts[k]) return false;
    if (is_long_ok || end - j <= LIST_ITEM_WORDS - 1) return true;
    for (int k = j; k < s->n_tokens && !m->starts[k]; k++)
        if (token_has(&s->tokens[k], SYM_OR)) return true;
    return false;
}

/* "no cough and fever" goes on; "no cough and now he has terrible pain" does not: what follows "and" must be short. */
static bool and_goes_on(const sentence *s, const cue_marks *m, int j) {
    const int end = segment_end(s, j);
    for (int k = j + 1; k < end; k++)
        if (m->starts[k]) return false;
    return end - j <= LIST_ITEM_WORDS + 1;
}

static void forward(sentence *s, const cue_marks *m, int from, uint8_t bit, int reach, bool is_list) {
    /* "denies he has", "if there is": what follows at once belongs to the cue. */
    while (from < s->n_tokens && m->starts[from] && !token_has(&s->tokens[from], SYM_BREAKS) &&
           s->tokens[from].before == BRK_NONE)
        from++;
    for (int j = from; j < s->n_tokens && j < from + reach; j++) {
        if (m->starts[j]) return;
        if (j > from && s->tokens[j].before == BRK_COMMA && !list_goes_on(s, m, j, is_list)) return;
        if (j > from && !is_list && bit == IS_NEGATED && token_has(&s->tokens[j], SYM_AND) && !and_goes_on(s, m, j)) return;
        s->scope[j] |= bit;
    }
}

/* "no, it hurts": the cue stands alone. */
static bool is_answer(const sentence *s, const hit *h) {
    return h->first == h->last && h->last + 1 < s->n_tokens && s->tokens[h->last + 1].before == BRK_COMMA;
}

static void backward(sentence *s, const cue_marks *m, int from, uint8_t bit) {
    if (s->tokens[from + 1].before != BRK_NONE) return; /* the cue itself begins a part: "..., history: ..." */
    for (int j = from; j >= 0; j--) {
        s->scope[j] |= bit;
        if (s->tokens[j].before != BRK_NONE || m->starts[j]) return;
    }
}

/* "started 2 years ago": what began then is no past. In the same part of the sentence, before the cue. */
static bool has_begun(const triage_rules *r, const sentence *s, const hit *h) {
    int from = h->first;
    while (from > 0 && s->tokens[from].before == BRK_NONE) from--;
    for (int k = 0; k < s->n_hits; k++) {
        const hit *g = &s->hits[k];
        if (!g->is_hidden && r->concepts[g->id].cue == CUE_BEGAN && g->first >= from && g->last < h->first) return true;
    }
    return false;
}

/* "My mum had a fit": the relative is the patient. Where the sentence names an age, a time long past or the one who writes, it is
 * the family's history: "Dad had a heart attack at 50". */
static bool is_told_of_relative(const triage_rules *r, const sentence *s, const hit *h) {
    static const char *const asides[] = {"i",           "im",          "ive",  "me",    "died",   "age",   "aged",
                                         "grandmother", "grandfather", "aunt", "uncle", "cousin", "family"};
    const token *verb = &s->tokens[h->last];
    if (verb->n != 3 || memcmp(verb->text, "had", 3) != 0) return false;
    if (h->first > 0 && token_has(&s->tokens[h->first - 1], SYM_HIS)) return false; /* a relative of the one who is meant */
    for (int k = 0; k < s->n_hits; k++)
        if (!s->hits[k].is_hidden &&
            (r->concepts[s->hits[k].id].cue == CUE_PAST_AFTER || r->concepts[s->hits[k].id].cue == CUE_PAST))
            return false;
    for (int k = 0; k < s->n_tokens; k++) {
        const token *t = &s->tokens[k];
        if (k > 0 && t->is_digits && s->tokens[k - 1].n == 2 && memcmp(s->tokens[k - 1].text, "at", 2) == 0) return false;
        for (size_t w = 0; w < sizeof asides / sizeof *asides; w++)
            if (t->n == strlen(asides[w]) && memcmp(t->text, asides[w], t->n) == 0) return false;
    }
    return true;
}

static void apply(const triage_rules *r, sentence *s, const cue_marks *m, const hit *h) {
    const int next = h->last + 1, before = h->first - 1;
    switch ((cue_kind)r->concepts[h->id].cue) {
    case CUE_NEGATE:
        if (!is_answer(s, h)) forward(s, m, next, IS_NEGATED, NEGATE_REACH, false);
        break;
    case CUE_NEGATE_LIST:
        forward(s, m, next, IS_NEGATED, MAX_TOKENS, true);
        break;
    case CUE_NEGATE_AFTER: /* only where its part of the sentence ends: "has stopped", not "has stopped moving" */
        if (segment_end(s, h->last) == next || m->starts[next]) backward(s, m, before, IS_NEGATED);
        break;
    case CUE_FAMILY:
        if (!is_told_of_relative(r, s, h)) forward(s, m, next, IS_FAMILY, MAX_TOKENS, false);
        break;
    case CUE_FAMILY_AFTER: /* "stroke in her mother", not "the box in my brother's chest" */
        if (segment_end(s, h->last) == next || m->starts[next] || token_has(&s->tokens[next], SYM_BREAKS))
            backward(s, m, before, IS_FAMILY);
        break;
    case CUE_PAST:
        forward(s, m, next, IS_PAST, MAX_TOKENS, false);
        break;
    case CUE_PAST_AFTER:
        if (!has_begun(r, s, h)) backward(s, m, before, IS_PAST);
        break;
    case CUE_HYPOTHETICAL:
        forward(s, m, next, IS_HYPOTHETICAL, NEGATE_REACH, false);
        break;
    default:
        break;
    }
}

static bool is_but(const token *t) {
    return t->n == 3 && memcmp(t->text, "but", 3) == 0;
}

/* "today" in a clause: nothing in it is past, nor the family's; what stands before a "but" may be. */
static void apply_recent(sentence *s, const hit *h) {
    int a = h->first;
    const int b = segment_end(s, h->last);
    while (a > 0 && s->tokens[a].before == BRK_NONE && !is_but(&s->tokens[a])) a--;
    for (int j = a; j < b; j++) s->scope[j] &= (uint8_t) ~(IS_PAST | IS_FAMILY);
}

void scope_sentence(const triage_rules *r, sentence *s) {
    cue_marks m;
    memset(s->scope, 0, (size_t)s->n_tokens);
    bool has_any = false;
    memset(m.starts, 0, (size_t)s->n_tokens + 1);
    for (int k = 0; k < s->n_hits; k++) {
        const uint8_t cue = r->concepts[s->hits[k].id].cue;
        has_any |= cue != CUE_NONE && cue < CUE_VITAL;
        if (cue == CUE_END && !s->hits[k].is_hidden) m.starts[s->hits[k].first] = 1;
    }
    if (!has_any) return;
    for (int k = 0; k < s->n_hits; k++)
        if (!s->hits[k].is_hidden) apply(r, s, &m, &s->hits[k]);
    for (int k = 0; k < s->n_hits; k++)
        if (!s->hits[k].is_hidden && r->concepts[s->hits[k].id].cue == CUE_RECENT) apply_recent(s, &s->hits[k]);
}
