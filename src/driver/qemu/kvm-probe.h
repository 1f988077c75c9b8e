/* Does KVM run a guest's code here? That /dev/kvm exists, and even that it makes virtual machines, does not tell: where
 * the host is itself a guest without nested virtualisation, KVM may interpret a guest's instructions one by one, so
 * slowly that a kernel never boots. So a worker runs a guest's code, which has to end in time with the right result. */
#pragma once

#include "driver/driver.h"

/* Driver.probe of the kvm driver. */
int kvm_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e);

/* In the worker: run code on a new virtual machine. May take for ever. ERROR_NOT_SUPPORTED with the reason. One file
 * per processor family. */
int kvm_run_code(int vm_fd, int vcpu_mmap_size, Error *e);
