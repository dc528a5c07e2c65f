#include "diagnose/conclusion.h"

#include <stdlib.h>

const char *verdict_to_string(enum verdict v)
{
        switch (v) {
        case VERDICT_HEALTHY:
                return "healthy";
        case VERDICT_DEGRADED:
                return "degraded";
        case VERDICT_BLOCKED:
                return "blocked";
        case VERDICT_UNDETERMINED:
                return "undetermined";
        }
        return "?";
}

int verdict_exit_code(enum verdict v)
{
        switch (v) {
        case VERDICT_HEALTHY:
                return 0;
        case VERDICT_DEGRADED:
                return 3;
        case VERDICT_BLOCKED:
                return 1;
        case VERDICT_UNDETERMINED:
                return 2;
        }
        return 2;
}

const char *address_state_to_string(enum address_state s)
{
        switch (s) {
        case ADDRESS_OK:
                return "ok";
        case ADDRESS_BLOCKED:
                return "blocked";
        case ADDRESS_NOT_TESTED:
                return "not-tested";
        }
        return "?";
}

const char *service_state_to_string(enum service_state s)
{
        switch (s) {
        case SERVICE_OK:
                return "ok";
        case SERVICE_DEGRADED:
                return "degraded";
        case SERVICE_BLOCKED:
                return "blocked";
        case SERVICE_NOT_TESTED:
                return "not-tested";
        }
        return "?";
}

static void service_result_done(struct service_result *s)
{
        free(s->name);
        free(s->host);
        strv_done(&s->carries);
        free(s->addresses);
}

static void cause_done(struct cause *c)
{
        strv_done(&c->services);
        strv_done(&c->targets);
        strv_done(&c->candidates);
        free(c->interface);
        free(c->route);
        free(c->interceptor);
        free(c->summary);
        free(c->remedy);
        free(c->evidence);
}

void conclusion_done(struct conclusion *c)
{
        for (size_t i = 0; i < c->service_count; i++)
                service_result_done(&c->services[i]);
        for (size_t i = 0; i < c->cause_count; i++)
                cause_done(&c->causes[i]);
        free(c->services);
        free(c->causes);
        free(c->summary);
        *c = (struct conclusion){0};
}
