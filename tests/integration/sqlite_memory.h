/* What the tests of the SQLite driver share that let each allocation of a program fail in turn. */
#ifndef PIER_TESTS_SQLITE_MEMORY_H
#define PIER_TESTS_SQLITE_MEMORY_H

#include "tests/integration/sqlite_fixture.h"

#include "sdk/alloc.h"

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed; /* it has been reached */

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

/* From now on the n-th allocation fails. */
static inline void begin_failing(int n)
{
    atomic_store(&failed, false);
    atomic_store(&failing, n);
    pier__alloc_set_gate(fail_one);
}

static inline void end_failing(void)
{
    pier__alloc_set_gate(NULL);
    atomic_store(&failing, 0);
}

/* A program: gives a number, or a status with `err` filled. */
typedef int64_t program(struct fixture *f, pier_error *err);

/* Runs it while its n-th allocation fails, on a runner of its own, so that whatever is left is
 * ended with that. */
static inline int64_t run_failing(struct fixture *f, int n, program *run, pier_error *err)
{
    pier_runner *shared = f->runner;
    f->runner = pier_runner_open(NULL, &f->err);
    assert_ok(&f->err);
    begin_failing(n);
    int64_t result = run(f, err);
    end_failing();
    pier_runner_close(f->runner);
    f->runner = shared;
    if (result < 0 && !err->status) {
        fail_msg("allocation %d: %d and no error", n, (int)result);
    }
    return result;
}

#endif
