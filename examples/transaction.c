/*
 * A bank transfer: a transaction that is tried again after serialization failures, a savepoint
 * whose failure leaves the rest alone, and an error of the program's own that rolls back.
 *
 *   transaction [DATABASE-URL]
 */
#include <pier/pier.h>
#include <stdio.h>

struct transfer {
    int64_t from, to, cents;
};

/* Notes the transfer, once for each account. That there is such a note already is no reason to
 * fail: back to the savepoint, and the transaction lives. */
static int note(pier_db *tx, int64_t account, pier_error *err)
{
    pier_db *savepoint = pier_db_begin(tx, NULL, err);
    pier_db_execute(savepoint, "insert into bank_notes(account) values ($1)", PIER_ARGS(account),
                    err);
    int status = pier_db_commit(savepoint, err);
    pier_db_close(savepoint);
    return status == PIER_ECONSTRAINT ? 0 : status;
}

/* The body of pier_db_transaction: a negative return rolls back. It may run more than once, so it
 * changes nothing but the database. */
static int transfer(pier_db *tx, void *arg, pier_error *err)
{
    const struct transfer *t = arg;
    int64_t cents = 0;
    int got = pier_db_fetch_into(tx, "select cents from bank_accounts where id = $1",
                                 PIER_ARGS(t->from), PIER_INTO(&cents), err);
    if (got < 0) {
        return got;
    }
    if (cents < t->cents) {
        return pier_error_set(err, PIER_EUSER, "account %" PRId64 " holds %" PRId64 " cents only",
                              t->from, cents);
    }
    const char *change = "update bank_accounts set cents = cents + $1 where id = $2";
    pier_db_execute(tx, change, PIER_ARGS(-t->cents, t->from), err);
    pier_db_execute(tx, change, PIER_ARGS(t->cents, t->to), err);
    return note(tx, t->from, err);
}

static int make_tables(pier_db *db, pier_error *err)
{
    return pier_db_execute_script(db,
                                  "drop table if exists bank_notes;"
                                  "drop table if exists bank_accounts;"
                                  "create table bank_accounts(id bigint primary key,"
                                  " cents bigint not null);"
                                  "create table bank_notes(account bigint primary key);"
                                  "insert into bank_accounts values (1, 1200), (2, 0)",
                                  err);
}

/* Gives whether the transfer was made; a failure is printed. */
static bool try_transfer(pier_db *db, struct transfer t)
{
    pier_error err = {0};
    int64_t left = 0, there = 0;
    const char *balances = "select a.cents, b.cents from bank_accounts a, bank_accounts b"
                           " where a.id = $1 and b.id = $2";
    if (pier_db_transaction(db, PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE, .attempts = 5),
                            transfer, &t, &err) < 0 ||
        pier_db_fetch_into(db, balances, PIER_ARGS(t.from, t.to), PIER_INTO(&left, &there), &err) <
            0) {
        printf("not transferred: %s\n", err.message);
        return false;
    }
    printf("transferred %" PRId64 ": now %" PRId64 " and %" PRId64 "\n", t.cents, left, there);
    return true;
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    if (argc > 2 || url[0] == '-') {
        fprintf(stderr, "usage: %s [DATABASE-URL]\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    bool ok = make_tables(db, &err) >= 0;
    if (!ok) {
        fprintf(stderr, "transaction: %s\n", err.message);
    }
    /* The account holds enough for the first two; the third is refused and changes nothing. */
    struct transfer t = {.from = 1, .to = 2, .cents = 500};
    ok = ok && try_transfer(db, t) && try_transfer(db, t) && !try_transfer(db, t);
    pier_runner_close(runner);
    return !ok;
}
