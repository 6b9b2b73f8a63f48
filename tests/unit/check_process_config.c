/* SPDX-License-Identifier: MIT */

#include "daemon/engine/process-config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper-message.h"
#include "tests/support/check-main.h"

static Error error;

static int parse(ProcessConfig *ret_config, const char *text) {
        json_t *object = json_loads(text, JSON_ALLOW_NUL, NULL);
        Params params;
        int r;

        ck_assert_msg(object, "%s", text);
        error = (Error){};
        ck_assert_int_eq(params_init(&params, object, &error), 0);
        r = process_config_parse(ret_config, &params, &error);
        json_decref(object);
        return r;
}

START_TEST(what_is_left_out_has_a_default)
{
        ProcessConfig config;

        ck_assert_int_eq(parse(&config, "{\"argv\":[\"a\"]}"), 0);
        ck_assert_uint_eq(config.n_argv, 1);
        ck_assert_uint_eq(config.n_env, 0);
        ck_assert_str_eq(config.cwd, "/");
        ck_assert_ptr_null(config.name);
        ck_assert_int_eq(config.stdin_config.kind, STDIO_PIPE);
        ck_assert_int_eq(config.stdout_config.kind, STDIO_PIPE);
        ck_assert_int_eq(config.stderr_config.kind, STDIO_PIPE);
        ck_assert_int_eq(config.lease, LEASE_NONE);
        ck_assert_int_eq(config.stop_signal, 15);
        ck_assert_int_eq(config.umask, 022);
        ck_assert_uint_eq(config.timeout_usec, 0);
        ck_assert_uint_eq(config.kill_after_usec, 10000000);
        ck_assert_uint_eq(config.lease_grace_usec, 10000000);
        ck_assert_uint_eq(config.retention_bytes, 64 * 1024 * 1024);
        ck_assert(!config.remove_when_ended && !config.wait_on_full_disk);
        process_config_deinit(&config);
}
END_TEST

static const char *const wrong[] = {
        "{}",
        "{\"argv\":[]}",
        "{\"argv\":\"a\"}",
        "{\"argv\":[1]}",
        "{\"argv\":[\"a\\u0000b\"]}",
        "{\"argv\":[{\"base64\":\"YQBi\"}]}",
        "{\"argv\":[{\"base64\":\"?\"}]}",
        "{\"argv\":[\"a\"],\"env\":{}}",
        "{\"argv\":[\"a\"],\"env\":[\"A\"]}",
        "{\"argv\":[\"a\"],\"env\":[\"=A\"]}",
        "{\"argv\":[\"a\"],\"env\":[\"A=1\",2]}",
        "{\"argv\":[\"a\"],\"cwd\":\"relative\"}",
        "{\"argv\":[\"a\"],\"cwd\":\"\"}",
        "{\"argv\":[\"a\"],\"cwd\":1}",
        "{\"argv\":[\"a\"],\"name\":\"\"}",
        "{\"argv\":[\"a\"],\"name\":\"12\"}",
        "{\"argv\":[\"a\"],\"name\":\"a/b\"}",
        "{\"argv\":[\"a\"],\"name\":\"a*\"}",
        "{\"argv\":[\"a\"],\"name\":\"a?\"}",
        "{\"argv\":[\"a\"],\"name\":\"[a\"}",
        "{\"argv\":[\"a\"],\"name\":\"a\\n\"}",
        "{\"argv\":[\"a\"],\"name\":\"a\\u007f\"}",
        "{\"argv\":[\"a\"],\"name\":5}",
        "{\"argv\":[\"a\"],\"stdin\":\"log\"}",
        "{\"argv\":[\"a\"],\"stdin\":\"stdout\"}",
        "{\"argv\":[\"a\"],\"stdout\":\"open\"}",
        "{\"argv\":[\"a\"],\"stdout\":\"stdout\"}",
        "{\"argv\":[\"a\"],\"stderr\":\"stderr\"}",
        "{\"argv\":[\"a\"],\"stderr\":1}",
        "{\"argv\":[\"a\"],\"stdout\":{\"file\":\"x\"}}",
        "{\"argv\":[\"a\"],\"stdout\":{}}",
        "{\"argv\":[\"a\"],\"stdout\":{\"file\":\"/x\",\"y\":1}}",
        "{\"argv\":[\"a\"],\"timeout_usec\":0}",
        "{\"argv\":[\"a\"],\"timeout_usec\":9223372036854775807}",
        "{\"argv\":[\"a\"],\"kill_after_usec\":-1}",
        "{\"argv\":[\"a\"],\"stop_signal\":0}",
        "{\"argv\":[\"a\"],\"stop_signal\":65}",
        "{\"argv\":[\"a\"],\"stop_signal\":\"TERM\"}",
        "{\"argv\":[\"a\"],\"rm\":1}",
        "{\"argv\":[\"a\"],\"lease\":\"forever\"}",
        "{\"argv\":[\"a\"],\"lease\":0}",
        "{\"argv\":[\"a\"],\"lease\":-5}",
        "{\"argv\":[\"a\"],\"lease\":true}",
        "{\"argv\":[\"a\"],\"retention_bytes\":65535}",
        "{\"argv\":[\"a\"],\"full_disk\":\"panic\"}",
        "{\"argv\":[\"a\"],\"umask\":512}",
};

START_TEST(wrong_values_are_refused_and_nothing_leaks)
{
        ProcessConfig config = { .n_argv = 77 };

        ck_assert_msg(parse(&config, wrong[_i]) == -EINVAL, "%s is taken", wrong[_i]);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_uint_ne(strlen(error.text), 0);
        ck_assert_uint_eq(config.n_argv, 77);
}
END_TEST

START_TEST(a_name_has_at_most_128_bytes)
{
        ProcessConfig config;
        char text[300], name[130];

        for (size_t size = 128; size <= 129; size++) {
                memset(name, 'n', size);
                name[size] = '\0';
                (void)snprintf(text, sizeof(text), "{\"argv\":[\"a\"],\"name\":\"%s\"}", name);
                ck_assert_int_eq(parse(&config, text), size == 128 ? 0 : -EINVAL);
                if (size == 128)
                        process_config_deinit(&config);
        }
}
END_TEST

START_TEST(whose_client_is_gone_has_a_short_grace_unless_one_was_asked_for)
{
        static const struct {
                const char *text;
                uint64_t kill_after_usec, lease_grace_usec;
        } cases[] = {
                { "{\"argv\":[\"a\"],\"lease\":\"client\"}", 10000000, 500000 },
                { "{\"argv\":[\"a\"],\"lease\":\"client\",\"kill_after_usec\":10000000}", 10000000,
                  10000000 },
                { "{\"argv\":[\"a\"],\"lease\":\"client\",\"kill_after_usec\":100}", 100, 100 },
                { "{\"argv\":[\"a\"],\"lease\":\"client\",\"lease_grace_usec\":7}", 10000000, 7 },
                { "{\"argv\":[\"a\"],\"lease\":5000000}", 10000000, 10000000 },
        };
        ProcessConfig config;

        ck_assert_int_eq(parse(&config, cases[_i].text), 0);
        ck_assert_uint_eq(config.kill_after_usec, cases[_i].kill_after_usec);
        ck_assert_uint_eq(config.lease_grace_usec, cases[_i].lease_grace_usec);
        process_config_deinit(&config);
}
END_TEST

static const char *const right[] = {
        "{\"argv\":[\"a\",\"\",{\"base64\":\"/wE=\"}],\"env\":[\"A=\",{\"base64\":\"Qj3/"
        "\"}],\"cwd\":{\"base64\":\"L/8=\"},"
        "\"name\":{\"base64\":\"/w==\"}}",
        "{\"argv\":[\"a\"],\"stdin\":{\"file\":\"/in\"},\"stdout\":{\"file\":{\"base64\":\"L/"
        "8=\"}},\"stderr\":\"stdout\"}",
        "{\"argv\":[\"a\"],\"stdin\":\"null\",\"stdout\":\"null\",\"stderr\":\"null\",\"lease\":\"client\"}",
        "{\"argv\":[\"a\"],\"stderr\":{\"file\":\"/"
        "e\"},\"lease\":123456,\"timeout_usec\":1,\"kill_after_usec\":0}",
        "{\"argv\":[\"a\"],\"retention_bytes\":65536,\"full_disk\":\"wait\",\"umask\":511,\"rm\":true,\"stop_"
        "signal\":64}",
};

START_TEST(what_the_registry_keeps_reads_back_the_same)
{
        ProcessConfig config, again;
        json_t *first, *second;
        char *text;

        ck_assert_int_eq(parse(&config, right[_i]), 0);
        first = process_config_to_json(&config);
        ck_assert_ptr_nonnull(first);
        text = json_dumps(first, JSON_COMPACT);
        ck_assert_int_eq(process_config_from_text(&again, text, &error), 0);
        second = process_config_to_json(&again);
        ck_assert(json_equal(first, second));
        ck_assert_uint_eq(again.n_argv, config.n_argv);
        for (size_t i = 0; i < config.n_argv; i++)
                ck_assert_str_eq(again.argv[i], config.argv[i]);
        for (size_t i = 0; i < config.n_env; i++)
                ck_assert_str_eq(again.env[i], config.env[i]);
        ck_assert_str_eq(again.cwd, config.cwd);
        ck_assert_int_eq(again.lease, config.lease);
        ck_assert_uint_eq(again.lease_usec, config.lease_usec);
        ck_assert_uint_eq(again.timeout_usec, config.timeout_usec);
        ck_assert_int_eq(again.stderr_config.kind, config.stderr_config.kind);
        ck_assert_int_eq(again.stop_signal, config.stop_signal);
        ck_assert_int_eq(again.umask, config.umask);
        ck_assert_int_eq(again.wait_on_full_disk, config.wait_on_full_disk);
        ck_assert_int_eq(again.remove_when_ended, config.remove_when_ended);
        json_decref(first);
        json_decref(second);
        free(text);
        process_config_deinit(&config);
        process_config_deinit(&again);
}
END_TEST

START_TEST(a_damaged_record_is_said_to_be_one)
{
        ProcessConfig config;

        ck_assert_int_lt(process_config_from_text(&config, "{\"argv\":[", &error), 0);
        ck_assert_int_eq(error.code, ERROR_SYSTEM);
        ck_assert_int_lt(process_config_from_text(&config, "[]", &error), 0);
        ck_assert_int_lt(process_config_from_text(&config, "{}", &error), 0);
}
END_TEST

START_TEST(the_spec_holds_every_byte)
{
        static const char strings[] = "a\0b c\0\xff\0A=1\0B=\xfe\0/d\0M=1";
        ProcessConfig config;
        KeeperSpec header;
        char *bytes;
        size_t n;

        ck_assert_int_eq(parse(&config, "{\"argv\":[\"a\",\"b c\",{\"base64\":\"/w==\"}],\"env\":[\"A=1\","
                                        "{\"base64\":\"Qj3+\"}],\"cwd\":\"/d\",\"umask\":63}"),
                         0);
        ck_assert_int_eq(process_config_spec(&config, "M=1", &bytes, &n, &error), 0);
        ck_assert_uint_eq(n, sizeof(header) + sizeof(strings));
        memcpy(&header, bytes, sizeof(header));
        ck_assert_uint_eq(header.magic, KEEPER_SPEC_MAGIC);
        ck_assert_uint_eq(header.size, (uint32_t)n);
        ck_assert_uint_eq(header.n_args, 3);
        ck_assert_uint_eq(header.n_env, 2);
        ck_assert_uint_eq(header.umask, 077);
        ck_assert_mem_eq(bytes + sizeof(header), strings, sizeof(strings));
        free(bytes);
        process_config_deinit(&config);
}
END_TEST

START_TEST(without_env_it_can_still_be_freed)
{
        ProcessConfig config;

        ck_assert_int_eq(parse(&config, right[0]), 0);
        process_config_drop_env(&config);
        ck_assert_ptr_null(config.env);
        ck_assert_uint_eq(config.n_env, 0);
        process_config_drop_env(&config);
        process_config_deinit(&config);
        process_config_deinit(&config);
}
END_TEST

static Suite *process_config_suite(void) {
        Suite *suite = suite_create("process-config");
        TCase *parsing = tcase_create("parse"), *keeping = tcase_create("keep");

        tcase_add_test(parsing, what_is_left_out_has_a_default);
        tcase_add_loop_test(parsing, wrong_values_are_refused_and_nothing_leaks, 0, ARRAY_SIZE(wrong));
        tcase_add_test(parsing, a_name_has_at_most_128_bytes);
        tcase_add_loop_test(keeping, whose_client_is_gone_has_a_short_grace_unless_one_was_asked_for, 0, 5);
        tcase_add_loop_test(keeping, what_the_registry_keeps_reads_back_the_same, 0, ARRAY_SIZE(right));
        tcase_add_test(keeping, a_damaged_record_is_said_to_be_one);
        tcase_add_test(keeping, the_spec_holds_every_byte);
        tcase_add_test(keeping, without_env_it_can_still_be_freed);
        suite_add_tcase(suite, parsing);
        suite_add_tcase(suite, keeping);
        return suite;
}

CHECK_MAIN(process_config_suite);
