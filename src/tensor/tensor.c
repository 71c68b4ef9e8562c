/* The table of weight types, and views of a matrix. */
#include "tensor/tensor.h"

#include <strings.h>

#include "tensor/quants.h"

static const tensor_type_info types[TENSOR_TYPE_END] = {
#define X(id, suffix, n_weights, block)                                                                                          \
    [TENSOR_##id] = {.name = #id,                                                                                                \
                     .block_weights = (n_weights),                                                                               \
                     .block_bytes = (int32_t)sizeof(block),                                                                      \
                     .dequantise = dequantise_##suffix,                                                                          \
                     .quantise = quantise_##suffix},
    TENSOR_TYPE_TABLE(X)
#undef X
};

const tensor_type_info *tensor_type_get(uint32_t type) {
    if (type >= TENSOR_TYPE_END || !types[type].name) return NULL;
    return &types[type];
}

const tensor_type_info *tensor_type_by_name(const char *name, tensor_type *type) {
    if (!name) return NULL;
    for (int i = 0; i < TENSOR_TYPE_END; i++) {
        if (!types[i].name || strcasecmp(types[i].name, name) != 0) continue;
        if (type) *type = (tensor_type)i;
        return &types[i];
    }
    return NULL;
}

size_t tensor_row_bytes(tensor_type type, int64_t n_in) {
    const tensor_type_info *info = tensor_type_get((uint32_t)type);
    if (!info || n_in < 0) return 0;
    return (size_t)(n_in / info->block_weights) * (size_t)info->block_bytes;
}

tensor tensor_rows(const tensor *t, int64_t first, int64_t n) {
    tensor view = *t;
    view.data = tensor_row(t, first);
    view.n_out = n;
    return view;
}
