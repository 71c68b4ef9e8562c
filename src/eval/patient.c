#include "eval/patient.h"

#include <stdlib.h>
#include <string.h>

#include "assist/triage_impl.h"
#include "base/error.h"

enum { STEM_BYTES = 24, MAX_PARTS = 12, MAX_WANTED = 16 };

/* A word, or a concept, of the facts; scope: denied, another's, past ... */
typedef struct fact_word {
    char stem[STEM_BYTES];
    uint8_t scope;
} fact_word;
typedef struct fact_concept {
    uint16_t id;
    uint8_t scope;
} fact_concept;
/* A sentence ends where the next one begins. */
typedef struct fact_sentence {
    size_t word, concept;
} fact_sentence;

struct patient {
    const triage_rules *rules;
    fact_word *words;
    fact_concept *concepts;
    fact_sentence *sentences;
    size_t n_words, cap_words, n_concepts, cap_concepts, n_sentences, cap_sentences;
    bool is_starved;
};

/* ------------------------------------------------------------ words */

/* Endings that a word has as noun, verb or plural: "vomiting", "vomited", "vomits". What is left has at least four letters. */
static void stem_of(const char *word, char out[STEM_BYTES]) {
    static const char *const endings[] = {"ness", "ing", "ies", "ed", "es", "ly", "s", "y", "e"};
    size_t n = strlen(word);
    n = n < STEM_BYTES - 1 ? n : STEM_BYTES - 1;
    memcpy(out, word, n);
    out[n] = '\0';
    if (n > 2 && strcmp(out + n - 2, "ss") == 0) return;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const size_t k = strlen(endings[i]);
        if (n < k + 4 || strcmp(out + n - k, endings[i]) != 0) continue;
        out[n - k] = '\0';
        return;
    }
}

/* Words that questions are made of, and that tell nothing of what is asked for, whatever their ending. */
static bool is_filler(const char *stem) {
    static const char *const fillers[] = {
        "a",         "about",      "after",   "all",       "also",     "am",      "an",      "any",       "anyone",  "anything",
        "are",       "as",         "at",      "be",        "been",     "before",  "being",   "can",       "change",  "could",
        "currently", "day",        "did",     "do",        "does",     "during",  "ever",    "else",      "episode", "experience",
        "family",    "feel",       "feeling", "felt",      "few",      "for",     "from",    "get",       "getting", "had",
        "has",       "have",       "having",  "he",        "her",      "his",     "history", "hour",      "if",      "in",
        "into",      "is",         "issue",   "it",        "kind",     "last",    "lately",  "like",      "made",    "make",
        "many",      "me",         "medical", "month",     "more",     "most",    "much",    "my",        "new",     "notice",
        "now",       "of",         "on",      "one",       "other",    "out",     "over",    "past",      "patient", "please",
        "possible",  "previously", "prior",   "problem",   "recently", "report",  "s",       "sensation", "she",     "since",
        "so",        "some",       "someone", "something", "still",    "such",    "suffer",  "symptom",   "than",    "that",
        "the",       "their",      "them",    "there",     "these",    "they",    "this",    "time",      "to",      "today",
        "type",      "unusual",    "us",      "was",       "we",       "week",    "were",    "when",      "while",   "will",
        "with",      "would",      "year",    "you",       "your",     "yourself"};
    char one[STEM_BYTES];
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++) {
        stem_of(fillers[i], one);
        if (strcmp(one, stem) == 0) return true;
    }
    return false;
}

static bool is_concept(const triage_rules *r, const hit *h) {
    return !h->is_hidden && !r->concepts[h->id].cue;
}

/* ------------------------------------------------------------ the facts */

static bool keep_sentence_start(patient *p) {
    if (!lexicon_grow((void **)&p->sentences, &p->cap_sentences, p->n_sentences + 1, sizeof *p->sentences)) return false;
    p->sentences[p->n_sentences++] = (fact_sentence){p->n_words, p->n_concepts};
    return true;
}

static bool keep_word(patient *p, const token *t, uint8_t scope) {
    if (!lexicon_grow((void **)&p->words, &p->cap_words, p->n_words, sizeof *p->words)) return false;
    p->words[p->n_words].scope = scope;
    stem_of(t->text, p->words[p->n_words++].stem);
    return true;
}

static bool keep_concept(patient *p, uint16_t id, uint8_t scope) {
    if (!lexicon_grow((void **)&p->concepts, &p->cap_concepts, p->n_concepts, sizeof *p->concepts)) return false;
    if (p->rules->concepts[id].flags & IS_LASTING) scope &= (uint8_t)~IS_PAST;
    p->concepts[p->n_concepts++] = (fact_concept){id, scope};
    return true;
}

static void keep_sentence(void *user, const sentence *s) {
    patient *p = user;
    bool ok = !p->is_starved && keep_sentence_start(p);
    for (int i = 0; i < s->n_tokens && ok; i++) ok = keep_word(p, &s->tokens[i], s->scope[i]);
    for (int i = 0; i < s->n_hits && ok; i++) {
        const hit *h = &s->hits[i];
        if (is_concept(p->rules, h)) ok = keep_concept(p, h->id, s->scope[h->first]);
    }
    p->is_starved = !ok;
}

galen_status patient_open(patient **out, const char *facts, size_t n, galen_error *err) {
    *out = NULL;
    patient *p = calloc(1, sizeof *p);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "a patient");
    galen_status st = triage_rules_builtin(&p->rules, err);
    if (!st) triage_sentences(p->rules, facts, n, keep_sentence, p);
    if (!st && p->is_starved) st = galen_fail(err, GALEN_E_NOMEM, 0, "a patient of %zu bytes", n);
    if (st)
        patient_close(p);
    else
        *out = p;
    return st;
}

void patient_close(patient *p) {
    if (!p) return;
    free(p->words);
    free(p->concepts);
    free(p->sentences);
    free(p);
}

/* ------------------------------------------------------------ a question */

/* What a part asks for. */
typedef struct part {
    char stems[MAX_WANTED][STEM_BYTES];
    uint16_t ids[MAX_WANTED];
    int n_stems, n_ids;
} part;

typedef struct question {
    const patient *p;
    part parts[MAX_PARTS];
    int n_parts;
    uint8_t allowed;   /* scopes that a fact may have: "have you ever" */
    bool is_of_family; /* only what is said of the family counts      */
    bool is_open;      /* "what", "how": no yes or no                 */
} question;

static bool is_one_of(const char *word, const char *const *words) {
    for (; *words; words++) {
        if (strcmp(word, *words) == 0) return true;
    }
    return false;
}

/* Is there a longer concept over this one, or another of the same words? "pain" in "chest pain" is not asked for; of two ways to
 * take the same words the rules' first is the plain one, and later files have classes of people and complaints. */
static bool is_covered(const patient *p, const sentence *s, int which) {
    const hit *h = &s->hits[which];
    for (int i = 0; i < s->n_hits; i++) {
        const hit *g = &s->hits[i];
        if (i == which || !is_concept(p->rules, g) || g->first > h->first || g->last < h->last) continue;
        if (g->last - g->first > h->last - h->first || g->id < h->id || (g->id == h->id && i < which)) return true;
    }
    return false;
}

static bool is_in_concept(const patient *p, const sentence *s, int word) {
    for (int i = 0; i < s->n_hits; i++) {
        if (is_concept(p->rules, &s->hits[i]) && s->hits[i].first <= word && s->hits[i].last >= word) return true;
    }
    return false;
}

static void add_concepts(const question *q, const sentence *s, part *to, int from, int end) {
    for (int i = 0; i < s->n_hits && to->n_ids < MAX_WANTED; i++) {
        const hit *h = &s->hits[i];
        if (is_concept(q->p->rules, h) && h->first >= from && h->first < end && !is_covered(q->p, s, i))
            to->ids[to->n_ids++] = h->id;
    }
}

static void add_part(question *q, const sentence *s, int from, int end) {
    if (q->n_parts == MAX_PARTS) return;
    part *to = &q->parts[q->n_parts];
    *to = (part){.n_stems = 0};
    add_concepts(q, s, to, from, end);
    for (int i = from; i < end && to->n_stems < MAX_WANTED; i++) {
        const token *t = &s->tokens[i];
        if (is_in_concept(q->p, s, i) || token_has(t, SYM_OR) || token_has(t, SYM_AND)) continue;
        stem_of(t->text, to->stems[to->n_stems]);
        to->n_stems += !is_filler(to->stems[to->n_stems]);
    }
    q->n_parts += to->n_stems || to->n_ids;
}

static void read_question(void *user, const sentence *s) {
    static const char *const open_words[] = {"what", "how", "when", "where", "which", "who", "why", NULL};
    static const char *const ever[] = {"ever", "history", "past", "previous", "previously", "before", NULL};
    static const char *const family[] = {"family",  "relative", "relatives", "mother", "father",
                                         "parents", "brother",  "sister",    NULL};
    question *q = user;
    int from = 0;
    if (q->n_parts == 0 && s->n_tokens && is_one_of(s->tokens[0].text, open_words)) q->is_open = true;
    for (int i = 0; i < s->n_tokens; i++) {
        if (is_one_of(s->tokens[i].text, ever)) q->allowed |= IS_PAST;
        q->is_of_family = q->is_of_family || is_one_of(s->tokens[i].text, family);
        const bool is_cut =
            s->tokens[i].before == BRK_COMMA || token_has(&s->tokens[i], SYM_OR) || token_has(&s->tokens[i], SYM_AND);
        if (!is_cut || i == from) continue;
        add_part(q, s, from, i);
        from = i;
    }
    add_part(q, s, from, s->n_tokens);
    if (q->is_of_family) q->allowed |= IS_FAMILY;
}

/* Said twice in a sentence, what is affirmed counts. */
static void note_scope(bool *has, uint8_t *best, uint8_t scope) {
    if (!*has || !scope) *best = scope;
    *has = true;
}

/* Is it in sentence `at`, and in what scope? The scope is added to *scope. */
static bool find_word(const patient *p, size_t at, const char *stem, uint8_t *scope) {
    const size_t end = at + 1 < p->n_sentences ? p->sentences[at + 1].word : p->n_words;
    bool has = false;
    uint8_t best = 0;
    for (size_t i = p->sentences[at].word; i < end; i++) {
        if (strcmp(p->words[i].stem, stem) == 0) note_scope(&has, &best, p->words[i].scope);
    }
    *scope |= best;
    return has;
}

static bool find_concept(const patient *p, size_t at, uint16_t id, uint8_t *scope) {
    const size_t end = at + 1 < p->n_sentences ? p->sentences[at + 1].concept : p->n_concepts;
    bool has = false;
    uint8_t best = 0;
    for (size_t i = p->sentences[at].concept; i < end; i++) {
        if (p->concepts[i].id == id) note_scope(&has, &best, p->concepts[i].scope);
    }
    *scope |= best;
    return has;
}

static galen_answer_kind answer_part(const question *q, const part *k) {
    galen_answer_kind said = GALEN_ANSWER_UNKNOWN;
    for (size_t at = 0; at < q->p->n_sentences; at++) {
        uint8_t scope = 0;
        bool has = true;
        for (int i = 0; i < k->n_ids && has; i++) has = find_concept(q->p, at, k->ids[i], &scope);
        for (int i = 0; i < k->n_stems && has; i++) has = find_word(q->p, at, k->stems[i], &scope);
        if (!has || (q->is_of_family && !(scope & IS_FAMILY)) || scope & (uint8_t) ~(q->allowed | IS_NEGATED)) continue;
        if (!(scope & IS_NEGATED)) return GALEN_ANSWER_YES;
        said = GALEN_ANSWER_NO;
    }
    return said;
}

galen_answer_kind patient_answer(const patient *p, const char *text, size_t n) {
    question q = {.p = p};
    galen_answer_kind said = GALEN_ANSWER_UNKNOWN;
    triage_sentences(p->rules, text, n, read_question, &q);
    for (int i = 0; i < q.n_parts && !q.is_open; i++) {
        const galen_answer_kind one = answer_part(&q, &q.parts[i]);
        if (one == GALEN_ANSWER_YES) return one;
        if (one == GALEN_ANSWER_NO) said = one;
    }
    return said;
}
