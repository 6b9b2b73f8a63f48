/* SPDX-License-Identifier: MIT */

/* The composition root: the loop, the keeper's link, the registry, the listeners. One turn of the loop:
 * handle what came, look at what waits, commit the registry, and only then let anything out. */

#include "daemon/engine/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/event-feed.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/listener.h"
#include "daemon/engine/request-daemon.h"
#include "daemon/engine/request.h"
#include "daemon/engine/supervise.h"
#include "daemon/engine/wait.h"

#define LISTENERS_MAX 16
#define DESCRIPTORS_MAX 20000
#define CHORES_DELAY_USEC 2000
#define REST_DELAY_USEC 100000 /* without a turn, until the registry's log is emptied */
/* Of free memory so much is kept: the pages of a long answer would each have to be touched anew for the next.
 */
#define KEPT_BYTES (1024 * 1024)
#define PRIORITIES 3 /* what does not say has the one in the middle */

typedef struct Engine {
        struct event_base *base;            /* owned */
        KeeperLink *link;                   /* owned */
        TreeRoot *tree_root;                /* owned */
        struct event *tree_event;           /* owned */
        struct event *chores;               /* owned */
        struct event *rest;                 /* owned */
        Listener *listeners[LISTENERS_MAX]; /* owned */
        Supervisor supervisor;
        ClientSet clients;
        EventFeed events;
        RequestHost requests;
        bool is_chore_due;
        bool quit;
        bool told_keeper;
        int status;
} Engine;

static void engine_quit(Engine *engine, int status) {
        engine->quit = true;
        engine->status = status;
        (void)event_base_loopbreak(engine->base);
}

static void engine_on_keeper_lost(void *userdata) {
        (void)fprintf(stderr, "<3>engine: the keeper is gone, or there is no memory to tell it something\n");
        engine_quit(userdata, 1);
}

static void engine_check_trees(Engine *engine) {
        LIST_FOREACH(Process, process, &engine->supervisor.processes, link)
                process_check_tree(process);
}

static void engine_on_message(const KeeperMessage *message, void *userdata) {
        Engine *engine = userdata;
        Process *process =
                message->process ? supervisor_find_id(&engine->supervisor, message->process) : NULL;
        KeeperMessage answer = { .type = KEEPER_PONG };
        Error error = {};

        switch (message->type) {
        case KEEPER_SPAWNED:
                if (process)
                        process_on_spawned(process, message);
                break;
        case KEEPER_EXITED:
                if (process)
                        process_on_exited(process, message);
                if (!tree_root_has_cgroups(engine->tree_root))
                        engine_check_trees(engine);
                break;
        case KEEPER_REAPED:
                engine_check_trees(engine);
                break;
        case KEEPER_HELD:
                if (process && message->label == KEEPER_LABEL_POSITION)
                        process_position_on_held(process, message);
                else if (process && message->label == KEEPER_LABEL_DISCARD)
                        process_discard_on_held(process, message);
                else if (process)
                        process_stage_on_held(process, message);
                break;
        case KEEPER_PING:
                (void)keeper_link_queue(engine->link, &answer, NULL, 0);
                break;
        case KEEPER_TERMINATE:
                if (!engine->supervisor.shutting_down &&
                    daemon_stop(&engine->requests, NULL, UINT64_MAX, &error) < 0)
                        (void)fprintf(stderr, "<3>engine: %s\n", error.text);
                break;
        default:
                break;
        }
}

static const KeeperLinkOps keeper_ops = {
        .on_message = engine_on_message,
        .on_lost = engine_on_keeper_lost,
};

static void engine_on_tree(uint64_t id, uint32_t run, void *userdata) {
        Engine *engine = userdata;
        Process *process = supervisor_find_id(&engine->supervisor, id);

        if (process && process->run.run == run)
                process_check_tree(process);
}

static void engine_on_tree_readable(evutil_socket_t fd, short what, void *userdata) {
        Engine *engine = userdata;

        (void)fd;
        (void)what;
        (void)tree_root_dispatch(engine->tree_root, engine_on_tree, engine);
}

static void engine_on_event(void *userdata) {
        Engine *engine = userdata;

        event_feed_grown(&engine->events);
}

static void engine_on_fatal(int r, void *userdata) {
        (void)r;
        engine_quit(userdata, 1);
}

static const SupervisorOps supervisor_ops = {
        .on_event = engine_on_event,
        .on_fatal = engine_on_fatal,
};

static int engine_on_control(Client *client, const char *text, size_t size, void *userdata) {
        Engine *engine = userdata;

        return request_dispatch(&engine->requests, client, text, size);
}

static void engine_on_client_close(Client *client, void *userdata) {
        Engine *engine = userdata;

        requests_drop(client);
        if (!engine->quit) /* else it is not the client that goes */
                supervisor_lease_lost(&engine->supervisor, client);
}

static const ClientOps client_ops = {
        .on_control = engine_on_control,
        .on_close = engine_on_client_close,
};

static void engine_say_goodbye(Engine *engine) {
        Error error;

        (void)error_set(&error, ERROR_SHUTTING_DOWN, "the daemon was stopped");
        LIST_FOREACH(Client, client, &engine->clients.clients, link)
                client_goodbye(client, &error);
        client_set_flush(&engine->clients);
}

static void engine_tell_keeper(Engine *engine) {
        KeeperMessage message = {};

        if (engine->told_keeper)
                return;
        if (engine->requests.stopping) {
                message.type = KEEPER_STOPPED;
                process_host_deinit(&engine->supervisor.host);
                tree_root_clear(engine->tree_root);
                engine_say_goodbye(engine);
        } else if (engine->requests.upgrading)
                message.type = KEEPER_UPGRADE;
        else
                return;
        engine->told_keeper = true;
        (void)keeper_link_queue(engine->link, &message, NULL, 0);
}

/* What nobody waits for is done when there is nothing else to do: at once, when the keeper has been asked to
 * start something and will take a while, otherwise when it has been quiet for a moment. */
static void engine_schedule_chores(Engine *engine) {
        const struct timeval delay = { .tv_usec = CHORES_DELAY_USEC };
        bool has_begun = engine->supervisor.host.has_begun_runs;

        engine->supervisor.host.has_begun_runs = false;
        if (has_begun)
                (void)sched_yield(); /* to the keeper, if it was woken on this very processor */
        if (!supervisor_has_chores(&engine->supervisor))
                return;
        if (has_begun)
                event_active(engine->chores, EV_TIMEOUT, 0);
        else if (!event_pending(engine->chores, EV_TIMEOUT, NULL))
                (void)event_add(engine->chores, &delay);
}

/* Its turn is that of other events as well: they are answered first. */
static void engine_on_chores(evutil_socket_t fd, short what, void *userdata) {
        Engine *engine = userdata;

        (void)fd;
        (void)what;
        engine->is_chore_due = true;
}

/* One at a time, so that what comes meanwhile waits for no more than that. */
static void engine_do_chore(Engine *engine) {
        if (!engine->is_chore_due)
                return;
        engine->is_chore_due = false;
        supervisor_do_chore(&engine->supervisor);
        if (supervisor_has_chores(&engine->supervisor))
                event_active(engine->chores, EV_TIMEOUT, 0);
        else
                (void)event_del(engine->chores); /* it may have been set anew meanwhile */
}

/* Emptying the registry's log waits for the disk for some milliseconds: each turn puts it off, until the log
 * is so long that a commit does it. Once it was done nothing wakes us. */
static void engine_schedule_rest(Engine *engine) {
        const struct timeval delay = { .tv_usec = REST_DELAY_USEC };

        if (registry_wants_checkpoint(engine->supervisor.registry))
                (void)event_add(engine->rest, &delay);
}

static void engine_on_rest(evutil_socket_t fd, short what, void *userdata) {
        Engine *engine = userdata;

        (void)fd;
        (void)what;
        registry_checkpoint(engine->supervisor.registry);
}

/* Everything that this turn decided is stored, then told. Return: whether there is more to do at once. */
static bool engine_finish_turn(Engine *engine) {
        Error error = {};

        do {
                queue_set_finish_turn(&engine->requests.queues);
                readers_finish_turn(&engine->requests.readers);
                waits_finish_turn(&engine->requests);
                supervisor_finish_turn(&engine->supervisor);
                if (engine->quit && engine->status != 0)
                        return false; /* nothing may be told that was not stored */
                if (registry_commit(engine->supervisor.registry, &error) < 0) {
                        (void)fprintf(stderr,
                                      "<3>engine: the registry cannot be written, starting anew: %s\n",
                                      error.text);
                        engine_quit(engine, 1);
                        return false;
                }
                keeper_link_flush_urgent(engine->link);
                client_set_pump(&engine->clients);
                client_set_flush(&engine->clients);
                engine_tell_keeper(engine);
        } while (registry_dirty(engine->supervisor.registry) || !list_empty(&engine->supervisor.doomed) ||
                 !list_empty(&engine->supervisor.changed) || !list_empty(&engine->requests.due) ||
                 !list_empty(&engine->requests.queues.due));
        keeper_link_flush(engine->link);
        client_set_reap(&engine->clients);
        engine_schedule_chores(engine);
        engine_schedule_rest(engine);
        return readers_are_due(&engine->requests.readers) || !list_empty(&engine->clients.ready);
}

static int engine_open(Engine *engine, const char *state_dir, Handover *ret_handover, Error *reterr_error) {
        char path[4096], instance[2 * PROTOCOL_INSTANCE_SIZE + 1];
        int r;

        r = keeper_link_new(&engine->link, KEEPER_ENGINE_FD, engine->base, &keeper_ops, engine, ret_handover,
                            reterr_error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < PROTOCOL_INSTANCE_SIZE; i++)
                (void)snprintf(instance + 2 * i, 3, "%02x", ret_handover->hello.instance[i]);
        r = tree_root_open(&engine->tree_root, instance, ret_handover->hello.pid, reterr_error);
        if (r < 0)
                return r;
        if (tree_root_inotify_fd(engine->tree_root) >= 0) {
                engine->tree_event = event_new(engine->base, tree_root_inotify_fd(engine->tree_root),
                                               EV_READ | EV_PERSIST, engine_on_tree_readable, engine);
                if (!engine->tree_event || event_add(engine->tree_event, NULL) < 0)
                        return error_set_errno(reterr_error, ENOMEM, "cannot watch process trees");
        }
        (void)snprintf(path, sizeof(path), "%s/processes", state_dir);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return error_set_errno(reterr_error, errno, "cannot make the directory '%s'", path);
        engine->supervisor.host.base = engine->base;
        engine->supervisor.host.link = engine->link;
        engine->supervisor.host.tree_root = engine->tree_root;
        engine->supervisor.host.state_dir = state_dir;
        (void)snprintf(path, sizeof(path), "%s/registry.db", state_dir);
        return supervisor_init(&engine->supervisor, path, &supervisor_ops, engine, reterr_error);
}

static int engine_recover(Engine *engine, Handover *handover, Error *reterr_error) {
        char instance[2 * PROTOCOL_INSTANCE_SIZE + 1], *before = NULL;
        Registry *registry = engine->supervisor.registry;
        bool same_keeper;
        int r;

        for (size_t i = 0; i < PROTOCOL_INSTANCE_SIZE; i++)
                (void)snprintf(instance + 2 * i, 3, "%02x", handover->hello.instance[i]);
        r = registry_get_meta(registry, "instance", &before, reterr_error);
        if (r < 0)
                return r;
        same_keeper = before && strcmp(before, instance) == 0;
        free(before);
        if (!same_keeper) {
                (void)tree_kill_stale(engine->tree_root);
                r = registry_set_meta(registry, "instance", instance, reterr_error);
                if (r < 0)
                        return r;
        }
        return supervisor_recover(&engine->supervisor, handover, same_keeper, reterr_error);
}

static int engine_listen(Engine *engine, Handover *handover, Error *reterr_error) {
        size_t n = 0;
        int fd, r;

        while (n < LISTENERS_MAX && (fd = handover_take_fd(handover, KEEPER_LABEL_LISTENER, 0, 0)) >= 0) {
                r = listener_new(&engine->listeners[n++], &engine->clients, fd, reterr_error);
                if (r < 0)
                        return r;
        }
        return n > 0 ? 0
                     : error_set(reterr_error, ERROR_SYSTEM, "the keeper handed over no socket to listen on");
}

static int engine_start(Engine *engine, const char *socket_path, const char *state_dir, Error *reterr_error) {
        KeeperMessage serving = { .type = KEEPER_SERVING };
        Handover handover = {};
        uint8_t *greeting = engine->clients.greeting;
        uint64_t seq;
        int r;

        engine->base = event_base_new();
        if (!engine->base || event_base_priority_init(engine->base, PRIORITIES) < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot make an event loop");
        engine->chores = evtimer_new(engine->base, engine_on_chores, engine);
        if (!engine->chores || event_priority_set(engine->chores, PRIORITIES - 1) < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot make an event loop");
        engine->rest = evtimer_new(engine->base, engine_on_rest, engine);
        if (!engine->rest || event_priority_set(engine->rest, PRIORITIES - 1) < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot make an event loop");
        r = client_set_init(&engine->clients, engine->base, &client_ops, engine);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot hold clients");
        r = engine_open(engine, state_dir, &handover, reterr_error);
        if (r >= 0) {
                event_feed_init(&engine->events, engine->supervisor.registry);
                engine->requests.supervisor = &engine->supervisor;
                engine->requests.clients = &engine->clients;
                engine->requests.events = &engine->events;
                engine->requests.socket_path = socket_path;
                engine->requests.state_dir = state_dir;
                engine->requests.hello = handover.hello;
                engine->requests.start_usec = clock_realtime_usec();
                list_init(&engine->requests.due);
                queue_set_init(&engine->requests.queues, &engine->supervisor.processes);
                reader_set_init(&engine->requests.readers, engine->base);
                memcpy(greeting, PROTOCOL_MAGIC, 4);
                le16_put(greeting + 4, PROTOCOL_VERSION);
                le16_put(greeting + 6, PROTOCOL_VERSION);
                le32_put(greeting + 12, (uint32_t)getpid());
                memcpy(greeting + 16, handover.hello.instance, PROTOCOL_INSTANCE_SIZE);
                r = engine_recover(engine, &handover, reterr_error);
        }
        if (r >= 0)
                r = registry_add_event(engine->supervisor.registry, clock_realtime_usec(),
                                       "{\"type\":\"engine-started\",\"id\":0,\"name\":null,\"run\":0}", &seq,
                                       reterr_error);
        if (r >= 0)
                r = engine_listen(engine, &handover, reterr_error);
        if (r >= 0)
                r = keeper_link_queue(engine->link, &serving, NULL, 0);
        handover_deinit(&handover);
        return r;
}

static void engine_loop(Engine *engine) {
        bool more;

        more = engine_finish_turn(engine);
        while (!engine->quit) {
                if (event_base_loop(engine->base, EVLOOP_ONCE | (more ? EVLOOP_NONBLOCK : 0)) < 0) {
                        (void)fprintf(stderr, "<3>engine: the event loop failed\n");
                        engine_quit(engine, 1);
                        return;
                }
                more = engine_finish_turn(engine);
                if (!engine->quit)
                        engine_do_chore(engine);
        }
}

/* jansson does not notice everywhere that it got no memory: it sends half an object, cuts a string short, or
 * writes beyond a buffer. An engine that ends is replaced; one that goes on like that is not to be trusted.
 */
static void *engine_json_malloc(size_t size) {
        void *p = malloc(size);

        if (!p) {
                (void)fprintf(stderr, "<2>engine: out of memory, starting anew\n");
                _exit(1);
        }
        return p;
}

int engine_run(const char *socket_path, const char *state_dir) {
        static Engine engine; /* large: not on the stack */
        Error error = {};
        int r;

        (void)signal(SIGPIPE, SIG_IGN);
        (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
        (void)mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
        json_set_alloc_funcs(engine_json_malloc, free);
        (void)prctl(PR_SET_NAME, "pmuxd-engine");
        r = engine_start(&engine, socket_path, state_dir, &error);
        if (r < 0) {
                (void)fprintf(stderr, "<3>engine: %s\n", error.text);
                engine.status = 1;
        } else
                engine_loop(&engine);
        /* Nothing is closed or freed: a connection that we close would look like a client that left, and
         * what follows from that is not ours to do any more. The next engine finds everything as after a
         * kill. */
        return engine.status;
}
