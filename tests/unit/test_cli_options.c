/* The option table and its parser. The verbs and the terminal are stand-ins: nothing runs, messages are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/cli/numbers.c"
#include "../../src/cli/options.c"
#include "../../src/cli/suggest.c"

#define VERB(name)                                                                                                               \
    cli_exit name(cli *c) {                                                                                                      \
        (void)c;                                                                                                                 \
        return CLI_DONE;                                                                                                         \
    }
VERB(verb_diagnose)
VERB(verb_complete)
VERB(verb_chat)
VERB(verb_show)
VERB(verb_tokenize)
VERB(verb_logits)
VERB(verb_synth)
VERB(verb_version)
VERB(verb_plan)
VERB(verb_bench)
VERB(verb_calibrate)
VERB(verb_eval)
VERB(verb_codes)
VERB(verb_history)
VERB(verb_triage)
VERB(verb_tune)
VERB(verb_audit)
VERB(verb_stats)
VERB(verb_doctor)
VERB(verb_explain)
VERB(verb_ps)
VERB(verb_monitor)
VERB(verb_help)
VERB(verb_completions)

static char message[512];

void term_error(cli *c, const char *fmt, ...) {
    va_list ap;
    (void)c;
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
}

const char *term_safe(const char *text, char *buf, size_t cap) {
    (void)snprintf(buf, cap, "%s", text);
    return buf;
}

#define MAX_WORDS 24

/* Parse a line, split at blanks ("_" stands for an empty word). */
static cli_exit parse(cli *c, const char *line, char *store, size_t cap) {
    char *argv[MAX_WORDS + 2] = {"galen"};
    int argc = 1;
    (void)snprintf(store, cap, "%s", line);
    for (char *p = store; *p && argc <= MAX_WORDS;) {
        argv[argc++] = p;
        p += strcspn(p, " ");
        if (*p) *p++ = '\0';
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "_") == 0) argv[i] = "";
    }
    *c = (cli){0};
    message[0] = '\0';
    return options_parse(c, argc, argv);
}

static void test_bad_lines(void **state) {
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"diagnoze", "there is no verb 'diagnoze'; did you mean 'diagnose'?"},
        {"frobnicate", "galen help lists them"},
        {"_", "there is no verb ''"},
        {"complete --tmep 1", "complete has no option --tmep; did you mean --temp?"},
        {"complete --tmep=1", "did you mean --temp?"},
        {"complete --zzzzzz", "see galen help complete"},
        {"show --temp 1", "show has no option --temp (these have: complete, chat)"},
        {"complete -z", "complete has no option -z"},
        {"complete -jq", "complete has no option -jq"},
        {"complete --temp", "--temp needs a value: --temp T"},
        {"complete --json=1", "--json takes no value"},
        {"complete --temp warm", "--temp: 'warm' is not a number"},
        {"complete --temp nan", "--temp: 'nan' is not a number"},
        {"complete --temp -0.1", "--temp: '-0.1' is not between 0 and 100"},
        {"complete --top-p 1.5", "--top-p: '1.5' is not between 0 and 1"},
        {"complete --top-k 2147483648", "--top-k: '2147483648' is not between 0 and 2147483647"},
        {"complete --seed -1", "--seed: '-1' is not 0 or more"},
        {"complete --seed 9223372036854775808", "--seed: '9223372036854775808' is not a whole number"},
        {"complete --logprobs 21", "not between 0 and 20"},
        {"complete --ctx 0", "not between 1 and"},
        {"complete --ctx _", "--ctx: '' is not a whole number"},
        {"complete --threads 1.5", "--threads: '1.5' is not a whole number"},
        {"complete --threads 99999999999999999999", "is not a whole number"},
        {"complete --kv-type f8", "--kv-type: 'f8' is not one of f16|f32|q8_0"},
        {"complete --kv-type f", "--kv-type: 'f' is not one of"},
        {"complete --device _", "--device: '' is not one of"},
        {"complete a b", "'b' is one argument too many"},
        {"diagnose a b c", "put the symptoms in quotes"},
        {"version x", "too many"},
    };
    char store[256];
    cli c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("  galen %s\n", cases[i].line);
        assert_int_equal(parse(&c, cases[i].line, store, sizeof store), CLI_USAGE);
        if (!strstr(message, cases[i].says)) fail_msg("said: %s", message);
        options_free(&c.args);
    }
}

static void test_good_lines(void **state) {
    (void)state;
    char store[256];
    cli c;
    assert_int_equal(parse(&c, "complete m -p hi -n5 --temp=0 --top-k 7 --stop a --stop b --logit-bias 3=-inf", store, 256),
                     CLI_DONE);
    assert_string_equal(c.verb->name, "complete");
    assert_string_equal(c.args.positional[0], "m");
    assert_string_equal(c.args.prompt, "hi");
    assert_int_equal(c.args.n_predict, 5);
    assert_true(option_given(&c.args, "temp") && c.args.temperature == 0);
    assert_int_equal(c.args.top_k, 7);
    assert_false(option_given(&c.args, "top-p"));
    assert_int_equal(c.args.stop.n, 2);
    assert_string_equal(c.args.stop.items[1], "b");
    assert_string_equal(c.args.bias.items[0], "3=-inf");
    options_free(&c.args);

    assert_int_equal(parse(&c, "complete -n -1 --ctx 4k -- -p", store, 256), CLI_DONE);
    assert_int_equal(c.args.n_predict, -1);
    assert_int_equal(c.args.ctx, 4096);
    assert_string_equal(c.args.positional[0], "-p"); /* behind -- */
    options_free(&c.args);

    assert_int_equal(parse(&c, "complete --seed 9223372036854775807 --temp 1 --temp 2", store, 256), CLI_DONE);
    assert_true(c.args.seed == INT64_MAX && c.args.temperature == 2); /* the last one counts */
    assert_int_equal(parse(&c, "--version", store, 256), CLI_DONE);
    assert_string_equal(c.verb->name, "version");
    assert_int_equal(parse(&c, "-h show", store, 256), CLI_DONE);
    assert_string_equal(c.verb->name, "help");
    assert_int_equal(parse(&c, "", store, 256), CLI_DONE);
    assert_string_equal(c.verb->name, "help");
}

/* What every reader of the tables relies on. */
static void test_tables(void **state) {
    (void)state;
    uint32_t all = 0;
    for (size_t v = 0; v < cli_n_verbs; v++) {
        assert_int_equal(all & cli_verbs[v].bit, 0);
        all |= cli_verbs[v].bit;
        assert_non_null(cli_verbs[v].run);
        assert_in_range(cli_verbs[v].max_positionals, 0, CLI_MAX_POSITIONALS);
    }
    assert_int_equal(all | V_SERVE, V_ALL); /* serve is left out where its library is */
    for (size_t i = 0; i < cli_n_options; i++) {
        const option_row *o = &cli_options[i];
        assert_true((o->verbs & ~(all | V_SERVE)) == 0 && o->verbs);
        assert_true((o->kind == OPT_FLAG) == (o->metavar == NULL));
        assert_true(o->field < sizeof(cli_args));
        for (size_t k = 0; k < i; k++) {
            if (!(o->verbs & cli_options[k].verbs)) continue; /* one name may mean something else to another verb */
            assert_string_not_equal(o->name, cli_options[k].name);
            assert_false(o->letter && o->letter == cli_options[k].letter);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_good_lines),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
