/* Turns of any bytes through every export. One turn a line: a letter for its kind, then its JSON. */
#include <stdlib.h>
#include <string.h>

#include "assist/export.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool ok) {
    if (!ok) abort();
}

static const char *kind_of(char letter) {
    switch (letter) {
    case 's':
        return "symptoms";
    case 't':
        return "triage";
    case 'd':
        return "differential";
    case 'q':
        return "question";
    case 'a':
        return "answer";
    case 'c':
        return "closed";
    default:
        return "other";
    }
}

/* What must hold of any document. */
static void look_at(export_format format, const export_text *text) {
    require(text->bytes && text->bytes[text->n] == '\0' && utf8_is_valid(text->bytes, text->n));
    for (size_t i = 0; i < text->n; i++) {
        const unsigned char b = (unsigned char)text->bytes[i];
        require(b >= 0x20 || b == '\n' || b == '\t' || b == '\r');
    }
    if (format != EXPORT_HTML) return;
    /* Tags are ours alone: no untrusted '<' is left. */
    static const char *const never[] = {"<script", "<img", "<svg", "<iframe", "<a ", "<link", "<object", "<!--"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) require(!strstr(text->bytes, never[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    enum { MOST = 64 };
    export_turn turns[MOST];
    export_case c = {.id = 1, .created_ms = -1, .changed_ms = (int64_t)n << 40, .turns = turns};
    const char *at = (const char *)data, *end = at + n;
    while (at < end && c.n_turns < MOST) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        if (!line) line = end;
        if (line > at) turns[c.n_turns++] = (export_turn){kind_of(at[0]), (int64_t)c.n_turns, at + 1, (size_t)(line - at - 1)};
        at = line + 1;
    }
    for (int format = EXPORT_TEXT; format <= EXPORT_FHIR; format++) {
        export_text text;
        galen_error err = {0};
        const galen_status st = export_write((export_format)format, &c, &text, &err);
        if (st) {
            require(err.code == st && err.msg[0] && !text.bytes);
            continue;
        }
        look_at((export_format)format, &text);
        free(text.bytes);
    }
    return 0;
}
