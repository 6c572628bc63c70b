/*
 * Reading the URL, once, when the database is opened. Where it names a service, what that says
 * comes from a file, which may take any time: then the rest is done before the first connection, by
 * whoever connects (connect.c), with what a thread has read (start.c). Nobody else has the database
 * yet.
 */
#include "drivers/postgres/url.h"

#include "drivers/postgres/error.h"
#include "sdk/alloc.h"
#include <stdlib.h>
#include <string.h>

enum { CACHE_MAX = 10000 }; /* statements: the server keeps a plan for each */

static int no_memory(pier_error *err)
{
    return pier_error_set(err, PIER_ENOMEM, "out of memory for the URL");
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0) {
            return options->val && *options->val ? options->val : NULL;
        }
    }
    return NULL;
}

static bool is_ascii(const char *text)
{
    while (*text && (unsigned char)*text < 0x80) {
        text++;
    }
    return !*text;
}

/* libpq's messages quote what they do not understand, and that may hold the password. Where the
 * quotation begins is known in English alone; most languages have quotation marks of their own. */
static int refuse(const char *reason, pier_error *err)
{
    char line[160] = "";
    static const char harmless[] = "invalid URI query parameter";
    if (!reason || is_ascii(reason)) {
        pier__postgres_one_line(line, sizeof line, reason ? reason : "out of memory");
    }
    if (strncmp(line, harmless, sizeof harmless - 1) != 0) {
        line[strcspn(line, ":\"'`<")] = 0;
    }
    return pier_error_set(err, PIER_EINVAL,
                          "the URL of the Postgres database cannot be read%s%s; write "
                          "postgresql://user@host:port/name?key=value",
                          *line ? ": " : "", line);
}

int pier__postgres_url_add(pier__postgres_db *db, const char *keyword, const char *value,
                           pier_error *err)
{
    /* Room for the five of an attempt and the NULL. */
    if (db->option_count + 6 >= PIER__POSTGRES_OPTIONS_MAX) {
        return pier_error_set(err, PIER_EINVAL, "the URL has too many options");
    }
    int i = db->option_count++;
    db->keywords[i] = pier__strdup(keyword);
    db->values[i] = pier__strdup(value);
    return db->keywords[i] && db->values[i] ? 0 : no_memory(err);
}

int pier__postgres_url_find(const pier__postgres_db *db, const char *keyword)
{
    int i = 0;
    while (i < db->option_count && strcmp(db->keywords[i], keyword) != 0) {
        i++;
    }
    return i < db->option_count ? i : -1;
}

const char *pier__postgres_url_option(const pier__postgres_db *db, const char *keyword)
{
    int i = pier__postgres_url_find(db, keyword);
    return i < 0 ? NULL : db->values[i];
}

static void drop_option(pier__postgres_db *db, const char *keyword)
{
    int i = pier__postgres_url_find(db, keyword);
    if (i >= 0) {
        pier__free(db->keywords[i]);
        pier__postgres_password_free(db->values[i]);
        size_t behind = (size_t)(--db->option_count - i);
        memmove(&db->keywords[i], &db->keywords[i + 1], behind * sizeof *db->keywords);
        memmove(&db->values[i], &db->values[i + 1], behind * sizeof *db->values);
    }
}

static int keep_options(pier__postgres_db *db, const PQconninfoOption *url, pier_error *err)
{
    int status = 0;
    for (const PQconninfoOption *at = url; !status && at->keyword; at++) {
        if (at->val) {
            status = pier__postgres_url_add(db, at->keyword, at->val, err);
        }
    }
    return status;
}

/* Do the environment or a service file say it? gssencmode has a value in any case, "prefer". */
static bool is_said(const PQconninfoOption *all, const char *keyword)
{
    const char *value = option(all, keyword);
    if (value && strcmp(keyword, "gssencmode") == 0) {
        return getenv("PGGSSENCMODE") || strcmp(value, "prefer") != 0;
    }
    return value != NULL;
}

/* What the URL says, and what it leaves open. The rest comes from the environment and service
 * files, in libpq. */
static int complete_options(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err)
{
    static const char *const elsewhere[] = {
        "host", "hostaddr", "port", "client_encoding", "target_session_attrs", "load_balance_hosts",
        NULL};
    /* These would be looked up for each connection, in files or by getpwuid, which may block. */
    static const char *const once[] = {"user", "dbname", NULL};
    /* An encrypted GSS connection is tried by default, which blocks, and crashes after fork. A peer
     * that vanished is noticed after a minute at most, also while something is being sent to it. */
    static const char *const defaults[][2] = {
        {"gssencmode", "disable"}, {"fallback_application_name", "pier"},
        {"keepalives_idle", "30"}, {"keepalives_interval", "10"},
        {"keepalives_count", "3"}, {"tcp_user_timeout", "60000"},
    };
    for (const char *const *at = elsewhere; *at; at++) {
        drop_option(db, *at);
    }
    int status = pier__postgres_url_add(db, "client_encoding", "UTF8", err);
    for (const char *const *at = once; !status && *at; at++) {
        if (!pier__postgres_url_option(db, *at) && option(all, *at)) {
            status = pier__postgres_url_add(db, *at, option(all, *at), err);
        }
    }
    for (size_t i = 0; !status && i < sizeof defaults / sizeof *defaults; i++) {
        const char *keyword = defaults[i][0];
        if (!pier__postgres_url_option(db, keyword) && !is_said(all, keyword)) {
            status = pier__postgres_url_add(db, keyword, defaults[i][1], err);
        }
    }
    return status;
}

static int count_items(const char *list)
{
    int count = list != NULL;
    for (; list && *list; list++) {
        count += *list == ',';
    }
    return count;
}

/* A copy of one item of a list with commas; NULL in `*copy` for an empty or missing one. False: no
 * memory. */
static bool copy_item(const char *list, int index, char **copy)
{
    *copy = NULL;
    for (; list && index > 0; index--) {
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    size_t size = list ? strcspn(list, ",") : 0;
    if (size == 0) {
        return true;
    }
    *copy = pier__memdup(list, size);
    return *copy != NULL;
}

static int copy_hosts(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err)
{
    const char *hosts = option(all, "host"), *addresses = option(all, "hostaddr");
    const char *ports = option(all, "port");
    int count = count_items(addresses ? addresses : hosts);
    count = count ? count : 1;
    int port_count = count_items(ports);
    if ((hosts && addresses && count_items(hosts) != count) ||
        (port_count > 1 && port_count != count)) {
        return pier_error_set(err, PIER_EINVAL,
                              "the URL names %d hosts, but another number of addresses or ports",
                              count);
    }
    db->hosts = pier__calloc((size_t)count, sizeof *db->hosts + sizeof(_Atomic int64_t));
    if (!db->hosts) {
        return no_memory(err);
    }
    db->host_count = count;
    for (int i = 0; i < count; i++) {
        pier__postgres_host *host = &db->hosts[i];
        if (!copy_item(hosts, i, &host->host) || !copy_item(addresses, i, &host->address) ||
            !copy_item(ports, port_count > 1 ? i : 0, &host->port)) {
            return no_memory(err);
        }
    }
    return 0;
}

/* "postgresql://user@host:port/dbname"; all hosts, as many as there is room for. */
static int make_name(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err)
{
    const char *user = option(all, "user"), *database = option(all, "dbname");
    char hosts[256] = "";
    size_t length = 0;
    for (int i = 0; i < db->host_count && length < sizeof hosts - 1; i++) {
        const pier__postgres_host *host = &db->hosts[i];
        const char *name = host->host ? host->host : host->address ? host->address : "";
        bool bare_ipv6 = name[0] != '/' && strchr(name, ':');
        int written = snprintf(hosts + length, sizeof hosts - length, "%s%s%s%s%s%s", i ? "," : "",
                               bare_ipv6 ? "[" : "", name, bare_ipv6 ? "]" : "",
                               host->port ? ":" : "", host->port ? host->port : "");
        length += written > 0 ? (size_t)written : 0;
    }
    char name[512];
    snprintf(name, sizeof name, "postgresql://%.63s%s%s/%.63s", user ? user : "", user ? "@" : "",
             hosts,
             database ? database
             : user   ? user
                      : "");
    db->base.name = pier__strdup(name);
    return db->base.name ? 0 : no_memory(err);
}

/* While the hosts are not known: what the URL itself says. */
static int make_name_of_service(pier__postgres_db *db, pier_error *err)
{
    const char *user = pier__postgres_url_option(db, "user");
    const char *host = pier__postgres_url_option(db, "host");
    const char *database = pier__postgres_url_option(db, "dbname");
    const char *service = pier__postgres_url_option(db, "service");
    char name[512];
    service = service ? service : getenv("PGSERVICE");
    snprintf(name, sizeof name, "postgresql://%.63s%s%.200s/%.63s?service=%.63s", user ? user : "",
             user ? "@" : "", host ? host : "", database ? database : "", service ? service : "");
    db->base.name = pier__strdup(name);
    return db->base.name ? 0 : no_memory(err);
}

static void take_connect_timeout(pier__postgres_db *db, const PQconninfoOption *all)
{
    const char *text = option(all, "connect_timeout");
    long seconds = text ? strtol(text, NULL, 10) : 0;
    pier__db_settings *settings = &db->base.settings;
    if (seconds > 0 && seconds < 1000000 &&
        (settings->connect_timeout_ms < 0 || seconds * 1000 < settings->connect_timeout_ms)) {
        settings->connect_timeout_ms = seconds * 1000;
    }
}

bool pier__postgres_url_is_unread(const pier__postgres_db *db)
{
    return db->host_count == 0;
}

/* A connection that libpq must refuse before it does anything tells them. */
PQconninfoOption *pier__postgres_url_ask(const pier__postgres_db *db)
{
    const char *keywords[PIER__POSTGRES_OPTIONS_MAX], *values[PIER__POSTGRES_OPTIONS_MAX];
    int count = 0;
    for (int i = 0; i < db->option_count && count < PIER__POSTGRES_OPTIONS_MAX - 3; i++) {
        if (strcmp(db->keywords[i], PIER__POSTGRES_SETTINGS) != 0) {
            keywords[count] = db->keywords[i];
            values[count++] = db->values[i];
        }
    }
    /* With a password it does not look into the pass file, for which nobody has asked yet. */
    keywords[count] = "password", values[count++] = "none";
    keywords[count] = "channel_binding", values[count++] = "refuse this";
    keywords[count] = NULL, values[count] = NULL;
    PGconn *pg = PQconnectStartParams(keywords, values, 0);
    PQconninfoOption *all = pg ? PQconninfo(pg) : NULL;
    PQfinish(pg);
    return all;
}

static int read_cache_max(pier__postgres_db *db, const char *text, size_t size, pier_error *err)
{
    int max = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || max > CACHE_MAX) {
            max = CACHE_MAX + 1;
            break;
        }
        max = max * 10 + (text[i] - '0');
    }
    if (size == 0 || max > CACHE_MAX) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_statement_cache in the URL is \"%.*s\"; a number of statements "
                              "from 0 to 10000",
                              (int)(size < 20 ? size : 20), text);
    }
    db->cache_max = max;
    return 0;
}

bool pier__postgres_url_has_service(const pier__postgres_db *db)
{
    return pier__postgres_url_option(db, "service") || getenv("PGSERVICE");
}

/* What servers are wanted, and whether each connection needs files. */
static int read_target(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err)
{
    static const char *const known[] = {"any",     "read-write", "read-only",
                                        "primary", "standby",    "prefer-standby"};
    static const pier__postgres_wanted wanted[] = {PIER__WANTED_ANY,   PIER__WANTED_WRITABLE,
                                                   PIER__WANTED_OTHER, PIER__WANTED_WRITABLE,
                                                   PIER__WANTED_OTHER, PIER__WANTED_STANDBY_FIRST};
    const char *attributes = option(all, "target_session_attrs");
    size_t i = 0;
    while (attributes && i < sizeof known / sizeof *known && strcmp(attributes, known[i]) != 0) {
        i++;
    }
    if (i == sizeof known / sizeof *known) {
        return pier_error_set(
            err, PIER_EINVAL,
            "target_session_attrs is \"%.40s\"; it is any, read-write, read-only, "
            "primary, standby or prefer-standby",
            attributes);
    }
    db->wanted = wanted[i];
    db->attributes = attributes ? pier__strdup(attributes) : NULL;
    const char *password = getenv("PGPASSWORD");
    db->reads_files = pier__postgres_url_has_service(db) ||
                      !(pier__postgres_url_option(db, "password") || (password && *password));
    return !attributes || db->attributes ? 0 : no_memory(err);
}

static bool is_text(const char *text, size_t size, const char *wanted)
{
    return size == strlen(wanted) && strncmp(text, wanted, size) == 0;
}

/* One parameter of ours: "pier_key=value". */
static int read_own(pier__postgres_db *db, const char *text, size_t size, pier_error *err)
{
    size_t key = strcspn(text, "=&");
    const char *value = key < size ? text + key + 1 : text + size;
    size_t value_size = (size_t)(text + size - value);
    if (is_text(text, key, "pier_statement_cache")) {
        return read_cache_max(db, value, value_size, err);
    }
    if (is_text(text, key, "pier_statements") && is_text(value, value_size, "cached")) {
        db->unnamed = false;
    } else if (is_text(text, key, "pier_statements") && is_text(value, value_size, "unnamed")) {
        db->unnamed = true;
    } else {
        return pier_error_set(
            err, PIER_EINVAL,
            "the URL of the Postgres database has \"%.*s\"; what begins with pier_ "
            "there is pier_statements=cached, pier_statements=unnamed or "
            "pier_statement_cache=NUMBER",
            (int)(size < 40 ? size : 40), text);
    }
    return 0;
}

/* libpq 16 has load_balance_hosts; here it needs no such libpq. */
static int read_balance(pier__postgres_db *db, const char *value, size_t size, pier_error *err)
{
    db->random = is_text(value, size, "random");
    if (!db->random && !is_text(value, size, "disable")) {
        return pier_error_set(err, PIER_EINVAL,
                              "load_balance_hosts is \"%.*s\"; it is random or disable",
                              (int)(size < 20 ? size : 20), value);
    }
    return 0;
}

/* Takes the parameters of ours out of a URL, which libpq would refuse. */
static int take_own(pier__postgres_db *db, char *url, pier_error *err)
{
    char *query = strchr(url, '?');
    char *from = query ? query + 1 : url + strlen(url), *to = from;
    static const char balance[] = "load_balance_hosts=";
    enum { BALANCE = sizeof balance - 1 };
    const char *environment = getenv("PGLOADBALANCEHOSTS");
    int status =
        environment && *environment ? read_balance(db, environment, strlen(environment), err) : 0;
    for (size_t size; *from && !status; from += size + (from[size] == '&')) {
        size = strcspn(from, "&");
        if (strncmp(from, "pier_", 5) == 0) {
            status = read_own(db, from, size, err);
            continue;
        }
        if (strncmp(from, balance, BALANCE) == 0) {
            status = read_balance(db, from + BALANCE, size - BALANCE, err);
            continue;
        }
        if (to != query + 1) {
            *to++ = '&';
        }
        memmove(to, from, size);
        to += size;
    }
    if (query) {
        *(to == query + 1 ? query : to) = 0;
    }
    return status;
}

/* With our own parameters out of the way; NULL: `err` is filled. */
static PQconninfoOption *parse(pier__postgres_db *db, const char *url, pier_error *err)
{
    char *reason = NULL, *copy = pier__strdup(url);
    if (!copy) {
        no_memory(err);
        return NULL;
    }
    db->cache_max = PIER__POSTGRES_CACHE_MAX;
    PQconninfoOption *parsed = NULL;
    if (take_own(db, copy, err) == 0) {
        parsed = PQconninfoParse(copy, &reason);
        if (!parsed) {
            refuse(reason, err);
            PQfreemem(reason);
        }
    }
    pier__free(copy);
    return parsed;
}

/* Through unix sockets alone there is no TLS, whatever is said of it. */
static bool uses_network(const pier__postgres_db *db)
{
    for (int i = 0; i < db->host_count; i++) {
        const pier__postgres_host *host = &db->hosts[i];
        if (host->address || (host->host && host->host[0] != '/' && host->host[0] != '@')) {
            return true;
        }
    }
    return false;
}

/* libpq before 16 takes "system" for the name of a file, and without a file by that name it
 * verifies nobody, where sslmode does not insist. */
static int check_authorities(const pier__postgres_db *db, const PQconninfoOption *all,
                             pier_error *err)
{
    const char *root = option(all, "sslrootcert");
    int version = PQlibVersion();
    if (version >= 160000 || !root || strcmp(root, "system") != 0 || !uses_network(db)) {
        return 0;
    }
    return pier_error_set(err, PIER_EINVAL,
                          "sslrootcert=system needs libpq 16, and this is libpq %d.%d: name a file "
                          "of certificates (Debian: /etc/ssl/certs/ca-certificates.crt), with "
                          "sslmode=verify-full",
                          version / 10000, version % 10000);
}

int pier__postgres_url_settle(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err)
{
    int status = all ? 0 : no_memory(err);
    status = status ? status : copy_hosts(db, all, err);
    status = status || db->base.name ? status : make_name(db, all, err);
    status = status ? status : read_target(db, all, err);
    status = status ? status : check_authorities(db, all, err);
    status = status ? status : pier__postgres_settings_settle(db, option(all, "options"), err);
    status = status ? status : complete_options(db, all, err);
    if (!status) {
        take_connect_timeout(db, all);
    }
    return status;
}

int pier__postgres_url_read(pier__postgres_db *db, const char *url, pier_error *err)
{
    PQconninfoOption *parsed = parse(db, url, err);
    if (!parsed) {
        return err->status;
    }
    int status = keep_options(db, parsed, err);
    PQconninfoFree(parsed);
    if (db->unnamed && db->base.settings.reset == PIER_RESET_DEFAULT) {
        /* The session is not this connection's alone. */
        db->base.settings.reset = PIER_RESET_NONE;
    }
    if (status) {
        return status;
    }
    if (pier__postgres_url_has_service(db)) {
        db->reads_files = true;
        return make_name_of_service(db, err);
    }
    PQconninfoOption *all = pier__postgres_url_ask(db);
    status = pier__postgres_url_settle(db, all, err);
    PQconninfoFree(all);
    return status;
}

void pier__postgres_url_fini(pier__postgres_db *db)
{
    for (int i = 0; i < db->option_count; i++) {
        pier__free(db->keywords[i]);
        pier__postgres_password_free(db->values[i]); /* it may be one */
    }
    for (int i = 0; i < db->host_count; i++) {
        pier__free(db->hosts[i].host);
        pier__free(db->hosts[i].address);
        pier__free(db->hosts[i].port);
    }
    pier__free(db->hosts);
    pier__free(db->attributes);
    db->attributes = NULL;
    db->option_count = db->host_count = 0;
    db->hosts = NULL;
}
