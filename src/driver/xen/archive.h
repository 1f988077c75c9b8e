/* What a Linux kernel unpacks into its first root: an archive ("newc" of cpio), not compressed. Others may follow it in
 * the same initrd, compressed or not: they are unpacked one over the other. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Write to the file `to`, where it is. A file there has the name, may be read by everybody and written by nobody. size
 * is what of `from` is taken, from its beginning; -EIO: it has less. */
int archive_add(int to, const char *name, int from, uint64_t size);
int archive_add_text(int to, const char *name, const char *text); /* without its NUL */
/* After the last one. */
int archive_end(int to);

/* The bytes of a file, as they are: another archive, behind the end of this one. */
int archive_append(int to, int from, uint64_t size);
