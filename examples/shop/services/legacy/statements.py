"""What is left of the shop of 2014: account statements as plain text. Nobody likes to touch it."""

import json
import os
import signal
import sqlite3
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

HERE = os.path.dirname(os.path.abspath(__file__))
PAYMENTS = urlparse(os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8083")).netloc


def open_db(file):
    db = sqlite3.connect(file, check_same_thread=False)
    with open(os.path.join(HERE, "legacy.sql")) as script:
        db.executescript(script.read())
    return db


def fetch_charges(customer):
    connection = HTTPConnection(PAYMENTS, timeout=10)
    try:
        connection.request("GET", "/charges?customer=%d" % customer)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise IOError("payments said %d" % response.status)
        return json.loads(body)["charges"]
    finally:
        connection.close()


def render(head, charges):
    lines = [head, "=" * len(head), ""]
    for charge in charges:
        what = charge.get("description") or "Charge %s" % charge["id"]
        money = "%.2f %s" % (charge["amount_cents"] / 100.0, charge["currency"])
        lines.append("%s  %-30s %12s" % (charge["captured_on"], what, money))
    return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    db = None
    lock = threading.Lock()

    def do_GET(self):
        url = urlparse(self.path)
        if url.path == "/healthz":
            return self.reply(200, "fine\n")
        if url.path != "/statement":
            return self.reply(404, "no such page\n")
        customer = int(parse_qs(url.query)["customer"][0])
        with self.lock:
            (head,) = self.db.execute("SELECT text FROM letterhead").fetchone()
        try:
            self.reply(200, render(head % customer, fetch_charges(customer)))
        except IOError as problem:
            self.reply(502, "no statement today: %s\n" % problem)

    def reply(self, status, text):
        data = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        sys.stderr.write("legacy: %s\n" % (format % args))
        sys.stderr.flush()


def main():
    data = os.environ.get("SHOP_DATA")
    # An empty name makes SQLite keep a file that it deletes by itself, however the process ends.
    Handler.db = open_db(os.path.join(data, "legacy.db") if data else "")
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8086"))), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    signal.sigwait(stops)
    server.shutdown()


if __name__ == "__main__":
    main()
