# shellcheck shell=bash
# Faults between TCP and HTTP: interceptors, filters on names, certificates, packets that vanish.

# The firewall's own programs take over connections from the WAN side.
take_over() { # PORT-OF-OURS PORT…
        local to=$1 port
        shift
        for port in "$@"; do
                rule fw redirect iifname br-wan ip daddr "{ ${RANGES[0]}, ${RANGES[1]} }" tcp dport "$port" counter redirect to ":$to"
        done
}

forged() { # PORT NAME ISSUER
        check "issuer.*$3" tls "${REPO[0]}" "$1" "$2"
}

start_mitmproxy() {
        mkdir -p "$S/run/mitm"
        cp "$PKI/fortinet.pem" "$S/run/mitm/mitmproxy-ca.pem"
        start_in fw fault-mitm env HOME="$S/run/mitm" mitmdump --mode transparent --listen-port 8080 \
                --set confdir="$S/run/mitm" --set ssl_insecure=true --set block_global=false \
                --set connection_strategy=lazy -q
        wait_listening fw 8080 fault-mitm
}
fault_mitm() {
        start_mitmproxy
        take_over 8080 443
}
prove_mitm() {
        local a
        for a in "${REPO[@]}"; do TLS_SECONDS=5 check 'issuer.*Fortinet Untrusted CA' tls "$a" 443 repo.grid.example; done
        check '^200' http "${CONTROL[0]}" 8443 control.grid.example
}
fault_mitm_8443() {
        start_mitmproxy
        take_over 8080 8443
}
prove_mitm_8443() {
        local a
        for a in "${CONTROL[@]}"; do
                TLS_SECONDS=5 check 'issuer.*Fortinet Untrusted CA' tls "$a" 8443 control.grid.example
        done
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}

start_sslsplit() { # CA
        start_in fw fault-sslsplit sslsplit -D -k "$PKI/$1.key" -c "$PKI/$1.crt" -P -e netfilter ssl 0.0.0.0 8081
        wait_listening fw 8081 fault-sslsplit
}
fault_mitm_sslsplit() {
        start_sslsplit paloalto
        take_over 8081 443
}
prove_mitm_sslsplit() {
        local a
        for a in "${REPO[@]}"; do check 'issuer.*Palo Alto Networks' tls "$a" 443 repo.grid.example; done
}
fault_mitm_unknown() {
        start_sslsplit acme
        take_over 8081 443
}
prove_mitm_unknown() { check 'issuer.*ACME' tls "${REPO[0]}" 443 repo.grid.example; }

fault_mitm_range() {
        start_sslsplit paloalto
        rule fw redirect iifname br-wan ip daddr "${RANGES[1]}" tcp dport 443 counter redirect to :8081
}
prove_mitm_range() {
        check 'issuer.*Palo Alto Networks' tls "${REPO[1]}" 443 repo.grid.example
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}

# A proxy that accepts everything and closes at the first bytes.
fault_accept_close() {
        {
                nginx_head fault-close stream
                echo 'stream { server { listen 8085; ssl_preread on; return ""; } }'
        } | sed "s#pids/nginx-fault-close.pid#pids/fault-nginx-close.pid#" >"$S/conf/nginx-fault-close.conf"
        nginx_start fault-close fw
        take_over 8085 443
}
prove_accept_close() {
        both '^open$' REPO 443
        check '^cut$' tls "${REPO[0]}" 443 repo.grid.example
        check '^cut$' tls "${REPO[1]}" 443 www.neutral.example
}

fault_mitm_squid() {
        local d=$S/run/squid
        squid_prepare
        "$SQUID_CERTGEN" -c -s "$d/ssl_db" -M 4MB >/dev/null
        chown -R proxy "$d"
        squid_start fw 3128 <<CONF
https_port 8082 intercept ssl-bump tls-cert=$d/ca.crt tls-key=$d/ca.key generate-host-certificates=on dynamic_cert_mem_cache_size=1MB
sslcrtd_program $SQUID_CERTGEN -s $d/ssl_db -M 4MB
sslcrtd_children 2 startup=1 idle=1
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
tls_outgoing_options flags=DONT_VERIFY_PEER
sslproxy_cert_error allow all
http_access allow all
CONF
        wait_listening fw 8082 fault-squid
        take_over 8082 443
}
prove_mitm_squid() {
        local a
        for a in "${REPO[@]}"; do TLS_SECONDS=5 check 'issuer.*Zscaler' tls "$a" 443 repo.grid.example; done
}

# A transparent proxy that relays what it takes over, and changes nothing.
fault_tls_passthrough() {
        start_in fw fault-relay sslsplit -D -P -e netfilter tcp 0.0.0.0 8083
        wait_listening fw 8083 fault-relay
        take_over 8083 443 8443
}
prove_tls_passthrough() {
        prove_healthy
        settle
        check '^[1-9]' counted fw
}

# --- the ClientHello ---------------------------------------------------------------------------------------------------

on_name() { # TARGET…: what happens to packets to 443 that name the repository
        in_ns fw iptables-nft -A FORWARD -p tcp --dport 443 -m string --algo bm --string repo.grid.example "$@"
}
fault_sni_reset() { on_name -j REJECT --reject-with tcp-reset; }
prove_sni_reset() {
        local a
        for a in "${REPO[@]}"; do
                check '^cut$' tls "$a" 443 repo.grid.example
                check 'issuer.*Grid' tls "$a" 443 www.neutral.example
        done
        both '^open$' REPO 443
}
fault_sni_drop() { on_name -j DROP; }
prove_sni_drop() {
        check '^silent$' tls "${REPO[0]}" 443 repo.grid.example
        check 'issuer.*Grid' tls "${REPO[0]}" 443 www.neutral.example
        both '^open$' REPO 443
}

# 0x16 0x03: a TLS record of the handshake, major version 3
fault_hello_drop() { rule fw forward tcp dport 443 @ih,0,16 0x1603 counter drop; }
prove_hello_drop() {
        check '^silent$' tls "${REPO[0]}" 443 repo.grid.example
        check '^silent$' tls "${REPO[1]}" 443 www.neutral.example
        both '^open$' REPO 443
        check '^200' http "${CONTROL[0]}" 8443 control.grid.example
}
fault_tls_reset() { rule fw forward tcp dport 443 @ih,0,16 0x1603 counter reject with tcp reset; }
prove_tls_reset() {
        check '^cut$' tls "${REPO[0]}" 443 repo.grid.example
        check '^cut$' tls "${REPO[1]}" 443 www.neutral.example
        both '^open$' REPO 443
}

# The repository's process hangs: its kernel accepts and acknowledges, and nothing is said.
fault_tarpit() {
        mark nginx-repo
        local pid
        for pid in $(pgrep -P "$(pid_of nginx-repo)"); do kill -STOP "$pid"; done
}
prove_tarpit() {
        both '^open$' REPO 443
        check '^silent$' tls "${REPO[0]}" 443 repo.grid.example
        check '^silent$' tls "${REPO[1]}" 443 www.neutral.example
}

fault_mtu_hole() { rule fw forward meta length '>' 1300 counter drop; }
prove_mtu_hole() {
        both '^open$' REPO 443
        check '^silent$' tls "${REPO[0]}" 443 repo.grid.example
        check '100% packet loss' in_ns node ping -n -q -c 1 -W 1 -s 1400 "${REPO[0]}"
        check ' 0% packet loss' in_ns node ping -n -q -c 1 -W 1 -s 1200 "${REPO[0]}"
}

# --- certificates --------------------------------------------------------------------------------------------------------

fault_expired() { nginx_use repo repo-expired; }
prove_expired() { check 'certificate has expired' tls "${REPO[0]}" 443 repo.grid.example; }
fault_expired_intermediate() { nginx_use repo repo-intermediate-expired; }
prove_expired_intermediate() { check 'certificate has expired' tls "${REPO[1]}" 443 repo.grid.example; }

fault_wrong_name() { nginx_use repo control; }
prove_wrong_name() {
        check 'hostname mismatch' tls "${REPO[0]}" 443 repo.grid.example
        check '(^|\|)OK' tls "${REPO[0]}" 443 control.grid.example
}
# The name leads to the control plane's other service, and nothing else is known.
fault_wrong_name_dns() {
        both_use other-service
        write_profile without-addresses
}
prove_wrong_name_dns() {
        both_dns '^NOERROR 198.51.100.21 203.0.113.201$' udp
        check 'hostname mismatch' tls "${CONTROL[0]}" 443 repo.grid.example
}

wrong_clock() { # SECONDS
        node_env "LD_PRELOAD=$CLOCK" "LAB_CLOCK_SHIFT=$1" ASAN_OPTIONS=verify_asan_link_order=0
}
node_year() {
        # The assignments are split on purpose: they are what env(1) takes.
        # shellcheck disable=SC2046
        in_ns node env $(cat "$S/node/env") date -u +%Y
}
fault_clock() { wrong_clock -63072000; }
prove_clock() { check "^$(($(date -u -d '-730 days' +%Y)))\$" node_year; }
fault_clock_ahead() { wrong_clock 94608000; }
prove_clock_ahead() { check "^$(($(date -u -d '+1095 days' +%Y)))\$" node_year; }

fault_client_rejected() { use_certificate node-expired; }
prove_client_rejected() {
        check '^400' http "${CONTROL[0]}" 8443 control.grid.example
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}
fault_client_rejected_drop_443() {
        fault_client_rejected
        fault_drop_443
}
prove_client_rejected_drop_443() {
        check '^400' http "${CONTROL[0]}" 8443 control.grid.example
        both '^silent$' REPO 443
}
fault_client_unknown() { use_certificate node-stranger; }
prove_client_unknown() {
        check '^400' http "${CONTROL[0]}" 8443 control.grid.example
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}
# The expired certificate meets a server that says so with a TLS alert instead of HTTP 400: mosquitto.
fault_client_rejected_alert() {
        use_certificate node-expired
        CONTROL_BACKEND=127.0.0.1:18883 nginx_use control
}
late_alert() { # with TLS 1.3 it comes after the client has finished
        sleep 0.7 | in_ns node timeout 2 openssl s_client -connect "${CONTROL[0]}:8443" -servername control.grid.example \
                -cert "$S/node/node.crt" -key "$S/node/node.key" 2>&1 | grep -o 'SSL alert number [0-9]*'
}
prove_client_rejected_alert() {
        check '^SSL alert number 45$' late_alert
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}
