/* domain console, log, screenshot, agent: what a domain says, and what is said to it. */
#include "cli/domain-streams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "cli/call.h"
#include "cli/connect.h"
#include "cli/console.h"
#include "cli/objects.h"
#include "cli/relay.h"
#include "cli/term.h"
#include "cli/verbs.h"

#define AGENT_LINGER_USEC (10 * USEC_PER_SEC)
#define END_USEC          (3 * USEC_PER_SEC) /* what the end of a domain may take behind that of its console */

/* The log and the end of a domain that is no more. */
static int open_ended(Cli *cli, const char *name, int *ret_fd, char **ret_reason, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        const char *reason, *message;

        int r = call(cli, ROOT_PATH, MANAGER_INTERFACE, "GetEndedDomain", &reply, e, "s", name);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "tsst", NULL, &reason, &message, NULL);
        if (r < 0)
                return call_misunderstood(r, e);
        r = message_read_fd(reply, ret_fd, e);
        if (r < 0)
                return r;
        *ret_reason = string_printf("%s%s%s", reason, *message ? ": " : "", message);
        return *ret_reason ? 0 : error_set(e, ERROR_INTERNAL, "out of memory");
}

static int print_ended_log(Cli *cli, const char *name, Error *e) {
        AUTO(string_drop) char *reason = NULL;
        AUTO(fd_drop) int fd = -1;

        int r = open_ended(cli, name, &fd, &reason, e);
        if (r < 0)
                return r;
        fflush(stdout);
        r = copy_all(fd, STDOUT_FILENO, "the log", e);
        if (r >= 0 && isatty(STDERR_FILENO))
                say("%s has ended: %s", name, reason);
        return r;
}

/* Names are used again, ids are not. 0: there is none of that name now, or the daemon does not say. */
static uint64_t domain_id(Cli *cli, const char *name) {
        AUTO(string_drop) char *path = NULL;
        uint64_t id = 0;

        if (sd_bus_path_encode(DOMAIN_PREFIX, name, &path) < 0 ||
            sd_bus_get_property_trivial(cli->bus, NULL, path, DOMAIN_INTERFACE, "Id", NULL, 't', &id) < 0)
                return 0;
        return id;
}

/* 1: it goes on; 0: it is no more, and *ret tells of its end unless that is forgotten. One that is ending, and has cut
 * off who did not read, is waited for. */
static int ask_end(Cli *cli, const char *name, uint64_t id, json_t **ret, Error *e) {
        AUTO(json_drop) json_t *ended = NULL;
        AUTO(string_drop) char *path = NULL;

        if (id > 0 && domain_id(cli, name) == id) {
                AUTO(error_clear) Error why = ERROR_INIT;

                if (sd_bus_path_encode(DOMAIN_PREFIX, name, &path) < 0)
                        return error_set(e, ERROR_INTERNAL, "out of memory");
                int r = call(cli, path, DOMAIN_INTERFACE, "Wait", NULL, &why, "t", END_USEC);
                if (r < 0 && why.id == ERROR_TIMEOUT)
                        return 1;
                if (r < 0 && why.id != ERROR_DOMAIN_NOT_FOUND)
                        return error_move(e, &why);
        }
        int r = ended_load(cli, &ended, e);
        for (size_t i = json_array_size(ended); i > 0 && !*ret; i--) {
                json_t *d = json_array_get(ended, i - 1);

                if (id > 0 ? value_number(d, "id") == id : string_equal(value_text(d, "name"), name))
                        *ret = json_incref(d);
        }
        return r;
}

/* The daemon closes a console when the domain has ended, which it records before it answers anybody again; but also
 * when it ends itself, and to who does not read. It is asked over a new connection: the old one was the former
 * daemon's, or has been dropped since nobody has read its signals meanwhile. */
static int check_end(const Cli *cli, const char *name, uint64_t id, bool tell, Error *e) {
        AUTO(error_clear) Error why = ERROR_INIT;
        AUTO(json_drop) json_t *end = NULL;
        Cli now = *cli;

        now.bus = NULL;
        int r = daemon_connect_running(&now, &why);
        if (r >= 0)
                r = ask_end(&now, name, id, &end, &why);
        sd_bus_flush_close_unref(now.bus);
        if (r > 0)
                return error_set(e, ERROR_INTERNAL, "the daemon closed the console of %s, which goes on", name);
        if (r < 0)
                return error_set(e, ERROR_INTERNAL,
                                 "the daemon closed the console of %s, and does not say whether it goes on: %s", name,
                                 error_text(&why));
        const char *message = end ? value_text(end, "message") : "";
        if (tell && end)
                say("%s has ended: %s%s%s", name, value_text(end, "reason"), *message ? ": " : "", message);
        else if (tell)
                say("the console of %s is closed", name);
        return 0;
}

/* A stream of a living domain. Its name is there even when it ended after it had been found. */
static int open_stream(Cli *cli, const char *name, const char *method, int *ret_fd, char **ret_name, Error *e) {
        AUTO(string_drop) char *path = NULL;

        int r = domain_path(cli, name, &path, e);
        if (r >= 0)
                r = domain_name(path, ret_name, e);
        return r < 0 ? r : call_for_fd(cli, path, DOMAIN_INTERFACE, method, ret_fd, e);
}

int console_attach(Cli *cli, const char *name, Error *e) {
        AUTO(error_clear) Error gone = ERROR_INIT;
        AUTO(string_drop) char *real_name = NULL;
        AUTO(fd_drop) int fd = -1;
        ConsoleEnd end;

        int r = open_stream(cli, name, "OpenConsole", &fd, &real_name, &gone);
        if (r < 0) {
                if (domain_may_have_ended(&gone) && print_ended_log(cli, string_or(real_name, name), NULL) >= 0)
                        return 0;
                return error_move(e, &gone);
        }
        uint64_t id = domain_id(cli, real_name);
        r = console_run(fd, real_name, &end, e);
        if (r < 0)
                return r;
        if (end == CONSOLE_CLOSED)
                return check_end(cli, real_name, id, true, e);
        if (isatty(STDERR_FILENO))
                say("detached from %s, which goes on", real_name);
        return 0;
}

int verb_domain_console(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || console_attach(cli, args.items[0], &e) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

/* Follow: the console without an input. It begins with what its ring holds. */
static int follow(Cli *cli, const char *name, char **ret_name, Error *e) {
        AUTO(fd_drop) int fd = -1;

        int r = open_stream(cli, name, "OpenConsole", &fd, ret_name, e);
        if (r < 0)
                return r;
        uint64_t id = domain_id(cli, *ret_name);
        Relay relay = { .in = -1, .out = STDOUT_FILENO, .socket = fd, .signal_fd = -1 };
        r = relay_run(&relay, e);
        if (r < 0 || relay.end != RELAY_CLOSED)
                return r;
        return check_end(cli, *ret_name, id, isatty(STDERR_FILENO), e);
}

static int print_log(Cli *cli, const char *name, char **ret_name, Error *e) {
        AUTO(fd_drop) int fd = -1;

        int r = open_stream(cli, name, "OpenLog", &fd, ret_name, e);
        return r < 0 ? r : copy_all(fd, STDOUT_FILENO, "the log", e);
}

int verb_domain_log(Cli *cli, int argc, char **argv) {
        AUTO(string_drop) char *real_name = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        bool following = false;
        const Option options[] = {
                { "follow", 'f', NULL, "the last part, then what follows until the domain ends", .flag = &following },
                { 0 },
        };
        Arguments args;
        int status;

        if (!verb_begin(cli, options, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0)
                return verb_fail(&e);
        const char *name = args.items[0];
        int r = following ? follow(cli, name, &real_name, &e) : print_log(cli, name, &real_name, &e);
        if (r >= 0 || (domain_may_have_ended(&e) && print_ended_log(cli, string_or(real_name, name), NULL) >= 0))
                return STATUS_DONE;
        return verb_fail(&e);
}

/* The file appears only when there is a picture to be put into it. */
static int save_screenshot(Cli *cli, const char *name, const char *file, Error *e) {
        AUTO(fd_drop) int from = -1, to = -1;
        AUTO(string_drop) char *path = NULL;
        bool to_stdout = string_equal(file, "-");

        if (to_stdout && isatty(STDOUT_FILENO))
                return error_set(e, ERROR_INVALID_INPUT, "not writing a picture to a terminal: name a file");
        int r = domain_path(cli, name, &path, e);
        if (r >= 0)
                r = call_for_fd(cli, path, DOMAIN_INTERFACE, "Screenshot", &from, e);
        if (r < 0)
                return r;
        to = to_stdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                       : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (to < 0)
                return error_set_errno(e, errno, "cannot write %s", file);
        return copy_all(from, to, "the picture", e);
}

int verb_domain_screenshot(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || save_screenshot(cli, args.items[0], args.items[1], &e) < 0)
                return verb_fail(&e);
        return STATUS_DONE;
}

/* The agent answers each line with a line. When the questions have ended, so do we with the last answer: hanging up at
 * once would throw it away. */
typedef struct Agent {
        size_t asked, answered;
        bool line_begun;
} Agent;

static bool agent_asked(void *user, char *data, size_t *length) {
        Agent *a = user;

        for (size_t i = 0; i < *length; i++) {
                if (data[i] == '\n' && a->line_begun)
                        a->asked++;
                a->line_begun = data[i] != '\n' && (a->line_begun || data[i] != ' ');
        }
        return false;
}

static bool agent_answered(void *user, const char *data, size_t length, bool in_ended) {
        Agent *a = user;

        for (size_t i = 0; i < length; i++)
                a->answered += data[i] == '\n';
        return in_ended && a->answered >= a->asked + a->line_begun;
}

int verb_domain_agent(Cli *cli, int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        AUTO(string_drop) char *name = NULL;
        AUTO(fd_drop) int fd = -1;
        Arguments args;
        Agent agent = { 0 };
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        if (daemon_connect(cli, &e) < 0 || open_stream(cli, args.items[0], "OpenAgent", &fd, &name, &e) < 0)
                return verb_fail(&e);
        signal(SIGPIPE, SIG_IGN);
        Relay relay = { .in = STDIN_FILENO,
                        .signal_fd = -1,
                        .out = STDOUT_FILENO,
                        .socket = fd,
                        .user = &agent,
                        .linger_usec = AGENT_LINGER_USEC,
                        .input = agent_asked,
                        .output = agent_answered };
        if (relay_run(&relay, &e) < 0)
                return verb_fail(&e);
        if (relay.end == RELAY_LINGERED && agent.answered < agent.asked + agent.line_begun) {
                say("the guest agent of %s did not answer; does qemu-guest-agent run in it?", name);
                return STATUS_FAILED;
        }
        return STATUS_DONE;
}
