/* Which instruction sets this processor has. */
#include "backend/cpu/ops.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static bool has_generic(void) {
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C)) return false;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* these also ask the operating system */
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
static bool has_neon(void) {
    const unsigned long need = 1ul << 10 /* ASIMDHP: half precision */ | 1ul << 20 /* ASIMDDP: dot product */;
    return (getauxval(AT_HWCAP) & need) == need;
}
#endif

static const struct {
    const cpu_ops *ops;
    bool (*is_here)(void);
} sets[] = {
#if defined(__x86_64__)
    {&cpu_ops_avx512, has_avx512},
    {&cpu_ops_avx2, has_avx2},
#elif defined(__aarch64__)
    {&cpu_ops_neon, has_neon},
#endif
    {&cpu_ops_generic, has_generic},
};

const cpu_ops *cpu_ops_get(const char *isa) {
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].ops->isa, isa) == 0) return sets[i].is_here() ? sets[i].ops : NULL;
    return NULL;
}

const char *const *cpu_isa_names(void) {
    static const char *const names[] = {"avx512", "avx2", "neon", "generic", NULL};
    return names;
}
