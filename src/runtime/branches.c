#include "runtime/branches.h"

#include <stdlib.h>

#include "base/checked.h"

galen_status branches_check(const galen_session *s, int32_t index, const int32_t *tokens, int32_t n_tokens, int32_t n_more,
                            galen_error *err) {
    const int32_t n_vocab = s->model->info.n_vocab;
    if (n_tokens < 1 || !tokens)
        return galen_fail(err, GALEN_E_ARG, 0, "branch %d: %d tokens, expected 1 or more", index, n_tokens);
    if ((int64_t)s->n_past + n_tokens + n_more > s->n_ctx)
        return galen_fail(err, GALEN_E_FULL, 0,
                          "branch %d: %d tokens after %d, and %d to come, need a context of %lld; this one holds %d", index,
                          n_tokens, s->n_past, n_more, (long long)s->n_past + n_tokens + n_more, s->n_ctx);
    for (int32_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "branch %d: token %d is %d, expected 0 to %d", index, i, tokens[i],
                              n_vocab - 1);
    return GALEN_OK;
}

float *branches_room(galen_session *s, int32_t n) {
    size_t bytes;
    if (n <= s->n_room) return s->room;
    free(s->room);
    s->n_room = 0;
    s->room = NULL;
    if (!size_mul((size_t)n * sizeof(float), (size_t)s->model->info.n_vocab, &bytes)) return NULL;
    s->room = malloc(bytes);
    if (s->room) s->n_room = n;
    return s->room;
}

galen_status branches_open(branches *b, galen_session *s, int32_t n, int32_t most_out, galen_error *err) {
    const size_t rows = (size_t)s->n_batch, all = (size_t)n, pages = (size_t)s->n_pages;
    *b = (branches){.s = s, .n = n, .most_out = most_out < s->n_batch ? most_out : s->n_batch};
    b->all = arena_alloc(&b->mem, all, sizeof *b->all);
    b->tables = arena_alloc(&b->mem, all, sizeof *b->tables);
    b->token = arena_alloc(&b->mem, rows, sizeof *b->token);
    b->pos = arena_alloc(&b->mem, rows, sizeof *b->pos);
    b->seq = arena_alloc(&b->mem, rows, sizeof *b->seq);
    b->out_row = arena_alloc(&b->mem, rows, sizeof *b->out_row);
    b->out_of = arena_alloc(&b->mem, rows, sizeof *b->out_of);
    bool is_bad = !b->all || !b->tables || !b->token || !b->pos || !b->seq || !b->out_row || !b->out_of;
    for (int32_t i = 0; i < n && !is_bad; i++)
        is_bad = !(b->all[i].pages = arena_alloc(&b->mem, pages ? pages : 1, sizeof *b->all[i].pages));
    return is_bad ? galen_fail(err, GALEN_E_NOMEM, 0, "%d branches of a session", n) : GALEN_OK;
}

void branches_close(branches *b) {
    arena_free(&b->mem);
}

/* ---------------------------------------------------------------- waves */

static int32_t pages_for(int32_t n_positions) {
    return (n_positions + KV_PAGE - 1) / KV_PAGE;
}

/* The session's KV as the beginning of each branch of the wave. */
static galen_status begin_wave(branches *b, galen_error *err) {
    const galen_session *s = b->s;
    const int32_t at = s->n_past / KV_PAGE;
    const bool has_part = s->n_past % KV_PAGE != 0, can_copy = works_can_copy_pages(s->where.works);
    galen_status st = GALEN_OK;
    for (int32_t i = b->first; i < b->end && !st; i++) {
        branch *one = &b->all[i];
        const bool is_copied = has_part && i > b->first;
        one->n_done = is_copied && !can_copy ? at * KV_PAGE : s->n_past;
        if (is_copied && can_copy) st = works_copy_page(s->where.works, one->pages[at], s->pages[at], err);
    }
    return st;
}

galen_status branches_next_wave(branches *b, bool *is_over, galen_error *err) {
    const galen_session *s = b->s;
    const int32_t n_shared = s->n_past / KV_PAGE;
    int32_t used = 0, free_end = s->n_pages; /* of the session's pages: below used, from free_end on */
    b->first = b->end;
    *is_over = b->first == b->n;
    if (*is_over) return GALEN_OK;
    for (; b->end < b->n; b->end++) {
        branch *one = &b->all[b->end];
        const int32_t n = pages_for(one->n_most);
        const bool is_own = b->end == b->first; /* in the session's pages */
        if (!is_own && free_end - (n - n_shared) < used) break;
        if (is_own) used = n;
        for (int32_t p = 0; p < n; p++) one->pages[p] = is_own || p < n_shared ? s->pages[p] : s->pages[--free_end];
    }
    return begin_wave(b, err);
}

/* ---------------------------------------------------------------- batches */

static int32_t token_at(const branches *b, const branch *one, int32_t pos) {
    const galen_session *s = b->s;
    return pos < s->n_past ? s->history[pos] : one->tokens[pos - s->n_past];
}

bool branches_fill(branches *b, branch_wants wants, void *ctx, int32_t most) {
    int32_t row = 0, n_out = 0, n_seqs = 0;
    bool is_full = false;
    for (int32_t i = b->first; i < b->end; i++) {
        branch *one = &b->all[i];
        one->n_rows = 0;
        for (int32_t pos = one->n_done; pos < one->n_tokens && !is_full && !one->is_over; pos++) {
            const int32_t n = wants(ctx, i, pos);
            is_full = row == b->s->n_batch || n > most || (n && n_out == b->most_out);
            if (is_full) break;
            if (n) {
                b->out_row[n_out] = row;
                b->out_of[n_out++] = i;
                most -= n;
            }
            b->token[row] = token_at(b, one, pos);
            b->pos[row] = pos;
            b->seq[row++] = n_seqs;
            one->n_rows++;
        }
        if (one->n_rows) b->tables[n_seqs++] = (kv_pages){.pages = one->pages, .n_pages = pages_for(one->n_most)};
    }
    b->batch = (batch){.n_rows = row,
                       .token = b->token,
                       .pos = b->pos,
                       .seq = b->seq,
                       .seqs = b->tables,
                       .n_seqs = n_seqs,
                       .n_out = n_out,
                       .out_row = b->out_row};
    return row > 0;
}

void branches_advance(branches *b) {
    for (int32_t i = b->first; i < b->end; i++) b->all[i].n_done += b->all[i].n_rows;
}

galen_status branches_recover(branches *b, galen_status st, const galen_error *why, galen_error *err) {
    galen_session *s = b->s;
    if (!placed_can_recover(&s->where, st)) {
        s->is_broken = true;
        return galen_fail(err, st, why->offset, "%s", why->msg);
    }
    st = session_recover(s, s->n_past, why, err);
    if (!st) st = begin_wave(b, err);
    s->is_broken = st != GALEN_OK;
    return st;
}
