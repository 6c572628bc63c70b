/*
 * A pairing heap. The root is the earliest; `parent` of a first child is its parent, of a later
 * child its elder sibling.
 */
#include "sdk/timers.h"

typedef struct pier__timer node;

static node *meld(node *a, node *b)
{
    if (!a || !b) {
        return a ? a : b;
    }
    if (b->when < a->when) {
        node *swap = a;
        a = b;
        b = swap;
    }
    b->sibling = a->child;
    if (a->child) {
        a->child->parent = b;
    }
    b->parent = a;
    a->child = b;
    a->sibling = a->parent = NULL;
    return a;
}

/* Melds a list of siblings: first in pairs from left to right, then the pairs from right to left.
 */
static node *meld_siblings(node *first)
{
    node *pairs = NULL;
    while (first) {
        node *a = first;
        node *b = a->sibling;
        first = b ? b->sibling : NULL;
        a->sibling = a->parent = NULL;
        if (b) {
            b->sibling = b->parent = NULL;
        }
        node *pair = meld(a, b);
        pair->sibling = pairs;
        pairs = pair;
    }
    node *heap = NULL;
    while (pairs) {
        node *next = pairs->sibling;
        pairs->sibling = NULL;
        heap = meld(heap, pairs);
        pairs = next;
    }
    return heap;
}

static void take_out(node **heap, node *timer)
{
    if (*heap == timer) {
        *heap = meld_siblings(timer->child);
    } else {
        if (timer->parent->child == timer) {
            timer->parent->child = timer->sibling;
        } else {
            timer->parent->sibling = timer->sibling;
        }
        if (timer->sibling) {
            timer->sibling->parent = timer->parent;
        }
        *heap = meld(*heap, meld_siblings(timer->child));
    }
    timer->child = timer->sibling = timer->parent = NULL;
    timer->when = 0;
}

void pier__timer_set(node **heap, node *timer, int64_t when)
{
    if (timer->when == when) {
        return;
    }
    if (timer->when) {
        take_out(heap, timer);
    }
    if (when) {
        timer->when = when;
        *heap = meld(*heap, timer);
    }
}

pier__op *pier__timer_op(node *timer)
{
    return (pier__op *)((char *)timer - offsetof(pier__op, timer));
}
