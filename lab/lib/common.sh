# shellcheck shell=bash
# What everything else here stands on: names, running in a namespace, processes, cleaning up.

ROLES=(node fw wire r2 inet lan foreign)

die() {
        printf 'lab: %s\n' "$*" >&2
        exit "${STATUS:-1}"
}

ns() { printf 'gl-%s-%s' "$NAME" "$1"; }

is_role() {
        local r
        for r in "${ROLES[@]}"; do [[ $r == "$1" ]] && return; done
        return 1
}

ns_exists() { [[ -e /run/netns/$(ns "$1") ]]; }
is_up() { ns_exists node && [[ -e $S/up ]]; }
need_up() { is_up || STATUS=69 die "no lab '$NAME' is up; begin with: lab --name $NAME up"; }

# Runs a program in a role's namespace; only the network is another.
in_ns() {
        local role=$1
        shift
        nsenter --net="/run/netns/$(ns "$role")" -- "$@"
}

# Reads commands of ip(8) from standard input; -force goes on after a failure (deleting what is not there).
ip_batch() {
        local role=$1
        shift
        ip -n "$(ns "$role")" "$@" -batch -
}

set_sysctl() {
        local role=$1
        shift
        in_ns "$role" sysctl -q -w "$@"
}

# Runs commands side by side: each is begun with `aside`, and `together` waits for them and fails when one did.
ASIDE=()
aside() {
        "$@" &
        ASIDE+=($!)
}
together() {
        local pid failed=0
        for pid in "${ASIDE[@]}"; do wait "$pid" || failed=1; done
        ASIDE=()
        return $failed
}

# --- processes -----------------------------------------------------------------------------------------------------

pid_of() { cat "$S/pids/$1.pid" 2>/dev/null || true; }

# A pid file may be older than the process that now has its number: only what lives in our namespaces is ours.
is_ours() {
        local role theirs
        theirs=$(readlink "/proc/$1/ns/net" 2>/dev/null) || return 1
        for role in "${ROLES[@]}"; do
                ns_exists "$role" || continue
                [[ $theirs == "net:[$(stat -Lc %i "/run/netns/$(ns "$role")")]" ]] && return
        done
        return 1
}

wait_gone() {
        local pid=$1 tries
        for ((tries = 0; tries < 200; tries++)); do
                [[ -d /proc/$pid ]] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null || return 0
                sleep 0.01
        done
        return 1
}

stop() { # PIDFILE-NAME
        local pid
        pid=$(pid_of "$1")
        rm -f "$S/pids/$1.pid"
        [[ -n $pid ]] && is_ours "$pid" || return 0
        local child
        for child in $(pgrep -P "$pid"); do kill -CONT "$child" || true; done # a fault may have stopped it
        kill -TERM "$pid" 2>/dev/null || return 0
        wait_gone "$pid" && return
        kill -KILL "$pid" 2>/dev/null || true
        wait_gone "$pid" || true
}

# A program that stays in the foreground, in the background.
start_in() { # ROLE PIDFILE-NAME COMMAND…
        local role=$1 name=$2
        shift 2
        # Not by in_ns: a function in the background is a shell of its own, whose number would be kept instead.
        nsenter --net="/run/netns/$(ns "$role")" -- setsid "$@" >"$S/log/$name.log" 2>&1 </dev/null &
        echo $! >"$S/pids/$name.pid"
}

wait_listening() { # ROLE PORT PIDFILE-NAME
        local tries
        for ((tries = 0; tries < 600; tries++)); do
                [[ -n $(in_ns "$1" ss -Hltn "sport = :$2") ]] && return
                [[ -d /proc/$(pid_of "$3") ]] || break
                sleep 0.05
        done
        tail -n 5 "$S/log/$3.log" >&2 || true
        die "$3 does not listen on port $2"
}

kill_namespace() { # everything that runs in one of our namespaces
        local pid pids
        pids=$(ip netns pids "$1" 2>/dev/null) || return 0
        for pid in $pids; do [[ $pid == "$$" ]] || kill -KILL "$pid" 2>/dev/null || true; done
        for pid in $pids; do [[ $pid == "$$" ]] || wait_gone "$pid" || true; done
}

# Removes a lab's namespaces, processes and files, whether they are whole or what a crash left.
remove_lab() { # NAME
        local role n
        for role in "${ROLES[@]}"; do
                n=gl-$1-$role
                [[ -e /run/netns/$n ]] || continue
                kill_namespace "$n"
                ip netns del "$n" 2>/dev/null || true
                rm -rf "/etc/netns/$n"
        done
        rmdir /etc/netns 2>/dev/null || true
        machine_remove_groups "$1"
        rm -rf "${LAB_STATE:?}/${1:?}"
}

# --- marks: what a fault has touched and reset must restore ----------------------------------------------------------

mark() {
        [[ $PLANE == no || $1 != nginx-* ]] || STATUS=69 die "this fault needs the lab's own servers; lab up without --plane"
        : >"$S/dirty/$1"
}
is_marked() { [[ -e $S/dirty/$1 ]]; }

# --- packet filters --------------------------------------------------------------------------------------------------

# Adds a rule, with the table and the chain that it needs. Every rule counts, so that a proof can show that it was hit.
rule() { # ROLE forward|input|output|prerouting|redirect RULE…
        local role=$1 chain=$2 hook priority=0 type=filter
        shift 2
        hook=$chain
        case $chain in
        prerouting) priority=-150 ;;
        postrouting) priority=150 ;;
        redirect) type=nat hook=prerouting priority=-100 ;;
        masquerade) type=nat hook=postrouting priority=100 ;;
        esac
        in_ns "$role" nft -f - <<RULES
add table inet lab
add chain inet lab lab_$chain { type $type hook $hook priority $priority; }
add rule inet lab lab_$chain $*
RULES
}

# How many packets all rules of a namespace have counted.
counted() { # ROLE
        in_ns "$1" nft list ruleset | awk '{ for (i = 1; i < NF; i++) if ($i == "packets") n += $(i + 1) } END { print n + 0 }'
}
