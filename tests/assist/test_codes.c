/* The ICD-10-CM lookup over a table of a few codes: names fold as the tool's do, damage is named, nothing outside the table comes
 * out. The real table is held to DDXPlus and to usual names by check_codes.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assist/codes.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { MAX_TABLE = 4096 };

/* The corpus of the fuzz target is a whole table, made of tests/assist/icd10; check_codes.py makes it again and compares. */
static size_t read_table(uint8_t *out) {
    FILE *f = fopen("tests/fuzz/corpus/codes/table", "rb");
    if (!f) fail_msg("run from the source tree's root");
    const size_t n = fread(out, 1, MAX_TABLE, f);
    (void)fclose(f);
    assert_true(n > 64 && n < MAX_TABLE);
    return n;
}

static void names_fold(void **state) {
    (void)state;
    static const struct {
        const char *name, *words, *why;
    } cases[] = {
        {"Anaemia, unspecified", "anemia", "British, and a word without meaning"},
        {"Oedema of the legs", "edema leg", "plural"},
        {"Crohn's disease", "crohn disease", "possessive"},
        {"CROHNS DISEASE", "crohn disease", "without the apostrophe"},
        {"Guillain-Barr\xC3\xA9 syndrome", "guillain barre syndrome", "an accent"},
        {"Gastro-oesophageal reflux", "gastroesophageal reflux", "a prefix joined, British"},
        {"hepatitis A", "hepatitis a", "a letter that is no article"},
        {"type 2 diabetes", "type 2 diabete", "a number"},
        {"Arthritis", "arthritis", "no plural"},
        {"possible tumour", "tumor", "doubt left out"},
        {"asthma asthma", "asthma", "once"},
        {"\xFF\xFE", "", "no text"},
        {"", "", "nothing"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        codes_words w;
        char joined[512] = "";
        codes_fold(cases[i].name, strlen(cases[i].name), &w);
        codes_once(&w);
        for (int k = 0; k < w.n; k++) {
            if (k) strncat(joined, " ", sizeof joined - strlen(joined) - 1);
            strncat(joined, w.text[k], sizeof joined - strlen(joined) - 1);
        }
        if (strcmp(joined, cases[i].words) != 0)
            fail_msg("%s: '%s', not '%s' (%s)", cases[i].name, joined, cases[i].words, cases[i].why);
    }
}

static void names_find_their_code(void **state) {
    (void)state;
    static const struct {
        const char *name, *code, *why;
    } cases[] = {
        {"asthma", "J45.909", "a category gives its bare code"},
        {"Astma", "J45.909", "a wrong letter"},
        {"acute bronchitis", "J20.9", "two words"},
        {"Bronchitis (acute)", "J20.9", "in another order"},
        {"possible asthma / wheeze", "J45.909", "a part of the name"},
        {"Bronchial asthma", "J45.909", "what the table says NOS of"},
        {"reactive airways disease", "J45.909", "a synonym, and a word that says nothing"},
        {"severe asthma", "J45.909", "a qualifier that the table has not"},
        {"chronic bronchitis", "", "another course"},
        {"chest cold, acute", "J20.9", "a phrase that is read as another"},
        {"asthma with fever", "J45.909", "what stands before with"},
        {"knee ache", "M25.569", "no side said"},
        {"pain in the left knee", "M25.562", "a side said"},
        {"right knee pain", "M25.569", "a side that the table has not"},
        {"congenital asthma", "", "whence it is, and no name says so"},
        {"acute", "", "a word that names nothing"},
        {"severe left", "", "words that name nothing"},
        {"fracture", "", "not in the table"},
        {"asthma then seventeen other unknown words behind it", "", "too much that is not there"},
    };
    uint8_t bytes[MAX_TABLE];
    galen_codes *c = NULL;
    const size_t n = read_table(bytes);
    assert_int_equal(codes_from_bytes(&c, bytes, n, "table", NULL), GALEN_OK);
    assert_string_equal(galen_codes_release(c), "ICD-10-CM 2026");
    assert_int_equal(galen_codes_year(c), 2026);
    for (size_t i = 0; i < COUNT(cases); i++) {
        galen_code k;
        assert_int_equal(galen_codes_find(c, cases[i].name, strlen(cases[i].name), &k, NULL), GALEN_OK);
        if (strcmp(k.code, cases[i].code) != 0)
            fail_msg("%s: '%s', not '%s' (%s)", cases[i].name, k.code, cases[i].code, cases[i].why);
        assert_int_equal(k.title != NULL, k.code[0] != 0);
    }
    galen_code k;
    assert_int_equal(galen_codes_find(c, "12 34", 5, &k, NULL), GALEN_E_REFUSED);
    assert_int_equal(galen_codes_find(c, "", 0, &k, NULL), GALEN_E_REFUSED);
    galen_codes_close(c);
}

static void codes_are_of_the_patient(void **state) {
    (void)state;
    static const struct {
        galen_triage_facts who;
        const char *name, *code, *why;
    } cases[] = {
        {{.age_years = -1}, "Sepsis", "A41.9", "nothing known"},
        {{.age_years = 40}, "Sepsis", "A41.9", "an adult"},
        {{.age_years = 0.01}, "Sepsis", "P36.9", "four days old"},
        {{.age_years = 0.2}, "Sepsis", "A41.9", "ten weeks old"},

        {{.age_years = 0.01}, "Asthma", "J45.909", "the chapter has none for it"},
        {{.age_years = 30, .pregnancy = GALEN_PREGNANCY_YES}, "sepsis", "O75.3", "pregnant"},
        {{.age_years = 30, .pregnancy = GALEN_PREGNANCY_NO}, "sepsis", "A41.9", "not pregnant"},
        {{.age_years = 30, .pregnancy = GALEN_PREGNANCY_POSTPARTUM}, "sepsis", "O85", "after a birth"},
        {{.age_years = 30, .pregnancy = GALEN_PREGNANCY_YES}, "Severe asthma", "J45.909", "the chapter has none for it"},
    };
    uint8_t bytes[MAX_TABLE];
    galen_codes *c = NULL;
    assert_int_equal(codes_from_bytes(&c, bytes, read_table(bytes), "table", NULL), GALEN_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        galen_code k;
        assert_int_equal(codes_find_of(c, cases[i].name, strlen(cases[i].name), &cases[i].who, &k, NULL), GALEN_OK);
        if (strcmp(k.code, cases[i].code) != 0)
            fail_msg("%s: '%s', not '%s' (%s)", cases[i].name, k.code, cases[i].code, cases[i].why);
    }
    galen_code k;
    assert_int_equal(codes_find_of(c, "12", 2, &cases[2].who, &k, NULL), GALEN_E_REFUSED);
    galen_codes_close(c);
}

/* Cut anywhere: refused. Any byte flipped: refused, or it answers from inside its bytes (ASan). */
static void damage_is_survived(void **state) {
    (void)state;
    uint8_t bytes[MAX_TABLE];
    const size_t n = read_table(bytes);
    for (size_t m = 0; m < n; m++) {
        galen_codes *c = NULL;
        galen_error err = {0};
        uint8_t *cut = malloc(m + 1);
        assert_non_null(cut);
        memcpy(cut, bytes, m);
        assert_int_equal(codes_from_bytes(&c, cut, m, "table", &err), GALEN_E_FORMAT);
        assert_null(c);
        assert_non_null(strstr(err.msg, "table"));
        free(cut);
    }
    for (size_t i = 0; i < n; i++) {
        galen_codes *c = NULL;
        galen_code k;
        uint8_t *whole = malloc(n);
        assert_non_null(whole);
        memcpy(whole, bytes, n);
        whole[i] ^= 0xFF;
        const galen_status st = codes_from_bytes(&c, whole, n, "table", NULL);
        assert_true(st == GALEN_OK || st == GALEN_E_FORMAT);
        if (!st) assert_int_equal(galen_codes_find(c, "acute bronchitis and asthma", 27, &k, NULL), GALEN_OK);
        galen_codes_close(c);
        free(whole);
    }
}

static void a_missing_table_is_named(void **state) {
    (void)state;
    galen_codes *c = NULL;
    galen_error err = {0};
    assert_int_equal(galen_codes_open(&c, "/nowhere/icd10cm.bin", &err), GALEN_E_NOT_FOUND);
    assert_null(c);
    assert_int_equal(setenv("GALEN_SHARE", "/nowhere", 1), 0);
    assert_int_equal(setenv("XDG_DATA_HOME", "/nowhere", 1), 0);
    const galen_status st = galen_codes_open(&c, NULL, &err);
    if (st) {
        assert_int_equal(st, GALEN_E_NOT_FOUND);
        assert_non_null(strstr(err.msg, "make icd10"));
    }
    galen_codes_close(c);
    galen_codes_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_fold),
        cmocka_unit_test(names_find_their_code),
        cmocka_unit_test(codes_are_of_the_patient),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(a_missing_table_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
