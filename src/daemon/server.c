#include "daemon/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/time-util.h"
#include "daemon/runtime-dir.h"

#define ACCEPT_BATCH 32 /* per turn of the loop: others are to be served as well */
#define PAUSE_USEC   (200 * USEC_PER_MSEC)

static int on_pause_over(UNUSED sd_event_source *source, UNUSED uint64_t usec, void *userdata) {
        Server *s = userdata;
        return sd_event_source_set_enabled(s->io, SD_EVENT_ON);
}

/* Out of descriptors or memory, the waiting connection would wake us again at once: look away for a moment. */
static void server_pause(Server *s) {
        sd_event *event = sd_event_source_get_event(s->io);
        int r = s->pause ? sd_event_source_set_time_relative(s->pause, PAUSE_USEC)
                         : sd_event_add_time_relative(event, &s->pause, CLOCK_MONOTONIC, PAUSE_USEC, USEC_PER_MSEC,
                                                      on_pause_over, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->pause, SD_EVENT_ONESHOT);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
        if (r < 0)
                log_error("Failed to pause accepting: %s, ignoring", strerror(-r));
}

static void serve(Server *s, int fd) {
        static LogLimit limit;
        AUTO(error_clear) Error error = ERROR_INIT;

        /* One that came to the service manager's socket before any daemon did could send some until now. */
        if (s->dir_fd < 0)
                unix_refuse_descriptors(fd);
        /* Else it has gone already, as one does that only wanted to know whether somebody serves here. */
        if (bus_add_peer(s->bus, fd, &error) < 0)
                log_limited(&limit, error.id == ERROR_QUOTA_EXCEEDED ? LOG_INFO : LOG_DEBUG, LOG_FIELDS(0),
                            "A client was turned away: %s", error_text(&error));
}

unsigned server_accept(Server *s) {
        static LogLimit limit;
        unsigned count = 0;

        while (s->fd >= 0 && count < ACCEPT_BATCH) {
                int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        count++;
                        serve(s, fd);
                        continue;
                }
                if (errno == EAGAIN)
                        break;
                if (errno == EINTR || errno == ECONNABORTED)
                        continue;
                log_limited(&limit, LOG_ERR, LOG_FIELDS(0), "Failed to accept a client: %s", strerror(errno));
                server_pause(s);
                break;
        }
        return count;
}

static int on_connection(UNUSED sd_event_source *source, UNUSED int fd, UNUSED uint32_t revents, void *userdata) {
        server_accept(userdata);
        return 0;
}

/* 1: the service manager passed a socket; 0: it did not. */
static int take_passed_socket(int *ret_fd, Error *e) {
        int n = sd_listen_fds(true);
        if (n < 0)
                return error_set_errno(e, n, "Failed to take the socket of the service manager");
        if (n == 0)
                return 0;
        if (n > 1 || sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_STREAM, 1) <= 0)
                return error_set(e, ERROR_INVALID_INPUT, "The service manager passed something else than one socket");
        int r = fd_set_nonblock(SD_LISTEN_FDS_START, true);
        if (r < 0)
                return error_set_errno(e, r, "Failed to use the socket of the service manager");
        *ret_fd = SD_LISTEN_FDS_START;
        return 1;
}

static int listen_in(Server *s, int dir_fd, Error *e) {
        int r = unix_listen(dir_fd, RUNTIME_SOCKET, s->mode, &s->fd);
        if (r < 0)
                return error_set_errno(e, r, "Failed to listen at %s in the runtime directory", RUNTIME_SOCKET);
        s->dir_fd = dir_fd;
        return 0;
}

static int watch(Server *s, sd_event *event, Error *e) {
        unix_refuse_descriptors(s->fd);
        int r = sd_event_add_io(event, &s->io, s->fd, EPOLLIN, on_connection, s);
        return r < 0 ? error_set_errno(e, r, "Failed to watch the socket") : 0;
}

int server_start(Server *s, sd_event *event, Bus *bus, int dir_fd, mode_t mode, Error *e) {
        s->bus = bus;
        s->mode = mode;
        int r = take_passed_socket(&s->fd, e);
        if (r == 0)
                r = listen_in(s, dir_fd, e);
        return r < 0 ? r : watch(s, event, e);
}

int server_leave(Server *s, Error *e) {
        sd_event *event = sd_event_source_get_event(s->io);
        int dir_fd = s->dir_fd;
        unsigned n, visitors = 0;

        if (dir_fd < 0)
                return server_accept(s) > 0;
        /* From here on nobody comes into its queue, not even who has found it before. */
        unlinkat(dir_fd, RUNTIME_SOCKET, 0);
        s->dir_fd = -1;
        shutdown(s->fd, SHUT_RD);
        while ((n = server_accept(s)) > 0)
                visitors += n;
        if (visitors == 0)
                return 0;
        server_done(s);
        int r = listen_in(s, dir_fd, e);
        if (r >= 0)
                r = watch(s, event, e);
        return r < 0 ? r : 1;
}

void server_done(Server *s) {
        s->io = sd_event_source_disable_unref(s->io);
        s->pause = sd_event_source_disable_unref(s->pause);
        if (s->dir_fd >= 0)
                unlinkat(s->dir_fd, RUNTIME_SOCKET, 0);
        s->dir_fd = -1;
        fd_drop(&s->fd);
}
