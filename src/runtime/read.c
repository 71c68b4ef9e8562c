/* Reading branches: log-probabilities of given tokens, nothing sampled. */
#include <math.h>
#include <stdlib.h>

#include "runtime/batch.h"
#include "runtime/branches.h"

enum { ROOM = 16 }; /* rows of logits, on a backend that does not read itself */

/* A reading under way. */
typedef struct reading {
    branches b;
    const galen_branch *in; /* [n] */
    int32_t *next;          /* [n] wanted by each branch from here on */
    int32_t *first, *ids;   /* of the batch's read_list */
    double *out;
    float *room;
    uint64_t n_done, n_all; /* tokens */
} reading;

/* Those of one branch that are wanted after pos: how many from `from` on. */
static int32_t count_at(const galen_branch *in, int32_t from, int32_t at) {
    int32_t n = 0;
    while (from + n < in->n_wanted && in->after[from + n] == at) n++;
    return n;
}

static int32_t wants(void *ctx, int32_t i, int32_t pos) {
    const reading *r = ctx;
    const int32_t at = pos - r->b.s->n_past;
    const galen_branch *in = &r->in[i];
    int32_t from = r->next[i];
    while (from < in->n_wanted && in->after[from] < at) from++; /* of rows before it in the batch */
    return count_at(in, from, at);
}

/* The batch's list, in the order of its output rows. */
static void list_wanted(reading *r) {
    const branches *b = &r->b;
    int32_t n = 0, from = 0, of = -1;
    for (int32_t o = 0; o < b->batch.n_out; o++) {
        if (b->out_of[o] != of) from = r->next[of = b->out_of[o]];
        const int32_t k = count_at(&r->in[of], from, b->pos[b->out_row[o]] - b->s->n_past);
        r->first[o] = n;
        for (int32_t i = 0; i < k; i++) r->ids[n++] = r->in[of].ids[from++];
    }
    r->first[b->batch.n_out] = n;
}

static galen_status hand_out(reading *r, galen_error *err) {
    const branches *b = &r->b;
    for (int32_t o = 0; o < b->batch.n_out; o++) {
        const int32_t of = b->out_of[o];
        for (int32_t i = r->first[o]; i < r->first[o + 1]; i++) {
            if (isnan(r->out[i]))
                return galen_fail(err, GALEN_E_NUMERIC, 0,
                                  "branch %d: a logit is not finite: the model's weights or its file are damaged", of);
            r->in[of].logprobs[r->next[of]++] = r->out[i];
        }
    }
    return GALEN_OK;
}

static galen_status read_batch(reading *r, galen_error *err) {
    galen_session *s = r->b.s;
    galen_error why = {0};
    list_wanted(r);
    const read_list list = {.first = r->first, .ids = r->ids, .out = r->out};
    galen_status st = gguf_check(s->model->file, &why);
    if (!st) st = works_read(s->where.works, &r->b.batch, &list, r->room, ROOM, &why);
    if (st) return branches_recover(&r->b, st, &why, err);
    branches_advance(&r->b);
    if ((st = hand_out(r, err))) return st;
    r->n_done += (uint64_t)r->b.batch.n_rows;
    const uint64_t done = r->n_done < r->n_all ? r->n_done : r->n_all;
    if (!s->progress || s->progress(s->progress_user, done, r->n_all) || done == r->n_all) return GALEN_OK;
    return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled after %llu of %llu tokens", (unsigned long long)r->n_done,
                      (unsigned long long)r->n_all);
}

static galen_status open_reading(reading *r, galen_session *s, const galen_branch *in, int32_t n, galen_error *err) {
    galen_status st = branches_open(&r->b, s, n, s->n_batch, err);
    if (st) return st;
    arena *mem = &r->b.mem;
    r->in = in;
    r->next = arena_alloc(mem, (size_t)n, sizeof *r->next);
    r->first = arena_alloc(mem, (size_t)s->n_batch + 1, sizeof *r->first);
    r->ids = arena_alloc(mem, READ_IDS, sizeof *r->ids);
    r->out = arena_alloc(mem, READ_IDS, sizeof *r->out);
    r->room = branches_room(s, ROOM);
    if (!r->next || !r->first || !r->ids || !r->out || !r->room)
        return galen_fail(err, GALEN_E_NOMEM, 0, "reading %d branches", n);
    for (int32_t i = 0; i < n; i++) {
        r->b.all[i].tokens = in[i].tokens;
        r->b.all[i].n_tokens = r->b.all[i].n_most = s->n_past + in[i].n_tokens;
        r->n_all += (uint64_t)in[i].n_tokens;
    }
    return GALEN_OK;
}

static galen_status read_alone(galen_session *s, const galen_branch *in, int32_t n, galen_error *err) {
    reading r = {0};
    bool is_over = false;
    galen_status st = open_reading(&r, s, in, n, err);
    while (!st && !(st = branches_next_wave(&r.b, &is_over, err)) && !is_over)
        while (!st && branches_fill(&r.b, wants, &r, READ_IDS)) st = read_batch(&r, err);
    branches_close(&r.b);
    return st;
}

static galen_status check_wanted(const galen_session *s, int32_t index, const galen_branch *in, galen_error *err) {
    const int32_t n_vocab = s->model->info.n_vocab;
    if (in->n_wanted < 0 || (in->n_wanted && (!in->after || !in->ids || !in->logprobs)))
        return galen_fail(err, GALEN_E_ARG, 0, "branch %d: %d wanted", index, in->n_wanted);
    int32_t before = 0, n_same = 0;
    for (int32_t i = 0; i < in->n_wanted; i++) {
        if (in->after[i] < before || in->after[i] >= in->n_tokens)
            return galen_fail(err, GALEN_E_ARG, (uint64_t)i, "branch %d: after[%d] is %d, expected %d to %d", index, i,
                              in->after[i], before, in->n_tokens - 1);
        if (in->ids[i] < 0 || in->ids[i] >= n_vocab)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "branch %d: wanted token %d is %d, expected 0 to %d", index, i,
                              in->ids[i], n_vocab - 1);
        n_same = in->after[i] == before ? n_same + 1 : 1;
        before = in->after[i];
        if (n_same > READ_IDS)
            return galen_fail(err, GALEN_E_ARG, (uint64_t)i, "branch %d: more than %d wanted after token %d", index, READ_IDS,
                              before);
    }
    return GALEN_OK;
}

galen_status galen_session_read(galen_session *s, const galen_branch *in, int32_t n, galen_error *err) {
    galen_status st = GALEN_OK;
    if (s->is_broken) return galen_fail(err, GALEN_E_DEVICE, 0, "the device failed earlier; the session can only be closed");
    if (n < 0 || (n && !in)) return galen_fail(err, GALEN_E_ARG, 0, "%d branches", n);
    for (int32_t i = 0; i < n && !st; i++) {
        st = branches_check(s, i, in[i].tokens, in[i].n_tokens, 0, err);
        if (!st) st = check_wanted(s, i, &in[i], err);
    }
    if (st || n == 0) return st;
    return s->seat ? seat_read(s, in, n, err) : read_alone(s, in, n, err);
}
