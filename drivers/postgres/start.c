/*
 * Starting an attempt. What a thread and the one who asked share is counted, so that either may go
 * first: nothing bounds how long the user's function takes, or a file on a network.
 */
#include "drivers/postgres/start.h"

#include "drivers/postgres/conn.h"
#include "drivers/postgres/url.h"
#include "sdk/alloc.h"
#include "sdk/context.h"
#include "sync/ops.h"
#include <string.h>

struct pier__postgres_start {
    pier__listener listener; /* of the job */
    atomic_int refs;         /* the asker's and the thread's */
    atomic_bool done;
    pthread_mutex_t lock;
    pier__op *op;  /* guarded by lock; NULL once abandoned */
    pier__op *job; /* of the executor, the asker's; NULL: there is none */
    /* Whoever starts it; after that the asker's. */
    pier__postgres_db *db; /* holds a reference */
    bool reads;            /* the service; there is no target yet */
    pier__postgres_target target;
    char *address, *password; /* its own */
    PQconninfoOption *options;
    PGconn *pg;
    pier_error err;
};

void pier__postgres_password_free(char *password)
{
    if (password) {
        explicit_bzero(password, strlen(password));
        pier__free(password);
    }
}

static void unref(pier__postgres_start *start)
{
    if (atomic_fetch_sub(&start->refs, 1) == 1) {
        PQfinish(start->pg);
        PQconninfoFree(start->options);
        pier__postgres_password_free(start->password);
        pier__free(start->address);
        pthread_mutex_destroy(&start->lock);
        pier__db_unref(&start->db->base);
        pier__free(start);
    }
}

/* ---- What blocks -------------------------------------------------------------------------- */

static void call(pier__postgres_start *start, char *room)
{
    const pier__postgres_db *db = start->db;
    const pier__postgres_host *host = &db->hosts[start->target.host];
    const pier_postgres_login login = {.host = host->host ? host->host : host->address,
                                       .port = host->port,
                                       .user = pier__postgres_url_option(db, "user"),
                                       .database = pier__postgres_url_option(db, "dbname")};
    pier_error why = {0};
    int status = db->password(&login, room, PIER_POSTGRES_PASSWORD_MAX, db->password_data, &why);
    if (status < 0) {
        pier_error_set(&start->err, PIER_ECONNECT,
                       "could not connect to %.120s: the password function failed: %.200s",
                       db->base.name, *why.message ? why.message : pier_status_name(status));
        return;
    }
    room[PIER_POSTGRES_PASSWORD_MAX - 1] = 0;
    start->password = pier__strdup(room);
    if (!start->password) {
        pier_error_set(&start->err, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       db->base.name);
    }
}

/* False: `err` is filled. */
static bool ask_for_password(pier__postgres_start *start)
{
    char *room = pier__calloc(1, PIER_POSTGRES_PASSWORD_MAX);
    if (room) {
        call(start, room);
        explicit_bzero(room, PIER_POSTGRES_PASSWORD_MAX);
        pier__free(room);
    } else {
        pier_error_set(&start->err, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       start->db->base.name);
    }
    return start->password != NULL;
}

static void begin(pier__postgres_start *start)
{
    const pier__postgres_db *db = start->db;
    if (start->reads) {
        start->options = pier__postgres_url_ask(db);
        return;
    }
    const pier__postgres_host *host = &db->hosts[start->target.host];
    if (db->password && !start->password && !ask_for_password(start)) {
        return;
    }
    const char *keywords[PIER__POSTGRES_OPTIONS_MAX], *values[PIER__POSTGRES_OPTIONS_MAX];
    int count = db->option_count;
    memcpy(keywords, db->keywords, (size_t)count * sizeof *keywords);
    memcpy(values, db->values, (size_t)count * sizeof *values);
    keywords[count] = "host", values[count++] = host->host;
    keywords[count] = "hostaddr", values[count++] = start->address ? start->address : host->address;
    keywords[count] = "port", values[count++] = host->port;
    keywords[count] = "target_session_attrs", values[count++] = start->target.attributes;
    if (start->password) {
        keywords[count] = "password", values[count++] = start->password;
    }
    keywords[count] = NULL, values[count] = NULL;
    start->pg = PQconnectStartParams(keywords, values, 0);
    if (!start->pg) {
        pier_error_set(&start->err, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       db->base.name);
    }
}

/* ---- Where it runs ------------------------------------------------------------------------ */

static void tell(pier__postgres_start *start)
{
    atomic_store(&start->done, true);
    pthread_mutex_lock(&start->lock);
    if (start->op) {
        pier__op_wake(start->op);
    }
    pthread_mutex_unlock(&start->lock);
    unref(start);
}

static void run_on_thread(void *arg)
{
    begin(arg);
    tell(arg);
}

static int run_in_job(void *arg, pier_error *err)
{
    (void)err;
    begin(arg);
    return 0;
}

/* The job has ended, or could not run. */
static void on_settled(pier__listener *listener, pier__op *job)
{
    pier__postgres_start *start = (pier__postgres_start *)listener;
    if (job->status < 0 && !start->pg && start->err.status == 0) {
        pier_error_set(&start->err, PIER_ECONNECT,
                       "could not connect to %.120s: the password function could not run: %.160s",
                       start->db->base.name,
                       job->err ? job->err->message : pier_status_name(job->status));
    }
    tell(start);
}

static void submit(pier__postgres_start *start, pier__op *op)
{
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = op->scope;
    start->job = pier__op_submit(pier__to_thread_op(op->runner, run_in_job, start));
    pier__here.scope = ambient;
    start->listener.settled = on_settled;
    pier__op_listen(start->job, &start->listener);
}

static void dispatch(pier__postgres_start *start, pier__op *op)
{
    const pier__postgres_db *db = start->db;
    bool asks = db->password && !start->password && !start->reads;
    /* A pass file is one more open of many, but a service file is read once more for each
     * connection, from wherever the administrator keeps it. */
    bool elsewhere = op->on_loop ? db->reads_files : pier__postgres_url_has_service(db);
    if (asks && (op->on_loop || !pier__here.executor)) {
        atomic_fetch_add(&start->refs, 1);
        submit(start, op);
    } else if (elsewhere) {
        atomic_fetch_add(&start->refs, 1);
        if (!pier__thread_detached("pier-connect", run_on_thread, start)) {
            pier_error_set(&start->err, PIER_ENOMEM,
                           "could not connect to %.120s: no thread to read files", db->base.name);
            tell(start);
        }
    } else {
        begin(start);
        atomic_store(&start->done, true);
    }
}

static pier__postgres_start *make(pier__postgres_db *db, pier__op *op)
{
    pier__postgres_start *start = pier__calloc(1, sizeof *start);
    if (start) {
        atomic_init(&start->refs, 1);
        pthread_mutex_init(&start->lock, NULL);
        start->db = (pier__postgres_db *)pier__db_ref(&db->base);
        start->op = op;
    }
    return start;
}

pier__postgres_start *pier__postgres_start_new(pier__postgres_db *db, pier__op *op,
                                               const pier__postgres_target *target)
{
    pier__postgres_start *start = make(db, op);
    if (!start) {
        return NULL;
    }
    start->target = *target;
    start->address = target->address ? pier__strdup(target->address) : NULL;
    start->password = target->password ? pier__strdup(target->password) : NULL;
    if ((target->address && !start->address) || (target->password && !start->password)) {
        unref(start);
        return NULL;
    }
    dispatch(start, op);
    return start;
}

pier__postgres_start *pier__postgres_start_reading(pier__postgres_db *db, pier__op *op)
{
    pier__postgres_start *start = make(db, op);
    if (start) {
        start->reads = true;
        dispatch(start, op);
    }
    return start;
}

bool pier__postgres_start_done(pier__postgres_start *start)
{
    return atomic_load(&start->done);
}

PGconn *pier__postgres_start_take(pier__postgres_start *start, pier_error *err)
{
    PGconn *pg = start->pg;
    start->pg = NULL;
    if (!pg) {
        *err = start->err;
    }
    return pg;
}

PQconninfoOption *pier__postgres_start_options(pier__postgres_start *start)
{
    PQconninfoOption *options = start->options;
    start->options = NULL;
    return options;
}

char *pier__postgres_start_password(pier__postgres_start *start)
{
    char *password = start->password;
    start->password = NULL;
    return password;
}

void pier__postgres_start_free(pier__postgres_start *start)
{
    if (start) {
        pthread_mutex_lock(&start->lock);
        start->op = NULL;
        pthread_mutex_unlock(&start->lock);
        if (start->job) {
            pier_future_cancel(start->job);
            pier_future_free(start->job);
        }
        unref(start);
    }
}
