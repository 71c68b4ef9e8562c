/* Letters without their accents. */
#ifndef GALEN_ASSIST_LATIN_H
#define GALEN_ASSIST_LATIN_H

#include <stdint.h>

/** The lower-case ASCII letter under a Latin letter (U+00C0 to U+017F) with marks; 0 for anything else. */
char latin_base(uint32_t cp);

#endif
