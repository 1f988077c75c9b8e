/* The code counts down in a loop, in long mode as a kernel of today would, then puts a number together and sends it to
 * a port. Where a guest runs on the processor that takes some ten milliseconds. Where KVM itself goes through a guest's
 * instructions one by one, since the processor cannot (seen on hosts that are virtual machines), it takes longer than
 * the worker's deadline. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "driver/qemu/kvm-probe.h"

#define MEMORY_SIZE 0x6000
#define PML4        0x1000
#define PDPT        0x2000
#define PAGE_DIR    0x3000
#define CODE        0x4000
#define STACK       0x6000
#define PORT        0x42
#define VALUE       0x5a

static const unsigned char code[] = {
        0xb9, 0x00,      0x00, 0x00, 0x01, /* mov $2^24, %ecx */
        0xff, 0xc9,                        /* dec %ecx */
        0x75, 0xfc,                        /* jnz back to dec */
        0xb0, VALUE - 1,                   /* mov $VALUE-1, %al */
        0x04, 1,                           /* add $1, %al */
        0xe6, PORT,                        /* out %al, $PORT */
        0xf4,                              /* hlt */
};

static int failed(Error *e, const char *what) {
        return error_set(e, ERROR_NOT_SUPPORTED, "/dev/kvm fails to %s: %s", what, strerror(errno));
}

/* The code, and page tables that map the first 2 MiB to themselves. */
static int make_memory(int vm, Error *e) {
        char *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return failed(e, "get memory");

        const uint64_t pml4 = PDPT | 3, pdpt = PAGE_DIR | 3, page = 0x83;
        memcpy(memory + PML4, &pml4, sizeof pml4);
        memcpy(memory + PDPT, &pdpt, sizeof pdpt);
        memcpy(memory + PAGE_DIR, &page, sizeof page);
        memcpy(memory + CODE, code, sizeof code);
        struct kvm_userspace_memory_region region = {
                .memory_size = MEMORY_SIZE,
                .userspace_addr = (uintptr_t)memory,
        };
        return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? failed(e, "take memory") : 0;
}

static int set_registers(int vcpu, Error *e) {
        struct kvm_segment data = {
                .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
        };
        struct kvm_segment text = {
                .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .l = 1, .s = 1, .g = 1
        };
        struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rflags = 2 };
        struct kvm_sregs sregs;

        if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
                return failed(e, "tell registers");
        sregs.cs = text;
        sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
        sregs.cr3 = PML4;
        sregs.cr4 |= 1 << 5;            /* PAE */
        sregs.cr0 |= 1 | 1u << 31;      /* PE, PG */
        sregs.efer |= 1 << 8 | 1 << 10; /* LME, LMA */
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
        int r = make_memory(vm, e);
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
                return error_set(e, ERROR_NOT_SUPPORTED, "/dev/kvm runs a guest's code wrongly (exit reason %u)",
                                 run->exit_reason);
        return 0;
}
