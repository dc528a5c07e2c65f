"""A server in the place of the repository's: trick.py FOLDER busy|drip PORT. "busy" answers 503 with Retry-After, "drip" sends a byte a
second of what it announced. FOLDER has its chain and key."""

import socket
import ssl
import sys
import threading
import time

FOLDER, TRICK, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CONTEXT.load_cert_chain(f"{FOLDER}/trick.chain", f"{FOLDER}/trick.key")


def serve(plain):
    try:
        with CONTEXT.wrap_socket(plain, server_side=True) as s:
            if TRICK == "busy":
                while s.recv(65536):
                    s.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")
                return
            s.recv(65536)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                s.sendall(b"x")
                time.sleep(1)
    except OSError:
        pass


with socket.create_server(("", PORT)) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
