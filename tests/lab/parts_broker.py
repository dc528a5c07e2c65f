"""An outside broker with a real node, for test_parts.py: a mosquitto that its operator wrote by gridplane.conf(5)."""

import contextlib
import json
import os
import pathlib
import pwd
import signal
import subprocess
import time

import parts_place
import plane_site
from parts_place import Authority, expect, openssl, wait_for

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
