/* JSON Schema: any bytes, as for GBNF; and what a schema lets be written whole is JSON. */
#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_grammar(SCHEMA, data, n);
    return 0;
}
