/* SPDX-License-Identifier: MIT */

/* Emptying a pipe after every write costs a change of tasks for each, and on a machine whose processors are
 * all in use it is those, not the bytes, that take the time. So a pipe whose output flows is not watched but
 * emptied by a timer: the wait doubles while little has gathered, and halves when the writer is about to be
 * stopped by a full pipe. The bytes are as safe meanwhile as ever: in the pipe, of which the keeper has a
 * descriptor. The pipe itself is widened, if the kernel allows it: what all pipes of a user may hold is
 * bounded, new ones are born tiny beyond that, and so only a few are wide at a time. */

#include "daemon/engine/process-flow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

#define FLOW_GAP_USEC 2000     /* a turn after a longer pause is the first one */
#define FLOW_FULL_USEC 50000   /* a pipe that is full so soon again is worth to be widened */
#define FLOW_REST_USEC 1000000 /* a wide pipe that rested so long may be made narrow for another */
#define WAIT_FIRST_USEC 50
#define WAIT_MIN_USEC 25 /* not worth a timer below */
#define WAIT_MAX_USEC 250

struct OutputFlow {
        List link;        /* in flows->all, the one that had the latest turn at the end */
        List wait_link;   /* in flows->waiting while the timer and not the pipe calls the next turn */
        Process *process; /* borrowed */
        unsigned i;
        unsigned wait_usec;
        unsigned size; /* of the pipe */
        bool is_wide;
        bool is_refused; /* the kernel does not widen it */
};

/* What all flows share; there is one as long as something flows. */
struct OutputFlows {
        List all;
        List waiting;
        struct event timer_event;
        int timer_fd;           /* owned */
        uint64_t deadline_usec; /* monotonic, of the timer; 0: it is not set */
        unsigned n_wide;
};

static void flow_watch(OutputFlow *flow) {
        list_remove(&flow->wait_link);
        (void)event_add(&flow->process->outputs[flow->i].event, NULL);
}

static void flows_on_timer(evutil_socket_t fd, short what, void *userdata) {
        OutputFlows *flows = userdata;
        uint64_t n_times;
        List due;

        (void)what;
        (void)!read(fd, &n_times, sizeof(n_times));
        flows->deadline_usec = 0;
        list_init(&due);
        while (!list_empty(&flows->waiting)) {
                List *link = flows->waiting.next;

                list_remove(link);
                list_append(&due, link);
        }
        while (!list_empty(&due)) { /* 'flows' may be gone by now */
                OutputFlow *flow = CONTAINER_OF(due.next, OutputFlow, wait_link);

                list_remove(&flow->wait_link);
                process_output_turn(flow->process, flow->i);
        }
}

static OutputFlows *flows_of(ProcessHost *host) {
        OutputFlows *flows = host->flows;

        if (flows)
                return flows;
        flows = calloc(1, sizeof(*flows));
        if (!flows)
                return NULL;
        flows->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (flows->timer_fd < 0 ||
            event_assign(&flows->timer_event, host->base, flows->timer_fd, EV_READ | EV_PERSIST,
                         flows_on_timer, flows) < 0 ||
            event_add(&flows->timer_event, NULL) < 0) {
                (void)fd_close(flows->timer_fd);
                free(flows);
                return NULL;
        }
        list_init(&flows->all);
        list_init(&flows->waiting);
        host->flows = flows;
        return flows;
}

static OutputFlow *flow_new(Process *process, unsigned i) {
        OutputFlows *flows = flows_of(process->host);
        OutputFlow *flow = flows ? calloc(1, sizeof(*flow)) : NULL;
        int size;

        if (!flow)
                return NULL; /* if there is a timer without a flow, the next flow uses it */
        size = fcntl(process->outputs[i].fd, F_GETPIPE_SZ);
        flow->process = process;
        flow->i = i;
        flow->wait_usec = WAIT_FIRST_USEC;
        flow->size = size > 0 ? (unsigned)size : LIMIT_PIPE_BYTES;
        flow->is_wide = flow->size > LIMIT_PIPE_BYTES;
        flows->n_wide += flow->is_wide;
        list_append(&flows->all, &flow->link);
        process->outputs[i].flow = flow;
        return flow;
}

void process_flow_end(Process *process, unsigned i) {
        OutputFlows *flows = process->host->flows;
        OutputFlow *flow = process->outputs[i].flow;

        if (!flow)
                return;
        flows->n_wide -= flow->is_wide;
        list_remove(&flow->wait_link);
        list_remove(&flow->link);
        free(flow);
        process->outputs[i].flow = NULL;
        if (!list_empty(&flows->all))
                return;
        (void)event_del(&flows->timer_event);
        (void)fd_close(flows->timer_fd);
        free(flows);
        process->host->flows = NULL;
}

void process_flow_pause(Process *process, unsigned i) {
        if (process->outputs[i].flow)
                list_remove(&process->outputs[i].flow->wait_link);
}

void process_flow_adopt(Process *process, unsigned i) {
        if (fcntl(process->outputs[i].fd, F_GETPIPE_SZ) > LIMIT_PIPE_BYTES)
                (void)flow_new(process, i);
}

bool process_flow_is_on(const Process *process, unsigned i) {
        return process->outputs[i].flow && process->outputs[i].is_flowing;
}

unsigned process_flow_n_wide(const ProcessHost *host) {
        return host->flows ? host->flows->n_wide : 0;
}

/* Make the wide pipe that rested longest narrow again. */
static bool flows_narrow_one(OutputFlows *flows, uint32_t now_usec) {
        LIST_FOREACH(OutputFlow, flow, &flows->all, link) {
                ProcessOutput *output = &flow->process->outputs[flow->i];

                if (now_usec - output->turn_usec < FLOW_REST_USEC)
                        return false; /* as those behind it */
                if (!flow->is_wide || output->stage.n_left > 0 ||
                    fcntl(output->fd, F_SETPIPE_SZ, LIMIT_PIPE_BYTES) < 0)
                        continue; /* or it holds too much: its reader must be behind */
                process_stage_close(flow->process, flow->i);
                flow->is_wide = false;
                flow->size = LIMIT_PIPE_BYTES;
                flows->n_wide--;
                return true;
        }
        return false;
}

static void flow_widen(OutputFlows *flows, OutputFlow *flow, uint32_t now_usec) {
        int r;

        if (flows->n_wide >= LIMIT_WIDE_PIPES && !flows_narrow_one(flows, now_usec))
                return;
        r = fcntl(flow->process->outputs[flow->i].fd, F_SETPIPE_SZ, LIMIT_WIDE_PIPE_BYTES);
        if (r < 0) { /* beyond fs.pipe-max-size or what the user's pipes may hold */
                flow->is_refused = true;
                return;
        }
        flow->size = (unsigned)r;
        flow->is_wide = true;
        flows->n_wide++;
}

/* Let the pipe fill, and have the timer call the next turn. Return: 0; <0: there is no timer. */
static int flow_wait(OutputFlows *flows, OutputFlow *flow, uint64_t now_usec) {
        struct itimerspec spec = { .it_value.tv_nsec = (long)flow->wait_usec * 1000 };

        if (flows->deadline_usec == 0 || flows->deadline_usec > now_usec + flow->wait_usec) {
                if (timerfd_settime(flows->timer_fd, 0, &spec, NULL) < 0)
                        return -1;
                flows->deadline_usec = now_usec + flow->wait_usec;
        }
        (void)event_del(&flow->process->outputs[flow->i].event);
        if (!list_linked(&flow->wait_link))
                list_append(&flows->waiting, &flow->wait_link);
        return 0;
}

static void flow_adapt(OutputFlow *flow, size_t total) {
        if (total > flow->size / 2)
                flow->wait_usec /= 2;
        else if (total < flow->size / 4)
                flow->wait_usec =
                        MIN(MAX(2 * flow->wait_usec, (unsigned)WAIT_MIN_USEC), (unsigned)WAIT_MAX_USEC);
}

void process_flow_turn(Process *process, unsigned i, size_t total) {
        ProcessOutput *output = &process->outputs[i];
        uint64_t now_usec = clock_monotonic_usec();
        uint32_t passed_usec = (uint32_t)now_usec - output->turn_usec;
        OutputFlow *flow = output->flow;

        output->turn_usec = (uint32_t)now_usec;
        output->is_flowing = passed_usec <= FLOW_GAP_USEC && total >= (size_t)passed_usec * FLOW_RATE;
        if (!flow && (output->is_flowing || (total >= LIMIT_PIPE_BYTES && passed_usec <= FLOW_FULL_USEC)))
                flow = flow_new(process, i);
        if (!flow)
                goto watch;
        list_remove(&flow->link);
        list_append(&process->host->flows->all, &flow->link);
        if (total >= flow->size && !flow->is_wide && !flow->is_refused && passed_usec <= FLOW_FULL_USEC)
                flow_widen(process->host->flows, flow, (uint32_t)now_usec);
        if (flow->is_wide && output->is_flowing)
                process_stage_open(process, i, flow->size);
        if (!output->is_flowing) {
                flow->wait_usec = WAIT_FIRST_USEC;
                goto watch;
        }
        flow_adapt(flow, total);
        if (flow->wait_usec >= WAIT_MIN_USEC && flow_wait(process->host->flows, flow, now_usec) == 0)
                return;
watch:
        if (flow)
                flow_watch(flow);
        else if (!event_pending(&output->event, EV_READ, NULL))
                (void)event_add(&output->event, NULL);
}
