// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include <stdio.h>
#include <string.h>

void story_conclude(struct story *s)
{
        conclusion_done(&s->conclusion);
        s->conclusion = (struct conclusion){0};
        diagnose_conclude(&s->list, &s->conclusion);
}

const char *story_codes(struct story *s)
{
        size_t at = 0;

        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.cause_count; i++) {
                const struct cause *c = &s->conclusion.causes[i];
                bool warning = c->severity == SEVERITY_WARNING;

                at += (size_t)snprintf(s->codes + at, sizeof s->codes - at, "%s%s%s%s", i ? " " : "",
                        warning ? "(" : "", c->info->text, warning ? ")" : "");
                if (at >= sizeof s->codes)
                        fail_msg("too many causes");
        }
        return s->codes;
}

static void print_conclusion(const struct story *s)
{
        print_error("%s: %s\n", verdict_to_string(s->conclusion.verdict), s->conclusion.summary);
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                print_error(
                        "  %s: %s\n", s->conclusion.causes[i].info->text, s->conclusion.causes[i].summary);
        for (size_t i = 0; i < s->conclusion.service_count; i++)
                print_error("  %s %s\n", s->conclusion.services[i].name,
                        service_state_to_string(s->conclusion.services[i].state));
}

void story_assert(struct story *s, const char *verdict, const char *codes, const char *file, int line)
{
        story_conclude(s);
        if (!str_equal(story_codes(s), codes) ||
                !str_equal(verdict_to_string(s->conclusion.verdict), verdict)) {
                print_error("expected %s [%s], concluded %s [%s]\n", verdict, codes,
                        verdict_to_string(s->conclusion.verdict), story_codes(s));
                print_conclusion(s);
                _fail(file, line);
        }
        for (size_t i = 0; i < s->conclusion.cause_count; i++) {
                const struct cause *c = &s->conclusion.causes[i];

                if (str_is_empty(c->summary) || str_is_empty(c->remedy) || !c->evidence_count) {
                        print_error("%s lacks its sentence, remedy or evidence\n", c->info->text);
                        _fail(file, line);
                }
        }
}

struct cause *story_cause(struct story *s, const char *code)
{
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                if (str_equal(s->conclusion.causes[i].info->text, code))
                        return &s->conclusion.causes[i];
        fail_msg("%s was not concluded", code);
        return NULL;
}

static void append(struct story *s, const char *a, const char *separator, const char *b)
{
        size_t at = strlen(s->codes);

        snprintf(s->codes + at, sizeof s->codes - at, "%s%s%s%s", at ? " " : "", a, separator, b);
}

const char *story_targets(struct story *s, const char *code)
{
        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                if (str_equal(s->conclusion.causes[i].info->text, code))
                        for (size_t k = 0; k < s->conclusion.causes[i].targets.count; k++)
                                append(s, s->conclusion.causes[i].targets.items[k], "", "");
        return s->codes;
}

const char *story_states(struct story *s)
{
        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.service_count; i++)
                append(s, s->conclusion.services[i].name, "=",
                        service_state_to_string(s->conclusion.services[i].state));
        return s->codes;
}

const char *story_addresses(struct story *s, const char *service)
{
        char text[INET_ADDR_TEXT];

        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.service_count; i++) {
                const struct service_result *r = &s->conclusion.services[i];

                for (size_t k = 0; str_equal(r->name, service) && k < r->address_count; k++)
                        append(s, inet_addr_format(&r->addresses[k].address, text), "=",
                                address_state_to_string(r->addresses[k].state));
        }
        return s->codes;
}
