/* SPDX-License-Identifier: MIT */

/* Every method of docs/protocol.md §5.
 *      wire name          handler                  members of params */
METHOD( "run",             request_run,             "argv env cwd name stdin stdout stderr timeout_usec "
                                                    "kill_after_usec stop_signal rm lease retention_bytes "
                                                    "full_disk umask key subscribe data eof")
METHOD( "start",           request_start,           "target key subscribe")
METHOD( "restart",         request_restart,         "target key subscribe grace_usec")
METHOD( "stop",            request_stop,            "targets grace_usec signal now")
METHOD( "signal",          request_signal,          "targets signal scope")
METHOD( "pause",           request_pause,           "targets")
METHOD( "resume",          request_resume,          "targets")
METHOD( "remove",          request_remove,          "targets force")
METHOD( "list",            request_list,            "all fields")
METHOD( "show",            request_show,            "target fields")
METHOD( "subscribe",       request_subscribe,       "target " SUBSCRIPTION_MEMBERS)
METHOD( "unsubscribe",     request_unsubscribe,     "stream")
METHOD( "open-stdin",      request_open_stdin,      "target stream writer lock")
METHOD( "close-stream",    request_close_stream,    "stream")
METHOD( "write",           request_write,           "target data eof drain consumed timeout_usec key lock")
METHOD( "close-stdin",     request_close_stdin,     "target lock")
METHOD( "cancel-input",    request_cancel_input,    "target lock")
METHOD( "lock-stdin",      request_lock_stdin,      "target holder ttl_usec lock")
METHOD( "unlock-stdin",    request_unlock_stdin,    "target lock")
METHOD( "wait",            request_wait,            "targets for any timeout_usec")
METHOD( "events",          request_events,          "since stream follow")
METHOD( "renew",           request_renew,           "target")
METHOD( "cancel",          request_cancel,          "request")
METHOD( "daemon-status",   request_daemon_status,   "")
METHOD( "daemon-stop",     request_daemon_stop,     "grace_usec")
METHOD( "daemon-upgrade",  request_daemon_upgrade,  "")
METHOD( "version",         request_version,         "")
