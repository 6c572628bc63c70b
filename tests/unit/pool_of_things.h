#ifndef PIER_TESTS_UNIT_POOL_OF_THINGS_H
#define PIER_TESTS_UNIT_POOL_OF_THINGS_H
/* What the tests of sdk/pool.c share: a pool of two things, and operations that ask for them. */
#include "tests/unit/unit.h"

#include "sdk/op.h"
#include "sdk/pool.h"
#include <string.h>

enum { COUNT = 6 };

struct thing {
    pier__pooled pooled;
    atomic_int users;
};

struct user_op {
    pier__op op;
    pier__ticket ticket;
};

static pier__pool pool;
static struct thing things[COUNT];
static struct user_op *users[COUNT];

/* The program's own: what a user does that is stepped. */
static void user_step(pier__op *op, unsigned events);

static const pier__op_class user_class = {
    .name = "user", .result = "int", .size = sizeof(struct user_op), .step = user_step};

static inline struct user_op *new_user(void)
{
    pier__op *failed = NULL;
    struct user_op *user = pier__op_new(&user_class, runner, &failed);
    user->ticket.op = &user->op;
    return user;
}

static inline int set_up(void **state)
{
    open_runner(state);
    memset(things, 0, sizeof things);
    for (int i = 0; i < COUNT; i++) {
        users[i] = new_user();
    }
    pier__pool_init(&pool, "thing", 2);
    return 0;
}

static inline int tear_down(void **state)
{
    for (int i = 0; i < COUNT; i++) {
        pier__op_unref(&users[i]->op);
    }
    pier__pool_fini(&pool);
    close_runner(state);
    return 0;
}

static inline pier__pool_answer take(int i)
{
    return pier__pool_take(&pool, &users[i]->ticket);
}

/* User i makes thing i. */
static inline void make(int i)
{
    assert_int_equal(take(i), PIER__POOL_MAKE);
    pier__pool_made(&pool, &things[i].pooled);
}

static inline bool give(int i)
{
    return pier__pool_give(&pool, &things[i].pooled);
}

static inline bool is_woken(int i)
{
    return atomic_load(&users[i]->op.mail) & PIER__WOKEN;
}

static inline void forget_wake(int i)
{
    atomic_store(&users[i]->op.mail, 0);
}

static inline struct thing *got(int i)
{
    return (struct thing *)users[i]->ticket.got;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
