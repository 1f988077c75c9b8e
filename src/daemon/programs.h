/* The programs that the daemon starts. */
#pragma once

/* debmarshal-keeper: beside this program (a build directory), else where it was installed. NULL without memory. */
char *find_keeper(void);
/* The directory of this program. NULL: unknown. */
char *find_own_directory(void);
/* name along PATH and where administrators' programs are: absolute, or "" when it is not there. NULL without memory. */
char *find_program(const char *name);
