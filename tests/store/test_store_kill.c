/* kill -9 at any moment: no acknowledged turn is lost, the database opens, verifies, and erasures are finished.
 * GALEN_KILLS sets how often; GALEN_SEED the moments. */
#include "store_help.h"

#include <poll.h>
#include <time.h>

#include "base/rng.h"

/* What a writer says through a pipe after a call has returned. */
typedef struct said {
    int64_t id, seq; /* seq 0: the case was erased */
} said;

enum { MAX_CASES = 1 << 16, ERASE_EVERY = 7 };

static int64_t n_turns_of[MAX_CASES]; /* acknowledged; -1: erased */

static void make_turn(char out[256], int64_t id, int64_t seq) {
    const rng_block r = rng_at((uint64_t)id, (uint64_t)seq, 0);
    (void)snprintf(out, 256, "{\"kind\":\"text\",\"text\":\"QZXCASE%lldZ turn %lld %08x%08x\"}", (long long)id, (long long)seq,
                   r.v[0], r.v[1]);
}

static void say(int fd, int64_t id, int64_t seq) {
    const said s = {id, seq};
    if (write(fd, &s, sizeof s) != (ssize_t)sizeof s) _exit(3);
}

/* Until it is killed. */
static void write_on(int fd) {
    const store_opts o = {.path = db_path};
    galen_error why = {0};
    store *s;
    if (store_open(&s, &o, &why)) {
        (void)fprintf(stderr, "writer: %s\n", why.msg);
        _exit(2);
    }
    for (;;) {
        int64_t id, branch;
        store_erasure e;
        const store_perf p = {.verb = "x"};
        if (store_case_begin(s, NULL, &id, &why)) _exit(2);
        const store_audit a = {.action = "diagnose", .case_id = id, .prompt = "x", .n_prompt = 1};
        for (int64_t seq = 1; seq <= 1 + id % 5; seq++) {
            char json[256];
            make_turn(json, id, seq);
            if (store_append(s, id, seq == 1 ? "symptoms" : "answer", json, strlen(json), NULL, &why)) _exit(2);
            say(fd, id, seq);
        }
        if (store_audit_append(s, &a, &why) || store_perf_append(s, &p, &why)) _exit(2);
        if (id % ERASE_EVERY) continue;
        if (store_branch(s, id - 1, -1, &branch, NULL) == GALEN_OK && store_erase(s, branch, &e, &why)) _exit(2);
        if (store_erase(s, id, &e, &why)) _exit(2);
        say(fd, id, 0);
    }
}

static void hear(int fd) {
    said s;
    while (read(fd, &s, sizeof s) == (ssize_t)sizeof s) {
        assert_in_range(s.id, 1, MAX_CASES - 1);
        n_turns_of[s.id] = s.seq ? s.seq : -1;
    }
}

static int64_t check_all(int round) {
    store *s;
    store_show c;
    int64_t n = 0, most = 0;
    galen_error why = {0};
    const store_opts o = {.path = db_path};
    if (store_open(&s, &o, &why)) fail_msg("round %d: %s", round, why.msg);
    OK(store_check(s, err));
    OK(store_audit_verify(s, NULL, err));
    for (int64_t id = 1; id < MAX_CASES; id++) {
        char text[256];
        if (n_turns_of[id]) most = id;
        if (n_turns_of[id] < 0) {
            FAILS(store_case_get(s, id, &c, err), GALEN_E_NOT_FOUND, "no case");
            continue;
        }
        if (n_turns_of[id] == 0) continue;
        const galen_status st = store_case_get(s, id, &c, &why);
        /* an erasure may have been done and not yet said */
        if (st == GALEN_E_NOT_FOUND && id % ERASE_EVERY == 0) {
            n_turns_of[id] = -1;
            continue;
        }
        if (st) fail_msg("round %d: %s", round, why.msg);
        if ((int64_t)c.n_turns < n_turns_of[id])
            fail_msg("round %d: case %d lost turns: %d of %d", round, (int)id, (int)c.n_turns, (int)n_turns_of[id]);
        for (size_t t = 0; t < c.n_turns; t++, n++) {
            make_turn(text, id, (int64_t)t + 1);
            assert_string_equal(c.turns[t].json, text);
        }
        store_show_free(&c);
    }
    store_close(s);
    /* The erased leave no trace, though the eraser was killed. */
    for (int64_t id = most; id > 0 && id > most - 40; id--) {
        char canary[32];
        if (n_turns_of[id] >= 0) continue;
        (void)snprintf(canary, sizeof canary, "QZXCASE%lldZ", (long long)id);
        if (count_in_files(canary)) fail_msg("round %d: case %d was erased and is in the files", round, (int)id);
    }
    return n;
}

static void killed_while_writing(void **state) {
    const int n_rounds = getenv("GALEN_KILLS") ? atoi(getenv("GALEN_KILLS")) : 25;
    const uint64_t seed = getenv("GALEN_SEED") ? strtoull(getenv("GALEN_SEED"), NULL, 10) : 1;
    int64_t n = 0;
    (void)state;
    for (int round = 0; round < n_rounds; round++) {
        int fds[2], status;
        assert_int_equal(pipe(fds), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(fds[0]);
            write_on(fds[1]);
        }
        (void)close(fds[1]);
        if (round % 2) { /* a slow disk: once something was written, else at any moment, the making of the database too */
            struct pollfd heard = {.fd = fds[0], .events = POLLIN};
            assert_int_equal(poll(&heard, 1, 120000), 1);
        }
        const struct timespec pause = {.tv_nsec = (long)(rng_uniform(seed, 0, (uint64_t)round) * 120e6)};
        (void)nanosleep(&pause, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status)) fail_msg("round %d: the writer ended by itself, status %d", round, status);
        hear(fds[0]);
        (void)close(fds[0]);
        n = check_all(round);
    }
    print_message("%d kills, %lld turns kept, 0 acknowledged turns lost\n", n_rounds, (long long)n);
    assert_true(n > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(killed_while_writing, make_folder, remove_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
