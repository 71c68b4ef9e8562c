#include "server/metrics.h"

#include <stdio.h>

/* Seconds; the ends fit a first token on a laptop's CPU and one on a server's GPU. */
static const double bounds[METRIC_N_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                               0.5,   1,      2.5,   5,    10,    25,   60,  300};
/* Every status that an answer may have; METRICS_MAX_STATUSES bounds it. 0: the client left first. */
static const int statuses[] = {0,   200, 201, 204, 400, 401, 403, 404, 405, 408, 409,
                               411, 413, 415, 429, 431, 499, 500, 501, 503, 505, 507};
#define N_STATUSES (sizeof statuses / sizeof statuses[0])
_Static_assert(N_STATUSES <= METRICS_MAX_STATUSES, "a column for each status");

static const struct {
    const char *name, *help;
} counters[] = {
#define X(id, name, help) {name, help},
    METRIC_COUNTER_TABLE(X)
#undef X
};
static const struct {
    const char *name, *vllm, *help;
} histograms[] = {
#define X(id, name, vllm, help) {name, vllm, help},
    METRIC_HISTOGRAM_TABLE(X)
#undef X
};
static const char *const finishes[] = {
#define X(id, name) name,
    METRIC_FINISH_TABLE(X)
#undef X
};

const char *metric_histogram_name(metric_histogram h, bool is_vllm) {
    return is_vllm ? histograms[h].vllm : histograms[h].name;
}

const char *metric_histogram_help(metric_histogram h) {
    return histograms[h].help;
}

const char *metric_finish_name(metric_finish f) {
    return finishes[f];
}

void metrics_add(metrics *m, metric_counter c, uint64_t n) {
    (void)atomic_fetch_add_explicit(&m->counters[c], n, memory_order_relaxed);
}

void metrics_request(metrics *m, int route_index, int status) {
    const int row = route_index >= 0 && route_index < METRICS_MAX_ROUTES ? route_index : METRICS_MAX_ROUTES;
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i] == status) (void)atomic_fetch_add_explicit(&m->requests[row][i], 1, memory_order_relaxed);
}

void metrics_observe(histogram *h, uint64_t ns) {
    const double s = (double)ns * 1e-9;
    size_t i = 0;
    while (i < METRIC_N_BOUNDS && s > bounds[i]) i++;
    (void)atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&h->sum_us, ns / 1000, memory_order_relaxed);
}

bool metrics_write_help(bytes *out, const char *name, const char *type, const char *help) {
    return bytes_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

bool metrics_write(const metrics *m, const char *(*route)(int index, const char **method), bytes *out) {
    bool ok =
        metrics_write_help(out, "galen_http_requests_total", "counter", "requests by route and status; code 0: the client left");
    for (int r = 0; r <= METRICS_MAX_ROUTES; r++) {
        const char *method = "", *path = r < METRICS_MAX_ROUTES ? route(r, &method) : "none";
        if (!path) {
            r = METRICS_MAX_ROUTES - 1; /* on to the row without a route */
            continue;
        }
        for (size_t i = 0; i < N_STATUSES; i++) {
            const uint64_t n = atomic_load_explicit(&m->requests[r][i], memory_order_relaxed);
            if (n)
                ok &= bytes_addf(out, "galen_http_requests_total{method=\"%s\",route=\"%s\",code=\"%d\"} %llu\n", method, path,
                                 statuses[i], (unsigned long long)n);
        }
    }
    for (size_t i = 0; i < METRIC_N_COUNTERS; i++) {
        ok &= metrics_write_help(out, counters[i].name, "counter", counters[i].help);
        ok &= bytes_addf(out, "%s %llu\n", counters[i].name,
                         (unsigned long long)atomic_load_explicit(&m->counters[i], memory_order_relaxed));
    }
    return ok;
}

bool metrics_write_histogram(bytes *out, const char *name, const char *model, const histogram *h) {
    uint64_t n = 0;
    bool ok = true;
    for (size_t i = 0; i < METRIC_N_BOUNDS; i++) {
        n += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        ok &= bytes_addf(out, "%s_bucket{model_name=\"%s\",le=\"%g\"} %llu\n", name, model, bounds[i], (unsigned long long)n);
    }
    n += atomic_load_explicit(&h->counts[METRIC_N_BOUNDS], memory_order_relaxed);
    ok &= bytes_addf(out, "%s_bucket{model_name=\"%s\",le=\"+Inf\"} %llu\n", name, model, (unsigned long long)n);
    ok &= bytes_addf(out, "%s_sum{model_name=\"%s\"} %.6f\n", name, model,
                     (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) * 1e-6);
    return bytes_addf(out, "%s_count{model_name=\"%s\"} %llu\n", name, model, (unsigned long long)n) && ok;
}
