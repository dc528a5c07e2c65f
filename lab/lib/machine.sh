# shellcheck shell=bash
# The node as a Debian of its own under systemd, in the node's network; made by lab/machine. It ends with `lab down`.

MACHINE_ENV=(PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root TERM="${TERM:-dumb}")

machine_folder() { printf '%s/gl-%s-machine' "$S" "$NAME"; }

machine_start() {
        printf 'nameserver %s\n' "${DNS[@]}" |
                "$LAB/machine" up "$(machine_folder)" "/run/netns/$(ns node)" ${DEB:+--deb "$DEB"} >"$S/log/machine.log" 2>&1 ||
                die "the machine does not come up: $(tail -n 20 "$S/log/machine.log")"
        mkdir -p "$S/node"
        # Where the machine's files are for programs of this host, whatever number its first process has after a reboot.
        ln -sfn "/proc/$(cat "$(machine_folder)/pid")/root$(machine_folder)/run/root" "$S/node/root"
}

# The machine's first process, as this host sees it: unshare, bash, unshare, systemd.
machine_pid() {
        local pid step
        pid=$(cat "$(machine_folder)/pid")
        for step in 1 2 3; do pid=$(pgrep -P "$pid") || STATUS=69 die "the node's machine is not running (at process $step)"; done
        echo "$pid"
}

machine_exec() {
        local pid
        pid=$(machine_pid)
        exec nsenter -t "$pid" -r -w -m -u -i -n -C -p -- env -i "${MACHINE_ENV[@]}" "$@"
}

# What an operator and a technician do: a token of the plane's, and the node's one command.
machine_register() {
        local token=$S/node/token
        [[ ! -e $S/node/root/var/lib/gridnode/identity.json ]] || STATUS=69 die "the node is registered already"
        rm -f "$token"
        in_ns inet "$GRIDPLANE" node create branch-12 --site leeds --output "$token" --root "$S/plane" >"$S/log/token.log" 2>&1 ||
                die "the control plane makes no node: $(tail -n 3 "$S/log/token.log")"
        cp "$S/node/grid-root.pem" "$S/node/root/root/grid-root.pem"
        install -m 600 "$token" "$S/node/root/root/token"
        rm -f "$token"
        (machine_exec gridnode register https://repo.grid.example --token-file /root/token --root-ca /root/grid-root.pem)
        rm -f "$S/node/root/root/token"
}

# The control groups that the machine's end leaves: a moment after its last process.
machine_remove_groups() { # NAME
        local group tries
        for group in /sys/fs/cgroup/gl-"$1"-machine /sys/fs/cgroup/*/gl-"$1"-machine; do
                for ((tries = 0; tries < 200; tries++)); do
                        [[ -d $group ]] || break
                        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
                done
        done
}
