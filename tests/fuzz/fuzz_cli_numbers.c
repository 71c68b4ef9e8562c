/* Numbers and token lists of the command line: any bytes, no crash, and what is accepted is what was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/cli/numbers.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool ok) {
    if (!ok) abort();
}

/* Every accepted id stands in the text, in order. */
static void check_tokens(const char *s, size_t n) {
    int32_t *ids;
    size_t n_ids, at = 0;
    const galen_status st = number_tokens(s, n, &ids, &n_ids, &at);
    require(st ? !ids && n_ids == 0 && at <= n : n_ids > 0);
    size_t i = 0;
    for (size_t k = 0; k < n_ids; k++) {
        while (s[i] < '0' || s[i] > '9') i++;
        int64_t v = 0;
        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) v = v * 10 + (s[i] - '0');
        require(v == ids[k]);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *s = malloc(n + 1), back[32];
    if (!s) return 0;
    memcpy(s, data, n);
    s[n] = '\0';
    int64_t i;
    double f;
    galen_logit_bias b;
    if (number_i64(s, &i) && !strpbrk(s, "kK")) {
        (void)snprintf(back, sizeof back, "%lld", (long long)i);
        const bool is_plain = s[0] != '0' && strncmp(s, "-0", 2) != 0;
        require(!is_plain || strcmp(back, s) == 0);
    }
    if (number_f64(s, &f)) require(isfinite(f));
    if (number_bias(s, &b)) require(b.id >= 0 && !isnan(b.bias) && b.bias < INFINITY);
    check_tokens(s, n);
    free(s);
    return 0;
}
