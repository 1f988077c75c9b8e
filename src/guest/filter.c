#include "guest/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
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

static const unsigned refused[] = {
#ifdef SYS_fork
        SYS_fork,
        SYS_vfork,
#endif
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
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
        SYS_keyctl,
        SYS_add_key,
        SYS_request_key,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
};

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
/* What comes next is for those of whom it holds, or not. */
#define IF(op, value)     BPF_JUMP(BPF_JMP | (op) | BPF_K, value, 0, 1)
#define IF_NOT(op, value) BPF_JUMP(BPF_JMP | (op) | BPF_K, value, 1, 0)
#define REFUSE            (SECCOMP_RET_ERRNO | EPERM)

/* Threads are made by clone(): clone3() hides its flags from a filter, and every C library goes on without it. */
static size_t begin(struct sock_filter *f) {
        const struct sock_filter start[] = {
                LOAD(arch),
                IF_NOT(BPF_JEQ, ARCHITECTURE),
                ANSWER(SECCOMP_RET_KILL_PROCESS),
                LOAD(nr),
                IF(BPF_JGE, OTHER_ABI),
                ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
                IF(BPF_JEQ, SYS_clone3),
                ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4), /* else the rest of it is skipped */
                LOAD(args[0]), /* the flags are in its lower half, which comes first */
                IF_NOT(BPF_JSET, CLONE_THREAD),
                ANSWER(REFUSE),
                ANSWER(SECCOMP_RET_ALLOW),
        };

        for (size_t i = 0; i < ARRAY_LEN(start); i++)
                f[i] = start[i];
        return ARRAY_LEN(start);
}

static size_t refuse_ioctls(struct sock_filter *f, const unsigned *ioctls, size_t n_ioctls) {
        size_t n = 0;

        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0,
                                              (unsigned char)(2 + 2 * n_ioctls));
        f[n++] = (struct sock_filter)LOAD(args[1]); /* the kernel looks at no more of it than the lower half */
        for (size_t i = 0; i < n_ioctls; i++) {
                f[n++] = (struct sock_filter)IF(BPF_JEQ, ioctls[i]);
                f[n++] = (struct sock_filter)ANSWER(REFUSE);
        }
        f[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
        return n;
}

int filter_system_calls(const unsigned *ioctls, size_t n_ioctls) {
        struct sock_filter program[20 + 2 * ARRAY_LEN(refused) + 2 * FILTER_IOCTLS_MAX];
        size_t n = begin(program);

        if (ARCHITECTURE == 0)
                return -EOPNOTSUPP;
        if (n_ioctls > FILTER_IOCTLS_MAX)
                return -E2BIG;
        if (n_ioctls > 0)
                n += refuse_ioctls(program + n, ioctls, n_ioctls);
        for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
                program[n++] = (struct sock_filter)IF(BPF_JEQ, refused[i]);
                program[n++] = (struct sock_filter)ANSWER(REFUSE);
        }
        program[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
        const struct sock_fprog filter = { .len = (unsigned short)n, .filter = program };
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0 ? -errno : 0;
}
