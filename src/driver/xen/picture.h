/* Pictures of the screen of a device model, which Debian builds without libpng, as PNG, in which they are given to
 * whoever asks. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#define PICTURE_MAX      (16u << 20) /* bytes; more than a screen of 8 MiB of memory can have */
#define PICTURE_SIDE_MAX 16384u      /* points */

/* points: three bytes to each, red first, row by row. *ret_fd: a memfd with the PNG, not compressed. */
int picture_encode(const uint8_t *points, uint32_t width, uint32_t height, int *ret_fd, Error *e);

/* ppm_fd: a file with a picture as PPM (P6, 255), written by a device model: hostile. *ret_fd as above.
 */
int picture_convert(int ppm_fd, int *ret_fd, Error *e);
