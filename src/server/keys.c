#include "server/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define KEY_LEAST 16

static const struct {
    const char *name;
    unsigned role;
} roles[] = {{"clinician", ROLE_CLINICIAN}, {"auditor", ROLE_AUDITOR}, {"admin", ROLE_ADMIN}};

const char *role_name(unsigned role) {
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (roles[i].role == role) return roles[i].name;
    return "none";
}

static bool is_word_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* The next word of a line, at most cap - 1 bytes; false: none, too long, or a byte that words do not have. */
static bool next_word(const char **at, const char *end, char *word, size_t cap) {
    const char *p = *at;
    size_t n = 0;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (p < end && *p != ' ' && *p != '\t') {
        if (!is_word_byte(*p) || n + 1 >= cap) return false;
        word[n++] = *p++;
    }
    word[n] = '\0';
    *at = p;
    return n > 0;
}

static galen_status parse_line(api_key *k, const char *p, const char *end, uint64_t line, galen_error *err) {
    char role[16], text[KEY_BYTES + 1];
    memset(k, 0, sizeof *k);
    if (!next_word(&p, end, k->name, sizeof k->name) || !next_word(&p, end, role, sizeof role) ||
        !next_word(&p, end, text, sizeof text))
        return galen_fail(err, GALEN_E_FORMAT, line, "line %llu: expected NAME ROLE KEY, of letters, digits and -_.",
                          (unsigned long long)line);
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(roles[i].name, role) == 0) k->role = roles[i].role;
    if (!k->role)
        return galen_fail(err, GALEN_E_FORMAT, line, "line %llu: the role is none of clinician, auditor, admin",
                          (unsigned long long)line);
    const size_t n = strlen(text);
    if (n < KEY_LEAST)
        return galen_fail(err, GALEN_E_FORMAT, line, "line %llu: the key has %zu characters, at least %d",
                          (unsigned long long)line, n, KEY_LEAST);
    memcpy(k->bytes, text, n);
    explicit_bzero(text, sizeof text);
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    if (p != end) return galen_fail(err, GALEN_E_FORMAT, line, "line %llu: more than three words", (unsigned long long)line);
    return GALEN_OK;
}

galen_status keys_parse(keys *out, const char *text, size_t n, galen_error *err) {
    const char *p = text, *end = text + n;
    galen_status st = GALEN_OK;
    *out = (keys){0};
    keys k = {.rows = calloc(KEYS_MAX, sizeof *k.rows)};
    if (!k.rows) return galen_fail(err, GALEN_E_NOMEM, 0, "keys: %zu bytes", (size_t)KEYS_MAX * sizeof *k.rows);
    for (uint64_t line = 1; p < end && !st; line++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end, *q = p;
        p = newline ? newline + 1 : end;
        const char *hash = memchr(q, '#', (size_t)(stop - q));
        if (hash) stop = hash;
        while (stop > q && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r')) stop--;
        while (q < stop && (*q == ' ' || *q == '\t')) q++;
        if (q == stop) continue;
        if (k.n == KEYS_MAX)
            st = galen_fail(err, GALEN_E_FORMAT, line, "line %llu: more than %d keys", (unsigned long long)line, KEYS_MAX);
        else
            st = parse_line(&k.rows[k.n], q, stop, line, err);
        if (!st && keys_find(&k, k.rows[k.n].bytes, strnlen(k.rows[k.n].bytes, KEY_BYTES)))
            st = galen_fail(err, GALEN_E_FORMAT, line, "line %llu: this key stands above already", (unsigned long long)line);
        if (!st) k.n++;
    }
    if (st)
        keys_free(&k);
    else
        *out = k;
    return st;
}

galen_status keys_read(keys *out, const char *path, galen_error *err) {
    file_map f = {0};
    *out = (keys){0};
    galen_status st = file_map_open(&f, path, err);
    if (st) return st;
    st = keys_parse(out, f.n ? f.bytes : "", f.n, err);
    file_map_close(&f);
    if (!st && out->n == 0) {
        keys_free(out);
        st = galen_fail(err, GALEN_E_FORMAT, 0, "the key file has no key");
    }
    return st;
}

void keys_free(keys *k) {
    if (k->rows) explicit_bzero(k->rows, KEYS_MAX * sizeof *k->rows);
    free(k->rows);
    *k = (keys){0};
}

const api_key *keys_find(const keys *k, const char *bytes, size_t n) {
    unsigned char padded[KEY_BYTES] = {0};
    size_t found = SIZE_MAX;
    if (n <= KEY_BYTES) memcpy(padded, bytes, n);
    for (size_t i = 0; i < k->n; i++) {
        unsigned differs = (unsigned)(n > KEY_BYTES) | (unsigned)(n == 0) | (unsigned)(strnlen(k->rows[i].bytes, KEY_BYTES) != n);
        for (size_t j = 0; j < KEY_BYTES; j++) differs |= (unsigned)(padded[j] ^ (unsigned char)k->rows[i].bytes[j]);
        /* all ones when equal, without a branch on the outcome */
        const size_t mask = (size_t)0 - (size_t)((differs - 1u) >> 31);
        found = (found & ~mask) | (i & mask);
    }
    explicit_bzero(padded, sizeof padded);
    return found == SIZE_MAX ? NULL : &k->rows[found];
}
