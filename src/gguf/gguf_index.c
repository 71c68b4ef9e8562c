/* Names in order: a heap sort, since it needs no memory and an attacker cannot choose a slow case. */
#include <string.h>

#include "gguf/gguf_impl.h"

static gguf_str name_of(const gguf_index *ix, uint32_t i) {
    gguf_str s;
    memcpy(&s, (const char *)ix->records + (size_t)i * ix->stride, sizeof s);
    return s;
}

static int compare(gguf_str a, gguf_str b) {
    const size_t n = a.n < b.n ? a.n : b.n;
    const int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c != 0) return c;
    return a.n < b.n ? -1 : a.n > b.n;
}

/* Equal names in file order, so that a duplicate is reported as the later of the two. */
static bool is_before(const gguf_index *ix, uint32_t a, uint32_t b) {
    const int c = compare(name_of(ix, a), name_of(ix, b));
    return c < 0 || (c == 0 && a < b);
}

/* order[at..n) is a heap but for its root. */
static void sift_down(const gguf_index *ix, size_t at, size_t n) {
    uint32_t *o = ix->order;
    const uint32_t moving = o[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && is_before(ix, o[child], o[child + 1])) child++;
        if (!is_before(ix, moving, o[child])) break;
        o[at] = o[child];
        at = child;
    }
    o[at] = moving;
}

void gguf_index_sort(gguf_index *ix) {
    const size_t n = ix->n;
    for (size_t i = 0; i < n; i++) ix->order[i] = (uint32_t)i;
    for (size_t i = n / 2; i-- > 0;) sift_down(ix, i, n);
    for (size_t end = n; end-- > 1;) {
        const uint32_t largest = ix->order[0];
        ix->order[0] = ix->order[end];
        ix->order[end] = largest;
        sift_down(ix, 0, end);
    }
}

bool gguf_index_duplicate(const gguf_index *ix, uint32_t *first, uint32_t *second) {
    for (size_t i = 1; i < ix->n; i++) {
        if (compare(name_of(ix, ix->order[i - 1]), name_of(ix, ix->order[i])) != 0) continue;
        *first = ix->order[i - 1];
        *second = ix->order[i];
        return true;
    }
    return false;
}

const void *gguf_index_find(const gguf_index *ix, gguf_str name) {
    size_t lo = 0, hi = ix->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = compare(name_of(ix, ix->order[mid]), name);
        if (c == 0) return (const char *)ix->records + (size_t)ix->order[mid] * ix->stride;
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}
