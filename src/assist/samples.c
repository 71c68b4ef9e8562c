/* Second signal: asked anew a few times at a higher temperature, how often does the model begin with the same condition? The
 * prompt is in the session already, so a sample costs the few tokens of one name. */
#include <string.h>

#include "assist/case.h"
#include "assist/codes.h"
#include "assist/names.h"
#include "assist/text.h"

#define SAMPLE_TOKENS      14
#define SAMPLE_TEMPERATURE 0.8f
#define SAMPLE_SEED        0x9E3779B97F4A7C15u /* apart from the list's own draws */

typedef struct sample {
    galen_assistant *a;
    char raw[GALEN_NAME_BYTES * 2];
    size_t n;
} sample;

static bool on_token(void *user, const galen_chunk *chunk) {
    sample *s = user;
    char b[64];
    if (chunk->id < 0) return true;
    s->a->usage.n_generated++;
    const int32_t n = galen_token_bytes(s->a->m, chunk->id, false, b, sizeof b);
    if (n < 0 || n > (int32_t)sizeof b || s->n + (size_t)n >= sizeof s->raw) return false;
    memcpy(s->raw + s->n, b, (size_t)n);
    s->n += (size_t)n;
    size_t end;
    if (items_name_end(s->raw, s->n, &end)) {
        s->n = end;
        return false;
    }
    return !atomic_load(&s->a->is_cancelled);
}

/* The first token is one that can begin a name, as in the list itself; the rest is free. */
static galen_generate_opts sample_opts(const galen_assistant *a, int32_t k, sample *s, const galen_bias_list *first) {
    galen_generate_opts o = galen_generate_default_opts();
    o.sampling.temperature = a->opts.temperature > SAMPLE_TEMPERATURE ? a->opts.temperature : SAMPLE_TEMPERATURE;
    o.sampling.top_k = 40;
    o.sampling.top_p = 0.95f;
    o.sampling.min_p = 0.0f;
    o.sampling.seed = (a->opts.seed + (uint64_t)k + 1) * SAMPLE_SEED;
    o.first = first;
    o.n_first = 1;
    o.max_tokens = SAMPLE_TOKENS;
    o.on_chunk = on_token;
    o.user = s;
    return o;
}

/* All of them together, from the prompt's last token on. */
static galen_status draw(galen_assistant *a, galen_tokens *prompt, sample *samples, int32_t n, galen_error *err) {
    galen_generate_opts opts[GALEN_MAX_SAMPLES];
    galen_draft drafts[GALEN_MAX_SAMPLES];
    const galen_bias_list first = items_forbid(a);
    const int32_t last = prompt->ids[prompt->n - 1];
    for (int32_t k = 0; k < n; k++) {
        samples[k] = (sample){.a = a};
        opts[k] = sample_opts(a, k, &samples[k], &first);
        drafts[k] = (galen_draft){.tokens = &last, .n_tokens = 1, .opts = &opts[k]};
    }
    galen_status st = edge_start(a, prompt, err);
    if (!st) st = galen_session_draft(a->s, drafts, n, err);
    if (!st) a->usage.decode_s += drafts[0].result.prefill_s + drafts[0].result.decode_s;
    int32_t longest = 1;
    for (int32_t k = 0; k < n; k++) longest = drafts[k].result.n_generated > longest ? drafts[k].result.n_generated : longest;
    a->usage.n_calls += longest;
    return st ? st : assist_check_cancel(a, err);
}

/* Which of the five it names; -1: none. A look-up in the table takes milliseconds: the five have theirs already. */
static int voted_for(const galen_assistant *a, const char *name, size_t n, const item items[ITEMS_MAX]) {
    char key[ITEM_BYTES];
    galen_code code = {0};
    (void)name_key(name, n, key, sizeof key);
    if (a->opts.codes && codes_find_of(a->opts.codes, name, n, &a->c.triage.facts, &code, NULL)) code = (galen_code){0};
    for (int i = 0; i < ITEMS_MAX; i++) {
        if (name_is_same(key, &code, items[i].key, &items[i].code)) return i;
    }
    return -1;
}

galen_status samples_vote(galen_assistant *a, galen_tokens *prompt, const item items[ITEMS_MAX], galen_differential *d,
                          galen_error *err) {
    const int32_t n = a->opts.n_samples ? a->opts.n_samples : 3;
    sample samples[GALEN_MAX_SAMPLES];
    if (n < 0) {
        galen_tokens_free(prompt);
        return GALEN_OK;
    }
    const galen_status st = draw(a, prompt, samples, n, err);
    for (int32_t k = 0; k < n && !st; k++) {
        const sample *s = &samples[k];
        char name[GALEN_NAME_BYTES];
        const size_t n_name = text_line(s->raw, s->n, name, sizeof name);
        if (!text_has_letter(name, n_name) || !items_is_name(name, n_name)) continue; /* it says nothing of any condition */
        d->n_samples++;
        const int of = voted_for(a, name, n_name, items);
        if (of >= 0) d->conditions[of].n_votes++; /* in the order of writing still */
    }
    return st;
}
