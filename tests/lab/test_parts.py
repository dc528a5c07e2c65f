#!/usr/bin/python3
"""The parts of the control plane, each of them its own and each of them an outside one: broker, registry, proxy, user,
certificates. test_parts.py BUILD-FOLDER [PART...]

Real servers in network namespaces of their own; the broker with a real node in a lab. Needs root. Ends with the line
"N passed, N failed"."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import parts_place  # noqa: E402
from parts_broker import broker  # noqa: E402
from parts_certificates import certificates  # noqa: E402
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


def with_hosts(place, name, *lines):
    """What stands before a program that is to have these lines as its /etc/hosts."""
    hosts = place.folder / name
    hosts.write_text("".join(line + "\n" for line in lines))
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts]


def skopeo(place, *words, status=0):
    """With names of its own: nothing else on this machine is asked."""
    trust = place.folder / "trust"
    trust.mkdir(exist_ok=True)
    (trust / "ca.crt").write_bytes(place.ca.read_bytes())
    command = with_hosts(place, "hosts", "127.0.0.1 localhost " + " ".join(HOSTS)) + ["skopeo", "--insecure-policy", *words]
    done = subprocess.run(place.words(*command), capture_output=True, text=True, timeout=40, check=False)
    expect((done.returncode == 0) == (status == 0), f"skopeo ended with {done.returncode}:", done.stdout, done.stderr)
    return done.stdout + done.stderr


def images_pass(tally, place, name):
    """Push and pull, allowed and refused, as everybody who may come."""
    short = name.split()[0]
    image = place.folder / f"image-{short}"
    manifest, layer, layer_sha = parts_place.make_image(image)
    operator, viewer, other = place.token(f"push-{short}"), place.token(f"look-{short}", "viewer"), \
        place.token(f"acme-{short}", "operator", "acme")
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
        # One of its addresses has nothing that listens: as ::1 of localhost, or IPv6 that leads nowhere.
        place.serve(*with_hosts(place, "two-addresses", "127.0.0.2 localhost", "127.0.0.1 localhost"))
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
        with tally.step("no compression, and no resumption, which would outlive a revocation"):
            said = place.run("openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", HOSTS[0], "-tls1_2", "-reconnect", accept=None)
            expect(said.count("New, TLSv1.2") >= 5 and "Reused, " not in said and "Compression: NONE" in said, said[-1500:])
        with tally.step("neither CBC nor RSA key exchange"):
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
                place.command("node", "remove", node[0])
                wait_for("the change in the stream", lambda o=out, n=node: o.exists() and n[0] in o.read_text(), 1, 0.02)
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
        with tally.step("check names a key that [plane] user cannot read, and one that others can"):
            certificate, key = Authority(place.folder / "own").issue("gridplane")
            keys = f"[registry]\nurl = https://localhost:5443\ncertificate = {certificate}\nkey = {key}\n"
            place.write_conf(keys, "user = nobody\n")
            place.says("certificate.unreadable", "chown", "nobody", status=1)
            place.write_conf(keys)
            key.chmod(0o644)
            place.says("certificate.unreadable", "chmod 600", status=3)
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
