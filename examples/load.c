/*
 * Loads real data over HTTP into a database and reads it back; scripts/demo runs it.
 *
 *   load [--db URL] [--threads N] [--quiet] URL...
 *
 * It knows the files of the Unicode character database (lines with semicolons) and those of
 * iso-codes (JSON). Its phases, all of them in blocking calls:
 *
 *   fetch   every URL at once through one session; each document is parsed as soon as it is there
 *   store   N threads share a pool; each takes batches of records, a transaction for each batch
 *   read    every row comes back through a cursor and is counted; then a few small reports
 *
 * Ctrl-C ends it at any point: each thread has a scope that listens to SIGINT, so that whatever
 * call it is blocked in fails with PIER_ECANCELLED, and the ordinary error paths clean up.
 */
#include <pier/pier.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 400, /* rows in a transaction: enough that the commit costs little */
    DOCUMENTS_MAX = 64,
    THREADS_MAX = 32 /* each holds a signal scope */
};

static const char *const schema =
    "drop table if exists characters; drop table if exists ranges; drop table if exists codes;"
    "create table characters(code bigint primary key, name text not null, category text not null);"
    "create table ranges(list text, low bigint, high bigint, name text,"
    " primary key (list, low, name));"
    "create table codes(list text, code text, name text not null, primary key (list, code));";

/* A row to be stored. Its texts are in one of the documents. */
struct record {
    const char *insert;
    pier_value values[4];
    size_t count;
};

struct load {
    /* Immutable after the command line has been read. */
    const char *url;
    int threads;
    bool quiet, terminal;
    /* The main thread writes, and no other thread runs meanwhile. */
    pier_runner *runner;
    pier_db *db;
    char *documents[DOCUMENTS_MAX];
    size_t document_count;
    struct record *records;
    size_t count, capacity;
    size_t name_bytes; /* of all records, to compare with what comes back */
    /* The storing threads take batches from here. */
    atomic_size_t next;
    /* Guarded by lock. */
    pthread_mutex_t lock;
    size_t stored;
    pier_error err; /* the first failure of a thread */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Overwrites itself, so it is for terminals. */
static void show_progress(const struct load *load, const char *what, size_t done, size_t all)
{
    if (load->terminal && !load->quiet) {
        fprintf(stderr, "\r\033[K%s: %zu of %zu", what, done, all);
    }
}

/* One line for each phase, in place of its progress. */
static PIER_PRINTF(3, 4) void show_phase(const struct load *load, double start, const char *format,
                                         ...)
{
    if (!load->quiet) {
        va_list list;
        va_start(list, format);
        fputs(load->terminal ? "\r\033[K" : "", stderr);
        vfprintf(stderr, format, list);
        fprintf(stderr, ": %.2f s\n", now() - start);
        va_end(list);
    }
}

/* Documents are cut into strings where they are, so the values may point into them. */
static void add_record(struct load *load, const char *insert, const char *name,
                       const pier_args *args)
{
    if (load->count == load->capacity) {
        load->capacity = load->capacity ? 2 * load->capacity : 4096;
        load->records = realloc(load->records, load->capacity * sizeof *load->records);
        if (!load->records) {
            abort(); /* a few megabytes */
        }
    }
    struct record *record = &load->records[load->count++];
    *record = (struct record){.insert = insert, .count = args->count};
    memcpy(record->values, args->values, args->count * sizeof *args->values);
    load->name_bytes += strlen(name);
}

/* UnicodeData.txt: 15 fields; the first three are code point, name and category. */
static void parse_characters(struct load *load, char *text)
{
    for (char *line; (line = strsep(&text, "\r\n"));) {
        const char *code = strsep(&line, ";");
        const char *name = strsep(&line, ";");
        const char *category = strsep(&line, ";");
        if (category) {
            add_record(load, "insert into characters(code, name, category) values ($1, $2, $3)",
                       name, PIER_ARGS(strtol(code, NULL, 16), name, category));
        }
    }
}

/* Its other files: "0041..005A ; Latin # 26 letters", or a single code point. */
static void parse_ranges(struct load *load, const char *list, char *text)
{
    for (char *line; (line = strsep(&text, "\r\n"));) {
        const char *code = strsep(&line, ";");
        char *end;
        long low = strtol(code, &end, 16);
        long high = strncmp(end, "..", 2) == 0 ? strtol(end + 2, NULL, 16) : low;
        char *name = end != code && line ? strsep(&line, "#") : NULL;
        if (name) {
            name += strspn(name, " ");
            for (char *last = name + strlen(name); last > name && strchr(" ;", last[-1]);) {
                *--last = 0;
            }
            add_record(load, "insert into ranges(list, low, high, name) values ($1, $2, $3, $4)",
                       name, PIER_ARGS(list, low, high, name));
        }
    }
}

/* Cuts out the string whose opening quote is behind *at. Of the escapes, the files use none; an
 * escaped character stands for itself here. */
static const char *json_string(char **at)
{
    char *start = *at, *to = start, *from = start;
    for (; *from && *from != '"'; from++) {
        from += *from == '\\' && from[1];
        *to++ = *from;
    }
    *at = *from ? from + 1 : from;
    *to = 0;
    return start;
}

/* {"3166-1": [{"alpha_2": "AW", "alpha_3": "ABW", "name": "Aruba", ...}, ...]}: flat objects. The
 * last of several codes is the most specific one. */
static void parse_codes(struct load *load, const char *list, char *text)
{
    const char *key = "", *code = NULL, *name = NULL;
    bool value = false; /* behind a colon */
    for (char *at = text; *at;) {
        char c = *at++;
        if (c == '"') {
            const char *string = json_string(&at);
            if (!value) {
                key = string;
            } else if (strcmp(key, "name") == 0) {
                name = string;
            } else if (strcmp(key, "code") == 0 || strncmp(key, "alpha_", 6) == 0) {
                code = string;
            }
        } else if (c == ':') {
            value = true;
        } else if (strchr(",{[", c)) {
            value = false;
        } else if (c == '}' && code && name) {
            add_record(load, "insert into codes(list, code, name) values ($1, $2, $3)", name,
                       PIER_ARGS(list, code, name));
            code = name = NULL;
        }
    }
}

/* Parses a document by the name of its file; one without records is a failure. */
static int parse(struct load *load, const char *url, const char *body, size_t size, pier_error *err)
{
    const char *slash = strrchr(url, '/');
    const char *file = slash ? slash + 1 : url;
    char *text = malloc(size + 1 + strlen(file) + 1);
    if (!text) {
        return pier_error_set(err, PIER_ENOMEM, "no room for %s", url);
    }
    load->documents[load->document_count++] = text;
    memcpy(text, body, size + 1);
    char *suffix = strcpy(text + size + 1, file);
    const char *list = strsep(&suffix, ".");
    size_t before = load->count;
    if (suffix && strcmp(suffix, "json") == 0) {
        parse_codes(load, list, text);
    } else if (strcmp(list, "UnicodeData") == 0) {
        parse_characters(load, text);
    } else {
        parse_ranges(load, list, text);
    }
    if (load->count == before) {
        return pier_error_set(err, PIER_EUSER, "%s holds no records that this program knows", url);
    }
    return 0;
}

static int fetch(struct load *load, char *const *urls, int count, pier_error *err)
{
    double start = now();
    size_t bytes = 0;
    int status = 0;
    pier_http *http = pier_http_open(load->runner, NULL, err);
    pier_group *group = pier_group_open(load->runner, NULL, err);
    for (int i = 0; i < count; i++) {
        pier_group_add(group, pier_http_get_async(http, urls[i], NULL), urls[i]);
    }
    /* In the order in which they finish. One that fails cancels the others and ends the loop. */
    void *url;
    for (pier_future *future; (future = pier_group_next(group, &url));) {
        PIER_AUTO(pier_response) response = pier_http_get_finish(future, err);
        size_t size = 0;
        const char *body = pier_response_text(response, &size);
        bytes += size;
        if (status == 0 && body) {
            status = parse(load, url, body, size, err);
        }
        show_progress(load, "documents", load->document_count, (size_t)count);
    }
    int closed = pier_group_close(group, err);
    pier_http_close(http);
    if (status < 0 || closed < 0) {
        return err->status;
    }
    show_phase(load, start, "fetched %zu documents, %.1f MB, and parsed %zu records",
               load->document_count, (double)bytes / 1e6, load->count);
    return 0;
}

struct batch {
    const struct record *records;
    size_t count;
};

/* The body of a transaction: rolled back when it fails, and tried again when that may help. */
static int store_batch(pier_db *tx, void *arg, pier_error *err)
{
    const struct batch *batch = arg;
    for (size_t i = 0; i < batch->count; i++) {
        const struct record *record = &batch->records[i];
        pier_args args = {.count = record->count, .values = record->values};
        if (pier_db_execute(tx, record->insert, &args, err) < 0) {
            return err->status;
        }
    }
    return 0;
}

static void *store_batches(void *arg)
{
    struct load *load = arg;
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(load->runner, PIER_SCOPE_OPTIONS(.signal = SIGINT), &err);
    int status = scope ? 0 : err.status;
    while (status >= 0) {
        size_t from = atomic_fetch_add(&load->next, BATCH);
        if (from >= load->count) {
            break;
        }
        size_t left = load->count - from;
        struct batch batch = {load->records + from, left < BATCH ? left : BATCH};
        status = pier_db_transaction(load->db, PIER_TX_OPTIONS(.attempts = 5), store_batch, &batch,
                                     &err);
        pthread_mutex_lock(&load->lock);
        load->stored += status < 0 ? 0 : batch.count;
        show_progress(load, "stored", load->stored, load->count);
        pthread_mutex_unlock(&load->lock);
    }
    pier_scope_close(scope);
    if (status < 0) {
        atomic_store(&load->next, load->count); /* the other threads end too */
        pthread_mutex_lock(&load->lock);
        load->err = load->err.status ? load->err : err;
        pthread_mutex_unlock(&load->lock);
    }
    return NULL;
}

static int store(struct load *load, pier_error *err)
{
    if (pier_db_execute_script(load->db, schema, err) < 0) {
        return err->status;
    }
    double start = now();
    pthread_t threads[THREADS_MAX];
    int running = 0;
    while (running < load->threads &&
           !pthread_create(&threads[running], NULL, store_batches, load)) {
        running++;
    }
    for (int i = 0; i < running; i++) {
        pthread_join(threads[i], NULL);
    }
    if (load->err.status < 0) {
        return (*err = load->err).status;
    }
    show_phase(load, start, "stored %zu records from %d threads, %.0f records/s", load->stored,
               running, (double)load->stored / (now() - start));
    return 0;
}

/* Every row, in constant memory. What fails on the way is reported by close. */
static int read_back(struct load *load, pier_error *err)
{
    const char *sql = "select name from characters union all select name from ranges"
                      " union all select name from codes";
    double start = now();
    size_t rows = 0, name_bytes = 0;
    pier_cursor *cursor = pier_db_cursor(load->db, sql, NULL, err);
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        size_t size = 0;
        pier_row_bytes(row, 0, &size);
        name_bytes += size;
    }
    if (pier_cursor_close(cursor, err) < 0) {
        return err->status;
    }
    if (rows != load->count || name_bytes != load->name_bytes) {
        return pier_error_set(err, PIER_EUSER,
                              "parsed %zu records with %zu bytes of names, read back %zu with %zu",
                              load->count, load->name_bytes, rows, name_bytes);
    }
    show_phase(load, start, "read %zu records through a cursor, %.0f records/s", rows,
               (double)rows / (now() - start));
    return 0;
}

static const struct report {
    const char *title, *headings[3], *sql;
} reports[] = {
    {"Records counted back",
     {"table", "count", "first name"},
     "select 'characters', count(*), min(name) from characters union all"
     " select 'ranges', count(*), min(name) from ranges union all"
     " select 'codes', count(*), min(name) from codes order by 2 desc"},
    {"Lists of codes",
     {"list", "codes", "first name"},
     "select list, count(*), min(name) from codes group by list order by 2 desc, 1"},
    {"Characters by general category",
     {"category", "count", "first name"},
     "select category, count(*), min(name) from characters group by category"
     " order by 2 desc, 1 limit 8"},
    {"Blocks with the most characters",
     {"block", "count", "first name"},
     "select r.name, count(*), min(c.name) from ranges r join characters c"
     " on c.code between r.low and r.high where r.list = 'Blocks'"
     " group by r.name order by 2 desc, 1 limit 6"},
    {"Longest names of characters",
     {"code point", "length", "name"},
     "select code, length(name), name from characters order by 2 desc, 1 limit 4"},
    {"Countries by first letter",
     {"letter", "count", "for example"},
     "select substr(name, 1, 1), count(*), min(name) from codes where list = 'iso_3166-1'"
     " group by 1 order by 2 desc, 1 limit 6"},
};

static int print_report(pier_db *db, const struct report *report, pier_error *err)
{
    const char *const *heading = report->headings;
    printf("\n%s\n  %-38s%7s  %s\n", report->title, heading[0], heading[1], heading[2]);
    pier_cursor *cursor = pier_db_cursor(db, report->sql, NULL, err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        printf("  %-38s%7" PRId64 "  %s\n", pier_row_text(row, 0), pier_row_int64(row, 1),
               pier_row_text(row, 2));
    }
    return pier_cursor_close(cursor, err);
}

/* Everything inside one scope. */
static int run(struct load *load, char *const *urls, int count, pier_error *err)
{
    pier_scope *scope = pier_scope_open(load->runner, PIER_SCOPE_OPTIONS(.signal = SIGINT), err);
    load->db =
        pier_db_open(load->runner, load->url, PIER_DB_OPTIONS(.pool_max = load->threads), err);
    int status = load->db ? 0 : err->status;
    status = status < 0 ? status : fetch(load, urls, count, err);
    status = status < 0 ? status : store(load, err);
    status = status < 0 ? status : read_back(load, err);
    for (size_t i = 0; i < sizeof reports / sizeof reports[0] && status == 0; i++) {
        status = print_report(load->db, &reports[i], err);
    }
    pier_scope_close(scope);
    return status;
}

/* Gives the index of the first URL, or 0 for wrong usage. */
static int read_options(struct load *load, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--quiet") == 0) {
            load->quiet = true;
        } else if (strcmp(argv[i], "--db") == 0 && i + 1 < argc) {
            load->url = argv[++i];
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            load->threads = atoi(argv[++i]);
        } else {
            return 0;
        }
    }
    bool right = load->threads >= 1 && load->threads <= THREADS_MAX && argc - i <= DOCUMENTS_MAX;
    return right && i < argc ? i : 0;
}

int main(int argc, char **argv)
{
    struct load load = {
        .threads = 4, .terminal = isatty(STDERR_FILENO), .lock = PTHREAD_MUTEX_INITIALIZER};
    int first = read_options(&load, argc, argv);
    if (!first) {
        fprintf(stderr, "usage: %s [--db URL] [--threads 1-%d] [--quiet] URL...\n", argv[0],
                THREADS_MAX);
        return 2;
    }
    if (!load.url) {
        remove("pier-demo.db");
        load.url = "sqlite:pier-demo.db";
    }
    double start = now();
    pier_error err = {0};
    load.runner = pier_runner_open(NULL, &err);
    int status = run(&load, argv + first, argc - first, &err);
    pier_runner_close(load.runner);
    if (status == 0) {
        printf("\n%zu records stored and read back in %.2f s\n", load.count, now() - start);
    } else {
        fprintf(stderr, "%sload: %s\n", load.terminal ? "\n" : "", err.message);
    }
    for (size_t i = 0; i < load.document_count; i++) {
        free(load.documents[i]);
    }
    free(load.records);
    return status == 0 ? 0 : status == PIER_ECANCELLED ? 130 : 1; /* 130: what shells give Ctrl-C */
}
