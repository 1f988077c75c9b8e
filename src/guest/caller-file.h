/* One file that a caller named, opened by a process that has become the caller. Blocking: for workers only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* What is asked for, for opening and for messages. */
typedef struct FileRequest {
        const char *what; /* "disk", "backing file", "kernel" */
        const char *path;
        bool writable;
        uid_t uid;    /* who this process has become */
        bool for_all; /* it goes to a daemon that serves others too, so nobody's server may hold up its use */
} FileRequest;

typedef struct CallerFile {
        int fd; /* blocking, at offset 0 */
        bool block_device;
        uint64_t size;
        dev_t dev; /* with ino and block_device: which file it is */
        ino_t ino;
} CallerFile;

/* ERROR_ACCESS_DENIED: uid may not; ERROR_INVALID_INPUT: there is nothing usable at that path. */
int caller_file_open(const FileRequest *w, CallerFile *ret, Error *e);
bool caller_file_same(const CallerFile *a, const CallerFile *b);

/* Set 'WHAT "PATH": TEXT'. */
int file_refuse(const FileRequest *w, ErrorId id, const char *text, Error *e);
