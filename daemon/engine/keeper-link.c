/* SPDX-License-Identifier: MIT */

#include "daemon/engine/keeper-link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/list.h"

#define SEND_RETRY_USEC 2000

typedef struct QueuedMessage {
        List link;
        KeeperMessage message;
        int fds[FD_PASS_MAX]; /* owned */
        size_t n_fds;
        char *spec; /* owned; NULL: none, or it is in a descriptor */
        size_t spec_size;
} QueuedMessage;

struct KeeperLink {
        int fd;              /* owned */
        struct event *event; /* owned */
        struct event *retry; /* owned; a turn in which to send what could not be sent */
        const KeeperLinkOps *ops;
        void *userdata; /* borrowed */
        List queue;
        size_t n_urgent; /* of those in the queue, all but DROP and FORGET */
};

static int handover_fd_compare(const void *a, const void *b) {
        const HandoverFd *x = a, *y = b;

        if (x->process != y->process)
                return x->process < y->process ? -1 : 1;
        if (x->run != y->run)
                return x->run < y->run ? -1 : 1;
        return x->label < y->label ? -1 : x->label > y->label;
}

static int child_compare(const void *a, const void *b) {
        const KeeperMessage *x = a, *y = b;

        if (x->process != y->process)
                return x->process < y->process ? -1 : 1;
        return x->run < y->run ? -1 : x->run > y->run;
}

int handover_take_fd(Handover *handover, KeeperLabel label, uint64_t process, uint32_t run) {
        size_t low = 0, high = handover->n_fds;

        while (low < high) { /* the first one of the process */
                size_t middle = low + (high - low) / 2;

                if (handover->fds[middle].process < process)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (; low < handover->n_fds && handover->fds[low].process == process; low++) {
                HandoverFd *entry = &handover->fds[low];

                if (entry->label == label && (run == 0 || entry->run == run) && entry->fd >= 0)
                        return TAKE_FD(entry->fd);
        }
        return -1;
}

const KeeperMessage *handover_child(const Handover *handover, uint64_t process, uint32_t run) {
        KeeperMessage key = { .process = process, .run = run };

        if (handover->n_children == 0)
                return NULL;
        return bsearch(&key, handover->children, handover->n_children, sizeof(key), child_compare);
}

void handover_deinit(Handover *handover) {
        for (size_t i = 0; i < handover->n_fds; i++)
                (void)fd_close(handover->fds[i].fd);
        free(handover->fds);
        free(handover->children);
        *handover = (Handover){};
}

/* Makes room for one more; arrays grow by doubling. */
static int grow(void **array, size_t n, size_t size) {
        void *bigger;

        if (n != 0 && (n & (n - 1)) != 0)
                return 0;
        bigger = realloc(*array, (n == 0 ? 1 : n * 2) * size);
        if (!bigger)
                return -ENOMEM;
        *array = bigger;
        return 0;
}

static int handover_add_fd(Handover *handover, const KeeperHeld *held, int *fd) {
        int r;

        r = grow((void **)&handover->fds, handover->n_fds, sizeof(*handover->fds));
        if (r < 0)
                return r;
        handover->fds[handover->n_fds++] = (HandoverFd){
                .process = held->process,
                .run = held->run,
                .label = held->label,
                .fd = TAKE_FD(*fd),
        };
        return 0;
}

static int handover_add(Handover *handover, const KeeperMessage *message, int *fds, size_t n_fds) {
        KeeperHeld held;
        int r;

        switch (message->type) {
        case KEEPER_HELLO:
                handover->hello = *message;
                return 0;
        case KEEPER_FD:
                if (n_fds != 1)
                        return -EPROTO;
                held = (KeeperHeld){ .process = message->process,
                                     .run = message->run,
                                     .label = message->label };
                return handover_add_fd(handover, &held, &fds[0]);
        case KEEPER_FDS:
                if (n_fds > KEEPER_HELD_MAX)
                        return -EPROTO;
                for (size_t i = 0; i < n_fds; i++) {
                        memcpy(&held, message->text + i * sizeof(held), sizeof(held));
                        r = handover_add_fd(handover, &held, &fds[i]);
                        if (r < 0)
                                return r;
                }
                return 0;
        case KEEPER_CHILD:
                r = grow((void **)&handover->children, handover->n_children, sizeof(*handover->children));
                if (r < 0)
                        return r;
                handover->children[handover->n_children++] = *message;
                return 0;
        case KEEPER_READY:
                return 1;
        default:
                return 0; /* what comes early (a PING) is asked again */
        }
}

static int handover_receive(int fd, Handover *handover) {
        KeeperMessage message;
        int fds[FD_PASS_MAX], r;
        size_t n_fds;

        do {
                r = keeper_message_receive(fd, &message, fds, &n_fds);
                if (r == -EAGAIN) {
                        struct pollfd pfd = { .fd = fd, .events = POLLIN };

                        (void)poll(&pfd, 1, -1);
                        r = 0;
                        continue;
                }
                if (r <= 0)
                        return r < 0 ? r : -ECONNRESET;
                r = handover_add(handover, &message, fds, n_fds);
                for (size_t i = 0; i < n_fds; i++)
                        (void)fd_close(fds[i]);
        } while (r == 0);
        if (r < 0)
                return r;
        if (handover->n_fds > 0)
                qsort(handover->fds, handover->n_fds, sizeof(*handover->fds), handover_fd_compare);
        if (handover->n_children > 0)
                qsort(handover->children, handover->n_children, sizeof(*handover->children), child_compare);
        return 0;
}

static void keeper_link_on_readable(evutil_socket_t fd, short what, void *userdata) {
        KeeperLink *link = userdata;
        KeeperMessage message;
        int fds[FD_PASS_MAX], r;
        size_t n_fds;

        (void)what;
        for (unsigned i = 0; i < 64; i++) { /* then the others get their turn */
                r = keeper_message_receive(fd, &message, fds, &n_fds);
                if (r == -EAGAIN)
                        return;
                if (r <= 0) {
                        link->ops->on_lost(link->userdata);
                        return;
                }
                for (size_t j = 0; j < n_fds; j++)
                        (void)fd_close(fds[j]);
                link->ops->on_message(&message, link->userdata);
        }
}

/* What is queued is sent at the end of the turn, behind the registry's commit. */
static void keeper_link_on_retry(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        (void)userdata;
}

int keeper_link_new(KeeperLink **ret_link, int socket_fd, struct event_base *base, const KeeperLinkOps *ops,
                    void *userdata, Handover *ret_handover, Error *reterr_error) {
        CLEANUP(keeper_link_free) KeeperLink *link = NULL;
        Handover handover = {};
        int r;

        link = calloc(1, sizeof(*link));
        if (!link)
                return error_set_errno(reterr_error, ENOMEM, "cannot make the link to the keeper");
        list_init(&link->queue);
        link->fd = socket_fd;
        link->ops = ops;
        link->userdata = userdata;
        r = fd_set_nonblock(socket_fd, true);
        if (r >= 0)
                r = handover_receive(socket_fd, &handover);
        if (r < 0) {
                handover_deinit(&handover);
                return error_set_errno(reterr_error, r, "the keeper's handover broke off");
        }
        link->event = event_new(base, socket_fd, EV_READ | EV_PERSIST, keeper_link_on_readable, link);
        link->retry = evtimer_new(base, keeper_link_on_retry, NULL);
        if (!link->event || !link->retry || event_add(link->event, NULL) < 0) {
                handover_deinit(&handover);
                return error_set_errno(reterr_error, ENOMEM, "cannot watch the link to the keeper");
        }
        *ret_handover = handover;
        *ret_link = TAKE(link);
        return 0;
}

static bool message_is_urgent(const KeeperMessage *message) {
        return message->type != KEEPER_DROP && message->type != KEEPER_FORGET;
}

static QueuedMessage *queued_message_free(QueuedMessage *queued) {
        list_remove(&queued->link);
        for (size_t i = 0; i < queued->n_fds; i++)
                (void)fd_close(queued->fds[i]);
        free(queued->spec);
        free(queued);
        return NULL;
}

KeeperLink *keeper_link_free(KeeperLink *link) {
        if (!link)
                return NULL;
        LIST_FOREACH(QueuedMessage, queued, &link->queue, link)
                (void)queued_message_free(queued);
        if (link->event)
                event_free(link->event);
        if (link->retry)
                event_free(link->retry);
        (void)fd_close(link->fd);
        free(link);
        return NULL;
}

/* What the keeper may forget of one run usually comes together, and goes in one message. Return: whether it
 * was added to the one that was queued last. */
static bool keeper_link_join(KeeperLink *link, const KeeperMessage *message) {
        KeeperMessage *last;

        if (list_empty(&link->queue) || message_is_urgent(message))
                return false;
        last = &CONTAINER_OF(link->queue.prev, QueuedMessage, link)->message;
        if (message_is_urgent(last) || last->process != message->process || last->run != message->run)
                return false;
        last->flags |= KEEPER_LABEL_BIT(last->label) | KEEPER_LABEL_BIT(message->label);
        last->label = KEEPER_LABEL_NONE;
        if (message->type == KEEPER_FORGET)
                last->type = KEEPER_FORGET;
        return true;
}

/* Takes over spec and descriptors. */
static int keeper_link_append(KeeperLink *link, const KeeperMessage *message, char *spec, size_t spec_size,
                              const int *fds, size_t n_fds) {
        QueuedMessage *queued;

        queued = calloc(1, sizeof(*queued));
        if (!queued) {
                for (size_t i = 0; i < n_fds; i++)
                        (void)fd_close(fds[i]);
                free(spec);
                return -ENOMEM;
        }
        queued->spec = spec;
        queued->spec_size = spec_size;
        queued->message = *message;
        if (n_fds > 0)
                memcpy(queued->fds, fds, n_fds * sizeof(*fds));
        queued->n_fds = n_fds;
        list_append(&link->queue, &queued->link);
        link->n_urgent += message_is_urgent(message);
        return 0;
}

int keeper_link_queue(KeeperLink *link, const KeeperMessage *message, const int *fds, size_t n_fds) {
        return keeper_link_join(link, message) ? 0 : keeper_link_append(link, message, NULL, 0, fds, n_fds);
}

/* A spec that is too large for a message, in a sealed memfd. Return: the descriptor or -errno. */
static int spec_memfd(const char *spec, size_t size) {
        int fd, r;

        fd = memfd_create("pmux-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, spec, size);
        if (r >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                r = -errno;
        if (r < 0) {
                (void)fd_close(fd);
                return r;
        }
        return fd;
}

int keeper_link_queue_spawn(KeeperLink *link, const KeeperMessage *message, char *spec, size_t spec_size,
                            const int *fds, size_t n_fds) {
        KeeperMessage spawn = *message;
        int all[FD_PASS_MAX];

        if (spec_size <= KEEPER_SPEC_INLINE_MAX) {
                spawn.flags |= KEEPER_SPAWN_INLINE;
                return keeper_link_append(link, &spawn, spec, spec_size, fds, n_fds);
        }
        assert(n_fds < FD_PASS_MAX);
        all[0] = spec_memfd(spec, spec_size);
        free(spec);
        if (n_fds > 0)
                memcpy(all + 1, fds, n_fds * sizeof(*fds));
        if (all[0] >= 0)
                return keeper_link_append(link, &spawn, NULL, 0, all, n_fds + 1);
        for (size_t i = 0; i < n_fds; i++)
                (void)fd_close(fds[i]);
        return all[0];
}

static int keeper_link_send_once(KeeperLink *link, const QueuedMessage *queued) {
        return queued->spec ? keeper_packet_send(link->fd, &queued->message, queued->spec, queued->spec_size,
                                                 queued->fds, queued->n_fds)
                            : keeper_message_send(link->fd, &queued->message, queued->fds, queued->n_fds);
}

/* Waits for room in the socket: the keeper always reads. */
static int keeper_link_send(KeeperLink *link, const QueuedMessage *queued) {
        struct pollfd pfd = { .fd = link->fd, .events = POLLOUT };
        int r;

        while ((r = keeper_link_send_once(link, queued)) == -EAGAIN)
                (void)poll(&pfd, 1, -1);
        return r;
}

/* A shortage must not be waited for here: the descriptors in flight may be on their way to us. Return:
 * whether the queue goes on. */
static bool keeper_link_flush_one(KeeperLink *link) {
        QueuedMessage *queued = CONTAINER_OF(link->queue.next, QueuedMessage, link);
        const struct timeval delay = { .tv_usec = SEND_RETRY_USEC };

        if (keeper_message_is_shortage(keeper_link_send(link, queued))) {
                if (evtimer_add(link->retry, &delay) < 0)
                        link->ops->on_lost(link->userdata);
                return false;
        }
        /* any other failure means that the keeper is gone: the next read says so and the engine ends */
        link->n_urgent -= message_is_urgent(&queued->message);
        (void)queued_message_free(queued);
        return true;
}

void keeper_link_flush(KeeperLink *link) {
        while (!list_empty(&link->queue) && keeper_link_flush_one(link))
                ;
}

void keeper_link_flush_urgent(KeeperLink *link) {
        while (link->n_urgent > 0 && keeper_link_flush_one(link))
                ;
}

/* What is to be dropped at the end of the turn has been replaced by a descriptor that is to stay. */
static void keeper_link_undrop(KeeperLink *link, KeeperLabel label, uint64_t process, uint32_t run) {
        LIST_FOREACH(QueuedMessage, queued, &link->queue, link) {
                KeeperMessage *message = &queued->message;

                if (message_is_urgent(message) || message->process != process || message->run != run)
                        continue;
                message->flags &= ~KEEPER_LABEL_BIT(label);
                if (message->label == label)
                        message->label = KEEPER_LABEL_NONE;
        }
}

int keeper_link_put_ask(KeeperLink *link, KeeperLabel label, uint64_t process, uint32_t run, int fd) {
        const QueuedMessage put = {
                .message = { .type = KEEPER_PUT,
                             .label = label,
                             .process = process,
                             .run = run,
                             .flags = KEEPER_PUT_TELL },
                .fds = { fd }, /* borrowed, as nothing is queued */
                .n_fds = 1,
        };
        int r;

        r = keeper_link_send(link, &put);
        if (r >= 0)
                keeper_link_undrop(link, label, process, run);
        return r;
}

void keeper_link_tell(KeeperLink *link, const KeeperMessage *message) {
        if (keeper_link_queue(link, message, NULL, 0) < 0)
                link->ops->on_lost(link->userdata);
}

void keeper_link_drop(KeeperLink *link, KeeperLabel label, uint64_t process, uint32_t run) {
        KeeperMessage message = { .type = KEEPER_DROP, .label = label, .process = process, .run = run };

        keeper_link_tell(link, &message);
}
