# shellcheck shell=bash
# Faults of HTTP: sign-in and block pages, proxies, the control plane's own refusals, transfers that are cut.

# --- pages that stand in the way -------------------------------------------------------------------------------------

page() { # STATUS-AND-BODY…: plain HTTP on the firewall, in place of 443 and 80
        {
                nginx_head fault-page
                nginx_http fault-page
                echo '  server { listen 8084; default_type text/html;'
                echo "    location / { $* } } }"
        } | sed "s#pids/nginx-fault-page.pid#pids/fault-nginx-page.pid#" >"$S/conf/nginx-fault-page.conf"
        nginx_start fault-page fw
        take_over 8084 443 80
}
prove_page() { # PATTERN
        check "$1" plain "${REPO[0]}" 443
        check "$1" plain "${REPO[1]}" 80
        check '^not TLS$' tls "${REPO[0]}" 443 repo.grid.example
        check '^200' http "${CONTROL[0]}" 8443 control.grid.example
}

fault_portal() { page 'return 302 http://login.portal.example/sign-in;'; }
prove_portal() { prove_page '302 .*Location: http://login.portal.example'; }

fault_portal_511() {
        page 'return 511 "<html><title>Sign in</title><a href=http://login.portal.example/>Sign in to the guest network</a></html>";'
}
prove_portal_511() { prove_page 'HTTP/1.[01] 511'; }

fault_block_page() {
        page 'add_header X-Filter "FortiGuard" always; return 403 "<html><title>Web Filter Violation</title>FortiGuard Intrusion Prevention: this web page is blocked by policy</html>";'
}
prove_block_page() { prove_page 'HTTP/1.[01] 403 .*'; }

# --- proxies -----------------------------------------------------------------------------------------------------------

SQUID_CERTGEN=/usr/lib/squid/security_file_certgen

squid_prepare() {
        local d=$S/run/squid
        rm -rf "$d"
        mkdir -p "$d"
        cp "$PKI/zscaler.crt" "$d/ca.crt"
        cp "$PKI/zscaler.key" "$d/ca.key"
        cat >"$d/hosts" <<HOSTS
${REPO[0]} repo.grid.example
${CONTROL[0]} control.grid.example
HOSTS
        printf '%s\n' 'node:not-this-one' >"$d/users"
        chown -R proxy "$d"
}

squid_start() { # ROLE PORT <<rules
        local d=$S/run/squid
        local rules
        rules=$(cat)
        cat >"$S/conf/squid.conf" <<CONF
http_port $2
cache_effective_user proxy
cache deny all
cache_mem 4 MB
memory_cache_shared off
access_log stdio:$d/access.log
cache_log $d/cache.log
pid_filename none
coredump_dir $d
max_filedescriptors 1024
hosts_file $d/hosts
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname proxy.site.example
$rules
CONF
        chmod a+r "$S/conf/squid.conf"
        # A service name of its own keeps the shared memory of labs side by side apart.
        start_in "$1" fault-squid squid -N -n "gl${NAME//-/}" -f "$S/conf/squid.conf"
        wait_listening "$1" "$2" fault-squid
}

direct_is_dropped() { rule fw forward iifname br-wan tcp dport '{ 443, 8443 }' counter drop; }
direct_is_silent() {
        both '^silent$' REPO 443
        both '^silent$' CONTROL 8443
}

fault_proxy_only() {
        squid_prepare
        squid_start fw 3128 <<<'http_access allow all'
        direct_is_dropped
        write_site wan "proxy = http://$GATEWAY:3128"
}
prove_proxy_only() {
        direct_is_silent
        check '^200 200' proxy "http://$GATEWAY:3128" repo.grid.example 443
        check '^200 200' proxy "http://$GATEWAY:3128" control.grid.example 8443
}

fault_proxy_lan() {
        squid_prepare
        squid_start lan 3128 <<<'http_access allow all'
        direct_is_dropped
        write_site wan "proxy = http://$LAN_PROXY:3128"
}
prove_proxy_lan() {
        direct_is_silent
        check '^200 200' proxy "http://$LAN_PROXY:3128" repo.grid.example 443
        check '^200 200' proxy "http://$LAN_PROXY:3128" control.grid.example 8443
}

fault_proxy_denied() {
        squid_prepare
        squid_start fw 3128 <<<'http_access deny all'
        direct_is_dropped
        write_site wan "proxy = http://$GATEWAY:3128"
}
prove_proxy_denied() {
        direct_is_silent
        check '^403' proxy "http://$GATEWAY:3128" repo.grid.example 443
}

fault_proxy_407() {
        squid_prepare
        squid_start fw 3128 <<CONF
auth_param basic program /usr/lib/squid/basic_ncsa_auth $S/run/squid/users
auth_param basic children 1 startup=0
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
CONF
        direct_is_dropped
        write_site wan "proxy = http://$GATEWAY:3128"
}
prove_proxy_407() {
        direct_is_silent
        check '^407' proxy "http://$GATEWAY:3128" repo.grid.example 443
}

# --- the control plane's own -------------------------------------------------------------------------------------------

fault_service_down() { nginx_stop repo; }
prove_service_down() {
        both '^refused$' REPO 443
        both '^refused$' REPO 8443
        both '^open$' CONTROL 8443
        check '^rst ttl 62$' refusal "${REPO[0]}" 443
}
fault_service_down_443() {
        mark nginx-repo
        stop nginx-repo
        REPO_PORTS=8443 nginx_write repo
        nginx_start repo
}
prove_service_down_443() {
        both '^refused$' REPO 443
        both '^open$' REPO 8443
        check '^rst ttl 62$' refusal "${REPO[1]}" 443
}
fault_service_down_one() {
        mark nginx-repo
        stop nginx-repo
        REPO_AT=("${REPO[0]}")
        nginx_write repo
        nginx_start repo
}
prove_service_down_one() {
        check '^open$' tcp "${REPO[0]}" 443
        check '^refused$' tcp "${REPO[1]}" 443
        check '^rst ttl 62$' refusal "${REPO[1]}" 443
}
fault_service_5xx() { nginx_use repo repo broken; }
prove_service_5xx() { check '^503' http "${REPO[0]}" 443 repo.grid.example; }

fault_unauthorized() { nginx_use control control unauthorized; }
prove_unauthorized() {
        check '^403' http "${CONTROL[0]}" 8443 control.grid.example
        check '^200' http "${REPO[0]}" 443 repo.grid.example
}

# --- transfers ---------------------------------------------------------------------------------------------------------

fault_transfer_cut() {
        set_sysctl fw net.netfilter.nf_conntrack_acct=1
        rule fw forward tcp sport 443 ct reply bytes '>' 65536 counter drop
}
payload_is() { # PATTERN
        local a
        for a in "${REPO[@]}"; do
                check "$1" http "$a" 443 repo.grid.example '/.well-known/gridnode/payload?bytes=262144'
                check '^200.*curl 0' http "$a" 443 repo.grid.example
        done
}
prove_transfer_cut() { payload_is '^200, [3-6][0-9]{4} bytes, curl 28'; }

fault_transfer_reset() {
        set_sysctl fw net.netfilter.nf_conntrack_acct=1
        rule fw forward tcp dport 443 ct reply bytes '>' 65536 counter reject with tcp reset
}
prove_transfer_reset() { payload_is '^200, [0-9]{4,5} bytes, curl (56|35|92)'; }

fault_transfer_throttle() { # the handshake and a small answer pass; then 4 kB/s
        set_sysctl fw net.netfilter.nf_conntrack_acct=1
        rule fw forward tcp sport 443 ct reply bytes '>' 32768 limit rate over 4 kbytes/second counter drop
}
prove_transfer_throttle() { payload_is '^200, [1-9][0-9]{4} bytes, curl 28'; }
