/* JSON Schema to rules: one rule for each set of subschemas that must hold together. Rules are made from a queue, so neither the
 * depth of a schema nor its references recurse here. */
#ifndef GALEN_GRAMMAR_SCHEMA_H
#define GALEN_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "grammar/json.h"

enum {
    SCHEMA_MAX_PARTS = 64,        /* subschemas that hold together: $ref, allOf and what stands beside them */
    SCHEMA_MAX_BRANCHES = 512,    /* of a oneOf, whose branches are compared in pairs                        */
    SCHEMA_MAX_PROPERTIES = 10000 /* of one object                                                           */
};

/* A subschema and where it stands. done: its anyOf, its oneOf has been split, and the branch is among the parts. */
typedef struct schema_part {
    const json_t *json;
    const char *pointer;
    bool any_done, one_done;
    bool is_flat;       /* its $ref and allOf are among the parts */
    uint32_t branch_of; /* + 1: the part whose anyOf or oneOf chose it */
} schema_part;

typedef struct schema_parts {
    schema_part at[SCHEMA_MAX_PARTS];
    uint32_t n;
} schema_parts;

/* A rule to be made. */
typedef struct schema_item {
    schema_part *parts; /* [n] in the arena */
    uint32_t n, rule;
} schema_item;

typedef struct schema {
    program *p;
    arena mem;
    const json_t *root;
    json_rules json;
    json_formats formats;
    schema_item *items;
    uint32_t n_items, cap_items, n_done;
    uint32_t *slots; /* hash of items, + 1 */
    uint32_t n_slots;
} schema;

enum schema_type {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8, /* numbers that are not integers */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};

/* A bound of numbers; at 0 there is none. */
typedef struct schema_bound {
    const json_t *value;
    bool is_exclusive;
} schema_bound;

/* What all parts of a rule say together. */
typedef struct schema_limits {
    const char *pointer; /* of the first part, for messages */
    unsigned types;
    bool has_types;
    unsigned implied; /* types that keywords speak of */
    const json_t *enumeration, *constant;
    const char *enum_pointer;
    uint32_t min_length, max_length, min_items, max_items;
    const json_t *pattern, *format;
    const char *pattern_pointer, *format_pointer;
    schema_bound low, high;
} schema_limits;

/** The pointer of a member, in the arena. */
const char *schema_pointer(schema *s, const char *base, const char *key);
const char *schema_pointer_at(schema *s, const char *base, size_t index);
/** FORMAT unless said: "POINTER: what". */
void schema_fail(schema *s, galen_status st, const char *pointer, const char *what);

/** Add a subschema (true adds nothing). False when it is `false`: nothing can hold. */
bool schema_add(schema *s, schema_parts *parts, const json_t *json, const char *pointer);
/** The rule of these parts, made later when it is new. */
uint32_t schema_rule(schema *s, const schema_parts *parts, const char *pointer);

/* Each builds its alternative into the rule that is open. */
void schema_object(schema *s, const schema_parts *parts, const schema_limits *l);
void schema_array(schema *s, const schema_parts *parts, const schema_limits *l);
void schema_string(schema *s, const schema_limits *l);
void schema_number(schema *s, const schema_limits *l, bool is_integer);
void schema_enum(schema *s, const schema_limits *l);

/** Read the keywords of all parts. */
void schema_gather(schema *s, const schema_parts *parts, schema_limits *l);
/** The types that one subschema allows by its own `type`, `const` or `enum`. */
unsigned schema_types_of(const json_t *json);
unsigned schema_type_of_value(const json_t *value);

#endif
