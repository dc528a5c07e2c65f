/* nginx: HTTPS on 443 and behind the splitter, and the splitter itself. */
#include "plane/packages.h"
#include "plane/services_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <stdbool.h>
#include <string.h>

#define SYSTEM_AUTHORITIES "/etc/ssl/certs/ca-certificates.crt"

/* What nginx itself refuses, as RFC 9457 problem details. The texts stand between apostrophes. */
static const struct problem {
        int status, as; /* nginx's number, and what the client sees */
        const char *code, *title, *detail;
} problems[] = {
        {400, 400, "request.bad", "Bad request", "This is no HTTP request that can be understood."},
        {401, 401, "request.credentials", "Unauthorized", "Sign in, or show a certificate."},
        {403, 403, "request.forbidden", "Forbidden", "You may not do this."},
        {404, 404, "request.not-found", "Not found", "There is nothing here."},
        {405, 405, "request.method", "Method not allowed", "This method is not known here."},
        {408, 408, "request.slow", "Request timeout", "The request did not come in time."},
        {411, 411, "request.length", "Length required", "The length of the request is missing."},
        {413, 413, "request.too-large", "Content too large", "The request is larger than is taken here."},
        {414, 414, "request.too-long", "URI too long", "The address of the request is too long."},
        {421, 421, "request.misdirected", "Misdirected request", "This host is not served here."},
        {429, 429, "request.too-many", "Too many requests", "Ask again later, and less often."},
        {494, 400, "request.header", "Bad request", "The header of the request is too large."},
        {495, 403, "certificate.refused", "Certificate refused",
                "The certificate of the client was refused: $ssl_client_verify."},
        {496, 403, "certificate.missing", "Certificate missing", "A client certificate is needed here."},
        {497, 400, "request.plain", "Bad request", "This port speaks HTTPS."},
        {500, 500, "server.error", "Server error", "The control plane failed; its log says why."},
        {501, 501, "request.unknown", "Not implemented", "This coding of a request is not known here."},
        {502, 503, "server.starting", "Service unavailable", "The control plane does not answer just now."},
        {503, 503, "server.busy", "Service unavailable", "The control plane does not answer just now."},
        {504, 503, "server.slow", "Service unavailable", "The control plane does not answer in time."},
};

static void add_head(struct text *t, const struct plane_settings *s, const struct services_facts *f,
        const char *name, unsigned connections)
{
        text_add(t, "# Written by gridplane at each start.\n");
        if (f->is_root)
                text_add(t, "user root;\n");
        else if (s->proxy_is_external && f->user) /* as whom its workers can use our sockets and files */
                text_addf(t, "user \"%s\" \"%s\";\n", f->user, f->group);
        text_addf(t,
                "daemon off;\nworker_processes auto;\npid \"%s/%s.pid\";\nerror_log stderr warn;\n"
                "events { worker_connections %u; accept_mutex on; }\n",
                s->paths.run, name, connections);
}

static void add_listen(
        struct text *t, const struct services_facts *f, const struct endpoint *e, const char *options)
{
        char text[INET_ADDR_TEXT];

        if (inet_addr_is_set(&e->address)) {
                text_addf(t, "    listen %s %s;\n", endpoint_format(e, text), options);
                return;
        }
        text_addf(t, "    listen %u %s;\n", e->port, options);
        if (f->has_ipv6)
                text_addf(t, "    listen [::]:%u %s;\n", e->port, options);
}

static void add_authority(struct text *t, const char *host, unsigned port)
{
        text_addf(t, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

/* ---- the splitter ---- */

/* A server of nginx's stream sends the PROXY line to all of its backends or to none. HTTPS needs it, for the
 * client's address; mosquitto does not understand it: so MQTT goes through a second server that takes it off
 * again. Buffers are small, since thousands of connections have them for days. */
char *services_splitter_configuration(const struct plane_settings *s, const struct services_facts *f)
{
        struct text t = {0};

        if (f->stream_module)
                text_addf(&t, "load_module \"%s\";\n", f->stream_module);
        add_head(&t, s, f, "splitter", f->files > 1024 ? f->files - 256 : 768);
        text_addf(&t,
                "stream {\n"
                "  map $ssl_preread_alpn_protocols $backend {\n"
                "    \"~(^|,)mqtt(,|$)\" \"unix:%s/proxy/mqtt.sock\";\n"
                "    default \"unix:%s/proxy/https.sock\";\n"
                "  }\n"
                "  proxy_connect_timeout 10s;\n  proxy_timeout 10m;\n  proxy_socket_keepalive on;\n"
                "  proxy_buffer_size 4k;\n  preread_buffer_size 8k;\n  preread_timeout 10s;\n  tcp_nodelay "
                "on;\n"
                "  server {\n",
                s->paths.run, s->paths.run);
        for (size_t i = 0; i < s->mixed_count; i++)
                add_listen(&t, f, &s->mixed[i], "backlog=4096 so_keepalive=on");
        text_addf(&t,
                "    ssl_preread on;\n    proxy_protocol on;\n    proxy_pass $backend;\n"
                "  }\n"
                "  server {\n    listen \"unix:%s/proxy/mqtt.sock\" proxy_protocol backlog=4096;\n"
                "    proxy_pass ",
                s->paths.run);
        if (s->broker_nodes_host)
                add_authority(&t, s->broker_nodes_host, s->broker_nodes_port);
        else
                add_authority(&t, s->broker_url ? s->broker_host : "127.0.0.1", s->broker_port);
        text_add(&t, ";\n  }\n}\n");
        return text_take(&t);
}

/* ---- HTTPS ---- */

static void add_logging(struct text *t, const struct plane_settings *s)
{
        /* One JSON object a line. Neither cookies nor authorization are in it. */
        text_addf(t,
                "  log_format json escape=json '{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\","
                "\"host\":\"$host\",\"method\":\"$request_method\",\"uri\":\"$request_uri\","
                "\"protocol\":\"$server_protocol\",\"status\":$status,\"sent_bytes\":$bytes_sent,"
                "\"received_bytes\":$request_length,\"took_s\":$request_time,"
                "\"upstream_s\":\"$upstream_response_time\",\"tls\":\"$ssl_protocol\","
                "\"verify\":\"$ssl_client_verify\",\"subject\":\"$ssl_client_s_dn\","
                "\"agent\":\"$http_user_agent\"}';\n"
                "  access_log \"%s/log/access.log\" json buffer=32k flush=1s;\n",
                s->paths.state);
}

static void add_http(struct text *t, const struct plane_settings *s)
{
        static const char *const temporary[] = {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"};

        for (size_t i = 0; i < ELEMENTS(temporary); i++)
                text_addf(t, "  %s_temp_path \"%s/services/nginx/%s\";\n", temporary[i], s->paths.state,
                        temporary[i]);
        add_logging(t, s);
        text_add(t, "  server_tokens off;\n  default_type application/octet-stream;\n"
                    "  sendfile on;\n  tcp_nopush on;\n  tcp_nodelay on;\n"
                    /* Against those who send or read a byte at a time. */
                    "  client_header_timeout 10s;\n  client_body_timeout 20s;\n  send_timeout 30s;\n"
                    "  keepalive_timeout 65s;\n  keepalive_requests 1000;\n  reset_timedout_connection on;\n"
                    "  client_header_buffer_size 2k;\n  large_client_header_buffers 4 16k;\n"
                    "  client_max_body_size 1m;\n  http2_max_concurrent_streams 64;\n"
                    "  proxy_headers_hash_max_size 1024;\n  proxy_headers_hash_bucket_size 128;\n"
                    "  limit_conn_zone $binary_remote_addr zone=connections:2m;\n"
                    "  limit_conn_status 429;\n  limit_req_status 429;\n"
                    "  limit_req_zone $binary_remote_addr zone=logins:2m rate=10r/s;\n"
                    /* No resumption: a session would outlive the revocation of its certificate. */
                    "  ssl_protocols TLSv1.2 TLSv1.3;\n"
                    "  ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                    "ECDHE-ECDSA-CHACHA20-POLY1305;\n"
                    "  ssl_session_cache off;\n  ssl_session_tickets off;\n  ssl_buffer_size 8k;\n"
                    "  set_real_ip_from unix:;\n  real_ip_header proxy_protocol;\n");
}

static void add_upstreams(struct text *t, const struct plane_settings *s)
{
        text_addf(t, "  upstream api { server \"unix:%s\" max_fails=0; }\n", s->api_socket);
        text_add(t, "  upstream registry { server ");
        if (s->registry_url) {
                /* Looked up once, at nginx's start: names in proxy_pass would need a resolver. */
                add_authority(t, s->registry_host, s->registry_port);
                /* Its addresses are taken in turn: one that swallows packets is not to cost each time. */
                text_add(t, " max_fails=1 fail_timeout=5s; }\n");
        } else {
                text_addf(t, "\"unix:%s\" max_fails=0; }\n", s->registry_socket);
        }
        text_addf(t, "  map $host $service { \"%s\" repo; default control; }\n", s->repo_host);
        /* Whose packages a client sees is said by its certificate alone (ca_issue_node: O, CN). */
        text_add(t, "  map \"$ssl_client_verify:$ssl_client_s_dn\" $package_organisation {\n"
                    "    default \"\";\n"
                    "    \"~^SUCCESS:CN=[A-Za-z0-9-]+,O=(?<subject_organisation>[A-Za-z0-9-]+)$\" "
                    "$subject_organisation;\n  }\n");
}

/* A request whose address could not be read has none, and nginx takes no named location then. */
static bool is_early(const struct problem *p)
{
        return p->status == 400 || p->status == 414 || p->status == 494;
}

static void add_problems(struct text *t)
{
        for (size_t i = 0; i < ELEMENTS(problems); i++)
                text_addf(t, "    error_page %d =%d %s%d;\n", problems[i].status, problems[i].as,
                        is_early(&problems[i]) ? "/.problem/" : "@problem_", problems[i].status);
        for (size_t i = 0; i < ELEMENTS(problems); i++) {
                const struct problem *p = &problems[i];

                text_addf(t,
                        "    location %s%d {\n%s      default_type application/problem+json;\n"
                        "      return %d '{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,"
                        "\"detail\":\"%s\",\"code\":\"%s\"}\\n';\n    }\n",
                        is_early(p) ? "= /.problem/" : "@problem_", p->status,
                        is_early(p) ? "      internal;\n" : "", p->as, p->title, p->as, p->detail, p->code);
        }
}

/* What the API may believe, since a client's own are overwritten here. Names with an underscore, which some
 * servers take for the same, nginx leaves out by itself. One request a connection: nothing can be smuggled
 * into the next one. */
static void add_proxy_headers(struct text *t, const char *indent, const char *host)
{
        const char *const headers[][2] = {
                {"Host", host ? host : "$host"},
                {"X-Forwarded-For", "$remote_addr"},
                {"X-Forwarded-Proto", "https"},
                /* An outside server is called by its own name; addresses that it gives out have ours. */
                {"X-Forwarded-Host", host ? "$http_host" : "\"\""},
                {"X-Forwarded-Port", "\"\""},
                {"X-Real-IP", "\"\""},
                {"Forwarded", "\"\""},
                {"X-Client-Verify", host ? "\"\"" : "$ssl_client_verify"},
                {"X-Client-Certificate", host ? "\"\"" : "$ssl_client_escaped_cert"},
                {"X-Organisation", "\"\""},
                {"X-Original-URI", "\"\""},
                {"X-Original-Method", "\"\""},
                {"Connection", "close"},
                {"Upgrade", "\"\""},
                {"TE", "\"\""},
                {"Expect", "\"\""},
        };

        for (size_t i = 0; i < ELEMENTS(headers); i++)
                text_addf(t, "%sproxy_set_header %s %s;\n", indent, headers[i][0], headers[i][1]);
}

static void add_well_known(struct text *t, const struct plane_settings *s, const struct services_facts *f)
{
        text_addf(t,
                "    location = / { default_type text/plain; return 200 \"grid\\n\"; }\n"
                "    location = /.well-known/gridnode {\n"
                "      default_type application/json; expires -1;\n"
                "      return 200 '{\"service\":\"$service\"}\\n';\n    }\n"
                "    location = /.well-known/gridnode/payload {\n"
                "      expires -1; alias \"%s/services/nginx/payload\";\n    }\n"
                "    location = /.well-known/gridnode/root.pem {\n"
                "      default_type application/x-pem-file; expires 1h; alias \"%s\";\n    }\n"
                "    location = /.well-known/gridnode/crl.pem {\n"
                "      default_type application/x-pem-file; expires -1; alias \"%s\";\n    }\n",
                s->paths.state, f->root, f->crl);
}

/* proxy_pass with a path hands on the path as nginx understood it, not as it was written: what was matched
 * here is what the API sees. */
static void add_api(struct text *t)
{
        static const char plain[] = "proxy_http_version 1.1; proxy_next_upstream off; "
                                    "proxy_connect_timeout 5s; proxy_send_timeout 20s; ";

        text_addf(
                t, "    location /api/ { %s proxy_read_timeout 75s; proxy_pass http://api/api/; }\n", plain);
        text_addf(t,
                "    location = /api/v1/session { limit_req zone=logins burst=20 nodelay; %s "
                "proxy_read_timeout 75s; proxy_pass http://api/api/v1/session; }\n",
                plain);
        text_addf(t,
                "    location = /metrics { %s proxy_read_timeout 30s; proxy_pass http://api/metrics; }\n",
                plain);
        /* Events as they come. The pattern leaves nothing that would need an escape. */
        text_addf(t,
                "    location ~ \"^/api/v1/(events|requests/[a-z0-9-]+)/stream$\" {\n"
                "      %s proxy_buffering off; proxy_read_timeout 1h; send_timeout 1m;\n"
                "      proxy_pass http://api$uri$is_args$args;\n    }\n",
                plain);
}

/* The repository of packages: files. Only what is below public/ has a path at all; by `current` it is one
 * generation (plane/packages.h). */
static void add_packages(struct text *t, const struct plane_settings *s)
{
        text_addf(t,
                "    location ^~ /debian/ {\n"
                "      if ($package_organisation = \"\") { return 403; }\n"
                "      if ($request_method !~ \"^(GET|HEAD)$\") { return 405; }\n"
                "      default_type application/octet-stream; etag on; if_modified_since exact;\n"
                "      alias \"%s/apt/$package_organisation/public/\";\n    }\n",
                s->paths.state);
        /* Uploads go on to the API as they come: nginx keeps no copy of them. */
        text_addf(t,
                "    location = /api/v1/packages {\n"
                "      client_max_body_size %zum; client_body_timeout 60s;\n"
                /* Also the window of HTTP/2: the default of 16 KiB makes it six times as slow. */
                "      client_body_buffer_size 1m;\n"
                "      proxy_http_version 1.1; proxy_next_upstream off; proxy_request_buffering off;\n"
                "      proxy_connect_timeout 5s; proxy_send_timeout 60s; proxy_read_timeout 30m;\n"
                "      proxy_pass http://api/api/v1/packages;\n    }\n"
                /* What waits for reprepro. */
                "    location ^~ /api/v1/packages/ {\n"
                "      proxy_http_version 1.1; proxy_next_upstream off; proxy_connect_timeout 5s;\n"
                "      proxy_send_timeout 20s; proxy_read_timeout 30m;\n"
                "      proxy_pass http://api/api/v1/packages/;\n    }\n",
                (size_t)PACKAGES_MAXIMUM_BYTES >> 20);
}

static void add_registry_tls(struct text *t, const struct plane_settings *s)
{
        text_addf(t,
                "      proxy_ssl_server_name on; proxy_ssl_name \"%s\";\n"
                "      proxy_ssl_verify on; proxy_ssl_verify_depth 5; proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
                "      proxy_ssl_trusted_certificate \"%s\";\n",
                s->registry_host, s->registry_root_ca ? s->registry_root_ca : SYSTEM_AUTHORITIES);
        if (s->registry_certificate)
                text_addf(t, "      proxy_ssl_certificate \"%s\";\n      proxy_ssl_certificate_key \"%s\";\n",
                        s->registry_certificate, s->registry_key);
}

/* Only paths of plain characters are the registry's; so the one that is judged is the one that is asked. */
static void add_registry(struct text *t, const struct plane_settings *s)
{
        const char *scheme =
                s->registry_url && str_starts_with(s->registry_url, "https://") ? "https://" : "http://";

        text_add(t, "    location = /internal/registry {\n      internal;\n"
                    "      proxy_http_version 1.1; proxy_next_upstream off; proxy_connect_timeout 5s; "
                    "proxy_read_timeout 30s;\n"
                    "      proxy_pass_request_body off;\n");
        add_proxy_headers(t, "      ", NULL);
        text_add(t, "      proxy_set_header X-Original-URI $uri_judged;\n"
                    "      proxy_set_header X-Original-Method $request_method;\n"
                    "      proxy_set_header Content-Length \"\";\n      proxy_set_header Transfer-Encoding "
                    "\"\";\n"
                    "      proxy_pass http://api/internal/registry;\n    }\n");
        text_add(t, "    location ~ \"^/v2/[A-Za-z0-9._:/@+=~-]*$\" {\n"
                    "      set $uri_judged $uri$is_args$args;\n"
                    "      auth_request /internal/registry;\n"
                    "      client_max_body_size 0; client_body_timeout 60s;\n"
                    "      proxy_http_version 1.1; proxy_connect_timeout 5s;\n"
                    "      proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 15m;\n");
        /* A name may have an address where nothing listens (::1 of localhost): the next one is asked. What
         * has been sent of a POST or PATCH, or of a body, is not sent again. */
        text_add(t, s->registry_url
                            ? "      proxy_next_upstream error timeout; proxy_next_upstream_timeout 20s;\n"
                            : "      proxy_next_upstream off;\n");
        add_proxy_headers(t, "      ", s->registry_url ? s->registry_url + strlen(scheme) : NULL);
        /* Credentials are for us alone. */
        text_add(t, "      proxy_set_header Authorization \"\";\n"
                    "      proxy_set_header Cookie \"\";\n");
        if (s->registry_url)
                text_addf(t, "      proxy_redirect \"%s/\" /;\n", s->registry_url);
        if (str_equal(scheme, "https://"))
                add_registry_tls(t, s);
        text_addf(t, "      proxy_pass %sregistry$uri_judged;\n    }\n", scheme);
}

static void add_listens(
        struct text *t, const struct plane_settings *s, const struct services_facts *f, bool is_default)
{
        const char *tcp = is_default ? "ssl http2 default_server backlog=4096" : "ssl http2";

        for (size_t i = 0; i < s->https_count; i++)
                add_listen(t, f, &s->https[i], tcp);
        text_addf(t, "    listen \"unix:%s/proxy/https.sock\" ssl http2 proxy_protocol%s;\n", s->paths.run,
                is_default ? " default_server backlog=4096" : "");
}

/* Who asks for no name or for another's sees the certificate all the same, and then 421: who looks for a
 * filter by name, or tries an address by hand, must be able to tell us from it. */
static void add_default_server(struct text *t, const struct plane_settings *s, const struct services_facts *f)
{
        text_add(t, "  server {\n");
        add_listens(t, s, f, true);
        text_addf(t, "    server_name _;\n    ssl_certificate \"%s\";\n    ssl_certificate_key \"%s\";\n",
                f->certificate, f->key);
        add_problems(t);
        text_add(t, "    location / { return 421; }\n  }\n");
}

static void add_server(struct text *t, const struct plane_settings *s, const struct services_facts *f)
{
        text_add(t, "  server {\n");
        add_listens(t, s, f, false);
        text_addf(t,
                "    server_name \"%s\" \"%s\";\n"
                "    ssl_certificate \"%s\";\n    ssl_certificate_key \"%s\";\n"
                "    ssl_client_certificate \"%s\";\n    ssl_crl \"%s\";\n"
                "    ssl_verify_client optional;\n    ssl_verify_depth 3;\n",
                s->repo_host, s->control_host, f->certificate, f->key, f->bundle, f->crl);
        text_add(t, "    limit_conn connections 256;\n"
                    "    add_header Strict-Transport-Security \"max-age=31536000\" always;\n"
                    "    add_header X-Content-Type-Options nosniff always;\n"
                    "    add_header X-Frame-Options DENY always;\n"
                    "    add_header Referrer-Policy no-referrer always;\n"
                    "    add_header Cross-Origin-Opener-Policy same-origin always;\n"
                    "    add_header Cross-Origin-Resource-Policy same-origin always;\n"
                    "    add_header Content-Security-Policy \"default-src 'self'; object-src 'none'; "
                    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'\" always;\n"
                    "    if ($request_method !~ \"^(GET|HEAD|POST|PUT|PATCH|DELETE)$\") { return 405; }\n");
        add_problems(t);
        add_proxy_headers(t, "    ", NULL);
        add_well_known(t, s, f);
        add_api(t);
        add_packages(t, s);
        add_registry(t, s);
        text_add(t, "    location / { return 404; }\n  }\n");
}

char *services_nginx_configuration(const struct plane_settings *s, const struct services_facts *f)
{
        struct text t = {0};

        add_head(&t, s, f, "nginx", f->files > 8192 ? 4096 : f->files / 2);
        /* What an old worker still has after a reload: uploads get time, event streams come again. */
        text_add(&t, "worker_shutdown_timeout 10m;\nhttp {\n");
        add_http(&t, s);
        add_upstreams(&t, s);
        add_default_server(&t, s, f);
        add_server(&t, s, f);
        text_add(&t, "}\n");
        return text_take(&t);
}
