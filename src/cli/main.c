/* debmarshal: networks and virtual machines for everybody, from the command line.
 *
 * The first words choose a row of the table below; its function does the rest (verb_begin() parses its options). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "cli/cli.h"
#include "cli/verbs.h"

static int verb_help(Cli *cli, int argc, char **argv);

static const Verb verbs[] = {
        /* clang-format off */
        { "network", "create",     "[HOST...]",              0, VERB_ANY, false, "Create a network for these hosts and print its name", verb_network_create },
        { "network", "list",       "",                       0, 0,        false, "List networks", verb_network_list },
        { "network", "show",       "NETWORK",                1, 1,        false, "Show a network and the addresses of its hosts", verb_network_show },
        { "network", "destroy",    "NETWORK...",             1, VERB_ANY, false, "Destroy networks", verb_network_destroy },
        { "network", "shell",      "NETWORK",                1, 1,        false, "Open a shell inside a network, as its administrator", verb_network_shell },
        { "network", "exec",       "NETWORK -- COMMAND...",  2, VERB_ANY, true,  "Run a command inside a network, as its administrator", verb_network_exec },
        { "network", "capture",    "NETWORK",                1, 1,        false, "Capture a network's packets as pcapng", verb_network_capture },
        { "domain",  "create",     "",                       0, 0,        false, "Create a virtual machine and print its name", verb_domain_create },
        { "domain",  "list",       "",                       0, 0,        false, "List virtual machines", verb_domain_list },
        { "domain",  "show",       "DOMAIN",                 1, 1,        false, "Show a virtual machine", verb_domain_show },
        { "domain",  "destroy",    "DOMAIN...",              1, VERB_ANY, false, "Destroy virtual machines", verb_domain_destroy },
        { "domain",  "console",    "DOMAIN",                 1, 1,        false, "Attach to the serial console; '~.' on a new line or Ctrl-] detaches", verb_domain_console },
        { "domain",  "log",        "DOMAIN",                 1, 1,        false, "Print what the console printed, also of an ended machine", verb_domain_log },
        { "domain",  "screenshot", "DOMAIN FILE|-",          2, 2,        false, "Save the screen as PNG", verb_domain_screenshot },
        { "domain",  "vnc",        "DOMAIN",                 1, 1,        false, "Serve the screen to VNC viewers on a local port", verb_domain_vnc },
        { "domain",  "pause",      "DOMAIN",                 1, 1,        false, "Stop a virtual machine's processors", verb_domain_pause },
        { "domain",  "resume",     "DOMAIN",                 1, 1,        false, "Let a paused virtual machine go on", verb_domain_resume },
        { "domain",  "reset",      "DOMAIN",                 1, 1,        false, "Press the reset button", verb_domain_reset },
        { "domain",  "shutdown",   "DOMAIN",                 1, 1,        false, "Press the power button: the guest may shut down by itself", verb_domain_shutdown },
        { "domain",  "wait",       "DOMAIN",                 1, 1,        false, "Wait for a virtual machine to end, and print why it did", verb_domain_wait },
        { "domain",  "agent",      "DOMAIN",                 1, 1,        false, "Talk to the QEMU guest agent over standard input and output", verb_domain_agent },
        { NULL,      "connect",    "NETWORK HOST PORT",      3, 3,        false, "Connect standard input and output to a TCP port of a host", verb_connect },
        { NULL,      "listen",     "NETWORK PORT",           2, 2,        false, "Accept one TCP connection from a network's hosts", verb_listen },
        { NULL,      "ssh",        "[USER@][NETWORK/]HOST [ARGUMENT...]", 1, VERB_ANY, true, "Run ssh to a host of a network", verb_ssh },
        { NULL,      "doctor",     "",                       0, 0,        false, "Check what works here, and say how to mend what does not", verb_doctor },
        { NULL,      "help",       "[VERB...]",              0, 2,        false, "Show help", verb_help },
        /* clang-format on */
};

static bool noun_exists(const char *name) {
        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (string_equal(verbs[i].noun, name))
                        return true;
        return false;
}

static const Verb *verb_find(const char *noun, const char *name) {
        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (string_equal(verbs[i].noun, noun) && string_equal(verbs[i].name, name))
                        return &verbs[i];
        return NULL;
}

/* The rows of one noun; of all with NULL. */
static void print_verbs(const char *noun) {
        const char *last = NULL;

        for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
                const Verb *v = &verbs[i];
                char left[64];

                if (noun && !string_equal(v->noun, noun))
                        continue;
                if (i > 0 && !noun && !string_equal(v->noun, last))
                        putchar('\n');
                last = v->noun;
                snprintf(left, sizeof left, "%s%s%s", string_or(v->noun, ""), v->noun ? " " : "", v->name);
                printf("  %-18s %s\n", left, v->help);
        }
}

static int print_main_help(const char *noun) {
        if (noun) {
                printf("usage: debmarshal %s VERB [OPTION...] [ARGUMENT...]\n\n", noun);
                print_verbs(noun);
                printf("\nMore on each: debmarshal %s VERB --help\n", noun);
                return STATUS_DONE;
        }
        printf("usage: debmarshal [OPTION...] VERB [ARGUMENT...]\n\n"
               "Isolated networks, and virtual machines on them, for users who are not root.\n\n");
        print_verbs(NULL);
        printf("\nOptions:\n"
               "      --address=ADDRESS  the daemon's D-Bus address, or the path of its socket\n"
               "      --system           ask the system's daemon only\n"
               "      --session          ask your own daemon only, and start it if need be\n"
               "  -h, --help             show this, or the help of a verb\n"
               "      --version          print the version\n"
               "\nMore on each: debmarshal VERB --help, and debmarshal(1).\n");
        return STATUS_DONE;
}

/* The words name no verb: say so, and which was perhaps meant. */
static int unknown_verb(const Cli *cli, const char *noun, const char *name) {
        const char *names[ARRAY_LEN(verbs) + 2];
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (string_equal(verbs[i].noun, noun))
                        names[n++] = verbs[i].name;
        if (!noun) {
                names[n++] = "network";
                names[n++] = "domain";
        }
        const char *near = suggest(name, names, n);
        if (near)
                return verb_usage(cli, "unknown verb: %s%s%s (did you mean %s?)", string_or(noun, ""), noun ? " " : "",
                                  name, near);
        return verb_usage(cli, "unknown verb: %s%s%s", string_or(noun, ""), noun ? " " : "", name);
}

/* argv[0] is the first word after the global options. */
static int dispatch(Cli *cli, int argc, char **argv) {
        const char *noun = argc > 0 && noun_exists(argv[0]) ? argv[0] : NULL;
        int used = noun ? 1 : 0;

        if (argc <= used && cli->help)
                return print_main_help(noun);
        if (argc == 0)
                return verb_usage(cli, "nothing to do");
        if (argc == used)
                return verb_usage(cli, "'%s' needs a verb, as in 'debmarshal %s list'", noun, noun);
        if (noun && (string_equal(argv[1], "--help") || string_equal(argv[1], "-h")))
                return print_main_help(noun);

        cli->verb = verb_find(noun, argv[used]);
        if (!cli->verb)
                return unknown_verb(cli, noun, argv[used]);
        return cli->verb->run(cli, argc - used, argv + used);
}

/* "help network create" is "network create --help". */
static int verb_help(Cli *cli, int argc, char **argv) {
        Arguments args;
        int status;

        if (!verb_begin(cli, NULL, argc, argv, &args, &status))
                return status;
        cli->help = true;
        cli->verb = NULL;
        return dispatch(cli, (int)args.count, args.items);
}

/* Output that never reached its file is a failure. */
static int finish(int status) {
        if (fflush(stdout) == 0 && !ferror(stdout))
                return status;
        if (errno != EPIPE)
                say("cannot write to standard output: %s", strerror(errno));
        return status == STATUS_DONE ? STATUS_FAILED : status;
}

int main(int argc, char **argv) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Cli cli = { 0 };
        Arguments words;
        const Option options[] = {
                { "address", 0, "ADDRESS", "", .text = &cli.address }, { "system", 0, NULL, "", .flag = &cli.system },
                { "session", 0, NULL, "", .flag = &cli.session },      { "help", 'h', NULL, "", .flag = &cli.help },
                { "version", 0, NULL, "", .flag = &cli.version },      { 0 },
        };

        if (fd_fill_stdio() < 0)
                return STATUS_FAILED;
        if (options_parse(options, NULL, true, argc, argv, &words, &e) < 0)
                return verb_usage(&cli, "%s", error_text(&e));
        if (cli.version) {
                print_version();
                return finish(STATUS_DONE);
        }
        int status = dispatch(&cli, (int)words.count, words.items);
        sd_bus_flush_close_unref(cli.bus);
        return finish(status);
}
