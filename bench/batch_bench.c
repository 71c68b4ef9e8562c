/* Speed of the batcher: clients that each send the next request when the last has ended. One line of JSON on standard output.
 *
 *   batch_bench MODEL THREADS CLIENTS PROMPT TOKENS ROUNDS [N_BATCH [N_CHUNK [KV_TYPE]]]
 * Prompts are random tokens, no two alike (so no page is found again); tokens are drawn as a server's defaults would (temperature
 * 0.8, top-k 40). Times of the first round are left out of the percentiles: all its prompts come at once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "galen/galen.h"

enum { MOST_PROMPT = 8192, MOST_TIMES = 1 << 16 };

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct bench {
    galen_batcher *b;
    int32_t n_vocab, n_prompt, n_tokens;
    pthread_mutex_t lock;
    pthread_cond_t done;
    int n_open, n_errors;
    double first[MOST_TIMES], gap[MOST_TIMES];
    int n_first, n_gap;
    long n_generated;
} bench;

typedef struct bench_client {
    bench *x;
    int number, round, n_rounds;
    double last; /* when its last token came */
} bench_client;

static galen_status send_next(bench_client *c, galen_error *err);

static bool take(void *user, const galen_chunk *chunk) {
    bench_client *c = user;
    const double now = now_s();
    if (chunk->is_last) return true;
    c->x->n_generated++;
    if (c->last > 0 && c->x->n_gap < MOST_TIMES) c->x->gap[c->x->n_gap++] = now - c->last;
    c->last = now;
    return true;
}

static void end(void *user, const galen_end *e) {
    bench_client *c = user;
    bench *x = c->x;
    galen_error err = *e->error;
    if (c->round > 0 && x->n_first < MOST_TIMES) x->first[x->n_first++] = e->usage.first_token_s;
    galen_status st = e->status;
    if (!st && ++c->round < c->n_rounds && !(st = send_next(c, &err))) return;
    pthread_mutex_lock(&x->lock);
    if (st) fprintf(stderr, "batch_bench: %s\n", err.msg);
    x->n_errors += st != GALEN_OK;
    x->n_open--;
    pthread_cond_signal(&x->done);
    pthread_mutex_unlock(&x->lock);
}

static galen_status send_next(bench_client *c, galen_error *err) {
    int32_t prompt[MOST_PROMPT];
    const bench *x = c->x;
    uint64_t id;
    galen_request_opts o = galen_request_default_opts();
    for (int32_t i = 0; i < x->n_prompt; i++) {
        const uint32_t h = (uint32_t)(i + 1) * 2654435761u + (uint32_t)(c->number * 977 + c->round * 131) * 40503u;
        prompt[i] = (int32_t)((h >> 7) % (uint32_t)x->n_vocab);
    }
    o.prompt = prompt;
    o.n_prompt = x->n_prompt;
    o.generate.max_tokens = x->n_tokens;
    o.generate.sampling.seed = (uint64_t)c->number + 1000 * (uint64_t)c->round;
    o.generate.on_chunk = take;
    o.generate.user = c;
    o.on_end = end;
    o.user = c;
    c->last = 0;
    return galen_batcher_submit(x->b, &o, &id, err);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *v, int n, double p) {
    if (n == 0) return 0;
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[(int)(p * (n - 1))];
}

static int complain(const char *what, const galen_error *err) {
    fprintf(stderr, "batch_bench: %s: %s\n", what, err->msg);
    return 1;
}

static int run(bench *x, int n_clients, int n_rounds) {
    galen_error err = {0};
    bench_client *clients = calloc((size_t)n_clients, sizeof *clients);
    if (!clients) return 1;
    const double begin = now_s();
    x->n_open = n_clients;
    for (int i = 0; i < n_clients; i++) {
        clients[i] = (bench_client){.x = x, .number = i, .n_rounds = n_rounds};
        if (send_next(&clients[i], &err)) return complain("submit", &err);
    }
    pthread_mutex_lock(&x->lock);
    while (x->n_open > 0) (void)pthread_cond_wait(&x->done, &x->lock);
    pthread_mutex_unlock(&x->lock);
    const double seconds = now_s() - begin;
    galen_batcher_stats s = {.size = sizeof s};
    galen_batcher_get_stats(x->b, &s);
    printf("{\"tokens_per_s\":%.2f,\"first_p50\":%.4f,\"first_p95\":%.4f,\"gap_p50\":%.4f,\"gap_p95\":%.4f,\"generated\":%ld,"
           "\"seconds\":%.3f,\"steps\":%llu,\"preemptions\":%llu}\n",
           (double)x->n_generated / seconds, percentile(x->first, x->n_first, 0.5), percentile(x->first, x->n_first, 0.95),
           percentile(x->gap, x->n_gap, 0.5), percentile(x->gap, x->n_gap, 0.95), x->n_generated, seconds,
           (unsigned long long)s.n_steps, (unsigned long long)s.n_preemptions);
    free(clients);
    return x->n_errors != 0;
}

int main(int argc, char **argv) {
    static bench x = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    galen_model *m = NULL;
    galen_error err = {0};
    if (argc < 7) {
        fprintf(stderr, "usage: batch_bench MODEL THREADS CLIENTS PROMPT TOKENS ROUNDS [N_BATCH [N_CHUNK [KV_TYPE]]]\n");
        return 2;
    }
    const int32_t n_clients = (int32_t)strtol(argv[3], NULL, 10);
    galen_model_opts mo = galen_model_default_opts();
    galen_batcher_opts bo = galen_batcher_default_opts();
    mo.n_threads = (int32_t)strtol(argv[2], NULL, 10);
    x.n_prompt = (int32_t)strtol(argv[4], NULL, 10);
    x.n_tokens = (int32_t)strtol(argv[5], NULL, 10);
    if (x.n_prompt < 1 || x.n_prompt > MOST_PROMPT) return 2;
    bo.max_seqs = n_clients;
    bo.n_ctx = x.n_prompt + x.n_tokens;
    bo.kv_tokens = (int64_t)(bo.n_ctx + 64) * n_clients;
    if (argc > 7) bo.n_batch = (int32_t)strtol(argv[7], NULL, 10);
    if (argc > 8) bo.n_chunk = (int32_t)strtol(argv[8], NULL, 10);
    if (argc > 9) bo.kv_type = argv[9];
    if (galen_model_open(&m, argv[1], &mo, &err)) return complain("open", &err);
    x.n_vocab = galen_model_get_info(m).n_vocab;
    if (galen_batcher_open(&x.b, m, &bo, &err)) return complain("batcher", &err);
    const int rc = run(&x, n_clients, (int)strtol(argv[6], NULL, 10));
    galen_batcher_close(x.b);
    galen_model_close(m);
    return rc;
}
