/* Tools that the plane asks a node to run, and what they say. */
#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>

#define WORD_MAX_BYTES     64
#define ARGUMENT_MAX_BYTES 1024
#define BY_MAX_BYTES       256
#define LINE_MAX_BYTES     8192
#define ERROR_MAX_BYTES    2048
#define MIN_TIMEOUT_S      1
#define MAX_TIMEOUT_S      600
#define DEFAULT_TIMEOUT_S  60

/* ---- requests ---- */

void wire_request_done(struct wire_request *r)
{
        free(r->tool);
        strv_done(&r->arguments);
        free(r->by);
        *r = (struct wire_request){0};
}

json_t *wire_request_to_json(const struct wire_request *r)
{
        json_t *j = wire_new();

        json_object_set_new(j, "id", wire_text(r->id));
        if (r->cancel) {
                json_object_set_new(j, "cancel", json_true());
                return j;
        }
        json_object_set_new(j, "tool", wire_text(r->tool));
        json_object_set_new(j, "arguments", wire_strings(&r->arguments));
        json_object_set_new(j, "timeout_s", json_real(r->timeout_s));
        wire_set_text(j, "by", r->by);
        return j;
}

int wire_request_parse(const void *data, size_t length, struct wire_request *ret, struct error *ret_error)
{
        _cleanup_(wire_request_done) struct wire_request request = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_MESSAGE_MAXIMUM, "request", &object, &reader, ret_error);

        if (r < 0)
                return r;
        wire_read_id(&reader, "id", request.id);
        request.cancel = json_take_optional_boolean(&reader, "cancel", false);
        if (!request.cancel) {
                request.tool = wire_read_text(&reader, "tool", WORD_MAX_BYTES);
                wire_read_strings(
                        &reader, "arguments", REQUEST_MAX_ARGUMENTS, ARGUMENT_MAX_BYTES, &request.arguments);
                request.timeout_s = json_take_optional_number(
                        &reader, "timeout_s", MIN_TIMEOUT_S, MAX_TIMEOUT_S, DEFAULT_TIMEOUT_S);
                request.by = xstrdup(json_take_optional_text(&reader, "by", BY_MAX_BYTES));
        }
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = request;
        request = (struct wire_request){0};
        return 0;
}

/* ---- output ---- */

static const char *const ends[] = {
        [END_NONE] = "none",
        [END_EXITED] = "exited",
        [END_SIGNALLED] = "signalled",
        [END_TIMEOUT] = "timeout",
        [END_CANCELLED] = "cancelled",
        [END_REFUSED] = "refused",
        [END_LOST] = "lost",
};

const char *wire_end_to_string(enum wire_end e)
{
        return ends[e];
}

void wire_output_done(struct wire_output *o)
{
        for (size_t i = 0; i < o->line_count; i++)
                free(o->lines[i].text);
        free(o->lines);
        free(o->error);
        *o = (struct wire_output){0};
}

json_t *wire_output_to_json(const struct wire_output *o)
{
        json_t *j = wire_new(), *lines, *end;

        json_object_set_new(j, "first", json_integer(o->first));
        if (o->line_count > 0) {
                lines = json_array();
                for (size_t i = 0; i < o->line_count; i++) {
                        json_t *line = json_object();

                        json_object_set_new(
                                line, "stream", json_string(o->lines[i].is_error ? "err" : "out"));
                        json_object_set_new(line, "text", wire_text(o->lines[i].text));
                        json_array_append_new(lines, line);
                }
                json_object_set_new(j, "lines", lines);
        }
        if (o->end != END_NONE) {
                end = json_object();
                json_object_set_new(end, "reason", json_string(wire_end_to_string(o->end)));
                json_object_set_new(end, "status", json_integer(o->status));
                wire_set_text(end, "error", o->error);
                json_object_set_new(j, "end", end);
        }
        return j;
}

static void read_line(struct json_reader *r, json_t *item, struct wire_line *ret)
{
        const char *stream, *text;
        struct json_reader line;

        json_reader_init(&line, item, "output: a line", r->error);
        stream = json_take_text(&line, "stream", WORD_MAX_BYTES);
        text = json_take_text(&line, "text", LINE_MAX_BYTES);
        if (stream && !str_equal(stream, "out") && !str_equal(stream, "err"))
                json_reader_fail(&line, "stream", "is not out or err");
        if (text && strchr(text, '\n'))
                json_reader_fail(&line, "text", "is more than one line");
        *ret = (struct wire_line){.is_error = str_equal(stream, "err"), .text = xstrdup(text)};
        if (r->result == 0)
                r->result = json_reader_done(&line, false);
}

static void read_lines(struct json_reader *r, struct wire_output *ret)
{
        json_t *lines = json_take_optional_array(r, "lines", OUTPUT_MAX_LINES);

        if (json_array_size(lines) == 0)
                return;
        ret->lines = xcalloc(json_array_size(lines), sizeof *ret->lines);
        while (r->result == 0 && ret->line_count < json_array_size(lines)) {
                read_line(r, json_array_get(lines, ret->line_count), &ret->lines[ret->line_count]);
                ret->line_count++;
        }
}

static void read_end(struct json_reader *r, struct wire_output *ret)
{
        json_t *object = json_take_optional_object(r, "end");
        struct json_reader end;
        const char *reason;

        if (!object)
                return;
        json_reader_init(&end, object, "output: its end", r->error);
        reason = json_take_text(&end, "reason", WORD_MAX_BYTES);
        for (size_t i = END_EXITED; i < ELEMENTS(ends); i++)
                if (str_equal(reason, ends[i]))
                        ret->end = (enum wire_end)i;
        if (ret->end == END_NONE)
                json_reader_fail(&end, "reason", "is none that is known");
        ret->status = (int)json_take_optional_integer(&end, "status", 0, 255, 0);
        ret->error = xstrdup(json_take_optional_text(&end, "error", ERROR_MAX_BYTES));
        r->result = json_reader_done(&end, false);
}

int wire_output_parse(const void *data, size_t length, struct wire_output *ret, struct error *ret_error)
{
        _cleanup_(wire_output_done) struct wire_output o = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_MESSAGE_MAXIMUM, "output", &object, &reader, ret_error);

        if (r < 0)
                return r;
        o.first = json_take_integer(&reader, "first", 0, INT64_MAX - OUTPUT_MAX_LINES);
        read_lines(&reader, &o);
        read_end(&reader, &o);
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = o;
        o = (struct wire_output){0};
        return 0;
}
