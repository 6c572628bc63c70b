/*
 * Headers.
 */
#include "drivers/http/headers.h"

#include "sdk/alloc.h"
#include "sdk/error.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- Checking ----------------------------------------------------------------------------- */

bool pier__header_is_token(const char *text)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const char *at = text;
    while (*at >= 'A' && *at <= 'Z') { /* all there is in most methods, and cheaper than strspn */
        at++;
    }
    return *text && (!*at || !at[strspn(at, allowed)]);
}

bool pier__header_is_value(const char *text)
{
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if ((byte < ' ' && byte != '\t') || byte == 127) {
            return false;
        }
    }
    return true;
}

static int check(const pier_pair *pair, pier_error *err)
{
    if (!pier__header_is_token(pair->name)) {
        return pier_error_set(err, PIER_EINVAL,
                              "a header has a name with spaces, control or other characters that "
                              "do not belong there");
    }
    if (!pair->value || !pier__header_is_value(pair->value)) {
        return pier_error_set(err, PIER_EINVAL, "the header %.100s has %s", pair->name,
                              pair->value ? "line ends or control characters in its value"
                                          : "no value; give \"\" for an empty one");
    }
    if (!strcasecmp(pair->name, "Content-Length") || !strcasecmp(pair->name, "Transfer-Encoding")) {
        return pier_error_set(err, PIER_EINVAL, "the header %s is set here; do not give it",
                              pair->name);
    }
    return 0;
}

/* ---- Lists to send ------------------------------------------------------------------------ */

/* A list in one piece of memory: the nodes, then their lines. */
typedef struct builder {
    struct curl_slist *nodes;
    size_t count;
    char *text;
} builder;

static bool builder_init(builder *self, size_t nodes, size_t text)
{
    self->count = 0;
    self->nodes = pier__malloc(nodes * sizeof *self->nodes + text);
    if (self->nodes) {
        self->text = (char *)(self->nodes + nodes);
    }
    return self->nodes != NULL;
}

static void builder_add(builder *self, const char *line, size_t size)
{
    struct curl_slist *node = &self->nodes[self->count];
    if (self->count++) {
        node[-1].next = node;
    }
    node->data = memmove(self->text, line, size);
    node->next = NULL;
    self->text += size;
    *self->text++ = 0;
}

static void builder_add_pair(builder *self, const pier_pair *pair)
{
    size_t name = strlen(pair->name), value = strlen(pair->value);
    char *line = self->text;
    memcpy(line, pair->name, name);
    if (value) {
        memcpy(line + name, ": ", 2);
        memcpy(line + name + 2, pair->value, value);
        builder_add(self, line, name + 2 + value);
    } else {
        /* How libcurl wants a header without a value. */
        line[name] = ';';
        builder_add(self, line, name + 1);
    }
}

static struct curl_slist *builder_end(builder *self)
{
    if (!self->count) {
        pier__free(self->nodes);
        return NULL;
    }
    return self->nodes;
}

static bool line_has_name(const char *line, const char *name)
{
    size_t length = strlen(name);
    return !strncasecmp(line, name, length) && (line[length] == ':' || line[length] == ';');
}

static bool pairs_have(const pier_pair *pairs, const char *line)
{
    for (; pairs && pairs->name; pairs++) {
        if (line_has_name(line, pairs->name)) {
            return true;
        }
    }
    return false;
}

static bool list_has(const struct curl_slist *list, const char *name)
{
    for (; list; list = list->next) {
        if (line_has_name(list->data, name)) {
            return true;
        }
    }
    return false;
}

static void add_once(builder *self, const char *name, const char *line)
{
    if (!list_has(self->count ? self->nodes : NULL, name)) {
        builder_add(self, line, strlen(line));
    }
}

static const char *const content_types[] = {
    [PIER__BODY_NONE] = NULL,
    /* Without a value: libcurl leaves out its own, the type of HTML forms. */
    [PIER__BODY_EMPTY] = "Content-Type:",
    [PIER__BODY_BYTES] = "Content-Type: application/octet-stream",
    [PIER__BODY_JSON] = "Content-Type: application/json",
};

int pier__header_list(struct curl_slist **list, const struct curl_slist *first,
                      const pier_pair *pairs, pier__body_kind body, pier_error *err)
{
    enum { EXTRAS = 2, EXTRAS_SIZE = 80 };
    size_t nodes = EXTRAS, size = EXTRAS_SIZE;
    for (const struct curl_slist *line = first; line; line = line->next) {
        nodes++;
        size += strlen(line->data) + 1;
    }
    for (const pier_pair *pair = pairs; pair && pair->name; pair++) {
        int status = check(pair, err);
        if (status < 0) {
            return status;
        }
        nodes++;
        size += strlen(pair->name) + strlen(pair->value) + 3;
    }
    builder made;
    if (!builder_init(&made, nodes, size)) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for headers");
    }
    for (; first; first = first->next) {
        if (!pairs_have(pairs, first->data)) {
            builder_add(&made, first->data, strlen(first->data));
        }
    }
    for (; pairs && pairs->name; pairs++) {
        builder_add_pair(&made, pairs);
    }
    if (body != PIER__BODY_NONE) {
        add_once(&made, "Content-Type", content_types[body]);
        /* Without a value: libcurl would wait a second for servers that ignore it. */
        add_once(&made, "Expect", "Expect:");
    }
    *list = builder_end(&made);
    return 0;
}

int pier__header_list_without(struct curl_slist **list, const struct curl_slist *from,
                              bool (*drop)(const char *line), pier_error *err)
{
    size_t nodes = 0, size = 0;
    for (const struct curl_slist *line = from; line; line = line->next) {
        nodes++;
        size += strlen(line->data) + 1;
    }
    *list = NULL;
    if (!nodes) {
        return 0;
    }
    builder made;
    if (!builder_init(&made, nodes, size)) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for headers");
    }
    for (; from; from = from->next) {
        if (!drop(from->data)) {
            builder_add(&made, from->data, strlen(from->data));
        }
    }
    *list = builder_end(&made);
    return 0;
}

/* ---- Those that came ---------------------------------------------------------------------- */

static bool reserve(pier__header_store *store, size_t more)
{
    size_t needed = store->size + more;
    if (needed > PIER__HEADERS_SIZE_MAX) {
        return false;
    }
    if (needed <= store->capacity) {
        return true;
    }
    size_t capacity = store->capacity ? store->capacity : 512;
    while (capacity < needed) {
        capacity *= 2;
    }
    char *text = pier__realloc(store->text, capacity);
    if (!text) {
        return false;
    }
    store->text = text;
    store->capacity = capacity;
    return true;
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* A line that begins with a space continues the value before it. */
static bool add_folded(pier__header_store *store, const char *line, size_t size)
{
    while (size && is_space(*line)) {
        line++;
        size--;
    }
    if (!store->count || !reserve(store, size + 1)) {
        return !store->count;
    }
    store->text[store->size - 1] = ' ';
    memcpy(store->text + store->size, line, size);
    store->size += size;
    store->text[store->size++] = 0;
    return true;
}

bool pier__header_store_add(pier__header_store *store, const char *line, size_t size)
{
    while (size && (line[size - 1] == '\n' || line[size - 1] == '\r' || is_space(line[size - 1]))) {
        size--;
    }
    if (memchr(line, 0, size)) {
        return false;
    }
    if (!size) {
        return true;
    }
    if (is_space(*line)) {
        return add_folded(store, line, size);
    }
    if (store->count == PIER__HEADERS_MAX || !reserve(store, size + 1)) {
        return false;
    }
    memcpy(store->text + store->size, line, size);
    store->size += size;
    store->text[store->size++] = 0;
    store->count++;
    return true;
}

const char *pier__header_store_find(const pier__header_store *store, const char *name)
{
    const char *found = NULL, *end = store->text + store->size;
    size_t length = strlen(name);
    for (const char *line = store->text; line && line < end; line += strlen(line) + 1) {
        if (strncasecmp(line, name, length)) {
            continue;
        }
        const char *value = line + length;
        while (is_space(*value)) {
            value++;
        }
        if (*value++ == ':') {
            while (is_space(*value)) {
                value++;
            }
            found = value;
        }
    }
    return found;
}

void pier__header_store_clear(pier__header_store *store)
{
    store->size = 0;
    store->count = 0;
}

void pier__header_store_fini(pier__header_store *store)
{
    pier__free(store->text);
    memset(store, 0, sizeof *store);
}
