#include "base/time-util.h"
