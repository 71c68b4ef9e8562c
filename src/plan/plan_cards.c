/* Cards to plan for without having them. Memory, its bandwidth and the bus as their maker states them (NVIDIA's data sheets); of
 * the bus 0.8 is reckoned with. Laptop cards vary with their maker's settings. */
#include <string.h>

#include "plan/plan.h"

#define GIB(n)  ((uint64_t)(n) << 30)
#define BUS4_X8 12.6e9
#define BUS4    25.2e9
#define BUS5    50.4e9

static const plan_card cards[] = {
    {"rtx3050-laptop", "GeForce RTX 3050 Laptop", 86, GIB(4), 192e9, BUS4_X8},
    {"rtx3060", "GeForce RTX 3060", 86, GIB(12), 360e9, BUS4},
    {"rtx3090", "GeForce RTX 3090", 86, GIB(24), 936e9, BUS4},
    {"rtx4050-laptop", "GeForce RTX 4050 Laptop", 89, GIB(6), 192e9, BUS4_X8},
    {"rtx4060", "GeForce RTX 4060", 89, GIB(8), 272e9, BUS4_X8},
    {"rtx4070", "GeForce RTX 4070", 89, GIB(12), 504e9, BUS4},
    {"rtx4090", "GeForce RTX 4090", 89, GIB(24), 1008e9, BUS4},
    {"rtx5090", "GeForce RTX 5090", 120, GIB(32), 1792e9, BUS5},
    {"t4", "Tesla T4", 75, GIB(16), 300e9, 12.6e9},
    {"l4", "L4", 89, GIB(24), 300e9, BUS4},
    {"a10", "A10", 86, GIB(24), 600e9, BUS4},
    {"a100", "A100 80GB", 80, GIB(80), 2039e9, BUS4},
    {"h100", "H100 80GB HBM3", 90, GIB(80), 3350e9, BUS5},
    {"h200", "H200", 90, GIB(141), 4800e9, BUS5},
};

const plan_card *plan_card_at(size_t index) {
    return index < sizeof cards / sizeof *cards ? &cards[index] : NULL;
}

const plan_card *plan_card_find(const char *name) {
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        if (strcmp(cards[i].name, name) == 0) return &cards[i];
    return NULL;
}
