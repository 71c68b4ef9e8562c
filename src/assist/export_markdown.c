/* A case for reading: Markdown, and the same layout as plain text. */
#include <string.h>

#include "assist/export_impl.h"
#include "galen/assist.h"

typedef struct writer {
    growing g;
    bool is_plain;
} writer;

/* In CommonMark these mean something wherever they stand; and these only where a line's text begins, perhaps behind a number of
 * up to nine digits (a list, a heading's underline). A backslash before ASCII punctuation is always right. */
static const char special[] = "\\`*_[]<>#|~&!", special_first[] = "+-=.)";
enum { FIRST_CHARACTERS = 10 };

/* One line: breaks become blanks. */
static void put_words(writer *w, words text) {
    const char *bytes;
    size_t n;
    uint32_t cp, before = ' ';
    for (size_t i = 0, count = 0; next_character(text, &i, &bytes, &n, &cp); count++) {
        if (cp == '\n' || cp == '\r' || cp == '\t' || cp == 0x2028 || cp == 0x2029) {
            if (before != ' ') put_text(&w->g, " ");
            before = ' ';
            continue;
        }
        const bool is_special =
            n == 1 && (strchr(special, bytes[0]) || (count < FIRST_CHARACTERS && strchr(special_first, bytes[0])));
        if (is_special && !w->is_plain) put_text(&w->g, "\\");
        put(&w->g, bytes, n);
        before = cp;
    }
}

static void put_heading(writer *w, const char *text) {
    put_format(&w->g, w->is_plain ? "\n%s\n\n" : "\n## %s\n\n", text);
}

static void put_triage(writer *w, const case_view *v) {
    put_heading(w, "Red flags");
    if (!v->triage) {
        put_text(&w->g, "No check for red flags is recorded.\n");
        return;
    }
    const words level = get_words(v->triage, "level");
    put_text(&w->g, w->is_plain ? "" : "**");
    put_text(&w->g, level_words(level));
    put_text(&w->g, w->is_plain ? " (" : "** (");
    put_words(w, level);
    put_text(&w->g, ")\n");
    const size_t n = get_length(v->triage, "flags");
    if (n == 0) put_text(&w->g, "\nNo rule fired.\n");
    for (size_t i = 0; i < n; i++) {
        const json_t *flag = get_item(v->triage, "flags", i);
        put_text(&w->g, i ? "- " : "\n- ");
        put_words(w, get_words(flag, "message"));
        const words quote = get_words(flag, "quote"), source = get_words(flag, "source");
        if (quote.n) {
            put_text(&w->g, " Said: \xE2\x80\x9C");
            put_words(w, quote);
            put_text(&w->g, "\xE2\x80\x9D.");
        }
        if (source.n) {
            put_text(&w->g, " Source: ");
            put_words(w, source);
        }
        put_text(&w->g, "\n");
    }
}

static void put_quotes(writer *w, const json_t *condition, const char *key, const char *label) {
    const json_t *list = json_object_get(condition, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const words text =
            json_is_string(item) ? (words){json_string_value(item), json_string_length(item)} : get_words(item, "quote");
        if (!text.n) continue;
        put_format(&w->g, "   - %s: ", label);
        put_words(w, text);
        put_text(&w->g, "\n");
    }
}

static void put_conditions(writer *w, const case_view *v) {
    put_heading(w, "Possible conditions");
    if (!v->differential) {
        put_text(&w->g, "None were listed.\n");
        return;
    }
    for (size_t i = 0; i < get_length(v->differential, "conditions"); i++) {
        const json_t *k = get_item(v->differential, "conditions", i);
        const words code = get_words(k, "code"), title = get_words(k, "code_title");
        put_format(&w->g, "%zu. ", i + 1);
        put_text(&w->g, w->is_plain ? "" : "**");
        put_words(w, get_words(k, "name"));
        put_format(&w->g, w->is_plain ? ": confidence %.2f" : "**: confidence %.2f", get_number(k, "confidence", 0));
        put_text(&w->g, code.n ? "; ICD-10-CM " : "; no ICD-10-CM code");
        put_words(w, code);
        if (title.n) {
            put_text(&w->g, " ");
            put_words(w, title);
        }
        put_text(&w->g, "\n");
        put_quotes(w, k, "support", "for");
        put_quotes(w, k, "against", "against");
        put_quotes(w, k, "missing", "not known");
    }
    put_format(&w->g, "\nSomething else: %.2f. Confidence: ", get_number(v->differential, "other", 0));
    put_words(w, get_words(v->differential, "confidence_meaning"));
    put_text(&w->g, ".\n");
}

static void put_interview(writer *w, const case_view *v) {
    if (!v->n_exchanges) return;
    put_heading(w, "Questions");
    for (size_t i = 0; i < v->n_exchanges; i++) {
        const exchange *e = &v->exchanges[i];
        put_format(&w->g, "%lld. ", (long long)e->number);
        put_words(w, get_words(e->question, "text"));
        put_text(&w->g, w->is_plain ? " - " : " \xE2\x80\x94 ");
        if (e->answer)
            put_words(w, answer_words(e->answer));
        else
            put_text(&w->g, "not answered");
        put_text(&w->g, "\n");
    }
}

static void put_origin(writer *w, const case_view *v) {
    char from[TIME_BYTES], to[TIME_BYTES];
    const json_t *model = json_object_get(v->differential, "model");
    put_heading(w, "Origin");
    put_format(&w->g, "- Begun %s, last turn %s, %zu turns\n", time_text(v->c->created_ms, from), time_text(v->c->changed_ms, to),
               v->c->n_turns);
    if (v->c->parent)
        put_format(&w->g, "- Branched from case %lld after %lld turns\n", (long long)v->c->parent, (long long)v->c->parent_turns);
    if (model) {
        put_text(&w->g, "- Model ");
        put_words(w, get_words(model, "name"));
        put_text(&w->g, ", SHA-256 ");
        put_words(w, get_words(model, "sha256"));
        put_text(&w->g, ", on ");
        put_words(w, get_words(v->differential, "device"));
        put_format(&w->g, ", seed %.0f\n", get_number(v->differential, "seed", 0));
    }
    put_format(&w->g, "- Galen %s\n", galen_version());
}

galen_status export_markdown(const case_view *v, bool is_plain, export_text *out, galen_error *err) {
    writer w = {.is_plain = is_plain};
    put_format(&w.g, is_plain ? "Case %lld\n\n%s\n" : "# Case %lld\n\n*%s*\n", (long long)v->c->id, galen_assist_intended_use());
    put_triage(&w, v);
    put_heading(&w, "Symptoms");
    put_text(&w.g, is_plain ? "" : "> ");
    put_words(&w, get_words(v->symptoms, "text"));
    put_text(&w.g, "\n");
    put_conditions(&w, v);
    put_interview(&w, v);
    put_origin(&w, v);
    return growing_end(&w.g, out, err);
}
