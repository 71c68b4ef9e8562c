/* Golden logits, and the CPU backend against this one, on the small models of the data folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
#include "model/model.h"
#include "model/works.h"

enum { N_TOKENS = 48, N_VOCAB = 280 };

/* The numbers behind an .npy header ("\x93NUMPY", version 1, two bytes of header length). */
static bool read_npy(const char *dir, const char *name, const char *what, void *out, size_t n) {
    char path[1024];
    uint8_t head[10];
    snprintf(path, sizeof path, "%s/%s.%s.npy", dir, name, what);
    FILE *f = fopen(path, "rb");
    bool ok = f && fread(head, 1, 10, f) == 10 && fseek(f, head[8] | head[9] << 8, SEEK_CUR) == 0 && fread(out, 1, n, f) == n;
    if (f) fclose(f);
    return check_that(ok, "%s", path);
}

static galen_status run_model(const backend_api *api, const model *m, const int32_t *tokens, int chunk, float *logits,
                              galen_error *err) {
    const network *net = model_network(m);
    const backend_config cfg = {.n_threads = 2, .has_embed = true, .has_head = true};
    const work_limits lim = {.max_rows = 64, .max_out = 64, .n_ctx = 64, .n_pages = 1, .kv = KV_F32};
    backend *b = NULL;
    works *w = NULL;
    int32_t page = 0, pos[N_TOKENS], seq[N_TOKENS] = {0}, row[N_TOKENS];
    const kv_pages pages = {&page, 1};
    galen_status st = api->open(&b, net, &cfg, err);
    const devices d = devices_of_one(net, api, b);
    if (!st) st = works_open(&w, &d, &lim, err);
    for (int at = 0; !st && at < N_TOKENS; at += chunk) {
        const int n = N_TOKENS - at < chunk ? N_TOKENS - at : chunk;
        for (int i = 0; i < n; i++) pos[i] = at + i, row[i] = i;
        const batch bt = {n, tokens + at, pos, seq, &pages, 1, n, row};
        st = works_forward(w, &bt, logits + at * N_VOCAB, err);
    }
    works_close(w);
    if (b) api->close(b);
    return st;
}

static double mean_kl(const float *p_logits, const float *q_logits, double *same_top) {
    double kl = 0, same = 0;
    for (int t = 0; t < N_TOKENS; t++) {
        const float *p = p_logits + t * N_VOCAB, *q = q_logits + t * N_VOCAB;
        double sp = 0, sq = 0;
        int tp = 0, tq = 0;
        for (int i = 0; i < N_VOCAB; i++) {
            sp += exp((double)p[i]), sq += exp((double)q[i]);
            if (p[i] > p[tp]) tp = i;
            if (q[i] > q[tq]) tq = i;
        }
        for (int i = 0; i < N_VOCAB; i++)
            kl += exp((double)p[i]) / sp * (((double)p[i] - log(sp)) - ((double)q[i] - log(sq))) / N_TOKENS;
        same += (double)(tp == tq) / N_TOKENS;
    }
    *same_top = same;
    return kl;
}

void test_golden(const char *dir) {
    static const struct {
        const char *name;
        double bound;
    } models[] = {{"tiny-llama-F16", 1e-6},
                  {"tiny-qwen2-F16", 1e-6},
                  {"tiny-llama-Q8_0", 1e-3},
                  {"tiny-llama-Q4_0", 1e-3},
                  {"tiny-llama-Q4_K_M", 1e-3}};
    static float want[N_TOKENS * N_VOCAB], got[N_TOKENS * N_VOCAB], cpu[N_TOKENS * N_VOCAB];
    static const int chunks[] = {N_TOKENS, 16, 1};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        int32_t tokens[N_TOKENS];
        char path[1024];
        galen_error err = {0};
        gguf *g = NULL;
        model *m = NULL;
        snprintf(path, sizeof path, "%s/%s.gguf", dir, models[i].name);
        if (!read_npy(dir, models[i].name, "tokens", tokens, sizeof tokens) ||
            !read_npy(dir, models[i].name, "logits", want, sizeof want))
            continue;
        if (check_that(!gguf_open(&g, path, &err) && !model_open(&m, g, N_VOCAB, &err), "%s: %s", path, err.msg)) {
            check_that(!run_model(backend_cpu(), m, tokens, N_TOKENS, cpu, &err), "cpu: %s", err.msg);
            for (int c = 0; c < 3; c++) {
                memset(got, 0xff, sizeof got);
                check_that(!run_model(backend_cuda(), m, tokens, chunks[c], got, &err), "cuda: %s", err.msg);
                double diff = 0, all = 0, same;
                for (int k = 0; k < N_TOKENS * N_VOCAB; k++)
                    diff += pow((double)got[k] - (double)want[k], 2), all += pow((double)want[k], 2);
                const double kl = mean_kl(cpu, got, &same);
                printf("  golden %-18s chunks of %2d  NMSE %.3g   against the CPU: KL %.3g, same top %.1f %%\n", models[i].name,
                       chunks[c], diff / all, kl, 100 * same);
                check_bound(models[i].bound < 1e-5 ? "golden logits, F16" : "golden logits, quantised", diff / all,
                            models[i].bound, "%s, chunks of %d", models[i].name, chunks[c]);
                check_bound("KL against the CPU", kl, 1e-3, "%s", models[i].name);
                check_that(same >= 0.97, "%s: same top token %.3f (48 positions)", models[i].name, same);
            }
        }
        model_close(m);
        gguf_close(g);
    }
}

/* ---------------------------------------------------------------- a real model over a page of text */

enum { MAX_TEXT = 2048, TEXT_BATCH = 512 };

static int32_t read_ids(const char *path, int32_t *ids) {
    int32_t n = 0;
    FILE *f = fopen(path, "r");
    while (f && n < MAX_TEXT && fscanf(f, "%d", &ids[n]) == 1) n++;
    if (f) fclose(f);
    check_that(n > 1, "%s: %d tokens", path, n);
    return n;
}

static galen_status run_text(const backend_api *api, const network *net, const int32_t *ids, int32_t n, int32_t chunk,
                             float *logits, galen_error *err) {
    static int32_t pages[MAX_TEXT / KV_PAGE], pos[TEXT_BATCH], seq[TEXT_BATCH], row[TEXT_BATCH];
    const backend_config cfg = {.n_threads = 16, .has_embed = true, .has_head = true};
    const work_limits lim = {
        .max_rows = chunk, .max_out = chunk, .n_ctx = n, .n_pages = (n + KV_PAGE - 1) / KV_PAGE, .kv = KV_F16};
    const kv_pages seqs = {pages, lim.n_pages};
    backend *b = NULL;
    backend_work *w = NULL;
    for (int32_t i = 0; i < lim.n_pages; i++) pages[i] = i;
    galen_status st = api->open(&b, net, &cfg, err);
    if (!st) st = api->work_open(&w, b, &lim, err);
    for (int32_t at = 0; !st && at < n; at += chunk) {
        const int32_t k = n - at < chunk ? n - at : chunk;
        for (int32_t i = 0; i < k; i++) pos[i] = at + i, row[i] = i;
        const batch bt = {k, ids + at, pos, seq, &seqs, 1, k, row};
        st = api->embed(w, &bt, err);
        for (int32_t l = 0; !st && l < net->n_layer; l++)
            for (stage s = STAGE_ATTN_IN; !st && s < N_STAGES; s++) st = api->run(w, s, l, &bt, err);
        if (!st) st = api->head(w, &bt, logits + (size_t)at * (size_t)net->n_vocab, err);
        if (!st) st = api->sync(w, err);
    }
    if (w) api->work_close(w);
    if (b) api->close(b);
    return st;
}

/* KL(p || q) of one position; is_same: they agree on the likeliest token. */
static double row_kl(const float *p, const float *q, int32_t n, bool *is_same) {
    double max_p = -INFINITY, max_q = -INFINITY, sum_p = 0, sum_q = 0, kl = 0;
    int32_t top_p = 0, top_q = 0;
    for (int32_t i = 0; i < n; i++) {
        if ((double)p[i] > max_p) max_p = (double)p[i], top_p = i;
        if ((double)q[i] > max_q) max_q = (double)q[i], top_q = i;
    }
    for (int32_t i = 0; i < n; i++) sum_p += exp((double)p[i] - max_p), sum_q += exp((double)q[i] - max_q);
    const double shift = (max_q + log(sum_q)) - (max_p + log(sum_p));
    for (int32_t i = 0; i < n; i++) kl += exp((double)p[i] - max_p) / sum_p * ((double)p[i] - (double)q[i] + shift);
    *is_same = top_p == top_q;
    return kl;
}

static int32_t vocabulary_of(const gguf *g) {
    const gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
    return t && t->ne[1] < INT32_MAX ? (int32_t)t->ne[1] : 0;
}

void test_text(const char *path, const char *ids_path) {
    static const int chunks[] = {1, 7, 128, TEXT_BATCH};
    static int32_t ids[MAX_TEXT];
    galen_error err = {0};
    gguf *g = NULL;
    model *m = NULL;
    const int32_t n = read_ids(ids_path, ids);
    if (!check_that(n > 0 && !gguf_open(&g, path, &err) && !model_open(&m, g, vocabulary_of(g), &err), "%s: %s", path, err.msg)) {
        gguf_close(g);
        return;
    }
    const network *net = model_network(m);
    float *cpu = malloc(sizeof *cpu * (size_t)n * (size_t)net->n_vocab),
          *got = malloc(sizeof *got * (size_t)n * (size_t)net->n_vocab);
    check_that(cpu && got && !run_text(backend_cpu(), net, ids, n, 64, cpu, &err), "cpu: %s", err.msg);
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
        memset(got, 0xff, sizeof *got * (size_t)n * (size_t)net->n_vocab);
        check_that(!run_text(backend_cuda(), net, ids, n, chunks[c], got, &err), "cuda: %s", err.msg);
        double kl = 0, most = 0, same = 0;
        for (int32_t t = 0; t < n; t++) {
            bool is_same;
            const size_t at = (size_t)t * (size_t)net->n_vocab;
            const double k = row_kl(cpu + at, got + at, net->n_vocab, &is_same);
            kl += k / n;
            most = k > most || isnan(k) ? k : most;
            same += (double)is_same / n;
        }
        printf("  text, %d tokens, batches of %3d against the CPU: mean KL %.3g, most %.3g, same top %.2f %%\n", n, chunks[c], kl,
               most, 100 * same);
        check_bound("KL against the CPU, a page of text", kl, 1e-3, "%s, batches of %d", path, chunks[c]);
        check_that(same >= 0.99, "%s: same top token %.4f", path, same);
    }
    free(cpu);
    free(got);
    model_close(m);
    gguf_close(g);
}
