#include "assist/triage.h"

#include <pthread.h>
#include <string.h>

#include "assist/triage_impl.h"
#include "base/embed.h"
#include "base/error.h"

/* ------------------------------------------------------------ names */

static const struct {
    const char *name, *advice;
} levels[] = {
    [GALEN_TRIAGE_SELF_CARE] = {"self_care", "Self-care is likely enough; see a clinician if it does not settle or gets worse."},
    [GALEN_TRIAGE_CONSULTATION] = {"consultation", "See a clinician; no red flag was recognised in these words."},
    [GALEN_TRIAGE_CONSULTATION_24] = {"consultation_24", "See a clinician within 24 hours."},
    [GALEN_TRIAGE_EMERGENCY] = {"emergency", "Go to an emergency department now."},
    [GALEN_TRIAGE_EMERGENCY_AMBULANCE] = {"emergency_ambulance", "Call an ambulance now (112, 911, 999 or your local number)."},
};

const char *galen_triage_level_name(galen_triage_level level) {
    return (unsigned)level <= GALEN_TRIAGE_EMERGENCY_AMBULANCE ? levels[level].name : "?";
}
const char *galen_triage_level_advice(galen_triage_level level) {
    return (unsigned)level <= GALEN_TRIAGE_EMERGENCY_AMBULANCE ? levels[level].advice : "?";
}
const char *galen_vital_name(galen_vital kind) {
    static const char *const names[] = {"systolic_mmhg", "diastolic_mmhg", "heart_rate",     "respiratory_rate",
                                        "spo2_percent",  "temp_c",         "glucose_mmol_l", "gcs"};
    return (unsigned)kind <= GALEN_VITAL_GCS ? names[kind] : "?";
}

/* ------------------------------------------------------------ the rules inside the library */

galen_status triage_rules_builtin(const triage_rules **out, galen_error *err) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static triage_rules *rules; /* kept until the program ends */
    static const char folder[] = "data/triage/";
    enum { MAX_FILES = 64 };
    triage_file files[MAX_FILES];
    size_t n = 0;
    galen_status st = GALEN_OK;
    (void)pthread_mutex_lock(&lock);
    if (!rules) {
        for (const embedded *e = embedded_data; e->name && n < MAX_FILES; e++)
            if (strncmp(e->name, folder, sizeof folder - 1) == 0) files[n++] = (triage_file){e->name, e->bytes, e->n};
        st = triage_rules_parse(&rules, files, n, err);
    }
    *out = rules;
    (void)pthread_mutex_unlock(&lock);
    return st;
}

size_t triage_rules_count(const triage_rules *r) {
    return r->n_rules;
}
const char *triage_rules_id(const triage_rules *r, size_t i) {
    return r->rules[i].id;
}
const char *triage_rules_source(const triage_rules *r, size_t i) {
    return r->rules[i].source;
}
bool triage_rules_has_ask(const triage_rules *r, size_t i) {
    return r->rules[i].question != NULL;
}
triage_yes triage_rules_yes(const triage_rules *r, const char *id) {
    for (size_t i = 0; i < r->n_rules; i++) {
        const rule *rl = &r->rules[i];
        if (strcmp(rl->id, id) != 0) continue;
        return (triage_yes){rl->says, rl->yes == rl->level ? rl->message : galen_triage_level_advice(rl->yes), rl->source};
    }
    return (triage_yes){0};
}

/* ------------------------------------------------------------ sentences */

static bool is_abbreviation(const sentence *s) {
    return s->n_tokens > 0 && token_has(&s->tokens[s->n_tokens - 1], SYM_ABBREVIATION);
}

/* "hemat emesis" is one word when only so it is known. */
static bool join_words(const triage_rules *r, token *a, const token *b) {
    token t = *a;
    if (b->before != BRK_NONE || a->is_digits || b->is_digits || a->n < 3 || b->n < 3 || a->n + b->n < 8 ||
        a->n + b->n >= WORD_BYTES)
        return false;
    memcpy(t.text + a->n, b->text, b->n);
    t.n = (uint8_t)(a->n + b->n);
    t.text[t.n] = '\0';
    t.to = b->to;
    if (!lexicon_knows(r, t.text, t.n)) return false;
    (void)lexicon_lookup(r, &t);
    *a = t;
    return true;
}

/* "could not" says what "couldnt" says: the second word counts as both. */
static void contract(const triage_rules *r, const token *verb, token *t) {
    static const char *const forms[][2] = {{"can", "cant"},    {"could", "couldnt"}, {"would", "wouldnt"}, {"will", "wont"},
                                           {"does", "doesnt"}, {"do", "dont"},       {"did", "didnt"},     {"is", "isnt"},
                                           {"are", "arent"},   {"was", "wasnt"},     {"were", "werent"},   {"has", "hasnt"},
                                           {"have", "havent"}, {"had", "hadnt"}};
    if (t->n != 3 || memcmp(t->text, "not", 3) != 0 || t->before != BRK_NONE) return;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        if (verb->n != strlen(forms[k][0]) || memcmp(verb->text, forms[k][0], verb->n) != 0) continue;
        token whole = {.n = (uint8_t)strlen(forms[k][1])};
        memcpy(whole.text, forms[k][1], whole.n);
        (void)lexicon_lookup(r, &whole);
        for (int i = 0; i < whole.n_rows && t->n_rows < MAX_ROWS; i++) t->rows[t->n_rows++] = whole.rows[i];
        t->mask |= whole.mask;
        t->known |= whole.known;
    }
}

static void look_up(scan *x, token *t) {
    sentence *s = &x->s;
    token *last = s->n_tokens ? &s->tokens[s->n_tokens - 1] : NULL;
    const bool is_known = lexicon_lookup(x->r, t);
    if (is_known && last) contract(x->r, last, t);
    if (is_known) return;
    if (x->n_fuzzy >= MAX_FUZZY) return;
    x->n_fuzzy++;
    if (lexicon_lookup_fuzzy(x->r, t)) return;
    if (last && !last->is_digits && t->before == BRK_NONE && join_words(x->r, last, t)) t->n = 0; /* it went into the last one */
}

/* Hits become what is known of their concepts. */
static void record(scan *x) {
    const triage_rules *r = x->r;
    const sentence *s = &x->s;
    for (int k = 0; k < s->n_hits; k++) {
        const hit *h = &s->hits[k];
        if (h->is_hidden || r->concepts[h->id].cue) continue;
        const uint8_t scope = s->scope[h->first], bits = scope ? scope : IS_PRESENT;
        found *f = &x->found[h->id];
        if (f->at != x->n_sentences) f->local = 0;
        f->at = x->n_sentences;
        f->local |= bits;
        if ((bits & IS_PRESENT && !(f->bits & IS_PRESENT)) || !f->bits) {
            f->from = s->tokens[h->first].from;
            f->to = s->tokens[h->last].to;
        }
        f->bits |= bits;
    }
}

/* What a sentence says depends on its words alone, so one that was read already is skipped: a text that repeats itself costs
 * little more than its lexing. */
static bool was_seen(scan *x) {
    uint64_t h = 14695981039346656037u; /* FNV-1a, 64 bits, over words of eight bytes */
    for (int i = 0; i < x->s.n_tokens; i++) {
        const token *t = &x->s.tokens[i];
        uint64_t words[WORD_BYTES / 8 + 2] = {0};
        const size_t n = ((size_t)t->n + 7) / 8;
        memcpy(words, t->text, t->n);
        if (t->is_number) memcpy(&words[n], &t->value, sizeof t->value);
        words[n + 1] = (uint64_t)t->n << 16 | (uint64_t)t->before << 8 | (uint64_t)t->is_slash_before << 4 |
                       (uint64_t)t->is_glued << 2 | t->is_number;
        for (size_t k = 0; k < n + 2; k++) {
            h = (h ^ words[k]) * 1099511628211u;
            h ^= h >> 29;
        }
    }
    uint64_t *slot = &x->seen[h % MAX_SEEN];
    const bool is_old = *slot == h && h != 0;
    *slot = h;
    return is_old;
}

static void end_sentence(scan *x) {
    sentence *s = &x->s;
    if (!s->n_tokens || was_seen(x)) {
        s->n_tokens = 0;
        return;
    }
    x->n_sentences++;
    match_sentence(x);
    scope_sentence(x->r, s);
    weigh_sentence(x);
    if (x->on_sentence) x->on_sentence(x->user, s);
    numbers_sentence(x);
    record(x);
    expr_groups(x);
    s->n_tokens = 0;
}

static void read_text(scan *x) {
    sentence *s = &x->s;
    token *t;
    while (t = &s->tokens[s->n_tokens], triage_lex(&x->lex, t)) {
        if (t->before == BRK_SENTENCE && !(t->is_after_dot && is_abbreviation(s))) {
            const token keep = *t;
            end_sentence(x);
            t = &s->tokens[0];
            *t = keep;
        } else if (s->n_tokens == MAX_TOKENS) {
            const token keep = *t;
            end_sentence(x);
            t = &s->tokens[0];
            *t = keep;
        }
        if (t->before == BRK_SENTENCE) t->before = BRK_NONE;
        look_up(x, t);
        if (t->n) s->n_tokens++;
    }
    end_sentence(x);
}

/* ------------------------------------------------------------ conclusions */

static void set_fact(scan *x, uint16_t id, bool is_true) {
    if (is_true) x->found[id].bits |= IS_PRESENT;
}

/* Sex and pregnancy as concepts, so that rules can ask for them; the shock index from the two numbers. */
static void derive(scan *x) {
    galen_triage_facts *f = &x->out->facts;
    const triage_rules *r = x->r;
    if (f->pregnancy_weeks < 0 && x->weeks.is_known && (x->has_gestation || x->found[r->pregnant].bits & IS_PRESENT) &&
        !(x->found[r->postpartum].bits & IS_PRESENT)) {
        f->pregnancy_weeks = x->weeks.max;
        x->vars[VAR_WEEKS] = x->weeks;
    }
    const uint8_t preg = x->found[r->pregnant].bits, post = x->found[r->postpartum].bits;
    if (post & IS_PRESENT)
        f->pregnancy = GALEN_PREGNANCY_POSTPARTUM;
    else if (preg & IS_PRESENT || f->pregnancy_weeks >= 0)
        f->pregnancy = GALEN_PREGNANCY_YES;
    else if (preg & IS_NEGATED)
        f->pregnancy = GALEN_PREGNANCY_NO;
    set_fact(x, r->pregnant, f->pregnancy == GALEN_PREGNANCY_YES);
    set_fact(x, r->female, f->sex == GALEN_SEX_FEMALE);
    set_fact(x, r->male, f->sex == GALEN_SEX_MALE);
    const range *hr = &x->vars[VAR_HR], *bp = &x->vars[VAR_SBP];
    if (hr->is_known && bp->is_known && bp->min > 0)
        x->vars[VAR_SHOCK] =
            (range){true, hr->max / bp->min, hr->max / bp->min, hr->from_max, hr->to_max, hr->from_max, hr->to_max};
}

static bool is_flag_before(const galen_triage_flag *a, const galen_triage_flag *b) {
    return a->level != b->level ? a->level > b->level : a->from < b->from;
}

static void add_flag(scan *x, const rule *rl, truth t) {
    galen_triage *out = x->out;
    const galen_triage_flag f = {.id = rl->id,
                                 .category = rl->category,
                                 .message = rl->message,
                                 .source = rl->source,
                                 .level = rl->level,
                                 .from = t.from,
                                 .to = t.to};
    if (rl->level > out->level) out->level = rl->level;
    int i = out->n_flags;
    if (i == GALEN_MAX_FLAGS) {
        x->is_cut = true;
        if (!is_flag_before(&f, &out->flags[i - 1])) return;
        i--;
    } else {
        out->n_flags++;
    }
    for (; i > 0 && is_flag_before(&f, &out->flags[i - 1]); i--) out->flags[i] = out->flags[i - 1];
    out->flags[i] = f;
}

static void add_ask(galen_triage *out, const rule *rl) {
    int i = out->n_asks;
    if (i == GALEN_MAX_ASKS) {
        if (rl->yes <= out->asks[i - 1].level) return;
        i--;
    } else {
        out->n_asks++;
    }
    for (; i > 0 && rl->yes > out->asks[i - 1].level; i--) out->asks[i] = out->asks[i - 1];
    out->asks[i] = (galen_triage_ask){rl->id, rl->question, rl->yes};
}

static void run_rules(scan *x) {
    const triage_rules *r = x->r;
    for (size_t i = 0; i < r->n_rules; i++) {
        const rule *rl = &r->rules[i];
        if (rl->is_last) continue;
        const truth t = expr_eval(x, rl->when, false);
        if (t.is_true)
            add_flag(x, rl, t);
        else if (rl->question && expr_eval(x, rl->ask_if, false).is_true)
            add_ask(x->out, rl);
    }
}

/* The highest of the rules that look at weighed words, when it says more than all others. */
static void run_last_rules(scan *x) {
    const triage_rules *r = x->r;
    const rule *best = NULL;
    truth why = {0};
    for (size_t i = 0; i < r->n_rules; i++) {
        const rule *rl = &r->rules[i];
        if (!rl->is_last || rl->level <= (best ? best->level : x->out->level)) continue;
        const truth t = expr_eval(x, rl->when, false);
        if (t.is_true) best = rl, why = t;
    }
    if (best) add_flag(x, best, why);
}

/* Without a flag: self care when all that is complained of is minor; a warning when nothing was recognised. */
static void set_base_level(scan *x) {
    const triage_rules *r = x->r;
    bool has_minor = false, has_other = false, has_any = x->out->facts.n_vitals > 0;
    for (size_t i = 0; i < r->n_concepts; i++) {
        const uint8_t flags = r->concepts[i].flags;
        if (flags & IS_QUIET || !x->found[i].bits) continue;
        has_any = true;
        if (!(x->found[i].bits & IS_PRESENT)) continue;
        has_minor |= (flags & IS_MINOR) != 0;
        has_other |= !(flags & IS_MINOR);
    }
    if (!x->out->n_flags) x->out->level = has_minor && !has_other ? GALEN_TRIAGE_SELF_CARE : GALEN_TRIAGE_CONSULTATION;
    galen_triage *out = x->out;
    if (!has_any && !out->n_flags && out->n_warnings < GALEN_MAX_WARNINGS)
        out->warnings[out->n_warnings++] = (galen_triage_warning){
            GALEN_WARN_TOO_LITTLE, "no symptom was recognised: say what is felt, where, since when and how badly, and the age", 0,
            0};
    if (x->is_cut && out->n_warnings < GALEN_MAX_WARNINGS)
        out->warnings[out->n_warnings++] = (galen_triage_warning){
            GALEN_WARN_LIMIT, "more red flags or measurements than are listed; the level counts them all", 0, 0};
}

galen_triage_level triage_level_of_signs(const galen_triage *t) {
    galen_triage_level level = GALEN_TRIAGE_CONSULTATION;
    for (int32_t i = 0; i < t->n_flags; i++) /* the category of the rules in data/triage/96-weighed.txt */
        if (strcmp(t->flags[i].category, "words") != 0 && t->flags[i].level > level) level = t->flags[i].level;
    return level;
}

void triage_scan(const triage_rules *r, const char *text, size_t len, galen_triage *out) {
    scan x = {.r = r, .out = out, .lex = {.s = text, .n = len}};
    memset(out, 0, sizeof *out);
    out->facts.age_years = out->facts.pregnancy_weeks = -1;
    weigh_begin(&x);
    read_text(&x);
    derive(&x);
    run_rules(&x);
    run_last_rules(&x);
    set_base_level(&x);
}

void triage_sentences(const triage_rules *r, const char *text, size_t len, void (*fn)(void *user, const sentence *s),
                      void *user) {
    galen_triage unused = {0};
    scan x = {.r = r, .out = &unused, .lex = {.s = text, .n = len}, .on_sentence = fn, .user = user};
    read_text(&x);
}

galen_status galen_triage_text(const char *text, size_t len, galen_triage *out, galen_error *err) {
    const triage_rules *rules;
    memset(out, 0, sizeof *out);
    out->level = GALEN_TRIAGE_CONSULTATION;
    bool is_blank = true;
    lexer x = {.s = text, .n = len};
    token t;
    if (len && triage_lex(&x, &t)) is_blank = false;
    if (is_blank) return galen_fail(err, GALEN_E_REFUSED, 0, "the text is empty: describe the symptoms, since when, and the age");
    const galen_status st = triage_rules_builtin(&rules, err);
    if (st) return st;
    triage_scan(rules, text, len, out);
    return GALEN_OK;
}
