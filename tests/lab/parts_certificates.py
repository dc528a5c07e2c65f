"""Certificates that end while everything runs, for test_parts.py."""

import os
import pathlib
import signal
import time

from parts_place import Place, expect, openssl, wait_for


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
        running = mosquitto_of_before(place)
        with tally.step("with the root's key it is renewed; nodes of the old one and of the new one both work", needed=True):
            place.serve()
            expect((ca / "intermediate-2.crt").exists())
            new = place.node()
            chain = openssl("verify", "-CAfile", ca / "root.crt", "-untrusted", ca / "intermediate-2.crt", new[1])
            expect("OK" in chain, chain)
            works_with(place, old)
            works_with(place, new)
        with tally.step("a broker that runs since before takes nodes of the new one when it reads its files again"):
            pid = running(None)
            for node, taken in ((old, True), (new, False)):
                expect(speaks_at(place, node, 18899) == taken, "before", node)
            running(pid)
            for node in (old, new):
                wait_for("taken", lambda n=node: speaks_at(place, n, 18899), 5, 0.2)
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


def mosquitto_of_before(place):
    """gridplane's own mosquitto once more, with the files as they are now. What it returns gives the process, or, with that,
    brings the present list of revoked certificates and tells it."""
    folder = place.folder / "before"
    folder.mkdir()
    for name in ("bundle.crt", "revoked.crl", "server/gridplane.crt", "server/gridplane.key"):
        (folder / pathlib.Path(name).name).write_bytes((place.state / "ca" / name).read_bytes())
    (folder / "mosquitto.conf").write_text(
        f"user root\nlistener 18899 127.0.0.1\ncafile {folder}/bundle.crt\ncertfile {folder}/gridplane.crt\nkeyfile {folder}/gridplane.key\n"
        f"crlfile {folder}/revoked.crl\nrequire_certificate true\nuse_identity_as_username true\n")
    process = place.start("mosquitto", "-c", folder / "mosquitto.conf")

    def tell(pid):
        if pid is not None:
            (folder / "revoked.crl").write_bytes((place.state / "ca/revoked.crl").read_bytes())
            os.kill(pid, signal.SIGHUP)
        return process.pid

    return tell


def speaks_at(place, node, port):
    identity, certificate, key = node
    said = place.run("mosquitto_pub", "-V", "5", "-h", "localhost", "-p", port, "--cafile", place.ca, "--insecure", "--cert", certificate,
                     "--key", key, "-i", identity, "-t", "t", "-m", "x", "-d", accept=None)
    return "CONNACK (0)" in said


def works_with(place, node):
    place.ask("/v2/", "--cert", node[1], "--key", node[2]).is_status(200)
    place.node_speaks(node)
