// A transaction from C++, with a failure of its own that rolls it back.
#include <pier/pier.h>

#include <cstdio>

struct transfer {
    int64_t from, to, cents;
};

static int move_cents(pier_db *tx, void *arg, pier_error *err)
{
    const transfer *t = static_cast<const transfer *>(arg);
    int64_t have = 0;
    int got = pier_db_fetch_into(tx, "select cents from accounts where id = $1", PIER_ARGS(t->from),
                                 PIER_INTO(&have), err);
    if (got < 0) {
        return got;
    }
    if (have < t->cents) {
        return pier_error_set(err, PIER_EUSER, "account %" PRId64 " holds %" PRId64, t->from, have);
    }
    const char *change = "update accounts set cents = cents + $1 where id = $2";
    pier_db_execute(tx, change, PIER_ARGS(-t->cents, t->from), err);
    pier_db_execute(tx, change, PIER_ARGS(t->cents, t->to), err);
    return 0;
}

int main(int argc, char **argv)
{
    pier_error err = {};
    PIER_AUTO(pier_runner) runner = pier_runner_open(nullptr, &err);
    pier_db *db = pier_db_open(runner, argc > 1 ? argv[1] : "sqlite::memory:", nullptr, &err);
    pier_db_execute_script(db,
                           "create table accounts(id integer primary key, cents integer);"
                           "insert into accounts values (1, 700), (2, 0)",
                           &err);
    pier::options<pier_tx_options> options;
    options.attempts = 3;
    transfer t = {1, 2, 500};
    int first = pier_db_transaction(db, &options, move_cents, &t, &err);
    pier_error refusal = {};
    int second = pier_db_transaction(db, &options, move_cents, &t, &refusal);
    long left = 0, there = 0;
    int got = pier_db_fetch_into(db,
                                 "select a.cents, b.cents from accounts a, accounts b"
                                 " where a.id = 1 and b.id = 2",
                                 nullptr, PIER_INTO(&left, &there), &err);
    std::printf("%ld %ld, then: %s\n", left, there, refusal.message);
    if (err.status < 0) {
        std::fprintf(stderr, "transaction: %s\n", err.message);
    }
    return first == 0 && second == PIER_EUSER && got == 1 && left == 200 && there == 500 ? 0 : 1;
}
