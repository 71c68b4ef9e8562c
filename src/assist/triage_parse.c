/* The rules' files. Lines; a directive begins in column 0, its indented lines belong to it; # begins a comment line.
 *
 *   class NAME                 words that mean the same in phrases (@NAME)
 *     word word stem* ...
 *   concept NAME [more] [minor] [lasting] [voiced] [quiet]
 *     phrase | phrase          see triage_phrase.c
 *   cue KIND                   phrases that shape what is around them: negate, negate_list, negate_after, not_negation, family,
 *     phrase | phrase          family_after, past, past_after, hypothetical, end, recent, began, ignore
 *   vital KIND                 a measurement's names: systolic_mmhg, heart_rate ... (galen_vital_name), inr ... (lab_name)
 *   number VALUE               words that count so much
 *   weigh SUM BASE             words that add to the sum concern or danger, see triage_weigh.c
 *     WEIGHT word -word ~word
 *   ordinary                   everyday words that are one letter away from a word above
 *   rule CATEGORY.NAME LEVEL
 *     when  EXPRESSION         see triage_expr.c
 *     say   what the person reads
 *     from  the guideline
 *     ask   a question, with
 *     if    EXPRESSION         when it is worth asking, and perhaps
 *     yes   LEVEL [WORDS]      what a yes means, if not the rule's level; the words that it says, for all rules to read (of a
 *                              question for one thing; one that lists several gets none, for a yes says only that one is true)
 *
 * minor: alone it is self care. lasting: counts when it is past too (diabetes, anticoagulants). voiced: counts when it is only
 * feared or wished (self-harm). quiet: says nothing by itself (sudden, severe). more: further phrases of a concept of before.
 * Classes are read first, of all files, then concepts, then rules. */
#include "assist/triage_parse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *const known_classes[N_KNOWN_SYMS] = {
    [SYM_BREAKS] = "breaks",
    [SYM_OR] = "or",
    [SYM_AND] = "and",
    [SYM_FILLER] = "filler",
    [SYM_ABBREVIATION] = "abbreviation",
    [SYM_YEAR] = "year",
    [SYM_MONTH] = "month",
    [SYM_WEEK] = "week",
    [SYM_DAY] = "day",
    [SYM_HOUR] = "hour",
    [SYM_MINUTE] = "minute",
    [SYM_OLD] = "old",
    [SYM_AGE] = "age",
    [SYM_SINCE] = "since",
    [SYM_MALE] = "male",
    [SYM_FEMALE] = "female",
    [SYM_HE] = "he",
    [SYM_SHE] = "she",
    [SYM_GESTATION] = "gestation",
    [SYM_CELSIUS] = "celsius",
    [SYM_FAHRENHEIT] = "fahrenheit",
    [SYM_BPM] = "bpm",
    [SYM_BREATHS] = "breaths",
    [SYM_MMHG] = "mmhg",
    [SYM_MMOL] = "mmol",
    [SYM_OXYGEN] = "oxygen",
    [SYM_CHILD] = "child",
    [SYM_PERSON] = "person",
    [SYM_HIS] = "his",
    [SYM_NUMBER] = "#",
};

static const char *const cue_names[CUE_VITAL] = {
    [CUE_NEGATE] = "negate",
    [CUE_NEGATE_LIST] = "negate_list",
    [CUE_NEGATE_AFTER] = "negate_after",
    [CUE_NOT_NEGATION] = "not_negation",
    [CUE_FAMILY] = "family",
    [CUE_FAMILY_AFTER] = "family_after",
    [CUE_PAST] = "past",
    [CUE_PAST_AFTER] = "past_after",
    [CUE_HYPOTHETICAL] = "hypothetical",
    [CUE_END] = "end",
    [CUE_RECENT] = "recent",
    [CUE_BEGAN] = "began",
    [CUE_IGNORE] = "ignore",
};

galen_status parse_fail(const entry *e, galen_error *err, const char *what, const char *word, size_t n) {
    return galen_fail(err, GALEN_E_FORMAT, e->line, "%s:%zu: %s: '%.*s'", e->file, e->line, what, (int)(n > 60 ? 60 : n), word);
}

static galen_status no_memory(galen_error *err) {
    return galen_fail(err, GALEN_E_NOMEM, 0, "rules: out of memory");
}

size_t parse_word(const char **text, size_t *n, const char **word) {
    const char *s = *text, *const end = s + *n;
    while (s < end && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r')) s++;
    *word = s;
    while (s < end && *s != ' ' && *s != '\t' && *s != '\n' && *s != '\r') s++;
    *text = s;
    *n = (size_t)(end - s);
    return (size_t)(s - *word);
}

static bool is_word(const char *word, size_t n, const char *name) {
    return strlen(name) == n && memcmp(word, name, n) == 0;
}

/* ------------------------------------------------------------ entries */

static size_t line_length(const char *s, const char *end) {
    const char *nl = memchr(s, '\n', (size_t)(end - s));
    return nl ? (size_t)(nl - s) + 1 : (size_t)(end - s);
}

/* The entry at *pos, which moves behind it; false at the end. *line counts. */
static bool next_entry(const triage_file *f, size_t *pos, size_t *line, entry *e) {
    const char *s = f->bytes + *pos, *const end = f->bytes + f->n;
    while (s < end && (*s == '#' || *s == '\n' || *s == '\r' || *s == ' ' || *s == '\t')) {
        s += line_length(s, end);
        ++*line;
    }
    if (s == end) return false;
    size_t n = line_length(s, end);
    *e = (entry){.file = f->name, .line = *line, .head = s, .n_head = n};
    const char *word;
    size_t n_word = parse_word(&e->head, &e->n_head, &word);
    if (n_word >= sizeof e->keyword) n_word = sizeof e->keyword - 1;
    memcpy(e->keyword, word, n_word);
    s += n;
    ++*line;
    e->body = s;
    while (s < end && (*s == ' ' || *s == '\t' || *s == '#')) {
        s += line_length(s, end);
        ++*line;
    }
    e->n_body = (size_t)(s - e->body);
    *pos = (size_t)(s - f->bytes);
    return true;
}

bool parse_line(entry *e, const char **text, size_t *n) {
    while (e->n_body) {
        const char *s = e->body, *const end = s + e->n_body;
        size_t k = line_length(s, end);
        e->body += k;
        e->n_body -= k;
        while (k && (*s == ' ' || *s == '\t')) s++, k--;
        while (k && strchr(" \t\r\n", s[k - 1])) k--;
        if (!k || *s == '#') continue;
        *text = s;
        *n = k;
        return true;
    }
    return false;
}

/* ------------------------------------------------------------ classes */

/* Classes are kept as words behind '@'. */
static uint32_t class_symbol(triage_rules *r, const char *name, size_t n, bool is_made) {
    char key[WORD_BYTES];
    token t = {.n = 0};
    if (n == 0 || n + 1 >= sizeof key) return UINT32_MAX;
    t.n = (uint8_t)(n + 1);
    t.text[0] = '@';
    memcpy(t.text + 1, name, n);
    const uint32_t old = lexicon_first(r, t.text, t.n);
    if (old != UINT32_MAX) return old;
    if (!is_made) return UINT32_MAX;
    const uint32_t sym = lexicon_symbol(r);
    return sym != UINT16_MAX && lexicon_word(r, t.text, t.n, sym) ? sym : UINT32_MAX;
}

uint32_t parse_class(const triage_rules *r, const char *name, size_t n) {
    return class_symbol((triage_rules *)r, name, n, false);
}

static bool init_known(triage_rules *r) {
    for (int k = 0; k < N_KNOWN_SYMS; k++)
        if (class_symbol(r, known_classes[k], strlen(known_classes[k]), true) != (uint32_t)k) return false;
    return true;
}

/* Words of a class; the writing folds as the user's does. */
static galen_status add_words(triage_rules *r, const entry *e, uint32_t sym, double value, galen_error *err) {
    entry lines = *e;
    const char *text, *word;
    size_t n, n_word;
    while (parse_line(&lines, &text, &n)) {
        while ((n_word = parse_word(&text, &n, &word)) > 0) {
            const bool is_stem = word[n_word - 1] == '*';
            lexer x = {.s = word, .n = n_word - is_stem};
            token t, more;
            if (!triage_lex(&x, &t) || t.is_digits || triage_lex(&x, &more) || t.n + 1 >= WORD_BYTES)
                return parse_fail(e, err, "a class holds single words", word, n_word);
            if (is_stem) t.text[t.n++] = '*';
            if (is_stem && t.n < 5) return parse_fail(e, err, "a stem has four letters at least", word, n_word);
            if (!(isnan(value) ? lexicon_word(r, t.text, t.n, sym) : lexicon_number(r, t.text, t.n, value)))
                return no_memory(err);
        }
    }
    return GALEN_OK;
}

static galen_status add_class(triage_rules *r, const entry *e, galen_error *err) {
    const char *head = e->head, *word;
    size_t n = e->n_head;
    const size_t n_word = parse_word(&head, &n, &word);
    if (n_word == 0 || n_word + 2 >= WORD_BYTES) return parse_fail(e, err, "a class needs a name", word, n_word);
    const uint32_t sym = class_symbol(r, word, n_word, true);
    if (sym == UINT32_MAX) return no_memory(err);
    return add_words(r, e, sym, NAN, err);
}

static galen_status add_number(triage_rules *r, const entry *e, galen_error *err) {
    lexer x = {.s = e->head, .n = e->n_head};
    token t;
    if (!triage_lex(&x, &t) || !t.is_digits) return parse_fail(e, err, "number needs a value", e->head, e->n_head);
    return add_words(r, e, 0, t.value, err);
}

static galen_status add_ordinary(triage_rules *r, const entry *e, galen_error *err) {
    const uint32_t sym = class_symbol(r, "ordinary", 8, true);
    return sym == UINT32_MAX ? no_memory(err) : add_words(r, e, sym, NAN, err);
}

/* ------------------------------------------------------------ concepts and cues */

static int find_concept(const triage_rules *r, const char *name, size_t n) {
    for (size_t i = 0; i < r->n_concepts; i++)
        if (r->concepts[i].n_name == n && memcmp(name, r->concepts[i].name, n) == 0) return (int)i;
    return -1;
}

static galen_status new_concept(triage_rules *r, const entry *e, const char *name, size_t n, uint32_t *id, galen_error *err) {
    const int old = find_concept(r, name, n);
    *id = (uint32_t)old;
    if (old >= 0) return GALEN_OK; /* more phrases for it */
    if (r->n_concepts == MAX_CONCEPTS) return parse_fail(e, err, "too many concepts", name, n);
    if (!lexicon_grow((void **)&r->concepts, &r->cap_concepts, r->n_concepts, sizeof *r->concepts)) return no_memory(err);
    char *copy = arena_strndup(&r->strings, name, n);
    if (!copy) return no_memory(err);
    *id = (uint32_t)r->n_concepts;
    r->concepts[r->n_concepts++] = (concept){.name = copy, .n_name = n};
    return GALEN_OK;
}

static galen_status add_phrases(triage_rules *r, const entry *e, uint32_t id, galen_error *err) {
    entry lines = *e;
    const char *text;
    size_t n;
    while (parse_line(&lines, &text, &n)) {
        const char *const end = text + n;
        while (text < end) {
            const char *bar = memchr(text, '|', (size_t)(end - text));
            const char *stop = bar ? bar : end;
            const galen_status st = phrase_compile(r, e, text, (size_t)(stop - text), id, err);
            if (st) return st;
            text = stop + 1;
        }
    }
    return GALEN_OK;
}

/* The next word of *head when it is the one named. */
static bool take_word(const char **head, size_t *n, const char *name) {
    const char *rest = *head, *word;
    size_t n_rest = *n;
    const size_t n_word = parse_word(&rest, &n_rest, &word);
    if (!is_word(word, n_word, name)) return false;
    *head = rest;
    *n = n_rest;
    return true;
}

static galen_status add_concept(triage_rules *r, const entry *e, galen_error *err) {
    static const struct {
        const char *name;
        uint8_t flag;
    } flags[] = {{"minor", IS_MINOR}, {"lasting", IS_LASTING}, {"voiced", IS_VOICED}, {"quiet", IS_QUIET}};
    const char *head = e->head, *word;
    size_t n = e->n_head, n_word = parse_word(&head, &n, &word), k;
    uint32_t id;
    if (!n_word) return parse_fail(e, err, "a concept needs a name", "", 0);
    const bool is_more = take_word(&head, &n, "more"), is_old = find_concept(r, word, n_word) >= 0;
    if (is_more != is_old)
        return parse_fail(e, err, is_more ? "more phrases for no concept" : "a second concept of this name, or more phrases?",
                          word, n_word);
    galen_status st = new_concept(r, e, word, n_word, &id, err);
    if (st) return st;
    while ((n_word = parse_word(&head, &n, &word)) > 0) {
        for (k = 0; k < 4 && !is_word(word, n_word, flags[k].name); k++) {
        }
        if (k == 4) return parse_fail(e, err, "concepts are minor, lasting, voiced or quiet, not", word, n_word);
        r->concepts[id].flags |= flags[k].flag;
    }
    return add_phrases(r, e, id, err);
}

/* cue KIND and vital KIND are concepts of that name. */
static galen_status add_cue(triage_rules *r, const entry *e, bool is_vital, galen_error *err) {
    const char *head = e->head, *word;
    size_t n = e->n_head;
    const size_t n_word = parse_word(&head, &n, &word);
    int kind = -1;
    for (int k = 1; k < CUE_VITAL && !is_vital; k++)
        if (is_word(word, n_word, cue_names[k])) kind = k;
    for (int k = 0; k <= GALEN_VITAL_GCS && is_vital; k++)
        if (is_word(word, n_word, galen_vital_name((galen_vital)k))) kind = CUE_VITAL + k;
    for (int k = 0; k < N_LABS && is_vital; k++)
        if (is_word(word, n_word, lab_name((lab)k))) kind = CUE_LAB + k;
    if (kind < 0) return parse_fail(e, err, "no cue or vital of this kind", word, n_word);
    uint32_t id;
    galen_status st = new_concept(r, e, word, n_word, &id, err);
    if (st) return st;
    r->concepts[id].cue = (uint8_t)kind;
    r->concepts[id].flags = IS_QUIET;
    r->cue_concept[kind] = (uint16_t)id;
    return add_phrases(r, e, id, err);
}

/* ------------------------------------------------------------ rules */

enum { F_WHEN, F_SAY, F_FROM, F_ASK, F_IF, F_YES, N_FIELDS };
static const char *const field_names[N_FIELDS] = {"when", "say", "from", "ask", "if", "yes"};

/* A field's lines joined by blanks, in the arena. */
static galen_status read_fields(triage_rules *r, const entry *e, const char *fields[N_FIELDS], galen_error *err) {
    char *text[N_FIELDS] = {NULL};
    size_t used[N_FIELDS] = {0};
    entry lines = *e;
    const char *line;
    size_t n;
    int at = -1;
    while (parse_line(&lines, &line, &n)) {
        const char *rest = line, *word;
        size_t n_rest = n, n_word = parse_word(&rest, &n_rest, &word);
        for (int f = 0; f < N_FIELDS; f++) {
            if (!is_word(word, n_word, field_names[f])) continue;
            if (text[f]) return parse_fail(e, err, "twice in a rule", word, n_word);
            at = f;
            line = rest;
            n = n_rest;
        }
        if (at < 0) return parse_fail(e, err, "a rule's line begins with when, say, from, ask, if or yes, not", word, n_word);
        while (n && (*line == ' ' || *line == '\t')) line++, n--;
        if (!text[at]) text[at] = arena_alloc(&r->strings, e->n_body + 2, 1);
        if (!text[at]) return no_memory(err);
        if (used[at]) text[at][used[at]++] = ' ';
        memcpy(text[at] + used[at], line, n);
        used[at] += n;
    }
    memcpy(fields, text, sizeof text);
    return GALEN_OK;
}

static bool read_level(const char *word, size_t n, galen_triage_level *level) {
    for (int k = GALEN_TRIAGE_SELF_CARE; k <= GALEN_TRIAGE_EMERGENCY_AMBULANCE; k++) {
        *level = (galen_triage_level)k;
        if (is_word(word, n, galen_triage_level_name(*level))) return true;
    }
    return false;
}

/* "LEVEL words" */
static galen_status read_yes(const entry *e, const char *text, rule *rl, galen_error *err) {
    size_t n = text ? strlen(text) : 0;
    const char *word = "";
    rl->yes = rl->level;
    if (!text) return GALEN_OK;
    const size_t n_word = parse_word(&text, &n, &word);
    if (!rl->question || !read_level(word, n_word, &rl->yes))
        return parse_fail(e, err, "yes without ask or a level", word, n_word);
    while (*text == ' ') text++;
    rl->says = *text ? text : NULL;
    return GALEN_OK;
}

static galen_status add_rule(triage_rules *r, const entry *e, galen_error *err) {
    const char *head = e->head, *id, *level, *fields[N_FIELDS] = {NULL};
    size_t n = e->n_head;
    const size_t n_id = parse_word(&head, &n, &id), n_level = parse_word(&head, &n, &level);
    const char *dot = n_id ? memchr(id, '.', n_id) : NULL;
    rule rl = {0};
    if (!dot || dot == id || dot == id + n_id - 1) return parse_fail(e, err, "a rule is called CATEGORY.NAME, not", id, n_id);
    if (!read_level(level, n_level, &rl.level)) return parse_fail(e, err, "no such level", level, n_level);
    for (size_t i = 0; i < r->n_rules; i++)
        if (is_word(id, n_id, r->rules[i].id)) return parse_fail(e, err, "a second rule of this name", id, n_id);
    galen_status st = read_fields(r, e, fields, err);
    if (st) return st;
    if (!fields[F_WHEN] || !fields[F_SAY] || !fields[F_FROM] || !fields[F_ASK] != !fields[F_IF])
        return parse_fail(e, err, "a rule needs when, say and from, and ask together with if", id, n_id);
    st = expr_compile(r, fields[F_WHEN], strlen(fields[F_WHEN]), &rl.when, err);
    if (!st && fields[F_IF]) st = expr_compile(r, fields[F_IF], strlen(fields[F_IF]), &rl.ask_if, err);
    if (st == GALEN_E_FORMAT && err) {
        char what[96];
        memcpy(what, err->msg, sizeof what - 1);
        what[sizeof what - 1] = '\0';
        return parse_fail(e, err, what, id, n_id);
    }
    if (st) return st;
    rl.is_last = expr_is_weighed(r, rl.when);
    rl.id = arena_strndup(&r->strings, id, n_id);
    rl.category = arena_strndup(&r->strings, id, (size_t)(dot - id));
    if (!rl.id || !rl.category) return no_memory(err);
    rl.message = fields[F_SAY];
    rl.source = fields[F_FROM];
    rl.question = fields[F_ASK];
    st = read_yes(e, fields[F_YES], &rl, err);
    if (st) return st;
    if (!lexicon_grow((void **)&r->rules, &r->cap_rules, r->n_rules, sizeof *r->rules)) return no_memory(err);
    r->rules[r->n_rules++] = rl;
    return GALEN_OK;
}

/* ------------------------------------------------------------ all files */

enum { PASS_CLASSES, PASS_CONCEPTS, PASS_RULES, N_PASSES };

static galen_status add_entry(triage_rules *r, const entry *e, int pass, galen_error *err) {
    static const struct {
        const char *keyword;
        int pass;
    } keywords[] = {{"class", PASS_CLASSES}, {"number", PASS_CLASSES}, {"ordinary", PASS_CONCEPTS}, {"concept", PASS_CONCEPTS},
                    {"cue", PASS_CONCEPTS},  {"vital", PASS_CONCEPTS}, {"rule", PASS_RULES},        {"weigh", PASS_CONCEPTS}};
    for (size_t k = 0; k < sizeof keywords / sizeof keywords[0]; k++) {
        if (strcmp(e->keyword, keywords[k].keyword) != 0) continue;
        if (keywords[k].pass != pass) return GALEN_OK;
        switch (k) {
        case 0:
            return add_class(r, e, err);
        case 1:
            return add_number(r, e, err);
        case 2:
            return add_ordinary(r, e, err);
        case 3:
            return add_concept(r, e, err);
        case 6:
            return add_rule(r, e, err);
        case 7:
            return weigh_compile(r, e, err);
        default:
            return add_cue(r, e, k == 5, err);
        }
    }
    return parse_fail(e, err, "no such directive", e->keyword, strlen(e->keyword));
}

static galen_status find_special(triage_rules *r, galen_error *err) {
    static const char *const names[] = {"pregnant", "postpartum", "female", "male", "severe"};
    static const entry nowhere = {.file = "rules"};
    uint32_t ids[5];
    for (int k = 0; k < 5; k++) { /* the program sets them too, so they always exist */
        const galen_status st = new_concept(r, &nowhere, names[k], strlen(names[k]), &ids[k], err);
        if (st) return st;
    }
    r->pregnant = (uint16_t)ids[0];
    r->postpartum = (uint16_t)ids[1];
    r->female = (uint16_t)ids[2];
    r->male = (uint16_t)ids[3];
    r->severe = (uint16_t)ids[4];
    r->concepts[ids[2]].flags |= IS_QUIET;
    r->concepts[ids[3]].flags |= IS_QUIET;
    r->concepts[ids[0]].flags |= IS_LASTING;
    return GALEN_OK;
}

galen_status triage_rules_parse(triage_rules **out, const triage_file *files, size_t n_files, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    triage_rules *r = calloc(1, sizeof *r);
    if (!r) return no_memory(err);
    memset(r->cue_concept, 0xFF, sizeof r->cue_concept);
    r->bases[0] = r->bases[1] = NAN;
    if (!lexicon_init(r) || !init_known(r)) st = no_memory(err);
    for (int pass = 0; pass < N_PASSES && !st; pass++) {
        for (size_t f = 0; f < n_files && !st; f++) {
            size_t pos = 0, line = 1;
            entry e;
            while (!st && next_entry(&files[f], &pos, &line, &e)) st = add_entry(r, &e, pass, err);
        }
        if (!st && pass == PASS_CONCEPTS) st = find_special(r, err);
    }
    if (!st && (!lexicon_finish(r) || !expr_index(r))) st = no_memory(err);
    if (st && r->is_starved) st = no_memory(err);
    if (st) {
        triage_rules_free(r);
        return st;
    }
    *out = r;
    return GALEN_OK;
}

void triage_rules_free(triage_rules *r) {
    if (!r) return;
    arena_free(&r->strings);
    free(r->chars);
    free(r->words);
    free(r->stems);
    free(r->spellings);
    free(r->word_syms);
    free(r->links);
    free(r->nodes);
    free(r->edges);
    free(r->says);
    free(r->word_hashes);
    free(r->stem_hashes);
    free(r->openings);
    free(r->concepts);
    free(r->rules);
    free(r->ops);
    free(r->groups);
    free(r->concept_groups);
    free(r);
}
