/* SPDX-License-Identifier: MIT */

/* The states of a process and what moves it between them (docs/states.md).
 *            NAME        wire name */
#ifdef STATE
STATE(EXITED, "exited")     /* nothing runs: ended, or never started */
STATE(STARTING, "starting") /* the keeper was asked to spawn */
STATE(RUNNING, "running")
STATE(PAUSED, "paused")     /* the tree is frozen */
STATE(STOPPING, "stopping") /* the stop signal was sent; SIGKILL follows at the deadline */
STATE(FAILED, "failed")     /* it could not be executed */
#endif
/*            NAME */
#ifdef EVENT
EVENT(START)
EVENT(SPAWNED)
EVENT(SPAWN_FAILED)
EVENT(PAUSE)
EVENT(RESUME)
EVENT(STOP)
EVENT(EXIT)
#endif
