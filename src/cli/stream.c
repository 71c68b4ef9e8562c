/* Chunks of a generation to stdout, to a buffer and to JSON. */
#include "cli/stream.h"

#include <stdlib.h>
#include <string.h>

static bool keep(stream *s, const char *text, size_t n) {
    if (s->cap - s->n < n + 1) {
        const size_t cap = (s->cap + n + 256) * 2;
        char *p = realloc(s->text, cap);
        if (!p) return false;
        s->text = p;
        s->cap = cap;
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = '\0';
    return true;
}

static json_t *one_token(const galen_model *m, int32_t id, float logprob, bool has_bytes) {
    char buf[256];
    int32_t n = galen_token_bytes(m, id, true, buf, sizeof buf);
    if (n < 0 || n > (int32_t)sizeof buf) n = 0;
    if (!has_bytes)
        return json_pack("{s:i, s:o, s:o}", "id", id, "text", json_text(buf, (size_t)n), "logprob", json_number(logprob));
    return json_pack("{s:i, s:o, s:o, s:o}", "id", id, "text", json_text(buf, (size_t)n), "bytes", json_bytes(buf, (size_t)n),
                     "logprob", json_number(logprob));
}

static bool keep_token(stream *s, const galen_chunk *chunk) {
    json_t *token = one_token(s->model, chunk->id, chunk->logprob, true), *top = json_array();
    for (int32_t i = 0; i < chunk->n_top; i++) {
        if (json_array_append_new(top, one_token(s->model, chunk->top_ids[i], chunk->top_logprobs[i], false))) {
            json_decref(top);
            top = NULL;
        }
    }
    if (json_object_set_new(token, "top", top)) {
        json_decref(token);
        return false;
    }
    return json_array_append_new(s->tokens, token) == 0;
}

/* The speed so far, for `galen ps`. */
static void tick(stream *s) {
    const double now = clock_s();
    if (s->n_tokens++ == 0) s->started = now;
    if (s->n_tokens > 1 && now > s->started) engine_tick(s->c, -1, -1, (s->n_tokens - 1) / (now - s->started));
}

bool stream_chunk(void *user, const galen_chunk *chunk) {
    stream *s = user;
    if (chunk->id >= 0) tick(s);
    if (!keep(s, chunk->text, chunk->text_len) || (s->tokens && chunk->id >= 0 && !keep_token(s, chunk))) {
        s->is_nomem = true;
        return false;
    }
    if (s->is_written && chunk->text_len) {
        term_progress_end(s->c);
        term_write(s->c, chunk->text, chunk->text_len);
        if (fflush(stdout)) return false;
    }
    return !signals_stop();
}

void stream_end_line(const stream *s) {
    if (!s->is_written || s->n == 0 || s->text[s->n - 1] == '\n') return;
    if (s->c->term.is_out_tty || signals_stop()) (void)putchar('\n');
}

void stream_free(stream *s) {
    free(s->text);
    json_decref(s->tokens);
    s->text = NULL;
    s->tokens = NULL;
    s->n = s->cap = 0;
}

const char *stream_finish_name(galen_finish f) {
    switch (f) {
    case GALEN_FINISH_STOP:
        return "stop";
    case GALEN_FINISH_LENGTH:
        return "length";
    case GALEN_FINISH_CANCELLED:
        return "cancelled";
    case GALEN_FINISH_ERROR:
        return "error";
    }
    return "error";
}
