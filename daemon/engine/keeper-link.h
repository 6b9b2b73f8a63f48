/* SPDX-License-Identifier: MIT */
#pragma once

/* The engine's side of the keeper's messages: the handover at the start, then messages in, messages out. */

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/keeper-message.h"

typedef struct KeeperLink KeeperLink;

typedef struct KeeperLinkOps {
        void (*on_message)(const KeeperMessage *message, void *userdata);
        void (*on_lost)(void *userdata); /* the keeper is gone or cannot be told: the engine must end */
} KeeperLinkOps;

/* What the keeper handed over for one process; looked up by process and run. */
typedef struct HandoverFd {
        uint64_t process;
        uint32_t run;
        uint32_t label;
        int fd; /* owned by the handover until taken */
} HandoverFd;

typedef struct Handover {
        KeeperMessage hello;
        HandoverFd *fds; /* owned; sorted by process, run, label */
        size_t n_fds;
        KeeperMessage *children; /* owned; sorted by process and run */
        size_t n_children;
} Handover;

/** handover_take_fd() - take a descriptor out; run 0: of any run. Return: the descriptor, now the caller's;
 * -1: there is none. */
int handover_take_fd(Handover *handover, KeeperLabel label, uint64_t process, uint32_t run);
/** handover_child() - what the keeper knows of a run; NULL: nothing. */
const KeeperMessage *handover_child(const Handover *handover, uint64_t process, uint32_t run);
void handover_deinit(Handover *handover);

/**
 * keeper_link_new() - take up the link and receive the whole handover (blocks until READY)
 * @socket_fd:  owned from now on
 */
int keeper_link_new(KeeperLink **ret_link, int socket_fd, struct event_base *base, const KeeperLinkOps *ops,
                    void *userdata, Handover *ret_handover, Error *reterr_error);
KeeperLink *keeper_link_free(KeeperLink *link);
DEFINE_CLEANUP(KeeperLink *, keeper_link_free);

/**
 * keeper_link_queue() - send a message after the registry's commit of this turn
 * @fds:  owned by the link from now on, also on failure; closed when they have been sent
 */
int keeper_link_queue(KeeperLink *link, const KeeperMessage *message, const int *fds, size_t n_fds);
/** keeper_link_queue_spawn() - the same for a SPAWN. @spec: as process_config_spec() made it, owned by the
 * link from now on, also on failure. Return: 0; -ENOMEM; -errno of memfd_create(2) or write(2). */
int keeper_link_queue_spawn(KeeperLink *link, const KeeperMessage *message, char *spec, size_t spec_size,
                            const int *fds, size_t n_fds);
/** keeper_link_tell() - queue a message without descriptors that must not be missed: when there is no memory
 * for it, on_lost is called, so that the next engine says it. */
void keeper_link_tell(KeeperLink *link, const KeeperMessage *message);
/** keeper_link_flush() - send what is queued, in order; waits for room in the socket (the keeper always
 * reads). Where the kernel takes no more for now it has another turn of the loop begin soon. */
void keeper_link_flush(KeeperLink *link);
/** keeper_link_flush_urgent() - likewise, up to the last message that somebody waits for: what comes after it
 * only lets the keeper forget something, and has time until the replies are out. */
void keeper_link_flush_urgent(KeeperLink *link);
/** keeper_link_put_ask() - hand a duplicate of a descriptor (borrowed) to the keeper, now; it answers with a
 * HELD whether it has it. Return: 0; -ETOOMANYREFS, -ENOBUFS, -ENOMEM: not now; -errno. */
int keeper_link_put_ask(KeeperLink *link, KeeperLabel label, uint64_t process, uint32_t run, int fd);
/** keeper_link_drop() - let the keeper close one, at the end of the turn. */
void keeper_link_drop(KeeperLink *link, KeeperLabel label, uint64_t process, uint32_t run);
