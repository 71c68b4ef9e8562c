/* The scalar conversions as a filter, for checks that compare with another program.
 *   dequantise TYPE < blocks > f32        dequantise TYPE quantise < f32 > blocks        dequantise list
 * The whole of standard input is read; its length must be a whole number of blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/tensor.h"

static void *read_all(size_t *n) {
    size_t cap = 1 << 16;
    char *bytes = malloc(cap);
    *n = 0;
    while (bytes) {
        const size_t got = fread(bytes + *n, 1, cap - *n, stdin);
        if (got == 0) break;
        *n += got;
        if (*n < cap) continue;
        char *more = realloc(bytes, cap * 2);
        if (!more) free(bytes);
        bytes = more;
        cap *= 2;
    }
    return bytes;
}

static int convert(const tensor_type_info *t, int is_quantise) {
    size_t n_in;
    const size_t block_bytes = (size_t)t->block_bytes, block_floats = (size_t)t->block_weights * sizeof(float);
    const size_t from = is_quantise ? block_floats : block_bytes, to = is_quantise ? block_bytes : block_floats;
    void *in = read_all(&n_in);
    void *out = malloc(n_in / from * to + 1);
    int rc = 1;
    if (in && out && n_in % from == 0) {
        const int64_t n = (int64_t)(n_in / from) * t->block_weights;
        if (is_quantise) {
            t->quantise(in, out, n);
        } else {
            t->dequantise(in, out, n);
        }
        rc = fwrite(out, 1, n_in / from * to, stdout) == n_in / from * to ? 0 : 1;
    }
    free(in);
    free(out);
    return rc;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (uint32_t i = 0; i < TENSOR_TYPE_END; i++) {
            const tensor_type_info *t = tensor_type_get(i);
            if (t) printf("%s %u %d %d\n", t->name, (unsigned)i, t->block_weights, t->block_bytes);
        }
        return 0;
    }
    const tensor_type_info *t = tensor_type_by_name(argc > 1 ? argv[1] : NULL, NULL);
    if (!t || argc > 3 || (argc == 3 && strcmp(argv[2], "quantise") != 0)) {
        fprintf(stderr, "usage: dequantise TYPE [quantise] < in > out; dequantise list\n");
        return 2;
    }
    return convert(t, argc == 3);
}
