/* Layers of the host's that this device runs for a large batch: weights fetched as the batch goes on, KV lent for the while. */
#ifndef GALEN_BACKEND_CUDA_STREAM_H
#define GALEN_BACKEND_CUDA_STREAM_H

#include "backend/cuda/impl.h"

/** Device bytes of a work's streaming; 0 when cfg streams nothing. layer_bytes of the KV of one layer. Pure. */
size_t cuda_stream_bytes(const network *net, const backend_config *cfg, const work_limits *lim, size_t layer_bytes, bool *is_bad);

galen_status cuda_stream_open(backend_work *w, galen_error *err);
void cuda_stream_close(backend_work *w);

static inline bool cuda_is_streamed(const backend *b, stage s, int32_t layer) {
    return !(b->parts[layer] & (s <= STAGE_ATTN_OUT ? PART_ATTN : PART_FFN));
}

/** Before and after a stage of a layer that does not live here is queued; of a recorded batch, before its part and after it.
 */
galen_status cuda_stream_begin(backend_work *w, stage s, int32_t layer, galen_error *err);
galen_status cuda_stream_end(backend_work *w, stage s, int32_t layer, galen_error *err);

galen_status cuda_get_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, float *k, float *v,
                         galen_error *err);
galen_status cuda_set_kv(backend_work *w, int32_t layer, const kv_pages *seq, int32_t first, int32_t n, const float *k,
                         const float *v, galen_error *err);

#endif
