/* One page to print. Nothing in it runs and nothing is fetched; a Content-Security-Policy says so to the browser, with the hash
 * of the one style sheet. Each untrusted text stands in a <bdi>, so that it cannot turn its neighbours' direction. */
#include <string.h>

#include "assist/export_impl.h"
#include "base/sha256.h"
#include "galen/assist.h"

static const char style[] =
    "body{font:11pt/1.45 Georgia,'Times New Roman',serif;color:#111;background:#fff;max-width:44em;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.15em;margin:1.4em 0 .4em;border-bottom:1px solid #999}"
    ".use{font-style:italic;border:1px solid #999;padding:.5em .8em}"
    ".level{font-weight:bold}.urgent{border:2px solid #a00;padding:.5em .8em}.urgent .level{color:#a00}"
    "blockquote{margin:.5em 0;padding:.2em .8em;border-left:3px solid #999;white-space:pre-wrap}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25em .5em;border:1px solid #999}"
    "td.n{text-align:right}ul{margin:.3em 0;padding-left:1.2em}.small{font-size:.85em;color:#444}"
    "bdi{overflow-wrap:anywhere}"
    "@media print{body{max-width:none;margin:0;padding:0}h2{break-after:avoid}tr,li{break-inside:avoid}}"
    "@page{margin:18mm}";

static void put_base64(growing *g, const uint8_t *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t v =
            (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                              i + 2 < n ? digits[v & 63] : '='};
        put(g, four, 4);
    }
}

static void put_escaped(growing *g, words w) {
    static const struct {
        char c;
        const char *as;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    const char *bytes;
    size_t n;
    uint32_t cp;
    put_text(g, "<bdi>");
    for (size_t i = 0; next_character(w, &i, &bytes, &n, &cp);) {
        const char *as = NULL;
        for (size_t k = 0; n == 1 && k < sizeof escapes / sizeof *escapes; k++) {
            if (escapes[k].c == bytes[0]) as = escapes[k].as;
        }
        if (as)
            put_text(g, as);
        else
            put(g, bytes, n);
    }
    put_text(g, "</bdi>");
}

static void put_head(growing *g, const case_view *v) {
    uint8_t hash[SHA256_BYTES];
    sha256_of(style, sizeof style - 1, hash);
    put_text(
        g, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" "
           "content=\"default-src 'none'; style-src 'sha256-");
    put_base64(g, hash, sizeof hash);
    put_text(
        g, "'; base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"viewport\" "
           "content=\"width=device-width\">\n");
    put_format(g, "<title>Case %lld</title>\n<style>", (long long)v->c->id);
    put(g, style, sizeof style - 1);
    put_format(g, "</style>\n</head>\n<body>\n<h1>Case %lld</h1>\n<p class=\"use\">", (long long)v->c->id);
    put_text(g, galen_assist_intended_use());
    put_text(g, "</p>\n");
}

static void put_triage(growing *g, const case_view *v) {
    const words level = get_words(v->triage, "level");
    const bool is_urgent = level.n >= 9 && memcmp(level.text, "emergency", 9) == 0;
    put_text(g, is_urgent ? "<section class=\"urgent\">\n" : "<section>\n");
    put_text(g, "<h2>Red flags</h2>\n");
    if (!v->triage) {
        put_text(g, "<p>No check for red flags is recorded.</p>\n</section>\n");
        return;
    }
    put_text(g, "<p class=\"level\">");
    put_text(g, level_words(level));
    put_text(g, " <span class=\"small\">(");
    put_escaped(g, level);
    put_text(g, ")</span></p>\n");
    const size_t n = get_length(v->triage, "flags");
    put_text(g, n ? "<ul>\n" : "<p>No rule fired.</p>\n");
    for (size_t i = 0; i < n; i++) {
        const json_t *flag = get_item(v->triage, "flags", i);
        put_text(g, "<li>");
        put_escaped(g, get_words(flag, "message"));
        put_text(g, " <span class=\"small\">said: ");
        put_escaped(g, get_words(flag, "quote"));
        put_text(g, "; source: ");
        put_escaped(g, get_words(flag, "source"));
        put_text(g, "</span></li>\n");
    }
    put_text(g, n ? "</ul>\n</section>\n" : "</section>\n");
}

static void put_list(growing *g, const json_t *condition, const char *key, const char *label) {
    const json_t *list = json_object_get(condition, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        put_format(g, "<li>%s: ", label);
        put_escaped(g,
                    json_is_string(item) ? (words){json_string_value(item), json_string_length(item)} : get_words(item, "quote"));
        put_text(g, "</li>\n");
    }
}

static void put_condition(growing *g, const json_t *k, size_t rank) {
    const words code = get_words(k, "code");
    put_format(g, "<tr><td class=\"n\">%zu</td><td>", rank);
    put_escaped(g, get_words(k, "name"));
    if (get_length(k, "support") + get_length(k, "against") + get_length(k, "missing")) {
        put_text(g, "<ul class=\"small\">\n");
        put_list(g, k, "support", "for");
        put_list(g, k, "against", "against");
        put_list(g, k, "missing", "not known");
        put_text(g, "</ul>");
    }
    put_format(g, "</td><td class=\"n\">%.2f</td><td>", get_number(k, "confidence", 0));
    if (code.n) {
        put_escaped(g, code);
        put_text(g, " ");
        put_escaped(g, get_words(k, "code_title"));
    } else {
        put_text(g, "no match");
    }
    put_text(g, "</td></tr>\n");
}

static void put_conditions(growing *g, const case_view *v) {
    put_text(g, "<section>\n<h2>Possible conditions</h2>\n");
    if (!v->differential) {
        put_text(g, "<p>None were listed.</p>\n</section>\n");
        return;
    }
    put_text(g, "<table>\n<tr><th>#</th><th>Condition</th><th>Confidence</th><th>ICD-10-CM</th></tr>\n");
    for (size_t i = 0; i < get_length(v->differential, "conditions"); i++)
        put_condition(g, get_item(v->differential, "conditions", i), i + 1);
    put_format(g, "</table>\n<p class=\"small\">Something else: %.2f. Confidence: ", get_number(v->differential, "other", 0));
    put_escaped(g, get_words(v->differential, "confidence_meaning"));
    put_text(g, ".</p>\n</section>\n");
}

static void put_interview(growing *g, const case_view *v) {
    if (!v->n_exchanges) return;
    put_text(g, "<section>\n<h2>Questions</h2>\n<table>\n<tr><th>#</th><th>Question</th><th>Answer</th></tr>\n");
    for (size_t i = 0; i < v->n_exchanges; i++) {
        const exchange *e = &v->exchanges[i];
        put_format(g, "<tr><td class=\"n\">%lld</td><td>", (long long)e->number);
        put_escaped(g, get_words(e->question, "text"));
        put_text(g, "</td><td>");
        if (e->answer)
            put_escaped(g, answer_words(e->answer));
        else
            put_text(g, "not answered");
        put_text(g, "</td></tr>\n");
    }
    put_text(g, "</table>\n</section>\n");
}

static void put_origin(growing *g, const case_view *v) {
    char from[TIME_BYTES], to[TIME_BYTES];
    const json_t *model = json_object_get(v->differential, "model");
    put_format(g, "<section class=\"small\">\n<h2>Origin</h2>\n<p>Begun %s, last turn %s, %zu turns.",
               time_text(v->c->created_ms, from), time_text(v->c->changed_ms, to), v->c->n_turns);
    if (v->c->parent)
        put_format(g, " Branched from case %lld after %lld turns.", (long long)v->c->parent, (long long)v->c->parent_turns);
    if (model) {
        put_text(g, " Model ");
        put_escaped(g, get_words(model, "name"));
        put_text(g, ", SHA-256 ");
        put_escaped(g, get_words(model, "sha256"));
        put_text(g, ", on ");
        put_escaped(g, get_words(v->differential, "device"));
        put_text(g, ".");
    }
    put_text(g, " Galen ");
    put_escaped(g, (words){galen_version(), strlen(galen_version())});
    put_text(g, ".</p>\n</section>\n</body>\n</html>\n");
}

galen_status export_html(const case_view *v, export_text *out, galen_error *err) {
    growing g = {0};
    put_head(&g, v);
    put_triage(&g, v);
    put_text(&g, "<section>\n<h2>Symptoms</h2>\n<blockquote>");
    put_escaped(&g, get_words(v->symptoms, "text"));
    put_text(&g, "</blockquote>\n</section>\n");
    put_conditions(&g, v);
    put_interview(&g, v);
    put_origin(&g, v);
    return growing_end(&g, out, err);
}
