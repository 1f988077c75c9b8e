/* Which of the small programs this is: without an option the keeper proper. */
#include "keeper/keeper.h"

#include <string.h>
#include <sys/prctl.h>

int main(int argc, char **argv) {
        /* Executed through a descriptor, it would be known by the descriptor's number. */
        (void)prctl(PR_SET_NAME, "debmarshal-keeper");
        if (argc > 1 && strcmp(argv[1], "--capture") == 0)
                return capture_main(argc - 2, argv + 2);
        return hold_main(argc - 1, argv + 1);
}
