/* Runs a target over files, where there is no libFuzzer: each argument is a file, or a directory of them. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"

static int run_file(const char *path) {
        FILE *f = fopen(path, "rbe");

        if (!f) {
                perror(path);
                return -1;
        }
        /* Exactly as long as the file, so that a sanitizer sees a read past its end. */
        struct stat st;
        CHECK(fstat(fileno(f), &st) == 0);
        size_t size = (size_t)st.st_size;
        uint8_t *data = malloc(size > 0 ? size : 1);
        CHECK(data && fread(data, 1, size, f) == size);
        fclose(f);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
        return 1;
}

static int run_directory(const char *path) {
        DIR *directory = opendir(path);
        struct dirent *entry;
        int count = 0;

        if (!directory)
                return run_file(path);
        while ((entry = readdir(directory))) {
                char name[4096];
                if (entry->d_name[0] == '.')
                        continue;
                snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
                int r = run_file(name);
                if (r < 0) {
                        closedir(directory);
                        return -1;
                }
                count += r;
        }
        closedir(directory);
        return count;
}

int main(int argc, char **argv) {
        const uint8_t nothing = 0;
        int total = 0;

        LLVMFuzzerTestOneInput(&nothing, 0);
        for (int i = 1; i < argc; i++) {
                int count = run_directory(argv[i]);
                if (count < 0)
                        return 1;
                total += count;
        }
        printf("%d inputs\n", total);
        /* A corpus that has gone missing must not pass for one that is fine. */
        return total > 0 ? 0 : 1;
}
