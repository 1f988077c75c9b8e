/* Unit tests of the daemon's side of a stub domain: its name and uuid, its image, its log, and its streams as lines of
 * the guest's console and as viewers. The other domain is a fake. */
#include "base/test-support.h"

#include <sys/socket.h>

#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/xen/fake-vchan.h"
#include "driver/xen/stub.h"

typedef struct Setting {
        DriverSettings settings;
        Limits limits;
        DriverHost host;
        Domain domain;
        Guest guest;
        Stub stub;
        int terminal; /* its other side */
        int client;   /* of the guest's console */
} Setting;

static void client_ended(void *userdata) {
        (void)userdata;
}

static int set_up(void **state) {
        Setting *s = calloc(1, sizeof *s);
        int log_fd, terminal[2];

        assert_non_null(s);
        fake_vchan_reset();
        fake_vchan.served = true;
        assert_true(sd_event_new(&s->host.event) >= 0);
        s->host.settings = &s->settings;
        s->host.limits = &s->limits;
        s->domain.name = (char *)(uintptr_t) "debmarshal-7";
        s->guest = (Guest){ .host = &s->host, .domain = &s->domain, .dir_fd = -1 };
        assert_int_equal(fd_memfd("log", "", 0, false, &log_fd), 0);
        assert_int_equal(console_new(s->host.event, log_fd, 1 << 16, &s->guest.console), 0);
        assert_int_equal(console_attach(s->guest.console, client_ended, NULL, &s->client, NULL), 0);
        assert_return_code(pipe2(terminal, O_CLOEXEC | O_NONBLOCK), 0);
        s->terminal = terminal[1];
        stub_init(&s->stub);
        s->stub.guest = &s->guest;
        assert_int_equal(stub_connect(&s->stub, 7, terminal[0], NULL), 0);
        *state = s;
        return 0;
}

static int tear_down(void **state) {
        Setting *s = *state;

        stub_disconnect(&s->stub);
        stub_disconnect(&s->stub); /* twice is harmless */
        console_free(s->guest.console);
        fd_drop(&s->client);
        fd_drop(&s->terminal);
        sd_event_unref(s->host.event);
        free(s);
        assert_int_equal(fake_vchan.connected, fake_vchan.disconnected);
        return 0;
}

static void run(Setting *s) {
        for (int r = 1; r > 0;) {
                r = sd_event_run(s->host.event, 50 * USEC_PER_MSEC);
                assert_true(r >= 0);
        }
}

static void expect_on_console(Setting *s, const char *text) {
        char buffer[64] = "";

        assert_int_equal(recv(s->client, buffer, sizeof buffer - 1, MSG_DONTWAIT), strlen(text));
        assert_string_equal(buffer, text);
}

static void test_serial_line(void **state) {
        Setting *s = *state;
        char typed[16] = "";

        run(s);
        fake_vchan_send("hello");
        run(s);
        expect_on_console(s, "hello");
        assert_int_equal(send(s->client, "ls\n", 3, 0), 3);
        run(s);
        assert_int_equal(fake_vchan_take(typed, sizeof typed), 3);
        assert_string_equal(typed, "ls\n");
}

/* What the guest said last is not lost with the stub domain. */
static void test_last_output(void **state) {
        Setting *s = *state;

        run(s);
        fake_vchan_send("goodbye");
        stub_disconnect(&s->stub);
        run(s);
        expect_on_console(s, "goodbye");
}

static void test_last_words(void **state) {
        Setting *s = *state;
        AUTO(string_drop) char *none = stub_last_words(&s->stub);

        assert_null(none);
        assert_int_equal(write(s->terminal, "one\npanic\x1b\n", 11), 11);
        AUTO(string_drop) char *words = stub_last_words(&s->stub);
        assert_non_null(words);
        assert_non_null(strstr(words, "one; panic"));
        assert_null(strchr(words, '\x1b'));
        fd_drop(&s->terminal); /* xenconsoled lets go of it: no busy loop */
        run(s);
}

static void test_one_viewer(void **state) {
        Setting *s = *state;
        AUTO(error_clear) Error e = ERROR_INIT;
        int viewer = -1, other = -1;

        fake_vchan.served = false;
        assert_int_equal(stub_open_vnc(&s->stub, &viewer, &e), 0);
        assert_true(stub_open_vnc(&s->stub, &other, &e) < 0);
        assert_int_equal(e.id, ERROR_BUSY);
        fd_drop(&viewer);
        run(s);
        assert_int_equal(stub_open_vnc(&s->stub, &viewer, NULL), 0);
        fd_drop(&viewer);
}

typedef struct Answered {
        unsigned times;
        int fd;
        ErrorId id;
} Answered;

static void answered(void *userdata, int fd, const Error *e) {
        Answered *a = userdata;

        a->times++;
        a->fd = fd;
        a->id = e ? e->id : ERROR_NONE;
}

/* One at a time; a screen that goes answers it, and so does the domain's end. What a picture is, test-shot.c tells. */
static void test_picture(void **state) {
        Setting *s = *state;
        AUTO(error_clear) Error e = ERROR_INIT;
        Answered first = { 0 }, second = { 0 }, third = { 0 };

        fake_vchan.only = "/data/picture";
        assert_int_equal(stub_shoot(&s->stub, answered, &first, NULL), 0);
        assert_true(stub_shoot(&s->stub, answered, &second, &e) < 0);
        assert_int_equal(e.id, ERROR_BUSY);
        fake_vchan_send("no screen at all");
        run(s);
        assert_int_equal(first.times, 1);
        assert_int_equal(first.fd, -1);
        assert_int_equal(first.id, ERROR_HYPERVISOR_FAILED);
        assert_int_equal(stub_shoot(&s->stub, answered, &second, NULL), 0);
        fake_vchan_close();
        run(s);
        assert_int_equal(second.times, 1);
        assert_int_equal(second.id, ERROR_HYPERVISOR_FAILED);
        assert_int_equal(stub_shoot(&s->stub, answered, &third, NULL), 0);
        stub_disconnect(&s->stub);
        run(s);
        assert_int_equal(third.times, 1);
        assert_int_equal(third.id, ERROR_INVALID_STATE);
}

static void test_identity(void **state) {
        const uint8_t uuid[DOMAIN_UUID_SIZE] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
        uint8_t once[DOMAIN_UUID_SIZE], twice[DOMAIN_UUID_SIZE];
        char name[STUB_NAME_MAX];
        Domain of = { .name = (char *)(uintptr_t) "debmarshal-7" }, stub;

        (void)state;
        stub_uuid(uuid, once);
        assert_memory_not_equal(once, uuid, sizeof uuid);
        stub_uuid(once, twice);
        assert_memory_equal(twice, uuid, sizeof uuid);
        memcpy(of.uuid, uuid, sizeof uuid);
        stub_describe(&of, name, &stub);
        assert_string_equal(stub.name, "debmarshal-7-dm");
        assert_memory_equal(stub.uuid, once, sizeof once);
        assert_int_equal(stub.spec.memory, STUB_DOMAIN_MEMORY);
        assert_int_equal(stub.spec.vcpus, 1);
}

static void test_files(void **state) {
        GuestFiles files;
        AUTO(error_clear) Error e = ERROR_INIT;

        (void)state;
        guest_files_init(&files);
        assert_int_equal(stub_check_files(&files, NULL), 0);
        files.kernel_size = 8 << 20;
        files.initrd_size = STUB_FILES_MAX - files.kernel_size;
        assert_int_equal(stub_check_files(&files, NULL), 0);
        files.initrd_size++;
        assert_true(stub_check_files(&files, &e) < 0);
        assert_int_equal(e.id, ERROR_INVALID_INPUT);
        files.kernel_size = UINT64_MAX;
        assert_true(stub_check_files(&files, NULL) < 0);
}

static void test_image(void **state) {
        DriverSettings settings = { .xen_stub_domain = "/nowhere" };
        const DriverHost host = { .settings = &settings };
        AUTO(error_clear) Error e = ERROR_INIT;
        TestDir directory;
        int kernel = -1, initrd = -1;

        (void)state;
        assert_true(stub_open_image(&host, &kernel, &initrd, &e) < 0);
        assert_int_equal(e.id, ERROR_NOT_SUPPORTED);
        assert_non_null(strstr(error_text(&e), "/nowhere/vmlinuz"));
        assert_non_null(strstr(error_text(&e), "stubdomain-image.sh /nowhere"));
        test_dir_open(&directory);
        assert_int_equal(file_replace(directory.fd, "vmlinuz", "k", 0600), 0);
        strcpy(settings.xen_stub_domain, directory.path);
        assert_true(stub_open_image(&host, &kernel, &initrd, NULL) < 0);
        assert_int_equal(kernel, -1);
        assert_int_equal(file_replace(directory.fd, "initrd", "i", 0600), 0);
        assert_int_equal(stub_open_image(&host, &kernel, &initrd, NULL), 0);
        fd_drop(&kernel);
        fd_drop(&initrd);
        test_dir_close(&directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_serial_line, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_last_output, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_last_words, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_one_viewer, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_picture, set_up, tear_down),
                cmocka_unit_test(test_identity),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_image),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
