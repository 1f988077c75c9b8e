#include "base/argv.h"
