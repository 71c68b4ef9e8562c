/* The session's edge: what it holds, and what has still to be evaluated before a token can be sampled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/case.h"
#include "base/error.h"

galen_status edge_rewind(galen_assistant *a, int32_t past, galen_error *err) {
    a->edge.n = 0;
    a->edge.past = past;
    if (a->n_held > past) a->n_held = past;
    return galen_session_rewind(a->s, past, err);
}

void edge_push(galen_assistant *a, const int32_t *ids, int32_t n) {
    memcpy(a->edge.ids + a->edge.n, ids, (size_t)n * sizeof *ids);
    a->edge.n += n;
}

static int32_t n_same(const int32_t *a, const int32_t *b, int32_t n) {
    int32_t same = 0;
    while (same < n && a[same] == b[same]) same++;
    return same;
}

/* Make the session hold t, but for its last n_left tokens. Takes *t over. */
static galen_status hold(galen_assistant *a, galen_tokens *t, int32_t n_left, galen_error *err) {
    const int32_t n = (int32_t)t->n - n_left, same = n_same(a->held.ids, t->ids, n < a->n_held ? n : a->n_held);
    galen_tokens_free(&a->held);
    a->held = *t;
    *t = (galen_tokens){0};
    a->n_held = same;
    galen_status st = edge_rewind(a, same, err);
    if (st || same == n) return st;
    const double start = assist_now_s();
    st = galen_session_eval(a->s, a->held.ids + same, n - same, NULL, err);
    if (st) return st;
    a->usage.prefill_s += assist_now_s() - start;
    a->usage.n_prompt += n - same;
    a->usage.n_calls++;
    a->n_held = a->edge.past = n;
    return assist_check_cancel(a, err);
}

galen_status edge_start(galen_assistant *a, galen_tokens *t, galen_error *err) {
    const galen_status st = hold(a, t, 1, err);
    if (!st) edge_push(a, a->held.ids + a->held.n - 1, 1);
    return st;
}

/* ------------------------------------------------------------ looks */

#define HOLD_ROWS 32 /* rows that are evaluated once more rather than for themselves: a pass costs as much */

void looks_free(look *looks, int32_t n) {
    for (int32_t i = 0; i < n; i++) galen_tokens_free(&looks[i].t);
}

static int32_t n_own(const look *l) {
    return (int32_t)l->t.n - l->from;
}

/* The looks have this many tokens in common, none of which is the last before what is read. */
static int32_t n_common(const look *looks, int32_t n) {
    int32_t common = looks[0].from - 1;
    for (int32_t i = 1; i < n; i++) {
        const int32_t most = looks[i].from - 1 < common ? looks[i].from - 1 : common;
        common = n_same(looks[0].t.ids, looks[i].t.ids, most);
    }
    return common;
}

galen_status edge_hold(galen_assistant *a, const look *looks, int32_t n, int32_t *n_held, galen_error *err) {
    const int32_t common = n_common(looks, n);
    const int32_t held = n_same(looks[0].t.ids, a->held.ids, common < a->n_held ? common : a->n_held);
    const bool is_worth = (common - held) * (n - 1) > HOLD_ROWS;
    galen_tokens head = {0};
    const galen_tokens part = {.ids = looks[0].t.ids, .n = (size_t)(is_worth ? common : held)};
    galen_status st = prompt_append(&head, &part, err);
    *n_held = (int32_t)part.n;
    return st ? st : hold(a, &head, 0, err);
}

/* A branch of the session for a look; after and ids have room for what it reads. */
static galen_branch branch_of(const look *l, int32_t n_held, int32_t *after, int32_t *ids) {
    const int32_t n = (int32_t)l->t.n - n_held;
    for (int32_t i = 0; i < n_own(l); i++) {
        after[i] = l->from + i - 1 - n_held;
        ids[i] = l->t.ids[l->from + i];
    }
    for (int32_t i = 0; i < l->n_ids; i++) {
        after[n_own(l) + i] = n - 1;
        ids[n_own(l) + i] = l->ids[i];
    }
    return (galen_branch){.tokens = l->t.ids + n_held,
                          .n_tokens = l->n_ids ? n : n - 1, /* nothing follows the last */
                          .after = after,
                          .ids = ids,
                          .logprobs = l->out,
                          .n_wanted = n_own(l) + l->n_ids};
}

static galen_status read_looks(galen_assistant *a, const look *looks, int32_t n, galen_error *err) {
    int32_t n_held, n_wanted = 0, at = 0;
    galen_status st = edge_hold(a, looks, n, &n_held, err);
    if (st) return st;
    for (int32_t i = 0; i < n; i++) n_wanted += n_own(&looks[i]) + looks[i].n_ids;
    if (n_wanted == 0) return GALEN_OK;
    galen_branch *branches = calloc((size_t)n, sizeof *branches);
    int32_t *after = calloc((size_t)n_wanted, sizeof *after), *ids = calloc((size_t)n_wanted, sizeof *ids);
    if (!branches || !after || !ids) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "%d readings", n);
        goto done;
    }
    for (int32_t i = 0; i < n; i++) {
        branches[i] = branch_of(&looks[i], n_held, after + at, ids + at);
        at += branches[i].n_wanted;
        a->usage.n_prompt += branches[i].n_tokens;
    }
    st = galen_session_read(a->s, branches, n, err);
    a->usage.n_calls++;
    a->usage.n_scored += n_wanted;
done:
    free(branches);
    free(after);
    free(ids);
    return st ? st : assist_check_cancel(a, err);
}

galen_status edge_look(galen_assistant *a, look *looks, int32_t n, galen_error *err) {
    const double start = assist_now_s();
    const galen_status st = read_looks(a, looks, n, err);
    looks_free(looks, n);
    a->usage.score_s += assist_now_s() - start;
    return st;
}

galen_status edge_look_at(galen_assistant *a, prompt_id id, const prompt_values *v, const char *what, look *out,
                          galen_error *err) {
    galen_status st = edge_prompt(a, id, v, &out->t, err);
    if (!st) st = edge_fits(a, out->t.n, 0, what, err);
    out->from = (int32_t)out->t.n;
    return st;
}

galen_status edge_prompt(galen_assistant *a, prompt_id id, const prompt_values *v, galen_tokens *out, galen_error *err) {
    galen_tokens lead = {0};
    galen_status st = GALEN_OK;
    char *message = prompt_render(a->prompts.message[id], v), *begun = prompt_render(a->prompts.lead[id], v);
    *out = (galen_tokens){0};
    if (!message || !begun) {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "prompt %s", prompt_file_name(id));
        goto done;
    }
    const galen_message one = {.role = "user", .content = message, .content_len = strlen(message)};
    st = galen_chat_tokens(a->m, &one, 1, out, err);
    if (!st) st = galen_tokenize(a->m, begun, strlen(begun), false, false, &lead, err);
    if (!st) st = prompt_append(out, &lead, err);
    if (st) galen_tokens_free(out);
done:
    galen_tokens_free(&lead);
    free(message);
    free(begun);
    return st;
}

galen_status edge_literal(galen_assistant *a, const char *text, galen_tokens *out, galen_error *err) {
    char marked[64], first[8];
    (void)snprintf(marked, sizeof marked, "x%s", text); /* the text is ours and short */
    galen_status st = galen_tokenize(a->m, marked, strlen(marked), false, false, out, err);
    if (st) return st;
    const int32_t k = out->n > 1 ? galen_token_bytes(a->m, out->ids[0], false, first, sizeof first) : 0;
    const bool is_marker = (k == 1 && first[0] == 'x') || (k == 2 && first[0] == ' ' && first[1] == 'x');
    if (is_marker) {
        out->n--;
        memmove(out->ids, out->ids + 1, out->n * sizeof *out->ids);
        return GALEN_OK;
    }
    galen_tokens_free(out); /* the marker grew together with the text: do without it */
    return galen_tokenize(a->m, text, strlen(text), false, false, out, err);
}

galen_status edge_fits(const galen_assistant *a, size_t n_prompt, size_t n_answer, const char *what, galen_error *err) {
    if (n_prompt + n_answer <= (size_t)a->n_ctx) return GALEN_OK;
    return galen_fail(err, GALEN_E_FULL, 0, "%s a prompt of %zu tokens, and the answer takes up to %zu: the context holds %d",
                      what, n_prompt, n_answer, a->n_ctx);
}
