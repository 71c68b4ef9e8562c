/* Sequences and their pages: what is known already is taken up, what is sound becomes known, nothing shared is written to. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"

galen_status seq_open(seq **out, int32_t n_ctx, const char *client_key, const char *salt, galen_error *err) {
    *out = NULL;
    seq *s = calloc(1, sizeof *s);
    if (!s) return galen_fail(err, GALEN_E_NOMEM, 0, "sequence");
    s->root = PAGE_NONE;
    s->cap_tokens = n_ctx + 1;
    client_key = client_key ? client_key : "";
    salt = salt ? salt : "";
    s->tokens = arena_alloc(&s->mem, (size_t)s->cap_tokens, sizeof *s->tokens);
    s->pages = arena_alloc(&s->mem, (size_t)(n_ctx - 1) / KV_PAGE + 1, sizeof *s->pages);
    s->client_key = arena_strndup(&s->mem, client_key, strlen(client_key));
    s->salt = arena_strndup(&s->mem, salt, strlen(salt));
    if (s->tokens && s->pages && s->client_key && s->salt) {
        *out = s;
        return GALEN_OK;
    }
    seq_close(s);
    return galen_fail(err, GALEN_E_NOMEM, 0, "a sequence of %d tokens", n_ctx);
}

void seq_close(seq *s) {
    if (!s) return;
    assert(s->n_pages == 0);
    arena_free(&s->mem);
    free(s);
}

/* ---------------------------------------------------------------- lists */

void seq_list_add(seq_list *l, seq *s, bool is_by_order) {
    seq *before = l->last;
    while (is_by_order && before && before->order > s->order) before = before->prev;
    s->prev = before;
    s->next = before ? before->next : l->first;
    *(before ? &before->next : &l->first) = s;
    *(s->next ? &s->next->prev : &l->last) = s;
    l->n++;
}

void seq_list_remove(seq_list *l, seq *s) {
    *(s->prev ? &s->prev->next : &l->first) = s->next;
    *(s->next ? &s->next->prev : &l->last) = s->prev;
    s->prev = s->next = NULL;
    l->n--;
}

static seq_list *list_of(galen_batcher *b, seq_state state) {
    return state == SEQ_WAITING ? &b->waiting : state == SEQ_RUNNING ? &b->running : state == SEQ_IDLE ? &b->idle : NULL;
}

void seq_move(galen_batcher *b, seq *s, seq_state to) {
    if (s->state != SEQ_NEW) seq_list_remove(list_of(b, s->state), s);
    s->state = to;
    s->n_rows = 0;
    if (to != SEQ_NEW) seq_list_add(list_of(b, to), s, to != SEQ_IDLE);
}

/* ---------------------------------------------------------------- what is wanted of it */

int32_t seq_first_needed(const seq *s) {
    int32_t first = s->n_tokens - 1;
    if (s->seat) return s->seat->is_all && s->n_out < first ? s->n_out : first;
    const galen_request_opts *o = &s->req->o;
    first -= s->req->n_forced;
    const galen_branch *branch = s->req->branch;
    if (branch && s->req->n_read < branch->n_wanted && s->req->n_before + branch->after[s->req->n_read] < first)
        first = s->req->n_before + branch->after[s->req->n_read];
    const int32_t score = o->score_from > 1 ? o->score_from - 1 : 0, scored = score > s->n_out ? score : s->n_out;
    if (o->score_from >= 0 && scored < o->n_prompt - 1 && scored < first) first = scored;
    if (o->pooling == GALEN_POOL_MEAN && s->req->n_pooled < o->n_prompt && s->req->n_pooled < first) first = s->req->n_pooled;
    return first;
}

bool seq_wants(const seq *s, int32_t pos) {
    if (pos < s->n_out) return false;
    if (pos == s->n_tokens - 1) return true;
    if (s->seat) return s->seat->is_all;
    if (pos >= s->n_tokens - 1 - s->req->n_forced) return true;
    if (s->req->branch) return branch_count(s->req, pos) > 0;
    const galen_request_opts *o = &s->req->o;
    return o->score_from >= 0 && pos + 1 >= o->score_from && pos + 1 < o->n_prompt;
}

/* ---------------------------------------------------------------- pages */

static int32_t parent_of(const seq *s, int32_t page) {
    return page > 0 ? s->pages[page - 1] : s->root;
}

int32_t seq_count_known(const galen_batcher *b, const seq *s, int32_t *n_unheld) {
    int32_t n = 0, parent = s->root;
    *n_unheld = 0;
    if (!b->o.has_prefix_cache || s->n_pages > 0) return 0;
    for (const int32_t limit = seq_first_needed(s); (n + 1) * KV_PAGE <= limit; n++) {
        parent = pages_find(b->pool, parent, s->tokens + n * KV_PAGE);
        if (parent == PAGE_NONE) break;
        *n_unheld += !pages_is_held(b->pool, parent);
    }
    return n;
}

static void trim(galen_batcher *b, seq *s) {
    const int32_t n = (s->n_done + KV_PAGE - 1) / KV_PAGE;
    while (s->n_pages > n) pages_let(b->pool, s->pages[--s->n_pages]);
    if (s->n_known > s->n_done / KV_PAGE) s->n_known = s->n_done / KV_PAGE;
    if (s->n_sound > s->n_done) s->n_sound = s->n_done;
}

/* The beginning of a known page, copied into one of our own. */
static galen_status match_part(galen_batcher *b, seq *s, int32_t limit, galen_error *err) {
    int32_t n_same;
    if (limit <= s->n_done || !device_can_copy(b)) return GALEN_OK;
    const int32_t n = limit - s->n_done < KV_PAGE ? limit - s->n_done : KV_PAGE;
    const int32_t from = pages_find_part(b->pool, parent_of(s, s->n_known), s->tokens + s->n_done, n, &n_same);
    if (from == PAGE_NONE) return GALEN_OK;
    pages_hold(b->pool, from); /* or it might be the one that is taken */
    const int32_t to = pages_take(b->pool);
    const galen_status st = to == PAGE_NONE ? GALEN_OK : device_copy_page(b, to, from, err);
    pages_let(b->pool, from);
    if (to == PAGE_NONE) return GALEN_OK;
    s->pages[s->n_pages++] = to;
    s->n_done += n_same;
    s->n_sound = s->n_done;
    return st;
}

galen_status seq_match(galen_batcher *b, seq *s, galen_error *err) {
    if (!b->o.has_prefix_cache || s->n_done % KV_PAGE != 0 || s->n_known != s->n_done / KV_PAGE) return GALEN_OK;
    trim(b, s);
    const int32_t limit = seq_first_needed(s), begin = s->n_done;
    while (s->n_done + KV_PAGE <= limit) {
        const int32_t page = pages_find(b->pool, parent_of(s, s->n_known), s->tokens + s->n_done);
        if (page == PAGE_NONE) break;
        pages_hold(b->pool, page);
        s->pages[s->n_pages++] = page;
        s->n_known++;
        s->n_done += KV_PAGE;
        s->n_sound = s->n_done;
    }
    const galen_status st = match_part(b, s, limit, err);
    b->tally.n_cached_tokens += (uint64_t)(s->n_done - begin);
    if (s->req && s->req->usage.n_preempted == 0) s->req->usage.n_cached = s->n_done;
    return st;
}

galen_status seq_reserve(galen_batcher *b, seq *s, int32_t n, bool *is_enough, galen_error *err) {
    const int32_t at = s->n_done / KV_PAGE;
    *is_enough = false;
    if (s->n_done % KV_PAGE != 0 && !pages_is_private(b->pool, s->pages[at])) {
        const int32_t to = pages_take(b->pool);
        if (to == PAGE_NONE) return GALEN_OK;
        const galen_status st = device_copy_page(b, to, s->pages[at], err);
        pages_let(b->pool, s->pages[at]);
        s->pages[at] = to;
        if (st) return st;
    }
    while (s->n_pages * KV_PAGE < s->n_done + n) {
        const int32_t page = pages_take(b->pool);
        if (page == PAGE_NONE) return GALEN_OK;
        s->pages[s->n_pages++] = page;
    }
    *is_enough = true;
    return GALEN_OK;
}

void seq_publish(galen_batcher *b, seq *s) {
    if (!b->o.has_prefix_cache) return;
    for (int32_t i = s->n_known; (i + 1) * KV_PAGE <= s->n_sound; i++) {
        s->pages[i] = pages_publish(b->pool, parent_of(s, i), s->pages[i], s->tokens + i * KV_PAGE, KV_PAGE);
        s->n_known = i + 1;
    }
}

void seq_let_pages(galen_batcher *b, seq *s, bool is_kept) {
    trim(b, s);
    const int32_t last = s->n_pages - 1, n = s->n_done - last * KV_PAGE;
    if (is_kept && b->o.has_prefix_cache && n > 0 && n < KV_PAGE && s->n_sound == s->n_done && s->n_known == last &&
        pages_is_private(b->pool, s->pages[last]))
        s->pages[last] = pages_publish(b->pool, parent_of(s, last), s->pages[last], s->tokens + last * KV_PAGE, n);
    s->n_done = 0;
    trim(b, s);
}

void seq_rewind(galen_batcher *b, seq *s, int32_t n) {
    s->n_tokens = n;
    if (s->n_done > n) s->n_done = n;
    if (s->n_done % KV_PAGE != 0 && !device_can_copy(b) && !pages_is_private(b->pool, s->pages[s->n_done / KV_PAGE]))
        s->n_done -= s->n_done % KV_PAGE;
    trim(b, s);
}
