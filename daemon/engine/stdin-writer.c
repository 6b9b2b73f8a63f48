/* SPDX-License-Identifier: MIT */

#include "daemon/engine/stdin-writer.h"

#include <stdlib.h>
#include <string.h>

struct StdinWriters {
        unsigned n;
        KnownWriter known[STDIN_WRITERS_MAX]; /* the one used last comes first */
};

StdinWriter stdin_writer_hash(const void *key, size_t size) {
        const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
        unsigned __int128 hash =
                (unsigned __int128)UINT64_C(0x6c62272e07bb0142) << 64 | UINT64_C(0x62b821756295c58d);
        const uint8_t *p = key;
        StdinWriter writer = {};

        for (size_t i = 0; i < size; i++)
                hash = (hash ^ p[i]) * prime;
        for (unsigned i = 0; i < STDIN_WRITER_ID_SIZE; i++, hash >>= 8)
                writer.id[i] = (uint8_t)hash;
        return writer;
}

bool stdin_writer_is(const StdinWriter *writer, const StdinWriter *other) {
        return memcmp(writer->id, other->id, STDIN_WRITER_ID_SIZE) == 0;
}

StdinWriters *stdin_writers_free(StdinWriters *writers) {
        free(writers);
        return NULL;
}

static unsigned stdin_writers_find(const StdinWriters *writers, const StdinWriter *writer) {
        unsigned i;

        for (i = 0; i < writers->n; i++)
                if (stdin_writer_is(&writers->known[i].writer, writer))
                        break;
        return i;
}

bool stdin_writers_get(StdinWriters *writers, const StdinWriter *writer, KnownWriter *ret_known) {
        unsigned i;

        i = writers ? stdin_writers_find(writers, writer) : 0;
        if (!writers || i == writers->n)
                return false;
        *ret_known = writers->known[i];
        stdin_writers_put(&writers, ret_known);
        return true;
}

void stdin_writers_put(StdinWriters **writers, const KnownWriter *known) {
        StdinWriters *w = *writers;
        unsigned i;

        if (!w)
                w = *writers = calloc(1, sizeof(*w));
        if (!w)
                return;
        i = stdin_writers_find(w, &known->writer);
        if (i == STDIN_WRITERS_MAX)
                i--;
        else if (i == w->n)
                w->n++;
        memmove(w->known + 1, w->known, i * sizeof(*w->known));
        w->known[0] = *known;
}
