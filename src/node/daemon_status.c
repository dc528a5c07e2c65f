/* What `gridnode status` shows, as JSON: docs/wire.md is not concerned, the control socket is. */
#include "node/daemon_internal.h"

#include "base/json.h"
#include "base/version.h"

#include <string.h>

static json_t *time_or_null(int64_t unix_ms)
{
        return unix_ms > 0 ? json_time(unix_ms) : json_null();
}

static json_t *build_wan(const struct daemon *d)
{
        char address[INET_ADDR_TEXT], gateway[INET_ADDR_TEXT];

        return json_pack("{s:s,s:s,s:s}", "interface", d->wan_interface, "address",
                inet_addr_format(&d->wan_address, address), "gateway",
                inet_addr_format(&d->wan_gateway, gateway));
}

static json_t *build_dns(const struct daemon *d)
{
        size_t count, failed = 0;
        const struct inet_addr *servers = daemon_dns(d, &count);
        enum monitor_state state = monitor_view_dns(d->monitor, &failed);
        json_t *list = json_array();
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < count; i++)
                json_array_append_new(list, json_string(inet_addr_format(&servers[i], text)));
        return json_pack("{s:s,s:o,s:I}", "state", monitor_state_to_string(state), "servers", list, "failed",
                (json_int_t)failed);
}

static json_t *build_control(const struct daemon *d)
{
        struct channel_view v;
        char address[INET_ADDR_TEXT];
        json_t *j;

        channel_view(d->channel, &v);
        j = json_pack("{s:s,s:s,s:s,s:i,s:f}", "state", channel_state_to_string(v.state), "host",
                d->control_service->host, "address", endpoint_format(&v.address, address), "attempts",
                (int)v.attempts, "next_attempt_s", v.next_attempt_ms / 1000);
        json_object_set_new(j, "since", time_or_null(v.since_unix_ms));
        json_object_set_new(j, "error", v.last_error.number ? json_string(v.last_error.text) : json_null());
        return j;
}

static int64_t unix_of(const struct daemon *d, double monotonic_ms)
{
        return daemon_unix_ms() - (int64_t)(daemon_now_ms(d) - monotonic_ms);
}

static json_t *build_service(const struct daemon *d, size_t index)
{
        const struct profile_service *s = &d->settings->profile->services[index];
        struct monitor_view v;
        json_t *j, *carries = json_array();

        monitor_view_service(d->monitor, index, &v);
        for (size_t i = 0; i < s->carries.count; i++)
                json_array_append_new(carries, json_string(s->carries.items[i]));
        j = json_pack("{s:s,s:s,s:i,s:s,s:s?,s:b,s:o}", "name", s->name, "host", s->host, "port",
                (int)s->port, "state", monitor_state_to_string(v.state), "cause", v.cause, "flapping",
                v.flapping, "carries", carries);
        json_object_set_new(j, "since", v.since_ms > 0 ? json_time(unix_of(d, v.since_ms)) : json_null());
        json_object_set_new(
                j, "last_ok", v.last_ok_ms >= 0 ? json_time(unix_of(d, v.last_ok_ms)) : json_null());
        return j;
}

/* The three jobs go over the service that carries them: what blocks it keeps them waiting. */
static json_t *build_job(const struct daemon *d, const char *job, int waiting)
{
        const struct profile *p = d->settings->profile;

        for (size_t i = 0; i < p->service_count; i++) {
                struct monitor_view v;
                const char *state;

                if (!strv_contains(&p->services[i].carries, job))
                        continue;
                monitor_view_service(d->monitor, i, &v);
                state = v.state == MONITOR_FAILED     ? "blocked"
                        : v.state == MONITOR_DEGRADED ? "degraded"
                                                      : "ready";
                return json_pack("{s:s,s:s,s:s,s:s?,s:i}", "name", job, "service", p->services[i].name,
                        "state", state, "cause", v.cause, "waiting", waiting);
        }
        return json_pack("{s:s,s:n,s:s,s:n,s:i}", "name", job, "service", "state", "not-offered", "cause",
                "waiting", waiting);
}

json_t *status_build(struct daemon *d)
{
        static const char *const jobs[] = {"updates", "images", "logs"};
        const struct node_settings *s = d->settings;
        json_t *services = json_array(), *job_list = json_array(), *j;
        json_t *last = watch_last_diagnosis(d->watch), *update = updater_view(d->updater);

        for (size_t i = 0; i < s->profile->service_count; i++)
                json_array_append_new(services, build_service(d, i));
        for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
                bool waits = i == 0 && json_is_object(json_object_get(update, "waiting"));

                json_array_append_new(job_list, build_job(d, jobs[i], waits));
        }
        j = json_pack("{s:i,s:s,s:s,s:s,s:s,s:s}", "schema", 1, "node", s->node, "name", s->name,
                "organisation", s->organisation, "profile", s->profile->name, "version", GRIDNODE_VERSION);
        json_object_set_new(j, "started", json_time(d->started_unix_ms));
        json_object_set_new(j, "wan", build_wan(d));
        json_object_set_new(j, "dns", build_dns(d));
        json_object_set_new(j, "control", build_control(d));
        json_object_set_new(j, "services", services);
        json_object_set_new(j, "jobs", job_list);
        json_object_set_new(j, "configuration", configurer_view(d->configurer));
        json_object_set_new(j, "self_test", selftest_view(d->selftest));
        json_object_set_new(j, "update", update ? update : json_null());
        json_object_set_new(j, "update_schedule", updater_schedule_view(d->updater));
        json_object_set_new(j, "transfers", ways_transfers(d->ways));
        json_object_set_new(j, "waiting_records", json_integer(store_waiting(d->store)));
        json_object_set_new(j, "tools_running", json_integer((json_int_t)tools_running(d->tools)));
        json_object_set_new(j, "certificate_end", time_or_null(reach_certificate_end(d->reach) * 1000));
        json_object_set_new(j, "last_diagnosis", last ? last : json_null());
        return j;
}
