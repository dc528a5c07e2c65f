/* What apt writes to its method: messages, what a request asks for, addresses, the configuration. A message
 * that is written is taken back as it was. */
#include "fuzz.h"

#include "apt/protocol.h"

#include <stdlib.h>
#include <string.h>

static void check_uri(const char *s)
{
        struct apt_uri u;

        if (!s || apt_uri_parse(s, &u, NULL) < 0)
                return;
        if (u.path[0] != '/' || !u.host[0] || strchr(u.path, ' '))
                abort();
        free(u.path);
}

static void check_again(const struct apt_message *m)
{
        struct text t = {0};
        struct apt_message again;

        if (m->count == 0)
                return;
        apt_message_write(&t, "600 URI Acquire", "URI", m->fields[0].value, NULL);
        if (apt_message_take(&t, &again, NULL) != 1 || t.length != 0 || again.number != 600 ||
                again.count > 1)
                abort();
        apt_message_done(&again);
        text_done(&t);
}

static void check_message(const struct apt_message *m)
{
        struct apt_acquire a;

        if (apt_acquire_read(m, &a, NULL) == 0 && (!*a.uri || a.filename[0] != '/'))
                abort();
        check_uri(apt_message_field(m, "URI"));
        free(apt_configuration_value(m, "Acquire::gridnode::Deadline"));
        free(apt_configuration_value(m, ""));
        check_again(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *s = malloc(size + 1);
        struct text buffer = {0};
        struct apt_message m;

        if (!s)
                return 0;
        memcpy(s, data, size);
        s[size] = '\0';
        check_uri(s);
        text_add(&buffer, s);
        while (apt_message_take(&buffer, &m, NULL) == 1) {
                check_message(&m);
                apt_message_done(&m);
        }
        text_done(&buffer);
        free(s);
        return 0;
}
