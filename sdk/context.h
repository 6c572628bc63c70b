#ifndef PIER_SDK_CONTEXT_H
#define PIER_SDK_CONTEXT_H
/*
 * Where the calling code is: on which thread, in which scope, in which task.
 */
#include "sdk/op.h"

struct pier_task;

typedef struct pier__context {
    pier_scope *scope;              /* ambient: of the running task, else of the thread */
    struct pier_task *task;         /* running now */
    int loops;                      /* how many loops this thread runs */
    int tid;                        /* the system's number for it; 0: pier__tid has not asked */
    struct pier_lane *lane;         /* whose thread this is */
    struct pier_executor *executor; /* whose thread this is */
    struct pier__working { /* the operations whose work this thread does, innermost first */
        struct pier__working *outer;
        pier__op *op;
    } * working;
} pier__context;

/* initial-exec: 56 bytes, reached without a call. A task never leaves its thread, so that an
 * address kept across a suspension stays right. */
extern _Thread_local pier__context pier__here __attribute__((tls_model("initial-exec")));

/* The calling thread's number, as the system's tools show it. */
int pier__tid(void);

#endif
