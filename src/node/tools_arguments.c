/* What of a request becomes the arguments of gridnode. The control plane may be wrong or worse: whatever is
 * not written here does not pass. The tables say what the tools have by hand (cli/options.c), and which of it
 * would have them read or write a file of the node. */
#include "node/tools.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

enum permission { ALLOWED, NAMES_A_FILE, NAMES_ONLY /* a name passes, a path does not */ };

struct option_rule {
        const char *name;
        char letter; /* 0: none */
        bool has_argument;
        enum permission permission;
};

/* clang-format off */
#define HELP       {"help", 'h', false, ALLOWED}
#define JSON       {"json", 'j', false, ALLOWED}
#define CONFIG     {"config", 'c', true, NAMES_A_FILE}
#define PROFILE    {"profile", 'p', true, NAMES_ONLY}
#define SOURCE     {"source", 's', true, ALLOWED}
#define INTERFACE  {"interface", 'i', true, ALLOWED}
#define BUDGET     {"budget", 'b', true, ALLOWED}
#define TIMEOUT    {"timeout", 't', true, ALLOWED}
#define NO_CAPTURE {"no-capture", 0, false, ALLOWED}
#define WAYS       SOURCE, INTERFACE, CONFIG, BUDGET, TIMEOUT

#define OPTIONS_MAX 16

static const struct tool {
        const char *name;
        struct option_rule options[OPTIONS_MAX]; /* up to the first without a name */
        bool asks_daemon;                        /* and needs no site file, but to say who wants it */
} table[] = {
        {"diag", {CONFIG, PROFILE, SOURCE, INTERFACE, BUDGET, JSON, NO_CAPTURE, HELP,
                {"verbose", 'v', false, ALLOWED},
                {"quiet", 'q', false, ALLOWED},
                {"firewall-page", 'f', true, NAMES_A_FILE},
                {"capture", 'w', true, NAMES_A_FILE},
                {"replay", 'r', true, NAMES_A_FILE}}},
        {"tcp", {WAYS, NO_CAPTURE, JSON, HELP}},
        {"dns", {WAYS, JSON, HELP,
                {"tcp", 'T', false, ALLOWED},
                {"type", 'y', true, ALLOWED}}},
        {"tls", {WAYS, NO_CAPTURE, JSON, HELP, PROFILE,
                {"root-ca", 'r', true, NAMES_A_FILE},
                {"sni", 'n', true, ALLOWED},
                {"mutual", 'm', false, ALLOWED},
                {"pem", 0, false, ALLOWED}}},
        {"route", {SOURCE, INTERFACE, CONFIG, JSON, HELP}},
        {"trace", {WAYS, NO_CAPTURE, JSON, HELP}},
        {"update", {JSON, HELP,
                {"check", 0, false, ALLOWED},
                {"dry-run", 0, false, ALLOWED},
                {"download", 0, false, ALLOWED},
                {"now", 0, false, ALLOWED},
                {"cancel", 0, false, ALLOWED},
                {"history", 0, false, ALLOWED},
                {"csv", 0, false, ALLOWED},
                {"again", 0, false, ALLOWED},
                {"no-reboot", 0, false, ALLOWED},
                {"no-wait", 0, false, ALLOWED},
                {"channel", 0, true, ALLOWED},
                {"root", 0, true, NAMES_A_FILE}},
                true},
};
/* clang-format on */

/* Where the reading of one request stands. */
struct reading {
        const struct tool *tool;
        const struct wire_request *request;
        size_t at;           /* the word after the one being read */
        struct strv options; /* as they are handed on: "--name" or "--name=value" */
        struct strv operands;
        struct error *error;
};

static const struct tool *find_tool(const char *name)
{
        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (str_equal(table[i].name, name))
                        return &table[i];
        return NULL;
}

static const struct option_rule *find_option(
        const struct tool *t, const char *name, size_t length, char letter)
{
        for (const struct option_rule *o = t->options; o < t->options + OPTIONS_MAX && o->name; o++)
                if (name ? strlen(o->name) == length && memcmp(o->name, name, length) == 0
                         : letter && o->letter == letter)
                        return o;
        return NULL;
}

/* As net/profile.c looks for it in the profiles' folders; anything else would be a path. */
static bool is_profile_name(const char *s)
{
        if (!isalnum((unsigned char)s[0]) || str_ends_with(s, ".profile"))
                return false;
        for (; *s; s++)
                if (!isascii((unsigned char)*s) || (!isalnum((unsigned char)*s) && !strchr("._-", *s)))
                        return false;
        return true;
}

/* One option that was recognised; `value` is NULL when there is none yet. */
static int take_option(struct reading *r, const struct option_rule *o, const char *value)
{
        char *word;

        if (o->permission == NAMES_A_FILE)
                return error_set(r->error, EPERM, "tool.refused",
                        "option --%s names a file of the node: not from the control plane", o->name);
        if (!o->has_argument && value)
                return error_set(r->error, EINVAL, "tool.usage", "option --%s takes no argument", o->name);
        if (o->has_argument && !value) {
                if (r->at == r->request->arguments.count)
                        return error_set(
                                r->error, EINVAL, "tool.usage", "option --%s needs an argument", o->name);
                value = r->request->arguments.items[r->at++];
        }
        if (o->permission == NAMES_ONLY && !is_profile_name(value))
                return error_set(r->error, EPERM, "tool.refused",
                        "option --%s takes a profile's name from the control plane, and no path", o->name);
        word = o->has_argument ? xasprintf("--%s=%s", o->name, value) : xasprintf("--%s", o->name);
        strv_take(&r->options, word);
        return 0;
}

static int unknown_option(struct reading *r, const char *word)
{
        _cleanup_free_ char *shown = str_excerpt(word, strlen(word), 64);

        return error_set(r->error, EINVAL, "tool.usage",
                "%s has no option %s (it cannot be abbreviated here)", r->tool->name, shown);
}

/* "--name", "--name=value", and "--name" with the next word. */
static int take_long(struct reading *r, const char *word)
{
        const char *name = word + 2, *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        const struct option_rule *o = find_option(r->tool, name, length, 0);

        return o ? take_option(r, o, equals ? equals + 1 : NULL) : unknown_option(r, word);
}

/* "-j", "-b5", "-b" with the next word, and any of them behind each other: "-jvb5". */
static int take_letters(struct reading *r, const char *word)
{
        for (const char *s = word + 1; *s; s++) {
                const struct option_rule *o = find_option(r->tool, NULL, 0, *s);
                int result;

                if (!o)
                        return unknown_option(r, word);
                result = take_option(r, o, o->has_argument && s[1] ? s + 1 : NULL);
                if (result < 0)
                        return result;
                if (o->has_argument)
                        break;
        }
        return 0;
}

static int read_words(struct reading *r)
{
        bool options_are_over = false;
        int result = 0;

        while (r->at < r->request->arguments.count && result == 0) {
                const char *word = r->request->arguments.items[r->at++];

                if (options_are_over || word[0] != '-' || !word[1])
                        strv_add(&r->operands, word);
                else if (str_equal(word, "--"))
                        options_are_over = true;
                else if (word[1] == '-')
                        result = take_long(r, word);
                else
                        result = take_letters(r, word);
        }
        return result;
}

static void assemble_asker(const char *root, const struct wire_request *request, struct strv *ret)
{
        if (root)
                strv_take(ret, xasprintf("--root=%s", root));
        strv_take(ret, xasprintf("--by=%s", str_is_empty(request->by) ? "control plane" : request->by));
}

static void assemble(const struct tools_place *place, const struct reading *r, struct strv *ret)
{
        strv_add(ret, place->program);
        strv_add(ret, r->tool->name);
        if (r->tool->asks_daemon) {
                assemble_asker(place->root, r->request, ret);
        } else {
                strv_add(ret, "--config");
                strv_add(ret, place->config_path);
        }
        for (size_t i = 0; i < r->options.count; i++)
                strv_add(ret, r->options.items[i]);
        /* From here on nothing is an option, whatever it looks like. */
        if (r->operands.count > 0)
                strv_add(ret, "--");
        for (size_t i = 0; i < r->operands.count; i++)
                strv_add(ret, r->operands.items[i]);
}

int tools_arguments(const struct tools_place *place, const struct wire_request *request, struct strv *ret,
        struct error *ret_error)
{
        struct reading r = {.request = request, .error = ret_error};
        int result;

        r.tool = find_tool(request->tool);
        if (!r.tool) {
                _cleanup_free_ char *shown = str_excerpt(
                        request->tool ? request->tool : "", strlen(request->tool ? request->tool : ""), 64);

                return error_set(ret_error, EPERM, "tool.refused",
                        "'%s' is no tool that the control plane may run: diag, tcp, dns, tls, route, trace, "
                        "update",
                        shown);
        }
        result = read_words(&r);
        if (result == 0)
                assemble(place, &r, ret);
        strv_done(&r.options);
        strv_done(&r.operands);
        return result;
}
