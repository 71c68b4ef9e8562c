/* One line of JSON an answer. Ids, names of ours, numbers: never a word of a request, of a model or of a path. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/inside.h"

static void time_text(char *out, size_t cap) {
    struct timespec now;
    struct tm t;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &t);
    char date[32];
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &t);
    (void)snprintf(out, cap, "%s.%03ldZ", date, now.tv_nsec / 1000000);
}

/* Words that pass hosts' and keys' rules or are ours need no escaping; a name of a model may. */
static void safe(const char *in, char *out, size_t cap) {
    size_t n = 0;
    for (; in[n] && n + 1 < cap; n++) out[n] = (unsigned char)in[n] < ' ' || in[n] == '"' || in[n] == '\\' ? '?' : in[n];
    out[n] = '\0';
}

void log_request(exchange *x) {
    const struct server *s = x->s;
    char when[48], model[96], line[768];
    if (!s->o.log || (x->route && x->route->is_probe)) return;
    time_text(when, sizeof when);
    (void)pthread_mutex_lock(&x->lock);
    safe(x->model ? x->model : "", model, sizeof model);
    (void)snprintf(line, sizeof line,
                   "{\"time\":\"%s\",\"event\":\"request\",\"id\":\"%s\",\"trace\":\"%s\",\"method\":\"%s\",\"route\":\"%s\","
                   "\"status\":%d,\"ms\":%.3f,\"key\":\"%s\",\"model\":\"%s\",\"prompt_tokens\":%d,\"cached_tokens\":%d,"
                   "\"completion_tokens\":%d,\"stream\":%s}",
                   when, x->request_id, x->trace, x->route ? x->route->method : "", x->route ? x->route->path : "none", x->status,
                   (double)(clock_monotonic_ns() - x->start_ns) * 1e-6, x->key_name, model, x->n_prompt, x->n_cached,
                   x->n_generated, x->is_stream ? "true" : "false");
    (void)pthread_mutex_unlock(&x->lock);
    s->o.log(s->o.log_user, line);
}

void log_event(server *s, const char *level, const char *event, const char *key, const char *value) {
    char when[48], text[320], line[512];
    if (!s->o.log) return;
    time_text(when, sizeof when);
    safe(value ? value : "", text, sizeof text);
    (void)snprintf(line, sizeof line, "{\"time\":\"%s\",\"event\":\"%s\",\"level\":\"%s\",\"%s\":\"%s\"}", when, event, level,
                   key ? key : "detail", text);
    s->o.log(s->o.log_user, line);
}
