/* What the guest prints is written to the terminal as far as that takes it: while nobody reads there, some kilobytes
 * are kept and the rest is lost, which the log has. What is typed there goes to the console with back pressure. */
#include "driver/xen/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/xen/console.h"
#include "driver/xen/entries.h"

#define SOURCE_KEY   "debmarshal/terminal"
#define IDENTITY_KEY "debmarshal/terminal-identity"
#define MIRROR_KEY   "debmarshal/mirror"

struct Mirror {
        MirrorTerminal terminal;
        int socket; /* to the console; -1: it has gone */
        char typed[256];
        size_t n_typed;
        sd_event_source *output, *input; /* of the socket, of the terminal */
};

void mirror_terminal_drop(MirrorTerminal *t) {
        fd_drop(&t->ours);
        fd_drop(&t->theirs);
}

static MirrorTerminal terminal_take(MirrorTerminal *t) {
        return (MirrorTerminal){ fd_take(&t->ours), fd_take(&t->theirs) };
}

/* ---- making ---- */

static int make_raw(int fd) {
        struct termios settings;

        if (tcgetattr(fd, &settings) < 0)
                return -errno;
        cfmakeraw(&settings);
        return tcsetattr(fd, TCSANOW, &settings) < 0 ? -errno : 0;
}

/* The other side is opened through this one, so that no name has to be resolved. */
static int open_terminal(MirrorTerminal *ret, char *name, size_t size) {
        AUTO(mirror_terminal_drop) MirrorTerminal t = MIRROR_TERMINAL_NONE;

        t.ours = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (t.ours < 0 || unlockpt(t.ours) < 0)
                return -errno;
        int r = ptsname_r(t.ours, name, size);
        if (r != 0)
                return -r;
        t.theirs = ioctl(t.ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (t.theirs < 0)
                return -errno;
        r = make_raw(t.theirs);
        if (r < 0)
                return r;
        *ret = terminal_take(&t);
        return 0;
}

typedef struct Names {
        uint32_t id;
        const char *uuid, *source, *identity, *mirror;
} Names;

static void fill_names(XenStoreChange *c, const void *userdata) {
        const Names *n = userdata;
        char path[XEN_PATH_MAX], directory[XEN_PATH_MAX];

        snprintf(path, sizeof path, "/vm/%s", n->uuid);
        if (n->source) {
                change_write(c, path, SOURCE_KEY, "%s", n->source);
                change_write(c, path, IDENTITY_KEY, "%s", n->identity);
        }
        change_write(c, path, MIRROR_KEY, "%s", n->mirror);
        change_write(c, entries_path(n->id, directory), "console/tty", "%s", n->mirror);
}

int mirror_open(MirrorTerminal *ret, char name[MIRROR_NAME_MAX], Error *e) {
        int r = open_terminal(ret, name, MIRROR_NAME_MAX);

        return r < 0 ? error_set_errno(e, r, "Failed to make a terminal for xl console") : 0;
}

int mirror_name(XenStore *s, uint32_t id, const char *uuid, const char *source, int source_fd, const char *name,
                Error *e) {
        char identity[XEN_CONSOLE_IDENTITY_MAX] = "";

        if (source)
                xen_console_identify(source_fd, identity);
        return xenstore_change(s, fill_names, &(const Names){ id, uuid, source, identity, name }, e);
}

int mirror_make(XenStore *s, uint32_t id, const char *uuid, const char *source, int source_fd, MirrorTerminal *ret,
                Error *e) {
        AUTO(mirror_terminal_drop) MirrorTerminal t = MIRROR_TERMINAL_NONE;
        char name[MIRROR_NAME_MAX];

        int r = mirror_open(&t, name, e);
        if (r >= 0)
                r = mirror_name(s, id, uuid, source, source_fd, name, e);
        if (r < 0)
                return r;
        *ret = terminal_take(&t);
        return 0;
}

/* NULL: there is none, or it is empty. */
static int read_kept(XenStore *s, const char *directory, const char *key, char **ret) {
        char path[XEN_PATH_MAX + sizeof IDENTITY_KEY];

        snprintf(path, sizeof path, "%s/%s", directory, key);
        int r = xenstore_read(s, path, ret);
        if (r >= 0 && !**ret)
                string_drop(ret);
        return r == -ENOENT ? 0 : r;
}

int mirror_find_source(XenStore *s, uint32_t id, const char *uuid, char **ret, char **ret_identity) {
        AUTO(string_drop) char *named = NULL, *mirror = NULL, *source = NULL, *identity = NULL;
        char path[XEN_PATH_MAX], directory[XEN_PATH_MAX];

        snprintf(path, sizeof path, "/vm/%s", uuid);
        int r = read_kept(s, entries_path(id, directory), "console/tty", &named);
        if (r >= 0)
                r = read_kept(s, path, MIRROR_KEY, &mirror);
        if (r >= 0)
                r = read_kept(s, path, SOURCE_KEY, &source);
        if (r >= 0)
                r = read_kept(s, path, IDENTITY_KEY, &identity);
        if (r < 0)
                return r;
        /* Not our name: xenconsoled's of now, be it the former one again. Who kept no name of the mirror kept the right
         * source. */
        bool renamed = named && mirror && !string_equal(named, mirror);
        bool is_kept = source && !renamed;
        *ret = is_kept ? TAKE(source) : renamed || !mirror ? TAKE(named) : NULL;
        *ret_identity = is_kept ? TAKE(identity) : NULL;
        return *ret ? 0 : -ENOENT;
}

/* ---- copying ---- */

static void stop_copying(Mirror *m) {
        m->output = sd_event_source_disable_unref(m->output);
        m->input = sd_event_source_disable_unref(m->input);
}

static int on_output(UNUSED sd_event_source *s, int fd, UNUSED uint32_t revents, void *userdata) {
        Mirror *m = userdata;
        char buffer[4096];
        ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);

        if (n > 0) {
                if (write(m->terminal.ours, buffer, (size_t)n) < 0 && errno != EAGAIN)
                        stop_copying(m);
        } else if (n == 0 || errno != EAGAIN)
                stop_copying(m);
        return 0;
}

/* Until all of it is the console's, no more is read. */
static void pass_typed(Mirror *m) {
        ssize_t n = send(m->socket, m->typed, m->n_typed, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN) {
                stop_copying(m);
                return;
        }
        if (n > 0) {
                m->n_typed -= (size_t)n;
                memmove(m->typed, m->typed + n, m->n_typed);
        }
        (void)sd_event_source_set_io_events(m->output, m->n_typed > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
        (void)sd_event_source_set_enabled(m->input, m->n_typed > 0 ? SD_EVENT_OFF : SD_EVENT_ON);
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Mirror *m = userdata;

        if (revents & EPOLLOUT && m->n_typed > 0)
                pass_typed(m);
        if (revents & ~EPOLLOUT && m->output)
                return on_output(s, fd, revents, m);
        return 0;
}

static int on_input(UNUSED sd_event_source *s, int fd, UNUSED uint32_t revents, void *userdata) {
        Mirror *m = userdata;
        ssize_t n = read(fd, m->typed, sizeof m->typed);

        if (n > 0) {
                m->n_typed = (size_t)n;
                pass_typed(m);
        } else if (n == 0 || errno != EAGAIN)
                stop_copying(m);
        return 0;
}

/* Told by the end of the file, too; and the console may notice ours after m has gone. */
static void client_ended(UNUSED void *userdata) {
}

int mirror_start(sd_event *event, Console *console, MirrorTerminal *t, Mirror **ret, Error *e) {
        Mirror *m = calloc(1, sizeof *m);

        if (!m) {
                mirror_terminal_drop(t);
                return error_set_errno(e, ENOMEM, "Failed to attach xl console");
        }
        m->terminal = terminal_take(t);
        m->socket = -1;
        int r = console_attach(console, client_ended, NULL, &m->socket, e);
        if (r >= 0) {
                r = sd_event_add_io(event, &m->output, m->socket, EPOLLIN, on_socket, m);
                if (r >= 0)
                        r = sd_event_add_io(event, &m->input, m->terminal.ours, EPOLLIN, on_input, m);
                if (r < 0)
                        error_set_errno(e, r, "Failed to attach xl console");
        }
        if (r < 0) {
                mirror_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

Mirror *mirror_free(Mirror *m) {
        if (!m)
                return NULL;

        stop_copying(m);
        mirror_terminal_drop(&m->terminal);
        fd_drop(&m->socket);
        free(m);
        return NULL;
}
