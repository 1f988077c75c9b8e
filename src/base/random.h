#pragma once

#include <stddef.h>

/* Fill with bytes of the kernel's generator; -errno when there is none. */
int random_bytes(void *data, size_t length);
