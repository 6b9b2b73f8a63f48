/* SPDX-License-Identifier: MIT */

/* Descriptors that come with frames, over a real connection. */

#include "daemon/engine/client-fds.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

#define ASKED_MAX 8

static struct event_base *base;
static ClientSet set;
static Client *client;
static int peer, n_fds_before, n_fds_connected;
static int files[FD_PASS_MAX]; /* what is sent; each has a name of its own by its inode */

/* What a frame asked for, in order. */
static struct {
        char word;
        int r;
        ErrorCode code;
        ino_t inode;
} asked[ASKED_MAX];
static unsigned n_asked;

static ino_t inode_of(int fd) {
        struct stat st;

        ck_assert_int_eq(fstat(fd, &st), 0);
        return st.st_ino;
}

/* A frame is a word: each digit asks for the descriptor of that number, any other letter for none. */
static int on_control(Client *from, const char *text, size_t size, void *userdata) {
        (void)userdata;
        for (size_t i = 0; i < size; i++) {
                Error error = {};
                int fd = -1, r;

                if (text[i] < '0' || text[i] > '9')
                        continue;
                ck_assert_uint_lt(n_asked, ASKED_MAX);
                r = client_fds_take(from, (unsigned)(text[i] - '0'), &fd, &error);
                asked[n_asked].word = text[0];
                asked[n_asked].r = r;
                asked[n_asked].code = error.code;
                asked[n_asked++].inode = r == 0 ? inode_of(fd) : 0;
                if (r == 0)
                        ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
                (void)fd_close(fd);
        }
        return 0;
}

static void on_close(Client *from, void *userdata) {
        (void)from;
        (void)userdata;
}

static const ClientOps ops = { .on_control = on_control, .on_close = on_close };

static void turn(void) {
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        client_set_flush(&set);
        client_set_pump(&set);
        client_set_flush(&set);
        client_set_reap(&set);
}

static size_t put_frame(uint8_t *p, FrameType type, const void *payload, size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = (uint8_t)type };

        frame_header_encode(p, &header);
        memcpy(p + FRAME_HEADER_SIZE, payload, size);
        return FRAME_HEADER_SIZE + size;
}

static void send_fds(const void *bytes, size_t size, size_t n_fds) {
        ck_assert_int_eq(fd_send(peer, bytes, size, files, n_fds), (ssize_t)size);
}

static void greet(size_t n_fds) {
        static const uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = { 'P', 'M', 'U', 'X', 1, 0, 1, 0 };
        uint8_t bytes[64];

        send_fds(bytes, put_frame(bytes, FRAME_HELLO, hello, sizeof(hello)), n_fds);
        turn();
        ck_assert_int_gt(recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT), 0);
}

static void connect_client(size_t n_fds) {
        Error error = {};
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        ck_assert_int_eq(client_new(&client, &set, fds[1], &error), 0);
        peer = fds[0];
        n_asked = 0;
        greet(n_fds);
        n_fds_connected = open_fds_count();
}

static void disconnect_client(void) {
        peer = fd_close(peer);
        turn();
        turn();
        ck_assert_uint_eq(set.n_clients, 0);
}

static void setup(void) {
        n_fds_before = open_fds_count();
        for (size_t i = 0; i < FD_PASS_MAX; i++) {
                files[i] = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                ck_assert_int_ge(files[i], 0);
        }
        base = event_base_new();
        ck_assert_int_eq(client_set_init(&set, base, &ops, NULL), 0);
        connect_client(0);
}

static void teardown(void) {
        disconnect_client();
        client_set_deinit(&set);
        event_base_free(base);
        for (size_t i = 0; i < FD_PASS_MAX; i++)
                (void)fd_close(files[i]);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static void ck_took(unsigned i, char word, size_t file) {
        ck_assert_uint_lt(i, n_asked);
        ck_assert_int_eq(asked[i].word, word);
        ck_assert_int_eq(asked[i].r, 0);
        ck_assert_uint_eq(asked[i].inode, inode_of(files[file]));
}

static void ck_refused(unsigned i, char word, int r, ErrorCode code) {
        ck_assert_uint_lt(i, n_asked);
        ck_assert_int_eq(asked[i].word, word);
        ck_assert_int_eq(asked[i].r, r);
        ck_assert_int_eq(asked[i].code, code);
}

START_TEST(they_belong_to_their_frame_however_it_is_cut)
{
        uint8_t before[64], bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, "a201", 4);
        size_t n_before = put_frame(before, FRAME_CONTROL, "b0", 2);

        for (size_t at = 1; at <= size; at++) {
                n_asked = 0;
                ck_assert_int_eq(send(peer, before, n_before, 0), (ssize_t)n_before);
                send_fds(bytes, at, 3);
                turn();
                if (at < size) {
                        ck_assert_int_eq(open_fds_count(), n_fds_connected + 3);
                        ck_assert_int_eq(send(peer, bytes + at, size - at, 0), (ssize_t)(size - at));
                        turn();
                }
                ck_assert_int_eq(send(peer, before, n_before, 0), (ssize_t)n_before);
                turn();
                ck_assert_uint_eq(n_asked, 5);
                ck_refused(4, 'b', -EINVAL, ERROR_INVALID);
                ck_took(1, 'a', 2);
                ck_took(2, 'a', 0);
                ck_took(3, 'a', 1);
                ck_assert_int_eq(open_fds_count(), n_fds_connected);
        }
}
END_TEST

START_TEST(byte_by_byte_they_arrive_as_well)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, "a0", 2);

        send_fds(bytes, 1, 1);
        for (size_t i = 1; i < size; i++) {
                turn();
                ck_assert_uint_eq(n_asked, 0);
                ck_assert_int_eq(send(peer, bytes + i, 1, 0), 1);
        }
        turn();
        ck_took(0, 'a', 0);
}
END_TEST

START_TEST(those_in_the_middle_of_a_frame_are_nobodys)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, "a0", 2);

        for (size_t at = 1; at < size; at++) {
                n_asked = 0;
                ck_assert_int_eq(send(peer, bytes, at, 0), (ssize_t)at);
                turn();
                send_fds(bytes + at, size - at, 2);
                turn();
                ck_refused(0, 'a', -EINVAL, ERROR_INVALID);
                ck_assert_int_eq(open_fds_count(), n_fds_connected);
        }
}
END_TEST

START_TEST(what_no_request_names_is_closed)
{
        uint8_t bytes[64];
        int n_before;

        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "none", 4), 3);
        turn();
        ck_assert_uint_eq(n_asked, 0);
        ck_assert_int_eq(open_fds_count(), n_fds_connected);
        disconnect_client();
        n_before = n_fds_connected;
        connect_client(3); /* those of HELLO, too */
        ck_assert_int_eq(n_fds_connected, n_before);
}
END_TEST

START_TEST(a_number_that_did_not_come_is_refused)
{
        uint8_t bytes[64];

        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "a019", 4), 1);
        turn();
        ck_took(0, 'a', 0);
        ck_refused(1, 'a', -EINVAL, ERROR_INVALID);
        ck_refused(2, 'a', -EINVAL, ERROR_INVALID);
}
END_TEST

START_TEST(one_may_be_asked_for_twice)
{
        uint8_t bytes[64];

        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "a00", 3), 1);
        turn();
        ck_took(0, 'a', 0);
        ck_took(1, 'a', 0);
        ck_assert_int_eq(open_fds_count(), n_fds_connected);
}
END_TEST

START_TEST(more_than_are_taken_is_said_and_leaves_none)
{
        uint8_t bytes[64];

        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "a0", 2), CLIENT_FDS_MAX + 1);
        turn();
        ck_refused(0, 'a', -EDQUOT, ERROR_LIMIT);
        ck_assert_int_eq(open_fds_count(), n_fds_connected);
        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "b2", 2), CLIENT_FDS_MAX);
        turn();
        ck_took(1, 'b', CLIENT_FDS_MAX - 1);
}
END_TEST

START_TEST(a_daemon_out_of_descriptors_says_so)
{
        struct rlimit was, none;
        uint8_t bytes[64];

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
        none = was;
        none.rlim_cur = 3; /* for new ones; those that are open stay */
        send_fds(bytes, put_frame(bytes, FRAME_CONTROL, "a0", 2), 2);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        turn();
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
        ck_refused(0, 'a', -EDQUOT, ERROR_LIMIT);
        ck_assert_int_eq(open_fds_count(), n_fds_connected);
}
END_TEST

START_TEST(one_that_never_ends_its_frame_holds_few)
{
        uint8_t bytes[128];
        size_t size = put_frame(bytes, FRAME_CONTROL, "a0.....................................", 39);

        for (size_t i = 0; i + 1 < size; i++) {
                send_fds(bytes + i, 1, CLIENT_FDS_MAX);
                turn();
                ck_assert_int_le(open_fds_count(), n_fds_connected + CLIENT_FD_SETS_MAX * CLIENT_FDS_MAX);
        }
        send_fds(bytes + size - 1, 1, CLIENT_FDS_MAX);
        turn();
        ck_took(0, 'a', 0); /* of the first byte */
        ck_assert_int_eq(open_fds_count(), n_fds_connected);
}
END_TEST

START_TEST(leaving_in_the_middle_closes_them)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, "a0", 2);

        for (size_t at = 1; at < size; at++) {
                send_fds(bytes, at, 3);
                turn();
                ck_assert_int_eq(open_fds_count(), n_fds_connected + 3);
                disconnect_client();
                ck_assert_int_eq(open_fds_count(), n_fds_connected - 2);
                connect_client(0);
        }
        send_fds(bytes, 3, 3); /* unread, even */
        disconnect_client();
        ck_assert_int_eq(open_fds_count(), n_fds_connected - 2);
        connect_client(0);
        ck_assert_uint_eq(n_asked, 0);
}
END_TEST

START_TEST(nonsense_behind_them_closes_them)
{
        static const uint8_t bad[FRAME_HEADER_SIZE] = { 0, 0, 0, 0, 99 };

        send_fds(bad, sizeof(bad), 3);
        turn();
        turn();
        ck_assert_uint_eq(set.n_clients, 0);
        peer = fd_close(peer);
        ck_assert_int_eq(open_fds_count(), n_fds_connected - 2);
        connect_client(0);
}
END_TEST

static Suite *client_fds_suite(void) {
        Suite *suite = suite_create("client-fds");
        TCase *tcase = tcase_create("client-fds");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, they_belong_to_their_frame_however_it_is_cut);
        tcase_add_test(tcase, byte_by_byte_they_arrive_as_well);
        tcase_add_test(tcase, those_in_the_middle_of_a_frame_are_nobodys);
        tcase_add_test(tcase, what_no_request_names_is_closed);
        tcase_add_test(tcase, a_number_that_did_not_come_is_refused);
        tcase_add_test(tcase, one_may_be_asked_for_twice);
        tcase_add_test(tcase, more_than_are_taken_is_said_and_leaves_none);
        tcase_add_test(tcase, a_daemon_out_of_descriptors_says_so);
        tcase_add_test(tcase, one_that_never_ends_its_frame_holds_few);
        tcase_add_test(tcase, leaving_in_the_middle_closes_them);
        tcase_add_test(tcase, nonsense_behind_them_closes_them);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(client_fds_suite);
