/* Cases: lists of turns that only grow. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "store/store_impl.h"

enum { SALT_BYTES = 16, QUERY_WORDS_MAX = 64 };

galen_status store_check_json(store *s, const char *what, const char *json, size_t n, galen_error *err) {
    uint32_t cp;
    int64_t is_valid = 0;
    if (n > STORE_TURN_MAX) return galen_fail(err, GALEN_E_RANGE, 0, "a %s of %zu bytes: at most %zu", what, n, STORE_TURN_MAX);
    for (size_t i = 0; i < n;) {
        const size_t k = json[i] ? utf8_decode(json + i, n - i, &cp) : 0;
        if (k == 0)
            return galen_fail(err, GALEN_E_FORMAT, i, "a %s: byte %zu of %zu is %s", what, i, n, json[i] ? "not UTF-8" : "a NUL");
        i += k;
    }
    const galen_status st = db_int(s, &is_valid, err, "SELECT json_valid(?)", "T", json, n);
    if (st) return st;
    return is_valid ? GALEN_OK : galen_fail(err, GALEN_E_FORMAT, 0, "a %s of %zu bytes is not JSON", what, n);
}

static galen_status check_kind(const char *kind, galen_error *err) {
    const size_t n = strlen(kind);
    if (n == 0 || n > STORE_KIND_MAX || strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
        return galen_fail(err, GALEN_E_ARG, 0, "a turn's kind has %zu bytes, expected 1 to %d of a to z, 0 to 9 and _", n,
                          STORE_KIND_MAX);
    return GALEN_OK;
}

galen_status store_case_exists(store *s, int64_t id, galen_error *err) {
    int64_t one;
    const galen_status st = db_int(s, &one, err, "SELECT 1 FROM cases WHERE id = ?", "i", id);
    return st == GALEN_E_NOT_FOUND ? galen_fail(err, st, 0, "there is no case %lld", (long long)id) : st;
}

static galen_status insert_case(store *s, const char *params, int64_t parent, int64_t parent_turns, int64_t *id,
                                galen_error *err) {
    uint8_t salt[SALT_BYTES];
    const int64_t now = store_now(s);
    if (getrandom(salt, sizeof salt, 0) != (ssize_t)sizeof salt)
        return galen_fail(err, GALEN_E_FAIL, 0, "no random bytes: %s", strerror(errno));
    const galen_status st = db_run(s, err,
                                   "INSERT INTO cases (created_ms, changed_ms, parent, parent_turns, params, salt)"
                                   " VALUES (?, ?, ?, ?, ?, ?)",
                                   "iiiitb", now, now, parent, parent_turns, params, salt, sizeof salt);
    if (!st) *id = sqlite3_last_insert_rowid(s->db);
    return st;
}

galen_status store_case_begin(store *s, const char *params, int64_t *id, galen_error *err) {
    int64_t made = 0;
    galen_status st = params ? store_check_json(s, "set of parameters", params, strlen(params), err) : GALEN_OK;
    if (!st) st = db_begin(s, err);
    if (st) return st;
    st = db_finish(s, insert_case(s, params, 0, 0, &made, err), err);
    if (!st) *id = made;
    return st;
}

/* The words of turn `rowid`: what a person or the model said, not the names of things. */
static galen_status index_turn(store *s, int64_t rowid, galen_error *err) {
    return db_run(s, err,
                  "INSERT INTO words (rowid, text)"
                  " SELECT t.id, group_concat(j.atom, char(10)) FROM turns t, json_tree(t.content) j"
                  " WHERE t.id = ? AND t.kind IN ('symptoms', 'differential', 'answer') AND j.type = 'text'"
                  " AND j.key IN ('text', 'name', 'code', 'code_title') GROUP BY t.id",
                  "i", rowid);
}

/* The time never goes back within a case, though the clock may. */
static galen_status insert_turn(store *s, int64_t id, const char *kind, const char *json, size_t n, int64_t *seq,
                                galen_error *err) {
    db_rows r;
    bool has = false;
    int64_t bytes = 0, time = store_now(s);
    galen_status st = db_query(&r, s, err, "SELECT n_turns, n_bytes, changed_ms FROM cases WHERE id = ?", "i", id);
    if (!st) st = db_next(&r, &has, err);
    if (!st && has) {
        *seq = db_i64(&r, 0) + 1;
        bytes = db_i64(&r, 1) + (int64_t)n;
        if (time < db_i64(&r, 2)) time = db_i64(&r, 2);
    }
    db_end(&r);
    if (st) return st;
    if (!has) return galen_fail(err, GALEN_E_NOT_FOUND, 0, "there is no case %lld", (long long)id);
    if (bytes > (int64_t)STORE_CASE_MAX)
        return galen_fail(err, GALEN_E_RANGE, 0, "case %lld: %lld bytes with this turn, at most %zu", (long long)id,
                          (long long)bytes, STORE_CASE_MAX);
    st = db_run(s, err, "INSERT INTO turns (case_id, seq, kind, time_ms, content) VALUES (?, ?, ?, ?, ?)", "iitiT", id, *seq,
                kind, time, json, n);
    if (!st) st = index_turn(s, sqlite3_last_insert_rowid(s->db), err);
    if (!st)
        st = db_run(s, err, "UPDATE cases SET n_turns = ?, n_bytes = ?, changed_ms = ? WHERE id = ?", "iiii", *seq, bytes, time,
                    id);
    return st;
}

galen_status store_append(store *s, int64_t id, const char *kind, const char *json, size_t n, int64_t *seq, galen_error *err) {
    int64_t number = 0;
    galen_status st = check_kind(kind, err);
    if (!st) st = store_check_json(s, "turn", json, n, err);
    if (!st) st = db_begin(s, err);
    if (st) return st;
    st = db_finish(s, insert_turn(s, id, kind, json, n, &number, err), err);
    if (!st && seq) *seq = number;
    return st;
}

/* ---------------------------------------------------------------- reading */

/* One line of at most STORE_TITLE_MAX - 1 bytes, cut at a character. */
static void make_title(const char *text, size_t n, char out[STORE_TITLE_MAX]) {
    size_t used = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const size_t k = utf8_decode(text + i, n - i, &cp);
        const bool is_blank = k == 0 || cp <= 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029;
        if (is_blank && (used == 0 || out[used - 1] == ' ')) {
            i += k ? k : 1;
            continue;
        }
        if (used + (k ? k : 1) >= STORE_TITLE_MAX) break;
        if (is_blank) {
            out[used++] = ' ';
        } else {
            memcpy(out + used, text + i, k);
            used += k;
        }
        i += k ? k : 1;
    }
    if (used && out[used - 1] == ' ') used--;
    out[used] = '\0';
}

/* Columns of every query over cases; substr keeps a megabyte of symptoms out of a list. */
#define CASE_COLUMNS                                                                                                             \
    "SELECT c.id, c.created_ms, c.changed_ms, c.parent, c.parent_turns, c.n_turns, c.n_bytes,"                                   \
    " substr((SELECT json_extract(t.content, '$.text') FROM turns t WHERE t.case_id = c.id AND t.seq = 1), 1, 640)"

static void read_case(const db_rows *r, store_case *c) {
    size_t n;
    *c = (store_case){.id = db_i64(r, 0),
                      .created_ms = db_i64(r, 1),
                      .changed_ms = db_i64(r, 2),
                      .parent = db_i64(r, 3),
                      .parent_turns = db_i64(r, 4),
                      .n_turns = db_i64(r, 5),
                      .n_bytes = db_i64(r, 6)};
    const char *text = db_text(r, 7, &n);
    make_title(text, n, c->title);
}

static galen_status give_cases(db_rows *r, store_case_fn fn, void *user, galen_error *err) {
    bool has = true;
    galen_status st = GALEN_OK;
    while (!st) {
        store_case c;
        st = db_next(r, &has, err);
        if (st || !has) break;
        read_case(r, &c);
        if (!fn(user, &c)) break;
    }
    return st;
}

galen_status store_list(store *s, int64_t before, int64_t most, store_case_fn fn, void *user, galen_error *err) {
    db_rows r;
    galen_status st = db_query(&r, s, err, CASE_COLUMNS " FROM cases c WHERE ?1 = 0 OR c.id < ?1 ORDER BY c.id DESC LIMIT ?2",
                               "ii", before, most);
    if (!st) st = give_cases(&r, fn, user, err);
    db_end(&r);
    return st;
}

static bool is_word_byte(char b) {
    return ((unsigned char)b & 0x80) || (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
}

/* A JSON list of FTS5 expressions, one a word: ["\"chest\"*","\"pain\"*"]. Words hold no quotes, so nothing needs escaping. */
static galen_status make_words(const char *query, size_t n, char **out, int64_t *n_words, galen_error *err) {
    const size_t room = n * 8 + 16; /* a word of k bytes takes k + 7, and a separator follows it */
    char *p = malloc(room);
    size_t used = 0;
    *n_words = 0;
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "a query of %zu bytes", n);
    p[used++] = '[';
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && is_word_byte(query[k])) k++;
        if (k > i) {
            if ((*n_words)++) p[used++] = ',';
            used += (size_t)snprintf(p + used, room - used, "\"\\\"%.*s\\\"*\"", (int)(k - i), query + i);
        }
        i = k + 1;
    }
    memcpy(p + used, "]", 2);
    *out = p;
    if (*n_words >= 1 && *n_words <= QUERY_WORDS_MAX) return GALEN_OK;
    free(p);
    *out = NULL;
    return galen_fail(err, GALEN_E_ARG, 0, "the query has %lld words, expected 1 to %d", (long long)*n_words, QUERY_WORDS_MAX);
}

/* A word may stand in any turn of the case. */
static const char search_sql[] =
    CASE_COLUMNS " FROM cases c WHERE (?1 = 0 OR c.id < ?1) AND c.id IN ("
                 "  SELECT t.case_id FROM json_each(?2) q CROSS JOIN words w ON w.words MATCH q.value"
                 "  JOIN turns t ON t.id = w.rowid GROUP BY t.case_id HAVING count(DISTINCT q.key) = ?3)"
                 " ORDER BY c.id DESC LIMIT ?4";

galen_status store_search(store *s, const char *query, size_t n, int64_t before, int64_t most, store_case_fn fn, void *user,
                          galen_error *err) {
    db_rows r = {0};
    char *words = NULL;
    int64_t n_words;
    size_t room;
    if (!utf8_is_valid(query, n)) return galen_fail(err, GALEN_E_FORMAT, 0, "the query is not UTF-8");
    if (!size_mul(n, 8, &room) || n > STORE_TURN_MAX)
        return galen_fail(err, GALEN_E_RANGE, 0, "a query of %zu bytes: at most %zu", n, STORE_TURN_MAX);
    galen_status st = make_words(query, n, &words, &n_words, err);
    if (!st) st = db_query(&r, s, err, search_sql, "itii", before, words, n_words, most);
    if (!st) st = give_cases(&r, fn, user, err);
    db_end(&r);
    free(words);
    return st;
}

void store_show_free(store_show *c) {
    for (size_t i = 0; i < c->n_turns; i++) {
        free((char *)c->turns[i].kind);
        free((char *)c->turns[i].json);
    }
    free(c->turns);
    free(c->params);
    *c = (store_show){0};
}

static char *copy(const char *text, size_t n) {
    char *p = malloc(n + 1);
    if (!p) return NULL;
    memcpy(p, text, n);
    p[n] = '\0';
    return p;
}

static galen_status read_turns(store *s, int64_t id, store_show *out, galen_error *err) {
    db_rows r;
    bool has = true;
    galen_status st =
        db_query(&r, s, err, "SELECT seq, time_ms, kind, content FROM turns WHERE case_id = ? ORDER BY seq", "i", id);
    while (!st) {
        st = db_next(&r, &has, err);
        if (st || !has) break;
        if (!out->turns || out->n_turns == (size_t)out->info.n_turns) {
            st = galen_fail(err, GALEN_E_FORMAT, 0, "case %lld has more than its %lld turns", (long long)id,
                            (long long)out->info.n_turns);
            break;
        }
        store_turn *t = &out->turns[out->n_turns];
        size_t n_kind;
        const char *kind = db_text(&r, 2, &n_kind), *json = db_text(&r, 3, &t->n);
        t->seq = db_i64(&r, 0);
        t->time_ms = db_i64(&r, 1);
        t->kind = copy(kind, n_kind);
        t->json = copy(json, t->n);
        out->n_turns++;
        if (!t->kind || !t->json) st = galen_fail(err, GALEN_E_NOMEM, 0, "case %lld: out of memory", (long long)id);
    }
    db_end(&r);
    if (!st && out->n_turns != (size_t)out->info.n_turns)
        st = galen_fail(err, GALEN_E_FORMAT, 0, "case %lld has %zu turns, expected %lld", (long long)id, out->n_turns,
                        (long long)out->info.n_turns);
    return st;
}

static galen_status read_head(store *s, int64_t id, store_show *out, galen_error *err) {
    db_rows r;
    bool has = false;
    galen_status st = db_query(&r, s, err, CASE_COLUMNS ", c.params FROM cases c WHERE c.id = ?", "i", id);
    if (!st) st = db_next(&r, &has, err);
    if (!st && !has) st = galen_fail(err, GALEN_E_NOT_FOUND, 0, "there is no case %lld", (long long)id);
    if (!st) {
        size_t n;
        read_case(&r, &out->info);
        const char *params = db_text_or_null(&r, 8);
        if (params) {
            params = db_text(&r, 8, &n);
            out->params = copy(params, n);
            if (!out->params) st = galen_fail(err, GALEN_E_NOMEM, 0, "case %lld: out of memory", (long long)id);
        }
    }
    db_end(&r);
    return st;
}

galen_status store_case_get(store *s, int64_t id, store_show *out, galen_error *err) {
    *out = (store_show){0};
    galen_status st = db_run(s, err, "BEGIN", ""); /* head and turns of one moment */
    if (st) return st;
    st = read_head(s, id, out, err);
    if (!st && (out->info.n_turns < 0 || out->info.n_turns > (int64_t)STORE_CASE_MAX))
        st = galen_fail(err, GALEN_E_FORMAT, 0, "case %lld has %lld turns", (long long)id, (long long)out->info.n_turns);
    if (!st) {
        out->turns = calloc((size_t)out->info.n_turns + 1, sizeof *out->turns);
        if (!out->turns) st = galen_fail(err, GALEN_E_NOMEM, 0, "case %lld: out of memory", (long long)id);
    }
    if (!st) st = read_turns(s, id, out, err);
    st = db_finish(s, st, err);
    if (st) store_show_free(out);
    return st;
}

/* ---------------------------------------------------------------- branching */

static galen_status copy_turns(store *s, int64_t from, int64_t to, int64_t n_turns, galen_error *err) {
    galen_status st = db_run(s, err,
                             "INSERT INTO turns (case_id, seq, kind, time_ms, content)"
                             " SELECT ?1, seq, kind, time_ms, content FROM turns WHERE case_id = ?2 AND seq <= ?3",
                             "iii", to, from, n_turns);
    if (!st)
        st = db_run(
            s, err,
            "INSERT INTO words (rowid, text) SELECT n.id, w.text FROM turns n JOIN turns o ON o.seq = n.seq AND o.case_id = ?1"
            " JOIN words w ON w.rowid = o.id WHERE n.case_id = ?2",
            "ii", from, to);
    if (!st)
        st = db_run(s, err,
                    "UPDATE cases SET n_turns = ?2, changed_ms = max(changed_ms, coalesce((SELECT max(time_ms) FROM turns"
                    " WHERE case_id = ?1), 0)), n_bytes = coalesce((SELECT sum(length(CAST(content AS BLOB))) FROM turns"
                    " WHERE case_id = ?1), 0) WHERE id = ?1",
                    "ii", to, n_turns);
    return st;
}

static galen_status branch(store *s, int64_t id, int64_t n_turns, int64_t *made, galen_error *err) {
    int64_t have = 0;
    galen_status st = store_case_exists(s, id, err);
    if (!st) st = db_int(s, &have, err, "SELECT n_turns FROM cases WHERE id = ?", "i", id);
    if (st) return st;
    if (n_turns < 0) n_turns = have;
    if (n_turns > have)
        return galen_fail(err, GALEN_E_ARG, 0, "case %lld has %lld turns, not %lld", (long long)id, (long long)have,
                          (long long)n_turns);
    st = insert_case(s, NULL, id, n_turns, made, err);
    if (!st)
        st = db_run(s, err, "UPDATE cases SET params = (SELECT params FROM cases WHERE id = ?1) WHERE id = ?2", "ii", id, *made);
    return st ? st : copy_turns(s, id, *made, n_turns, err);
}

galen_status store_branch(store *s, int64_t id, int64_t n_turns, int64_t *out, galen_error *err) {
    int64_t made = 0;
    galen_status st = db_begin(s, err);
    if (st) return st;
    st = db_finish(s, branch(s, id, n_turns, &made, err), err);
    if (!st) *out = made;
    return st;
}
