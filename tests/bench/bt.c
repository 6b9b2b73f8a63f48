/* SPDX-License-Identifier: MIT */

/* bt: the benchmark's one tool besides the client: child programs, clients, and raw limits.
 *
 *   bt gen [-g FIFO] [-p FILE] TOTAL CHUNK   child: write TOTAL bytes to stdout
 *   bt tick FILE                             child: a line each 50 ms; SIGUSR1: exit 7
 *   zz...                                    child, by its name: announce itself, sleep
 *   bt sink [-f] [-n Q] [-i SEC] [-t SEC] FD...   count what arrives on all FDs; -f: in pmux's data frames
 *   bt ping N REQHEX NEEDLEHEX RFD WFD       N request/answer round trips
 *   bt run N ARGV...                         N times spawn and wait
 *   bt spawn posix|vfork N                   /bin/true with 3 pipes
 *   bt echo pipe|socketpair N                32-byte line through cat
 *   bt srv-spawn N | bt srv-echo N           the same behind a Unix socket
 *   bt many N ARGV...                        N children with 3 pipes each, kept
 *   bt relay [-s] [-w N] SOCK CLIENTS ARGV... child's stdout to CLIENTS sockets; -w: look for a text N times
 *
 * Latencies are printed as one nanosecond count per line.
 * The payload is lines of 99 'Q' and a newline, so that a sink can count
 * payload bytes whatever framing or escaping the peer puts around them. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define LINE 100
#define BUF (256 * 1024)

static void die(const char *what) {
        perror(what);
        exit(1);
}

static int64_t now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void write_all(int fd, const void *p, size_t n) {
        const char *c = p;

        while (n) {
                ssize_t r = write(fd, c, n);

                if (r < 0) {
                        if (errno == EINTR)
                                continue;
                        die("write");
                }
                c += r;
                n -= r;
        }
}

/* ---- child programs ---- */

static int gen(int argc, char **argv) {
        const char *gate = NULL, *prog = NULL;
        volatile uint64_t *done = NULL;
        uint64_t total, chunk, sent = 0;
        char *buf;
        int o;

        while ((o = getopt(argc, argv, "+g:p:")) != -1) {
                if (o == 'g')
                        gate = optarg;
                else if (o == 'p')
                        prog = optarg;
                else
                        return 2;
        }
        if (argc - optind != 2)
                return 2;
        total = strtoull(argv[optind], NULL, 0);
        chunk = strtoull(argv[optind + 1], NULL, 0);
        if (!chunk || !(buf = malloc(chunk)))
                return 2;
        for (uint64_t i = 0; i < chunk; i++)
                buf[i] = i % LINE == LINE - 1 ? '\n' : 'Q';
        if (prog) {
                int fd = open(prog, O_RDWR | O_CREAT, 0600);

                if (fd < 0 || ftruncate(fd, 8) < 0)
                        die(prog);
                done = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                close(fd);
        }
        if (gate) {
                char c;
                int fd = open(gate, O_RDONLY);

                if (fd < 0 || read(fd, &c, 1) != 1)
                        die(gate);
                close(fd);
        }
        while (sent < total) {
                uint64_t n = total - sent < chunk ? total - sent : chunk;

                write_all(1, buf, n);
                sent += n;
                if (done)
                        *done = sent;
        }
        return 0;
}

static volatile sig_atomic_t stop;

static void on_usr1(int sig) {
        (void)sig;
        stop = 1;
}

static int tick(char **argv) {
        char line[64];
        int n, fd = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC, 0600);

        if (fd < 0)
                die(argv[0]);
        dprintf(fd, "%d\n", getpid());
        close(fd);
        signal(SIGUSR1, on_usr1);
        for (unsigned i = 0; !stop; i++) {
                /* the time lets a reader tell when this line was written */
                n = snprintf(line, sizeof line, "tick %u %lld\n", i, (long long)(now() / 1000000));
                write_all(1, line, n);
                usleep(50000);
        }
        return 7;
}

/* Adds a byte to the file "started" beside this program, then sleeps for good. */
static int nap(void) {
        char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
        int fd;

        if (n < 0)
                die("/proc/self/exe");
        path[n] = 0;
        strcpy(strrchr(path, '/'), "/started");
        fd = open(path, O_WRONLY | O_APPEND);
        if (fd < 0 || write(fd, "x", 1) != 1)
                die(path);
        close(fd);
        pause();
        return 0;
}

/* ---- clients ---- */

struct src {
        int fd, eof;
        uint64_t bytes, q;
        int64_t last;
        /* with -f: where in a frame of pmux's we are */
        unsigned char head[36];
        size_t have, left;
        int is_data;
};

static uint64_t count_q(const unsigned char *p, size_t n) {
        uint64_t c = 0;

        while (n) {
                size_t m = n < 255 ? n : 255;
                unsigned char s = 0;

                for (size_t i = 0; i < m; i++)
                        s += p[i] == 'Q';
                c += s;
                p += m;
                n -= m;
        }
        return c;
}

/* The same in the data frames of docs/protocol.md alone: their headers may hold any byte. */
static uint64_t count_framed(struct src *s, const unsigned char *p, size_t n) {
        uint64_t c = 0;

        while (n) {
                if (s->left) {
                        size_t m = n < s->left ? n : s->left;

                        if (s->is_data)
                                c += count_q(p, m);
                        s->left -= m;
                        p += m;
                        n -= m;
                        continue;
                }
                s->head[s->have++] = *p++;
                n--;
                if (s->have < 12 || (s->head[4] == 3 && s->have < 36))
                        continue;
                s->left = s->head[0] | s->head[1] << 8 | s->head[2] << 16 | (size_t)s->head[3] << 24;
                s->is_data = s->have == 36 && s->head[32] == 1;
                s->left -= s->have - 12;
                s->have = 0;
        }
        return c;
}

static int sink(int argc, char **argv) {
        uint64_t expect = UINT64_MAX;
        double idle = 10, max = 120;
        static unsigned char buf[BUF];
        struct src *s;
        int o, n, open_, framed = 0, ep = epoll_create1(0);
        int64_t t0 = now(), tl = t0;

        while ((o = getopt(argc, argv, "+fn:i:t:")) != -1) {
                if (o == 'n')
                        expect = strtoull(optarg, NULL, 0);
                else if (o == 'i')
                        idle = atof(optarg);
                else if (o == 'f')
                        framed = 1;
                else if (o == 't')
                        max = atof(optarg);
                else
                        return 2;
        }
        n = open_ = argc - optind;
        s = calloc(n, sizeof *s);
        for (int i = 0; i < n; i++) {
                struct epoll_event e = { .events = EPOLLIN, .data.ptr = &s[i] };

                s[i].fd = atoi(argv[optind + i]);
                if (epoll_ctl(ep, EPOLL_CTL_ADD, s[i].fd, &e) < 0)
                        die("epoll_ctl");
        }
        while (open_) {
                struct epoll_event ev[64];
                int k = epoll_wait(ep, ev, 64, 200);
                int64_t t = now();

                if (t - t0 > max * 1e9 || t - tl > idle * 1e9)
                        break;
                for (int j = 0; j < k; j++) {
                        struct src *p = ev[j].data.ptr;
                        ssize_t r = read(p->fd, buf, BUF);

                        if (r < 0 && (errno == EINTR || errno == EAGAIN))
                                continue;
                        if (r > 0) {
                                p->bytes += r;
                                p->q += framed ? count_framed(p, buf, r) : count_q(buf, r);
                                p->last = tl = now();
                        }
                        if (r <= 0 || p->q >= expect) {
                                p->eof = r <= 0;
                                epoll_ctl(ep, EPOLL_CTL_DEL, p->fd, NULL);
                                open_--;
                        }
                }
        }
        for (int i = 0; i < n; i++)
                printf("%llu %llu %lld %d\n", (unsigned long long)s[i].bytes, (unsigned long long)s[i].q,
                       (long long)s[i].last, s[i].eof);
        return 0;
}

static size_t unhex(const char *h, char *out) {
        size_t n = 0;
        unsigned b;

        for (; sscanf(h, "%2x", &b) == 1; h += 2)
                out[n++] = b;
        return n;
}

static int ping(char **argv) {
        static char req[8192], needle[256], buf[65536];
        int n = atoi(argv[0]), rfd = atoi(argv[3]), wfd = atoi(argv[4]);
        size_t rl = unhex(argv[1], req), nl = unhex(argv[2], needle), have = 0;

        while (n--) {
                int64_t t = now();
                char *at;

                write_all(wfd, req, rl);
                while (!(at = memmem(buf, have, needle, nl))) {
                        struct pollfd p = { rfd, POLLIN, 0 };
                        ssize_t r;

                        if (have > sizeof buf / 2) {
                                memmove(buf, buf + have - nl, nl);
                                have = nl;
                        }
                        if (poll(&p, 1, 5000) == 0) {
                                fprintf(stderr, "ping: no answer in 5 s: %.*s\n", (int)have, buf);
                                return 1;
                        }
                        r = read(rfd, buf + have, sizeof buf - have);
                        if (r <= 0)
                                die("ping: read");
                        have += r;
                }
                printf("%lld\n", (long long)(now() - t));
                at += nl;
                have -= at - buf;
                memmove(buf, at, have);
        }
        return 0;
}

static int run(char **argv) {
        int n = atoi(argv[0]), st;
        pid_t pid;

        while (n--) {
                int64_t t = now();

                if ((errno = posix_spawnp(&pid, argv[1], NULL, NULL, argv + 1, environ)))
                        die(argv[1]);
                waitpid(pid, &st, 0);
                dprintf(3, "%lld\n", (long long)(now() - t));
        }
        return 0;
}

/* ---- limits ---- */

static pid_t spawn3(int use_vfork, char **argv, int fd[3]) {
        posix_spawn_file_actions_t fa;
        int p[3][2];
        pid_t pid;

        for (int i = 0; i < 3; i++)
                if (pipe2(p[i], O_CLOEXEC) < 0)
                        die("pipe2");
        if (use_vfork) {
                if ((pid = vfork()) == 0) {
                        dup2(p[0][0], 0);
                        dup2(p[1][1], 1);
                        dup2(p[2][1], 2);
                        execv(argv[0], argv);
                        _exit(127);
                }
        } else {
                posix_spawn_file_actions_init(&fa);
                posix_spawn_file_actions_adddup2(&fa, p[0][0], 0);
                posix_spawn_file_actions_adddup2(&fa, p[1][1], 1);
                posix_spawn_file_actions_adddup2(&fa, p[2][1], 2);
                if ((errno = posix_spawn(&pid, argv[0], &fa, NULL, argv, environ)))
                        die(argv[0]);
                posix_spawn_file_actions_destroy(&fa);
        }
        close(p[0][0]);
        close(p[1][1]);
        close(p[2][1]);
        fd[0] = p[0][1];
        fd[1] = p[1][0];
        fd[2] = p[2][0];
        return pid;
}

static char true_path[] = "/bin/true", cat_path[] = "/bin/cat";
static char *true_argv[] = { true_path, NULL };
static char *cat_argv[] = { cat_path, NULL };

static int spawn_true(int use_vfork) {
        int fd[3], st;
        pid_t pid = spawn3(use_vfork, true_argv, fd);

        waitpid(pid, &st, 0);
        for (int i = 0; i < 3; i++)
                close(fd[i]);
        return st;
}

static int limit_spawn(char **argv) {
        int v = !strcmp(argv[0], "vfork"), n = atoi(argv[1]);

        while (n--) {
                int64_t t = now();

                spawn_true(v);
                printf("%lld\n", (long long)(now() - t));
        }
        return 0;
}

static void round_trips(int n, int rfd, int wfd) {
        char line[32], in[32];

        memset(line, 'a', 31);
        line[31] = '\n';
        while (n--) {
                int64_t t = now();
                size_t got = 0;

                write_all(wfd, line, 32);
                while (got < 32) {
                        ssize_t r = read(rfd, in + got, 32 - got);

                        if (r <= 0)
                                die("read");
                        got += r;
                }
                printf("%lld\n", (long long)(now() - t));
        }
}

static int limit_echo(char **argv) {
        int fd[3], sv[2], st, n = atoi(argv[1]);
        pid_t pid;

        if (!strcmp(argv[0], "pipe")) {
                pid = spawn3(0, cat_argv, fd);
                round_trips(n, fd[1], fd[0]);
                close(fd[0]);
        } else {
                posix_spawn_file_actions_t fa;

                if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
                        die("socketpair");
                posix_spawn_file_actions_init(&fa);
                posix_spawn_file_actions_adddup2(&fa, sv[1], 0);
                posix_spawn_file_actions_adddup2(&fa, sv[1], 1);
                if ((errno = posix_spawn(&pid, cat_argv[0], &fa, NULL, cat_argv, environ)))
                        die("cat");
                close(sv[1]);
                round_trips(n, sv[0], sv[0]);
                close(sv[0]);
        }
        waitpid(pid, &st, 0);
        return 0;
}

/* The least that any daemon must do: one process between socket and child. */
static int srv(int echo, int n) {
        int sv[2], fd[3], st;
        char buf[65536];
        pid_t server;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
                die("socketpair");
        if ((server = fork()) == 0) {
                close(sv[0]);
                if (!echo) {
                        while (read(sv[1], buf, 1) == 1) {
                                st = spawn_true(0);
                                write_all(sv[1], &st, sizeof st);
                        }
                        _exit(0);
                }
                spawn3(0, cat_argv, fd);
                struct pollfd p[2] = { { sv[1], POLLIN, 0 }, { fd[1], POLLIN, 0 } };

                while (poll(p, 2, -1) > 0) {
                        ssize_t r;

                        if (p[0].revents) {
                                if ((r = read(sv[1], buf, sizeof buf)) <= 0)
                                        _exit(0);
                                write_all(fd[0], buf, r);
                        }
                        if (p[1].revents) {
                                if ((r = read(fd[1], buf, sizeof buf)) <= 0)
                                        _exit(0);
                                write_all(sv[1], buf, r);
                        }
                }
                _exit(0);
        }
        close(sv[1]);
        if (echo) {
                round_trips(n, sv[0], sv[0]);
        } else {
                while (n--) {
                        int64_t t = now();

                        write_all(sv[0], "s", 1);
                        if (read(sv[0], &st, sizeof st) != sizeof st)
                                die("read");
                        printf("%lld\n", (long long)(now() - t));
                }
        }
        close(sv[0]);
        waitpid(server, &st, 0);
        return 0;
}

static int many(char **argv) {
        int fd[3], n = atoi(argv[0]);

        while (n--)
                spawn3(0, argv + 1, fd);
        pause();
        return 0;
}

static int relay(int argc, char **argv) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int o, use_splice = 0, n_waits = 0, n, fd[3], st, l, *c;
        static char buf[65536];
        ssize_t r;
        pid_t pid;

        while ((o = getopt(argc, argv, "+sw:")) != -1)
                if (o == 'w')
                        n_waits = atoi(optarg);
                else
                        use_splice = 1;
        argv += optind;
        strncpy(a.sun_path, argv[0], sizeof a.sun_path - 1);
        n = atoi(argv[1]);
        c = calloc(n, sizeof *c);
        l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 128) < 0)
                die(a.sun_path);
        for (int i = 0; i < n; i++)
                if ((c[i] = accept4(l, NULL, NULL, SOCK_CLOEXEC)) < 0)
                        die("accept");
        pid = spawn3(0, argv + 2, fd);
        if (use_splice) {
                while (splice(fd[1], NULL, c[0], NULL, 1 << 20, SPLICE_F_MOVE) > 0)
                        ;
        } else {
                while ((r = read(fd[1], buf, sizeof buf)) > 0) {
                        for (int i = 0; i < n; i++)
                                write_all(c[i], buf, r);
                        for (int i = 0; i < n_waits; i++)
                                if (memmem(buf, r, "\n>>> ", 5))
                                        return 1;
                }
        }
        waitpid(pid, &st, 0);
        return 0;
}

int main(int argc, char **argv) {
        const char *cmd = argc > 1 ? argv[1] : "";

        if (!strncmp(basename(argv[0]), "zz", 2))
                return nap();
        argc--;
        argv++;
        if (!strcmp(cmd, "gen"))
                return gen(argc, argv);
        if (!strcmp(cmd, "tick") && argc == 2)
                return tick(argv + 1);
        if (!strcmp(cmd, "sink"))
                return sink(argc, argv);
        if (!strcmp(cmd, "ping") && argc == 6)
                return ping(argv + 1);
        if (!strcmp(cmd, "run") && argc >= 3)
                return run(argv + 1);
        if (!strcmp(cmd, "spawn") && argc == 3)
                return limit_spawn(argv + 1);
        if (!strcmp(cmd, "echo") && argc == 3)
                return limit_echo(argv + 1);
        if (!strcmp(cmd, "srv-spawn") && argc == 2)
                return srv(0, atoi(argv[1]));
        if (!strcmp(cmd, "srv-echo") && argc == 2)
                return srv(1, atoi(argv[1]));
        if (!strcmp(cmd, "many") && argc >= 3)
                return many(argv + 1);
        if (!strcmp(cmd, "relay") && argc >= 4)
                return relay(argc, argv);
        fprintf(stderr, "bt: see the head of bt.c\n");
        return 2;
}
