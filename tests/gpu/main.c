/* gpu_test [--golden DIR] [--text GGUF IDS] [--seed N]
 *          [kernels|networks|failures|splits|small|units|rows|sampling|reading|ahead ...]: every kernel and stage against the
 * reference.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "gpu.h"

enum { MAX_TITLES = 64 };
static struct {
    const char *title;
    double ratio, value, bound;
    int n;
} worst[MAX_TITLES];
static int n_titles, n_checks, n_failed;
static uint64_t seed, counter;

bool check_that(bool ok, const char *fmt, ...) {
    n_checks++;
    if (ok) return true;
    if (n_failed++ < 40) {
        va_list ap;
        va_start(ap, fmt);
        printf("FAILED  ");
        vprintf(fmt, ap);
        printf("\n");
        va_end(ap);
    }
    return false;
}

bool check_bound(const char *title, double value, double bound, const char *fmt, ...) {
    char text[256];
    int i = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    while (i < n_titles && strcmp(worst[i].title, title) != 0) i++;
    if (i == n_titles && n_titles < MAX_TITLES) worst[n_titles++].title = title;
    worst[i].n++;
    if (!(value / bound <= worst[i].ratio)) {
        worst[i].ratio = value / bound;
        worst[i].value = value;
        worst[i].bound = bound;
    }
    return check_that(value <= bound, "%s: %s: %.3g > %.3g", title, text, value, bound);
}

double fresh(void) {
    return 2 * rng_uniform(seed, 1, counter++) - 1;
}
void fresh_seed(uint64_t s) {
    seed = s;
    counter = 0;
}

void *device_copy(const void *from, size_t n) {
    void *p = NULL;
    const size_t padded = n + 256;
    check_that(cudaMalloc(&p, padded) == cudaSuccess && cudaMemset(p, 0xff, padded) == cudaSuccess, "device memory: %zu bytes",
               n);
    if (from) check_that(cudaMemcpy(p, from, n, cudaMemcpyHostToDevice) == cudaSuccess, "copy to the device");
    return p;
}
void host_copy(void *to, const void *from, size_t n) {
    check_that(cudaMemcpy(to, from, n, cudaMemcpyDeviceToHost) == cudaSuccess, "copy from the device");
}
void device_free(void *p) {
    check_that(cudaFree(p) == cudaSuccess, "free");
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"kernels", test_kernels}, {"networks", test_networks}, {"failures", test_failures}, {"splits", test_splits},
                 {"small", test_small},     {"units", test_units},       {"rows", test_rows},         {"sampling", test_sampling},
                 {"reading", test_reading}, {"ahead", test_ahead},       {"products", test_products}};
    const char *golden = NULL, *text = NULL, *ids = NULL;
    uint64_t first = (uint64_t)time(NULL);
    bool has_choice = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--golden") && i + 1 < argc)
            golden = argv[++i];
        else if (!strcmp(argv[i], "--text") && i + 2 < argc)
            text = argv[++i], ids = argv[++i];
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            first = strtoull(argv[++i], NULL, 10);
        else
            has_choice = true;
    }
    printf("seed %llu\n", (unsigned long long)first);
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        bool is_chosen = !has_choice && p < 4; /* the others are parts of these, for slow checkers */
        for (int i = 1; i < argc; i++) is_chosen |= !strcmp(argv[i], parts[p].name);
        if (!is_chosen) continue;
        const int failed = n_failed, checks = n_checks;
        const clock_t begin = clock();
        fresh_seed(first + p);
        parts[p].run();
        printf("%-10s %d checks, %d failed, %.1f s\n", parts[p].name, n_checks - checks, n_failed - failed,
               (double)(clock() - begin) / CLOCKS_PER_SEC);
        fflush(stdout);
    }
    if (golden) test_golden(golden);
    if (text) test_text(text, ids);
    for (int i = 0; i < n_titles; i++)
        printf("  %-44s %5d  worst %.3g of %.3g\n", worst[i].title, worst[i].n, worst[i].value, worst[i].bound);
    printf("%s: %d checks, %d failed\n", n_failed ? "FAILED" : "passed", n_checks, n_failed);
    return n_failed ? 1 : 0;
}
