/* What the assistant makes of a person's and a model's bytes. */
#include <stdlib.h>
#include <string.h>

#include "assist/calibration.h"
#include "assist/cases.h"
#include "assist/clauses.h"
#include "assist/names.h"
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
    uint32_t *at = NULL;
    char *line = prompt_line(s, n, &at);
    if (line) {
        const size_t k = strlen(line);
        for (size_t i = 0; i < k; i++) require((unsigned char)line[i] >= 0x20 && line[i] != 0x7F && line[i] != '"' && at[i] < n);
        const prompt_values v = {.of = {[FIELD_SYMPTOMS] = line}};
        char *prompt = prompt_render("Symptoms: \"{{symptoms}}\"", &v);
        require(!prompt || strlen(prompt) == k + 12);
        free(prompt);
    }
    free(line);
    free(at);
    clause clauses[64];
    const int32_t n_clauses = clauses_find(s, n, clauses, 64);
    for (int32_t i = 0; i < n_clauses; i++) {
        require(clauses[i].from < clauses[i].to && clauses[i].to <= n && (i == 0 || clauses[i].from >= clauses[i - 1].to));
        require(text_has_letter(s + clauses[i].from, clauses[i].to - clauses[i].from));
    }
    char key[96];
    require(name_key(s, n, key, sizeof key) < sizeof key && question_key(s, n, key, sizeof key) < sizeof key);
    char *message, *lead;
    if (!prompt_parse(PROMPT_DIAGNOSE, "fuzz", s, n, &message, &lead, NULL)) {
        require(*lead && (strstr(message, "{{symptoms}}") || strstr(lead, "{{symptoms}}")));
        free(message);
        free(lead);
    }
    galen_calibration k;
    if (!calibration_parse(s, n, "fuzz", &k, NULL)) require(k.temperature > 0 && k.name_weight >= 0 && k.name_weight <= 1);
    labelled_case c;
    if (!cases_parse(s, n, &c, NULL)) cases_free(&c);
    return 0;
}
