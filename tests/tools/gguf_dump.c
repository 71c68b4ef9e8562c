/* What the reader makes of a file, one line each, for tests/gguf_py/check_gguf.py to compare with another reader.
 *
 *   gguf_dump FILE                                   file VERSION N_FILES BYTES
 *                                                    kv KEY TYPE ELEM N VALUES     values and names in hex
 *                                                    tensor NAME TYPE N_DIMS NE0 NE1 NE2 NE3 PART OFFSET BYTES
 *   gguf_dump --write all|model VERSION ALIGNMENT OUT     a sample made by the writer
 * Ends with 1 and the message on stderr when the file is refused. */
#include <inttypes.h>

#include "../unit/gguf_samples.h"

static void put_hex(const void *p, size_t n) {
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) {
        (void)putchar("0123456789abcdef"[b[i] >> 4]);
        (void)putchar("0123456789abcdef"[b[i] & 15]);
    }
    if (n == 0) (void)putchar('-');
}

static void dump_kv(const gguf_kv *kv) {
    size_t pos = 0;
    printf("kv ");
    put_hex(kv->key.p, kv->key.n);
    printf(" %d %d %" PRIu64, (int)kv->type, (int)kv->elem_type, kv->n);
    if (kv->elem_type != GGUF_STR) {
        static const uint8_t bytes[GGUF_TYPE_END] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        (void)putchar(' ');
        put_hex(kv->data, (size_t)kv->n * bytes[kv->elem_type]);
    }
    for (uint64_t i = 0; kv->elem_type == GGUF_STR && i < kv->n; i++) {
        const gguf_str s = gguf_kv_str_next(kv, &pos);
        (void)putchar(' ');
        put_hex(s.p, s.n);
    }
    (void)putchar('\n');
}

static int dump(const char *path) {
    gguf *g = NULL;
    galen_error err = {0};
    if (gguf_open(&g, path, &err) != GALEN_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("file %" PRIu32 " %zu %" PRIu64 "\n", gguf_version(g), gguf_n_files(g), gguf_file_bytes(g));
    for (size_t i = 0; i < gguf_n_kv(g); i++) dump_kv(gguf_kv_at(g, i));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        printf("tensor ");
        put_hex(t->name.p, t->name.n);
        printf(" %d %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %" PRIu64 " %zu\n", (int)t->type, t->n_dims,
               t->ne[0], t->ne[1], t->ne[2], t->ne[3], t->part, t->offset, t->n_bytes);
    }
    gguf_close(g);
    return 0;
}

static galen_status file_sink(void *user, const void *p, size_t n, galen_error *err) {
    return fwrite(p, 1, n, user) == n ? GALEN_OK : galen_fail(err, GALEN_E_IO, 0, "write failed");
}

static int write_sample(char **args) {
    galen_error err = {0};
    FILE *f = fopen(args[3], "wb");
    if (!f) return 1;
    const sample_body body = strcmp(args[0], "all") == 0 ? sample_all_body : sample_model_body;
    const galen_status st =
        sample_write(body, (uint32_t)strtoul(args[1], NULL, 10), (uint32_t)strtoul(args[2], NULL, 10), file_sink, f, &err);
    if (st) fprintf(stderr, "%s\n", err.msg);
    return fclose(f) != 0 || st != GALEN_OK;
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "--write") == 0) return write_sample(argv + 2);
    if (argc == 2) return dump(argv[1]);
    fprintf(stderr, "usage: gguf_dump FILE | --write all|model VERSION ALIGNMENT OUT\n");
    return 2;
}
