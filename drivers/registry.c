/*
 * The drivers that this library was built with.
 */
#include "sdk/db.h"

#if PIER_WITH_SQLITE
extern const pier__db_driver pier__sqlite_driver;
#endif
#if PIER_WITH_POSTGRES
extern const pier__db_driver pier__postgres_driver;
#endif
#if PIER_WITH_HTTP
int pier__http_init(void);
#endif

const pier__db_driver *const pier__db_drivers[] = {
#if PIER_WITH_SQLITE
    &pier__sqlite_driver,
#endif
#if PIER_WITH_POSTGRES
    &pier__postgres_driver,
#endif
    NULL,
};

int (*const pier__driver_inits[])(void) = {
#if PIER_WITH_HTTP
    pier__http_init,
#endif
    NULL,
};
