/* What a file holds at one moment, given through a socket as its reader takes it: nothing is copied but what lies in
 * the socket, and a file of any size holds nobody up. It ends with end-of-file; the copy goes on until the reader has
 * closed its end, so that whoever holds one can be charged for it. Should the file's front be cut off meanwhile, as a
 * full log's is, its reader is told how much of it is lost. */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/* A file, shared by who writes it and those who read it. */
typedef struct SharedFile {
        unsigned n_refs;
        int fd;
        uint64_t cut_off; /* bytes that were in front of what it holds now */
} SharedFile;

/* Takes fd, also on failure. */
int shared_file_new(int fd, SharedFile **ret);
SharedFile *shared_file_ref(SharedFile *f);
void shared_file_unref(SharedFile *f); /* NULL allowed */

typedef struct FileCopy FileCopy;

/* ret_fd: the reader's end. */
int file_copy_new(sd_event *event, SharedFile *file, FileCopy **ret, int *ret_fd, Error *e);
/* NULL allowed; returns NULL. The reader gets end-of-file, wherever it is. */
FileCopy *file_copy_free(FileCopy *c);

/* Have ended() called, from the loop and once, when the reader has closed its end. It may free the copy. */
void file_copy_on_end(FileCopy *c, void (*ended)(void *userdata), void *userdata);
