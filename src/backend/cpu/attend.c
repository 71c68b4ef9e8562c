/* The attend stage: who works on what. The arithmetic is in attend_body.h.
 *
 * A query's result is, by definition, its partial results over segments of 512 absolute positions, merged in order. In
 * prefill a task is (block of rows, KV head) and merges as it goes; when there are too few of those for the threads (decode
 * at a long context) a task is (row, KV head, segment) and the merging follows. Both give the same bytes. */
#include "backend/cpu/cpu_impl.h"

#include <string.h>

typedef struct attend_ctx {
    backend_work *w;
    const batch *b;
    const network_layer *layer;
    const char *kv; /* of the layer */
    int32_t n_blocks;
    int32_t n_segments; /* split mode: the most that a row has */
} attend_ctx;

static size_t part_floats(const backend_work *w) {
    return (size_t)w->shape.kl.d_pad + ATTEND_STATE;
}

static attend_job job_of(const attend_ctx *c, int32_t first, int32_t n_rows, int32_t head_kv) {
    const backend_work *w = c->w;
    const network *net = w->b->net;
    const int64_t n_q = (int64_t)net->n_head * net->d_head;
    return (attend_job){.kl = &w->shape.kl,
                        .layer = c->kv,
                        .pages = c->b->seqs[c->b->seq[first]].pages,
                        .head_offset = (size_t)head_kv * w->shape.kl.head_bytes,
                        .q = w->buf.q + first * n_q + (int64_t)head_kv * w->shape.n_group * net->d_head,
                        .q_stride = n_q,
                        .n_rows = n_rows,
                        .n_group = w->shape.n_group,
                        .first_pos = c->b->pos[first],
                        .window = c->layer->window,
                        .scale = net->attn_scale,
                        .softcap = net->attn_softcap};
}

/* The first segment that any row of the job sees. */
static int32_t first_segment(const attend_job *job) {
    if (job->window <= 0 || job->first_pos < job->window) return 0;
    return (job->first_pos - job->window + 1) / ATTEND_SEGMENT;
}

static int32_t last_segment(const attend_job *job) {
    return (job->first_pos + job->n_rows - 1) / ATTEND_SEGMENT;
}

/* Write the finished queries of a job. */
static void finish(const attend_ctx *c, int32_t first, const attend_job *job, int32_t head_kv, const float *total) {
    const network *net = c->w->b->net;
    const size_t pf = part_floats(c->w);
    for (int32_t i = 0; i < job->n_rows * job->n_group; i++) {
        const int64_t head = head_kv * (int64_t)job->n_group + i % job->n_group;
        float *out = c->w->buf.att + ((int64_t)(first + i / job->n_group) * net->n_head + head) * net->d_head;
        c->w->b->ops->attend_finish(&c->w->shape.kl, out, total + (size_t)i * pf);
    }
}

/* ---------------------------------------------------------------- blocks of rows, all segments */

static void attend_blocks(void *ctx, int64_t begin, int64_t end, int thread) {
    const attend_ctx *c = ctx;
    const backend_work *w = c->w;
    const cpu_ops *ops = w->b->ops;
    const size_t pf = part_floats(w);
    float *scratch = w->buf.attend_scratch + (size_t)thread * w->shape.thread_floats;
    float *total = scratch + attend_scratch_floats(&w->shape.kl, w->shape.max_queries);
    float *part = total + (size_t)w->shape.max_queries * pf;
    for (int64_t t = begin; t < end; t++) {
        const row_block block = w->buf.blocks[c->n_blocks - 1 - t / w->b->net->n_head_kv]; /* long ones first */
        const int32_t head_kv = (int32_t)(t % w->b->net->n_head_kv);
        const attend_job job = job_of(c, block.first, block.n, head_kv);
        const size_t n = (size_t)block.n * (size_t)job.n_group;
        const int32_t s0 = first_segment(&job), s1 = last_segment(&job);
        ops->attend(&job, s0 * ATTEND_SEGMENT, (s0 + 1) * ATTEND_SEGMENT, total, scratch);
        for (int32_t s = s0 + 1; s <= s1; s++) {
            ops->attend(&job, s * ATTEND_SEGMENT, (s + 1) * ATTEND_SEGMENT, part, scratch);
            for (size_t i = 0; i < n; i++) ops->attend_merge(&w->shape.kl, total + i * pf, part + i * pf);
        }
        finish(c, block.first, &job, head_kv, total);
    }
}

/* Blocks of up to most rows, each of one sequence; returns their count. */
static int32_t cut_blocks(row_block *blocks, const batch *b, int32_t most) {
    int32_t n = 0;
    for (int32_t r = 0; r < b->n_rows;) {
        int32_t end = r + 1;
        while (end < b->n_rows && b->seq[end] == b->seq[r] && end - r < most) end++;
        blocks[n++] = (row_block){.first = r, .n = end - r};
        r = end;
    }
    return n;
}

/* ---------------------------------------------------------------- single rows, split by segments */

static float *parts_of(const attend_ctx *c, int64_t row, int64_t head_kv, int64_t segment) {
    const backend_work *w = c->w;
    const int64_t at = (row * w->b->net->n_head_kv + head_kv) * c->n_segments + segment;
    return w->buf.parts + (size_t)at * (size_t)w->shape.n_group * part_floats(w);
}

static void attend_segments(void *ctx, int64_t begin, int64_t end, int thread) {
    const attend_ctx *c = ctx;
    const backend_work *w = c->w;
    float *scratch = w->buf.attend_scratch + (size_t)thread * w->shape.thread_floats;
    for (int64_t t = begin; t < end; t++) {
        const int32_t segment = (int32_t)(t % c->n_segments), n_kv = w->b->net->n_head_kv;
        const int32_t head_kv = (int32_t)(t / c->n_segments % n_kv), row = (int32_t)(t / c->n_segments / n_kv);
        const attend_job job = job_of(c, row, 1, head_kv);
        if (segment < first_segment(&job) || segment > last_segment(&job)) continue;
        w->b->ops->attend(&job, segment * ATTEND_SEGMENT, (segment + 1) * ATTEND_SEGMENT, parts_of(c, row, head_kv, segment),
                          scratch);
    }
}

static void merge_segments(void *ctx, int64_t begin, int64_t end, int thread) {
    const attend_ctx *c = ctx;
    const backend_work *w = c->w;
    const size_t pf = part_floats(w);
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const int32_t head_kv = (int32_t)(t % w->b->net->n_head_kv), row = (int32_t)(t / w->b->net->n_head_kv);
        const attend_job job = job_of(c, row, 1, head_kv);
        const int32_t s0 = first_segment(&job), s1 = last_segment(&job);
        float *total = parts_of(c, row, head_kv, s0);
        for (int32_t s = s0 + 1; s <= s1; s++)
            for (int32_t i = 0; i < job.n_group; i++)
                w->b->ops->attend_merge(&w->shape.kl, total + (size_t)i * pf, parts_of(c, row, head_kv, s) + (size_t)i * pf);
        finish(c, row, &job, head_kv, total);
    }
}

/* ---------------------------------------------------------------- the stage */

/* Whether the batch's tasks are too few for the threads; then n_segments is the most that a row needs. */
static bool is_split(const backend_work *w, const batch *b, int32_t *n_segments) {
    if (b->n_rows > w->shape.split_rows || (int64_t)b->n_rows * w->b->net->n_head_kv >= 4 * pool_n_threads(w->b->pool))
        return false;
    *n_segments = 0;
    for (int32_t r = 0; r < b->n_rows; r++) {
        const int32_t n = b->pos[r] / ATTEND_SEGMENT + 1;
        if (n > *n_segments) *n_segments = n;
    }
    return *n_segments > 1;
}

void cpu_attend(backend_work *w, int32_t layer, const batch *b) {
    enum { SMALL = 1 << 16 }; /* multiply-adds that are not worth waking a thread: some 5 us */
    const network *net = w->b->net;
    attend_ctx c = {.w = w, .b = b, .layer = &net->layers[layer], .kv = layer_kv(w, layer)};
    if (is_split(w, b, &c.n_segments)) {
        pool_run(w->b->pool, (int64_t)b->n_rows * net->n_head_kv * c.n_segments, 1, attend_segments, &c);
        pool_run(w->b->pool, (int64_t)b->n_rows * net->n_head_kv, 1 + 64 / c.n_segments, merge_segments, &c);
        return;
    }
    int64_t work = 0;
    for (int32_t r = 0; r < b->n_rows; r++) work += (int64_t)(b->pos[r] + 1) * net->n_head * net->d_head;
    int32_t most = w->shape.max_queries / w->shape.n_group;
    const int32_t enough = 4 * pool_n_threads(w->b->pool);
    while (most > 1 && (b->n_rows + most - 1) / most * net->n_head_kv < enough) most /= 2;
    c.n_blocks = cut_blocks(w->buf.blocks, b, most);
    const int64_t n_tasks = (int64_t)c.n_blocks * net->n_head_kv;
    pool_run(w->b->pool, n_tasks, work < SMALL ? n_tasks : 1, attend_blocks, &c);
}
