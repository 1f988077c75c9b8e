/* The store: everything recorded comes back, and neither a killed writer, a full file system, a damaged file nor
 * another boot or schema leads to anything but the last whole state or a clear refusal. */
#include "test-objects.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/test-remove.h"
#include "core/store.h"

static char alpha[] = "alpha", beta[] = "beta", boom[] = "boom";
static char *const two_hosts[] = { alpha, beta, NULL };
#define BOOT "4ac0e2ff-0000-4000-8000-000000000001"

typedef struct Fixture {
        char path[64];
        int fd;
        Store *store;
        Registry registry;
        bool mounted, rebooted;
        Error error;
} Fixture;

static void fixture_open(Fixture *f) {
        assert_int_equal(store_open(f->fd, BOOT, &f->store, &f->rebooted, &f->error), 0);
        registry_init(&f->registry);
}

static void fixture_close(Fixture *f) {
        f->store = store_close(f->store);
        registry_done(&f->registry);
}

/* As after the death of the daemon: all that is in memory is dropped, and read back. */
static void fixture_reload(Fixture *f) {
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(store_load(f->store, &f->registry, &f->error), 0);
        assert_false(f->rebooted);
}

static void fixture_directory(Fixture *f) {
        *f = (Fixture){ .error = ERROR_INIT };
        strcpy(f->path, "/tmp/test-store-XXXXXX");
        assert_non_null(mkdtemp(f->path));
}

static int setup(void **state) {
        Fixture *f = malloc(sizeof *f);
        fixture_directory(f);
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        fixture_open(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;
        fixture_close(f);
        close(f->fd);
        if (f->mounted)
                umount(f->path);
        test_remove_tree(f->path);
        error_clear(&f->error);
        free(f);
        return 0;
}

static void test_file_is_private(void **state) {
        Fixture *f = *state;
        struct stat st;
        assert_int_equal(fstatat(f->fd, "state.db", &st, 0), 0);
        assert_int_equal(st.st_mode & 0777, 0600);

        /* And nobody else's while it is open. */
        Store *second = NULL;
        pid_t pid = fork();
        if (pid == 0)
                _exit(store_open(f->fd, BOOT, &second, &f->rebooted, &f->error) == -EBUSY &&
                                      strstr(f->error.message, "in use")
                              ? 0
                              : 1);
        int status;
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
}

static void test_networks_come_back(void **state) {
        Fixture *f = *state;
        Network *n = make_network(&f->registry, "debmarshal-3", 1000, "10.64.0.8/29", two_hosts);
        Mac mac = n->hosts[1].mac;
        struct in6_addr address6 = n->hosts[1].address6;
        uint64_t created = n->created_usec;
        registry_add_network(&f->registry, n);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);
        fixture_reload(f);

        n = registry_network(&f->registry, "debmarshal-3");
        assert_non_null(n);
        assert_int_equal(n->owner->uid, 1000);
        assert_int_equal(n->owner->held.networks, 1);
        assert_int_equal(n->state, NETWORK_CREATING);
        assert_null(n->reason);
        assert_int_equal(n->subnet.base, 0x0a400008);
        assert_int_equal(n->subnet.prefix, 29);
        assert_int_equal(n->created_usec, created);
        assert_int_equal(n->keeper.pid, 0);
        assert_int_equal(n->n_hosts, 2);
        assert_string_equal(n->hosts[0].name, "alpha");
        assert_string_equal(n->hosts[1].name, "beta");
        assert_int_equal(n->hosts[1].address, 0x0a40000b);
        assert_true(mac_equal(&n->hosts[1].mac, &mac));
        assert_memory_equal(&n->hosts[1].address6, &address6, sizeof address6);

        n->keeper = (ProcessId){ .pid = 4321, .start_time = 1ULL << 40 };
        n->user_ns = 4026531837;
        n->net_ns = 4026531840;
        registry_set_network_state(&f->registry, n, NETWORK_UP);
        registry_set_network_state(&f->registry, n, NETWORK_FAILED);
        n->reason = strdup("it's; DROP TABLE network --");
        assert_int_equal(store_update_network(f->store, n, &f->error), 0);
        fixture_reload(f);

        n = registry_network(&f->registry, "debmarshal-3");
        assert_int_equal(n->state, NETWORK_FAILED);
        assert_string_equal(n->reason, "it's; DROP TABLE network --");
        assert_int_equal(n->keeper.pid, 4321);
        assert_int_equal(n->keeper.start_time, 1ULL << 40);
        assert_int_equal(n->user_ns, 4026531837);
        assert_int_equal(n->net_ns, 4026531840);

        assert_int_equal(store_remove_network(f->store, n, &f->error), 0);
        assert_int_equal(store_update_network(f->store, n, &f->error), -ENOENT);
        error_clear(&f->error);
        fixture_reload(f);
        assert_int_equal(f->registry.n_networks, 0);
}

static void test_domains_come_back(void **state) {
        Fixture *f = *state;
        f->registry.next_domain_id = 7;
        Network *n = make_network(&f->registry, "debmarshal-0", 1000, "10.64.0.8/29", two_hosts);
        registry_add_network(&f->registry, n);
        Domain *d = make_domain(&f->registry, "debmarshal-0", 1000, "debmarshal-0", NULL);
        Mac mac = d->spec.nics[0].mac;
        memcpy(d->uuid, "0123456789abcdef", sizeof d->uuid);
        registry_add_domain(&f->registry, d);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);
        assert_int_equal(store_add_domain(f->store, d, &f->error), 0);
        d->process = (ProcessId){ .pid = 99, .start_time = 12345 };
        d->jail_uid = 0x70000003;
        registry_set_domain_state(&f->registry, d, DOMAIN_PAUSED);
        assert_int_equal(string_replace(&d->spec.hypervisor, "qemu"), 0);
        assert_int_equal(store_update_domain(f->store, d, &f->error), 0);
        fixture_reload(f);

        d = registry_domain(&f->registry, "debmarshal-0");
        assert_non_null(d);
        assert_int_equal(d->id, 7);
        assert_int_equal(f->registry.next_domain_id, 8);
        assert_int_equal(d->state, DOMAIN_PAUSED);
        assert_int_equal(d->process.pid, 99);
        assert_int_equal(d->process.start_time, 12345);
        assert_int_equal(d->jail_uid, 0x70000003);
        assert_memory_equal(d->uuid, "0123456789abcdef", sizeof d->uuid);
        assert_int_equal(d->spec.memory, 64 << 20);
        assert_string_equal(d->spec.hypervisor, "qemu");
        assert_true(mac_equal(&d->spec.nics[0].mac, &mac));
        assert_int_equal(d->owner->held.domains, 1);
        assert_int_equal(d->owner->held.memory, 64 << 20);
        assert_int_equal(registry_network(&f->registry, "debmarshal-0")->n_domains, 1);

        EndedDomain ended = {
                .id = 7, .name = d->name, .uid = 1000, .reason = END_CRASH, .message = boom, .ended_usec = 5
        };
        assert_int_equal(store_remove_domain(f->store, d, &ended, &f->error), 0);
        fixture_reload(f);
        assert_int_equal(f->registry.n_domains, 0);
        assert_int_equal(f->registry.next_domain_id, 8); /* an id is not used again */
        EndedDomain *e = registry_ended(&f->registry, "debmarshal-0", 1000);
        assert_non_null(e);
        assert_int_equal(e->reason, END_CRASH);
        assert_string_equal(e->message, "boom");
        assert_int_equal(e->ended_usec, 5);

        assert_int_equal(store_remove_ended(f->store, 7, &f->error), 0);
        fixture_reload(f);
        assert_null(registry_ended(&f->registry, "debmarshal-0", 1000));
}

static void test_failed_add_leaves_nothing(void **state) {
        Fixture *f = *state;
        Network *n = make_network(&f->registry, "debmarshal-0", 1000, "10.64.0.8/29", two_hosts);
        registry_add_network(&f->registry, n);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);
        assert_true(store_add_network(f->store, n, &f->error) < 0);
        assert_int_equal(f->error.id, ERROR_INTERNAL);
        assert_non_null(strstr(f->error.message, "/state.db: "));
        error_clear(&f->error);
        fixture_reload(f);
        assert_int_equal(f->registry.n_networks, 1);
        assert_int_equal(registry_network(&f->registry, "debmarshal-0")->n_hosts, 2);
}

static void test_another_boot_empties(void **state) {
        Fixture *f = *state;
        Network *n = make_network(&f->registry, "debmarshal-0", 1000, "10.64.0.8/29", two_hosts);
        registry_add_network(&f->registry, n);
        f->registry.next_domain_id = 41;
        Domain *d = make_domain(&f->registry, "debmarshal-0", 1000, "debmarshal-0", NULL);
        registry_add_domain(&f->registry, d);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);
        assert_int_equal(store_add_domain(f->store, d, &f->error), 0);
        fixture_close(f);

        assert_int_equal(store_open(f->fd, "another", &f->store, &f->rebooted, &f->error), 0);
        assert_true(f->rebooted);
        registry_init(&f->registry);
        assert_int_equal(store_load(f->store, &f->registry, &f->error), 0);
        assert_int_equal(f->registry.n_networks, 0);
        assert_int_equal(f->registry.n_domains, 0);
        assert_int_equal(f->registry.next_domain_id, 42);
        fixture_close(f);

        /* Told once. */
        assert_int_equal(store_open(f->fd, "another", &f->store, &f->rebooted, &f->error), 0);
        assert_false(f->rebooted);
        registry_init(&f->registry);
}

static void change_file(Fixture *f, const char *sql) {
        char path[128];
        sqlite3 *db;
        snprintf(path, sizeof path, "%s/state.db", f->path);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
}

static void assert_refused(Fixture *f, int r, const char *text) {
        assert_int_equal(store_open(f->fd, BOOT, &f->store, &f->rebooted, &f->error), r);
        assert_non_null(strstr(f->error.message, f->path));
        assert_non_null(strstr(f->error.message, text));
        error_clear(&f->error);
}

static void test_newer_schema_is_refused(void **state) {
        Fixture *f = *state;
        fixture_close(f);
        change_file(f, "PRAGMA user_version = 1000");
        assert_refused(f, -EPROTONOSUPPORT, "newer");
        change_file(f, "PRAGMA user_version = 2");
        fixture_open(f);
}

static void test_damaged_file_is_refused(void **state) {
        Fixture *f = *state;
        fixture_close(f);
        int fd = openat(f->fd, "state.db", O_WRONLY);
        static const char garbage[3000] = "this is no database";
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, 0), sizeof garbage);
        close(fd);
        assert_refused(f, -EUCLEAN, "remove the file");

        /* Half of it gone. */
        unlinkat(f->fd, "state.db", 0);
        fixture_open(f);
        fixture_close(f);
        fd = openat(f->fd, "state.db", O_WRONLY);
        assert_int_equal(ftruncate(fd, 8192), 0);
        close(fd);
        assert_refused(f, -EUCLEAN, "damaged");
        unlinkat(f->fd, "state.db", 0);
        fixture_open(f);
}

static void test_senseless_rows_are_refused(void **state) {
        static const char *const rows[] = {
                "INSERT INTO network VALUES ('debmarshal-0',0,'flying',NULL,0,24,'none',zeroblob(16),0,0,0,0,0)",
                "INSERT INTO network VALUES ('debmarshal-0',0,'up',NULL,0,99,'none',zeroblob(16),0,0,0,0,0)",
                "INSERT INTO network VALUES ('debmarshal-0',0,'up',NULL,0,24,'none',zeroblob(3),0,0,0,0,0)",
                "INSERT INTO network VALUES ('../x',0,'up',NULL,0,24,'none',zeroblob(16),0,0,0,0,0)",
                "INSERT INTO network VALUES ('debmarshal-0',-1,'up',NULL,0,24,'none',zeroblob(16),0,0,0,0,0)",
                "INSERT INTO domain VALUES ('debmarshal-0',1,0,'running','{]','none',NULL,0,0,0,0,zeroblob(16))",
                "INSERT INTO domain VALUES ('debmarshal-0',1,0,'running','{}','none',NULL,0,0,0,0,zeroblob(16))",
                "INSERT INTO ended VALUES (1,'debmarshal-0',0,'bored',NULL,0)",
        };
        Fixture *f = *state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                fixture_close(f);
                change_file(f, "DELETE FROM network; DELETE FROM domain; DELETE FROM ended");
                change_file(f, rows[i]);
                fixture_open(f);
                assert_int_equal(store_load(f->store, &f->registry, &f->error), -EUCLEAN);
                assert_non_null(strstr(f->error.message, "makes no sense"));
                error_clear(&f->error);
        }
}

/* Adds and removes for ever: each network has its two hosts, each domain its network. */
static void write_for_ever(Fixture *f) {
        char name[OBJECT_NAME_MAX];
        for (unsigned i = 0;; i = (i + 1) % 20) {
                object_name_format(i, name);
                Network *n = registry_network(&f->registry, name);
                if (n) {
                        Domain *d = registry_domain(&f->registry, name);
                        EndedDomain ended = { .id = d->id, .name = d->name, .reason = END_DESTROYED };
                        if (store_remove_domain(f->store, d, &ended, NULL) < 0 ||
                            store_remove_network(f->store, n, NULL) < 0 ||
                            store_remove_ended(f->store, ended.id, NULL) < 0)
                                _exit(1);
                        registry_remove_domain(&f->registry, d);
                        registry_remove_network(&f->registry, n);
                        continue;
                }
                n = make_network(&f->registry, name, 1000, "10.64.0.0/29", two_hosts);
                registry_add_network(&f->registry, n);
                Domain *d = make_domain(&f->registry, name, 1000, name, NULL);
                registry_add_domain(&f->registry, d);
                if (store_add_network(f->store, n, NULL) < 0 || store_add_domain(f->store, d, NULL) < 0)
                        _exit(1);
        }
}

static void assert_consistent(Registry *r) {
        Network *n;
        TAILQ_FOREACH (n, &r->networks, entry) {
                assert_int_equal(n->n_hosts, 2);
                assert_true(n->n_domains <= 1);
        }
        Domain *d;
        TAILQ_FOREACH (d, &r->domains, entry) {
                assert_non_null(registry_network(r, d->name));
                assert_true(d->id < r->next_domain_id);
                EndedDomain *ended = registry_ended(r, d->name, (uid_t)-1);
                assert_true(!ended || ended->id != d->id);
        }
}

static void test_a_killed_writer_leaves_a_whole_state(void **state) {
        Fixture *f = *state;
        fixture_close(f);
        srand(20);
        for (int round = 0; round < 60; round++) {
                pid_t pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        fixture_open(f);
                        if (store_load(f->store, &f->registry, &f->error) < 0)
                                _exit(1);
                        /* What a former death left half done, as the daemon would undo it. */
                        Network *n, *next;
                        for (n = TAILQ_FIRST(&f->registry.networks); n; n = next) {
                                next = TAILQ_NEXT(n, entry);
                                if (registry_domain(&f->registry, n->name))
                                        continue;
                                store_remove_network(f->store, n, NULL);
                                registry_remove_network(&f->registry, n);
                        }
                        while (!TAILQ_EMPTY(&f->registry.ended)) {
                                store_remove_ended(f->store, TAILQ_FIRST(&f->registry.ended)->id, NULL);
                                registry_remove_ended(&f->registry, TAILQ_FIRST(&f->registry.ended));
                        }
                        write_for_ever(f);
                }
                usleep((useconds_t)(rand() % 12000));
                kill(pid, SIGKILL);
                int status;
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));

                fixture_open(f);
                assert_int_equal(store_load(f->store, &f->registry, &f->error), 0);
                assert_consistent(&f->registry);
                fixture_close(f);
        }
        fixture_open(f);
}

static int setup_small(void **state) {
        Fixture *f = malloc(sizeof *f);
        fixture_directory(f);
        assert_int_equal(mount("test-store", f->path, "tmpfs", 0, "size=1M"), 0);
        f->mounted = true;
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fixture_open(f);
        *state = f;
        return 0;
}

/* Networks of that number and up, until the file system refuses one; returns its number. */
static unsigned add_until_full_from(Fixture *f, unsigned first) {
        for (unsigned i = first;; i++) {
                char name[OBJECT_NAME_MAX];
                assert_true(i < 9000);
                Network *n = make_network(&f->registry, object_name_format(i, name), 1000, "10.64.0.0/29", two_hosts);
                registry_add_network(&f->registry, n);
                int r = store_add_network(f->store, n, &f->error);
                if (r < 0) {
                        assert_int_equal(r, -ENOSPC);
                        assert_int_equal(f->error.id, ERROR_INTERNAL);
                        assert_non_null(strstr(f->error.message, "no space left in the runtime directory"));
                        error_clear(&f->error);
                        registry_remove_network(&f->registry, n);
                        return i;
                }
        }
}

static void test_a_full_file_system_changes_nothing(void **state) {
        Fixture *f = *state;
        unsigned count = add_until_full_from(f, 0);
        assert_true(count > 10);

        /* Nor does a second try, and what is there can be read, also by a new daemon. */
        assert_int_equal(add_until_full_from(f, count), count);
        fixture_reload(f);
        assert_int_equal(f->registry.n_networks, count);
        assert_consistent(&f->registry);

        /* What is full can be emptied, and used again. */
        for (unsigned i = 0; i < count / 2; i++) {
                Network *first = TAILQ_FIRST(&f->registry.networks);
                assert_int_equal(store_remove_network(f->store, first, &f->error), 0);
                registry_remove_network(&f->registry, first);
        }
        Network *n = make_network(&f->registry, "debmarshal-99999", 1000, "10.64.0.0/29", two_hosts);
        registry_add_network(&f->registry, n);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);
        fixture_reload(f);
        assert_int_equal(f->registry.n_networks, count - count / 2 + 1);
}

/* Somebody else took the last byte: destroying must be possible all the same. */
static void test_what_others_filled_can_be_emptied(void **state) {
        Fixture *f = *state;
        Network *n = make_network(&f->registry, "debmarshal-0", 1000, "10.64.0.0/29", two_hosts);
        registry_add_network(&f->registry, n);
        assert_int_equal(store_add_network(f->store, n, &f->error), 0);

        static const char block[4096];
        int fd = openat(f->fd, "ballast", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        while (write(fd, block, sizeof block) > 0)
                ;
        close(fd);
        assert_int_equal(errno, ENOSPC);

        registry_set_network_state(&f->registry, n, NETWORK_DESTROYING);
        assert_int_equal(store_update_network(f->store, n, &f->error), 0);
        assert_int_equal(store_remove_network(f->store, n, &f->error), 0);
        fixture_reload(f);
        assert_int_equal(f->registry.n_networks, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_file_is_private, setup, teardown),
                cmocka_unit_test_setup_teardown(test_networks_come_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_domains_come_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_add_leaves_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_another_boot_empties, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damaged_file_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_senseless_rows_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_killed_writer_leaves_a_whole_state, setup, teardown),
        };
        const struct CMUnitTest root_tests[] = {
                cmocka_unit_test_setup_teardown(test_a_full_file_system_changes_nothing, setup_small, teardown),
                cmocka_unit_test_setup_teardown(test_what_others_filled_can_be_emptied, setup_small, teardown),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        if (geteuid() != 0) {
                fprintf(stderr, "not root: the tests on a full file system are skipped\n");
                return failed ? failed : 77;
        }
        return failed + cmocka_run_group_tests(root_tests, NULL, NULL);
}
