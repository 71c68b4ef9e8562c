/* What was measured: the performance log, runs of bench, choices of tune. No text of a case. */
#include <stdlib.h>
#include <string.h>

#include "store/store_impl.h"

galen_status store_perf_append(store *s, const store_perf *p, galen_error *err) {
    return db_run(
        s, err,
        "INSERT INTO perf (time_ms, verb, model_name, model_sha256, device, placement, load_s, prefill_s, decode_s, first_s,"
        " n_prompt, n_generated, fallback, error, n_cached, n_dropped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "itttttddddiitiii", p->time_ms ? p->time_ms : store_now(s), p->verb, p->model_name, p->model_sha256, p->device,
        p->placement, p->load_s, p->prefill_s, p->decode_s, p->first_s, p->n_prompt, p->n_generated, p->fallback,
        (int64_t)p->error, p->n_cached, p->n_dropped);
}

galen_status store_perf_append_all(store *s, const store_perf *rows, size_t n, galen_error *err) {
    galen_status st = db_begin(s, err);
    if (st) return st;
    for (size_t i = 0; i < n && !st; i++) st = store_perf_append(s, &rows[i], err);
    return db_finish(s, st, err);
}

galen_status store_perf_list(store *s, int64_t days, store_perf_fn fn, void *user, galen_error *err) {
    db_rows r;
    bool has = true;
    galen_status st =
        db_query(&r, s, err,
                 "SELECT time_ms, verb, model_name, model_sha256, device, placement, load_s, prefill_s, decode_s, first_s,"
                 " n_prompt, n_generated, fallback, error, n_cached, n_dropped FROM perf WHERE time_ms >= ? ORDER BY time_ms, id",
                 "i", days > 0 ? store_now(s) - days * STORE_DAY_MS : INT64_MIN);
    while (!st) {
        st = db_next(&r, &has, err);
        if (st || !has) break;
        const store_perf p = {.time_ms = db_i64(&r, 0),
                              .verb = db_text_or_null(&r, 1),
                              .model_name = db_text_or_null(&r, 2),
                              .model_sha256 = db_text_or_null(&r, 3),
                              .device = db_text_or_null(&r, 4),
                              .placement = db_text_or_null(&r, 5),
                              .load_s = sqlite3_column_double(r.st, 6),
                              .prefill_s = sqlite3_column_double(r.st, 7),
                              .decode_s = sqlite3_column_double(r.st, 8),
                              .first_s = sqlite3_column_double(r.st, 9),
                              .n_prompt = db_i64(&r, 10),
                              .n_generated = db_i64(&r, 11),
                              .fallback = db_text_or_null(&r, 12),
                              .error = (int)db_i64(&r, 13),
                              .n_cached = db_i64(&r, 14),
                              .n_dropped = db_i64(&r, 15)};
        if (!fn(user, &p)) break;
    }
    db_end(&r);
    return st;
}

/* ---------------------------------------------------------------- bench */

galen_status store_bench_put(store *s, const store_bench *b, int64_t *id, galen_error *err) {
    galen_status st = store_check_json(s, "run of bench", b->json, b->n, err);
    if (!st)
        st = db_run(s, err, "INSERT INTO bench (time_ms, model_sha256, device, build, result) VALUES (?, ?, ?, ?, ?)", "itttT",
                    b->time_ms ? b->time_ms : store_now(s), b->model_sha256, b->device, b->build, b->json, b->n);
    if (!st && id) *id = sqlite3_last_insert_rowid(s->db);
    return st;
}

galen_status store_bench_list(store *s, const char *model_sha256, const char *device, const char *build, int64_t most,
                              store_bench_fn fn, void *user, galen_error *err) {
    db_rows r;
    bool has = true;
    galen_status st = db_query(&r, s, err,
                               "SELECT id, time_ms, model_sha256, device, build, result FROM bench"
                               " WHERE (?1 IS NULL OR model_sha256 = ?1) AND (?2 IS NULL OR device = ?2)"
                               " AND (?3 IS NULL OR build = ?3) ORDER BY id DESC LIMIT ?4",
                               "ttti", model_sha256, device, build, most);
    while (!st) {
        store_bench b;
        st = db_next(&r, &has, err);
        if (st || !has) break;
        b = (store_bench){.id = db_i64(&r, 0),
                          .time_ms = db_i64(&r, 1),
                          .model_sha256 = db_text(&r, 2, NULL),
                          .device = db_text(&r, 3, NULL),
                          .build = db_text(&r, 4, NULL)};
        b.json = db_text(&r, 5, &b.n);
        if (!fn(user, &b)) break;
    }
    db_end(&r);
    return st;
}

/* ---------------------------------------------------------------- tune */

galen_status store_tune_put(store *s, const store_tune *t, galen_error *err) {
    const galen_status st = store_check_json(s, "choice of tune", t->json, t->n, err);
    return st ? st
              : db_run(s, err,
                       "INSERT OR REPLACE INTO tune (model_sha256, device, driver, build, choice, time_ms) VALUES (?, ?, ?, ?, "
                       "?, ?)",
                       "ttttTi", t->model_sha256, t->device, t->driver, t->build, t->json, t->n,
                       t->time_ms ? t->time_ms : store_now(s));
}

galen_status store_tune_get(store *s, const store_tune *key, char **json, galen_error *err) {
    db_rows r;
    bool has = false;
    *json = NULL;
    galen_status st =
        db_query(&r, s, err, "SELECT choice FROM tune WHERE model_sha256 = ? AND device = ? AND driver = ? AND build = ?", "tttt",
                 key->model_sha256, key->device, key->driver, key->build);
    if (!st) st = db_next(&r, &has, err);
    if (!st && !has) st = galen_fail(err, GALEN_E_NOT_FOUND, 0, "no choice of tune for this model, device, driver and build");
    if (!st) {
        *json = strdup(db_text(&r, 0, NULL));
        if (!*json) st = galen_fail(err, GALEN_E_NOMEM, 0, "a choice of tune");
    }
    db_end(&r);
    return st;
}

galen_status store_tune_list(store *s, store_tune_fn fn, void *user, galen_error *err) {
    db_rows r;
    bool has = true;
    galen_status st =
        db_query(&r, s, err, "SELECT model_sha256, device, driver, build, choice, time_ms FROM tune ORDER BY time_ms DESC", "");
    while (!st) {
        store_tune t;
        st = db_next(&r, &has, err);
        if (st || !has) break;
        t = (store_tune){.model_sha256 = db_text(&r, 0, NULL),
                         .device = db_text(&r, 1, NULL),
                         .driver = db_text(&r, 2, NULL),
                         .build = db_text(&r, 3, NULL),
                         .time_ms = db_i64(&r, 5)};
        t.json = db_text(&r, 4, &t.n);
        if (!fn(user, &t)) break;
    }
    db_end(&r);
    return st;
}
