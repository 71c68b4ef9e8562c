/* GBNF: any bytes. Malformed ones are an error; a grammar that opens is followed for a while: whatever is drawn from its mask is
 * admitted, what its masks leave out is not, and no step fails but by a stated limit. */
#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_grammar(GBNF, data, n);
    return 0;
}
