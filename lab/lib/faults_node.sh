# shellcheck shell=bash
# Faults on the node and on its own segments: filters, links, addresses, routes, neighbours.

# --- the node's own filter ---------------------------------------------------------------------------------------------

# Nothing leaves for 443 when the node's own filter takes it.
nothing_leaves() { check '^0$' seen eth0 'tcp dst port 443'; }

fault_local_drop() { rule node output tcp dport 443 counter drop; }
prove_local_drop() {
        nothing_leaves
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted node
}
fault_local_drop_range() { rule node output ip daddr "${RANGES[0]}" tcp dport 443 counter drop; }
prove_local_drop_range() {
        check '^silent$' tcp "${REPO[0]}" 443
        check '^open$' tcp "${REPO[1]}" 443
        settle
        check '^[1-9]' counted node
}
fault_local_reject() { rule node output tcp dport 443 counter reject with icmp admin-prohibited; }
prove_local_reject() {
        nothing_leaves
        both '^(unreachable|refused)' REPO 443
        settle
        check '^[1-9]' counted node
}
fault_local_reset() { rule node output tcp dport 443 counter reject with tcp reset; }
prove_local_reset() {
        nothing_leaves
        both '^refused$' REPO 443
        settle
        check '^[1-9]' counted node
}
fault_local_drop_dns() {
        rule node output udp dport 53 counter drop
        rule node output tcp dport 53 counter drop
}
prove_local_drop_dns() {
        both_dns '^ *(silent|.*not permitted)' udp
        both_dns '^silent' tcp
        both '^open$' REPO 443
        settle
        check '^[1-9]' counted node
}

# --- answers that are thrown away --------------------------------------------------------------------------------------

fault_discard() { rule node input tcp sport 443 tcp flags '&' '(syn|ack)' == 'syn|ack' counter drop; }
prove_discard() {
        check '^[1-9]' seen eth0 "tcp src port 443 and $SYN_ACK"
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
        settle
        check '^[1-9]' counted node
}

# The firewall sends what comes from 443 back over the LAN; strictly, eth1 is no way to where it comes from.
fault_discard_rp_filter() {
        mark asymmetry
        ip_batch fw <<IP
rule add pref 100 iif up0 ipproto tcp sport 443 lookup 100
route add $NODE/32 via 10.255.3.2 dev dmz0 table 100
IP
        set_sysctl lan net.ipv4.ip_forward=1
        set_sysctl node net.ipv4.conf.all.rp_filter=1
}
prove_discard_rp_filter() {
        check '^[1-9]' seen eth1 "tcp src port 443 and $SYN_ACK"
        check '^0$' seen eth0 "tcp src port 443 and $SYN_ACK"
        check '= 1$' in_ns node sysctl net.ipv4.conf.all.rp_filter
        free "${REPO[0]}"
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
}
# --- link and address --------------------------------------------------------------------------------------------------

fault_link_down() { ip -n "$(ns node)" link set eth0 down; }
prove_link_down() { check 'DOWN' links link show dev eth0; }
fault_no_carrier() { ip -n "$(ns fw)" link set wan0 down; }
prove_no_carrier() { check 'NO-CARRIER' links link show dev eth0; }
fault_no_address() { ip -n "$(ns node)" addr flush dev eth0; }
prove_no_address() {
        check '^$' links -4 addr show dev eth0
        check ' UP ' links link show dev eth0
}
fault_link_local() {
        fault_no_address
        ip -n "$(ns node)" addr add 169.254.17.5/16 dev eth0 scope link
}
prove_link_local() { check '169\.254\.17\.5/16 *$' links -4 addr show dev eth0; }
# The site file says one address, the interface has another.
fault_other_address() {
        fault_no_address
        ip_batch node <<IP
addr add 192.0.2.77/24 dev eth0
route add default via $GATEWAY dev eth0
IP
}
prove_other_address() {
        check 'UP +192\.0\.2\.77/24 *$' links -4 addr show dev eth0
        check "address = $NODE/24" site_file_says '^address'
        both '^open$' REPO 443
}

# --- routes ------------------------------------------------------------------------------------------------------------

fault_no_route() { ip -n "$(ns node)" route del default; }
prove_no_route() { check 'unreachable' way "${REPO[0]}"; }

refuse_ranges() { # TYPE
        local r
        for r in "${RANGES[@]}"; do ip -n "$(ns node)" route add "$1" "$r"; done
}
fault_route_unreachable() { refuse_ranges unreachable; }
prove_route_unreachable() { check 'No route to host' way "${REPO[0]}"; }
fault_route_prohibit() { refuse_ranges prohibit; }
prove_route_prohibit() { check 'Permission denied' way "${REPO[0]}"; }
fault_route_blackhole() { refuse_ranges blackhole; }
prove_route_blackhole() { check 'Invalid argument' way "${REPO[0]}"; }

lan_route() { ip -n "$(ns node)" route add "$1" via "$LAN_ROUTER" dev eth1; }
captured() { check "^dev eth1 via $LAN_ROUTER" way "$1"; }
free() { check "^dev eth0 via $GATEWAY" way "$1"; }

fault_lan_route_dns() {
        write_site lan "routes = 198.51.100.48/28 via $LAN_ROUTER"
        lan_route 198.51.100.48/28
}
prove_lan_route_dns() {
        captured "${DNS[0]}"
        free "${REPO[0]}"
        check '^silent' dns "${DNS[0]}" udp
        check "$RIGHT" dns "${DNS[1]}" udp
}
fault_lan_route_range() {
        write_site lan "routes = ${RANGES[0]} via $LAN_ROUTER"
        lan_route "${RANGES[0]}"
}
prove_lan_route_range() {
        captured "${REPO[0]}"
        free "${REPO[1]}"
        check '^silent$' tcp "${REPO[0]}" 443
        check '^silent$' tcp "${CONTROL[0]}" 8443
        check '^open$' tcp "${REPO[1]}" 443
}
fault_lan_route_foreign() { lan_route "${RANGES[1]}"; }
prove_lan_route_foreign() {
        captured "${REPO[1]}"
        free "${REPO[0]}"
        check '^silent$' tcp "${REPO[1]}" 443
        check '^nothing$' site_file_says '^routes'
}
fault_lan_route_strict() {
        fault_lan_route_range
        set_sysctl node net.ipv4.conf.all.rp_filter=1
}
prove_lan_route_strict() {
        prove_lan_route_range
        check '= 1$' in_ns node sysctl net.ipv4.conf.all.rp_filter
}
fault_lan_route_pending() {
        write_site lan "routes = 198.51.100.48/28 via $LAN_ROUTER"
        ip -n "$(ns node)" link set eth1 down
}
prove_lan_route_pending() {
        free "${DNS[0]}"
        check 'DOWN' links link show dev eth1
        check 'routes = 198.51.100.48/28' site_file_says '^routes'
}
fault_lan_route_overruled() {
        write_site lan "routes = 198.51.100.0/24 via $LAN_ROUTER"
        lan_route 198.51.100.0/24
        ip_batch node <<IP
route add ${RANGES[0]} via $GATEWAY dev eth0
route add 198.51.100.48/28 via $GATEWAY dev eth0
IP
}
prove_lan_route_overruled() {
        captured 198.51.100.1
        free "${REPO[0]}"
        free "${DNS[0]}"
        prove_healthy
}

# Another default route, and a better one.
fault_lan_route_default() {
        ip_batch node <<IP
route del default
route add default via $GATEWAY dev eth0 metric 100
route add default via $LAN_ROUTER dev eth1 metric 50
IP
}
prove_lan_route_default() {
        captured "${REPO[0]}"
        captured "${DNS[1]}"
        both '^silent$' REPO 443
}
# As a VPN does it: two halves of everything.
fault_lan_route_halves() {
        lan_route 0.0.0.0/1
        lan_route 128.0.0.0/1
}
prove_lan_route_halves() {
        captured "${REPO[0]}"
        captured "${DNS[1]}"
        both '^silent$' REPO 443
}
fault_lan_route_one() { lan_route "${REPO[0]}/32"; }
prove_lan_route_one() {
        captured "${REPO[0]}"
        free "${CONTROL[0]}"
        check '^silent$' tcp "${REPO[0]}" 443
        check '^open$' tcp "${REPO[1]}" 443
}

fault_rule_capture() {
        ip_batch node <<IP
rule add pref 100 from $NODE lookup 100
route add default via $LAN_ROUTER dev eth1 table 100
IP
}
prove_rule_capture() {
        check "^dev eth1 via $LAN_ROUTER table 100" way "${REPO[0]}"
        check "^dev eth1 via $LAN_ROUTER table 100" way "${DNS[0]}"
        check '^silent' dns "${DNS[0]}" udp
}
fault_rule_capture_443() {
        ip_batch node <<IP
rule add pref 100 ipproto tcp dport 443 lookup 100
route add default via $LAN_ROUTER dev eth1 table 100
IP
}
prove_rule_capture_443() {
        check "^dev eth1 via $LAN_ROUTER table 100" way "${REPO[0]}" ipproto tcp dport 443
        free "${REPO[0]}"
        both '^silent$' REPO 443
        both '^open$' CONTROL 8443
}

# --- neighbours on the WAN segment -------------------------------------------------------------------------------------

fault_gateway_dead() {
        ip -n "$(ns fw)" link set br-wan down
        ip -n "$(ns node)" neigh flush dev eth0
}
prove_gateway_dead() {
        check '^nobody$' arp "$GATEWAY"
        check ' UP ' links link show dev eth0
}

# The gateway hears nothing of us, and still asks for us now and then.
fault_gateway_deaf() {
        in_ns fw nft -f - <<RULES
add table netdev lab
add chain netdev lab ingress { type filter hook ingress device wan0 priority 0; }
add rule netdev lab ingress counter drop
RULES
        start_in fw fault-asking ping -n -q -i 0.3 "$NODE"
        ip -n "$(ns node)" neigh flush dev eth0
}
prove_gateway_deaf() {
        check '^nobody$' arp "$GATEWAY"
        check '^[1-9]' seen eth0 "arp[6:2] == 1 and arp src host $GATEWAY and arp dst host $NODE"
        both '^(silent|unreachable.*)$' REPO 443
}

foreign_host() { # its MAC
        ip netns add "$(ns foreign)"
        set_sysctl foreign net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        plug foreign eth0 "$1" fw foreign0 02:00:5e:00:53:f3
        ip_batch fw <<IP
link set foreign0 master br-wan
link set foreign0 up
IP
        ip_batch foreign <<IP
link set eth0 up
addr add $NODE/24 dev eth0
IP
}
# The gateway holds to us; it may be another's turn tomorrow.
fault_address_conflict() {
        ip -n "$(ns fw)" neigh replace "$NODE" lladdr 02:00:5e:00:53:0a nud permanent dev br-wan
        foreign_host 02:00:5e:00:53:66
}
prove_address_conflict() {
        check '^02:00:5e:00:53:66$' arp "$NODE" -D
        both '^open$' REPO 443
}
# The gateway sends everything that is for us to the other machine.
fault_address_conflict_lost() {
        foreign_host 02:00:5e:00:53:66
        ip -n "$(ns fw)" neigh replace "$NODE" lladdr 02:00:5e:00:53:66 nud permanent dev br-wan
}
prove_address_conflict_lost() {
        check '^02:00:5e:00:53:66$' arp "$NODE" -D
        both '^silent$' REPO 443
        both_dns '^silent' udp
}
