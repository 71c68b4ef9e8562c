/* The queue of rules, references, and branches. Source: JSON Schema 2020-12, core 7 to 10; drafts 6 and 7 where they agree. */
#include "grammar/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/compile.h"

void schema_fail(schema *s, galen_status st, const char *pointer, const char *what) {
    program_fail(s->p, st, 0, "%.200s: %s", pointer, what);
}

/* ---------------------------------------------------------------- pointers */

/* RFC 6901: ~ is ~0, / is ~1. For messages: long keys are cut, as rules' names are. */
const char *schema_pointer(schema *s, const char *base, const char *key) {
    char text[200];
    size_t n = 0;
    for (; *key && n + 3 < sizeof text; key++) {
        text[n++] = *key == '~' || *key == '/' ? '~' : *key < ' ' || *key > '~' ? '?' : *key;
        if (*key == '~') text[n++] = '0';
        if (*key == '/') text[n++] = '1';
    }
    const size_t n_base = strlen(base), cap = n_base + n + 2;
    if (n_base > 1000) return base; /* deep enough to be found */
    char *copy = arena_alloc(&s->mem, cap, 1);
    if (!copy) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: a pointer");
        return "#";
    }
    (void)snprintf(copy, cap, "%s/%.*s", base, (int)n, text);
    return copy;
}

const char *schema_pointer_at(schema *s, const char *base, size_t index) {
    char text[32];
    (void)snprintf(text, sizeof text, "%zu", index);
    return schema_pointer(s, base, text);
}

/* ---------------------------------------------------------------- references */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The member that one step of a pointer names; *step moves behind it. */
static const json_t *follow(const json_t *at, const char **step) {
    char key[512];
    size_t n = 0;
    const char *c = *step;
    for (; *c && *c != '/' && n + 1 < sizeof key; c++) {
        key[n] = *c;
        if (*c == '~' && (c[1] == '0' || c[1] == '1')) key[n] = *++c == '0' ? '~' : '/';
        if (*c == '%' && hex(c[1]) >= 0 && hex(c[2]) >= 0) { /* a URI fragment */
            key[n] = (char)(hex(c[1]) << 4 | hex(c[2]));
            c += 2;
        }
        n++;
    }
    key[n] = '\0';
    *step = c;
    if (*c && *c != '/') return NULL; /* too long to be a key here */
    if (json_is_object(at)) return json_object_get(at, key);
    if (!json_is_array(at) || n == 0 || n > 9 || strspn(key, "0123456789") != n) return NULL;
    return json_array_get(at, (size_t)strtoul(key, NULL, 10));
}

static const json_t *resolve(schema *s, const json_t *ref, const char *pointer) {
    if (!json_is_string(ref)) {
        schema_fail(s, GALEN_E_FORMAT, pointer, "a reference is a string");
        return NULL;
    }
    const char *step = json_string_value(ref);
    if (step[0] != '#') {
        schema_fail(s, GALEN_E_UNSUPPORTED, pointer,
                    "only references within this schema (#/...) are followed: nothing is fetched");
        return NULL;
    }
    step++;
    if (*step && *step != '/') {
        schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "references by anchor are not supported, only #/...");
        return NULL;
    }
    const json_t *at = s->root;
    while (*step && at) {
        step++;
        at = follow(at, &step);
    }
    if (!at) schema_fail(s, GALEN_E_FORMAT, pointer, "the reference leads nowhere");
    return at;
}

/* ---------------------------------------------------------------- parts */

static bool add_part(schema *s, schema_parts *parts, schema_part part) {
    if (json_is_true(part.json)) return true;
    if (json_is_false(part.json)) return false;
    if (!json_is_object(part.json)) {
        schema_fail(s, GALEN_E_FORMAT, part.pointer, "a schema is an object, true or false");
        return true;
    }
    for (uint32_t i = 0; i < parts->n; i++) {
        if (parts->at[i].json != part.json) continue;
        if (part.branch_of && parts->at[i].branch_of)
            schema_fail(s, GALEN_E_UNSUPPORTED, part.pointer, "the same branch is chosen twice");
        if (part.branch_of) parts->at[i].branch_of = part.branch_of;
        return true;
    }
    if (parts->n == SCHEMA_MAX_PARTS) {
        schema_fail(s, GALEN_E_RANGE, part.pointer, "more than 64 subschemas hold here together");
        return true;
    }
    parts->at[parts->n++] = part;
    return true;
}

bool schema_add(schema *s, schema_parts *parts, const json_t *json, const char *pointer) {
    return add_part(s, parts, (schema_part){.json = json, .pointer = pointer});
}

static uint32_t find_part(const schema_parts *parts, const json_t *json) {
    uint32_t i = 0;
    while (i < parts->n && parts->at[i].json != json) i++;
    return i;
}

/* What part i rests on, that is not yet settled: others by reference and allOf, and the branch that was chosen for it. */
static bool rests_on_open(schema *s, const schema_parts *parts, uint32_t i, const bool *is_settled) {
    const schema_part *part = &parts->at[i];
    const json_t *ref = json_object_get(part->json, "$ref"), *all = json_object_get(part->json, "allOf");
    uint32_t on = parts->n;
    if (ref) on = find_part(parts, resolve(s, ref, part->pointer));
    if (on < parts->n && !is_settled[on]) return true;
    for (size_t k = 0; k < json_array_size(all); k++) {
        on = find_part(parts, json_array_get(all, k));
        if (on < parts->n && !is_settled[on]) return true;
    }
    for (uint32_t k = 0; k < parts->n; k++)
        if (parts->at[k].branch_of == i + 1 && !is_settled[k]) return true;
    return false;
}

/* Parts that rest on each other in a ring hold for no stated reason: a schema that means itself says nothing. */
static void check_cycles(schema *s, const schema_parts *parts) {
    bool is_settled[SCHEMA_MAX_PARTS] = {false}, has_moved = true;
    uint32_t n = 0;
    while (has_moved && !s->p->st) {
        has_moved = false;
        for (uint32_t i = parts->n; i--;) { /* parts mostly rest on later ones */
            if (is_settled[i] || rests_on_open(s, parts, i, is_settled)) continue;
            is_settled[i] = has_moved = true;
            n++;
        }
    }
    for (uint32_t i = 0; i < parts->n && n < parts->n; i++)
        if (!is_settled[i]) schema_fail(s, GALEN_E_RANGE, parts->at[i].pointer, "the schema refers to itself without end");
}

/* Follow $ref and allOf until every part is there. */
static void flatten(schema *s, schema_parts *parts) {
    bool is_possible = true;
    for (uint32_t i = 0; i < parts->n && !s->p->st; i++) {
        const schema_part from = parts->at[i];
        if (from.is_flat) continue;
        parts->at[i].is_flat = true;
        const json_t *ref = json_object_get(from.json, "$ref"), *all = json_object_get(from.json, "allOf");
        if (ref) {
            const char *pointer = schema_pointer(s, from.pointer, "$ref");
            const json_t *to = resolve(s, ref, pointer);
            const char *name = to ? json_string_value(ref) : pointer;
            char *copy = arena_strndup(&s->mem, name, strlen(name));
            if (!copy) program_fail(s->p, GALEN_E_NOMEM, 0, "schema: a pointer");
            if (to && copy) is_possible &= add_part(s, parts, (schema_part){.json = to, .pointer = copy});
        }
        if (!all) continue;
        const char *pointer = schema_pointer(s, from.pointer, "allOf");
        if (!json_is_array(all) || json_array_size(all) == 0)
            schema_fail(s, GALEN_E_FORMAT, pointer, "a list of schemas is wanted");
        for (size_t k = 0; k < json_array_size(all) && !s->p->st; k++) {
            const schema_part part = {.json = json_array_get(all, k), .pointer = schema_pointer_at(s, pointer, k)};
            is_possible &= add_part(s, parts, part);
        }
    }
    if (!is_possible && !s->p->st) schema_fail(s, GALEN_E_RANGE, parts->at[0].pointer, "admits nothing: a part of it is false");
    if (!s->p->st) check_cycles(s, parts);
}

/* ---------------------------------------------------------------- the queue */

static uint32_t hash_parts(const schema_part *parts, uint32_t n) {
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++) {
        h ^= (uintptr_t)parts[i].json + parts[i].any_done + 2u * parts[i].one_done + 4u * parts[i].branch_of;
        h *= 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return (uint32_t)(h ^ h >> 32);
}

static bool same_parts(const schema_item *a, const schema_parts *b) {
    bool same = a->n == b->n;
    for (uint32_t i = 0; i < a->n && same; i++)
        same = a->parts[i].json == b->at[i].json && a->parts[i].any_done == b->at[i].any_done &&
               a->parts[i].one_done == b->at[i].one_done && a->parts[i].branch_of == b->at[i].branch_of;
    return same;
}

static bool grow(schema *s) {
    if (s->n_items < s->cap_items) return true;
    const uint32_t cap = s->cap_items ? s->cap_items * 2 : 64; /* below GRAMMAR_MAX_RULES, each has one */
    schema_item *items = realloc(s->items, cap * sizeof *items);
    if (items) s->items = items;
    uint32_t *slots = items ? calloc((size_t)cap * 4, sizeof *slots) : NULL;
    if (!slots) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: %u rules", cap);
        return false;
    }
    for (uint32_t i = 0; i < s->n_items; i++) {
        uint32_t k = hash_parts(items[i].parts, items[i].n) & (cap * 4 - 1);
        while (slots[k]) k = (k + 1) & (cap * 4 - 1);
        slots[k] = i + 1;
    }
    free(s->slots);
    s->slots = slots;
    s->n_slots = cap * 4;
    s->cap_items = cap;
    return true;
}

uint32_t schema_rule(schema *s, const schema_parts *parts, const char *pointer) {
    if (s->p->st || !grow(s)) return 0;
    if (parts->n == 0) return s->json.value;
    uint32_t k = hash_parts(parts->at, parts->n) & (s->n_slots - 1);
    for (; s->slots[k]; k = (k + 1) & (s->n_slots - 1))
        if (same_parts(&s->items[s->slots[k] - 1], parts)) return s->items[s->slots[k] - 1].rule;
    const uint32_t rule = program_rule(s->p, pointer, strlen(pointer), 0);
    schema_part *copy = arena_alloc(&s->mem, parts->n, sizeof *copy);
    if (!copy) program_fail(s->p, GALEN_E_NOMEM, 0, "schema: a rule");
    if (s->p->st) return 0;
    memcpy(copy, parts->at, parts->n * sizeof *copy);
    s->items[s->n_items++] = (schema_item){.parts = copy, .n = parts->n, .rule = rule};
    s->slots[k] = s->n_items;
    return rule;
}

/* ---------------------------------------------------------------- anyOf, oneOf */

/* Values that a branch must have at a property, or be, for telling branches apart: NULL when it does not say. */
static const json_t *values_of(const json_t *json) {
    const json_t *one = json_object_get(json, "const");
    return one ? one : json_object_get(json, "enum");
}

/* 1 and 1.0 are the same value. */
static bool is_equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b) == 1;
}

static bool is_among(const json_t *json, const json_t *value) {
    const json_t *one = json_object_get(json, "const"), *many = json_object_get(json, "enum");
    if (one) return is_equal(one, value);
    for (size_t i = 0; i < json_array_size(many); i++)
        if (is_equal(json_array_get(many, i), value)) return true;
    return false;
}

static bool are_values_apart(const json_t *a, const json_t *b) {
    const json_t *one = json_object_get(a, "const"), *many = json_object_get(a, "enum");
    if (!values_of(a) || !values_of(b)) return false;
    if (one) return !is_among(b, one);
    for (size_t i = 0; i < json_array_size(many); i++)
        if (is_among(b, json_array_get(many, i))) return false;
    return true;
}

static bool is_required(const json_t *json, const char *name) {
    const json_t *list = json_object_get(json, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *known = json_string_value(json_array_get(list, i));
        if (known && strcmp(known, name) == 0) return true;
    }
    return false;
}

/* Whether no value can satisfy both: by type, by their values, or by those of a property that both require. */
static bool are_apart(const json_t *a, const json_t *b) {
    const char *name;
    json_t *of_a;
    if ((schema_types_of(a) & schema_types_of(b)) == 0) return true;
    if (are_values_apart(a, b)) return true;
    if ((schema_types_of(a) & schema_types_of(b)) != TYPE_OBJECT) return false;
    const json_t *in_a = json_object_get(a, "properties"), *in_b = json_object_get(b, "properties");
    json_object_foreach((json_t *)(uintptr_t)in_a, name, of_a) {
        const json_t *of_b = json_object_get(in_b, name);
        if (of_b && is_required(a, name) && is_required(b, name) && are_values_apart(of_a, of_b)) return true;
    }
    return false;
}

/* The schema that a branch consists of, through references that are all it says. */
static const json_t *behind_refs(schema *s, const json_t *json, const char *pointer) {
    for (int i = 0; i < SCHEMA_MAX_PARTS && json_object_get(json, "$ref") && json_object_size(json) == 1 && !s->p->st; i++)
        json = resolve(s, json_object_get(json, "$ref"), pointer);
    return json;
}

/* oneOf forbids values that fit two branches; only branches that never share one can be written as alternatives. */
static void check_one(schema *s, const json_t *list, const char *pointer) {
    const size_t n = json_array_size(list);
    const json_t *branches[SCHEMA_MAX_BRANCHES];
    if (n > SCHEMA_MAX_BRANCHES) {
        schema_fail(s, GALEN_E_RANGE, pointer, "more than 512 branches");
        return;
    }
    for (size_t i = 0; i < n; i++) branches[i] = behind_refs(s, json_array_get(list, i), pointer);
    for (size_t i = 0; i < n && !s->p->st; i++)
        for (size_t k = 0; k < i && !s->p->st; k++)
            if (!are_apart(branches[i], branches[k]))
                program_fail(
                    s->p, GALEN_E_UNSUPPORTED, 0,
                    "%.200s: branches %zu and %zu may both fit a value, which oneOf forbids; anyOf allows it, or give them "
                    "different types or a required property with different constants",
                    pointer, k, i);
}

/* Split the first anyOf or oneOf among the parts into alternatives. False when there is none. */
static bool split(schema *s, const schema_parts *parts) {
    for (uint32_t i = 0; i < parts->n; i++) {
        const schema_part *from = &parts->at[i];
        const json_t *any = from->any_done ? NULL : json_object_get(from->json, "anyOf");
        const json_t *one = any || from->one_done ? NULL : json_object_get(from->json, "oneOf");
        const json_t *list = any ? any : one;
        if (!list) continue;
        const char *pointer = schema_pointer(s, from->pointer, any ? "anyOf" : "oneOf");
        if (!json_is_array(list) || json_array_size(list) == 0)
            schema_fail(s, GALEN_E_FORMAT, pointer, "a list of schemas is wanted");
        if (one && !s->p->st) check_one(s, one, pointer);
        bool is_first = true;
        for (size_t k = 0; k < json_array_size(list) && !s->p->st; k++) {
            schema_parts *branch = calloc(1, sizeof *branch);
            if (!branch) {
                program_fail(s->p, GALEN_E_NOMEM, 0, "schema: a branch");
                break;
            }
            const char *at = schema_pointer_at(s, pointer, k);
            memcpy(branch, parts, sizeof *branch);
            if (any) branch->at[i].any_done = true;
            if (one) branch->at[i].one_done = true;
            schema_part part = {.json = json_array_get(list, k), .pointer = at, .branch_of = i + 1};
            if (add_part(s, branch, part)) {
                if (!is_first) program_or(s->p);
                is_first = false;
                program_call(s->p, schema_rule(s, branch, at));
            }
            free(branch);
        }
        if (is_first && !s->p->st) schema_fail(s, GALEN_E_RANGE, pointer, "admits nothing: every branch is false");
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- a rule */

static void put_types(schema *s, const schema_parts *parts, const schema_limits *l) {
    bool is_first = true;
    for (unsigned type = 1; type < TYPE_ALL && !s->p->st; type <<= 1) {
        if (!(l->types & type) || (type == TYPE_FRACTION && (l->types & TYPE_INTEGER))) continue;
        if (!is_first) program_or(s->p);
        is_first = false;
        switch (type) {
        case TYPE_NULL:
            program_literal(s->p, "null", 4, true);
            break;
        case TYPE_BOOLEAN:
            program_literal(s->p, "true", 4, true);
            program_or(s->p);
            program_literal(s->p, "false", 5, true);
            break;
        case TYPE_INTEGER:
        case TYPE_FRACTION:
            schema_number(s, l, !(l->types & TYPE_FRACTION));
            break;
        case TYPE_STRING:
            schema_string(s, l);
            break;
        case TYPE_ARRAY:
            schema_array(s, parts, l);
            break;
        default:
            schema_object(s, parts, l);
        }
    }
}

static void build(schema *s, const schema_parts *parts, const char *pointer) {
    schema_limits l;
    if (split(s, parts) || s->p->st) return;
    schema_gather(s, parts, &l);
    if (s->p->st) return;
    if (!l.has_types && l.implied) l.types &= l.implied; /* the values that its keywords speak of */
    if (l.types == 0)
        schema_fail(s, GALEN_E_RANGE, pointer, "admits nothing: no type is left");
    else if (l.constant || l.enumeration)
        schema_enum(s, &l);
    else if (l.types == TYPE_ALL && !l.implied)
        program_call(s->p, s->json.value);
    else
        put_types(s, parts, &l);
}

static void build_all(schema *s) {
    schema_parts *parts = calloc(1, sizeof *parts);
    if (!parts) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema");
        return;
    }
    while (s->n_done < s->n_items && !s->p->st) {
        const schema_item item = s->items[s->n_done++];
        memcpy(parts->at, item.parts, item.n * sizeof *parts->at);
        parts->n = item.n;
        flatten(s, parts);
        program_begin(s->p, item.rule);
        if (!s->p->st) build(s, parts, item.parts[0].pointer);
        program_end(s->p, item.rule);
    }
    free(parts);
}

uint32_t schema_compile(program *p, const char *text, size_t len) {
    schema s = {.p = p};
    json_error_t why;
    uint32_t root = 0;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!json) {
        const bool is_memory = json_error_code(&why) == json_error_out_of_memory;
        program_fail(p, is_memory ? GALEN_E_NOMEM : GALEN_E_FORMAT, why.position > 0 ? (uint64_t)why.position : 0,
                     "the schema is not JSON: line %d, column %d", why.line, why.column);
        return 0;
    }
    s.root = json;
    json_rules_build(p, &s.json);
    if (memmem(text, len, "\"format\"", 8)) json_formats_build(p, &s.formats);
    schema_parts *parts = calloc(1, sizeof *parts);
    if (!parts) program_fail(p, GALEN_E_NOMEM, 0, "schema");
    if (parts && !schema_add(&s, parts, json, "#")) schema_fail(&s, GALEN_E_RANGE, "#", "admits nothing: it is false");
    if (parts) root = schema_rule(&s, parts, "#");
    free(parts);
    build_all(&s);
    json_decref(json);
    free(s.items);
    free(s.slots);
    arena_free(&s.mem);
    return root;
}
