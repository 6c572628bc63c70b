/*
 * Checkpoints: a pragma, run on the connection that writes.
 */
#include "drivers/sqlite/connection.h"

#include "sync/ops.h"

static void drop(pier__op *op)
{
    pier_result_free(op->result.pointer);
}

static const pier__op_class checkpoint_class = {
    .name = "pier_sqlite_checkpoint",
    .result = "pier_result *",
    .size = sizeof(pier__db_op),
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .own = pier__db_op_own,
    .drop = drop,
    .fini = pier__db_op_fini,
    .unstarted = pier__db_op_unstarted,
    .subject = pier__db_op_subject,
};

static const char *const statements[] = {"pragma wal_checkpoint(passive)",
                                         "pragma wal_checkpoint(full)",
                                         "pragma wal_checkpoint(restart)",
                                         "pragma wal_checkpoint(truncate)"};

pier_future *pier__sqlite_checkpoint_op(pier_db *db, int mode)
{
    if (!db) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(&checkpoint_class, PIER__FETCH, db, &failed);
    if (!op) {
        return failed;
    }
    if (db->driver != &pier__sqlite_driver) {
        return pier__op_refuse(&op->op, PIER_EINVAL, "%s is no SQLite database", db->root->name);
    }
    if (db->kind == PIER__DB_TX) {
        return pier__op_refuse(&op->op, PIER_EINVAL,
                               "a checkpoint cannot run in a transaction; use the pool");
    }
    if (mode < PIER_SQLITE_PASSIVE || mode > PIER_SQLITE_TRUNCATE) {
        return pier__op_refuse(&op->op, PIER_EINVAL,
                               "the mode is %d; it is a pier_sqlite_checkpoint_mode", mode);
    }
    pier__db_use_sql(op, statements[mode]);
    return &op->op;
}
