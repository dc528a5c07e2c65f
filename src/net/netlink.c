#include "net/netlink_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/socket.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

struct netlink {
        struct nl_sock *socket;
};

DEFINE_CLEANUP(struct netlink *, netlink_close);

/* ---- one exchange ---- */

/* libnl's own numbers lose some of the kernel's: the plain errno is taken from the error message itself. */
struct exchange {
        struct netlink_list *list;
        int error_number;
};

static int on_valid(struct nl_msg *message, void *userdata)
{
        struct exchange *x = userdata;
        struct netlink_list *l = x->list;
        void *item;

        if (l->count == l->allocated) {
                l->allocated = l->allocated ? l->allocated * 2 : 8;
                l->items = xrealloc_array(l->items, l->allocated, l->item_bytes);
        }
        item = l->items + l->count * l->item_bytes;
        memset(item, 0, l->item_bytes);
        if (l->parse(nlmsg_hdr(message), item, l->filter))
                l->count++;
        return NL_OK;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *userdata)
{
        (void)from;
        ((struct exchange *)userdata)->error_number = -error->error;
        return NL_STOP;
}

static int error_of_libnl(int r)
{
        switch (-r) {
        case NLE_AGAIN:
                return -ETIMEDOUT;
        case NLE_DUMP_INTR:
                return -EINTR;
        case NLE_NOMEM:
                return -ENOBUFS;
        case NLE_PERM:
                return -EPERM;
        default:
                return -EPROTO;
        }
}

static int exchange_once(struct netlink *n, struct nl_msg *request, struct netlink_list *list)
{
        struct exchange x = {.list = list};
        struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
        int r;

        if (!cb)
                return -ENOMEM;
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, &x);
        nl_cb_err(cb, NL_CB_CUSTOM, on_error, &x);
        nlmsg_hdr(request)->nlmsg_seq = NL_AUTO_SEQ;
        r = nl_send_auto(n->socket, request);
        if (r >= 0)
                r = nl_recvmsgs(n->socket, cb);
        nl_cb_put(cb);
        if (x.error_number > 0)
                return -x.error_number;
        return r < 0 ? error_of_libnl(r) : 0;
}

int netlink_ask(struct netlink *n, struct nl_msg *request, struct netlink_list *one)
{
        int r = exchange_once(n, request, one);

        nlmsg_free(request);
        if (r == 0 && one->count == 0)
                r = -ENOMSG;
        return r;
}

static int parse_nothing(const struct nlmsghdr *message, void *item, const void *filter)
{
        (void)message;
        (void)item;
        (void)filter;
        return 0;
}

int netlink_do(struct netlink *n, struct nl_msg *request)
{
        struct netlink_list none = {.item_bytes = 1, .parse = parse_nothing};
        int r;

        nlmsg_hdr(request)->nlmsg_flags |= NLM_F_ACK;
        r = exchange_once(n, request, &none);
        nlmsg_free(request);
        free(none.items);
        return r;
}

int netlink_dump(struct netlink *n, struct nl_msg *request, struct netlink_list *list)
{
        int r = -EINTR;

        /* The table may change while it is read; a table that never stands still is read as it comes. */
        for (int i = 0; i < 3 && r == -EINTR; i++) {
                list->count = 0;
                r = exchange_once(n, request, list);
        }
        nlmsg_free(request);
        if (r < 0 && r != -EINTR) {
                free(list->items);
                list->items = NULL;
                list->count = list->allocated = 0;
                return r;
        }
        return 0;
}

struct nl_msg *netlink_request(int type, int flags, const void *header, size_t header_bytes)
{
        struct nl_msg *m = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

        /* A request of a hundred bytes in a message of a page: this fails only without memory, and then
         * xmalloc is the one to say so. */
        if (!m || nlmsg_append(m, (void *)header, header_bytes, NLMSG_ALIGNTO) < 0)
                abort();
        return m;
}

void netlink_put_address(struct nl_msg *m, int attribute, const struct inet_addr *a)
{
        if (nla_put(m, attribute, (int)inet_addr_bits(a) / 8, a->bytes) < 0)
                abort();
}

bool netlink_get_address(const struct nlattr *a, struct inet_addr *ret)
{
        struct inet_addr value = {0};
        int length = a ? nla_len(a) : 0;

        if (length != 4 && length != 16)
                return false;
        value.family = length == 4 ? AF_INET : AF_INET6;
        memcpy(value.bytes, nla_data(a), (size_t)length);
        *ret = value;
        return true;
}

int netlink_open(struct netlink **ret)
{
        _cleanup_(netlink_close_p) struct netlink *n = xcalloc(1, sizeof *n);
        struct timeval second = {.tv_sec = 1};
        int yes = 1, fd;

        n->socket = nl_socket_alloc();
        if (!n->socket)
                return -ENOMEM;
        nl_socket_disable_auto_ack(n->socket);
        errno = 0;
        if (nl_connect(n->socket, NETLINK_ROUTE) < 0)
                return errno ? -errno : -EMFILE;
        fd = nl_socket_get_fd(n->socket);
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second) < 0)
                return -errno;
        /* Lets the kernel filter dumps; one that is too old gives all, and the parsers filter again. */
        setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &yes, sizeof yes);
        *ret = TAKE_PTR(n);
        return 0;
}

struct netlink *netlink_close(struct netlink *n)
{
        if (!n)
                return NULL;
        nl_socket_free(n->socket);
        free(n);
        return NULL;
}

/* ---- links ---- */

static size_t copy_hardware_address(uint8_t ret[8], const struct nlattr *a)
{
        size_t length = a ? (size_t)nla_len(a) : 0;

        if (length > 8)
                length = 8;
        if (length > 0)
                memcpy(ret, nla_data(a), length);
        return length;
}

static int link_parse(const struct nlmsghdr *message, void *item, const void *filter)
{
        static const char *const words[] = {
                "unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"};
        const struct ifinfomsg *info = nlmsg_data(message);
        struct nlattr *attributes[IFLA_MAX + 1];
        struct netlink_link *l = item;
        unsigned state = 0;

        (void)filter;
        if (message->nlmsg_type != RTM_NEWLINK ||
                nlmsg_parse((struct nlmsghdr *)message, sizeof *info, attributes, IFLA_MAX, NULL) < 0 ||
                !attributes[IFLA_IFNAME])
                return 0;
        l->ifindex = info->ifi_index;
        l->flags = info->ifi_flags;
        l->up = info->ifi_flags & IFF_UP;
        l->carrier = info->ifi_flags & IFF_LOWER_UP;
        l->hardware_type = info->ifi_type;
        nla_strlcpy(l->name, attributes[IFLA_IFNAME], sizeof l->name);
        if (attributes[IFLA_OPERSTATE])
                state = nla_get_u8(attributes[IFLA_OPERSTATE]);
        str_copy(l->operstate, sizeof l->operstate, words[state < ELEMENTS(words) ? state : 0]);
        if (attributes[IFLA_MTU])
                l->mtu = nla_get_u32(attributes[IFLA_MTU]);
        l->mac_length = copy_hardware_address(l->mac, attributes[IFLA_ADDRESS]);
        return 1;
}

int netlink_list_links(struct netlink *n, struct netlink_link **ret, size_t *ret_count)
{
        struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
        struct netlink_list list = {.item_bytes = sizeof(struct netlink_link), .parse = link_parse};
        int r = netlink_dump(n, netlink_request(RTM_GETLINK, NLM_F_DUMP, &info, sizeof info), &list);

        if (r < 0)
                return r;
        *ret = (struct netlink_link *)(void *)list.items;
        *ret_count = list.count;
        return 0;
}

int netlink_find_link(struct netlink *n, const char *name, struct netlink_link *ret)
{
        struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
        struct netlink_list list = {.item_bytes = sizeof(struct netlink_link), .parse = link_parse};
        struct nl_msg *request;
        int r;

        if (str_is_empty(name) || strlen(name) >= IFNAMSIZ)
                return -EINVAL;
        request = netlink_request(RTM_GETLINK, 0, &info, sizeof info);
        if (nla_put_string(request, IFLA_IFNAME, name) < 0)
                abort();
        r = netlink_ask(n, request, &list);
        if (r == 0)
                memcpy(ret, list.items, sizeof *ret);
        free(list.items);
        return r;
}

const char *netlink_mac_format(const uint8_t *mac, size_t length, char ret[NETLINK_MAC_TEXT])
{
        ret[0] = 0;
        for (size_t i = 0; i < length && i < 8; i++)
                snprintf(ret + (i ? i * 3 - 1 : 0), 4, i ? ":%02x" : "%02x", mac[i]);
        return ret;
}

/* ---- addresses ---- */

static int address_parse(const struct nlmsghdr *message, void *item, const void *filter)
{
        const struct ifaddrmsg *info = nlmsg_data(message);
        struct nlattr *attributes[IFA_MAX + 1];
        struct netlink_address *a = item;
        int wanted = *(const int *)filter;

        if (message->nlmsg_type != RTM_NEWADDR ||
                nlmsg_parse((struct nlmsghdr *)message, sizeof *info, attributes, IFA_MAX, NULL) < 0)
                return 0;
        if (wanted && (int)info->ifa_index != wanted)
                return 0;
        /* On a point-to-point link IFA_ADDRESS is the peer's, and IFA_LOCAL ours. */
        if (!netlink_get_address(attributes[IFA_LOCAL], &a->address.address) &&
                !netlink_get_address(attributes[IFA_ADDRESS], &a->address.address))
                return 0;
        a->ifindex = (int)info->ifa_index;
        a->address.prefix = info->ifa_prefixlen;
        if (attributes[IFA_PROTO])
                a->protocol = nla_get_u8(attributes[IFA_PROTO]);
        a->flags = attributes[IFA_FLAGS] ? nla_get_u32(attributes[IFA_FLAGS]) : info->ifa_flags;
        a->usable = !inet_addr_is_link_local(&a->address.address) &&
                    (!(a->flags & IFA_F_TENTATIVE) || a->flags & IFA_F_OPTIMISTIC) &&
                    !(a->flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED));
        return 1;
}

int netlink_list_addresses(
        struct netlink *n, int ifindex, sa_family_t family, struct netlink_address **ret, size_t *ret_count)
{
        struct ifaddrmsg info = {.ifa_family = (uint8_t)family, .ifa_index = (uint32_t)ifindex};
        struct netlink_list list = {
                .item_bytes = sizeof(struct netlink_address), .parse = address_parse, .filter = &ifindex};
        int r = netlink_dump(n, netlink_request(RTM_GETADDR, NLM_F_DUMP, &info, sizeof info), &list);

        if (r < 0)
                return r;
        *ret = (struct netlink_address *)(void *)list.items;
        *ret_count = list.count;
        return 0;
}

/* ---- neighbours ---- */

static const char *neighbour_state_word(unsigned state)
{
        static const struct {
                unsigned state;
                const char *word;
        } words[] = {{NUD_INCOMPLETE, "incomplete"}, {NUD_REACHABLE, "reachable"}, {NUD_STALE, "stale"},
                {NUD_DELAY, "delay"}, {NUD_PROBE, "probe"}, {NUD_FAILED, "failed"}, {NUD_NOARP, "noarp"},
                {NUD_PERMANENT, "permanent"}};

        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (state & words[i].state)
                        return words[i].word;
        return "none";
}

static int neighbour_parse(const struct nlmsghdr *message, void *item, const void *filter)
{
        const struct ndmsg *info = nlmsg_data(message);
        struct nlattr *attributes[NDA_MAX + 1];
        struct netlink_neighbour *e = item;

        (void)filter;
        if (message->nlmsg_type != RTM_NEWNEIGH ||
                nlmsg_parse((struct nlmsghdr *)message, sizeof *info, attributes, NDA_MAX, NULL) < 0)
                return 0;
        str_copy(e->state, sizeof e->state, neighbour_state_word(info->ndm_state));
        e->mac_length = copy_hardware_address(e->mac, attributes[NDA_LLADDR]);
        return 1;
}

int netlink_find_neighbour(
        struct netlink *n, int ifindex, const struct inet_addr *address, struct netlink_neighbour *ret)
{
        struct ndmsg info = {.ndm_family = (uint8_t)address->family, .ndm_ifindex = ifindex};
        struct netlink_list list = {.item_bytes = sizeof(struct netlink_neighbour), .parse = neighbour_parse};
        struct nl_msg *request = netlink_request(RTM_GETNEIGH, 0, &info, sizeof info);
        int r;

        netlink_put_address(request, NDA_DST, address);
        r = netlink_ask(n, request, &list);
        if (r == 0)
                memcpy(ret, list.items, sizeof *ret);
        free(list.items);
        if (r == -ENOENT) {
                *ret = (struct netlink_neighbour){.state = "none"};
                r = 0;
        }
        return r;
}
