/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/engine-slot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/report.h"

#define ENGINE_QUICK_USEC (10 * USEC_PER_SEC)      /* an engine that lived longer did not die quickly */
#define ENGINE_DELAY_MIN_USEC (10 * USEC_PER_MSEC) /* before the second quick restart; doubles */
#define ENGINE_DELAY_MAX_USEC (5 * USEC_PER_SEC)
#define ENGINE_DELAY_SERVED_USEC (50 * USEC_PER_MSEC) /* the most after one that had served: clients wait */
#define ENGINE_RETRY_USEC (10 * USEC_PER_MSEC)        /* while too many descriptors are in flight */
#define ENGINE_TRIES 3 /* quick deaths of an engine that never served, before the daemon gives up */

void engine_slot_init(Keeper *keeper) {
        keeper->engine = (EngineSlot){
                .socket_fd = -1,
                .retry_usec = USEC_INFINITY,
                .kill_usec = USEC_INFINITY,
        };
}

static void engine_slot_schedule(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        uint64_t now = clock_monotonic_usec(), delay = 0;

        engine->n_quick = now - engine->started_usec < ENGINE_QUICK_USEC ? engine->n_quick + 1 : 0;
        if (engine->n_quick > 1)
                delay = ENGINE_DELAY_MIN_USEC << MIN(engine->n_quick - 2, 16u);
        engine->start_usec =
                now + MIN(delay, engine->has_served ? ENGINE_DELAY_SERVED_USEC : ENGINE_DELAY_MAX_USEC);
        if (engine->n_quick >= ENGINE_TRIES && !keeper->has_served && keeper->children.n == 0) {
                report(SD_ERR, "the engine does not start; giving up");
                keeper->is_stopped = true;
                keeper->exit_status = 1;
        }
}

static int engine_slot_spawn(Keeper *keeper, int socket_fd) {
        const int fds[] = { keeper->null_fd, STDOUT_FILENO, STDERR_FILENO, socket_fd };
        char *const candidates[] = { (char *)keeper->config.engine_program, NULL };
        char *const argv[] = {
                (char *)"pmuxd",
                (char *)"--engine",
                (char *)"--socket",
                keeper->config.socket_path,
                (char *)"--state-dir",
                keeper->config.state_dir,
                NULL,
        };
        const SpawnRequest request = {
                .candidates = candidates,
                .argv = argv,
                .envp = environ,
                .fds = fds,
                .n_fds = ARRAY_SIZE(fds),
                .cgroup_fd = -1,
                .umask = 077,
                .parent_death_signal = SIGKILL,
        };
        const char *step = "";
        int r;

        static_assert(ARRAY_SIZE(fds) == KEEPER_ENGINE_FD + 1, "the socket is the engine's last descriptor");
        r = spawn(&keeper->spawner, &request, &keeper->engine.pid, &step);
        if (r < 0)
                report(SD_ERR, "cannot start the engine: %s: %s", step, strerror(-r));
        return r;
}

/* A socket pair, ours non-blocking; both ends out of the way of descriptors that pass through. */
static int engine_slot_socket_pair(int *ret_ours, int *ret_theirs) {
        int low[2], pair[2] = { -1, -1 };
        int r = 0;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, low) < 0)
                return -errno;
        for (size_t i = 0; i < ARRAY_SIZE(pair) && r == 0; i++) {
                pair[i] = keeper_keep_fd(low[i]);
                if (pair[i] < 0)
                        r = pair[i];
                else
                        low[i] = -1;
        }
        if (r == 0)
                r = fd_set_nonblock(pair[0], 1);
        if (r < 0) {
                for (size_t i = 0; i < ARRAY_SIZE(pair); i++) {
                        (void)fd_close(low[i]);
                        (void)fd_close(pair[i]);
                }
                return r;
        }
        *ret_ours = pair[0];
        *ret_theirs = pair[1];
        return 0;
}

void engine_slot_start(Keeper *keeper) {
        EngineSlot old = keeper->engine;
        EngineSlot *engine = &keeper->engine;
        int theirs = -1;
        int r;

        assert(engine->pid == 0);
        engine_slot_init(keeper);
        engine->n_quick = old.n_quick;
        engine->restarts = old.restarts;
        engine->has_ponged = true;
        engine->owes_terminate = keeper->is_terminating;
        engine->handover_child = keeper->children.all.next;
        engine->started_usec = clock_monotonic_usec();
        engine->has_served = false;
        r = engine_slot_socket_pair(&engine->socket_fd, &theirs);
        if (r < 0)
                report(SD_ERR, "cannot make the engine's socket: %s", strerror(-r));
        else
                r = engine_slot_spawn(keeper, theirs);
        (void)fd_close(theirs);
        if (r < 0) {
                engine->socket_fd = fd_close(engine->socket_fd);
                engine_slot_schedule(keeper);
                return;
        }
        engine_slot_flush(keeper);
}

/* Returns whether the message is under way; where it is not, what it said is still owed. */
static bool engine_slot_send(Keeper *keeper, const KeeperMessage *message, const int *fds, size_t n_fds) {
        EngineSlot *engine = &keeper->engine;
        int r;

        r = keeper_message_send(engine->socket_fd, message, fds, n_fds);
        if (r == -EAGAIN)
                engine->is_blocked = true;
        else if (keeper_message_is_shortage(r))
                engine->retry_usec = clock_monotonic_usec() + ENGINE_RETRY_USEC;
        else if (r == -EPIPE || r == -ECONNRESET)
                engine_slot_fail(keeper, NULL);
        else if (r < 0)
                engine_slot_fail(keeper, "its socket: %s", strerror(-r));
        return r == 0;
}

static_assert(KEEPER_HELD_MAX <= FD_PASS_MAX, "they travel in one message");

/* Hands over what the bag holds from 'handover_fd' on: as many descriptors in a message as it takes. With
 * thousands of them, what a message costs is what an engine's replacement takes. */
static bool engine_slot_hand_over_fds(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        int fds[KEEPER_HELD_MAX], next = engine->handover_fd, fd;
        KeeperMessage message;
        KeeperHeld held;
        size_t n;

        do {
                message = (KeeperMessage){ .type = KEEPER_FDS };
                for (n = 0; n < ARRAY_SIZE(fds) && (fd = bag_next(&keeper->bag, next)) >= 0; n++) {
                        const BagEntry *entry = &keeper->bag.entries[fd];

                        held = (KeeperHeld){
                                .process = entry->process,
                                .run = entry->run,
                                .label = entry->label,
                        };
                        memcpy(message.text + n * sizeof(held), &held, sizeof(held));
                        fds[n] = fd;
                        next = fd + 1;
                }
                if (n > 0 && !engine_slot_send(keeper, &message, fds, n))
                        return false;
                engine->handover_fd = next;
        } while (n == ARRAY_SIZE(fds));
        return true;
}

static bool engine_slot_hand_over_child(Keeper *keeper, Child *child) {
        KeeperMessage message;

        child_message(child, KEEPER_CHILD, &message);
        if (!engine_slot_send(keeper, &message, NULL, 0))
                return false;
        child_set_told(&keeper->children, child, child->state);
        return true;
}

/* Goes on with the handover; returns whether it is complete. The engine is not read from before, so that bag
 * and table stay as they are but for children that end, which then are untold. */
static bool engine_slot_hand_over(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        KeeperMessage message = {
                .type = KEEPER_HELLO,
                .pid = getpid(),
                .engine_restarts = engine->restarts,
                .usec = keeper->watchdog_usec,
        };

        if (engine->phase == HANDOVER_HELLO) {
                memcpy(message.instance, keeper->instance, sizeof(message.instance));
                if (!engine_slot_send(keeper, &message, NULL, 0))
                        return false;
                engine->phase = HANDOVER_FDS;
        }
        if (engine->phase == HANDOVER_FDS) {
                if (!engine_slot_hand_over_fds(keeper))
                        return false;
                engine->phase = HANDOVER_CHILDREN;
        }
        if (engine->phase == HANDOVER_CHILDREN) {
                for (List **next = &engine->handover_child; *next != &keeper->children.all;
                     *next = (*next)->next)
                        if (!engine_slot_hand_over_child(keeper, CONTAINER_OF(*next, Child, all)))
                                return false;
                engine->phase = HANDOVER_READY;
        }
        if (engine->phase == HANDOVER_READY) {
                message = (KeeperMessage){ .type = KEEPER_READY };
                if (!engine_slot_send(keeper, &message, NULL, 0))
                        return false;
                engine->phase = HANDOVER_DONE;
        }
        return true;
}

static bool engine_slot_pay(Keeper *keeper, bool *owes, KeeperMessageType type, pid_t pid) {
        const KeeperMessage message = { .type = type, .pid = pid };

        if (*owes && engine_slot_send(keeper, &message, NULL, 0))
                *owes = false;
        return !*owes;
}

static bool engine_slot_send_answers(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;

        for (; engine->answer_first < engine->n_answers; engine->answer_first++) {
                const Answer *answer = &keeper->answers[engine->answer_first];
                KeeperMessage message = {
                        .type = answer->type,
                        .label = answer->label,
                        .process = answer->process,
                        .run = answer->run,
                        .error = answer->error,
                };

                if (answer->type == KEEPER_SPAWNED) {
                        message.state = KEEPER_CHILD_FAILED;
                        (void)snprintf(message.text, sizeof(message.text), "keeper");
                }
                if (!engine_slot_send(keeper, &message, NULL, 0))
                        return false;
        }
        engine->answer_first = engine->n_answers = 0;
        return true;
}

void engine_slot_flush(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        KeeperMessage message;
        KeeperChildState told;

        if (engine->socket_fd < 0 || engine->is_failed)
                return;
        engine->is_blocked = false;
        engine->retry_usec = USEC_INFINITY;
        if (!engine_slot_hand_over(keeper))
                return;
        if (!engine_slot_pay(keeper, &engine->owes_terminate, KEEPER_TERMINATE, 0) ||
            !engine_slot_pay(keeper, &engine->owes_ping, KEEPER_PING, 0))
                return;
        if (!engine_slot_send_answers(keeper))
                return;
        while (!list_empty(&keeper->children.untold)) {
                Child *child = CONTAINER_OF(keeper->children.untold.next, Child, untold);

                told = child_next_message(child, &message);
                if (!engine_slot_send(keeper, &message, NULL, 0))
                        return;
                child_set_told(&keeper->children, child, told);
        }
        (void)engine_slot_pay(keeper, &engine->owes_reaped, KEEPER_REAPED, engine->reaped);
}

void engine_slot_answer(Keeper *keeper, const Answer *answer) {
        EngineSlot *engine = &keeper->engine;

        if (engine->is_failed)
                return;
        if (engine->n_answers >= KEEPER_ANSWERS_MAX) {
                engine_slot_fail(keeper, "it does not read its answers");
                return;
        }
        keeper->answers[engine->n_answers++] = *answer;
}

void engine_slot_fail(Keeper *keeper, const char *format, ...) {
        EngineSlot *engine = &keeper->engine;
        char text[256];
        va_list ap;

        if (engine->is_failed)
                return;
        if (format) {
                va_start(ap, format);
                (void)vsnprintf(text, sizeof(text), format, ap);
                va_end(ap);
                report(SD_WARNING, "engine (pid %d) failed: %s", engine->pid, text);
        }
        engine->is_failed = true;
        if (engine->pid > 0)
                (void)kill(engine->pid, SIGKILL);
}

void engine_slot_on_exit(Keeper *keeper, const siginfo_t *info) {
        EngineSlot *engine = &keeper->engine;

        if (keeper->wants_upgrade || keeper->is_stopped)
                ;
        else if (info->si_code == CLD_EXITED)
                report(SD_WARNING, "engine (pid %d) exited with status %d", engine->pid, info->si_status);
        else
                report(SD_WARNING, "engine (pid %d) was ended by signal %d (%s)%s", engine->pid,
                       info->si_status, strsignal(info->si_status),
                       info->si_code == CLD_DUMPED ? ", core dumped" : "");
        engine->pid = 0;
        engine->socket_fd = fd_close(engine->socket_fd);
        engine->kill_usec = USEC_INFINITY;
        engine->retry_usec = USEC_INFINITY;
        engine->restarts++;
        engine_slot_schedule(keeper);
}
