/* The one forward pass: every stage in order, each on the device that holds its layer's part. Architectures differ only in the
 * network's data.
 *
 * A large batch may run the host's parts on the other device, which fetches their weights for it (device_part.streamed). The KV
 * of such a layer stays the host's: what it holds goes to the device before attn_in, and the batch's own rows come back while the
 * next layer runs. Of some layers the device runs the feed-forward for every batch (device_part.fetched): their weights come
 * while the host computes what is before them. */
#include "model/works.h"

#include <stdlib.h>

#include "base/checked.h"
#include "tensor/log_sum.h"

enum { NONE = -1, ASK_ROWS = 32 /* fewer are over soon */ };

struct works {
    const devices *d;
    backend_work *at[MAX_DEVICES];
    int32_t max_rows;
    int32_t now;     /* the device whose hidden states are the batch's */
    int32_t kv_owed; /* a streamed layer whose new KV rows the host still lacks, or NONE */
    float *x;        /* [max_rows][n_embd] crossing */
    float *k, *v;    /* [max_rows][n_head_kv * d_head] of a streamed layer */
    bool (*goes_on)(void *user);
    void *user;
};

devices devices_of_one(const network *net, const backend_api *api, backend *b) {
    return (devices){.net = net, .n = 1, .at = {{.api = api, .b = b, .has_embed = true, .has_head = true}}};
}

/* ---------------------------------------------------------------- lifetime */

static float *rows_of(int32_t n_rows, int64_t n) {
    size_t all;
    if (!size_mul((size_t)n_rows, (size_t)n, &all) || !size_mul(all, sizeof(float), &all)) return NULL;
    return malloc(all ? all : 1);
}

static galen_status reserve_rows(works *w, galen_error *err) {
    const network *net = w->d->net;
    const int64_t n_kv = (int64_t)net->n_head_kv * net->d_head;
    if (w->d->n == 1) return GALEN_OK;
    w->x = rows_of(w->max_rows, net->n_embd);
    if (w->d->stream_rows) {
        w->k = rows_of(w->max_rows, n_kv);
        w->v = rows_of(w->max_rows, n_kv);
    }
    if (!w->x || (w->d->stream_rows && (!w->k || !w->v)))
        return galen_fail(err, GALEN_E_NOMEM, 0, "hidden states of %d rows between devices", w->max_rows);
    return GALEN_OK;
}

galen_status works_open(works **out, const devices *d, const work_limits *lim, galen_error *err) {
    galen_status st = GALEN_OK;
    *out = NULL;
    works *w = calloc(1, sizeof *w);
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "works");
    w->d = d;
    w->max_rows = lim->max_rows;
    w->kv_owed = NONE;
    for (int32_t i = d->n - 1; !st && i >= 0; i--) st = d->at[i].api->work_open(&w->at[i], d->at[i].b, lim, err);
    if (!st) st = reserve_rows(w, err);
    if (st) {
        works_close(w);
        return st;
    }
    *out = w;
    return GALEN_OK;
}

void works_close(works *w) {
    if (!w) return;
    for (int32_t i = 0; i < w->d->n; i++)
        if (w->at[i]) w->d->at[i].api->work_close(w->at[i]);
    free(w->x);
    free(w->k);
    free(w->v);
    free(w);
}

backend_work *works_alone(const works *w, const backend_api **api) {
    if (w->d->n != 1) return NULL;
    *api = w->d->at[0].api;
    return w->at[0];
}

/* ---------------------------------------------------------------- crossing */

static galen_status move_to(works *w, int32_t to, const batch *b, galen_error *err) {
    galen_status st;
    if (w->now == to) return GALEN_OK;
    if ((st = w->d->at[w->now].api->get_hidden(w->at[w->now], b, w->x, err))) return st;
    if ((st = w->d->at[to].api->set_hidden(w->at[to], b, w->x, err))) return st;
    w->now = to;
    return GALEN_OK;
}

static bool holds(const device_part *p, int32_t layer, int part) {
    return !p->parts || (p->parts[layer] & part);
}

static bool brings(const uint8_t *parts, int32_t layer, int part) {
    return parts && (parts[layer] & part);
}

/* Where a part of a layer runs for this batch. */
static int32_t device_of(const works *w, int32_t layer, int part, bool is_streaming) {
    for (int32_t i = w->d->n - 1; i > HOST; i--) {
        const device_part *p = &w->d->at[i];
        if (holds(p, layer, part) || brings(is_streaming ? p->streamed : p->fetched, layer, part)) return i;
    }
    return HOST;
}

/* ---------------------------------------------------------------- the KV of a streamed layer */

/* Rows [first, next) of the batch are one sequence's. */
static int32_t next_sequence(const batch *b, int32_t first) {
    int32_t r = first + 1;
    while (r < b->n_rows && b->seq[r] == b->seq[first]) r++;
    return r;
}

/* Positions [first, first + n) of a sequence from one device's cache to the other's. */
static galen_status copy_kv(works *w, int32_t from, int32_t to, int32_t layer, const kv_pages *seq, int32_t first, int32_t n,
                            galen_error *err) {
    galen_status st = GALEN_OK;
    for (int32_t done = 0; !st && done < n; done += w->max_rows) {
        const int32_t k = n - done < w->max_rows ? n - done : w->max_rows;
        st = w->d->at[from].api->get_kv(w->at[from], layer, seq, first + done, k, w->k, w->v, err);
        if (!st) st = w->d->at[to].api->set_kv(w->at[to], layer, seq, first + done, k, w->k, w->v, err);
    }
    return st;
}

/* What the batch's sequences hold before it. */
static galen_status lend_kv(works *w, int32_t to, int32_t layer, const batch *b, galen_error *err) {
    galen_status st = GALEN_OK;
    for (int32_t r = 0; !st && r < b->n_rows; r = next_sequence(b, r))
        st = copy_kv(w, HOST, to, layer, &b->seqs[b->seq[r]], 0, b->pos[r], err);
    return st;
}

static galen_status return_kv(works *w, int32_t from, const batch *b, galen_error *err) {
    galen_status st = GALEN_OK;
    if (w->kv_owed == NONE) return GALEN_OK;
    for (int32_t r = 0, next; !st && r < b->n_rows; r = next) {
        next = next_sequence(b, r);
        st = copy_kv(w, from, HOST, w->kv_owed, &b->seqs[b->seq[r]], b->pos[r], next - r, err);
    }
    w->kv_owed = NONE;
    return st;
}

/* ---------------------------------------------------------------- the pass */

static galen_status run_part(works *w, int32_t layer, int part, const batch *b, bool is_streaming, galen_error *err) {
    static const struct {
        stage first, end;
    } stages[] = {[PART_ATTN] = {STAGE_ATTN_IN, STAGE_FFN_IN}, [PART_FFN] = {STAGE_FFN_IN, N_STAGES}};
    const int32_t to = device_of(w, layer, part, is_streaming);
    const device_part *p = &w->d->at[to];
    const bool is_lent = part == PART_ATTN && to != HOST && !holds(p, layer, part);
    galen_status st = move_to(w, to, b, err);
    if (!st && is_lent) st = lend_kv(w, to, layer, b, err);
    for (stage s = stages[part].first; !st && s < stages[part].end; s++) st = p->api->run(w->at[to], s, layer, b, err);
    if (!st && is_lent) {
        st = return_kv(w, to, b, err); /* of the layer before */
        w->kv_owed = layer;
    }
    return st;
}

void works_ask(works *w, bool (*goes_on)(void *user), void *user) {
    w->goes_on = goes_on;
    w->user = user;
}

static galen_status ask(const works *w, const batch *b, galen_error *err) {
    if (!w->goes_on || b->n_rows < ASK_ROWS || w->goes_on(w->user)) return GALEN_OK;
    return galen_fail(err, GALEN_E_CANCELLED, 0, "cancelled");
}

/* Every layer; *last is the device of the head, and has the hidden states. */
static galen_status run_layers(works *w, const batch *b, int32_t *last, galen_error *err) {
    const devices *d = w->d;
    const bool is_streaming = d->stream_rows && b->n_rows >= d->stream_rows;
    galen_status st;
    *last = HOST;
    w->now = device_of(w, 0, PART_ATTN, is_streaming);
    if (!d->at[w->now].has_embed) w->now = w->now == HOST ? d->n - 1 : HOST;
    if ((st = d->at[w->now].api->embed(w->at[w->now], b, err))) return st;
    for (int32_t layer = 0; layer < d->net->n_layer; layer++) {
        if ((st = run_part(w, layer, PART_ATTN, b, is_streaming, err))) return st;
        if ((st = ask(w, b, err))) return st;
        if ((st = run_part(w, layer, PART_FFN, b, is_streaming, err))) return st;
        if ((st = ask(w, b, err))) return st;
    }
    if (w->kv_owed != NONE && (st = return_kv(w, d->n - 1, b, err))) return st;
    if (b->n_out == 0) return GALEN_OK;
    while (!d->at[*last].has_head) ++*last;
    return move_to(w, *last, b, err);
}

static galen_status sync_all(works *w, galen_status st, galen_error *err) {
    for (int32_t i = 0; i < w->d->n; i++) {
        galen_error late;
        const galen_status s = w->d->at[i].api->sync(w->at[i], &late);
        if (s && !st) {
            st = s;
            if (err) *err = late;
        }
    }
    return st;
}

galen_status works_forward(works *w, const batch *b, float *logits, galen_error *err) {
    int32_t last;
    galen_status st = run_layers(w, b, &last, err);
    if (!st && b->n_out > 0) st = w->d->at[last].api->head(w->at[last], b, logits, err);
    return sync_all(w, st, err);
}

galen_status works_choose(works *w, const batch *b, const sample_row *rows, sample_choice *out, bool *is_chosen, float *logits,
                          galen_error *err) {
    int32_t last;
    galen_status st = run_layers(w, b, &last, err);
    *is_chosen = false;
    if (!st && b->n_out > 0) {
        const backend_api *api = w->d->at[last].api;
        st = api->sample ? api->sample(w->at[last], b, rows, out, err) : GALEN_E_UNSUPPORTED;
        *is_chosen = !st;
        if (st == GALEN_E_UNSUPPORTED || st == GALEN_E_ARG) st = api->head(w->at[last], b, logits, err);
    }
    return sync_all(w, st, err);
}

/* Output rows [from, from + n) of a batch, read from their logits. */
static void read_rows(const read_list *list, int32_t from, int32_t n, const float *logits, int32_t n_vocab) {
    for (int32_t r = from; r < from + n; r++, logits += n_vocab) {
        if (list->first[r] == list->first[r + 1]) continue;
        const double sum = log_sum(logits, n_vocab);
        for (int32_t i = list->first[r]; i < list->first[r + 1]; i++) list->out[i] = (double)logits[list->ids[i]] - sum;
    }
}

/* The hidden states stay, so the head can come as often as its logits take room. */
static galen_status read_here(works *w, int32_t last, const batch *b, const read_list *list, float *room, int32_t n_room,
                              galen_error *err) {
    const backend_api *api = w->d->at[last].api;
    const int32_t n_vocab = w->d->net->n_vocab;
    galen_status st = GALEN_OK;
    for (int32_t r = 0; r < b->n_out && !st; r += n_room) {
        batch part = *b;
        part.out_row = b->out_row + r;
        part.n_out = b->n_out - r < n_room ? b->n_out - r : n_room;
        st = api->head(w->at[last], &part, room, err);
        if (!st) st = api->sync(w->at[last], err);
        if (!st) read_rows(list, r, part.n_out, room, n_vocab);
    }
    return st;
}

galen_status works_read(works *w, const batch *b, const read_list *list, float *room, int32_t n_room, galen_error *err) {
    int32_t last;
    galen_status st = run_layers(w, b, &last, err);
    if (!st && b->n_out > 0) {
        const backend_api *api = w->d->at[last].api;
        st = api->read ? api->read(w->at[last], b, list, err) : read_here(w, last, b, list, room, n_room, err);
    }
    return sync_all(w, st, err);
}

galen_status works_hidden(works *w, const batch *b, float *x, galen_error *err) {
    return w->d->at[w->now].api->get_hidden(w->at[w->now], b, x, err);
}

galen_status works_copy_page(works *w, int32_t to, int32_t from, galen_error *err) {
    galen_status st = GALEN_OK;
    for (int32_t i = 0; !st && i < w->d->n; i++) st = w->d->at[i].api->copy_page(w->at[i], to, from, err);
    return st;
}

bool works_can_copy_pages(const works *w) {
    bool can = true;
    for (int32_t i = 0; i < w->d->n; i++) can &= w->d->at[i].api->copy_page != NULL;
    return can;
}
