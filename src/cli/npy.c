/* .npy version 1.0, little-endian:
 *   offset size  field
 *        0    6  magic   93 'N' 'U' 'M' 'P' 'Y'
 *        6    2  version 01 00
 *        8    2  length  u16, of what follows; 10 + length is a multiple of 64
 *       10       header  a Python dictionary, padded with blanks, ending in a newline
 * Source: numpy.lib.format, "Format Version 1.0" (NEP 1). */
#include "cli/npy.h"

#include <stdio.h>
#include <string.h>

void npy_header(char out[NPY_HEADER_BYTES], uint64_t n_rows, uint64_t n_columns) {
    static const char magic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    const size_t length = NPY_HEADER_BYTES - 10;
    memcpy(out, magic, sizeof magic);
    out[8] = (char)(length & 0xFF);
    out[9] = (char)(length >> 8);
    /* at most 60 + 2 * 20 characters: it fits whatever the counts */
    const int n = snprintf(out + 10, length, "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                           (unsigned long long)n_rows, (unsigned long long)n_columns);
    memset(out + 10 + n, ' ', length - (size_t)n);
    out[NPY_HEADER_BYTES - 1] = '\n';
}
