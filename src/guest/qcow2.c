#include "guest/qcow2.h"
