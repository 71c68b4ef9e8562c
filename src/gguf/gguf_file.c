/* Files: mapped, and the parts of a split set brought together.
 *
 * gguf-split writes NAME-00001-of-00005.gguf and so on. Every part has split.no (counted from 0), split.count and
 * split.tensors.count (of the whole set); the other metadata stands in the first part alone.
 * Source: llama.cpp tools/gguf-split, src/llama-model-loader.cpp. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "gguf/gguf_impl.h"

/* "-00001-of-00005.gguf": */
enum { SUFFIX_BYTES = 20, SUFFIX_ROOM = 32 };

/* What the three split keys of a file say. */
typedef struct split {
    uint32_t no, count, n_tensors;
    bool is_split;
} split;

void gguf_close(gguf *g) {
    if (!g) return;
    for (size_t i = 0; g->files && i < g->n_files; i++) {
        file_map_close(&g->files[i].map);
        free(g->files[i].path);
    }
    free(g->files);
    free(g->kv);
    free(g->tensors);
    free(g->kv_index.order);
    free(g->tensor_index.order);
    free(g->label);
    free(g);
}

galen_status gguf_check(const gguf *g, galen_error *err) {
    for (size_t i = 0; g->files && i < g->n_files; i++) {
        const galen_status st = file_map_check(&g->files[i].map, g->files[i].path, err);
        if (st) return st;
    }
    return GALEN_OK;
}

bool gguf_fetch(const gguf *g, const void *from, void *to, size_t n) {
    for (size_t i = 0; g->files && i < g->n_files; i++) {
        const file_map *m = &g->files[i].map;
        const uintptr_t at = (uintptr_t)from, begin = (uintptr_t)m->bytes;
        if (m->bytes && at >= begin && at - begin <= m->n && n <= m->n - (at - begin)) return file_map_read(m, at - begin, to, n);
    }
    memcpy(to, from, n);
    return true;
}

static galen_status split_fail(const char *path, const gguf *g, const char *key, uint32_t value, const char *expected,
                               galen_error *err) {
    char label[GGUF_LABEL_BYTES];
    const gguf_kv *kv = gguf_find(g, key);
    const uint64_t at = kv ? kv->offset : 0;
    return galen_fail(err, GALEN_E_FORMAT, at, "%s: offset %" PRIu64 ": %s: %" PRIu32 ", expected %s",
                      gguf_short_label(label, path), at, key, value, expected);
}

static galen_status read_split(const gguf *g, split *s, galen_error *err) {
    char expected[48];
    *s = (split){.count = 1};
    if (!gguf_find(g, "split.count")) return GALEN_OK;
    galen_status st = gguf_get_u32(g, "split.count", GGUF_REQUIRED, &s->count, err);
    if (st) return st;
    if (s->count < 1 || s->count > GGUF_MAX_PARTS) {
        (void)snprintf(expected, sizeof expected, "1 to %d", GGUF_MAX_PARTS);
        return split_fail(g->label, g, "split.count", s->count, expected, err);
    }
    s->is_split = s->count > 1;
    if (!s->is_split) return GALEN_OK;
    st = gguf_get_u32(g, "split.no", GGUF_REQUIRED, &s->no, err);
    if (!st) st = gguf_get_u32(g, "split.tensors.count", GGUF_REQUIRED, &s->n_tensors, err);
    if (st) return st;
    if (s->no >= s->count) {
        (void)snprintf(expected, sizeof expected, "0 to %" PRIu32 " (split.count is %" PRIu32 ")", s->count - 1, s->count);
        return split_fail(g->label, g, "split.no", s->no, expected, err);
    }
    return GALEN_OK;
}

/* Read "-00001-of-00005.gguf" at the end of path; *stem is the length of what stands before it. */
static bool read_suffix(const char *path, size_t *stem, uint32_t *number, uint32_t *count) {
    const size_t n = strlen(path);
    if (n < SUFFIX_BYTES) return false;
    const char *s = path + n - SUFFIX_BYTES;
    static const char form[] = "-ddddd-of-ddddd.gguf";
    uint32_t v[2] = {0, 0};
    for (size_t i = 0; i < SUFFIX_BYTES; i++) {
        if (form[i] != 'd' && s[i] != form[i]) return false;
        if (form[i] != 'd') continue;
        if (s[i] < '0' || s[i] > '9') return false;
        v[i > 6] = v[i > 6] * 10 + (uint32_t)(s[i] - '0');
    }
    *number = v[0];
    *count = v[1];
    *stem = n - SUFFIX_BYTES;
    return true;
}

/* The path of part number i, counted from 0; free it. NULL when memory is out. */
static char *part_path(const char *path, size_t stem, uint32_t i, uint32_t count) {
    char *p = malloc(stem + SUFFIX_ROOM);
    if (!p) return NULL;
    memcpy(p, path, stem);
    (void)snprintf(p + stem, SUFFIX_ROOM, "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", i + 1, count);
    return p;
}

/* The opened file says that it is part s->no of s->count: its name must say so too, and it must be the first. */
static galen_status check_first(const char *path, const gguf *g, const split *s, size_t *stem, galen_error *err) {
    char label[GGUF_LABEL_BYTES], first[GGUF_LABEL_BYTES];
    uint32_t number = 0, count = 0;
    const char *shown = gguf_short_label(label, path);
    if (!read_suffix(path, stem, &number, &count))
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, "split.no")->offset,
                          "%s: part %" PRIu32 " of %" PRIu32 " of a split model, but its name does not end in -%05" PRIu32
                          "-of-%05" PRIu32 ".gguf: give the parts their names back",
                          shown, s->no + 1, s->count, s->no + 1, s->count);
    if (count != s->count || number != s->no + 1)
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, "split.no")->offset,
                          "%s: named part %" PRIu32 " of %" PRIu32 ", but split.no and split.count make it part %" PRIu32
                          " of %" PRIu32,
                          shown, number, count, s->no + 1, s->count);
    if (s->no == 0) return GALEN_OK;
    char *p = part_path(path, *stem, 0, s->count);
    if (!p) return galen_fail(err, GALEN_E_NOMEM, 0, "%s", shown);
    (void)galen_fail(err, GALEN_E_FORMAT, gguf_find(g, "split.no")->offset,
                     "%s: part %" PRIu32 " of %" PRIu32 ": open the first part, %s", shown, s->no + 1, s->count,
                     gguf_short_label(first, p));
    free(p);
    return GALEN_E_FORMAT;
}

/* Does part, number i, belong to the set that first begins? */
static galen_status check_part(const gguf *first, const gguf *part, const split *want, uint32_t i, galen_error *err) {
    char a[GGUF_LABEL_BYTES], b[GGUF_LABEL_BYTES];
    split s;
    const galen_status st = read_split(part, &s, err);
    if (st) return st;
    const char *key = NULL;
    uint32_t has = 0, expected = 0;
    if (s.n_tensors != want->n_tensors) key = "split.tensors.count", has = s.n_tensors, expected = want->n_tensors;
    if (s.count != want->count) key = "split.count", has = s.count, expected = want->count;
    if (!key && s.no != i) key = "split.no", has = s.no, expected = i;
    if (key) {
        const gguf_kv *kv = gguf_find(part, key);
        return galen_fail(err, GALEN_E_FORMAT, kv ? kv->offset : 0,
                          "%s: %s is %" PRIu32 ", expected %" PRIu32 " in part %" PRIu32 " of %s",
                          gguf_short_label(a, part->label), key, has, expected, i + 1, gguf_short_label(b, first->label));
    }
    gguf_str x = {0}, y = {0};
    (void)gguf_get_str(first, "general.architecture", GGUF_OPTIONAL, &x, NULL);
    (void)gguf_get_str(part, "general.architecture", GGUF_OPTIONAL, &y, NULL);
    if (x.p && y.p && (x.n != y.n || memcmp(x.p, y.p, x.n) != 0)) {
        char shown_x[GGUF_SHOWN_BYTES], shown_y[GGUF_SHOWN_BYTES];
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(part, "general.architecture")->offset,
                          "%s: architecture %s, expected %s as in %s", gguf_short_label(a, part->label), gguf_shown(shown_y, y),
                          gguf_shown(shown_x, x), gguf_short_label(b, first->label));
    }
    return GALEN_OK;
}

/* Append part's tensors to g's; g->tensors has room for room of them. */
static galen_status take_tensors(gguf *g, const gguf *part, uint32_t i, size_t room, galen_error *err) {
    char a[GGUF_LABEL_BYTES], b[GGUF_LABEL_BYTES];
    const size_t n = part->tensor_index.n;
    if (n > room - g->tensor_index.n)
        return galen_fail(err, GALEN_E_FORMAT, 8, "%s: n_tensors %zu, expected at most %zu more of the %zu in the set of %s",
                          gguf_short_label(a, part->label), n, room - g->tensor_index.n, room, gguf_short_label(b, g->label));
    for (size_t k = 0; k < n; k++) {
        gguf_tensor *t = &g->tensors[g->tensor_index.n++];
        *t = part->tensors[k];
        t->part = (int32_t)i;
    }
    return GALEN_OK;
}

static galen_status load_part(gguf *g, const split *s, uint32_t i, size_t stem, galen_error *err) {
    char label[GGUF_LABEL_BYTES], missing[GGUF_LABEL_BYTES];
    gguf_file *f = &g->files[i];
    gguf *part = NULL;
    f->path = part_path(g->label, stem, i, s->count);
    if (!f->path) return galen_fail(err, GALEN_E_NOMEM, 0, "%s: part %" PRIu32, gguf_short_label(label, g->label), i + 1);
    galen_status st = file_map_open(&f->map, f->path, err);
    if (st == GALEN_E_NOT_FOUND)
        return galen_fail(err, st, 0, "%s: not found; it is part %" PRIu32 " of %" PRIu32 " of %s",
                          gguf_short_label(missing, f->path), i + 1, s->count, gguf_short_label(label, g->label));
    if (st) return st;
    st = gguf_parse(&part, f->map.bytes, f->map.n, f->path, err);
    if (!st) st = check_part(g, part, s, i, err);
    if (!st) st = take_tensors(g, part, i, s->n_tensors, err);
    if (!st && !u64_add(g->file_bytes, f->map.n, &g->file_bytes))
        st = galen_fail(err, GALEN_E_FORMAT, 0, "%s: more than 2^64 bytes", g->label);
    gguf_close(part); /* its map is g's */
    return st;
}

/* Room for the tensors and files of the whole set, the first part's kept. */
static galen_status make_room(gguf *g, const split *s, galen_error *err) {
    char label[GGUF_LABEL_BYTES];
    const size_t n = g->tensor_index.n;
    if (s->n_tensors < n || s->n_tensors > GGUF_MAX_TENSORS)
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, "split.tensors.count")->offset,
                          "%s: split.tensors.count: %" PRIu32 ", expected %zu (in this part) to %d",
                          gguf_short_label(label, g->label), s->n_tensors, n, GGUF_MAX_TENSORS);
    gguf_tensor *tensors = calloc(s->n_tensors ? s->n_tensors : 1, sizeof *tensors);
    uint32_t *order = calloc(s->n_tensors ? s->n_tensors : 1, sizeof *order);
    gguf_file *files = calloc(s->count, sizeof *files);
    if (!tensors || !order || !files) {
        free(tensors);
        free(order);
        free(files);
        return galen_fail(err, GALEN_E_NOMEM, 0, "%s: %" PRIu32 " parts with %" PRIu32 " tensors",
                          gguf_short_label(label, g->label), s->count, s->n_tensors);
    }
    if (n) memcpy(tensors, g->tensors, n * sizeof *tensors);
    for (uint32_t i = 0; i < s->count; i++) files[i].map.fd = -1;
    files[0] = g->files[0];
    free(g->tensors);
    free(g->tensor_index.order);
    free(g->files);
    g->tensors = tensors;
    g->tensor_index = (gguf_index){.records = tensors, .stride = sizeof *tensors, .order = order, .n = n};
    g->files = files;
    g->n_files = s->count;
    return GALEN_OK;
}

static galen_status load_parts(gguf *g, const split *s, size_t stem, galen_error *err) {
    char label[GGUF_LABEL_BYTES], name[GGUF_SHOWN_BYTES];
    galen_status st = make_room(g, s, err);
    for (uint32_t i = 1; i < s->count && !st; i++) st = load_part(g, s, i, stem, err);
    if (st) return st;
    const char *shown = gguf_short_label(label, g->label);
    if (g->tensor_index.n != s->n_tensors)
        return galen_fail(err, GALEN_E_FORMAT, gguf_find(g, "split.tensors.count")->offset,
                          "%s: the parts hold %zu tensors, expected split.tensors.count %" PRIu32, shown, g->tensor_index.n,
                          s->n_tensors);
    gguf_index_sort(&g->tensor_index);
    uint32_t a, b;
    if (!gguf_index_duplicate(&g->tensor_index, &a, &b)) return GALEN_OK;
    return galen_fail(err, GALEN_E_FORMAT, g->tensors[b].info_offset, "%s: tensor %s stands in part %d and in part %d", shown,
                      gguf_shown(name, g->tensors[b].name), g->tensors[a].part + 1, g->tensors[b].part + 1);
}

galen_status gguf_open(gguf **out, const char *path, galen_error *err) {
    gguf *g = NULL;
    file_map map;
    split s;
    size_t stem = 0;
    *out = NULL;
    galen_status st = file_map_open(&map, path, err);
    if (st) return st;
    st = gguf_parse(&g, map.bytes, map.n, path, err);
    if (st) goto fail;
    g->files = calloc(1, sizeof *g->files);
    char *kept = strdup(path);
    if (!g->files || !kept) {
        free(kept);
        st = galen_fail(err, GALEN_E_NOMEM, 0, "no memory for a file's name");
        goto fail;
    }
    g->files[0] = (gguf_file){.path = kept, .map = map};
    map = (file_map){.fd = -1}; /* g's now */
    st = read_split(g, &s, err);
    if (!st && s.is_split) st = check_first(path, g, &s, &stem, err);
    if (!st && s.is_split) st = load_parts(g, &s, stem, err);
    if (st) goto fail;
    *out = g;
    return GALEN_OK;
fail:
    gguf_close(g);
    file_map_close(&map);
    return st;
}
