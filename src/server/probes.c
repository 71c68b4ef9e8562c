/* Probes and figures. None wakes a model, none needs one; /livez /readyz /health need no key. */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/inside.h"

#define PROM_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void answer_ok(exchange *x) {
    static const char ok[] = "{\"status\":\"ok\"}";
    reply_static(x, 200, "application/json", ok, sizeof ok - 1);
}

/** The process runs and every loaded model's steps end. */
void probe_live(exchange *x) {
    if (shelf_is_alive(x->s->shelf))
        answer_ok(x);
    else
        reply_error(x, HTTP_DEVICE, NULL, NULL);
}

/** Work would be taken now. */
void probe_ready(exchange *x) {
    galen_error err = {0};
    const int state = shelf_state(x->s->shelf, &err);
    if (atomic_load(&x->s->is_draining))
        reply_error(x, HTTP_DRAINING, NULL, NULL);
    else if (state > 0)
        answer_ok(x);
    else
        reply_error(x, state ? HTTP_DEVICE : HTTP_LOADING, NULL,
                    state ? "the model could not be opened; the log says more" : NULL);
}

/** llama-server's: 503 while the model is loaded, then 200. */
void probe_health(exchange *x) {
    probe_ready(x);
}

/* ------------------------------------------------------------ figures */

static const char *route_at(int index, const char **method) {
    const route *r = server_routes;
    for (int i = 0; i < index && r->path; i++) r++;
    *method = r->method;
    return r->path;
}

/* Gauges and counters of one model's batcher: name, vLLM's name, type, help, value. */
#define BATCHER_TABLE(X)                                                                                                         \
    X("galen_requests_waiting", "vllm:num_requests_waiting", "gauge", "requests waiting for a place", s.n_waiting)               \
    X("galen_requests_running", "vllm:num_requests_running", "gauge", "requests in the running steps", s.n_running)              \
    X("galen_sessions", NULL, "gauge", "cases that hold KV memory", s.n_sessions)                                                \
    X("galen_kv_used_ratio", "vllm:kv_cache_usage_perc", "gauge", "KV pages held by requests, 0 to 1",                           \
      s.n_pages ? (double)s.n_pages_used / s.n_pages : 0)                                                                        \
    X("galen_kv_pages", NULL, "gauge", "KV pages of 64 positions", s.n_pages)                                                    \
    X("galen_kv_pages_cached", NULL, "gauge", "KV pages kept for prompts to come", s.n_pages_cached)                             \
    X("galen_tokens_per_second", NULL, "gauge", "generated, over the last ten seconds of work", s.tokens_per_s)                  \
    X("galen_steps_total", NULL, "counter", "passes of the model", s.n_steps)                                                    \
    X("galen_prefix_queries_tokens_total", "vllm:prefix_cache_queries_total", "counter", "prompt tokens looked up",              \
      s.n_prompt_tokens + s.n_cached_tokens)                                                                                     \
    X("galen_prefix_hits_tokens_total", "vllm:prefix_cache_hits_total", "counter", "prompt tokens found in shared pages",        \
      s.n_cached_tokens)                                                                                                         \
    X("galen_preemptions_total", "vllm:num_preemptions_total", "counter", "requests that gave their pages back",                 \
      s.n_preemptions)                                                                                                           \
    X("galen_evictions_total", NULL, "counter", "cached pages taken for others", s.n_evictions)                                  \
    X("galen_refused_total", NULL, "counter", "requests refused because the queue was full", s.n_refused)                        \
    X("galen_errors_total", NULL, "counter", "requests that ended in an error", s.n_errors)                                      \
    X("galen_device_failed", NULL, "gauge", "1: the device failed and is being opened again", s.is_failed ? 1 : 0)

static bool write_batcher(bytes *out, server *sv, bool is_vllm) {
    bool ok = true;
    book *b;
#define X(own, vllm, type, help, value)                                                                                          \
    if (!is_vllm || vllm) {                                                                                                      \
        const char *name = is_vllm ? vllm : own;                                                                                 \
        ok &= metrics_write_help(out, name, type, help);                                                                         \
        for (size_t i = 0; (b = shelf_at(sv->shelf, i)); i++) {                                                                  \
            galen_batcher_stats s = {.size = sizeof s};                                                                          \
            if (shelf_peek(sv->shelf, b)) {                                                                                      \
                galen_batcher_get_stats(b->batcher, &s);                                                                         \
                shelf_give(sv->shelf, b);                                                                                        \
            }                                                                                                                    \
            ok &= bytes_addf(out, "%s{model_name=\"%s\"} %.17g\n", name, b->name, (double)(value));                              \
        }                                                                                                                        \
    }
    BATCHER_TABLE(X)
#undef X
    return ok;
}

static bool write_models(bytes *out, server *sv, bool is_vllm) {
    static const struct {
        const char *own, *vllm, *help;
    } tokens[] = {{"galen_prompt_tokens_total", "vllm:prompt_tokens_total", "prompt tokens of ended requests"},
                  {"galen_cached_tokens_total", NULL, "of these, found in shared pages"},
                  {"galen_generated_tokens_total", "vllm:generation_tokens_total", "tokens generated"}};
    bool ok = true;
    book *b;
    for (int h = 0; h < METRIC_N_HISTOGRAMS; h++) {
        const char *name = metric_histogram_name(h, is_vllm);
        ok &= metrics_write_help(out, name, "histogram", metric_histogram_help(h));
        for (size_t i = 0; (b = shelf_at(sv->shelf, i)); i++)
            ok &= metrics_write_histogram(out, name, b->name, &b->metrics.histograms[h]);
    }
    for (int t = 0; t < 3; t++) {
        const char *name = is_vllm ? tokens[t].vllm : tokens[t].own;
        if (!name) continue;
        ok &= metrics_write_help(out, name, "counter", tokens[t].help);
        for (size_t i = 0; (b = shelf_at(sv->shelf, i)); i++) {
            const atomic_uint_fast64_t *v[] = {&b->metrics.prompt_tokens, &b->metrics.cached_tokens,
                                               &b->metrics.generated_tokens};
            ok &= bytes_addf(out, "%s{model_name=\"%s\"} %llu\n", name, b->name, (unsigned long long)atomic_load(v[t]));
        }
    }
    const char *name = is_vllm ? "vllm:request_success_total" : "galen_finished_total";
    ok &= metrics_write_help(out, name, "counter", "ended requests by how they ended");
    for (size_t i = 0; (b = shelf_at(sv->shelf, i)); i++)
        for (int f = 0; f < METRIC_N_FINISHES; f++)
            ok &= bytes_addf(out, "%s{model_name=\"%s\",finished_reason=\"%s\"} %llu\n", name, b->name, metric_finish_name(f),
                             (unsigned long long)atomic_load(&b->metrics.finishes[f]));
    return ok;
}

static bool write_vllm_config(bytes *out, server *sv) {
    bool ok = metrics_write_help(out, "vllm:cache_config_info", "gauge", "block size and number");
    book *b;
    for (size_t i = 0; (b = shelf_at(sv->shelf, i)); i++) {
        galen_batcher_stats s = {.size = sizeof s};
        if (!shelf_peek(sv->shelf, b)) continue;
        galen_batcher_get_stats(b->batcher, &s);
        shelf_give(sv->shelf, b);
        ok &= bytes_addf(out, "vllm:cache_config_info{model_name=\"%s\",block_size=\"64\",num_gpu_blocks=\"%d\"} 1\n", b->name,
                         s.n_pages);
    }
    return ok;
}

void probe_metrics(exchange *x) {
    server *s = x->s;
    bytes b = {0};
    bool ok = metrics_write(&s->metrics, route_at, &b);
    (void)pthread_mutex_lock(&s->conn_lock);
    const size_t n_conns = s->n_conns;
    (void)pthread_mutex_unlock(&s->conn_lock);
    ok &= metrics_write_help(&b, "galen_connections", "gauge", "open connections") &&
          bytes_addf(&b, "galen_connections %zu\n", n_conns);
    ok &= metrics_write_help(&b, "galen_exchanges", "gauge", "requests being answered") &&
          bytes_addf(&b, "galen_exchanges %zu\n", server_n_running(s));
    ok &= write_batcher(&b, s, false) && write_models(&b, s, false);
    if (s->o.has_vllm_metrics) ok &= write_batcher(&b, s, true) && write_models(&b, s, true) && write_vllm_config(&b, s);
    if (ok) {
        reply_bytes(x, 200, PROM_TYPE, &b);
    } else {
        bytes_free(&b);
        reply_error(x, HTTP_NO_MEMORY, NULL, NULL);
    }
}
