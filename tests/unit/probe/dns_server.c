#include "dns_server.h"

#include "../scaffold.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

struct probe_context c;
struct server s;

/* ---- replies ---- */

static size_t with_flags(const uint8_t *query, size_t length, uint8_t *reply, unsigned flags)
{
        size_t question = 12;

        while (question < length && query[question])
                question += query[question] + 1u;
        question += 5;
        memcpy(reply, query, question);
        reply[2] = (uint8_t)(flags >> 8);
        reply[3] = (uint8_t)flags;
        memset(reply + 6, 0, 6);
        return question;
}

size_t with_address(const uint8_t *query, size_t length, uint8_t *reply)
{
        static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 20};
        size_t n = with_flags(query, length, reply, 0x8180);

        reply[7] = 1;
        memcpy(reply + n, record, sizeof record);
        return n + sizeof record;
}

size_t answer(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        return with_address(query, length, reply);
}

size_t silence(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v, (void)query, (void)length, (void)reply;
        return 0;
}

size_t second_only(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        return v->queries == 2 ? with_address(query, length, reply) : 0;
}

size_t third_only(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        return v->queries == 3 ? with_address(query, length, reply) : 0;
}

size_t wrong_id_first(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        size_t n = with_address(query, length, reply);

        if (v->queries == 1)
                reply[0] ^= 0x55;
        return n;
}

size_t no_such_name(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        return with_flags(query, length, reply, 0x8583);
}

size_t no_data(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        return with_flags(query, length, reply, 0x8180);
}

size_t truncated(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        return with_flags(query, length, reply, 0x8380);
}

size_t echo(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        memcpy(reply, query, length);
        return length;
}

size_t banner(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v, (void)query, (void)length;
        memcpy(reply, "SSH-2.0-OpenSSH_9.2\r\n", 21);
        return 21;
}

size_t no_edns(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v;
        return query[11] ? with_flags(query, length, reply, 0x8181) : with_address(query, length, reply);
}

size_t form_error(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        return query[11] ? no_edns(v, query, length, reply) : 0;
}

/* ---- the server ---- */

static int on_udp(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        uint8_t query[1500], reply[20000];
        struct sockaddr_storage from;
        socklen_t from_length = sizeof from;
        ssize_t length = recvfrom(fd, query, sizeof query, 0, (struct sockaddr *)&from, &from_length);
        size_t n;

        (void)source, (void)events, (void)userdata;
        if (length < 12)
                return 0;
        s.queries++;
        n = s.reply(&s, query, (size_t)length, reply);
        if (n)
                sendto(s.other_udp >= 0 ? s.other_udp : fd, reply, n, 0, (struct sockaddr *)&from,
                        from_length);
        return 0;
}

void hang_up(void)
{
        struct linger reset = {.l_onoff = 1};

        if (s.connection < 0)
                return;
        if (s.linger_zero)
                setsockopt(s.connection, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        s.connection_io = sd_event_source_disable_unref(s.connection_io);
        close(s.connection);
        s.connection = -1;
}

static int send_piece(sd_event_source *source, uint64_t usec, void *userdata)
{
        size_t left = s.pending_length - s.pending_sent, n = s.piece && s.piece < left ? s.piece : left;

        (void)source, (void)userdata;
        if (s.connection < 0)
                return 0;
        if (send(s.connection, s.pending + s.pending_sent, n, MSG_NOSIGNAL) > 0)
                s.pending_sent += n;
        if (s.pending_sent < s.pending_length) {
                sd_event_now(c.event, CLOCK_MONOTONIC, &usec);
                sd_event_source_set_time(s.timer, usec + 20000);
                sd_event_source_set_enabled(s.timer, SD_EVENT_ONESHOT);
        } else if (!s.hold_open) {
                hang_up();
        }
        return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        uint8_t query[1500];
        ssize_t length = recv(fd, query, sizeof query, 0);

        (void)events, (void)userdata;
        if (length < 14) {
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
                return 0;
        }
        s.queries++;
        assert_int_equal(query[0] << 8 | query[1], length - 2);
        s.pending_length = s.reply(&s, query + 2, (size_t)length - 2, s.pending + 2);
        s.pending_sent = 0;
        if (s.reply == silence)
                return 0;
        if (s.reply != banner) {
                s.pending[0] = (uint8_t)(s.pending_length >> 8);
                s.pending[1] = (uint8_t)s.pending_length;
                s.pending_length += 2;
        } else {
                memmove(s.pending, s.pending + 2, s.pending_length);
        }
        return send_piece(NULL, 0, NULL);
}

static int on_accept(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        int connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        (void)source, (void)events, (void)userdata;
        if (connection < 0)
                return 0;
        hang_up();
        s.connection = connection;
        if (s.close_at_once) {
                /* Closing it whole would answer the query with a reset. */
                if (s.linger_zero)
                        hang_up();
                else
                        shutdown(connection, SHUT_WR);
                return 0;
        }
        return sd_event_add_io(c.event, &s.connection_io, connection, EPOLLIN, on_connection, NULL);
}

int bound(int type, const char *address)
{
        struct endpoint e;
        struct sockaddr_storage sa;
        int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;

        assert_true(fd >= 0);
        assert_int_equal(endpoint_parse(address, &e), 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, endpoint_to_sockaddr(&e, &sa)), 0);
        return fd;
}

int set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        return 0;
}

int begin(void **state)
{
        (void)state;
        s = (struct server){.udp = -1, .other_udp = -1, .tcp = -1, .connection = -1, .reply = answer};
        assert_int_equal(probe_context_init(&c), 0);
        c.patience_ms = 300;
        s.udp = bound(SOCK_DGRAM, "127.0.0.1:53");
        s.tcp = bound(SOCK_STREAM, "127.0.0.1:53");
        assert_int_equal(listen(s.tcp, 8), 0);
        assert_true(sd_event_add_io(c.event, &s.udp_io, s.udp, EPOLLIN, on_udp, NULL) >= 0);
        assert_true(sd_event_add_io(c.event, &s.tcp_io, s.tcp, EPOLLIN, on_accept, NULL) >= 0);
        assert_true(sd_event_add_time(c.event, &s.timer, CLOCK_MONOTONIC, 0, 1000, send_piece, NULL) >= 0);
        return sd_event_source_set_enabled(s.timer, SD_EVENT_OFF);
}

int end(void **state)
{
        (void)state;
        hang_up();
        sd_event_source_disable_unref(s.udp_io);
        sd_event_source_disable_unref(s.tcp_io);
        sd_event_source_disable_unref(s.timer);
        close(s.udp);
        close(s.tcp);
        if (s.other_udp >= 0)
                close(s.other_udp);
        probe_context_done(&c);
        return system("nft flush ruleset");
}
