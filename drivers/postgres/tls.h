#ifndef PIER_DRIVERS_POSTGRES_TLS_H
#define PIER_DRIVERS_POSTGRES_TLS_H
#include <libpq-fe.h>
#include <stdbool.h>

/*
 * Has OpenSSL decrypted bytes that libpq has not taken? The socket does not become readable for
 * them. PQconsumeInput reads once, into 8 KB or more, and a record can hold 16 KB; Postgres itself
 * sends 8 KB at most, but poolers and proxies send more. (Mended in libpq by reading all of it; see
 * "Process buffered SSL read bytes to support records >8kB on async API", pgsql-hackers, 2024.)
 */
bool pier__postgres_tls_pending(PGconn *pg);

#endif
