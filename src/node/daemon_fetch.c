/* The wanted configuration: what the plane says of it, and its document, which a child fetches over 8443. */
#include "node/daemon_config_internal.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

#define FETCH_TIMEOUT_MS 20000

static void fetch(struct configurer *c);

static bool is_refused(const struct configurer *c, int64_t version)
{
        return str_equal(json_string_value(json_object_get(c->applied, "state")), "taken-back") &&
               json_integer_value(json_object_get(c->applied, "version")) == version;
}

static bool is_in_force(const struct configurer *c, int64_t version)
{
        return version == c->daemon->config.version && !c->is_lost;
}

static int on_retry(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct configurer *c = userdata;

        (void)source;
        (void)at_us;
        if (!is_in_force(c, c->wanted_version) && !is_refused(c, c->wanted_version))
                fetch(c);
        return 0;
}

static void fetch_later(struct configurer *c)
{
        daemon_arm(c->daemon, &c->retry, CONFIGURER_LATER_MS, on_retry, c);
}

void configurer_retry_later(struct configurer *c)
{
        daemon_arm(c->daemon, &c->retry, backoff_next_ms(&c->backoff, backoff_random()), on_retry, c);
}

/* Of "gridnode config --json": {"status":200,"config":{…}}. */
static int read_fetched(const char *output, size_t length, struct wire_config *ret, struct error *ret_error)
{
        json_t *j = NULL, *document;
        _cleanup_free_ char *text = NULL;
        int r = json_parse(output, length, WIRE_MESSAGE_MAXIMUM, "the configuration", &j, ret_error);

        if (r < 0)
                return r;
        document = json_object_get(j, "config");
        if (!json_is_object(document)) {
                const char *why = json_string_value(json_object_get(j, "error"));

                r = error_set(ret_error, ENOENT, "config.fetch", "it cannot be fetched: %s",
                        why ? why : "the control plane has none");
                json_decref(j);
                return r;
        }
        text = json_to_text(document);
        json_decref(j);
        return wire_config_parse(text, strlen(text), ret, ret_error);
}

static void on_fetch_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct configurer *c = userdata;
        struct wire_config config = {0};
        struct error e = {0};
        int r;

        c->fetch = NULL;
        if (c->is_noticed || c->is_applying) {
                c->is_noticed = false;
                fetch_later(c);
                return;
        }
        if (end != END_EXITED)
                r = error_set(&e, EIO, "config.fetch", "it cannot be fetched: %s %d", wire_end_to_string(end),
                        status);
        else
                r = read_fetched(output, length, &config, &e);
        if (r < 0) {
                configurer_tell_failure(c, c->wanted_version, e.text);
                configurer_retry_later(c);
                return;
        }
        configurer_take_lans(c->daemon->settings->site, &config);
        /* It came by the network as it is now: who mends a configuration need not wait out its minute. */
        if (c->is_candidate)
                configurer_confirm(c);
        c->wanted_version = config.version > c->wanted_version ? config.version : c->wanted_version;
        if (is_in_force(c, config.version) || is_refused(c, config.version)) {
                wire_config_done(&config);
                return;
        }
        configurer_apply(c, &config);
}

static void fetch(struct configurer *c)
{
        static const char *const words[] = {"config", "--json", NULL};

        if (c->fetch)
                return;
        if (c->is_applying) {
                fetch_later(c);
                return;
        }
        if (daemon_start_verb(c->daemon, words, FETCH_TIMEOUT_MS, on_fetch_end, c, &c->fetch) < 0)
                configurer_retry_later(c);
}

void configurer_notice(struct configurer *c, const void *payload, size_t length)
{
        struct error e = {0};
        int64_t version;

        if (wire_notice_parse(payload, length, &version, &e) < 0) {
                daemon_refuse(c->daemon, &e);
                return;
        }
        if (is_in_force(c, version) || is_refused(c, version)) {
                c->wanted_version = version; /* one that was announced before is not wanted any more */
                if (is_in_force(c, version))
                        configurer_end_failure(c);
                return;
        }
        if (version != c->wanted_version) {
                c->is_noticed = c->fetch != NULL;
                c->failures = 0;
        }
        c->wanted_version = version;
        backoff_reset(&c->backoff);
        fetch(c);
}

const struct wire_config *configurer_good(const struct configurer *c)
{
        return &c->good;
}
