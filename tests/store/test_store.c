/* The store as its header promises: cases, search, branches, erasure, settings, measures. */
#include "store_help.h"

typedef struct seen {
    int n;
    store_case cases[16];
} seen;

static bool see(void *user, const store_case *c) {
    seen *l = user;
    if (l->n < 16) l->cases[l->n] = *c;
    l->n++;
    return true;
}

static bool see_one(void *user, const store_case *c) {
    (void)see(user, c);
    return false;
}

static seen search(store *s, const char *query) {
    seen l = {0};
    OK(store_search(s, query, strlen(query), 0, 100, see, &l, err));
    return l;
}

/* ---------------------------------------------------------------- cases */

static void cases_are_kept(void **state) {
    store_show c;
    int64_t seq = 0;
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "cough and\\nfever");
    test_clock += 5;
    OK(store_append(s, id, "answer", "{\"number\":1,\"kind\":\"yes\"}", 25, &seq, err));
    assert_int_equal(seq, 2);
    store_close(s);
    s = open_store();
    OK(store_case_get(s, id, &c, err));
    assert_int_equal(c.n_turns, 2);
    assert_string_equal(c.info.title, "cough and fever");
    assert_string_equal(c.params, "{\"seed\":7}");
    assert_string_equal(c.turns[0].kind, "symptoms");
    assert_string_equal(c.turns[0].json, "{\"text\":\"cough and\\nfever\"}");
    assert_int_equal(c.turns[1].seq, 2);
    assert_int_equal(c.turns[1].time_ms, test_clock);
    assert_int_equal(c.info.n_bytes, c.turns[0].n + 25);
    store_show_free(&c);
    FAILS(store_case_get(s, id + 1, &c, err), GALEN_E_NOT_FOUND, "no case 2");
    FAILS(store_append(s, 99, "answer", "{}", 2, NULL, err), GALEN_E_NOT_FOUND, "no case 99");
    store_close(s);
}

static void lists_are_paged(void **state) {
    (void)state;
    store *s = open_store();
    char text[32];
    for (int i = 1; i <= 9; i++) {
        (void)snprintf(text, sizeof text, "number %d", i);
        assert_int_equal(a_case(s, text), i);
    }
    seen l = {0};
    OK(store_list(s, 0, 4, see, &l, err));
    assert_int_equal(l.n, 4);
    assert_int_equal(l.cases[0].id, 9);
    assert_string_equal(l.cases[3].title, "number 6");
    l.n = 0;
    OK(store_list(s, 6, 4, see, &l, err));
    assert_int_equal(l.cases[0].id, 5);
    l.n = 0;
    OK(store_list(s, 0, 4, see_one, &l, err));
    assert_int_equal(l.n, 1);
    l.n = 0;
    OK(store_list(s, 1, 4, see, &l, err));
    assert_int_equal(l.n, 0);
    store_close(s);
}

static const char five[] =
    "{\"conditions\":[{\"rank\":1,\"name\":\"Community-acquired pneumonia\",\"code\":\"J18.9\",\"code_title\":"
    "\"Pneumonia, unspecified organism\",\"support\":[{\"quote\":\"zebra\",\"from\":0,\"to\":5}]}],"
    "\"confidence_meaning\":\"uncalibrated\",\"model\":{\"name\":\"Meditron\"}}";

/* What a query finds: words of any turn, from their beginning, without case and accents; nothing else. */
static const struct {
    const char *query;
    int n;
    const char *why;
} queries[] = {
    {"cough", 1, "a word"},
    {"COUGH", 1, "case"},
    {"cou", 1, "a beginning"},
    {"ough", 0, "not an end"},
    {"fievre", 1, "accents"},
    {"fi\xC3\xA8vre", 1, "accents in the query"},
    {"cough pneumonia", 1, "two turns of one case"},
    {"cough asthma", 0, "words of two cases"},
    {"j18.9", 1, "a code"},
    {"never", 1, "an answer"},
    {"uncalibrated", 0, "not what is no text of the case"},
    {"zebra", 0, "quotes repeat the symptoms"},
    {"travelled", 0, "questions are not answers"},
    {"\"cough", 1, "a quote"},
    {"cough*", 1, "an operator of FTS5"},
    {"cough OR asthma", 0, "OR is a word"},
    {"NEAR(cough)", 0, "NEAR is a word"},
    {"text:cough", 0, "a column's name is a word"},
    {"\xE5\x92\xB3\xE5\x97\xBD", 1, "Chinese"},
    {"'; DROP TABLE cases; --", 0, "SQL"},
};

static void search_finds(void **state) {
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "dry cough, fi\xC3\xA8vre \xE5\x92\xB3\xE5\x97\xBD for 3 days");
    append(s, id, "differential", five);
    append(s, id, "question", "{\"number\":1,\"text\":\"Have you travelled?\"}");
    append(s, id, "answer", "{\"number\":1,\"kind\":\"text\",\"text\":\"I never did\"}");
    (void)a_case(s, "asthma since childhood");
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        const seen l = search(s, queries[i].query);
        if (l.n != queries[i].n || (l.n && l.cases[0].id != id)) fail_msg("%s: %d cases", queries[i].why, l.n);
    }
    seen l = {0};
    FAILS(store_search(s, " .,; ", 5, 0, 9, see, &l, err), GALEN_E_ARG, "0 words");
    char many[400] = "";
    for (int i = 0; i < 65; i++) strcat(many, "a ");
    FAILS(store_search(s, many, strlen(many), 0, 9, see, &l, err), GALEN_E_ARG, "65 words");
    FAILS(store_search(s, "\xFF", 1, 0, 9, see, &l, err), GALEN_E_FORMAT, "UTF-8");
    store_close(s);
}

static void titles_are_one_line(void **state) {
    char json[2000] = "{\"text\":\"", want[STORE_TITLE_MAX];
    (void)state;
    store *s = open_store();
    (void)a_case(s, "\\u001b[31m  red \\t\\u0085 \\u2028 text \\n");
    for (int i = 0; i < 200; i++) strcat(json, "\xC3\xA9");
    strcat(json, "\"}");
    int64_t id;
    OK(store_case_begin(s, NULL, &id, err));
    append(s, id, "symptoms", json);
    OK(store_case_begin(s, NULL, &id, err));
    append(s, id, "triage", "{\"level\":\"self_care\"}");
    OK(store_case_begin(s, NULL, &id, err));
    append(s, id, "symptoms", "[1,2]");
    OK(store_case_begin(s, NULL, &id, err));
    seen l = {0};
    OK(store_list(s, 0, 9, see, &l, err));
    assert_string_equal(l.cases[0].title, "");
    assert_string_equal(l.cases[1].title, "");
    assert_string_equal(l.cases[2].title, "");
    for (int i = 0; i < STORE_TITLE_MAX - 2; i += 2) memcpy(want + i, "\xC3\xA9", 3);
    assert_string_equal(l.cases[3].title, want);
    assert_string_equal(l.cases[4].title, "[31m red text");
    store_close(s);
}

static void branches_own_their_turns(void **state) {
    store_show c;
    int64_t b = 0, whole = 0;
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "headache");
    append(s, id, "answer", "{\"text\":\"left side\"}");
    append(s, id, "answer", "{\"text\":\"worse at night\"}");
    OK(store_branch(s, id, 2, &b, err));
    append(s, b, "answer", "{\"text\":\"right side\"}");
    OK(store_case_get(s, b, &c, err));
    assert_int_equal(c.info.parent, id);
    assert_int_equal(c.info.parent_turns, 2);
    assert_int_equal(c.n_turns, 3);
    assert_string_equal(c.params, "{\"seed\":7}");
    assert_string_equal(c.turns[1].json, "{\"text\":\"left side\"}");
    assert_string_equal(c.turns[2].json, "{\"text\":\"right side\"}");
    const int64_t n_bytes = c.info.n_bytes;
    assert_int_equal(n_bytes, (int64_t)(c.turns[0].n + c.turns[1].n + c.turns[2].n));
    store_show_free(&c);
    assert_int_equal(search(s, "left").n, 2);
    assert_int_equal(search(s, "right").n, 1);
    OK(store_branch(s, id, -1, &whole, err));
    OK(store_case_get(s, whole, &c, err));
    assert_int_equal(c.n_turns, 3);
    store_show_free(&c);
    FAILS(store_branch(s, id, 4, &b, err), GALEN_E_ARG, "has 3 turns, not 4");
    FAILS(store_branch(s, 77, -1, &b, err), GALEN_E_NOT_FOUND, "no case 77");
    store_erasure e;
    OK(store_erase(s, id, &e, err));
    assert_int_equal(e.n_branches, 2);
    OK(store_case_get(s, whole, &c, err)); /* its parent is gone, its turns are not */
    assert_int_equal(c.info.parent, id);
    store_show_free(&c);
    OK(store_check(s, err));
    store_close(s);
}

static void only_json_is_a_turn(void **state) {
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "a");
    static const struct {
        const char *json;
        size_t n;
        const char *says;
    } bad[] = {
        {"{", 1, "not JSON"},
        {"", 0, "not JSON"},
        {"{}x", 3, "not JSON"},
        {"{\"a\":1,}", 8, "not JSON"},
        {"{}\0x", 4, "byte 2 of 4"},
        {"\"\xC3\x28\"", 4, "byte 1"},
        {"\"\xED\xA0\x80\"", 5, "UTF-8"},
        {"\"\xF5\x80\x80\x80\"", 6, "UTF-8"},
        {"\"\xC0\xAF\"", 4, "UTF-8"},
        {"'a'", 3, "not JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(store_append(s, id, "answer", bad[i].json, bad[i].n, NULL, err), GALEN_E_FORMAT, bad[i].says);
    char *deep = malloc(200001);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    FAILS(store_append(s, id, "answer", deep, 200000, NULL, err), GALEN_E_FORMAT, "not JSON");
    free(deep);
    FAILS(store_append(s, id, "", "{}", 2, NULL, err), GALEN_E_ARG, "kind");
    FAILS(store_append(s, id, "a b", "{}", 2, NULL, err), GALEN_E_ARG, "kind");
    FAILS(store_append(s, id, "abcdefghijklmnopqrstuvwxyzabcdefg", "{}", 2, NULL, err), GALEN_E_ARG, "33 bytes");
    FAILS(store_case_begin(s, "{", &(int64_t){0}, err), GALEN_E_FORMAT, "not JSON");
    append(s, id, "answer", "\"a string is JSON too\"");
    store_show c;
    OK(store_case_get(s, id, &c, err));
    assert_int_equal(c.n_turns, 2);
    store_show_free(&c);
    store_close(s);
}

/* ---------------------------------------------------------------- erasure */

static const char *const canaries[] = {"QZXCANARYONE", "QZXCANARYTWO", "QZXCANARYTHREE", "qzxcanary"};

static void plant(store *s, int64_t id) {
    char json[256];
    for (int k = 0; k < 20; k++) {
        (void)snprintf(json, sizeof json, "{\"kind\":\"text\",\"text\":\"%s %d %s %s\"}", canaries[0], k, canaries[1],
                       canaries[2]);
        append(s, id, "answer", json);
    }
    append(s, id, "differential", "{\"conditions\":[{\"name\":\"QZXCANARYTWO fever\"}]}");
}

static void expect_no_trace(const char *when) {
    for (size_t i = 0; i < sizeof canaries / sizeof *canaries; i++) {
        const int n = count_in_files(canaries[i]);
        if (n) fail_msg("%s: %s stands %d times in the files", when, canaries[i], n);
    }
}

/* Beside other cases, among free pages, in the log, in the index's segments. */
static void erasure_leaves_no_trace(void **state) {
    store_erasure e;
    (void)state;
    store *s = open_store();
    char text[64];
    for (int i = 0; i < 30; i++) {
        (void)snprintf(text, sizeof text, "harmless %d", i);
        (void)a_case(s, text);
    }
    const int64_t id = a_case(s, "QZXCANARYONE in the symptoms");
    plant(s, id);
    assert_int_not_equal(count_in_files(canaries[0]), 0);
    assert_int_not_equal(count_in_files("qzxcanary"), 0); /* the index has lower case */
    OK(store_erase(s, id, &e, err));
    assert_int_equal(e.n_cases, 1);
    assert_int_equal(e.n_turns, 22);
    assert_true(e.is_scrubbed && e.is_audited);
    expect_no_trace("while it is open");
    OK(store_check(s, err));
    assert_int_equal(search(s, "harmless").n, 30);
    assert_int_equal(search(s, "qzxcanaryone").n, 0);
    FAILS(store_erase(s, id, &e, err), GALEN_E_NOT_FOUND, "no case");
    store_close(s);
    expect_no_trace("closed");
    s = open_store();
    assert_int_equal(a_case(s, "next"), id + 1); /* a number is never given again */
    store_close(s);
}

static void all_and_old_are_erased(void **state) {
    store_erasure e;
    (void)state;
    store *s = open_store();
    plant(s, a_case(s, "old"));
    test_clock += 10 * (int64_t)86400000;
    const int64_t young = a_case(s, "young");
    OK(store_expire(s, 11, &e, err));
    assert_int_equal(e.n_cases, 0);
    OK(store_expire(s, 9, &e, err));
    assert_int_equal(e.n_cases, 1);
    assert_true(e.is_scrubbed);
    expect_no_trace("expired");
    FAILS(store_expire(s, -1, &e, err), GALEN_E_ARG, "-1 days");
    FAILS(store_expire(s, 36501, &e, err), GALEN_E_ARG, "36501 days");
    store_show c;
    OK(store_case_get(s, young, &c, err));
    store_show_free(&c);
    plant(s, young);
    OK(store_erase_all(s, &e, err));
    assert_int_equal(e.n_cases, 1);
    expect_no_trace("all erased");
    OK(store_erase_all(s, &e, err));
    assert_int_equal(e.n_cases, 0);
    assert_true(e.is_scrubbed);
    int64_t n;
    OK(store_audit_verify(s, &n, err));
    assert_int_equal(n, 2);
    store_close(s);
}

static void retention_works_at_opening(void **state) {
    (void)state;
    store *s = open_store();
    plant(s, a_case(s, "old"));
    OK(store_setting_set(s, "retention_days", "30", err));
    store_close(s);
    test_clock += 29 * (int64_t)86400000;
    s = open_store();
    assert_int_equal(search(s, "old").n, 1);
    store_close(s);
    test_clock += 2 * (int64_t)86400000;
    s = open_store();
    assert_int_equal(search(s, "old").n, 0);
    expect_no_trace("retention");
    store_close(s);
}

typedef struct turnstile {
    int tell, wait;
} turnstile;

/* In the middle of a list the process holds a snapshot of the database. */
static bool hold_snapshot(void *user, const store_case *c) {
    const turnstile *t = user;
    char b = 'x';
    (void)c;
    (void)!write(t->tell, &b, 1);
    (void)!read(t->wait, &b, 1);
    return false;
}

/* Another process reads: what was erased stays in its snapshot. The mark makes a later opening finish the work. */
static void a_reader_delays_the_scrub(void **state) {
    store_erasure e;
    store_show c;
    int told[2], go[2], status;
    char b = 0;
    (void)state;
    store *s = open_store();
    const int64_t id = a_case(s, "QZXCANARYONE"), other = a_case(s, "other");
    plant(s, id);
    store_close(s);
    assert_int_equal(pipe(told) | pipe(go), 0);
    const pid_t child = fork();
    if (child == 0) {
        turnstile t = {told[1], go[0]};
        close(go[1]); /* the parent's death ends the wait */
        store *r = open_store();
        const galen_status st = store_list(r, 0, 9, hold_snapshot, &t, NULL);
        store_close(r);
        _exit(st ? 1 : 0);
    }
    assert_int_equal(read(told[0], &b, 1), 1);
    s = open_store();
    OK(store_erase(s, id, &e, err));
    assert_int_equal(e.n_cases, 1);
    assert_false(e.is_scrubbed);
    FAILS(store_case_get(s, id, &c, err), GALEN_E_NOT_FOUND, "no case");
    store_close(s);
    assert_int_equal(write(go[1], &b, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    s = open_store();
    OK(store_case_get(s, other, &c, err));
    store_show_free(&c);
    expect_no_trace("opened once more");
    store_close(s);
    (void)close(told[0]), (void)close(told[1]), (void)close(go[0]), (void)close(go[1]);
}

/* ---------------------------------------------------------------- settings, measures, models */

static void settings_are_checked(void **state) {
    char value[16], tiny[2];
    (void)state;
    store *s = open_store();
    OK(store_setting_get(s, "save", value, sizeof value, err));
    assert_string_equal(value, "on");
    OK(store_setting_set(s, "save", "off", err));
    store_close(s);
    s = open_store();
    OK(store_setting_get(s, "save", value, sizeof value, err));
    assert_string_equal(value, "off");
    FAILS(store_setting_set(s, "save", "perhaps", err), GALEN_E_ARG, "on or off");
    FAILS(store_setting_set(s, "retention_days", "-1", err), GALEN_E_ARG, "0 to 36500");
    FAILS(store_setting_set(s, "retention_days", "36501", err), GALEN_E_ARG, "0 to 36500");
    FAILS(store_setting_set(s, "retention_days", "", err), GALEN_E_ARG, "0 to 36500");
    FAILS(store_setting_set(s, "colour", "red", err), GALEN_E_NOT_FOUND, "no setting 'colour'");
    FAILS(store_setting_get(s, "colour", value, sizeof value, err), GALEN_E_NOT_FOUND, "colour");
    FAILS(store_setting_get(s, "scrub_due", value, sizeof value, err), GALEN_E_NOT_FOUND, "scrub_due");
    FAILS(store_setting_get(s, "save", tiny, sizeof tiny, err), GALEN_E_RANGE, "3 bytes");
    store_close(s);
}

static bool add_perf(void *user, const store_perf *p) {
    double *sum = user;
    assert_string_equal(p->verb, "diagnose");
    assert_null(p->fallback);
    *sum += p->decode_s;
    return true;
}

static void performance_is_logged(void **state) {
    double sum = 0;
    store_perf p = {.verb = "diagnose", .device = "CPU", .decode_s = 1, .n_generated = 50};
    (void)state;
    store *s = open_store();
    OK(store_perf_append(s, &p, err));
    test_clock += 100 * (int64_t)86400000;
    p.decode_s = 2;
    OK(store_perf_append(s, &p, err));
    OK(store_perf_list(s, 0, add_perf, &sum, err));
    assert_true(sum == 3);
    sum = 0;
    OK(store_perf_list(s, 10, add_perf, &sum, err));
    assert_true(sum == 2);
    const store_perf three[] = {p, p, {.verb = NULL, .decode_s = 0.0 / 0.0}}; /* NaN is NULL to SQLite, refused */
    FAILS(store_perf_append_all(s, three, 3, err), GALEN_E_FORMAT, "refused by a rule");
    sum = 0;
    OK(store_perf_list(s, 0, add_perf, &sum, err));
    assert_true(sum == 3); /* all or none */
    store_close(s);
    s = open_store();
    test_clock += 300 * (int64_t)86400000; /* past perf_days of the first, in a store that stays open */
    OK(store_perf_expire(s, err));
    sum = 0;
    OK(store_perf_list(s, 0, add_perf, &sum, err));
    assert_true(sum == 2);
    store_close(s);
}

static bool keep_bench(void *user, const store_bench *b) {
    (void)snprintf(user, 64, "%s %s", b->device, b->json);
    return false;
}

static bool count_tune(void *user, const store_tune *t) {
    assert_string_equal(t->device, "H100");
    ++*(int *)user;
    return true;
}

static void runs_and_choices_are_kept(void **state) {
    char text[64] = "";
    char *choice = NULL;
    int n = 0;
    (void)state;
    store *s = open_store();
    store_bench b = {.model_sha256 = "aa", .device = "CPU", .build = "1", .json = "{\"a\":1}", .n = 7};
    OK(store_bench_put(s, &b, NULL, err));
    b.device = "H100";
    b.json = "{\"a\":2}";
    OK(store_bench_put(s, &b, NULL, err));
    OK(store_bench_list(s, NULL, NULL, NULL, 9, keep_bench, text, err));
    assert_string_equal(text, "H100 {\"a\":2}");
    OK(store_bench_list(s, "aa", "CPU", NULL, 9, keep_bench, text, err));
    assert_string_equal(text, "CPU {\"a\":1}");
    b.json = "{";
    b.n = 1;
    FAILS(store_bench_put(s, &b, NULL, err), GALEN_E_FORMAT, "not JSON");
    store_tune t = {.model_sha256 = "aa", .device = "H100", .driver = "1", .build = "1", .json = "{\"layers\":16}", .n = 13};
    FAILS(store_tune_get(s, &t, &choice, err), GALEN_E_NOT_FOUND, "no choice");
    OK(store_tune_put(s, &t, err));
    t.json = "{\"layers\":17}";
    OK(store_tune_put(s, &t, err));
    OK(store_tune_get(s, &t, &choice, err));
    assert_string_equal(choice, "{\"layers\":17}");
    free(choice);
    t.driver = "2"; /* a new driver: measured anew */
    FAILS(store_tune_get(s, &t, &choice, err), GALEN_E_NOT_FOUND, "driver");
    assert_null(choice);
    OK(store_tune_list(s, count_tune, &n, err));
    assert_int_equal(n, 1);
    store_close(s);
}

static void models_are_hashed_once(void **state) {
    char path[128], hex[SHA256_HEX_BYTES], again[SHA256_HEX_BYTES], found[256];
    (void)state;
    store *s = open_store();
    (void)snprintf(path, sizeof path, "%s/m.gguf", folder);
    write_file(path, "abc", 3);
    OK(store_model_hash(s, path, NULL, NULL, hex, err));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    OK(store_model_path(s, hex, found, sizeof found, err));
    assert_string_equal(found, path);
    /* Same path, size, time and inode: the old answer shows that the file is not read again. */
    struct stat f;
    assert_int_equal(stat(path, &f), 0);
    FILE *h = fopen(path, "r+");
    assert_int_equal(fwrite("abd", 1, 3, h), 3);
    fclose(h);
    const struct timespec times[2] = {f.st_atim, f.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    OK(store_model_hash(s, path, NULL, NULL, again, err));
    assert_string_equal(again, hex);
    write_file(path, "abcd", 4);
    OK(store_model_hash(s, path, NULL, NULL, again, err));
    assert_string_not_equal(again, hex);
    FAILS(store_model_path(s, hex, found, sizeof found, err), GALEN_E_NOT_FOUND, "ba7816bf");
    FAILS(store_model_hash(s, "/nowhere/m", NULL, NULL, again, err), GALEN_E_NOT_FOUND, "/nowhere/m");
    OK(store_model_hash(NULL, path, NULL, NULL, again, err));
    store_close(s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(cases_are_kept),
        T(lists_are_paged),
        T(search_finds),
        T(titles_are_one_line),
        T(branches_own_their_turns),
        T(only_json_is_a_turn),
        T(erasure_leaves_no_trace),
        T(all_and_old_are_erased),
        T(retention_works_at_opening),
        T(a_reader_delays_the_scrub),
        T(settings_are_checked),
        T(performance_is_logged),
        T(runs_and_choices_are_kept),
        T(models_are_hashed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
