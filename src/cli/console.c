/* The terminal's life: saved, made raw, restored. While it is raw no signal may end or stop the program as it is, so
 * they arrive through a signalfd: the ending ones restore the terminal first and are then raised again with their
 * ordinary effect; SIGTSTP restores it, stops, and goes on raw when continued.
 *
 * Escapes count only where a person types, that is on a terminal: from a pipe every byte goes through. The end of a
 * pipe does not end the session, since what was typed wants its answer: that ends with the guest, or a signal. */
#include "cli/console.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/relay.h"

#define DETACH_KEY 0x1d /* Ctrl-] */

typedef struct Console {
        bool terminal; /* standard input is one */
        struct termios saved;
        Escape escape;
        int signal_fd;
        sigset_t previous_mask;
        int ended_by; /* a signal to be raised again; 0: none */
} Console;

bool escape_filter(Escape *state, const char *in, size_t length, char *out, size_t *ret_length) {
        size_t n = 0;

        for (size_t i = 0; i < length; i++) {
                bool held = state->tilde;

                *ret_length = n;
                if (in[i] == DETACH_KEY || (held && in[i] == '.'))
                        return true;
                state->tilde = in[i] == '~' && !held && !state->inside_line;
                if (state->tilde)
                        continue;
                if (held && in[i] != '~')
                        out[n++] = '~';
                out[n++] = in[i];
                state->inside_line = in[i] != '\r' && in[i] != '\n';
        }
        *ret_length = n;
        return false;
}

static void terminal_raw(const Console *c) {
        struct termios raw = c->saved;

        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void terminal_restore(const Console *c) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &c->saved);
}

static bool on_input(void *user, char *data, size_t *length) {
        Console *c = user;
        char typed[RELAY_INPUT_MAX];

        if (!c->terminal)
                return false;
        memcpy(typed, data, *length);
        return escape_filter(&c->escape, typed, *length, data, length);
}

static bool on_signal(void *user) {
        Console *c = user;
        struct signalfd_siginfo info;

        if (read(c->signal_fd, &info, sizeof info) != sizeof info)
                return false;
        switch (info.ssi_signo) {
        case SIGTSTP:
                if (c->terminal)
                        terminal_restore(c);
                raise(SIGSTOP);
                if (c->terminal)
                        terminal_raw(c);
                return false;
        case SIGCONT: /* after a SIGSTOP, which nobody can see coming; the shell may have changed the terminal */
                if (c->terminal)
                        terminal_raw(c);
                return false;
        default:
                c->ended_by = (int)info.ssi_signo;
                return true;
        }
}

static int signals_take(Console *c, Error *e) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT };
        sigset_t mask;

        sigemptyset(&mask);
        for (size_t i = 0; i < ARRAY_LEN(signals); i++)
                sigaddset(&mask, signals[i]);
        c->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
        if (c->signal_fd < 0)
                return error_set_errno(e, errno, "cannot watch for signals");
        sigprocmask(SIG_BLOCK, &mask, &c->previous_mask);
        return 0;
}

static void signals_give_back(Console *c) {
        fd_drop(&c->signal_fd);
        sigprocmask(SIG_SETMASK, &c->previous_mask, NULL);
        if (c->ended_by) {
                signal(c->ended_by, SIG_DFL);
                raise(c->ended_by);
        }
}

int console_run(int socket, const char *name, ConsoleEnd *ret, Error *e) {
        Console c = { .signal_fd = -1, .terminal = tcgetattr(STDIN_FILENO, &c.saved) == 0 };

        int r = signals_take(&c, e);
        if (r < 0)
                return r;
        signal(SIGPIPE, SIG_IGN);
        if (c.terminal) {
                say("attached to %s; type ~. on a new line, or Ctrl-], to detach", name);
                terminal_raw(&c);
        }
        Relay relay = { .in = STDIN_FILENO,
                        .out = STDOUT_FILENO,
                        .socket = socket,
                        .signal_fd = c.signal_fd,
                        .user = &c,
                        .input = on_input,
                        .signalled = on_signal };
        r = relay_run(&relay, e);
        if (c.terminal) {
                terminal_restore(&c);
                fputc('\n', stderr);
        }
        signals_give_back(&c);
        *ret = relay.end == RELAY_CLOSED ? CONSOLE_CLOSED : CONSOLE_DETACHED;
        return r;
}
