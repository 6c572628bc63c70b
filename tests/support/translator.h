/*
 * A proxy before a Postgres server that speaks another language: whatever is written for people in
 * errors and notices, the severity too, is replaced by texts in Latin-1, which no UTF-8 can be.
 * What is written for programs stays. Without TLS; each connection is served by a thread of its
 * own.
 */
#ifndef PIER_TESTS_SUPPORT_TRANSLATOR_H
#define PIER_TESTS_SUPPORT_TRANSLATOR_H

struct support_translator;

/* On a free port of 127.0.0.1; NULL: it did not start. */
struct support_translator *support_translator_start(int target_port);
int support_translator_port(const struct support_translator *translator);
/* Closes everything and joins the threads. NULL does nothing. */
void support_translator_stop(struct support_translator *translator);

#endif
