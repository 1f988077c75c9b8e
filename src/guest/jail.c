#include "guest/jail.h"
