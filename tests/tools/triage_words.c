/* The words of texts as the rules see them, for tools/fit-concern: of each line of the standard input a line of folded words, one
 * that is denied behind '-', one that is somebody else's, past or only feared behind '~'. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/triage_impl.h"

static void print_words(void *user, const sentence *s) {
    (void)user;
    for (int i = 0; i < s->n_tokens; i++) {
        const token *t = &s->tokens[i];
        if (t->is_digits) continue;
        (void)printf("%s%.*s ", s->scope[i] & IS_NEGATED ? "-" : s->scope[i] ? "~" : "", (int)t->n, t->text);
    }
}

int main(void) {
    galen_error err = {0};
    const triage_rules *rules;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (triage_rules_builtin(&rules, &err)) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    while ((n = getline(&line, &cap, stdin)) > 0) {
        triage_sentences(rules, line, (size_t)n, print_words, NULL);
        (void)putchar('\n');
    }
    free(line);
    return 0;
}
