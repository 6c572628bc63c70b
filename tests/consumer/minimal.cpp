// Pier from C++17: the headers with their overloads in place of _Generic, and the library's C
// symbols.
#include <pier/pier.h>

#include <cstdio>

int main()
{
    pier_error err = {};
    pier_runner *runner = pier_runner_open(nullptr, &err);
    if (!runner) {
        std::fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    pier_runner_close(runner);
    return 0;
}
