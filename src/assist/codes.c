#include "assist/codes.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assist/text.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/file.h"

enum { HEAD = 64, CODE_ROW = 20, NAME_ROW = 8, WORD_ROW = 12, MAX_NEAR = 6, MAX_NAME = 512, MAX_ROWS = 1 << 24 };
enum { KIND_TITLE, KIND_INCLUSION, KIND_SYNONYM, KIND_SHORTENED, N_KINDS };

struct galen_codes {
    file_map file;
    char *path;
    const uint8_t *codes, *names, *words, *postings;
    const char *strings;
    char release[29];
    uint32_t year, n_codes, n_names, n_words, n_postings, n_strings;
    float *idf;      /* [n_words]: log(n_names / names with the word) */
    float *weight;   /* [n_names]: sum of its words' idf              */
    uint64_t *grams; /* [n_words]: a bit for each trigram, hashed     */
    float rarest;
};

static uint32_t u32_at(const uint8_t *p, size_t row, size_t row_bytes, size_t field) {
    cursor c = cursor_of(p + row * row_bytes + field, 4);
    return cursor_u32(&c);
}
static const char *word_text(const galen_codes *c, uint32_t w) {
    return c->strings + u32_at(c->words, w, WORD_ROW, 0);
}
static uint32_t name_code(const galen_codes *c, uint32_t name) {
    return u32_at(c->names, name, NAME_ROW, 0);
}

/* ------------------------------------------------------------ opening */

static galen_status malformed(const char *name, size_t offset, const char *what, uint64_t got, uint64_t limit, galen_error *err) {
    return galen_fail(err, GALEN_E_FORMAT, offset, "%s: %s %llu, limit %llu: make it anew with tools/make-icd10", name, what,
                      (unsigned long long)got, (unsigned long long)limit);
}

static galen_status read_head(galen_codes *c, const uint8_t *bytes, size_t n, const char *name, galen_error *err) {
    cursor r = cursor_of(bytes, n);
    const uint8_t *magic = cursor_bytes(&r, 8);
    const uint32_t version = cursor_u32(&r);
    uint32_t *const counts[] = {&c->year, &c->n_codes, &c->n_names, &c->n_words, &c->n_postings, &c->n_strings};
    for (size_t i = 0; i < 6; i++) *counts[i] = cursor_u32(&r);
    const uint8_t *release = cursor_bytes(&r, 28);
    if (r.bad || !magic || memcmp(magic, "GALICD10", 8) != 0)
        return galen_fail(err, GALEN_E_FORMAT, 0, "%s: not an ICD-10-CM table of tools/make-icd10", name);
    if (version != 1) return malformed(name, 8, "version", version, 1, err);
    for (size_t i = 1; i < 6; i++)
        if (*counts[i] > MAX_ROWS * (i == 5 ? 8u : 1u))
            return malformed(name, 12 + 4 * i, "a count of", *counts[i], MAX_ROWS, err);
    memcpy(c->release, release, 28);
    const uint64_t sizes[] = {(uint64_t)c->n_codes * CODE_ROW, (uint64_t)c->n_names * NAME_ROW, (uint64_t)c->n_words * WORD_ROW,
                              (uint64_t)c->n_postings * 4, c->n_strings};
    const uint8_t **const parts[] = {&c->codes, &c->names, &c->words, &c->postings, (const uint8_t **)&c->strings};
    for (size_t i = 0; i < 5; i++) {
        *parts[i] = cursor_bytes(&r, sizes[i]);
        if (r.bad) return malformed(name, r.pos, "a part of bytes", sizes[i], n - r.pos, err);
    }
    if (cursor_left(&r)) return malformed(name, r.pos, "bytes left over", cursor_left(&r), 0, err);
    if (!c->n_strings || c->strings[c->n_strings - 1])
        return malformed(name, n, "strings without an end, bytes", c->n_strings, 0, err);
    return GALEN_OK;
}

static galen_status check_rows(const galen_codes *c, const char *name, galen_error *err) {
    for (uint32_t i = 0; i < c->n_codes; i++) {
        const uint32_t title = u32_at(c->codes, i, CODE_ROW, 8), bare = u32_at(c->codes, i, CODE_ROW, 12);
        if (title >= c->n_strings) return malformed(name, HEAD + (size_t)i * CODE_ROW, "a title at", title, c->n_strings, err);
        if (bare >= c->n_codes) return malformed(name, HEAD + (size_t)i * CODE_ROW, "a bare code", bare, c->n_codes, err);
    }
    for (uint32_t i = 0; i < c->n_names; i++)
        if (name_code(c, i) >= c->n_codes) return malformed(name, i, "a name's code", name_code(c, i), c->n_codes, err);
    for (uint32_t i = 0; i < c->n_words; i++) {
        const uint32_t text = u32_at(c->words, i, WORD_ROW, 0), first = u32_at(c->words, i, WORD_ROW, 4),
                       k = u32_at(c->words, i, WORD_ROW, 8);
        if (text >= c->n_strings) return malformed(name, i, "a word at", text, c->n_strings, err);
        if (k == 0 || (uint64_t)first + k > c->n_postings)
            return malformed(name, i, "postings to", (uint64_t)first + k, c->n_postings, err);
    }
    for (uint32_t i = 0; i < c->n_postings; i++)
        if (u32_at(c->postings, i, 4, 0) >= c->n_names)
            return malformed(name, i, "a posting", u32_at(c->postings, i, 4, 0), c->n_names, err);
    return GALEN_OK;
}

/* One bit of 64 for each group of three letters, the word framed by blanks. */
static uint64_t grams_of(const char *w, size_t n) {
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned a = i ? (unsigned char)w[i - 1] : ' ', b = (unsigned char)w[i],
                       d = i + 1 < n ? (unsigned char)w[i + 1] : ' ';
        bits |= 1ull << (((a * 31 + b) * 31 + d) * 0x9E3779B1u >> 26);
    }
    return bits;
}

static bool weigh(galen_codes *c) {
    c->idf = malloc(((size_t)c->n_words + 1) * sizeof *c->idf);
    c->weight = calloc((size_t)c->n_names + 1, sizeof *c->weight);
    c->grams = malloc(((size_t)c->n_words + 1) * sizeof *c->grams);
    if (!c->idf || !c->weight || !c->grams) return false;
    c->rarest = logf(1.0f + (float)c->n_names);
    for (uint32_t w = 0; w < c->n_words; w++) {
        const uint32_t first = u32_at(c->words, w, WORD_ROW, 4), n = u32_at(c->words, w, WORD_ROW, 8);
        c->idf[w] = logf(1.0f + (float)c->n_names / (float)n);
        c->grams[w] = grams_of(word_text(c, w), strlen(word_text(c, w)));
        for (uint32_t k = 0; k < n; k++) c->weight[u32_at(c->postings, first + k, 4, 0)] += c->idf[w];
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

/* ------------------------------------------------------------ looking up */

typedef struct near_word {
    uint32_t word;
    float likeness;
} near_word;

typedef struct search {
    const galen_codes *c;
    float *sums;       /* [n_names], zero between searches */
    uint32_t *touched; /* [n_names] */
    uint32_t n_touched;
    uint32_t best; /* a name */
    float score, rank;
} search;

static bool find_word(const galen_codes *c, const char *w, uint32_t *at) {
    uint32_t lo = 0, hi = c->n_words;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(word_text(c, mid), w);
        if (order == 0) {
            *at = mid;
            return true;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* Dice's coefficient of the trigram sets. */
static float likeness(uint64_t a, uint64_t b) {
    return 2.0f * (float)__builtin_popcountll(a & b) / (float)(__builtin_popcountll(a) + __builtin_popcountll(b));
}

/* Letters to insert, leave out, replace or exchange with a neighbour between a and b (optimal string alignment). */
static int edits(const char *a, int n, const char *b, int m) {
    int rows[3][CODES_WORD_BYTES + 1];
    int *last2 = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= m; j++) last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && last2[j - 2] + 1 < best)
                best = last2[j - 2] + 1;
            now[j] = best;
        }
        int *spare = last2;
        last2 = last;
        last = now;
        now = spare;
    }
    return last[m];
}

/* The words of the table that w can be a misspelling of, best first: one wrong letter, from eight letters on two. Trigrams choose
 * whom to look at closely. */
static int near_words(const galen_codes *c, const char *w, near_word out[MAX_NEAR]) {
    const float least = 0.4f;
    const size_t n = strlen(w);
    const uint64_t grams = grams_of(w, n);
    int n_out = 0;
    if (n < 5) return 0;
    for (uint32_t i = 0; i < c->n_words; i++) {
        if (likeness(grams, c->grams[i]) < least) continue;
        const char *text = word_text(c, i);
        const size_t m = strlen(text);
        if (text[0] != w[0] || m + 2 < n || n + 2 < m || m >= CODES_WORD_BYTES) continue;
        const int d = edits(w, (int)n, text, (int)m);
        const float like = 1.0f - (float)d / (float)(n > m ? n : m);
        if (d > (n < 8 ? 1 : 2) || (n_out == MAX_NEAR && like <= out[n_out - 1].likeness)) continue;
        int k = n_out < MAX_NEAR ? n_out++ : n_out - 1;
        for (; k > 0 && out[k - 1].likeness < like; k--) out[k] = out[k - 1];
        out[k] = (near_word){i, like};
    }
    return n_out;
}

static void add_names(search *x, near_word w) {
    const galen_codes *c = x->c;
    const uint32_t first = u32_at(c->words, w.word, WORD_ROW, 4), n = u32_at(c->words, w.word, WORD_ROW, 8);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t name = u32_at(c->postings, first + k, 4, 0);
        if (x->sums[name] == 0.0f) x->touched[x->n_touched++] = name;
        x->sums[name] += w.likeness * c->idf[w.word];
    }
}

/* Between equal fits: a clinician's synonym, then the official title, and the code that says less. */
static float preference(const galen_codes *c, uint32_t name) {
    static const float kinds[N_KINDS] = {
        [KIND_TITLE] = 0.010f, [KIND_INCLUSION] = 0.006f, [KIND_SYNONYM] = 0.030f, [KIND_SHORTENED] = 0.012f};
    const uint8_t *row = c->names + (size_t)name * NAME_ROW, *code = c->codes + (size_t)name_code(c, name) * CODE_ROW;
    size_t n = 0;
    while (n < 8 && code[n]) n++;
    const bool is_unspecified = n > 0 && code[n - 1] == '9';
    return kinds[row[6] < N_KINDS ? row[6] : 0] + (is_unspecified ? 0.004f : 0.0f) - 0.0005f * (float)n;
}

/* The best name for some words; keeps x's best when that is better. discount: what this reading of the name costs. */
static void search_words(search *x, const codes_words *q, float discount) {
    const galen_codes *c = x->c;
    float total = 0;
    for (int i = 0; i < q->n; i++) {
        near_word near[MAX_NEAR];
        uint32_t at;
        int n = 1;
        if (find_word(c, q->text[i], &at))
            near[0] = (near_word){at, 1.0f};
        else
            n = near_words(c, q->text[i], near);
        total += n ? c->idf[near[0].word] : c->rarest;
        for (int k = 0; k < n; k++) add_names(x, near[k]);
    }
    for (uint32_t k = 0; k < x->n_touched; k++) {
        const uint32_t name = x->touched[k];
        float fit = 2.0f * x->sums[name] / (total + c->weight[name]) * discount;
        x->sums[name] = 0.0f;
        if (fit > 1.0f) fit = 1.0f;
        const float rank = fit + preference(c, name);
        if (rank <= x->rank) continue;
        x->rank = rank;
        x->score = fit;
        x->best = name;
    }
    x->n_touched = 0;
}

static bool is_part_end(char c) {
    return c == '/' || c == ';' || c == '(' || c == ')' || c == ',';
}

/* The whole name; then its parts, for "acute COPD exacerbation / infection", "HIV (initial infection)". */
static void search_name(search *x, const char *name, size_t len) {
    codes_words q;
    codes_normal(name, len, &q);
    search_words(x, &q, 1.0f);
    for (size_t from = 0; from < len;) {
        size_t to = from;
        while (to < len && !is_part_end(name[to])) to++;
        if (from > 0 || to < len) {
            codes_normal(name + from, to - from, &q);
            if (q.n) search_words(x, &q, from == 0 ? 0.9f : 0.85f);
        }
        from = to + 1;
    }
}

static void fill(const galen_codes *c, const search *x, galen_code *out) {
    out->score = (double)x->score;
    if (x->score < (float)GALEN_CODE_MIN_SCORE) return;
    const uint32_t code = u32_at(c->codes, name_code(c, x->best), CODE_ROW, 12);
    const uint8_t *row = c->codes + (size_t)code * CODE_ROW;
    memcpy(out->code, row, 8);
    out->title = c->strings + u32_at(c->codes, code, CODE_ROW, 8);
    out->is_billable = u32_at(c->codes, code, CODE_ROW, 16) & 1;
}

galen_status galen_codes_find(const galen_codes *c, const char *name, size_t len, galen_code *out, galen_error *err) {
    memset(out, 0, sizeof *out);
    if (len > MAX_NAME) len = MAX_NAME;
    if (!text_has_letter(name, len)) return galen_fail(err, GALEN_E_REFUSED, 0, "a condition's name has letters");
    if (c->path) {
        const galen_status st = file_map_check(&c->file, c->path, err);
        if (st) return st;
    }
    search x = {.c = c};
    x.sums = calloc((size_t)c->n_names + 1, sizeof *x.sums);
    x.touched = malloc(((size_t)c->n_names + 1) * sizeof *x.touched);
    galen_status st = GALEN_OK;
    if (x.sums && x.touched) {
        search_name(&x, name, len);
        fill(c, &x, out);
    } else {
        st = galen_fail(err, GALEN_E_NOMEM, 0, "codes: out of memory");
    }
    free(x.sums);
    free(x.touched);
    return st;
}
