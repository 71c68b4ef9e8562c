/* GGUF files put together byte by byte for the tests, without the writer under test, and a note of where each field stands. */
#ifndef TESTS_GGUF_BYTES_H
#define TESTS_GGUF_BYTES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gguf/gguf.h"

/* Milliseconds of processor time, which a busy machine does not change. */
static inline double cpu_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* How many of them parsing takes at least, of five tries: what other machines take from a virtual processor is counted too. */
static inline double parse_ms(const void *p, size_t n) {
    double least = 1e9;
    for (int i = 0; i < 5; i++) {
        gguf *g = NULL;
        galen_error err;
        const double start = cpu_ms();
        (void)gguf_parse(&g, p, n, "m", &err);
        const double ms = cpu_ms() - start;
        gguf_close(g);
        if (ms < least) least = ms;
    }
    return least;
}

typedef struct blob {
    uint8_t *p;
    size_t n, cap;
} blob;

static inline void blob_add(blob *b, const void *p, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 256;
        b->p = realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static inline void blob_le(blob *b, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = (uint8_t)(v >> (8 * i));
        blob_add(b, &byte, 1);
    }
}
static inline void blob_fill(blob *b, uint8_t byte, size_t n) {
    for (size_t i = 0; i < n; i++) blob_add(b, &byte, 1);
}
static inline void blob_str(blob *b, const char *s) {
    blob_le(b, strlen(s), 8);
    blob_add(b, s, strlen(s));
}
static inline void blob_pad(blob *b, size_t align) {
    while (b->n % align) blob_fill(b, 0, 1);
}
static inline void blob_poke(blob *b, size_t at, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) b->p[at + i] = (uint8_t)(v >> (8 * i));
}
static inline void blob_free(blob *b) {
    free(b->p);
    *b = (blob){0};
}
/* A copy of exactly n bytes, so that the address sanitizer sees any read past them. */
static inline void *blob_exact(const blob *b, size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) abort();
    if (n) memcpy(p, b->p, n);
    return p;
}
static inline galen_status blob_sink(void *user, const void *p, size_t n, galen_error *err) {
    (void)err;
    blob_add(user, p, n);
    return GALEN_OK;
}
static inline int blob_save(const blob *b, const char *path) {
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    const size_t n = b->n ? fwrite(b->p, 1, b->n, f) : 0;
    return fclose(f) == 0 && n == b->n ? 0 : -1;
}

/* ---- the base file: every kind of value that a check looks at, three tensors of three types ---- */

enum field {
    AT_MAGIC,
    AT_VERSION,
    AT_N_TENSORS,
    AT_N_KV,
    AT_ALIGN_KEY,
    AT_ALIGN_NAME,
    AT_ALIGN_TYPE,
    AT_ALIGN,
    AT_S_KEY,
    AT_S_NAME,
    AT_S_TYPE,
    AT_S_VALUE,
    AT_INTS_TYPE,
    AT_INTS_ELEM,
    AT_INTS_N,
    AT_INTS,
    AT_STRS_ELEM,
    AT_STRS_N,
    AT_STRS_0,
    AT_STRS_1,
    AT_BOOL,
    AT_BOOLS_N,
    AT_BOOLS,
    AT_W0_NAME,
    AT_W0_DIMS,
    AT_W0_NE0,
    AT_W0_NE1,
    AT_W0_TYPE,
    AT_W0_OFFSET,
    AT_W1_NAME,
    AT_W1_DIMS,
    AT_W1_NE0,
    AT_W1_NE1,
    AT_W1_TYPE,
    AT_W1_OFFSET,
    AT_W2_NAME,
    AT_W2_DIMS,
    AT_W2_NE0,
    AT_W2_TYPE,
    AT_W2_OFFSET,
    AT_RECORDS_END,
    AT_DATA,
    AT_END,
    N_FIELDS
};

/* Departures from the base file; all zero is the base file. */
typedef struct base_opts {
    uint32_t version;    /* 0 = 3 */
    uint32_t align_type; /* 0 = u32 */
    uint64_t align;      /* what general.alignment says; 0 = 32 */
    size_t layout;       /* what the data is really aligned to; 0 = as said */
    size_t key_bytes;    /* of the second key, "s"; 0 = 1 */
    size_t name_bytes;   /* of the last tensor's name; 0 = 2 */
} base_opts;

static inline void base_key(blob *b, const char *key, uint32_t type) {
    blob_str(b, key);
    blob_le(b, type, 4);
}

static inline void base_tensor(blob *b, size_t at[], enum field f, const char *name, const uint64_t *ne, uint32_t n_dims,
                               uint32_t type, uint64_t offset) {
    at[f++] = b->n;
    blob_str(b, name);
    at[f++] = b->n;
    blob_le(b, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) {
        at[f++] = b->n;
        blob_le(b, ne[i], 8);
    }
    at[f++] = b->n;
    blob_le(b, type, 4);
    at[f] = b->n;
    blob_le(b, offset, 8);
}

static inline void base_metadata(blob *b, size_t at[], const base_opts *o) {
    static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
    const uint32_t align_type = o->align_type ? o->align_type : 4;
    at[AT_ALIGN_KEY] = b->n;
    at[AT_ALIGN_NAME] = b->n + 8;
    at[AT_ALIGN_TYPE] = b->n + 8 + strlen("general.alignment");
    base_key(b, "general.alignment", align_type);
    at[AT_ALIGN] = b->n;
    if (align_type == 8) {
        blob_str(b, "32");
    } else if (align_type == 9) {
        blob_le(b, 4, 4), blob_le(b, 1, 8), blob_le(b, 32, 4);
    } else {
        blob_le(b, o->align ? o->align : 32, widths[align_type]);
    }
    at[AT_S_KEY] = b->n;
    blob_le(b, o->key_bytes ? o->key_bytes : 1, 8);
    at[AT_S_NAME] = b->n;
    blob_fill(b, 's', o->key_bytes ? o->key_bytes : 1);
    at[AT_S_TYPE] = b->n;
    blob_le(b, 8, 4);
    at[AT_S_VALUE] = b->n;
    blob_str(b, "hello");
    at[AT_INTS_TYPE] = b->n + 8 + 4;
    base_key(b, "ints", 9);
    at[AT_INTS_ELEM] = b->n;
    blob_le(b, 5, 4);
    at[AT_INTS_N] = b->n;
    blob_le(b, 4, 8);
    at[AT_INTS] = b->n;
    for (uint64_t i = 0; i < 4; i++) blob_le(b, i - 1, 4);
    base_key(b, "strs", 9);
    at[AT_STRS_ELEM] = b->n;
    blob_le(b, 8, 4);
    at[AT_STRS_N] = b->n;
    blob_le(b, 2, 8);
    at[AT_STRS_0] = b->n;
    blob_str(b, "x");
    at[AT_STRS_1] = b->n;
    blob_str(b, "yz");
    base_key(b, "b", 7);
    at[AT_BOOL] = b->n;
    blob_le(b, 1, 1);
    base_key(b, "bools", 9);
    blob_le(b, 7, 4);
    at[AT_BOOLS_N] = b->n;
    blob_le(b, 3, 8);
    at[AT_BOOLS] = b->n;
    blob_le(b, 0x000100, 3);
}

/* w0 F32 [8][2] 64 bytes, w1 Q8_0 [64][3] 204 bytes, w2 F16 [4] 8 bytes. */
static inline blob base_file(size_t at[N_FIELDS], const base_opts *o) {
    const uint64_t ne0[] = {8, 2}, ne1[] = {64, 3}, ne2[] = {4};
    const size_t align = o->layout ? o->layout : o->align && o->align <= 4096 ? (size_t)o->align : 32;
    const size_t w1 = (64 + align - 1) / align * align, w2 = w1 + (204 + align - 1) / align * align;
    const size_t n_name = o->name_bytes ? o->name_bytes : 2;
    char *name = malloc(n_name + 1);
    blob b = {0};
    if (!name) abort();
    memset(name, 'w', n_name);
    name[n_name] = '\0';
    if (n_name == 2) name[1] = '2';
    memset(at, 0, N_FIELDS * sizeof *at);
    at[AT_VERSION] = 4, at[AT_N_TENSORS] = 8, at[AT_N_KV] = 16;
    blob_add(&b, "GGUF", 4);
    blob_le(&b, o->version ? o->version : 3, 4);
    blob_le(&b, 3, 8);
    blob_le(&b, 6, 8);
    base_metadata(&b, at, o);
    base_tensor(&b, at, AT_W0_NAME, "w0", ne0, 2, 0, 0);
    base_tensor(&b, at, AT_W1_NAME, "w1", ne1, 2, 8, w1);
    base_tensor(&b, at, AT_W2_NAME, name, ne2, 1, 1, w2);
    free(name);
    at[AT_RECORDS_END] = b.n;
    blob_pad(&b, align);
    at[AT_DATA] = b.n;
    blob_fill(&b, 0x3C, w2 + 8);
    at[AT_END] = b.n;
    blob_pad(&b, align);
    return b;
}

#endif
