/* A diagnosis as turns of a case: one order for what is kept and for what a replay makes again. */
#ifndef GALEN_CLI_TURNS_H
#define GALEN_CLI_TURNS_H

#include "cli/replay.h"
#include "galen/assist.h"

typedef struct turns {
    turn_fn put;
    void *user;
    const char *model_name, *model_sha256, *device; /* NULL = null */
    uint64_t seed;
} turns;

void turns_symptoms(const turns *t, const char *text, size_t n);
void turns_differential(const turns *t, const galen_differential *d);
void turns_questions(const turns *t, const galen_questions *q);

#endif
