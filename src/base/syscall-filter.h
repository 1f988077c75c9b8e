/* A filter for system calls (seccomp), put together call by call and laid on the calling process. What it refuses ends
 * with EPERM. */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#define SYSCALL_FILTER_MAX 256

typedef struct SyscallFilter {
        struct sock_filter program[SYSCALL_FILTER_MAX];
        size_t length; /* beyond the maximum: what did not fit was left out, and it cannot be installed */
} SyscallFilter;

/* Refuses from the start what no program needs that brings no filter of its own, and only somebody would do who has
 * taken it over: look into other processes, mount, change namespaces, use the owner's keys, load code into the kernel,
 * and the large interfaces in which most of the kernel's holes have been. Other architectures' calls end the process.
 * clone3(), which hides its flags from a filter, does not exist: every C library goes on without. */
void syscall_filter_begin(SyscallFilter *f);

void syscall_filter_refuse(SyscallFilter *f, const unsigned *calls, size_t n);
/* One call for which an argument, of 32 bits, decides: by being one of these values, or having one of these flags. */
typedef enum SyscallVerdict { SYSCALL_REFUSED_WITH, SYSCALL_REFUSED_WITHOUT } SyscallVerdict;
void syscall_filter_values(SyscallFilter *f, unsigned call, unsigned argument, SyscallVerdict verdict,
                           const unsigned *values, size_t n);
void syscall_filter_flags(SyscallFilter *f, unsigned call, unsigned argument, SyscallVerdict verdict, unsigned flags);

/* Allow everything else, and live so from now on, with what is executed. Needs no_new_privs. Negative errno;
 * -EOPNOTSUPP for a processor that it does not know, -EINVAL on kernels without filters. */
int syscall_filter_install(SyscallFilter *f);
