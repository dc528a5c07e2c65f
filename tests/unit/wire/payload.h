/* How each payload's test looks at its parser and writer. */
#pragma once

#include "base/cleanup.h"
#include "base/json.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Parses the text, which must go well. */
#define PARSE(parse, input, ret)                                   \
        do {                                                       \
                struct error _e = {0};                             \
                if (parse((input), strlen(input), (ret), &_e) < 0) \
                        fail_msg("%s", _e.text);                   \
        } while (0)

/* Refused with exactly this error, and the result is not touched. */
#define ASSERT_REFUSED(parse, type, input, length, number_wanted, expected)              \
        do {                                                                             \
                struct error _e = {0};                                                   \
                type _v, _before;                                                        \
                memset(&_v, 0x5a, sizeof _v);                                            \
                memset(&_before, 0x5a, sizeof _before);                                  \
                assert_int_equal(parse((input), (length), &_v, &_e), -(number_wanted));  \
                assert_string_equal(_e.text, (expected));                                \
                assert_int_equal(_e.number, (number_wanted));                            \
                assert_memory_equal(&_v, &_before, sizeof _v);                           \
                assert_int_equal(parse((input), (length), &_v, NULL), -(number_wanted)); \
        } while (0)

/* The writer's input. */
#define ASSERT_WRITES(json, expected)                   \
        do {                                            \
                json_t *_j = (json);                    \
                char *_text = json_to_text(_j);         \
                assert_string_equal(_text, (expected)); \
                free(_text);                            \
                json_decref(_j);                        \
        } while (0)

struct payload_case {
        const char *text, *wanted;
};

#define ASSERT_CASES_REFUSED(parse, type, cases)        \
        for (size_t _i = 0; _i < ELEMENTS(cases); _i++) \
        ASSERT_REFUSED(parse, type, (cases)[_i].text, strlen((cases)[_i].text), EBADMSG, (cases)[_i].wanted)

/* What every parser must bear: each beginning of a good input, and each byte of it overwritten. */
#define ASSERT_BEARS_HARM(parse, done, type, input)                                       \
        do {                                                                              \
                size_t _length = strlen(input);                                           \
                char *_copy = strdup(input);                                              \
                type _v;                                                                  \
                for (size_t _i = 0; _i < _length; _i++)                                   \
                        assert_int_equal(parse((input), _i, &_v, NULL), -EBADMSG);        \
                for (size_t _i = 0; _i < _length; _i++) {                                 \
                        static const char _bytes[] = {'\0', '\xff', '"', '}', '9', '\n'}; \
                        for (size_t _k = 0; _k < sizeof _bytes; _k++) {                   \
                                _copy[_i] = _bytes[_k];                                   \
                                if (parse(_copy, _length, &_v, NULL) == 0)                \
                                        done(&_v);                                        \
                        }                                                                 \
                        _copy[_i] = (input)[_i];                                          \
                }                                                                         \
                free(_copy);                                                              \
        } while (0)
