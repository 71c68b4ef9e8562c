/* The GPU tests' own small runner: no package but libc and CUDA is there. */
#ifndef GALEN_TESTS_GPU_H
#define GALEN_TESTS_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/impl.h"

/* Counts a check; prints it when it fails. Returns ok. */
bool check_that(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for a bound, kept for the summary: the worst ratio of value to bound under each title. */
bool check_bound(const char *title, double value, double bound, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A number in (-1, 1), another one at every call. */
double fresh(void);
void fresh_seed(uint64_t seed);

void *device_copy(const void *from, size_t n); /* device memory, filled from host; from NULL = poisoned with NaN bytes */
void host_copy(void *to, const void *from, size_t n);
void device_free(void *p);

void test_kernels(void);
void test_units(void);
void test_products(void); /* of one row: a part of kernels */
void test_sampling(void);
void test_reading(void); /* a part of kernels */
void test_ahead(void);   /* steps that run ahead of the host */
void test_ahead_small(void);
void test_rows(void); /* a part of kernels */
void test_networks(void);
void test_failures(void);
void test_splits(void); /* models split between CPU and GPU */
void test_small(void);  /* every kernel of a step once or twice */
void test_golden(const char *dir);
/** The model of a file over the token ids of another (text, a number a line), on the CPU and here. */
void test_text(const char *path, const char *ids_path);

extern int64_t malloc_countdown; /* > 0: that many more device or pinned allocations succeed, then one fails; 0 = never fail */
extern bool is_register_failing; /* pages of the host cannot be registered: what is streamed passes through pinned slots */

#endif
