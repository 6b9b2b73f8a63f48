/* SPDX-License-Identifier: MIT */

/* ask: input, and what comes of it. What the pipes hold is logged first, so that what is read begins behind
 * it. With a key, where that is becomes durable before the input is accepted: whoever asks again, of this
 * engine or the next, reads on from there and writes nothing twice. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/request-key.h"
#include "daemon/engine/request-read.h"
#include "daemon/engine/request-write.h"

#define ASK_QUIET_USEC (UINT64_C(300) * 1000)

/* The write of an `ask`. */
typedef struct Ask {
        WriteParams write;
        bool is_accepted; /* by an earlier request with this key */
        uint64_t offset;  /* where what is read begins */
} Ask;

/* What a request with this key did before. *ret_answer is owned. Return: 1: it was answered; 0: it has none
 * yet, see the Ask; <0. */
static int ask_find_key(Request *request, Process *process, Ask *ask, char **ret_answer,
                        Error *reterr_error) {
        const char *key = ask->write.key;
        uint64_t accepted, taken, end;
        StdinWriter writer;
        RegistryKey done;
        StdinLog *log;
        bool eof;
        int r;

        writer = stdin_writer_hash(key, strlen(key));
        r = registry_get_read_key(request->host->supervisor->registry, key, &done, reterr_error);
        if (r <= 0)
                return r;
        *ret_answer = done.answer;
        if (done.process != process->id || (done.digest != 0 && done.digest != ask->write.digest))
                return request_key_taken(key, reterr_error);
        ask->offset = done.offset;
        if (*ret_answer)
                return 1;
        if ((r = process_stdin_log(process, &log, reterr_error)) < 0 ||
            (r = stdin_log_writer(log, &writer, &accepted, &taken, &end, &eof)) < 0)
                return r;
        ask->is_accepted = accepted != 0 || eof;
        return 0;
}

/* Takes the place in the log, then has the input accepted. */
static int ask_write(Request *request, Process *process, Ask *ask, uint64_t *ret_accepted,
                     Error *reterr_error) {
        RegistryKey done = { .digest = ask->write.digest, .process = process->id };
        const char *key = ask->write.key;
        Registry *registry = request->host->supervisor->registry;
        Log *log;
        int r;

        if (!ask->is_accepted) {
                if ((r = process_collect_outputs(process, reterr_error)) < 0 ||
                    (r = process_log(process, &log, reterr_error)) < 0)
                        return r;
                ask->offset = log_end(log);
        }
        if (!ask->is_accepted && key) {
                supervisor_store_runs(request->host->supervisor); /* what is committed must be whole */
                done.offset = ask->offset;
                if ((r = registry_put_read_key(registry, key, clock_realtime_usec(), &done, reterr_error)) <
                            0 ||
                    (r = registry_commit(registry, reterr_error)) < 0)
                        return r;
        }
        return write_accept(process, &ask->write, request->client->pid, ret_accepted, reterr_error);
}

static int ask_begin(Request *request, Process *process, Ask *ask, ReadWish *wish, Error *reterr_error) {
        Match *match;
        Log *log;
        int r;

        r = match_new(&match, &wish->spec, reterr_error);
        if (r < 0)
                return r;
        r = ask_write(request, process, ask, &wish->accepted, reterr_error);
        if (r >= 0)
                r = process_log(process, &log, reterr_error);
        if (r >= 0) {
                r = log_seek_offset(log, &wish->options.begin, ask->offset);
                if (r < 0)
                        (void)log_explain(log, r, "cannot find the place in the log", reterr_error);
        }
        if (r < 0) {
                (void)match_free(match);
                return r;
        }
        return read_begin(request, process, match, wish, reterr_error);
}

int request_ask(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(read_wish_deinit)
        ReadWish wish = { .is_ask = true, .options = { .quiet_usec = ASK_QUIET_USEC } };
        char *answer = NULL;
        Process *process;
        Ask ask = {};
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = read_parse(&wish, params, MATCH_QUIET, reterr_error)) < 0 ||
            (r = read_check_sources(process, wish.options.sources, reterr_error)) < 0 ||
            (r = read_may_wait(request, reterr_error)) < 0)
                return r;
        r = write_params_parse(&ask.write, "ask", params, reterr_error);
        wish.digest = ask.write.digest;
        if (r >= 0 && wish.key)
                r = ask_find_key(request, process, &ask, &answer, reterr_error);
        if (r > 0)
                r = read_repeat(process, answer, ret_result, reterr_error);
        else if (r == 0)
                r = ask_begin(request, process, &ask, &wish, reterr_error);
        free(answer);
        write_params_deinit(&ask.write);
        return r;
}
