/* What users register in SQLite when memory runs out: each allocation fails in turn. */
#include "tests/integration/sqlite_memory.h"

static void count_destroyed(void *user_data)
{
    atomic_fetch_add((atomic_int *)user_data, 1);
}

static int one(pier_sqlite_call *call, void *user_data)
{
    (void)user_data;
    return pier_sqlite_call_return(call, pier_int64(1));
}

static int compare(void *user_data, const void *left, size_t left_size, const void *right,
                   size_t right_size)
{
    (void)user_data;
    (void)left;
    (void)right;
    return (left_size > right_size) - (left_size < right_size);
}

static int allow(void *user_data, const pier_sqlite_action *action)
{
    (void)user_data;
    (void)action;
    return PIER_SQLITE_ALLOW;
}

enum { REGISTRATIONS = 4 }; /* with user data */

static void register_all(pier_db *db, const char *other, atomic_int *ended, pier_error *err)
{
    pier_sqlite_function(db, "one",
                         PIER_SQLITE_FUNCTION_OPTIONS(.scalar = one, .user_data = ended,
                                                      .destroy = count_destroyed),
                         err);
    pier_sqlite_collation(db, "size", compare, ended, count_destroyed, err);
    pier_sqlite_set_authorizer(db, allow, ended, count_destroyed, err);
    pier_sqlite_attach(db, other, "other", err);
}

static int write_rows(pier_db *tx, void *arg, pier_error *err)
{
    (void)arg;
    pier_db_execute(tx, "insert into t(name) values (one())", NULL, err);
    pier_db_execute(tx, "savepoint a", NULL, err);
    pier_db_execute(tx, "insert into t(name) values ('dropped')", NULL, err);
    pier_db_execute(tx, "rollback to a", NULL, err);
    return err->status;
}

/* 1: its change was told, or that it was lost; or a status. */
static int work(struct fixture *f, atomic_int *ended, pier_error *err)
{
    char other[600];
    snprintf(other, sizeof other, "%s/other.db", f->directory);
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    register_all(db, other, ended, err);
    pier_sqlite_changes *changes = pier_sqlite_changes_open(
        db, PIER_SQLITE_CHANGES_OPTIONS(.user_data = ended, .destroy = count_destroyed), err);
    int status = err->status;
    status = status < 0 ? status : pier_db_transaction(db, NULL, write_rows, NULL, err);
    pier_sqlite_batch *batch = status < 0 ? NULL : pier_sqlite_changes_next(changes, err);
    if (batch) {
        status = pier_sqlite_batch_lost(batch) == 1 ||
                 (pier_sqlite_batch_count(batch) == 1 &&
                  pier_sqlite_batch_change(batch, 0)->kind == PIER_SQLITE_INSERT);
    }
    pier_sqlite_batch_free(batch);
    pier_sqlite_changes_close(changes);
    pier_db_close(db);
    return batch ? status : err->status;
}

static void test_registered__survives_each_failed_allocation(void **state)
{
    struct fixture *f = *state;
    pier_db_close(f->db);
    f->db = NULL;
    int at = 0;
    int ended_wrong = 0, result_wrong = 0, succeeded = 0;
    do {
        pier_error err = {0};
        atomic_int ended = 0;
        begin_failing(++at);
        int status = work(f, &ended, &err);
        end_failing();
        ended_wrong += ended != REGISTRATIONS;
        result_wrong += status != 1 && status != PIER_ENOMEM;
        succeeded += status == 1;
    } while (atomic_load(&failed) && at < 1000);
    assert_int_equal(ended_wrong, 0);
    assert_int_equal(result_wrong, 0);
    assert_in_range(at, 20, 999);
    assert_true(succeeded > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registered__survives_each_failed_allocation),
    };
    return cmocka_run_group_tests_name("sqlite_registered_memory", tests, group_set_up, NULL);
}
