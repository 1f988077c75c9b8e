#include "core/mac.h"
