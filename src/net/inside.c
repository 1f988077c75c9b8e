#include "net/inside.h"
