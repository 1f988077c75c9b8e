/* Does KVM run a guest's code here? That /dev/kvm exists, and even that it makes virtual machines, does not tell: where
 * the host is itself a guest without nested virtualisation, a guest may hang at its first instruction for ever. So a
 * worker runs a few instructions and looks at what they did. */
#pragma once

#include "driver/driver.h"

/* Driver.probe of the kvm driver. */
int kvm_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e);

/* In the worker: run code on a new virtual machine. May hang for ever. ERROR_NOT_SUPPORTED with the reason. One file
 * per processor family. */
int kvm_run_code(int vm_fd, int vcpu_mmap_size, Error *e);
