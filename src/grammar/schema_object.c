/* Objects and arrays.
 *
 * Members come in the order in which the schema names them, one space after each comma and colon, and none elsewhere: so most
 * of an object's frame is known text that costs no step of the model. A property that only some parts know is held to the
 * additionalProperties of the others. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "grammar/schema.h"
#include "grammar/utf8_class.h"

typedef struct property {
    const char *name;
    bool is_required;
    uint32_t rule;
} property;

typedef struct object {
    property *list;
    size_t n, cap;
    bool is_open; /* other members may follow, of rule `extra` */
    uint32_t extra;
} object;

/* ---------------------------------------------------------------- what an object holds */

static property *find(const object *o, const char *name) {
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->list[i].name, name) == 0) return &o->list[i];
    return NULL;
}

static property *add(schema *s, object *o, const char *name) {
    if (o->n == SCHEMA_MAX_PROPERTIES) {
        program_fail(s->p, GALEN_E_RANGE, 0, "an object of more than %d properties", SCHEMA_MAX_PROPERTIES);
        return NULL;
    }
    if (o->n == o->cap) {
        const size_t cap = o->cap ? o->cap * 2 : 16;
        property *grown = realloc(o->list, cap * sizeof *grown);
        if (!grown) {
            program_fail(s->p, GALEN_E_NOMEM, 0, "schema: properties");
            return NULL;
        }
        o->list = grown;
        o->cap = cap;
    }
    o->list[o->n] = (property){.name = name};
    return &o->list[o->n++];
}

/* The schemas that hold for one property. False when one of them is `false`: it may not be there. */
static bool parts_of(schema *s, const schema_parts *parts, const char *name, schema_parts *out, const char **pointer) {
    bool is_possible = true;
    out->n = 0;
    *pointer = NULL;
    for (uint32_t i = 0; i < parts->n; i++) {
        const schema_part *part = &parts->at[i];
        const json_t *own = json_object_get(json_object_get(part->json, "properties"), name);
        const json_t *more = json_object_get(part->json, "additionalProperties");
        const char *at = schema_pointer(s, part->pointer, own ? "properties" : "additionalProperties");
        if (own) at = schema_pointer(s, at, name);
        if ((own || !*pointer) && (own || more)) *pointer = at;
        if (own || more) is_possible &= schema_add(s, out, own ? own : more, at);
    }
    if (!*pointer) *pointer = parts->at[0].pointer;
    return is_possible;
}

static void collect(schema *s, const schema_parts *parts, object *o) {
    bool says_more = false, names_any = false;
    o->is_open = true;
    for (uint32_t i = 0; i < parts->n && !s->p->st; i++) {
        const json_t *props = json_object_get(parts->at[i].json, "properties");
        const json_t *more = json_object_get(parts->at[i].json, "additionalProperties");
        const char *name;
        json_t *value;
        says_more |= more != NULL;
        names_any |= props != NULL;
        if (json_is_false(more)) o->is_open = false;
        json_object_foreach((json_t *)(uintptr_t)props, name, value) {
            if (!s->p->st && !find(o, name)) (void)add(s, o, name);
        }
    }
    for (uint32_t i = 0; i < parts->n && !s->p->st; i++) {
        const json_t *list = json_object_get(parts->at[i].json, "required");
        for (size_t k = 0; k < json_array_size(list) && !s->p->st; k++) {
            const char *name = json_string_value(json_array_get(list, k));
            property *known = find(o, name);
            if (!known) known = add(s, o, name);
            if (known) known->is_required = true;
        }
    }
    /* Properties are named and nothing is said of others: none are written. */
    if (names_any && !says_more) o->is_open = false;
}

static void make_rules(schema *s, const schema_parts *parts, object *o) {
    schema_parts *sub = calloc(1, sizeof *sub);
    const char *pointer;
    size_t n = 0;
    if (!sub) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: properties");
        return;
    }
    for (size_t i = 0; i < o->n && !s->p->st; i++) {
        property prop = o->list[i];
        const bool is_possible = parts_of(s, parts, prop.name, sub, &pointer);
        if (!is_possible && prop.is_required)
            schema_fail(s, GALEN_E_RANGE, pointer, "admits nothing: a required property may not be there");
        if (!is_possible) continue;
        prop.rule = schema_rule(s, sub, pointer);
        o->list[n++] = prop;
    }
    o->n = n;
    if (o->is_open && !s->p->st) {
        sub->n = 0;
        for (uint32_t i = 0; i < parts->n && !s->p->st; i++) {
            const json_t *more = json_object_get(parts->at[i].json, "additionalProperties");
            const char *at = schema_pointer(s, parts->at[i].pointer, "additionalProperties");
            if (more) o->is_open &= schema_add(s, sub, more, at);
        }
        if (o->is_open) o->extra = schema_rule(s, sub, sub->n ? sub->at[0].pointer : parts->at[0].pointer);
    }
    free(sub);
}

/* ---------------------------------------------------------------- names that are not taken */

typedef struct names {
    const char **at; /* sorted */
    size_t n;
} names;

static int by_name(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Names in at[first, end) share `depth` bytes, which lead to `state`. */
typedef struct branch {
    size_t first, end, depth;
    uint32_t state;
} branch;

/* One character at a time: those that go on with some name, and all others, after which any name is new. */
static void put_branch(schema *s, const names *v, branch b, uint32_t loose, uint32_t end, branch *work, size_t *n_work) {
    program *p = s->p;
    char_set others = {0};
    size_t i = b.first;
    char_set_add(p, &others, 0, 0x1F);
    char_set_add(p, &others, '"', '"');
    char_set_add(p, &others, '\\', '\\');
    if (strlen(v->at[i]) == b.depth)
        i++; /* this very name: not to be ended here */
    else
        program_bytes(p, b.state, '"', '"', end);
    while (i < b.end && !p->st) {
        uint32_t cp = 0;
        const char *rest = v->at[i] + b.depth;
        const size_t used = utf8_decode(rest, strlen(rest), &cp), first = i;
        while (i < b.end && strncmp(v->at[i] + b.depth, rest, used) == 0) i++;
        if (cp < 0x20 || cp == '"' || cp == '\\') continue; /* such a name is written with escapes: never met here */
        const uint32_t next = program_state(p);
        char_set one = {0};
        char_set_add(p, &one, cp, cp);
        char_set_add(p, &others, cp, cp);
        char_set_tidy(p, &one, false);
        program_class(p, &one, b.state, next);
        char_set_close(&one);
        work[(*n_work)++] = (branch){.first = first, .end = i, .depth = b.depth + used, .state = next};
    }
    char_set_tidy(p, &others, true);
    program_class(p, &others, b.state, loose);
    char_set_close(&others);
}

/* Any characters that need no escape. */
static void put_plain(program *p, uint32_t at) {
    char_set set = {0};
    char_set_add(p, &set, 0, 0x1F);
    char_set_add(p, &set, '"', '"');
    char_set_add(p, &set, '\\', '\\');
    char_set_tidy(p, &set, true);
    program_class(p, &set, at, at);
    char_set_close(&set);
}

static void put_branches(schema *s, const names *v, uint32_t from, uint32_t to, branch *work) {
    program *p = s->p;
    size_t n_work = 0;
    const uint32_t start = program_state(p), loose = program_state(p);
    program_bytes(p, from, '"', '"', start);
    put_plain(p, loose);
    program_bytes(p, loose, '"', '"', to);
    if (v->n == 0)
        program_empty(p, start, loose);
    else
        work[n_work++] = (branch){.end = v->n, .state = start};
    while (n_work && !p->st) {
        const branch b = work[--n_work];
        put_branch(s, v, b, loose, to, work, &n_work);
    }
}

/* A member's name, with its quotes, that is none of the properties'. Without escapes, which could spell one of them. */
static void put_new_name(schema *s, const object *o, uint32_t from, uint32_t to) {
    names v = {.at = calloc(o->n + 1, sizeof *v.at)};
    size_t n_bytes = 1;
    for (size_t i = 0; i < o->n && v.at; i++) {
        v.at[v.n++] = o->list[i].name;
        n_bytes += strlen(o->list[i].name) + 1;
    }
    branch *work = calloc(n_bytes, sizeof *work); /* at most one for each character of a name */
    if (v.at && work) {
        qsort(v.at, v.n, sizeof *v.at, by_name);
        put_branches(s, &v, from, to, work);
    } else {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: names");
    }
    free(v.at);
    free(work);
}

/* ---------------------------------------------------------------- the object */

static uint32_t put_text(program *p, uint32_t from, const char *text) {
    for (; *text && !p->st; text++) {
        const uint32_t to = program_state(p);
        program_bytes(p, from, (uint8_t)*text, (uint8_t)*text, to);
        from = to;
    }
    return from;
}

/* "name": value */
static void put_member(schema *s, uint32_t from, const property *prop, uint32_t to) {
    json_t *name = json_string(prop->name);
    char *text = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    json_decref(name);
    if (!text) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: a name");
        return;
    }
    const uint32_t colon = put_text(s->p, from, text);
    program_step_call(s->p, put_text(s->p, colon, ": "), prop->rule, to);
    free(text);
}

/* Two chains of states: next[i], where property i or a later one must come now, and after[i], where those before i are
 * settled. An optional property may be passed over in the first, and in the second the object may end when all that is left is
 * optional. */
void schema_object(schema *s, const schema_parts *parts, const schema_limits *l) {
    (void)l;
    program *p = s->p;
    object o = {0};
    uint32_t from, to;
    collect(s, parts, &o);
    if (!p->st) make_rules(s, parts, &o);
    program_item(p, &from, &to);
    bool all_optional = true; /* from property i on */
    const uint32_t close = program_state(p);
    program_bytes(p, close, '}', '}', to);
    uint32_t next = 0, after = close; /* of property i + 1, while i goes down */
    if (o.is_open && !p->st) {
        const uint32_t name_end = program_state(p), comma_end = program_state(p);
        next = program_state(p);
        after = program_state(p);
        put_new_name(s, &o, next, name_end);
        program_step_call(p, put_text(p, name_end, ": "), o.extra, after);
        program_empty(p, put_text(p, after, ", "), comma_end);
        program_empty(p, comma_end, next);
        program_empty(p, after, close);
    }
    for (size_t i = o.n; i-- && !p->st;) {
        const property *prop = &o.list[i];
        const uint32_t here = program_state(p), before = program_state(p);
        put_member(s, here, prop, after);
        if (!prop->is_required && next) program_empty(p, here, next);
        all_optional &= !prop->is_required;
        program_empty(p, put_text(p, before, ", "), here);
        if (all_optional) program_empty(p, before, close);
        next = here;
        after = before;
    }
    const uint32_t open = put_text(p, from, "{");
    if (next) program_empty(p, open, next);
    if (all_optional) program_empty(p, open, close);
    free(o.list);
}

/* ---------------------------------------------------------------- arrays */

/* The rule of element i; of all from n_prefix on when i is n_prefix. False when there may be none. */
static bool element(schema *s, const schema_parts *parts, size_t i, uint32_t *rule) {
    schema_parts *sub = calloc(1, sizeof *sub);
    bool is_possible = true;
    const char *pointer = parts->at[0].pointer;
    if (!sub) {
        program_fail(s->p, GALEN_E_NOMEM, 0, "schema: elements");
        return false;
    }
    for (uint32_t k = 0; k < parts->n && !s->p->st; k++) {
        const schema_part *part = &parts->at[k];
        const json_t *prefix = json_object_get(part->json, "prefixItems");
        const json_t *own = json_array_get(prefix, i), *items = json_object_get(part->json, "items");
        const char *at = schema_pointer(s, part->pointer, own ? "prefixItems" : "items");
        if (own) at = schema_pointer_at(s, at, i);
        if (!own && !items) continue;
        pointer = at;
        is_possible &= schema_add(s, sub, own ? own : items, at);
    }
    if (is_possible) *rule = schema_rule(s, sub, pointer);
    free(sub);
    return is_possible;
}

static void put_rest(program *p, uint32_t rule, uint32_t min, uint32_t max) {
    program_group(p, 0);
    program_text(p, ", ");
    program_call(p, rule);
    program_group_end(p);
    program_repeat(p, min, max, 0);
}

/* Elements behind the first n, each with its comma; without any before, the first has none. */
static void put_rest_of(program *p, uint32_t n, uint32_t rule, uint32_t min, uint32_t max) {
    const uint32_t left = min > n ? min - n : 0, most = max == GRAMMAR_NO_LIMIT ? max : max - n;
    if (n) {
        put_rest(p, rule, left, most);
        return;
    }
    program_group(p, 0);
    program_call(p, rule);
    put_rest(p, rule, left ? left - 1 : 0, most == GRAMMAR_NO_LIMIT ? most : most - 1);
    program_group_end(p);
    if (left == 0) program_repeat(p, 0, 1, 0);
}

void schema_array(schema *s, const schema_parts *parts, const schema_limits *l) {
    program *p = s->p;
    size_t n_prefix = 0;
    uint32_t rule = 0, max = l->max_items, n_open = 0;
    for (uint32_t i = 0; i < parts->n; i++) {
        const size_t n = json_array_size(json_object_get(parts->at[i].json, "prefixItems"));
        if (n > n_prefix) n_prefix = n;
    }
    program_text(p, "[");
    uint32_t i = 0;
    bool is_possible = true;
    for (; i < n_prefix && i < max && !p->st; i++) {
        is_possible = element(s, parts, i, &rule);
        if (!is_possible) break;
        if (i >= l->min_items) { /* it and all behind it may be missing */
            program_group(p, 0);
            n_open++;
        }
        if (i) program_text(p, ", ");
        program_call(p, rule);
    }
    if (!p->st && is_possible && i < max) is_possible = element(s, parts, n_prefix, &rule);
    if (!is_possible) max = i;
    if (max < l->min_items && !p->st)
        schema_fail(s, GALEN_E_RANGE, l->pointer, "admits nothing: fewer elements are possible than minItems");
    if (!p->st && i < max) put_rest_of(p, i, rule, l->min_items, max);
    for (; n_open; n_open--) {
        program_group_end(p);
        program_repeat(p, 0, 1, 0);
    }
    program_text(p, "]");
}
