#include "core/process.h"
