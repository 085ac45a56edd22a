# SPDX-License-Identifier: Apache-2.0
"""MariaDB on loopback in a temporary folder.

    s = MariaDB().start()
    s.sql("CREATE TABLE t (x INT)")         # as root, over its Unix socket
    MariaDB.tls = ("server.pem", "server.key", "ca.pem")    # before start: it speaks TLS as well
"""
import os
import shutil

from .server import Server

MARIADBD = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
INSTALL = shutil.which("mariadb-install-db")
CLIENT = shutil.which("mariadb")
MISSING = None if MARIADBD and INSTALL and CLIENT else "mariadbd, mariadb-install-db or mariadb is not installed"

# A small, forgetful server: nothing here has to survive a crash of the machine.
SETTINGS = ["--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0", "--innodb-fast-shutdown=2", "--skip-log-bin", "--skip-name-resolve",
            "--aria-pagecache-buffer-size=1M", "--key-buffer-size=1M", "--performance-schema=0",
            "--character-set-server=utf8mb4"]


class MariaDB(Server):
    user = "nobody"
    tls = None              # (certificate, key, authorities)
    offers_tls = True       # where it has them
    database = "mqtt"
    password = "p$ss'w\"rd"  # of user grapnel, who may read all of the database

    def prepare(self):
        if self.tls:
            for name, path in zip(("cert.pem", "key.pem", "ca.pem"), self.tls):
                shutil.copy(path, self.path(name))
            self.own()
        self.run([INSTALL, "--no-defaults", "--datadir=" + self.path("data"), "--skip-test-db", "--skip-name-resolve",
                  "--auth-root-authentication-method=normal"] + SETTINGS[:3])
        quoted = self.password.replace("'", "''")
        self.write("init.sql", """
            CREATE DATABASE IF NOT EXISTS mqtt CHARACTER SET utf8mb4;
            CREATE USER IF NOT EXISTS 'grapnel'@'%%' IDENTIFIED BY '%s';
            GRANT SELECT, EXECUTE ON mqtt.* TO 'grapnel'@'%%';
            """ % quoted, mode=0o600)

    @property
    def socket(self):
        return self.path("socket")

    def command(self):
        tls = ["--ssl-cert=" + self.path("cert.pem"), "--ssl-key=" + self.path("key.pem"),
               "--ssl-ca=" + self.path("ca.pem")] if self.tls and self.offers_tls else ["--skip-ssl"]
        return [MARIADBD, "--no-defaults", "--datadir=" + self.path("data"), "--socket=" + self.socket,
                "--pid-file=" + self.path("pid"), "--bind-address=127.0.0.1", "--port=%d" % self.port,
                "--init-file=" + self.path("init.sql")] + SETTINGS + tls

    def ready(self):
        """The init file has been read before it answers."""
        return os.path.exists(self.socket) and self.accepts() and self.ask("SELECT 1", check=False) == "1\n"

    def ask(self, statements, check=True):
        """@return what the client prints: a line for each row, tabs between."""
        return self.run([CLIENT, "--no-defaults", "--socket=" + self.socket, "--user=root", "--batch", "--skip-column-names",
                         "--default-character-set=utf8mb4"], input=statements, check=check).stdout

    def sql(self, statements):
        return self.ask("USE %s;\n%s" % (self.database, statements))
