/*
 * Servers for tests: Postgres, HTTP, and TCP servers that misbehave; and what leak tests count. All
 * of it is called from the test's thread. Functions return 0, or -1 after printing the reason to
 * standard error; starting fills the struct, and stopping a struct of zeroes does nothing. No
 * server outlives the test.
 */
#ifndef PIER_TESTS_SUPPORT_SERVER_H
#define PIER_TESTS_SUPPORT_SERVER_H

#include "tests/support/http.h"
#include "tests/support/postgres.h"
#include "tests/support/process.h"
#include "tests/support/tcp.h"
#include "tests/support/wait.h"

#endif
