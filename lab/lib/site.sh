# shellcheck shell=bash
# The site: who is connected to whom, and how everything looks while nothing is wrong.
#
#   foreign ┐
#   node eth0 ── fw br-wan │ fw up0 ── wire ── r2 dn0 │ r2 up0 ── inet dn0
#   node eth1 ── lan eth0      lan eth1 ── fw dmz0

GATEWAY=192.0.2.1
NODE=192.0.2.10
R2=10.255.1.2
LAN_ROUTER=10.20.0.1
LAN_PROXY=10.20.0.9
RANGES=(198.51.100.16/28 203.0.113.192/28)
REPO=(198.51.100.20 203.0.113.200)
CONTROL=(198.51.100.21 203.0.113.201)
DNS=(198.51.100.53 203.0.113.53)
SINK=198.51.100.99 # answers, and is no control plane

plug() { # ROLE IFACE MAC ROLE IFACE MAC: a cable
        ip link add "$2" netns "$(ns "$1")" address "$3" type veth peer name "$5" netns "$(ns "$4")" address "$6"
}

site_cables() {
        plug node eth0 02:00:5e:00:53:0a fw wan0 02:00:5e:00:53:f0
        plug node eth1 02:00:5e:00:53:0b lan eth0 02:00:5e:00:53:20
        plug fw up0 02:00:5e:00:53:11 wire near 02:00:5e:00:53:f1
        plug wire far 02:00:5e:00:53:f2 r2 dn0 02:00:5e:00:53:12
        plug r2 up0 02:00:5e:00:53:21 inet dn0 02:00:5e:00:53:22
        plug fw dmz0 02:00:5e:00:53:31 lan eth1 02:00:5e:00:53:32
}

# Frames are relayed and measured as they are on the wire: no segments joined, no checksum left to the hardware.
site_offloads() {
        local role
        for role in node fw wire r2 inet lan; do
                aside in_ns "$role" bash -c 'for d in /proc/sys/net/ipv4/conf/*; do d=${d##*/}
                        case $d in all|default|lo|br-wan) ;; *) ethtool -K "$d" tso off gso off gro off tx off >/dev/null 2>&1 ;; esac
                done; true'
        done
        together
}

site_routers() {
        ip_batch fw <<IP
link set lo up
link add br-wan address 02:00:5e:00:53:01 type bridge forward_delay 0 mcast_snooping 0
link set wan0 master br-wan
link set wan0 up
link set up0 up
link set dmz0 up
addr add 10.255.1.1/30 dev up0
addr add 10.255.3.1/30 dev dmz0
neigh replace $R2 lladdr 02:00:5e:00:53:12 nud permanent dev up0
IP
        ip_batch wire <<IP
link set near up
link set far up
IP
        ip_batch r2 <<IP
link set lo up
link set dn0 up
link set up0 up
addr add $R2/30 dev dn0
addr add 10.255.2.1/30 dev up0
neigh replace 10.255.1.1 lladdr 02:00:5e:00:53:11 nud permanent dev dn0
neigh replace 10.255.2.2 lladdr 02:00:5e:00:53:22 nud permanent dev up0
route add 192.0.2.0/24 via 10.255.1.1
route add 10.255.3.0/30 via 10.255.1.1
route add 198.51.100.0/24 via 10.255.2.2
route add 203.0.113.0/24 via 10.255.2.2
route add blackhole default
IP
        ip_batch inet <<IP
link set lo up
link set dn0 up
addr add 10.255.2.2/30 dev dn0
neigh replace 10.255.2.1 lladdr 02:00:5e:00:53:21 nud permanent dev dn0
addr add ${DNS[0]}/32 dev lo
addr add ${DNS[1]}/32 dev lo
addr add $SINK/32 dev lo
route add local ${RANGES[0]} dev lo
route add local ${RANGES[1]} dev lo
route add default via 10.255.2.1
IP
        ip_batch lan <<IP
link set lo up
link set eth0 up
link set eth1 up
addr add $LAN_ROUTER/24 dev eth0
addr add $LAN_PROXY/24 dev eth0
addr add 10.255.3.2/30 dev eth1
route add default via 10.255.3.1
route add 192.0.2.0/24 via 10.20.0.2
IP
}

# The servers send as Debian's do by default, whatever this machine is set to (a route may choose cubic in a namespace
# where the sysctl may not).
site_congestion() {
        ip -n "$(ns inet)" route replace default via 10.255.2.1 congctl cubic 2>/dev/null || true
}

# The firewall's own state, as it is when nothing is wrong.
site_firewall() {
        ip_batch fw -force 2>/dev/null <<IP || true
link set wan0 up
link set br-wan up
link set up0 mtu 1500
addr replace $GATEWAY/24 dev br-wan
neigh flush dev br-wan nud permanent
neigh flush dev br-wan
route replace default via $R2
IP
        local role
        ip -n "$(ns r2)" route replace 192.0.2.0/24 via 10.255.1.1
        for role in node fw inet; do ip -n "$(ns "$role")" route flush cache; done # path MTUs that were learned
}

# The node's WAN and LAN, whatever was done to them.
site_node() {
        ip_batch node -force >/dev/null 2>&1 <<IP || true
link set lo up
link set eth0 up
link set eth1 up
rule flush
rule add pref 32766 lookup main
rule add pref 32767 lookup default
route flush table main
route flush table 100
addr flush dev eth0
addr flush dev eth1
addr add $NODE/24 dev eth0
addr add 10.20.0.2/24 dev eth1
route add default via $GATEWAY dev eth0
neigh flush dev eth0 nud permanent
neigh flush dev eth0
IP
        set_sysctl node net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
        local tries
        for ((tries = 0; tries < 100; tries++)); do # linkwatch may be a moment late after an interface was down
                [[ $(ip -n "$(ns node)" -br link show dev eth0) == *" UP "* ]] && return
                sleep 0.02
        done
        die "the node's eth0 does not come up"
}

site_sysctls() {
        local role quiet=(net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
                net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0)
        for role in node wire inet lan; do aside set_sysctl "$role" "${quiet[@]}"; done
        for role in fw r2; do set_sysctl "$role" "${quiet[@]}" net.ipv4.ip_forward=1; done
        together
        # Frames that cross the bridge are the segment's business, not the firewall's.
        set_sysctl fw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-arptables=0 2>/dev/null || true
}

wire_start() { # [OPTION…]: over the defaults
        stop wire
        start_in wire wire nice -n -10 "$WIRE" --delay-ms "$DELAY_MS" "$@" near far
        local tries
        for ((tries = 0; tries < 100; tries++)); do
                [[ $(cat "$S/log/wire.log" 2>/dev/null) == ready ]] && return
                sleep 0.01
        done
        die "the wire does not start: $(cat "$S/log/wire.log")"
}

wire_use() {
        mark wire
        wire_start "$@"
}

# --- the node's files -------------------------------------------------------------------------------------------------

write_profile() { # [without-addresses]
        [[ ${1:-} == '' ]] || mark site
        cat >"$S/node/grid.profile" <<CONF
[profile]
name = grid
ranges = ${RANGES[0]};${RANGES[1]}
root-ca = grid-root.pem

[service repo]
host = repo.grid.example
port = 443
tls = server
carries = updates;images;logs
probe = /.well-known/gridnode
payload = /.well-known/gridnode/payload?bytes=262144

[service control]
host = control.grid.example
port = 8443
tls = mutual
carries = control;config
probe = /.well-known/gridnode
CONF
        [[ ${1:-} == without-addresses ]] || cat >>"$S/node/grid.profile" <<CONF

[addresses]
repo = ${REPO[0]};${REPO[1]}
control = ${CONTROL[0]};${CONTROL[1]}
CONF
}

write_site() { # [wan "KEY = VALUE" | lan "KEY = VALUE"]…
        local wan='' lan='' CRT KEY
        [[ $# == 0 ]] || mark site
        while (($#)); do
                case $1 in
                wan) wan+=$2$'\n' ;;
                lan) lan+=$2$'\n' ;;
                esac
                shift 2
        done
        node_identity
        {
                printf '[node]\nname = branch-12\nprofile = %s\n' "$S/node/grid.profile"
                [[ -z $CRT ]] || printf 'certificate = %s\nkey = %s\n' "$CRT" "$KEY"
                echo
                site_interfaces "$wan" "$lan"
        } >"$S/node/site.conf"
        [[ $PLANE == yes ]] || return 0
        mkdir -p "$S/node/root/etc/gridnode"
        { # the daemon's own: identity and profile come with its registration
                printf '[node]\nname = branch-12\n\n'
                site_interfaces "$wan" "$lan"
        } >"$S/node/root/etc/gridnode/site.conf"
}

site_interfaces() { # WAN-LINES LAN-LINES
        cat <<CONF
[wan]
interface = eth0
address = $NODE/24
gateway = $GATEWAY
dns = ${DNS[0]};${DNS[1]}
$1
[lan eth1]
address = 10.20.0.2/24
$2
CONF
}

use_certificate() { # NAME: the node's identity
        if [[ $PLANE == yes ]]; then
                [[ $1 == node ]] || STATUS=69 die "this fault needs the lab's own certificates; lab up without --plane"
                return 0
        fi
        [[ $1 == node ]] || mark site
        cp "$PKI/$1.chain" "$S/node/node.crt"
        cp "$PKI/$1.key" "$S/node/node.key"
}

site_files() {
        if [[ $PLANE == yes ]]; then
                cp "$S/plane/var/lib/gridplane/ca/root.crt" "$S/node/grid-root.pem"
        else
                cp "$PKI/grid-root.pem" "$S/node/grid-root.pem"
        fi
        use_certificate node
        write_profile
        write_site
        : >"$S/node/env"
}

# What a program in the node's namespace must be started with (a clock that is wrong).
node_env() {
        [[ $MACHINE == no ]] || STATUS=69 die "this fault is one of a single program's; lab up without --machine"
        mark site
        printf '%s\n' "$@" >"$S/node/env"
}

# --- up, reset, down ---------------------------------------------------------------------------------------------------

site_up() {
        local role
        remove_lab "$NAME"
        pki_ready
        programs_ready
        mkdir -p "$S"/{pids,dirty,log,node,conf,run,www}
        chmod 755 "$LAB_STATE" "$S"
        trap 'remove_lab "$NAME"' ERR
        for role in node fw wire r2 inet lan; do
                ip netns add "$(ns "$role")"
        done
        mkdir -p "/etc/netns/$(ns node)"
        printf 'nameserver %s\n' "${DNS[@]}" >"/etc/netns/$(ns node)/resolv.conf"
        site_sysctls
        site_cables
        site_routers
        site_congestion
        site_offloads
        site_firewall
        printf 'PKI=%q WIRE=%q CLOCK=%q DELAY_MS=%q PLANE=%q GRIDPLANE=%q MACHINE=%q\n' "$PKI" "$WIRE" "$CLOCK" "$DELAY_MS" \
                "$PLANE" "$GRIDPLANE" "$MACHINE" >"$S/settings"
        wire_start
        head -c 262144 /dev/zero | tr '\0' 'g' >"$S/www/payload"
        services_start
        site_files
        site_node
        trap - ERR
        echo healthy >"$S/fault"
        : >"$S/up"
}

site_reset() {
        local role f
        for f in "$S"/pids/fault-*.pid; do
                [[ -e $f ]] && { f=${f##*/}; stop "${f%.pid}"; }
        done
        for role in node fw r2 inet lan; do aside in_ns "$role" nft flush ruleset; done
        together
        if ns_exists foreign; then
                ip -n "$(ns fw)" link del foreign0 2>/dev/null || true
                kill_namespace "$(ns foreign)"
                ip netns del "$(ns foreign)"
        fi
        if is_marked site; then site_files; fi
        if is_marked wire; then wire_start; fi
        if is_marked asymmetry; then
                ip_batch fw -force 2>/dev/null <<IP || true
rule del pref 100
route flush table 100
IP
                set_sysctl lan net.ipv4.ip_forward=0
        fi
        services_restore
        site_firewall
        site_node
        rm -f "$S"/dirty/*
        echo healthy >"$S/fault"
}
