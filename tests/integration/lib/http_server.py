# SPDX-License-Identifier: Apache-2.0
"""HTTP servers that tests ask, or let be asked.

    with Scripted() as s:                        # in this process
        s.answers["/login"] = (200, {"result": "allow"})
        s.answers["/acl"] = lambda request: (403, "no") if ... else (200, {"result": "allow"})
        s.requests                               # what came: method, path, query, headers, body

    Users().start()                              # a process of its own: users and rights of lib.backend
    Nginx(conf).start()
"""
import http.server
import json
import os
import shutil
import socketserver
import sys
import threading
import urllib.parse

if __name__ != "__main__":
    from .server import Server
else:
    Server = object

NGINX = shutil.which("nginx")


class Request:
    def __init__(self, handler):
        self.method = handler.command
        parts = urllib.parse.urlsplit(handler.path)
        self.target, self.path, self.query = handler.path, parts.path, parts.query
        self.headers = handler.headers
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.connection = handler.client_address

    def json(self):
        return json.loads(self.body)

    def form(self):
        """[(name, value)] of the body or, with GET, of the query."""
        text = self.query if self.method == "GET" else self.body.decode("ascii")
        return urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="surrogateescape")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        request = Request(self)
        answer = self.server.owner.answer(request)
        if callable(answer):  # it writes whatever it likes: answer(handler)
            answer(self)
            self.close_connection = True
            return
        status, body, headers = (tuple(answer) + ({},))[:3]
        if isinstance(body, (dict, list)):
            body, headers = json.dumps(body), dict({"Content-Type": "application/json"}, **headers)
        if isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *unused):
        pass


class Threading(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def handle_error(self, *unused):
        pass  # a client that has gone


class Scripted:
    """answers: {path: (status, body[, headers]) or f(request) -> that, or -> f(handler) that writes by itself}."""

    def __init__(self, address=("127.0.0.1", 0)):
        self.answers = {}
        self.requests = []
        self.server = Threading(address, Handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, request):
        self.requests.append(request)
        answer = self.answers.get(request.path, (404, ""))
        return answer(request) if callable(answer) else answer

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Users(Server):
    """The users of lib.backend, in dialect grapnel: /login, /superuser, /acl, /revalidate."""
    users = {"alice": "wonder", "bob": "builder", "root": "toor"}

    def command(self):
        return [sys.executable, os.path.abspath(__file__), str(self.port)]

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    # ---- in the process

    @staticmethod
    def answer(request):
        q = request.json()
        user, known = q.get("username"), q.get("username") in Users.users
        if request.path == "/login":
            if not known:
                return 404, ""
            if q["password"] != Users.users[user]:
                return 403, {"result": "deny"}
            return 200, dict({"result": "allow"}, **Users.details(user))
        if request.path == "/superuser":
            return 200, {"result": "allow" if user == "root" else "deny"}
        return 404, ""

    @staticmethod
    def details(user):
        if user == "alice":
            return {"attributes": {"tenant": "acme", "level": 7}, "acl": [
                "deny read shared/#", "allow publish %u/#", "allow read %u/#",
                {"permission": "allow", "action": "subscribe", "topic": "%u/#"},
                {"permission": "allow", "action": "subscribe", "topic": "shared/%{tenant}/#"}]}
        if user == "bob":
            return {"acl": "allow publish bob/#"}
        return {"acl": []}


class Nginx(Server):
    """http: what stands in its http { }; "{port}" and "{dir}" are replaced."""

    def __init__(self, http_block):
        super().__init__()
        self.http_block = http_block

    def prepare(self):
        self.write("nginx.conf", """
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 200; }}
http {{
	client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
	log_format short '$server_protocol $request_uri $status $connection';
	access_log {dir}/access.log short;
{http}
}}
""".format(dir=self.dir, http=self.http_block.replace("{port}", str(self.port)).replace("{dir}", self.dir)))

    def command(self):
        return [NGINX, "-e", "stderr", "-p", self.dir, "-c", self.path("nginx.conf")]

    def accesses(self):
        """Lines of its access log: [[protocol, path, status, number of the connection]]."""
        with open(self.path("access.log"), encoding="ascii") as f:
            return [line.split() for line in f]


if __name__ == "__main__":
    SERVER = Threading(("127.0.0.1", int(sys.argv[1])), Handler)
    SERVER.owner = Users
    SERVER.serve_forever()
