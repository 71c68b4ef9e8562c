/* The rules' files of any bytes: parsed or refused with the line named; what parses reads a text. */
#include <stdlib.h>
#include <string.h>

#include "assist/triage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] =
        "62-year-old man, belly hurts, fever for 6 days, no cough. BP 80/40, temp 39.5 C. My father had a stroke.";
    static galen_triage t;
    const triage_file f = {"fuzz", (const char *)data, n};
    triage_rules *r = NULL;
    galen_error err = {0};
    const galen_status st = triage_rules_parse(&r, &f, 1, &err);
    if (st) {
        if (r || (st != GALEN_E_FORMAT && st != GALEN_E_NOMEM) || !err.msg[0]) abort();
        return 0;
    }
    triage_scan(r, text, sizeof text - 1, &t);
    triage_scan(r, (const char *)data, n, &t);
    triage_rules_free(r);
    return 0;
}
