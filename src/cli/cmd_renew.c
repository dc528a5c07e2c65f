/* gridnode renew */
#include "cli/commands_gridnode.h"
#include "cli/enrolment.h"

int cmd_renew(struct session *s)
{
        struct node_settings n = {0};
        struct error e = {0};
        int64_t end_unix = 0;
        int status = enrolment_load(s, &n);

        if (status != EXIT_SUCCESS)
                return status;
        if (enrol_renew(&n, enrolment_timeout_ms(s), &end_unix, &e) < 0)
                status = enrolment_fail(s, &e);
        else {
                struct writer *w = session_writer(s);
                char end[32];

                time_format_utc(end_unix * 1000, end);
                writer_text(w, NULL, NULL, "The certificate of %s is renewed.", n.name);
                writer_text(w, "node", "Node", "%s", n.node);
                writer_text(w, "not_after", "Valid until", "%s", end);
                status = session_write(s, w, EXIT_SUCCESS);
                writer_free(w);
        }
        node_settings_done(&n);
        return status;
}
