#ifndef PIER_DRIVERS_POSTGRES_URL_H
#define PIER_DRIVERS_POSTGRES_URL_H
/*
 * The URL of a database: what libpq makes of it, with the environment and a service file, and which
 * servers it names.
 */
#include "drivers/postgres/conn.h"

/* Fills options, hosts and name of the root. 0, or a status with `err` filled. */
int pier__postgres_url_read(pier__postgres_db *db, const char *url, pier_error *err);
/* Adds one option for libpq. 0, or a status with `err` filled. */
int pier__postgres_url_add(pier__postgres_db *db, const char *keyword, const char *value,
                           pier_error *err);
/* settings.c: adds "name=value" settings of the server, up to a NULL; NULL: none. 0, or a status
 * with `err` filled. After the URL was read. */
int pier__postgres_settings_add(pier__postgres_db *db, const char *const *settings,
                                pier_error *err);
/* Frees what that filled, also where it failed halfway. */
void pier__postgres_url_fini(pier__postgres_db *db);

#endif
