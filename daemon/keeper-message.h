/* SPDX-License-Identifier: MIT */
#pragma once

/* The messages between keeper and engine, in one table: fixed-size structs over SOCK_SEQPACKET, descriptors
 * beside them. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/macro.h"

/* The engine finds its end of the socket at this descriptor. */
#define KEEPER_ENGINE_FD 3

/*      NAME          number   direction and meaning; fds that travel with it, in this order */
#define KEEPER_MESSAGES(X)                                                                                   \
        /* keeper to engine: the handover, in this order: HELLO, (FD or FDS)*, CHILD*, READY */              \
        X(HELLO, 1)   /* instance, engine_restarts, n_watchdog_usec in usec; pid: the keeper's */            \
        X(FD, 2)      /* label, process, run; 1 fd */                                                        \
        X(CHILD, 3)   /* process, run, pid, state (KEEPER_CHILD_*), and as SPAWNED or EXITED; no fds */      \
        X(READY, 4)   /* the handover is complete */                                                         \
        X(SPAWNED, 5) /* process, run; state RUNNING with pid and usec (real time), or FAILED with error and \
                         text (the step) */                                                                  \
        X(EXITED, 6)  /* process, run, pid, state EXITED, wait_code, wait_status, usage, usec (real time of  \
                         the reap); comes alone where the child ended before SPAWNED could be sent */        \
        X(REAPED,                                                                                            \
          7) /* pid: an orphan that was adopted has ended; a hint that a tree may have become empty */       \
        X(SIGNALLED, 8)  /* process, run, error (0 or errno): the answer to SIGNAL */                        \
        X(PING, 9)       /* answer PONG; sent only when a watchdog is configured */                          \
        X(TERMINATE, 10) /* the daemon was asked to stop (SIGTERM): stop every process, then send STOPPED */ \
        X(FDS, 11)       /* several FD in one: as many fds as descriptors that 'text' names (KeeperHeld) */  \
        X(HELD, 12)      /* label, process, run, error (0 or errno): the answer to a PUT that asks for it */ \
        /* engine to keeper */                                                                               \
        X(SPAWN, 32)  /* process, run, flags (KEEPER_SPAWN_*); fds: see KEEPER_SPAWN_* */                    \
        X(PUT, 33)    /* label, process, run; 1 fd, replaces one of the same label, process and run; flags   \
                         (KEEPER_PUT_TELL: answer HELD) */                                                   \
        X(DROP, 34)   /* label, process, run, flags (KEEPER_LABEL_BIT of further ones): close them; harmless \
                         if they are not there */                                                            \
        X(SIGNAL, 35) /* process, run, signal, flags (1: the process group): kill(2) the main process if not \
                         reaped */                                                                           \
        X(FORGET, 36) /* process, run: its end or failure is recorded durably; flags as of DROP */           \
        X(PONG, 37)   /* */                                                                                  \
        X(STOPPED, 38) /* no process is left: exit with status 0 */                                          \
        X(UPGRADE, 39) /* text: path of the binary to execute in place, empty: the same path as now */       \
        X(SERVING, 40) /* the engine accepts clients: READY=1 to systemd, close the ready descriptor */

typedef enum KeeperMessageType {
#define X(name, number) KEEPER_##name = number,
        KEEPER_MESSAGES(X)
#undef X
} KeeperMessageType;

/* What a descriptor in the keeper's bag is. LISTENER has process 0; its run numbers the listeners from 0. */
typedef enum KeeperLabel {
        KEEPER_LABEL_NONE,
        KEEPER_LABEL_LISTENER,
        KEEPER_LABEL_STDIN,    /* engine's end of the pipe: write */
        KEEPER_LABEL_STDOUT,   /* read */
        KEEPER_LABEL_STDERR,   /* read */
        KEEPER_LABEL_POSITION, /* the open file of the stdin log whose offset is what has been delivered */
        KEEPER_LABEL_DISCARD,  /* a memfd whose size counts bytes that a full disk made us discard */
        KEEPER_LABEL_STDOUT_STAGE, /* read; a pipe behind that of STDOUT: what is in it comes before what is
                                      in that */
        KEEPER_LABEL_STDERR_STAGE, /* likewise */
        KEEPER_LABEL_N_,
} KeeperLabel;

#define KEEPER_LABEL_BIT(label) (UINT32_C(1) << (label))

#define KEEPER_PUT_TELL (1u << 0)

typedef enum KeeperChildState {
        KEEPER_CHILD_NONE,
        KEEPER_CHILD_RUNNING,
        KEEPER_CHILD_FAILED, /* never executed: error, text = step */
        KEEPER_CHILD_EXITED, /* reaped, waits for FORGET */
} KeeperChildState;

/* SPAWN: fds[0] is the spec (a sealed memfd, below) unless that stands behind the message in the same packet
 * (INLINE); then one for each bit that is set, lowest bit first.
 * The keeper passes CHILD_* to the child and closes them; ENGINE_* go into the bag under the label of the
 * same name, unless the spawn fails. Without CHILD_STDIN or CHILD_STDOUT the child gets /dev/null.
 *
 * A SPAWN of a (process, run) that the keeper holds already spawns nothing: what is known is told again.
 * After a failure the steps are: "spec" (EPROTO: malformed), "keeper" (ENOMEM, EMFILE: the keeper has no
 * room), "clone", "cgroup", "limit", "setsid", "stdin", "stdout", "stderr", "chdir", "exec". */
#define KEEPER_SPAWN_CHILD_STDIN (1u << 0)
#define KEEPER_SPAWN_CHILD_STDOUT (1u << 1)
#define KEEPER_SPAWN_CHILD_STDERR (1u << 2) /* not set: stderr is the same as stdout */
#define KEEPER_SPAWN_ENGINE_STDIN (1u << 3)
#define KEEPER_SPAWN_ENGINE_STDOUT (1u << 4)
#define KEEPER_SPAWN_ENGINE_STDERR (1u << 5)
#define KEEPER_SPAWN_CGROUP                                                                                  \
        (1u << 6) /* directory of the cgroup to be born in (CLONE_INTO_CGROUP; fallback: cgroup.procs) */

#define KEEPER_SPAWN_INLINE                                                                                  \
        (1u << 7) /* no descriptor: the spec follows, KEEPER_SPEC_INLINE_MAX bytes at most */
#define KEEPER_SPAWN_FDS (KEEPER_SPAWN_INLINE - 1)

#define KEEPER_TEXT_MAX 256 /* with NUL */

typedef struct KeeperUsage {
        uint64_t user_usec;
        uint64_t system_usec;
        uint64_t max_rss_bytes;
        uint64_t minor_faults;
        uint64_t major_faults;
        uint64_t in_blocks;
        uint64_t out_blocks;
        uint64_t voluntary_switches;
        uint64_t involuntary_switches;
} KeeperUsage;

typedef struct KeeperMessage {
        uint32_t type;    /* KeeperMessageType */
        uint32_t label;   /* KeeperLabel */
        uint64_t process; /* id, 0: none */
        uint32_t run;
        uint32_t flags;
        uint32_t state; /* KeeperChildState */
        int32_t pid;
        int32_t error; /* positive errno */
        int32_t signal;
        int32_t wait_code;   /* si_code of waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED */
        int32_t wait_status; /* si_status */
        uint32_t engine_restarts;
        uint32_t zero;
        uint64_t usec;
        uint8_t instance[16];
        KeeperUsage usage;
        char text[KEEPER_TEXT_MAX];
} KeeperMessage;

/* What one of the descriptors of FDS is. */
typedef struct KeeperHeld {
        uint64_t process;
        uint32_t run;
        uint32_t label; /* KeeperLabel */
} KeeperHeld;

#define KEEPER_HELD_MAX ((KEEPER_TEXT_MAX - 1) / sizeof(KeeperHeld)) /* in one FDS */

/* The spec of a SPAWN: this header, then NUL-terminated strings back to back: argv (n_args), env (n_env,
 * "K=V"), cwd (1), mark (1; "NAME=VALUE" that is added to env so that descendants can be found; empty: none).
 * The engine writes it, so the keeper only checks that counts and size agree. argv[0] without a slash is
 * looked up in the PATH of env (default /usr/local/bin:/usr/bin:/bin). */
#define KEEPER_SPEC_MAGIC UINT32_C(0x31535850)

typedef struct KeeperSpec {
        uint32_t magic;
        uint32_t size; /* of the whole block, header included */
        uint32_t n_args;
        uint32_t n_env;
        uint32_t umask;
        uint32_t zero;
} KeeperSpec;

#define KEEPER_SPEC_INLINE_MAX                                                                               \
        8192 /* bytes; a larger one goes in a memfd, which costs seven system calls more */

typedef struct KeeperPacket {
        KeeperMessage message;
        char spec[KEEPER_SPEC_INLINE_MAX];
} KeeperPacket;

/**
 * keeper_message_send() - send one message with its descriptors (borrowed)
 * Return: 0; -EAGAIN when the socket is full (only on a non-blocking socket); -EPIPE or -ECONNRESET when the
 * other side is gone; -errno.
 */
int keeper_message_send(int socket_fd, const KeeperMessage *message, const int *fds, size_t n_fds);

/** keeper_message_is_shortage() - whether what keeper_message_send() returned says that the kernel has no
 * memory for a message, or the user as many descriptors in flight as may be (unix(7), ETOOMANYREFS): later it
 * may succeed, and no call tells when. Pure. */
static inline bool keeper_message_is_shortage(int r) {
        return r == -ETOOMANYREFS || r == -ENOBUFS || r == -ENOMEM;
}

/**
 * keeper_message_receive() - receive one message
 * @ret_fds:  room for FD_PASS_MAX; received ones are owned by the caller
 *
 * Return: 1; 0 at end of file; -EAGAIN; -EPROTO (descriptors are closed) when the size or type is wrong;
 * -EMFILE when some of its descriptors found no room here: then *ret_message is valid and came without any;
 * -errno.
 */
int keeper_message_receive(int socket_fd, KeeperMessage *ret_message, int *ret_fds, size_t *ret_n_fds);

/** keeper_packet_send() - the same with a spec behind the message, at most KEEPER_SPEC_INLINE_MAX bytes. */
int keeper_packet_send(int socket_fd, const KeeperMessage *message, const void *spec, size_t spec_size,
                       const int *fds, size_t n_fds);
/** keeper_packet_receive() - the same as keeper_message_receive(), with what stands behind a SPAWN that says
 * so.
 * @ret_spec_size: 0 for any other. */
int keeper_packet_receive(int socket_fd, KeeperPacket *ret_packet, size_t *ret_spec_size, int *ret_fds,
                          size_t *ret_n_fds);
