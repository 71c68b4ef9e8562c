/* A case as a FHIR R4 Bundle of type collection.
 *
 *   Patient                a pseudonym: no name, no date, an identifier that is the same for the same case only
 *   Device                 Galen and the model, by version and SHA-256
 *   Encounter              virtual; from the first turn to the last
 *   Observation            the symptoms in the person's words
 *   Flag                   one a red flag
 *   Condition x5           verificationStatus "differential"; ICD-10-CM where there is a match; the words for and against as
 * notes RiskAssessment         one, a prediction a condition, probabilityDecimal = confidence; what the number means as a note
 *   QuestionnaireResponse  the interview
 *   Provenance             which device made which of these
 * Only the last ranking is given; the earlier ones are in the JSON. References are urn:uuid of the bundle's own entries, made
 * from a hash of the case, so that the same case gives the same bytes. Source: hl7.org/fhir/R4, pages bundle, patient, ...,
 * provenance. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/export_impl.h"
#include "base/error.h"
#include "base/sha256.h"
#include "galen/assist.h"

#define STRING_MAX    ((size_t)1 << 20) /* bytes of a FHIR string */
#define UUID_BYTES    46                /* "urn:uuid:" and 36 and a NUL */
#define TERMINOLOGY   "http://terminology.hl7.org/CodeSystem/"
#define ICD_10_CM     "http://hl7.org/fhir/sid/icd-10-cm"
#define MAX_CONDITION 5

typedef struct bundle {
    const case_view *v;
    json_t *entries;
    bool is_failed;
    uint8_t digest[SHA256_BYTES]; /* of the case */
    char patient[UUID_BYTES], encounter[UUID_BYTES], device[UUID_BYTES];
    json_t *made; /* references to what the device made */
} bundle;

/* ---------------------------------------------------------------- pieces */

static void digest_case(const case_view *v, uint8_t out[SHA256_BYTES]) {
    char head[64];
    sha256 s;
    sha256_start(&s);
    (void)snprintf(head, sizeof head, "galen case %lld %lld", (long long)v->c->id, (long long)v->c->created_ms);
    sha256_add(&s, head, strlen(head));
    for (size_t i = 0; i < v->c->n_turns; i++) {
        const uint64_t n = v->c->turns[i].n;
        sha256_add(&s, &n, sizeof n);
        sha256_add(&s, v->c->turns[i].json, v->c->turns[i].n);
    }
    sha256_end(&s, out);
}

/* Version 8: bits of our own making (RFC 9562, 5.8). */
static void make_uuid(const bundle *b, const char *name, size_t number, char out[UUID_BYTES]) {
    uint8_t u[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES], label[64];
    sha256 s;
    (void)snprintf(label, sizeof label, "%s %zu", name, number);
    sha256_start(&s);
    sha256_add(&s, b->digest, sizeof b->digest);
    sha256_add(&s, label, strlen(label));
    sha256_end(&s, u);
    u[6] = (uint8_t)((u[6] & 0x0F) | 0x80);
    u[8] = (uint8_t)((u[8] & 0x3F) | 0x80);
    sha256_hex(u, hex);
    (void)snprintf(out, UUID_BYTES, "urn:uuid:%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

/* Text as FHIR has it: something but blanks, at most a MiB. NULL when nothing is left, which leaves the element out. */
static json_t *fhir_text(bundle *b, words w) {
    growing g = {0};
    export_text text;
    const char *bytes;
    size_t n, end = 0, i = 0;
    uint32_t cp;
    while (next_character(w, &i, &bytes, &n, &cp) && g.n < STRING_MAX - 4) {
        const bool is_blank = cp == ' ' || cp == '\n' || cp == '\r' || cp == '\t' || cp == 0xA0 ||
                              (cp >= 0x2000 && cp <= 0x200B) || cp == 0x2028 || cp == 0x2029 || cp == 0x3000 || cp == 0x85 ||
                              cp == 0x1680 || cp == 0x202F || cp == 0x205F || cp == 0xFEFF;
        if (is_blank && g.n == 0) continue;
        put(&g, bytes, n);
        if (!is_blank) end = g.n;
    }
    if (growing_end(&g, &text, NULL)) {
        b->is_failed = true;
        return NULL;
    }
    json_t *s = end ? json_stringn(text.bytes, end) : NULL;
    if (end && !s) b->is_failed = true;
    free(text.bytes);
    return s;
}

/* Takes value over. What is not there is left out. */
static void set(bundle *b, json_t *object, const char *key, json_t *value) {
    if (value && json_object_set_new(object, key, value)) b->is_failed = true;
}

/* A member made by json_pack, which must not fail. */
static void need(bundle *b, json_t *object, const char *key, json_t *value) {
    if (!value) b->is_failed = true;
    set(b, object, key, value);
}

static json_t *reference(const char *uuid) {
    return json_pack("{s:s}", "reference", uuid);
}

static json_t *coded(const char *system, const char *code) {
    return json_pack("{s:[{s:s, s:s}]}", "coding", "system", system, "code", code);
}

static json_t *moment(int64_t ms) {
    char text[TIME_BYTES];
    return json_string(time_text(ms, text));
}

/* {"text": words}; "not stated" where a text must be. */
static json_t *concept(bundle *b, words w) {
    json_t *text = fhir_text(b, w);
    if (!text) text = json_string("not stated");
    return json_pack("{s:o}", "text", text);
}

/* Add a resource under its uuid. Takes it over. */
static void add(bundle *b, const char *uuid, json_t *resource) {
    json_t *entry = json_pack("{s:s, s:o}", "fullUrl", uuid, "resource", resource);
    if (json_array_append_new(b->entries, entry)) b->is_failed = true;
}

/* A resource that the device made: subject, encounter; noted for the Provenance. */
static json_t *begin(bundle *b, const char *type, size_t number, char uuid[UUID_BYTES]) {
    make_uuid(b, type, number, uuid);
    json_t *r = json_pack("{s:s}", "resourceType", type);
    need(b, r, "subject", reference(b->patient));
    need(b, r, "encounter", reference(b->encounter));
    if (json_array_append_new(b->made, reference(uuid))) b->is_failed = true;
    return r;
}

static void note(bundle *b, json_t *list, const char *label, words w) {
    growing g = {0};
    export_text text = {0};
    put_text(&g, label);
    put(&g, w.text, w.n);
    if (growing_end(&g, &text, NULL)) {
        b->is_failed = true;
        return;
    }
    json_t *s = fhir_text(b, (words){text.bytes, text.n});
    if (s && json_array_append_new(list, json_pack("{s:o}", "text", s))) b->is_failed = true;
    free(text.bytes);
}

/* ---------------------------------------------------------------- resources */

static void add_frame(bundle *b) {
    const export_case *c = b->v->c;
    const json_t *model = json_object_get(b->v->differential, "model");
    make_uuid(b, "Patient", 0, b->patient);
    make_uuid(b, "Encounter", 0, b->encounter);
    make_uuid(b, "Device", 0, b->device);
    add(b, b->patient,
        json_pack("{s:s, s:[{s:s, s:s}]}", "resourceType", "Patient", "identifier", "system", "urn:ietf:rfc:3986", "value",
                  b->patient));
    json_t *device = json_pack("{s:s, s:[{s:s, s:s}], s:[{s:s}]}", "resourceType", "Device", "deviceName", "name", "Galen",
                               "type", "user-friendly-name", "version", "value", galen_version());
    if (model) {
        json_t *notes = json_array();
        note(b, notes, "Model: ", get_words(model, "name"));
        note(b, notes, "SHA-256 of the model file: ", get_words(model, "sha256"));
        note(b, notes, "Computed on: ", get_words(b->v->differential, "device"));
        need(b, device, "note", notes);
    }
    add(b, b->device, device);
    json_t *encounter =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:{s:o, s:o}}", "resourceType", "Encounter", "status",
                  b->v->end ? "finished" : "in-progress", "class", "system", "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                  "code", "VR", "subject", reference(b->patient), "period", "start", moment(c->created_ms), "end",
                  moment(c->changed_ms < c->created_ms ? c->created_ms : c->changed_ms));
    add(b, b->encounter, encounter);
}

static void add_symptoms(bundle *b) {
    char uuid[UUID_BYTES];
    if (!b->v->symptoms) return;
    make_uuid(b, "Observation", 0, uuid);
    json_t *o = json_pack("{s:s, s:s, s:{s:s}, s:o, s:o, s:o}", "resourceType", "Observation", "status", "preliminary", "code",
                          "text", "Symptoms in the person's own words", "subject", reference(b->patient), "encounter",
                          reference(b->encounter), "effectiveDateTime", moment(b->v->c->created_ms));
    json_t *text = fhir_text(b, get_words(b->v->symptoms, "text"));
    if (text)
        set(b, o, "valueString", text);
    else
        need(b, o, "dataAbsentReason", coded(TERMINOLOGY "data-absent-reason", "unknown"));
    add(b, uuid, o);
}

static void add_flags(bundle *b) {
    for (size_t i = 0; i < get_length(b->v->triage, "flags"); i++) {
        char uuid[UUID_BYTES];
        const json_t *flag = get_item(b->v->triage, "flags", i);
        json_t *r = begin(b, "Flag", i, uuid);
        set(b, r, "status", json_string("active"));
        need(b, r, "category", json_pack("[o]", coded(TERMINOLOGY "flag-category", "safety")));
        need(b, r, "code", concept(b, get_words(flag, "message")));
        need(b, r, "period", json_pack("{s:o}", "start", moment(b->v->c->created_ms)));
        add(b, uuid, r);
    }
}

/* A code is taken over only in the form of one: what stands in a turn is not trusted. */
static bool is_icd_code(words code) {
    if (code.n < 3 || code.n > 8 || code.text[0] < 'A' || code.text[0] > 'Z') return false;
    for (size_t i = 1; i < code.n; i++) {
        const char c = code.text[i];
        if (i == 3 ? c != '.' : !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'))) return false;
    }
    return code.n != 4;
}

static json_t *condition_code(bundle *b, const json_t *k) {
    const words code = get_words(k, "code");
    json_t *concept_json = concept(b, get_words(k, "name"));
    if (!is_icd_code(code)) return concept_json;
    json_t *coding = json_pack("{s:s, s:s%}", "system", ICD_10_CM, "code", code.text, code.n);
    const json_t *year = json_object_get(b->v->differential, "code_year");
    set(b, coding, "display", fhir_text(b, get_words(k, "code_title")));
    if (json_is_integer(year)) {
        char text[32];
        (void)snprintf(text, sizeof text, "%lld", (long long)json_integer_value(year));
        need(b, coding, "version", json_string(text));
    } else {
        set(b, coding, "version", fhir_text(b, get_words(b->v->differential, "code_year")));
    }
    need(b, concept_json, "coding", json_pack("[o]", coding));
    return concept_json;
}

static void add_quotes(bundle *b, json_t *notes, const json_t *k, const char *key, const char *label) {
    const json_t *list = json_object_get(k, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const words w =
            json_is_string(item) ? (words){json_string_value(item), json_string_length(item)} : get_words(item, "quote");
        if (w.n) note(b, notes, label, w);
    }
}

static void add_condition(bundle *b, const json_t *k, size_t i, char uuid[UUID_BYTES]) {
    json_t *r = begin(b, "Condition", i, uuid), *notes = json_array();
    need(b, r, "clinicalStatus", coded(TERMINOLOGY "condition-clinical", "active"));
    need(b, r, "verificationStatus", coded(TERMINOLOGY "condition-ver-status", "differential"));
    need(b, r, "category", json_pack("[o]", coded(TERMINOLOGY "condition-category", "encounter-diagnosis")));
    need(b, r, "code", condition_code(b, k));
    need(b, r, "recordedDate", moment(b->v->differential_ms));
    add_quotes(b, notes, k, "support", "For: ");
    add_quotes(b, notes, k, "against", "Against: ");
    add_quotes(b, notes, k, "missing", "Not known: ");
    if (json_array_size(notes))
        set(b, r, "note", notes);
    else
        json_decref(notes);
    add(b, uuid, r);
}

static double probability(double p) {
    return p >= 0 && p <= 1 ? p : 0; /* also what is not a number */
}

static void add_ranking(bundle *b) {
    const size_t n = get_length(b->v->differential, "conditions");
    json_t *predictions = json_array(), *basis = json_array();
    char uuid[UUID_BYTES];
    for (size_t i = 0; i < n && i < MAX_CONDITION; i++) {
        const json_t *k = get_item(b->v->differential, "conditions", i);
        add_condition(b, k, i, uuid);
        json_t *p = json_pack("{s:o, s:f}", "outcome", condition_code(b, k), "probabilityDecimal",
                              probability(get_number(k, "confidence", 0)));
        if (json_array_append_new(predictions, p) || json_array_append_new(basis, reference(uuid))) b->is_failed = true;
    }
    if (!n) {
        json_decref(predictions);
        json_decref(basis);
        return;
    }
    json_t *r = begin(b, "RiskAssessment", 0, uuid), *notes = json_array();
    set(b, r, "status", json_string("preliminary"));
    need(b, r, "occurrenceDateTime", moment(b->v->differential_ms));
    need(b, r, "performer", reference(b->device));
    need(b, r, "basis", basis);
    need(b, r, "prediction", predictions);
    note(b, notes, "Confidence: ", get_words(b->v->differential, "confidence_meaning"));
    const char *use = galen_assist_intended_use();
    note(b, notes, "", (words){use, strlen(use)});
    need(b, r, "note", notes);
    add(b, uuid, r);
}

static void add_interview(bundle *b) {
    char uuid[UUID_BYTES], link[32];
    json_t *items = json_array();
    for (size_t i = 0; i < b->v->n_exchanges; i++) {
        const exchange *e = &b->v->exchanges[i];
        (void)snprintf(link, sizeof link, "q%lld", (long long)e->number);
        json_t *item = json_pack("{s:s}", "linkId", link), *answer = e->answer ? fhir_text(b, answer_words(e->answer)) : NULL;
        set(b, item, "text", fhir_text(b, get_words(e->question, "text")));
        if (answer) need(b, item, "answer", json_pack("[{s:o}]", "valueString", answer));
        if (json_array_append_new(items, item)) b->is_failed = true;
    }
    if (!b->v->n_exchanges) {
        json_decref(items);
        return;
    }
    json_t *r = begin(b, "QuestionnaireResponse", 0, uuid);
    set(b, r, "status", json_string(b->v->end ? "completed" : "in-progress"));
    need(b, r, "authored", moment(b->v->c->changed_ms));
    need(b, r, "author", reference(b->device));
    need(b, r, "source", reference(b->patient));
    need(b, r, "item", items);
    add(b, uuid, r);
}

static void add_provenance(bundle *b) {
    char uuid[UUID_BYTES];
    if (!json_array_size(b->made)) return;
    make_uuid(b, "Provenance", 0, uuid);
    add(b, uuid,
        json_pack("{s:s, s:O, s:o, s:[{s:o, s:o}]}", "resourceType", "Provenance", "target", b->made, "recorded",
                  moment(b->v->c->changed_ms), "agent", "type", coded(TERMINOLOGY "provenance-participant-type", "assembler"),
                  "who", reference(b->device)));
}

galen_status export_fhir(const case_view *v, export_text *out, galen_error *err) {
    bundle b = {.v = v, .entries = json_array(), .made = json_array()};
    char uuid[UUID_BYTES];
    growing g = {0};
    digest_case(v, b.digest);
    make_uuid(&b, "Bundle", 0, uuid);
    add_frame(&b);
    add_flags(&b);
    add_symptoms(&b);
    add_ranking(&b);
    add_interview(&b);
    add_provenance(&b);
    json_t *root =
        json_pack("{s:s, s:{s:s, s:s}, s:s, s:o, s:O}", "resourceType", "Bundle", "identifier", "system", "urn:ietf:rfc:3986",
                  "value", uuid, "type", "collection", "timestamp", moment(v->c->changed_ms), "entry", b.entries);
    char *text = root && !b.is_failed ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    json_decref(b.entries);
    json_decref(b.made);
    if (!text) return galen_fail(err, GALEN_E_NOMEM, 0, "case %lld as FHIR", (long long)v->c->id);
    put_text(&g, text);
    put_text(&g, "\n");
    free(text);
    return growing_end(&g, out, err);
}
