#include "diagnose/cause.h"

#include "base/text.h"
#include "diagnose/cause_table.h"

const char *severity_to_string(enum severity s)
{
        switch (s) {
        case SEVERITY_WARNING:
                return "warning";
        case SEVERITY_CRITICAL:
                return "critical";
        }
        return "?";
}

const char *fixed_by_to_string(enum fixed_by f)
{
        switch (f) {
        case FIXED_BY_SITE:
                return "site";
        case FIXED_BY_NODE:
                return "node";
        case FIXED_BY_CONTROL_PLANE:
                return "control-plane";
        }
        return "?";
}

const char *fixed_by_to_person(enum fixed_by f)
{
        switch (f) {
        case FIXED_BY_SITE:
                return "the site's network administrator";
        case FIXED_BY_NODE:
                return "the node's operator";
        case FIXED_BY_CONTROL_PLANE:
                return "the control plane's operator";
        }
        return "?";
}

const struct cause_info *cause_info(enum cause_code code)
{
        return &cause_table[(unsigned)code < CAUSE_COUNT ? code : CAUSE_UNDETERMINED];
}

const struct cause_info *cause_find(const char *text)
{
        for (size_t i = 0; i < CAUSE_COUNT; i++)
                if (str_equal(cause_table[i].text, text))
                        return &cause_table[i];
        return NULL;
}
