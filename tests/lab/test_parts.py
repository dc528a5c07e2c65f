#!/usr/bin/python3
"""The parts of the control plane, each of them its own and each of them an outside one: broker, registry, proxy, user,
certificates. test_parts.py BUILD-FOLDER [PART...]

Real servers in network namespaces of their own; the broker with a real node in a lab. Needs root. Ends with the line
"N passed, N failed"."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import pwd
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import parts_place  # noqa: E402
import plane_site  # noqa: E402
from parts_place import HOSTS, NOBODY, Authority, Place, basic, expect, openssl, wait_for  # noqa: E402

OCI_MANIFEST = "Accept: application/vnd.oci.image.manifest.v1+json"


class Stop(Exception):
    """The rest of a part makes no sense any more; what failed was told."""


class Tally:
    def __init__(self):
        self.lock, self.passed, self.failed, self.began = threading.Lock(), 0, 0, time.monotonic()

    @contextlib.contextmanager
    def step(self, name, needed=False):
        try:
            yield
        except Stop:
            if needed:
                raise
        except Exception as error:  # whatever it is, the others go on
            with self.lock:
                self.failed += 1
                print(f"FAILED {name} (line {error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else '?'})\n"
                      f"{type(error).__name__}: {error}", flush=True)
            if needed:
                raise Stop() from error
        else:
            with self.lock:
                self.passed += 1
                if os.environ.get("VERBOSE"):
                    print(f"{time.monotonic() - self.began:6.1f} ok {name}", flush=True)


# ---- an outside broker, with a real node ----

BROKER_CONF = """# What gridplane.conf(5) asks of a broker.
user mosquitto
per_listener_settings true
persistence false
log_dest file {folder}/mosquitto.log

listener 8883 127.0.0.1
cafile {folder}/own-root.pem
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
acl_file {folder}/acl

listener 8884 127.0.0.1
cafile {folder}/root.crt
crlfile {folder}/revoked.crl
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {folder}/acl
"""
BROKER_KEYS = """
[broker]
url = mqtts://localhost:8883
nodes = localhost:8884
certificate = plane.crt
key = plane.key
root-ca = {root}
"""


class OutsideBroker:
    """An operator's mosquitto, with a folder and a user of its own."""

    def __init__(self, site):
        self.site, self.folder = site, site.folder / "broker"
        site.folder.chmod(0o755)
        self.authority = Authority(self.folder)
        self.state, self.process = site.plane_root / "var/lib/gridplane", None

    def deliver(self):
        """What the operator brings to the broker, at first and whenever it changes."""
        user = pwd.getpwnam("mosquitto")
        for name in ("ca/server/broker.crt", "ca/server/broker.key", "ca/root.crt", "ca/revoked.crl"):
            target = self.folder / pathlib.Path(name).name
            target.write_bytes((self.state / name).read_bytes())
        (self.folder / "acl").write_text("user gridplane\ntopic readwrite node/#\n\n"
                                         + (self.state / "services/mosquitto/acl").read_text())
        (self.folder / "mosquitto.conf").write_text(BROKER_CONF.format(folder=self.folder))
        for path in [self.folder, *self.folder.iterdir()]:
            os.chown(path, user.pw_uid, user.pw_gid)

    def start(self):
        self.process = self.site.start("inet", "mosquitto", "-c", self.folder / "mosquitto.conf")

    def kill(self, number=signal.SIGKILL):
        for pid in subprocess.run(["ip", "netns", "pids", f"gl-{self.site.name}-inet"], capture_output=True, text=True,
                                  check=False).stdout.split():
            with contextlib.suppress(OSError):
                if str(self.folder) in pathlib.Path(f"/proc/{pid}/cmdline").read_text() and plane_site.program_of(pid) == "mosquitto":
                    os.kill(int(pid), number)


def check_json(site, status):
    text = site.plane("check", "--json", accept=(status,))
    return [(f["code"], f["text"]) for f in json.loads(text[text.index("{"):])["findings"]]


def broker(tally, build):
    with plane_site.Site(build, f"go-{os.getpid()}") as site:
        outside = OutsideBroker(site)
        conf = site.plane_root / "etc/gridplane/gridplane.conf"
        conf.write_text(conf.read_text() + BROKER_KEYS.format(root=outside.state / "ca/root.crt"))
        conf.chmod(0o600)
        with tally.step("check names the certificate for the outside broker that is missing"):
            found = check_json(site, 1)
            expect(any(code == "certificate.unreadable" and "plane.crt" in text for code, text in found), found)
        certificate, key = outside.authority.issue("gridplane")
        (conf.parent / "plane.crt").write_bytes(certificate.read_bytes())
        (conf.parent / "plane.key").write_bytes(key.read_bytes())
        (conf.parent / "plane.key").chmod(0o600)
        site.stop_plane()
        with tally.step("check names the broker that does not answer, and what happens then"):
            found = check_json(site, 3)
            expect(any(code == "part.unreachable" and "localhost" in text and "8883" in text for code, text in found), found)
        with tally.step("gridplane starts without its broker, makes the broker's certificate, and waits", needed=True):
            site.plane_log.unlink()
            site.start_plane()
            wait_for("the broker's certificate", (outside.state / "ca/server/broker.crt").exists)
            names = openssl("x509", "-noout", "-ext", "subjectAltName", "-in", outside.state / "ca/server/broker.crt")
            expect("DNS:control.grid.example" in names and "DNS:localhost" in names, names)
        with tally.step("it is ready when the broker is there", needed=True):
            outside.deliver()
            outside.start()
            wait_for("ready", lambda: parts_place.READY in site.plane_words(), 20)
            expect(not any(program == "mosquitto" for program in map(plane_site.program_of, plane_site.children(site.plane_pid))))
        with tally.step("check has nothing to say of the broker that runs"):
            expect(not [text for code, text in check_json(site, 3) if code.startswith("part.")], check_json(site, 3))
        with tally.step("check says that a broker and gridplane do not believe each other"):
            (conf.parent / "plane.crt").write_bytes(Authority(site.folder / "forged").issue("gridplane")[0].read_bytes())
            (conf.parent / "plane.key").write_bytes((site.folder / "forged/gridplane.key").read_bytes())
            found = check_json(site, 3)
            expect(any(code == "part.refused" for code, text in found), found)
            (conf.parent / "plane.crt").write_bytes(certificate.read_bytes())
            (conf.parent / "plane.key").write_bytes(key.read_bytes())
        node = site.new_node("branch-1")
        with tally.step("a node registers and reaches the outside broker through 8443", needed=True):
            node.start()
            wait_for("connected", lambda: site.is_connected(node), 20)
        with tally.step("a tool runs on it"):
            said = site.plane("node", "tool", "branch-1", "tcp", "repo.grid.example", "443")
            expect("443" in said and "succeeded" in said, said)
        with tally.step("a node cannot speak for another through the outside broker"):
            said = site.run("inet", "mosquitto_pub", "-V", "5", "-h", "localhost", "-p", "8884", "--cafile", site.state / "node/grid-root.pem",
                            "--cert", node.certificate, "--key", node.key, "-q", "1", "-t", "node/n-other/event", "-m", "x", "-d",
                            accept=None)
            expect("uthorized" in said or "135" in said, said)
            wait_for("the node is back", lambda: site.is_connected(node), 20)
        with tally.step("the broker is killed and comes back: the node and the plane come back to it"):
            outside.kill()
            time.sleep(0.3)
            outside.start()
            site.touch_route()
            wait_for("the plane is back", lambda: site.plane_words().count("connected to the broker") >= 2, 20)
            wait_for("a tool runs again", lambda: "succeeded" in site.plane(
                "node", "tool", "branch-1", "--timeout", "2", "tcp", "repo.grid.example", "443", accept=None), 40, 0.5)
        with tally.step("an event arrives, with its cause"):
            site.lab("fault", "drop-443")
            wait_for("the event", lambda: site.plane_rows(
                "SELECT 1 FROM events WHERE node = ? AND name = 'Repo Connectivity' AND cause = 'tcp.dropped'", node.id), 40, 0.5)
            site.lab("reset")
        with tally.step("a removed node is expelled, and the outside broker lets it in no more"):
            before = (outside.state / "ca/revoked.crl").read_bytes()
            site.plane("node", "remove", "branch-1", "--yes", accept=None) if "--yes" in site.plane("node", "remove", "--help") \
                else site.plane("node", "remove", "branch-1")
            wait_for("the list of revoked certificates", lambda: (outside.state / "ca/revoked.crl").read_bytes() != before, 5)
            outside.deliver()
            outside.kill(signal.SIGHUP)
            said = wait_for("refused", lambda: "refused" in node.words() or "revoked" in node.words(), 20)
            expect(said)
            node.stop()


# ---- the registry ----

OUTSIDE_REGISTRY = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:5443
  secret: something
  tls: {{certificate: {certificate}, key: {key}, clientcas: [{root}]}}
"""
REGISTRY_KEYS = """
[registry]
url = https://localhost:5443
certificate = {certificate}
key = {key}
root-ca = {root}
"""


def skopeo(place, *words, status=0):
    """With names of its own: nothing else on this machine is asked."""
    hosts = place.folder / "hosts"
    hosts.write_text("127.0.0.1 localhost " + " ".join(HOSTS) + "\n")
    trust = place.folder / "trust"
    trust.mkdir(exist_ok=True)
    (trust / "ca.crt").write_bytes(place.ca.read_bytes())
    command = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, "skopeo", "--insecure-policy", *words]
    done = subprocess.run(place.words(*command), capture_output=True, text=True, timeout=40, check=False)
    expect((done.returncode == 0) == (status == 0), f"skopeo ended with {done.returncode}:", done.stdout, done.stderr)
    return done.stdout + done.stderr


def images_pass(tally, place, name):
    """Push and pull, allowed and refused, as everybody who may come."""
    short = name.split()[0]
    image = place.folder / f"image-{short}"
    manifest, layer, layer_sha = parts_place.make_image(image)
    operator, viewer, other = place.token(f"push-{short}"), place.token(f"look-{short}", "viewer"), place.token(f"acme-{short}", "operator", "acme")
    node, stranger = place.node(), place.node("acme")
    there = "docker://repo.grid.example/default/tool:1"
    trust = ["--dest-cert-dir", place.folder / "trust", "--dest-creds"]
    with tally.step(f"{name}: an operator's token pushes an image into the organisation's namespace", needed=True):
        skopeo(place, "copy", f"oci:{image}:1", there, *trust, f"any:{operator}")
    with tally.step(f"{name}: a viewer's pulls it, and every byte is the same"):
        skopeo(place, "copy", there, f"dir:{place.folder}/back-{short}", "--src-cert-dir", place.folder / "trust", "--src-creds",
               f"any:{viewer}")
        expect((place.folder / f"back-{short}" / layer_sha).exists(), list((place.folder / f"back-{short}").iterdir()))
    with tally.step(f"{name}: a viewer's does not push, nobody into another's namespace, and nobody without a token"):
        for creds, target in ((viewer, there), (operator, "docker://repo.grid.example/acme/tool:1"), (other, there),
                              ("gpt_wrong", there)):
            skopeo(place, "copy", f"oci:{image}:1", target, *trust, f"any:{creds}", status=1)
        place.ask("/v2/", "-H", basic("gpt_wrong")).is_status(401)
        place.ask("/v2/").is_status(401)
    with tally.step(f"{name}: nothing is read or mounted out of another's namespace"):
        place.ask("/v2/default/tool/manifests/1", "-H", basic(other)).is_status(403)
        place.ask(f"/v2/acme/x/blobs/uploads/?mount={layer}&from=default/tool", "-H", basic(other), method="POST").is_status(403)
        place.ask("/v2/_catalog", "-H", basic(operator)).is_status(403)
    with tally.step(f"{name}: a node pulls manifest and blob with its certificate, on both ports"):
        for port in (443, 8443):
            cert = ("--cert", node[1], "--key", node[2])
            got = place.ask("/v2/default/tool/manifests/1", *cert, "-H", OCI_MANIFEST, port=port).is_status(200)
            expect(got.headers["docker-content-digest"] == manifest, got.headers)
            blob = place.folder / f"blob-{short}"
            place.curl(*cert, "-L", "-o", blob, path=f"/v2/default/tool/blobs/{layer}", port=port)
            expect(openssl("dgst", "-sha256", "-r", blob).split()[0] == layer_sha)
    with tally.step(f"{name}: another organisation's node does not, and no node pushes"):
        cert = ("--cert", stranger[1], "--key", stranger[2])
        place.ask("/v2/default/tool/manifests/1", *cert, "-H", OCI_MANIFEST).is_status(403)
        place.ask(f"/v2/default/tool/blobs/{layer}", *cert).is_status(403)
        place.ask("/v2/default/tool/blobs/uploads/", "--cert", node[1], "--key", node[2], method="POST").is_status(403)
    with tally.step(f"{name}: an upload's address leads back through nginx; a tag is deleted"):
        began = place.ask("/v2/default/tool/blobs/uploads/", "-H", basic(operator), method="POST").is_status(202)
        where = began.headers["location"]
        expect(where.startswith(("/v2/", "https://repo.grid.example/v2/")), where)
        place.ask(f"/v2/default/tool/manifests/{manifest}", "-H", basic(operator), method="DELETE").is_status(202)
        place.ask("/v2/default/tool/manifests/1", "-H", basic(operator), "-H", OCI_MANIFEST).is_status(404)


def registry(tally, build):
    with Place(build, "r") as place:
        place.write_conf()
        place.serve()
        place.command("org", "add", "acme")
        images_pass(tally, place, "its own registry")
        place.end()
        authority = Authority(place.folder / "authority")
        ours, theirs = authority.issue("gridplane"), authority.issue("localhost")
        keys = REGISTRY_KEYS.format(certificate=ours[0], key=ours[1], root=authority.root)
        place.write_conf(keys)
        with tally.step("check names the outside registry that does not answer"):
            place.says("part.unreachable", "registry", "5443", status=3)
        config = place.folder / "registry.yml"
        config.write_text(OUTSIDE_REGISTRY.format(folder=place.folder, certificate=theirs[0], key=theirs[1], root=authority.root))
        place.start("docker-registry", "serve", config, log=place.folder / "registry.log")
        wait_for("the registry", lambda: not [f for f in place.findings() if f[0] == "part.unreachable"], 10)
        place.serve()
        with tally.step("no registry of its own runs beside an outside one"):
            expect("docker-regist" not in str(place.servers()), place.servers())
        images_pass(tally, place, "an outside registry")
        with tally.step("the outside registry never saw a credential"):
            place.end()
            seen = place.folder / "seen"
            listen = f"import socket;s=socket.create_server(('127.0.0.1',5080));\nwhile True: c=s.accept()[0];d=c.recv(9999);open({str(seen)!r},'ab').write(d);" \
                     "c.sendall(b'HTTP/1.1 404 No\\r\\nContent-Length: 0\\r\\n\\r\\n');c.close()"
            place.write_conf("[registry]\nurl = http://localhost:5080\n")
            place.start("/usr/bin/python3", "-c", listen)
            place.serve()
            token = place.token("look")
            place.ask("/v2/default/tool/manifests/1", "-H", basic(token), "-H", "Cookie: gridplane=x").is_status(404)
            text = seen.read_text().lower()
            expect("host: localhost:5080" in text and "x-forwarded-host: repo.grid.example" in text, text)
            expect("authorization" not in text and "cookie" not in text and "x-client" not in text, text)


# ---- who it runs as, and somebody else's nginx ----

AMBIENT = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps", "-all,+net_bind_service", "--ambient-caps",
           "-all,+net_bind_service", "--bounding-set", "-all,+net_bind_service", "--no-new-privs"]


def give(folder, user):
    for at, folders, files in os.walk(folder):
        for name in [".", *folders, *files]:
            os.chown(os.path.join(at, name), user, user, follow_symlinks=False)


def owners(place):
    return {os.lstat(os.path.join(at, name)).st_uid for top in (place.state, place.run_folder) for at, folders, files in os.walk(top)
            for name in [".", *folders, *files]}


def works(place):
    """Every part once."""
    node = place.node()
    place.ask("/api/v1/health", port=8443).is_status(200, 401)
    place.curl("-o", place.folder / "payload", path="/.well-known/gridnode/payload")
    expect((place.folder / "payload").stat().st_size == 262144)
    place.ask("/v2/", "--cert", node[1], "--key", node[2]).is_status(200)
    place.node_speaks(node)
    token = place.token(f"metrics-{node[0]}", "viewer")
    place.ask("/v2/default/none/manifests/1", "-H", basic(token)).is_status(404)
    place.ask("/metrics", token=token).is_status(200)
    body = place.folder / "large"
    body.write_bytes(b"x" * 300000)  # more than nginx keeps in memory
    place.ask("/api/v1/session", "-H", "Content-Type: application/json", "--data-binary", f"@{body}", method="POST").is_status(400, 413)


def survives(place, *before):
    servers = place.servers()
    expect({name for _, name in servers} >= {"nginx", "mosquitto"} and any("registr" in name for _, name in servers), servers)
    place.end(signal.SIGKILL)
    place.serve(*before)
    works(place)


def users(tally, build):
    for letter, before, plane, name in (("u", AMBIENT, "", "as nobody with CAP_NET_BIND_SERVICE"),
                                        ("v", [], "user = nobody\n", "as root with [plane] user")):
        with Place(build, letter) as place:
            if before:
                give(place.root, NOBODY)
            else:
                with tally.step(f"{name}: check warns of a start as root; such a start leaves files that are root's"):
                    place.write_conf()
                    place.says("user.root", "[plane] user", status=3)
                    place.serve()
                    place.end()
                    expect(owners(place) == {0}, owners(place))
            place.write_conf(plane=plane)
            with tally.step(f"{name}: check sees nothing that keeps it", needed=True):
                expect(not [f for f in place.findings(*before) if f[2]], place.findings(*before))
            with tally.step(f"{name}: everything works", needed=True):
                place.serve(*before)
                works(place)
            with tally.step(f"{name}: files and processes are that user's, and nobody else's"):
                expect(owners(place) == {NOBODY}, owners(place))
                for pid in [place.plane.pid] + [pid for pid, _ in place.servers()]:
                    status = pathlib.Path(f"/proc/{pid}/status").read_text()
                    expect(f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status, status)
                    expect("CapEff:\t0000000000000400" in status, status)
            with tally.step(f"{name}: check beside the running one has nothing to say of its ports"):
                expect(not [f for f in place.findings(*before) if f[0].startswith("port.")], place.findings(*before))
            with tally.step(f"{name}: what kill -9 leaves does not keep the next start from working"):
                survives(place, *before)
            with tally.step(f"{name}: it ends with 0 and leaves no process"):
                expect(place.end() == 0, place.said())
                wait_for("no server is left", lambda: not place.servers(), 5)


def proxy(tally, build):
    with Place(build, "p") as place:
        place.write_conf("[proxy]\nexternal = yes\n")
        give(place.root, NOBODY)
        with tally.step("external proxy: gridplane starts none, and writes the configurations", needed=True):
            # It is ready without nginx: that is somebody else's.
            place.serve(*AMBIENT)
            expect("nginx" not in str(place.servers()), place.servers())
        with tally.step("external proxy: nginx takes them as they are", needed=True):
            for name in ("nginx", "splitter"):
                folder = place.state / "services" / name
                place.run("nginx", "-t", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf")
                place.run("rm", "-f", *(place.run_folder / "proxy").glob("*.sock"))
            for name in ("nginx", "splitter"):
                folder = place.state / "services" / name
                place.start("nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", log=place.folder / f"{name}.log")
            wait_for("both ports", lambda: all(place.run("curl", "-sk", f"https://127.0.0.1:{port}/", accept=None) for port in (443, 8443)), 10)
        with tally.step("external proxy: everything works, as root's nginx with workers of gridplane's user"):
            works(place)
        with tally.step("external proxy: gridplane restarts beside it"):
            place.end(signal.SIGKILL)
            place.serve(*AMBIENT)
            works(place)


# ---- certificates ----

def dates(path):
    return openssl("x509", "-noout", "-serial", "-enddate", "-in", path)


def sign_again(place, certificate, issuer, issuer_key, begin, end):
    """The same names and key, with other dates: as if time had passed. (openssl x509 takes no dates; the ca command does.)"""
    folder = place.folder / f"again-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "index").write_text("")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca = c\n[c]\ndatabase = {0}/index\nnew_certs_dir = {0}\nrand_serial = yes\ndefault_md = sha256\n"
        "policy = p\nunique_subject = no\ncopy_extensions = none\npreserve = yes\n[p]\norganizationName = optional\ncommonName = supplied\n"
        "[e]\nbasicConstraints = {1}\nkeyUsage = critical,{2}\n{3}subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n".format(
            folder, *(("critical,CA:TRUE,pathlen:0", "keyCertSign,cRLSign", "") if "intermediate" in certificate.name else
                      ("critical,CA:FALSE", "digitalSignature",
                       "extendedKeyUsage = serverAuth\nsubjectAltName = DNS:repo.grid.example,DNS:control.grid.example\n"))))
    key = certificate.with_suffix(".key")
    openssl("x509", "-x509toreq", "-in", certificate, "-signkey", key, "-out", folder / "csr")
    openssl("ca", "-batch", "-notext", "-config", folder / "ca.conf", "-extensions", "e", "-cert", issuer, "-keyfile", issuer_key,
            "-in", folder / "csr", "-out", folder / "crt", "-startdate", stamp(begin), "-enddate", stamp(end))
    text = (folder / "crt").read_text()
    certificate.write_text(text + ("" if "intermediate" in certificate.name else issuer.read_text()))
    return openssl("x509", "-noout", "-serial", "-in", certificate).strip()


def stamp(days):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


def listener(place, node):
    """A node's long connection, which must live on."""
    return place.start("stdbuf", "-oL", *place.mqtt_words(node, "mosquitto_sub"), "-k", "20", "-t", f"node/{node[0]}/request", "-d", log=place.folder / "sub.log")


def certificates(tally, build):
    with Place(build, "c") as place:
        place.write_conf()
        place.serve()
        old, victim = place.node(), place.node()
        ca = place.state / "ca"
        server, intermediate = ca / "server/gridplane.crt", ca / "intermediate-1.crt"
        listener(place, old)
        log = place.folder / "sub.log"
        wait_for("the node's connection", lambda: "SUBACK" in log.read_text(), 10)
        with tally.step("a server certificate near its end is renewed while it runs, and no MQTT connection is dropped"):
            before = sign_again(place, server, intermediate, ca / "intermediate-1.key", -80, 3)
            place.command("node", "remove", victim[0])
            wait_for("the renewal", lambda: openssl("x509", "-noout", "-serial", "-in", server).strip() != before, 5)
            now = dates(server)
            for port, words in ((443, ()), (8443, ()), (8443, ("-alpn", "mqtt"))):
                wait_for(f"{port} {words} shows the new one", lambda p=port, w=words: place.served_certificate(p, *w) == now, 15)
            expect(log.read_text().count("CONNECT\n") == 1 or log.read_text().count("sending CONNECT") == 1, log.read_text())
            expect("DISCONNECT" not in log.read_text() and place.said().count("connected to the broker") == 1, place.said())
        with tally.step("the node that was removed for it comes in no more, on either way"):
            place.ask("/v2/", "--cert", victim[1], "--key", victim[2]).is_status(400, 401, 403)
            expect("CONNACK (0)" not in place.run(*place.mqtt_words(victim), "-t", f"node/{victim[0]}/status", "-m", "{}", "-d", accept=None))
        place.end()
        key, away = ca / "root/root.key", place.folder / "root.key"
        sign_again(place, intermediate, ca / "root.crt", key, -4 * 365, 365)
        key.rename(away)
        with tally.step("without the root's key an intermediate past two thirds of its life goes on to work", needed=True):
            place.serve()
            expect(not (ca / "intermediate-2.crt").exists(), "no root key, and yet a new intermediate")
            works_with(place, old)
            works_with(place, place.node())
        place.end()
        with tally.step("check tells of an intermediate that ends soon while the root's key is away"):
            kept = intermediate.read_text()
            away.rename(key)
            sign_again(place, intermediate, ca / "root.crt", key, -5 * 365, 40)
            (ca / "bundle.crt").write_text((ca / "root.crt").read_text() + intermediate.read_text())
            key.rename(away)
            place.says("certificate.expiring", "root's key", status=3)
            intermediate.write_text(kept)
        away.rename(key)
        with tally.step("with the root's key it is renewed; nodes of the old one and of the new one both work", needed=True):
            place.serve()
            expect((ca / "intermediate-2.crt").exists())
            new = place.node()
            chain = openssl("verify", "-CAfile", ca / "root.crt", "-untrusted", ca / "intermediate-2.crt", new[1])
            expect("OK" in chain, chain)
            works_with(place, old)
            works_with(place, new)
        with tally.step("a node of the old intermediate is still revoked, and one of the new one"):
            for node in (old, new):
                place.command("node", "remove", node[0])
            wait_for("both are refused", lambda: all(place.ask("/v2/", "--cert", n[1], "--key", n[2]).status in (400, 401, 403)
                                                     for n in (old, new)), 10)
        place.end()
        with tally.step("three months later everything is renewed by a start alone"):
            was = dates(server)
            place.serve("env", f"LD_PRELOAD={place.clock}", f"LAB_CLOCK_SHIFT={100 * 86400}", "ASAN_OPTIONS=verify_asan_link_order=0")
            expect(dates(server) != was)


def works_with(place, node):
    place.ask("/v2/", "--cert", node[1], "--key", node[2]).is_status(200)
    place.node_speaks(node)


# ---- HTTPS ----

def https(tally, build):
    with Place(build, "h") as place:
        place.write_conf()
        place.serve()
        token = place.token("metrics", "viewer")
        for port in (443, 8443):
            with tally.step(f"{port}: TLS 1.0 and 1.1 are refused, 1.2 and 1.3 taken"):
                for version, taken in (("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
                    said = place.run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", HOSTS[0], version, "-cipher",
                                     "DEFAULT@SECLEVEL=0", accept=None)
                    expect(("Cipher is (NONE)" not in said and "BEGIN CERT" in said) == taken, version, said[-800:])
            with tally.step(f"{port}: HTTP/2 and HTTP/1.1, with the headers that keep browsers safe"):
                for flag, version in (("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")):
                    for path in ("/", "/api/v1/health", "/nothing", "/api/v1/nodes"):
                        got = place.ask(path, flag, port=port)
                        expect(got.version == version, got.version)
                        for name, value in (("strict-transport-security", "max-age="), ("x-content-type-options", "nosniff"),
                                            ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer"),
                                            ("content-security-policy", "default-src")):
                            expect(value in got.headers.get(name, ""), path, name, got.headers)
                        expect("nginx/" not in got.headers.get("server", ""), got.headers)
        with tally.step("no compression, no resumption, and neither RC4, CBC nor RSA key exchange"):
            for cipher in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
                said = place.run("openssl", "s_client", "-connect", "127.0.0.1:443", "-tls1_2", "-cipher", cipher, accept=None)
                expect("Cipher is (NONE)" in said or "BEGIN CERT" not in said, cipher, said[-300:])
        with tally.step("/metrics wants a token, and gives Prometheus' text"):
            place.ask("/metrics").is_status(401)
            got = place.ask("/metrics", token=token).is_status(200)
            expect(got.headers["content-type"].startswith("text/plain") and "# TYPE" in got.body, got.headers)
        with tally.step("an event stream arrives unbuffered, over HTTP/1.1 and HTTP/2, within a second"):
            for flag in ("--http1.1", "--http2"):
                out = place.folder / f"stream{flag}"
                words = ["curl", "-sSN", flag, "--max-time", 20, "--cacert", place.ca, "--resolve", "repo.grid.example:443:127.0.0.1", "-o", out,
                         "-H", f"Authorization: Bearer {token}", "https://repo.grid.example/api/v1/events/stream"]
                child = place.start(*words)
                time.sleep(0.7)
                node = place.node()
                began = time.monotonic()
                place.command("node", "remove", node[0])
                wait_for("the change in the stream", lambda o=out, n=node: o.exists() and n[0] in o.read_text(), 3, 0.02)
                expect(time.monotonic() - began < 2.0, f"{time.monotonic() - began} s with the command itself")
                child.terminate()
        with tally.step("problems of nginx and of the API are problem details alike"):
            for path in ("/nothing", "/api/v1/nothing", "/v2/"):
                got = place.ask(path)
                expect(got.headers["content-type"].startswith("application/problem+json") and got.json["status"] == got.status, path, got.headers)


# ---- gridplane check ----

def check(tally, build):
    with Place(build, "k") as place:
        for text, words in (("[broker]\nurl = mqtt://broker.example\n", "mqtts://"), ("[broker]\nurl = mqtts://\n", "not a broker's URL"),
                            ("[broker]\nurl = mqtts://a:b:c\n", "not a broker's URL"), ("[broker]\nurl = mqtts://broker.example/x\n", "not a broker's URL"),
                            ("[broker]\nurl = mqtts://broker.example\n", "certificate, key and root-ca"),
                            ("[broker]\nnodes = broker.example\n", "url"), ("[registry]\nurl = ftp://x\n", "not a registry's URL"),
                            ("[registry]\nurl = https://registry.example/path\n", "not a registry's URL"),
                            ("[registry]\nurl = https://registry.example\nkey = x\n", "belong together"),
                            ("[proxy]\nexternal = maybe\n", "yes or no"), ("[proxy]\nurl = x\n", "url")):
            with tally.step(f"check refuses: {text.strip().splitlines()[-1]} ({words})"):
                place.write_conf(text)
                said = place.findings(status=78)[0][1]
                expect(words in said and "gridplane.conf" in said, said)
        with tally.step("check names hosts that cannot be looked up, and files that are missing, as what keeps it from starting"):
            place.write_conf("[registry]\nurl = https://registry.invalid\n")
            place.says("part.unknown", "registry.invalid", status=1)
            place.write_conf("[registry]\nurl = https://localhost:5443\nroot-ca = /nonexistent.pem\n")
            place.says("certificate.unreadable", "/nonexistent.pem", status=1)
        with tally.step("check leaves nothing behind"):
            expect(not place.state.exists() and not place.run_folder.exists())


PARTS = {"broker": broker, "certificates": certificates, "registry": registry, "users": users, "https": https, "proxy": proxy, "check": check}


def main():
    build, wanted = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:] or list(PARTS)
    tally = Tally()

    def one(name):
        with tally.step(f"{name} from its beginning to its end"):
            PARTS[name](tally, build)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(one, wanted))
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
