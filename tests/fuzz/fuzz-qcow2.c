/* The qcow2 header parser. What it accepts must keep its promises: names that end, no protocol. */
#include <stdlib.h>
#include <string.h>

#include "guest/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Qcow2Header h;
        Error e = ERROR_INIT;

        if (qcow2_parse(data, size, &h, &e) < 0) {
                if (!error_is_set(&e))
                        abort();
                error_clear(&e);
                return 0;
        }
        if (error_is_set(&e) || (h.version != 2 && h.version != 3))
                abort();
        if (!memchr(h.backing_file, '\0', sizeof h.backing_file) ||
            !memchr(h.backing_format, '\0', sizeof h.backing_format))
                abort();
        if (h.backing_file[strcspn(h.backing_file, ":/")] == ':')
                abort();
        return 0;
}
