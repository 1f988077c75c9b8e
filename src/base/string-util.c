#include "base/string-util.h"
