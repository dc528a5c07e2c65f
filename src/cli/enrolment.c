#include "cli/enrolment.h"

#include "base/cleanup.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

int enrolment_load(struct session *s, struct node_settings *ret)
{
        struct error e = {0};

        if (node_settings_load(s->settings.root, s->settings.config_path, ret, &e) < 0)
                return session_fail(s, EX_CONFIG, "%s", e.text);
        return EXIT_SUCCESS;
}

double enrolment_timeout_ms(const struct session *s)
{
        return s->settings.budget_s > 0 ? s->settings.budget_s * 1000 : ENROLMENT_PATIENCE_MS;
}

/* The daemon, which reads no messages, tells the reason. */
static void write_problem(const struct error *e)
{
        _cleanup_free_ char *safe = str_printable(e->text, strlen(e->text), sizeof e->text), *text = NULL;
        json_t *j = json_pack("{s:s}", "error", safe);

        text = json_to_text(j);
        json_decref(j);
        puts(text);
}

int enrolment_fail(const struct session *s, const struct error *e)
{
        static const struct {
                const char *prefix;
                int status;
        } kinds[] = {{"usage.", EX_USAGE}, {"root.bad-fingerprint", EX_USAGE}, {"config.identity", EX_CONFIG},
                {"profile.", EX_CONFIG}, {"http.bad-proxy", EX_CONFIG}, {"dns.", EX_UNAVAILABLE},
                {"tcp.", EX_UNAVAILABLE}, {"proxy.", EX_UNAVAILABLE}, {"tls.timeout", EX_UNAVAILABLE},
                {"tls.failed", EX_UNAVAILABLE}, {"http.timeout", EX_UNAVAILABLE},
                {"http.failed", EX_UNAVAILABLE}};

        if (s->settings.json)
                write_problem(e);
        for (size_t i = 0; e->code && i < ELEMENTS(kinds); i++)
                if (str_starts_with(e->code, kinds[i].prefix))
                        return session_fail(s, kinds[i].status, "%s", e->text);
        if ((e->number == EACCES || e->number == EPERM) && e->code &&
                (str_starts_with(e->code, "file.") || str_starts_with(e->code, "folder.")))
                return session_fail(s, EX_NOPERM, "%s", e->text);
        return session_fail(s, EXIT_FAILURE, "%s", e->text);
}
