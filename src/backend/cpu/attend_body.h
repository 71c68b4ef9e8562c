/* Attention of a block of queries over one segment, tile by tile, with an online softmax.
 *
 * A tile of 32 keys is unpacked to f32 once: K as [2][d][16], V as [32][d_pad]. For every query then
 *   s = q . k, one lane per key, d after d by fma       keys it does not see become -inf
 *   m' = max(m, s);  c = e^(m - m');  p = e^(s - m')    and their p 0
 *   l = fma(l, c, p_first16) + p_last16;   sum = sum * c, then key after key sum = fma(p, v, sum)
 * Keys a query does not see never reach its sum, not even times zero: they may be NaN, or never have been written.
 * A query's arithmetic does not depend on which queries stand beside it; blocks of four only share loads. */

enum { V_QUERIES = 4 };

typedef struct attend_view {
    const attend_job *job;
    float *k, *v;         /* scratch of the unpacked tile                       */
    const float *kt, *vt; /* the tile: in scratch, or in the page itself        */
    float *q;             /* [n_queries][d_pad]                                 */
    float *p;             /* [n_queries][ATTEND_TILE] scores, then weights      */
    float *c;             /* [n_queries][16]: the first is the rescaling factor */
    float *part;          /* [n_queries][d_pad + ATTEND_STATE]                  */
    int64_t part_stride;
} attend_view;

/* ---------------------------------------------------------------- a tile out of the cache */

static void unpack_f16(const kv_layout *kl, const char *head, int32_t slot, float *k, float *v) {
    const size_t n_k = (size_t)ATTEND_TILE * (size_t)kl->d, n_v = (size_t)ATTEND_TILE * (size_t)kl->d_pad;
    const uint16_t *kt = (const uint16_t *)(const void *)head + (size_t)slot * (size_t)kl->d;
    const uint16_t *vt = (const uint16_t *)(const void *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    for (size_t i = 0; i < n_k; i += 16) v16_store(k + i, v16_load_half(kt + i));
    for (size_t i = 0; i < n_v; i += 16) v16_store(v + i, v16_load_half(vt + i));
}

static void unpack_q8_0_keys(const kv_layout *kl, const char *head, int32_t slot, float *k) {
    const int8_t *kt = (const int8_t *)head + (size_t)slot * (size_t)kl->d;
    const uint16_t *ks = (const uint16_t *)(const void *)(head + kl->k_scales) + (size_t)slot * (size_t)kl->n_blocks;
    for (int32_t t = 0; t < ATTEND_TILE / KV_LANES; t++)
        for (int32_t b = 0; b < kl->n_blocks; b++) {
            const v16 d = v16_load_half(ks + (t * kl->n_blocks + b) * KV_LANES);
            for (int32_t i = b * KV_BLOCK; i < kl->d && i < (b + 1) * KV_BLOCK; i++) {
                const size_t at = ((size_t)t * (size_t)kl->d + (size_t)i) * KV_LANES;
                v16_store(k + at, v16_mul(v16_load_i8(kt + at), d));
            }
        }
}

static void unpack_q8_0_values(const kv_layout *kl, const char *head, int32_t slot, float *v) {
    const int8_t *vt = (const int8_t *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    const uint16_t *vs = (const uint16_t *)(const void *)(head + kl->v_scales) + (size_t)slot * (size_t)kl->n_blocks;
    float scales[16];
    for (int32_t n = 0, s = 0, b = 0; n < ATTEND_TILE * kl->n_blocks; n++) { /* scale n is of position s, block b */
        if (n % 16 == 0) v16_store(scales, v16_load_half(vs + n));
        const v16 d = v16_set(scales[n % 16]);
        for (int32_t i = b * KV_BLOCK; i < kl->d_pad && i < (b + 1) * KV_BLOCK; i += 16) {
            const size_t at = (size_t)s * (size_t)kl->d_pad + (size_t)i;
            v16_store(v + at, v16_mul(v16_load_i8(vt + at), d));
        }
        if (++b == kl->n_blocks) b = 0, s++;
    }
}

static const char *head_at(const attend_job *job, int32_t pos) {
    return job->layer + (size_t)job->pages[pos / KV_PAGE] * job->kl->page_bytes + job->head_offset;
}

/* Ask for a tile that will be opened next: a tile of K is often one page of memory, which the hardware does not look beyond. */
static void expect_tile(const attend_job *job, int32_t pos) {
    const kv_layout *kl = job->kl;
    const size_t half = (size_t)(pos % KV_PAGE / ATTEND_TILE), k_bytes = kl->k_scales / 2, v_bytes = (kl->v_scales - kl->v) / 2;
    const char *k = head_at(job, pos) + half * k_bytes, *v = head_at(job, pos) + kl->v + half * v_bytes;
    for (size_t i = 0; i < k_bytes; i += 64) __builtin_prefetch(k + i);
    for (size_t i = 0; i < v_bytes; i += 64) __builtin_prefetch(v + i);
}

/* The tile of positions [pos, pos + 32) into v->kt, v->vt. */
static void open_tile(attend_view *w, int32_t pos) {
    const attend_job *job = w->job;
    const kv_layout *kl = job->kl;
    const char *head = head_at(job, pos);
    const int32_t slot = pos % KV_PAGE;
    w->kt = w->k;
    w->vt = w->v;
    if (kl->type == KV_F16) {
        unpack_f16(kl, head, slot, w->k, w->v);
    } else if (kl->type == KV_Q8_0) {
        unpack_q8_0_keys(kl, head, slot, w->k);
        unpack_q8_0_values(kl, head, slot, w->v);
    } else {
        w->kt = (const float *)(const void *)head + (size_t)slot * (size_t)kl->d;
        w->vt = (const float *)(const void *)(head + kl->v) + (size_t)slot * (size_t)kl->d_pad;
    }
}

/* ---------------------------------------------------------------- scores */

/* p [n_q][32] = q . k of queries [first, first + n_q) */
V_INLINE void score_block(attend_view *w, int32_t first, const int n_q) {
    const int64_t d = w->job->kl->d, d_pad = w->job->kl->d_pad;
    const float *q = w->q + (int64_t)first * d_pad;
    for (int half = 0; half < 2; half += V_WIDE) {
        const float *k = w->kt + half * d * 16;
        v16 s[V_WIDE][V_QUERIES];
#pragma GCC unroll 8
        for (int j = 0; j < n_q; j++) {
            s[0][j] = v16_set(0.0f);
            s[V_WIDE - 1][j] = v16_set(0.0f);
        }
        for (int64_t i = 0; i < d; i++) {
            v16 x[V_WIDE];
            x[0] = v16_load(k + i * 16);
            if (V_WIDE == 2) x[V_WIDE - 1] = v16_load(k + (d + i) * 16);
#pragma GCC unroll 8
            for (int j = 0; j < n_q; j++) {
                const v16 y = v16_set(q[j * d_pad + i]);
                s[0][j] = v16_fma(y, x[0], s[0][j]);
                if (V_WIDE == 2) s[V_WIDE - 1][j] = v16_fma(y, x[V_WIDE - 1], s[V_WIDE - 1][j]);
            }
        }
        for (int e = 0; e < V_WIDE; e++)
#pragma GCC unroll 8
            for (int j = 0; j < n_q; j++) v16_store(w->p + ((int64_t)first + j) * ATTEND_TILE + (half + e) * 16, s[e][j]);
    }
}

static void scores(attend_view *w, int32_t first, int32_t end) {
    for (; end - first >= V_QUERIES; first += V_QUERIES) score_block(w, first, V_QUERIES);
    if (end - first == 3) score_block(w, first, 3);
    if (end - first == 2) score_block(w, first, 2);
    if (end - first == 1) score_block(w, first, 1);
}

/* Scores of one query to weights; keys [a, b) of the tile are seen. */
static void weigh(attend_view *w, int32_t query, int32_t a, int32_t b) {
    float *p = w->p + (int64_t)query * ATTEND_TILE, *state = w->part + query * w->part_stride + w->job->kl->d_pad;
    const bool is_cut = a > 0 || b < ATTEND_TILE;
    v16 s[2];
#pragma GCC unroll 2
    for (int e = 0; e < 2; e++) {
        s[e] = v16_mul(v16_load(p + 16 * e), v16_set(w->job->scale));
        if (w->job->softcap > 0.0f) s[e] = capped(s[e], v16_set(w->job->softcap));
        if (is_cut) s[e] = v16_keep(s[e], a - 16 * e, b - 16 * e, -INFINITY);
    }
    const float m = state[16], tile_m = v16_largest(v16_max(s[0], s[1])), m_new = tile_m > m ? tile_m : m;
    v16 c = v16_set(1.0f); /* e^0 */
    if (m != m_new) c = v16_exp_down(v16_set(m - m_new));
#pragma GCC unroll 2
    for (int e = 0; e < 2; e++) {
        s[e] = v16_exp_down(v16_sub(s[e], v16_set(m_new)));
        if (is_cut) s[e] = v16_keep(s[e], a - 16 * e, b - 16 * e, 0.0f);
        v16_store(p + 16 * e, s[e]);
    }
    v16_store(state, v16_add(v16_fma(v16_load(state), c, s[0]), s[1]));
    state[16] = m_new;
    state[17] = 1.0f;
    v16_store(w->c + (int64_t)query * 16, c);
}

/* ---------------------------------------------------------------- values */

/* sums of queries [first, first + n_q): rescaled, then keys [a, b) of the tile added */
V_INLINE void value_columns(attend_view *w, int32_t first, const int n_q, int32_t a, int32_t b, int64_t column, const int n_v) {
    const int64_t d_pad = w->job->kl->d_pad;
    const float *v = w->vt + column, *p = w->p + (int64_t)first * ATTEND_TILE;
    float *sum = w->part + first * w->part_stride + column;
    v16 y[V_QUERIES][V_WIDE];
#pragma GCC unroll 8
    for (int j = 0; j < n_q; j++) {
        const v16 c = v16_set(w->c[((int64_t)first + j) * 16]);
#pragma GCC unroll 8
        for (int e = 0; e < n_v; e++) y[j][e] = v16_mul(v16_load(sum + j * w->part_stride + 16 * e), c);
    }
    for (int64_t key = a; key < b; key++) {
        v16 x[V_WIDE];
#pragma GCC unroll 8
        for (int e = 0; e < n_v; e++) x[e] = v16_load(v + key * d_pad + 16 * e);
#pragma GCC unroll 8
        for (int j = 0; j < n_q; j++) {
            const v16 weight = v16_set(p[j * ATTEND_TILE + key]);
#pragma GCC unroll 8
            for (int e = 0; e < n_v; e++) y[j][e] = v16_fma(weight, x[e], y[j][e]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < n_q; j++) {
#pragma GCC unroll 8
        for (int e = 0; e < n_v; e++) v16_store(sum + j * w->part_stride + 16 * e, y[j][e]);
    }
}

V_INLINE void value_block(attend_view *w, int32_t first, const int n_q, int32_t a, int32_t b) {
    const int64_t d_pad = w->job->kl->d_pad;
    int64_t column = 0;
    for (; column + 16 * V_WIDE <= d_pad; column += 16 * V_WIDE) value_columns(w, first, n_q, a, b, column, V_WIDE);
    if (V_WIDE == 2 && column < d_pad) value_columns(w, first, n_q, a, b, column, 1);
}

static void values(attend_view *w, int32_t first, int32_t end, int32_t a, int32_t b) {
    for (; end - first >= V_QUERIES; first += V_QUERIES) value_block(w, first, V_QUERIES, a, b);
    if (end - first == 3) value_block(w, first, 3, a, b);
    if (end - first == 2) value_block(w, first, 2, a, b);
    if (end - first == 1) value_block(w, first, 1, a, b);
}

/* ---------------------------------------------------------------- the block */

/* Keys [*a, *b) of the 32 at pos that row sees; false when none. */
V_INLINE bool seen(const attend_job *job, int32_t row, int32_t pos, int32_t *a, int32_t *b) {
    const int32_t at = job->first_pos + row, low = job->window > 0 && at >= job->window ? at - job->window + 1 : 0;
    *a = low > pos ? low - pos : 0;
    *b = at - pos < ATTEND_TILE - 1 ? at - pos + 1 : ATTEND_TILE;
    return *a < *b;
}

static void weigh_row(attend_view *w, int32_t row, int32_t pos, int32_t *a, int32_t *b) {
    (void)seen(w->job, row, pos, a, b);
    for (int32_t i = row * w->job->n_group; i < (row + 1) * w->job->n_group; i++) weigh(w, i, *a, *b);
}

static void attend_tile(attend_view *w, int32_t pos, int32_t end_pos) {
    const attend_job *job = w->job;
    const int32_t g = job->n_group;
    int32_t a, b, begin = 0, end = job->n_rows; /* rows that see any of the tile stand together */
    while (begin < end && !seen(job, begin, pos, &a, &b)) begin++;
    while (end > begin && !seen(job, end - 1, pos, &a, &b)) end--;
    if (begin == end) return;
    open_tile(w, pos);
    if (pos + ATTEND_TILE < end_pos) expect_tile(job, pos + ATTEND_TILE);
    scores(w, begin * g, end * g);
    for (int32_t row = begin; row < end;) {
        int32_t next = row + 1;
        weigh_row(w, row, pos, &a, &b);
        if (a == 0 && b == ATTEND_TILE) /* rows that see all of the tile are taken together */
            while (next < end && seen(job, next, pos, &a, &b) && a == 0 && b == ATTEND_TILE) weigh_row(w, next++, pos, &a, &b);
        (void)seen(job, row, pos, &a, &b);
        values(w, row * g, next * g, a, b);
        row = next;
    }
}

static void attend(const attend_job *job, int32_t begin, int32_t end, float *part, float *scratch) {
    const kv_layout *kl = job->kl;
    const int64_t d = kl->d, d_pad = kl->d_pad, n = (int64_t)job->n_rows * job->n_group;
    attend_view w = {.job = job, .part = part, .part_stride = d_pad + ATTEND_STATE};
    w.k = scratch;
    w.v = w.k + ATTEND_TILE * d_pad;
    w.q = w.v + ATTEND_TILE * d_pad;
    w.p = w.q + n * d_pad;
    w.c = w.p + n * ATTEND_TILE;
    for (int64_t i = 0; i < n; i++) {
        memcpy(w.q + i * d_pad, job->q + i / job->n_group * job->q_stride + i % job->n_group * d, (size_t)d * sizeof(float));
        memset(part + i * w.part_stride, 0, (size_t)w.part_stride * sizeof(float));
        part[i * w.part_stride + d_pad + 16] = -INFINITY;
    }
    const int32_t last = job->first_pos + job->n_rows; /* keys behind it are not seen */
    if (end > last) end = last;
    if (job->window > 0 && job->first_pos >= job->window) {
        const int32_t low = job->first_pos - job->window + 1;
        if (begin < low) begin = low - low % ATTEND_TILE;
    }
    for (int32_t pos = begin; pos < end; pos += ATTEND_TILE) attend_tile(&w, pos, end);
}

static void attend_merge(const kv_layout *kl, float *total, const float *part) {
    const int32_t d_pad = kl->d_pad;
    const float mt = total[d_pad + 16], mp = part[d_pad + 16];
    if (part[d_pad + 17] == 0.0f) return;
    if (total[d_pad + 17] == 0.0f) {
        memcpy(total, part, (size_t)(d_pad + ATTEND_STATE) * sizeof *total);
        return;
    }
    const float m = mp > mt ? mp : mt;
    const v16 ct = v16_exp_down(v16_set(mt - m)), cp = v16_exp_down(v16_set(mp - m));
    for (int32_t i = 0; i < d_pad + 16; i += 16)
        v16_store(total + i, v16_fma(v16_load(part + i), cp, v16_mul(v16_load(total + i), ct)));
    total[d_pad + 16] = m;
}

static void attend_finish(const kv_layout *kl, float *out, const float *total) {
    const v16 l = v16_set(v16_sum(v16_load(total + kl->d_pad)));
    for (int32_t i = 0; i < kl->d; i += 16) store_chunk(out, i, kl->d, v16_div(v16_load(total + i), l));
}
