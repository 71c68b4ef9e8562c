/* NumPy's file format, version 1.0, for float32 matrices. */
#ifndef GALEN_CLI_NPY_H
#define GALEN_CLI_NPY_H

#include <stddef.h>
#include <stdint.h>

#define NPY_HEADER_BYTES 128

/** The header of a C-order float32 array [n_rows][n_columns], little-endian. */
void npy_header(char out[NPY_HEADER_BYTES], uint64_t n_rows, uint64_t n_columns);

#endif
