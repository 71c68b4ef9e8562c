#include "server/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "server/inside.h"

#define N_ASSISTANTS 4   /* cases worked on at once                    */
#define QUEUE_MAX    128 /* tasks waiting for each kind of worker      */
#define LIVE_MAX     32  /* idle assistants that keep their KV memory  */
#define LIVE_NS      (600ull * 1000000000ull)
#define KEY_SIZE     32

typedef struct lane {
    task *first, **last;
    size_t n;
    pthread_cond_t ready;
} lane;

struct cases {
    server *s;
    pthread_mutex_t lock;
    lane lanes[2]; /* the store's, the assistants' */
    pthread_t threads[1 + N_ASSISTANTS];
    store *stores[1 + N_ASSISTANTS];
    size_t n_threads, n_started;
    bool is_ending;
    live_case *live; /* guarded by lock */
    galen_codes *codes;
    atomic_int_fast64_t n_unkept;
    uint8_t key[KEY_SIZE];
};

const galen_codes *cases_codes(const cases *cs) {
    return cs->codes;
}

int64_t cases_new_unkept(cases *cs) {
    /* the start's time in it: a link of an earlier run finds nothing */
    return -(((int64_t)cs->s->started << 24) + (int64_t)atomic_fetch_add(&cs->n_unkept, 1) + 1);
}

/* ------------------------------------------------------------ names in URLs */

static void mac_of(const cases *cs, int64_t id, uint8_t out[SHA256_BYTES]) {
    hmac256 h;
    hmac256_start(&h, cs->key, sizeof cs->key);
    hmac256_add(&h, &id, sizeof id);
    hmac256_end(&h, out);
}

void cases_token(const cases *cs, int64_t id, char out[CASE_TOKEN_BYTES]) {
    uint8_t mac[SHA256_BYTES];
    mac_of(cs, id, mac);
    (void)snprintf(out, CASE_TOKEN_BYTES, "%016llx", (unsigned long long)id);
    for (int i = 0; i < 16; i++) (void)snprintf(out + 16 + 2 * i, 3, "%02x", mac[i]);
}

bool cases_id(const cases *cs, const char *token, int64_t *id) {
    char want[CASE_TOKEN_BYTES], digits[17];
    if (strlen(token) != CASE_TOKEN_BYTES - 1) return false;
    memcpy(digits, token, 16);
    digits[16] = '\0';
    *id = (int64_t)strtoull(digits, NULL, 16);
    cases_token(cs, *id, want);
    return bytes_equal_constant_time(want, token, CASE_TOKEN_BYTES);
}

/* 32 random bytes beside the database, so that links to cases survive a restart. */
static galen_status read_key(cases *cs, const char *db, galen_error *err) {
    char path[4200];
    (void)snprintf(path, sizeof path, "%s.links", db);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return galen_fail(err, GALEN_E_IO, 0, "the key of links to cases: %s", strerror(errno));
    ssize_t n = pread(fd, cs->key, sizeof cs->key, 0);
    if (n != (ssize_t)sizeof cs->key) {
        n = getrandom(cs->key, sizeof cs->key, 0);
        if (n == (ssize_t)sizeof cs->key) n = pwrite(fd, cs->key, sizeof cs->key, 0);
        if (fsync(fd)) n = -1;
    }
    (void)close(fd);
    return n == (ssize_t)sizeof cs->key ? GALEN_OK : galen_fail(err, GALEN_E_IO, 0, "the key of links to cases cannot be kept");
}

/* ------------------------------------------------------------ tasks */

bool task_is_gone(void *p) {
    task *t = p;
    (void)pthread_mutex_lock(&t->lock);
    const bool is_gone = t->is_gone;
    (void)pthread_mutex_unlock(&t->lock);
    return is_gone;
}

static void on_gone(void *p) {
    task *t = p;
    (void)pthread_mutex_lock(&t->lock);
    t->is_gone = true;
    if (t->running) galen_assistant_cancel(t->running);
    (void)pthread_mutex_unlock(&t->lock);
}

static void task_free(void *p) {
    task *t = p;
    json_decref(t->body);
    json_decref(t->turns);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

task *task_open(exchange *x, json_t *body, void (*run)(task *t, store *st)) {
    task *t = calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->lock, NULL)) {
        free(t);
        json_decref(body);
        reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
        return NULL;
    }
    t->x = x;
    t->cs = x->s->cases;
    t->body = body;
    t->run = run;
    return t;
}

static bool hand(task *t, int which) {
    cases *cs = t->cs;
    lane *l = &cs->lanes[which];
    (void)pthread_mutex_lock(&cs->lock);
    const bool is_full = l->n >= QUEUE_MAX || cs->is_ending;
    if (!is_full) {
        t->next = NULL;
        *l->last = t;
        l->last = &t->next;
        l->n++;
        (void)pthread_cond_signal(&l->ready);
    }
    (void)pthread_mutex_unlock(&cs->lock);
    return !is_full;
}

void cases_hand_to_store(task *t) {
    exchange *x = t->x;
    const bool is_stream = t->is_stream;
    exchange_ref(x);
    exchange_set_job(x, t, on_gone, task_free);
    if (hand(t, 0)) {
        if (is_stream) stream_begin(x);
        return;
    }
    t->is_stream = false; /* it has not begun: a status can say it */
    task_fail(t, HTTP_BUSY, NULL);
    task_end(t);
}

void cases_hand_to_assistant(task *t) {
    if (hand(t, 1)) return;
    task_fail(t, HTTP_BUSY, NULL);
    task_end(t);
}

/* ------------------------------------------------------------ answers of tasks */

bool task_event(task *t, const char *name, json_t *content) {
    if (t->is_stream) return stream_event(t->x, name, content);
    json_decref(content);
    return !task_is_gone(t);
}

bool task_turn(task *t, store *st, const char *kind, json_t *content) {
    galen_error err = {0};
    int64_t seq = 0;
    char *text = content && t->id > 0 ? json_dumps(content, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    galen_status bad = content && t->id < 0 ? GALEN_OK : GALEN_E_NOMEM;
    if (t->id < 0) seq = ++t->n_kept;
    if (text) bad = store_append(st, t->id, kind, text, strlen(text), &seq, &err);
    free(text);
    if (bad) {
        json_decref(content);
        metrics_add(&t->x->s->metrics, METRIC_STORE_FAILURES, 1);
        log_event(t->x->s, "error", "turn_not_kept", "detail", err.msg);
        task_fail(t, bad == GALEN_E_NOMEM ? HTTP_NO_MEMORY : bad == GALEN_E_NOT_FOUND ? HTTP_NO_CASE : HTTP_STORE, NULL);
        return false;
    }
    if (t->is_stream) {
        (void)json_object_set_new(content, "seq", json_integer(seq));
        (void)stream_event(t->x, kind, content); /* a client that left does not undo the turn */
        return true;
    }
    if (!t->turns) t->turns = json_array();
    (void)json_array_append_new(t->turns, json_pack("{s:I, s:s, s:o}", "seq", (json_int_t)seq, "kind", kind, "content", content));
    return true;
}

void task_fail(task *t, http_error e, const galen_error *err) {
    if (t->is_failed) return;
    t->is_failed = true;
    t->failure = e;
    if (err && err->msg[0] && http_error_status(e) < 500) (void)snprintf(t->words, sizeof t->words, "%s", err->msg);
}

void task_end(task *t) {
    exchange *x = t->x;
    char token[CASE_TOKEN_BYTES];
    const char *words = t->words[0] ? t->words : NULL;
    cases_token(t->cs, t->id, token);
    if (t->is_failed && t->is_stream) {
        stream_fail(x, "error", http_error_json(t->failure, NULL, words));
    } else if (t->is_failed) {
        reply_error(x, t->failure, NULL, words ? "%s" : NULL, words);
    } else if (t->is_stream) {
        (void)stream_event(x, "done", json_pack("{s:s}", "id", token));
        stream_end(x);
    } else {
        json_t *turns = t->turns ? t->turns : json_array();
        t->turns = NULL;
        reply_json(x, 200, json_pack("{s:s, s:o}", "id", token, "turns", turns));
    }
    exchange_unref(x); /* t may be gone */
}

void task_reply(task *t, json_t *root) {
    exchange *x = t->x;
    if (t->is_failed) {
        json_decref(root);
        task_end(t);
        return;
    }
    reply_json(x, 200, root);
    exchange_unref(x);
}

/* ------------------------------------------------------------ live cases */

static void close_live(cases *cs, live_case *lc) {
    galen_assistant_close(lc->a);
    if (lc->b) shelf_give(cs->s->shelf, lc->b);
    free(lc->symptoms);
    free(lc);
}

live_case *cases_take_live(task *t, bool *is_busy) {
    cases *cs = t->cs;
    (void)pthread_mutex_lock(&cs->lock);
    live_case *lc = cs->live;
    while (lc && lc->id != t->id) lc = lc->next;
    *is_busy = lc && lc->t;
    if (lc && !lc->t) lc->t = t;
    (void)pthread_mutex_unlock(&cs->lock);
    return *is_busy ? NULL : lc;
}

static void unlink_live(cases *cs, live_case *lc) { /* with the lock */
    for (live_case **at = &cs->live; *at; at = &(*at)->next) {
        if (*at != lc) continue;
        *at = lc->next;
        return;
    }
}

void cases_give_live(cases *cs, live_case *lc, bool keep) {
    live_case *oldest = NULL;
    size_t n = 0;
    (void)pthread_mutex_lock(&cs->lock);
    lc->t = NULL;
    lc->used_ns = clock_monotonic_ns();
    for (live_case *l = cs->live; l; l = l->next) {
        n++;
        if (!l->t && (!oldest || l->used_ns < oldest->used_ns)) oldest = l;
    }
    live_case *out = !keep ? lc : n > LIVE_MAX ? oldest : NULL;
    if (out) unlink_live(cs, out);
    (void)pthread_mutex_unlock(&cs->lock);
    if (out) close_live(cs, out);
}

void cases_forget(cases *cs, int64_t id) {
    (void)pthread_mutex_lock(&cs->lock);
    live_case *lc = cs->live;
    while (lc && (lc->id != id || lc->t)) lc = lc->next;
    if (lc) unlink_live(cs, lc);
    (void)pthread_mutex_unlock(&cs->lock);
    if (lc) close_live(cs, lc);
}

void cases_tick(cases *cs, uint64_t now_ns) {
    if (!cs) return;
    live_case *out = NULL;
    (void)pthread_mutex_lock(&cs->lock);
    for (live_case *l = cs->live; l && !out; l = l->next)
        if (!l->t && now_ns > l->used_ns && now_ns - l->used_ns > LIVE_NS) out = l;
    if (out) unlink_live(cs, out);
    (void)pthread_mutex_unlock(&cs->lock);
    if (out) close_live(cs, out);
}

/* Also the place where two requests for one case meet: the second finds the first's entry. */
live_case *cases_new_live(task *t, const char *symptoms, size_t n, galen_error *err) {
    cases *cs = t->cs;
    live_case *lc = calloc(1, sizeof *lc);
    if (lc) lc->symptoms = malloc(n + 1);
    if (!lc || !lc->symptoms) {
        free(lc);
        (void)galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
        return NULL;
    }
    memcpy(lc->symptoms, symptoms, n);
    lc->symptoms[n] = '\0';
    lc->n_symptoms = n;
    lc->id = t->id;
    lc->t = t;
    lc->seed = t->seed;
    (void)pthread_mutex_lock(&cs->lock);
    live_case *other = cs->live;
    while (other && other->id != t->id) other = other->next;
    if (!other) {
        lc->next = cs->live;
        cs->live = lc;
    }
    (void)pthread_mutex_unlock(&cs->lock);
    if (!other) return lc;
    free(lc->symptoms);
    free(lc);
    (void)galen_fail(err, GALEN_E_BUSY, 0, "this case is being worked on");
    return NULL;
}

/* ------------------------------------------------------------ workers */

typedef struct worker {
    cases *cs;
    int which;
    store *st;
} worker;

static void *work(void *arg) {
    worker w = *(worker *)arg;
    free(arg);
    lane *l = &w.cs->lanes[w.which];
    (void)pthread_mutex_lock(&w.cs->lock);
    for (;;) {
        while (!l->first && !w.cs->is_ending) (void)pthread_cond_wait(&l->ready, &w.cs->lock);
        task *t = l->first;
        if (!t) break;
        l->first = t->next;
        if (!l->first) l->last = &l->first;
        l->n--;
        (void)pthread_mutex_unlock(&w.cs->lock);
        t->run(t, w.st);
        (void)pthread_mutex_lock(&w.cs->lock);
    }
    (void)pthread_mutex_unlock(&w.cs->lock);
    return NULL;
}

static galen_status start(cases *cs, galen_error *err) {
    const store_opts so = {.path = cs->s->o.store_path};
    for (int i = 0; i < 1 + N_ASSISTANTS; i++) {
        const galen_status st = store_open(&cs->stores[i], &so, err);
        if (st) return st;
        cs->n_threads++;
        if (i == 0) {
            const galen_status bad = read_key(cs, store_path(cs->stores[0]), err);
            if (bad) return bad;
        }
        worker *w = calloc(1, sizeof *w);
        if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
        *w = (worker){cs, i > 0, cs->stores[i]};
        if (pthread_create(&cs->threads[i], NULL, work, w)) {
            free(w);
            return galen_fail(err, GALEN_E_NOMEM, 0, "a thread cannot be started");
        }
        cs->n_started++;
    }
    return GALEN_OK;
}

galen_status cases_open(cases **out, server *s, galen_error *err) {
    galen_error no_codes = {0};
    *out = NULL;
    cases *cs = calloc(1, sizeof *cs);
    if (!cs) return galen_fail(err, GALEN_E_NOMEM, 0, "out of memory");
    cs->s = s;
    (void)pthread_mutex_init(&cs->lock, NULL);
    for (int i = 0; i < 2; i++) {
        cs->lanes[i].last = &cs->lanes[i].first;
        (void)pthread_cond_init(&cs->lanes[i].ready, NULL);
    }
    if (galen_codes_open(&cs->codes, NULL, &no_codes)) log_event(s, "warning", "no_codes", "detail", no_codes.msg);
    const galen_status st = start(cs, err);
    if (st)
        cases_close(cs);
    else
        *out = cs;
    return st;
}

void cases_close(cases *cs) {
    if (!cs) return;
    (void)pthread_mutex_lock(&cs->lock);
    cs->is_ending = true;
    for (int i = 0; i < 2; i++) (void)pthread_cond_broadcast(&cs->lanes[i].ready);
    (void)pthread_mutex_unlock(&cs->lock);
    for (size_t i = 0; i < cs->n_started; i++) (void)pthread_join(cs->threads[i], NULL);
    while (cs->live) {
        live_case *lc = cs->live;
        cs->live = lc->next;
        close_live(cs, lc);
    }
    for (size_t i = 0; i < cs->n_threads; i++) store_close(cs->stores[i]);
    galen_codes_close(cs->codes);
    for (int i = 0; i < 2; i++) (void)pthread_cond_destroy(&cs->lanes[i].ready);
    (void)pthread_mutex_destroy(&cs->lock);
    explicit_bzero(cs->key, sizeof cs->key);
    free(cs);
}
