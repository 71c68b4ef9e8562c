/* GGUF v2 and v3, little-endian. The reader works over bytes and knows no model; loading a file maps it and copies nothing.
 * Source: ggml docs/gguf.md; every count and length is compared with the bytes that remain before anything is allocated. */
#ifndef GALEN_GGUF_GGUF_H
#define GALEN_GGUF_GGUF_H

#include "base/error.h"
#include "base/file.h"
#include "tensor/tensor.h"

typedef struct gguf gguf;

typedef enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STR = 8,
    GGUF_ARR = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_TYPE_END = 13
} gguf_type;

/** Bytes and length inside the file; not NUL-terminated. */
typedef struct gguf_str {
    const char *p;
    size_t n;
} gguf_str;

typedef struct gguf_kv {
    gguf_str key;
    gguf_type type;      /* GGUF_ARR for arrays                          */
    gguf_type elem_type; /* of an array, never GGUF_ARR; else == type    */
    uint64_t n;          /* elements; 1 for a scalar                     */
    const uint8_t *data; /* little-endian, unaligned, in the file        */
    uint64_t offset;     /* of data in the file, for messages            */
} gguf_kv;

typedef struct gguf_tensor {
    gguf_str name;
    uint32_t n_dims; /* 1..4 */
    uint64_t ne[4];  /* ne[0] is the row length; 1 beyond n_dims */
    tensor_type type;
    uint64_t offset; /* of its data in its file */
    size_t n_bytes;
    const void *data;
    int32_t part;         /* which file of a split set */
    uint64_t info_offset; /* where its record stands, for messages */
} gguf_tensor;

/** Parse one file's bytes, which must stay valid as long as *out. part_label names it in messages.
 *  Errors  FORMAT with err->offset and a message that names the field and both values; NOMEM; UNSUPPORTED version, byte order
 *          or weight type. Never reads outside bytes. Bounded: at most 65,536 keys and as many tensors, memory at most 4 n. */
galen_status gguf_parse(gguf **out, const void *bytes, size_t n, const char *label, galen_error *err);

/** Map path and, when it is the first of a split set (split.count > 1), the others beside it; check that they belong together.
 *  Errors  as gguf_parse; NOT_FOUND; IO. */
galen_status gguf_open(gguf **out, const char *path, galen_error *err);
void gguf_close(gguf *g);

/** n bytes that lie at from in a tensor's data into to, past the map where there is one: nothing of it stays in memory of ours.
 *  Any thread. false: the file has been cut. */
bool gguf_fetch(const gguf *g, const void *from, void *to, size_t n);

/** Errors  IO when a mapped file has been cut since. Cheap enough for every step. */
galen_status gguf_check(const gguf *g, galen_error *err);

const char *gguf_label(const gguf *g); /* the path */
size_t gguf_n_files(const gguf *g);
uint64_t gguf_file_bytes(const gguf *g);
uint32_t gguf_version(const gguf *g);

size_t gguf_n_kv(const gguf *g);
const gguf_kv *gguf_kv_at(const gguf *g, size_t i);
const gguf_kv *gguf_find(const gguf *g, const char *key); /* NULL when absent */

size_t gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i);
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name); /* NULL when absent; log n */

/* Typed reads. Required ones fail with FORMAT "llama.block_count: missing" or "...: type str, expected an unsigned integer".
 * Optional ones leave *out at its value when the key is absent, and still fail on a wrong type.
 * Any integer type is accepted where the value fits, and f32 or f64 for a float. */
typedef enum gguf_need { GGUF_REQUIRED, GGUF_OPTIONAL } gguf_need;
galen_status gguf_get_u32(const gguf *g, const char *key, gguf_need need, uint32_t *out, galen_error *err);
galen_status gguf_get_f32(const gguf *g, const char *key, gguf_need need, float *out, galen_error *err);
galen_status gguf_get_bool(const gguf *g, const char *key, gguf_need need, bool *out, galen_error *err);
galen_status gguf_get_str(const gguf *g, const char *key, gguf_need need, gguf_str *out, galen_error *err);
/** An array of elem_type (any 32-bit-or-less integer when GGUF_I32 is asked for); *out NULL when optional and absent. */
galen_status gguf_get_arr(const gguf *g, const char *key, gguf_type elem_type, gguf_need need, const gguf_kv **out,
                          galen_error *err);

/** Scalar or element i of an array as a number. i < kv->n. */
int64_t gguf_kv_int(const gguf_kv *kv, uint64_t i);
double gguf_kv_float(const gguf_kv *kv, uint64_t i);

/** Strings of an array in order: start with *pos = 0, call kv->n times. */
gguf_str gguf_kv_str_next(const gguf_kv *kv, size_t *pos);
gguf_str gguf_kv_str(const gguf_kv *kv); /* of a scalar string */

const char *gguf_type_name(gguf_type t);
bool gguf_str_eq(gguf_str s, const char *z);

/* ---- writer: metadata is collected in memory, tensor data is streamed through the sink ---- */

typedef struct gguf_writer gguf_writer;

/** Takes the file's bytes in order. Errors stop the writer and are returned by the call that wrote. */
typedef galen_status (*gguf_sink)(void *user, const void *bytes, size_t n, galen_error *err);

/** version 2 or 3; alignment a power of two >= 8 (32 unless told; others are written as general.alignment). */
galen_status gguf_writer_open(gguf_writer **out, uint32_t version, uint32_t alignment, gguf_sink sink, void *user,
                              galen_error *err);
void gguf_writer_close(gguf_writer *w);
galen_status gguf_put_u32(gguf_writer *w, const char *key, uint32_t v, galen_error *err);
galen_status gguf_put_f32(gguf_writer *w, const char *key, float v, galen_error *err);
galen_status gguf_put_bool(gguf_writer *w, const char *key, bool v, galen_error *err);
galen_status gguf_put_str(gguf_writer *w, const char *key, const char *v, size_t n, galen_error *err);
galen_status gguf_put_scalar(gguf_writer *w, const char *key, gguf_type type, const void *le_value, galen_error *err);
/** n elements of a number type, little-endian and packed. */
galen_status gguf_put_arr(gguf_writer *w, const char *key, gguf_type elem_type, const void *elems, uint64_t n, galen_error *err);
galen_status gguf_put_arr_str(gguf_writer *w, const char *key, const gguf_str *elems, uint64_t n, galen_error *err);
/** Announce a tensor; its data follows in the same order through gguf_write_data. */
galen_status gguf_put_tensor(gguf_writer *w, const char *name, tensor_type type, uint32_t n_dims, const uint64_t *ne,
                             galen_error *err);
/** Header, metadata and tensor records go out; nothing can be announced afterwards. */
galen_status gguf_write_header(gguf_writer *w, galen_error *err);
/** The next bytes of tensor data; padding between tensors is the writer's. Errors ARG when a tensor gets too many bytes. */
galen_status gguf_write_data(gguf_writer *w, const void *bytes, size_t n, galen_error *err);
/** Errors ARG when announced data is missing. */
galen_status gguf_write_end(gguf_writer *w, galen_error *err);

#endif
