/*
 * Items from a task on the loop to a thread: a hop between the two for each, against an iterator,
 * whose items cross in blocks.
 */
#include "support.h"

#include <pier/pier.h>

static int64_t hopped;

/* What an iterator without blocks would do for each item. */
static int give_one(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    ++*(int64_t *)arg;
    return 0;
}

static void run_hop(void *context, int64_t i)
{
    (void)i;
    int64_t before = hopped;
    if (pier_task_run(context, give_one, &hopped, NULL) < 0 || hopped != before + 1) {
        bench_fail("bridge_iter: no item after %lld", (long long)before);
    }
}

static int count(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int status = 0;
    for (int64_t i = 0; status == 0; i++) {
        status = pier_iter_put(self, &i, err);
    }
    return status;
}

struct consumer {
    pier_iter *iter;
    int64_t expected;
};

static void run_next(void *context, int64_t i)
{
    (void)i;
    struct consumer *consumer = context;
    int64_t item;
    if (!pier_iter_next(consumer->iter, &item) || item != consumer->expected++) {
        bench_fail("bridge_iter: item %lld is wrong", (long long)consumer->expected);
    }
}

static void run_item(void *context, int64_t i)
{
    (void)i;
    struct consumer *consumer = context;
    const int64_t *item = pier_iter_item(consumer->iter);
    if (!item || *item != consumer->expected++) {
        bench_fail("bridge_iter: item %lld is wrong", (long long)consumer->expected);
    }
}

static struct consumer open_consumer(pier_runner *runner)
{
    pier_error err = {0};
    struct consumer consumer = {pier_iter_open(runner, sizeof(int64_t), count, NULL, &err), 0};
    if (!consumer.iter) {
        bench_fail("bridge_iter: %s", err.message);
    }
    return consumer;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 20000);
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    if (!runner) {
        bench_fail("bridge_iter: %s", err.message);
    }
    struct consumer next = open_consumer(runner), item = open_consumer(runner);
    const struct bench_way ways[] = {
        {"a hop for each item", run_hop, runner},
        {"pier_iter_next", run_next, &next},
        {"pier_iter_item", run_item, &item},
    };
    bench_run("bridge_iter", &options, ways, 3);
    if (pier_iter_close(next.iter, &err) < 0 || pier_iter_close(item.iter, &err) < 0) {
        bench_fail("bridge_iter: %s", err.message);
    }
    pier_runner_close(runner);
    return 0;
}
