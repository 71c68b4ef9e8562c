/* The writer and the reader against each other, typed reads, and what the writer refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three that it needs */
#include <cmocka.h>
#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "gguf_samples.h"

typedef struct opened {
    blob file;
    gguf *g;
} opened;

static opened open_sample(sample_body body, uint32_t version, uint32_t alignment) {
    opened o = {0};
    galen_error err = {0};
    if (sample_write(body, version, alignment, blob_sink, &o.file, &err) != GALEN_OK) fail_msg("write: %s", err.msg);
    if (gguf_parse(&o.g, o.file.p, o.file.n, "sample", &err) != GALEN_OK) fail_msg("read: %s", err.msg);
    return o;
}
static void close_sample(opened *o) {
    gguf_close(o->g);
    blob_free(&o->file);
}

/* ---- round trip ---- */

static void check_numbers(const gguf *g) {
    char key[32];
    for (size_t i = 0; i < N_SAMPLE_NUMBERS; i++) {
        const size_t n = sample_numbers[i].size;
        (void)snprintf(key, sizeof key, "scalar.%s", gguf_type_name(sample_numbers[i].type));
        const gguf_kv *kv = gguf_find(g, key);
        assert_non_null(kv);
        assert_true(kv->type == sample_numbers[i].type && kv->elem_type == kv->type && kv->n == 1);
        assert_memory_equal(kv->data, sample_numbers[i].high, n);
        (void)snprintf(key, sizeof key, "array.%s", gguf_type_name(sample_numbers[i].type));
        kv = gguf_find(g, key);
        assert_non_null(kv);
        assert_true(kv->type == GGUF_ARR && kv->elem_type == sample_numbers[i].type && kv->n == 2);
        assert_memory_equal(kv->data, sample_numbers[i].low, n);
        assert_memory_equal(kv->data + n, sample_numbers[i].high, n);
    }
}

static void check_strings(const gguf *g) {
    static const gguf_str expected[] = {{"plain", 5}, {"", 0}, {"a\0b", 3}, {"gr\xC3\xBC\xC3\x9F dich", 11}};
    const gguf_kv *kv = NULL;
    size_t pos = 0;
    assert_int_equal(gguf_get_arr(g, "strs", GGUF_STR, GGUF_REQUIRED, &kv, NULL), GALEN_OK);
    assert_int_equal(kv->n, 4);
    for (size_t i = 0; i < 4; i++) {
        const gguf_str s = gguf_kv_str_next(kv, &pos);
        assert_int_equal(s.n, expected[i].n);
        assert_memory_equal(s.p, expected[i].p, s.n);
    }
    assert_int_equal(gguf_get_arr(g, "empty.strs", GGUF_STR, GGUF_REQUIRED, &kv, NULL), GALEN_OK);
    assert_int_equal(kv->n, 0);
    assert_int_equal(gguf_kv_str(gguf_find(g, "empty.str")).n, 0);
}

static void check_tensors(const opened *o, uint32_t alignment) {
    assert_int_equal(gguf_n_tensors(o->g), N_SAMPLE_TYPES + 1);
    for (size_t i = 0; i < gguf_n_tensors(o->g); i++) {
        const gguf_tensor *t = gguf_tensor_at(o->g, i);
        const uint8_t *p = t->data;
        char name[64];
        (void)snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        assert_ptr_equal(gguf_find_tensor(o->g, name), t);
        assert_int_equal(t->offset % alignment, 0);
        assert_ptr_equal(t->data, o->file.p + t->offset);
        assert_int_equal(t->part, 0);
        for (size_t k = 0; k < t->n_bytes; k++) assert_int_equal(p[k], (uint8_t)(7 * i + k));
        if (i == N_SAMPLE_TYPES) {
            assert_true(t->n_dims == 4 && t->ne[0] == 2 && t->ne[1] == 3 && t->ne[2] == 5 && t->ne[3] == 7);
            assert_int_equal(t->n_bytes, 840);
        } else {
            assert_true(t->n_dims == 2 && t->ne[0] == 256 && t->ne[1] == 3 && t->ne[2] == 1 && t->ne[3] == 1);
            assert_int_equal(t->type, sample_types[i]);
        }
    }
}

static void test_round_trip(void **state) {
    static const struct {
        uint32_t version, alignment;
        const char *why;
    } cases[] = {
        {3, 32, "what everybody writes"}, {2, 32, "the older version"},       {3, 8, "the smallest alignment"},
        {3, 64, "a cache line"},          {2, 4096, "a page, and version 2"}, {3, 65536, "more padding than data"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o = open_sample(sample_all_body, cases[i].version, cases[i].alignment);
        assert_int_equal(gguf_version(o.g), cases[i].version);
        assert_int_equal(gguf_file_bytes(o.g), o.file.n);
        assert_int_equal(o.file.n % cases[i].alignment, 0);
        assert_int_equal(gguf_n_files(o.g), 1);
        assert_string_equal(gguf_label(o.g), "sample");
        assert_int_equal(gguf_find(o.g, "general.alignment") != NULL, cases[i].alignment != 32);
        assert_int_equal(gguf_check(o.g, NULL), GALEN_OK);
        check_numbers(o.g);
        check_strings(o.g);
        check_tensors(&o, cases[i].alignment);
        close_sample(&o);
    }
}

static void test_lookup(void **state) {
    opened o = open_sample(sample_all_body, 3, 32);
    (void)state;
    for (size_t i = 0; i < gguf_n_kv(o.g); i++) {
        char key[64];
        const gguf_kv *kv = gguf_kv_at(o.g, i);
        (void)snprintf(key, sizeof key, "%.*s", (int)kv->key.n, kv->key.p);
        assert_ptr_equal(gguf_find(o.g, key), kv);
        key[kv->key.n - 1]++; /* a neighbour of a name is another name */
        assert_null(gguf_find(o.g, key));
        (void)snprintf(key, sizeof key, "%.*sx", (int)kv->key.n, kv->key.p);
        assert_null(gguf_find(o.g, key));
    }
    assert_null(gguf_find(o.g, ""));
    assert_null(gguf_find(o.g, "zzzz"));
    assert_null(gguf_find_tensor(o.g, "scalar.u8"));
    assert_null(gguf_kv_at(o.g, gguf_n_kv(o.g)));
    assert_null(gguf_tensor_at(o.g, gguf_n_tensors(o.g)));
    close_sample(&o);
}

/* ---- typed reads ---- */

static void test_get_u32(void **state) {
    static const struct {
        const char *key;
        galen_status st;
        uint32_t value;
        const char *says;
    } cases[] = {
        {"scalar.u8", GALEN_OK, 255, NULL},
        {"scalar.i8", GALEN_OK, 127, NULL},
        {"scalar.u16", GALEN_OK, 65535, NULL},
        {"scalar.i16", GALEN_OK, 32767, NULL},
        {"scalar.u32", GALEN_OK, UINT32_MAX, NULL},
        {"scalar.i32", GALEN_OK, INT32_MAX, NULL},
        {"scalar.u64", GALEN_E_FORMAT, 7, "scalar.u64 at offset"},
        {"scalar.u64", GALEN_E_FORMAT, 7, "18446744073709551615, expected 0 to 4294967295"},
        {"scalar.i64", GALEN_E_FORMAT, 7, "9223372036854775807, expected 0 to 4294967295"},
        {"negative", GALEN_E_FORMAT, 7, ": -5, expected 0 to 4294967295"},
        {"lowest", GALEN_E_FORMAT, 7, ": -9223372036854775808, expected 0 to 4294967295"},
        {"scalar.f32", GALEN_E_FORMAT, 7, "type f32, expected an unsigned integer"},
        {"scalar.f64", GALEN_E_FORMAT, 7, "type f64, expected an unsigned integer"},
        {"scalar.bool", GALEN_E_FORMAT, 7, "type bool, expected an unsigned integer"},
        {"empty.str", GALEN_E_FORMAT, 7, "type str, expected an unsigned integer"},
        {"array.u32", GALEN_E_FORMAT, 7, "type arr of u32, expected an unsigned integer"},
        {"no.such.key", GALEN_E_FORMAT, 7, "no.such.key: missing"},
    };
    const int64_t lowest = INT64_MIN, minus5 = -5;
    gguf_writer *w = NULL;
    blob b = {0};
    gguf *g = NULL;
    galen_error err;
    (void)state;
    assert_int_equal(gguf_writer_open(&w, 3, 32, blob_sink, &b, &err), GALEN_OK);
    assert_int_equal(sample_all_kv(w, &err), GALEN_OK);
    assert_int_equal(gguf_put_scalar(w, "lowest", GGUF_I64, &lowest, &err), GALEN_OK);
    assert_int_equal(gguf_put_scalar(w, "negative", GGUF_I8, &minus5, &err), GALEN_OK);
    assert_int_equal(gguf_write_header(w, &err), GALEN_OK);
    assert_int_equal(gguf_write_end(w, &err), GALEN_OK);
    gguf_writer_close(w);
    assert_int_equal(gguf_parse(&g, b.p, b.n, "f.gguf", &err), GALEN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t v = 7;
        err = (galen_error){0};
        assert_int_equal(gguf_get_u32(g, cases[i].key, GGUF_REQUIRED, &v, &err), cases[i].st);
        assert_int_equal(v, cases[i].value);
        if (cases[i].says && !strstr(err.msg, cases[i].says)) fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].says);
        if (cases[i].says) assert_memory_equal(err.msg, "f.gguf: ", 8);
        const gguf_kv *kv = gguf_find(g, cases[i].key);
        if (cases[i].st && kv) assert_int_equal(err.offset, kv->data - b.p);
    }
    gguf_close(g);
    blob_free(&b);
}

static void test_get_others(void **state) {
    opened o = open_sample(sample_all_body, 3, 32);
    const gguf *g = o.g;
    uint32_t u = 7;
    float f = 7;
    bool b = false;
    gguf_str s = {"unchanged", 9};
    (void)state;
    assert_int_equal(gguf_get_u32(g, "absent", GGUF_OPTIONAL, &u, NULL), GALEN_OK);
    assert_int_equal(gguf_get_f32(g, "absent", GGUF_OPTIONAL, &f, NULL), GALEN_OK);
    assert_int_equal(gguf_get_bool(g, "absent", GGUF_OPTIONAL, &b, NULL), GALEN_OK);
    assert_int_equal(gguf_get_str(g, "absent", GGUF_OPTIONAL, &s, NULL), GALEN_OK);
    assert_true(u == 7 && f == 7 && !b && s.n == 9);
    assert_int_equal(gguf_get_f32(g, "scalar.u32", GGUF_OPTIONAL, &f, NULL), GALEN_E_FORMAT); /* optional, yet wrong */
    assert_int_equal(gguf_get_bool(g, "scalar.u8", GGUF_OPTIONAL, &b, NULL), GALEN_E_FORMAT);
    assert_int_equal(gguf_get_str(g, "strs", GGUF_OPTIONAL, &s, NULL), GALEN_E_FORMAT);
    assert_int_equal(gguf_get_f32(g, "absent", GGUF_REQUIRED, &f, NULL), GALEN_E_FORMAT);
    assert_int_equal(gguf_get_bool(g, "absent", GGUF_REQUIRED, &b, NULL), GALEN_E_FORMAT);
    assert_int_equal(gguf_get_str(g, "absent", GGUF_REQUIRED, &s, NULL), GALEN_E_FORMAT);
    assert_true(f == 7 && !b && s.n == 9);
    assert_int_equal(gguf_get_f32(g, "put.f32", GGUF_REQUIRED, &f, NULL), GALEN_OK);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_get_f32(g, "scalar.f32", GGUF_REQUIRED, &f, NULL), GALEN_OK);
    assert_true(f == FLT_MAX);
    assert_int_equal(gguf_get_bool(g, "put.bool", GGUF_REQUIRED, &b, NULL), GALEN_OK);
    assert_true(b);
    assert_int_equal(gguf_get_str(g, "general.architecture", GGUF_REQUIRED, &s, NULL), GALEN_OK);
    assert_true(gguf_str_eq(s, "llama") && !gguf_str_eq(s, "llam") && !gguf_str_eq(s, "llama2") && !gguf_str_eq(s, ""));
    close_sample(&o);
}

static void test_get_arr(void **state) {
    static const struct {
        const char *key;
        gguf_type asked;
        galen_status st;
        const char *why;
    } cases[] = {
        {"array.i32", GGUF_I32, GALEN_OK, "the type itself"},
        {"array.u32", GGUF_I32, GALEN_OK, "a 32-bit integer"},
        {"array.i8", GGUF_I32, GALEN_OK, "a smaller integer"},
        {"array.u16", GGUF_I32, GALEN_OK, "a smaller integer"},
        {"array.u64", GGUF_I32, GALEN_E_FORMAT, "too wide"},
        {"array.i64", GGUF_I32, GALEN_E_FORMAT, "too wide"},
        {"array.bool", GGUF_I32, GALEN_E_FORMAT, "no integer"},
        {"array.f32", GGUF_I32, GALEN_E_FORMAT, "no integer"},
        {"strs", GGUF_I32, GALEN_E_FORMAT, "no integer"},
        {"scalar.i32", GGUF_I32, GALEN_E_FORMAT, "no array"},
        {"array.f32", GGUF_F32, GALEN_OK, "the type itself"},
        {"array.f64", GGUF_F32, GALEN_E_FORMAT, "the caller would read it as f32"},
        {"array.i32", GGUF_U32, GALEN_E_FORMAT, "only I32 stands for others"},
        {"strs", GGUF_STR, GALEN_OK, "the type itself"},
        {"empty.str", GGUF_STR, GALEN_E_FORMAT, "no array"},
    };
    opened o = open_sample(sample_all_body, 3, 32);
    const gguf_kv *kv;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const galen_status st = gguf_get_arr(o.g, cases[i].key, cases[i].asked, GGUF_REQUIRED, &kv, NULL);
        if (st != cases[i].st || (st == GALEN_OK) != (kv != NULL)) fail_msg("%s: %s: %d", cases[i].key, cases[i].why, st);
    }
    assert_int_equal(gguf_get_arr(o.g, "absent", GGUF_I32, GGUF_OPTIONAL, &kv, NULL), GALEN_OK);
    assert_null(kv);
    assert_int_equal(gguf_get_arr(o.g, "absent", GGUF_I32, GGUF_REQUIRED, &kv, NULL), GALEN_E_FORMAT);
    close_sample(&o);
}

static void test_values(void **state) {
    static const struct {
        const char *key;
        int64_t low, high;
        double f_low, f_high;
    } cases[] = {
        {"array.u8", 0, 255, 0, 255},
        {"array.i8", -128, 127, -128, 127},
        {"array.u16", 0, 65535, 0, 65535},
        {"array.i16", -32768, 32767, -32768, 32767},
        {"array.u32", 0, UINT32_MAX, 0, 4294967295.0},
        {"array.i32", INT32_MIN, INT32_MAX, -2147483648.0, 2147483647.0},
        {"array.u64", 0, -1, 0, 0x1p64},
        {"array.i64", INT64_MIN, INT64_MAX, -0x1p63, 0x1p63},
        {"array.bool", 0, 1, 0, 1},
        {"array.f32", -1, INT64_MAX, -1, FLT_MAX},
        {"array.f64", -1, INT64_MAX, -1, DBL_MAX},
    };
    opened o = open_sample(sample_all_body, 3, 32);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const gguf_kv *kv = gguf_find(o.g, cases[i].key);
        assert_true(gguf_kv_int(kv, 0) == cases[i].low && gguf_kv_int(kv, 1) == cases[i].high);
        assert_true(gguf_kv_float(kv, 0) == cases[i].f_low && gguf_kv_float(kv, 1) == cases[i].f_high);
    }
    close_sample(&o);
}

/* ---- what the writer refuses ---- */

static void test_writer_open(void **state) {
    static const struct {
        uint32_t version, alignment;
    } bad[] = {{1, 32}, {4, 32}, {0, 32}, {3, 0}, {3, 4}, {3, 33}, {3, 1u << 31}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_writer *w = NULL;
        assert_int_equal(gguf_writer_open(&w, bad[i].version, bad[i].alignment, blob_sink, NULL, NULL), GALEN_E_ARG);
        assert_null(w);
    }
    gguf_writer_close(NULL);
    gguf_close(NULL);
}

static void test_writer_metadata(void **state) {
    const uint64_t ne[] = {33, 2}, zero[] = {0, 1}, wraps[] = {1ull << 40, 1ull << 40};
    const uint8_t seven = 7;
    char long_name[65537];
    gguf_writer *w = NULL;
    blob b = {0};
    galen_error err = {0};
    (void)state;
    memset(long_name, 'n', sizeof long_name);
    assert_int_equal(gguf_writer_open(&w, 3, 64, blob_sink, &b, &err), GALEN_OK);
    long_name[65536] = '\0';
    assert_int_equal(gguf_put_u32(w, long_name, 1, &err), GALEN_E_ARG);
    long_name[64] = '\0';
    assert_int_equal(gguf_put_tensor(w, long_name, TENSOR_F32, 1, ne, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_u32(w, "", 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_u32(w, "\xFF", 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_u32(w, "general.alignment", 64, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_scalar(w, "b", GGUF_BOOL, &seven, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_scalar(w, "s", GGUF_STR, &seven, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_arr(w, "a", GGUF_ARR, &seven, 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_arr(w, "a", GGUF_BOOL, &seven, 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_arr(w, "a", GGUF_U64, &seven, 1ull << 61, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_Q8_0, 2, ne, &err), GALEN_E_ARG);
    assert_non_null(strstr(err.msg, "rows of 33 weights, expected a multiple of 32"));
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_F32, 0, ne, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_F32, 5, ne, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_F32, 2, zero, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_F32, 2, wraps, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "t", (tensor_type)4, 2, ne, &err), GALEN_E_ARG);
    assert_int_equal(gguf_write_data(w, &seven, 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_write_end(w, &err), GALEN_E_ARG);
    assert_int_equal(b.n, 0); /* nothing of all that came out */
    assert_int_equal(gguf_write_header(w, &err), GALEN_OK);
    assert_int_equal(gguf_write_header(w, &err), GALEN_E_ARG);
    assert_int_equal(gguf_put_u32(w, "late", 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_write_end(w, &err), GALEN_OK);
    assert_int_equal(gguf_write_end(w, &err), GALEN_E_ARG);
    gguf_writer_close(w);
    gguf *g = NULL;
    assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_OK); /* what was refused left no trace */
    assert_int_equal(gguf_n_kv(g), 1);
    gguf_close(g);
    blob_free(&b);
}

static void test_writer_duplicates(void **state) {
    const uint64_t ne[] = {4};
    (void)state;
    for (int is_tensor = 0; is_tensor < 2; is_tensor++) {
        gguf_writer *w = NULL;
        blob b = {0};
        galen_error err = {0};
        assert_int_equal(gguf_writer_open(&w, 3, 32, blob_sink, &b, &err), GALEN_OK);
        assert_int_equal(gguf_put_u32(w, "k", 1, &err), GALEN_OK);
        assert_int_equal(gguf_put_tensor(w, "k", TENSOR_F32, 1, ne, &err), GALEN_OK); /* a key and a tensor may */
        if (is_tensor) {
            assert_int_equal(gguf_put_tensor(w, "k", TENSOR_F16, 1, ne, &err), GALEN_OK);
        } else {
            assert_int_equal(gguf_put_u32(w, "k", 2, &err), GALEN_OK);
        }
        assert_int_equal(gguf_write_header(w, &err), GALEN_E_ARG);
        assert_non_null(strstr(err.msg, is_tensor ? "tensor k" : "key k"));
        assert_int_equal(b.n, 0);
        gguf_writer_close(w);
        blob_free(&b);
    }
}

static void test_writer_data(void **state) {
    const uint64_t ne[] = {4};
    const uint8_t bytes[32] = {0};
    gguf_writer *w = NULL;
    blob b = {0};
    galen_error err = {0};
    (void)state;
    assert_int_equal(gguf_writer_open(&w, 3, 32, blob_sink, &b, &err), GALEN_OK);
    assert_int_equal(gguf_put_tensor(w, "t", TENSOR_F32, 1, ne, &err), GALEN_OK);
    assert_int_equal(gguf_put_tensor(w, "u", TENSOR_F32, 1, ne, &err), GALEN_OK);
    assert_int_equal(gguf_write_header(w, &err), GALEN_OK);
    assert_int_equal(gguf_write_data(w, bytes, 17, &err), GALEN_E_ARG);
    assert_non_null(strstr(err.msg, "tensor t: 17 bytes of data, expected at most 16 more"));
    assert_int_equal(gguf_write_data(w, bytes, 16, &err), GALEN_OK);
    assert_int_equal(gguf_write_data(w, bytes, 3, &err), GALEN_OK);
    assert_int_equal(gguf_write_end(w, &err), GALEN_E_ARG);
    assert_non_null(strstr(err.msg, "tensor u: 3 bytes of data, expected 16"));
    assert_int_equal(gguf_write_data(w, bytes, 13, &err), GALEN_OK);
    assert_int_equal(gguf_write_data(w, bytes, 1, &err), GALEN_E_ARG);
    assert_int_equal(gguf_write_data(w, bytes, 0, &err), GALEN_OK);
    assert_int_equal(gguf_write_end(w, &err), GALEN_OK);
    gguf_writer_close(w);
    gguf *g = NULL;
    assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_OK);
    gguf_close(g);
    blob_free(&b);
}

/* A sink that fails at its n-th call: the error comes back from the call that wrote, and nothing is written afterwards. */
typedef struct failing {
    int n_left, n_after;
} failing;

static galen_status failing_sink(void *user, const void *p, size_t n, galen_error *err) {
    failing *f = user;
    (void)p;
    (void)n;
    if (f->n_left < 0) f->n_after++;
    return f->n_left-- > 0 ? GALEN_OK : galen_fail(err, GALEN_E_IO, 0, "disk full");
}

static void test_writer_sink_fails(void **state) {
    int n = 0;
    (void)state;
    for (;; n++) {
        failing f = {.n_left = n};
        galen_error err = {0};
        const galen_status st = sample_write(sample_model_body, 3, 32, failing_sink, &f, &err);
        assert_int_equal(f.n_after, 0);
        if (st == GALEN_OK) break;
        assert_int_equal(st, GALEN_E_IO);
        assert_string_equal(err.msg, "disk full");
    }
    assert_true(n > 10);
    gguf_writer *w = NULL;
    failing f = {0};
    assert_int_equal(gguf_writer_open(&w, 3, 32, failing_sink, &f, NULL), GALEN_OK);
    assert_int_equal(gguf_write_header(w, NULL), GALEN_E_IO);
    assert_int_equal(gguf_write_header(w, NULL), GALEN_E_IO);
    assert_int_equal(gguf_write_data(w, "x", 1, NULL), GALEN_E_IO);
    assert_int_equal(gguf_write_end(w, NULL), GALEN_E_IO);
    assert_int_equal(gguf_put_u32(w, "k", 1, NULL), GALEN_E_IO);
    assert_int_equal(f.n_after, 0);
    gguf_writer_close(w);
}

/* ---- past the map ---- */

/* Bytes of tensors are fetched from the file; one that was cut says so. */
static void test_fetch(void **state) {
    (void)state;
    char path[] = "/tmp/galen-test-fetch-XXXXXX";
    galen_error err = {0};
    blob file = {0};
    gguf *g = NULL;
    if (sample_write(sample_all_body, 3, 32, blob_sink, &file, &err) != GALEN_OK) fail_msg("write: %s", err.msg);
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, file.p, file.n) == (ssize_t)file.n);
    assert_int_equal(gguf_open(&g, path, &err), GALEN_OK);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        char *to = malloc((size_t)t->n_bytes + 1);
        assert_non_null(to);
        assert_true(gguf_fetch(g, t->data, to, (size_t)t->n_bytes));
        assert_memory_equal(to, t->data, (size_t)t->n_bytes);
        free(to);
    }
    const gguf_tensor *last = gguf_tensor_at(g, gguf_n_tensors(g) - 1);
    char own[16], to[16];
    memset(own, 7, sizeof own);
    assert_true(gguf_fetch(g, own, to, sizeof own)); /* memory of nobody's file */
    assert_memory_equal(own, to, sizeof own);
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_false(gguf_fetch(g, last->data, to, 1));
    gguf_close(g);
    blob_free(&file);
    (void)close(fd);
    (void)unlink(path);
}

/* Resident pages of the process's files, those of file systems in memory among them, in KiB; 0 = not told. */
static long resident_file_kib(void) {
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "RssFile:", 8) == 0 || strncmp(line, "RssShmem:", 9) == 0)
            kib += strtol(strchr(line, ':') + 1, NULL, 10);
    if (f) (void)fclose(f);
    return kib;
}

static void test_fetch_leaves_no_pages(void **state) {
    (void)state;
    enum { N = 32 << 20, PIECE = 1 << 20 };
    char path[] = "/tmp/galen-test-pages-XXXXXX";
    galen_error err = {0};
    file_map map;
    char *piece = malloc(PIECE);
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && piece);
    memset(piece, 3, PIECE);
    for (int i = 0; i < N / PIECE; i++) assert_true(write(fd, piece, PIECE) == PIECE);
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.msg);
    const long before = resident_file_kib();
    for (int i = 0; i < N / PIECE; i++) assert_true(file_map_read(&map, (size_t)i * PIECE, piece, PIECE));
    const long read = resident_file_kib() - before;
    volatile char sum = 0;
    for (size_t i = 0; i < N; i += 4096) sum = (char)(sum + ((const volatile char *)map.bytes)[i]);
    const long touched = resident_file_kib() - before;
    if (before > 0) assert_true(read < 1024 && touched > N / 1024 / 2); /* and the measure can tell */
    file_map_close(&map);
    (void)close(fd);
    (void)unlink(path);
    free(piece);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_get_u32),
        cmocka_unit_test(test_get_others),
        cmocka_unit_test(test_get_arr),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_writer_open),
        cmocka_unit_test(test_writer_metadata),
        cmocka_unit_test(test_writer_duplicates),
        cmocka_unit_test(test_writer_data),
        cmocka_unit_test(test_writer_sink_fails),
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_fetch_leaves_no_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
