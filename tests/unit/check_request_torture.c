/* SPDX-License-Identifier: MIT */

/* Out of memory at every single allocation of the engine while it serves a request: an error, a closed
 * connection or an engine that ends before it has told anyone, but never a crash, and no process is lost. */

#include "tests/support/torture.h"

#include "tests/support/engine-fixture.h"

/* The engine ends when there is no memory for jansson, which does not bear it: see engine_json_malloc(). */
static void *json_malloc(size_t size) {
        bool on = torture_on;
        void *p;

        torture_on = false;
        p = malloc(size);
        torture_on = on;
        return p;
}

typedef struct Case {
        const char *before[6]; /* done with enough memory: method, params, … */
        const char *method;
        const char *params;
} Case;

static const Case cases[] = {
        { {},
          "run",
          "{\"argv\":[\"cat\"],\"env\":[\"A=b\"],\"name\":\"n\",\"key\":\"k\",\"data\":\"x\",\"eof\":true}" },
        { {},
          "run",
          "{\"argv\":[\"quit\"],\"rm\":true,\"lease\":1000000,\"subscribe\":{\"stream\":1,\"lossless\":true}"
          "}" },
        { {}, "run", "{\"argv\":[\"fail\"],\"timeout_usec\":1000000}" },
        { { "run", "{\"argv\":[\"quit\"]}" }, "start", "{\"target\":1,\"key\":\"k\"}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "restart", "{\"target\":1,\"grace_usec\":0}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "stop", "{\"targets\":[1],\"now\":true}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "signal", "{\"targets\":[1],\"signal\":15,\"scope\":\"tree\"}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "pause", "{\"targets\":[1]}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "remove", "{\"targets\":[1],\"force\":true}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "list", "{}" },
        { { "run", "{\"argv\":[\"cat\"]}", "subscribe", "{\"target\":1,\"stream\":2}" },
          "show",
          "{\"target\":1}" },
        { { "run", "{\"argv\":[\"full\"]}" }, "subscribe", "{\"target\":1,\"stream\":1,\"last_lines\":9}" },
        { { "run", "{\"argv\":[\"cat\"]}", "subscribe", "{\"target\":1,\"stream\":2}" },
          "unsubscribe",
          "{\"stream\":2}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "open-stdin", "{\"target\":1,\"stream\":1,\"writer\":\"w\"}" },
        { { "run", "{\"argv\":[\"cat\"]}", "open-stdin", "{\"target\":1,\"stream\":1}", "subscribe",
            "{\"target\":1,\"stream\":2}" },
          "write",
          "{\"target\":1,\"data\":\"abc\",\"eof\":true,\"drain\":true,\"timeout_usec\":1,\"key\":\"k\"}" },
        { { "run", "{\"argv\":[\"cat\"]}" },
          "write",
          "{\"target\":1,\"data\":\"abc\",\"consumed\":true,\"eof\":true,\"key\":\"k\"}" },
        { { "run", "{\"argv\":[\"quit\"]}" },
          "read",
          "{\"target\":1,\"for\":\"pattern\",\"pattern\":\"t(w)o\",\"key\":\"k\",\"timeout_usec\":1}" },
        { { "run", "{\"argv\":[\"cat\"]}" },
          "ask",
          "{\"target\":1,\"data\":\"a\\n\",\"for\":\"line\",\"key\":\"k\",\"timeout_usec\":1000000}" },
        { { "run", "{\"argv\":[\"quit\"]}" },
          "wait",
          "{\"targets\":[1],\"timeout_usec\":1,\"conditions\":[{\"for\":\"pattern\",\"pattern\":\"t(w)o\"},{"
          "\"for\":\"quiet\",\"quiet_usec\":1},{\"for\":\"exited\"}]}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "cancel-input", "{\"target\":1}" },
        { { "run", "{\"argv\":[\"cat\"]}" }, "wait", "{\"targets\":[1],\"timeout_usec\":1}" },
        { { "run", "{\"argv\":[\"quit\"]}" }, "events", "{\"stream\":1,\"follow\":false}" },
        { { "run", "{\"argv\":[\"late\"]}" }, "cancel", "{\"request\":1073741825}" },
        { {}, "daemon-status", "{}" },
        { { "run", "{\"argv\":[\"hold\"]}" }, "daemon-stop", "{\"grace_usec\":0}" },
        { {}, "nonsense", "{\"a\":1}" },
};

/* Ids go on counting: the first process of this client is named instead. */
static char *with_id(const char *params, uint64_t id) {
        char number[24];
        const char *at;
        char *text;

        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)id);
        at = strstr(params, "\"target\":1");
        if (!at)
                at = strstr(params, "\"targets\":[1");
        if (!at)
                return strdup(params);
        at = strchr(at, '1');
        ck_assert_int_gt(asprintf(&text, "%.*s%s%s", (int)(at - params), params, number, at + 1), 0);
        return text;
}

static void request(FixtureClient *client, const char *method, const char *params) {
        Process *last = list_empty(&engine.supervisor.processes)
                                ? NULL
                                : CONTAINER_OF(engine.supervisor.processes.prev, Process, link);
        char *text = with_id(params, last ? last->id : 1);

        (void)fixture_request(client, method, text);
        free(text);
}

/* Turns in which only the engine runs short of memory. Return: whether it did. */
static bool tortured_turns(FixtureClient *client, long n) {
        unsigned idle = 0;
        bool busy;

        torture_begin(n);
        torture_on = false;
        for (unsigned i = 0; i < 60 && idle < 3 && !engine.quit; i++) {
                torture_on = true;
                (void)event_base_loop(engine.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
                busy = engine_finish_turn(&engine);
                torture_on = false;
                if (fake_keeper_turn())
                        busy = true;
                if (fixture_read(client))
                        busy = true;
                idle = busy ? 0 : idle + 1;
        }
        return torture_end();
}

static void ends_well(FixtureClient *client, bool failed, const Case *c, long n) {
        json_t *error = client->last ? json_object_get(client->last, "error") : NULL;
        const char *code;

        if (!failed)
                return;
        if (client->eof || engine.quit || !error)
                return; /* some do without the memory */
        code = json_string_value(json_object_get(json_object_get(error, "data"), "code"));
        ck_assert_msg(code, "%s, allocation %ld: an error without a code", c->method, n);
}

static void one(const Case *c, long n, bool *ret_failed) {
        FixtureClient client;

        fixture_connect(&client);
        ck_assert_int_ge(client.fd, 0);
        fixture_hello(&client);
        for (unsigned i = 0; i < 6 && c->before[i]; i += 2) {
                request(&client, c->before[i], c->before[i + 1]);
                fixture_settle(&client);
        }
        request(&client, c->method, c->params);
        *ret_failed = tortured_turns(&client, n);
        ends_well(&client, *ret_failed, c, n);
        if (engine.quit && engine.status != 0)
                fixture_restart();
        fixture_disconnect(&client);
        fixture_clean();
}

START_TEST(no_memory_at_any_allocation)
{
        const Case *c = &cases[_i];
        bool failed = true;
        int fds;

        json_set_alloc_funcs(json_malloc, free);
        fixture_open();
        one(c, TORTURE_MAX, &failed); /* what is made once */
        ck_assert(!failed);
        fixture_restart();
        fds = open_fds_count();
        failed = true;
        for (long n = 0; failed; n++) {
                ck_assert_int_lt(n, TORTURE_MAX);
                one(c, n, &failed);
                fixture_restart(); /* closes what logs hold open */
                ck_assert_msg(open_fds_count() == fds, "%s, allocation %ld: a descriptor is left", c->method,
                              n);
        }
        fixture_close();
}
END_TEST

static Suite *request_torture_suite(void) {
        Suite *suite = suite_create("request_torture");
        TCase *tcase = tcase_create("torture");

        tcase_set_timeout(tcase, 300);
        if (TORTURE_POSSIBLE)
                tcase_add_loop_test(tcase, no_memory_at_any_allocation, 0, ARRAY_SIZE(cases));
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(request_torture_suite);
