# shellcheck shell=bash
# Faults of name service.

port_53() { rule fw forward "$@" counter drop; }

fault_dns1_dead() { rule fw forward ip daddr "${DNS[0]}" counter drop; }
prove_dns1_dead() {
        check '^silent' dns "${DNS[0]}" udp
        check '^silent' dns "${DNS[0]}" tcp
        check "$RIGHT" dns "${DNS[1]}" udp
        both '^open$' REPO 443
}
fault_dns2_dead() { rule fw forward ip daddr "${DNS[1]}" counter drop; }
prove_dns2_dead() {
        check '^silent' dns "${DNS[1]}" udp
        check '^silent' dns "${DNS[1]}" tcp
        check "$RIGHT" dns "${DNS[0]}" udp
        both '^open$' REPO 443
}

fault_dns_udp() { port_53 udp dport 53; }
prove_dns_udp() {
        both_dns '^silent' udp
        both_dns "$RIGHT" tcp
}
fault_dns_udp_one() { port_53 ip daddr "${DNS[0]}" udp dport 53; }
prove_dns_udp_one() {
        check '^silent' dns "${DNS[0]}" udp
        check "$RIGHT" dns "${DNS[0]}" tcp
        check "$RIGHT" dns "${DNS[1]}" udp
}
fault_dns_tcp() { port_53 tcp dport 53; }
prove_dns_tcp() {
        both_dns "$RIGHT" udp
        both_dns '^silent' tcp
}

fault_dns_dead() {
        port_53 udp dport 53
        port_53 tcp dport 53
}
prove_dns_dead() {
        both_dns '^silent' udp
        both_dns '^silent' tcp
        both '^open$' REPO 443
}
fault_dns_dead_no_addresses() {
        fault_dns_dead
        write_profile without-addresses
}
prove_dns_dead_no_addresses() {
        prove_dns_dead
        check '^nothing$' site_file_says '^\[addresses'
}
fault_dns_dead_drop_443() {
        fault_dns_dead
        fault_drop_443
}
prove_dns_dead_drop_443() {
        both_dns '^silent' udp
        both_dns '^silent' tcp
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
}
fault_dns_reject() {
        rule fw forward udp dport 53 counter reject with icmp admin-prohibited
        rule fw forward tcp dport 53 counter reject with icmp admin-prohibited
}
prove_dns_reject() {
        both_dns '^ *(silent|.*(unreachable|no servers))' udp
        check "^icmp from $GATEWAY: .*admin prohibited" refusal "${DNS[0]}" 53
        both '^open$' REPO 443
}

# --- servers that know better ---------------------------------------------------------------------------------------------

both_use() {
        aside dns_use 1 "$1"
        aside dns_use 2 "$1"
        together
}

fault_nxdomain() { both_use nxdomain; }
prove_nxdomain() { both_dns '^NXDOMAIN *$' udp; }
fault_nxdomain_no_addresses() {
        both_use nxdomain
        write_profile without-addresses
}
prove_nxdomain_no_addresses() {
        prove_nxdomain
        check '^nothing$' site_file_says '^\[addresses'
}
fault_nxdomain_repo() { both_use without-repo; }
prove_nxdomain_repo() {
        local a
        both_dns '^NXDOMAIN *$' udp
        for a in "${DNS[@]}"; do check '^NOERROR 198.51.100.21 203.0.113.201$' dns "$a" udp control.grid.example; done
}
fault_dns_dead_and_nxdomain() {
        fault_dns1_dead
        dns_use 2 nxdomain
}
prove_dns_dead_and_nxdomain() {
        check '^silent' dns "${DNS[0]}" udp
        check '^NXDOMAIN' dns "${DNS[1]}" udp
}
fault_nodata() { both_use nodata; }
prove_nodata() { both_dns '^NOERROR *$' udp; }
fault_servfail() { both_use servfail; }
prove_servfail() { both_dns '^SERVFAIL' udp; }
fault_refused() { both_use refused; }
prove_refused() { both_dns '^REFUSED' udp; }
fault_no_dns_service() { both_use none; }
prove_no_dns_service() {
        both_dns '^refused' udp
        both_dns '^refused' tcp
}

fault_sinkhole() { both_use sinkhole; }
prove_sinkhole() { both_dns '^NOERROR 10.66.66.66$' udp; }
fault_sinkhole_zero() { both_use sinkhole-zero; }
prove_sinkhole_zero() { both_dns '^NOERROR 0.0.0.0$' udp; }
fault_sinkhole_no_addresses() {
        both_use sinkhole
        write_profile without-addresses
}
prove_sinkhole_no_addresses() {
        prove_sinkhole
        check '^nothing$' site_file_says '^\[addresses'
}

# The sinkhole is a machine that answers on both ports, with a certificate of its own.
fault_sinkhole_web() {
        both_use sinkhole-web
        {
                nginx_head fault-sink
                nginx_http fault-sink
                echo "  server { listen $SINK:443 ssl; listen $SINK:8443 ssl;"
                nginx_tls sinkhole
                echo '    location / { return 403 "blocked\n"; } } }'
        } >"$S/conf/nginx-fault-sink.conf"
        sed -i "s#pids/nginx-fault-sink.pid#pids/fault-nginx-sink.pid#" "$S/conf/nginx-fault-sink.conf"
        nginx_start fault-sink
}
prove_sinkhole_web() {
        both_dns "^NOERROR $SINK\$" udp
        check 'issuer.*Elsewhere' tls "$SINK" 443 repo.grid.example
}

fault_disagree() { dns_use 2 sinkhole; }
prove_disagree() {
        check "$RIGHT" dns "${DNS[0]}" udp
        check '^NOERROR 10.66.66.66$' dns "${DNS[1]}" udp
}
fault_disagree_nxdomain() { dns_use 1 nxdomain; }
prove_disagree_nxdomain() {
        check '^NXDOMAIN' dns "${DNS[0]}" udp
        check "$RIGHT" dns "${DNS[1]}" udp
}

# --- the firewall answers in the servers' name -----------------------------------------------------------------------------

hijack() { # KIND
        dns_start fault-dns "$GATEWAY" 5353 "$1" fw
        rule fw redirect iifname br-wan udp dport 53 counter redirect to :5353
        rule fw redirect iifname br-wan tcp dport 53 counter redirect to :5353
}
fault_dns_hijack() { hijack right; }
prove_dns_hijack() {
        both_dns "$RIGHT" udp
        check "$RIGHT" dns "${REPO[0]}" udp # runs no DNS
}
fault_dns_hijack_lies() { hijack sinkhole; }
prove_dns_hijack_lies() {
        both_dns '^NOERROR 10.66.66.66$' udp
        check '^NOERROR 10.66.66.66$' dns "${REPO[0]}" udp
}
