/* SPDX-License-Identifier: MIT */
#pragma once

/* The options of each verb, as --help prints them. */

typedef struct VerbHelp {
        const char *name;
        const char *text;
} VerbHelp;

static const VerbHelp verb_helps[] = {
        { "run", "  -d, --detach          print the id once the program runs, and leave it running\n"
                 "  -n, --name NAME       a name to find it by\n"
                 "  -w, --cwd DIR         working directory (default: here)\n"
                 "  -e, --env K=V         add to its environment; K alone: as it is here\n"
                 "  --clean-env           give it nothing of this environment but PATH\n"
                 "  --shell TEXT          run TEXT by /bin/sh instead of a CMD\n"
                 "  --timeout T           stop it after T; then exit 124\n"
                 "  --kill-after T        between the stop signal and SIGKILL (default 10s)\n"
                 "  --stdin open|null|FILE\n"
                 "  --stdout log|null|FILE\n"
                 "  --stderr log|stdout|null|FILE\n"
                 "  --no-lossless         it need not wait for this client: output may be skipped here\n"
                 "  --retention SIZE      how much of its log to keep (default 64M)\n"
                 "  --rm                  forget it when it has ended\n"
                 "  --lease client|none|T stop it when this client goes away, or unless renewed within T\n" },
        { "stop", "  -T, --timeout T       before SIGKILL (default: what run --kill-after said)\n"
                  "  -s, --signal SIG      instead of TERM\n"
                  "  --now                 SIGKILL at once\n" },
        { "restart", "  -T, --timeout T       before SIGKILL\n" },
        { "rm", "  -f, --force           stop it first\n"
                "  --all                 all that have ended; with -f, all\n" },
        { "signal", "  -s, --signal SIG      default TERM; -9 and -KILL work, too\n"
                    "  --main                to its main process (default)\n"
                    "  --group               to the main process's group\n"
                    "  --tree                to every descendant\n" },
        { "ps", "  -a, --all             those that have ended, too\n"
                "  --filter K=V          only where state, name (a glob) or id is V\n" },
        { "logs", "  -f, --follow          go on until the process has ended\n"
                  "  -n, --lines N         begin N lines before the end\n"
                  "  --since T             begin at a time: 5m (ago), 12:00, 2026-01-31 12:00\n"
                  "  --from OFFSET         begin at a byte; or: start, end\n"
                  "  --run R               only run number R\n"
                  "  --stdout, --stderr    only that one\n"
                  "  -t, --timestamps      the time before each line\n"
                  "  --head N              end after N bytes\n"
                  "  --lossless            with -f: the process waits for this reader\n" },
        { "follow", "  The options are those of logs; -f is understood.\n" },
        { "write", "  -N, --no-newline      TEXT as it is\n"
                   "  --eof                 end of file after it\n"
                   "  --drain               wait until the process's pipe has taken it\n"
                   "  --timeout T           give up waiting (exit 124); what was accepted stays\n" },
        { "wait", "  --for WHAT            exited (default), closed, empty, ready, running\n"
                  "  --any                 the first of several will do\n"
                  "  --timeout T           exit 124\n" },
        { "events", "  -f, --follow          go on with what comes\n"
                    "  --since SEQ           only what came after that number\n" },
        { "daemon", "  status                who it is and what it holds\n"
                    "  stop [-T T]           stop every process and end\n"
                    "  upgrade               execute the installed pmuxd in its place; processes go on\n" },
};
