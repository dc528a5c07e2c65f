"""Nodes that do what they may not, at the broker: real mosquitto behind real nginx."""

import json
import time

from plane_site import Failed, wait_for

from . import mqtt, pki
from .world import Scenario, Witness

NOT_AUTHORISED = 0x87
TRIES = 2000  # of the same, one after another
KINDS = ("status", "event", "report", "config/applied", "out/r-1")


def event(epoch, seq, **more):
    return json.dumps({"schema": 1, "epoch": epoch, "seq": seq, "generated": "2026-11-21T10:00:00.000Z", "name": "Forged",
                       "message": "forged", "severity": "ERROR", **more})


def bad_payloads(epoch):
    """What no parser must stumble over, by name."""
    good = json.loads(event(epoch, 9000))

    def but(**more):
        return json.dumps({**good, **more})

    return {
        "nothing": b"\0", "no JSON": b"{", "invalid UTF-8": b'{"schema":1,"epoch":"\xff\xfe","seq":1}',
        "invalid UTF-8 in a message": but(message="M").encode().replace(b'"M"', b'"\xc3\x28"'),
        "a NUL": but(message="a\0b"), "deep nesting": b"[" * 100000, "deep objects": b'{"a":' * 50000,
        "a deep member": b'{"schema":1,"x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        "a huge number": but(seq=1).encode().replace(b'"seq": 1', b'"seq": 1e400'),
        "a long number": but(seq=1).encode().replace(b'"seq": 1', b'"seq": ' + b"9" * 5000),
        "number 0": but(seq=0), "number -1": but(seq=-1), "number 2^63": but(seq=2**63), "number 2^64": but(seq=2**64),
        "number 1.5": but(seq=1.5), "number as text": but(seq="1"), "the plane's epoch": but(epoch="plane"),
        "an epoch with a slash": but(epoch="a/b"), "a long epoch": but(epoch="e" * 500), "no epoch": but(epoch=None),
        "no name": but(name=""), "a name that is a list": but(name=[1]), "a long message": but(message="x" * 70000),
        "another schema": but(schema=2**40), "a severity of its own": but(severity="FATAL"),
        "a time of its own": but(generated="yesterday"), "a time in the year 0": but(generated="0000-00-00T00:00:00Z"),
        "a list": b"[]", "a number": b"1", "a text": b'"x"', "null": b"null", "twice the same": b'{"schema":1,"schema":1}',
        "a byte order mark": b"\xef\xbb\xbf{}", "half a message": b'{"schema":1,"epoch":"e',
    }


def topics(scenario):
    """Another's topics, everybody's topics, another's name."""
    site = scenario.site
    witness = Witness(site)
    victim, attacker = witness.node, site.new_node("attacker")
    client = mqtt.Client.over_tls(site, attacker)
    before = site.plane_rows("SELECT count(*) FROM events WHERE name = 'Forged'")
    reasons = {kind: client.publish(f"node/{victim.id}/{kind}", event(victim.epoch(), 1 << 40), retain=kind == "status")
               for kind in (*KINDS, "ack", "config", "request")}
    scenario.check("nobody publishes to another's topics",
                   {kind: reason for kind, reason in reasons.items() if reason not in (NOT_AUTHORISED, None)})
    own = {kind: client.publish(f"node/{attacker.id}/{kind}", b"{}") for kind in ("ack", "config", "request")}
    others = {topic: client.publish(topic, b"{}") for topic in
              ("node", "plane", "x", f"node/{attacker.id}", f"node//{attacker.id}/event", f"/node/{attacker.id}/event",
               f"node/{attacker.id}/event/more", f"$share/a/node/{victim.id}/ack", f"node/{victim.id.upper()}/event")}
    scenario.check("nor where only the plane may, nor where nobody may",
                   {topic: reason for topic, reason in {**own, **others}.items() if reason not in (NOT_AUTHORISED, None)})
    denied = sum(reason == NOT_AUTHORISED for reason in [*reasons.values(), *own.values(), *others.values()])
    told_once(scenario, client, attacker, victim, denied)
    scenario.check("nothing of it is stored", before != site.plane_rows("SELECT count(*) FROM events WHERE name = 'Forged'"))

    listener = mqtt.Client.over_tls(site, attacker)  # the former connection is taken over
    for topic in ("#", "+/#", "node/#", "node/+/event", f"node/{victim.id}/#", f"node/{victim.id}/ack", "$SYS/#",
                  f"$share/a/node/{victim.id}/ack", "$share/a/#", "node/+/status"):
        listener.subscribe(topic)
    listener.listen(2)
    scenario.check("who subscribes to everything hears of nobody else",
                   [topic for topic, _ in listener.messages if not topic.startswith(f"node/{attacker.id}/")])
    listener.close()

    # The payload says that it is another's; the number is one that the victim will come to.
    client = mqtt.Client.over_tls(site, attacker, client=victim.id)
    client.publish(f"node/{attacker.id}/event", event("e-own", 1, node=victim.id, id=f"{victim.id}.e.1", organisation="other"))
    wait_for("the event of the attacker", lambda: site.plane_rows("SELECT 1 FROM events WHERE epoch = 'e-own'"), 5)
    scenario.check("an id in a payload is nobody's: the certificate's counts",
                   site.plane_rows("SELECT node FROM events WHERE epoch = 'e-own'") != [(attacker.id,)])
    scenario.check("another's client id is not had either: the victim stays connected", witness.is_heard()
                   or [line for line in victim.words().splitlines() if "waiting" in line][1:])
    client.close()
    foreign_organisation(scenario, victim)
    scenario.check("the control plane ran on", scenario.is_same_plane())
    scenario.check("the stranger is told once, too",
                   (lambda lines: lines if len(lines) != 1 else "")(scenario.lines("published where it may not", f"topic=node/{victim.id}/event")))
    scenario.check("refused in the log once", [line for line in scenario.lines("refused a message")][1:])
    witness.end(scenario.tally, scenario.name)


def told_once(scenario, client, attacker, victim, denied):
    """However often it tries: one line that names who and where, each of them counted, and none in a log of its own."""
    site = scenario.site
    for _ in range(TRIES):
        client.publish(f"node/{victim.id}/event", b"{", wait=False)
    last = client.publish(f"node/{victim.id}/event", b"{")
    denied += TRIES + 1
    scenario.check(f"{TRIES} more of them are refused, too", "" if last == NOT_AUTHORISED else str(last))
    try:
        wait_for(f"{denied} of them are counted", lambda: metric(site, "gridplane_messages_denied_total") == denied, 10)
        words = ""
    except Failed as failure:
        words = f"{failure}: {metric(site, 'gridplane_messages_denied_total')}"
    scenario.check("each is counted", words)
    lines = scenario.lines("published where it may not", f"node={attacker.id} ")
    scenario.check("the log tells it once, and where it tried first",
                   "" if len(lines) == 1 and f"topic=node/{victim.id}/status" in lines[0] else lines or "not at all")
    log = (site.plane_root / "var/lib/gridplane/log/mosquitto.log").read_text(errors="replace")
    scenario.check("the broker's own log says nothing of messages",
                   [line for line in log.splitlines() if "PUBLISH" in line or "PUBACK" in line or "CONNACK" in line])


def metric(site, name):
    text = site.run("inet", "curl", "-s", "--unix-socket", site.plane_root / "run/gridplane/admin.sock", "http://x/metrics")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))


def foreign_organisation(scenario, victim):
    """A node of another organisation: its certificate is good, and opens nothing of ours."""
    site = scenario.site
    admin = ["curl", "-s", "--unix-socket", site.plane_root / "run/gridplane/admin.sock", "-H", "Content-Type: application/json"]
    site.run("inet", *admin, "-d", '{"name":"acme"}', "http://x/api/v1/organisations")
    stranger = site.new_node("stranger", organisation="acme")
    client = mqtt.Client.over_tls(site, stranger)
    reason = client.publish(f"node/{victim.id}/event", event(victim.epoch(), 1 << 40))
    scenario.check("a node of another organisation does not publish to ours", "" if reason == NOT_AUTHORISED else str(reason))
    client.publish(f"node/{stranger.id}/event", event("e-theirs", 1, organisation="default", node=victim.id))
    wait_for("the event of the other organisation", lambda: site.plane_rows("SELECT 1 FROM events WHERE epoch = 'e-theirs'"), 5)
    client.close()
    ours, theirs = (json.loads(site.plane("event", "list", "--json", *org))["items"] for org in ((), ("--org", "acme")))
    scenario.check("what it tells is seen in its own organisation only",
                   [e for e in ours if e["node"] == stranger.id] or not [e for e in theirs if e["node"] == stranger.id])
    scenario.check("and it sees no node of ours there", [e for e in theirs if e["node"] != stranger.id])


def payloads(scenario):
    """Every kind of garbage below one's own topics, and more than is taken."""
    site = scenario.site
    witness = Witness(site)
    attacker = site.new_node("attacker")
    before = site.plane_rows("SELECT count(*) FROM events WHERE node = ?", attacker.id)
    client = mqtt.Client.over_tls(site, attacker)
    bad = bad_payloads("e-own")
    for kind in KINDS:
        for payload in bad.values():
            if client.publish(f"node/{attacker.id}/{kind}", payload) is None:
                client = mqtt.Client.over_tls(site, attacker)
    scenario.check(f"garbage of {len(bad)} kinds on {len(KINDS)} topics stops nobody", scenario.is_same_plane() or witness.is_heard())
    scenario.check("nothing of it is stored", before != site.plane_rows(
        "SELECT count(*) FROM events WHERE node = ? AND epoch <> 'plane'", attacker.id))
    client.listen(0.5)
    acks = [json.loads(payload) for topic, payload in client.messages if topic.endswith("/ack")]
    listener = mqtt.Client.over_tls(site, attacker)
    listener.subscribe(f"node/{attacker.id}/ack")
    listener.publish(f"node/{attacker.id}/event", json.dumps({**json.loads(event("e-own", 77)), "severity": "FATAL"}))
    listener.publish(f"node/{attacker.id}/event", event("plane", 78))
    listener.listen(2, lambda: len(listener.messages) >= 2)
    acks = [json.loads(payload) for topic, payload in listener.messages if topic.endswith("/ack")]
    scenario.check("what has a number is refused by it, so that it is not sent for ever",
                   [] if sorted(seq for ack in acks for seq in ack["refused"]) == [77, 78] else acks)
    for _ in range(300):
        listener.publish(f"node/{attacker.id}/event", b"{", wait=False)
    listener.listen(1)
    scenario.check("logged once a minute a node, however many come",
                   (lambda lines: lines if len(lines) not in (1, 2) else "")(scenario.lines("refused a message of a node", attacker.id)))
    broken = oversized(site, attacker)
    scenario.check("a megabyte ends the connection that sent it, and nothing else", broken or scenario.is_same_plane())
    broken = broken_packets(site, attacker)
    scenario.check("what is not MQTT ends the connection that sent it, and nothing else", broken or scenario.is_same_plane())
    scenario.check("the witness is heard after all of it", witness.is_heard())
    scenario.check("the log has not grown", [len(scenario.lines(""))] if len(scenario.lines("")) > 40 else "")
    witness.end(scenario.tally, scenario.name)


def oversized(site, node):
    """Those of a size beyond the limit that were taken."""
    taken = []
    for size in (530_000, 1 << 20, 16 << 20):
        client = mqtt.Client.over_tls(site, node)
        reason = client.publish(f"node/{node.id}/event", b"x" * size)
        if reason == 0:
            taken.append(size)
        client.close()
    return taken


def broken_packets(site, node):
    """Those after which the broker went on listening."""
    hello = mqtt.connect_packet(node.id)
    topic = mqtt.text(f"node/{node.id}/event")
    streams = {
        "nonsense": b"GET / HTTP/1.1\r\n\r\n", "no CONNECT": mqtt.packet(0x32, topic + b"\0\1\0{}"), "two CONNECTs": hello + hello,
        "a length without an end": b"\x10\xff\xff\xff\xff\xff", "a packet of no kind": hello + b"\x00\x00",
        "a topic with a wildcard": hello + mqtt.packet(0x30, mqtt.text("node/+/event") + b"\0{}"),
        "a topic that is no UTF-8": hello + mqtt.packet(0x30, mqtt.text(b"node/\xff\xfe") + b"\0{}"),
        "a topic longer than its packet": hello + mqtt.packet(0x30, b"\xff\xffabc"),
        "QoS 3": hello + mqtt.packet(0x36, topic + b"\0\1\0{}"),
    }
    deaf = []
    for name, data in streams.items():
        client = mqtt.Client(mqtt.tls_socket(site, node.certificate, node.key))
        try:
            client.send(data)
            client.listen(3)
            deaf.append(name)
        except OSError:
            pass
        client.close()
    return deaf


def certificates(scenario):
    """Certificates of others, at the broker and at the API."""
    site, folder = scenario.site, scenario.site.folder
    witness = Witness(site)
    ca = site.plane_root / "var/lib/gridplane/ca"
    authority = pki.Credentials(ca / "intermediate-1.crt", ca / "intermediate-1.key")
    chain = authority.certificate.read_bytes()
    organisation = site.plane_rows("SELECT organisation FROM nodes WHERE id = ?", witness.node.id)[0][0]
    name = f"/O={organisation}/CN={witness.node.id}"
    stranger = pki.self_signed(folder, "stranger", "/O=Other/CN=Root", is_authority=True)
    removed = site.new_node("removed")
    scenario.check("a node comes in with its own certificate", pki.mqtt_refusal(site, removed))
    site.plane("node", "remove", "removed")
    time.sleep(1.5)
    those = {
        "none": None,
        "one of another authority": pki.signed(folder, "foreign", name, stranger, chain=stranger.certificate.read_bytes()),
        "one signed by itself": pki.self_signed(folder, "own", name),
        "a revoked one": removed,
        "an expired one": pki.signed(folder, "old", name, authority, days=(-100, -1), chain=chain),
        "one that is not yet in force": pki.signed(folder, "new", name, authority, days=(1, 100), chain=chain),
        "the server's": pki.Credentials(ca / "server/gridplane.crt", ca / "server/gridplane.key"),
        "one for servers": pki.signed(folder, "server", name, authority, usage="serverAuth", chain=chain),
        "a node's, used as an authority": pki.signed(folder, "child", name, witness.node, chain=witness.node.certificate.read_bytes()),
    }
    refusals = {what: pki.mqtt_refusal(site, credentials) for what, credentials in those.items()}
    scenario.check("the broker refuses: " + ", ".join(those), [what for what, how in refusals.items() if not how])
    statuses = {what: config_status(site, credentials) for what, credentials in those.items()}
    scenario.check("the API refuses them, too",
                   {what: status for what, status in statuses.items() if status not in ("400", "401", "403")})
    scenario.check("and answers the node itself", config_status(site, witness.node) not in ("200", "204"))
    # Of our authority, and of nobody whom the plane knows: neither the broker's rights nor the API go by the name alone.
    unknown = pki.signed(folder, "unknown", f"/O={organisation}/CN=n-0000000000000000", authority, chain=chain)
    elsewhere = pki.signed(folder, "elsewhere", f"/O=o-0000000000000000/CN={witness.node.id}", authority, chain=chain)
    scenario.check("a good signature for a node that is not known opens no API",
                   [s for s in (config_status(site, unknown), config_status(site, elsewhere)) if s != "403"])
    scenario.check("the witness was not disturbed", witness.is_heard() or scenario.is_same_plane())
    scenario.check("refused certificates do not fill the log",
                   [line for line in scenario.lines("") if "ertificate" in line][3:])
    witness.end(scenario.tally, scenario.name)


def config_status(site, credentials):
    identity = ["--cert", credentials.certificate, "--key", credentials.key] if credentials else []
    return site.run("node", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", site.state / "node/grid-root.pem",
                    *identity, "--resolve", f"{mqtt.HOST}:8443:{mqtt.CONTROL[0]}", "--max-time", "8",
                    f"https://{mqtt.HOST}:8443/api/v1/node/config", accept=None).strip()


SCENARIOS = {"topics": topics, "payloads": payloads, "certificates": certificates}
__all__ = ["SCENARIOS", "Scenario"]
