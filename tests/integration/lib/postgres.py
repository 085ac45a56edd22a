# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL for a test: initdb in a temporary folder, on loopback, as a user who is not root, in a hurry (fsync off).

    s = Postgres().start()
    s.execute("CREATE TABLE ...;")              # as its superuser, through a Unix socket in the folder
    s.host, s.port, s.user, s.password          # how a plugin gets in, by TCP

A password is asked for over TCP (SCRAM); s.hba and s.conf change what the next start does.
"""
import glob
import os
import shutil

from .server import UNPRIVILEGED, Server


def program(name):
    """The newest there is; None: none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name), key=lambda p: int(p.split("/")[4]))
    return found[-1] if found else shutil.which(name)


AVAILABLE = program("initdb") is not None and program("postgres") is not None
SUPERUSER = "owner"


class Postgres(Server):
    user = UNPRIVILEGED
    host = "127.0.0.1"
    role, password = "grapnel", "it's a \\secret"
    database = "mqtt"
    hba = "local all owner trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

    def __init__(self, conf=None, start_script=""):
        super().__init__()
        self.conf = dict(conf or {})
        self.start_script = start_script  # SQL in `database`, once
        self.files = {}  # {name: path}: copies in the folder, for nobody else to read

    def prepare(self):
        self.run([program("initdb"), "-D", self.path("data"), "-U", SUPERUSER, "-A", "trust", "-N", "--no-locale", "-E", "UTF8"])
        for name, path in self.files.items():
            with open(path, encoding="utf-8") as f:
                self.write(name, f.read(), 0o600)
        self.configure()
        # In single-user mode: the server need not be started twice.
        self.run([program("postgres"), "--single", "-D", self.path("data"), "postgres"],
                 input="CREATE ROLE %s LOGIN PASSWORD '%s'\nCREATE DATABASE %s\n" % (
                     self.role, self.password.replace("'", "''"), self.database))

    def configure(self):
        conf = {"listen_addresses": "'127.0.0.1'", "port": self.port, "unix_socket_directories": "'%s'" % self.dir,
                "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 60,
                "shared_buffers": "'16MB'", "autovacuum": "off", "wal_level": "minimal", "max_wal_senders": 0,
                "logging_collector": "off", "log_min_error_statement": "log",
                "client_connection_check_interval": "100ms"}
        conf.update(self.conf)
        self.write("data/postgresql.auto.conf", "".join("%s = %s\n" % i for i in conf.items()), 0o600)
        self.write("data/pg_hba.conf", self.hba, 0o600)

    def command(self):
        return [program("postgres"), "-D", self.path("data")]

    def start(self):
        first = not self.prepared
        if not first:
            self.configure()
            lock = self.path("data/postmaster.pid")
            if not self.running() and os.path.exists(lock):
                os.unlink(lock)
        super().start()
        if first and self.start_script:
            self.execute(self.start_script)
        return self

    def signal_all(self, number):
        """Its children lead process groups of their own."""
        pids = self.children()
        super().signal_all(number)
        for pid in set(pids + self.children()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def children(self):
        try:
            with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
                return [int(pid) for pid in f.read().split()]
        except OSError:
            return []

    def ready(self):
        return self.psql("SELECT 1", check=False).returncode == 0

    def psql(self, script, check=True, database=None):
        return self.run([program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-p", str(self.port),
                         "-U", SUPERUSER, "-d", database or self.database, "-f", "-"], check, input=script)

    def execute(self, script):
        return self.psql(script).stdout.strip()

    def reload(self):
        self.configure()
        self.execute("SELECT pg_reload_conf();")

    def sessions(self):
        """How many connections of the role there are, seen from the server."""
        return int(self.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = '%s'" % self.role))

    def stop(self, number=2):  # SIGINT: fast shutdown
        super().stop(number)
