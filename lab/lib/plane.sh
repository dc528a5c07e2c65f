# shellcheck shell=bash
# The control plane itself in the Internet: `gridplane serve` on its addresses, in place of the lab's own nginx and
# mosquitto. The node begins unregistered, with a root folder of its own.


# Sets GRIDPLANE: what was asked for, or from the build folder, or installed.
plane_program() {
        if [[ -z ${GRIDPLANE:-} && -n ${LAB_BUILD:-} ]]; then GRIDPLANE=$LAB_BUILD/../src/cli/gridplane; fi
        GRIDPLANE=$(command -v "${GRIDPLANE:-gridplane}") ||
                STATUS=69 die "no gridplane; build it and set LAB_BUILD to build/lab, or use --gridplane PROGRAM"
        GRIDPLANE=$(readlink -f "$GRIDPLANE")
}

plane_write() {
        local listen='' a p
        for p in 443 8443; do
                for a in "${REPO[@]}" "${CONTROL[@]}"; do listen+=",$a:$p"; done
        done
        mkdir -p "$S/plane/etc/gridplane"
        cat >"$S/plane/etc/gridplane/gridplane.conf" <<CONF
[plane]
domain = grid.example
listen = ${listen#,}

[profile]
name = grid
ranges = ${RANGES[0]};${RANGES[1]}
repo-addresses = ${REPO[0]};${REPO[1]}
control-addresses = ${CONTROL[0]};${CONTROL[1]}
CONF
}

plane_start() {
        local tries
        plane_write
        rm -f "$S/log/plane.log" # it may say of an earlier one that it is ready
        start_in inet plane "$GRIDPLANE" serve --root "$S/plane" --domain grid.example
        # It says when all of its servers answer; ports alone may be those of servers whose plane was killed.
        for ((tries = 0; tries < 600; tries++)); do
                ! grep -qs 'the control plane is ready' "$S/log/plane.log" || return 0
                [[ -d /proc/$(pid_of plane) ]] || break
                sleep 0.05
        done
        tail -n 5 "$S/log/plane.log" >&2 || true
        die "the control plane does not become ready"
}

# After a fault, or when a test has killed it.
plane_restore() {
        local pid
        pid=$(pid_of plane)
        [[ -n $pid ]] && is_ours "$pid" && return
        plane_start
}

# The node's identity as programs take it by hand: CRT and KEY, empty where it has none yet.
node_identity() {
        CRT=$S/node/node.crt KEY=$S/node/node.key
        [[ $PLANE == no ]] || CRT=$S/node/root/var/lib/gridnode/node.crt KEY=$S/node/root/var/lib/gridnode/node.key
        [[ -e $CRT ]] || CRT='' KEY=''
}

plane_status() {
        cat <<TEXT
lab '$NAME' is up with a control plane; fault: $(cat "$S/fault")
  control plane  $S/plane ($GRIDPLANE, process $(pid_of plane))
  node           $S/node/root$([[ $MACHINE == no ]] || echo ' (of the machine)'); site file by hand $S/node/site.conf
  root           $S/node/grid-root.pem
  logs           $S/log/, $S/plane/var/lib/gridplane/log/
to try:
$(if [[ $MACHINE == yes ]]; then plane_hints_machine; else plane_hints; fi)
  lab --name $NAME fault drop-443
TEXT
}

plane_hints() {
        cat <<TEXT
  lab --name $NAME exec inet $GRIDPLANE node create branch-12 --root $S/plane
  lab --name $NAME exec node gridnode register https://repo.grid.example --token-file FILE --root-ca $S/node/grid-root.pem --root $S/node/root
  lab --name $NAME exec node gridnode run --root $S/node/root
TEXT
}

plane_hints_machine() {
        cat <<TEXT
  lab --name $NAME register
  lab --name $NAME exec node gridnode status
  lab --name $NAME exec node journalctl -f -u gridnode
TEXT
}
