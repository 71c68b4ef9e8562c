/* Model files that are cut at any byte or flipped at any bit: an error that says where, or a model that runs; never a crash,
 * never more than 100 ms or 64 MiB (../shared research, reliability 1.5 G20).
 *
 *   malformed [--seconds S] [MODEL.gguf ...]     models of our own making are always among them
 * Every cut in the metadata and a sample of the cuts in the data; every bit of the metadata. When a file would take longer
 * than its share of S seconds of processor time, every k-th is taken, from a start that depends on the file's length; the share
 * is printed. In a build without ASan the address space is limited, so that a lying count cannot pass by luck. Ends with 'N
 * passed, N failed'. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "galen/galen.h"

#include "../support/asan.h"

enum { LIMIT_MS = 100, LIMIT_MIB = 64, INFER_EACH = 8 };

static long n_passed, n_failed, n_opened, n_ran;
static double slowest_ms;
static char slowest_what[128];

/* The processor's time, not the clock's: a busy machine is not the parser's fault. */
static double now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* User text or control characters in a message could forge a log line. */
static bool is_printable(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7F) return false;
    return true;
}

static void fail_with(const char *what, const char *why, const galen_error *err) {
    n_failed++;
    if (n_failed <= 20)
        printf("%s: %s (status %d, offset %llu, \"%s\")\n", what, why, err->code, (unsigned long long)err->offset, err->msg);
}

static galen_status infer(const galen_model *m, galen_error *err) {
    galen_session *s = NULL;
    galen_session_opts so = galen_session_default_opts();
    galen_generate_opts go = galen_generate_default_opts();
    galen_result result;
    const int32_t n_vocab = galen_model_get_info(m).n_vocab;
    const int32_t ids[3] = {1 % n_vocab, 5 % n_vocab, n_vocab - 1};
    so.n_ctx = 16;
    so.n_batch = 8;
    go.max_tokens = 8;
    galen_status st = galen_session_open(&s, m, &so, err);
    if (!st) st = galen_generate(s, ids, 3, &go, &result, err);
    galen_session_close(s);
    return st;
}

/* Open what stands at path. must_fail: bytes that the model needs are missing. */
static void try_open(const char *path, const char *what, bool must_fail, bool is_run) {
    galen_model *m = NULL;
    galen_error err = {0};
    galen_model_opts mo = galen_model_default_opts();
    mo.n_threads = 1;
    double start = now_ms();
    const galen_status st = galen_model_open(&m, path, &mo, &err);
    double took = now_ms() - start;
    for (int i = 0; i < 4 && st && took > LIMIT_MS; i++) { /* what other machines take from a virtual processor is counted too */
        start = now_ms();
        (void)galen_model_open(&m, path, &mo, &err);
        took = fmin(took, now_ms() - start);
    }
    if (took > slowest_ms) {
        slowest_ms = took;
        (void)snprintf(slowest_what, sizeof slowest_what, "%s", what);
    }
    if (st) {
        const bool is_known = st == GALEN_E_FORMAT || st == GALEN_E_UNSUPPORTED || st == GALEN_E_RANGE || st == GALEN_E_NOT_FOUND;
        if (!is_known || m)
            fail_with(what, "not the status of a malformed file", &err);
        else if (err.code != st || !err.msg[0] || !is_printable(err.msg))
            fail_with(what, "the error says nothing", &err);
        else if (took > LIMIT_MS && !HAS_ASAN)
            fail_with(what, "took longer than 100 ms", &err);
        else
            n_passed++;
        return;
    }
    n_opened++;
    if (must_fail) {
        fail_with(what, "opened although bytes are missing", &err);
    } else if (is_run) {
        const galen_status ran = infer(m, &err);
        n_ran++;
        if (ran && (!err.msg[0] || err.code != ran))
            fail_with(what, "inference failed without a reason", &err);
        else
            n_passed++;
    } else {
        n_passed++;
    }
    galen_model_close(m);
}

static bool read_file(const char *path, unsigned char **bytes, size_t *n) {
    struct stat st;
    FILE *f = fopen(path, "rb");
    *bytes = NULL;
    if (!f || fstat(fileno(f), &st)) return false;
    *n = (size_t)st.st_size;
    *bytes = malloc(*n + 1);
    const bool ok = *bytes && fread(*bytes, 1, *n, f) == *n;
    (void)fclose(f);
    return ok;
}

/* Where the metadata ends and the data begins: taken from the file as it is, by the smallest tensor offset that opens. */
static size_t data_start(const char *path, const unsigned char *bytes, size_t n) {
    galen_model *m = NULL;
    galen_error err;
    galen_model_opts mo = galen_model_default_opts();
    uint64_t data = 0;
    galen_tensor_info t;
    (void)bytes;
    if (galen_model_open(&m, path, &mo, &err)) return 0;
    for (size_t i = 0; galen_model_tensor(m, i, &t); i++) data += (t.bytes + 31) / 32 * 32;
    galen_model_close(m);
    return data < n ? n - (size_t)data : 0;
}

static size_t stride_for(size_t n, double ms_each, double budget_ms) {
    const double all = (double)n * ms_each;
    return all <= budget_ms ? 1 : (size_t)ceil(all / budget_ms);
}

static void run_file(const char *model, const char *scratch, double budget_ms) {
    unsigned char *bytes;
    size_t n;
    char what[128];
    if (!read_file(model, &bytes, &n)) {
        printf("%s: cannot be read\n", model);
        n_failed++;
        free(bytes);
        return;
    }
    const size_t meta = data_start(model, bytes, n);
    const int fd = open(scratch, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (!meta || fd < 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n) {
        printf("%s: the model as it is does not open\n", model);
        n_failed++;
        if (fd >= 0) (void)close(fd);
        free(bytes);
        return;
    }
    const double start = now_ms();
    for (int i = 0; i < 50; i++) try_open(scratch, "as it is", false, i % INFER_EACH == 0);
    const double each = (now_ms() - start) / 50;
    const size_t flip_step = stride_for(meta * 8, each, budget_ms * 0.7), cut_step = stride_for(meta, each, budget_ms * 0.2);
    const size_t data_step = (n - meta) / 64 + 1;
    for (size_t bit = n % flip_step; bit < meta * 8; bit += flip_step) {
        const unsigned char flipped = (unsigned char)(bytes[bit / 8] ^ (1u << (bit % 8)));
        (void)snprintf(what, sizeof what, "%.60s: bit %zu of byte %zu flipped",
                       strrchr(model, '/') ? strrchr(model, '/') + 1 : model, bit % 8, bit / 8);
        if (pwrite(fd, &flipped, 1, (off_t)(bit / 8)) != 1) break;
        try_open(scratch, what, false, bit / flip_step % INFER_EACH == 0);
        if (pwrite(fd, &bytes[bit / 8], 1, (off_t)(bit / 8)) != 1) break;
    }
    for (size_t at = n - 33; at > meta; at -= at - meta > data_step ? data_step : at - meta) {
        (void)snprintf(what, sizeof what, "%.60s: cut at byte %zu", model, at);
        if (ftruncate(fd, (off_t)at)) break;
        try_open(scratch, what, true, false);
    }
    for (size_t at = meta; at > 0; at -= at > cut_step ? cut_step : at) {
        (void)snprintf(what, sizeof what, "%.60s: cut at byte %zu", model, at);
        if (ftruncate(fd, (off_t)at)) break;
        try_open(scratch, what, true, false);
    }
    if (ftruncate(fd, 0) == 0) try_open(scratch, "empty file", true, false);
    printf("%s: %zu bytes of metadata, 1 bit in %zu flipped, cut at 1 byte in %zu, %.2f ms each\n", model, meta, flip_step,
           cut_step, each);
    (void)close(fd);
    (void)unlink(scratch);
    free(bytes);
}

/* The address space as it is now and 64 MiB more. */
static void limit_memory(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld", &pages) != 1) pages = 1 << 16;
    if (f) (void)fclose(f);
    const rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)LIMIT_MIB << 20);
    const struct rlimit limit = {bytes, bytes};
    if (!HAS_ASAN && setrlimit(RLIMIT_AS, &limit)) printf("note: the address space could not be limited\n");
}

int main(int argc, char **argv) {
    static const char *const types[] = {"q8_0", "q4_k_m"};
    char made[2][4096], scratch[4096];
    double seconds = 30;
    int first = 1, n_files = 0;
    const char *files[64], *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    if (argc > 2 && strcmp(argv[1], "--seconds") == 0) {
        seconds = strtod(argv[2], NULL);
        first = 3;
    }
    for (int i = 0; i < 2; i++) {
        galen_error err = {0};
        galen_synth_opts so = galen_synth_default_opts();
        so.shape = "tiny";
        so.type = types[i];
        (void)snprintf(made[i], sizeof made[i], "%s/galen-malformed-%ld-%s.gguf", folder, (long)getpid(), types[i]);
        if (galen_synth(made[i], &so, &err))
            fail_with(made[i], "synth failed", &err);
        else
            files[n_files++] = made[i];
    }
    for (int i = first; i < argc && n_files < 64; i++) files[n_files++] = argv[i];
    (void)snprintf(scratch, sizeof scratch, "%s/galen-malformed-%ld.gguf", folder, (long)getpid());
    limit_memory();
    for (int i = 0; i < n_files; i++) run_file(files[i], scratch, seconds * 1e3 / n_files);
    for (int i = 0; i < 2; i++) (void)unlink(made[i]);
    printf("%ld opened, %ld of them ran, slowest %.1f ms (%s)%s\n", n_opened, n_ran, slowest_ms, slowest_what,
           HAS_ASAN ? "; under ASan neither time nor memory is judged" : "");
    printf("%ld passed, %ld failed\n", n_passed, n_failed);
    return n_failed ? 1 : 0;
}
