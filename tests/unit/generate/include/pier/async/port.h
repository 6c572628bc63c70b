#ifndef PIER_ASYNC_PORT_H
#define PIER_ASYNC_PORT_H
/* Every type, marker and form of doc comment that the generator knows. */
#include <pier/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_port pier_port;
typedef struct pier_ship pier_ship;
typedef struct pier_crate pier_crate;
typedef struct pier_lighthouse_keeper pier_lighthouse_keeper;
typedef struct pier_log_page pier_log_page;
typedef enum pier_flag { PIER_FLAG_NONE, PIER_FLAG_RED } pier_flag;
typedef int (*pier_port_fn)(pier_port *port, void *arg);

/**
 * Opens a port.
 *
 * The text may have paragraphs, and code:
 *
 *     pier_port *port = pier_port_open("sqlite:port", 8, &err);
 *
 * @param name      copied: where it lies
 * @param capacity  how many ships
 * @return owned: the future of a `pier_port *`, ended by pier_port_close
 *
 * Errors: PIER_EINVAL, PIER_ENOMEM and, in a text that goes on behind the end of its first line,
 * PIER_EIO.
 * Threads: any. Mirrors: the Port of London.
 */
PIER_SYNC(pier_port *)
PIER_API pier_future *pier_port_open_async(const char *name, int capacity);

/**
 * Closes a port.
 *
 * @param port  taken: NULL is harmless
 * @return owned: the future, without a result
 */
PIER_SYNC(void)
PIER_API pier_future *pier_port_close_async(pier_port *port);

/**
 * Audits all ports.
 *
 * @return owned: the future of an `int`
 */
PIER_SYNC(int)
PIER_API pier_future *pier_port_audit_async(void);

/**
 * Loads a ship.
 *
 * @param port    borrowed until the future has settled: an open one
 * @param ship    shared: stays alive while it is loaded
 * @param cargo   copied: `size` bytes of anything, or NULL for ballast alone, which a harbour
 *                master may refuse
 * @param size    of the cargo
 * @param weight  of a unit, in kilograms
 * @param flag    to be hoisted
 * @return owned: the future of the number of units loaded
 *
 * Threads: any.
 */
PIER_SYNC(int64_t, checked)
PIER_API pier_future *pier_port_load_async(const pier_port *port, pier_ship *ship,
                                           const void *cargo, size_t size, int64_t weight,
                                           pier_flag flag);

/**
 * Has a function called for each ship.
 *
 * @param port   borrowed until the future has settled
 * @param fn     called on the loop thread
 * @param arg    shared: handed to `fn`
 * @param limit  how many ships at most
 * @param force  wake their crews
 * @return owned: the future of how many were visited
 */
PIER_SYNC(int, checked, fast)
PIER_API pier_future *pier_port_visit_async(pier_port *port, pier_port_fn fn, void *arg, int limit,
                                            bool force);

/**
 * Unloads the next pallet.
 *
 * @iterator pier_ship_next
 *     Gives the next crate, unloading pallets as they are needed.
 * @iterator pier_ship_bytes Gives what is in the next crate. A text may go on
 *     in a second line.
 * @param ship  borrowed until the future has settled: moored
 * @return owned: the future of a `pier_crate *`
 *
 * Threads: any, one at a time.
 */
PIER_SYNC_ITERATOR(pier_ship_next, const pier_crate *)
PIER_SYNC_ITERATOR(pier_ship_bytes, const void *, size_t *size)
PIER_SYNC(pier_crate *)
PIER_API pier_future *pier_ship_pallet_async(pier_ship *ship);

/**
 * Reads the next page of the keeper's log.
 *
 * @param lighthouse_keeper  borrowed until the future has settled
 * @return owned: the future of a `pier_log_page *`
 * @iterator pier_lighthouse_keeper_next Gives the next entry.
 */
PIER_SYNC_ITERATOR(pier_lighthouse_keeper_next, const char *)
PIER_SYNC(pier_log_page *)
PIER_API pier_future *pier_lighthouse_keeper_page_async(pier_lighthouse_keeper *lighthouse_keeper);

/**
 * Inspects the harbour, with an operation too long for one line.
 *
 * @param lighthouse_keeper     borrowed until the future has settled
 * @param first_ship_inspected  borrowed until the future has settled
 * @param last_ship_inspected   borrowed until the future has settled
 * @param maximum_duration_ms   milliseconds
 * @return owned: the future of an `int`
 */
PIER_SYNC(int)
PIER_API pier_future *pier_port_inspect_async(pier_lighthouse_keeper *lighthouse_keeper,
                                              const pier_ship *first_ship_inspected,
                                              const pier_ship *last_ship_inspected,
                                              int maximum_duration_ms);

#ifdef __cplusplus
}
#endif
#endif
