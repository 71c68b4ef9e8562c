/* What the files of this folder share: the object itself, the limits, and an index of names. */
#ifndef GALEN_GGUF_IMPL_H
#define GALEN_GGUF_IMPL_H

#include "gguf/gguf.h"

/* Limits of what a file may claim. They keep reading any file within 64 MiB and a fraction of a second; the largest
 * models published so far have some 100 keys and 3,000 tensors. */
enum {
    GGUF_MAX_KV = 65536,
    GGUF_MAX_TENSORS = 65536,
    GGUF_MAX_KEY_BYTES = 65535, /* ggml docs/gguf.md */
    GGUF_MAX_NAME_BYTES = 63,   /* GGML_MAX_NAME less its NUL, ggml.h */
    GGUF_MAX_DIMS = 4,
    GGUF_MAX_PARTS = 65535, /* split.count is a u16 */
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MIN_ALIGNMENT = 8,       /* "must be a multiple of 8", ggml docs/gguf.md; a power of two, ggml gguf.cpp */
    GGUF_MAX_ALIGNMENT = 1 << 30, /* the largest page any machine maps */
};
#define GGUF_MAX_DIM ((uint64_t)1 << 40) /* so that tensor_row_bytes cannot overflow */

/* Records of any kind that begin with their name (gguf_kv, gguf_tensor), and their numbers in the order of the names.
 * Sorting has no bad case that a file could choose, unlike a hash table. */
typedef struct gguf_index {
    const void *records;
    size_t stride; /* bytes from one record to the next */
    uint32_t *order;
    size_t n;
} gguf_index;

/** Fill order[n] and sort it. Allocates nothing, n log n at worst. */
void gguf_index_sort(gguf_index *ix);
/** Two records of the same name: their numbers, *first < *second. false when there are none. */
bool gguf_index_duplicate(const gguf_index *ix, uint32_t *first, uint32_t *second);
/** The record of that name, NULL when absent. */
const void *gguf_index_find(const gguf_index *ix, gguf_str name);

typedef struct gguf_file {
    char *path;
    file_map map;
} gguf_file;

struct gguf {
    char *label;
    const uint8_t *bytes; /* of the first file */
    size_t n;
    uint32_t version;
    uint64_t alignment;
    gguf_kv *kv;
    gguf_tensor *tensors; /* of all files */
    gguf_index kv_index, tensor_index;
    uint64_t file_bytes;
    gguf_file *files; /* NULL when the bytes are the caller's */
    size_t n_files;
};

/** Bytes of one value; 0 for strings, arrays and unknown types. */
size_t gguf_type_bytes(uint32_t type);

/** A name from a file made fit for a message: cut, and anything but printable ASCII replaced. Returns buf. */
enum { GGUF_SHOWN_BYTES = 80 };
const char *gguf_shown(char buf[GGUF_SHOWN_BYTES], gguf_str s);

/** label, or its last bytes after "..." when it is too long to leave room for the reason. Returns buf or label. */
enum { GGUF_LABEL_BYTES = 160 };
const char *gguf_short_label(char buf[GGUF_LABEL_BYTES], const char *label);

#endif
