/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/watchdog.h"

#include "common/clock.h"
#include "daemon/keeper/engine-slot.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/report.h"
#include "daemon/keeper/systemd.h"

/* Of systemd's interval: half to the ping, and where it stays unanswered, an eighth for a core dump. A keeper
 * that is replacing an engine which had served is in order: it says so, and the next engine has a whole
 * interval to come up and answer; else systemd ends us all, which is what it is for. */
#define WATCHDOG_PING(usec) ((usec) / 2)
#define WATCHDOG_ABORT(usec) ((usec) / 8)

void watchdog_init(Keeper *keeper) {
        keeper->watchdog_usec = systemd_watchdog_usec();
        keeper->ping_usec = keeper->watchdog_usec > 0 ? clock_monotonic_usec() : USEC_INFINITY;
}

uint64_t watchdog_deadline(const Keeper *keeper) {
        const EngineSlot *engine = &keeper->engine;

        /* An engine that takes the handover is not asked yet; systemd's own clock runs on. */
        if (engine->pid == 0 || keeper->watchdog_usec == 0)
                return USEC_INFINITY;
        if (engine->kill_usec != USEC_INFINITY)
                return engine->kill_usec;
        return engine->is_failed || engine->phase != HANDOVER_DONE ? USEC_INFINITY : keeper->ping_usec;
}

void watchdog_tick(Keeper *keeper, uint64_t now_usec) {
        EngineSlot *engine = &keeper->engine;

        if (now_usec < watchdog_deadline(keeper))
                return;
        if (engine->kill_usec != USEC_INFINITY) {
                engine->kill_usec = USEC_INFINITY;
                engine_slot_fail(keeper, "it does not answer and did not abort");
        } else if (!engine->has_ponged) {
                report(SD_ERR, "engine (pid %d) does not answer: aborting it", engine->pid);
                engine->kill_usec = now_usec + WATCHDOG_ABORT(keeper->watchdog_usec);
                keeper->ping_usec = now_usec; /* the next one is asked at once */
                (void)kill(engine->pid, SIGABRT);
                if (engine->has_served)
                        systemd_notify("WATCHDOG=1");
        } else {
                engine->has_ponged = false;
                engine->owes_ping = true;
                keeper->ping_usec = now_usec + WATCHDOG_PING(keeper->watchdog_usec);
                engine_slot_flush(keeper);
        }
}

void watchdog_on_pong(Keeper *keeper) {
        keeper->engine.has_ponged = true;
        systemd_notify("WATCHDOG=1");
}
