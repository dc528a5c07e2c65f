/* gridplane serve, gridplane check */
#include "cli/commands_gridplane.h"
#include "cli/session.h"
#include "cli/terminal.h"

#include "base/log.h"
#include "plane/preflight.h"
#include "plane/serve.h"

#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

static int load(struct session *s, struct plane_settings *ret)
{
        struct plane_options o = {.root = s->settings.root,
                .config_path = s->settings.config_path,
                .domain = s->settings.domain,
                .listen = s->settings.listen};
        struct error e = {0};

        if (plane_settings_load(&o, ret, &e) < 0)
                return session_fail(s, EX_CONFIG, "%s", e.text);
        return EXIT_SUCCESS;
}

int cmd_serve(struct session *s)
{
        struct plane_settings settings = {0};
        int status = load(s, &settings);

        if (status != EXIT_SUCCESS)
                return status;
        log_open("gridplane", s->settings.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
        status = serve_run(&settings);
        plane_settings_done(&settings);
        return status;
}

static void write_findings(const struct session *s, const struct finding *found, size_t count)
{
        json_t *list = json_array();

        for (size_t i = 0; i < count; i++) {
                if (!s->settings.json)
                        printf("%s  %s: %s\n", found[i].fatal ? "error  " : "warning", found[i].code,
                                found[i].text);
                json_array_append_new(list, json_pack("{s:b,s:s,s:s}", "fatal", found[i].fatal, "code",
                                                    found[i].code, "text", found[i].text));
        }
        if (s->settings.json) {
                json_t *j = json_pack("{s:o}", "findings", list);

                json_dumpf(j, stdout, JSON_INDENT(2));
                putchar('\n');
                json_decref(j);
                return;
        }
        if (count == 0)
                puts("Nothing is in the way: gridplane serve can start.");
        json_decref(list);
}

int cmd_check(struct session *s)
{
        struct plane_settings settings = {0};
        struct finding *found = NULL;
        int status = load(s, &settings);
        size_t count;

        if (status != EXIT_SUCCESS)
                return status;
        count = preflight(&settings, (int64_t)time(NULL) * 1000, &found);
        write_findings(s, found, count);
        for (size_t i = 0; i < count; i++)
                status = found[i].fatal ? EXIT_FAILURE : status == EXIT_SUCCESS ? 3 : status;
        free(found);
        plane_settings_done(&settings);
        return status;
}
