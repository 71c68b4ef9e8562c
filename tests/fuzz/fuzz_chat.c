/* Chat formats: the first byte picks the format, the rest is messages, each a role letter and a text up to the next newline.
 * Whatever the texts, the conversation has as many control tokens as one of the same roles with other texts. Templates: any. */
#include <stdlib.h>

#include "../unit/vocab_maker.h"
#include "tokenizer/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_MESSAGES = 16 };

static maker m;

static void require(bool ok) {
    if (!ok) abort();
}

static size_t split(const char *text, size_t n, galen_message *messages) {
    static const char *const roles[] = {"system", "user", "assistant", "nobody"};
    size_t k = 0;
    for (size_t i = 0; i < n && k < MAX_MESSAGES; k++) {
        const char *end = memchr(text + i, '\n', n - i);
        const size_t stop = end ? (size_t)(end - text) : n;
        const char *role = roles[(unsigned char)text[i] % 4];
        const size_t begin = i + 1 < stop ? i + 1 : stop;
        messages[k] = (galen_message){.role = role, .content = text + begin, .content_len = stop - begin};
        i = stop + 1;
    }
    return k;
}

/* -1 when the format refuses the conversation. */
static long count_control(const chat_format *f, const galen_message *messages, size_t n) {
    galen_tokens out;
    const galen_status st = chat_encode(f, m.t, messages, n, &out, NULL);
    require(st == GALEN_OK || st == GALEN_E_ARG);
    if (st) return -1;
    long count = 0;
    for (size_t i = 0; i < out.n; i++) count += m.kinds[out.ids[i]] == TOKEN_CONTROL;
    free(out.ids);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!m.t) {
        maker_bpe(&m);
        maker_token(&m, "</s>", TOKEN_CONTROL, 0);
        maker_id(&m, "tokenizer.ggml.eos_token_id", m.n - 1, GGUF_U32);
        maker_id(&m, "tokenizer.ggml.bos_token_id", m.n - 1, GGUF_U32);
        require(maker_open(&m, NULL) == GALEN_OK);
    }
    (void)chat_format_detect((const char *)data, n);
    if (n == 0) return 0;
    galen_message messages[MAX_MESSAGES];
    const size_t k = split((const char *)data + 1, n - 1, messages);
    const chat_format *f = chat_format_at(data[0] % 9);
    const long count = count_control(f, messages, k);
    for (size_t i = 0; i < k; i++) {
        messages[i].content = "a";
        messages[i].content_len = 1;
    }
    require(count_control(f, messages, k) == count);
    return 0;
}
