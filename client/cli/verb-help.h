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
                 "  --stdin open|null|inherit|fd:N|FILE\n"
                 "  --stdout log|null|inherit|fd:N|FILE\n"
                 "  --stderr log|stdout|null|inherit|fd:N|FILE\n"
                 "  --no-lossless         it need not wait for this client: output may be skipped here\n"
                 "  --retention SIZE      how much of its log to keep (default 64M)\n"
                 "  --rm                  forget it when it has ended\n"
                 "  --lease client|none|T stop it when this client goes away, or unless renewed within T\n"
                 "  --transcript          keep what is written to its stdin in the log, too\n"
                 "  --encoding NAME       decode it to UTF-8: UTF-8, latin-1, ... (see iconv -l)\n"
                 "  --invalid WHAT        bytes that are no characters: replace (default), refuse\n"
                 "  --format json         it is JSON: print a value a line\n" },
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
                  "  --lossless            with -f: the process waits for this reader\n"
                  "  --stdin               what was written to it, if it was run with --transcript\n"
                  "  --transcript          all three, each line after the stream's name\n"
                  "  --encoding NAME       decode it to UTF-8: UTF-8, latin-1, ... (see iconv -l)\n"
                  "  --invalid WHAT        bytes that are no characters: replace (default), refuse\n"
                  "  --format json         it is JSON: print a value a line\n" },
        { "follow", "  The options are those of logs; -f is understood.\n" },
        { "read", "  --from OFFSET         begin at a byte, not at the cursor; or: start, end\n"
                  "  --run R               begin at run R, and end with it\n"
                  "  --peek                the cursor stays\n"
                  "  --eof                 until its output is closed\n"
                  "  --cursor NAME         move this one, not 'default'\n"
                  "  --no-cursor           move none\n"
                  "  --line                up to the next newline\n"
                  "  --bytes N             up to N bytes, at least one (default)\n"
                  "  --exactly N           N bytes\n"
                  "  --until SEP           up to a separator; \\n \\t \\r \\0 \\\\ \\xNN stand for bytes\n"
                  "  --expect REGEX        up to what a PCRE2 pattern matches\n"
                  "  --quiet T             until nothing has come for T\n"
                  "  --max N               give up if that takes more than N bytes (default 1M, at most 8M)\n"
                  "  --timeout T           exit 124; what there is is printed and read again next time\n"
                  "  --stdout, --stderr    only that one\n"
                  "  --stdin               only what was written to its stdin (run --transcript)\n"
                  "  --encoding NAME       decode it to UTF-8: UTF-8, latin-1, ... (see iconv -l)\n"
                  "  --invalid WHAT        bytes that are no characters: replace (default), refuse\n"
                  "  --format json         it is JSON: print a value a line\n" },
        { "ask", "  -N, --no-newline      TEXT as it is; without TEXT, all of stdin\n"
                 "  --eof                 end of file after it\n"
                 "  --lock TOKEN          of pmux lock\n"
                 "  --cursor NAME         move this one, not 'default'\n"
                 "  --no-cursor           move none\n"
                 "  --line                up to the next newline\n"
                 "  --bytes N             up to N bytes, at least one\n"
                 "  --exactly N           N bytes\n"
                 "  --until SEP           up to a separator; \\n \\t \\r \\0 \\\\ \\xNN stand for bytes\n"
                 "  --expect REGEX        up to what a PCRE2 pattern matches\n"
                 "  --quiet T             until nothing has come for T (default: 300ms)\n"
                 "  --max N               give up if that takes more than N bytes (default 1M, at most 8M)\n"
                 "  --timeout T           exit 124; what there is is printed and read again next time\n"
                 "  --stdout, --stderr    only that one\n"
                 "  --stdin               only what was written to its stdin (run --transcript)\n"
                 "  --encoding NAME       decode it to UTF-8: UTF-8, latin-1, ... (see iconv -l)\n"
                 "  --invalid WHAT        bytes that are no characters: replace (default), refuse\n"
                 "  --format json         it is JSON: print a value a line\n" },
        { "cursor", "  ls                    (may be left out) offset and name of each\n"
                    "  set                   to an offset, start or end; makes one\n"
                    "  rm                    delete some; reading begins at the start again\n" },
        { "write", "  -N, --no-newline      TEXT as it is\n"
                   "  --eof                 end of file after it\n"
                   "  --drain               wait until the process's pipe has taken it\n"
                   "  --consumed            wait until the process has read it\n"
                   "  --timeout T           give up waiting (exit 124); what was accepted stays\n"
                   "  --lock TOKEN          of pmux lock\n" },
        { "close-stdin", "  --lock TOKEN          of pmux lock\n" },
        { "cancel-input", "  --lock TOKEN          of pmux lock\n" },
        { "lock", "  --for T               how long (100ms to 1h; default 30s)\n"
                  "  --holder TEXT         what others are told of who holds it\n"
                  "  --lock TOKEN          renew this one\n" },
        { "wait",
          "  --for WHAT            exited (default), closed, empty, ready, running, pattern=REGEX, quiet=T,\n"
          "                        bytes=N, state=S; may be given several times\n"
          "  --any                 the first of several will do\n"
          "  --timeout T           exit 124\n" },
        { "batch",
          "  -j, --jobs N          so many at a time (default 1, at most 200)\n"
          "  -k, --keep-going      a failure does not keep the others from being started\n"
          "  --timeout T           stop a command after T; its status is 124 then\n"
          "  --rm                  forget each process when its result is known\n"
          "  --shell               each line is run by /bin/sh -c\n"
          "  --lease client|none   whether they are stopped when this client goes away (default client)\n"
          "  A line of FILE is a command, split into words with quotes and backslashes, or a JSON array.\n"
          "  Nothing is expanded; blank lines and those that begin with # are passed over.\n" },
        { "events", "  -f, --follow          go on with what comes\n"
                    "  --since SEQ           only what came after that number\n" },
        { "daemon", "  status                who it is and what it holds\n"
                    "  stop [-T T]           stop every process and end\n"
                    "  upgrade               execute the installed pmuxd in its place; processes go on\n" },
};
