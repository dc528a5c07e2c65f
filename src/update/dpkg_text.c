#include "update/dpkg_text.h"

#include <string.h>

static bool take(const char **at, char end, char *ret, size_t size)
{
        const char *stop = end ? strchr(*at, end) : *at + strlen(*at);
        size_t length = stop ? (size_t)(stop - *at) : size;

        if (length >= size)
                return false;
        for (size_t i = 0; i < length; i++) {
                if ((*at)[i] <= ' ' || (*at)[i] > '~')
                        return false;
                ret[i] = (*at)[i];
        }
        ret[length] = '\0';
        *at = end ? stop + 1 : stop;
        return true;
}

bool dpkg_text_package(const char *line, struct dpkg_package *ret)
{
        struct dpkg_package p = {0};

        if (strlen(line) < 4 || !strchr("uihrp", line[0]) || !strchr("ncHUFWti", line[1]) || line[3] != '|')
                return false;
        p.wanted = line[0];
        p.state = line[1];
        p.needs_reinstallation = line[2] == 'R';
        line += 4;
        if (!take(&line, '|', p.name, sizeof p.name) || !take(&line, '|', p.version, sizeof p.version) ||
                !take(&line, '\0', p.architecture, sizeof p.architecture) || p.name[0] == '\0')
                return false;
        *ret = p;
        return true;
}

bool dpkg_package_is_installed(const struct dpkg_package *p)
{
        return p->state == 'i' && !p->needs_reinstallation;
}

bool dpkg_package_is_broken(const struct dpkg_package *p)
{
        return strchr("HUFWt", p->state) != NULL || p->needs_reinstallation;
}

const char *dpkg_state_to_words(char state)
{
        switch (state) {
        case 'H':
                return "half installed";
        case 'U':
                return "unpacked, not configured";
        case 'F':
                return "half configured";
        case 'W':
        case 't':
                return "waiting for triggers";
        case 'i':
                return "installed";
        default:
                return "not installed";
        }
}
