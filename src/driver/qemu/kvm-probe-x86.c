#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "driver/qemu/kvm-probe.h"

#define CODE_ADDRESS 0x1000
#define CODE_SIZE    0x1000
#define PORT         0x42
#define VALUE        0x5a

/* Real mode: put a number together, send it to a port, halt. */
static const unsigned char code[] = {
        0xb0, VALUE - 1, /* mov $VALUE-1, %al */
        0x04, 1,         /* add $1, %al */
        0xe6, PORT,      /* out %al, $PORT */
        0xf4,            /* hlt */
};

static int failed(Error *e, const char *what) {
        return error_set(e, ERROR_NOT_SUPPORTED, "/dev/kvm fails to %s: %s", what, strerror(errno));
}

static int load_code(int vm, Error *e) {
        void *memory = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return failed(e, "get memory");
        memcpy(memory, code, sizeof code);

        struct kvm_userspace_memory_region region = {
                .guest_phys_addr = CODE_ADDRESS,
                .memory_size = CODE_SIZE,
                .userspace_addr = (uintptr_t)memory,
        };
        return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? failed(e, "take memory") : 0;
}

static int set_registers(int vcpu, Error *e) {
        struct kvm_regs regs = { .rip = CODE_ADDRESS, .rflags = 2 };
        struct kvm_sregs sregs;

        if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
                return failed(e, "tell registers");
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
                return failed(e, "set registers");
        return 0;
}

int kvm_run_code(int vm, int vcpu_mmap_size, Error *e) {
        AUTO(fd_drop) int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
        if (vcpu < 0)
                return failed(e, "make a virtual processor");
        struct kvm_run *run = mmap(NULL, (size_t)vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
        if (run == MAP_FAILED)
                return failed(e, "share a virtual processor");
        int r = load_code(vm, e);
        if (r >= 0)
                r = set_registers(vcpu, e);
        if (r < 0)
                return r;

        while (ioctl(vcpu, KVM_RUN, 0) < 0)
                if (errno != EINTR && errno != EAGAIN)
                        return failed(e, "run a guest's code");
        const unsigned char *data = (const unsigned char *)run + run->io.data_offset;
        if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT || run->io.port != PORT ||
            *data != VALUE)
                return error_set(
                        e, ERROR_NOT_SUPPORTED,
                        "/dev/kvm runs a guest's code wrongly (exit reason %u): is this a virtual machine without "
                        "nested virtualisation?",
                        run->exit_reason);
        return 0;
}
