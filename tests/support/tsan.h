#ifndef PIER_TESTS_SUPPORT_TSAN_H
#define PIER_TESTS_SUPPORT_TSAN_H
/* SUPPORT_TSAN is defined under ThreadSanitizer, gcc's and clang's. */
#if defined(__SANITIZE_THREAD__)
#define SUPPORT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SUPPORT_TSAN 1
#endif
#endif

#endif
