#!/usr/bin/python3
"""Servers that misbehave, for test_bad_input.py. hostile.py FOLDER: serves in the present network namespace until it is ended.

Which trick is played depends on the address that is asked: ADDRESSES names them. FOLDER holds the certificates."""

import os
import random
import selectors
import socket
import ssl
import struct
import sys
import threading
import time

DNS_TRICKS = ["good", "loop", "forward", "labels", "wrong-id", "wrong-question", "other-address", "cname-chain", "cname-loop",
              "truncated", "cut", "counts", "many", "escapes", "empty", "length", "echo", "flood", "drip", "tcp-64k", "silent",
              "bogon"]
TLS_TRICKS = ["fine", "chain-100", "chain-1000", "evil-subject", "drip", "noise", "records", "alerts", "banner", "shut", "tickets",
              "http-drip", "http-header", "http-body", "http-escapes", "http-noise", "http-continue", "http-loop"]
ADDRESSES = {f"dns:{name}": f"203.0.113.{i + 1}" for i, name in enumerate(DNS_TRICKS)}
ADDRESSES |= {f"tls:{name}": f"198.51.100.{i + 17}" for i, name in enumerate(TLS_TRICKS)}
NAMES = {address: name.split(":")[1] for name, address in ADDRESSES.items()}
ESCAPES = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\x08\x7f"  # a title, a colour, a C1 sequence, and ways back on the line


# ---- DNS ----

def labels(name):
    return b"".join(bytes([len(part)]) + part for part in name.encode("latin-1").split(b".") if part) + b"\0"


def record(name, kind, data, length=None):
    return name + struct.pack("!HHIH", kind, 1, 300, len(data) if length is None else length) + data


def message(query, answers, flags=0x8180, count=None, identity=None, question=None):
    end = query.index(b"\0", 12) + 5
    head = struct.pack("!H", struct.unpack("!H", query[:2])[0] if identity is None else identity)
    body = query[12:end] if question is None else question
    return head + struct.pack("!HHHHH", flags, 1, len(answers) if count is None else count, 0, 0) + body + b"".join(answers)


def good_answer(query):
    """NAME.bad.example has the address of the TLS trick NAME."""
    end = query.index(b"\0", 12)
    first = query[13:13 + query[12]].decode("latin-1")
    address = ADDRESSES.get(f"tls:{first}")
    is_a = query[end + 1:end + 3] == b"\0\1"
    return [record(b"\xc0\x0c", 1, socket.inet_aton(address))] if address and is_a else []


def dns_answers(trick, query, over_tcp):
    """The messages to send for a query."""
    owner, a = b"\xc0\x0c", socket.inet_aton(ADDRESSES["tls:fine"])
    identity = struct.unpack("!H", query[:2])[0]
    here = len(message(query, []))
    pointer = lambda to: struct.pack("!H", 0xC000 | to)
    if trick in ("good", "drip", "silent", "other-address"):
        return [message(query, good_answer(query))]
    if trick == "loop":
        return [message(query, [record(pointer(here), 1, a)]),
                message(query, [record(pointer(here + 2), 5, pointer(here)), record(owner, 1, a)])]
    if trick == "forward":
        return [message(query, [record(pointer(0x3FFF), 1, a)])]
    if trick == "labels":
        return [message(query, [record(b"\x3f" + b"x" * 63 + b"\x80\x01" * 40, 1, a)]),
                message(query, [record(b"\x3f" + b"y" * 63 + (b"\x3f" + b"z" * 63) * 20 + b"\0", 1, a)])]
    if trick == "wrong-id":
        return [message(query, good_answer(query), identity=(identity + i) & 0xFFFF) for i in range(1, 60)]
    if trick == "wrong-question":
        return [message(query, [record(owner, 1, a)], question=labels("other.example") + b"\0\1\0\1")]
    if trick == "cname-chain":
        chain = [record(owner if i == 0 else labels(f"c{i}.example"), 5, labels(f"c{i + 1}.example")) for i in range(900)]
        return [message(query, chain + [record(labels("c900.example"), 1, a)])]
    if trick == "cname-loop":
        return [message(query, [record(owner, 5, labels("b.example")), record(labels("b.example"), 5, pointer(12))] * 50)]
    if trick == "truncated":
        return [] if over_tcp else [message(query, [], flags=0x8380)]
    if trick == "cut":
        return [message(query, good_answer(query))[:-3]]
    if trick == "counts":
        return [message(query, good_answer(query), count=0xFFFF)]
    if trick == "many":
        return [message(query, [record(owner, 1, struct.pack("!BBH", 198, 51, 0x6400 | (i & 0xFF)) if i % 2 else
                                       struct.pack("!I", 0x0A000000 + i)) for i in range(4000 if over_tcp else 80)])]
    if trick == "escapes":
        return [message(query, [record(owner, 5, labels("a" + ESCAPES + ".example")), record(labels("a" + ESCAPES + ".example"), 1, a)])]
    if trick == "empty":
        return [b""]
    if trick == "length":
        return [message(query, [record(owner, 1, a, length=length)]) for length in (0, 3, 5, 0xFFFF)]
    if trick == "echo":
        return [query]
    if trick == "flood":
        return [random.randbytes(random.randrange(1, 600)) for _ in range(300)]
    if trick == "tcp-64k":
        return [message(query, []) + b"\xc0" * 65000] if over_tcp else [message(query, [], flags=0x8380)]
    if trick == "bogon":
        return [message(query, [record(owner, 1, socket.inet_aton(t)) for t in ("127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1")])]
    raise KeyError(trick)


def serve_dns_udp():
    selector = selectors.DefaultSelector()
    elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elsewhere.bind(("203.0.113.99", 53))
    for trick in DNS_TRICKS:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((ADDRESSES[f"dns:{trick}"], 53))
        selector.register(s, selectors.EVENT_READ, trick)
    while True:
        for key, _ in selector.select():
            query, peer = key.fileobj.recvfrom(4096)
            if key.data in ("silent", "drip") or len(query) < 17:
                continue
            for answer in dns_answers(key.data, query, False):
                (elsewhere if key.data == "other-address" else key.fileobj).sendto(answer[:65000], peer)


def serve_dns_tcp(connection, trick):
    while True:
        head = connection.recv(2)
        if len(head) < 2 or trick == "silent":
            return time.sleep(20) if trick == "silent" else None
        query = connection.recv(struct.unpack("!H", head)[0])
        for answer in dns_answers(trick, query, True):
            framed = struct.pack("!H", len(answer)) + answer
            if trick == "drip":
                return drip(connection, framed)
            if trick == "tcp-64k":
                framed = b"\xff\xff" + answer[:500]
            connection.sendall(framed)
        if trick in ("truncated", "other-address"):
            return None


# ---- TLS and HTTP ----

def drip(connection, data):
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(1)


def for_ever(connection, block):
    while True:
        connection.sendall(block)


def http(connection, trick):
    head = "HTTP/1.1 200 OK\r\nServer: fine\r\nDate: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()) + "\r\n"
    if trick != "http-noise":
        connection.recv(4096)
    if trick == "http-drip":
        drip(connection, head.encode())
    elif trick == "http-header":
        connection.sendall(head.encode())
        for_ever(connection, b"X-Header: " + b"x" * 1000 + b"\r\n")
    elif trick == "http-body":
        connection.sendall((head + "\r\n").encode())
        for_ever(connection, b"x" * 16384)
    elif trick == "http-escapes":
        body = f"<html><title>Web filter {ESCAPES}</title>blocked by policy {ESCAPES}</html>".encode("latin-1")
        connection.sendall((f"HTTP/1.1 403 {ESCAPES.replace(chr(13), '')}\r\nServer: filter {ESCAPES.replace(chr(13), '')}\r\n"
                            f"Content-Type: text/html\r\nLocation: https://x.example/{ESCAPES.replace(chr(13), '')}\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1") + body)
    elif trick == "http-noise":
        connection.sendall(random.randbytes(20000))
    elif trick == "http-continue":
        for_ever(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    elif trick == "http-loop":
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://http-loop.bad.example/\r\nContent-Length: 0\r\n\r\n")
    else:
        connection.sendall((head + "Content-Length: 0\r\n\r\n").encode())


CERTIFICATES = {"tickets": "tickets", "chain-100": "chain-100", "chain-1000": "chain-1000", "evil-subject": "evil"}


def serve_tls(connection, trick, contexts):
    if trick == "drip":
        return drip(connection, b"\x16\x03\x03\xff\xff" + b"\x02" * 60)
    if trick == "noise":
        return connection.sendall(b"\x8f" + random.randbytes(65536))
    if trick == "records":
        return for_ever(connection, b"\x16\x03\x03\x00\x01\x00" * 1000)
    if trick == "alerts":
        return for_ever(connection, b"\x15\x03\x03\x00\x02\x01\x5a" * 1000)
    if trick == "banner":
        connection.sendall(f"220 {ESCAPES} ready\r\n".encode("latin-1"))
        return time.sleep(3)
    if trick == "shut":
        return connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contexts[CERTIFICATES.get(trick, "leaf")].wrap_socket(connection, server_side=True) as tls:
        http(tls, trick)


def make_contexts(folder):
    contexts = {}
    for name in ("leaf", "tickets", "chain-100", "chain-1000", "evil"):
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(os.path.join(folder, name.replace("tickets", "leaf") + ".pem"), os.path.join(folder, "key.pem"))
    contexts["tickets"].num_tickets = 20000  # after a handshake in TLS 1.3
    return contexts


# ---- all of it ----

def attend(connection, contexts):
    """One connection, whatever becomes of it."""
    with connection:
        try:
            connection.settimeout(20)
            address, port = connection.getsockname()
            trick = NAMES.get(address, "fine")
            if port == 53:
                serve_dns_tcp(connection, trick)
            elif port == 443:
                serve_tls(connection, trick, contexts)
            else:
                http(connection, trick)
        except (OSError, ValueError):
            pass  # the client has gone, which it may


def listen(port, contexts):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(128)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=attend, args=(connection, contexts), daemon=True).start()


if __name__ == "__main__":
    secure = make_contexts(sys.argv[1])
    for served in (53, 80, 443):
        threading.Thread(target=listen, args=(served, secure), daemon=True).start()
    serve_dns_udp()
