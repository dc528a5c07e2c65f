"""What test_transfer.py and bench/transfer stand on: a node and a server's side in two network namespaces, real nginx
(HTTP/2 and 1.1, 443 and 8443), real unbound, and a relay that cuts.

All of 198.51.100.0/24 and 203.0.113.0/24 is the server's, so that each test has addresses, and a name, of its own."""

import hashlib
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

DNS, GONE = "198.51.100.53", "192.0.2.99"
NODE, NEAR = "192.0.2.10", "192.0.2.1"
H1_PORT, RELAY_PORT, SILENT_PORT, PROXY_PORT = 1443, 9443, 9444, 3128


class Failed(Exception):
    """What was to come true did not."""


def expect(condition, *facts):
    if not condition:
        raise Failed("\n".join(map(str, facts)) or "it is not so")


def wait_for(what, look, seconds=20, pause=0.02):
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"after {seconds} s still not: {what}")
        time.sleep(pause)


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, **options).stdout


class Authority:
    """A root with a server's certificate for all of *.grid.example, and a node's."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root.pem"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run("openssl", "req", "-x509", *curve, "-days", 30, "-subj", "/O=Grid Example/CN=Grid Root CA", "-keyout",
            folder / "root.key", "-out", self.root)
        for name, more in (("server", ["-addext", "subjectAltName=DNS:*.grid.example"]), ("node", [])):
            run("openssl", "req", "-x509", "-CA", self.root, "-CAkey", folder / "root.key", *curve, "-days", 20, "-subj",
                f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", *more, "-addext",
                "basicConstraints=critical,CA:FALSE")


NGINX = """
daemon off; user root; worker_processes 1; pid {s}/nginx.pid; error_log {s}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log {s}/access.log combined; {temp}
  ssl_certificate {s}/server.crt; ssl_certificate_key {s}/server.key; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_client_certificate {s}/root.pem; ssl_verify_client optional; server_tokens off; sendfile on;
  default_type application/octet-stream; keepalive_requests 100000;
  server {{
    listen 443 ssl http2; listen 8443 ssl http2; listen {h1} ssl;
    root {s}/www;
    location /slow/ {{ alias {s}/www/; limit_rate 3m; }}
    location /drip/ {{ alias {s}/www/; limit_rate 16; }}
    location /whole/ {{ alias {s}/www/; max_ranges 0; limit_rate 3m; }}
    location /busy/ {{ alias {s}/www/; error_page 590 = @busy; if (-f {s}/is-busy) {{ return 590; }} }}
    location @busy {{ add_header Retry-After 3 always; return 503 "later"; }}
    location /many/ {{ add_header Retry-After 1 always; return 429 "too many"; }}
    location /elsewhere/ {{ return 302 https://other.grid.example/x; }}
    location /forbidden/ {{ return 403 "no"; }}
    location /node/ {{ alias {s}/www/; if ($ssl_client_verify != SUCCESS) {{ return 403; }} }}
  }}
}}
"""


class Relay:
    """Real connections that end: to nginx's port, RST after some bytes of the server's, or silence from there on. What
    was asked of it is by the address that the client wanted (SO_ORIGINAL_DST)."""

    def __init__(self, place):
        self.place, self.rules, self.cuts = place, {}, {}
        self.listener = place.listen(RELAY_PORT)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            raw = client.getsockopt(socket.SOL_IP, 80, 16)
            address = socket.inet_ntoa(raw[4:8])
            threading.Thread(target=self.carry, args=(client, address), daemon=True).start()

    def carry(self, client, address):
        how, limit = self.rules.get(address, ("cut", 1 << 60))
        server = self.place.connect(443)
        moved = 0
        try:
            while True:
                for ready in select.select([client, server], [], [], 60)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is server:
                        data = data[:max(0, limit - moved)] if how == "cut" else data
                        moved += len(data)
                    (client if ready is server else server).sendall(data)
                    if ready is server and moved >= limit:
                        self.cuts[address] = self.cuts.get(address, 0) + 1
                        if how == "silent":
                            time.sleep(120)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
        except OSError:
            pass
        finally:
            client.close()
            server.close()


class Place:
    def __init__(self, gridnode, name, wire=None):
        self.gridnode = pathlib.Path(gridnode).resolve()
        self.name, self.wire = f"{name}{os.getpid()}", wire
        self.node, self.server = f"{self.name}-n", f"{self.name}-s"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/var/tmp"))
        self.www, self.children, self.names, self.lock = self.folder / "www", [], 0, threading.Lock()
        self.www.mkdir()
        self.hashes = {}

    # ---- up and down ----

    def __enter__(self):
        try:
            self.make_network()
            self.authority = Authority(self.folder)
            self.start_nginx()
            self.start_unbound()
            self.relay = Relay(self)
            self.silent = self.listen(SILENT_PORT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
                child.wait()
        for namespace in (self.node, self.server, f"{self.name}-w"):
            for pid in subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False).stdout.split():
                if int(pid) != os.getpid():
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", self.folder], check=False)

    def make_network(self):
        for namespace in (self.node, self.server):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        if self.wire:
            self.make_wire()
        else:
            run("ip", "link", "add", "eth0", "netns", self.node, "type", "veth", "peer", "name", "near", "netns", self.server)
        for namespace, device, address in ((self.node, "eth0", NODE), (self.server, "near", NEAR)):
            run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            run("ip", "-n", namespace, "link", "set", device, "up")
        run("ip", "-n", self.node, "route", "add", "default", "via", NEAR)
        for network in ("198.51.100.0/24", "203.0.113.0/24"):
            run("ip", "-n", self.server, "route", "add", "local", network, "dev", "lo")
        self.nft("add table ip t\nadd chain ip t n { type nat hook prerouting priority -100; }\n"
                 "add chain ip t f { type filter hook prerouting priority 0; }\nadd chain ip t o { type filter hook output priority 0; }")
        if self.wire:
            self.start_wire()

    def make_wire(self):
        run("ip", "netns", "add", f"{self.name}-w")
        for device, far, namespace in (("a0", "eth0", self.node), ("b0", "near", self.server)):
            run("ip", "link", "add", device, "netns", f"{self.name}-w", "type", "veth", "peer", "name", far, "netns", namespace)
            run("ip", "-n", f"{self.name}-w", "link", "set", device, "up")

    def start_wire(self):
        for namespace, device in ((f"{self.name}-w", "a0"), (f"{self.name}-w", "b0"), (self.node, "eth0"), (self.server, "near")):
            run("ip", "netns", "exec", namespace, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off")
        child = subprocess.Popen(["ip", "netns", "exec", f"{self.name}-w", *map(str, self.wire), "a0", "b0"], stdout=subprocess.PIPE)
        self.children.append(child)
        expect(b"ready" in child.stdout.readline(), "the wire is not ready")

    def nft(self, text):
        run("ip", "netns", "exec", self.server, "nft", "-f", "-", input=text.encode())

    def start(self, namespace, *words, **options):
        child = subprocess.Popen(["ip", "netns", "exec", namespace, *map(str, words)], stdin=subprocess.DEVNULL, **options)
        self.children.append(child)
        return child

    def start_nginx(self):
        temp = " ".join(f"{t}_temp_path {self.folder}/{t};" for t in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = self.folder / "nginx.conf"
        conf.write_text(NGINX.format(s=self.folder, temp=temp, h1=H1_PORT))
        with open(self.folder / "nginx.start", "wb") as log:
            self.start(self.server, "nginx", "-e", self.folder / "nginx.log", "-p", self.folder, "-c", conf, stdout=log, stderr=log)
        self.await_port(443)

    def start_unbound(self):
        self.zone = self.folder / "unbound.conf"
        self.zone.write_text(
            f"server:\n interface: 198.51.100.53\n access-control: 0.0.0.0/0 allow\n username: \"\"\n chroot: \"\"\n directory: {self.folder}\n"
            f" pidfile: {self.folder}/unbound.pid\n use-syslog: no\n do-ip6: no\n local-zone: grid.example. static\nremote-control:\n"
            f" control-enable: yes\n control-interface: {self.folder}/unbound.sock\n control-use-cert: no\n")
        with open(self.folder / "unbound.log", "wb") as log:
            self.start(self.server, "unbound", "-d", "-p", "-c", self.zone, stdout=log, stderr=log)
        wait_for("unbound's socket", (self.folder / "unbound.sock").exists)

    def await_port(self, port):
        def is_open():
            try:
                self.connect(port).close()
                return True
            except OSError:
                return False
        wait_for(f"port {port} listens", is_open)

    # ---- sockets of the server's side ----

    def in_server(self, what):
        """Runs `what` in a thread that has moved to the server's namespace: its sockets stay there."""
        found, libc = [], __import__("ctypes").CDLL(None, use_errno=True)

        def move():
            with open(f"/run/netns/{self.server}", "rb") as there:
                if libc.setns(there.fileno(), 0x40000000):
                    raise OSError("setns")
            try:
                found.append(what())
            except OSError as e:
                found.append(e)

        thread = threading.Thread(target=move)
        thread.start()
        thread.join()
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0]

    def listen(self, port):
        def make():
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("0.0.0.0", port))
            s.listen(128)
            return s
        return self.in_server(make)

    def connect(self, port):
        return self.in_server(lambda: socket.create_connection(("127.0.0.1", port), 5))

    # ---- what is fetched ----

    def file(self, name, size, seed=None):
        """A file of the server's that does not compress; its SHA-256."""
        data = hashlib.shake_256((seed or name).encode()).digest(min(size, 1 << 20))
        digest, left = hashlib.sha256(), size
        temporary = self.www / f".{name}"
        with open(temporary, "wb") as f:
            while left > 0:
                f.write(data[:left])
                digest.update(data[:left])
                left -= len(data)
        temporary.rename(self.www / name)
        self.hashes[name] = digest.hexdigest()
        return digest.hexdigest()

    def asked_of(self, address):
        """Requests in nginx's log; `address` is of the client and thus all the same: by path."""
        return [line for line in (self.folder / "access.log").read_text().splitlines() if address in line]

    def site(self, **options):
        return Site(self, **options)


class Site:
    """A node of its own: name, addresses, site file, folder for what is fetched."""

    def __init__(self, place, addresses=2, h1=False, redirect=None, transfer="", wan="", known=(), dns=DNS, resolve=None, control=True):
        self.place = place
        with place.lock:
            place.names += 1
            number = place.names
        self.host = f"repo{number}.grid.example"
        self.addresses = [f"198.51.100.{100 + number}", f"203.0.113.{100 + number}"][:addresses]
        self.folder = place.folder / f"site{number}"
        for sub in ("etc/gridnode", "run/gridnode", "var/lib/gridnode", "out"):
            (self.folder / sub).mkdir(parents=True)
        for address in resolve if resolve is not None else self.addresses:
            run("ip", "netns", "exec", place.server, "unbound-control", "-c", place.zone, "local_data", f"{self.host}. 60 IN A {address}")
        port = H1_PORT if h1 else redirect
        if port:
            self.redirect(port)
        self.profile = self.folder / "grid.profile"
        self.profile.write_text(
            f"[profile]\nname = grid\nroot-ca = {place.authority.root}\n"
            f"[service repo]\nhost = {self.host}\nport = 443\ntls = mutual\ncarries = updates;images;logs\n"
            + (f"[service control]\nhost = {self.host}\nport = 8443\ntls = mutual\ncarries = control\n" if control else "")
            + (f"[addresses]\nrepo = {';'.join(known)}\n" if known else ""))
        self.conf = self.folder / "site.conf"
        self.conf.write_text(f"[node]\nprofile = {self.profile}\ncertificate = {place.folder}/node.crt\nkey = {place.folder}/node.key\n"
                             f"[wan]\ninterface = eth0\naddress = {NODE}/24\ngateway = {NEAR}\ndns = {dns}\n{wan}\n[transfer]\n{transfer}\n")
        self.ways = self.folder / "run/gridnode/ways.json"

    @property
    def out(self):
        return self.folder / "out"

    def redirect(self, port, address=None):
        """Who asks for 443 of the address comes to another port of the server."""
        for one in [address] if address else self.addresses:
            self.place.nft(f"add rule ip t n ip daddr {one} tcp dport 443 redirect to :{port}")

    def block(self, verdict="drop", port=443, addresses=None):
        for one in addresses or self.addresses:
            self.place.nft(f"add rule ip t f ip daddr {one} tcp dport {port} {verdict} comment \"{self.host}\"")

    def unblock(self):
        rules = json.loads(run("ip", "netns", "exec", self.place.server, "nft", "-j", "list", "chain", "ip", "t", "f"))
        for entry in rules["nftables"]:
            if entry.get("rule", {}).get("comment") == self.host:
                self.place.nft(f"delete rule ip t f handle {entry['rule']['handle']}")

    def words(self, path, *more, output="file"):
        return ["ip", "netns", "exec", self.place.node, self.place.gridnode, "fetch", path, "--config", self.conf, "--root", self.folder,
                "-o", self.out / output, *more]

    def fetch(self, path, *more, output="file", timeout=60, **environment):
        return Fetch(self, subprocess.run([str(w) for w in self.words(path, "--json", *more, output=output)], capture_output=True,
                                          timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=dict(os.environ, **environment)))

    def begin(self, path, *more, output="file", json_lines=True):
        words = self.words(path, *(["--json"] if json_lines else []), *more, output=output)
        return subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def size(self, output="file"):
        """What is there of it."""
        for name in (f"{output}.part", output):
            try:
                return (self.out / name).stat().st_size
            except OSError:
                pass
        return 0

    def is_whole(self, name, output="file"):
        digest = hashlib.sha256((self.out / output).read_bytes()).hexdigest()
        expect(digest == self.place.hashes[name], f"{output} is not {name}")
        expect(not (self.out / f"{output}.part").exists(), "the partial file is still there")
        expect(not (self.out / f"{output}.part.validator").exists(), "the validator is still there")

    def write_ways(self, state, summary="", code=""):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        temporary = self.ways.with_suffix(".new")
        temporary.write_text(json.dumps({"written": now, "services": [
            {"service": "repo", "state": state, "code": code, "summary": summary, "since": now}]}))
        temporary.rename(self.ways)


class Fetch:
    def __init__(self, site, done):
        self.site, self.status = site, done.returncode
        self.out, self.err = done.stdout.decode(), done.stderr.decode()
        self.lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def __str__(self):
        return f"exit status {self.status}\n--- stderr\n{self.err}--- last of stdout\n{self.out[-1500:]}"

    @property
    def end(self):
        return self.lines[-1]

    def is_good(self, name, output="file"):
        expect(self.status == 0, f"it must work: {self}")
        expect(self.end["state"] == "done", self)
        self.site.is_whole(name, output)
        return self

    def fails(self, status, *words):
        expect(self.status == status, f"exit status must be {status}: {self}")
        for word in words:
            expect(word in self.err, f"'{word}' must be named: {self}")
        return self
