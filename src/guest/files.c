#include "guest/files.h"
