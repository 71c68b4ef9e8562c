/* Malformed models: the G rows of the reliability checklist that the parser decides, each with what its error must name.
 * G9, G17 and G23 (keys and numbers of an architecture) belong to the model loader; G19, G21 and G22 that need files on
 * disk are in test_gguf_file.c, G20 (every truncation, every bit) is in test_gguf_mutate.c.
 * G25 marks the rows that cover a kind of llama.cpp's tests/test-gguf.cpp HANDCRAFTED_* table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
/* after the four that it needs */
#include <cmocka.h>

#include "gguf_bytes.h"

#include "../support/asan.h"

#define MAX_U64 UINT64_MAX
enum { F = GALEN_E_FORMAT, U = GALEN_E_UNSUPPORTED };

/* One change of the base file: size bytes at field + plus become value. size 0 ends the list. */
typedef struct patch {
    enum field field;
    int size;
    uint64_t value;
    size_t plus;
} patch;

typedef struct row {
    const char *id, *what;
    base_opts base;
    patch patches[4];
    bool is_cut; /* keep bytes of the file remain */
    size_t keep; /* with is_cut */
    int tail;    /* bytes appended to (or, when negative, cut from) the end of the padded file */
    galen_status st;
    enum field where; /* err.offset must be this field's */
    size_t plus;      /* plus this */
    const char *says[3];
} row;

/* clang-format off */
static const row rows[] = {
    /* The base file and its legal variations: without these, rejecting everything would pass. */
    {"ok", "the base file", .st = GALEN_OK},
    {"ok", "version 2", .base = {.version = 2}},
    {"ok G25", "TENSORS_CUSTOM_ALIGN 8", .base = {.align = 8}},
    {"ok G25", "DATA_CUSTOM_ALIGN 64", .base = {.align = 64}},
    {"ok", "alignment 4096", .base = {.align = 4096}},
    {"ok", "key of 65,535 bytes", .base = {.key_bytes = 65535}},
    {"ok", "tensor name of 63 bytes", .base = {.name_bytes = 63}},
    {"ok", "no padding after the last tensor", .tail = -24},
    {"ok", "a string value may hold any bytes", .patches = {{AT_S_VALUE, 5, 0xFF00FE80C0, 8}}},
    {"ok G25 G3 G4", "HEADER_EMPTY: n_kv 0, n_tensors 0", .patches = {{AT_N_TENSORS, 8, 0, 0}, {AT_N_KV, 8, 0, 0}}, .is_cut = true, .keep = 24},

    {"G1", "empty", .is_cut = true, .keep = 0, .st = F, .where = AT_MAGIC, .says = {"magic", "empty", "24"}},
    {"G1", "1 byte", .is_cut = true, .keep = 1, .st = F, .where = AT_MAGIC, .says = {"magic", "4 bytes", "after 1"}},
    {"G1", "4 bytes, GGUF", .is_cut = true, .keep = 4, .st = F, .where = AT_VERSION, .says = {"version", "4 bytes", "after 0"}},
    {"G1", "header cut in n_tensors", .is_cut = true, .keep = 15, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors", "8 bytes", "after 7"}},
    {"G1", "header cut in n_kv", .is_cut = true, .keep = 23, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 3", "the 7 bytes that follow", "at most 0"}},
    {"G2 G25", "HEADER_BAD_MAGIC", .patches = {{AT_MAGIC, 4, 0x4C4D4747, 0}}, .st = F, .where = AT_MAGIC, .says = {"magic", "47 47 4d 4c", "47 47 55 46"}},
    {"G2", "magic of 1 wrong byte", .patches = {{AT_MAGIC, 1, 0, 0}}, .is_cut = true, .keep = 1, .st = F, .where = AT_MAGIC, .says = {"magic: 00,"}},
    {"G2 G25", "HEADER_BAD_VERSION_0", .patches = {{AT_VERSION, 4, 0, 0}}, .st = U, .where = AT_VERSION, .says = {"version: 0,", "2 or 3"}},
    {"G2 G25", "HEADER_BAD_VERSION_1", .patches = {{AT_VERSION, 4, 1, 0}}, .st = U, .where = AT_VERSION, .says = {"version: 1,", "2 or 3"}},
    {"G2 G25", "HEADER_BAD_VERSION_FUTURE", .patches = {{AT_VERSION, 4, 4, 0}}, .st = U, .where = AT_VERSION, .says = {"version: 4,", "2 or 3"}},
    {"G2", "version 2^31", .patches = {{AT_VERSION, 4, 1u << 31, 0}}, .st = U, .where = AT_VERSION, .says = {"0x80000000", "2 or 3"}},
    {"G2", "big-endian", .patches = {{AT_VERSION, 4, 3u << 24, 0}}, .st = U, .where = AT_VERSION, .says = {"0x03000000", "big-endian"}},

    {"G3", "n_kv 0: metadata read as tensors", .patches = {{AT_N_KV, 8, 0, 0}}, .st = F, .where = AT_ALIGN_KEY, .plus = 37, .says = {"general.alignment: dimension 1 is 9290014261248", "1 to"}},
    {"G3", "n_kv 1: the next key read as a tensor", .patches = {{AT_N_KV, 8, 1, 0}}, .st = F, .where = AT_S_TYPE, .says = {"s: n_dims 8", "1 to 4"}},
    {"G3 G25", "HEADER_BAD_N_KV: one more than there are", .patches = {{AT_N_KV, 8, 7, 0}}, .st = F, .where = AT_W0_NE0, .plus = 2, .says = {"tensor 0", "name length: 562949953421312", "the file ends after"}},
    {"G3", "n_kv 2^31", .patches = {{AT_N_KV, 8, 1ull << 31, 0}}, .st = F, .where = AT_N_KV, .says = {"n_kv: 2147483648", "at most"}},
    {"G3", "n_kv 2^32", .patches = {{AT_N_KV, 8, 1ull << 32, 0}}, .st = F, .where = AT_N_KV, .says = {"n_kv: 4294967296", "at most"}},
    {"G3", "n_kv 2^63", .patches = {{AT_N_KV, 8, 1ull << 63, 0}}, .st = F, .where = AT_N_KV, .says = {"n_kv: 9223372036854775808", "at most"}},
    {"G3", "n_kv 2^64-1", .patches = {{AT_N_KV, 8, MAX_U64, 0}}, .st = F, .where = AT_N_KV, .says = {"n_kv: 18446744073709551615", "at most"}},
    {"G4", "n_tensors 0: data without records", .patches = {{AT_N_TENSORS, 8, 0, 0}}, .st = F, .where = AT_W0_NAME, .plus = 4, .says = {"trailing"}},
    {"G4", "n_tensors 1: records as padding", .patches = {{AT_N_TENSORS, 8, 1, 0}}, .st = F, .where = AT_W1_NAME, .plus = 90, .says = {"trailing"}},
    {"G4 G25", "HEADER_BAD_N_TENSORS: one more than there are", .patches = {{AT_N_TENSORS, 8, 4, 0}}, .st = F, .where = AT_RECORDS_END, .says = {"tensor 3", "name length: 0", "1 to 63"}},
    {"G4", "n_tensors 2^31", .patches = {{AT_N_TENSORS, 8, 1ull << 31, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 2147483648", "at most"}},
    {"G4", "n_tensors 2^32", .patches = {{AT_N_TENSORS, 8, 1ull << 32, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 4294967296", "at most"}},
    {"G4", "n_tensors 2^63", .patches = {{AT_N_TENSORS, 8, 1ull << 63, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 9223372036854775808", "at most"}},
    {"G4", "n_tensors 2^64-1", .patches = {{AT_N_TENSORS, 8, MAX_U64, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 18446744073709551615", "at most"}},
    {"G4", "n_tensors that the file, but not what the metadata leaves, could hold", .patches = {{AT_N_TENSORS, 8, 14, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 14", "after the metadata", "at most 13"}},

    {"G5", "key length 0", .patches = {{AT_S_KEY, 8, 0, 0}}, .st = F, .where = AT_S_KEY, .says = {"key 1", "name length: 0", "1 to 65535"}},
    {"G5", "key of 65,536 bytes", .base = {.key_bytes = 65536}, .st = F, .where = AT_S_KEY, .says = {"key 1", "name length: 65536", "1 to 65535"}},
    {"G5 G25", "KV_BAD_KEY_SIZE 2^64-1", .patches = {{AT_S_KEY, 8, MAX_U64, 0}}, .st = F, .where = AT_S_KEY, .says = {"key 1", "18446744073709551615", "the file ends after"}},
    {"G5", "key with NUL", .patches = {{AT_ALIGN_NAME, 1, 0, 7}}, .st = F, .where = AT_ALIGN_NAME, .says = {"key 0", "NUL at byte 7 of 17"}},
    {"G5", "key with invalid UTF-8", .patches = {{AT_S_NAME, 1, 0xFF, 0}}, .st = F, .where = AT_S_NAME, .says = {"key 1", "not UTF-8"}},
    {"G5 G25", "KV_DUPLICATE_KEY", .patches = {{AT_S_NAME, 1, 'b', 0}}, .st = F, .where = AT_BOOL, .plus = 0 - (size_t)5, .says = {"b: key 4", "key 1"}},
    {"G6", "string length 2^31-1", .patches = {{AT_S_VALUE, 8, INT32_MAX, 0}}, .st = F, .where = AT_S_VALUE, .says = {"s: string 0", "2147483647", "the file ends after"}},
    {"G6", "string length 2^63", .patches = {{AT_S_VALUE, 8, 1ull << 63, 0}}, .st = F, .where = AT_S_VALUE, .says = {"s: string 0", "9223372036854775808", "the file ends after"}},
    {"G6", "string length 2^64-1", .patches = {{AT_S_VALUE, 8, MAX_U64, 0}}, .st = F, .where = AT_S_VALUE, .says = {"s: string 0", "18446744073709551615", "the file ends after"}},
    {"G6", "string length 2^64-8: plus its own length wraps to 0", .patches = {{AT_S_VALUE, 8, MAX_U64 - 7, 0}}, .st = F, .where = AT_S_VALUE, .says = {"18446744073709551608"}},
    {"G6", "string in an array, length 2^64-1", .patches = {{AT_STRS_1, 8, MAX_U64, 0}}, .st = F, .where = AT_STRS_1, .says = {"strs: string 1 of 2", "18446744073709551615"}},

    {"G7", "array count 2^40", .patches = {{AT_INTS_N, 8, 1ull << 40, 0}}, .st = F, .where = AT_INTS_N, .says = {"ints: 1099511627776 elements", "i32", "the file ends after"}},
    {"G7", "array count x element wraps to 4", .patches = {{AT_INTS_N, 8, (1ull << 62) + 1, 0}}, .st = F, .where = AT_INTS_N, .says = {"ints: 4611686018427387905 elements"}},
    {"G7", "array count 2^64-1", .patches = {{AT_INTS_N, 8, MAX_U64, 0}}, .st = F, .where = AT_INTS_N, .says = {"ints: 18446744073709551615 elements"}},
    {"G7", "string array count 2^61: x 8 wraps to 0", .patches = {{AT_STRS_N, 8, 1ull << 61, 0}}, .st = F, .where = AT_STRS_N, .says = {"strs: 2305843009213693952 elements", "str"}},
    {"G7", "array of arrays", .patches = {{AT_INTS_ELEM, 4, 9, 0}}, .st = F, .where = AT_INTS_ELEM, .says = {"ints: element type 9", "array of arrays"}},
    {"G7", "bool of 7", .patches = {{AT_BOOL, 1, 7, 0}}, .st = F, .where = AT_BOOL, .says = {"b: bool 0 is 7", "0 or 1"}},
    {"G7", "array of bools, one of 7", .patches = {{AT_BOOLS, 1, 7, 2}}, .st = F, .where = AT_BOOLS, .plus = 2, .says = {"bools: bool 2 is 7", "0 or 1"}},
    {"G7", "element type 13", .patches = {{AT_INTS_ELEM, 4, 13, 0}}, .st = F, .where = AT_INTS_ELEM, .says = {"ints: element type 13"}},
    {"G7", "element type 255", .patches = {{AT_INTS_ELEM, 4, 255, 0}}, .st = F, .where = AT_INTS_ELEM, .says = {"ints: element type 255"}},
    {"G7", "element type -1", .patches = {{AT_INTS_ELEM, 4, UINT32_MAX, 0}}, .st = F, .where = AT_INTS_ELEM, .says = {"ints: element type 4294967295"}},
    {"G7 G25", "KV_BAD_TYPE 13", .patches = {{AT_S_TYPE, 4, 13, 0}}, .st = F, .where = AT_S_TYPE, .says = {"s: value type 13", "0 to 12"}},
    {"G7", "value type -1", .patches = {{AT_S_TYPE, 4, UINT32_MAX, 0}}, .st = F, .where = AT_S_TYPE, .says = {"s: value type 4294967295", "0 to 12"}},

    {"G8", "n_dims 0", .patches = {{AT_W0_DIMS, 4, 0, 0}}, .st = F, .where = AT_W0_DIMS, .says = {"w0: n_dims 0", "1 to 4"}},
    {"G8 G25", "TENSORS_BAD_N_DIMS 5", .patches = {{AT_W0_DIMS, 4, 5, 0}}, .st = F, .where = AT_W0_DIMS, .says = {"w0: n_dims 5", "1 to 4"}},
    {"G8", "n_dims 2^32-1", .patches = {{AT_W0_DIMS, 4, UINT32_MAX, 0}}, .st = F, .where = AT_W0_DIMS, .says = {"w0: n_dims 4294967295", "1 to 4"}},
    {"G10", "ne 2^42+1 x 2^22: the product wraps to 4 Mi", .patches = {{AT_W0_NE0, 8, (1ull << 42) + 1, 0}, {AT_W0_NE1, 8, 1ull << 22, 0}}, .st = F, .where = AT_W0_NE0, .says = {"w0: dimension 0", "4398046511105"}},
    {"G10 G25", "TENSORS_NE_TOO_BIG: 2^40 x 2^40", .patches = {{AT_W0_NE0, 8, 1ull << 40, 0}, {AT_W0_NE1, 8, 1ull << 40, 0}}, .st = F, .where = AT_W0_DIMS, .says = {"w0: shape 1099511627776x1099511627776", "overflows"}},
    {"G10", "ne 0", .patches = {{AT_W0_NE1, 8, 0, 0}}, .st = F, .where = AT_W0_NE1, .says = {"w0: dimension 1 is 0", "1 to"}},
    {"G10 G25", "TENSORS_BAD_SHAPE: ne -1", .patches = {{AT_W0_NE0, 8, MAX_U64, 0}}, .st = F, .where = AT_W0_NE0, .says = {"w0: dimension 0 is 18446744073709551615"}},
    {"G10", "rows of 65 weights in blocks of 32", .patches = {{AT_W1_NE0, 8, 65, 0}}, .st = F, .where = AT_W1_DIMS, .says = {"w1: rows of 65 weights", "multiple of 32", "Q8_0"}},
    {"G11", "two tensors whose sizes add up to 2^64", .patches = {{AT_W0_NE0, 8, 1ull << 40, 0}, {AT_W0_NE1, 8, 1ull << 20, 0}, {AT_W2_NE0, 8, 1ull << 40, 0}}, .st = F, .where = AT_W0_OFFSET, .says = {"w0: 4611686018427387904 bytes", "the file ends at"}},
    {"G12", "n_tensors x 104 bytes wraps to 72", .patches = {{AT_N_TENSORS, 8, MAX_U64 / 104 + 1, 0}}, .st = F, .where = AT_N_TENSORS, .says = {"n_tensors: 177372539170284151", "at most"}},
    {"G12", "n_kv x 48 bytes wraps to 32", .patches = {{AT_N_KV, 8, MAX_U64 / 48 + 1, 0}}, .st = F, .where = AT_N_KV, .says = {"n_kv: 384307168202282326", "at most"}},

    {"G13 G25", "KV_BAD_ALIGN 0", .patches = {{AT_ALIGN, 4, 0, 0}}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: 0,", "power of two"}},
    {"G13", "alignment 1", .patches = {{AT_ALIGN, 4, 1, 0}}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: 1,", "from 8"}},
    {"G13", "alignment 3", .patches = {{AT_ALIGN, 4, 3, 0}}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: 3,", "power of two"}},
    {"G13 G25", "TENSORS_BAD_ALIGN 13", .patches = {{AT_ALIGN, 4, 13, 0}}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: 13,"}},
    {"G13", "alignment 2^31", .patches = {{AT_ALIGN, 4, 1u << 31, 0}}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: 2147483648", "1073741824"}},
    {"G13", "alignment 2^30, the largest: the data lies beyond the file", .patches = {{AT_ALIGN, 4, 1u << 30, 0}}, .st = F, .where = AT_W0_OFFSET, .says = {"w0: 64 bytes of data from 1073741824", "the file ends at"}},
    {"G13", "alignment 2^63", .base = {.align_type = 10, .align = 1ull << 63}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type u64", "u32"}},
    {"G13", "alignment u8", .base = {.align_type = 1}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type i8", "u32"}},
    {"G13", "alignment i32", .base = {.align_type = 5}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type i32", "u32"}},
    {"G13", "alignment f32", .base = {.align_type = 6}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type f32", "u32"}},
    {"G13", "alignment bool", .base = {.align_type = 7, .align = 1}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type bool", "u32"}},
    {"G13", "alignment str", .base = {.align_type = 8}, .st = F, .where = AT_ALIGN, .says = {"general.alignment: type str", "u32"}},
    {"G13", "alignment array", .base = {.align_type = 9}, .st = F, .where = AT_ALIGN, .plus = 12, .says = {"general.alignment: type arr", "u32"}},
    {"G13 G25", "TENSORS_INCONSISTENT_ALIGN: says 64, is 32", .base = {.align = 64, .layout = 32}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: data offset 288", "64"}},
    {"G13 G25", "DATA_INCONSISTENT_ALIGN: says 32, is 64", .base = {.align = 32, .layout = 64}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: data offset 320", "288"}},
    {"G14", "offset whose padded end is 2^64", .patches = {{AT_W0_OFFSET, 8, MAX_U64 - 3, 0}}, .st = F, .where = AT_W0_OFFSET, .says = {"w0: data offset 18446744073709551612", "multiple of the alignment 32"}},
    {"G14", "offset 2^64-32", .patches = {{AT_W0_OFFSET, 8, MAX_U64 - 31, 0}}, .st = F, .where = AT_W0_OFFSET, .says = {"w0: data offset 18446744073709551584", "expected 0"}},

    {"G15 G25", "TENSORS_BAD_OFFSET: misaligned", .patches = {{AT_W1_OFFSET, 8, 65, 0}}, .st = F, .where = AT_W1_OFFSET, .says = {"w1: data offset 65", "multiple of the alignment 32"}},
    {"G15", "overlapping", .patches = {{AT_W1_OFFSET, 8, 32, 0}}, .st = F, .where = AT_W1_OFFSET, .says = {"w1: data offset 32", "expected 64"}},
    {"G15", "decreasing", .patches = {{AT_W1_OFFSET, 8, 288, 0}, {AT_W2_OFFSET, 8, 64, 0}}, .st = F, .where = AT_W1_OFFSET, .says = {"w1: data offset 288", "expected 64"}},
    {"G15", "a gap", .patches = {{AT_W2_OFFSET, 8, 320, 0}}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: data offset 320", "expected 288"}},
    {"G15 G25", "DATA_NOT_ENOUGH_DATA: offset + size = end of file + 1", .tail = -25, .st = F, .where = AT_W2_OFFSET, .says = {"w2: 8 bytes of data", "the file ends at"}},
    {"G15", "offset 2^64-1", .patches = {{AT_W2_OFFSET, 8, MAX_U64, 0}}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: data offset 18446744073709551615", "multiple of the alignment 32"}},
    {"G16", "a type that needs more than the region: Q8_0 read as F32", .patches = {{AT_W1_TYPE, 4, 0, 0}}, .st = F, .where = AT_W1_OFFSET, .says = {"w1: 768 bytes of data", "the file ends at"}},
    {"G16", "a shape that needs more than the region", .patches = {{AT_W0_NE1, 8, 3, 0}}, .st = F, .where = AT_W1_OFFSET, .says = {"w1: data offset 64", "expected 96"}},
    {"G16", "a shape that needs less: the neighbour would move", .patches = {{AT_W1_NE1, 8, 1, 0}}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: data offset 288", "expected 160"}},
    {"G16", "the last tensor needs more than the file", .patches = {{AT_W2_NE0, 8, 17, 0}}, .st = F, .where = AT_W2_OFFSET, .says = {"w2: 34 bytes of data", "the file ends at"}},

    {"G18 G25", "TENSORS_BAD_TYPE: unknown id 255", .patches = {{AT_W1_TYPE, 4, 255, 0}}, .st = U, .where = AT_W1_TYPE, .says = {"w1: weight type 255 (unknown)", "Q8_0"}},
    {"G18", "type -1", .patches = {{AT_W1_TYPE, 4, UINT32_MAX, 0}}, .st = U, .where = AT_W1_TYPE, .says = {"w1: weight type 4294967295"}},
    {"G18", "removed type Q4_2", .patches = {{AT_W1_TYPE, 4, 4, 0}}, .st = U, .where = AT_W1_TYPE, .says = {"w1: weight type 4 (Q4_2, removed"}},
    {"G18", "a type of ggml that is no weight here", .patches = {{AT_W1_TYPE, 4, 26, 0}}, .st = U, .where = AT_W1_TYPE, .says = {"w1: weight type 26 (I32)"}},
    {"G18", "tensor name of 0 bytes", .patches = {{AT_W1_NAME, 8, 0, 0}}, .st = F, .where = AT_W1_NAME, .says = {"tensor 1", "name length: 0", "1 to 63"}},
    {"G18 G25", "TENSORS_BAD_NAME_SIZE: 64 bytes", .base = {.name_bytes = 64}, .st = F, .where = AT_W2_NAME, .says = {"tensor 2", "name length: 64", "1 to 63"}},
    {"G18", "tensor name of 65 bytes", .base = {.name_bytes = 65}, .st = F, .where = AT_W2_NAME, .says = {"tensor 2", "name length: 65", "1 to 63"}},
    {"G18", "tensor name of 10^6 bytes", .base = {.name_bytes = 1000000}, .st = F, .where = AT_W2_NAME, .says = {"tensor 2", "name length: 1000000", "1 to 63"}},
    {"G18", "tensor name with NUL", .patches = {{AT_W1_NAME, 1, 0, 9}}, .st = F, .where = AT_W1_NAME, .plus = 8, .says = {"tensor 1", "NUL at byte 1 of 2"}},
    {"G18 G25", "TENSORS_DUPLICATE_NAME", .patches = {{AT_W1_NAME, 1, '0', 9}}, .st = F, .where = AT_W1_NAME, .says = {"w0: tensor 1", "tensor 0"}},
    {"G21", "cut in the data of the second tensor", .is_cut = true, .keep = 600, .st = F, .where = AT_W1_OFFSET, .says = {"w1: 204 bytes of data", "the file ends at 600", "download is incomplete"}},
    {"G24", "one byte more than the padding", .tail = 1, .st = F, .where = AT_END, .plus = 24, .says = {"trailing", "expected at most"}},
    {"G24", "a mebibyte of trailing garbage", .tail = 1 << 20, .st = F, .where = AT_END, .plus = 24, .says = {"trailing", "expected at most"}},
};
/* clang-format on */

/* The row's file. */
static blob make(const row *r, size_t at[N_FIELDS]) {
    blob b = base_file(at, &r->base);
    for (const patch *p = r->patches; p < r->patches + 4 && p->size; p++)
        blob_poke(&b, at[p->field] + p->plus, p->value, (size_t)p->size);
    if (r->is_cut) b.n = r->keep;
    if (r->tail > 0) blob_fill(&b, 0xA5, (size_t)r->tail);
    if (r->tail < 0) b.n -= (size_t)-r->tail;
    return b;
}

static bool row_holds(const row *r) {
    size_t at[N_FIELDS];
    galen_error err = {0};
    char offset[48];
    gguf *g = NULL;
    blob b = make(r, at);
    void *bytes = blob_exact(&b, b.n);
    const double start = cpu_ms();
    const galen_status st = gguf_parse(&g, bytes, b.n, "model.gguf", &err);
    const double ms = cpu_ms() - start;
    bool is_good = st == r->st && (st == GALEN_OK) == (g != NULL) && (ms <= 100 || parse_ms(bytes, b.n) <= 100);
    if (st != GALEN_OK) {
        (void)snprintf(offset, sizeof offset, "model.gguf: offset %llu: ", (unsigned long long)err.offset);
        is_good = is_good && err.code == st && strncmp(err.msg, offset, strlen(offset)) == 0;
        is_good = is_good && err.offset == at[r->where] + r->plus;
        for (int i = 0; i < 3 && r->says[i]; i++) is_good = is_good && strstr(err.msg, r->says[i]);
    }
    if (!is_good)
        print_error("%s, %s: status %d (expected %d), offset %llu (expected %zu), %.1f ms, \"%s\"\n", r->id, r->what, st, r->st,
                    (unsigned long long)err.offset, at[r->where] + r->plus, ms, err.msg);
    gguf_close(g);
    free(bytes);
    blob_free(&b);
    return is_good;
}

static void test_rows(void **state) {
    int n_bad = 0;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) n_bad += !row_holds(&rows[i]);
    assert_int_equal(n_bad, 0);
}

/* Strings that claim more than remains, by one: the base file's own remaining length is only known when it is built. */
static void test_one_byte_too_long(void **state) {
    static const enum field lengths[] = {AT_ALIGN_KEY, AT_S_KEY, AT_S_VALUE, AT_STRS_0, AT_STRS_1, AT_W0_NAME, AT_W2_NAME};
    const base_opts base = {0};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t at[N_FIELDS];
        galen_error err = {0};
        gguf *g = NULL;
        blob b = base_file(at, &base);
        blob_poke(&b, at[lengths[i]], b.n - at[lengths[i]] - 8 + 1, 8); /* G6 bytes_remaining + 1 */
        assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_E_FORMAT);
        assert_int_equal(err.offset, at[lengths[i]]);
        blob_free(&b);
    }
}

/* A million keys in a file that really holds them: the limit, not the memory, ends it. */
static void test_too_many_records(void **state) {
    galen_error err = {0};
    gguf *g = NULL;
    blob b = {0};
    (void)state;
    blob_add(&b, "GGUF\3\0\0\0", 8);
    blob_le(&b, 0, 8);
    blob_le(&b, 1000000, 8);
    blob_fill(&b, 1, 14000000);
    assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_E_FORMAT);
    assert_int_equal(err.offset, 16);
    assert_non_null(strstr(err.msg, "n_kv: 1000000, expected at most 65536"));
    blob_free(&b);
}

/* 65,536 names, the most there can be, that share a prefix and come in falling order: sorting has no bad case. */
static void test_most_names(void **state) {
    galen_error err = {0};
    gguf *g = NULL;
    blob b = {0};
    char key[32];
    (void)state;
    blob_add(&b, "GGUF\3\0\0\0", 8);
    blob_le(&b, 0, 8);
    blob_le(&b, 65536, 8);
    for (int i = 65535; i >= 0; i--) {
        (void)snprintf(key, sizeof key, "aaaaaaaaaaaaaaaa%05d", i);
        blob_str(&b, key);
        blob_le(&b, GGUF_U8, 4);
        blob_le(&b, (uint64_t)i & 255, 1);
    }
    blob_pad(&b, 32);
    const double start = cpu_ms();
    assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_OK);
    assert_true(cpu_ms() - start < 2000); /* 20 ms when measured; a quadratic one takes 100 s */
    assert_int_equal(gguf_kv_int(gguf_find(g, "aaaaaaaaaaaaaaaa04660"), 0), 4660 & 255);
    gguf_close(g);
    blob_free(&b);
}

/* A hostile name goes into the message cut and without control characters (terminal escapes). */
static void test_hostile_name(void **state) {
    const base_opts base = {.key_bytes = 300};
    size_t at[N_FIELDS];
    galen_error err = {0};
    gguf *g = NULL;
    blob b = base_file(at, &base);
    (void)state;
    blob_poke(&b, at[AT_S_NAME], 0x6D31335B1B, 5); /* ESC [ 3 1 m */
    blob_poke(&b, at[AT_S_TYPE], 99, 4);
    assert_int_equal(gguf_parse(&g, b.p, b.n, "x", &err), GALEN_E_FORMAT);
    assert_non_null(strstr(err.msg, "?[31msss"));
    assert_non_null(strstr(err.msg, "sss...: value type 99"));
    assert_null(strchr(err.msg, 0x1B));
    assert_true(strlen(err.msg) < 200);
    blob_free(&b);
}

static void test_memory(void **state) {
    struct rusage u;
    (void)state;
#if !HAS_ASAN
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    assert_true(u.ru_maxrss < 64 * 1024); /* KiB: the largest input here has 14 MB, in a buffer of 28 */
#else
    (void)u;
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_one_byte_too_long), cmocka_unit_test(test_too_many_records),
        cmocka_unit_test(test_most_names), cmocka_unit_test(test_hostile_name),      cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
