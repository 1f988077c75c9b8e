#include "driver/qemu/kvm-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/time-util.h"
#include "driver/probe.h"

#define DEVICE        "/dev/kvm"
#define DEADLINE_USEC (2 * USEC_PER_SEC)

/* ---- in the worker ---- */

static int open_device(const DriverHost *host, int *ret_fd, Error *e) {
        AUTO(fd_drop) int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
        struct stat st;

        if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 DEVICE
                                 " is not there: the processor's virtualisation is off, or module kvm is missing");
        if (fd < 0 && (errno == EACCES || errno == EPERM))
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 DEVICE " may not be opened by this user: it takes membership in group kvm");
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(e, ERROR_NOT_SUPPORTED, "Failed to open " DEVICE ": %s", strerror(errno));
        /* Emulators never run as root, only with the device's group. */
        if (host->privileged && (st.st_mode & 0060) != 0060 && (st.st_mode & 0006) != 0006)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 DEVICE " has mode %o, so only root may use it: it takes 0660 (chmod, or a udev rule)",
                                 st.st_mode & 07777);
        *ret_fd = fd_take(&fd);
        return 0;
}

static int run_probe(void *host, UNUSED WorkerReply *reply, Error *e) {
        AUTO(fd_drop) int device = -1;
        AUTO(fd_drop) int vm = -1;

        int r = open_device(host, &device, e);
        if (r < 0)
                return r;
        int version = ioctl(device, KVM_GET_API_VERSION, 0);
        if (version != KVM_API_VERSION)
                return error_set(e, ERROR_NOT_SUPPORTED, DEVICE " speaks version %d, not %d", version, KVM_API_VERSION);
        vm = ioctl(device, KVM_CREATE_VM, 0);
        if (vm < 0)
                return error_set(e, ERROR_NOT_SUPPORTED, DEVICE " makes no virtual machines: %s", strerror(errno));
        int size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (size < (int)sizeof(struct kvm_run))
                return error_set(e, ERROR_NOT_SUPPORTED, DEVICE " does not tell the size of a virtual processor");
        return kvm_run_code(vm, size, e);
}

/* ---- in the daemon ---- */

static const ProbeLook look = {
        .what = "probing KVM",
        .run = run_probe,
        .deadline_usec = DEADLINE_USEC,
        .too_late = DEVICE
        " is there, but runs a guest's code slower than an emulator does, or not at all: this host seems to be a "
        "virtual machine without nested virtualisation",
};

int kvm_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        return probe_in_worker(host, &look, answer, userdata, e);
}
