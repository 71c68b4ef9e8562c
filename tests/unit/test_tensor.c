/* The table of weight types, half floats, and dequantising against what gguf-py makes of the same bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/half.h"
#include "tensor/tensor.h"

/* Ids and sizes: GGUF's ggml_type and gguf-py GGML_QUANT_SIZES.  hash: FNV-1a (64 bits, word by word) over the f32 bits of
 * 512 weights that gguf-py 0.19.0 dequantises from bytes k * 2654435761 mod 2^32 / 2^24, with bit 6 of the upper byte of the
 * half floats at halves cleared so that every scale is finite. */
static const struct {
    const char *name;
    uint32_t id;
    int n_weights, n_bytes, halves[2];
    uint64_t hash;
} types[] = {
    {"F32", 0, 1, 4, {2, -1}, 0x826010d2b2280745ull},         {"F16", 1, 1, 2, {0, -1}, 0x064a284f5863eb25ull},
    {"BF16", 30, 1, 2, {0, -1}, 0x1af910824f604b25ull},       {"Q8_0", 8, 32, 34, {0, -1}, 0x47086a725861cb65ull},
    {"Q4_0", 2, 32, 18, {0, -1}, 0x04bba1b79d50fb25ull},      {"Q4_1", 3, 32, 20, {0, 2}, 0x3ee8e87770a9f644ull},
    {"Q5_0", 6, 32, 22, {0, -1}, 0x13094f295ddbf325ull},      {"Q5_1", 7, 32, 24, {0, 2}, 0xfd1690f30704a525ull},
    {"Q2_K", 10, 256, 84, {80, 82}, 0x5b3bbf9a7f5fb125ull},   {"Q3_K", 11, 256, 110, {108, -1}, 0xd8a760c4ccb16d25ull},
    {"Q4_K", 12, 256, 144, {0, 2}, 0xc0f2254467071069ull},    {"Q5_K", 13, 256, 176, {0, 2}, 0xc830189c5c6f91d1ull},
    {"Q6_K", 14, 256, 210, {208, -1}, 0x605ef58fd3ed415dull}, {"IQ4_NL", 20, 32, 18, {0, -1}, 0x46c5cf6a596c82a5ull},
    {"IQ4_XS", 23, 256, 136, {0, -1}, 0x2da55366e312c971ull},
};
enum { N_TYPES = sizeof types / sizeof types[0], N_WEIGHTS = 512 };

static void test_table(void **state) {
    (void)state;
    int n_known = 0;
    for (uint32_t id = 0; id < 300; id++) n_known += tensor_type_get(id) != NULL;
    assert_int_equal(n_known, N_TYPES);
    assert_null(tensor_type_get(UINT32_MAX));
    for (int i = 0; i < N_TYPES; i++) {
        const tensor_type_info *t = tensor_type_get(types[i].id);
        assert_non_null(t);
        assert_string_equal(t->name, types[i].name);
        assert_int_equal(t->block_weights, types[i].n_weights);
        assert_int_equal(t->block_bytes, types[i].n_bytes);
        assert_non_null(t->dequantise);
        assert_non_null(t->quantise);
        tensor_type type = TENSOR_TYPE_END;
        assert_ptr_equal(tensor_type_by_name(types[i].name, &type), t);
        assert_int_equal(type, types[i].id);
        assert_int_equal(tensor_row_bytes(type, 4096), 4096 / types[i].n_weights * types[i].n_bytes);
        assert_int_equal(tensor_row_bytes(type, 0), 0);
        assert_true(tensor_row_bytes(type, (int64_t)1 << 40) ==
                    ((uint64_t)1 << 40) / (uint64_t)types[i].n_weights * (uint64_t)types[i].n_bytes);
    }
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int is_known;
        const char *why;
    } cases[] = {
        {"q4_k", 1, "lower case"}, {"Iq4_Xs", 1, "mixed case"}, {"q4", 0, "a prefix"},          {"q4_k_m", 0, "a mix is no type"},
        {"", 0, "empty"},          {NULL, 0, "no name"},        {"Q4_K ", 0, "trailing space"}, {"Q8_1", 0, "not for weights"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if ((tensor_type_by_name(cases[i].name, NULL) != NULL) != cases[i].is_known) fail_msg("%s", cases[i].why);
    }
}

static void test_views(void **state) {
    (void)state;
    char data[8 * 34];
    const tensor t = {.name = "w", .data = data, .type = TENSOR_Q8_0, .n_in = 64, .n_out = 4, .row_bytes = 68};
    assert_int_equal(tensor_row_bytes(TENSOR_Q8_0, 64), t.row_bytes);
    assert_ptr_equal(tensor_row(&t, 3), data + 3 * 68);
    const tensor v = tensor_rows(&t, 1, 2);
    assert_ptr_equal(v.data, data + 68);
    assert_int_equal(v.n_out, 2);
    assert_int_equal(v.n_in, 64);
    assert_ptr_equal(tensor_row(&v, 1), data + 2 * 68);
}

static void test_half(void **state) {
    (void)state;
    static const struct {
        float f;
        uint16_t h;
        const char *why;
    } cases[] = {
        {0.0f, 0x0000, "zero"},
        {-0.0f, 0x8000, "minus zero"},
        {1.0f, 0x3c00, "one"},
        {-2.0f, 0xc000, "minus two"},
        {65504.0f, 0x7bff, "largest"},
        {65519.996f, 0x7bff, "just under the tie at the top"},
        {65520.0f, 0x7c00, "the tie at the top goes to infinity"},
        {1e30f, 0x7c00, "overflow"},
        {-INFINITY, 0xfc00, "infinity"},
        {0x1p-14f, 0x0400, "smallest normal"},
        {0x1.ff8p-15f, 0x03ff, "largest subnormal"},
        {0x1.ffcp-15f, 0x0400, "a subnormal that rounds up to a normal: tie to even"},
        {0x1p-24f, 0x0001, "smallest subnormal"},
        {0x1p-25f, 0x0000, "half of it: tie to even"},
        {0x1.000002p-25f, 0x0001, "just over half of it"},
        {0x1.002p0f, 0x3c00, "tie to even, down"},
        {0x1.006p0f, 0x3c02, "tie to even, up"},
        {1e-45f, 0x0000, "a subnormal float"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (half_from_f32(cases[i].f) != cases[i].h) fail_msg("%s: 0x%04x", cases[i].why, half_from_f32(cases[i].f));
    }
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = half_to_f32((uint16_t)h);
        const int is_nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff);
        assert_int_equal(isnan(f) != 0, is_nan);
        if (is_nan) {
            assert_int_equal(half_from_f32(f), h | 0x200);
        } else {
            assert_int_equal(half_from_f32(f), h);
        }
    }
    assert_true(isnan(half_to_f32(HALF_NAN)));
}

static void test_bf16(void **state) {
    (void)state;
    for (uint32_t b = 0; b < 65536; b++) {
        const float f = bf16_to_f32((uint16_t)b);
        assert_int_equal(bf16_from_f32(f), isnan(f) ? b | 0x40 : b);
    }
    assert_int_equal(bf16_from_f32(0x1.01p0f), 0x3f80); /* ties to even, down and up */
    assert_int_equal(bf16_from_f32(0x1.03p0f), 0x3f82);
    assert_int_equal(bf16_from_f32(3.4e38f), 0x7f80);
    const union {
        uint32_t u;
        float f;
    } nan = {.u = 0x7f800001u}; /* its payload lies below the bits that are kept */
    assert_true(isnan(bf16_to_f32(bf16_from_f32(nan.f))));
}

static void test_dequantise(void **state) {
    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        const tensor_type_info *t = tensor_type_get(types[i].id);
        const size_t n_bytes = tensor_row_bytes((tensor_type)types[i].id, N_WEIGHTS);
        uint8_t *bytes = malloc(n_bytes); /* exact sizes, so that the sanitizer sees a read or write too far */
        float *out = malloc(N_WEIGHTS * sizeof *out);
        assert_non_null(bytes);
        assert_non_null(out);
        for (size_t k = 0; k < n_bytes; k++) bytes[k] = (uint8_t)((uint32_t)k * 2654435761u >> 24);
        for (size_t at = 0; at < n_bytes; at += (size_t)types[i].n_bytes) {
            for (int h = 0; h < 2 && types[i].halves[h] >= 0; h++) bytes[at + (size_t)types[i].halves[h] + 1] &= 0xbf;
        }
        t->dequantise(bytes, out, N_WEIGHTS);
        uint64_t hash = 0xcbf29ce484222325ull;
        for (int k = 0; k < N_WEIGHTS; k++) {
            uint32_t u;
            memcpy(&u, &out[k], sizeof u);
            hash = (hash ^ u) * 0x100000001b3ull;
        }
        if (hash != types[i].hash) fail_msg("%s: 0x%016llx", types[i].name, (unsigned long long)hash);
        free(bytes);
        free(out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_names), cmocka_unit_test(test_views),
        cmocka_unit_test(test_half),  cmocka_unit_test(test_bf16),  cmocka_unit_test(test_dequantise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
