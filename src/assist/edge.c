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

/* Evaluate what the session does not hold yet of t, but for its last n_left tokens. Takes *t over. row: after the last evaluated.
 */
static galen_status hold(galen_assistant *a, galen_tokens *t, int32_t n_left, float *row, galen_error *err) {
    const int32_t n = (int32_t)t->n - n_left;
    const int32_t most = row ? n - 1 : n; /* a row needs its token evaluated */
    int32_t same = 0;
    while (same < a->n_held && same < most && a->held.ids[same] == t->ids[same]) same++;
    galen_tokens_free(&a->held);
    a->held = *t;
    *t = (galen_tokens){0};
    a->n_held = same;
    galen_status st = edge_rewind(a, same, err);
    if (st) return st;
    const double start = assist_now_s();
    st = galen_session_eval(a->s, a->held.ids + same, n - same, row, err);
    if (st) return st;
    a->usage.prefill_s += assist_now_s() - start;
    a->usage.n_prompt += n - same;
    a->n_held = a->edge.past = n;
    return assist_check_cancel(a, err);
}

galen_status edge_start(galen_assistant *a, galen_tokens *t, galen_error *err) {
    const galen_status st = hold(a, t, 1, NULL, err);
    if (!st) edge_push(a, a->held.ids + a->held.n - 1, 1);
    return st;
}

galen_status edge_read(galen_assistant *a, galen_tokens *t, float *row, galen_error *err) {
    return hold(a, t, 0, row, err);
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
