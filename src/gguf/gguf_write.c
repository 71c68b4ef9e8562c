/* The writer: metadata and tensor records gather in memory, tensor data streams through. The layout is drawn in gguf_read.c.
 * A file written here is one that gguf_parse accepts: the same limits hold. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "gguf/gguf_impl.h"

/* Bytes that grow. */
typedef struct buffer {
    uint8_t *p;
    size_t n, cap;
} buffer;

typedef struct out_tensor {
    gguf_str name; /* first, for the index; the writer's own copy */
    uint64_t ne[GGUF_MAX_DIMS];
    uint32_t n_dims, type;
    uint64_t n_bytes;
} out_tensor;

typedef struct out_key {
    gguf_str name; /* first, for the index; the writer's own copy */
} out_key;

typedef enum stage { STAGE_METADATA, STAGE_DATA, STAGE_ENDED } stage;

struct gguf_writer {
    uint32_t version;
    uint64_t alignment; /* 0 while the writer is being opened */
    gguf_sink sink;
    void *user;
    buffer kv;     /* encoded pairs */
    buffer header; /* built by gguf_write_header */
    out_key *keys;
    size_t n_keys, keys_cap;
    out_tensor *tensors;
    size_t n_tensors, tensors_cap;
    stage stage;
    galen_status failed; /* of the sink: what was written is unknown, so nothing follows */
    size_t current;      /* tensor that the next bytes belong to */
    uint64_t written;    /* of its bytes */
};

/* ---- growing ---- */

/* Room for n more, b->p not NULL; false when memory is out, and nothing changes. */
static bool reserve(buffer *b, uint64_t n) {
    size_t want, cap;
    if (n > SIZE_MAX || !size_add(b->n, (size_t)n, &want)) return false;
    if (b->p && want <= b->cap) return true;
    if (!size_add(want, want / 2 + 64, &cap)) return false;
    uint8_t *p = realloc(b->p, cap);
    if (!p) return false;
    b->p = p;
    b->cap = cap;
    return true;
}

/* Room for one more record. */
static bool reserve_record(void **records, size_t n, size_t *cap, size_t size) {
    size_t total;
    if (n < *cap) return true;
    const size_t more = *cap ? 2 * *cap : 16;
    void *p = size_mul(more, size, &total) ? realloc(*records, total) : NULL;
    if (!p) return false;
    *records = p;
    *cap = more;
    return true;
}

/* The caller has reserved. */
static void put(buffer *b, const void *p, size_t n) {
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put_le(buffer *b, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) b->p[b->n++] = (uint8_t)(v >> (8 * i));
}
static void put_str(buffer *b, gguf_str s) {
    put_le(b, s.n, 8);
    put(b, s.p, s.n);
}

/* ---- open and close ---- */

galen_status gguf_writer_open(gguf_writer **out, uint32_t version, uint32_t alignment, gguf_sink sink, void *user,
                              galen_error *err) {
    *out = NULL;
    if (version != 2 && version != 3) return galen_fail(err, GALEN_E_ARG, 0, "GGUF version %u, expected 2 or 3", version);
    if (!is_pow2(alignment) || alignment < GGUF_MIN_ALIGNMENT || alignment > GGUF_MAX_ALIGNMENT)
        return galen_fail(err, GALEN_E_ARG, 0, "alignment %u, expected a power of two from %d to %d", alignment,
                          GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    gguf_writer *w = calloc(1, sizeof *w);
    if (!w) return galen_fail(err, GALEN_E_NOMEM, 0, "GGUF writer: %zu bytes", sizeof *w);
    w->version = version;
    w->sink = sink;
    w->user = user;
    if (alignment != GGUF_DEFAULT_ALIGNMENT) {
        const galen_status st = gguf_put_u32(w, "general.alignment", alignment, err);
        if (st) {
            gguf_writer_close(w);
            return st;
        }
    }
    w->alignment = alignment;
    *out = w;
    return GALEN_OK;
}

void gguf_writer_close(gguf_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_keys; i++) free((void *)(uintptr_t)w->keys[i].name.p);
    for (size_t i = 0; i < w->n_tensors; i++) free((void *)(uintptr_t)w->tensors[i].name.p);
    free(w->keys);
    free(w->tensors);
    free(w->kv.p);
    free(w->header.p);
    free(w);
}

/* ---- metadata ---- */

static galen_status check_name(const gguf_writer *w, const char *what, const char *name, size_t max_bytes, galen_error *err) {
    const size_t n = strlen(name);
    if (w->failed) return galen_fail(err, w->failed, 0, "%s %s: an earlier write failed", what, name);
    if (w->stage != STAGE_METADATA) return galen_fail(err, GALEN_E_ARG, 0, "%s %s: the header has been written", what, name);
    if (n == 0 || n > max_bytes) return galen_fail(err, GALEN_E_ARG, 0, "%s of %zu bytes, expected 1 to %zu", what, n, max_bytes);
    if (!utf8_is_valid(name, n)) return galen_fail(err, GALEN_E_ARG, 0, "%s that is not UTF-8", what);
    return GALEN_OK;
}

/* Write key and type, with room for n_value bytes more. Nothing has changed after a failure. */
static galen_status begin_kv(gguf_writer *w, const char *key, gguf_type type, uint64_t n_value, galen_error *err) {
    uint64_t total;
    const galen_status st = check_name(w, "key", key, GGUF_MAX_KEY_BYTES, err);
    if (st) return st;
    if (w->alignment != 0 && strcmp(key, "general.alignment") == 0)
        return galen_fail(err, GALEN_E_ARG, 0, "key %s: it is given to gguf_writer_open", key);
    if (w->n_keys == GGUF_MAX_KV) return galen_fail(err, GALEN_E_ARG, 0, "key %s: more than %d keys", key, GGUF_MAX_KV);
    const size_t n = strlen(key);
    char *copy = strdup(key);
    void *keys = w->keys;
    bool is_room = copy && reserve_record(&keys, w->n_keys, &w->keys_cap, sizeof *w->keys);
    w->keys = keys;
    is_room = is_room && u64_add(n_value, 12 + n, &total) && reserve(&w->kv, total);
    if (!is_room) {
        free(copy);
        (void)galen_fail(err, GALEN_E_NOMEM, 0, "key %s: no memory for %llu bytes", key, (unsigned long long)n_value);
        return GALEN_E_NOMEM; /* said outright, so that the analyser sees the callers' buffer is there */
    }
    w->keys[w->n_keys++].name = (gguf_str){copy, n};
    put_str(&w->kv, (gguf_str){key, n});
    put_le(&w->kv, type, 4);
    return GALEN_OK;
}

static galen_status check_values(const char *key, gguf_type type, const void *values, uint64_t n, galen_error *err) {
    const uint8_t *p = values;
    if (gguf_type_bytes(type) == 0)
        return galen_fail(err, GALEN_E_ARG, 0, "key %s: type %s, expected a number or a bool", key, gguf_type_name(type));
    if (type != GGUF_BOOL) return GALEN_OK;
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1) return galen_fail(err, GALEN_E_ARG, 0, "key %s: bool is %u, expected 0 or 1", key, p[i]);
    }
    return GALEN_OK;
}

galen_status gguf_put_scalar(gguf_writer *w, const char *key, gguf_type type, const void *le_value, galen_error *err) {
    const size_t n = gguf_type_bytes(type);
    galen_status st = check_values(key, type, le_value, 1, err);
    if (st) return st;
    st = begin_kv(w, key, type, n, err);
    if (!st) put(&w->kv, le_value, n);
    return st;
}

galen_status gguf_put_u32(gguf_writer *w, const char *key, uint32_t v, galen_error *err) {
    const uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    return gguf_put_scalar(w, key, GGUF_U32, le, err);
}

galen_status gguf_put_f32(gguf_writer *w, const char *key, float v, galen_error *err) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    const uint8_t le[4] = {(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)};
    return gguf_put_scalar(w, key, GGUF_F32, le, err);
}

galen_status gguf_put_bool(gguf_writer *w, const char *key, bool v, galen_error *err) {
    const uint8_t byte = v;
    return gguf_put_scalar(w, key, GGUF_BOOL, &byte, err);
}

galen_status gguf_put_str(gguf_writer *w, const char *key, const char *v, size_t n, galen_error *err) {
    uint64_t total;
    if (!u64_add(n, 8, &total)) return galen_fail(err, GALEN_E_ARG, 0, "key %s: a string of %zu bytes", key, n);
    const galen_status st = begin_kv(w, key, GGUF_STR, total, err);
    if (!st) put_str(&w->kv, (gguf_str){v, n});
    return st;
}

galen_status gguf_put_arr(gguf_writer *w, const char *key, gguf_type elem_type, const void *elems, uint64_t n, galen_error *err) {
    uint64_t total, body;
    galen_status st = check_values(key, elem_type, elems, n, err);
    if (st) return st;
    if (!u64_mul(n, gguf_type_bytes(elem_type), &body) || !u64_add(body, 12, &total))
        return galen_fail(err, GALEN_E_ARG, 0, "key %s: an array of %llu elements", key, (unsigned long long)n);
    st = begin_kv(w, key, GGUF_ARR, total, err);
    if (st) return st;
    put_le(&w->kv, elem_type, 4);
    put_le(&w->kv, n, 8);
    put(&w->kv, elems, (size_t)body);
    return GALEN_OK;
}

galen_status gguf_put_arr_str(gguf_writer *w, const char *key, const gguf_str *elems, uint64_t n, galen_error *err) {
    uint64_t total = 12;
    for (uint64_t i = 0; i < n; i++) {
        if (!u64_add(total, 8, &total) || !u64_add(total, elems[i].n, &total))
            return galen_fail(err, GALEN_E_ARG, 0, "key %s: strings of more than 2^64 bytes", key);
    }
    const galen_status st = begin_kv(w, key, GGUF_ARR, total, err);
    if (st) return st;
    put_le(&w->kv, GGUF_STR, 4);
    put_le(&w->kv, n, 8);
    for (uint64_t i = 0; i < n; i++) put_str(&w->kv, elems[i]);
    return GALEN_OK;
}

/* ---- tensors ---- */

static galen_status measure(out_tensor *t, galen_error *err) {
    const tensor_type_info *info = tensor_type_get(t->type);
    uint64_t n_rows;
    if (!info) return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: type %u is not supported", t->name.p, t->type);
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        if (t->ne[i] < 1 || t->ne[i] > GGUF_MAX_DIM)
            return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: dimension %u is %llu, expected 1 to 2^40", t->name.p, i,
                              (unsigned long long)t->ne[i]);
    }
    if (t->ne[0] % (uint64_t)info->block_weights != 0)
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: rows of %llu weights, expected a multiple of %d for %s", t->name.p,
                          (unsigned long long)t->ne[0], info->block_weights, info->name);
    if (!u64_mul(t->ne[1], t->ne[2], &n_rows) || !u64_mul(n_rows, t->ne[3], &n_rows) ||
        !u64_mul(n_rows, tensor_row_bytes((tensor_type)t->type, (int64_t)t->ne[0]), &t->n_bytes))
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: more than 2^64 bytes", t->name.p);
    return GALEN_OK;
}

galen_status gguf_put_tensor(gguf_writer *w, const char *name, tensor_type type, uint32_t n_dims, const uint64_t *ne,
                             galen_error *err) {
    out_tensor t = {.name = {name, strlen(name)}, .ne = {1, 1, 1, 1}, .n_dims = n_dims, .type = (uint32_t)type};
    galen_status st = check_name(w, "tensor", name, GGUF_MAX_NAME_BYTES, err);
    if (st) return st;
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: %u dimensions, expected 1 to %d", name, n_dims, GGUF_MAX_DIMS);
    if (w->n_tensors == GGUF_MAX_TENSORS)
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: more than %d tensors", name, GGUF_MAX_TENSORS);
    memcpy(t.ne, ne, n_dims * sizeof *ne);
    st = measure(&t, err);
    if (st) return st;
    char *copy = strdup(name);
    void *tensors = w->tensors;
    const bool is_room = copy && reserve_record(&tensors, w->n_tensors, &w->tensors_cap, sizeof *w->tensors);
    w->tensors = tensors;
    if (!is_room) {
        free(copy);
        return galen_fail(err, GALEN_E_NOMEM, 0, "tensor %s: no memory for its record", name);
    }
    t.name.p = copy;
    w->tensors[w->n_tensors++] = t;
    return GALEN_OK;
}

/* ---- output ---- */

static galen_status emit(gguf_writer *w, const void *p, size_t n, galen_error *err) {
    if (n && !w->failed) w->failed = w->sink(w->user, p, n, err);
    return w->failed;
}

/* Zeros from position n (counted from an aligned place) to the next multiple of the alignment. */
static galen_status emit_padding(gguf_writer *w, uint64_t n, galen_error *err) {
    static const uint8_t zeros[4096];
    uint64_t left = (w->alignment - n % w->alignment) % w->alignment;
    while (left && !w->failed) {
        const size_t k = left < sizeof zeros ? (size_t)left : sizeof zeros;
        (void)emit(w, zeros, k, err);
        left -= k;
    }
    return w->failed;
}

static galen_status check_unique(const char *what, const void *records, size_t stride, size_t n, galen_error *err) {
    uint32_t a, b;
    galen_status st = GALEN_OK;
    if (n == 0) return GALEN_OK;
    gguf_index ix = {.records = records, .stride = stride, .n = n, .order = calloc(n, sizeof *ix.order)};
    if (!ix.order) return galen_fail(err, GALEN_E_NOMEM, 0, "no memory for %zu names", n);
    gguf_index_sort(&ix);
    if (gguf_index_duplicate(&ix, &a, &b)) {
        char shown[GGUF_SHOWN_BYTES];
        const gguf_str *name = (const void *)((const char *)records + b * stride);
        st = galen_fail(err, GALEN_E_ARG, 0, "%s %s: announced twice, as number %u and %u", what, gguf_shown(shown, *name), a, b);
    }
    free(ix.order);
    return st;
}

/* The header's bytes up to the padding. */
static galen_status build_header(gguf_writer *w, galen_error *err) {
    uint64_t total = 24, offset = 0;
    bool fits = u64_add(total, w->kv.n, &total);
    for (size_t i = 0; i < w->n_tensors; i++) fits = fits && u64_add(total, 8 + w->tensors[i].name.n + 4 + 32 + 12, &total);
    w->header.n = 0;
    if (!fits || !reserve(&w->header, total))
        return galen_fail(err, GALEN_E_NOMEM, 0, "no memory for a header of %llu bytes", (unsigned long long)total);
    put(&w->header, "GGUF", 4);
    put_le(&w->header, w->version, 4);
    put_le(&w->header, w->n_tensors, 8);
    put_le(&w->header, w->n_keys, 8);
    put(&w->header, w->kv.p, w->kv.n);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const out_tensor *t = &w->tensors[i];
        put_str(&w->header, t->name);
        put_le(&w->header, t->n_dims, 4);
        for (uint32_t d = 0; d < t->n_dims; d++) put_le(&w->header, t->ne[d], 8);
        put_le(&w->header, t->type, 4);
        put_le(&w->header, offset, 8);
        if (!u64_add(offset, t->n_bytes, &offset) || !u64_pad(offset, w->alignment, &offset))
            return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: the file would be larger than 2^64 bytes", t->name.p);
    }
    return GALEN_OK;
}

galen_status gguf_write_header(gguf_writer *w, galen_error *err) {
    if (w->failed) return galen_fail(err, w->failed, 0, "header: an earlier write failed");
    if (w->stage != STAGE_METADATA) return galen_fail(err, GALEN_E_ARG, 0, "header: written already");
    galen_status st = check_unique("key", w->keys, sizeof *w->keys, w->n_keys, err);
    if (!st) st = check_unique("tensor", w->tensors, sizeof *w->tensors, w->n_tensors, err);
    if (!st) st = build_header(w, err);
    if (st) return st;
    w->stage = STAGE_DATA;
    st = emit(w, w->header.p, w->header.n, err);
    return st ? st : emit_padding(w, w->header.n, err);
}

galen_status gguf_write_data(gguf_writer *w, const void *bytes, size_t n, galen_error *err) {
    if (w->failed) return galen_fail(err, w->failed, 0, "tensor data: an earlier write failed");
    if (n == 0) return GALEN_OK;
    if (w->stage != STAGE_DATA) return galen_fail(err, GALEN_E_ARG, 0, "tensor data: no header written, or the file ended");
    if (w->current == w->n_tensors)
        return galen_fail(err, GALEN_E_ARG, 0, "tensor data: %zu bytes after the last of %zu tensors", n, w->n_tensors);
    const out_tensor *t = &w->tensors[w->current];
    if (n > t->n_bytes - w->written)
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: %zu bytes of data, expected at most %llu more", t->name.p, n,
                          (unsigned long long)(t->n_bytes - w->written));
    const galen_status st = emit(w, bytes, n, err);
    if (st) return st;
    w->written += n;
    if (w->written < t->n_bytes) return GALEN_OK;
    w->current++;
    w->written = 0;
    return emit_padding(w, t->n_bytes, err);
}

galen_status gguf_write_end(gguf_writer *w, galen_error *err) {
    if (w->failed) return galen_fail(err, w->failed, 0, "end: an earlier write failed");
    if (w->stage != STAGE_DATA) return galen_fail(err, GALEN_E_ARG, 0, "end: no header written, or the file ended before");
    if (w->current != w->n_tensors) {
        const out_tensor *t = &w->tensors[w->current];
        return galen_fail(err, GALEN_E_ARG, 0, "tensor %s: %llu bytes of data, expected %llu", t->name.p,
                          (unsigned long long)w->written, (unsigned long long)t->n_bytes);
    }
    w->stage = STAGE_ENDED;
    return GALEN_OK;
}
