/* TCP servers that misbehave, each on a free port of 127.0.0.1 and on a thread of its own. */
#ifndef PIER_TESTS_SUPPORT_TCP_H
#define PIER_TESTS_SUPPORT_TCP_H

#include <stdbool.h>
#include <stdint.h>

/* Forwards connections to a port of 127.0.0.1 and harms them on demand; without a target it is a
 * server that accepts, reads and never answers. A change is in force when the function that makes
 * it returns. */
struct support_proxy;

enum support_direction { SUPPORT_TO_SERVER, SUPPORT_TO_CLIENT };

struct support_proxy *support_proxy_start(int target_port);
/* Closes everything and joins the thread. NULL does nothing. */
void support_proxy_stop(struct support_proxy *proxy);
int support_proxy_port(const struct support_proxy *proxy);

/* Later connections go to another port. */
void support_proxy_set_target(struct support_proxy *proxy, int target_port);
/* Forwards bytes_max more bytes in this direction on each connection (on later ones, the first
 * bytes_max), then closes it on both sides. Negative: no limit. */
void support_proxy_cut_after(struct support_proxy *proxy, enum support_direction direction,
                             int64_t bytes_max);
/* Whether cutting and killing reset connections (RST) instead of closing them (FIN). */
void support_proxy_use_reset(struct support_proxy *proxy, bool reset);
/* Nothing is read, forwarded or closed until resumed; the kernel goes on accepting connections. */
void support_proxy_pause(struct support_proxy *proxy);
void support_proxy_resume(struct support_proxy *proxy);
/* Closes all connections; later ones are served. */
void support_proxy_kill_connections(struct support_proxy *proxy);

int support_proxy_accepted(struct support_proxy *proxy); /* connections so far */
int support_proxy_open(struct support_proxy *proxy);     /* connections now */
int64_t support_proxy_bytes(struct support_proxy *proxy, enum support_direction direction);
/* Waits until that many connections have been accepted in all, or are open. */
bool support_proxy_wait_accepted(struct support_proxy *proxy, int count_min, int timeout_ms);
bool support_proxy_wait_open(struct support_proxy *proxy, int count_max, int timeout_ms);

/* A server that accepts and never answers. */
struct support_silent_server {
    int port;
    struct support_proxy *proxy;
};

int support_silent_server_start(struct support_silent_server *server);
void support_silent_server_stop(struct support_silent_server *server);

#endif
