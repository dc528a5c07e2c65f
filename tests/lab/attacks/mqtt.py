"""MQTT 5 as an attacker would speak it: every byte is ours. Only what the attacks need."""

import ctypes
import os
import socket
import ssl
import struct
import time

CONTROL = "198.51.100.21", 8443
HOST = "control.grid.example"
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """This thread is in a lab's namespace while the block runs: its sockets, and the programs that it starts."""

    def __init__(self, site, role):
        self.path = f"/run/netns/gl-{site.name}-{role}"

    @staticmethod
    def enter(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)

    def __enter__(self):
        self.own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.enter(self.path)

    def __exit__(self, *_):
        if libc.setns(self.own, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(self.own)


def tls_socket(site, certificate=None, key=None, alpn=("mqtt",), address=CONTROL, host=HOST, timeout=5):
    """A TLS connection that trusts the lab's root; refused by the server: an OSError, here or at the first read."""
    context = ssl.create_default_context(cafile=site.state / "node/grid-root.pem")
    context.set_alpn_protocols(list(alpn))
    if certificate:
        context.load_cert_chain(certificate, key)
    with Namespace(site, "node"):
        plain = socket.create_connection(address, timeout)
    return context.wrap_socket(plain, server_hostname=host)


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


def length_of(count):
    out = b""
    while True:
        count, byte = count >> 7, count & 0x7F
        out += bytes([byte | 0x80 if count else byte])
        if not count:
            return out


def packet(first, body):
    return bytes([first]) + length_of(len(body)) + body


def connect_packet(client, keepalive=30, will=None):
    flags = 0x02 | (0x04 | 0x08 | 0x20 if will else 0)
    body = text("MQTT") + bytes([5, flags]) + struct.pack("!H", keepalive) + b"\0" + text(client)
    if will:
        body += b"\0" + text(will[0]) + text(will[1])
    return packet(0x10, body)


class Client:
    def __init__(self, connection):
        self.socket, self.buffer, self.next_id = connection, b"", 0
        self.messages, self.answers = [], {}

    @classmethod
    def over_tls(cls, site, node, client=None, **options):
        """As a node with its certificate; says nothing but CONNECT."""
        self = cls(tls_socket(site, node.certificate, node.key))
        self.open(client or node.id, **options)
        return self

    @classmethod
    def over_unix(cls, path, client):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(path))
        self = cls(connection)
        self.open(client)
        return self

    def open(self, client, **options):
        self.send(connect_packet(client, **options))
        kind, body = self.read_packet(5)
        if kind >> 4 != 2 or body[1] != 0:
            raise ConnectionError(f"CONNACK {kind:#x} {body.hex()}")

    def send(self, data):
        self.socket.sendall(data)

    def read_packet(self, seconds):
        """The next packet; None when none comes in time; ConnectionError when the broker ended it."""
        end = time.monotonic() + seconds
        while True:
            found = self.parse()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except (TimeoutError, socket.timeout):
                return None
            if not data:
                raise ConnectionError("the broker ended the connection")
            self.buffer += data

    def parse(self):
        length, shift = 0, 0
        for at in range(1, min(5, len(self.buffer))):
            length |= (self.buffer[at] & 0x7F) << shift
            shift += 7
            if not self.buffer[at] & 0x80:
                end = at + 1 + length
                if len(self.buffer) < end:
                    return None
                found = self.buffer[0], self.buffer[at + 1:end]
                self.buffer = self.buffer[end:]
                return found
        return None

    def take(self, kind, body):
        if kind >> 4 == 3:
            count = struct.unpack("!H", body[:2])[0]
            topic, rest = body[2:2 + count].decode(), body[2 + count:]
            if kind >> 1 & 3:
                self.send(packet(0x40, rest[:2]))
                rest = rest[2:]
            self.messages.append((topic, rest[1 + rest[0]:]))
        elif kind >> 4 in (4, 9):
            number = struct.unpack("!H", body[:2])[0]
            self.answers[number] = body[-1] if kind >> 4 == 9 else (body[2] if len(body) > 2 else 0)

    def listen(self, seconds, until=lambda: False):
        """Takes what comes for so long."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            found = self.read_packet(min(0.2, max(0.01, end - time.monotonic())))
            if found:
                self.take(*found)

    def publish(self, topic, payload, retain=False, wait=True):
        """QoS 1; the broker's reason, or None when it ended the connection or said nothing."""
        self.next_id += 1
        number = self.next_id
        payload = payload if isinstance(payload, bytes) else payload.encode()
        try:
            self.send(packet(0x32 | retain, text(topic) + struct.pack("!H", number) + b"\0" + payload))
            if not wait:
                return None
            self.listen(5, lambda: number in self.answers)
        except OSError:
            return None
        return self.answers.get(number)

    def subscribe(self, topic):
        self.next_id += 1
        number = self.next_id
        self.send(packet(0x82, struct.pack("!H", number) + b"\0" + text(topic) + b"\1"))
        self.listen(5, lambda: number in self.answers)
        return self.answers.get(number)

    def ping(self):
        self.send(b"\xc0\0")

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass
