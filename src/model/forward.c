/* The one forward pass: every stage in order. Architectures differ only in the network's data. */
#include "model/model.h"

galen_status model_forward(const model *m, const backend_api *api, backend_work *w, const batch *b, float *logits,
                           galen_error *err) {
    galen_status st;
    const int32_t n_layer = model_network(m)->n_layer;
    if ((st = api->embed(w, b, err))) return st;
    for (int32_t layer = 0; layer < n_layer; layer++)
        for (stage s = STAGE_ATTN_IN; s < N_STAGES; s++)
            if ((st = api->run(w, s, layer, b, err))) return st;
    if (b->n_out > 0 && (st = api->head(w, b, logits, err))) return st;
    return api->sync(w, err);
}
