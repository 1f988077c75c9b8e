#include "driver/emulator.h"

#include <stdlib.h>
#include <string.h>

int emulator_give_fd(EmulatorFds *fds, int fd) {
        if (fds->count < EMULATOR_FDS_MAX)
                fds->fds[fds->count] = fd;
        return 3 + (int)fds->count++;
}

void emulator_give_set(EmulatorFds *fds, Argv *a, int fd, unsigned set) {
        argv_add_pairf(a, "-add-fd", "fd=%d,set=%u", emulator_give_fd(fds, fd), set);
}

static const char *boolean(bool b) {
        return b ? "true" : "false";
}

/* One layer of a disk as two nodes: where the bytes are ("diskN-M-file"), and their format ("diskN-M") over what backs
 * it. An explicit null backing keeps QEMU from following the name in the image. */
static void add_layer(const DiskFiles *disk, size_t index, size_t layer, Argv *a, EmulatorFds *fds) {
        const DiskLayer *l = &disk->layers[layer];
        bool has_backing = layer + 1 < disk->n_layers;
        unsigned set = EMULATOR_SET_DISK(index, layer);

        emulator_give_set(fds, a, l->fd, set);
        argv_add_pairf(a, "-blockdev",
                       "{\"driver\":\"%s\",\"filename\":\"/dev/fdset/%u\",\"node-name\":\"disk%zu-%zu-file\","
                       "\"read-only\":%s,\"locking\":\"on\",\"aio\":\"threads\",\"discard\":\"unmap\","
                       "\"cache\":{\"direct\":false,\"no-flush\":false}}",
                       l->block_device ? "host_device" : "file", set, index, layer, boolean(l->read_only));
        argv_add(a, "-blockdev");
        if (l->format == DISK_RAW)
                argv_addf(a,
                          "{\"driver\":\"raw\",\"file\":\"disk%zu-%zu-file\",\"node-name\":\"disk%zu-%zu\","
                          "\"read-only\":%s,\"discard\":\"unmap\"}",
                          index, layer, index, layer, boolean(l->read_only));
        else if (has_backing)
                argv_addf(a,
                          "{\"driver\":\"qcow2\",\"file\":\"disk%zu-%zu-file\",\"node-name\":\"disk%zu-%zu\","
                          "\"read-only\":%s,\"discard\":\"unmap\",\"backing\":\"disk%zu-%zu\"}",
                          index, layer, index, layer, boolean(l->read_only), index, layer + 1);
        else
                argv_addf(a,
                          "{\"driver\":\"qcow2\",\"file\":\"disk%zu-%zu-file\",\"node-name\":\"disk%zu-%zu\","
                          "\"read-only\":%s,\"discard\":\"unmap\",\"backing\":null}",
                          index, layer, index, layer, boolean(l->read_only));
}

/* The lowest layer first: a node must exist before another names it. */
void emulator_add_nodes(EmulatorFds *fds, Argv *a, const DiskFiles *disk, size_t index) {
        for (size_t layer = disk->n_layers; layer-- > 0;)
                add_layer(disk, index, layer, a, fds);
}

const char *emulator_disk_meant(const DomainSpec *spec, const char *words) {
        const char *set = words ? strstr(words, "/dev/fdset/") : NULL;

        if (!set)
                return NULL;
        unsigned long number = strtoul(set + strlen("/dev/fdset/"), NULL, 10);
        unsigned long disk = (number - EMULATOR_SET_DISK(0, 0)) / BACKING_CHAIN_MAX;
        return number >= EMULATOR_SET_DISK(0, 0) && disk < spec->n_disks ? spec->disks[disk].path : NULL;
}
