/* galen history: the cases that were kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assist/export.h"
#include "cli/history.h"
#include "cli/numbers.h"
#include "cli/options.h"
#include "cli/replay.h"

#define DEFAULT_LIMIT 20

/* ------------------------------------------------------------ lists */

typedef struct list_view {
    cli *c;
    json_t *json; /* with --json */
    int64_t n, last;
    bool is_out_of_memory;
} list_view;

static json_t *json_case(const store_case *k) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "id", (json_int_t)k->id, "created_ms", (json_int_t)k->created_ms,
                     "changed_ms", (json_int_t)k->changed_ms, "parent", (json_int_t)k->parent, "n_turns", (json_int_t)k->n_turns,
                     "n_bytes", (json_int_t)k->n_bytes, "parent_turns", (json_int_t)k->parent_turns, "title",
                     json_text0(k->title));
}

/* Bytes of text that fill at most n columns of a terminal, counting a character as one. */
static size_t fit(const char *text, int n) {
    size_t i = 0;
    for (; text[i]; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80 && n-- <= 0) break;
    }
    return i;
}

static bool on_case(void *user, const store_case *k) {
    list_view *v = user;
    char when[HIST_TIME_BYTES];
    v->last = k->id;
    if (v->c->args.json) {
        v->is_out_of_memory = json_array_append_new(v->json, json_case(k)) != 0;
        return !v->is_out_of_memory;
    }
    if (v->n++ == 0) (void)printf("%6s  %-16s  %5s  %s\n", "CASE", "LAST TURN", "TURNS", "SYMPTOMS");
    (void)printf("%6lld  %-16s  %5lld  ", (long long)k->id, hist_time(k->changed_ms, when), (long long)k->n_turns);
    const int room = v->c->term.is_out_tty ? v->c->term.n_columns - 33 : STORE_TITLE_MAX;
    term_write(v->c, k->title, fit(k->title, room > 8 ? room : 8));
    (void)putchar('\n');
    return !ferror(stdout) && !signals_stop();
}

/* The words of a search, one behind the other. */
static char *join_words(const cli *c) {
    size_t n = 1;
    for (int i = 1; i < c->args.n_positional; i++) n += strlen(c->args.positional[i]) + 1;
    char *text = malloc(n);
    if (!text) return NULL;
    size_t used = 0;
    for (int i = 1; i < c->args.n_positional; i++) used += (size_t)snprintf(text + used, n - used, "%s ", c->args.positional[i]);
    text[used] = '\0';
    return text;
}

static cli_exit list(cli *c, store *s, bool is_search) {
    galen_error err = {0};
    list_view v = {.c = c, .json = c->args.json ? json_array() : NULL};
    const int64_t limit = !option_given(&c->args, "limit") ? DEFAULT_LIMIT : c->args.limit ? c->args.limit : INT64_MAX;
    char *words = is_search ? join_words(c) : NULL;
    cli_exit st = (is_search && !words) || (c->args.json && !v.json) ? CLI_MEMORY : CLI_DONE;
    if (st) {
        term_error(c, "out of memory");
    } else if (is_search ? store_search(s, words, strlen(words), c->args.before, limit, on_case, &v, &err)
                         : store_list(s, c->args.before, limit, on_case, &v, &err)) {
        st = hist_fail(c, &err);
    } else if (c->args.json) {
        json_t *root = v.is_out_of_memory ? NULL : json_begin(c);
        if (root && json_object_set(root, "cases", v.json)) {
            json_decref(root);
            root = NULL;
        }
        st = json_end(c, root, false);
    } else if (v.n == 0) {
        term_note(c, "%s", is_search ? "no case has these words" : "no cases are kept");
    } else if (v.n == limit) {
        term_note(c, "older ones: --before %lld", (long long)v.last);
    }
    json_decref(v.json);
    free(words);
    return st;
}

static cli_exit run_list(cli *c, store *s) {
    return list(c, s, false);
}
static cli_exit run_search(cli *c, store *s) {
    return list(c, s, true);
}

/* ------------------------------------------------------------ one case */

/* What was typed instead may be a person's name: it is not repeated. */
static cli_exit case_number(cli *c, int64_t *id) {
    if (number_i64(c->args.positional[1], id) && *id > 0) return CLI_DONE;
    term_error(c, "history %s: that is not a case's number; galen history list shows them", c->args.positional[0]);
    return CLI_USAGE;
}

static cli_exit get_case(cli *c, store *s, store_show *out) {
    galen_error err = {0};
    int64_t id;
    const cli_exit st = case_number(c, &id);
    if (st) return st;
    return store_case_get(s, id, out, &err) ? hist_fail(c, &err) : CLI_DONE;
}

/* Whoever reads a case leaves a row in the trail; what keeps it from being written does not keep the case from being read. */
static void audit(cli *c, store *s, const char *action, int64_t id) {
    galen_error err = {0};
    char safe[GALEN_ERROR_MSG_BYTES];
    const store_audit a = {.action = action, .case_id = id};
    if (store_audit_append(s, &a, &err) && !store_is_read_only(s))
        term_error(c, "not in the audit trail: %s", term_safe(err.msg, safe, sizeof safe));
}

static cli_exit make_document(cli *c, const store_show *k, export_format format, export_text *out) {
    galen_error err = {0};
    export_turn *turns = calloc(k->n_turns + 1, sizeof *turns);
    if (!turns) {
        term_error(c, "out of memory");
        return CLI_MEMORY;
    }
    for (size_t i = 0; i < k->n_turns; i++)
        turns[i] = (export_turn){k->turns[i].kind, k->turns[i].time_ms, k->turns[i].json, k->turns[i].n};
    const export_case e = {.id = k->info.id,
                           .created_ms = k->info.created_ms,
                           .changed_ms = k->info.changed_ms,
                           .parent = k->info.parent,
                           .parent_turns = k->info.parent_turns,
                           .params = k->params,
                           .turns = turns,
                           .n_turns = k->n_turns};
    const galen_status st = export_write(format, &e, out, &err);
    free(turns);
    return st ? hist_fail(c, &err) : CLI_DONE;
}

/* A new file for this user alone, or one that is there, written anew with its own permissions. */
static cli_exit write_document(cli *c, const export_text *text) {
    const char *path = c->args.out;
    char safe[256];
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;
    bool ok = fd >= 0;
    while (ok && done < text->n) {
        const ssize_t k = write(fd, text->bytes + done, text->n - done);
        if (k < 0 && errno == EINTR) continue;
        ok = k > 0;
        if (ok) done += (size_t)k;
    }
    const int why = errno;
    if (fd >= 0 && close(fd) != 0) ok = false;
    if (ok) {
        term_note(c, "%s: %zu bytes", term_safe(path, safe, sizeof safe), text->n);
        return CLI_DONE;
    }
    term_error(c, "%s: %s; what was written is not complete", term_safe(path, safe, sizeof safe), strerror(why));
    return CLI_FAILED;
}

static cli_exit show_as(cli *c, store *s, export_format format, const char *action) {
    store_show k;
    export_text text = {0};
    cli_exit st = get_case(c, s, &k);
    if (st) return st;
    audit(c, s, action, k.info.id);
    st = make_document(c, &k, format, &text);
    if (!st && c->args.out)
        st = write_document(c, &text);
    else if (!st)
        term_write(c, text.bytes, text.n);
    free(text.bytes);
    store_show_free(&k);
    return st;
}

static cli_exit run_show(cli *c, store *s) {
    return show_as(c, s, c->args.json ? EXPORT_JSON : EXPORT_TEXT, "show");
}

static cli_exit run_export(cli *c, store *s) {
    export_format format = c->args.json ? EXPORT_JSON : EXPORT_MARKDOWN;
    if (c->args.format && !export_format_find(c->args.format, &format)) return CLI_USAGE; /* the option table has checked it */
    return show_as(c, s, format, "export");
}

static cli_exit run_branch(cli *c, store *s) {
    galen_error err = {0};
    int64_t id, made;
    const cli_exit st = case_number(c, &id);
    if (st) return st;
    if (store_branch(s, id, option_given(&c->args, "turns") ? c->args.turns : -1, &made, &err)) return hist_fail(c, &err);
    audit(c, s, "branch", made);
    if (!c->args.json) {
        (void)printf("%lld\n", (long long)made);
        return CLI_DONE;
    }
    json_t *root = json_begin(c);
    if (json_object_set_new(root, "case", json_integer((json_int_t)made))) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

static cli_exit run_replay(cli *c, store *s) {
    store_show k;
    cli_exit st = get_case(c, s, &k);
    if (st) return st;
    audit(c, s, "replay", k.info.id);
    st = replay_case(c, &k, replay_assistant, s);
    store_show_free(&k);
    return st;
}

/* ------------------------------------------------------------ erasing */

static bool is_sure(cli *c, const char *what) {
    char answer[8] = "";
    if (c->args.yes) return true;
    if (!isatty(STDIN_FILENO)) {
        term_error(c, "%s cannot be undone: say --yes", what);
        return false;
    }
    (void)fprintf(stderr, "%s for good? [y/N] ", what);
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y')) return true;
    term_note(c, "nothing was erased");
    return false;
}

static cli_exit say_erased(cli *c, const store_erasure *e) {
    if (c->args.json) {
        json_t *root = json_begin(c);
        json_t *what =
            json_pack("{s:I, s:I, s:I, s:b, s:b}", "n_cases", (json_int_t)e->n_cases, "n_turns", (json_int_t)e->n_turns,
                      "n_branches_left", (json_int_t)e->n_branches, "is_scrubbed", e->is_scrubbed, "is_audited", e->is_audited);
        if (json_object_set_new(root, "erased", what)) {
            json_decref(root);
            root = NULL;
        }
        const cli_exit st = json_end(c, root, false);
        if (st) return st;
    } else {
        (void)printf("erased: %lld case%s, %lld turns\n", (long long)e->n_cases, e->n_cases == 1 ? "" : "s",
                     (long long)e->n_turns);
    }
    if (e->n_branches)
        term_error(c, "%lld case%s branched from it and hold%s copies of its turns: galen history list", (long long)e->n_branches,
                   e->n_branches == 1 ? " was" : "s were", e->n_branches == 1 ? "s" : "");
    if (!e->is_audited) term_error(c, "the audit trail does not say so, since it is broken: galen audit --verify");
    if (e->is_scrubbed) return CLI_DONE;
    term_error(
        c, "traces may be left in the database's files: another process uses them. They are removed when the database is next "
           "opened without one; galen history list does it");
    return CLI_FAILED;
}

static cli_exit run_erase(cli *c, store *s) {
    galen_error err = {0};
    store_erasure e;
    int64_t id = 0;
    char what[64];
    const bool is_all = strcmp(c->args.positional[1], "all") == 0;
    const cli_exit st = is_all ? CLI_DONE : case_number(c, &id);
    if (st) return st;
    if (is_all)
        (void)snprintf(what, sizeof what, "erasing every case");
    else
        (void)snprintf(what, sizeof what, "erasing case %lld", (long long)id);
    if (!is_sure(c, what)) return CLI_USAGE;
    if (is_all ? store_erase_all(s, &e, &err) : store_erase(s, id, &e, &err)) return hist_fail(c, &err);
    return say_erased(c, &e);
}

static cli_exit run_expire(cli *c, store *s) {
    galen_error err = {0};
    store_erasure e;
    char what[64];
    if (!option_given(&c->args, "days")) {
        term_error(c, "history expire: --days N is missing: cases whose last turn is older are erased");
        return CLI_USAGE;
    }
    (void)snprintf(what, sizeof what, "erasing cases older than %lld day%s", (long long)c->args.days,
                   c->args.days == 1 ? "" : "s");
    if (!is_sure(c, what)) return CLI_USAGE;
    if (store_expire(s, c->args.days, &e, &err)) return hist_fail(c, &err);
    return say_erased(c, &e);
}

/* ------------------------------------------------------------ settings */

static const struct {
    const char *name, *meaning;
} settings[] = {
#define X(name, value, meaning) {name, meaning},
    STORE_SETTINGS(X)
#undef X
};
#define N_SETTINGS (sizeof settings / sizeof settings[0])

static cli_exit show_settings(cli *c, store *s) {
    galen_error err = {0};
    char values[N_SETTINGS][16];
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (store_setting_get(s, settings[i].name, values[i], sizeof values[i], &err)) return hist_fail(c, &err);
    }
    if (!c->args.json) {
        for (size_t i = 0; i < N_SETTINGS; i++) {
            char left[64];
            (void)snprintf(left, sizeof left, "%-16.40s %.15s", settings[i].name, values[i]);
            term_row(term_width(c), left, 24, settings[i].meaning);
        }
        return CLI_DONE;
    }
    json_t *root = json_begin(c), *list_json = json_object();
    int bad = 0;
    for (size_t i = 0; i < N_SETTINGS; i++) bad |= json_object_set_new(list_json, settings[i].name, json_text0(values[i]));
    bad |= json_object_set_new(root, "settings", list_json);
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

static cli_exit run_settings(cli *c, store *s) {
    galen_error err = {0};
    char safe[64];
    if (c->args.n_positional == 1) return show_settings(c, s);
    if (c->args.n_positional != 3) {
        term_error(c, "history settings: a name and a value, or neither");
        return CLI_USAGE;
    }
    if (!store_setting_set(s, c->args.positional[1], c->args.positional[2], &err)) return CLI_DONE;
    if (err.code == GALEN_E_NOT_FOUND) {
        term_error(c, "there is no setting '%s'; galen history settings lists them",
                   term_safe(c->args.positional[1], safe, sizeof safe));
        return CLI_USAGE;
    }
    return hist_fail(c, &err);
}

/* ------------------------------------------------------------ the verb */

static const struct {
    const char *name, *arguments;
    int least, most; /* arguments */
    bool writes;
    cli_exit (*run)(cli *c, store *s);
} parts[] = {
    {"list", "", 0, 0, false, run_list},
    {"search", "WORD ...", 1, CLI_MAX_POSITIONALS - 1, false, run_search},
    {"show", "ID", 1, 1, false, run_show},
    {"export", "ID", 1, 1, false, run_export},
    {"branch", "ID", 1, 1, true, run_branch},
    {"erase", "ID|all", 1, 1, true, run_erase},
    {"expire", "--days N", 0, 0, true, run_expire},
    {"replay", "ID", 1, 1, false, run_replay},
    {"settings", "[NAME VALUE]", 0, 2, true, run_settings},
};
#define N_PARTS (sizeof parts / sizeof parts[0])

static cli_exit find_part(cli *c, size_t *part) {
    const char *names[N_PARTS];
    char safe[64];
    for (*part = 0; *part < N_PARTS; ++*part) {
        names[*part] = parts[*part].name;
        if (strcmp(parts[*part].name, c->args.positional[0]) == 0) return CLI_DONE;
    }
    const char *near = suggest(c->args.positional[0], names, N_PARTS);
    term_safe(c->args.positional[0], safe, sizeof safe);
    if (near)
        term_error(c, "history has no '%s'; did you mean '%s'?", safe, near);
    else
        term_error(c, "history has no '%s'; see galen help history", safe);
    return CLI_USAGE;
}

cli_exit verb_history(cli *c) {
    store *s = NULL;
    size_t part;
    if (c->args.n_positional == 0) {
        c->args.positional[0] = "list";
        c->args.n_positional = 1;
    }
    cli_exit st = find_part(c, &part);
    if (st) return st;
    const int n = c->args.n_positional - 1;
    if (n < parts[part].least || n > parts[part].most) {
        term_error(c, "usage: galen history %s %s", parts[part].name, parts[part].arguments);
        return CLI_USAGE;
    }
    st = hist_open(c, parts[part].writes, &s);
    if (!st) st = parts[part].run(c, s);
    store_close(s);
    return st;
}
