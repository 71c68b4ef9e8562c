/* A file of lines "key<TAB>host read<TAB>device read<TAB>upload<TAB>hop<TAB>host beside<TAB>upload beside", a machine's
 * configuration each; a line that does not parse is as if it were not there. */
#include "runtime/speeds.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pool.h"

enum {
    LEAST_BYTES = 192 << 20,
    MOST_BYTES = 1 << 30,
    PROBE_GRAIN = 1 << 20,
    KEY_BYTES = 320,
    LINE_BYTES = 512,
    PATH_BYTES = 1024
};

static const uint64_t probe_ns = 250000000;

/* ---------------------------------------------------------------- the host */

typedef struct reader {
    const uint64_t *data;
    uint64_t sum[1024]; /* by thread; a sum that nobody could leave out */
} reader;

static void read_grains(void *ctx, int64_t begin, int64_t end, int thread) {
    enum { WORDS = PROBE_GRAIN / sizeof(uint64_t) };
    reader *r = ctx;
    uint64_t a[16] = {0};
    const uint64_t *p = r->data + begin * WORDS, *const last = r->data + end * WORDS;
    for (; p < last; p += 16)
        for (int i = 0; i < 16; i++) a[i] ^= p[i];
    for (int i = 0; i < 16; i++) r->sum[thread & 1023] += a[i];
}

static void touch_grains(void *ctx, int64_t begin, int64_t end, int thread) {
    char *p = ctx;
    (void)thread;
    memset(p + begin * PROBE_GRAIN, 1, (size_t)(end - begin) * PROBE_GRAIN);
}

/* Twice the last cache, which would answer in the memory's stead. */
static size_t probe_bytes(void) {
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t n = cache > 0 ? 2 * (size_t)cache / PROBE_GRAIN * PROBE_GRAIN : 0;
    return n < LEAST_BYTES ? LEAST_BYTES : n > MOST_BYTES ? MOST_BYTES : n;
}

typedef struct host_probe {
    pool *threads;
    void *p;
    size_t n;
} host_probe;

static void host_close(host_probe *h) {
    pool_close(h->threads);
    if (h->p) (void)munmap(h->p, h->n);
}

static bool host_open(host_probe *h, int32_t n_threads) {
    *h = (host_probe){.n = probe_bytes()};
    void *p = mmap(NULL, h->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    h->p = p;
    if (pool_open(&h->threads, n_threads, NULL)) return false;
    pool_run(h->threads, (int64_t)(h->n / PROBE_GRAIN), 1, touch_grains, p);
    return true;
}

/* Bytes a second that all threads together read, at best and on average. */
static double host_measure(const host_probe *h, double *mean) {
    static _Thread_local reader r;
    double best = 0, total = 0, passed = 0;
    r.data = h->p;
    const uint64_t end = clock_monotonic_ns() + probe_ns;
    for (uint64_t now = 0; now < end;) { /* the best of many: others use this memory too */
        const uint64_t start = clock_monotonic_ns();
        pool_run(h->threads, (int64_t)(h->n / PROBE_GRAIN), 1, read_grains, &r);
        now = clock_monotonic_ns();
        const double s = (double)(now - start) / 1e9;
        total += (double)h->n;
        passed += s;
        if (s > 0 && (double)h->n / s > best) best = (double)h->n / s;
    }
    *mean = passed > 0 ? total / passed : 0;
    return best;
}

/* ---------------------------------------------------------------- both at once */

typedef struct uploading {
    const backend_plugin *plugin;
    int32_t device;
    double rate;
} uploading;

static void *upload(void *arg) {
    static const double seconds = 0.3; /* longer than the host's probe */
    uploading *u = arg;
    galen_error ignored;
    if (u->plugin->upload(u->device, seconds, &u->rate, &ignored)) u->rate = 0;
    return NULL;
}

/* What the processor reads and the GPU fetches at the same time: both 0 when one cannot be measured. */
static void measure_both(const host_probe *h, const backend_plugin *p, int32_t device, double *host, double *uploaded) {
    uploading u = {.plugin = p, .device = device};
    pthread_t thread;
    *host = *uploaded = 0;
    if (pthread_create(&thread, NULL, upload, &u) != 0) return;
    (void)host_measure(h, host);
    (void)pthread_join(thread, NULL);
    *uploaded = u.rate;
    if (u.rate <= 0) *host = 0;
}

/* ---------------------------------------------------------------- the file */

static void processor_name(char *out, size_t cap) {
    char line[LINE_BYTES];
    FILE *f = fopen("/proc/cpuinfo", "rb");
    (void)snprintf(out, cap, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        (void)snprintf(out, cap, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) (void)fclose(f);
}

static void make_key(char key[KEY_BYTES], int32_t n_threads, const backend_plugin *p, int32_t device) {
    char cpu[128];
    device_info d = {0};
    galen_error ignored;
    int32_t driver = 0, runtime = 0;
    processor_name(cpu, sizeof cpu);
    if (p) p->versions(&driver, &runtime);
    if (p && p->info(device, &d, &ignored)) d.name[0] = '\0';
    (void)snprintf(key, KEY_BYTES, "2 %s, %d threads, %s, driver %d", cpu, n_threads, p ? d.name : "no GPU", driver);
    for (char *c = key; *c; c++)
        if (*c == '\t' || *c == '\n') *c = ' ';
}

typedef struct entry {
    double host, device, upload, hop_s, host_beside, upload_beside;
} entry;

static bool is_rate(double rate) {
    return isfinite(rate) && rate >= 0 && rate < 1e14;
}

static bool is_sane(const entry *e) {
    return is_rate(e->host) && is_rate(e->device) && is_rate(e->upload) && is_rate(e->host_beside) && is_rate(e->upload_beside) &&
           e->host > 1e8 && isfinite(e->hop_s) && e->hop_s >= 0 && e->hop_s < 1;
}

static bool parse(const char *line, const char *key, entry *out) {
    const size_t n = strlen(key);
    if (strncmp(line, key, n) != 0 || line[n] != '\t') return false;
    double *const to[] = {&out->host, &out->device, &out->upload, &out->hop_s, &out->host_beside, &out->upload_beside};
    const char *p = line + n;
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        char *end;
        *to[i] = strtod(p, &end);
        if (end == p) return false;
        p = end;
    }
    return is_sane(out);
}

static bool file_path(char *out, const char *dir, const char *suffix) {
    const int n = snprintf(out, PATH_BYTES, "%s/speeds.tsv%s", dir, suffix);
    return n > 0 && n < PATH_BYTES;
}

static bool load(const char *dir, const char *key, entry *out) {
    char path[PATH_BYTES], line[LINE_BYTES];
    bool is_found = false;
    FILE *f = dir && file_path(path, dir, "") ? fopen(path, "rb") : NULL;
    while (f && !is_found && fgets(line, sizeof line, f)) is_found = parse(line, key, out);
    if (f) (void)fclose(f);
    return is_found;
}

/* The folder and those above it. */
static bool make_folder(const char *dir) {
    char path[PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s", dir);
    if (n <= 0 || n >= PATH_BYTES) return false;
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0700); /* it is there already, or the last one fails */
        *p = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* The other lines kept, this one added; put in place whole. What goes wrong costs only that it is measured again. */
static void keep(const char *dir, const char *key, const entry *e) {
    char path[PATH_BYTES], fresh[PATH_BYTES], suffix[32], line[LINE_BYTES];
    entry other;
    (void)snprintf(suffix, sizeof suffix, ".%ld", (long)getpid());
    if (!file_path(path, dir, "") || !file_path(fresh, dir, suffix)) return;
    if (!make_folder(dir)) return;
    FILE *to = fopen(fresh, "wb"), *from = fopen(path, "rb");
    bool is_whole = to != NULL;
    for (int n = 0; to && from && n < 100 && fgets(line, sizeof line, from); n++)
        if (!parse(line, key, &other)) is_whole = fputs(line, to) >= 0 && is_whole;
    if (to)
        is_whole = fprintf(to, "%s\t%.6g\t%.6g\t%.6g\t%.6g\t%.6g\t%.6g\n", key, e->host, e->device, e->upload, e->hop_s,
                           e->host_beside, e->upload_beside) > 0 &&
                   is_whole;
    if (from) (void)fclose(from);
    if (to) is_whole = fclose(to) == 0 && is_whole;
    if (!is_whole || rename(fresh, path) != 0) (void)unlink(fresh);
}

/* ---------------------------------------------------------------- both */

static void measure(entry *e, int32_t n_threads, const backend_plugin *p, int32_t device) {
    device_speed d = {0};
    galen_error ignored;
    host_probe h;
    double unused;
    if (p && p->probe && p->probe(device, &d, &ignored)) d = (device_speed){0};
    *e = (entry){.device = d.read, .upload = d.upload, .hop_s = d.hop_s};
    if (host_open(&h, n_threads)) {
        e->host = host_measure(&h, &unused);
        if (d.can_pull && p->upload) measure_both(&h, p, device, &e->host_beside, &e->upload_beside);
    }
    host_close(&h);
}

plan_speeds speeds_find(int32_t n_threads, const backend_plugin *p, int32_t device, const char *cache_dir, bool *is_measured) {
    plan_speeds s = plan_typical_host(n_threads);
    char key[KEY_BYTES];
    entry e = {0};
    make_key(key, n_threads, p, device);
    bool is_known = load(cache_dir, key, &e);
    if (!is_known) {
        measure(&e, n_threads, p, device);
        is_known = is_sane(&e);
        if (is_known && cache_dir) keep(cache_dir, key, &e);
    }
    *is_measured = is_known;
    if (is_known) s.host_read = e.host;
    if (!p) return s;
    device_info info = {0};
    galen_error ignored;
    if (e.device <= 0 && p->info(device, &info, &ignored) == GALEN_OK) e.device = (double)info.read_peak;
    plan_fill_device(&s, e.device > 0 ? e.device : 300e9, e.upload, e.hop_s);
    s.host_beside = e.host_beside < s.host_read ? e.host_beside : s.host_read;
    s.upload_beside = e.upload_beside < s.upload ? e.upload_beside : s.upload;
    return s;
}
