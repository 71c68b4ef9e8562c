/* An ICD-10-CM table of any bytes: opened or refused; what opens answers without leaving its bytes. */
#include <stdlib.h>
#include <string.h>

#include "assist/codes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void find(const galen_codes *c, const char *name, size_t len) {
    galen_code k;
    if (galen_codes_find(c, name, len, &k, NULL) != GALEN_OK) return;
    if (!memchr(k.code, 0, sizeof k.code) || (k.code[0] && !k.title)) abort();
    if (k.title && strlen(k.title) > (size_t)1 << 24) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    galen_codes *c = NULL;
    codes_words words;
    codes_fold((const char *)data, n, &words);
    for (int i = 0; i < words.n; i++)
        if (!words.text[i][0] || strlen(words.text[i]) >= CODES_WORD_BYTES) abort();
    if (codes_from_bytes(&c, data, n, "fuzz", NULL)) return 0;
    find(c, "acute asthma / bronchitis (viral)", 33);
    find(c, "asthna", 6);
    find(c, (const char *)data, n);
    galen_codes_close(c);
    return 0;
}
