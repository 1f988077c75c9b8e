#include "guest/console.h"
