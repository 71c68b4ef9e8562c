/* backend_api.read: the head's products, then what is wanted of each row, HEAD_ROWS at a time. */
#include "backend/cuda/read.h"

#include <string.h>

#include "backend/cuda/impl.h"

size_t cuda_list_ints(const work_limits *lim) {
    return (size_t)lim->max_out + 1 + READ_IDS;
}

static galen_status check_list(const backend_work *w, const batch *b, const read_list *list, galen_error *err) {
    const int32_t n = list->first[b->n_out];
    if (b->n_out < 1 || b->n_out > w->lim.max_out || n > READ_IDS)
        return galen_fail(err, GALEN_E_ARG, 0, "%d log-probabilities of %d rows; at most %d of %d", n, b->n_out, READ_IDS,
                          w->lim.max_out);
    for (int32_t i = 0; i < n; i++)
        if (list->ids[i] < 0 || list->ids[i] >= w->b->net->n_vocab)
            return galen_fail(err, GALEN_E_RANGE, (uint64_t)i, "token %d of a vocabulary of %d", list->ids[i],
                              w->b->net->n_vocab);
    return GALEN_OK;
}

static galen_status read_rows(backend_work *w, int32_t n_out, galen_error *err) {
    read_args a = {.n_vocab = w->b->net->n_vocab, .logits = w->buf.logits, .ids = w->buf.lists + n_out + 1, .out = w->buf.read};
    for (int32_t r = 0; r < n_out; r += HEAD_ROWS) {
        a.n_rows = n_out - r < HEAD_ROWS ? n_out - r : HEAD_ROWS;
        a.first = w->buf.lists + r;
        const galen_status st = cuda_queue_logits(w, r, a.n_rows, w->buf.logits, err);
        if (st) return st;
        const int e = cuda_read_rows(&w->queue, &a);
        if (e) return cuda_fail(err, e, "reading log-probabilities");
    }
    return GALEN_OK;
}

galen_status cuda_read(backend_work *w, const batch *b, const read_list *list, galen_error *err) {
    const size_t n = (size_t)list->first[b->n_out], n_first = (size_t)b->n_out + 1;
    galen_status st = check_list(w, b, list, err);
    if (st) return st;
    if ((st = cuda_begin_sample(w, err))) return st;
    memcpy(w->lists, list->first, n_first * sizeof *w->lists);
    memcpy(w->lists + n_first, list->ids, n * sizeof *w->lists);
    int e = cudaMemcpyAsync(w->buf.lists, w->lists, (n_first + n) * sizeof *w->lists, cudaMemcpyHostToDevice, w->queue.stream);
    w->queue.is_chained = false;
    st = e ? cuda_fail(err, e, "reading log-probabilities") : read_rows(w, b->n_out, err);
    if (!st) {
        w->queue.is_chained = false;
        e = cudaMemcpyAsync(w->read, w->buf.read, n * sizeof *w->read, cudaMemcpyDeviceToHost, w->queue.stream);
        if (e) st = cuda_fail(err, e, "reading log-probabilities");
    }
    w->read_to = list->out;
    w->n_read = st ? 0 : n;
    return cuda_remember(w, st, err);
}
