/* What the tests of the store share: a folder of their own, a clock that is set, cases of a few turns. */
#ifndef GALEN_TESTS_STORE_HELP_H
#define GALEN_TESTS_STORE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"

static char folder[64], db_path[128];
static int64_t test_clock = 1700000000000;

static int64_t test_now(void *user) {
    (void)user;
    return test_clock;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f) {
    (void)s, (void)kind, (void)f;
    return remove(path);
}

__attribute__((unused)) static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/galen-store-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(db_path, sizeof db_path, "%s/galen.db", folder);
    test_clock = 1700000000000;
    return 0;
}

__attribute__((unused)) static int remove_folder(void **state) {
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static galen_status try_open(store **s, bool is_read_only, galen_error *err) {
    const store_opts o = {.path = db_path, .is_read_only = is_read_only, .busy_ms = 100, .now_ms = test_now};
    *err = (galen_error){0};
    return store_open(s, &o, err);
}

__attribute__((unused)) static store *open_store(void) {
    store *s;
    galen_error err;
    if (try_open(&s, false, &err)) fail_msg("open: %s", err.msg);
    return s;
}

/* Calls that must succeed say what went wrong. */
#define OK(call)                                                                                                                 \
    do {                                                                                                                         \
        galen_error e_ = {0};                                                                                                    \
        galen_error *err = &e_;                                                                                                  \
        const galen_status st_ = (call);                                                                                         \
        if (st_) fail_msg("%s:%d: status %d: %s", __FILE__, __LINE__, st_, e_.msg);                                              \
    } while (0)

/* Calls that must fail with a status and words. */
#define FAILS(call, status, words)                                                                                               \
    do {                                                                                                                         \
        galen_error e_ = {0};                                                                                                    \
        galen_error *err = &e_;                                                                                                  \
        const galen_status st_ = (call);                                                                                         \
        if (st_ != (status) || e_.code != (status) || !strstr(e_.msg, (words)))                                                  \
            fail_msg("%s:%d: status %d, expected %d: '%s' without '%s'", __FILE__, __LINE__, st_, (status), e_.msg, (words));    \
    } while (0)

__attribute__((unused)) static void append(store *s, int64_t id, const char *kind, const char *json) {
    OK(store_append(s, id, kind, json, strlen(json), NULL, err));
}

__attribute__((unused)) static int64_t a_case(store *s, const char *symptoms) {
    int64_t id = 0;
    char json[512];
    (void)snprintf(json, sizeof json, "{\"text\":\"%s\"}", symptoms);
    OK(store_case_begin(s, "{\"seed\":7}", &id, err));
    append(s, id, "symptoms", json);
    return id;
}

/* A file's bytes, NULL when it is not there. */
__attribute__((unused)) static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    (void)fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    if (bytes && fread(bytes, 1, *n, f) != *n) *n = 0;
    (void)fclose(f);
    return bytes;
}

__attribute__((unused)) static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* How often a text stands in the raw bytes of every file of the folder. */
__attribute__((unused)) static int count_in_files(const char *text) {
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        char path[512];
        size_t size = 0;
        if (e->d_name[0] == '.') continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        char *bytes = read_file(path, &size), *p = bytes;
        while (p && size && (p = memmem(p, size - (size_t)(p - bytes), text, strlen(text)))) n++, p++;
        free(bytes);
    }
    (void)closedir(d);
    return n;
}

#endif
