/* SPDX-License-Identifier: MIT */

/* All that a process writes, as lines of JSON: values are whole, however they arrive. */

#include <pmux-text.h>
#include <pmux.h>
#include <stdio.h>

static int on_value(const char *value, size_t size, uint64_t offset, void *userdata) {
        (void)size;
        (void)userdata;
        return printf("%llu: %s\n", (unsigned long long)offset, value) < 0 ? -1 : 0;
}

int main(void) {
        const char *const argv[] = { "printf", "{\"a\": 1}\\n{\"b\":\\n [2, 3]}", NULL };
        const char *const env[] = { "PATH=/usr/bin:/bin", NULL };
        const PmuxRecord *record;
        PmuxStream *stream;
        PmuxError error = { .code = "" };
        PmuxJson *json;
        Pmux *pmux;
        int r;

        if (pmux_open(&pmux, NULL, &error) < 0 || pmux_json_new(&json, 0, on_value, NULL, &error) < 0 ||
            pmux_run(pmux, argv, env, NULL, NULL, NULL, &stream, NULL, &error) < 0)
                return fprintf(stderr, "%s\n", error.message), 1;
        while ((r = pmux_stream_next(stream, &record, PMUX_INFINITY, &error)) > 0)
                if (record->kind == PMUX_DATA && record->source == PMUX_STDOUT &&
                    pmux_json_feed(json, record->offset, record->data, record->size, &error) < 0)
                        break;
        if (r != 0 || pmux_json_end(json, &error) < 0)
                fprintf(stderr, "%s\n", error.message);
        pmux_json_free(json);
        pmux_close(pmux);
        return 0;
}
