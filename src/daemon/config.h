/* /etc/debmarshal/debmarshald.conf: "key = value" lines, comments after '#', sizes with suffixes, times like "30s",
 * "5min", "2h". */
#pragma once

#include <stdbool.h>

#include "core/limits.h"
#include "driver/driver.h"

typedef struct Config {
        Limits limits;
        DriverSettings drivers;
        int log_level;
        char dnsmasq[256]; /* absolute path, or "": look along PATH */
} Config;
#define CONFIG_DEFAULT ((Config){ .limits = LIMITS_DEFAULT, .drivers = DRIVER_SETTINGS_DEFAULT, .log_level = 6 })

/* Parse text over what *c holds. An unknown key, a bad value, a key given twice: an error "FILE:LINE: what, what is
 * allowed"; *c is then unchanged. */
int config_parse(const char *file, const char *text, Config *c, Error *e);
/* Read the file; a missing one is an error only if required is true. */
int config_load(const char *file, bool required, Config *c, Error *e);
