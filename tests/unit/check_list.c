/* SPDX-License-Identifier: MIT */

#include "common/list.h"

#include "tests/support/check-main.h"

typedef struct Item {
        int value;
        List link;
        List other;
} Item;

static List head;
static Item items[4];

static void setup(void) {
        list_init(&head);
        for (int i = 0; i < 4; i++)
                items[i] = (Item){ .value = i };
}

static void assert_values(const char *expected) {
        char text[8];
        size_t n = 0;

        LIST_FOREACH(Item, item, &head, link)
                text[n++] = (char)('0' + item->value);
        text[n] = '\0';
        ck_assert_str_eq(text, expected);
}

static void append_all(void) {
        for (int i = 0; i < 4; i++)
                list_append(&head, &items[i].link);
}

START_TEST(a_new_list_is_empty)
{
        List other = LIST_INIT(other);

        ck_assert(list_empty(&head));
        ck_assert(list_empty(&other));
        assert_values("");
}
END_TEST

START_TEST(what_is_appended_comes_in_order)
{
        append_all();
        ck_assert(!list_empty(&head));
        assert_values("0123");
}
END_TEST

START_TEST(what_is_removed_is_not_linked)
{
        append_all();
        list_remove(&items[0].link);
        list_remove(&items[2].link);
        assert_values("13");
        ck_assert(!list_linked(&items[0].link));
        ck_assert(list_linked(&items[1].link));
        list_remove(&items[0].link); /* again */
        assert_values("13");
        list_append(&head, &items[0].link);
        assert_values("130");
        list_remove(&items[1].link);
        list_remove(&items[3].link);
        list_remove(&items[0].link);
        ck_assert(list_empty(&head));
}
END_TEST

START_TEST(what_was_never_linked_can_be_removed)
{
        ck_assert(!list_linked(&items[0].link));
        list_remove(&items[0].link);
        ck_assert(!list_linked(&items[0].link));
}
END_TEST

START_TEST(an_object_can_be_on_two_lists)
{
        List second = LIST_INIT(second);
        int n = 0;

        append_all();
        list_append(&second, &items[3].other);
        list_append(&second, &items[1].other);
        list_remove(&items[3].link);
        LIST_FOREACH(Item, item, &second, other)
                ck_assert_int_eq(item->value, n++ == 0 ? 3 : 1);
        ck_assert_int_eq(n, 2);
        assert_values("012");
}
END_TEST

START_TEST(a_loop_survives_the_end_of_what_it_holds)
{
        Item *item;
        int n = 0;

        for (int i = 0; i < 5; i++) {
                item = calloc(1, sizeof(*item));
                ck_assert_ptr_nonnull(item);
                item->value = i;
                list_append(&head, &item->link);
        }
        LIST_FOREACH(Item, each, &head, link) {
                ck_assert_int_eq(each->value, n++);
                list_remove(&each->link);
                free(each);
        }
        ck_assert_int_eq(n, 5);
        ck_assert(list_empty(&head));
}
END_TEST

START_TEST(break_and_continue_mean_the_loop)
{
        int n = 0;

        append_all();
        LIST_FOREACH(Item, item, &head, link) {
                if (item->value == 0)
                        continue;
                if (item->value == 2)
                        break;
                n += item->value;
        }
        ck_assert_int_eq(n, 1);
}
END_TEST

START_TEST(loops_can_be_nested)
{
        int n = 0;

        append_all();
        LIST_FOREACH(Item, outer, &head, link)
                LIST_FOREACH(Item, inner, &head, link)
                        n += outer->value * 10 + inner->value;
        ck_assert_int_eq(n, 4 * 60 + 4 * 6);
}
END_TEST

static Suite *list_suite(void) {
        Suite *suite = suite_create("list");
        TCase *link = tcase_create("link"), *loop = tcase_create("loop");

        tcase_add_checked_fixture(link, setup, NULL);
        tcase_add_test(link, a_new_list_is_empty);
        tcase_add_test(link, what_is_appended_comes_in_order);
        tcase_add_test(link, what_is_removed_is_not_linked);
        tcase_add_test(link, what_was_never_linked_can_be_removed);
        tcase_add_test(link, an_object_can_be_on_two_lists);
        tcase_add_checked_fixture(loop, setup, NULL);
        tcase_add_test(loop, a_loop_survives_the_end_of_what_it_holds);
        tcase_add_test(loop, break_and_continue_mean_the_loop);
        tcase_add_test(loop, loops_can_be_nested);
        suite_add_tcase(suite, link);
        suite_add_tcase(suite, loop);
        return suite;
}

CHECK_MAIN(list_suite);
