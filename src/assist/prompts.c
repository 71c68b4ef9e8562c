/* Text for the model. */
#include "assist/prompts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/embed.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"

#define PROMPT_BYTES 65536 /* a prompt file beyond this is a mistake */

static const char *const field_names[N_FIELDS] = {"symptoms", "answers",  "conditions", "confidence",
                                                  "options",  "question", "condition"};

#define BIT(field) (1u << (field))
/* must: fields without which the prompt is of no use; may: the others that have a value. in_lead: those that must be in the lead.
 */
static const struct {
    const char *file;
    uint32_t must, may, in_lead;
} rows[N_PROMPTS] = {
    [PROMPT_DIAGNOSE] = {"diagnose.txt", BIT(FIELD_SYMPTOMS), BIT(FIELD_ANSWERS), 0},
    [PROMPT_CHOOSE] = {"choose.txt", BIT(FIELD_SYMPTOMS) | BIT(FIELD_OPTIONS), BIT(FIELD_ANSWERS), 0},
    [PROMPT_PATIENT] = {"patient.txt", BIT(FIELD_CONDITION), 0, 0},
    [PROMPT_YES] = {"yes.txt", BIT(FIELD_QUESTION) | BIT(FIELD_CONDITION), BIT(FIELD_SYMPTOMS), BIT(FIELD_CONDITION)},
    [PROMPT_REPLY] = {"reply.txt", BIT(FIELD_QUESTION) | BIT(FIELD_CONDITION), BIT(FIELD_SYMPTOMS), BIT(FIELD_CONDITION)},
    [PROMPT_URGENT] = {"urgent.txt", BIT(FIELD_SYMPTOMS), 0, 0},
    [PROMPT_QUESTIONS] = {"questions.txt", BIT(FIELD_CONDITION),
                          BIT(FIELD_SYMPTOMS) | BIT(FIELD_ANSWERS) | BIT(FIELD_CONDITIONS) | BIT(FIELD_CONFIDENCE),
                          BIT(FIELD_CONDITION)},
    [PROMPT_FOLLOWUP] = {"followup.txt", BIT(FIELD_CONDITIONS), BIT(FIELD_CONFIDENCE), 0},
};

const char *prompt_file_name(prompt_id id) {
    return rows[id].file;
}

/* ------------------------------------------------------------ fields */

/* The field that begins at text, and its length with the braces; N_FIELDS for none known, with *n 0 when there are no braces. */
static prompt_field field_at(const char *text, size_t *n) {
    *n = 0;
    if (strncmp(text, "{{", 2) != 0) return N_FIELDS;
    const char *end = strstr(text, "}}");
    if (!end) return N_FIELDS;
    *n = (size_t)(end - text) + 2;
    for (int f = 0; f < N_FIELDS; f++) {
        if (strlen(field_names[f]) == *n - 4 && memcmp(text + 2, field_names[f], *n - 4) == 0) return (prompt_field)f;
    }
    return N_FIELDS;
}

/* Bits of the fields in text. ARG for one that is not this prompt's. */
static galen_status find_fields(const char *text, const char *name, uint32_t known, uint32_t *found, galen_error *err) {
    size_t n;
    *found = 0;
    for (const char *p = text; (p = strstr(p, "{{")); p += n) {
        const prompt_field f = field_at(p, &n);
        if (n == 0) return galen_fail(err, GALEN_E_ARG, (uint64_t)(p - text), "%.200s: \"{{\" without \"}}\"", name);
        if (f == N_FIELDS || !(known & BIT(f)))
            return galen_fail(err, GALEN_E_ARG, (uint64_t)(p - text), "%.200s: the field %.60s is none of this prompt's", name,
                              p);
        *found |= BIT(f);
    }
    return GALEN_OK;
}

static galen_status check_fields(prompt_id id, const char *name, const char *message, const char *lead, galen_error *err) {
    uint32_t in_message, in_lead;
    galen_status st = find_fields(message, name, rows[id].must | rows[id].may, &in_message, err);
    if (!st) st = find_fields(lead, name, rows[id].must | rows[id].may, &in_lead, err);
    if (st) return st;
    for (int f = 0; f < N_FIELDS; f++) {
        const char *where = rows[id].in_lead & BIT(f) ? " below \"---\"" : "";
        const uint32_t has = *where ? in_lead : in_message | in_lead;
        if ((rows[id].must & BIT(f)) && !(has & BIT(f)))
            return galen_fail(err, GALEN_E_ARG, 0, "%.200s: the field {{%s}} is missing%s", name, field_names[f], where);
    }
    return GALEN_OK;
}

galen_status prompt_parse(prompt_id id, const char *name, const char *text, size_t n, char **message, char **lead,
                          galen_error *err) {
    static const char mark[] = "\n---\n";
    *message = *lead = NULL;
    if (n > PROMPT_BYTES) return galen_fail(err, GALEN_E_ARG, 0, "%.200s: %zu bytes, at most %d", name, n, PROMPT_BYTES);
    if (memchr(text, 0, n)) return galen_fail(err, GALEN_E_ARG, 0, "%.200s: a NUL byte", name);
    char *copy = malloc(n + 1);
    if (!copy) return galen_fail(err, GALEN_E_NOMEM, 0, "%.200s: %zu bytes", name, n);
    memcpy(copy, text, n);
    copy[n] = '\0';
    char *cut = strstr(copy, mark);
    galen_status st = GALEN_OK;
    if (!cut || cut == copy) {
        st = galen_fail(err, GALEN_E_ARG, 0, "%.200s: no line \"---\" between the message and the answer's beginning", name);
        goto fail;
    }
    *cut = '\0';
    *lead = strdup(cut + sizeof mark - 1);
    if (!*lead) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "%.200s: %zu bytes", name, n);
        goto fail;
    }
    for (size_t k = strlen(*lead); k && ((*lead)[k - 1] == '\n' || (*lead)[k - 1] == '\r'); k--) (*lead)[k - 1] = '\0';
    if (**lead)
        st = check_fields(id, name, copy, *lead, err);
    else
        st = galen_fail(err, GALEN_E_ARG, 0, "%.200s: nothing below the line \"---\"", name);
    if (st) goto fail;
    *message = copy;
    return GALEN_OK;
fail:
    free(*lead);
    *lead = NULL;
    free(copy);
    return st;
}

char *prompt_render(const char *text, const prompt_values *v) {
    size_t n = 0, k;
    for (const char *p = text; *p; p += k ? k : 1) {
        const prompt_field f = field_at(p, &k);
        n += f == N_FIELDS ? (k ? k : 1) : v->of[f] ? strlen(v->of[f]) : 0;
    }
    char *out = malloc(n + 1), *o = out;
    if (!out) return NULL;
    for (const char *p = text; *p; p += k ? k : 1) {
        const prompt_field f = field_at(p, &k);
        if (f == N_FIELDS) {
            memcpy(o, p, k ? k : 1);
            o += k ? k : 1;
            continue;
        }
        for (const char *s = v->of[f]; s && *s; s++) *o++ = *s == '"' ? '\'' : *s;
    }
    *o = '\0';
    return out;
}

/* ------------------------------------------------------------ files */

static galen_status load_one(prompt_set *out, prompt_id id, const char *dir, bool *is_custom, galen_error *err) {
    char path[4096], inside[64];
    file_map f = {0};
    galen_error why = {0};
    (void)snprintf(inside, sizeof inside, "data/prompts/%s", rows[id].file);
    const embedded *e = embed_find(embedded_data, inside);
    if (!e) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "%s is not inside this program", inside);
    if (!dir) return prompt_parse(id, inside, e->bytes, e->n, &out->message[id], &out->lead[id], err);
    if (snprintf(path, sizeof path, "%s/%s", dir, rows[id].file) >= (int)sizeof path)
        return galen_fail(err, GALEN_E_ARG, 0, "the prompts' folder has a name of %zu bytes", strlen(dir));
    const galen_status st = file_map_open(&f, path, &why);
    if (st == GALEN_E_NOT_FOUND) return prompt_parse(id, inside, e->bytes, e->n, &out->message[id], &out->lead[id], err);
    if (st) {
        if (err) *err = why;
        return st;
    }
    *is_custom = true;
    const galen_status parsed = prompt_parse(id, path, f.n ? f.bytes : "", f.n, &out->message[id], &out->lead[id], err);
    file_map_close(&f);
    return parsed;
}

galen_status prompts_load(prompt_set *out, const char *dir, galen_error *err) {
    bool is_custom = false;
    uint8_t hash[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    sha256 s;
    *out = (prompt_set){0};
    sha256_start(&s);
    for (int id = 0; id < N_PROMPTS; id++) {
        const galen_status st = load_one(out, (prompt_id)id, dir, &is_custom, err);
        if (st) {
            prompts_free(out);
            return st;
        }
        assert(out->message[id] && out->lead[id]);
        sha256_add(&s, out->message[id], strlen(out->message[id]) + 1);
        sha256_add(&s, out->lead[id], strlen(out->lead[id]) + 1);
    }
    if (dir && !is_custom) {
        prompts_free(out);
        return galen_fail(err, GALEN_E_NOT_FOUND, 0, "%.300s: no %s or other prompt is there", dir, rows[0].file);
    }
    sha256_end(&s, hash);
    sha256_hex(hash, hex);
    (void)snprintf(out->version, sizeof out->version, "%s-%.12s", is_custom ? "custom" : "builtin", hex);
    return GALEN_OK;
}

void prompts_free(prompt_set *p) {
    for (int i = 0; i < N_PROMPTS; i++) {
        free(p->message[i]);
        free(p->lead[i]);
    }
    *p = (prompt_set){0};
}

/* ------------------------------------------------------------ the person's text */

char *prompt_line(const char *text, size_t n, uint32_t **at) {
    char *out = malloc(n + 1);
    uint32_t *from = at ? malloc((n + 1) * sizeof *from) : NULL;
    size_t k = 0;
    if (!out || (at && !from)) {
        free(out);
        free(from);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool is_blank = c <= 0x20 || c == 0x7F;
        if (is_blank && (k == 0 || out[k - 1] == ' ')) continue;
        if (from) from[k] = (uint32_t)i;
        out[k++] = is_blank ? ' ' : c == '"' ? '\'' : (char)c;
    }
    while (k && out[k - 1] == ' ') k--;
    out[k] = '\0';
    if (from) from[k] = (uint32_t)n;
    if (at) *at = from;
    return out;
}

galen_status prompt_append(galen_tokens *a, const galen_tokens *b, galen_error *err) {
    int32_t *ids = realloc(a->ids, (a->n + b->n + 1) * sizeof *ids);
    if (!ids) return galen_fail(err, GALEN_E_NOMEM, 0, "%zu tokens", a->n + b->n);
    memcpy(ids + a->n, b->ids, b->n * sizeof *ids);
    a->ids = ids;
    a->n += b->n;
    return GALEN_OK;
}
