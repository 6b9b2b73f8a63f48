/* SPDX-License-Identifier: MIT */

/* The members of STATUS (docs/protocol.md §5), in the order in which they are written.
 *           NAME             wire name         how it is written: `text`, `process`, `run` are in scope */
STATUS_FIELD(ID,              "id",             json_text_number(text, process->id))
STATUS_FIELD(NAME,            "name",           json_text_bytes(text, process->config.name))
STATUS_FIELD(STATE,           "state",          json_text_bytes(text, process_state_name(process->state)))
STATUS_FIELD(RUN,             "run",            json_text_number(text, run->run))
STATUS_FIELD(PID,             "pid",            write_or_null(text, process_is_alive(process) ? (uint64_t)run->pid : 0))
STATUS_FIELD(ARGV,            "argv",           write_argv(text, &process->config))
STATUS_FIELD(START_USEC,      "start_usec",     write_or_null(text, run->run ? run->start_usec : 0))
STATUS_FIELD(END_USEC,        "end_usec",       write_or_null(text, run->end_usec))
STATUS_FIELD(EXIT,            "exit",           write_exit(text, run))
STATUS_FIELD(STDOUT_CLOSED,   "stdout_closed",  json_text_bool(text, run->ended & RUN_STDOUT_CLOSED))
STATUS_FIELD(STDERR_CLOSED,   "stderr_closed",  json_text_bool(text, run->ended & RUN_STDERR_CLOSED))
STATUS_FIELD(TREE_EMPTY,      "tree_empty",     json_text_bool(text, run->run == 0 || run->ended & RUN_EMPTY))
STATUS_FIELD(LOG_BEGIN,       "log_begin",      write_log_bound(text, process, log_begin))
STATUS_FIELD(LOG_END,         "log_end",        write_log_bound(text, process, log_end))
