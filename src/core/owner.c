#include "core/owner.h"
