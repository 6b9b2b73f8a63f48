/* SPDX-License-Identifier: MIT */

/* The writers that are remembered: the latest ones, each with the latest that was said of it. */

#include "daemon/engine/stdin-writer.h"

#include <string.h>

#include "tests/support/check-main.h"

static KnownWriter writer(unsigned number) {
        return (KnownWriter){ .writer = stdin_writer_hash(&number, sizeof(number)), .accepted = number };
}

static bool knows(StdinWriters *writers, unsigned number, uint64_t accepted) {
        KnownWriter wanted = writer(number), known;

        if (!stdin_writers_get(writers, &wanted.writer, &known))
                return false;
        ck_assert_mem_eq(&known.writer, &wanted.writer, sizeof(known.writer));
        ck_assert_uint_eq(known.accepted, accepted);
        return true;
}

START_TEST(ids_are_the_published_hash)
{
        static const struct {
                const char *key;
                uint8_t id[STDIN_WRITER_ID_SIZE]; /* the first of FNV-1a of 128 bits, lowest first */
        } rows[] = {
                { "", { 0x8d, 0xc5, 0x95, 0x62, 0x75, 0x21, 0xb8, 0x62, 0x42, 0x01, 0xbb, 0x07 } },
                { "a", { 0x64, 0x89, 0x4a, 0x4e, 0x70, 0x2b, 0x91, 0x78, 0xaf, 0x8c, 0x1a, 0x6f } },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                StdinWriter id = stdin_writer_hash(rows[i].key, strlen(rows[i].key));

                ck_assert_mem_eq(id.id, rows[i].id, STDIN_WRITER_ID_SIZE);
        }
}
END_TEST

START_TEST(nobody_is_known_at_first)
{
        ck_assert(!knows(NULL, 1, 0));
        ck_assert_ptr_null(stdin_writers_free(NULL));
}
END_TEST

START_TEST(what_was_said_last_is_known)
{
        CLEANUP(stdin_writers_free) StdinWriters *writers = NULL;
        KnownWriter known;

        for (unsigned i = 0; i < STDIN_WRITERS_MAX; i++) {
                known = writer(i);
                stdin_writers_put(&writers, &known);
        }
        for (unsigned i = 0; i < STDIN_WRITERS_MAX; i += 3) {
                known = writer(i);
                known.accepted = 1000 + i;
                stdin_writers_put(&writers, &known);
        }
        for (unsigned i = 0; i < STDIN_WRITERS_MAX; i++)
                ck_assert(knows(writers, i, i % 3 == 0 ? 1000 + i : i));
}
END_TEST

START_TEST(the_one_not_used_for_longest_is_forgotten)
{
        CLEANUP(stdin_writers_free) StdinWriters *writers = NULL;
        KnownWriter known;

        for (unsigned i = 0; i < STDIN_WRITERS_MAX; i++) {
                known = writer(i);
                stdin_writers_put(&writers, &known);
        }
        ck_assert(knows(writers, 0, 0)); /* used again */
        known = writer(100);
        stdin_writers_put(&writers, &known);
        ck_assert(knows(writers, 0, 0));
        ck_assert(!knows(writers, 1, 1));
        ck_assert(knows(writers, 2, 2));
        ck_assert(knows(writers, 100, 100));
}
END_TEST

static Suite *stdin_writer_suite(void) {
        Suite *suite = suite_create("stdin-writer");
        TCase *tcase = tcase_create("stdin-writer");

        tcase_add_test(tcase, ids_are_the_published_hash);
        tcase_add_test(tcase, nobody_is_known_at_first);
        tcase_add_test(tcase, what_was_said_last_is_known);
        tcase_add_test(tcase, the_one_not_used_for_longest_is_forgotten);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_writer_suite);
