/* DES, for the one thing that still needs it: VNC's password. Not a secret-keeper. */
#pragma once

#include <stdint.h>

/* One block. */
void des_encrypt(const uint8_t key[8], const uint8_t in[8], uint8_t out[8]);
