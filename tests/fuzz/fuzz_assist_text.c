/* What the assistant makes of a person's and a model's bytes. */
#include <stdlib.h>
#include <string.h>

#include "assist/prompts.h"
#include "assist/text.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool ok) {
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *s = (const char *)data;
    const size_t caps[] = {1, 2, 4, 96, 8192};
    for (size_t c = 0; c < sizeof caps / sizeof caps[0]; c++) {
        char *line = malloc(caps[c]), *normal = malloc(caps[c]);
        if (line && normal) {
            const size_t k = text_line(s, n, line, caps[c]);
            require(k < caps[c] && line[k] == '\0' && utf8_is_valid(line, k));
            for (size_t i = 0; i < k; i++) require((unsigned char)line[i] >= 0x20);
            require(text_normal(s, n, normal, caps[c]) < caps[c]);
        }
        free(line);
        free(normal);
    }
    (void)galen_symptoms_check(s, n, NULL);
    char *field = prompt_field(s, n);
    if (field) {
        for (size_t i = 0; field[i]; i++) require((unsigned char)field[i] >= 0x20 && field[i] != 0x7F);
        char *prompt = prompt_symptoms(field);
        require(!prompt || strlen(prompt) > strlen(field));
        free(prompt);
    }
    free(field);
    return 0;
}
