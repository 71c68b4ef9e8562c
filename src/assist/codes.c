#include "assist/codes.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assist/codes_table.h"
#include "base/error.h"

enum { HEAD = 72, MAX_ROWS = 1 << 24 };

/* ------------------------------------------------------------ opening */

static galen_status malformed(const char *name, size_t offset, const char *what, uint64_t got, uint64_t limit, galen_error *err) {
    return galen_fail(err, GALEN_E_FORMAT, offset, "%s: %s %llu, limit %llu: make it anew with tools/make-icd10", name, what,
                      (unsigned long long)got, (unsigned long long)limit);
}

static galen_status read_head(galen_codes *c, const uint8_t *bytes, size_t n, const char *name, galen_error *err) {
    cursor r = cursor_of(bytes, n);
    const uint8_t *magic = cursor_bytes(&r, 8);
    const uint32_t version = cursor_u32(&r);
    uint32_t *const counts[] = {&c->year, &c->n_codes, &c->n_names, &c->n_words, &c->n_postings, &c->n_rules, &c->n_strings};
    for (size_t i = 0; i < 7; i++) *counts[i] = cursor_u32(&r);
    const uint8_t *release = cursor_bytes(&r, 32);
    if (r.bad || !magic || memcmp(magic, "GALICD10", 8) != 0)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: not an ICD-10-CM table of tools/make-icd10", name);
    if (version != 2) return malformed(name, 8, "version", version, 2, err);
    for (size_t i = 1; i < 7; i++)
        if (*counts[i] > MAX_ROWS * (i == 6 ? 8u : 1u))
            return malformed(name, 12 + 4 * i, "a count of", *counts[i], MAX_ROWS, err);
    memcpy(c->release, release, 32);
    const uint64_t sizes[] = {(uint64_t)c->n_codes * CODE_ROW, (uint64_t)c->n_names * NAME_ROW, (uint64_t)c->n_words * WORD_ROW,
                              (uint64_t)c->n_postings * 4,     (uint64_t)c->n_rules * RULE_ROW, c->n_strings};
    const uint8_t **const parts[] = {&c->codes, &c->names, &c->words, &c->postings, &c->rules, (const uint8_t **)&c->strings};
    for (size_t i = 0; i < 6; i++) {
        *parts[i] = cursor_bytes(&r, sizes[i]);
        if (r.bad) return malformed(name, r.pos, "a part of bytes", sizes[i], n - r.pos, err);
    }
    if (cursor_left(&r)) return malformed(name, r.pos, "bytes left over", cursor_left(&r), 0, err);
    if (!c->n_strings || c->strings[c->n_strings - 1])
        return malformed(name, n, "strings without an end, bytes", c->n_strings, 0, err);
    return GALEN_OK;
}

/* A field of every row below a limit. */
static galen_status check_column(const uint8_t *rows, uint32_t n, size_t row_bytes, size_t field, uint32_t limit,
                                 const char *what, const char *name, galen_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t v = codes_u32(rows, i, row_bytes, field);
        if (v >= limit) return malformed(name, HEAD + (size_t)i * row_bytes, what, v, limit, err);
    }
    return GALEN_OK;
}

static galen_status check_rows(const galen_codes *c, const char *name, galen_error *err) {
    const struct {
        const uint8_t *rows;
        uint32_t n;
        size_t row_bytes, field;
        uint32_t limit;
        const char *what;
    } columns[] = {
        {c->codes, c->n_codes, CODE_ROW, CODE_TITLE, c->n_strings, "a title at"},
        {c->codes, c->n_codes, CODE_ROW, CODE_BARE, c->n_codes, "a bare code"},
        {c->codes, c->n_codes, CODE_ROW, CODE_LEFT, c->n_codes, "a code of the left"},
        {c->codes, c->n_codes, CODE_ROW, CODE_RIGHT, c->n_codes, "a code of the right"},
        {c->codes, c->n_codes, CODE_ROW, CODE_BOTH, c->n_codes, "a code of both sides"},
        {c->names, c->n_names, NAME_ROW, 0, c->n_codes, "a name's code"},
        {c->words, c->n_words, WORD_ROW, WORD_TEXT, c->n_strings, "a word at"},
        {c->words, c->n_words, WORD_ROW, WORD_CLASS, N_CLASSES, "a word's class"},
        {c->words, c->n_words, WORD_ROW, WORD_OPPOSITE, c->n_words, "a word's opposite"},
        {c->postings, c->n_postings, 4, 0, c->n_names, "a posting"},
        {c->rules, c->n_rules, RULE_ROW, 0, c->n_strings, "a phrase at"},
        {c->rules, c->n_rules, RULE_ROW, 4, c->n_strings, "a phrase's meaning at"},
    };
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        const galen_status st = check_column(columns[i].rows, columns[i].n, columns[i].row_bytes, columns[i].field,
                                             columns[i].limit, columns[i].what, name, err);
        if (st) return st;
    }
    for (uint32_t i = 0; i < c->n_words; i++) {
        const uint64_t end =
            (uint64_t)codes_u32(c->words, i, WORD_ROW, WORD_FIRST) + codes_u32(c->words, i, WORD_ROW, WORD_COUNT);
        if (end > c->n_postings) return malformed(name, i, "postings to", end, c->n_postings, err);
    }
    return GALEN_OK;
}

uint64_t codes_grams(const char *w, size_t n) {
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned a = i ? (unsigned char)w[i - 1] : ' ', b = (unsigned char)w[i],
                       d = i + 1 < n ? (unsigned char)w[i + 1] : ' ';
        bits |= 1ull << (((a * 31 + b) * 31 + d) * 0x9E3779B1u >> 26);
    }
    return bits;
}

static bool weigh(galen_codes *c) {
    const float most = 4.0f, least = 5.0f; /* of a word that says little, however rare; of where and whence, however common */
    c->idf = malloc(((size_t)c->n_words + 1) * sizeof *c->idf);
    c->weight = calloc((size_t)c->n_names + 1, sizeof *c->weight);
    c->grams = malloc(((size_t)c->n_words + 1) * sizeof *c->grams);
    if (!c->idf || !c->weight || !c->grams) return false;
    c->rarest = logf(1.0f + (float)c->n_names);
    for (uint32_t w = 0; w < c->n_words; w++) {
        const uint32_t first = codes_u32(c->words, w, WORD_ROW, WORD_FIRST), n = codes_u32(c->words, w, WORD_ROW, WORD_COUNT);
        const uint32_t class = codes_class(c, w);
        c->idf[w] = logf(1.0f + (float)c->n_names / (float)(n ? n : 1));
        if ((class == CLASS_QUALIFIER || class == CLASS_GENERIC) && c->idf[w] > most) c->idf[w] = most;
        if ((class == CLASS_CONTEXT || class == CLASS_SITE) && c->idf[w] < least) c->idf[w] = least;
        c->grams[w] = codes_grams(codes_word(c, w), strlen(codes_word(c, w)));
        for (uint32_t k = 0; k < n; k++)
            c->weight[codes_u32(c->postings, first + k, 4, 0)] += codes_extra_cost(class) * c->idf[w];
    }
    return true;
}

static galen_status build(galen_codes *c, const void *bytes, size_t n, const char *name, galen_error *err) {
    galen_status st = read_head(c, bytes, n, name, err);
    if (!st) st = check_rows(c, name, err);
    if (!st && !weigh(c)) st = galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", name);
    return st;
}

galen_status codes_from_bytes(galen_codes **out, const void *bytes, size_t n, const char *name, galen_error *err) {
    *out = NULL;
    galen_codes *c = calloc(1, sizeof *c);
    if (!c) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", name);
    const galen_status st = build(c, bytes, n, name, err);
    if (st) {
        galen_codes_close(c);
        return st;
    }
    *out = c;
    return GALEN_OK;
}

/* ------------------------------------------------------------ where the file is */

static bool is_there(const char *path) {
    return access(path, R_OK) == 0;
}

/* The folder of the running program; "" when the system does not say. */
static void program_folder(char *out, size_t cap) {
    const ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash) *slash = '\0';
}

static bool find_file(char *out, size_t cap) {
    char exe[PATH_MAX];
    const char *share = getenv("GALEN_SHARE"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    program_folder(exe, sizeof exe);
    const struct {
        const char *folder, *below;
    } places[] = {{share, ""},
                  {exe, "/share"},
                  {exe, "/../share/galen"},
                  {data, "/galen"},
                  {data && *data ? NULL : home, "/.local/share/galen"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (!places[i].folder || !*places[i].folder) continue;
        const int n = snprintf(out, cap, "%s%s/icd10cm.bin", places[i].folder, places[i].below);
        if (n > 0 && (size_t)n < cap && is_there(out)) return true;
    }
    return false;
}

galen_status galen_codes_open(galen_codes **out, const char *path, galen_error *err) {
    char found[PATH_MAX];
    *out = NULL;
    if (!path) {
        if (!find_file(found, sizeof found))
            return galen_fail(
                err, GALEN_E_NOT_FOUND, 0,
                "no ICD-10-CM table (share/icd10cm.bin beside the program, or in $GALEN_SHARE): `make icd10` in Galen's source "
                "tree makes it (needs python3 with pip)");
        path = found;
    }
    galen_codes *c = calloc(1, sizeof *c);
    if (!c) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", path);
    galen_status st = file_map_open(&c->file, path, err);
    if (!st && !(c->path = strdup(path))) st = galen_fail(err, GALEN_E_NOMEM, 0, "%s: out of memory", path);
    if (!st) st = build(c, c->file.bytes, c->file.n, path, err);
    if (st) {
        galen_codes_close(c);
        return st;
    }
    *out = c;
    return GALEN_OK;
}

void galen_codes_close(galen_codes *c) {
    if (!c) return;
    file_map_close(&c->file);
    free(c->path);
    free(c->idf);
    free(c->weight);
    free(c->grams);
    free(c);
}

const char *galen_codes_release(const galen_codes *c) {
    return c->release;
}
int32_t galen_codes_year(const galen_codes *c) {
    return (int32_t)c->year;
}
