# SPDX-License-Identifier: Apache-2.0
"""Something between the broker and a server: slow, or with answers of its own.

    with Relay(server.port, delay=0.5) as r: ...    # r.port; what comes from the server is passed on later
    with Script(serve) as s: ...                    # serve(connection) runs for each connection, in a thread
"""
import socket
import threading
import time


class Script:
    def __init__(self, serve):
        self.serve, self.held, self.accepted, self.closing = serve, [], 0, False
        self.listener = self.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def listen(self):
        return socket.create_server(("127.0.0.1", 0), backlog=100)

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(s)
            self.accepted += 1
            threading.Thread(target=self._run, args=(s,), daemon=True).start()

    def _run(self, s):
        try:
            self.serve(s)
        except OSError:
            pass  # the broker closes whenever it likes

    def close(self):
        self.closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.held:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Relay(Script):
    def __init__(self, port, delay):
        self.target, self.delay = port, delay
        super().__init__(self._relay)

    def _relay(self, near):
        far = socket.create_connection(("127.0.0.1", self.target))
        self.held.append(far)
        threading.Thread(target=self._copy, args=(near, far, 0), daemon=True).start()
        self._copy(far, near, self.delay)

    @staticmethod
    def _copy(source, sink, delay):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                time.sleep(delay)
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
