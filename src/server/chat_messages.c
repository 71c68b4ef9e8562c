/* "messages": roles and contents to what galen_chat_tokens takes. Calls of tools and their results become words: the formats
 * know three roles. Neighbours of one role are joined, since most formats want turns. */
#include <stdlib.h>
#include <string.h>

#include "server/chat.h"

#define MESSAGES_MAX 8192

typedef struct talk {
    galen_message m[MESSAGES_MAX];
    bytes text[MESSAGES_MAX];
    size_t n;
} talk;

bool chat_content(const json_t *v, bytes *out) {
    if (json_is_string(v)) return bytes_add(out, json_string_value(v), json_string_length(v));
    if (!json_is_array(v) || json_array_size(v) == 0) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *part = json_array_get(v, i), *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || (strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0) || !json_is_string(text)) return false;
        if (!bytes_add(out, json_string_value(text), json_string_length(text))) return false;
    }
    return true;
}

/* "tool_calls" of an assistant's message, as the model would have written them. */
static bool add_calls(const json_t *calls, bytes *out) {
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *fn = json_object_get(json_array_get(calls, i), "function");
        const char *name = json_string_value(json_object_get(fn, "name")),
                   *args = json_string_value(json_object_get(fn, "arguments"));
        if (!name || !args) return false;
        json_t *written = json_string(name);
        char *text = written ? json_dumps(written, JSON_ENCODE_ANY) : NULL;
        const bool ok = text && bytes_addf(out, "%s{\"name\": %s, \"arguments\": %s}", out->n ? "\n" : "", text, args);
        free(text);
        json_decref(written);
        if (!ok) return false;
    }
    return true;
}

/* Returns what is wrong, or NULL. */
static const char *read_one(const json_t *v, const char **role, bytes *text) {
    const json_t *content = json_object_get(v, "content"), *calls = json_object_get(v, "tool_calls");
    const char *name = json_string_value(json_object_get(v, "role"));
    if (!json_is_object(v) || !name) return "a list of objects with a role and a content";
    if (strcmp(name, "system") == 0 || strcmp(name, "developer") == 0)
        *role = "system";
    else if (strcmp(name, "user") == 0 || strcmp(name, "tool") == 0)
        *role = "user";
    else if (strcmp(name, "assistant") == 0)
        *role = "assistant";
    else
        return "of the roles system, developer, user, assistant, tool";
    if (strcmp(name, "tool") == 0 && !bytes_addf(text, "Result of the tool call: ")) return "smaller: out of memory";
    if (strcmp(name, "assistant") == 0 && calls && !json_is_null(calls) && !json_is_array(calls))
        return "of tool_calls that are a list";
    const bool has_calls = json_is_array(calls) && json_array_size(calls) > 0 && strcmp(name, "assistant") == 0;
    if (json_is_null(content) || !content) {
        if (!has_calls) return "of messages with a content";
    } else if (!chat_content(content, text)) {
        return "of contents that are strings or lists of parts of type text";
    }
    if (has_calls && !add_calls(calls, text)) return "of tool_calls with a function's name and arguments";
    return NULL;
}

static const char *take(talk *t, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *role = NULL;
        if (t->n == MESSAGES_MAX) return "a list of at most 8192 messages";
        bytes *text = &t->text[t->n];
        const char *wrong = read_one(json_array_get(list, i), &role, text);
        if (wrong) return wrong;
        if (t->n && strcmp(t->m[t->n - 1].role, role) == 0) { /* joined */
            bytes *before = &t->text[t->n - 1];
            const bool ok = bytes_add(before, "\n\n", 2) && bytes_add(before, text->p, text->n);
            bytes_free(text);
            if (!ok) return "smaller: out of memory";
            continue;
        }
        t->m[t->n++].role = role;
    }
    return NULL;
}

static bool has_role(const talk *t, size_t i, const char *role) {
    return i < t->n && t->m[i].role && strcmp(t->m[i].role, role) == 0;
}

static bool add_words(talk *t, const char *system_words, const char *last_words) {
    if (system_words) {
        if (!has_role(t, 0, "system")) {
            if (t->n == MESSAGES_MAX) return false;
            memmove(&t->m[1], &t->m[0], t->n * sizeof t->m[0]);
            memmove(&t->text[1], &t->text[0], t->n * sizeof t->text[0]);
            t->text[0] = (bytes){0};
            t->m[0].role = "system";
            t->n++;
        }
        if (!bytes_addf(&t->text[0], "%s%s", t->text[0].n ? "\n\n" : "", system_words)) return false;
    }
    if (last_words && !has_role(t, t->n - 1, "user")) {
        if (t->n == MESSAGES_MAX) return false;
        t->m[t->n++].role = "user";
        return bytes_addf(&t->text[t->n - 1], "%s", last_words);
    }
    return !last_words || bytes_addf(&t->text[t->n - 1], "\n\n%s", last_words);
}

bool chat_messages_read(const galen_model *m, fields *f, const char *system_words, const char *last_words, galen_tokens *out) {
    const json_t *list = field_any(f, "messages");
    galen_error err = {0};
    if (f->is_bad) return false;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        field_fail(f, "messages", "a list of at least one message");
        return false;
    }
    talk *t = calloc(1, sizeof *t);
    if (!t) {
        f->is_bad = true;
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
        return false;
    }
    const char *wrong = take(t, list);
    if (!wrong && !add_words(t, system_words, last_words)) wrong = "smaller: out of memory";
    if (wrong) {
        field_fail(f, "messages", wrong);
    } else {
        for (size_t i = 0; i < t->n; i++) {
            t->m[i].content = t->text[i].p ? t->text[i].p : "";
            t->m[i].content_len = t->text[i].n;
        }
        if (galen_chat_tokens(m, t->m, t->n, out, &err)) {
            f->is_bad = true;
            reply_error(f->x, http_error_of(err.code), "messages", "'messages': %s", err.msg);
        }
    }
    for (size_t i = 0; i < MESSAGES_MAX; i++) bytes_free(&t->text[i]);
    free(t);
    return !f->is_bad;
}

bool chat_letters(const galen_model *m, int32_t *out, int n) {
    for (int i = 0; i < n; i++) {
        const char letter = (char)('A' + i);
        galen_tokens t = {0};
        const bool ok = galen_tokenize(m, &letter, 1, false, false, &t, NULL) == GALEN_OK && t.n == 1;
        if (ok) out[i] = t.ids[0];
        galen_tokens_free(&t);
        if (!ok) return false;
        for (int k = 0; k < i; k++)
            if (out[k] == out[i]) return false;
    }
    return true;
}
