/* Who comes next. A step takes first one row of every sequence that generates; prompts share what rows are left, a page's worth
 * at a time to the client that was served least. The oldest sequence always finds pages: the youngest gives its own back. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "runtime/batch.h"

/* ---------------------------------------------------------------- clients */

/* A client that comes anew starts level with the least served of those that are here: waiting elsewhere earns nothing. */
client *client_enter(galen_batcher *b, const char *key) {
    uint64_t least = UINT64_MAX;
    for (client *c = b->clients; c; c = c->next) {
        if (strcmp(c->key, key) == 0) {
            c->n_live++;
            return c;
        }
        if (c->n_served < least) least = c->n_served;
    }
    const size_t n = strlen(key) + 1;
    client *c = malloc(sizeof *c + n);
    if (!c) return NULL;
    *c = (client){.next = b->clients, .n_served = b->clients ? least : 0, .n_live = 1};
    memcpy(c->key, key, n);
    b->clients = c;
    return c;
}

void client_leave(galen_batcher *b, client *c) {
    if (--c->n_live > 0) return;
    client **at = &b->clients;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    free(c);
}

static bool is_before(const seq *a, const seq *b) {
    return a->client->n_served != b->client->n_served ? a->client->n_served < b->client->n_served : a->order < b->order;
}

/* ---------------------------------------------------------------- pages */

static int32_t pages_for(int32_t n_tokens) {
    return (n_tokens + KV_PAGE - 1) / KV_PAGE;
}

/* Pages of somebody who does not run: of the longest idle session, else of an evaluation that waits, the youngest first; false
 * when none has any. */
static bool reclaim(galen_batcher *b) {
    seq *s = b->idle.first;
    while (s && s->n_pages == 0) s = s->next;
    if (!s) {
        s = b->waiting.last;
        while (s && s->n_pages == 0) s = s->prev;
    }
    if (s) seq_let_pages(b, s, true);
    return s != NULL;
}

static void preempt(galen_batcher *b, seq *s) {
    seq_let_pages(b, s, true);
    seq_move(b, s, SEQ_WAITING);
    b->tally.n_preemptions++;
    if (s->req) s->req->usage.n_preempted++;
}

/* Pages for n more rows, whoever must give them; false when s itself was the youngest and had to give way. */
static galen_status make_room(galen_batcher *b, seq *s, int32_t n, bool *has_room, galen_error *err) {
    for (;;) {
        const galen_status st = seq_reserve(b, s, n, has_room, err);
        if (st || *has_room) return st;
        if (reclaim(b)) continue;
        seq *youngest = b->running.last;
        preempt(b, youngest);
        if (youngest == s) return GALEN_OK;
    }
}

/* Pages that could be had without preempting anyone, less what the running still need for what they hold. */
static int32_t pages_to_spare(const galen_batcher *b) {
    const page_counts n = pages_count(b->pool);
    int32_t spare = n.n_pages - n.n_held;
    for (const seq *s = b->running.first; s; s = s->next) {
        const int32_t need = pages_for(s->n_tokens + 1) - s->n_pages;
        spare -= (need > 0 ? need : 0) + 1; /* one more each, so that what starts is not soon preempted */
    }
    for (const seq *s = b->idle.first; s; s = s->next)
        for (int32_t i = 0; i < s->n_pages; i++) spare += pages_is_private(b->pool, s->pages[i]);
    return spare;
}

static bool has_pages_to_start(const galen_batcher *b, const seq *s) {
    int32_t n_unheld;
    if (b->running.n == 0) return true;
    const int32_t known = seq_count_known(b, s, &n_unheld);
    return pages_to_spare(b) >= pages_for(s->n_tokens + 1) - s->n_pages - known + n_unheld;
}

/* ---------------------------------------------------------------- starting */

/* Whether a running sequence is just computing a page that s could share if it waited a little. */
static bool is_worth_waiting(const galen_batcher *b, const seq *s) {
    int32_t n_unheld;
    if (!b->o.has_prefix_cache || s->n_pages > 0) return false;
    const int32_t limit = seq_first_needed(s);
    int32_t longest = 0;
    for (const seq *r = b->running.first; r; r = r->next) {
        if (seq_pending(r) < 2 || r->root != s->root) continue;
        const int32_t n = r->n_tokens < limit ? r->n_tokens : limit;
        int32_t same = 0;
        while (same < n && r->tokens[same] == s->tokens[same]) same++;
        if (same > longest) longest = same;
    }
    return longest / KV_PAGE > seq_count_known(b, s, &n_unheld);
}

static galen_status start(galen_batcher *b, seq *s, galen_error *err) {
    seq_move(b, s, SEQ_RUNNING);
    request *r = s->req;
    if (r && !r->has_begun) {
        r->has_begun = true;
        r->usage.start_s = (double)(clock_monotonic_ns() - r->submitted_ns) * 1e-9;
        pthread_mutex_lock(&b->lock);
        b->n_queued--;
        pthread_mutex_unlock(&b->lock);
    }
    return seq_match(b, s, err);
}

static galen_status admit(galen_batcher *b, galen_error *err) {
    while (b->running.n < b->o.max_seqs) {
        seq *best = NULL;
        for (seq *s = b->waiting.first; s; s = s->next)
            if ((!best || is_before(s, best)) && !is_worth_waiting(b, s)) best = s;
        if (!best || !has_pages_to_start(b, best)) return GALEN_OK;
        const galen_status st = start(b, best, err);
        if (st) return st;
    }
    return GALEN_OK;
}

/* ---------------------------------------------------------------- the step */

/* Of n rows after those s has in this step, as many as at most n_out results allow; *used are those of them. */
static int32_t within_out(const seq *s, int32_t n, int32_t n_out, int32_t *used) {
    const int32_t from = s->n_done + s->n_rows;
    *used = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!seq_wants(s, from + i)) continue;
        if (*used == n_out) return i;
        ++*used;
    }
    return n;
}

static galen_status give_decodes(galen_batcher *b, int32_t *n_rows, int32_t *n_out, galen_error *err) {
    bool has_room = true;
    for (seq *s = b->running.first; s && has_room; s = s->next) {
        if (seq_pending(s) != 1) continue;
        const galen_status st = make_room(b, s, 1, &has_room, err);
        if (st) return st;
        if (!has_room) break; /* it was the last */
        s->n_rows = 1;
        s->client->n_served++;
        --*n_rows;
        --*n_out;
    }
    return GALEN_OK;
}

static galen_status give_prompts(galen_batcher *b, int32_t n_rows, int32_t n_out, galen_error *err) {
    while (n_rows > 0) {
        seq *best = NULL;
        for (seq *s = b->running.first; s; s = s->next)
            if (seq_pending(s) > 1 && seq_pending(s) > s->n_rows && (!best || is_before(s, best))) best = s;
        if (!best) return GALEN_OK;
        const int32_t to_page = KV_PAGE - (best->n_done + best->n_rows) % KV_PAGE, left = seq_pending(best) - best->n_rows;
        int32_t n = to_page < left ? to_page : left, used;
        n = within_out(best, n < n_rows ? n : n_rows, n_out, &used);
        if (n == 0) return GALEN_OK; /* no result is left to give */
        bool has_room;
        const galen_status st = make_room(b, best, best->n_rows + n, &has_room, err);
        if (st) return st;
        if (!has_room) continue;
        best->n_rows += n;
        best->client->n_served += (uint64_t)n;
        n_rows -= n;
        n_out -= used;
    }
    return GALEN_OK;
}

/* An output row; what needs its logits on the host, for whatever reason, keeps the whole step from choosing on the device. */
static void add_out(galen_batcher *b, const seq *s, int32_t pos, int32_t row, int32_t n_out) {
    b->out_row[n_out] = row;
    request *r = s->req;
    b->can_pick &=
        r && pos == s->n_tokens - 1 && !r->gen.o.grammar && r->gen.o.n_top_logprobs < 0 && r->o.n_labels == 0 && !r->branch;
    if (b->can_pick)
        b->how[n_out] = (sample_row){.how = generation_sampling(&r->gen), .history = s->tokens, .n_history = s->n_tokens};
}

static void lay_out(galen_batcher *b) {
    int32_t row = 0, n_out = 0;
    b->n_members = 0;
    b->has_pooling = false;
    b->can_pick = true;
    for (seq *s = b->running.first; s; s = s->next) {
        if (s->n_rows == 0) continue;
        s->first_row = row;
        s->first_out = n_out;
        b->tables[b->n_members] = (kv_pages){.pages = s->pages, .n_pages = s->n_pages};
        for (int32_t i = 0; i < s->n_rows; i++, row++) {
            b->pos[row] = s->n_done + i;
            b->token[row] = s->tokens[s->n_done + i];
            b->row_seq[row] = b->n_members;
            if (seq_wants(s, s->n_done + i)) add_out(b, s, s->n_done + i, row, n_out++);
        }
        b->has_pooling |= s->req && s->req->o.pooling != GALEN_POOL_NONE;
        b->members[b->n_members++] = s;
    }
    b->step = (batch){.n_rows = row,
                      .token = b->token,
                      .pos = b->pos,
                      .seq = b->row_seq,
                      .seqs = b->tables,
                      .n_seqs = b->n_members,
                      .n_out = n_out,
                      .out_row = b->out_row};
}

galen_status plan_step(galen_batcher *b, galen_error *err) {
    int32_t n_rows = b->o.n_batch, n_out = b->max_out;
    galen_status st = admit(b, err);
    for (seq *s = b->running.first; s; s = s->next) s->n_rows = 0;
    if (!st) st = give_decodes(b, &n_rows, &n_out, err);
    if (n_rows < b->o.n_batch && n_rows > b->o.n_chunk) n_rows = b->o.n_chunk;
    if (!st) st = give_prompts(b, n_rows, n_out, err);
    lay_out(b);
    return st;
}

void plan_anew(galen_batcher *b) {
    while (b->running.first) preempt(b, b->running.first);
    while (reclaim(b)) continue;
    pages_forget_all(b->pool);
}
