/*
 * Patterns: blocking work beside the loop. On threads of the runner's executor, of an executor of
 * your own, on a lane; a blocking function with both faces; what is logged where it was forgotten.
 */
#include <pier/pier.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* [job] */
struct sum {
    int64_t last, result;
};

/* Takes its time, and knows nothing of loops. */
static int add_up(void *arg, pier_error *err)
{
    struct sum *sum = arg;
    if (sum->last < 0) {
        return pier_error_set(err, PIER_EUSER, "cannot add up to %" PRId64, sum->last);
    }
    for (int64_t i = 1; i <= sum->last; i++) {
        sum->result += i;
    }
    return 0;
}
/* [/job] */

/* [default_pool] */
static int default_pool(pier_task *self, void *arg, pier_error *err)
{
    struct sum *sum = arg; /* lives longer than any job: nothing stops one that has begun */
    int status = pier_to_thread(pier_task_runner(self), add_up, sum, err);
    if (status == 0) {
        printf("default pool: %" PRId64 "\n", sum->result);
    }
    return status;
}
/* [/default_pool] */

/* [own_pool] */
enum { SUMS = 3 };

static int own_pool(pier_task *self, void *arg, pier_error *err)
{
    struct sum *sums = arg;
    pier_runner *runner = pier_task_runner(self);
    PIER_AUTO(pier_executor)
    pool = pier_executor_open(runner, PIER_EXECUTOR_OPTIONS(.threads = 2, .name = "sums"), err);
    pier_group *group = pier_group_open(runner, NULL, err);
    for (int i = 0; i < SUMS; i++) {
        pier_group_add(group, pier_executor_run_async(pool, add_up, &sums[i]), NULL);
    }
    int status = pier_group_close(group, err); /* waits for all, reports the first failure */
    for (int i = 0; i < SUMS && status == 0; i++) {
        printf("own pool: %" PRId64 "\n", sums[i].result);
    }
    return status;
}
/* [/own_pool] */

/* [lane] */
/* Keeps its place in a hidden variable: all calls must come from one thread, in order. */
static int next_word(void *text, pier_error *err)
{
    (void)err;
    const char *word = strtok(text, " ");
    printf("lane: %s\n", word ? word : "no more words");
    return 0;
}

static int one_thread(pier_task *self, void *text, pier_error *err)
{
    PIER_AUTO(pier_lane) lane = pier_lane_open(pier_task_runner(self), "words", err);
    int status = pier_lane_run(lane, next_word, text, err);
    return status < 0 ? status : pier_lane_run(lane, next_word, NULL, err);
}
/* [/lane] */

/* [decorator] */
static int64_t factorial(int n, pier_error *err)
{
    int64_t result = 1;
    if (n > 20) {
        return pier_error_set(err, PIER_ERANGE, "%d! does not fit into 64 bits", n);
    }
    for (int i = 2; i <= n; i++) {
        result *= i;
    }
    return result;
}

/* Defines factorial_of, which waits, and factorial_of_async with factorial_of_finish. */
PIER_OFFLOAD(int64_t, -1, factorial_of, factorial, (int, n));

static int decorated(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int64_t result = factorial_of(pier_task_runner(self), 20, err); /* the loop goes on meanwhile */
    if (result < 0) {
        return err->status;
    }
    printf("decorated: %" PRId64 "\n", result);
    return 0;
}
/* [/decorator] */

/* [slow] */
static void print_log(pier_log_level level, const char *message, void *user_data)
{
    (void)level;
    (void)user_data;
    printf("log: %s\n", message);
}

static int forgetful(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    usleep(60 * 1000); /* wrong: not a call of Pier's, so every other task stands still */
    return 0;
}

static int report_slow_tasks(pier_error *err)
{
    pier_log_set(print_log, PIER_LOG_WARNING, NULL);
    pier_runner *runner = pier_runner_open(PIER_RUNNER_OPTIONS(.slow_ms = 50), err);
    const pier_task_options *options = PIER_TASK_OPTIONS(.name = "forgetful");
    int status = pier_task_finish(pier_task_start_with(runner, forgetful, NULL, options), err);
    pier_runner_close(runner);
    pier_log_set(NULL, PIER_LOG_WARNING, NULL);
    return status;
}
/* [/slow] */

int main(void)
{
    pier_error err = {0};
    struct sum sum = {.last = 1000};
    struct sum sums[SUMS] = {{.last = 10}, {.last = 100}, {.last = 10000}};
    char text[] = "one two";
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = pier_task_run(runner, default_pool, &sum, &err);
    status = status < 0 ? status : pier_task_run(runner, own_pool, sums, &err);
    status = status < 0 ? status : pier_task_run(runner, one_thread, text, &err);
    status = status < 0 ? status : pier_task_run(runner, decorated, NULL, &err);
    status = status < 0 ? status : report_slow_tasks(&err);
    if (status < 0) {
        fprintf(stderr, "blocking_work: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
