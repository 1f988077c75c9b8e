#include "core/spawn.h"
