/* SPDX-License-Identifier: MIT */

/* Every statement on the registry. RUN_COLUMNS and RUN_MARKS are made of registry-run-table.h.
 *         NAME             SQL */
STATEMENT( LOAD,            "SELECT process.id, process.name, process.config, process.created_usec, process.paused, run.process"
                            RUN_COLUMNS " FROM process LEFT JOIN run ON run.process = process.id AND run.run ="
                            " (SELECT max(latest.run) FROM run AS latest WHERE latest.process = process.id)"
                            " ORDER BY process.id")
STATEMENT( GET_CONFIG,      "SELECT config FROM process WHERE id = ?")
STATEMENT( ADD_PROCESS,     "INSERT INTO process(id, name, config, created_usec, paused) VALUES(?, ?, ?, ?, ?)")
STATEMENT( SET_PAUSED,      "UPDATE process SET paused = ?2 WHERE id = ?1")
STATEMENT( REMOVE_PROCESS,  "DELETE FROM process WHERE id = ?")
STATEMENT( PUT_RUN,         "INSERT OR REPLACE INTO run(process" RUN_COLUMNS ") VALUES(?" RUN_MARKS ")")
STATEMENT( RUNS,            "SELECT process" RUN_COLUMNS " FROM run WHERE process = ? ORDER BY run DESC LIMIT ?")
STATEMENT( FIND_RUN,        "SELECT process" RUN_COLUMNS " FROM run WHERE process = ? AND run = ?")
STATEMENT( KEY_COUNT,       "SELECT count(*) FROM key")
STATEMENT( ADD_EVENT,       "INSERT INTO event(time_usec, json) VALUES(?, ?)")
STATEMENT( PRUNE_EVENTS,    "DELETE FROM event WHERE seq <= ?")
STATEMENT( EVENTS,          "SELECT seq, time_usec, json FROM event WHERE seq > ? ORDER BY seq LIMIT ?")
STATEMENT( EVENT_OLDEST,    "SELECT min(seq) FROM event")
STATEMENT( EVENT_LATEST,    "SELECT max(seq) FROM event")
STATEMENT( PUT_KEY,         "INSERT OR REPLACE INTO key(key, time_usec, process, run) VALUES(?, ?, ?, ?)")
STATEMENT( GET_KEY,         "SELECT process, run FROM key WHERE key = ?")
STATEMENT( PRUNE_KEYS,      "DELETE FROM key WHERE id <= ?1 OR id IN (SELECT id FROM key ORDER BY id LIMIT 128) AND time_usec < ?2")
STATEMENT( SET_CURSOR,      "INSERT OR REPLACE INTO cursor(process, name, offset) VALUES(?, ?, ?)")
STATEMENT( DROP_CURSOR,     "DELETE FROM cursor WHERE process = ? AND name = ?")
STATEMENT( GET_CURSOR,      "SELECT offset FROM cursor WHERE process = ? AND name = ?")
STATEMENT( COUNT_CURSORS,   "SELECT count(*) FROM cursor WHERE process = ?")
STATEMENT( CURSORS,         "SELECT name, offset FROM cursor WHERE process = ? ORDER BY name")
STATEMENT( PUT_READ_KEY,    "INSERT OR REPLACE INTO read_key(key, time_usec, process, offset, answer) VALUES(?, ?, ?, ?, ?)")
STATEMENT( GET_READ_KEY,    "SELECT process, offset, answer FROM read_key WHERE key = ?")
STATEMENT( PRUNE_READ_KEYS, "DELETE FROM read_key WHERE id <= ?1 OR id IN (SELECT id FROM read_key ORDER BY id LIMIT 128) AND time_usec < ?2")
STATEMENT( SET_META,        "INSERT OR REPLACE INTO meta(name, value) VALUES(?, ?)")
STATEMENT( GET_META,        "SELECT value FROM meta WHERE name = ?")
STATEMENT( PUT_LOCK,        "INSERT OR REPLACE INTO stdin_lock(process, token, holder, pid, expires_usec) VALUES(?, ?, ?, ?, ?)")
STATEMENT( REMOVE_LOCK,     "DELETE FROM stdin_lock WHERE process = ?")
STATEMENT( LOCKS,           "SELECT process, token, holder, pid, expires_usec FROM stdin_lock")
STATEMENT( ADD_RESERVE,     "INSERT INTO reserve(data) VALUES(zeroblob(?))")
STATEMENT( DROP_RESERVE,    "DELETE FROM reserve")
