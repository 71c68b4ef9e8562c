/* Second signal: asked anew a few times at a higher temperature, how often does the model begin with the same condition? The
 * prompt is in the session already, so a sample costs the few tokens of one name. */
#include <string.h>

#include "assist/case.h"
#include "assist/names.h"
#include "assist/text.h"

#define SAMPLE_TOKENS      14
#define SAMPLE_TEMPERATURE 0.8f
#define SAMPLE_SEED        0x9E3779B97F4A7C15u /* apart from the list's own draws */

typedef struct sample {
    galen_assistant *a;
    char raw[GALEN_NAME_BYTES * 2];
    size_t n;
    int32_t first; /* token; -1: none */
    bool is_done;
} sample;

static bool on_token(void *user, const galen_chunk *chunk) {
    sample *s = user;
    char b[64];
    if (chunk->id < 0) return true;
    s->a->usage.n_generated++;
    if (s->first < 0) s->first = chunk->id;
    const int32_t n = galen_token_bytes(s->a->m, chunk->id, false, b, sizeof b);
    s->is_done = n < 0 || n > (int32_t)sizeof b || s->n + (size_t)n >= sizeof s->raw;
    if (s->is_done) return false;
    memcpy(s->raw + s->n, b, (size_t)n);
    s->n += (size_t)n;
    size_t end;
    if (items_name_end(s->raw, s->n, &end)) {
        s->n = end;
        s->is_done = true;
        return false;
    }
    return !atomic_load(&s->a->is_cancelled);
}

/* The first token is one that can begin a name, as in the list itself; the rest is free. */
static galen_status draw(galen_assistant *a, int32_t k, const galen_tokens *prompt, sample *s, galen_error *err) {
    galen_generate_opts o = galen_generate_default_opts();
    galen_result r = {0};
    *s = (sample){.a = a, .first = -1};
    o.sampling.temperature = a->opts.temperature > SAMPLE_TEMPERATURE ? a->opts.temperature : SAMPLE_TEMPERATURE;
    o.sampling.top_k = 40;
    o.sampling.top_p = 0.95f;
    o.sampling.min_p = 0.0f;
    o.sampling.seed = (a->opts.seed + (uint64_t)k + 1) * SAMPLE_SEED;
    o.sampling.bias = a->bias;
    o.sampling.n_bias = items_forbid(a);
    o.max_tokens = 1;
    o.on_chunk = on_token;
    o.user = s;
    const int32_t past = (int32_t)prompt->n - 1;
    galen_status st = edge_rewind(a, past, err);
    if (!st) st = galen_generate(a->s, prompt->ids + past, 1, &o, &r, err);
    a->usage.decode_s += r.decode_s;
    if (st || s->first < 0 || s->is_done) return st ? st : assist_check_cancel(a, err);
    o.sampling.bias = NULL;
    o.sampling.n_bias = 0;
    o.max_tokens = SAMPLE_TOKENS - 1;
    st = edge_rewind(a, past + 1, err); /* the token was sampled; its logits are not kept */
    if (!st) st = galen_generate(a->s, &s->first, 1, &o, &r, err);
    a->usage.decode_s += r.decode_s;
    return st ? st : assist_check_cancel(a, err);
}

galen_status samples_vote(galen_assistant *a, const galen_tokens *prompt, galen_differential *d, galen_error *err) {
    const int32_t n = a->opts.n_samples ? a->opts.n_samples : 3;
    for (int32_t k = 0; k < n; k++) {
        sample s;
        char name[GALEN_NAME_BYTES];
        const galen_status st = draw(a, k, prompt, &s, err);
        if (st) return st;
        const size_t n_name = text_line(s.raw, s.n, name, sizeof name);
        if (!text_has_letter(name, n_name) || !items_is_name(name, n_name)) continue; /* it says nothing of any condition */
        d->n_samples++;
        for (int i = 0; i < GALEN_N_CONDITIONS; i++) {
            if (!galen_condition_is_same(a->opts.codes, name, d->conditions[i].name)) continue;
            d->conditions[i].n_votes++;
            break;
        }
    }
    return n > 0 ? edge_rewind(a, (int32_t)prompt->n - 1, err) : GALEN_OK;
}
