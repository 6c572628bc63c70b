/*
 * Fibers: stacks from mmap, which take memory only as they are used, each above a guard, kept for
 * the next fiber. Registers are switched by fiber_switch.S, elsewhere by ucontext.
 *
 * A stack that is kept gives back what a deep function has used of it. Asking the kernel how deep
 * that was (mincore) costs 1.4 us, giving back what may be nothing 0.3 us. So a mark is set where
 * the part begins that is not worth the call: whoever went deeper has written over it. A frame that
 * only jumped over the mark is found by giving back now and then without looking.
 */
#include "sdk/fiber.h"

#include "sdk/alloc.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define OWN_SWITCH 1
#else
#define OWN_SWITCH 0
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#if defined(WITH_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(WITH_TSAN)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>) && !defined(NVALGRIND)
#include <valgrind/valgrind.h>
#define WITH_VALGRIND 1
#endif
#endif

enum {
/* A sanitizer's frames are several times as large. */
#if defined(WITH_ASAN) || defined(WITH_TSAN)
    FRAME_FACTOR = 4,
#else
    FRAME_FACTOR = 1,
#endif
    /* Stacks kept for reuse: enough for a busy server. */
    SPARE_MAX = 256,
    /* How far below the top the mark is: most tasks wait within their first two pages. */
    MARK_DEPTH = 8 * 1024,
    /* What a stack keeps: with all spare ones, 4 MiB. */
    KEEP = 16 * 1024,
    /* Every so many uses a stack gives back without looking at the mark. */
    TRIM_EVERY = 32,
    /* A function whose frame is smaller cannot jump over it. Address space only. */
    GUARD = 64 * 1024
};

#define MARK ((uintptr_t)0x5069657220737461)

struct pier__fiber {
    pier__fiber *next; /* spare */
    void *map;         /* guard page and stack */
    size_t map_size;
    size_t size; /* of the stack, the upper end of the map */
    unsigned uses;
    void (*fn)(void *arg);
    void *arg;
    bool ended;
#if OWN_SWITCH
    void *sp, *resumer_sp;
#else
    ucontext_t context, resumer;
#endif
#if defined(WITH_ASAN)
    void *fake_stack;
    const void *resumer_bottom;
    size_t resumer_size;
#endif
#if defined(WITH_TSAN)
    void *tsan, *tsan_resumer;
#endif
#if defined(WITH_VALGRIND)
    unsigned valgrind_id;
#endif
};

struct pier__fiber_pool {
    /* Immutable. */
    size_t stack_size; /* whole pages */
    size_t guard;
    int max;
    /* The loop's thread. */
    pier__fiber *spare;
    int spare_count;
    int count; /* in use */
};

#if OWN_SWITCH
void pier__fiber_switch(void **save_sp, void *load_sp);
void pier__fiber_enter(void);
#endif
void pier__fiber_start(pier__fiber *fiber);

pier__fiber_pool *pier__fiber_pool_new(size_t stack_size, int stacks_max)
{
    pier__fiber_pool *pool = pier__calloc(1, sizeof *pool);
    if (pool) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        stack_size = (stack_size ? stack_size : PIER__STACK_SIZE) * FRAME_FACTOR;
        pool->stack_size = (stack_size + page - 1) / page * page;
        pool->guard = (GUARD + page - 1) / page * page;
        pool->max = stacks_max ? stacks_max : PIER__STACKS_MAX;
    }
    return pool;
}

int pier__fiber_count(const pier__fiber_pool *pool)
{
    return pool->count;
}

int pier__fiber_max(const pier__fiber_pool *pool)
{
    return pool->max;
}

static void unmap(pier__fiber *fiber)
{
#if defined(WITH_VALGRIND)
    VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
#endif
    munmap(fiber->map, fiber->map_size);
    pier__free(fiber);
}

void pier__fiber_pool_free(pier__fiber_pool *pool)
{
    while (pool && pool->spare) {
        pier__fiber *fiber = pool->spare;
        pool->spare = fiber->next;
        unmap(fiber);
    }
    pier__free(pool);
}

static char *stack_low(const pier__fiber *fiber)
{
    return (char *)fiber->map + (fiber->map_size - fiber->size);
}

static uintptr_t *mark_of(const pier__fiber *fiber)
{
    return (uintptr_t *)(void *)((char *)fiber->map + (fiber->map_size - MARK_DEPTH));
}

/* Gives back what the fiber that has ended used of its stack, if that was much. */
static void trim(pier__fiber *fiber)
{
#if defined(WITH_VALGRIND)
    if (RUNNING_ON_VALGRIND) {
        return; /* to which what a stack has shrunk from is out of bounds */
    }
#endif
    bool deep = *mark_of(fiber) != MARK;
    if ((deep || fiber->uses % TRIM_EVERY == 0) && fiber->size > KEEP) {
        madvise(stack_low(fiber), fiber->size - KEEP, MADV_DONTNEED);
        *mark_of(fiber) = MARK;
    }
}

static pier__fiber *map_fiber(const pier__fiber_pool *pool)
{
    pier__fiber *fiber = pier__calloc(1, sizeof *fiber);
    if (!fiber) {
        return NULL;
    }
    fiber->size = pool->stack_size;
    fiber->map_size = pool->stack_size + pool->guard;
    fiber->map = mmap(NULL, fiber->map_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->map == MAP_FAILED || mprotect(fiber->map, pool->guard, PROT_NONE)) {
        if (fiber->map != MAP_FAILED) {
            munmap(fiber->map, fiber->map_size);
        }
        pier__free(fiber);
        return NULL;
    }
    *mark_of(fiber) = MARK;
#if defined(WITH_VALGRIND)
    fiber->valgrind_id = VALGRIND_STACK_REGISTER(stack_low(fiber), stack_low(fiber) + fiber->size);
#endif
    return fiber;
}

/* Lays the stack out as pier__fiber_switch leaves one. */
static void prepare(pier__fiber *fiber)
{
#if defined(__x86_64__)
    void **top = (void **)(stack_low(fiber) + fiber->size);
    top -= 2; /* alignment: the stack is 16-byte aligned before enter's call */
    *--top = (void *)pier__fiber_enter;
    *--top = NULL;  /* rbp */
    *--top = NULL;  /* rbx */
    *--top = fiber; /* r12 */
    *--top = NULL;  /* r13 */
    *--top = NULL;  /* r14 */
    *--top = NULL;  /* r15 */
    --top;
    __asm__ volatile("stmxcsr (%0)\n\tfnstcw 4(%0)" : : "r"(top) : "memory");
    fiber->sp = top;
#elif defined(__aarch64__)
    void **top = (void **)(stack_low(fiber) + fiber->size - 176);
    memset(top, 0, 176);
    top[0] = fiber;                      /* x19 */
    top[11] = (void *)pier__fiber_enter; /* x30 */
    fiber->sp = top;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stack_low(fiber);
    fiber->context.uc_stack.ss_size = fiber->size;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, (void (*)(void))pier__fiber_start, 1, fiber);
#endif
}

pier__fiber *pier__fiber_new(pier__fiber_pool *pool, void (*fn)(void *arg), void *arg)
{
    if (pool->count >= pool->max) {
        return NULL;
    }
    pier__fiber *fiber = pool->spare;
    if (fiber) {
        pool->spare = fiber->next;
        pool->spare_count--;
    } else {
        fiber = map_fiber(pool);
        if (!fiber) {
            return NULL;
        }
    }
    pool->count++;
    fiber->uses++;
    fiber->fn = fn;
    fiber->arg = arg;
    fiber->ended = false;
    prepare(fiber);
#if defined(WITH_ASAN)
    fiber->fake_stack = NULL;
#endif
#if defined(WITH_TSAN)
    fiber->tsan = __tsan_create_fiber(0);
#endif
    return fiber;
}

void pier__fiber_free(pier__fiber_pool *pool, pier__fiber *fiber)
{
#if defined(WITH_TSAN)
    __tsan_destroy_fiber(fiber->tsan);
#endif
    pool->count--;
    if (pool->spare_count >= SPARE_MAX) {
        unmap(fiber);
        return;
    }
    trim(fiber);
    fiber->next = pool->spare;
    pool->spare = fiber;
    pool->spare_count++;
}

bool pier__fiber_resume(pier__fiber *fiber)
{
#if defined(WITH_TSAN)
    fiber->tsan_resumer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan, 0);
#endif
#if defined(WITH_ASAN)
    void *fake = NULL;
    __sanitizer_start_switch_fiber(&fake, stack_low(fiber), fiber->size);
#endif
#if OWN_SWITCH
    pier__fiber_switch(&fiber->resumer_sp, fiber->sp);
#else
    swapcontext(&fiber->resumer, &fiber->context);
#endif
#if defined(WITH_ASAN)
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    return fiber->ended;
}

void pier__fiber_suspend(pier__fiber *fiber)
{
#if defined(WITH_TSAN)
    __tsan_switch_to_fiber(fiber->tsan_resumer, 0);
#endif
#if defined(WITH_ASAN)
    /* A fiber that has ended gives its fake stack up. */
    __sanitizer_start_switch_fiber(fiber->ended ? NULL : &fiber->fake_stack, fiber->resumer_bottom,
                                   fiber->resumer_size);
#endif
#if OWN_SWITCH
    pier__fiber_switch(&fiber->sp, fiber->resumer_sp);
#else
    swapcontext(&fiber->context, &fiber->resumer);
#endif
#if defined(WITH_ASAN)
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &fiber->resumer_bottom,
                                    &fiber->resumer_size);
#endif
}

/* The bottom frame of each fiber. Never returns. */
void pier__fiber_start(pier__fiber *fiber)
{
#if defined(WITH_ASAN)
    __sanitizer_finish_switch_fiber(NULL, &fiber->resumer_bottom, &fiber->resumer_size);
#endif
    fiber->fn(fiber->arg);
    fiber->ended = true;
    pier__fiber_suspend(fiber);
}
