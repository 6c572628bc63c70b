#ifndef PIER_SDK_HANDLE_H
#define PIER_SDK_HANDLE_H
/*
 * What is opened on a runner and not closed by its user is closed with the runner, newest first.
 */
#include <pier/runner.h>

struct pier__dump;

typedef struct pier__handle {
    struct pier__handle *older, *newer;
    pier_runner *runner;
    /* Ends it as its public close would, blocking; on a plain thread. It must leave the list. */
    void (*close)(struct pier__handle *handle);
    /* Says what it does now, under the runner's lock; NULL: nothing to say. Set before open. */
    void (*describe)(struct pier__handle *handle, struct pier__dump *dump);
} pier__handle;

/* Enters it; false: the runner is closing. Any thread. */
bool pier__handle_open(pier__handle *handle, pier_runner *runner,
                       void (*close)(pier__handle *handle));
/* Takes out the newest that `is`; NULL: there is none. `is` runs under a lock. Any thread. */
pier__handle *pier__handle_take(pier_runner *runner,
                                bool (*is)(const pier__handle *handle, const void *data),
                                const void *data);
/* Takes it out. False: it is out already, so somebody else is closing it. Any thread. */
bool pier__handle_leave(pier__handle *handle);

/* In drivers/registry.c: set-up that must be done once, before any thread starts. NULL-ended. */
extern int (*const pier__driver_inits[])(void);

#endif
