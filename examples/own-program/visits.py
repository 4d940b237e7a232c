"""Counts its visits in Redis. Nothing but Python's standard library.

Holdfast says where to listen (HOST, PORT), who this node is (HOLDFAST_NODE)
and where Redis is (REDIS_URL). The node itself keeps nothing that matters: any
of them may die, and the count goes on.
"""

import html
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

NODE = os.environ.get("HOLDFAST_NODE", "visits")
GREETING = os.environ.get("GREETING", "Hello")

# How long a request waits for Redis: longer than a failover takes, so that
# visitors see a pause rather than an error.
PATIENCE = 8.0  # seconds


class NotDone(Exception):
    """Redis certainly did not do it: to try again is safe."""


def redis(*command):
    """Sends one command to the master and returns its answer.

    REDIS_URL leads to the master through the balancers, also after a failover,
    as long as every command has a connection of its own.
    """
    url = urlsplit(os.environ["REDIS_URL"])
    login = ("AUTH", unquote(url.username or "default"), unquote(url.password or ""))
    try:
        connection = socket.create_connection((url.hostname, url.port), timeout=2)
    except OSError as problem:
        raise NotDone(f"no connection to Redis: {problem}") from problem
    with connection, connection.makefile("rb") as answers:
        # RESP: an array of strings, each with its length before it. The log-in
        # is answered before the command is sent: what fails until then
        # certainly did not count.
        try:
            connection.sendall(resp(login))
            read(answers)
        except (OSError, EOFError) as problem:
            raise NotDone(f"no log-in at Redis: {problem}") from problem
        connection.sendall(resp(command))
        return read(answers)


def resp(words):
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def read(answers):
    """Reads a simple answer: +OK, :5 or -ERROR."""
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("Redis closed the connection")
    kind, text = line[:1], line[1:-2].decode()
    if kind == b"-":
        # A replica, a node that is still loading, a master without replicas:
        # each says so instead of doing it.
        if text.split()[0] in ("READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS"):
            raise NotDone(text)
        raise OSError(text)
    return int(text) if kind == b":" else text


def count():
    """Adds a visit. Only what certainly did not happen is tried again: a reply
    that was lost may have counted."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return redis("INCR", "visits")
        except NotDone:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the balancer keeps its connections

    def do_GET(self):
        with self.server.working:
            if self.path == "/health":
                # Whether this node can serve. Redis is no part of that: its
                # failover is waited for, and no other node would fare better.
                self.answer(200, "text/plain", "ok\n")
            elif self.path == "/":
                self.visit()
            else:
                self.answer(404, "text/plain", "There is nothing here.\n")

    def visit(self):
        try:
            visits = count()
        except (NotDone, OSError, EOFError) as problem:
            self.answer(503, "text/plain", f"The visit may not have counted: {problem}\n")
            return
        self.answer(
            200,
            "text/html; charset=utf-8",
            f"""<!doctype html>
<title>Visits</title>
<link rel="stylesheet" href="/static/style.css">
<h1>{html.escape(GREETING)}</h1>
<p>You are visit {visits}, served by {html.escape(NODE)}.</p>
""",
        )

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.server.working.ending:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass  # the balancer logs every request


class Working:
    """Counts the requests in flight."""

    def __init__(self):
        self.ending = False
        self.requests = 0
        self.changed = threading.Condition()

    def __enter__(self):
        with self.changed:
            self.requests += 1

    def __exit__(self, *_):
        with self.changed:
            self.requests -= 1
            self.changed.notify_all()

    def wait(self):
        with self.changed:
            self.changed.wait_for(lambda: self.requests == 0)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main():
    server = Server((os.environ["HOST"], int(os.environ["PORT"])), Page)
    server.working = Working()

    def end(*_):
        server.working.ending = True
        # Not in this thread: it is the one that serves, and would wait for itself.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"{NODE} listens on {os.environ['HOST']}:{os.environ['PORT']}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.socket.close()  # no new connections …
    server.working.wait()  # … and those in flight get their answer


if __name__ == "__main__":
    main()
