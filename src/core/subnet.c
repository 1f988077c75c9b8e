#include "core/subnet.h"
