/* How it works
 *
 * The domain's directory, the daemon's own and 0700, holds two listening sockets (QMP and the agent's port), which QEMU
 * gets as descriptors, and three FIFOs. A FIFO keeps what was written while nobody reads: so what the guest prints
 * while the daemon is away waits there. Both sides open each FIFO for reading and writing: then neither ever sees an
 * end of file or a broken pipe because the other one has gone, and a new daemon takes over by opening them again.
 * QEMU's side is non-blocking: a full console FIFO holds back the guest's serial line, and nothing else of the guest,
 * until somebody reads.
 *
 * QEMU 7.2 opens a console of two FIFOs by path only, so the jail shows these two, and in the system scope they belong
 * to the jail's uid. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/abandon.h"
#include "driver/fifo.h"
#include "driver/qemu/qemu-internal.h"

#define CONSOLE_PIPE_SIZE (1 << 20)
#define FIRMWARE_MAX      (128u << 20)
#define FIRMWARE_BLOCK    65536u

/* ---- FIFOs ---- */

static int make_fifos(QemuGuest *q) {
        AUTO(fd_drop) int in = -1;
        AUTO(fd_drop) int out = -1;
        AUTO(fd_drop) int words = -1;
        int dir_fd = q->guest.dir_fd;
        uid_t owner = q->guest.host->privileged ? q->guest.domain->jail_uid : (uid_t)-1;

        int r = fifo_make(dir_fd, CONSOLE_IN, owner, &in);
        if (r >= 0)
                r = fifo_make(dir_fd, CONSOLE_OUT, owner, &out);
        if (r >= 0)
                r = fifo_make(dir_fd, STDERR_FIFO, (uid_t)-1, &words);
        if (r >= 0)
                r = fifo_open(dir_fd, STDERR_FIFO, &q->stderr_fd);
        if (r < 0)
                return r;
        (void)fcntl(out, F_SETPIPE_SZ, CONSOLE_PIPE_SIZE); /* more than the user's share of pipes: stay small */
        r = words_watch(&q->words, q->guest.host->event, fd_take(&words));
        if (r < 0)
                return r;
        return q->guest.console ? console_set_source(q->guest.console, fd_take(&out), fd_take(&in)) : 0;
}

int qemu_files_adopt(QemuGuest *q, Error *e) {
        AUTO(fd_drop) int in = -1;
        AUTO(fd_drop) int out = -1;
        AUTO(fd_drop) int words = -1;
        int dir_fd = q->guest.dir_fd;

        int r = fifo_open(dir_fd, CONSOLE_IN, &in);
        if (r >= 0)
                r = fifo_open(dir_fd, CONSOLE_OUT, &out);
        if (r >= 0)
                r = fifo_open(dir_fd, STDERR_FIFO, &words);
        if (r >= 0)
                r = words_watch(&q->words, q->guest.host->event, fd_take(&words));
        if (r >= 0 && q->guest.console)
                r = console_set_source(q->guest.console, fd_take(&out), fd_take(&in));
        if (r < 0)
                return error_set_errno(e, r, "Failed to open the console of domain %s", q->guest.domain->name);
        return 0;
}

/* ---- firmware ---- */

static bool all_zero(const char *data, size_t length) {
        return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

/* The guest's own copy of the template. Blocks of zeros, which is most of one for ARM, stay holes. */
static int copy_template(const char *path, int *ret_fd) {
        AUTO(fd_drop) int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        AUTO(fd_drop) int to = memfd_create("firmware-vars", MFD_CLOEXEC);
        struct stat st;

        if (from < 0 || to < 0 || fstat(from, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FIRMWARE_MAX)
                return -EFBIG;
        size_t size = (size_t)st.st_size;
        if (ftruncate(to, st.st_size) < 0)
                return -errno;
        char *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, from, 0);
        if (data == MAP_FAILED)
                return -errno;
        int r = 0;
        for (size_t at = 0; at < size && r >= 0; at += FIRMWARE_BLOCK) {
                size_t n = size - at < FIRMWARE_BLOCK ? size - at : FIRMWARE_BLOCK;

                if (all_zero(data + at, n))
                        continue;
                if (lseek(to, (off_t)at, SEEK_SET) < 0)
                        r = -errno;
                else
                        r = fd_write_all(to, data + at, n);
        }
        munmap(data, size);
        if (r >= 0)
                *ret_fd = fd_take(&to);
        return r;
}

static int open_firmware(QemuGuest *q, Error *e) {
        const FirmwareFiles *f = &q->machine->uefi;

        if (machine_firmware(q->machine, &q->guest.domain->spec) != FIRMWARE_UEFI)
                return 0;
        q->firmware_code = open(f->code, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (q->firmware_code < 0)
                return error_set_errno(e, errno, "Failed to open the firmware %s", f->code);
        int r = copy_template(f->vars, &q->firmware_vars);
        if (r < 0)
                return error_set_errno(e, r, "Failed to copy the firmware's variables %s", f->vars);
        return 0;
}

/* ---- all together ---- */

static int find_paths(QemuGuest *q) {
        int r = fifo_path(q->guest.dir_fd, CONSOLE_IN, &q->console_in_path);

        return r < 0 ? r : fifo_path(q->guest.dir_fd, CONSOLE_OUT, &q->console_out_path);
}

int qemu_files_make(QemuGuest *q, Error *e) {
        int r = find_paths(q);
        if (r >= 0)
                r = unix_listen(q->guest.dir_fd, QMP_SOCKET, 0600, &q->listen_qmp);
        if (r >= 0)
                r = unix_listen(q->guest.dir_fd, AGENT_SOCKET, 0600, &q->listen_agent);
        if (r >= 0)
                r = make_fifos(q);
        if (r < 0)
                return error_set_errno(e, r, "Failed to make the sockets of domain %s", q->guest.domain->name);
        return open_firmware(q, e);
}

void qemu_files_passed(QemuGuest *q) {
        Guest *g = &q->guest;

        fd_drop(&q->listen_qmp);
        fd_drop(&q->listen_agent);
        fd_drop(&q->firmware_code);
        fd_drop(&q->firmware_vars);
        fd_drop(&q->stderr_fd);
        guest_files_clear(&g->files);
        for (size_t i = 0; i < g->n_taps; i++)
                fd_drop(&g->taps[i]);
        string_list_free(&q->argv);
        string_drop(&q->program);
        string_drop(&q->console_in_path);
        string_drop(&q->console_out_path);
}

void qemu_files_remove(QemuGuest *q) {
        static const char *const names[] = { QMP_SOCKET, AGENT_SOCKET, CONSOLE_IN, CONSOLE_OUT, STDERR_FIFO };

        if (q->guest.console)
                console_set_source(q->guest.console, -1, -1);
        words_done(&q->words);
        taps_abandon(q->guest.host->event, q->guest.taps, q->guest.n_taps);
        qemu_files_passed(q);
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                (void)unlinkat(q->guest.dir_fd, names[i], 0);
}
