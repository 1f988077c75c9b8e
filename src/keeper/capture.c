#include "keeper/keeper.h"
int capture_main(int argc, char **argv) {
        (void)argc;
        (void)argv;
        return 1;
}
