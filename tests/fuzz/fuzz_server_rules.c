/* What a client sends before it is known: a key file's text, a Host, an Origin. Any bytes: no crash, and only what the rules say.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/hosts.h"
#include "server/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool ok) {
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const names[] = {"clinic.example"};
    const host_rules r = {names, 1, names, 1};
    keys k;
    galen_error err = {0};
    char *text = malloc(n + 1);
    if (!text) return 0;
    if (n) memcpy(text, data, n);
    text[n] = '\0';
    if (keys_parse(&k, text, n, &err) == GALEN_OK) {
        for (size_t i = 0; i < k.n; i++) {
            const size_t len = strnlen(k.rows[i].bytes, KEY_BYTES);
            require(len >= 16 && k.rows[i].name[0] && keys_find(&k, k.rows[i].bytes, len) == &k.rows[i]);
        }
        (void)keys_find(&k, text, n);
    } else {
        require(!k.rows && err.msg[0]);
    }
    keys_free(&k);
    /* a name that is allowed is an address, localhost or the one listed */
    if (host_is_allowed(&r, text))
        require(strpbrk(text, "0123456789:") || strncasecmp(text, "localhost", 9) == 0 || strncasecmp(text, "clinic", 6) == 0);
    if (origin_is_allowed(&r, text, "127.0.0.1", false))
        require(strcasecmp(text, "http://127.0.0.1") == 0 || strcasecmp(text, "clinic.example") == 0);
    (void)host_is_loopback(text);
    free(text);
    return 0;
}
