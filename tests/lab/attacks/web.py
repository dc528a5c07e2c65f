"""Attacks on the HTTP side: real nginx before the real API."""

import json
import re
import socket
import threading
import time
import urllib.parse

from plane_site import Node, wait_for

from . import mqtt, pki
from .world import Witness

REPO = "198.51.100.20", 443
CONTROL_443 = "198.51.100.21", 443
HOST = mqtt.HOST
STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d) ")


def exchange(site, data, address=CONTROL_443, host=HOST, seconds=3, credentials=None):
    """Whatever comes back for these bytes, until the server closes or is silent."""
    connection = mqtt.tls_socket(site, credentials and credentials.certificate, credentials and credentials.key,
                                 alpn=("http/1.1",), address=address, host=host)
    got, end = b"", time.monotonic() + seconds
    try:
        connection.sendall(data)
        while time.monotonic() < end:
            connection.settimeout(max(0.05, end - time.monotonic()))
            more = connection.recv(65536)
            if not more:
                break
            got += more
    except OSError:
        pass
    finally:
        connection.close()
    return got


def statuses(data):
    return [int(found) for found in STATUS.findall(data)]


def request(path, *headers, method="GET", host=HOST, close=True, body=b""):
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def side_by_side(function, things):
    results, threads = {}, []

    def one(name, thing):
        try:
            results[name] = function(thing)
        except OSError as error:
            results[name] = error

    for name, thing in things.items():
        threads.append(threading.Thread(target=one, args=(name, thing)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return results


# --- a thousand wrong registrations ---

def enrolment(folder, token):
    key = pki.new_key(folder / "csr.key")
    pki.openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", folder / "csr.pem")
    return {"schema": 1, "token": token, "csr": (folder / "csr.pem").read_text()}


def try_tokens(site, body, count, *headers):
    """Statuses of so many wrong registrations over one connection."""
    connection = mqtt.tls_socket(site, alpn=("http/1.1",), address=REPO, host="repo.grid.example", timeout=10)
    found, got = [], b""
    for number in range(count):
        data = json.dumps({**body, "token": f"{body['token'][:-8]}{number:08d}"}).encode()
        connection.sendall(request("/api/v1/node/register", "Content-Type: application/json", f"Content-Length: {len(data)}",
                                   *headers, method="POST", host="repo.grid.example", close=False, body=data))
        while True:
            head, separator, rest = got.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if separator and length and len(rest) >= int(length[1]):
                found.append(statuses(head)[0])
                got = rest[int(length[1]):]
                break
            more = connection.recv(65536)
            if not more:
                return found
            got += more
    connection.close()
    return found


def registrations(scenario):
    site = scenario.site
    witness = Witness(site)
    waiting = Node(site, "newcomer", site.folder / "newcomer-root")
    (waiting.root / "etc/gridnode").mkdir(parents=True)
    (waiting.root / "etc/gridnode/site.conf").write_text("[node]\nname = newcomer\n[wan]\ninterface = eth1\naddress = none\n"
                                                         "dns = 198.51.100.53\n")
    token = site.folder / "newcomer.token"
    site.plane("node", "create", "newcomer", "--output", token)
    body = enrolment(site.folder, "gnt_" + "x" * 40)
    began = time.monotonic()
    results = side_by_side(lambda n: try_tokens(site, body, 125), {n: n for n in range(8)})
    spoofed = try_tokens(site, body, 20, "X-Forwarded-For: 203.0.113.77", "X-Real-IP: 203.0.113.77",
                         "Forwarded: for=203.0.113.77")
    wrong = [status for result in results.values() if isinstance(result, list) for status in result]
    broken = [result for result in results.values() if not isinstance(result, list)]
    took = time.monotonic() - began
    scenario.check("a thousand wrong tokens are all refused", broken or [s for s in wrong if s not in (400, 404, 429)] or (
        "" if len(wrong) == 1000 else f"{len(wrong)} answers"))
    asked = len([s for s in wrong if s != 429])
    scenario.check(f"all but some at the beginning unseen: {asked} were looked at in {took:.0f} s",
                   "" if 1 <= asked <= 10 + took / 5 else asked)
    scenario.check("who says that he is another address is the same one", [s for s in spoofed if s != 429][took > 6:])
    scenario.run = site.run("lan", site.gridnode, "register", "https://repo.grid.example", "--token-file", token, "--root-ca",
                            site.state / "node/grid-root.pem", "--root", waiting.root, accept=None)
    scenario.check("a right one from another address is taken meanwhile",
                   "" if (waiting.state / "identity.json").exists() else scenario.run)
    lines = scenario.lines("registration", "refused")
    scenario.check("logged once a minute", lines if len(lines) not in (1, 2) else "")
    scenario.check("the witness is heard", witness.is_heard() or scenario.is_same_plane())
    witness.end(scenario.tally, scenario.name)


# --- smuggling ---

def api_replies(site):
    text = site.run("inet", "curl", "-s", "--unix-socket", site.plane_root / "run/gridplane/admin.sock", "http://x/metrics")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("gridplane_http_replies_total"))


def smuggled():
    """Byte streams that two servers might cut in different places; each hides a second request in the first."""
    hidden = request("/api/v1/health", "X-Hidden: yes")
    chunks = b"0\r\n\r\n" + hidden

    def post(*headers, body=chunks):
        return request("/api/v1/session", "Content-Type: application/json", *headers, method="POST", close=False, body=body)

    length, chunked = f"Content-Length: {len(chunks)}", "Transfer-Encoding: chunked"
    return {
        "CL.TE": post(length, chunked), "TE.CL": post(chunked, "Content-Length: 4", body=b"5c\r\n" + chunks),
        "two lengths": post("Content-Length: 5", length), "two equal lengths": post(length, length),
        "a length with a sign": post(f"Content-Length: +{len(chunks)}"), "a length with a blank": post("Content-Length: 5 5"),
        "a negative length": post("Content-Length: -1"), "a hexadecimal length": post("Content-Length: 0x5"),
        "a huge length": post("Content-Length: 99999999999999999999999"),
        "TE with a blank": post(length, "Transfer-Encoding : chunked"), "TE with a tab": post(length, "Transfer-Encoding:\tchunked"),
        "TE obscured": post(length, "Transfer-Encoding: xchunked"), "TE twice": post(length, chunked, "Transfer-Encoding: identity"),
        "TE in a list": post(length, "Transfer-Encoding: identity, chunked"), "TE folded": post(length, "X: y\r\n Transfer-Encoding: chunked"),
        "TE folded at its value": post(length, "Transfer-Encoding:\r\n chunked"),
        "TE after a vertical tab": post(length, "Transfer-Encoding: \vchunked"), "TE with quotes": post(length, 'Transfer-Encoding: "chunked"'),
        "TE after a bare CR": post(length, "X: y\rTransfer-Encoding: chunked"), "TE after a bare LF": post(length, "X: y\nTransfer-Encoding: chunked"),
        "TE with a NUL": post(length, "Transfer-Encoding: chun\0ked"), "TE underscored": post(length, "Transfer_Encoding: chunked"),
        "a chunk too long": post(chunked, body=b"ffffffffffffffff1\r\n" + chunks),
        "a chunk with a sign": post(chunked, body=b"-1\r\nx\r\n" + chunks),
        "a chunk that ends with a bare LF": post(chunked, body=b"1\nx\n0\n\n" + hidden),
        "bare LF everywhere": post(length).replace(b"\r\n", b"\n"),
        "a body on GET": request("/api/v1/health", f"Content-Length: {len(hidden)}", close=False, body=hidden),
        "HTTP/0.9": b"GET /api/v1/health\r\n" + hidden, "HTTP/1.0 with chunks": post(length, chunked).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "HTTP/2.0 in words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
        "an upgrade": request("/api/v1/health", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk",
                              close=False, body=hidden),
        "a blank before the first line": b" " + hidden, "lines before the first": b"\r\n\r\n" + hidden,
        "a line in the path": request("/api/v1/health%0d%0aX-Client-Verify:%20SUCCESS", close=False) + hidden,
    }


def smuggling(scenario):
    """However a stream is cut, the API gets no more requests than nginx says that it passed on."""
    site = scenario.site
    witness = Witness(site)
    log = site.plane_root / "var/lib/gridplane/log/access.log"

    def passed():
        time.sleep(1.2)  # nginx writes once a second
        return [line for line in map(json.loads, log.read_text().splitlines()) if line["upstream_s"] not in ("", "-")]

    before, replies = len(passed()), api_replies(site)
    results = side_by_side(lambda data: exchange(site, data), smuggled())
    replied = api_replies(site) - replies - 1
    lines = passed()[before:]
    scenario.check("the API answered as many requests as nginx passed on",
                   "" if replied == len(lines) and lines else f"{replied} answers, {len(lines)} in nginx's log")
    scenario.check("none that was hidden came as another", [line for line in lines if line["uri"] not in
                                                          ("/api/v1/session", "/api/v1/health") and "%0d" not in line["uri"]])
    hard = ("CL.TE", "TE.CL", "two lengths", "a length with a sign", "a length with a blank", "a negative length", "TE twice",
            "a hexadecimal length", "a huge length", "TE obscured", "TE in a list", "TE with quotes", "a chunk too long",
            "a chunk with a sign", "TE with a NUL", "TE folded at its value", "HTTP/1.0 with chunks", "TE after a vertical tab")
    scenario.check("what is cut in two ways is cut off at its beginning",
                   {name: statuses(results[name]) for name in hard if not isinstance(results[name], bytes)
                    or len(statuses(results[name])) > 1 or any(s < 400 for s in statuses(results[name]))})
    pipelined = statuses(exchange(site, request("/api/v1/health", close=False) * 3 + request("/api/v1/health")))
    scenario.check("pipelined requests are answered in order, one each", "" if pipelined == [200] * 4 else pipelined)
    forged_headers(scenario, witness)
    paths(scenario)
    hosts(scenario)
    scenario.check("the witness is heard", witness.is_heard() or scenario.is_same_plane())
    scenario.check("nothing of it fills the plane's log", [len(scenario.lines(""))] if len(scenario.lines("")) > 40 else "")
    witness.end(scenario.tally, scenario.name)


def forged_headers(scenario, witness):
    """What only nginx may say, said by a client."""
    site = scenario.site
    certificate = urllib.parse.quote(witness.node.certificate.read_text().split("-----END CERTIFICATE-----")[0]
                                     + "-----END CERTIFICATE-----\n", safe="")
    pair = [f"X-Client-Certificate: {certificate}", "X-Client-Verify: SUCCESS"]
    forms = {
        "plain": pair, "twice": pair * 2, "lower case": [h.lower().replace("success", "SUCCESS") for h in pair],
        "underscores": [h.replace("X-Client-", "X_Client_") for h in pair], "a blank before the colon": [h.replace(":", " :", 1) for h in pair],
        "folded": ["X: y\r\n " + pair[0], "X: y\r\n " + pair[1]], "in Connection": [*pair, "Connection: X-Client-Verify, X-Client-Certificate"],
        "after a bare CR": [f"X: y\r{pair[0]}\r{pair[1]}"], "after a bare LF": [f"X: y\n{pair[0]}\n{pair[1]}"],
        "as trailers": [*pair, "Trailer: X-Client-Verify", "TE: trailers"],
    }
    results = side_by_side(lambda headers: statuses(exchange(site, request("/api/v1/node/config", *headers))), forms)
    scenario.check("a certificate that a client only tells of is none", {name: s for name, s in results.items()
                                                                        if s not in ([400], [401])})
    own = statuses(exchange(site, request("/api/v1/node/config"), credentials=witness.node))
    scenario.check("and the one that it has is", "" if own in ([200], [204]) else own)
    site.run("inet", "curl", "-s", "--unix-socket", site.plane_root / "run/gridplane/admin.sock", "-H",
             "Content-Type: application/json", "-d", '{"name":"acme"}', "http://x/api/v1/organisations")
    token = site.plane("token", "add", "reader", "--role", "viewer").split()[-1]
    answer = exchange(site, request("/api/v1/nodes", f"Authorization: Bearer {token}", "X-Organisation: acme"))
    scenario.check("nor does a client choose an organisation", "" if statuses(answer) == [200] and b"witness" in answer else answer[:300])
    answers = side_by_side(lambda headers: statuses(exchange(site, request("/api/v1/users", *headers))), {
        "none": [], "an administrator's name": ["X-Remote-User: admin", "Remote-User: root", "X-Forwarded-User: root"],
        "local": ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"],
        "a cookie": ["Cookie: gridplane=../../etc/passwd; gridplane=" + "a" * 4000], "no token": ["Authorization: Bearer gpt_"],
        "a token with NUL": ["Authorization: Bearer gpt_\0" + "a" * 40], "a viewer's": [f"Authorization: Bearer {token}"],
    })
    scenario.check("nor who he is", {name: s for name, s in answers.items() if s not in ([400], [401], [403])})


def paths(scenario):
    site = scenario.site
    those = ["/internal/registry", "//internal/registry", "/%69nternal/registry", "/internal%2fregistry", "/./internal/registry",
             "/api/../internal/registry", "/api/v1/../../internal/registry", "/api/%2e%2e/internal/registry", "/api/%2E%2E/internal/registry",
             "/api/..%2finternal/registry", "/api/.%2e/internal/registry", "/api//../internal/registry", "/v2/../internal/registry",
             "/v2/%2e%2e/internal/registry", "/api/v1/nodes/..%2f..%2f..%2finternal%2fregistry", "/api/..;/internal/registry",
             "/api/v1/%252e%252e/%252e%252e/internal/registry", "/api/\\..\\internal\\registry", "/internal/registry%00", "/INTERNAL/registry",
             "/.well-known/../internal/registry", "/api/v1/events/../../../internal/registry", "/api/v1/x/stream/../../../../internal/registry",
             "/internal/registry?x=/api/", "/internal/registry/", "/internal;/registry", "/api/%c0%ae%c0%ae/internal/registry",
             "/api/v1/../../../../../../etc/passwd", "/.well-known/gridnode/../../../etc/passwd", "/.problem/400", "/.problem/414",
             "/.well-known/gridnode/payload/../../nginx.conf", "/.well-known/gridnode/root.pem/../../ca/root/root.key",
             "/" + "a/" * 4000, "/api/v1/nodes/" + "%41" * 3000, "/api/v1/health?" + "a" * 20000, "*", "/api/v1/health#x", "/api/v1/health\x7f",
             "/api/v1/he\xe4lth"]
    results = side_by_side(lambda path: exchange(site, request(path, "X-Original-URI: /v2/", "X-Original-Method: GET")), dict(zip(those, those)))
    scenario.check("no way of writing it leads inside", {path[:60]: data if not isinstance(data, bytes) else statuses(data)
                                                        for path, data in results.items() if not isinstance(data, bytes)
                                                        or statuses(data) not in ([400], [401], [404], [414]) and "#x" not in path})
    inside = {path: data for path, data in results.items() if isinstance(data, bytes)
              and statuses(data) == [401] and "internal" in path and not path.startswith("/v2")}
    scenario.check("the judge of the registry is not asked from outside", inside)
    scenario.check("no file comes out", [path for path, data in results.items() if isinstance(data, bytes)
                                         and (b"root:" in data or b"PRIVATE KEY" in data or b"server {" in data)])


def hosts(scenario):
    site = scenario.site
    streams = {
        "no host": (request("/api/v1/health", host=None), 400), "another's": (request("/api/v1/health", host="evil.example"), 421),
        "two": (request("/api/v1/health", "Host: evil.example"), 400), "an address": (request("/api/v1/health", host="198.51.100.21"), 421),
        "absolute": (request("https://evil.example/api/v1/health"), 421), "with a user": (request("/", host=f"a@{HOST}"), 400),
        "with a slash": (request("/", host=f"{HOST}/api"), 400), "with a port": (request("/api/v1/health", host=f"{HOST}:443"), 200),
        "in capitals": (request("/api/v1/health", host=HOST.upper()), 200), "empty": (request("/api/v1/health", host=""), 400),
        "with a blank": (request("/", host="a b"), 400), "underscore": (request("/", host="_"), 421),
        "absolute, and another host": (request(f"https://{HOST}/api/v1/health", host="evil.example"), 200),
        "CONNECT": (request("evil.example:443", method="CONNECT"), 405), "TRACE": (request("/api/v1/health", method="TRACE"), 405),
        "a method of its own": (request("/api/v1/health", method="DEBUG"), 405),
    }
    results = side_by_side(lambda stream: statuses(exchange(site, stream[0])), streams)
    # What nginx refuses is refused: 400 and 421 are the same to us.
    scenario.check("only our own names are answered", {
        name: (results[name], wanted) for name, (_, wanted) in streams.items()
        if results[name] != [wanted] and not (wanted != 200 and results[name] in ([400], [405], [421], [404]))})


# --- slowly ---

def slow(scenario):
    """Hundreds of clients that send a byte at a time."""
    site = scenario.site
    witness = Witness(site)
    over, connections = [], []
    for number in range(300):
        with mqtt.Namespace(site, "node"):
            plain = socket.create_connection(REPO if number % 2 else mqtt.CONTROL, 5)
        connections.append(plain)  # says nothing at all, or not a whole ClientHello
        if number % 3 == 0:
            plain.sendall(b"\x16\x03\x01\x02\x00\x01")
    opened = list(side_by_side(lambda _: mqtt.tls_socket(site, alpn=("http/1.1",), address=REPO, host="repo.grid.example"),
                               {number: number for number in range(120)}).values())
    heads, bodies = opened[:60], opened[60:]
    for connection in heads:
        connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: repo.grid.example\r\nX: ")
    for connection in bodies:
        connection.sendall(request("/api/v1/node/register", "Content-Type: application/json", "Content-Length: 9000", method="POST",
                                   host="repo.grid.example", close=False, body=b"{"))
    began, slowest = time.monotonic(), 0.0
    for connection in (*connections, *heads, *bodies):
        connection.setblocking(False)
    while time.monotonic() < began + 14:
        for connection in heads:
            try:
                connection.send(b"a")
            except OSError:
                pass
        asked = time.monotonic()
        if statuses(exchange(site, request("/api/v1/health"))) != [200]:
            over.append(f"no answer after {asked - began:.0f} s")
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.5)
    scenario.check(f"others are answered meanwhile, in {slowest:.2f} s at most", over or slowest > 2)
    scenario.check("the witness is heard", witness.is_heard() or scenario.is_same_plane())
    scenario.check("heads that do not end are cut off within 14 s", sum(map(is_open, heads)))
    try:
        wait_for("silent connections are closed", lambda: not any(map(is_open, connections)), 50, 0.5)
        silent = 0
    except Exception:  # counted below
        silent = sum(map(is_open, connections))
    scenario.check("who says nothing is cut off within a minute", silent and f"{silent} of 300 are open")
    try:
        wait_for("bodies", lambda: not any(map(is_open, bodies)), 15, 0.5)
        left = 0
    except Exception:  # as above
        left = sum(map(is_open, bodies))
    scenario.check("bodies that do not come as well", left)
    for connection in (*connections, *heads, *bodies):
        connection.close()
    witness.end(scenario.tally, scenario.name)


def is_open(connection):
    try:
        return bool(connection.recv(4096)) and is_open(connection)
    except (BlockingIOError, mqtt.ssl.SSLWantReadError):
        return True
    except OSError:
        return False


SCENARIOS = {"registrations": registrations, "smuggling": smuggling, "slow": slow}
