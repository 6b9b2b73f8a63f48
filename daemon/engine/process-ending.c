/* SPDX-License-Identifier: MIT */

/* A program that ends closes its outputs one after the other, and a moment later it is reaped. To tell each
 * of these by itself is three turns of the loop, three commits and three times a client that is woken, all
 * while the kernel still takes the program down, on the same processor if there are few. So the end of an
 * output of a program that lives waits a millisecond for the program's own, and for as long we are not woken
 * by its other output, which most likely comes to its end too: it is looked at when the moment is over. */

#include "daemon/engine/process-ending.h"

#include <stdlib.h>

#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

/* Output 'i' is not watched for a moment. What flows has its own times. */
static void ending_hold(Process *process, unsigned i) {
        ProcessOutput *output = &process->outputs[i];

        if (output->fd < 0 || output->is_ending || output->flow || output->stage.n_left > 0 ||
            !event_pending(&output->event, EV_READ, NULL))
                return;
        (void)event_del(&output->event);
        output->is_held = true;
}

/* The moment is over. Return: whether output 'i' was held and is at its end as well. */
static bool ending_release(Process *process, unsigned i) {
        ProcessOutput *output = &process->outputs[i];

        if (!output->is_held)
                return false;
        output->is_held = false;
        if (process_output_is_at_end(process, i))
                return true;
        process_output_watch(process, i);
        return false;
}

/* Return: whether it will go off. */
static bool endings_arm(ProcessHost *host, uint64_t now_usec) {
        uint64_t due_usec;
        struct timeval tv = {};

        if (list_empty(&host->endings))
                return true;
        due_usec = CONTAINER_OF(host->endings.next, Process, ending_link)->ending_usec + OUTPUT_END_USEC;
        if (due_usec > now_usec)
                tv.tv_usec = (suseconds_t)(due_usec - now_usec);
        return evtimer_add(host->endings_timer, &tv) == 0;
}

static void endings_on_timer(evutil_socket_t fd, short what, void *userdata) {
        ProcessHost *host = userdata;
        uint64_t now_usec = clock_monotonic_usec();

        (void)fd;
        (void)what;
        while (!list_empty(&host->endings)) {
                Process *process = CONTAINER_OF(host->endings.next, Process, ending_link);

                if (process->ending_usec + OUTPUT_END_USEC > now_usec)
                        break;
                process_ending_finish(process);
        }
        while (!endings_arm(host, now_usec)) /* no memory: they are told now */
                process_ending_finish(CONTAINER_OF(host->endings.next, Process, ending_link));
}

/* Takes a process off the list; with the last one the timer has nothing left to wake us for. */
static void ending_unlink(Process *process) {
        ProcessHost *host = process->host;

        if (!list_linked(&process->ending_link))
                return;
        list_remove(&process->ending_link);
        if (list_empty(&host->endings))
                (void)evtimer_del(host->endings_timer);
}

bool process_ending_begin(Process *process, unsigned i) {
        ProcessHost *host = process->host;

        if (!process_is_alive(process))
                return false;
        if (!host->endings_timer)
                host->endings_timer = evtimer_new(host->base, endings_on_timer, host);
        if (!host->endings_timer)
                return false;
        (void)event_del(&process->outputs[i].event);
        process_flow_pause(process, i);
        process->outputs[i].is_ending = true;
        if (list_linked(&process->ending_link))
                return true;
        process->ending_usec = clock_monotonic_usec();
        list_append(&host->endings, &process->ending_link);
        if (evtimer_pending(host->endings_timer, NULL) || endings_arm(host, process->ending_usec)) {
                ending_hold(process, !i);
                return true;
        }
        process_ending_forget(process, i);
        return false;
}

void process_ending_finish(Process *process) {
        ending_unlink(process);
        for (unsigned i = 0; i < 2; i++)
                if (ending_release(process, i))
                        process->outputs[i].is_ending = true;
        for (unsigned i = 2; i-- > 0;) /* stderr is closed last but found first */
                if (process->outputs[i].is_ending)
                        process_output_end(process, i);
}

void process_ending_forget(Process *process, unsigned i) {
        process->outputs[i].is_ending = process->outputs[i].is_held = false;
        if (process->outputs[!i].is_ending)
                return;
        ending_unlink(process);
        if (process->outputs[!i].is_held) {
                process->outputs[!i].is_held = false;
                process_output_watch(process, !i);
        }
}

void process_ending_deinit(ProcessHost *host) {
        LIST_FOREACH(Process, process, &host->endings, ending_link)
                list_remove(&process->ending_link);
        if (host->endings_timer)
                event_free(host->endings_timer);
        host->endings_timer = NULL;
}
