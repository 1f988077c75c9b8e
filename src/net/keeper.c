#include "net/keeper.h"
