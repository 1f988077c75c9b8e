/* Attributes and one-line macros that every file may use. None hides a local or a return. */
#pragma once

#include <stddef.h>

#define AUTO(drop)               __attribute__((cleanup(drop)))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#define UNUSED                   __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof *(a))

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Evaluates to the pointer's value and leaves NULL behind: ownership moves to the reader. */
#define TAKE(pointer)                                                                                                  \
        __extension__({                                                                                                \
                __typeof__(pointer) *taken_from = &(pointer);                                                          \
                __typeof__(pointer) taken_value = *taken_from;                                                         \
                *taken_from = NULL;                                                                                    \
                taken_value;                                                                                           \
        })
