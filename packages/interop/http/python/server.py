"""Python's own HTTP servers: the one of files, which speaks HTTP/1.0, and one of HTTP/1.1 whose paths say what to do."""
import json
import os
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Quiet:
    def log_message(self, format, *args):
        pass


class Files(Quiet, SimpleHTTPRequestHandler):
    """Ends the connection with each response, and may have no length but that end."""


class Paths(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        chunks = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(chunks)

    def answer(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        body = self.body()
        if url.path == "/echo":
            self.whole(200, body)
        elif url.path == "/seen":
            seen = {"method": self.command, "target": self.path, "headers": self.headers.items(), "length": len(body)}
            self.whole(200, json.dumps(seen).encode())
        elif url.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in query["parts"].split(","):
                self.wfile.write(b"%x;extension=1\r\n%s\r\n" % (len(part), part.encode()))
            self.wfile.write(b"0\r\nX-Parts: all\r\n\r\n")
        elif url.path == "/slow":
            time.sleep(int(query["millis"]) / 1000)
            self.whole(200, b"slow")
        elif url.path == "/close":
            self.close_connection = True
            self.whole(200, b"unannounced")
        else:
            self.send_error(404)

    def whole(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = answer


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that has gone is no failure."""


def serve(handler):
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    print("READY " + json.dumps({"files": serve(partial(Files, directory=here)), "paths": serve(Paths)}), flush=True)
    for _ in sys.stdin:
        sys.exit("a server takes no commands")


if __name__ == "__main__":
    main()
