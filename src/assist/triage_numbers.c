/* Numbers of a sentence: measurements with their units, age, weeks of pregnancy, how long.
 * What no living person has is named and kept from the rules. */
#include <math.h>
#include <string.h>

#include "assist/triage_impl.h"

enum { REACH = 12 };

/* Limits of life: beyond them the number is a slip or another unit. Highest survived temperature 46.5 C, lowest 13.7 C
 * (Guinness; Gilbert, Lancet 2000;355:375). */
static const struct {
    double min, max;
    var v;
    const char *message;
} limits[] = {
    [GALEN_VITAL_SYSTOLIC_MMHG] = {20, 350, VAR_SBP,
                                   "a systolic blood pressure outside 20 to 350 mmHg, or not above the diastolic"},
    [GALEN_VITAL_DIASTOLIC_MMHG] = {5, 250, VAR_DBP, "a diastolic blood pressure outside 5 to 250 mmHg"},
    [GALEN_VITAL_HEART_RATE] = {0, 350, VAR_HR, "a heart rate outside 0 to 350 a minute"},
    [GALEN_VITAL_RESPIRATORY_RATE] = {0, 120, VAR_RR, "a respiratory rate outside 0 to 120 a minute"},
    [GALEN_VITAL_SPO2_PERCENT] = {1, 100, VAR_SPO2, "an oxygen saturation outside 1 to 100 %"},
    [GALEN_VITAL_TEMP_C] = {13, 47, VAR_TEMP, "a body temperature outside 13 to 47 degrees Celsius"},
    [GALEN_VITAL_GLUCOSE_MMOL_L] = {0.1, 170, VAR_GLUCOSE, "a blood glucose outside 0.1 to 170 mmol/L"},
    [GALEN_VITAL_GCS] = {3, 15, VAR_GCS, "a Glasgow coma score outside 3 to 15"},
};
static const double max_age_years = 125;

/* What may stand in a report; another number is none of it. A value under `small` is in the other unit: times `factor`. */
static const struct {
    const char *name;
    double min, max, small, factor;
} lab_limits[N_LABS] = {
    [LAB_INR] = {"inr", 0.5, 25, 0, 1},
    [LAB_POTASSIUM] = {"potassium_mmol", 1.5, 10, 0, 1},
    [LAB_SODIUM] = {"sodium_mmol", 95, 190, 0, 1},
    [LAB_HB] = {"hb_g", 20, 250, 25, 10},
    [LAB_PLATELETS] = {"platelet_count", 0, 2000, 0, 1},
    [LAB_NEUTROPHILS] = {"neutrophil_count", 0, 100, 0, 1},
    [LAB_KETONES] = {"ketones_mmol", 0, 15, 0, 1},
    [LAB_LACTATE] = {"lactate_mmol", 0.1, 30, 0, 1},
    [LAB_CRP] = {"crp_mg", 0, 700, 0, 1},
    [LAB_CALCIUM] = {"calcium_mmol", 1, 5, 0, 1},
};

const char *lab_name(lab kind) {
    return (unsigned)kind < N_LABS ? lab_limits[kind].name : "?";
}

static void warn(galen_triage *out, const char *message, size_t from, size_t to) {
    if (out->n_warnings < GALEN_MAX_WARNINGS)
        out->warnings[out->n_warnings++] = (galen_triage_warning){GALEN_WARN_IMPOSSIBLE, message, from, to};
}

static void widen(range *v, double x, size_t from, size_t to) {
    if (!v->is_known || x < v->min) v->min = x, v->from_min = from, v->to_min = to;
    if (!v->is_known || x > v->max) v->max = x, v->from_max = from, v->to_max = to;
    v->is_known = true;
}

static void add_vital(scan *x, galen_vital kind, double value, bool is_possible, size_t from, size_t to) {
    galen_triage_facts *f = &x->out->facts;
    is_possible = is_possible && value >= limits[kind].min && value <= limits[kind].max;
    if (f->n_vitals < GALEN_MAX_VITALS)
        f->vitals[f->n_vitals++] = (galen_triage_vital){kind, value, is_possible, from, to};
    else
        x->is_cut = true;
    if (is_possible)
        widen(&x->vars[limits[kind].v], value, from, to);
    else
        warn(x->out, limits[kind].message, from, to);
}

static const token *at(const sentence *s, int i) {
    static const token none = {.known = 0};
    return i >= 0 && i < s->n_tokens ? &s->tokens[i] : &none;
}

static bool is_time_unit(const token *t) {
    return token_has(t, SYM_YEAR) || token_has(t, SYM_MONTH) || token_has(t, SYM_WEEK) || token_has(t, SYM_DAY) ||
           token_has(t, SYM_HOUR) || token_has(t, SYM_MINUTE);
}

static double unit_years(const token *t) {
    if (token_has(t, SYM_YEAR)) return 1;
    if (token_has(t, SYM_MONTH)) return 1 / 12.0;
    if (token_has(t, SYM_WEEK)) return 7 / 365.25;
    if (token_has(t, SYM_DAY)) return 1 / 365.25;
    return 0;
}

static inline bool is_text(const token *t, const char *word) {
    const size_t n = strlen(word);
    return t->n == n && memcmp(t->text, word, n) == 0;
}

/* ------------------------------------------------------------ measurements */

/* "80/40", "80 over 40": a pressure pair at word i. */
static bool is_pair(const sentence *s, int i) {
    const token *a = at(s, i), *b = at(s, i + 1), *c = at(s, i + 2);
    if (!a->is_digits) return false;
    if (b->is_digits && b->is_slash_before && b->before == BRK_NONE) return true;
    return (is_text(b, "over") || is_text(b, "sur") || is_text(b, "sobre")) && c->is_digits;
}

static bool is_pair_plausible(const sentence *s, int i) {
    const int j = at(s, i + 1)->is_digits ? i + 1 : i + 2;
    const double a = at(s, i)->value, b = at(s, j)->value;
    return !at(s, j + 1)->is_slash_before && a >= 50 && a <= 300 && b >= 20 && b < a && fmod(a, 1) == 0.0;
}

static int take_pair(scan *x, int i) {
    const sentence *s = &x->s;
    const int j = at(s, i + 1)->is_digits ? i + 1 : i + 2;
    double a = at(s, i)->value, b = at(s, j)->value;
    if (a < 30 && b < 20 && a >= 4) a *= 10, b *= 10; /* 12/8 as said in Latin countries */
    const bool is_ok = a > b;
    add_vital(x, GALEN_VITAL_SYSTOLIC_MMHG, a, is_ok, at(s, i)->from, at(s, j)->to);
    add_vital(x, GALEN_VITAL_DIASTOLIC_MMHG, b, true, at(s, i)->from, at(s, j)->to);
    return j;
}

static double to_celsius(const sentence *s, int i, double v) {
    const token *unit = at(s, i + 1);
    if (is_text(unit, "deg") || token_has(unit, SYM_CELSIUS) || token_has(unit, SYM_FAHRENHEIT)) {
        if (is_text(unit, "deg")) unit = at(s, i + 2);
        if (token_has(unit, SYM_FAHRENHEIT) || is_text(unit, "f")) return (v - 32) / 1.8;
        if (token_has(unit, SYM_CELSIUS) || is_text(unit, "c")) return v;
    }
    if (is_text(unit, "f")) return (v - 32) / 1.8;
    if (is_text(unit, "c")) return v;
    return v >= 80 && v <= 120 ? (v - 32) / 1.8 : v;
}

static double to_mmol(const sentence *s, int i, double v) {
    for (int k = i + 1; k <= i + 2; k++) {
        if (token_has(at(s, k), SYM_MMOL)) return v;
        if (is_text(at(s, k), "mg")) return v / 18.016;
    }
    return v > 33 ? v / 18.016 : v;
}

/* The number that a measurement's name announces, -1 = none: only words that say nothing may lie between. */
static int announced(const sentence *s, int after) {
    for (int i = after + 1; i < s->n_tokens && i <= after + REACH; i++) {
        const token *t = at(s, i);
        if (t->is_digits) return is_time_unit(at(s, i + 1)) && !token_has(at(s, i + 1), SYM_MINUTE) ? -1 : i;
        if (!token_has(t, SYM_FILLER) && !is_text(t, "deg")) return -1;
    }
    return -1;
}

static void take_vital(scan *x, const hit *h, galen_vital kind) {
    const sentence *s = &x->s;
    const int i = announced(s, h->last);
    if (i < 0) return;
    const token *t = at(s, i);
    const bool is_bp = kind == GALEN_VITAL_SYSTOLIC_MMHG || kind == GALEN_VITAL_DIASTOLIC_MMHG;
    if (is_bp && is_pair(s, i)) {
        (void)take_pair(x, i);
        return;
    }
    double v = t->value;
    if (kind == GALEN_VITAL_TEMP_C) v = to_celsius(s, i, v);
    if (kind == GALEN_VITAL_GLUCOSE_MMOL_L) v = to_mmol(s, i, v);
    if (kind == GALEN_VITAL_SPO2_PERCENT && v > 0 && v < 1) v *= 100;                                        /* 0.88 */
    if (token_has(at(s, h->last), SYM_OXYGEN) && h->first == h->last && !is_text(at(s, i + 1), "%")) return; /* oxygen 2 litres */
    add_vital(x, kind, v, true, t->from, t->to);
}

static void take_lab(scan *x, const hit *h, lab kind) {
    const int i = announced(&x->s, h->last);
    if (i < 0) return;
    const token *t = at(&x->s, i), *unit = at(&x->s, i + 1);
    if (is_text(unit, "mg") && kind != LAB_CRP) return; /* a dose */
    const double v = t->value < lab_limits[kind].small ? t->value * lab_limits[kind].factor : t->value;
    if (v >= lab_limits[kind].min && v <= lab_limits[kind].max) widen(&x->vars[VAR_LAB + kind], v, t->from, t->to);
}

/* A bare "38.6", or "39" where it can be nothing else ("has had 39 for three days"). */
static bool is_bare_temp(const scan *x, int i) {
    static const char *const before[] = {"has", "had", "got", "running", "hit", "reached"};
    static const char *const after[] = {"for", "since", "all", "today", "yesterday", "last", "now", "fever", "temp"};
    static const char *const units[] = {"kg", "kgs", "kilos", "cm", "mm", "ml", "mg", "lbs", "miles", "km", "%", "g"};
    const sentence *s = &x->s;
    const token *t = at(s, i), *u = at(s, i + 1);
    if (t->value < 37.5 || t->value > 42.5 || u->is_slash_before || t->is_slash_before || unit_years(u) > 0) return false;
    for (size_t k = 0; k < sizeof units / sizeof *units; k++)
        if (is_text(u, units[k])) return false;
    if (memchr(x->lex.s + t->from, '.', t->to - t->from) || memchr(x->lex.s + t->from, ',', t->to - t->from)) return true;
    bool is_before = false, is_after = false;
    for (size_t k = 0; k < sizeof before / sizeof *before; k++) is_before |= is_text(at(s, i - 1), before[k]);
    for (size_t k = 0; k < sizeof after / sizeof *after; k++) is_after |= is_text(u, after[k]);
    return t->value >= 38 && is_before && is_after && u->before == BRK_NONE;
}

/* A number whose unit alone says what it is. taken: words already used by a name. */
static int take_by_unit(scan *x, int i) {
    const sentence *s = &x->s;
    const token *t = at(s, i), *u = at(s, i + 1), *w = at(s, i + 2);
    const size_t from = t->from, to = t->to;
    if (is_pair(s, i) && is_pair_plausible(s, i)) return take_pair(x, i);
    if (is_text(u, "deg") || token_has(u, SYM_CELSIUS) || token_has(u, SYM_FAHRENHEIT) ||
        (u->is_glued && (is_text(u, "c") || is_text(u, "f")))) {
        const double c = to_celsius(s, i, t->value);
        if (c >= 30 && c <= 45 && (t->value < 46 || t->value > 85)) add_vital(x, GALEN_VITAL_TEMP_C, c, true, from, to);
        return i + 1;
    }
    if (is_bare_temp(x, i)) {
        add_vital(x, GALEN_VITAL_TEMP_C, t->value, true, from, to);
        return i;
    }
    if (is_text(u, "%") && t->value >= 40 && t->value <= 100) {
        for (int k = i + 2; k <= i + 5; k++)
            if (token_has(at(s, k), SYM_OXYGEN)) {
                add_vital(x, GALEN_VITAL_SPO2_PERCENT, t->value, true, from, to);
                return i + 1;
            }
    }
    if (token_has(u, SYM_BPM)) add_vital(x, GALEN_VITAL_HEART_RATE, t->value, true, from, to);
    if (token_has(u, SYM_BREATHS)) add_vital(x, GALEN_VITAL_RESPIRATORY_RATE, t->value, true, from, to);
    if (is_text(u, "systolic")) add_vital(x, GALEN_VITAL_SYSTOLIC_MMHG, t->value, true, from, to);
    if (token_has(u, SYM_MMOL) && is_text(w, "glucose")) add_vital(x, GALEN_VITAL_GLUCOSE_MMOL_L, t->value, true, from, to);
    return i;
}

/* ------------------------------------------------------------ age, sex */

static void set_age(scan *x, double years, const token *t, bool is_explicit) {
    galen_triage_facts *f = &x->out->facts;
    if (x->s.scope[t - x->s.tokens] & IS_FAMILY) return;
    if (years < 0 || years > max_age_years) {
        warn(x->out, "an age above 125 years", t->from, t->to);
        return;
    }
    if (f->age_years >= 0 && (x->is_age_explicit || !is_explicit)) return;
    f->age_years = years;
    x->is_age_explicit = is_explicit;
    x->vars[VAR_AGE].is_known = false;
    widen(&x->vars[VAR_AGE], years, t->from, t->to);
}

static void set_sex(scan *x, galen_sex sex, bool is_explicit) {
    if (x->out->facts.sex && (x->is_sex_explicit || !is_explicit)) return;
    x->out->facts.sex = sex;
    x->is_sex_explicit = is_explicit;
}

static galen_sex sex_of(const token *t, bool is_letter_ok) {
    if (token_has(t, SYM_MALE) || (is_letter_ok && is_text(t, "m"))) return GALEN_SEX_MALE;
    if (token_has(t, SYM_FEMALE) || (is_letter_ok && is_text(t, "f"))) return GALEN_SEX_FEMALE;
    return GALEN_SEX_UNKNOWN;
}

/* "3/52" of a clinician's note: days, weeks, months or hours by what is under the stroke. Its days; 0 = none. */
static double shorthand_days(const sentence *s, int i) {
    const token *a = at(s, i), *b = at(s, i + 1);
    if (!a->is_digits || !b->is_digits || !b->is_slash_before || at(s, i + 2)->is_slash_before || a->is_slash_before) return 0;
    if (b->value == 7 && a->value < 15) return a->value;
    if (b->value == 52 && a->value < 53) return a->value * 7;
    if (b->value == 12 && a->value < 37) return a->value * 365.25 / 12;
    if (b->value == 24 && a->value < 49) return a->value / 24;
    return 0;
}

/* Words between a person and the age: "my aunt, 80", "Baby is just 7 weeks". */
static bool is_age_link(const token *t) {
    static const char *const words[] = {"is",     "was",     "s",  "aged", "just", "only", "now",
                                        "turned", "turning", "of", "ours", "mine", "am",   "m"};
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (is_text(t, words[k])) return true;
    return false;
}

/* After an age without a unit: "mum is 79 and", "little girl 3 has". */
static bool ends_age(const token *t) {
    static const char *const words[] = {"and", "has", "had", "with", "who", "is", "was",  "he",
                                        "she", "but", "in",  "now",  "on",  "i",  "says", "have"};
    if (t->before != BRK_NONE || !t->n) return true;
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (is_text(t, words[k])) return true;
    return false;
}

/* The age of the person named right before the number at i: its last word, or -1. Weeks and months are a child's only. */
static int age_of_person(const sentence *s, int i, double *years) {
    int k = i - 1;
    while (k >= 0 && k > i - 5 && is_age_link(at(s, k))) k--;
    const token *who = at(s, k), *u = at(s, i + 1);
    const bool is_me =
        is_text(who, "im") || is_text(who, "i") || is_text(who, "ich") || is_text(who, "hes") || is_text(who, "shes");
    const bool is_child = token_has(who, SYM_CHILD);
    const double unit = unit_years(u);
    /* "banged my hip, 81, can walk" */
    if (s->tokens[i].is_digits && s->tokens[i].before == BRK_COMMA && u->before == BRK_COMMA && !at(s, i - 1)->is_digits &&
        unit <= 0 && s->tokens[i].value >= 18 && s->tokens[i].value <= 105) {
        *years = s->tokens[i].value;
        return i;
    }
    if (!is_me && !is_child && !token_has(who, SYM_PERSON)) return -1;
    if (!s->tokens[i].is_digits && unit <= 0) return -1;
    if (is_text(u, "ago") || is_text(at(s, i + 2), "ago") || is_text(at(s, i - 1), "of")) return -1;
    if (unit > 0 ? unit < 1 && !is_child : !ends_age(u) || (is_text(who, "i") && k == i - 1)) return -1;
    *years = s->tokens[i].value * (unit > 0 ? unit : 1);
    return *years <= max_age_years ? i + (unit > 0) : -1;
}

/* Is the number at i an age? Its last word, or -1. *years is set. */
static int age_at(const sentence *s, int i, double *years, bool *is_explicit) {
    const token *t = at(s, i), *u = at(s, i + 1), *w = at(s, i + 2);
    const double unit = unit_years(u);
    *is_explicit = true;
    *years = t->value * (unit > 0 ? unit : 1);
    if (unit > 0 && (token_has(w, SYM_OLD) || (is_text(w, "of") && token_has(at(s, i + 3), SYM_AGE)))) return i + 2;
    if (token_has(u, SYM_OLD)) return i + 1; /* 62yo */
    if (is_text(u, "y") && (is_text(w, "o") || token_has(w, SYM_OLD))) return i + 2;
    if (token_has(at(s, i - 1), SYM_AGE) || (token_has(at(s, i - 2), SYM_AGE) && token_has(at(s, i - 1), SYM_FILLER)))
        return unit > 0 ? i + 1 : i;
    const double days = shorthand_days(s, i);
    if (days >= 1 && (token_has(w, SYM_OLD) || token_has(w, SYM_CHILD) || sex_of(w, true))) { /* 7/12 old, 3/52 baby, 8/12 F */
        *years = days / 365.25;
        return i + 2;
    }
    *is_explicit = false;
    const int last = age_of_person(s, i, years);
    if (last >= 0) return last;
    *years = t->value * (unit > 0 ? unit : 1);
    if (unit >= 1 && sex_of(w, true)) return i + 2; /* 62 year male, 62 ans f */
    const bool is_since = token_has(at(s, i - 1), SYM_SINCE) || token_has(at(s, i - 2), SYM_SINCE);
    if (unit >= 1 && !is_since &&
        (is_text(u, "ans") || is_text(u, "anos") || is_text(u, "anni") || is_text(u, "jahrige") || is_text(u, "jahriger")))
        return i + 1;
    if (t->is_digits && unit <= 0 && t->value <= max_age_years && u->before == BRK_NONE &&
        sex_of(u, u->is_glued || is_text(w, "with") || i == 0))
        return i + 1; /* 62F, 62 male */
    return -1;
}

static int take_age(scan *x, int i) {
    double years;
    bool is_explicit;
    const int last = age_at(&x->s, i, &years, &is_explicit);
    if (last < 0) return -1;
    set_age(x, years, &x->s.tokens[i], is_explicit);
    for (int k = i; k <= last + 2 && k < x->s.n_tokens; k++) {
        const galen_sex sex = sex_of(at(&x->s, k), k <= last + 1);
        if (sex) set_sex(x, sex, true);
    }
    return last;
}

static void take_sex_words(scan *x) {
    for (int i = 0; i < x->s.n_tokens; i++) {
        const token *t = &x->s.tokens[i];
        if (x->s.scope[i] & IS_FAMILY) continue;
        const galen_sex sex = sex_of(t, false);
        if (sex) set_sex(x, sex, true);
        if (token_has(t, SYM_HE)) set_sex(x, GALEN_SEX_MALE, false);
        if (token_has(t, SYM_SHE)) set_sex(x, GALEN_SEX_FEMALE, false);
    }
}

/* ------------------------------------------------------------ durations, weeks of pregnancy */

/* "34 weeks" that is no time since or ago: a pregnancy's, if another sentence says that there is one. */
static bool is_free_weeks(const sentence *s, int i) {
    static const char *const after[] = {"ago", "old", "post", "after", "later", "since", "now", "of", "postnatal", "postpartum"};
    const token *w = at(s, i + 2);
    for (size_t k = 0; k < sizeof after / sizeof *after; k++)
        if (w->before == BRK_NONE && is_text(w, after[k])) return false;
    for (int k = i - 3; k < i; k++)
        if (token_has(at(s, k), SYM_SINCE)) return false;
    return s->tokens[i].is_digits && s->tokens[i].value >= 5 && s->tokens[i].value <= 43;
}

static bool take_weeks(scan *x, int i) {
    bool is_near = false;
    const sentence *s = &x->s;
    const bool is_week = token_has(at(s, i + 1), SYM_WEEK) || (at(s, i + 1)->is_slash_before && at(s, i + 1)->value == 40);
    for (int k = 0; k < s->n_tokens; k++) is_near |= token_has(at(s, k), SYM_GESTATION);
    is_near |= is_week && !token_has(at(s, i + 1), SYM_WEEK); /* 33/40 says so by itself */
    x->has_gestation |= is_near;
    if (is_week && is_free_weeks(s, i)) widen(&x->weeks, s->tokens[i].value, s->tokens[i].from, s->tokens[i].to);
    is_near |= is_text(at(s, i - 1), "im") || (is_text(at(s, i - 1), "m") && is_text(at(s, i - 2), "i")) ||
               (is_text(at(s, i - 1), "am") && is_text(at(s, i - 2), "i")); /* I'm 11 weeks */
    if (!is_week || !is_near || s->tokens[i].value < 3 || s->tokens[i].value > 45) return false;
    if (x->out->facts.pregnancy_weeks < 0) {
        x->out->facts.pregnancy_weeks = s->tokens[i].value;
        widen(&x->vars[VAR_WEEKS], s->tokens[i].value, s->tokens[i].from, s->tokens[i].to);
    }
    return true;
}

/* "9/10", "8 out of 10": a pain score that is severe. */
static bool take_score(scan *x, int i) {
    const sentence *s = &x->s;
    int j = i + 1;
    while (j <= i + 2 &&
           (is_text(at(s, j), "out") || is_text(at(s, j), "of") || is_text(at(s, j), "sur") || is_text(at(s, j), "von")))
        j++;
    if (!at(s, j)->is_digits || at(s, j)->value != 10 || (j == i + 1 && !at(s, j)->is_slash_before)) return false;
    if (at(s, i)->value < 8 || at(s, i)->value > 10) return true;
    found *f = &x->found[x->r->severe];
    if (!(f->bits & IS_PRESENT)) f->from = at(s, i)->from, f->to = at(s, j)->to;
    f->bits |= IS_PRESENT;
    f->local = (uint8_t)((f->at == x->n_sentences ? f->local : 0) | IS_PRESENT);
    f->at = x->n_sentences;
    return true;
}

static void take_duration(scan *x, int i) {
    const token *t = &x->s.tokens[i], *u = at(&x->s, i + 1);
    double days = unit_years(u) * 365.25;
    const double shorthand = shorthand_days(&x->s, i);
    if (token_has(u, SYM_HOUR)) days = 1 / 24.0;
    if (token_has(u, SYM_MINUTE)) days = 1 / 1440.0;
    if ((days <= 0 && shorthand <= 0) || token_has(at(&x->s, i + 2), SYM_OLD)) return;
    days = days > 0 ? days * t->value : shorthand;
    if (days > x->s.days) x->s.days = days;
    widen(&x->vars[VAR_DAYS], days, t->from, u->to);
}

void numbers_sentence(scan *x) {
    sentence *s = &x->s;
    bool taken[MAX_TOKENS] = {false};
    bool has_number = false;
    s->days = -1;
    for (int i = 0; i < s->n_tokens; i++) has_number |= s->tokens[i].is_number;
    take_sex_words(x);
    if (!has_number) return;
    for (int k = 0; k < s->n_hits; k++) {
        const hit *h = &s->hits[k];
        const uint8_t cue = x->r->concepts[h->id].cue;
        if (cue < CUE_VITAL || h->is_hidden) continue;
        if (cue >= CUE_LAB)
            take_lab(x, h, (lab)(cue - CUE_LAB));
        else
            take_vital(x, h, (galen_vital)(cue - CUE_VITAL));
        const int i = announced(s, h->last);
        if (i >= 0) taken[i] = taken[i + 1 < MAX_TOKENS ? i + 1 : i] = true;
    }
    for (int i = 0; i < s->n_tokens; i++) {
        if (!s->tokens[i].is_number || taken[i]) continue;
        const int last = take_age(x, i);
        if (last >= 0)
            i = last;
        else if (take_score(x, i))
            continue;
        else if (!take_weeks(x, i))
            take_duration(x, i);
        if (last < 0 && s->tokens[i].is_digits) i = take_by_unit(x, i);
    }
}
