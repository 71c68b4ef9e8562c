/* Reading what a parsed file says: lookups, typed reads, values of arrays. */
#include <inttypes.h>
#include <string.h>

#include "base/cursor.h"
#include "gguf/gguf_impl.h"

static const struct {
    const char *name;
    size_t bytes;
} types[GGUF_TYPE_END] = {
    [GGUF_U8] = {"u8", 1},   [GGUF_I8] = {"i8", 1},   [GGUF_U16] = {"u16", 2},   [GGUF_I16] = {"i16", 2}, [GGUF_U32] = {"u32", 4},
    [GGUF_I32] = {"i32", 4}, [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1}, [GGUF_STR] = {"str", 0}, [GGUF_ARR] = {"arr", 0},
    [GGUF_U64] = {"u64", 8}, [GGUF_I64] = {"i64", 8}, [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(gguf_type t) {
    return (unsigned)t < GGUF_TYPE_END ? types[t].name : "unknown";
}

size_t gguf_type_bytes(uint32_t type) {
    return type < GGUF_TYPE_END ? types[type].bytes : 0;
}

const char *gguf_shown(char buf[GGUF_SHOWN_BYTES], gguf_str s) {
    const size_t cap = GGUF_SHOWN_BYTES - 4; /* room for "..." */
    const size_t n = s.n < cap ? s.n : cap;
    for (size_t i = 0; i < n; i++) buf[i] = s.p[i] >= 0x20 && s.p[i] < 0x7F ? s.p[i] : '?';
    memcpy(buf + n, "...", 4);
    if (n == s.n) buf[n] = '\0';
    return buf;
}

const char *gguf_short_label(char buf[GGUF_LABEL_BYTES], const char *label) {
    const size_t n = strlen(label);
    if (n < GGUF_LABEL_BYTES) return label;
    memset(buf, '.', 3);
    memcpy(buf + 3, label + n - (GGUF_LABEL_BYTES - 4), GGUF_LABEL_BYTES - 3);
    return buf;
}

bool gguf_str_eq(gguf_str s, const char *z) {
    const size_t n = strlen(z);
    return s.n == n && (n == 0 || memcmp(s.p, z, n) == 0);
}

/* ---- the object ---- */

const char *gguf_label(const gguf *g) {
    return g->label;
}
size_t gguf_n_files(const gguf *g) {
    return g->n_files;
}
uint64_t gguf_file_bytes(const gguf *g) {
    return g->file_bytes;
}
uint32_t gguf_version(const gguf *g) {
    return g->version;
}
size_t gguf_n_kv(const gguf *g) {
    return g->kv_index.n;
}
const gguf_kv *gguf_kv_at(const gguf *g, size_t i) {
    return i < g->kv_index.n ? &g->kv[i] : NULL;
}
const gguf_kv *gguf_find(const gguf *g, const char *key) {
    return gguf_index_find(&g->kv_index, (gguf_str){key, strlen(key)});
}
size_t gguf_n_tensors(const gguf *g) {
    return g->tensor_index.n;
}
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) {
    return i < g->tensor_index.n ? &g->tensors[i] : NULL;
}
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) {
    return gguf_index_find(&g->tensor_index, (gguf_str){name, strlen(name)});
}

/* ---- values ---- */

/* Integers of any width as two's complement in 64 bits; a u64 above INT64_MAX is for the caller to know. */
static uint64_t load_int(gguf_type t, const uint8_t *p) {
    cursor c = cursor_of(p, gguf_type_bytes(t));
    switch (t) {
    case GGUF_U8:
    case GGUF_BOOL:
        return cursor_u8(&c);
    case GGUF_I8:
        return (uint64_t)(int64_t)(int8_t)cursor_u8(&c);
    case GGUF_U16:
        return cursor_u16(&c);
    case GGUF_I16:
        return (uint64_t)(int64_t)(int16_t)cursor_u16(&c);
    case GGUF_U32:
        return cursor_u32(&c);
    case GGUF_I32:
        return (uint64_t)(int64_t)(int32_t)cursor_u32(&c);
    case GGUF_U64:
    case GGUF_I64:
        return cursor_u64(&c);
    default:
        return 0;
    }
}

static double load_float(gguf_type t, const uint8_t *p) {
    cursor c = cursor_of(p, gguf_type_bytes(t));
    if (t == GGUF_F32) return (double)cursor_f32(&c);
    if (t == GGUF_F64) return cursor_f64(&c);
    const uint64_t v = load_int(t, p);
    return t == GGUF_U64 ? (double)v : (double)(int64_t)v;
}

static bool is_float(gguf_type t) {
    return t == GGUF_F32 || t == GGUF_F64;
}
static bool is_int(gguf_type t) {
    return gguf_type_bytes(t) != 0 && !is_float(t) && t != GGUF_BOOL;
}

int64_t gguf_kv_int(const gguf_kv *kv, uint64_t i) {
    const uint8_t *p = kv->data + i * gguf_type_bytes(kv->elem_type);
    if (!is_float(kv->elem_type)) return (int64_t)load_int(kv->elem_type, p);
    const double v = load_float(kv->elem_type, p);
    if (!(v > -0x1p63)) return v != v ? 0 : INT64_MIN; /* a conversion out of range would be undefined */
    return v < 0x1p63 ? (int64_t)v : INT64_MAX;
}

double gguf_kv_float(const gguf_kv *kv, uint64_t i) {
    return load_float(kv->elem_type, kv->data + i * gguf_type_bytes(kv->elem_type));
}

gguf_str gguf_kv_str_next(const gguf_kv *kv, size_t *pos) {
    cursor c = cursor_of(kv->data + *pos, 8); /* lengths were checked when the file was parsed */
    const gguf_str s = {(const char *)kv->data + *pos + 8, (size_t)cursor_u64(&c)};
    *pos += 8 + s.n;
    return s;
}

gguf_str gguf_kv_str(const gguf_kv *kv) {
    size_t pos = 0;
    return gguf_kv_str_next(kv, &pos);
}

/* ---- typed reads ---- */

static galen_status missing(const gguf *g, const char *key, galen_error *err) {
    char label[GGUF_LABEL_BYTES];
    return galen_fail(err, GALEN_E_FORMAT, 0, "%s: %s: missing", gguf_short_label(label, g->label), key);
}

static galen_status wrong_type(const gguf *g, const gguf_kv *kv, const char *key, const char *expected, galen_error *err) {
    char label[GGUF_LABEL_BYTES];
    return galen_fail(err, GALEN_E_FORMAT, kv->offset, "%s: %s at offset %" PRIu64 ": type %s%s%s, expected %s",
                      gguf_short_label(label, g->label), key, kv->offset, gguf_type_name(kv->type),
                      kv->type == GGUF_ARR ? " of " : "", kv->type == GGUF_ARR ? gguf_type_name(kv->elem_type) : "", expected);
}

/* The key's value in *kv; NULL there with GALEN_OK when it is absent and may be. */
static galen_status find(const gguf *g, const char *key, gguf_need need, const gguf_kv **kv, galen_error *err) {
    *kv = gguf_find(g, key);
    return !*kv && need == GGUF_REQUIRED ? missing(g, key, err) : GALEN_OK;
}

galen_status gguf_get_u32(const gguf *g, const char *key, gguf_need need, uint32_t *out, galen_error *err) {
    const gguf_kv *kv;
    const galen_status st = find(g, key, need, &kv, err);
    if (st || !kv) return st;
    if (!is_int(kv->type)) return wrong_type(g, kv, key, "an unsigned integer", err);
    const uint64_t v = load_int(kv->type, kv->data);
    if (v > UINT32_MAX) {
        char label[GGUF_LABEL_BYTES];
        const bool is_negative = kv->type != GGUF_U64 && (int64_t)v < 0;
        return galen_fail(err, GALEN_E_FORMAT, kv->offset,
                          "%s: %s at offset %" PRIu64 ": %s%" PRIu64 ", expected 0 to 4294967295",
                          gguf_short_label(label, g->label), key, kv->offset, is_negative ? "-" : "", is_negative ? 0 - v : v);
    }
    *out = (uint32_t)v;
    return GALEN_OK;
}

galen_status gguf_get_f32(const gguf *g, const char *key, gguf_need need, float *out, galen_error *err) {
    const gguf_kv *kv;
    const galen_status st = find(g, key, need, &kv, err);
    if (st || !kv) return st;
    if (!is_float(kv->type)) return wrong_type(g, kv, key, "f32 or f64", err);
    *out = (float)load_float(kv->type, kv->data);
    return GALEN_OK;
}

galen_status gguf_get_bool(const gguf *g, const char *key, gguf_need need, bool *out, galen_error *err) {
    const gguf_kv *kv;
    const galen_status st = find(g, key, need, &kv, err);
    if (st || !kv) return st;
    if (kv->type != GGUF_BOOL) return wrong_type(g, kv, key, "bool", err);
    *out = kv->data[0] != 0;
    return GALEN_OK;
}

galen_status gguf_get_str(const gguf *g, const char *key, gguf_need need, gguf_str *out, galen_error *err) {
    const gguf_kv *kv;
    const galen_status st = find(g, key, need, &kv, err);
    if (st || !kv) return st;
    if (kv->type != GGUF_STR) return wrong_type(g, kv, key, "str", err);
    *out = gguf_kv_str(kv);
    return GALEN_OK;
}

galen_status gguf_get_arr(const gguf *g, const char *key, gguf_type elem_type, gguf_need need, const gguf_kv **out,
                          galen_error *err) {
    static const char *const expected[GGUF_TYPE_END] = {
        [GGUF_U8] = "an array of u8",   [GGUF_I8] = "an array of i8",     [GGUF_U16] = "an array of u16",
        [GGUF_I16] = "an array of i16", [GGUF_U32] = "an array of u32",   [GGUF_I32] = "an array of integers of at most 32 bits",
        [GGUF_F32] = "an array of f32", [GGUF_BOOL] = "an array of bool", [GGUF_STR] = "an array of str",
        [GGUF_U64] = "an array of u64", [GGUF_I64] = "an array of i64",   [GGUF_F64] = "an array of f64",
    };
    const gguf_kv *kv;
    *out = NULL;
    const galen_status st = find(g, key, need, &kv, err);
    if (st || !kv) return st;
    const bool is_small_int = is_int(kv->elem_type) && gguf_type_bytes(kv->elem_type) <= 4;
    const bool is_same = kv->elem_type == elem_type || (elem_type == GGUF_I32 && is_small_int);
    if (kv->type != GGUF_ARR || !is_same) return wrong_type(g, kv, key, expected[elem_type], err);
    *out = kv;
    return GALEN_OK;
}
