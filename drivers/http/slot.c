/*
 * Slots.
 */
#include "drivers/http/slot.h"

#include "drivers/http/transfer.h"
#include "sdk/alloc.h"

/* As many idle connections as curl_easy_perform keeps: one thread that asks several hosts in turn
 * finds each of them open. */
enum { CONNECTIONS_MAX = 5 };

pier__slot *pier__slot_new(pier_http *http)
{
    pier__slot *slot = pier__calloc(1, sizeof *slot);
    if (!slot) {
        return NULL;
    }
    slot->easy = curl_easy_init();
    if (!slot->easy || pier__transfer_set_up(slot, http)) {
        pier__slot_free(slot);
        return NULL;
    }
    return slot;
}

void pier__slot_free(pier__slot *slot)
{
    if (slot) {
        curl_easy_cleanup(slot->easy);
        curl_multi_cleanup(slot->multi);
        pier__free(slot);
    }
}

bool pier__slot_has_multi(pier__slot *slot)
{
    if (slot->multi) {
        return true;
    }
    slot->multi = curl_multi_init();
    if (slot->multi) {
        curl_multi_setopt(slot->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
    }
    return slot->multi != NULL;
}
