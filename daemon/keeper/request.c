/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/keeper/child-spec.h"
#include "daemon/keeper/engine-slot.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/report.h"
#include "daemon/keeper/watchdog.h"

#define SPAWN_FLAGS_ALL (KEEPER_SPAWN_FDS | KEEPER_SPAWN_INLINE)

/* Descriptors that the bag must leave free: our own and those that pass through, and what the next engine,
 * which may have no more than we, needs beside what it is handed. Without them there would be no next engine,
 * and nobody else lets go of any. */
#define REQUEST_FDS_SPARED 48

/* What came with a message. Whoever keeps a descriptor puts -1 in its place, the others are closed
 * afterwards. */
typedef struct Passed {
        int fds[FD_PASS_MAX]; /* owned */
        size_t n;
        const char *spec; /* borrowed */
        size_t spec_size; /* 0: it is in fds[0] */
} Passed;

/* The place of the first descriptor that is not the spec. */
static size_t passed_first(const Passed *passed) {
        return passed->spec_size > 0 ? 0 : 1;
}

/* Whether so many more may be held. Return: 0; -EMFILE. */
static int request_check_room(const Keeper *keeper, size_t n) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return -errno;
        return keeper->bag.n + n + REQUEST_FDS_SPARED > limit.rlim_cur ? -EMFILE : 0;
}

static const uint32_t bag_labels[] = { KEEPER_LABEL_STDIN, KEEPER_LABEL_STDOUT, KEEPER_LABEL_STDERR };

static void request_drop_ends(Keeper *keeper, const KeeperMessage *message) {
        for (size_t i = 0; i < ARRAY_SIZE(bag_labels); i++)
                if (message->flags & KEEPER_SPAWN_ENGINE_STDIN << i)
                        bag_drop(&keeper->bag, message->process, message->run, bag_labels[i]);
}

/* The engine's ends are in the bag before the child lives: it has none that the next engine would not get. */
static int request_put_ends(Keeper *keeper, const KeeperMessage *message, Passed *passed) {
        size_t at = passed_first(passed);
        int r;

        for (unsigned bit = 0; bit < 6; bit++) {
                if (!(message->flags & 1u << bit))
                        continue;
                if (bit >= 3) {
                        r = bag_put(&keeper->bag, message->process, message->run, bag_labels[bit - 3],
                                    passed->fds[at]);
                        if (r < 0)
                                return r;
                        passed->fds[at] = -1;
                }
                at++;
        }
        return 0;
}

static int request_spawn_child(Keeper *keeper, const KeeperMessage *message, const Passed *passed,
                               pid_t *ret_pid, const char **reterr_step) {
        CLEANUP(child_spec_deinit) ChildSpec spec = {};
        const KeeperConfig *config = &keeper->config;
        int fds[] = { keeper->null_fd, keeper->null_fd, -1 };
        SpawnRequest request = {
                .fds = fds, .n_fds = ARRAY_SIZE(fds), .cgroup_fd = -1, .nofile = &config->nofile
        };
        char oom_score_adj[16];
        size_t at = passed_first(passed);
        int r;

        r = passed->spec_size > 0 ? child_spec_copy(passed->spec, passed->spec_size, &spec)
                                  : child_spec_read(passed->fds[0], &spec);
        if (r < 0) {
                *reterr_step = "spec";
                return r;
        }
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                if (message->flags & KEEPER_SPAWN_CHILD_STDIN << i)
                        fds[i] = passed->fds[at++];
        if (fds[2] < 0)
                fds[2] = fds[1];
        if (message->flags & KEEPER_SPAWN_CGROUP)
                request.cgroup_fd = passed->fds[passed->n - 1];
        request.candidates = spec.candidates;
        request.argv = spec.argv;
        request.envp = spec.envp;
        request.cwd = spec.cwd;
        request.umask = spec.umask;
        if (config->lowers_oom_score) {
                (void)snprintf(oom_score_adj, sizeof(oom_score_adj), "%d", config->oom_score_adj);
                request.oom_score_adj = oom_score_adj;
        }
        return spawn(&keeper->spawner, &request, ret_pid, reterr_step);
}

static void request_refuse_spawn(Keeper *keeper, const KeeperMessage *message, int error) {
        const Answer answer = {
                .type = KEEPER_SPAWNED,
                .process = message->process,
                .run = message->run,
                .error = error,
        };

        engine_slot_answer(keeper, &answer);
}

static int request_spawn(Keeper *keeper, const KeeperMessage *message, Passed *passed, int r) {
        const char *step = "keeper";
        Child *child;
        pid_t pid;

        if (message->flags > SPAWN_FLAGS_ALL)
                return -EPROTO;
        if (r == 0 &&
            passed->n != passed_first(passed) + (size_t)__builtin_popcount(message->flags & KEEPER_SPAWN_FDS))
                return -EPROTO;
        child = child_table_find(&keeper->children, message->process, message->run);
        if (child) {
                child_set_told(&keeper->children, child, KEEPER_CHILD_NONE);
                return 0;
        }
        if (child_table_add(&keeper->children, message->process, message->run, &child) < 0) {
                request_refuse_spawn(keeper, message, ENOMEM);
                return 0;
        }
        if (r == 0)
                r = request_check_room(keeper, ARRAY_SIZE(bag_labels));
        if (r == 0)
                r = request_put_ends(keeper, message, passed);
        if (r == 0)
                r = request_spawn_child(keeper, message, passed, &pid, &step);
        if (r < 0) {
                request_drop_ends(keeper, message);
                child_set_failed(&keeper->children, child, -r, step);
        } else
                child_set_running(&keeper->children, child, pid, clock_realtime_usec());
        return 0;
}

static int request_put(Keeper *keeper, const KeeperMessage *message, Passed *passed, int r) {
        Answer answer = {
                .type = KEEPER_HELD,
                .label = message->label,
                .process = message->process,
                .run = message->run,
        };

        if (message->label == KEEPER_LABEL_NONE || message->label >= KEEPER_LABEL_N_)
                return -EPROTO;
        if (r == 0 && passed->n != 1)
                return -EPROTO;
        if (r == 0)
                r = request_check_room(keeper, 1);
        if (r == 0)
                r = bag_put(&keeper->bag, message->process, message->run, message->label, passed->fds[0]);
        if (r == 0)
                passed->fds[0] = -1;
        else if (!(message->flags & KEEPER_PUT_TELL))
                report(SD_ERR, "cannot hold descriptor %u of process %" PRIu64 ": %s", message->label,
                       message->process, strerror(-r));
        answer.error = -r;
        if (message->flags & KEEPER_PUT_TELL)
                engine_slot_answer(keeper, &answer);
        return 0;
}

static int request_signal(Keeper *keeper, const KeeperMessage *message) {
        Child *child = child_table_find(&keeper->children, message->process, message->run);
        Answer answer = { .type = KEEPER_SIGNALLED, .process = message->process, .run = message->run };

        /* Until we reap it, a child's pid is its own, and so is its process group's. */
        if (!child || child->state != KEEPER_CHILD_RUNNING)
                answer.error = ESRCH;
        else if (kill(message->flags & 1 ? -child->pid : child->pid, message->signal) < 0)
                answer.error = errno;
        engine_slot_answer(keeper, &answer);
        return 0;
}

static int request_drop(Keeper *keeper, const KeeperMessage *message) {
        uint32_t bits = message->flags;

        if (message->label < KEEPER_LABEL_N_)
                bits |= KEEPER_LABEL_BIT(message->label);
        for (uint32_t label = KEEPER_LABEL_NONE + 1; label < KEEPER_LABEL_N_; label++)
                if (bits & KEEPER_LABEL_BIT(label))
                        bag_drop(&keeper->bag, message->process, message->run, label);
        return 0;
}

static int request_forget(Keeper *keeper, const KeeperMessage *message) {
        Child *child = child_table_find(&keeper->children, message->process, message->run);

        (void)request_drop(keeper, message);
        if (child && child->state != KEEPER_CHILD_RUNNING)
                (void)child_remove(&keeper->children, child);
        return 0;
}

static int request_upgrade(Keeper *keeper, const KeeperMessage *message) {
        if (keeper->is_terminating)
                return 0;
        (void)snprintf(keeper->upgrade_path, sizeof(keeper->upgrade_path), "%s", message->text);
        keeper->wants_upgrade = true;
        engine_slot_fail(keeper, NULL);
        return 0;
}

/* 'r' is 0, or -EMFILE where the descriptors of the message are lost for want of room. */
static int request_dispatch(Keeper *keeper, const KeeperMessage *message, Passed *passed, int r) {
        switch (message->type) {
        case KEEPER_SPAWN:
                return request_spawn(keeper, message, passed, r);
        case KEEPER_PUT:
                return request_put(keeper, message, passed, r);
        case KEEPER_DROP:
                return request_drop(keeper, message);
        case KEEPER_SIGNAL:
                return request_signal(keeper, message);
        case KEEPER_FORGET:
                return request_forget(keeper, message);
        case KEEPER_PONG:
                watchdog_on_pong(keeper);
                return 0;
        case KEEPER_STOPPED:
                keeper->is_stopped = true;
                return 0;
        case KEEPER_UPGRADE:
                return request_upgrade(keeper, message);
        case KEEPER_SERVING:
                keeper_on_serving(keeper);
                return 0;
        default:
                return -EPROTO; /* ours to send, not the engine's */
        }
}

/* Returns 1 when a message was carried out, 0 at the end, -EAGAIN, -errno. */
static int request_read_one(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        KeeperPacket packet;
        Passed passed = { .spec = packet.spec };
        int r;

        r = keeper_packet_receive(engine->socket_fd, &packet, &passed.spec_size, passed.fds, &passed.n);
        if (r != 1 && r != -EMFILE)
                return r;
        r = request_dispatch(keeper, &packet.message, &passed, MIN(r, 0));
        for (size_t i = 0; i < passed.n; i++)
                (void)fd_close(passed.fds[i]);
        return r < 0 ? r : 1;
}

void request_read(Keeper *keeper, unsigned n_max) {
        EngineSlot *engine = &keeper->engine;
        int r = 1;

        while (r == 1 && n_max-- > 0 && engine->socket_fd >= 0 && !engine->is_failed && !keeper->is_stopped)
                r = request_read_one(keeper);
        if (r == 0)
                engine_slot_fail(keeper, NULL);
        else if (r < 0 && r != -EAGAIN) {
                engine_slot_fail(keeper, "a malformed message: %s", strerror(-r));
                engine->socket_fd = fd_close(engine->socket_fd);
        }
}

void request_drain(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;

        engine->is_failed = true; /* sends nothing more */
        while (engine->socket_fd >= 0 && request_read_one(keeper) == 1)
                ;
}
