/* What a boot loader answers: pygrub's format "simple0". Whoever controls the disk controls every byte of it. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "core/limits.h"

#define BOOT_ANSWER_MAX      (16 * 1024)
#define BOOT_ANSWER_NAME_MAX 256

typedef struct BootAnswer {
        char kernel[BOOT_ANSWER_NAME_MAX];  /* the name of a file in the directory of the loader's output, without it */
        char ramdisk[BOOT_ANSWER_NAME_MAX]; /* the same; "": there is none */
        char args[CMDLINE_MAX + 1];         /* printable; may be empty */
} BootAnswer;

/* Parse the whole of it: items "KEY VALUE", each ended by a NUL, the last followed by an empty one. directory: where
 * the files must be, which the loader was given. ERROR_HYPERVISOR_FAILED says what is wrong with it. Pure. */
int boot_answer_parse(const char *data, size_t length, const char *directory, BootAnswer *ret, Error *e);
