/* Tools. The model is told of them in the system message; a call is one JSON object, {"name", "arguments"}, and is written under
 * the grammar of exactly the tools allowed: a name that is none or arguments that break their schema cannot come out. */
#include <stdlib.h>
#include <string.h>

#include "server/chat.h"

#define TOOLS_MAX     128
#define TOOL_NAME_MAX 64

static bool is_name(const char *s) {
    size_t n = 0;
    for (; s[n]; n++)
        if (!((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || (s[n] >= '0' && s[n] <= '9') || s[n] == '_' ||
              s[n] == '-'))
            return false;
    return n >= 1 && n <= TOOL_NAME_MAX;
}

/* "$defs" of a tool's parameters belong at the root, where "#/$defs/..." looks. False: two tools' differ. */
static bool hoist(json_t *root, json_t *parameters, const char *key) {
    json_t *defs = json_object_get(parameters, key);
    if (!json_is_object(defs)) return true;
    json_t *all = json_object_get(root, key);
    if (!all && json_object_set_new(root, key, all = json_object())) return false;
    for (void *it = json_object_iter(defs); it; it = json_object_iter_next(defs, it)) {
        const json_t *old = json_object_get(all, json_object_iter_key(it));
        if (old && !json_equal(old, json_object_iter_value(it))) return false;
        if (json_object_set(all, json_object_iter_key(it), json_object_iter_value(it))) return false;
    }
    return json_object_del(parameters, key) == 0;
}

/* One tool into the schema's alternatives and into the words. Returns what is wrong, or NULL. */
static const char *take(const json_t *tool, const char *only, json_t *root, bytes *words) {
    const json_t *fn = json_object_get(tool, "function"), *given = json_object_get(fn, "parameters");
    const char *type = json_string_value(json_object_get(tool, "type")), *name = json_string_value(json_object_get(fn, "name"));
    const json_t *description = json_object_get(fn, "description");
    if (!type || strcmp(type, "function") != 0) return "a list of objects of type function";
    if (!name || !is_name(name)) return "of functions with a name of 1 to 64 letters, digits, - and _";
    if (given && !json_is_null(given) && !json_is_object(given)) return "of functions whose parameters are a JSON Schema object";
    if (description && !json_is_null(description) && !json_is_string(description))
        return "of functions whose description is a string";
    char *told = json_dumps(fn, JSON_COMPACT);
    const bool ok = told && bytes_addf(words, "%s\n", told);
    free(told);
    if (!ok) return "smaller: out of memory";
    if (only && strcmp(only, name) != 0) return NULL;
    json_t *parameters = json_is_object(given)
                             ? json_deep_copy(given)
                             : json_pack("{s:s, s:{}, s:b}", "type", "object", "properties", "additionalProperties", 0);
    if (parameters && json_object_size(parameters) == 0) (void)json_object_set_new(parameters, "type", json_string("object"));
    if (!parameters || !hoist(root, parameters, "$defs") || !hoist(root, parameters, "definitions")) {
        json_decref(parameters);
        return "of functions whose $defs of the same name are the same";
    }
    json_t *call = json_pack("{s:s, s:{s:{s:s}, s:o}, s:[s, s], s:b}", "type", "object", "properties", "name", "const", name,
                             "arguments", parameters, "required", "name", "arguments", "additionalProperties", 0);
    if (json_array_append_new(json_object_get(root, "anyOf"), call)) return "smaller: out of memory";
    return NULL;
}

/* "tool_choice": *only is the one function named, or NULL. */
static void read_choice(fields *f, tool_choice *choice, const char **only) {
    const json_t *v = field_any(f, "tool_choice");
    const char *word = json_string_value(v), *type = json_string_value(json_object_get(v, "type"));
    *only = json_string_value(json_object_get(json_object_get(v, "function"), "name"));
    *choice = TOOLS_AUTO;
    if (!v) return;
    if (word && strcmp(word, "none") == 0)
        *choice = TOOLS_NONE;
    else if ((word && strcmp(word, "required") == 0) || (type && strcmp(type, "function") == 0 && *only))
        *choice = TOOLS_REQUIRED;
    else if (!word || strcmp(word, "auto") != 0)
        field_fail(f, "tool_choice", "none, auto, required, or an object that names a function");
}

bool chat_tools_read(fields *f, chat_tools *out) {
    const json_t *list = field_any(f, "tools");
    const char *only = NULL, *wrong = NULL;
    *out = (chat_tools){0};
    read_choice(f, &out->choice, &only);
    if (f->is_bad) return false;
    if (!list || (json_is_array(list) && json_array_size(list) == 0)) {
        if (out->choice == TOOLS_REQUIRED) field_fail(f, "tool_choice", "none or auto without tools");
        out->choice = TOOLS_NONE;
        return !f->is_bad;
    }
    if (!json_is_array(list) || json_array_size(list) > TOOLS_MAX) {
        field_fail(f, "tools", "a list of at most 128 tools");
        return false;
    }
    json_t *root = json_pack("{s:[]}", "anyOf");
    if (!root || !bytes_addf(&out->words, "You can call these tools, given as JSON, one a line:\n"))
        wrong = "smaller: out of memory";
    for (size_t i = 0; i < json_array_size(list) && !wrong; i++) wrong = take(json_array_get(list, i), only, root, &out->words);
    if (!wrong && json_array_size(json_object_get(root, "anyOf")) == 0) {
        json_decref(root);
        field_fail(f, "tool_choice", "the name of one of the tools");
        return false;
    }
    if (!wrong && !bytes_addf(&out->words, "To call one, answer with one JSON object and nothing else: {\"name\": its name, "
                                           "\"arguments\": its arguments}"))
        wrong = "smaller: out of memory";
    if (!wrong && !(out->schema = json_dumps(root, JSON_COMPACT))) wrong = "smaller: out of memory";
    json_decref(root);
    if (wrong) field_fail(f, "tools", wrong);
    return !f->is_bad;
}

void chat_tools_free(chat_tools *t) {
    bytes_free(&t->words);
    free(t->schema);
    t->schema = NULL;
}

json_t *chat_tools_calls(const char *text, size_t n) {
    char id[48];
    json_t *call = json_loadb(text ? text : "", n, 0, NULL), *list = NULL;
    const char *name = json_string_value(json_object_get(call, "name"));
    char *arguments = json_object_get(call, "arguments") ? json_dumps(json_object_get(call, "arguments"), JSON_COMPACT) : NULL;
    gen_make_id("call_", id, sizeof id);
    if (name && arguments)
        list = json_pack("[{s:s, s:s, s:{s:s, s:s}}]", "id", id, "type", "function", "function", "name", name, "arguments",
                         arguments);
    free(arguments);
    json_decref(call);
    return list;
}
