/* SPDX-License-Identifier: MIT */

#include "daemon/engine/keeper-link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

static struct event_base *base;
static KeeperLink *link_to_keeper;
static Handover handover;
static Error error;
static int keeper_fd, engine_fd, n_fds;
static unsigned n_messages, n_lost;
static KeeperMessage latest;

static void on_message(const KeeperMessage *message, void *userdata) {
        (void)userdata;
        latest = *message;
        n_messages++;
}

static void on_lost(void *userdata) {
        (void)userdata;
        n_lost++;
}

static const KeeperLinkOps ops = { .on_message = on_message, .on_lost = on_lost };

static void setup(void) {
        int fds[2], size = 4 * 1024 * 1024;

        n_fds = open_fds_count();
        base = event_base_new();
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
        keeper_fd = fds[0];
        engine_fd = fds[1];
        n_messages = n_lost = 0;
        handover = (Handover){};
        link_to_keeper = NULL;
        error = (Error){};
}

static void teardown(void) {
        handover_deinit(&handover);
        (void)keeper_link_free(link_to_keeper);
        (void)fd_close(keeper_fd);
        event_base_free(base);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void tell(KeeperMessageType type, KeeperLabel label, uint64_t process, uint32_t run, int fd) {
        KeeperMessage message = {
                .type = type, .label = label, .process = process, .run = run, .pid = (int)run
        };

        ck_assert_int_eq(keeper_message_send(keeper_fd, &message, &fd, fd >= 0), 0);
}

static int take_up(void) {
        return keeper_link_new(&link_to_keeper, engine_fd, base, &ops, NULL, &handover, &error);
}

static void same_file(int a, ino_t ino) {
        struct stat st;

        ck_assert_int_eq(fstat(a, &st), 0);
        ck_assert_uint_eq(st.st_ino, ino);
}

START_TEST(each_of_many_descriptors_is_found)
{
        enum {
                N = 40
        };
        ino_t inos[N][2];
        struct stat st;
        int fds[2];

        tell(KEEPER_HELLO, 0, 0, 0, -1);
        for (int i = N - 1; i >= 0; i--) /* in the wrong order */
                for (int j = 0; j < 2; j++) {
                        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
                        ck_assert_int_eq(fstat(fds[0], &st), 0);
                        inos[i][j] = st.st_ino;
                        tell(KEEPER_FD, j ? KEEPER_LABEL_STDOUT : KEEPER_LABEL_STDIN, (uint64_t)i / 2 + 1,
                             (uint32_t)i % 2 + 1, fds[0]);
                        close(fds[0]);
                        close(fds[1]);
                }
        for (uint32_t i = 9; i > 0; i--)
                tell(KEEPER_CHILD, 0, i, i + 1, -1);
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_uint_eq(handover.n_fds, 2 * N);
        ck_assert_uint_eq(handover.n_children, 9);
        for (int i = 0; i < N; i++)
                for (int j = 0; j < 2; j++) {
                        int fd = handover_take_fd(&handover, j ? KEEPER_LABEL_STDOUT : KEEPER_LABEL_STDIN,
                                                  (uint64_t)i / 2 + 1, (uint32_t)i % 2 + 1);

                        same_file(fd, inos[i][j]);
                        close(fd);
                        ck_assert_int_eq(handover_take_fd(&handover,
                                                          j ? KEEPER_LABEL_STDOUT : KEEPER_LABEL_STDIN,
                                                          (uint64_t)i / 2 + 1, (uint32_t)i % 2 + 1),
                                         -1);
                }
        for (uint32_t i = 1; i <= 9; i++) {
                const KeeperMessage *child = handover_child(&handover, i, i + 1);

                ck_assert_ptr_nonnull(child);
                ck_assert_int_eq(child->pid, (int)i + 1);
                ck_assert_ptr_null(handover_child(&handover, i, i));
        }
        ck_assert_ptr_null(handover_child(&handover, 10, 11));
}
END_TEST

START_TEST(descriptors_may_come_many_at_a_time)
{
        KeeperMessage message = { .type = KEEPER_FDS };
        int fds[KEEPER_HELD_MAX], null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                KeeperHeld held = { .process = UINT64_MAX - i,
                                    .run = UINT32_MAX - (uint32_t)i,
                                    .label = KEEPER_LABEL_STDERR };

                memcpy(message.text + i * sizeof(held), &held, sizeof(held));
                fds[i] = i % 2 == 0 ? keeper_fd : null_fd;
        }
        ck_assert_int_eq(keeper_message_send(keeper_fd, &message, fds, ARRAY_SIZE(fds)), 0);
        tell(KEEPER_FD, KEEPER_LABEL_STDIN, 1, 1, null_fd);
        ck_assert_int_eq(keeper_message_send(keeper_fd, &message, fds, 1), 0);
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_uint_eq(handover.n_fds, ARRAY_SIZE(fds) + 2);
        for (size_t i = 1; i < ARRAY_SIZE(fds); i++) {
                struct stat a, b;
                int fd = handover_take_fd(&handover, KEEPER_LABEL_STDERR, UINT64_MAX - i,
                                          UINT32_MAX - (uint32_t)i);

                ck_assert_int_eq(fstat(fd, &a), 0);
                ck_assert_int_eq(fstat(fds[i], &b), 0);
                ck_assert_uint_eq(a.st_ino, b.st_ino);
                close(fd);
        }
        close(null_fd);
}
END_TEST

START_TEST(more_descriptors_than_are_named_are_refused)
{
        KeeperMessage message = { .type = KEEPER_FDS };
        int fds[KEEPER_HELD_MAX + 1];

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                fds[i] = keeper_fd;
        ck_assert_int_eq(keeper_message_send(keeper_fd, &message, fds, ARRAY_SIZE(fds)), 0);
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), -EPROTO);
}
END_TEST

START_TEST(run_0_stands_for_any_run)
{
        tell(KEEPER_FD, KEEPER_LABEL_POSITION, 5, 3, keeper_fd);
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_int_eq(handover_take_fd(&handover, KEEPER_LABEL_DISCARD, 5, 0), -1);
        ck_assert_int_eq(handover_take_fd(&handover, KEEPER_LABEL_POSITION, 5, 2), -1);
        ck_assert_int_eq(handover_take_fd(&handover, KEEPER_LABEL_POSITION, 4, 0), -1);
        ck_assert_int_eq(close(handover_take_fd(&handover, KEEPER_LABEL_POSITION, 5, 0)), 0);
}
END_TEST

START_TEST(an_empty_handover_holds_nothing)
{
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_int_eq(handover_take_fd(&handover, KEEPER_LABEL_STDIN, 1, 0), -1);
        ck_assert_ptr_null(handover_child(&handover, 1, 1));
}
END_TEST

START_TEST(a_handover_that_breaks_off_leaves_nothing)
{
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        tell(KEEPER_HELLO, 0, 0, 0, -1);
        tell(KEEPER_FD, KEEPER_LABEL_STDIN, 1, 1, fd);
        close(fd);
        keeper_fd = fd_close(keeper_fd);
        ck_assert_int_eq(take_up(), -ECONNRESET);
        ck_assert_uint_ne(strlen(error.text), 0);
}
END_TEST

START_TEST(messages_come_in_and_the_end_is_told)
{
        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        tell(KEEPER_EXITED, 0, 7, 2, keeper_fd); /* a descriptor that nobody wants is closed */
        tell(KEEPER_REAPED, 0, 8, 3, -1);
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        ck_assert_uint_eq(n_messages, 2);
        ck_assert_uint_eq(latest.process, 8);
        ck_assert_uint_eq(n_lost, 0);
        keeper_fd = fd_close(keeper_fd);
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        ck_assert_uint_eq(n_lost, 1);
}
END_TEST

START_TEST(what_is_queued_goes_out_at_the_flush_in_order)
{
        KeeperMessage message = { .type = KEEPER_SPAWN, .process = 1, .run = 1 };
        int fds[FD_PASS_MAX], spec, r;
        size_t n;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        spec = fcntl(keeper_fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_eq(keeper_link_queue(link_to_keeper, &message, &spec, 1), 0);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDIN, 1, 1);
        ck_assert_int_eq(fd_set_nonblock(keeper_fd, true), 0);
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), -EAGAIN);
        keeper_link_flush(link_to_keeper);
        ck_assert_int_eq(fcntl(spec, F_GETFD), -1);
        r = keeper_message_receive(keeper_fd, &message, fds, &n);
        ck_assert(r == 1 && message.type == KEEPER_SPAWN && n == 1);
        close(fds[0]);
        r = keeper_message_receive(keeper_fd, &message, fds, &n);
        ck_assert(r == 1 && message.type == KEEPER_DROP && n == 0);
        ck_assert_uint_eq(message.label, KEEPER_LABEL_STDIN);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDIN, 1, 2); /* freed with the link */
        spec = fcntl(keeper_fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_eq(keeper_link_queue(link_to_keeper, &message, &spec, 1), 0);
}
END_TEST

/* Queues a SPAWN with one descriptor and a spec of so many bytes, and gets what the keeper gets. */
static KeeperPacket spawn_with(size_t size, int *ret_fds, size_t *ret_n, size_t *ret_spec_size) {
        const KeeperMessage message = { .type = KEEPER_SPAWN, .process = 1, .run = 1, .flags = 1 };
        int fd = fcntl(keeper_fd, F_DUPFD_CLOEXEC, 3);
        char *spec = malloc(size);
        KeeperPacket packet;

        ck_assert_ptr_nonnull(spec);
        memset(spec, 's', size);
        ck_assert_int_eq(keeper_link_queue_spawn(link_to_keeper, &message, spec, size, &fd, 1), 0);
        keeper_link_flush(link_to_keeper);
        ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
        ck_assert_int_eq(keeper_packet_receive(keeper_fd, &packet, ret_spec_size, ret_fds, ret_n), 1);
        ck_assert_uint_eq(packet.message.type, KEEPER_SPAWN);
        return packet;
}

START_TEST(a_spec_goes_with_its_message_or_sealed_if_it_is_large)
{
        int fds[FD_PASS_MAX];
        KeeperPacket packet;
        size_t n, spec_size;
        struct stat st;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        packet = spawn_with(KEEPER_SPEC_INLINE_MAX, fds, &n, &spec_size);
        ck_assert_uint_eq(packet.message.flags, KEEPER_SPAWN_INLINE | 1);
        ck_assert_uint_eq(spec_size, KEEPER_SPEC_INLINE_MAX);
        for (size_t i = 0; i < spec_size; i++)
                ck_assert_int_eq(packet.spec[i], 's');
        ck_assert_uint_eq(n, 1);
        (void)fd_close(fds[0]);
        packet = spawn_with(KEEPER_SPEC_INLINE_MAX + 1, fds, &n, &spec_size);
        ck_assert_uint_eq(packet.message.flags, 1);
        ck_assert_uint_eq(spec_size, 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(fstat(fds[0], &st), 0);
        ck_assert_uint_eq((size_t)st.st_size, KEEPER_SPEC_INLINE_MAX + 1);
        ck_assert_int_eq(fcntl(fds[0], F_GET_SEALS),
                         F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
        (void)fd_close(fds[0]);
        (void)fd_close(fds[1]);
}
END_TEST

static void forget(uint64_t process, uint32_t run) {
        const KeeperMessage message = { .type = KEEPER_FORGET, .process = process, .run = run };

        keeper_link_tell(link_to_keeper, &message);
}

START_TEST(what_the_keeper_may_forget_of_a_run_goes_in_one_message)
{
        static const struct {
                KeeperMessageType type;
                uint32_t run, labels;
        } wanted[] = {
                { KEEPER_FORGET, 1,
                  KEEPER_LABEL_BIT(KEEPER_LABEL_STDIN) | KEEPER_LABEL_BIT(KEEPER_LABEL_STDOUT) },
                { KEEPER_DROP, 2, KEEPER_LABEL_BIT(KEEPER_LABEL_STDERR) },
                { KEEPER_DROP, 1, KEEPER_LABEL_BIT(KEEPER_LABEL_STDERR) },
        };
        KeeperMessage message;
        int fds[FD_PASS_MAX];
        size_t n;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDIN, 1, 1);
        forget(1, 1);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDOUT, 1, 1);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDERR, 1, 2);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDERR, 1, 1); /* another one came between */
        keeper_link_flush(link_to_keeper);
        ck_assert_int_eq(fd_set_nonblock(keeper_fd, true), 0);
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
                ck_assert_uint_eq(message.type, wanted[i].type);
                ck_assert_uint_eq(message.run, wanted[i].run);
                ck_assert_uint_eq((message.flags | KEEPER_LABEL_BIT(message.label)) & ~1u, wanted[i].labels);
        }
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), -EAGAIN);
}
END_TEST

START_TEST(a_put_does_not_wait_for_the_flush)
{
        KeeperMessage message;
        int fds[FD_PASS_MAX];
        size_t n;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_int_eq(keeper_link_put_ask(link_to_keeper, KEEPER_LABEL_POSITION, 3, 0, keeper_fd), 0);
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
        ck_assert(message.type == KEEPER_PUT && message.process == 3 && n == 1);
        close(fds[0]);
}
END_TEST

START_TEST(what_is_put_is_not_dropped_by_what_was_queued_before)
{
        static const uint32_t wanted[] = { KEEPER_LABEL_BIT(KEEPER_LABEL_POSITION), 0 };
        KeeperMessage message;
        int fds[FD_PASS_MAX];
        size_t n;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_DISCARD, 3, 0);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_POSITION, 3, 0);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_STDIN, 3, 1);
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_DISCARD, 4, 0);
        ck_assert_int_eq(keeper_link_put_ask(link_to_keeper, KEEPER_LABEL_DISCARD, 3, 0, keeper_fd), 0);
        ck_assert_int_eq(keeper_link_put_ask(link_to_keeper, KEEPER_LABEL_DISCARD, 4, 0, keeper_fd), 0);
        keeper_link_flush(link_to_keeper);
        for (unsigned i = 0; i < 2; i++) {
                ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
                ck_assert(message.type == KEEPER_PUT && n == 1);
                close(fds[0]);
        }
        for (uint64_t process = 3; process <= 4; process++) {
                ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
                ck_assert(message.type == KEEPER_DROP && message.process == process);
                ck_assert_uint_eq((message.flags | KEEPER_LABEL_BIT(message.label)) & ~1u,
                                  wanted[process - 3]);
                if (process == 3) {
                        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
                        ck_assert_uint_eq(message.label, KEEPER_LABEL_STDIN); /* of a run: it stays */
                }
        }
}
END_TEST

static int in_flight[2];

/* As many descriptors in flight as this user may have: sent, and not received. Root may have more, as long as
 * it is root. */
static void fill_flight(void) {
        int fds[FD_PASS_MAX], size = 4 * 1024 * 1024;
        ssize_t r;

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                fds[i] = STDIN_FILENO;
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, in_flight), 0);
        ck_assert_int_eq(setsockopt(in_flight[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
        do
                r = fd_send(in_flight[0], "x", 1, fds, FD_PASS_MAX);
        while (r == 1);
        ck_assert_int_eq(r, -ETOOMANYREFS);
}

/* And the engine goes on meanwhile: it may be the one that is to receive them. */
START_TEST(with_too_many_descriptors_in_flight_a_message_waits)
{
        KeeperMessage message = { .type = KEEPER_SPAWN, .process = 1, .run = 1 };
        struct rlimit few, before;
        int fds[FD_PASS_MAX], fd, r = 0;
        uid_t uid = geteuid();
        size_t n;

        tell(KEEPER_READY, 0, 0, 0, -1);
        ck_assert_int_eq(take_up(), 0);
        ck_assert_int_eq(fd_set_nonblock(keeper_fd, true), 0);
        fd = fcntl(keeper_fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        few = (struct rlimit){ .rlim_cur = 64, .rlim_max = before.rlim_max };
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        ck_assert_int_eq(seteuid(uid == 0 ? 65534 : uid), 0);
        fill_flight();
        keeper_link_drop(link_to_keeper, KEEPER_LABEL_POSITION, 1, 0); /* it is not replaced, so it goes */
        ck_assert_int_eq(keeper_link_put_ask(link_to_keeper, KEEPER_LABEL_POSITION, 1, 0, fd), -ETOOMANYREFS);
        ck_assert_int_eq(keeper_link_queue(link_to_keeper, &message, &fd, 1), 0);
        message.type = KEEPER_FORGET;
        ck_assert_int_eq(keeper_link_queue(link_to_keeper, &message, NULL, 0), 0);
        keeper_link_flush_urgent(link_to_keeper);
        keeper_link_flush(link_to_keeper);
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
        ck_assert(message.type == KEEPER_DROP && message.label == KEEPER_LABEL_POSITION);
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), -EAGAIN);
        (void)fd_close(in_flight[0]);
        (void)fd_close(in_flight[1]);
        while (r == 0) {
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE),
                                 0); /* which ends, as it is tried again */
                keeper_link_flush_urgent(link_to_keeper);
                r = keeper_message_receive(keeper_fd, &message, fds, &n) == 1;
        }
        ck_assert_int_eq(seteuid(uid), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        ck_assert(message.type == KEEPER_SPAWN && n == 1);
        (void)fd_close(fds[0]);
        keeper_link_flush(link_to_keeper);
        ck_assert_int_eq(keeper_message_receive(keeper_fd, &message, fds, &n), 1);
        ck_assert_int_eq(message.type, KEEPER_FORGET);
}
END_TEST

static Suite *keeper_link_suite(void) {
        Suite *suite = suite_create("keeper-link");
        TCase *hand = tcase_create("handover"), *messages = tcase_create("messages");

        tcase_add_checked_fixture(hand, setup, teardown);
        tcase_add_checked_fixture(messages, setup, teardown);
        tcase_add_test(hand, descriptors_may_come_many_at_a_time);
        tcase_add_test(hand, more_descriptors_than_are_named_are_refused);
        tcase_add_test(hand, each_of_many_descriptors_is_found);
        tcase_add_test(hand, run_0_stands_for_any_run);
        tcase_add_test(hand, an_empty_handover_holds_nothing);
        tcase_add_test(hand, a_handover_that_breaks_off_leaves_nothing);
        tcase_add_test(messages, messages_come_in_and_the_end_is_told);
        tcase_add_test(messages, with_too_many_descriptors_in_flight_a_message_waits);
        tcase_add_test(messages, a_spec_goes_with_its_message_or_sealed_if_it_is_large);
        tcase_add_test(messages, what_the_keeper_may_forget_of_a_run_goes_in_one_message);
        tcase_add_test(messages, what_is_queued_goes_out_at_the_flush_in_order);
        tcase_add_test(messages, a_put_does_not_wait_for_the_flush);
        tcase_add_test(messages, what_is_put_is_not_dropped_by_what_was_queued_before);
        suite_add_tcase(suite, hand);
        suite_add_tcase(suite, messages);
        return suite;
}

CHECK_MAIN(keeper_link_suite);
