/* SPDX-License-Identifier: MIT */

#include "daemon/engine/wait.h"

#include <errno.h>
#include <stdlib.h>

static void wait_free(Wait *wait) {
        for (size_t i = 0; i < wait->n; i++)
                list_remove(&wait->targets[i].watch.link);
        list_remove(&wait->due_link);
        if (wait->timer)
                event_free(wait->timer);
        if (wait->on_free)
                wait->on_free(wait);
        json_decref(wait->context);
        free(wait->data);
        free(wait);
}

void wait_due(Wait *wait) {
        if (!list_linked(&wait->due_link))
                list_append(&wait->host->due, &wait->due_link);
}

static void wait_on_change(ProcessWatch *watch, Process *process) {
        (void)process;
        wait_due(CONTAINER_OF(watch, WaitTarget, watch)->wait);
}

static void wait_on_removed(ProcessWatch *watch, Process *process) {
        WaitTarget *target = CONTAINER_OF(watch, WaitTarget, watch);

        (void)process;
        list_remove(&watch->link);
        if (target->wait->on_removed)
                target->wait->on_removed(target->wait, (size_t)(target - target->wait->targets));
        target->process = NULL;
        wait_due(target->wait);
}

static void wait_on_timeout(evutil_socket_t fd, short what, void *userdata) {
        Wait *wait = userdata;

        (void)fd;
        (void)what;
        wait->timed_out = true;
        wait_due(wait);
}

static void wait_on_cancel(Request *request) {
        Wait *wait = request->waiter;

        if (wait->goes_on)
                wait->request = NULL;
        else
                wait_free(wait);
}

int wait_new(Wait **ret_wait, RequestHost *host, Request *request, Process *const *processes, size_t n,
             int (*check)(Wait *wait), uint64_t timeout_usec, Error *reterr_error) {
        struct timeval tv = {
                .tv_sec = (time_t)(timeout_usec / USEC_PER_SEC),
                .tv_usec = (suseconds_t)(timeout_usec % USEC_PER_SEC),
        };
        Wait *wait;
        int r = REQUEST_WAITS;

        wait = calloc(1, sizeof(*wait) + n * sizeof(*wait->targets));
        if (!wait)
                return error_set_errno(reterr_error, ENOMEM, "cannot wait");
        wait->host = host;
        wait->check = check;
        if (timeout_usec != USEC_INFINITY) {
                wait->timer = evtimer_new(host->supervisor->host.base, wait_on_timeout, wait);
                if (!wait->timer || evtimer_add(wait->timer, &tv) < 0)
                        r = error_set_errno(reterr_error, ENOMEM, "cannot wait");
        }
        if (r >= 0 && request)
                r = request_defer(request, wait_on_cancel, wait, reterr_error);
        if (r < 0) {
                wait_free(wait);
                return r;
        }
        wait->request = request;
        wait->n = n;
        for (size_t i = 0; i < n; i++) {
                wait->targets[i] = (WaitTarget){
                        .wait = wait,
                        .process = processes[i],
                        .id = processes[i]->id,
                        .run = processes[i]->run.run,
                        .watch = { .on_change = wait_on_change, .on_removed = wait_on_removed },
                };
                list_append(&processes[i]->watches, &wait->targets[i].watch.link);
        }
        wait_due(wait);
        *ret_wait = wait;
        return REQUEST_WAITS;
}

int wait_answer(Wait *wait, json_t *result, const Error *error) {
        if (wait->request)
                request_answer(wait->request, result, error);
        else
                json_decref(result);
        wait_free(wait);
        return 1;
}

void waits_finish_turn(RequestHost *host) {
        List now;

        /* a wait that is looked at may make others due: those are looked at too, but each once a round */
        for (unsigned round = 0; round < 3 && !list_empty(&host->due); round++) {
                list_init(&now);
                while (!list_empty(&host->due)) {
                        List *link = host->due.next;

                        list_remove(link);
                        list_append(&now, link);
                }
                while (!list_empty(&now)) {
                        Wait *wait = CONTAINER_OF(now.next, Wait, due_link);

                        list_remove(&wait->due_link);
                        (void)wait->check(wait);
                }
        }
}
