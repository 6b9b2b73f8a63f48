/* SPDX-License-Identifier: MIT */

/* The closed sets of docs/protocol.md, each once. Define the macro of the set that is wanted before including.
 *
 * FRAME(name, number, largest payload in bytes)                  section 1; the CONTROL bound is the one to the daemon */
#ifdef FRAME
FRAME(  HELLO,      1,  64 * 1024)
FRAME(  CONTROL,    2,  8 * 1024 * 1024)
FRAME(  DATA,       3,  1024 * 1024 + 24)
FRAME(  INPUT,      4,  1024 * 1024 + 8)
FRAME(  CREDIT,     5,  8)
FRAME(  ACK,        6,  24)
FRAME(  GOODBYE,    7,  64 * 1024)
#endif
/* RECORD(name, number, text)                                     section 4; the same numbers stand in the log's index */
#ifdef RECORD
RECORD( DATA,       1,  "data")
RECORD( GAP,        2,  "gap")
RECORD( START,      3,  "start")
RECORD( INPUT,      4,  "input")
RECORD( SIGNAL,     5,  "signal")
RECORD( RESIZE,     6,  "resize")
RECORD( CLOSED,     7,  "closed")
RECORD( EXIT,       8,  "exit")
RECORD( EMPTY,      9,  "empty")
RECORD( WRITER,     10, "writer")
RECORD( END,        15, "end")
#endif
/* SOURCE(name, number, text) */
#ifdef SOURCE
SOURCE( NONE,       0,  "none")
SOURCE( STDOUT,     1,  "stdout")
SOURCE( STDERR,     2,  "stderr")
SOURCE( STDIN,      3,  "stdin")
#endif
