/* The arguments of "domain create", read without asking anybody. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/* "[FORMAT:]PATH[:ro|:rw]": the path as it is, and what disk_formats wants ("raw", "qcow2:ro"). Both allocated. */
int disk_parse(const char *text, char **ret_path, char **ret_format, Error *e);

/* A path relative to the working directory as an absolute one; symbolic links are left to whoever opens it. */
int path_absolute(const char *path, char **ret);

/* "NETWORK[,MAC|HOST]". ret_rest is "" without one. Both allocated. */
int nic_parse(const char *text, char **ret_network, char **ret_rest, Error *e);

/* Whether what stands behind the comma is a MAC. Anything with a colon is meant as one. */
bool looks_like_mac(const char *text);
