/* The pool of pages against a plain model of it: every page has its holders, what is known is found, nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "runtime/pages.h"

static void fill(int32_t *tokens, int32_t first) {
    for (int i = 0; i < KV_PAGE; i++) tokens[i] = first + i;
}

static void a_path_is_found_under_its_root_only(void **state) {
    (void)state;
    page_pool *p;
    int32_t a[KV_PAGE], b[KV_PAGE], n_same;
    fill(a, 0);
    fill(b, 100);
    assert_int_equal(pages_open(&p, 4, NULL), GALEN_OK);
    const int32_t root = pages_take_root(p, ""), other = pages_take_root(p, "salt");
    assert_int_equal(pages_take_root(p, "salt"), other);
    const int32_t first = pages_take(p), second = pages_take(p);
    assert_int_equal(pages_publish(p, root, first, a, KV_PAGE), first);
    assert_int_equal(pages_publish(p, first, second, b, KV_PAGE), second);
    assert_int_equal(pages_find(p, root, a), first);
    assert_int_equal(pages_find(p, first, b), second);
    assert_int_equal(pages_find(p, root, b), PAGE_NONE);
    assert_int_equal(pages_find(p, other, a), PAGE_NONE);
    assert_int_equal(pages_find_part(p, first, b, 10, &n_same), second);
    assert_int_equal(n_same, 10);
    b[5] = -1;
    assert_int_equal(pages_find_part(p, first, b, 10, &n_same), second);
    assert_int_equal(n_same, 5);
    const int32_t twin = pages_take(p); /* the same tokens computed twice: the first stands for both */
    assert_int_equal(pages_publish(p, root, twin, a, KV_PAGE), first);
    assert_false(pages_is_private(p, first));
    pages_let(p, first);
    pages_let(p, second);
    pages_let(p, first);
    const page_counts n = pages_count(p);
    assert_int_equal(n.n_held, 0);
    assert_int_equal(n.n_cached, 2);
    pages_let_root(p, root);
    pages_let_root(p, other);
    pages_let_root(p, other);
    assert_int_equal(pages_take_root(p, "new"), other); /* a salt without holders and pages leaves its slot */
    pages_close(p);
}

static void the_longest_unused_goes_first_and_children_before_parents(void **state) {
    (void)state;
    page_pool *p;
    int32_t t[KV_PAGE];
    assert_int_equal(pages_open(&p, 5, NULL), GALEN_OK);
    const int32_t root = pages_take_root(p, "");
    int32_t at = root, path[4];
    for (int i = 0; i < 4; i++) {
        fill(t, 1000 * i);
        path[i] = pages_take(p);
        at = pages_publish(p, at, path[i], t, i == 3 ? 7 : KV_PAGE);
    }
    for (int i = 3; i >= 0; i--) pages_let(p, path[i]);
    const int32_t spare = pages_take(p); /* the free one */
    assert_int_equal(pages_count(p).n_evicted, 0);
    assert_int_equal(pages_take(p), path[3]);
    fill(t, 0);
    assert_int_equal(pages_find(p, root, t), path[0]);
    pages_hold(p, path[0]); /* used again: held, so never taken */
    assert_int_equal(pages_take(p), path[2]);
    assert_int_equal(pages_take(p), path[1]);
    assert_int_equal(pages_take(p), PAGE_NONE);
    pages_let(p, spare);
    assert_int_equal(pages_take(p), spare);
    pages_close(p);
}

/* Random sequences over few tokens, so that many paths meet. */
static void random_use_loses_nothing(void **state) {
    (void)state;
    enum { PAGES = 23, SEQS = 6, MOST = 5, STEPS = 20000 };
    struct {
        int32_t pages[MOST], tokens[MOST][KV_PAGE], n, n_known;
    } seqs[SEQS] = {0};
    int32_t roots[2];
    page_pool *p;
    assert_int_equal(pages_open(&p, PAGES, NULL), GALEN_OK);
    for (int i = 0; i < 2; i++) roots[i] = pages_take_root(p, i ? "b" : "a");
    for (uint64_t step = 0; step < STEPS; step++) {
        const rng_block r = rng_at(1, 2, step);
        const int i = (int)(r.v[0] % SEQS);
        const int32_t root = roots[i % 2], k = seqs[i].n, parent = k ? seqs[i].pages[k - 1] : root;
        int32_t t[KV_PAGE], n_same;
        fill(t, (int32_t)(r.v[1] % 3) * 10);
        if (r.v[2] % 4 == 0 || k == MOST) { /* ends: what is not known is free again */
            while (seqs[i].n > 0) pages_let(p, seqs[i].pages[--seqs[i].n]);
            seqs[i].n_known = 0;
        } else if (seqs[i].n_known == k) {
            int32_t page = pages_find(p, parent, t);
            if (page != PAGE_NONE) {
                pages_hold(p, page);
                seqs[i].n_known++;
            } else {
                (void)pages_find_part(p, parent, t, KV_PAGE, &n_same);
                assert_true(n_same < KV_PAGE);
                page = pages_take(p);
                if (page == PAGE_NONE) continue;
                assert_true(pages_is_private(p, page));
                if (r.v[3] % 3 != 0) {
                    page = pages_publish(p, parent, page, t, KV_PAGE);
                    assert_int_equal(pages_find(p, parent, t), page);
                    seqs[i].n_known++;
                }
            }
            seqs[i].pages[seqs[i].n++] = page;
        }
        bool is_held[PAGES] = {false};
        int32_t n_held = 0;
        for (int s = 0; s < SEQS; s++)
            for (int g = 0; g < seqs[s].n; g++) is_held[seqs[s].pages[g]] = true;
        for (int g = 0; g < PAGES; g++) {
            assert_int_equal(pages_is_held(p, g), is_held[g]);
            n_held += is_held[g];
        }
        assert_int_equal(pages_count(p).n_held, n_held);
        assert_true(pages_count(p).n_cached + n_held <= PAGES);
    }
    for (int i = 0; i < SEQS; i++)
        while (seqs[i].n > 0) pages_let(p, seqs[i].pages[--seqs[i].n]);
    assert_true(pages_count(p).n_evicted > 100);
    pages_forget_all(p);
    assert_int_equal(pages_count(p).n_cached, 0);
    for (int i = 0; i < PAGES; i++) assert_true(pages_take(p) != PAGE_NONE);
    assert_int_equal(pages_take(p), PAGE_NONE);
    pages_close(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_found_under_its_root_only),
        cmocka_unit_test(the_longest_unused_goes_first_and_children_before_parents),
        cmocka_unit_test(random_use_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
