// Futures and callbacks from C++: lambdas without captures are callbacks, and the state goes along
// as user data.
#include <pier/pier.h>

#include <cstdio>
#include <future>

struct app {
    std::promise<int64_t> sum;
    pier_db *db;
};

static void on_rows(pier_future *future, void *user_data)
{
    app *self = static_cast<app *>(user_data);
    pier_error err = {};
    PIER_AUTO(pier_result) rows = pier_db_fetch_finish(future, &err);
    int64_t sum = 0;
    for (size_t i = 0; i < pier_result_count(rows); i++) {
        sum += pier_row_int64(pier_result_row(rows, i), 0);
    }
    if (err.status < 0) {
        std::fprintf(stderr, "event_loop: %s\n", err.message);
    }
    self->sum.set_value(sum);
}

int main(int argc, char **argv)
{
    pier_error err = {};
    pier::options<pier_runner_options> options;
    options.name = "loop";
    PIER_AUTO(pier_runner) runner = pier_runner_open(&options, &err);
    app self = {};
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    pier_future_then(
        pier_db_open_async(runner, url, nullptr),
        [](pier_future *future, void *user_data) {
            app *opened = static_cast<app *>(user_data);
            pier_error failure = {};
            opened->db = pier_db_open_finish(future, &failure);
            pier_future_then(pier_db_fetch_async(opened->db,
                                                 "select 30 + $1 union all select $2 + 5",
                                                 PIER_ARGS(5, short{2})),
                             on_rows, opened);
        },
        &self);
    int64_t sum = self.sum.get_future().get();
    std::printf("%" PRId64 "\n", sum);
    return sum == 42 ? 0 : 1;
}
