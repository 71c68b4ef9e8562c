/* Under AddressSanitizer its shadow and quarantine would be counted as memory, and its checks as time. */
#ifndef GALEN_TESTS_ASAN_H
#define GALEN_TESTS_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifndef HAS_ASAN
#define HAS_ASAN 0
#endif

#endif
