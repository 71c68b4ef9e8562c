/* Figures for Prometheus (text format 0.0.4). Counters are atomic; a histogram has fixed bounds. No label ever holds text of a
 * request: model names, route patterns and statuses are all there are. */
#ifndef GALEN_SERVER_METRICS_H
#define GALEN_SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "server/bytes.h"

#define METRICS_MAX_ROUTES   64
#define METRICS_MAX_STATUSES 32

#define METRIC_COUNTER_TABLE(X)                                                                                                  \
    X(DISCONNECTS, "galen_disconnects_total", "requests whose client left, or was cut, before the answer was whole")             \
    X(SLOW_READERS, "galen_slow_readers_total", "streams cut because their client did not read")                                 \
    X(TIMEOUTS, "galen_timeouts_total", "connections cut while headers or a body were awaited")                                  \
    X(LOADS, "galen_model_loads_total", "models loaded")                                                                         \
    X(UNLOADS, "galen_model_unloads_total", "models unloaded, idle or for another one's sake")                                   \
    X(TOO_LONG, "galen_context_refusals_total", "prompts refused because they do not fit the context")                           \
    X(GRAMMAR_FAILURES, "galen_grammar_failures_total", "grammars and schemas that could not be compiled")                       \
    X(DEVICE_FAILURES, "galen_device_failures_total", "requests ended by a failing device")                                      \
    X(CASES, "galen_cases_total", "cases begun")                                                                                 \
    X(RED_FLAGS, "galen_red_flags_total", "cases or answers with a red flag")                                                    \
    X(STORE_FAILURES, "galen_store_failures_total", "turns that could not be kept")                                              \
    X(PERF_DROPPED, "galen_perf_rows_dropped_total", "rows of the performance log that a full queue had no room for")

typedef enum metric_counter {
#define X(id, name, help) METRIC_##id,
    METRIC_COUNTER_TABLE(X)
#undef X
        METRIC_N_COUNTERS
} metric_counter;

#define METRIC_HISTOGRAM_TABLE(X)                                                                                                \
    X(TTFT, "galen_time_to_first_token_seconds", "vllm:time_to_first_token_seconds", "from the request to its first token")      \
    X(ITL, "galen_inter_token_latency_seconds", "vllm:inter_token_latency_seconds", "between two tokens of an answer")           \
    X(E2E, "galen_request_seconds", "vllm:e2e_request_latency_seconds", "from the request to its last token")                    \
    X(QUEUE, "galen_queue_seconds", "vllm:request_queue_time_seconds", "waiting for a place")                                    \
    X(PREFILL, "galen_prefill_seconds", "vllm:request_prefill_time_seconds", "reading the prompt")                               \
    X(DECODE, "galen_decode_seconds", "vllm:request_decode_time_seconds", "writing the answer")

typedef enum metric_histogram {
#define X(id, name, vllm, help) METRIC_##id,
    METRIC_HISTOGRAM_TABLE(X)
#undef X
        METRIC_N_HISTOGRAMS
} metric_histogram;

#define METRIC_N_BOUNDS 16
typedef struct histogram {
    atomic_uint_fast64_t counts[METRIC_N_BOUNDS + 1]; /* the last: above all bounds */
    atomic_uint_fast64_t sum_us;
} histogram;

#define METRIC_FINISH_TABLE(X)                                                                                                   \
    X(STOP, "stop")                                                                                                              \
    X(LENGTH, "length")                                                                                                          \
    X(ABORT, "abort")                                                                                                            \
    X(ERROR, "error")
typedef enum metric_finish {
#define X(id, name) METRIC_FINISH_##id,
    METRIC_FINISH_TABLE(X)
#undef X
        METRIC_N_FINISHES
} metric_finish;

/* Of one model. */
typedef struct model_metrics {
    histogram histograms[METRIC_N_HISTOGRAMS];
    atomic_uint_fast64_t finishes[METRIC_N_FINISHES];
    atomic_uint_fast64_t prompt_tokens, cached_tokens, generated_tokens;
} model_metrics;

typedef struct metrics {
    atomic_uint_fast64_t counters[METRIC_N_COUNTERS];
    atomic_uint_fast64_t requests[METRICS_MAX_ROUTES + 1][METRICS_MAX_STATUSES]; /* the last row: no route */
} metrics;

void metrics_add(metrics *m, metric_counter c, uint64_t n);
void metrics_request(metrics *m, int route_index, int status);
void metrics_observe(histogram *h, uint64_t ns);

/** The counters and requests; route(i): the pattern of route i, NULL past the end. False without memory. */
bool metrics_write(const metrics *m, const char *(*route)(int index, const char **method), bytes *out);
bool metrics_write_help(bytes *out, const char *name, const char *type, const char *help);
bool metrics_write_histogram(bytes *out, const char *name, const char *model, const histogram *h);
const char *metric_histogram_name(metric_histogram h, bool is_vllm);
const char *metric_histogram_help(metric_histogram h);
const char *metric_finish_name(metric_finish f);

#endif
