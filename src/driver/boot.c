#include "driver/boot.h"

#include "base/fd.h"
#include "base/string-util.h"

int boot_check(const DriverHost *host, const DomainSpec *spec, Error *e) {
        AUTO(string_drop) char *path = NULL;

        return spec->bootloader ? boot_loaders_find(&host->settings->boot_loaders, spec->bootloader, &path, e) : 0;
}

uint64_t boot_copy_max(const DomainSpec *spec) {
        return spec->memory < BOOT_OUTPUT_MAX ? spec->memory : BOOT_OUTPUT_MAX;
}

int boot_check_size(const GuestFiles *files, const DomainSpec *spec, uint64_t max, Error *e) {
        char size[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];
        uint64_t kernel = files->kernel_size, initrd = files->initrd_size;
        uint64_t both = kernel + initrd < kernel ? UINT64_MAX : kernel + initrd;

        size_format(both, size);
        if (both > spec->memory)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "Kernel and initrd (%s) do not fit into the domain's memory (%s)", size,
                                 size_format(spec->memory, limit));
        if (both > max)
                return error_set(e, ERROR_INVALID_INPUT, "Kernel and initrd (%s) are larger than %s", size,
                                 size_format(max, limit));
        return 0;
}

int boot_start(BootLoaderJob *j, Guest *g, Error *e) {
        const DriverSettings *settings = g->host->settings;
        const DomainSpec *spec = &g->domain->spec;

        j->known = &settings->boot_loaders;
        j->name = spec->bootloader;
        j->disk = spec->disks[0].path;
        j->disk_fd = g->files.disks[0].layers[0].fd;
        j->cmdline = spec->cmdline;
        j->privileged = g->host->privileged;
        j->owner = g->domain->owner->uid;
        j->jail_uid = g->domain->jail_uid;
        /* All of it is to fit into the guest's memory, which its owner is charged with. */
        j->output_max = boot_copy_max(spec);
        j->console = g->console;
        j->deadline_usec = settings->boot_loader_usec;
        j->lingering = domain_lingering(g->domain);
        return boot_loader_start(j, g->host->event, e);
}

void boot_drop(Guest *g) {
        GuestFiles *f = &g->files;

        fd_drop(&f->kernel_fd);
        fd_drop(&f->initrd_fd);
        string_drop(&f->cmdline);
        f->kernel_size = f->initrd_size = 0;
}

void boot_take(Guest *g, BootChoice *choice) {
        GuestFiles *f = &g->files;

        boot_drop(g);
        f->kernel_fd = fd_take(&choice->kernel_fd);
        f->initrd_fd = fd_take(&choice->initrd_fd);
        f->kernel_size = choice->kernel_size;
        f->initrd_size = choice->initrd_size;
        f->cmdline = TAKE(choice->cmdline);
}
