/* The parser on any bytes. What it accepts is read to the last byte, and copied through the writer: the copy must be accepted
 * too and say the same. */
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum; /* so that the reads stay */

static void check(bool ok) {
    if (!ok) abort();
}

typedef struct output {
    uint8_t *p;
    size_t n, cap;
} output;

static galen_status take(void *user, const void *p, size_t n, galen_error *err) {
    output *o = user;
    if (n > o->cap - o->n) {
        o->cap = 2 * (o->n + n);
        void *q = realloc(o->p, o->cap);
        if (!q) return galen_fail(err, GALEN_E_NOMEM, 0, "output");
        o->p = q;
    }
    memcpy(o->p + o->n, p, n);
    o->n += n;
    return GALEN_OK;
}

static void read_kv(const gguf *g, const gguf_kv *kv, const char *key) {
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    gguf_str s = {0};
    const gguf_kv *arr = NULL;
    galen_error err;
    check(gguf_find(g, key) == kv);
    (void)gguf_get_u32(g, key, GGUF_REQUIRED, &u, &err);
    (void)gguf_get_f32(g, key, GGUF_REQUIRED, &f, &err);
    (void)gguf_get_bool(g, key, GGUF_REQUIRED, &b, &err);
    if (gguf_get_str(g, key, GGUF_REQUIRED, &s, &err) == GALEN_OK && s.n) sum += (uint8_t)s.p[s.n - 1];
    (void)gguf_get_arr(g, key, GGUF_STR, GGUF_REQUIRED, &arr, &err);
    size_t pos = 0;
    for (uint64_t i = 0; arr && i < arr->n; i++) {
        s = gguf_kv_str_next(arr, &pos);
        if (s.n) sum += (uint8_t)s.p[s.n - 1];
    }
    for (uint64_t i = 0; kv->elem_type != GGUF_STR && i < kv->n; i++)
        sum += (uint64_t)gguf_kv_int(kv, i) + (gguf_kv_float(kv, i) > 0.0);
}

static galen_status copy_kv(gguf_writer *w, const gguf_kv *kv, const char *key) {
    if (strcmp(key, "general.alignment") == 0) return GALEN_OK;
    if (kv->type == GGUF_STR) return gguf_put_str(w, key, gguf_kv_str(kv).p, gguf_kv_str(kv).n, NULL);
    if (kv->type != GGUF_ARR) return gguf_put_scalar(w, key, kv->type, kv->data, NULL);
    if (kv->elem_type != GGUF_STR) return gguf_put_arr(w, key, kv->elem_type, kv->data, kv->n, NULL);
    gguf_str *strs = malloc(kv->n * sizeof *strs + 1);
    size_t pos = 0;
    check(strs != NULL);
    for (uint64_t i = 0; i < kv->n; i++) strs[i] = gguf_kv_str_next(kv, &pos);
    const galen_status st = gguf_put_arr_str(w, key, strs, kv->n, NULL);
    free(strs);
    return st;
}

static char *terminated(gguf_str s) {
    char *z = malloc(s.n + 1);
    check(z != NULL);
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    return z;
}

static void copy(const gguf *g, uint32_t alignment, output *o) {
    gguf_writer *w = NULL;
    check(gguf_writer_open(&w, gguf_version(g), alignment, take, o, NULL) == GALEN_OK);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        char *key = terminated(gguf_kv_at(g, i)->key);
        read_kv(g, gguf_kv_at(g, i), key);
        check(copy_kv(w, gguf_kv_at(g, i), key) == GALEN_OK);
        free(key);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        char *name = terminated(t->name);
        check(gguf_find_tensor(g, name) == t);
        check(gguf_put_tensor(w, name, t->type, t->n_dims, t->ne, NULL) == GALEN_OK);
        free(name);
    }
    check(gguf_write_header(w, NULL) == GALEN_OK);
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        check(gguf_write_data(w, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->n_bytes, NULL) == GALEN_OK);
    check(gguf_write_end(w, NULL) == GALEN_OK);
    gguf_writer_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gguf *g = NULL, *again = NULL;
    galen_error err = {0};
    output o = {0};
    const galen_status st = gguf_parse(&g, data, size, "fuzz", &err);
    check((st == GALEN_OK) == (g != NULL));
    if (st != GALEN_OK) {
        check(err.code == st && err.msg[0] && err.offset <= size);
        return 0;
    }
    uint32_t alignment = 32;
    check(gguf_get_u32(g, "general.alignment", GGUF_OPTIONAL, &alignment, &err) == GALEN_OK);
    if (alignment <= 4096) { /* the padding alone would fill the memory */
        copy(g, alignment, &o);
        check(gguf_parse(&again, o.p, o.n, "copy", &err) == GALEN_OK);
        check(gguf_n_tensors(again) == gguf_n_tensors(g));
        for (size_t i = 0; i < gguf_n_tensors(g); i++) {
            const gguf_tensor *a = gguf_tensor_at(g, i), *b = gguf_tensor_at(again, i);
            check(a->n_bytes == b->n_bytes && memcmp(a->data, b->data, a->n_bytes) == 0);
        }
    }
    gguf_close(again);
    gguf_close(g);
    free(o.p);
    return 0;
}
