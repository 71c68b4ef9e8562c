/* The parser: bytes in, records out, every claim checked against the bytes that are there.
 *
 * A file, all little-endian; "string" is u64 length, then that many bytes without a NUL:
 *   offset  size  field
 *        0     4  magic      "GGUF"
 *        4     4  version    u32, 2 or 3 (the same layout; 3 added big-endian files, which are not read here)
 *        8     8  n_tensors  u64
 *       16     8  n_kv       u64
 *       24     -  n_kv times      key string, type u32, value
 *        -     -  n_tensors times name string, n_dims u32, ne u64[n_dims], type u32, offset u64
 *        -     -  padding to general.alignment (u32, 32 when absent): the data section
 *        -     -  tensor data at its offset from there, each padded to the alignment
 *   a value is its bytes (bool one byte, 0 or 1), a string, or an array: element type u32, n u64, n values.
 * Tensors follow each other in the order of their records without gaps, so that any wrong shape, type or offset shows.
 * Source: ggml docs/gguf.md; gap rule, name and dimension limits: ggml src/gguf.cpp @067d44f. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cursor.h"
#include "base/utf8.h"
#include "gguf/gguf_impl.h"

enum {
    HEADER_BYTES = 24,
    MIN_KV_BYTES = 8 + 1 + 4 + 1,             /* key of one letter, type, a u8 */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name of one letter, one dimension */
};

typedef struct reader {
    cursor c;
    gguf *g;
    galen_error *err;
} reader;

/* Fail with what stands at offset; fmt says which field and both values. */
__attribute__((format(printf, 4, 5))) static galen_status bad(const reader *r, galen_status st, uint64_t offset, const char *fmt,
                                                              ...) {
    char what[GALEN_ERROR_MSG_BYTES - GGUF_LABEL_BYTES - 32], label[GGUF_LABEL_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return galen_fail(r->err, st, offset, "%s: offset %" PRIu64 ": %s", gguf_short_label(label, r->g->label), offset, what);
}

/* Before reading n bytes of a field: are they there? owner, when not NULL, is the record that the field belongs to. */
static galen_status need(const reader *r, uint64_t n, const char *owner, const char *field) {
    const size_t left = cursor_left(&r->c);
    if (n <= left) return GALEN_OK;
    return bad(r, GALEN_E_FORMAT, r->c.pos, "%s%s%s: %" PRIu64 " bytes, but the file ends after %zu", owner ? owner : "",
               owner ? ", " : "", field, n, left);
}

/* ---- header ---- */

static galen_status read_magic(reader *r) {
    const uint8_t *b = r->c.bytes;
    if (r->c.n == 0) return bad(r, GALEN_E_FORMAT, 0, "magic: the file is empty, expected at least %d bytes", HEADER_BYTES);
    const size_t n = r->c.n < 4 ? r->c.n : 4;
    if (memcmp(b, "GGUF", n) != 0) {
        char hex[4 * 3 + 1] = "";
        for (size_t i = 0; i < n; i++) (void)snprintf(hex + 3 * i, sizeof hex - 3 * i, " %02x", b[i]);
        return bad(r, GALEN_E_FORMAT, 0, "magic:%s, expected 47 47 55 46 (\"GGUF\"): not a GGUF file", hex);
    }
    const galen_status st = need(r, 4, NULL, "magic");
    if (st == GALEN_OK) (void)cursor_u32(&r->c);
    return st;
}

static galen_status read_version(reader *r) {
    const galen_status st = need(r, 4, NULL, "version");
    if (st) return st;
    const uint64_t at = r->c.pos;
    const uint32_t v = cursor_u32(&r->c);
    if (v != 0 && (v & 0xFFFF) == 0)
        return bad(r, GALEN_E_UNSUPPORTED, at, "version: 0x%08" PRIx32 ", expected 2 or 3: a big-endian file is not supported",
                   v);
    if (v != 2 && v != 3) return bad(r, GALEN_E_UNSUPPORTED, at, "version: %" PRIu32 ", expected 2 or 3", v);
    r->g->version = v;
    return GALEN_OK;
}

/* A count of records of at least record_bytes each. The bytes that are left bound it tighter than the limit does. */
static galen_status read_count(reader *r, const char *field, size_t record_bytes, size_t limit, size_t *out) {
    const galen_status st = need(r, 8, NULL, field);
    if (st) return st;
    const uint64_t at = r->c.pos;
    const uint64_t n = cursor_u64(&r->c);
    const size_t fit = cursor_left(&r->c) / record_bytes;
    if (n > fit)
        return bad(r, GALEN_E_FORMAT, at, "%s: %" PRIu64 ", but the %zu bytes that follow hold at most %zu", field, n,
                   cursor_left(&r->c), fit);
    if (n > limit) return bad(r, GALEN_E_FORMAT, at, "%s: %" PRIu64 ", expected at most %zu", field, n, limit);
    *out = (size_t)n;
    return GALEN_OK;
}

/* ---- strings and names ---- */

static galen_status read_str(reader *r, const char *owner, const char *field, gguf_str *out) {
    char what[48];
    (void)snprintf(what, sizeof what, "%s length", field);
    galen_status st = need(r, 8, owner, what);
    if (st) return st;
    const uint64_t at = r->c.pos;
    const uint64_t n = cursor_u64(&r->c);
    if (n > cursor_left(&r->c))
        return bad(r, GALEN_E_FORMAT, at, "%s%s%s: %" PRIu64 ", but the file ends after %zu bytes", owner ? owner : "",
                   owner ? ", " : "", what, n, cursor_left(&r->c));
    out->n = (size_t)n;
    out->p = (const char *)cursor_bytes(&r->c, n);
    return GALEN_OK;
}

/* A key or a tensor's name, record number i: they become C strings and parts of messages, so they must be text. */
static galen_status read_name(reader *r, const char *record, size_t i, size_t max_bytes, gguf_str *out) {
    char owner[32];
    const uint64_t at = r->c.pos;
    (void)snprintf(owner, sizeof owner, "%s %zu", record, i);
    const galen_status st = read_str(r, owner, "name", out);
    if (st) return st;
    if (out->n == 0 || out->n > max_bytes)
        return bad(r, GALEN_E_FORMAT, at, "%s, name length: %zu, expected 1 to %zu", owner, out->n, max_bytes);
    const char *nul = memchr(out->p, 0, out->n);
    if (nul)
        return bad(r, GALEN_E_FORMAT, at + 8, "%s, name: NUL at byte %zu of %zu, expected text", owner, (size_t)(nul - out->p),
                   out->n);
    if (!utf8_is_valid(out->p, out->n))
        return bad(r, GALEN_E_FORMAT, at + 8, "%s, name: %zu bytes that are not UTF-8, expected text", owner, out->n);
    return GALEN_OK;
}

/* ---- metadata ---- */

static galen_status check_bools(const reader *r, const gguf_kv *kv, const char *key) {
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->data[i] > 1)
            return bad(r, GALEN_E_FORMAT, kv->offset + i, "%s: bool %" PRIu64 " is %u, expected 0 or 1", key, i, kv->data[i]);
    }
    return GALEN_OK;
}

/* The one loop that a vocabulary of 128k tokens and 280k merges feels, hence plain loads instead of the cursor's calls. */
static galen_status skip_strings(reader *r, const gguf_kv *kv, const char *key) {
    const uint8_t *b = r->c.bytes;
    const size_t n = r->c.n;
    size_t pos = r->c.pos;
    for (uint64_t i = 0; i < kv->n; i++) {
        uint64_t len = 0;
        if (n - pos < 8)
            return bad(r, GALEN_E_FORMAT, pos,
                       "%s: string %" PRIu64 " of %" PRIu64 ": 8 bytes of length, but the file ends after %zu", key, i, kv->n,
                       n - pos);
        for (size_t k = 0; k < 8; k++) len |= (uint64_t)b[pos + k] << (8 * k);
        if (len > n - pos - 8)
            return bad(r, GALEN_E_FORMAT, pos,
                       "%s: string %" PRIu64 " of %" PRIu64 ": length %" PRIu64 ", but the file ends after %zu bytes", key, i,
                       kv->n, len, n - pos - 8);
        pos += 8 + (size_t)len;
    }
    r->c.pos = pos;
    return GALEN_OK;
}

/* kv->n values of kv->elem_type from here. */
static galen_status read_values(reader *r, gguf_kv *kv, const char *key) {
    const size_t left = cursor_left(&r->c), each = gguf_type_bytes(kv->elem_type);
    const bool is_array = kv->type == GGUF_ARR;
    kv->offset = r->c.pos;
    kv->data = r->c.bytes + r->c.pos;
    if (kv->n > left / (each ? each : 8)) /* a string takes 8 bytes at least */
        return bad(r, GALEN_E_FORMAT, is_array ? kv->offset - 8 : kv->offset,
                   "%s: %" PRIu64 " %s of type %s, but the file ends after %zu bytes", key, kv->n,
                   is_array ? "elements" : "value", gguf_type_name(kv->elem_type), left);
    if (each) {
        (void)cursor_bytes(&r->c, kv->n * each);
        return kv->elem_type == GGUF_BOOL ? check_bools(r, kv, key) : GALEN_OK;
    }
    return skip_strings(r, kv, key);
}

static galen_status read_kv(reader *r, size_t i, gguf_kv *kv) {
    char key[GGUF_SHOWN_BYTES];
    galen_status st = read_name(r, "key", i, GGUF_MAX_KEY_BYTES, &kv->key);
    if (st) return st;
    (void)gguf_shown(key, kv->key);
    st = need(r, 4, key, "type");
    if (st) return st;
    const uint64_t at = r->c.pos;
    uint32_t type = cursor_u32(&r->c);
    if (type >= GGUF_TYPE_END)
        return bad(r, GALEN_E_FORMAT, at, "%s: value type %" PRIu32 ", expected 0 to %d", key, type, GGUF_TYPE_END - 1);
    kv->type = (gguf_type)type;
    kv->n = 1;
    if (type == GGUF_ARR) {
        st = need(r, 12, key, "array type and count");
        if (st) return st;
        type = cursor_u32(&r->c);
        kv->n = cursor_u64(&r->c);
        if (type == GGUF_ARR)
            return bad(r, GALEN_E_FORMAT, at + 4, "%s: element type 9 (an array of arrays), expected 0 to 8 or 10 to 12", key);
        if (type >= GGUF_TYPE_END)
            return bad(r, GALEN_E_FORMAT, at + 4, "%s: element type %" PRIu32 ", expected 0 to 8 or 10 to 12", key, type);
    }
    kv->elem_type = (gguf_type)type;
    return read_values(r, kv, key);
}

/* Records and their index for n of them; *out stays NULL for none. */
static galen_status alloc_records(const reader *r, size_t n, size_t size, void **out, gguf_index *ix) {
    if (n == 0) return GALEN_OK;
    *out = calloc(n, size);
    ix->order = calloc(n, sizeof *ix->order);
    if (*out && ix->order) return GALEN_OK;
    return bad(r, GALEN_E_NOMEM, r->c.pos, "no memory for %zu records of %zu bytes", n, size);
}

static galen_status read_all_kv(reader *r, size_t n) {
    gguf *g = r->g;
    void *records = NULL;
    galen_status st = alloc_records(r, n, sizeof *g->kv, &records, &g->kv_index);
    g->kv = records;
    for (size_t i = 0; i < n && st == GALEN_OK; i++) st = read_kv(r, i, &g->kv[i]);
    if (st) return st;
    g->kv_index.records = g->kv;
    g->kv_index.stride = sizeof *g->kv;
    g->kv_index.n = n;
    gguf_index_sort(&g->kv_index);
    uint32_t a, b;
    if (gguf_index_duplicate(&g->kv_index, &a, &b)) {
        char key[GGUF_SHOWN_BYTES];
        const gguf_kv *kv = &g->kv[b];
        return bad(r, GALEN_E_FORMAT, (uint64_t)((const uint8_t *)kv->key.p - g->bytes),
                   "%s: key %" PRIu32 " has the name of key %" PRIu32 ", expected different ones", gguf_shown(key, kv->key), b,
                   a);
    }
    return GALEN_OK;
}

static galen_status read_alignment(const reader *r) {
    const gguf_kv *kv = gguf_find(r->g, "general.alignment");
    r->g->alignment = GGUF_DEFAULT_ALIGNMENT;
    if (!kv) return GALEN_OK;
    if (kv->type != GGUF_U32)
        return bad(r, GALEN_E_FORMAT, kv->offset, "general.alignment: type %s, expected u32", gguf_type_name(kv->type));
    const uint64_t v = (uint64_t)gguf_kv_int(kv, 0);
    if (!is_pow2(v) || v < GGUF_MIN_ALIGNMENT || v > GGUF_MAX_ALIGNMENT)
        return bad(r, GALEN_E_FORMAT, kv->offset, "general.alignment: %" PRIu64 ", expected a power of two from %d to %d", v,
                   GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    r->g->alignment = v;
    return GALEN_OK;
}

/* ---- tensor records ---- */

/* Type ids that exist or existed in ggml.h (enum ggml_type) and are not weights that Galen computes with. */
static const struct {
    uint32_t id;
    const char *name;
} other_types[] = {
    {4, "Q4_2, removed from the format"},
    {5, "Q4_3, removed from the format"},
    {9, "Q8_1"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {31, "Q4_0_4_4, removed from the format"},
    {32, "Q4_0_4_8, removed from the format"},
    {33, "Q4_0_8_8, removed from the format"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {36, "IQ4_NL_4_4, removed from the format"},
    {37, "IQ4_NL_4_8, removed from the format"},
    {38, "IQ4_NL_8_8, removed from the format"},
    {39, "MXFP4"},
    {40, "NVFP4"},
};

static galen_status bad_type(const reader *r, uint64_t at, const char *name, uint32_t type) {
    const char *what = "unknown";
    char known[160] = "";
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++) {
        if (other_types[i].id == type) what = other_types[i].name;
    }
    for (uint32_t t = 0, n = 0; t < TENSOR_TYPE_END && n < sizeof known; t++) {
        const tensor_type_info *info = tensor_type_get(t);
        if (info) n += (uint32_t)snprintf(known + n, sizeof known - n, " %s", info->name);
    }
    return bad(r, GALEN_E_UNSUPPORTED, at, "%s: weight type %" PRIu32 " (%s), expected one of%s", name, type, what, known);
}

static galen_status read_shape(reader *r, gguf_tensor *t, const char *name) {
    galen_status st = need(r, 4, name, "n_dims");
    if (st) return st;
    uint64_t at = r->c.pos;
    t->n_dims = cursor_u32(&r->c);
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
        return bad(r, GALEN_E_FORMAT, at, "%s: n_dims %" PRIu32 ", expected 1 to %d", name, t->n_dims, GGUF_MAX_DIMS);
    st = need(r, 8 * (uint64_t)t->n_dims, name, "shape");
    if (st) return st;
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        at = r->c.pos;
        t->ne[i] = i < t->n_dims ? cursor_u64(&r->c) : 1;
        if (t->ne[i] < 1 || t->ne[i] > GGUF_MAX_DIM)
            return bad(r, GALEN_E_FORMAT, at, "%s: dimension %" PRIu32 " is %" PRIu64 ", expected 1 to %" PRIu64, name, i,
                       t->ne[i], GGUF_MAX_DIM);
    }
    return GALEN_OK;
}

/* Its bytes, from type and shape. */
static galen_status measure(const reader *r, gguf_tensor *t, const char *name, uint64_t at) {
    const tensor_type_info *info = tensor_type_get((uint32_t)t->type);
    uint64_t n_rows = 1, bytes = 0;
    if (t->ne[0] % (uint64_t)info->block_weights != 0)
        return bad(r, GALEN_E_FORMAT, at, "%s: rows of %" PRIu64 " weights, expected a multiple of %d for type %s", name,
                   t->ne[0], info->block_weights, info->name);
    const bool fits = u64_mul(t->ne[1], t->ne[2], &n_rows) && u64_mul(n_rows, t->ne[3], &n_rows) &&
                      u64_mul(n_rows, tensor_row_bytes(t->type, (int64_t)t->ne[0]), &bytes);
    if (!fits || bytes > SIZE_MAX / 2)
        return bad(r, GALEN_E_FORMAT, at,
                   "%s: shape %" PRIu64 "x%" PRIu64 "x%" PRIu64 "x%" PRIu64 " of type %s overflows, expected at most %zu bytes",
                   name, t->ne[0], t->ne[1], t->ne[2], t->ne[3], info->name, r->c.n);
    t->n_bytes = (size_t)bytes;
    return GALEN_OK;
}

/* t->offset is left relative to the data section, whose beginning is known after the last record. */
static galen_status read_tensor(reader *r, size_t i, gguf_tensor *t) {
    char name[GGUF_SHOWN_BYTES];
    t->info_offset = r->c.pos;
    galen_status st = read_name(r, "tensor", i, GGUF_MAX_NAME_BYTES, &t->name);
    if (st) return st;
    (void)gguf_shown(name, t->name);
    const uint64_t shape_at = r->c.pos;
    st = read_shape(r, t, name);
    if (st) return st;
    st = need(r, 12, name, "type and data offset");
    if (st) return st;
    const uint64_t type_at = r->c.pos;
    const uint32_t type = cursor_u32(&r->c);
    if (!tensor_type_get(type)) return bad_type(r, type_at, name, type);
    t->type = (tensor_type)type;
    t->offset = cursor_u64(&r->c);
    return measure(r, t, name, shape_at);
}

static galen_status read_all_tensors(reader *r, size_t n) {
    gguf *g = r->g;
    void *records = NULL;
    const size_t fit = cursor_left(&r->c) / MIN_TENSOR_BYTES; /* again: the metadata took its share */
    if (n > fit)
        return bad(r, GALEN_E_FORMAT, 8, "n_tensors: %zu, but the %zu bytes after the metadata hold at most %zu", n,
                   cursor_left(&r->c), fit);
    galen_status st = alloc_records(r, n, sizeof *g->tensors, &records, &g->tensor_index);
    g->tensors = records;
    for (size_t i = 0; i < n && st == GALEN_OK; i++) st = read_tensor(r, i, &g->tensors[i]);
    if (st) return st;
    g->tensor_index.records = g->tensors;
    g->tensor_index.stride = sizeof *g->tensors;
    g->tensor_index.n = n;
    gguf_index_sort(&g->tensor_index);
    uint32_t a, b;
    if (gguf_index_duplicate(&g->tensor_index, &a, &b)) {
        char name[GGUF_SHOWN_BYTES];
        return bad(r, GALEN_E_FORMAT, g->tensors[b].info_offset,
                   "%s: tensor %" PRIu32 " has the name of tensor %" PRIu32 ", expected different ones",
                   gguf_shown(name, g->tensors[b].name), b, a);
    }
    return GALEN_OK;
}

/* ---- tensor data ---- */

/* Give t its place; *next is where its data must begin within the section, and where the next one's must afterwards. */
static galen_status place(const reader *r, gguf_tensor *t, uint64_t start, uint64_t *next) {
    char name[GGUF_SHOWN_BYTES];
    const uint64_t at = t->info_offset + 8 + t->name.n + 4 + 8 * (uint64_t)t->n_dims + 4;
    uint64_t begin = 0, end = 0;
    (void)gguf_shown(name, t->name);
    if (t->offset % r->g->alignment != 0)
        return bad(r, GALEN_E_FORMAT, at, "%s: data offset %" PRIu64 ", expected a multiple of the alignment %" PRIu64, name,
                   t->offset, r->g->alignment);
    if (t->offset != *next)
        return bad(r, GALEN_E_FORMAT, at, "%s: data offset %" PRIu64 ", expected %" PRIu64 ", where the tensor before it ends",
                   name, t->offset, *next);
    if (!u64_add(start, t->offset, &begin) || !u64_add(begin, t->n_bytes, &end) || end > r->c.n)
        return bad(r, GALEN_E_FORMAT, at,
                   "%s: %zu bytes of data from %" PRIu64
                   " on, but the file ends at %zu (cut short, or its download is incomplete)",
                   name, t->n_bytes, begin, r->c.n);
    if (!u64_pad(end - start, r->g->alignment, next))
        return bad(r, GALEN_E_FORMAT, at, "%s: data ends at %" PRIu64 ", too far to pad to %" PRIu64, name, end, r->g->alignment);
    t->offset = begin;
    t->data = r->c.bytes + begin;
    return GALEN_OK;
}

static galen_status place_all(const reader *r) {
    const gguf *g = r->g;
    const size_t n = g->tensor_index.n;
    uint64_t start = 0, next = 0, end = 0;
    if (!u64_pad(r->c.pos, g->alignment, &start))
        return bad(r, GALEN_E_FORMAT, r->c.pos, "tensor data: too far to pad to %" PRIu64, g->alignment);
    for (size_t i = 0; i < n; i++) {
        const galen_status st = place(r, &g->tensors[i], start, &next);
        if (st) return st;
    }
    if (!u64_add(start, next, &end)) end = r->c.n;
    if (r->c.n > end) /* up to the padding is common; more means that records are missing or wrong */
        return bad(r, GALEN_E_FORMAT, end, "the file has %zu bytes, expected at most %" PRIu64 " (trailing bytes)", r->c.n, end);
    return GALEN_OK;
}

/* ---- all of it ---- */

static galen_status parse(reader *r) {
    size_t n_tensors = 0, n_kv = 0;
    galen_status st = read_magic(r);
    if (!st) st = read_version(r);
    if (!st) st = read_count(r, "n_tensors", MIN_TENSOR_BYTES, GGUF_MAX_TENSORS, &n_tensors);
    if (!st) st = read_count(r, "n_kv", MIN_KV_BYTES, GGUF_MAX_KV, &n_kv);
    if (!st) st = read_all_kv(r, n_kv);
    if (!st) st = read_alignment(r);
    if (!st) st = read_all_tensors(r, n_tensors);
    if (!st) st = place_all(r);
    return st;
}

galen_status gguf_parse(gguf **out, const void *bytes, size_t n, const char *label, galen_error *err) {
    galen_status st;
    *out = NULL;
    gguf *g = calloc(1, sizeof *g);
    if (!g) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %zu bytes", label, sizeof *g);
    g->label = strdup(label);
    if (!g->label) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "no memory for a file's name");
        goto fail;
    }
    g->bytes = bytes;
    g->n = n;
    g->file_bytes = n;
    g->n_files = 1;
    reader r = {.c = cursor_of(bytes, n), .g = g, .err = err};
    st = parse(&r);
    if (st) goto fail;
    *out = g;
    return GALEN_OK;
fail:
    gguf_close(g);
    return st;
}
