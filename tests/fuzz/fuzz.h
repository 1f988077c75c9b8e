/* What the fuzz targets share. A target checks promises, not only that nothing crashes: CHECK() ends it when one is
 * broken, with assertions on or off. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        abort();                                                                                       \
        } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as a text, in memory of its own so that reading past its end is seen. The caller frees. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
        char *text = malloc(size + 1);

        CHECK(text);
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        return text;
}
