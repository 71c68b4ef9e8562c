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

static double part_bytes(const network_layer *l, int part) {
    double n = 0;
    for (size_t i = 0; i < N_LAYER_TENSORS; i++) {
        const tensor *t = layer_tensor_of(l, &layer_tensors[i]);
        if (t->data && (layer_tensors[i].part & part)) n += (double)t->row_bytes * (double)t->n_out;
    }
    return n;
}

/* Seconds of one part in a decode step, by where it runs: its weights, and its share of the KV that is read. */
typedef struct rates {
    double host, device, upload;   /* bytes a second */
    double host_kv_s, device_kv_s; /* an attention   */
    double half_hop_s;
} rates;

static rates rates_of(const plan *p, const plan_request *r) {
    const plan_speeds *s = &r->speeds;
    const double n_positions = (double)r->limits.n_pages * KV_PAGE;
    const double depth = r->limits.n_ctx / 2 < MOST_DEPTH ? r->limits.n_ctx / 2 : MOST_DEPTH;
    const double filled = n_positions > 0 && depth < n_positions ? depth / n_positions : 1;
    const int32_t n_host = p->n_layer - p->n_attn;
    rates t = {.host = s->host_read, .device = device_share * s->device_read, .upload = s->upload, .half_hop_s = 0.5 * s->hop_s};
    if (p->n_fetched) { /* not known: what the copy takes is not the processor's */
        const double most = s->upload < 0.5 * s->host_read ? s->upload : 0.5 * s->host_read;
        t.upload = s->upload_beside > 0 ? s->upload_beside : most;
        t.host = s->host_beside > 0 ? s->host_beside : s->host_read - t.upload;
    }
    if (n_host) t.host_kv_s = (double)p->host.kv * filled / n_host / (attention_share * t.host);
    if (p->n_attn) t.device_kv_s = (double)p->device.kv * filled / p->n_attn / (attention_share * s->device_read);
    t.host *= host_share;
    return t;
}

/* A step, part after part; what is fetched is on its way since the last one of them was computed. The second step counts: the
 * first has nothing to wait for. One alone stays where it is. */
static double decode_time(const plan *p, const plan_request *r) {
    const rates t = rates_of(p, r);
    double now = 0, begun = 0, asked = 0;
    for (int step = 0; step < 2; step++) {
        begun = now;
        bool was_device = p->n_layer > 0 && (p->parts[0] & PART_ATTN);
        for (int32_t i = 0; i < p->n_layer; i++)
            for (int part = PART_ATTN; part <= PART_FFN; part++) {
                const bool is_fetched = p->fetched[i] & part, is_device = is_fetched || (p->parts[i] & part);
                const double n = part_bytes(&r->net->layers[i], part);
                if (is_device != was_device) now += t.half_hop_s;
                was_device = is_device;
                if (is_fetched && p->n_fetched > 1 && now < asked + n / t.upload) now = asked + n / t.upload;
                now += is_device ? n / t.device + device_layer_s / 2 : n / t.host + host_layer_s / 2;
                if (part == PART_ATTN) now += is_device ? t.device_kv_s : t.host_kv_s;
                if (is_fetched) asked = now;
            }
        if (p->has_head != was_device) now += t.half_hop_s;
        const tensor *h = &r->net->head;
        now += (double)h->row_bytes * (double)h->n_out / (p->has_head ? t.device : t.host);
    }
    return now - begun;
}

/* What the device cannot take out of the page cache by itself passes through a pinned buffer: the processor's copy bounds it. */
static double stream_rate(const plan_speeds *s) {
    const double copy = 0.4 * s->host_read;
    return s->upload < copy || s->upload_beside > 0 ? s->upload : copy;
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

double plan_seconds(const plan *p, const plan_request *r, int32_t n_prompt, int32_t n_answer) {
    const int32_t most = r->limits.max_rows;
    double t = n_answer * p->decode_s;
    for (int32_t rows; n_prompt > 0; n_prompt -= rows) {
        rows = n_prompt < most ? n_prompt : most;
        t += prefill_time(p, r, rows, p->stream_rows && rows >= p->stream_rows);
    }
    return t;
}

double plan_score(const plan *p, const plan_request *r) {
    return plan_seconds(p, r, PROMPT_TOKENS, ANSWER_TOKENS);
}
