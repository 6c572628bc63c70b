#!/usr/bin/env python3
"""The HTTP server of the tests: standard library only, threaded, HTTP/1.1 with keep-alive.

    /                    "ok"
    /get /post           JSON: method, path, query, headers, body, connection (a number for each connection)
    /echo                the same for any method; JSON too
    /headers             JSON: the request's headers as [name, value] pairs, in order
    /body                the request's body, with its content type
    /bytes/N             N bytes, byte i is i % 251
    /lines/N             N lines of JSON {"n": i}, chunked
    /drip?n=10&ms=10     n bytes, one every ms milliseconds, chunked
    /slow?ms=1000        waits before the first byte of the answer
    /gated/KEY           one byte, and another one when /open/KEY has been asked for, chunked
    /status/N            answers with that status
    /redirect/N?code=302 N redirects, then /get; /redirect-to?url=U&code=302
    /gzip /deflate       compressed JSON; /gzip?size=N compresses N zero bytes
    /cookies/set?a=b     sets cookies; /cookies shows those received
    /header?name=value   answers with these headers
    /auth?user=u&password=p  basic authentication
    /etag                answers 304 when If-None-Match is "tag"
    /flaky/KEY?fail=2    503 for the first requests for KEY, then 200 with their count
    /count/KEY           how often KEY was asked for
    /close               answers, then closes the connection
    /close-early?n=1000  declares n bytes, sends half, closes
    /close-chunked       chunked, closes before the end
    /reset               resets the connection instead of answering
    /hang                answers nothing until the client goes away
    /garbage             answers with what is not HTTP
    /no-length           HTTP/1.0 style body, ended by closing
"""
import argparse
import base64
import collections
import gzip
import http.server
import itertools
import json
import os
import socket
import struct
import threading
import time
import urllib.parse
import zlib

connections = itertools.count(1)
counters = {}
counters_lock = threading.Lock()
gates = collections.defaultdict(threading.Event)
gates_lock = threading.Lock()
GATE_S = 120  # no test lasts longer
CHUNK = bytes(i % 251 for i in range(251 * 256))


def count(key):
    with counters_lock:
        counters[key] = counters.get(key, 0) + 1
        return counters[key]


def gate(key):
    with gates_lock:
        return gates[key]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pier-test"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self):
        super().setup()
        self.connection_number = next(connections)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except OSError:
            pass

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.url = url
        self.body = self.read_body()
        name, _, self.rest = url.path.lstrip("/").partition("/")
        method = getattr(self, "route_" + (name or "root").replace("-", "_"), None)
        if method is None:
            self.answer(b"no such route\n", status=404)
        else:
            method()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = route

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def number(self, name, default):
        return int(self.query.get(name, default))

    def answer(self, body, status=200, content_type="text/plain; charset=utf-8", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status >= 200 and status not in (204, 304):
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def answer_json(self, value, **options):
        self.answer(json.dumps(value).encode() + b"\n", content_type="application/json", **options)

    def start_chunked(self, content_type="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data, flush=False):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if flush:
            self.wfile.flush()

    def describe(self):
        return {
            "method": self.command,
            "path": self.url.path,
            "query": self.query,
            "headers": dict(self.headers.items()),
            "body": self.body.decode("utf-8", "replace"),
            "connection": self.connection_number,
        }

    def route_root(self):
        self.answer(b"ok\n")

    def route_echo(self):
        self.answer_json(self.describe())

    route_get = route_post = route_echo

    def route_headers(self):
        self.answer_json(self.headers.items())

    def route_body(self):
        self.answer(self.body, content_type=self.headers.get("Content-Type", "application/octet-stream"))

    def route_bytes(self):
        size = int(self.rest)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        for _ in range(size // len(CHUNK)):
            self.wfile.write(CHUNK)
        self.wfile.write(CHUNK[: size % len(CHUNK)])

    def route_lines(self):
        self.start_chunked("application/x-ndjson")
        lines = []
        for i in range(int(self.rest)):
            lines.append(b'{"n": %d}\n' % i)
            if len(lines) == 500:
                self.chunk(b"".join(lines))
                lines = []
        if lines:
            self.chunk(b"".join(lines))
        self.wfile.write(b"0\r\n\r\n")

    def route_drip(self):
        self.start_chunked()
        for _ in range(self.number("n", 10)):
            time.sleep(self.number("ms", 10) / 1000)
            self.chunk(b"x", flush=True)
        self.wfile.write(b"0\r\n\r\n")

    def route_gated(self):
        self.start_chunked()
        self.chunk(b"x", flush=True)
        gate(self.rest).wait(GATE_S)
        self.chunk(b"x", flush=True)
        self.wfile.write(b"0\r\n\r\n")

    def route_open(self):
        gate(self.rest).set()
        self.answer(b"open\n")

    def route_slow(self):
        time.sleep(self.number("ms", 1000) / 1000)
        self.answer(b"slow\n")

    def route_status(self):
        status = int(self.rest)
        self.answer(b"status %d\n" % status, status=status)

    def route_redirect(self):
        left = int(self.rest)
        code = self.query.get("code", "302")
        where = "/redirect/%d?code=%s" % (left - 1, code) if left > 1 else "/get"
        self.answer(b"", status=int(code), headers=[("Location", where)])

    def route_redirect_to(self):
        self.answer(b"", status=self.number("code", 302), headers=[("Location", self.query["url"])])

    def compressible(self):
        size = self.number("size", 0)
        return bytes(size) if size else json.dumps({"compressed": True, "text": "pier " * 200}).encode()

    def route_gzip(self):
        self.answer(gzip.compress(self.compressible()), content_type="application/json",
                    headers=[("Content-Encoding", "gzip")])

    def route_deflate(self):
        self.answer(zlib.compress(self.compressible()), content_type="application/json",
                    headers=[("Content-Encoding", "deflate")])

    def route_cookies(self):
        if self.rest == "set":
            self.answer(b"set\n", headers=[("Set-Cookie", "%s=%s; Path=/" % pair) for pair in self.query.items()])
        else:
            pairs = (part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";"))
            self.answer_json({name: value for name, _, value in pairs if name})

    def route_header(self):
        self.answer(b"headers\n", headers=self.query.items())

    def route_auth(self):
        pair = "%s:%s" % (self.query.get("user", "user"), self.query.get("password", "secret"))
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(pair.encode()).decode():
            self.answer(b"welcome\n")
        else:
            self.answer(b"who are you?\n", status=401, headers=[("WWW-Authenticate", 'Basic realm="pier"')])

    def route_etag(self):
        tag = '"tag"'
        status = 304 if self.headers.get("If-None-Match") == tag else 200
        self.answer(b"tagged\n", status=status, headers=[("ETag", tag)])

    def route_flaky(self):
        times = count("flaky/" + self.rest)
        ok = times > self.number("fail", 2)
        self.answer(b"%d\n" % times, status=200 if ok else 503, headers=[] if ok else [("Retry-After", "0")])

    def route_count(self):
        self.answer(b"%d\n" % count("count/" + self.rest))

    def route_close(self):
        self.close_connection = True
        self.answer(b"closing\n", headers=[("Connection", "close")])

    def route_close_early(self):
        size = self.number("n", 1000)
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b"x" * (size // 2))
        self.close_connection = True

    def route_close_chunked(self):
        self.start_chunked()
        self.chunk(b"unfinished")
        self.close_connection = True

    def route_reset(self):
        # Closing with a linger time of zero sends RST; the server's own shutdown() would send FIN first.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.reset_sockets.add(self.connection)
        self.close_connection = True

    def route_hang(self):
        self.connection.settimeout(120)
        self.connection.recv(1)
        self.close_connection = True

    def route_garbage(self):
        self.wfile.write(b"\x00\x01 this is not HTTP \xff\r\n\r\n")
        self.close_connection = True

    def route_no_length(self):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"until the end\n")
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Hundreds of clients may connect at once; the default of 5 would make some wait for a SYN's second try.
    request_queue_size = 1024

    def __init__(self, *arguments):
        self.reset_sockets = set()
        super().__init__(*arguments)

    def shutdown_request(self, request):
        if request in self.reset_sockets:
            self.reset_sockets.discard(request)
            request.close()
        else:
            super().shutdown_request(request)

    def server_bind(self):
        # Without HTTPServer's own, which looks its name up.
        super(http.server.HTTPServer, self).server_bind()
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser(description="The HTTP server of the tests.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--port-file", help="where to write the port, once the server listens")
    options = parser.parse_args()
    server = Server(("127.0.0.1", options.port), Handler)
    print("http://127.0.0.1:%d" % server.server_port, flush=True)
    if options.port_file:
        with open(options.port_file + ".new", "w") as file:
            file.write("%d\n" % server.server_port)
        os.rename(options.port_file + ".new", options.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
