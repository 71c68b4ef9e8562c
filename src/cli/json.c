/* JSON out. A failed allocation anywhere leaves a NULL member, which jansson's _new setters refuse: json_end then fails. */
#include "cli/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *json_begin(const cli *c) {
    return json_pack("{s:i, s:s, s:s}", "schema_version", CLI_SCHEMA_VERSION, "verb", c->verb->name, "version", galen_version());
}

/* Length of the well-formed UTF-8 character at s, 0 when none starts there (Unicode 15, table 3-7). */
static size_t character(const unsigned char *s, size_t n) {
    const size_t len = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (len > n) return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    const bool is_bad = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
                        (s[0] == 0xF4 && s[1] > 0x8F);
    return len > 1 && is_bad ? 0 : len;
}

json_t *json_text(const char *s, size_t n) {
    char *clean = malloc(3 * n + 1);
    size_t n_clean = 0;
    if (!clean) return NULL;
    for (size_t i = 0; i < n;) {
        const size_t k = character((const unsigned char *)s + i, n - i);
        memcpy(clean + n_clean, k ? s + i : "\xEF\xBF\xBD", k ? k : 3);
        n_clean += k ? k : 3;
        i += k ? k : 1;
    }
    json_t *j = json_stringn(clean, n_clean);
    free(clean);
    return j;
}

json_t *json_text0(const char *s) {
    return s ? json_text(s, strlen(s)) : json_null();
}

json_t *json_number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *json_bytes(const char *s, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(a, json_integer((unsigned char)s[i]))) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

json_t *json_model(const galen_model *m) {
    const galen_model_info i = galen_model_get_info(m);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "placement", json_text0(i.placement), "fell_back",
                     json_text0(i.fell_back), "path", json_text0(i.path), "name", json_text0(i.name), "architecture",
                     json_text0(i.arch), "type", json_text0(i.type_name), "device", json_text0(i.device), "chat_format",
                     json_text0(i.chat_format), "parameters", (json_int_t)i.n_params, "weight_bytes", (json_int_t)i.weight_bytes,
                     "n_vocab", (json_int_t)i.n_vocab);
}

static double rate(int32_t n, double seconds) {
    return seconds > 0 ? n / seconds : 0;
}

json_t *json_timings(const cli *c, const galen_result *r) {
    return json_pack("{s:f, s:f, s:f, s:i, s:i, s:f, s:f}", "load_s", c->load_s, "prefill_s", r->prefill_s, "decode_s",
                     r->decode_s, "n_prompt", r->n_prompt, "n_generated", r->n_generated, "prefill_tokens_per_s",
                     rate(r->n_prompt, r->prefill_s), "decode_tokens_per_s", rate(r->n_generated, r->decode_s));
}

cli_exit json_end(cli *c, json_t *root, bool is_line) {
    if (!root) {
        term_error(c, "out of memory writing the result");
        return CLI_MEMORY;
    }
    const size_t flags = JSON_REAL_PRECISION(9) | (is_line ? JSON_COMPACT : JSON_INDENT(2));
    term_progress_end(c);
    (void)json_dumpf(root, stdout, flags); /* a failed write shows in term_finish */
    (void)putchar('\n');
    json_decref(root);
    return CLI_DONE;
}
