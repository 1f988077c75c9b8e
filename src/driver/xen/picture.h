/* Pictures of a device model's, which Debian builds without libpng, as PNG, in which they are given to whoever asks. */
#pragma once

#include "base/error.h"

#define PICTURE_MAX (16u << 20) /* bytes; more than a screen of 8 MiB of memory can have */

/* ppm_fd: a file with a picture as PPM (P6, 255), written by a device model: hostile. *ret_fd: a memfd with the PNG,
 * not compressed. */
int picture_convert(int ppm_fd, int *ret_fd, Error *e);
