#include "base/random.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/types.h>

int random_bytes(void *data, size_t length) {
        char *p = data;

        while (length > 0) {
                ssize_t n = getrandom(p, length, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                length -= (size_t)n;
        }
        return 0;
}
