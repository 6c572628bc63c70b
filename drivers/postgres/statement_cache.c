/*
 * Statements by their text.
 */
#include "drivers/postgres/statement_cache.h"

#include "drivers/postgres/effects.h"
#include "drivers/postgres/sql.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

static uint64_t load(const char *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

/* Eight bytes at a time, the last of them read twice where the size is no multiple. The texts are
 * the program's own, so nobody chooses them to collide. */
static uint64_t hash_sql(const char *sql, size_t size)
{
    uint64_t hash = size;
    if (size < 8) {
        uint64_t word = 0;
        memcpy(&word, sql, size);
        return mix(hash, word);
    }
    const char *last = sql + size - 8;
    for (; sql < last; sql += 8) {
        hash = mix(hash, load(sql));
    }
    return mix(hash, load(last));
}

pier__postgres_statement *pier__postgres_statement_new(const char *sql, size_t sql_size,
                                                       const char *name)
{
    pier__postgres_statement *statement = pier__malloc(sizeof *statement + sql_size + 1);
    if (!statement) {
        return NULL;
    }
    memset(statement, 0, sizeof *statement);
    statement->hash = hash_sql(sql, sql_size);
    statement->sql_size = sql_size;
    memcpy(statement->sql, sql, sql_size);
    statement->sql[sql_size] = 0;
    statement->effects = (unsigned char)pier__postgres_effects(sql, sql_size);
    statement->settled = pier__postgres_has_settled_columns(statement->sql);
    snprintf(statement->name, sizeof statement->name, "%s", name);
    return statement;
}

void pier__postgres_statement_free(pier__postgres_statement *statement)
{
    if (statement) {
        pier__free(statement->param_types);
        pier__free(statement->names);
        pier__postgres_columns_unref(statement->columns);
        pier__free(statement);
    }
}

void pier__postgres_cache_fini(pier__postgres_cache *cache)
{
    while (cache->newest) {
        pier__postgres_statement *statement = cache->newest;
        cache->newest = statement->older;
        pier__postgres_statement_free(statement);
    }
    memset(cache->buckets, 0, sizeof cache->buckets);
    cache->oldest = NULL;
    cache->count = 0;
}

static pier__postgres_statement **bucket_of(pier__postgres_cache *cache, uint64_t hash)
{
    return &cache->buckets[hash % PIER__POSTGRES_CACHE_BUCKETS];
}

static void unlink_use(pier__postgres_cache *cache, pier__postgres_statement *statement)
{
    *(statement->newer ? &statement->newer->older : &cache->newest) = statement->older;
    *(statement->older ? &statement->older->newer : &cache->oldest) = statement->newer;
}

static void link_newest(pier__postgres_cache *cache, pier__postgres_statement *statement)
{
    statement->newer = NULL;
    statement->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = statement;
    cache->newest = statement;
}

static bool is_text_of(const pier__postgres_statement *statement, const char *sql, size_t sql_size)
{
    return statement->sql_size == sql_size && memcmp(statement->sql, sql, sql_size) == 0;
}

pier__postgres_statement *pier__postgres_cache_find(pier__postgres_cache *cache, const char *sql,
                                                    size_t sql_size)
{
    /* Often it is the one of the last time, which costs no hash. */
    pier__postgres_statement *found = cache->newest;
    if (found && is_text_of(found, sql, sql_size)) {
        return found;
    }
    uint64_t hash = hash_sql(sql, sql_size);
    found = *bucket_of(cache, hash);
    while (found && (found->hash != hash || !is_text_of(found, sql, sql_size))) {
        found = found->next;
    }
    if (found) {
        unlink_use(cache, found);
        link_newest(cache, found);
    }
    return found;
}

pier__postgres_statement *pier__postgres_cache_add(pier__postgres_cache *cache,
                                                   pier__postgres_statement *statement)
{
    pier__postgres_statement *victim = NULL;
    if (cache->count >= cache->max && cache->oldest) {
        victim = cache->oldest;
        pier__postgres_cache_remove(cache, victim);
    }
    pier__postgres_statement **bucket = bucket_of(cache, statement->hash);
    statement->next = *bucket;
    *bucket = statement;
    link_newest(cache, statement);
    cache->count++;
    return victim;
}

void pier__postgres_cache_remove(pier__postgres_cache *cache, pier__postgres_statement *statement)
{
    pier__postgres_statement **at = bucket_of(cache, statement->hash);
    while (*at != statement) {
        at = &(*at)->next;
    }
    *at = statement->next;
    unlink_use(cache, statement);
    cache->count--;
}
