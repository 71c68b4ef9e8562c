/* galen doctor: what may be wrong on this machine, each finding with its cause and the one command that helps. Reads only. */
#include <stdlib.h>
#include <string.h>

#include "cli/doctor.h"
#include "cli/json.h"
#include "cli/options.h"

enum { MAX_CHECKS = 64 };

typedef struct findings {
    doctor_finding rows[MAX_CHECKS];
    int n_of[DOCTOR_FAIL + 1];
} findings;

static void judge_all(const doctor_facts *f, findings *out) {
    *out = (findings){0};
    for (size_t i = 0; i < doctor_n_checks && i < MAX_CHECKS; i++) {
        doctor_checks[i].judge(f, &out->rows[i]);
        out->n_of[out->rows[i].severity]++;
    }
}

static const char *color(const cli *c, doctor_severity s) {
    static const char *const on[] = {"\033[32m", "\033[2m", "\033[33m", "\033[31m"};
    return term_sgr(c, on[s]);
}

/* A line each; causes and remedies wrap below themselves. */
static void print_text(const cli *c, const findings *all) {
    char safe[DOCTOR_TEXT];
    const int width = term_width(c), at = width < 60 ? 6 : 22;
    for (size_t i = 0; i < doctor_n_checks; i++) {
        const doctor_finding *r = &all->rows[i];
        if (r->severity == DOCTOR_SKIP && !c->args.all) continue;
        (void)printf("%s%-4s%s  %-14s", color(c, r->severity), doctor_severity_name(r->severity), term_sgr(c, "\033[0m"),
                     doctor_checks[i].id);
        (void)printf(at == 6 ? "\n      " : "  ");
        term_hang(stdout, at, term_safe(r->what, safe, sizeof safe), width);
        if (r->remedy[0]) term_fact(c, "", 6, "-> %s", term_safe(r->remedy, safe, sizeof safe));
    }
    (void)putchar('\n');
    const int *n = all->n_of;
    term_fact(c, "", 0, "%d ok, %d warning%s, %d failure%s, %d not applicable%s", n[DOCTOR_OK], n[DOCTOR_WARN],
              n[DOCTOR_WARN] == 1 ? "" : "s", n[DOCTOR_FAIL], n[DOCTOR_FAIL] == 1 ? "" : "s", n[DOCTOR_SKIP],
              c->args.all || !n[DOCTOR_SKIP] ? "" : " (--all shows them)");
}

/* For a bug report: nothing of a patient is in it, and the home folder's name is left out. */
static void print_report(const findings *all, const doctor_facts *f) {
    const char *home = getenv("HOME");
    (void)printf("# galen doctor\n\n- %s\n- %s, %d cores, %.1f GiB\n", galen_version(), f->host.cpu, f->host.n_cores,
                 (double)f->host.memory_total / (1u << 30));
    for (int32_t i = 0; i < f->n_gpus; i++)
        (void)printf("- %s, %.1f GiB, driver %s\n", f->gpus[i].name, (double)f->gpus[i].memory_total / (1u << 30), f->driver);
    (void)printf("\n| check | state | finding |\n|---|---|---|\n");
    for (size_t i = 0; i < doctor_n_checks; i++) {
        char text[DOCTOR_TEXT];
        const char *at = home && strlen(home) > 1 ? strstr(all->rows[i].what, home) : NULL;
        if (at)
            (void)snprintf(text, sizeof text, "%.*s~%s", (int)(at - all->rows[i].what), all->rows[i].what, at + strlen(home));
        else
            (void)snprintf(text, sizeof text, "%s", all->rows[i].what);
        for (char *p = text; *p; p++)
            if (*p == '|' || (unsigned char)*p < 0x20) *p = '/';
        (void)printf("| %s | %s | %s |\n", doctor_checks[i].id, doctor_severity_name(all->rows[i].severity), text);
    }
}

static cli_exit print_json(cli *c, const findings *all) {
    json_t *root = json_begin(c), *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < doctor_n_checks; i++)
        bad |= json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", doctor_checks[i].id, "title", doctor_checks[i].title, "severity",
                            doctor_severity_name(all->rows[i].severity), "what", json_text0(all->rows[i].what), "remedy",
                            all->rows[i].remedy[0] ? json_text0(all->rows[i].remedy) : json_null()));
    bad |= json_object_set_new(root, "checks", list);
    bad |= json_object_set_new(root, "failures", json_integer(all->n_of[DOCTOR_FAIL]));
    bad |= json_object_set_new(root, "warnings", json_integer(all->n_of[DOCTOR_WARN]));
    if (bad) {
        json_decref(root);
        root = NULL;
    }
    return json_end(c, root, false);
}

cli_exit verb_doctor(cli *c) {
    static findings all; /* large, both */
    static doctor_facts f;
    const char *root = getenv("GALEN_DOCTOR_ROOT"); /* a made-up machine, for tests */
    doctor_gather(c, root ? root : "", &f);
    if (c->args.token) doctor_try_tokens(c, &f);
    judge_all(&f, &all);
    cli_exit st = CLI_DONE;
    if (c->args.json)
        st = print_json(c, &all);
    else if (c->args.report)
        print_report(&all, &f);
    else
        print_text(c, &all);
    if (st) return st;
    if (signals_stop()) return signals_exit();
    return all.n_of[DOCTOR_FAIL] ? CLI_FAILED : CLI_DONE;
}
