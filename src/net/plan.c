#include "net/plan.h"
