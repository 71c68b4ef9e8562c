/* How long a placement should take: bytes over bandwidths for a token, products over their rates for a prompt.
 *
 * The shares of a bandwidth that the engine reaches are its own measurements (docs/design.md): 0.85 of an H100's, 0.9 of what
 * the processor's threads read in the probe. Attention reaches less, being short. */
#include "plan/plan_impl.h"

static const double host_share = 0.9, device_share = 0.85, attention_share = 0.5;
static const double host_layer_s = 20e-6, device_layer_s = 10e-6; /* beside the bytes */
enum { PROMPT_TOKENS = 512, ANSWER_TOKENS = 128, MOST_DEPTH = 2048 };

plan_speeds plan_typical_host(int32_t n_threads) {
    const double n = n_threads < 1 ? 1 : n_threads;
    /* DDR4 or DDR5 on two channels: a core reads some 12 GB/s, all of them some 60; a core multiplies some 100 GFLOP/s. */
    const double read = 12e9 * n < 60e9 ? 12e9 * n : 60e9;
    return (plan_speeds){.host_read = read, .host_flops = 100e9 * n};
}

void plan_fill_device(plan_speeds *s, double device_read, double upload, double hop_s) {
    s->device_read = device_read;
    s->device_flops = 70 * device_read; /* of tensor cores in prefill: an H100 reaches 240 TFLOP/s at 3.35 TB/s */
    s->upload = upload > 0 ? upload : 12e9;
    s->hop_s = hop_s > 0 ? hop_s : 30e-6;
}

/* Multiply-adds of one row, twice. */
static double flops_of(const network_layer *l, int parts) {
    double n = 0;
    for (size_t i = 0; i < N_LAYER_TENSORS; i++) {
        const tensor *t = layer_tensor_of(l, &layer_tensors[i]);
        if (t->data && !layer_tensors[i].is_vector && (layer_tensors[i].part & parts))
            n += 2.0 * (double)t->n_in * (double)t->n_out;
    }
    return n;
}

static double file_bytes(const plan_request *r, const uint8_t *parts, bool has_head) {
    uint64_t weights, loading;
    const backend_config cfg = {.n_threads = r->n_threads, .parts = parts, .has_head = has_head};
    r->host->weight_bytes(r->net, &cfg, &weights, &loading);
    return (double)weights;
}

static double decode_time(const plan *p, const plan_request *r) {
    const plan_speeds *s = &r->speeds;
    const double n_positions = (double)r->limits.n_pages * KV_PAGE;
    const double depth = r->limits.n_ctx / 2 < MOST_DEPTH ? r->limits.n_ctx / 2 : MOST_DEPTH;
    const double filled = n_positions > 0 && depth < n_positions ? depth / n_positions : 1;
    double t = file_bytes(r, p->host_parts, !p->has_head) / (host_share * s->host_read) +
               (double)p->host.kv * filled / (attention_share * s->host_read) + (p->n_layer - p->n_whole) * host_layer_s;
    if (!plan_uses_device(p) || s->device_read <= 0) return t;
    t += file_bytes(r, p->parts, p->has_head) / (device_share * s->device_read) +
         (double)p->device.kv * filled / (attention_share * s->device_read) +
         (p->n_attn > p->n_ffn ? p->n_attn : p->n_ffn) * device_layer_s;
    return t + p->n_crossings * 0.5 * s->hop_s;
}

/* What comes from the page cache passes through a pinned buffer: the processor's copy bounds it too. */
static double stream_rate(const plan_speeds *s) {
    const double copy = 0.4 * s->host_read;
    return s->upload < copy ? s->upload : copy;
}

static double prefill_time(const plan *p, const plan_request *r, int32_t rows, bool is_streaming) {
    const plan_speeds *s = &r->speeds;
    double host = 0, device = 0;
    for (int32_t i = 0; i < p->n_layer; i++) {
        const int here = p->host_parts[i] & (is_streaming ? ~p->streamed[i] : ~0);
        host += flops_of(&r->net->layers[i], here);
        device += flops_of(&r->net->layers[i], PART_BOTH & ~here);
    }
    double t = rows * host / s->host_flops;
    const double read = host > 0 ? file_bytes(r, p->host_parts, false) / (host_share * s->host_read) : 0;
    if (t < read && !is_streaming) t = read;
    if (s->device_flops <= 0) return t;
    double on_device = rows * device / s->device_flops;
    if (is_streaming) {
        const double streamed = file_bytes(r, p->streamed, false) / stream_rate(s);
        if (on_device < streamed) on_device = streamed;
    } else if (device > 0) {
        const double loaded = file_bytes(r, p->parts, false) / (device_share * s->device_read);
        if (on_device < loaded) on_device = loaded;
    }
    return t + on_device;
}

void plan_time(plan *p, const plan_request *r) {
    const int32_t most = r->limits.max_rows;
    p->prefill_rows = most < PROMPT_TOKENS ? most : PROMPT_TOKENS;
    p->decode_s = decode_time(p, r);
    if (p->stream_rows) { /* from how many rows on it is quicker; a power of two or three times one, so that it seldom changes */
        int32_t rows = STREAM_MIN_ROWS;
        for (int32_t n = 48; rows < most && prefill_time(p, r, rows, true) >= prefill_time(p, r, rows, false);) {
            rows = n;
            n = n % 3 == 0 ? n / 3 * 4 : n / 2 * 3;
        }
        p->stream_rows = rows <= most ? rows : most + 1;
    }
    p->prefill_s = prefill_time(p, r, p->prefill_rows, p->stream_rows && p->prefill_rows >= p->stream_rows);
}

double plan_score(const plan *p) {
    return p->prefill_s * PROMPT_TOKENS / p->prefill_rows + p->decode_s * ANSWER_TOKENS;
}
