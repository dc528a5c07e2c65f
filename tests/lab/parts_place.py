"""What test_parts.py stands on: a control plane in a network namespace of its own, curl, certificates, an image."""

import base64
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

from plane_site import program_of, works_in

HOSTS = ("repo.grid.example", "control.grid.example")
NOBODY = 65534
READY = "the control plane is ready"


class Failed(Exception):
    """What was to come true did not."""


def expect(condition, *facts):
    if not condition:
        raise Failed("\n".join(map(str, facts)) or "it is not so")


def wait_for(what, look, seconds=20, pause=0.05):
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"after {seconds} s still not: {what}")
        time.sleep(pause)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def openssl(*words, stdin=None):
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True,
                          input=stdin.encode() if stdin else b"").stdout.decode()


class Authority:
    """An operator's own, apart from the control plane's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self.folder / "own-root.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 100, "-subj",
                "/CN=The operator's own", "-keyout", self.folder / "own-root.key", "-out", self.root)

    def issue(self, name, alternative=None):
        """Paths of a certificate and its key."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        openssl("req", "-x509", "-CA", self.root, "-CAkey", self.folder / "own-root.key", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-days", 60, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate,
                "-addext", f"subjectAltName={alternative or 'DNS:' + name}", "-addext", "basicConstraints=critical,CA:FALSE")
        key.chmod(0o600)
        return certificate, key


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        while head.startswith("HTTP/") and " 100" in head.split("\r\n")[0]:
            head, _, self.body = self.body.partition("\r\n\r\n")
        lines = head.split("\r\n")
        self.version, self.status = lines[0].split()[0], int(lines[0].split()[1])
        self.headers = dict((k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:]))

    def is_status(self, *wanted):
        expect(self.status in wanted, f"status {self.status}, not {wanted}: {self.body[:500]}")
        return self

    @property
    def json(self):
        return json.loads(self.body)


class Place:
    """A network namespace, with loopback alone, and a root folder for a control plane."""

    def __init__(self, build, letter):
        self.gridplane = pathlib.Path(build).resolve() / "src/cli/gridplane"
        self.clock = pathlib.Path(build).resolve() / "lab/clock.so"
        self.namespace = f"go-{os.getpid()}-{letter}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.namespace}-"))
        self.folder.chmod(0o755)
        self.root = self.folder / "root"
        self.state, self.run_folder = self.root / "var/lib/gridplane", self.root / "run/gridplane"
        self.conf = self.root / "etc/gridplane/gridplane.conf"
        self.conf.parent.mkdir(parents=True)
        self.log = self.folder / "plane.log"
        self.children, self.plane, self.nodes = [], None, 0

    def __enter__(self):
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        for pid in subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ca(self):
        return self.state / "ca/root.crt"

    def words(self, *words):
        return ["/usr/bin/ip", "netns", "exec", self.namespace, *map(str, words)]

    def run(self, *words, accept=(0,), timeout=30, environment=None, stdin=None):
        done = subprocess.run(self.words(*words), capture_output=True, timeout=timeout, check=False,
                              env=dict(os.environ, **(environment or {})), input=stdin.encode() if stdin else b"")
        text = done.stdout.decode(errors="replace")
        if accept is not None and done.returncode not in accept:
            raise Failed(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{text}{done.stderr.decode(errors='replace')}")
        return text

    def start(self, *words, log=None):
        with open(log or os.devnull, "a", encoding="utf-8") as output:
            child = subprocess.Popen(self.words(*words), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     start_new_session=True)
        self.children.append(child)
        return child

    # ---- the control plane ----

    def write_conf(self, text="", plane=""):
        self.conf.write_text(f"[plane]\ndomain = grid.example\n{plane}\n{text}")

    def serve(self, *before, until=READY, seconds=30):
        """Starts it and waits for its word; `before`: what stands before the program."""
        self.log.unlink(missing_ok=True)
        self.plane = self.start(*before, self.gridplane, "serve", "--root", self.root, log=self.log)
        if until:
            wait_for(f"the control plane says '{until}'", lambda: until in self.said() or self.plane.poll() is not None, seconds)
            expect(until in self.said(), f"it ended with {self.plane.poll()}:", self.said())
        return self.plane

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def end(self, number=signal.SIGTERM):
        self.plane.send_signal(number)
        return self.plane.wait(20)

    def command(self, *words, **options):
        return self.run(self.gridplane, *words, "--root", self.root, **options)

    def findings(self, *before, status=None):
        """What gridplane check says: pairs of code and text; its exit status is looked at, too."""
        done = subprocess.run(self.words(*before, self.gridplane, "check", "--json", "--root", self.root), capture_output=True,
                              text=True, timeout=30, check=False)
        expect(status is None or done.returncode == status, f"check ended with {done.returncode}, not {status}", done.stdout, done.stderr)
        return [(f["code"], f["text"], f["fatal"]) for f in json.loads(done.stdout)["findings"]] if done.stdout.startswith("{") \
            else [("", done.stderr, True)]

    def says(self, code, *texts, status=None):
        found = self.findings(status=status)
        expect(any(c == code and all(t in text for t in texts) for c, text, _ in found), f"no {code} with {texts}:", found)

    def servers(self):
        """Process ids of what runs in folders below the state folder, by name."""
        folders = list((self.state / "services").glob("*"))
        return [(int(entry.name), program_of(entry.name)) for entry in pathlib.Path("/proc").glob("[0-9]*")
                if works_in(entry.name, folders)]

    # ---- asking it ----

    def curl(self, *words, host=HOSTS[0], port=443, path="/", accept=(0,), timeout=15):
        return self.run("curl", "-sS", "--max-time", timeout, "--cacert", self.ca, "--resolve", f"{host}:{port}:127.0.0.1", *words,
                        f"https://{host}:{port}{path}", accept=accept, timeout=timeout + 5)

    def ask(self, path, *words, method="GET", body=None, token=None, **options):
        words = ["-i", "-X", method, *words]
        if method == "HEAD":
            words[1:3] = ["-I"]
        if token:
            words += ["-H", f"Authorization: Bearer {token}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "--data-binary", json.dumps(body)]
        return Answer(self.run_curl_raw(words, path, options))

    def run_curl_raw(self, words, path, options):
        host, port = options.get("host", HOSTS[0]), options.get("port", 443)
        done = subprocess.run(self.words("curl", "-sS", "--max-time", 15, "--cacert", self.ca, "--resolve", f"{host}:{port}:127.0.0.1",
                                         *words, f"https://{host}:{port}{path}"), capture_output=True, timeout=20, check=False)
        expect(done.returncode == 0, f"curl {path} ended with {done.returncode}:", done.stderr.decode())
        return done.stdout.decode(errors="replace")

    def token(self, name, role="operator", organisation="default"):
        return self.command("token", "add", name, "--role", role, "--org", organisation).strip().splitlines()[-1].split()[-1]

    def node(self, organisation="default"):
        """A node that is registered: its id, and paths of its certificate and key. By hand, as its program does it."""
        self.nodes += 1
        name = f"node-{self.nodes}"
        token = self.command("node", "create", name, "--org", organisation, "--site", "leeds").strip().splitlines()[-1].split()[-1]
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
                      "-keyout", key)
        identity = self.ask("/api/v1/node/register", method="POST", body={"schema": 1, "token": token, "csr": csr}).is_status(200, 201).json
        certificate.write_text(identity["certificate"])
        return identity["node"], certificate, key

    def mqtt_words(self, node, program="mosquitto_pub", host=HOSTS[1]):
        """A node's own connection; mosquitto's clients look names up, so that --insecure stands for what curl checks."""
        identity, certificate, key = node
        del host
        return [program, "-V", "5", "-h", "localhost", "-p", "8443", "--tls-alpn", "mqtt", "--cafile", self.ca, "--insecure",
                "--cert", certificate, "--key", key, "-i", identity]

    def node_speaks(self, node, online=True):
        status = {"schema": 1, "online": online, "epoch": "e1", "version": "1", "since": "2026-11-21T12:00:00.000Z"}
        return self.run(*self.mqtt_words(node), "-q", "1", "-t", f"node/{node[0]}/status", "-m", json.dumps(status))

    def served_certificate(self, port, *words):
        text = self.run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", HOSTS[1], *words, accept=None)
        begin = text.find("-----BEGIN")
        expect(begin >= 0, f"no certificate on {port}:", text[-500:])
        return openssl("x509", "-noout", "-serial", "-enddate", stdin=text[begin:])


# ---- an image ----

def make_image(folder, text="hello from an image\n"):
    """An OCI image layout (image-spec 1.0): one layer, for linux/amd64."""
    blobs = pathlib.Path(folder) / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data, kind):
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, data in (("etc/motd", text.encode()), ("srv/data", hashlib.shake_256(text.encode()).digest(200000))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    data = layer.getvalue()
    packed = gzip.compress(data, mtime=0)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]}}).encode()
    layer_entry = put(packed, "layer.v1.tar+gzip")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": put(config, "config.v1+json"), "layers": [layer_entry]}
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (blobs.parent.parent / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (blobs.parent.parent / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return entry["digest"], layer_entry["digest"], hashlib.sha256(packed).hexdigest()


def basic(token):
    return "Authorization: Basic " + base64.b64encode(f"any:{token}".encode()).decode()
