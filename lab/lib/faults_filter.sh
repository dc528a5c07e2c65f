# shellcheck shell=bash
# Faults of packet filters and of the wire: what is dropped, reset or refused on the way.

fault_healthy() { :; }

# --- dropped ---------------------------------------------------------------------------------------------------------

fault_drop_443() { rule fw forward tcp dport 443 counter drop; }
prove_drop_443() {
        both '^silent$' REPO 443
        both '^open$' REPO 8443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted fw
}

fault_drop_443_far() { rule r2 forward tcp dport 443 counter drop; }
prove_drop_443_far() {
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted r2
        check '^0$' counted fw
}

fault_drop_443_entry() { rule fw prerouting tcp dport 443 counter drop; }
prove_drop_443_entry() {
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted fw
}

silent_routers() {
        rule fw output icmp type '{ time-exceeded, destination-unreachable }' counter drop
        rule r2 output icmp type '{ time-exceeded, destination-unreachable }' counter drop
}
no_time_exceeded() { # a probe that dies at hop 1 is answered by nobody
        in_ns node ping -n -c 1 -W 1 -t 1 "${REPO[0]}" | grep -c 'Time to live exceeded' || true
}

fault_drop_443_no_icmp() {
        fault_drop_443
        silent_routers
}
prove_drop_443_no_icmp() {
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        check '^0$' no_time_exceeded
}

fault_no_icmp() { silent_routers; }
prove_no_icmp() {
        check '^0$' no_time_exceeded
        prove_healthy
}

fault_drop_443_return() { rule fw forward tcp sport 443 tcp flags '&' '(syn|ack)' == 'syn|ack' counter drop; }
prove_drop_443_return() {
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted fw
}

fault_drop_443_8443() { rule fw forward tcp dport '{ 443, 8443 }' counter drop; }
prove_drop_443_8443() {
        both '^silent$' REPO 443
        both '^silent$' REPO 8443
        both '^silent$' CONTROL 8443
        both_dns "$RIGHT" udp
}

fault_drop_8443() { rule fw forward tcp dport 8443 counter drop; }
prove_drop_8443() {
        both '^silent$' CONTROL 8443
        both '^open$' REPO 443
}

fault_drop_range() { rule fw forward ip daddr "${RANGES[1]}" tcp dport 443 counter drop; }
prove_drop_range() {
        check '^silent$' tcp "${REPO[1]}" 443
        check '^silent$' tcp "${CONTROL[1]}" 443
        check '^open$' tcp "${REPO[0]}" 443
        check '^open$' tcp "${CONTROL[1]}" 8443
}

fault_drop_one() { rule fw forward ip daddr "${REPO[0]}" tcp dport 443 counter drop; }
prove_drop_one() {
        check '^silent$' tcp "${REPO[0]}" 443
        check '^open$' tcp "${CONTROL[0]}" 443
        check '^open$' tcp "${REPO[1]}" 443
}

fault_drop_range_all() { rule fw forward ip daddr "${RANGES[0]}" counter drop; }
prove_drop_range_all() {
        check '^silent$' tcp "${REPO[0]}" 443
        check '^silent$' tcp "${CONTROL[0]}" 8443
        check '^open$' tcp "${REPO[1]}" 443
        check '^open$' tcp "${CONTROL[1]}" 8443
        both_dns "$RIGHT" udp
}

# A firewall that polices how many connections a host may open: many at once lose some.
fault_syn_limit() { rule fw forward tcp flags '&' '(syn|ack)' == syn limit rate over 10/second burst 12 packets counter drop; }
prove_syn_limit() {
        check 'limit rate over 10/second' says_nft fw
        both '^open$' REPO 443
}

fault_drop_all() { rule fw forward counter drop; }
prove_drop_all() {
        both '^silent$' REPO 443
        both '^silent$' CONTROL 8443
        both_dns '^silent' udp
        both_dns '^silent' tcp
        check '^02:00:5e:00:53:01$' arp "$GATEWAY"
}

fault_drop_all_far() { rule r2 forward counter drop; }
prove_drop_all_far() {
        both '^silent$' REPO 443
        both_dns '^silent' udp
        settle
        check '^0$' counted fw
        check '^[1-9]' counted r2
}

fault_drop_tcp() { rule fw forward meta l4proto tcp counter drop; }
prove_drop_tcp() {
        both '^silent$' REPO 443
        both '^silent$' CONTROL 8443
        both_dns "$RIGHT" udp
        both_dns '^silent' tcp
}

# --- answered with RST -------------------------------------------------------------------------------------------------

fault_reset_443() { rule fw forward tcp dport 443 counter reject with tcp reset; }
prove_reset_443() {
        both '^refused$' REPO 443
        both '^open$' CONTROL 8443
        check '^rst ttl 64$' refusal "${REPO[0]}" 443
}

fault_reset_443_far() { rule r2 forward tcp dport 443 counter reject with tcp reset; }
prove_reset_443_far() {
        both '^refused$' REPO 443
        both '^open$' CONTROL 8443
        check '^rst ttl 63$' refusal "${REPO[0]}" 443
}

fault_reset_443_ttl() {
        rule fw forward tcp dport 443 counter reject with tcp reset
        # What comes from the server itself arrives with 62: the forger knows that.
        rule fw postrouting tcp sport 443 tcp flags '&' rst == rst ip ttl 64 counter ip ttl set 62
}
prove_reset_443_ttl() {
        both '^refused$' REPO 443
        check '^rst ttl 62$' refusal "${REPO[0]}" 443
}

fault_reset_443_8443() { rule fw forward tcp dport '{ 443, 8443 }' counter reject with tcp reset; }
prove_reset_443_8443() {
        both '^refused$' REPO 443
        both '^refused$' CONTROL 8443
        check '^rst ttl 64$' refusal "${CONTROL[0]}" 8443
}

fault_reset_8443() { rule fw forward tcp dport 8443 counter reject with tcp reset; }
prove_reset_8443() {
        both '^refused$' CONTROL 8443
        both '^open$' REPO 443
}

# --- refused with ICMP -------------------------------------------------------------------------------------------------

fault_prohibit_443() { rule fw forward tcp dport 443 counter reject with icmp admin-prohibited; }
prove_prohibit_443() {
        both '^unreachable' REPO 443
        both '^open$' CONTROL 8443
        check "^icmp from $GATEWAY: .*admin prohibited" refusal "${REPO[0]}" 443
}

fault_prohibit_443_far() { rule r2 forward tcp dport 443 counter reject with icmp admin-prohibited; }
prove_prohibit_443_far() {
        both '^unreachable' REPO 443
        both '^open$' CONTROL 8443
        check "^icmp from $R2: .*admin prohibited" refusal "${REPO[1]}" 443
}

fault_prohibit_443_limited() {
        rule fw forward tcp dport 443 limit rate 2/second burst 1 packets counter reject with icmp admin-prohibited
        rule fw forward tcp dport 443 counter drop
}
prove_prohibit_443_limited() {
        check "^icmp from $GATEWAY: .*admin prohibited" refusal "${REPO[0]}" 443
        settle
        both '^(unreachable|silent)' REPO 443
        both '^open$' CONTROL 8443
}

fault_unreach_443() { rule fw forward tcp dport 443 counter reject with icmp port-unreachable; }
prove_unreach_443() {
        both '^refused$' REPO 443
        both '^open$' CONTROL 8443
        check "^icmp from $GATEWAY: .*tcp port 443 unreachable" refusal "${REPO[0]}" 443
}

fault_prohibit_8443() { rule fw forward tcp dport 8443 counter reject with icmp admin-prohibited; }
prove_prohibit_8443() {
        both '^unreachable' CONTROL 8443
        both '^open$' REPO 443
        check "^icmp from $GATEWAY: .*admin prohibited" refusal "${CONTROL[0]}" 8443
}

fault_reject_half() { rule fw forward ip daddr 203.0.113.200/29 tcp dport 443 counter reject with icmp admin-prohibited; }
prove_reject_half() {
        check '^unreachable' tcp "${REPO[1]}" 443
        check '^open$' tcp 203.0.113.199 443
        check '^open$' tcp "${REPO[0]}" 443
        check '^open$' tcp "${CONTROL[1]}" 8443
}

fault_host_unreachable() { rule fw forward tcp dport 443 counter reject with icmp host-unreachable; }
prove_host_unreachable() {
        both '^unreachable' REPO 443
        both '^open$' CONTROL 8443
        check "^icmp from $GATEWAY: .*unreachable" refusal "${REPO[0]}" 443
}

fault_mixed_443() {
        rule fw forward ip daddr "${RANGES[0]}" tcp dport 443 counter drop
        rule fw forward ip daddr "${RANGES[1]}" tcp dport 443 counter reject with icmp admin-prohibited
}
prove_mixed_443() {
        check '^silent$' tcp "${REPO[0]}" 443
        check '^unreachable' tcp "${REPO[1]}" 443
        both '^open$' CONTROL 8443
}

fault_net_unreachable() { ip -n "$(ns fw)" route del default; }
prove_net_unreachable() {
        # Such errors have a limit of their own (net.ipv4.route.error_cost): after the first few there is silence.
        check "^icmp from $GATEWAY: .*unreachable" refusal "${REPO[0]}" 443
        both '^(unreachable|silent)' REPO 443
        both '^(unreachable|silent)' CONTROL 8443
}

# --- the wire ----------------------------------------------------------------------------------------------------------

fault_slow() { wire_use --delay-ms 400; }
prove_slow() { check 'time=(79|80)[0-9](\.[0-9])? ms' ping_once; }
ping_once() { in_ns node ping -n -c 1 -W 2 "${REPO[0]}" | sed -n 2p; }

fault_lossy() { wire_use --loss-permille 100 --seed $((RANDOM * 32768 + RANDOM)); }
prove_lossy() { check ' ([5-9]|[1-3][0-9])(\.[0-9]+)?% packet loss' ping_many; }
ping_many() { in_ns node ping -n -q -c 150 -i 0.005 -W 1 "${REPO[0]}" | grep loss; }

# --- nothing wrong -----------------------------------------------------------------------------------------------------

fault_nat() { rule fw masquerade oifname up0 counter masquerade; }
prove_nat() {
        prove_healthy
        settle
        check '^[1-9]' counted fw
}

# The path's MTU is 1300, and the routers say so.
fault_small_mtu() {
        ip -n "$(ns fw)" link set up0 mtu 1300
        ip -n "$(ns r2)" route replace 192.0.2.0/24 via 10.255.1.1 mtu lock 1300
}
prove_small_mtu() {
        check 'mtu = 1300' in_ns node ping -n -c 1 -W 1 -M 'do' -s 1400 "${REPO[0]}"
        check '^200, 262144' http "${REPO[0]}" 443 repo.grid.example '/.well-known/gridnode/payload?bytes=262144'
}
