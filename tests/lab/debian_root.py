"""A Debian of its own, booted under systemd in namespaces: for the tests of units, and of what changes a system.

    packages = [*debian_root.RUNTIME, "nginx-light"]
    with debian_root.Machine("plane", packages) as machine:       # needs root and mmdebstrap
        machine.boot(build)                                       # a meson build folder; what it installs is over the root
        machine.run("systemctl", "start", "gridplane.service")

    with debian_root.Machine("node", packages, offered=["libcurl4"]) as machine:
        machine.boot()                                            # nothing of ours; apt has libcurl4 at hand, and no network

    machine = debian_root.Machine("node", debian_root.NODE, namespace="/run/netns/X", folder="/run/Y")
    machine.boot(dress=dress)                                     # in that network; whoever made both lets it run on, and ends it

The root made by mmdebstrap is kept in /var/tmp, named by its packages, and never written to: what a run changes is in an overlay in
memory that goes with it. Nothing of the machine reaches this host's network: its links are made by add_link or by the caller."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

# What the programs are linked with, and systemd.
RUNTIME = ["systemd", "systemd-sysv", "iproute2", "procps", "libjansson4", "libnl-3-200", "libsystemd0", "libcurl4", "libc-ares2",
           "libpcap0.8", "libsqlite3-0", "libmosquitto1", "libmicrohttpd12", "libsodium23", "libssl3", "openssl", "libasan8",
           "libubsan1"]
# What a node is that takes its own package in, keeps the one before it, and verifies repositories.
NODE = [*RUNTIME, "dpkg-repack", "gpgv"]
CACHE = pathlib.Path("/var/tmp")
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "getty@tty1.service",
          "console-getty.service", "e2scrub_reap.service", "systemd-logind.service", "systemd-networkd.service",
          "systemd-sysctl.service"]  # the last one would set the kernel of this host
CGROUP = pathlib.Path("/sys/fs/cgroup")
WAIT_S = 20
REBOOT_STATUS = 128 + 1  # what ends the first process of a namespace that reboots itself: SIGHUP, reboot(2)
POWER_CUT_STATUS = 128 + 9  # somebody has killed it, and everything in it at once: it comes back as with its power

# Keeps the overlay and the network while the machine boots, and boots it again when it reboots itself.
OUTER = r"""
root=$1 staged=$2 folder=$3 inner=$4 name=$5
mount -t tmpfs -o mode=755 tmpfs "$folder" || exit
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$staged:$root,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root" || exit
while :; do
        unshare -m -u -i -C -p -f --propagation private --kill-child=SIGKILL bash -c "$inner" boot "$folder/root" "$name"
        status=$?
        [[ $status = %d || $status = %d ]] || exit "$status"
done
""" % (REBOOT_STATUS, POWER_CUT_STATUS)
# Becomes the first process of the machine.
INNER = r"""
set -e
cd "$1"
mount --bind . .
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 sys/fs/cgroup
else
        mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
        for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
                [ -d "/sys/fs/cgroup/$c" ] || continue
                mkdir "sys/fs/cgroup/$c"
                mount -t cgroup -o "$c" cgroup "sys/fs/cgroup/$c"
        done
        mkdir sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755,size=16m tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
for l in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s "/proc/self/${l#*:}" "dev/${l%%:*}"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
hostname "$2"
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd --log-target=console --show-status=0 --log-level=warning
"""
# The name server of a machine that is the control plane.
UNBOUND = """server:
  interface: {plane}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  access-control: 192.0.2.0/24 allow
  module-config: "iterator"
  local-zone: "grid.example." static
  local-data: "repo.grid.example. IN A {plane}"
  local-data: "control.grid.example. IN A {plane}"
remote-control:
  control-enable: no
"""


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def wait_until(what, condition, seconds=WAIT_S):
    """What `condition` gives, once it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def debian_root(name, packages, offered=()):
    """The folder of a bare Debian with these packages, and with those offered in apt's cache, with what they need in turn; made when
    it is not there yet. Not to be written to."""
    wanted = ["bookworm", *packages, *(["--offered", *offered] if offered else [])]
    number = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    root = CACHE / f"gridnode-{name}-{number}"
    if not root.exists():
        print(f"making a Debian in {root}", flush=True)
        made = pathlib.Path(tempfile.mkdtemp(prefix=f"gridnode-{name}-", dir=CACHE))
        options = [f"--aptopt={option.replace('=', ' ', 1)}" for option in os.environ.get("APT_OPTIONS", "").split()]
        if offered:
            download = f"apt-get install --yes --quiet=2 --no-install-recommends --download-only {' '.join(offered)}"
            options += ["--skip=cleanup/apt", f'--customize-hook=chroot "$1" {download}']
        try:
            subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}", *options,
                            "bookworm", made / "root"], check=True)
            (made / "root").rename(root)
        finally:
            shutil.rmtree(made)
    return root


def stage(build, folder):
    """What `make install` installs, if there is a build, and what an administrator would do."""
    if build:
        subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder], check=True,
                       stdout=subprocess.DEVNULL)
    units = folder / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    (folder / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    if not build:
        return
    # A sanitizer's search for leaks at the end traces the process, which the sandbox forbids; its shadow takes memory. The daemon's
    # children have an environment of their own, and would be taken for crashed.
    for name in ("gridnode", "gridnode-helper", "gridnode-try", "gridplane"):
        (units / f"{name}.service.d").mkdir()
        (units / f"{name}.service.d/sanitizer.conf").write_text(
            "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\nMemoryMax=infinity\n" +
            ("SystemCallFilter=ptrace\n" if name == "gridnode" else ""))


def children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Machine:
    """One machine. Use as a context, or call close(). After boot(): `pid`, its first process as this host sees it; `users`, numbers by
    name; `prefix`, where the build's programs are installed; `staged`, the layer that `make install` wrote. Its network is its own,
    or `namespace`, the path of one."""

    def __init__(self, name, packages, offered=(), namespace=None, folder=None):
        self.name, self.packages, self.offered, self.namespace = name, packages, offered, namespace
        self.groups, self.outer, self.log, self.pid, self.users = [], None, None, None, {}
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix=f"gridnode-{name}-run-", dir=CACHE))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def boot(self, build=None, dress=None):
        """Without a build, only Debian's own is there. `dress`, if given, is called with the layer over the root before the machine
        starts, to put files there."""
        root = debian_root(self.name, self.packages, self.offered)
        self.staged = self.folder / "staged"
        self.staged.mkdir()
        (self.folder / "run").mkdir()
        stage(build, self.staged)
        if dress:
            dress(self.staged)
        self.prefix = "/usr" if (self.staged / "usr/lib/systemd/system/gridnode.service").exists() else "/usr/local"
        self.make_groups()
        self.log = open(self.folder / "console", "w+")
        self.outer = subprocess.Popen(
            [*(["nsenter", f"--net={self.namespace}", "unshare"] if self.namespace else ["unshare", "-n"]),
             "-m", "-p", "-f", "--propagation", "private", "--kill-child=SIGKILL",
             "bash", "-c", OUTER, "boot", root, self.staged, self.folder / "run", INNER, self.name],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=self.enter_groups,
            start_new_session=bool(self.namespace))  # not to end with whoever made it
        self.await_boot()
        if build:  # what a package's scripts do
            self.run("systemd-sysusers")
            self.run("systemd-tmpfiles", "--create", "gridnode.conf", "gridplane.conf")
        self.read_users()

    def await_boot(self):
        """Until it is up; after a reboot, too: `pid` is another one then, the network and all files but those in /run and /tmp are
        the same."""
        before = self.pid
        self.pid = wait_until("the first process", lambda: (pid := self.first_process()) != before and pid)
        wait_until("the boot", lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"))

    def read_users(self):
        self.users = {line.split(":")[0]: int(line.split(":")[2]) for line in self.read("/etc/passwd").splitlines()}

    def add_link(self, interface, other_end, peer):
        """A veth `interface` in the machine, up, whose other end is `peer` in the network namespace of process `other_end`."""
        self.ip("link", "add", interface, "type", "veth", "peer", "name", peer, "netns", other_end)
        self.ip("link", "set", interface, "up")

    def ip(self, *words):
        """ip(8) in the machine's network, by this host's program."""
        subprocess.run(["nsenter", "-t", str(self.pid), "-n", "ip", *map(str, words)], check=True)

    def make_groups(self):
        name = self.folder.name  # two machines may be of one name
        if (CGROUP / "cgroup.controllers").exists():
            self.groups = [CGROUP / name]
        else:
            self.groups = [c / name for c in CGROUP.iterdir() if c.is_dir() and not c.is_symlink() and (c / "cgroup.procs").exists()]
        for group in self.groups:
            group.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (group / setting).exists() and (group.parent / setting).exists():
                    (group / setting).write_text((group.parent / setting).read_text())

    def enter_groups(self):
        for group in self.groups:
            (group / "cgroup.procs").write_text("0")

    def first_process(self):
        """unshare → bash → unshare → systemd."""
        expect(self.outer.poll() is None, "it ended", self.console())
        pid = self.outer.pid
        for _ in range(3):
            found = children(pid)
            if not found:
                return None
            pid = found[0]
        try:
            return pid if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd" else None
        except OSError:
            return None

    def console(self):
        return (self.folder / "console").read_text()

    def command(self, *words):
        """The words of a command of this host's that runs these in the machine, as its root. By its own root folder: the namespace's
        would be another in a chroot."""
        return ["nsenter", "-t", str(self.pid), "-r", "-w", "-m", "-u", "-i", "-n", "-C", "-p", "--", *map(str, words)]

    def run(self, *words, check=True, timeout=60):
        """A program of the machine's, as its root. What it said is .stdout, both streams."""
        done = subprocess.run(self.command(*words), text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})
        expect(not check or done.returncode == 0, words, done.stdout)
        return done

    def path(self, inside):
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def read(self, inside):
        return self.path(inside).read_text()

    def write(self, inside, text, user="root", mode=0o644):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.chown(path, self.users[user], self.users[user])
        path.chmod(mode)

    def show(self, unit, what):
        return self.run("systemctl", "show", "--value", "-p", what, unit).stdout.strip()

    def journal(self, unit):
        return self.run("journalctl", "-q", "-o", "cat", "-u", unit).stdout

    def processes(self):
        """Of the machine: by this host's numbers, the fields of proc(5)'s status."""
        found = {}
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                if os.readlink(status.parent / "ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid"):
                    lines = (line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                    found[int(status.parent.name)] = {key: value.strip() for key, value in lines}
            except OSError:
                continue
        return found

    def main_pid(self, unit):
        """As this host sees it: the process in the machine whose own number it is, and its status."""
        wanted = self.show(unit, "MainPID")
        for pid, status in self.processes().items():
            if status["NSpid"].split()[-1] == wanted:
                return pid, status
        raise AssertionError(f"{unit} has no process {wanted}")

    def close(self):
        if self.outer:
            self.outer.kill()
            self.outer.wait()
        if self.log:
            self.log.close()
        for group in self.groups:
            wait_until("the groups", lambda at=group: not any((folder / "cgroup.procs").read_text() for folder in [at, *at.rglob("*/")]
                                                             if (folder / "cgroup.procs").exists()), 10)
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        shutil.rmtree(self.folder)
