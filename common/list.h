/* SPDX-License-Identifier: MIT */
#pragma once

/* An intrusive doubly linked list: a head and any number of links, each embedded in the object that it links.
 */

#include <stdbool.h>

#include "common/macro.h"

typedef struct List List;
struct List {
        List *prev; /* borrowed */
        List *next; /* borrowed */
};

#define LIST_INIT(head)                                                                                      \
        { &(head), &(head) }

/* Loops over the objects of a list; the current one may be removed and freed in the body. */
#define LIST_FOREACH(type, var, head, member)                                                                \
        for (type *var = CONTAINER_OF((head)->next, type, member), *var##_next;                              \
             &var->member != (head) && (var##_next = CONTAINER_OF(var->member.next, type, member), true);    \
             var = var##_next)

static inline void list_init(List *list) {
        list->prev = list->next = list;
}

static inline bool list_empty(const List *head) {
        return head->next == head;
}

/* A link that was never initialised (all zero) or was removed is not linked. */
static inline bool list_linked(const List *link) {
        return link->next && link->next != link;
}

/* A link is in one list at most. */
static inline void list_append(List *head, List *link) {
        assert(!list_linked(link));
        link->prev = head->prev;
        link->next = head;
        head->prev->next = link;
        head->prev = link;
}

static inline void list_remove(List *link) {
        if (!link->next)
                return;
        link->prev->next = link->next;
        link->next->prev = link->prev;
        list_init(link);
}
