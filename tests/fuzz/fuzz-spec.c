/* Domain specifications. An input that begins with '{' is a record as the store keeps it. Any other is a request, one
 * argument a line: memory, network, MAC, hypervisor, arch, then disks (lines that begin with '/') and extra keys, whose
 * kind is told by what stands behind the key: '=' a string, '#' a number, '?' a boolean, ':' strings. */
#include "base/string-util.h"
#include "core/spec.h"
#include "fuzz.h"

static void check_round_trip(const DomainSpec *s) {
        DomainSpec back = DOMAIN_SPEC_INIT;
        char *first = NULL, *second = NULL;

        /* Refused only for what is not UTF-8, which the bus would not have let through. */
        if (domain_spec_to_json(s, &first) < 0)
                return;
        CHECK(domain_spec_from_json(first, &back) == 0);
        CHECK(domain_spec_to_json(&back, &second) == 0);
        CHECK(string_equal(first, second));
        domain_spec_clear(&back);
        free(first);
        free(second);
}

static void check_values(const DomainSpec *s) {
        CHECK(s->memory > 0 && s->memory % (1 << 20) == 0);
        CHECK(s->vcpus > 0);
        CHECK(s->n_disks <= DISKS_PER_DOMAIN_MAX && s->n_nics <= NICS_PER_DOMAIN_MAX);
        for (size_t i = 0; i < s->n_disks; i++)
                CHECK(s->disks[i].path[0] == '/' && s->disks[i].format < DISK_FORMAT_COUNT);
        CHECK(strspn(s->arch, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s->arch));
        for (const char *p = s->cmdline ? s->cmdline : ""; *p; p++)
                CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void run_record(const char *text) {
        DomainSpec s = DOMAIN_SPEC_INIT;

        if (domain_spec_from_json(text, &s) == 0) {
                check_values(&s);
                check_round_trip(&s);
        }
        domain_spec_clear(&s);
}

static int set_extra(DomainSpec *s, char *line, Error *e) {
        char *kind = strpbrk(line, "=#?:"), **strings = NULL;
        ExtraValue v = { .kind = EXTRA_OTHER };

        if (!kind)
                return domain_spec_set_extra(s, line, &v, e);
        char mark = *kind, *value = kind + 1, *word;
        *kind = '\0';
        v.string = value;
        v.boolean = *value == '1';
        if (mark == '=')
                v.kind = EXTRA_STRING;
        else if (mark == '?')
                v.kind = EXTRA_BOOLEAN;
        else if (mark == '#' && parse_u64(value, UINT64_MAX, &v.number) == 0)
                v.kind = EXTRA_NUMBER;
        else if (mark == ':') {
                v.kind = EXTRA_STRINGS;
                while ((word = strsep(&value, " ")))
                        CHECK(string_list_append(&strings, word) == 0);
                v.strings = strings;
        }
        int r = domain_spec_set_extra(s, line, &v, e);
        string_list_free(&strings);
        return r;
}

static int set_all(DomainSpec *s, char *text, Error *e) {
        static char empty[] = "";
        char *fixed[5] = { empty, empty, empty, empty, empty }, *rest = text, *line, **disks = NULL, **extras = NULL;

        for (size_t i = 0; i < ARRAY_LEN(fixed) && (line = strsep(&rest, "\n")); i++)
                fixed[i] = line;
        while ((line = strsep(&rest, "\n")))
                CHECK(string_list_append(*line == '/' ? &disks : &extras, line) == 0);
        int r = domain_spec_set(s, fixed[0], disks, fixed[1], fixed[2], fixed[3], fixed[4], e);
        for (char **p = extras; r == 0 && p && *p; p++)
                r = set_extra(s, *p, e);
        string_list_free(&disks);
        string_list_free(&extras);
        return r;
}

static void run_request(char *text) {
        const Limits limits = LIMITS_DEFAULT;
        DomainSpec s = DOMAIN_SPEC_INIT;
        Error e = ERROR_INIT;

        int r = set_all(&s, text, &e);
        if (r == 0) {
                check_values(&s);
                check_round_trip(&s);
                r = domain_spec_check(&s, &limits, &e);
        }
        CHECK((r < 0) == error_is_set(&e));
        for (const char *p = error_is_set(&e) ? error_text(&e) : ""; *p; p++)
                CHECK(*p >= 0x20 && *p < 0x7f);
        error_clear(&e);
        domain_spec_clear(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_text(data, size);

        if (*text == '{')
                run_record(text);
        else
                run_request(text);
        free(text);
        return 0;
}
