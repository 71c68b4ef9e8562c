/* Chat formats as rows of data: what stands before and after each role's text. */
#ifndef GALEN_TOKENIZER_CHAT_H
#define GALEN_TOKENIZER_CHAT_H

#include "tokenizer/tokenizer.h"

typedef struct chat_format chat_format;

const chat_format *chat_format_at(size_t index); /* NULL past the end */
const char *chat_format_name(const chat_format *f);
const chat_format *chat_format_by_name(const char *name); /* NULL when there is none */

/** The format that a file's tokenizer.chat_template describes; NULL when none is recognised (never a guess). */
const chat_format *chat_format_detect(const char *jinja, size_t n);

/** "llama-3, llama-2, chatml, ..." for messages; static. */
const char *chat_format_choices(void);

/** The conversation as ids, open for the assistant's next words.
 *  Message contents are untrusted: special tokens in them stay plain text.
 *  Errors  ARG unknown role, no message, or an order the format cannot express; NOMEM; RANGE. */
galen_status chat_encode(const chat_format *f, const tokenizer *t, const galen_message *messages, size_t n_messages,
                         galen_tokens *out, galen_error *err);

#endif
