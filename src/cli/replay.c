/* Replaying: the comparison knows nothing of how turns are made. */
#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>

#include "cli/history.h"

typedef struct comparison {
    const store_show *past;
    bool *is_seen; /* [past->n_turns] */
    size_t n_same;
    bool is_out_of_memory;
    char difference[256]; /* "" while there is none */
} comparison;

static bool is_input(const store_turn *t) {
    return strcmp(t->kind, "symptoms") == 0 || strcmp(t->kind, "answer") == 0 ||
           (strcmp(t->kind, "closed") == 0 && strstr(t->json, "\"user\"") != NULL);
}

/* The next turn of that kind that was not compared yet; n_turns: none. */
static size_t find_next(const comparison *k, const char *kind) {
    size_t i = 0;
    while (i < k->past->n_turns && (k->is_seen[i] || strcmp(k->past->turns[i].kind, kind) != 0)) i++;
    return i;
}

static char *comparable(json_t *turn) {
    (void)json_object_del(turn, "timings");
    return json_dumps(turn, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

/* The first member that differs: its name, never its text. */
static void name_difference(comparison *k, size_t i, const json_t *was, const json_t *is) {
    const char *key, *which = "form";
    json_t *value;
    json_object_foreach((json_t *)was, key, value) {
        if (json_equal(value, json_object_get(is, key))) continue;
        which = key;
        break;
    }
    (void)snprintf(k->difference, sizeof k->difference, "turn %zu (%s) differs in '%s'", i + 1, k->past->turns[i].kind, which);
}

static void compare_turn(comparison *k, size_t i, json_t *is) {
    const store_turn *t = &k->past->turns[i];
    json_t *was = json_loadb(t->json, t->n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    char *a = was ? comparable(was) : NULL, *b = comparable(is);
    if (!a || !b)
        k->is_out_of_memory = true;
    else if (strcmp(a, b) == 0)
        k->n_same++;
    else if (!k->difference[0])
        name_difference(k, i, was, is);
    free(a);
    free(b);
    json_decref(was);
}

static void take_turn(void *user, const char *kind, json_t *content) {
    comparison *k = user;
    const size_t i = find_next(k, kind);
    if (!content) {
        k->is_out_of_memory = true;
    } else if (i < k->past->n_turns) {
        k->is_seen[i] = true;
        if (!is_input(&k->past->turns[i])) compare_turn(k, i, content);
    } else if (!k->difference[0]) {
        (void)snprintf(k->difference, sizeof k->difference, "there is now one more turn of kind %.32s", kind);
    }
    json_decref(content);
}

static cli_exit report(cli *c, const comparison *k, const char *difference) {
    const bool is_same = !difference[0];
    if (c->args.json) {
        json_t *root = json_begin(c);
        int bad = json_object_set_new(root, "case", json_integer((json_int_t)k->past->info.id));
        bad |= json_object_set_new(root, "is_identical", json_boolean(is_same));
        bad |= json_object_set_new(root, "n_identical", json_integer((json_int_t)k->n_same));
        bad |= json_object_set_new(root, "difference", is_same ? json_null() : json_text0(difference));
        if (bad) {
            json_decref(root);
            root = NULL;
        }
        const cli_exit st = json_end(c, root, false);
        if (st) return st;
    } else if (is_same) {
        (void)printf("case %lld: %zu turns computed again, identical bytes\n", (long long)k->past->info.id, k->n_same);
    } else {
        (void)printf("case %lld: NOT identical: %s (%zu turns are)\n", (long long)k->past->info.id, difference, k->n_same);
    }
    return is_same ? CLI_DONE : CLI_FAILED;
}

cli_exit replay_case(cli *c, const store_show *past, replay_fn produce, void *user) {
    comparison k = {.past = past, .is_seen = calloc(past->n_turns + 1, sizeof(bool))};
    cli_exit st = CLI_MEMORY;
    if (k.is_seen) st = produce(c, user, past, take_turn, &k);
    if (!k.is_seen || k.is_out_of_memory) {
        term_error(c, "out of memory comparing");
        st = CLI_MEMORY;
    }
    for (size_t i = 0; !st && i < past->n_turns && !k.difference[0]; i++) {
        if (!k.is_seen[i] && !is_input(&past->turns[i]))
            (void)snprintf(k.difference, sizeof k.difference, "turn %zu (%s) did not come again", i + 1, past->turns[i].kind);
    }
    if (!st && k.n_same == 0 && !k.difference[0]) {
        term_error(c, "case %lld has no turn that could be computed again", (long long)past->info.id);
        st = CLI_FAILED;
    }
    if (!st) st = report(c, &k, k.difference);
    free(k.is_seen);
    return st;
}
