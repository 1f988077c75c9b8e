/* Finds the Xen driver, which is a module: a host without Xen never loads it. */
#pragma once

#include "driver/driver.h"

#define XEN_MODULE        "debmarshal-xen.so"
#define XEN_MODULE_SYMBOL xen_driver

/* The module's table where this is Xen's dom0 and the module can be loaded, from one of the directories (NULL: skip
 * it). Else a table of the same name that works nowhere, and whose probe says why. Never NULL, for the life of the
 * process. */
const Driver *xen_driver_load(const char *beside, const char *installed);
