/* What a chat request says, as the model is to read it. */
#ifndef GALEN_SERVER_CHAT_H
#define GALEN_SERVER_CHAT_H

#include "server/gen.h"

typedef enum tool_choice { TOOLS_NONE, TOOLS_AUTO, TOOLS_REQUIRED } tool_choice;

typedef struct chat_tools {
    tool_choice choice;
    bytes words;  /* what the model is told of them */
    char *schema; /* of a call, malloc'ed JSON; NULL: no tools */
} chat_tools;

/** "tools" and "tool_choice". False: answered. */
bool chat_tools_read(fields *f, chat_tools *out);
void chat_tools_free(chat_tools *t);
/** A call as the model wrote it: [{id, type, function {name, arguments}}]; NULL: it is not whole (or no memory). */
json_t *chat_tools_calls(const char *text, size_t n);

/** Tokens of the letters A, B, C ... as an answer begins with them. False: this vocabulary has no such n distinct tokens. */
bool chat_letters(const galen_model *m, int32_t *out, int n);

/** "messages" in the model's format. system_words (or NULL) stand behind the system message; last_words behind the user's last
 *  one. False: answered. */
bool chat_messages_read(const galen_model *m, fields *f, const char *system_words, const char *last_words, galen_tokens *out);
/** A message's "content": a string, or parts of type text joined. False: neither. */
bool chat_content(const json_t *v, bytes *out);

#endif
