/* What each keyword means here. A keyword that is not in the table is an error: it may be a constraint, or one misspelt. */
#include <math.h>
#include <string.h>

#include "grammar/schema.h"

typedef void (*read_fn)(schema *s, const json_t *value, const char *pointer, schema_limits *l);

unsigned schema_type_of_value(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_INTEGER:
        return TYPE_INTEGER;
    case JSON_REAL:
        return json_real_value(value) == floor(json_real_value(value)) ? TYPE_INTEGER : TYPE_FRACTION;
    case JSON_NULL:
        return TYPE_NULL;
    default:
        return TYPE_BOOLEAN;
    }
}

static unsigned type_by_name(const json_t *name) {
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {
        {"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_FRACTION},
        {"string", TYPE_STRING}, {"array", TYPE_ARRAY},     {"object", TYPE_OBJECT}};
    for (size_t i = 0; json_is_string(name) && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, json_string_value(name)) == 0) return types[i].type;
    return 0;
}

/* 0 when something in it is no type. */
static unsigned types_by_names(const json_t *value) {
    unsigned types = 0;
    if (!json_is_array(value)) return type_by_name(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const unsigned type = type_by_name(json_array_get(value, i));
        if (!type) return 0;
        types |= type;
    }
    return types;
}

unsigned schema_types_of(const json_t *json) {
    const json_t *type = json_object_get(json, "type"), *one = json_object_get(json, "const"),
                 *many = json_object_get(json, "enum");
    unsigned types = type ? types_by_names(type) : TYPE_ALL, of_values = 0;
    if (one) types &= schema_type_of_value(one);
    for (size_t i = 0; i < json_array_size(many); i++) of_values |= schema_type_of_value(json_array_get(many, i));
    return json_array_size(many) ? types & of_values : types;
}

/* ---------------------------------------------------------------- readers */

static void read_type(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    const unsigned types = types_by_names(value);
    l->has_types = true;
    l->types &= types;
    if (!types)
        schema_fail(s, GALEN_E_FORMAT, pointer,
                    "known types: null, boolean, integer, number, string, array, object, or a list of them");
}

static void read_enum(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (!json_is_array(value) || json_array_size(value) == 0)
        schema_fail(s, GALEN_E_FORMAT, pointer, "a list of at least one value is wanted");
    else if (l->enumeration && !json_equal(l->enumeration, value))
        schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "two lists of values hold here together");
    l->enumeration = value;
    l->enum_pointer = pointer;
}

static void read_const(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (l->constant && !json_equal(l->constant, value))
        schema_fail(s, GALEN_E_RANGE, pointer, "admits nothing: two different constants hold here together");
    l->constant = value;
    l->enum_pointer = pointer;
}

static uint32_t read_count(schema *s, const json_t *value, const char *pointer) {
    const bool is_whole =
        json_is_integer(value) || (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
    const double v = json_number_value(value);
    if (!is_whole || v < 0)
        schema_fail(s, GALEN_E_FORMAT, pointer, "a whole number of 0 or more is wanted");
    else if (v > GRAMMAR_MAX_REPEAT)
        schema_fail(s, GALEN_E_RANGE, pointer, "over 1073741824");
    return s->p->st ? 0 : (uint32_t)v;
}

static void at_least(uint32_t *have, uint32_t v) {
    if (v > *have) *have = v;
}
static void at_most(uint32_t *have, uint32_t v) {
    if (v < *have) *have = v;
}

static void read_min_length(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    at_least(&l->min_length, read_count(s, value, pointer));
}
static void read_max_length(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    at_most(&l->max_length, read_count(s, value, pointer));
}
static void read_min_items(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    at_least(&l->min_items, read_count(s, value, pointer));
}
static void read_max_items(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    at_most(&l->max_items, read_count(s, value, pointer));
}

static void read_pattern(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (!json_is_string(value))
        schema_fail(s, GALEN_E_FORMAT, pointer, "a string is wanted");
    else if (l->pattern && !json_equal(l->pattern, value))
        schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "two patterns hold here together");
    l->pattern = value;
    l->pattern_pointer = pointer;
}

static void read_format(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (!json_is_string(value))
        schema_fail(s, GALEN_E_FORMAT, pointer, "a string is wanted");
    else if (l->format && !json_equal(l->format, value))
        schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "two formats hold here together");
    l->format = value;
    l->format_pointer = pointer;
}

static bool is_bound(schema *s, const json_t *value, const char *pointer) {
    if (json_is_number(value)) return true;
    schema_fail(s, GALEN_E_FORMAT, pointer, "a number is wanted");
    return false;
}

/* sign 1: the greatest lower bound holds; -1: the least upper one. On a tie the exclusive one. */
static void keep_bound(schema_bound *have, const json_t *value, bool is_exclusive, int sign) {
    const double v = sign * json_number_value(value), old = have->value ? sign * json_number_value(have->value) : -INFINITY;
    if (have->value && (v < old || (v == old && have->is_exclusive))) return;
    *have = (schema_bound){.value = value, .is_exclusive = is_exclusive};
}

static void read_minimum(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (is_bound(s, value, pointer)) keep_bound(&l->low, value, false, 1);
}
static void read_maximum(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (is_bound(s, value, pointer)) keep_bound(&l->high, value, false, -1);
}
static void read_above(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (is_bound(s, value, pointer)) keep_bound(&l->low, value, true, 1);
}
static void read_below(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    if (is_bound(s, value, pointer)) keep_bound(&l->high, value, true, -1);
}

/* Objects and arrays read their own keywords from the parts; here only their shape is checked. */
static void check_object(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    (void)l;
    if (!json_is_object(value)) schema_fail(s, GALEN_E_FORMAT, pointer, "an object of schemas is wanted");
}
static void check_required(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    (void)l;
    bool ok = json_is_array(value);
    for (size_t i = 0; i < json_array_size(value); i++) ok = ok && json_is_string(json_array_get(value, i));
    if (!ok) schema_fail(s, GALEN_E_FORMAT, pointer, "a list of names is wanted");
}
static void check_schema(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    (void)l;
    if (!json_is_object(value) && !json_is_boolean(value))
        schema_fail(s, GALEN_E_FORMAT, pointer, "a schema is an object, true or false");
}
static void check_list(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    (void)l;
    if (!json_is_array(value) || json_array_size(value) == 0)
        schema_fail(s, GALEN_E_FORMAT, pointer, "a list of schemas is wanted");
}
static void only_false(schema *s, const json_t *value, const char *pointer, schema_limits *l) {
    (void)l;
    if (!json_is_false(value)) schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "cannot be enforced");
}

/* read NULL: nothing to do (annotations, and what is read elsewhere). */
static const struct {
    const char *name;
    read_fn read;
    unsigned implies; /* the types that it speaks of */
} keywords[] = {
    {"type", read_type, 0},
    {"enum", read_enum, 0},
    {"const", read_const, 0},
    {"minLength", read_min_length, TYPE_STRING},
    {"maxLength", read_max_length, TYPE_STRING},
    {"pattern", read_pattern, TYPE_STRING},
    {"format", read_format, TYPE_STRING},
    {"minimum", read_minimum, TYPE_INTEGER | TYPE_FRACTION},
    {"maximum", read_maximum, TYPE_INTEGER | TYPE_FRACTION},
    {"exclusiveMinimum", read_above, TYPE_INTEGER | TYPE_FRACTION},
    {"exclusiveMaximum", read_below, TYPE_INTEGER | TYPE_FRACTION},
    {"minItems", read_min_items, TYPE_ARRAY},
    {"maxItems", read_max_items, TYPE_ARRAY},
    {"items", check_schema, TYPE_ARRAY},
    {"prefixItems", check_list, TYPE_ARRAY},
    {"uniqueItems", only_false, 0},
    {"unevaluatedItems", NULL, 0}, /* refused below unless true */
    {"properties", check_object, TYPE_OBJECT},
    {"required", check_required, TYPE_OBJECT},
    {"additionalProperties", check_schema, TYPE_OBJECT},
    {"$ref", NULL, 0},
    {"allOf", NULL, 0},
    {"anyOf", NULL, 0},
    {"oneOf", NULL, 0},
    {"$defs", NULL, 0},
    {"definitions", NULL, 0},
    {"$schema", NULL, 0},
    {"$id", NULL, 0},
    {"$anchor", NULL, 0},
    {"$comment", NULL, 0},
    {"title", NULL, 0},
    {"description", NULL, 0},
    {"default", NULL, 0},
    {"examples", NULL, 0},
    {"example", NULL, 0},
    {"deprecated", NULL, 0},
    {"readOnly", NULL, 0},
    {"writeOnly", NULL, 0},
    {"contentMediaType", NULL, 0},
    {"contentEncoding", NULL, 0},
    {"discriminator", NULL, 0},
};

static void read_keyword(schema *s, const char *name, const json_t *value, const char *pointer, schema_limits *l) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (strcmp(keywords[i].name, name) != 0) continue;
        l->implied |= keywords[i].implies;
        if (keywords[i].read) keywords[i].read(s, value, pointer, l);
        if (strcmp(name, "unevaluatedItems") == 0 && !json_is_true(value))
            schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "cannot be enforced");
        return;
    }
    if (strncmp(name, "x-", 2) != 0) schema_fail(s, GALEN_E_UNSUPPORTED, pointer, "this keyword cannot be enforced");
}

void schema_gather(schema *s, const schema_parts *parts, schema_limits *l) {
    *l = (schema_limits){.types = TYPE_ALL, .max_length = GRAMMAR_NO_LIMIT, .max_items = GRAMMAR_NO_LIMIT};
    l->pointer = parts->at[0].pointer;
    for (uint32_t i = 0; i < parts->n && !s->p->st; i++) {
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)parts->at[i].json, name, value) {
            if (s->p->st) break;
            read_keyword(s, name, value, schema_pointer(s, parts->at[i].pointer, name), l);
        }
    }
    if (s->p->st) return;
    if (l->min_length > l->max_length) schema_fail(s, GALEN_E_RANGE, l->pointer, "admits nothing: minLength is above maxLength");
    if (l->min_items > l->max_items) schema_fail(s, GALEN_E_RANGE, l->pointer, "admits nothing: minItems is above maxItems");
}
