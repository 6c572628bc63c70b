#!/usr/bin/env python3
"""Serves the demo's data, read-only, on the loopback interface: real files that Debian packages install.

/unicode/... is /usr/share/unicode, /iso-codes/... is /usr/share/iso-codes/json, and / lists all paths. The
paths are collected at start and nothing else is served, so that no request can name a file outside.
"""
import argparse
import http.server
import os
import shutil
import sys
import urllib.parse

ROOTS = {"/unicode/": "/usr/share/unicode", "/iso-codes/": "/usr/share/iso-codes/json"}
TYPES = {".json": "application/json", ".txt": "text/plain; charset=utf-8"}


def collect():
    files = {}
    for prefix, root in ROOTS.items():
        for directory, _, names in os.walk(root):
            for name in names:
                path = os.path.join(directory, name)
                files[prefix + os.path.relpath(path, root)] = path
    return files


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pier-demo"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path == "/":
            self.answer(200, "".join("%s\n" % name for name in sorted(self.server.files)).encode())
        elif path in self.server.files:
            self.send_file(self.server.files[path])
        else:
            self.answer(404, b"no such file\n")

    do_HEAD = do_GET

    def head(self, status, content_type, size):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def answer(self, status, body):
        self.head(status, "text/plain; charset=utf-8", len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, path):
        with open(path, "rb") as file:
            content_type = TYPES.get(os.path.splitext(path)[1], "application/octet-stream")
            self.head(200, content_type, os.fstat(file.fileno()).st_size)
            if self.command != "HEAD":
                shutil.copyfileobj(file, self.wfile, 1 << 18)

    def log_message(self, *arguments):
        if self.server.verbose:
            super().log_message(*arguments)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self):
        # Without HTTPServer's own, which looks its name up.
        super(http.server.HTTPServer, self).server_bind()
        self.server_name, self.server_port = self.server_address[:2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0, the default: a free one")
    parser.add_argument("--url-file", help="where to write the base URL, once the server listens")
    parser.add_argument("--verbose", action="store_true", help="log each request")
    options = parser.parse_args()
    files = collect()
    if not files:
        sys.exit("serve_data.py: no files found (Debian packages: unicode-data, iso-codes)")
    server = Server(("127.0.0.1", options.port), Handler)
    server.files = files
    server.verbose = options.verbose
    url = "http://127.0.0.1:%d" % server.server_port
    print(url, flush=True)
    if options.url_file:
        with open(options.url_file + ".new", "w") as file:
            file.write(url + "\n")
        os.rename(options.url_file + ".new", options.url_file)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
