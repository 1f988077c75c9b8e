/* The benchmark's client: it reads requests from standard input, one per line, words between tabs, and answers each
 * with a line of words between tabs:
 *
 *     ok TEXT...            TEXT... begins with how long the daemon's answer took, in nanoseconds
 *     error TEXT
 *
 *     ping                                                          the way there and back, and nothing else
 *     create-network HOST...                                        ok NS NAME (HOST MAC)...
 *     destroy-network NAME                                          ok NS
 *     create-domain MEMORY NETWORK MAC KERNEL INITRD CMDLINE        ok NS NAME
 *     destroy-domain NAME                                           ok NS
 *     create-domains COUNT MEMORY NETWORK                           ok NS NAME...      all asked at once, paused, no
 * kernel destroy-domains NAME...                                       ok NS              all asked at once
 *
 * It speaks Privops, the interface that everybody has, over one connection which is there before anything is measured,
 * so that what is measured is the daemon. ping says how much of it is the client and the transport. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

#define PATH      "/com/googlecode/debmarshal/Privops"
#define INTERFACE "com.googlecode.debmarshal.Privops"
#define TIMEOUT   (600 * 1000000ULL)
#define WORDS_MAX 4096

static uint64_t now_nsec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static int answer_error(int r, const sd_bus_error *e) {
        printf("error\t%s\n", e && e->message ? e->message : strerror(-r));
        return 0;
}

static int connect_daemon(const char *address, sd_bus **ret) {
        int r = sd_bus_new(ret);
        if (r >= 0)
                r = sd_bus_set_address(*ret, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(*ret, false);
        if (r >= 0)
                r = sd_bus_start(*ret);
        return r;
}

/* Send it, wait, and answer with the time; what is in the reply is the caller's to add. */
static int call(sd_bus *bus, sd_bus_message *m, sd_bus_message **ret_reply) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        uint64_t start = now_nsec();

        int r = sd_bus_call(bus, m, TIMEOUT, &e, ret_reply);
        uint64_t end = now_nsec();
        if (r < 0)
                answer_error(r, &e);
        else
                printf("ok\t%llu", (unsigned long long)(end - start));
        sd_bus_error_free(&e);
        return r;
}

static int new_call(sd_bus *bus, sd_bus_message **ret, const char *method) {
        return sd_bus_message_new_method_call(bus, ret, NULL, PATH, INTERFACE, method);
}

static void ping(sd_bus *bus) {
        AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;

        int r = sd_bus_message_new_method_call(bus, &m, NULL, PATH, "org.freedesktop.DBus.Peer", "Ping");
        if (r < 0)
                answer_error(r, NULL);
        else if (call(bus, m, &reply) >= 0)
                putchar('\n');
}

/* The struct's name, and host and MAC of each of its members. */
static int print_network(sd_bus_message *reply) {
        const char *name, *host, *mac;

        int r = sd_bus_message_enter_container(reply, 'r', "sssa{s(ss)}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "sss", &name, NULL, NULL);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "{s(ss)}");
        if (r < 0)
                return r;
        printf("\t%s", name);
        while ((r = sd_bus_message_read(reply, "{s(ss)}", &host, NULL, &mac)) > 0)
                printf("\t%s\t%s", host, mac);
        return r;
}

static void create_network(sd_bus *bus, char **hosts) {
        AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;

        int r = new_call(bus, &m, "createNetwork");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, hosts);
        if (r < 0)
                answer_error(r, NULL);
        else if (call(bus, m, &reply) >= 0) {
                if (print_network(reply) < 0)
                        fputs("\t(a reply of another form)", stdout);
                putchar('\n');
        }
}

static void destroy_network(sd_bus *bus, const char *name) {
        AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;

        int r = new_call(bus, &m, "destroyNetwork");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r < 0)
                answer_error(r, NULL);
        else if (call(bus, m, &reply) >= 0)
                putchar('\n');
}

/* All but the extra keys. disk may be NULL: none. */
static int new_create_domain(sd_bus *bus, sd_bus_message **m, const char *memory, char *disk, const char *network,
                             const char *mac) {
        int r = new_call(bus, m, "createDomain");
        if (r >= 0)
                r = sd_bus_message_append(*m, "s", memory);
        if (r >= 0)
                r = sd_bus_message_append_strv(*m, (char *[]){ disk, NULL });
        if (r >= 0)
                r = sd_bus_message_append(*m, "ssss", network, mac, "qemu", "");
        return r;
}

/* Paused, and with a disk that they share. */
static int append_small(sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "paused", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "disk_formats", "as", 1, "raw:ro");
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

static void create_domain(sd_bus *bus, char **w) {
        AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const char *name;

        int r = new_create_domain(bus, &m, w[0], NULL, w[1], w[2]);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 3, "kernel", "s", w[3], "initrd", "s", w[4], "cmdline", "s",
                                          w[5]);
        if (r < 0)
                answer_error(r, NULL);
        else if (call(bus, m, &reply) >= 0)
                printf("\t%s\n", sd_bus_message_read(reply, "s", &name) >= 0 ? name : "(a reply of another form)");
}

static int new_destroy_domain(sd_bus *bus, sd_bus_message **m, const char *name) {
        int r = new_call(bus, m, "destroyDomain");
        if (r >= 0)
                r = sd_bus_message_append(*m, "ss", name, "qemu");
        return r;
}

static void destroy_domain(sd_bus *bus, const char *name) {
        AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;

        int r = new_destroy_domain(bus, &m, name);
        if (r < 0)
                answer_error(r, NULL);
        else if (call(bus, m, &reply) >= 0)
                putchar('\n');
}

/* Many requests on their way at once: what has been answered so far. */
typedef struct Burst {
        size_t waiting;
        char error[512]; /* the first */
        char *names;     /* each with a tab before it */
        size_t names_len;
        FILE *names_file;
} Burst;

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        Burst *b = userdata;
        const char *name;

        (void)ret_error;
        b->waiting--;
        if (sd_bus_message_is_method_error(m, NULL)) {
                if (!b->error[0])
                        snprintf(b->error, sizeof b->error, "%s", sd_bus_message_get_error(m)->message);
        } else if (sd_bus_message_has_signature(m, "s") && sd_bus_message_read(m, "s", &name) > 0)
                fprintf(b->names_file, "\t%s", name);
        return 0;
}

static int send_burst(sd_bus *bus, sd_bus_message *m, Burst *b) {
        int r = sd_bus_call_async(bus, NULL, m, on_reply, b, TIMEOUT);
        if (r >= 0)
                b->waiting++;
        return r;
}

static void finish_burst(sd_bus *bus, Burst *b, uint64_t start, int r) {
        while (r >= 0 && b->waiting > 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        uint64_t end = now_nsec();
        fflush(b->names_file);
        if (r < 0)
                answer_error(r, NULL);
        else if (b->error[0])
                printf("error\t%s\n", b->error);
        else
                printf("ok\t%llu%s\n", (unsigned long long)(end - start), b->names);
}

static void burst(sd_bus *bus, size_t count, char **w, bool create) {
        Burst b = { 0 };
        int r = 0;

        b.names_file = open_memstream(&b.names, &b.names_len);
        if (!b.names_file) {
                answer_error(-ENOMEM, NULL);
                return;
        }
        uint64_t start = now_nsec();
        for (size_t i = 0; i < count && r >= 0; i++) {
                AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL;

                r = create ? new_create_domain(bus, &m, w[0], w[2], w[1], "") : new_destroy_domain(bus, &m, w[i]);
                if (r >= 0 && create)
                        r = append_small(m);
                if (r >= 0)
                        r = send_burst(bus, m, &b);
        }
        finish_burst(bus, &b, start, r);
        fclose(b.names_file);
        free(b.names);
}

static void serve(sd_bus *bus, char **w, size_t n) {
        if (strcmp(w[0], "ping") == 0)
                ping(bus);
        else if (strcmp(w[0], "create-network") == 0)
                create_network(bus, w + 1);
        else if (strcmp(w[0], "destroy-network") == 0 && n == 2)
                destroy_network(bus, w[1]);
        else if (strcmp(w[0], "create-domain") == 0 && n == 7)
                create_domain(bus, w + 1);
        else if (strcmp(w[0], "destroy-domain") == 0 && n == 2)
                destroy_domain(bus, w[1]);
        else if (strcmp(w[0], "create-domains") == 0 && n == 5)
                burst(bus, strtoul(w[1], NULL, 10), w + 2, true);
        else if (strcmp(w[0], "destroy-domains") == 0)
                burst(bus, n - 1, w + 1, false);
        else
                printf("error\tno such request: %s, of %zu words\n", w[0], n);
        fflush(stdout);
}

int main(int argc, char **argv) {
        sd_bus *bus = NULL;
        char *line = NULL;
        size_t size = 0;

        int r = argc == 2 ? connect_daemon(argv[1], &bus) : -EINVAL;
        if (r < 0) {
                fprintf(stderr, "usage: bench-client ADDRESS, to which can be connected: %s\n", strerror(-r));
                return 1;
        }
        while (getline(&line, &size, stdin) > 0) {
                char *words[WORDS_MAX + 1], *rest = line;
                size_t n = 0;

                line[strcspn(line, "\n")] = '\0';
                while (rest && n < WORDS_MAX)
                        words[n++] = strsep(&rest, "\t");
                words[n] = NULL;
                serve(bus, words, n);
        }
        free(line);
        sd_bus_flush_close_unref(bus);
        return 0;
}
