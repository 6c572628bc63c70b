#ifndef PIER_DRIVERS_HTTP_STREAM_H
#define PIER_DRIVERS_HTTP_STREAM_H
/*
 * Streams: a response whose body is handed over in chunks. The loop fills one chunk while the
 * consumer works on another; a transfer that is too far ahead is paused.
 */
#include "drivers/http/exchange.h"

struct pier_chunk {
    size_t size, capacity;
    char data[];
};

/* Unread bytes beyond which the transfer is paused; it goes on when the consumer has taken them. */
enum { PIER__STREAM_AHEAD_MAX = 512 * 1024 };
/* A line may be so long. */
enum { PIER__LINE_MAX = 16 * 1024 * 1024 };

/* Cuts chunks into lines. */
typedef struct pier__lines {
    char *carry; /* the beginning of a line that goes on in the next chunk */
    size_t size, capacity;
} pier__lines;

typedef enum pier__lines_answer {
    PIER__LINES_LINE,
    PIER__LINES_MORE, /* the chunk is used up */
    PIER__LINES_TOO_LONG,
    PIER__LINES_NO_MEMORY
} pier__lines_answer;

/* The next line of `data`, from `*at` on, without its end; zero-terminated in place. */
pier__lines_answer pier__lines_next(pier__lines *lines, char *data, size_t size, size_t *at,
                                    char **line, size_t *length);
/* The last line, which has no end. False: there is none. */
bool pier__lines_last(pier__lines *lines, char **line, size_t *length);
void pier__lines_fini(pier__lines *lines);

struct pier_stream {
    pier__handle handle;
    atomic_int refs;    /* the user, the operations on it, posts */
    void *close_memory; /* memory for the operation that closes it, which must not fail */
    /* Loop thread. */
    pier__exchange exchange;
    bool closed;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    pier_chunk *filling; /* what the loop has received; NULL or not empty */
    pier_chunk *spare;   /* for reuse */
    pier__op *reader;    /* waits for bytes or the end */
    bool over;           /* nothing will be received any more */
    bool telling;        /* a post is on its way to wake the reader */
    bool paused;         /* by our sink */
    bool resuming;       /* a post is on its way to go on */
    pier_error *fault;   /* why it is over, when that is a failure; NULL also for want of memory */
    int fault_status;

    pier__post tell, resume;

    /* The consumer's. */
    pier_chunk *current; /* being read */
    size_t at;           /* of the next line in it */
    bool fresh;          /* `current` has not been given as a chunk */
    bool at_end;
    bool failed;
    bool fetching;      /* a thread is inside, which the runner's close waits for */
    pier_error failure; /* for close */
    pier__lines lines;
};

#endif
