/* SPDX-License-Identifier: MIT */

#include "daemon/engine/process-stage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/process.h"

static KeeperLabel stage_label(unsigned i) {
        return i == 0 ? KEEPER_LABEL_STDOUT_STAGE : KEEPER_LABEL_STDERR_STAGE;
}

static void stage_close_fds(OutputStage *stage) {
        stage->read_fd = fd_close(stage->read_fd);
        stage->write_fd = fd_close(stage->write_fd);
        stage->n_left = 0;
        stage->is_held = false;
}

static void stage_drop(Process *process, unsigned i) {
        keeper_link_drop(process->host->link, stage_label(i), process->id, process->run.run);
}

void process_stage_init(OutputStage *stage) {
        *stage = (OutputStage){ .read_fd = -1, .write_fd = -1 };
}

void process_stage_open(Process *process, unsigned i, unsigned size) {
        OutputStage *stage = &process->outputs[i].stage;
        int fds[2];

        if (stage->read_fd >= 0 || stage->is_refused)
                return;
        stage->is_refused = true;
        if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
                return;
        stage->read_fd = fds[0];
        stage->write_fd = fds[1];
        if (fcntl(stage->write_fd, F_SETPIPE_SZ, size) < 0 ||
            keeper_link_put_ask(process->host->link, stage_label(i), process->id, process->run.run,
                                stage->read_fd) < 0) {
                stage_close_fds(stage);
                return;
        }
        stage->n_asked++;
        stage->is_refused = false;
}

void process_stage_on_held(Process *process, const KeeperMessage *message) {
        unsigned i = message->label == stage_label(0) ? 0 : 1;
        OutputStage *stage = &process->outputs[i].stage;

        if (message->label != stage_label(i) || stage->n_asked == 0)
                return;
        stage->n_asked--;
        if (stage->n_asked > 0 || message->run != process->run.run || stage->write_fd < 0)
                return; /* that is of one that has gone since */
        stage->is_held = message->error == 0;
        stage->is_refused = message->error != 0;
        if (stage->is_refused) {
                stage_close_fds(stage);
                stage_drop(process, i); /* of one before it, which this one was to replace */
        }
}

void process_stage_close(Process *process, unsigned i) {
        OutputStage *stage = &process->outputs[i].stage;

        stage->is_refused = false;
        if (stage->read_fd < 0)
                return;
        stage_close_fds(stage);
        stage_drop(process, i);
}

void process_stage_adopt(Process *process, unsigned i, int fd) {
        OutputStage *stage = &process->outputs[i].stage;
        int n = 0;

        if (fd < 0)
                return;
        stage->read_fd = fd;
        if (ioctl(fd, FIONREAD, &n) == 0 && n > 0)
                stage->n_left = (uint32_t)n;
        else
                process_stage_close(process, i);
}

int process_stage_take(Process *process, unsigned i, size_t max) {
        OutputStage *stage = &process->outputs[i].stage;
        ssize_t n;

        assert(stage->n_left == 0);
        if (!stage->is_held)
                return -ENOENT;
        do
                n = splice(process->outputs[i].fd, NULL, stage->write_fd, NULL, max, SPLICE_F_NONBLOCK);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? -EAGAIN : -ENOENT;
        stage->n_left = (uint32_t)n;
        return n > 0;
}

void process_stage_moved(Process *process, unsigned i, size_t n) {
        OutputStage *stage = &process->outputs[i].stage;

        assert(n <= stage->n_left);
        stage->n_left -= (uint32_t)n;
        if (stage->n_left == 0 && stage->write_fd < 0)
                process_stage_close(process, i);
}
