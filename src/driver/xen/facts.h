/* What there is of Xen on this host, looked at anew with each probe. */
#pragma once

#include "driver/driver.h"

/* Driver.probe and Driver.describe. */
int xen_facts_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e);
int xen_facts_describe(size_t index, DriverFact *ret);
