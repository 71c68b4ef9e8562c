/* Red flags of any bytes: quotes lie in the text, the level is that of the flags, a second run says the same. */
#include <stdlib.h>
#include <string.h>

#include "assist/triage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool ok) {
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static galen_triage a, b;
    const char *s = (const char *)data;
    const galen_status st = galen_triage_text(s, n, &a, NULL);
    require(st == GALEN_OK || st == GALEN_E_REFUSED);
    require(galen_triage_text(s, n, &b, NULL) == st && a.level == b.level && a.n_flags == b.n_flags && a.n_asks == b.n_asks);
    require((unsigned)a.level <= GALEN_TRIAGE_EMERGENCY_AMBULANCE);
    for (int32_t i = 0; i < a.n_flags; i++) {
        const galen_triage_flag *f = &a.flags[i];
        require(f->from <= f->to && f->to <= n && f->level <= a.level && f->id == b.flags[i].id && f->message && f->source);
    }
    for (int32_t i = 0; i < a.facts.n_vitals; i++)
        require(a.facts.vitals[i].from < a.facts.vitals[i].to && a.facts.vitals[i].to <= n);
    for (int32_t i = 0; i < a.n_warnings; i++) require(a.warnings[i].from <= a.warnings[i].to && a.warnings[i].to <= n);
    return 0;
}
