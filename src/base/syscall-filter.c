#include "base/syscall-filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/macros.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

#define OTHER_ABI 0x40000000U /* x32: the same calls by other numbers */

static const unsigned always_refused[] = {
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_pidfd_getfd,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_open_tree,
        SYS_move_mount,
        SYS_fsopen,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fspick,
        SYS_unshare,
        SYS_setns,
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_keyctl,
        SYS_add_key,
        SYS_request_key,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
};

#define LOAD(at)     BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(at))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
/* What comes next is for those of whom it holds, or not. */
#define IF(op, value)     BPF_JUMP(BPF_JMP | (op) | BPF_K, value, 0, 1)
#define IF_NOT(op, value) BPF_JUMP(BPF_JMP | (op) | BPF_K, value, 1, 0)
#define REFUSE            (SECCOMP_RET_ERRNO | EPERM)

static void add(SyscallFilter *f, struct sock_filter instruction) {
        if (f->length < SYSCALL_FILTER_MAX)
                f->program[f->length] = instruction;
        f->length++;
}

void syscall_filter_begin(SyscallFilter *f) {
        static const struct sock_filter start[] = {
                LOAD(offsetof(struct seccomp_data, arch)),
                IF_NOT(BPF_JEQ, ARCHITECTURE),
                ANSWER(SECCOMP_RET_KILL_PROCESS),
                LOAD(offsetof(struct seccomp_data, nr)),
                IF(BPF_JGE, OTHER_ABI),
                ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
                IF(BPF_JEQ, SYS_clone3),
                ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
        };

        f->length = 0;
        for (size_t i = 0; i < ARRAY_LEN(start); i++)
                add(f, start[i]);
        syscall_filter_refuse(f, always_refused, ARRAY_LEN(always_refused));
}

void syscall_filter_refuse(SyscallFilter *f, const unsigned *calls, size_t n) {
        for (size_t i = 0; i < n; i++) {
                add(f, (struct sock_filter)IF(BPF_JEQ, calls[i]));
                add(f, (struct sock_filter)ANSWER(REFUSE));
        }
}

/* Both processors have the lower half of an argument first. */
static void add_case(SyscallFilter *f, unsigned call, unsigned argument, unsigned short op, SyscallVerdict verdict,
                     const unsigned *operands, size_t n) {
        const unsigned with = verdict == SYSCALL_REFUSED_WITH ? REFUSE : SECCOMP_RET_ALLOW;
        const unsigned without = verdict == SYSCALL_REFUSED_WITH ? SECCOMP_RET_ALLOW : REFUSE;
        const size_t skipped = 1 + 2 * n + 1; /* by other calls: all that follows */

        if (skipped > UINT8_MAX) {
                f->length = SYSCALL_FILTER_MAX + 1;
                return;
        }
        add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, (uint8_t)skipped));
        add(f, (struct sock_filter)LOAD(offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t)));
        for (size_t i = 0; i < n; i++) {
                add(f, (struct sock_filter)IF(op, operands[i]));
                add(f, (struct sock_filter)ANSWER(with));
        }
        add(f, (struct sock_filter)ANSWER(without));
}

void syscall_filter_values(SyscallFilter *f, unsigned call, unsigned argument, SyscallVerdict verdict,
                           const unsigned *values, size_t n) {
        add_case(f, call, argument, BPF_JEQ, verdict, values, n);
}

void syscall_filter_flags(SyscallFilter *f, unsigned call, unsigned argument, SyscallVerdict verdict, unsigned flags) {
        add_case(f, call, argument, BPF_JSET, verdict, &flags, 1);
}

int syscall_filter_install(SyscallFilter *f) {
        add(f, (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW));
        if (ARCHITECTURE == 0)
                return -EOPNOTSUPP;
        if (f->length > SYSCALL_FILTER_MAX)
                return -E2BIG;
        const struct sock_fprog filter = { .len = (unsigned short)f->length, .filter = f->program };
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0 ? -errno : 0;
}
