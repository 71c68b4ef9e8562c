/* POST /v1/decisions: typed questions about an input, answered by the weight of one letter each, never by words. Probabilities
 * are normalised over the options; confidence is the winner's probability over the whole vocabulary. Neither is calibrated. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/chat.h"
#include "server/many.h"

#define QUESTIONS_MAX 64
#define OPTIONS_MAX   26
#define LEVELS_MAX    10
#define TEXT_MAX      65536

static const field_row known[] = {
    {"model", FIELD_USED, 0},
    {"input", FIELD_USED, 0},
    {"questions", FIELD_USED, 0},
    {"prompt_cache_key", FIELD_IGNORED, 0},
    {"prompt_cache_options", FIELD_IGNORED, 0},
    {"safety_identifier", FIELD_IGNORED, 0},
    {NULL, FIELD_USED, 0},
};

/* Options of a question: the array, how many, and under which key each has its words. */
typedef struct question_kind {
    const char *type, *options, *key;
    size_t least, most;
} question_kind;
static const question_kind kinds[] = {
    {"predicate", NULL, NULL, 2, 2},
    {"choice", "choices", "value", 2, OPTIONS_MAX},
    {"score", "levels", "label", 2, LEVELS_MAX},
};

static const question_kind *kind_of(const json_t *q) {
    const char *type = json_string_value(json_object_get(q, "type"));
    for (size_t i = 0; type && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].type, type) == 0) return &kinds[i];
    return NULL;
}

static size_t n_options(const json_t *q, const question_kind *k) {
    return k->options ? json_array_size(json_object_get(q, k->options)) : 2;
}

/* ------------------------------------------------------------ the answer */

static void normalise(const float *logprobs, size_t n, double *p, size_t *best) {
    double sum = 0;
    *best = 0;
    for (size_t i = 1; i < n; i++)
        if (logprobs[i] > logprobs[*best]) *best = i;
    for (size_t i = 0; i < n; i++) sum += p[i] = exp((double)logprobs[i] - (double)logprobs[*best]);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
}

static json_t *one_answer(const json_t *q, const float *logprobs) {
    const question_kind *k = kind_of(q);
    const json_t *options = k->options ? json_object_get(q, k->options) : NULL, *name = json_object_get(q, "name");
    const size_t n = n_options(q, k);
    double p[OPTIONS_MAX] = {0}, score = 0;
    size_t best = 0;
    normalise(logprobs, n, p, &best);
    json_t *named = name && !json_is_null(name) ? json_incref((json_t *)(uintptr_t)name) : json_null();
    if (!options) return json_pack("{s:s, s:o, s:f}", "type", "predicate", "name", named, "probability", p[0]);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const double value = (double)i / (double)(n - 1);
        json_t *word = json_object_get(json_array_get(options, i), k->key);
        score += value * p[i];
        if (json_array_append_new(list, json_pack("{s:O, s:f}", k->key, word, "probability", p[i])) ||
            (strcmp(k->type, "score") == 0 && json_object_set_new(json_array_get(list, i), "value", json_real(value)))) {
            json_decref(named);
            json_decref(list);
            return NULL;
        }
    }
    const double confidence = exp((double)logprobs[best]);
    if (strcmp(k->type, "score") == 0)
        return json_pack("{s:s, s:o, s:f, s:f, s:o}", "type", "score", "name", named, "score", score, "confidence", confidence,
                         "probabilities", list);
    return json_pack("{s:s, s:o, s:O, s:f, s:o}", "type", "choice", "name", named, "choice",
                     json_object_get(json_array_get(options, best), k->key), "confidence", confidence, "probabilities", list);
}

static json_t *on_answer(many *m) {
    json_t *answers = json_array();
    const json_t *questions = json_object_get(m->body, "questions");
    int n_in = 0, n_cached = 0;
    for (size_t i = 0; i < m->n; i++) {
        n_in += m->items[i].usage.n_prompt;
        n_cached += m->items[i].usage.n_cached;
        if (json_array_append_new(answers, one_answer(json_array_get(questions, i), m->items[i].result))) {
            json_decref(answers);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:o, s:{s:i, s:{s:i, s:i}, s:i, s:{s:i}, s:i}}", "object", "decision", "model", m->b->name,
                     "answers", answers, "usage", "input_tokens", n_in, "input_tokens_details", "cached_tokens", n_cached,
                     "cache_write_tokens", n_in - n_cached, "output_tokens", 0, "output_tokens_details", "reasoning_tokens", 0,
                     "total_tokens", n_in);
}

/* ------------------------------------------------------------ the prompts */

static bool is_text(const json_t *v) {
    return json_is_string(v) && json_string_length(v) > 0 && json_string_length(v) <= TEXT_MAX;
}

/* "A: influenza (a virus)" */
static bool add_option(bytes *b, char letter, const json_t *option, const char *key) {
    const json_t *word = json_object_get(option, key);
    const char *about = json_string_value(json_object_get(option, "description"));
    const char *text = json_is_boolean(word) ? (json_is_true(word) ? "true" : "false") : json_string_value(word);
    return bytes_addf(b, "%c: %s%s%s%s\n", letter, text, about ? " (" : "", about ? about : "", about ? ")" : "");
}

/* Returns what is wrong, or NULL. */
static const char *check(const json_t *q) {
    const question_kind *k = kind_of(q);
    const json_t *name = json_object_get(q, "name");
    if (!k) return "a list of objects of type predicate, choice or score";
    if (!is_text(json_object_get(q, "instructions"))) return "of questions with instructions";
    if (name && !json_is_null(name) && !json_is_string(name)) return "of questions whose name is a string";
    if (!k->options) return NULL;
    const json_t *options = json_object_get(q, k->options);
    const size_t n = json_array_size(options);
    if (n < k->least || n > k->most) return "of choices with 2 to 26 options and scores with 2 to 10 levels";
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(options, i), *word = json_object_get(o, k->key),
                     *about = json_object_get(o, "description");
        if (!is_text(word) && !(json_is_boolean(word) && strcmp(k->key, "value") == 0))
            return "of options with a value, levels with a label";
        if (about && !json_is_null(about) && !json_is_string(about)) return "of options whose description is a string";
    }
    return NULL;
}

static bool write_question(bytes *b, const json_t *q) {
    const question_kind *k = kind_of(q);
    bool ok = bytes_addf(b, "%s\n", json_string_value(json_object_get(q, "instructions")));
    if (!k->options) ok &= bytes_addf(b, "A: yes\nB: no\n");
    for (size_t i = 0; k->options && i < n_options(q, k); i++)
        ok &= add_option(b, (char)('A' + i), json_array_get(json_object_get(q, k->options), i), k->key);
    return ok && bytes_addf(b, "Answer with the letter alone.");
}

static bool prepare(many *m, fields *f, many_item *it, const json_t *q, const int32_t letters[OPTIONS_MAX]) {
    const json_t *input = json_object_get(f->o, "input");
    bytes words = {0};
    it->n_labels = (int32_t)n_options(q, kind_of(q));
    it->labels = calloc((size_t)it->n_labels, sizeof *it->labels);
    json_t *messages = json_is_string(input) ? json_pack("{s:[{s:s, s:O}]}", "messages", "role", "user", "content", input)
                                             : json_pack("{s:O}", "messages", input);
    fields inner = {.x = f->x, .o = messages};
    const bool has_memory = it->labels && messages && write_question(&words, q);
    if (has_memory) {
        memcpy(it->labels, letters, (size_t)it->n_labels * sizeof *letters);
        (void)chat_messages_read(m->b->model, &inner, NULL, words.p, &it->prompt);
    } else {
        reply_error(f->x, HTTP_NO_MEMORY, NULL, NULL);
    }
    bytes_free(&words);
    json_decref(messages);
    f->is_bad = inner.is_bad || !has_memory;
    return !f->is_bad;
}

static void run(fields *f, book *b, json_t *body, size_t n) {
    int32_t letters[OPTIONS_MAX];
    int most = 2;
    const json_t *questions = json_object_get(body, "questions");
    many *m = many_open(f->x, b, body, n);
    if (!m) return;
    m->answer = on_answer;
    for (size_t i = 0; i < n; i++) {
        const json_t *q = json_array_get(questions, i);
        const int k = (int)n_options(q, kind_of(q));
        most = k > most ? k : most;
    }
    if (!chat_letters(b->model, letters, most))
        field_refuse(f, "questions", "this model's vocabulary has too few letters to choose by");
    for (size_t i = 0; i < n && !f->is_bad; i++) (void)prepare(m, f, &m->items[i], json_array_get(questions, i), letters);
    if (f->is_bad || !many_check_lengths(m))
        many_abandon(m);
    else
        many_start(m);
}

void api_decisions(exchange *x) {
    const char *model = NULL, *wrong = NULL;
    json_t *body;
    if (!exchange_json(x, &body)) return;
    fields f = {.x = x, .o = body};
    fields_check(&f, known, NULL);
    field_str(&f, "model", 256, &model, NULL);
    const json_t *input = field_any(&f, "input"), *questions = field_any(&f, "questions");
    const size_t n = json_array_size(questions);
    if (!json_is_string(input) && !json_is_array(input)) field_fail(&f, "input", "a text or a list of messages");
    if (n < 1 || n > QUESTIONS_MAX) field_fail(&f, "questions", "a list of 1 to 64 questions");
    for (size_t i = 0; i < n && !wrong && !f.is_bad; i++) wrong = check(json_array_get(questions, i));
    if (wrong) field_fail(&f, "questions", wrong);
    book *b = f.is_bad ? NULL : api_take_model(x, model);
    if (b)
        run(&f, b, body, n);
    else
        json_decref(body);
}
