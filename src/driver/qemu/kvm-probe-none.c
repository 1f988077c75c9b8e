#include "driver/qemu/kvm-probe.h"

int kvm_run_code(UNUSED int vm_fd, UNUSED int vcpu_mmap_size, Error *e) {
        return error_set(e, ERROR_NOT_SUPPORTED, "KVM has not been tried on this kind of processor yet");
}
