#include "assist/latin.h"

/* Base letters of U+00C0..U+00FF and U+0100..U+017F (Unicode 15, canonical decompositions; for letters without one, the letter
 * that they are written with); '*' is no letter. */
static const char latin_1[] = "aaaaaaaceeeeiiiidnooooo*ouuuuytsaaaaaaaceeeeiiiidnooooo*ouuuuyty";
static const char latin_a[] =
    "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkkllllllllllnnnnnnnnnoooooooorrrrrrsssssssstttttt"
    "uuuuuuuuuuuuwwyyyzzzzzzs";
_Static_assert(sizeof latin_1 == 65, "U+00C0 to U+00FF");
_Static_assert(sizeof latin_a == 129, "U+0100 to U+017F");

char latin_base(uint32_t cp) {
    if (cp < 0xC0 || cp >= 0x180) return 0;
    const char c = cp < 0x100 ? latin_1[cp - 0xC0] : latin_a[cp - 0x100];
    return c == '*' ? 0 : c;
}
