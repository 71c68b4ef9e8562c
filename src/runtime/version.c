/* What this build is. The Makefile passes the numbers. */
#include "galen/galen.h"

#ifndef GALEN_VERSION
#define GALEN_VERSION "0.1.0"
#endif
#ifndef GALEN_COMMIT
#define GALEN_COMMIT "unknown"
#endif
#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const char *galen_version(void) {
    return GALEN_VERSION " (commit " GALEN_COMMIT ", " COMPILER ")";
}
