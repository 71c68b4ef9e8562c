/* G20: small valid files cut at every byte, and with every bit of their metadata flipped. The answer is an error or a
 * success; all that a success offers is then read, so that the sanitizers see any range that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three that it needs */
#include <cmocka.h>

#include "gguf_samples.h"

static volatile uint64_t read_bytes; /* so that the reads stay */

/* Adds up all that a parsed file offers. */
static uint64_t touch(const gguf *g) {
    uint64_t sum = gguf_version(g) + gguf_file_bytes(g);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        size_t pos = 0;
        for (size_t k = 0; k < kv->key.n; k++) sum += (uint8_t)kv->key.p[k];
        for (uint64_t k = 0; k < kv->n; k++) {
            if (kv->elem_type == GGUF_STR) {
                const gguf_str s = gguf_kv_str_next(kv, &pos);
                for (size_t c = 0; c < s.n; c++) sum += (uint8_t)s.p[c];
            } else {
                sum += (uint64_t)gguf_kv_int(kv, k) + (gguf_kv_float(kv, k) > 0.0);
            }
        }
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        const uint8_t *p = t->data;
        for (size_t k = 0; k < t->n_bytes; k++) sum += p[k];
    }
    return sum;
}

/* What parsing p[0..n) answers; also checks what holds of every answer. */
static galen_status parse(const void *p, size_t n, galen_error *err) {
    gguf *g = NULL;
    *err = (galen_error){0};
    const double start = cpu_ms();
    const galen_status st = gguf_parse(&g, p, n, "m", err);
    assert_true(cpu_ms() - start <= 100 || parse_ms(p, n) <= 100);
    assert_true((st == GALEN_OK) == (g != NULL));
    if (st == GALEN_OK) {
        read_bytes += touch(g);
    } else {
        assert_true(st == GALEN_E_FORMAT || st == GALEN_E_UNSUPPORTED);
        assert_true(err->code == st && err->msg[0] && err->offset <= n);
    }
    gguf_close(g);
    return st;
}

/* Cut at every byte: an error up to the last tensor's end, success in the padding after it. */
static void cut_everywhere(const blob *b, size_t end) {
    galen_error err;
    for (size_t n = 0; n <= b->n; n++) {
        void *p = blob_exact(b, n);
        const galen_status st = parse(p, n, &err);
        if ((st == GALEN_OK) != (n >= end)) fail_msg("cut to %zu of %zu bytes: status %d, %s", n, b->n, st, err.msg);
        free(p);
    }
}

/* Flip every bit before end. Returns how many flips were accepted. */
static size_t flip_everywhere(const blob *b, size_t end) {
    galen_error err;
    size_t n_accepted = 0;
    uint8_t *p = blob_exact(b, b->n);
    for (size_t bit = 0; bit < 8 * end; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        n_accepted += parse(p, b->n, &err) == GALEN_OK;
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(p);
    return n_accepted;
}

/* Where the data of the first tensor begins and that of the last one ends. */
static void data_range(const blob *b, size_t *begin, size_t *end) {
    galen_error err;
    gguf *g = NULL;
    assert_int_equal(gguf_parse(&g, b->p, b->n, "m", &err), GALEN_OK);
    const gguf_tensor *first = gguf_tensor_at(g, 0), *last = gguf_tensor_at(g, gguf_n_tensors(g) - 1);
    *begin = first->offset;
    *end = last->offset + last->n_bytes;
    gguf_close(g);
}

static void mutate(blob *b) {
    size_t begin, end;
    data_range(b, &begin, &end);
    cut_everywhere(b, end);
    assert_true(flip_everywhere(b, begin) < 8 * begin);
    blob_free(b);
}

static void test_base_file(void **state) {
    const base_opts opts = {0};
    size_t at[N_FIELDS];
    blob b = base_file(at, &opts);
    (void)state;
    mutate(&b);
}

static void test_all_types(void **state) {
    blob b = {0};
    (void)state;
    assert_int_equal(sample_write(sample_all_body, 3, 32, blob_sink, &b, NULL), GALEN_OK);
    mutate(&b);
}

static void test_all_types_v2_aligned_8(void **state) {
    blob b = {0};
    (void)state;
    assert_int_equal(sample_write(sample_all_body, 2, 8, blob_sink, &b, NULL), GALEN_OK);
    mutate(&b);
}

static void test_tiny_model(void **state) {
    blob b = {0};
    (void)state;
    assert_int_equal(sample_write(sample_model_body, 3, 32, blob_sink, &b, NULL), GALEN_OK);
    mutate(&b);
}

/* No flipped bit of a tensor's dimensions, type or offset passes unseen, nor of a count, except where two types are of the
 * same size (F16 and BF16, Q4_0 and IQ4_NL) or the padding absorbs the difference at the end. */
static void test_records_are_guarded(void **state) {
    const base_opts opts = {0};
    static const struct {
        enum field first, last; /* bits from the first field's to the last one's, exclusive */
    } ranges[] = {{AT_MAGIC, AT_ALIGN_KEY}, {AT_W0_DIMS, AT_W1_NAME}, {AT_W1_DIMS, AT_W2_NAME}, {AT_W2_OFFSET, AT_RECORDS_END}};
    size_t at[N_FIELDS], n_accepted = 0;
    galen_error err;
    blob b = base_file(at, &opts);
    (void)state;
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
        const size_t last = ranges[r].last == AT_ALIGN_KEY ? 24 : at[ranges[r].last];
        for (size_t bit = 8 * at[ranges[r].first]; bit < 8 * last; bit++) {
            b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (parse(b.p, b.n, &err) == GALEN_OK && bit != 32) { /* bit 32 turns version 3 into 2: the same layout */
                print_error("bit %zu of byte %zu\n", bit % 8, bit / 8);
                n_accepted++;
            }
            b.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert_int_equal(n_accepted, 0);
    blob_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base_file),
        cmocka_unit_test(test_all_types),
        cmocka_unit_test(test_all_types_v2_aligned_8),
        cmocka_unit_test(test_tiny_model),
        cmocka_unit_test(test_records_are_guarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
