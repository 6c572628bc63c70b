/*
 * Notices and the ends of sessions, told to the pool's hooks or to the log. Hooks are called by
 * whoever works on the connection, under no lock.
 */
#include "drivers/postgres/notice.h"

#include "drivers/postgres/conn.h"
#include "drivers/postgres/error.h"
#include "drivers/postgres/text.h"
#include "sdk/alloc.h"
#include "sdk/error.h"
#include "sdk/hooks.h"
#include <stdio.h>
#include <string.h>

extern const pier__db_driver pier__postgres_driver;

enum {
    TEXT_MAX = 64 * 1024,   /* bytes of one text of a notice */
    QUEUE_MAX = 1024 * 1024 /* of all that one reading from the socket may bring; it mostly brings
                               16 KB at most */
};

enum { SEVERITY = 0, SQLSTATE, MESSAGE, DETAIL, HINT, CONTEXT, TEXTS };

static const int codes[TEXTS] = {
    PG_DIAG_SEVERITY_NONLOCALIZED, PG_DIAG_SQLSTATE,     PG_DIAG_MESSAGE_PRIMARY,
    PG_DIAG_MESSAGE_DETAIL,        PG_DIAG_MESSAGE_HINT, PG_DIAG_CONTEXT,
};

typedef struct pier__postgres_item {
    struct pier__postgres_item *next;
    size_t size;
    const char *texts[TEXTS]; /* into `data`, or constants; NULL: it has none */
    char data[];
} item;

/* Of every pool's hooks: set rarely, and read for each notice, which the server had to send. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static pier__postgres_hooks *hooks_of(pier__postgres_conn *conn)
{
    return &((pier__postgres_db *)conn->base.db)->hooks;
}

static const char *severity_of(const pier__postgres_report *notice)
{
    const char *severity = pier__postgres_report_text(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    severity = severity ? severity : pier__postgres_report_text(notice, PG_DIAG_SEVERITY);
    return severity ? severity : "NOTICE";
}

static pier_log_level level_of(const char *severity)
{
    return strcmp(severity, "WARNING") == 0     ? PIER_LOG_WARNING
           : strncmp(severity, "DEBUG", 5) == 0 ? PIER_LOG_DEBUG
                                                : PIER_LOG_INFO;
}

/* ---- Notices ------------------------------------------------------------------------------ */

static void log_notice(const pier__postgres_conn *conn, const pier__postgres_report *notice)
{
    const char *severity = severity_of(notice);
    pier_log_level level = level_of(severity);
    char message[240], hint[80];
    if (!pier__log_wants(level)) {
        return;
    }
    const char *text = pier__postgres_report_text(notice, PG_DIAG_MESSAGE_PRIMARY);
    const char *advice = pier__postgres_report_text(notice, PG_DIAG_MESSAGE_HINT);
    pier__postgres_one_line(message, sizeof message, text ? text : "");
    pier__postgres_one_line(hint, sizeof hint, advice ? advice : "");
    pier__log(level, "%.120s: %.20s %.5s: %s%s%s", conn->base.db->name, severity,
              pier__postgres_sqlstate(notice), message, *hint ? "; " : "", hint);
}

/* The place of a text, behind the last one; NULL: there is none. */
static const char *put_text(char **at, const char *text)
{
    if (!text) {
        return NULL;
    }
    size_t size = strnlen(text, TEXT_MAX - 1) + 1;
    char *copy = *at;
    pier__postgres_clean(copy, size, text);
    *at += size;
    return copy;
}

static void keep_notice(pier__postgres_said *said, const pier__postgres_report *notice)
{
    size_t size = 0;
    for (int i = 0; i < TEXTS; i++) {
        const char *text = pier__postgres_report_text(notice, codes[i]);
        size += text ? strnlen(text, TEXT_MAX - 1) + 1 : 0;
    }
    item *kept = said->size + size <= QUEUE_MAX ? pier__malloc(sizeof *kept + size) : NULL;
    if (!kept) {
        said->dropped++;
        return;
    }
    char *at = kept->data;
    for (int i = 0; i < TEXTS; i++) {
        kept->texts[i] = put_text(&at, pier__postgres_report_text(notice, codes[i]));
    }
    kept->next = NULL;
    kept->size = sizeof *kept + size;
    said->size += kept->size;
    *(said->head ? &said->tail->next : &said->head) = kept;
    said->tail = kept;
}

/* What ends an idle session comes as a notice, often well before the end itself; and as a mere
 * warning where the server ends at once, which a function of the user's can imitate but for where
 * it comes from. */
static bool is_goodbye(const pier__postgres_report *notice)
{
    const char *from = pier__postgres_report_text(notice, PG_DIAG_SOURCE_FUNCTION);
    return pier__postgres_is_fatal(notice) || (from && strcmp(from, "quickdie") == 0);
}

void pier__postgres_take_notice(pier__postgres_conn *conn, const pier__postgres_report *notice)
{
    pier__postgres_said *said = &conn->said;
    if (is_goodbye(notice)) {
        const char *text = pier__postgres_report_text(notice, PG_DIAG_MESSAGE_PRIMARY);
        conn->said_goodbye = true;
        snprintf(said->state, sizeof said->state, "%.5s", pier__postgres_sqlstate(notice));
        pier__postgres_one_line(said->words, sizeof said->words, text ? text : "");
    } else if (atomic_load_explicit(&hooks_of(conn)->noticing, memory_order_relaxed)) {
        keep_notice(said, notice);
    } else {
        log_notice(conn, notice);
    }
}

/* In the form in which the server sent it. */
void pier__postgres_take_early_notice(void *arg, const PGresult *notice)
{
    char body[2048];
    size_t size = 0;
    const int letters[] = {PG_DIAG_SEVERITY, PG_DIAG_SEVERITY_NONLOCALIZED,
                           PG_DIAG_SQLSTATE, PG_DIAG_SOURCE_FUNCTION,
                           PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_MESSAGE_DETAIL,
                           PG_DIAG_MESSAGE_HINT};
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        const char *text = PQresultErrorField(notice, letters[i]);
        size_t length = text ? strlen(text) : 0;
        if (text && length + 2 < sizeof body - size) {
            body[size] = (char)letters[i];
            memcpy(body + size + 1, text, length + 1);
            size += length + 2;
        }
    }
    pier__postgres_report *copy = pier__postgres_report_new(body, size);
    pier__postgres_take_notice(arg, copy);
    pier__postgres_report_free(copy);
}

static void tell_one(pier__postgres_conn *conn, const item *kept)
{
    pier__postgres_hooks *hooks = hooks_of(conn);
    const char *const *texts = kept->texts;
    const char *severity = texts[SEVERITY] ? texts[SEVERITY] : "NOTICE";
    pier_postgres_notice notice = {
        .level = level_of(severity),
        .pid = conn->said.pid,
        .severity = severity,
        .sqlstate = texts[SQLSTATE] ? texts[SQLSTATE] : "00000",
        .message = texts[MESSAGE] ? texts[MESSAGE] : "",
        .detail = texts[DETAIL],
        .hint = texts[HINT],
        .context = texts[CONTEXT],
        .dropped = conn->said.dropped,
    };
    pthread_mutex_lock(&lock);
    pier_postgres_notice_fn fn = hooks->notice;
    void *data = hooks->notice_data;
    pthread_mutex_unlock(&lock);
    if (fn) {
        fn(&notice, data);
    }
}

void pier__postgres_tell(pier__postgres_conn *conn)
{
    pier__postgres_said *said = &conn->said;
    item *kept = said->head;
    said->head = said->tail = NULL;
    said->size = 0;
    while (kept) {
        item *next = kept->next;
        tell_one(conn, kept);
        pier__free(kept);
        kept = next;
    }
}

void pier__postgres_said_clear(pier__postgres_said *said)
{
    while (said->head) {
        item *next = said->head->next;
        pier__free(said->head);
        said->head = next;
    }
    memset(said, 0, sizeof *said);
}

/* ---- The end of a session ----------------------------------------------------------------- */

static void log_end(const pier__postgres_conn *conn, const pier_postgres_end *end)
{
    pier__log(PIER_LOG_WARNING, "%.120s: session %d, %s, was ended: %.200s%s%s%s",
              conn->base.db->name, end->pid,
              end->idle             ? "which was idle"
              : end->in_transaction ? "in a transaction"
                                    : "in use",
              end->message, *end->sqlstate ? " (" : "", end->sqlstate, *end->sqlstate ? ")" : "");
}

void pier__postgres_session_ended(pier__postgres_conn *conn, bool idle)
{
    pier__postgres_hooks *hooks = hooks_of(conn);
    pier__postgres_said *said = &conn->said;
    if (said->end_told) {
        return;
    }
    said->end_told = true;
    const pier__postgres_report *error =
        conn->error && pier__postgres_is_fatal(conn->error) ? conn->error : NULL;
    if (error) {
        const char *text = pier__postgres_report_text(error, PG_DIAG_MESSAGE_PRIMARY);
        pier__postgres_one_line(said->words, sizeof said->words, text ? text : "");
        snprintf(said->state, sizeof said->state, "%.5s", pier__postgres_sqlstate(error));
    } else if (!*said->words) {
        pier__postgres_one_line(said->words, sizeof said->words, conn->transport.why);
    }
    pier_postgres_end end = {
        .pid = said->pid,
        .idle = idle,
        .in_transaction = conn->base.in_tx,
        .sqlstate = said->state,
        .message = *said->words ? said->words : "the server closed the connection without a word",
    };
    pthread_mutex_lock(&lock);
    pier_postgres_end_fn fn = hooks->end;
    void *data = hooks->end_data;
    pthread_mutex_unlock(&lock);
    if (fn) {
        fn(&end, data);
    } else {
        log_end(conn, &end);
    }
}

/* ---- Setting them ------------------------------------------------------------------------- */

static pier__postgres_hooks *hooks_of_pool(pier_db *db, const char *function, pier_error *err)
{
    if (!db) {
        pier__error_null(err, "the database");
        return NULL;
    }
    if (db->driver != &pier__postgres_driver) {
        pier_error_set(err, PIER_EINVAL, "%s: %s is no Postgres database", function,
                       db->root->name);
        return NULL;
    }
    return &((pier__postgres_db *)db->root)->hooks;
}

/* Why hooks_of_pool gave none. */
static int status_of(const pier_error *err)
{
    return err && err->status < 0 ? err->status : PIER_EINVAL;
}

int pier_postgres_on_notice(pier_db *db, pier_postgres_notice_fn fn, void *user_data,
                            pier_error *err)
{
    pier__postgres_hooks *hooks = hooks_of_pool(db, "pier_postgres_on_notice", err);
    if (!hooks) {
        return status_of(err);
    }
    pthread_mutex_lock(&lock);
    hooks->notice = fn;
    hooks->notice_data = user_data;
    atomic_store(&hooks->noticing, fn != NULL);
    pthread_mutex_unlock(&lock);
    return 0;
}

int pier_postgres_on_session_end(pier_db *db, pier_postgres_end_fn fn, void *user_data,
                                 pier_error *err)
{
    pier__postgres_hooks *hooks = hooks_of_pool(db, "pier_postgres_on_session_end", err);
    if (!hooks) {
        return status_of(err);
    }
    pthread_mutex_lock(&lock);
    hooks->end = fn;
    hooks->end_data = user_data;
    pthread_mutex_unlock(&lock);
    return 0;
}
