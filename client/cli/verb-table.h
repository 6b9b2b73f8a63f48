/* SPDX-License-Identifier: MIT */

/* Every verb, once: dispatch, help, completion and the manual's test read this table.
 *      name            alias       function            usage after the name, and what it does */
VERB(   "run",          NULL,       verb_run,
        "[-d] [-n NAME] [-w DIR] [-e K=V]... [--timeout T] [--rm] [OPTION]... -- CMD ARG...",
        "start a process, stream its output, exit as it did")
VERB(   "start",        NULL,       verb_start,         "TARGET...|--all", "another run of a process that has ended")
VERB(   "stop",         NULL,       verb_stop,          "[-T T] [-s SIG] [--now] TARGET...|--all",
        "end a process with all of its descendants")
VERB(   "restart",      NULL,       verb_restart,       "[-T T] TARGET...|--all", "stop, then start")
VERB(   "pause",        NULL,       verb_pause,         "TARGET...|--all", "freeze a process with all of its descendants")
VERB(   "resume",       NULL,       verb_resume,        "TARGET...|--all", "let it go on")
VERB(   "rm",           "remove",   verb_remove,        "[-f] TARGET...|--all", "forget a process and delete its log")
VERB(   "signal",       "kill",     verb_signal,        "[-s SIG] [--main|--group|--tree] TARGET...|--all", "send a signal")
VERB(   "ps",           "list",     verb_ps,            "[-a] [--filter K=V]...", "list processes")
VERB(   "status",       NULL,       verb_status,        "TARGET", "one line; exit status 0 running, 3 not, 4 unknown")
VERB(   "show",         NULL,       verb_show,          "TARGET", "everything known of a process")
VERB(   "logs",         NULL,       verb_logs,
        "[-f] [-n N] [--since T] [--from OFFSET] [--run R] [-t] [OPTION]... TARGET...|--all",
        "print what a process wrote, byte for byte")
VERB(   "follow",       NULL,       verb_follow,        "[OPTION]... TARGET...|--all", "the same as logs -f")
VERB(   "read",         NULL,       verb_read,
        "[--line|--bytes N|--exactly N|--until SEP|--expect REGEX|--quiet T|--eof] [--timeout T] [OPTION]... TARGET",
        "print the next of what a process wrote, and move a cursor behind it")
VERB(   "ask",          NULL,       verb_ask,
        "[-N] [--line|--until SEP|--expect REGEX|--quiet T] [--timeout T] [OPTION]... TARGET [TEXT...]",
        "write to a process and print what it wrote back")
VERB(   "cursor",       "cursors",  verb_cursor,
        "[ls] TARGET | set TARGET NAME OFFSET|start|end | rm TARGET NAME...",
        "list, set or delete the places where readers are")
VERB(   "write",        "send",     verb_write,
        "[-N] [--eof] [--drain] [--consumed] [--timeout T] [--lock TOKEN] TARGET [TEXT...]",
        "write to a process's stdin; without TEXT, copy stdin")
VERB(   "close-stdin",  NULL,       verb_close_stdin,   "[--lock TOKEN] TARGET...", "end of file on its stdin, after what was written")
VERB(   "cancel-input", NULL,       verb_cancel_input,  "[--lock TOKEN] TARGET...", "drop what was written and not yet read")
VERB(   "lock",         "lock-stdin", verb_lock,        "[--for T] [--holder TEXT] [--lock TOKEN] TARGET",
        "hold a process's stdin for oneself; prints the token")
VERB(   "unlock",       "unlock-stdin", verb_unlock,    "TARGET TOKEN", "let others write again")
VERB(   "renew",        NULL,       verb_renew,         "TARGET...", "renew the lease of run --lease T")
VERB(   "wait",         NULL,       verb_wait,
        "[--for exited|closed|empty|ready|running|pattern=REGEX|quiet=T|bytes=N|state=S]... [--any] [--timeout T] TARGET...|--all",
        "wait for a process, exit as it did")
VERB(   "batch",        NULL,       verb_batch,
        "[-j N] [--keep-going] [--timeout T] [--rm] [--shell] [--lease client|none] [FILE]",
        "run the commands of FILE or stdin, results in order")
VERB(   "events",       NULL,       verb_events,        "[-f] [--since SEQ]", "what happened to processes")
VERB(   "daemon",       NULL,       verb_daemon,        "status|stop [-T T]|upgrade", "the daemon itself")
VERB(   "version",      NULL,       verb_version,       "", "the versions of client and daemon")
VERB(   "help",         NULL,       verb_help,          "[VERB]", "this list, or the help of a verb")
