/* Matching: the places in a program where a text may stand, each with its stack of calls.
 *
 * A node is a state, a count (of a repetition) and the node below: a whole stack in one number, each kept once. A place is the
 * set of all nodes that fit what was written so far: the automaton made deterministic as far as it is used. */
#ifndef GALEN_GRAMMAR_MACHINE_H
#define GALEN_GRAMMAR_MACHINE_H

#include "grammar/program.h"

typedef struct stack_node {
    uint32_t pc, count, below; /* below 0: the bottom */
    uint32_t depth;
    uint32_t seen, pushed; /* the last closure that met it, that called from it */
} stack_node;

typedef struct text_place {
    uint32_t first, n; /* nodes that read bytes, in `sets`, ascending */
    bool may_end;      /* the bottom was reached: all was read that had to be */
} text_place;

enum { PLACE_DEAD = 0, PLACE_UNKNOWN = -1 };

typedef struct machine {
    const program *p;
    stack_node *nodes;
    text_place *places; /* 0 is dead */
    uint32_t *sets;
    uint32_t *rows;                     /* [n_places][n_classes] where a byte leads; UINT32_MAX = not known yet */
    uint32_t *node_slots, *place_slots; /* hashes, id + 1, power of two */
    uint32_t *work, *found;             /* of the closure that is being computed */
    uint32_t n_nodes, n_places, n_sets, n_node_slots, n_place_slots, n_work, n_found;
    uint32_t cap_nodes, cap_places, cap_sets, cap_work, cap_found;
    uint32_t closure, n_seen; /* counts closures, and the nodes of the last */
} machine;

galen_status machine_open(machine *m, const program *p, galen_error *err);
void machine_close(machine *m); /* an all-zero one too */

/** The place of one state over the bottom: only its own bytes when is_alone, else all it leads to. */
galen_status machine_start(machine *m, uint32_t pc, bool is_alone, uint32_t *place, galen_error *err);
/** The place behind a byte. */
galen_status machine_step_slow(machine *m, uint32_t from, uint8_t byte, uint32_t *to, galen_error *err);
static inline galen_status machine_step(machine *m, uint32_t from, uint8_t byte, uint32_t *to, galen_error *err) {
    const uint32_t known = m->rows[(size_t)from * m->p->n_classes + m->p->byte_class[byte]];
    if (__builtin_expect(known != UINT32_MAX, 1)) {
        *to = known;
        return GALEN_OK;
    }
    return machine_step_slow(m, from, byte, to, err);
}
/** The place after what the node `id` called has ended. With is_leaving, id counts and counts no further. */
galen_status machine_return(machine *m, uint32_t id, bool is_leaving, uint32_t *place, galen_error *err);

/** *place of `from` in a fresh `to`, with nothing else. */
galen_status machine_copy(machine *to, const machine *from, uint32_t *place, galen_error *err);

#endif
