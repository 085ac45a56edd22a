# SPDX-License-Identifier: Apache-2.0
"""A Mosquitto of its own, which keeps its sessions in a file.

    m = Mosquitto().start()
    c = m.connect(V5, "id", clean=False)
    m.stop()                              # now m.database is written
"""
import os
import shutil
import socket

from .mqtt import Client
from .server import Server

PROGRAM = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Mosquitto(Server):
    user = "nobody"

    def __init__(self):
        super().__init__()
        self.clients = []

    @property
    def database(self):
        return self.path("mosquitto.db")

    def prepare(self):
        self.write("mosquitto.conf", "listener %d 127.0.0.1\nallow_anonymous true\npersistence true\n"
                   "persistence_location %s/\nautosave_interval 0\n" % (self.port, self.dir))

    def command(self):
        return [PROGRAM, "-c", self.path("mosquitto.conf")]

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def connect(self, version, client_id, **options):
        c = Client(("127.0.0.1", self.port), version)
        self.clients.append(c)
        c.connect(client_id, **options)
        return c

    def stop(self, **options):
        for c in self.clients:
            c.close()
        super().stop(**options)
