# shellcheck shell=bash
# The real servers: nginx (repository, control plane, the ranges' other addresses), mosquitto, two unbound.

# --- nginx -------------------------------------------------------------------------------------------------------------

nginx_head() { # NAME [stream]
        [[ ${2:-} != stream ]] || echo 'load_module /usr/lib/nginx/modules/ngx_stream_module.so;'
        cat <<CONF
daemon on;
user root;
worker_processes 1;
pid $S/pids/nginx-$1.pid;
error_log $S/log/nginx-$1.log warn;
events { worker_connections 1024; }
CONF
}

nginx_http() { # NAME: opens the http block
        local t
        printf 'http {\n  access_log %s/log/nginx-%s.access;\n' "$S" "$1"
        for t in client_body proxy fastcgi uwsgi scgi; do printf '  %s_temp_path %s/run/nginx-%s;\n' $t "$S" "$1"; done
        printf '  ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_client_certificate %s/client-ca.pem;\n  ssl_verify_depth 3;\n' "$PKI"
        printf '  server_tokens off;\n'
}

nginx_tls() { printf '    ssl_certificate %s/%s.chain;\n    ssl_certificate_key %s/%s.key;\n' "$PKI" "$1" "$PKI" "$1"; }

# What a service answers. `unauthorized` and `broken` are the control plane's own refusals.
nginx_locations() { # SERVICE HOW
        case $2 in
        unauthorized)
                cat <<CONF
    default_type application/problem+json;
    location / { return 403 '{"type":"https://grid.example/problems/node-not-authorized","title":"This node is not authorized","status":403}'; }
CONF
                ;;
        broken)
                printf '    location / { return 503 "upstream unavailable\\n"; }\n'
                ;;
        *)
                cat <<CONF
    location = / { default_type text/plain; return 200 "grid\n"; }
    location = /.well-known/gridnode { default_type application/json; return 200 '{"service":"$1"}\n'; }
    location = /.well-known/gridnode/payload { default_type application/octet-stream; alias $S/www/payload; }
    location / { return 404; }
CONF
                ;;
        esac
}

# A service's nginx: 443 is HTTPS; 8443 goes by ALPN, MQTT to mosquitto and the rest to HTTPS.
nginx_service() { # NAME CERTIFICATE VERIFY-CLIENT HOW BACKEND-OF-8443 PORT… -- ADDRESS…
        local name=$1 certificate=$2 verify=$3 how=$4 backend=$5 ports=() a p
        shift 5
        while [[ $1 != -- ]]; do ports+=("$1") && shift; done
        shift
        nginx_head "$name" stream
        cat <<CONF
stream {
  map \$ssl_preread_alpn_protocols \$backend {
    "~(^|,)mqtt(,|\$)" 127.0.0.1:18883;
    default $backend;
  }
CONF
        if [[ " ${ports[*]} " == *' 8443 '* ]]; then
                echo '  server {'
                for a in "$@"; do echo "    listen $a:8443;"; done
                echo '    ssl_preread on; preread_timeout 10s; proxy_connect_timeout 3s; proxy_timeout 1h; proxy_pass $backend;'
                echo '  }'
        fi
        echo '}'
        nginx_http "$name"
        for p in "${ports[@]}"; do
                echo '  server {'
                if [[ $p == 8443 ]]; then
                        echo "    listen unix:$S/run/$name.sock ssl http2;"
                        [[ $verify == no ]] || echo '    ssl_verify_client on;'
                else
                        for a in "$@"; do echo "    listen $a:$p ssl http2;"; done
                fi
                nginx_tls "$certificate"
                nginx_locations "$name" "$how"
                echo '  }'
        done
        echo '}'
}

# Every other address of the ranges serves every name, so that tests with many targets have them.
nginx_others() {
        local a n addresses=()
        for n in {16..31}; do addresses+=("198.51.100.$n"); done
        for n in {192..207}; do addresses+=("203.0.113.$n"); done
        nginx_head other
        nginx_http other
        for n in other repo control; do
                echo "  server {"
                for a in "${addresses[@]}"; do
                        [[ " ${REPO[*]} ${CONTROL[*]} " == *" $a "* ]] && continue
                        echo "    listen $a:443 ssl; listen $a:8443 ssl;"
                done
                echo "    server_name $n.grid.example;"
                nginx_tls "$n"
                nginx_locations "$n" normal
                echo "  }"
        done
        echo "}"
}

nginx_write() { # NAME [CERTIFICATE [HOW]]: repo, control or other
        local certificate=${2:-$1} how=${3:-normal} backend="unix:$S/run/$1.sock"
        case $1 in
        repo) nginx_service repo "$certificate" no "$how" "$backend" ${REPO_PORTS:-443 8443} -- "${REPO_AT[@]:-${REPO[@]}}" ;;
        control) nginx_service control "$certificate" yes "$how" "${CONTROL_BACKEND:-$backend}" 443 8443 -- "${CONTROL[@]}" ;;
        other) nginx_others ;;
        esac >"$S/conf/nginx-$1.conf"
}

nginx_start() { # NAME [ROLE]
        rm -f "$S/run/$1.sock"
        in_ns "${2:-inet}" nginx -e "$S/log/nginx-$1.log" -p "$S/run" -c "$S/conf/nginx-$1.conf" 2>>"$S/log/nginx-$1.start" ||
                die "nginx ($1) does not start: $(tail -n 3 "$S/log/nginx-$1.start")"
}

nginx_use() { # NAME [CERTIFICATE [HOW]]: with another configuration
        mark "nginx-$1"
        stop "nginx-$1"
        nginx_write "$@"
        nginx_start "$1"
}

nginx_stop() {
        mark "nginx-$1"
        stop "nginx-$1"
}

# --- mosquitto -----------------------------------------------------------------------------------------------------------

mosquitto_start() {
        cat >"$S/conf/mosquitto.conf" <<CONF
user root
per_listener_settings true
persistence false
pid_file $S/pids/mosquitto.pid
log_dest file $S/log/mosquitto.log
set_tcp_nodelay true
listener 18883 127.0.0.1
cafile $PKI/client-ca.pem
certfile $PKI/control.chain
keyfile $PKI/control.key
require_certificate true
use_identity_as_username true
allow_anonymous false
CONF
        in_ns inet mosquitto -d -c "$S/conf/mosquitto.conf" >"$S/log/mosquitto.start" 2>&1 ||
                die "mosquitto does not start: $(tail -n 3 "$S/log/mosquitto.start")"
}

# --- unbound -------------------------------------------------------------------------------------------------------------

# The local data of one kind of server. `right` knows both names; the others are what private servers do.
dns_zone() { # KIND
        local repo=("${REPO[@]}") control=("${CONTROL[@]}") host
        case $1 in
        nxdomain)
                echo 'local-zone: "grid.example." always_nxdomain'
                return ;;
        nodata)
                echo 'local-zone: "grid.example." always_nodata'
                return ;;
        refused)
                echo 'local-zone: "grid.example." always_refuse'
                return ;;
        servfail) return ;; # has a forwarder for everything, which it must not ask
        sinkhole) repo=(10.66.66.66) control=(10.66.66.66) ;;
        sinkhole-web) repo=("$SINK") control=("$SINK") ;;
        sinkhole-zero) repo=(0.0.0.0) control=(0.0.0.0) ;;
        without-repo) repo=() ;;
        other-service) repo=("${CONTROL[@]}") ;;
        esac
        echo 'local-zone: "grid.example." static'
        for host in "${repo[@]}"; do echo "local-data: \"repo.grid.example. 60 IN A $host\""; done
        for host in "${control[@]}"; do echo "local-data: \"control.grid.example. 60 IN A $host\""; done
        echo "local-data: \"other.grid.example. 60 IN A 198.51.100.22\""
        echo "local-data: \"ns1.grid.example. 60 IN A ${DNS[0]}\""
}

dns_write() { # NAME ADDRESS PORT KIND
        cat >"$S/conf/$1.conf" <<CONF
server:
  chroot: ""
  username: ""
  directory: "$S/run"
  pidfile: "$S/pids/$1.pid"
  use-syslog: no
  logfile: "$S/log/$1.log"
  interface: $2@$3
  do-ip6: no
  num-threads: 1
  access-control: 0.0.0.0/0 allow
  module-config: "iterator"
  msg-cache-size: 64k
  rrset-cache-size: 64k
  outgoing-range: 32
  do-not-query-localhost: yes
  hide-version: yes
$( [[ $4 == servfail ]] || echo 'local-zone: "." static' )
$( [[ $4 == servfail ]] || echo 'local-data: ". 3600 IN NS ns1.grid.example."' )
$(dns_zone "$4" | sed 's/^/  /')
remote-control:
  control-enable: no
$( [[ $4 != servfail ]] || printf 'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@9\n' )
CONF
}

dns_start() { # NAME ADDRESS PORT KIND [ROLE]
        dns_write "$1" "$2" "$3" "$4"
        in_ns "${5:-inet}" unbound -c "$S/conf/$1.conf" >"$S/log/$1.start" 2>&1 ||
                die "unbound ($1) does not start: $(tail -n 3 "$S/log/$1.start")"
}

dns_use() { # 1|2 KIND
        mark "dns$1"
        stop "dns$1"
        [[ $2 == none ]] || dns_start "dns$1" "${DNS[$1 - 1]}" 53 "$2"
}

# --- all of them ---------------------------------------------------------------------------------------------------------

services_start() {
        local name names=(repo control other)
        [[ $PLANE == no ]] || names=(other)
        for name in "${names[@]}"; do nginx_write "$name"; done
        for name in "${names[@]}"; do aside nginx_start "$name"; done
        if [[ $PLANE == yes ]]; then aside plane_start; else aside mosquitto_start; fi
        [[ $MACHINE == no ]] || aside machine_start
        aside dns_start dns1 "${DNS[0]}" 53 right
        aside dns_start dns2 "${DNS[1]}" 53 right
        together
}

services_restore() {
        local n
        [[ $PLANE == no ]] || plane_restore
        for n in repo control; do
                is_marked "nginx-$n" || continue
                stop "nginx-$n"
                nginx_write "$n"
                nginx_start "$n"
        done
        for n in 1 2; do
                is_marked "dns$n" || continue
                stop "dns$n"
                dns_start "dns$n" "${DNS[n - 1]}" 53 right
        done
}
