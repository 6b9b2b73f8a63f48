/* SPDX-License-Identifier: MIT */
#pragma once

/* A keeper made up for the engine-fixture: it forks nothing. A program is its name:
 *
 *     fail…  cannot be executed          quit…  says a word on both outputs and exits with 3
 *     late…  is answered for only later  hold…  exits, but a descendant keeps outputs and tree
 *     full…  writes 200 KB, then as cat  deaf…  as cat, but ends on SIGKILL alone
 *
 * and every other is cat. The functions of tree.h are defined here too: a run's tree is not empty while its
 * program, or what hold leaves behind, is there. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/tree.h"
#include "daemon/keeper-message.h"

#define FAKE_CHILDREN 32
#define FAKE_BAG 512
#define FAKE_PID 100000000 /* beyond any pid there can be */

typedef struct FakeChild {
        uint64_t process; /* 0: free */
        uint32_t run;
        char name[5];
        int fds[3];         /* owned; the program's ends */
        KeeperMessage told; /* what the engine was told of it last */
        bool late, alive, empty, forgotten, frozen;
} FakeChild;

typedef struct FakeFd {
        uint64_t process;
        uint32_t run;
        KeeperLabel label;
        int fd; /* owned; -1: free */
} FakeFd;

static struct {
        int engine_fd; /* the engine's */
        int keeper_fd; /* owned */
        FakeChild children[FAKE_CHILDREN];
        FakeFd bag[FAKE_BAG];
        size_t n_bag;
        bool busy;
        int put_error;      /* what is told of a PUT that asks; it is not held then */
        int watch_result;   /* what tree_watch() is to return */
        unsigned n_watches; /* how often it was asked */
        unsigned n_untold;  /* how often tree_empty() is to say that it cannot tell now */
} fake_keeper = { .engine_fd = -1, .keeper_fd = -1 };

static void fake_bag_drop(KeeperLabel label, uint64_t process, uint32_t run) {
        for (size_t i = 0; i < fake_keeper.n_bag; i++) {
                FakeFd *entry = &fake_keeper.bag[i];

                if (entry->label == label && entry->process == process && entry->run == run) {
                        (void)fd_close(entry->fd);
                        *entry = fake_keeper.bag[--fake_keeper.n_bag];
                        return;
                }
        }
}

static void fake_bag_put(KeeperLabel label, uint64_t process, uint32_t run, int fd) {
        fake_bag_drop(label, process, run);
        assert(fake_keeper.n_bag < FAKE_BAG);
        fake_keeper.bag[fake_keeper.n_bag++] =
                (FakeFd){ .label = label, .process = process, .run = run, .fd = fd };
}

static FakeChild *fake_child(uint64_t process, uint32_t run) {
        for (size_t i = 0; i < FAKE_CHILDREN; i++)
                if (fake_keeper.children[i].process == process && fake_keeper.children[i].run == run)
                        return &fake_keeper.children[i];
        return NULL;
}

static void fake_tell(const KeeperMessage *message, const int *fds, size_t n_fds) {
        int r;

        fake_keeper.busy = true;
        r = keeper_message_send(fake_keeper.keeper_fd, message, fds, n_fds);
        assert(r == 0 || r == -EPIPE || r == -ECONNRESET);
}

static void fake_child_close(FakeChild *child) {
        for (unsigned i = 0; i < 3; i++)
                child->fds[i] = fd_close(child->fds[i]);
}

static void fake_child_tidy(FakeChild *child) {
        if (child->forgotten && !child->alive && child->empty)
                *child = (FakeChild){};
}

static void fake_child_empty(FakeChild *child) {
        KeeperMessage message = { .type = KEEPER_REAPED, .pid = child->told.pid + 1 };

        if (child->empty)
                return;
        child->empty = true;
        fake_child_close(child);
        fake_tell(&message, NULL, 0);
        fake_child_tidy(child);
}

static void fake_child_exit(FakeChild *child, int code, int status) {
        if (!child->alive)
                return;
        child->alive = false;
        child->told.type = KEEPER_EXITED;
        child->told.state = KEEPER_CHILD_EXITED;
        child->told.wait_code = code;
        child->told.wait_status = status;
        child->told.usec += 1000;
        fake_tell(&child->told, NULL, 0);
        if (strcmp(child->name, "hold") != 0 || code != CLD_EXITED)
                fake_child_empty(child);
}

static void fake_child_write(FakeChild *child, unsigned i, const void *bytes, size_t size) {
        if (child->fds[i] >= 0)
                (void)!write(child->fds[i], bytes, size);
}

static void fake_child_began(FakeChild *child) {
        static char lines[200 * 1024];

        child->late = false;
        child->alive = true;
        child->told.type = KEEPER_SPAWNED;
        child->told.state = KEEPER_CHILD_RUNNING;
        child->told.pid = FAKE_PID + 2 * (int)(child - fake_keeper.children);
        child->told.usec = 1700000000000000;
        fake_tell(&child->told, NULL, 0);
        if (strcmp(child->name, "full") == 0) {
                for (size_t i = 0; i < sizeof(lines); i++)
                        lines[i] = i % 61 == 60 ? '\n' : 'f';
                fake_child_write(child, 1, lines, sizeof(lines));
        }
        if (strcmp(child->name, "quit") != 0 && strcmp(child->name, "hold") != 0)
                return;
        fake_child_write(child, 1, "one\ntwo\nthree", 13);
        fake_child_write(child, 2, "err\n", 4);
        fake_child_exit(child, CLD_EXITED, 3);
}

static void fake_child_signal(FakeChild *child, int number) {
        if (number == 0 || number == SIGCONT || number == SIGWINCH || number == SIGCHLD || child->late)
                return;
        if (strcmp(child->name, "deaf") == 0 && number != SIGKILL)
                return;
        if (child->alive)
                fake_child_exit(child, CLD_KILLED, number);
        else
                fake_child_empty(child);
}

/* Takes over 'fds'. @spec: of 'spec_size' bytes; 0: it is in a descriptor. */
static void fake_spawn(const KeeperMessage *message, const char *spec, size_t spec_size, int *fds,
                       size_t n_fds) {
        FakeChild *child = fake_child(message->process, message->run);
        KeeperMessage failed = *message;
        char name[5] = "";
        size_t n = spec_size > 0 ? 0 : 1;

        assert(n_fds >= n);
        if (spec_size > 0)
                (void)snprintf(name, sizeof(name), "%.4s", spec + sizeof(KeeperSpec));
        else
                assert(pread(fds[0], name, 4, sizeof(KeeperSpec)) > 0);
        if (child) {
                if (!child->late)
                        fake_tell(&child->told, NULL, 0);
                return;
        }
        child = fake_child(0, 0);
        if (!child || strcmp(name, "fail") == 0) {
                failed.type = KEEPER_SPAWNED;
                failed.state = KEEPER_CHILD_FAILED;
                failed.error = child ? ENOENT : EMFILE;
                (void)snprintf(failed.text, sizeof(failed.text), "%s", child ? "exec" : "keeper");
                fake_tell(&failed, NULL, 0);
                return;
        }
        *child = (FakeChild){ .process = message->process, .run = message->run, .fds = { -1, -1, -1 } };
        (void)snprintf(child->name, sizeof(child->name), "%s", name);
        child->told = (KeeperMessage){ .process = message->process, .run = message->run };
        for (unsigned i = 0; i < 6; i++)
                if (message->flags & (1u << i)) {
                        assert(n < n_fds);
                        if (i < 3) {
                                child->fds[i] = TAKE_FD(fds[n]);
                                (void)fd_set_nonblock(child->fds[i], true);
                        } else
                                fake_bag_put(KEEPER_LABEL_STDIN + i - 3, child->process, child->run,
                                             TAKE_FD(fds[n]));
                        n++;
                }
        if (child->fds[2] < 0 && child->fds[1] >= 0)
                child->fds[2] = fcntl(child->fds[1], F_DUPFD_CLOEXEC, 3);
        if (strcmp(name, "late") == 0)
                child->late = true;
        else
                fake_child_began(child);
}

static void fake_drop(const KeeperMessage *message) {
        for (unsigned label = 1; label < KEEPER_LABEL_N_; label++)
                if ((message->flags | KEEPER_LABEL_BIT(message->label)) & KEEPER_LABEL_BIT(label))
                        fake_bag_drop(label, message->process, message->run);
}

static void fake_on_message(const KeeperPacket *packet, size_t spec_size, int *fds, size_t n_fds) {
        const KeeperMessage *message = &packet->message;
        KeeperMessage answer = { .type = KEEPER_SIGNALLED, .process = message->process, .run = message->run };
        FakeChild *child = message->process ? fake_child(message->process, message->run) : NULL;

        switch (message->type) {
        case KEEPER_SPAWN:
                fake_spawn(message, packet->spec, spec_size, fds, n_fds);
                break;
        case KEEPER_PUT:
                assert(n_fds == 1);
                answer.type = KEEPER_HELD;
                answer.label = message->label;
                if (message->flags & KEEPER_PUT_TELL)
                        answer.error = fake_keeper.put_error;
                if (answer.error == 0)
                        fake_bag_put(message->label, message->process, message->run, TAKE_FD(fds[0]));
                if (message->flags & KEEPER_PUT_TELL)
                        fake_tell(&answer, NULL, 0);
                break;
        case KEEPER_DROP:
                fake_drop(message);
                break;
        case KEEPER_SIGNAL:
                answer.error = child && child->alive ? 0 : ESRCH;
                fake_tell(&answer, NULL, 0);
                if (child)
                        fake_child_signal(child, message->signal);
                break;
        case KEEPER_FORGET:
                fake_drop(message);
                if (child) {
                        child->forgotten = true;
                        fake_child_tidy(child);
                }
                break;
        default:
                assert(message->type == KEEPER_PONG || message->type == KEEPER_STOPPED ||
                       message->type == KEEPER_UPGRADE || message->type == KEEPER_SERVING);
        }
}

static void fake_keeper_receive(void) {
        int fds[FD_PASS_MAX], r;
        KeeperPacket packet;
        size_t n_fds, spec_size;

        while ((r = keeper_packet_receive(fake_keeper.keeper_fd, &packet, &spec_size, fds, &n_fds)) > 0) {
                fake_keeper.busy = true;
                fake_on_message(&packet, spec_size, fds, n_fds);
                for (size_t i = 0; i < n_fds; i++)
                        (void)fd_close(fds[i]);
        }
        assert(r == 0 || r == -EAGAIN || r == -ECONNRESET);
}

/* Does what the engine asks for, and lets each program go on. Return: whether anything happened. */
static bool fake_keeper_turn(void) {
        static char bytes[32 * 1024];
        ssize_t n;

        fake_keeper.busy = false;
        fake_keeper_receive();
        for (size_t i = 0; i < FAKE_CHILDREN; i++) {
                FakeChild *child = &fake_keeper.children[i];

                if (!child->alive || child->fds[0] < 0 || child->frozen)
                        continue;
                n = read(child->fds[0], bytes, sizeof(bytes));
                if (n == 0)
                        fake_child_exit(child, CLD_EXITED, 0);
                else if (n > 0) {
                        fake_child_write(child, 1, bytes, (size_t)n);
                        fake_keeper.busy = true;
                }
        }
        return fake_keeper.busy;
}

/* Answers for those that are late. */
static void fake_keeper_wake(void) {
        for (size_t i = 0; i < FAKE_CHILDREN; i++)
                if (fake_keeper.children[i].late)
                        fake_child_began(&fake_keeper.children[i]);
}

static void fake_keeper_end_all(void) {
        fake_keeper_wake();
        for (size_t i = 0; i < FAKE_CHILDREN; i++) {
                FakeChild *child = &fake_keeper.children[i];

                fake_child_exit(child, CLD_KILLED, SIGKILL);
                if (child->process)
                        fake_child_empty(child);
        }
}

static size_t fake_keeper_n_children(void) {
        size_t n = 0;

        for (size_t i = 0; i < FAKE_CHILDREN; i++)
                n += fake_keeper.children[i].process != 0;
        return n;
}

/* Makes a new link, with the whole handover waiting in it. */
static void fake_keeper_hand_over(void) {
        KeeperMessage message = { .type = KEEPER_HELLO, .pid = getpid(), .instance = { 1, 2, 3 } };
        int fds[2], size = 8 * 1024 * 1024, r;

        r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
        assert(r == 0);
        for (unsigned i = 0; i < 2; i++)
                if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        fake_keeper.keeper_fd = fds[0];
        fake_keeper.engine_fd = fds[1];
        fake_tell(&message, NULL, 0);
        for (size_t i = 0; i < fake_keeper.n_bag; i++) {
                FakeFd *entry = &fake_keeper.bag[i];

                message = (KeeperMessage){
                        .type = KEEPER_FD,
                        .label = entry->label,
                        .process = entry->process,
                        .run = entry->run,
                };
                fake_tell(&message, &entry->fd, 1);
        }
        for (size_t i = 0; i < FAKE_CHILDREN; i++)
                if (fake_keeper.children[i].process && !fake_keeper.children[i].forgotten &&
                    !fake_keeper.children[i].late) {
                        message = fake_keeper.children[i].told;
                        message.type = KEEPER_CHILD;
                        fake_tell(&message, NULL, 0);
                }
        message = (KeeperMessage){ .type = KEEPER_READY };
        fake_tell(&message, NULL, 0);
}

static void fake_keeper_free(void) {
        for (size_t i = 0; i < FAKE_CHILDREN; i++)
                if (fake_keeper.children[i].process)
                        fake_child_close(&fake_keeper.children[i]);
        while (fake_keeper.n_bag > 0)
                (void)fd_close(fake_keeper.bag[--fake_keeper.n_bag].fd);
        fake_keeper.keeper_fd = fd_close(fake_keeper.keeper_fd);
}

/* ---- tree.h ---- */

struct TreeRoot {
        int keeper_pid;
};

int tree_root_open(TreeRoot **ret_root, const char *instance, int keeper_pid, Error *reterr_error) {
        TreeRoot *root = calloc(1, sizeof(*root));

        (void)instance;
        if (!root)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the root of the trees");
        root->keeper_pid = keeper_pid;
        *ret_root = root;
        return 0;
}

TreeRoot *tree_root_free(TreeRoot *root) {
        free(root);
        return NULL;
}

void tree_root_tidy(TreeRoot *root) {
        (void)root;
}

void tree_root_clear(TreeRoot *root) {
        (void)root;
}

void tree_root_sweep(TreeRoot *root, bool (*wanted)(uint64_t process, uint32_t run, void *userdata),
                     void *userdata) {
        (void)root;
        (void)wanted;
        (void)userdata;
}

bool tree_root_untidy(const TreeRoot *root) {
        (void)root;
        return false;
}

void tree_prepare_ahead(TreeRoot *root, uint64_t process, uint32_t run) {
        (void)root;
        (void)process;
        (void)run;
}

bool tree_root_has_cgroups(const TreeRoot *root) {
        (void)root;
        return false;
}

int tree_root_inotify_fd(const TreeRoot *root) {
        (void)root;
        return -1;
}

const char *tree_root_why(const TreeRoot *root) {
        (void)root;
        return "made up";
}

int tree_root_dispatch(TreeRoot *root, void (*fn)(uint64_t process, uint32_t run, void *userdata),
                       void *userdata) {
        (void)root;
        (void)fn;
        (void)userdata;
        return 0;
}

void tree_init(TreeRoot *root, Tree *ret_tree, uint64_t process, uint32_t run, int main_pid) {
        *ret_tree = (Tree){
                .process = process, .run = run, .main_pid = main_pid, .keeper_pid = root->keeper_pid
        };
        (void)snprintf(ret_tree->mark, sizeof(ret_tree->mark), "PMUX_MARK=%u", run);
}

int tree_prepare(TreeRoot *root, const Tree *tree, int *ret_fd, Error *reterr_error) {
        (void)root;
        (void)tree;
        (void)reterr_error;
        *ret_fd = -1;
        return 0;
}

int tree_watch(TreeRoot *root, const Tree *tree) {
        (void)root;
        (void)tree;
        fake_keeper.n_watches++;
        return fake_keeper.watch_result;
}

void tree_release(TreeRoot *root, const Tree *tree) {
        (void)root;
        (void)tree;
}

int tree_empty(TreeRoot *root, const Tree *tree) {
        FakeChild *child = fake_child(tree->process, tree->run);

        (void)root;
        if (fake_keeper.n_untold > 0) {
                fake_keeper.n_untold--;
                return -EAGAIN;
        }
        return !child || child->empty;
}

int tree_pids(TreeRoot *root, const Tree *tree, pid_t *ret_pids, size_t max, size_t *ret_n) {
        FakeChild *child = fake_child(tree->process, tree->run);

        (void)root;
        *ret_n = child && !child->empty;
        if (*ret_n > 0 && max > 0)
                ret_pids[0] = child->told.pid + !child->alive;
        return 0;
}

int tree_signal(TreeRoot *root, const Tree *tree, int number, size_t *ret_n, Error *reterr_error) {
        FakeChild *child = fake_child(tree->process, tree->run);

        (void)root;
        (void)reterr_error;
        *ret_n = child && !child->empty;
        if (child)
                fake_child_signal(child, number);
        return 0;
}

int tree_freeze(TreeRoot *root, const Tree *tree, bool frozen, Error *reterr_error) {
        FakeChild *child = fake_child(tree->process, tree->run);

        (void)root;
        (void)reterr_error;
        if (child)
                child->frozen = frozen;
        return 0;
}

int tree_oom(TreeRoot *root, const Tree *tree) {
        (void)root;
        return (int)(tree->process % 3) - 1;
}

int tree_kill_stale(TreeRoot *root) {
        (void)root;
        return 0;
}
