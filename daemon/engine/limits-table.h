/* SPDX-License-Identifier: MIT */

/* Every bound of the engine. daemon-status shows those with a wire name, with their use; the others bound one request or one turn.
 *      NAME                     value               wire name                what is bounded */
LIMIT(  CLIENTS,                 4096,               "clients")               /* connections */
LIMIT(  REQUESTS_PER_CLIENT,     256,                "requests-per-client")   /* requests of one connection that wait */
LIMIT(  STREAMS_PER_CLIENT,      256,                "streams-per-client")    /* streams of one connection */
LIMIT(  PROCESSES,               20000,              "processes")             /* known, running or not */
LIMIT(  EVENTS,                  10000,              "events")                /* kept for those who come back */
LIMIT(  KEYS,                    10000,              "keys")                  /* of requests that were carried out, kept for an hour */
LIMIT(  FRAME_BYTES,             64 * 1024 * 1024,   "frame-bytes")           /* half-received large frames, all together */
LIMIT(  REPLY_BYTES,             256 * 1024,         "reply-bytes")           /* unread replies before a client is not read from */
LIMIT(  CURSORS,                 64,                 "cursors")               /* named places in the log of one process */
LIMIT(  READ_BYTES,              8 * 1024 * 1024,    NULL)/* in the answer to one read */
LIMIT(  STDIN_BYTES,             16 * 1024 * 1024,   "stdin-bytes")           /* accepted and not taken, per process */
LIMIT(  WAITING_WRITE_BYTES,     64 * 1024 * 1024,   "waiting-write-bytes")   /* of writes that wait for room, all together */
LIMIT(  QUEUED_RUN_BYTES,        64 * 1024 * 1024,   "queued-run-bytes")      /* of runs that wait for their turn in a queue, all together */
LIMIT(  STDIN_WINDOW,            1024 * 1024,        NULL)/* a writer may send so far ahead */
LIMIT(  DATA_FRAME_BYTES,        256 * 1024,         NULL)/* data in one frame to a client */
LIMIT(  DATA_FRAME_SAFE_BYTES,   64 * 1024,          NULL)/* the same where it is not known what the socket takes */
LIMIT(  BATCH_BYTES,             32 * 1024,          NULL)/* small frames to one client in one write */
LIMIT(  SEND_BUFFER_BYTES,       256 * 1024,         NULL)/* asked for in the socket of a client that reads much */
LIMIT(  WIDE_SEND_BUFFER_BYTES,  2048 * 1024,        NULL)/* the same for the first of them */
LIMIT(  WIDE_CLIENTS,            64,                 "wide-clients")          /* that have so much: the kernel may hold twice that for each */
LIMIT(  PUMP_BYTES,              1024 * 1024,         NULL)/* data to one subscription in one turn */
LIMIT(  SPLICE_BYTES,            1024 * 1024,        NULL)/* data from one pipe in one turn */
LIMIT(  PIPE_BYTES,              64 * 1024,          NULL)/* in the pipe of an output */
LIMIT(  WIDE_PIPE_BYTES,         1024 * 1024,        NULL)/* the same while it flows, if the kernel allows it */
LIMIT(  WIDE_PIPES,              16,                 "wide-pipes")            /* pipes that are so wide: with a second one behind each, half of what a user's pipes may hold */
LIMIT(  WAIT_CONDITIONS,         64,                 NULL)/* conditions of one wait */
LIMIT(  WAIT_TERMS,              4096,               NULL)/* conditions of one wait, times their processes */
LIMIT(  ALL_WAIT_TERMS,          65536,              "wait-terms")            /* the same of all waits together */
LIMIT(  ALL_WAIT_TARGETS,        512 * 1024,         "wait-targets")          /* processes of the waits without conditions, all together */
LIMIT(  WAITING_READS,           65536,              "waiting-reads")         /* reads and asks that wait, all together */
LIMIT(  LIST_TARGETS,            20000,              NULL)/* targets of one request */
LIMIT(  ARGUMENTS,               262144,             NULL)/* strings in argv or env */
LIMIT(  OPEN_LOGS,               1024,               "open-logs")             /* logs that hold descriptors; the rest opens again when needed */
