/* Shell completions: the two tables once more, for bash, zsh and fish. */
#include <string.h>

#include "cli/options.h"

static bool is_file(const option_row *o) {
    static const char *const words[] = {"PATH", "FILE", "DIR", "MODEL"};
    bool is_one = false;
    for (size_t i = 0; o->metavar && i < sizeof words / sizeof *words; i++) is_one = is_one || strcmp(o->metavar, words[i]) == 0;
    return is_one;
}

/* text with every byte of `special` behind `escape`. */
static void put_escaped(const char *text, const char *special, const char *escape) {
    for (; *text; text++) {
        if (strchr(special, *text)) (void)fputs(escape, stdout);
        (void)putchar(*text);
    }
}

/* "a|b|c" as "a b c". */
static void put_choices(const char *choices) {
    for (; *choices; choices++) (void)putchar(*choices == '|' ? ' ' : *choices);
}

/* ------------------------------------------------------------ bash */

static void bash_verb(const verb_row *v) {
    (void)printf("    %s) words=\"", v->name);
    for (size_t i = 0; i < cli_n_options; i++) {
        if (cli_options[i].verbs & v->bit) (void)printf("--%s ", cli_options[i].name);
    }
    (void)printf("\" ;;\n");
}

static void bash_choices(const option_row *o) {
    (void)printf("    --%s) words=\"", o->name);
    put_choices(o->choices);
    (void)printf("\"; COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); return ;;\n");
}

static void bash_script(void) {
    (void)printf("# Written by: galen completions bash\n_galen() {\n    local cur=${COMP_WORDS[COMP_CWORD]} "
                 "prev=${COMP_WORDS[COMP_CWORD-1]} words=\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"");
    for (size_t i = 0; i < cli_n_verbs; i++) (void)printf("%s ", cli_verbs[i].name);
    (void)printf("\"\n        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n        return\n    fi\n    case $prev in\n");
    for (size_t i = 0; i < cli_n_options; i++) {
        if (cli_options[i].choices) bash_choices(&cli_options[i]);
    }
    (void)printf("    esac\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < cli_n_verbs; i++) bash_verb(&cli_verbs[i]);
    (void)printf(
        "    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n    *)\n"
        "        local data=${XDG_DATA_HOME:-$HOME/.local/share}/galen/models\n"
        "        COMPREPLY=($(compgen -f -- \"$cur\") $(cd \"$data\" 2>/dev/null && compgen -f -X '!*.gguf' -- \"$cur\"))\n"
        "        ;;\n    esac\n}\ncomplete -o filenames -F _galen galen\n");
}

/* ------------------------------------------------------------ zsh */

/* Within single quotes, where _arguments and _describe read brackets and colons. */
static void zsh_text(const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            (void)fputs("'\\''", stdout);
        else
            (void)printf("%s%c", strchr("[]:\\", *text) ? "\\" : "", *text);
    }
}

static void zsh_option(const option_row *o) {
    const bool is_many = o->kind == OPT_LIST;
    (void)printf(" \\\n      ");
    if (o->letter)
        (void)printf("'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
    else
        (void)printf("'%s--%s[", is_many ? "*" : "", o->name);
    zsh_text(o->help);
    (void)putchar(']');
    if (o->metavar) {
        (void)printf(":%s:", o->metavar);
        if (o->choices) {
            (void)putchar('(');
            put_choices(o->choices);
            (void)putchar(')');
        } else if (is_file(o)) {
            (void)fputs(strcmp(o->metavar, "MODEL") == 0 ? "_galen_model" : "_files", stdout);
        }
    }
    (void)putchar('\'');
}

static void zsh_script(void) {
    (void)printf("#compdef galen\n# Written by: galen completions zsh\n"
                 "_galen_model() {\n  local -a models=(${XDG_DATA_HOME:-$HOME/.local/share}/galen/models/*.gguf(N:t))\n"
                 "  compadd -a models\n  _files\n}\n"
                 "_galen() {\n  local -a verbs=(\n");
    for (size_t i = 0; i < cli_n_verbs; i++) {
        (void)printf("    '%s:", cli_verbs[i].name);
        zsh_text(cli_verbs[i].summary);
        (void)puts("'");
    }
    (void)printf("  )\n  if (( CURRENT == 2 )); then\n    _describe verb verbs\n    return\n  fi\n"
                 "  local verb=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $verb in\n");
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const verb_row *v = &cli_verbs[i];
        (void)printf("  %s)\n    _arguments -s", v->name);
        for (size_t k = 0; k < cli_n_options; k++) {
            if (cli_options[k].verbs & v->bit) zsh_option(&cli_options[k]);
        }
        (void)printf("%s ;;\n", !v->max_positionals                          ? ""
                                : strncmp(v->positionals, "[MODEL]", 7) == 0 ? " \\\n      '*: :_galen_model'"
                                                                             : " \\\n      '*: :_files'");
    }
    (void)printf("  esac\n}\nif [ \"$funcstack[1]\" = _galen ]; then _galen \"$@\"; else compdef _galen galen; fi\n");
}

/* ------------------------------------------------------------ fish */

static void fish_option(const option_row *o) {
    (void)printf("complete -c galen -n '__fish_seen_subcommand_from");
    for (size_t v = 0; v < cli_n_verbs; v++) {
        if (o->verbs & cli_verbs[v].bit) (void)printf(" %s", cli_verbs[v].name);
    }
    (void)printf("' -l %s", o->name);
    if (o->letter) (void)printf(" -s %c", o->letter);
    if (o->choices) {
        (void)printf(" -x -a '");
        put_choices(o->choices);
        (void)putchar('\'');
    } else if (o->metavar) {
        (void)fputs(is_file(o) ? " -r -F" : " -x", stdout);
    }
    (void)printf(" -d '");
    put_escaped(o->help, "'\\", "\\");
    (void)puts("'");
}

static void fish_script(void) {
    (void)puts("# Written by: galen completions fish");
    for (size_t i = 0; i < cli_n_verbs; i++) {
        (void)printf("complete -c galen -f -n __fish_use_subcommand -a %s -d '", cli_verbs[i].name);
        put_escaped(cli_verbs[i].summary, "'\\", "\\");
        (void)puts("'");
    }
    (void)printf("function __galen_models\n    set -l data $XDG_DATA_HOME\n    test -n \"$data\"; or set data ~/.local/share\n"
                 "    for f in $data/galen/models/*.gguf\n        path basename $f\n    end\nend\n"
                 "complete -c galen -n 'not __fish_use_subcommand' -a '(__galen_models)' -d model\n");
    for (size_t i = 0; i < cli_n_options; i++) fish_option(&cli_options[i]);
}

/* ------------------------------------------------------------ the verb */

static const struct {
    const char *name;
    void (*write)(void);
} shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

cli_exit verb_completions(cli *c) {
    const char *name = c->args.n_positional ? c->args.positional[0] : "";
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(name, shells[i].name) != 0) continue;
        shells[i].write();
        return CLI_DONE;
    }
    term_error(c, "completions: for which shell? bash, zsh or fish");
    return CLI_USAGE;
}
