/* The one place where the batcher meets the device. */
#include "runtime/batch.h"

galen_status device_open(galen_batcher *b, kv_type kv, int32_t n_pages, galen_error *err) {
    const work_limits lim = {
        .max_rows = b->o.n_batch, .max_out = b->max_out, .n_ctx = b->o.n_ctx, .n_pages = n_pages, .kv = kv, .is_uniform = true};
    return placed_open(&b->where, b->m->placer, &lim, err);
}

void device_close(galen_batcher *b) {
    placed_close(&b->where);
}

galen_status device_run(galen_batcher *b, bool *is_moved, galen_error *err) {
    galen_error why = {0};
    *is_moved = false;
    galen_status st = gguf_check(b->m->file, &why);
    b->is_picked = false;
    if (!st && b->can_pick)
        st = works_choose(b->where.works, &b->step, b->how, b->picks, &b->is_picked, b->logits, &why);
    else if (!st)
        st = works_forward(b->where.works, &b->step, b->logits, &why);
    if (!st && b->has_pooling) st = works_hidden(b->where.works, &b->step, b->hidden, &why);
    if (!st) return GALEN_OK;
    *is_moved = placed_can_recover(&b->where, st);
    if (*is_moved) return placed_recover(&b->where, &why, err);
    return galen_fail(err, st, why.offset, "%s", why.msg);
}

bool device_can_copy(const galen_batcher *b) {
    return works_can_copy_pages(b->where.works);
}

galen_status device_copy_page(galen_batcher *b, int32_t to, int32_t from, galen_error *err) {
    return works_copy_page(b->where.works, to, from, err);
}
