# SPDX-License-Identifier: Apache-2.0
"""auth-sqlite, with database files that Python's sqlite3 makes and changes."""
import contextlib
import os
import random
import shutil
import sqlite3
import tempfile

from lib import sql_cases
from lib.hashes import quick_hash
from lib.sql_cases import *  # noqa: F401,F403


class File:
    """A database file, as a server that a test can take away."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-sqlite-")
        self.path = os.path.join(self.dir, "users.db")
        self.locked = None
        self.made = False

    def running(self):
        return os.path.exists(self.path)

    def start(self):
        if self.made:
            os.rename(self.path + ".away", self.path)
            return self
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.executescript(CASE.schema().replace("WAL", "DELETE") + sql_cases.data())
        self.made = True
        return self

    def stop(self):
        os.rename(self.path, self.path + ".away")

    kill9 = stop

    def pause(self):
        """Somebody writes, and does not come to an end."""
        self.locked = sqlite3.connect(self.path, isolation_level=None)
        self.locked.execute("BEGIN EXCLUSIVE")

    def resume(self):
        self.locked.execute("ROLLBACK")
        self.locked.close()


class Case(sql_cases.Sql):
    instance = "auth-sqlite"
    long_text = "SUBSTR(HEX(ZEROBLOB(%d)), 1)"

    def connection(self):
        return {"database": self.server.path}

    def execute(self, script):
        with contextlib.closing(sqlite3.connect(self.server.path)) as db:
            db.executescript(script)


CASE = sql_cases.CASE = Case(File)
PLUGIN = '{plugin="auth-sqlite"}'
# One user whose question has no end, and others.
ENDLESS = ("SELECT password FROM mqtt_user WHERE username = %u AND (username <> 'bob' OR "
           "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n) > 0)")


def make(path, password="wonder", journal="DELETE"):
    """A database of alice alone, with the plugin's schema. @return its path."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(CASE.schema().replace("WAL", journal) +
                         sql_cases.insert("mqtt_user", username="alice", password=quick_hash(password)))
    return path


@contextlib.contextmanager
def own_file(journal="DELETE", **options):
    """A broker and a database for one test. Nothing is kept, so that each login asks the database."""
    with tempfile.TemporaryDirectory(prefix="grapnel-sqlite-") as folder:
        path = make(os.path.join(folder, "users.db"), journal=journal)
        CASE.up()
        with CASE.broker(database=path, **options) as b:
            yield b, path


def kept_open(b, path):
    """What the broker has open of a database: names as /proc knows them."""
    folder, out = "/proc/%d/fd" % b.process.pid, []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            out.append(os.readlink(os.path.join(folder, fd)))
    return [x for x in out if x.startswith(path)]


# ---- the file -----------------------------------------------------------------------------------


def test_the_file_is_not_there_at_start():
    CASE.stopped_before_start()


def test_the_file_is_gone_under_load():
    CASE.killed_under_load()


def test_it_is_locked_by_a_writer():
    CASE.hung()


def test_a_file_that_is_not_there_is_said_once_and_so_is_its_return():
    with own_file() as (b, path):
        CASE.allowed(b)
        os.rename(path, path + ".away")
        for _ in range(5):
            CASE.unavailable(b)
        b.wait_log("error .*database %s cannot be used: No such file" % path)
        os.rename(path + ".away", path)
        CASE.allowed(b)
        b.wait_log("notice .*database %s is back" % path)
        b.wait_log("cannot be used")
        assert len(b.log_lines("cannot be used")) == 1


def test_a_file_in_its_place_is_followed():
    with own_file(workers=1) as (b, path):
        for _ in range(3):
            CASE.allowed(b)
        assert b.metric("plugin_connections_total" + PLUGIN) == 1  # it was kept
        old = os.stat(path)
        make(path + ".new", "other")
        os.utime(path + ".new", ns=(old.st_atime_ns, old.st_mtime_ns))
        assert os.stat(path + ".new").st_size == old.st_size  # nothing but the inode tells them apart
        os.rename(path + ".new", path)
        CASE.denied(b, "alice", "wonder")
        assert CASE.code(b, "alice", "other") == 0
        assert kept_open(b, path) == [path]  # and not "... (deleted)"
        assert b.metric("plugin_connections_total" + PLUGIN) == 2
        assert b.metric("plugin_connections" + PLUGIN) == 1


def test_a_file_that_was_copied_over_is_seen():
    with own_file() as (b, path):
        CASE.allowed(b)
        shutil.copyfile(make(path + ".new", "other"), path)
        CASE.denied(b, "alice", "wonder")
        assert CASE.code(b, "alice", "other") == 0


def test_what_is_no_database_is_unavailable_until_it_is_one():
    with own_file(offload_threads=1) as (b, path):
        os.rename(path, path + ".good")
        with open(path, "wb") as f:
            f.write(b"alice:wonder\n" * 1000)
        CASE.unavailable(b)
        b.wait_log("file is not a database")
        os.unlink(path)
        os.mkfifo(path)  # opening it would wait for ever
        CASE.unavailable(b)
        os.unlink(path)
        os.mkdir(path)
        CASE.unavailable(b)
        os.rmdir(path)
        os.rename(path + ".good", path)
        CASE.allowed(b)


def test_a_broken_database_breaks_nothing_else():
    with own_file(breaker_failures=0) as (b, path):
        with open(path, "rb") as f:
            good = f.read()
        chance = random.Random(7)
        for _ in range(40):
            bad = bytearray(good)
            for _ in range(chance.choice((1, 10, 200))):
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            with open(path + ".new", "wb") as f:
                f.write(bad[:chance.choice((len(bad), len(bad), 5000, 100))])
            os.rename(path + ".new", path)
            assert CASE.code(b, "alice", "wonder") in (0, 0x87, 0x88)
        with open(path, "wb") as f:
            f.write(good)
        CASE.allowed(b)


def test_it_is_only_read():
    with own_file() as (b, path):
        with open(path, "rb") as f:
            before = f.read()
        os.chmod(path, 0o444)
        CASE.allowed(b)
        with open(path, "rb") as f:
            assert f.read() == before
        assert os.listdir(os.path.dirname(path)) == ["users.db"]


def test_a_writer_with_wal_holds_nobody_up():
    with own_file(journal="WAL") as (b, path):
        CASE.allowed(b)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE mqtt_user SET password = ?", (quick_hash("other"),))
            CASE.allowed(b)  # not committed
            db.execute("COMMIT")
            CASE.denied(b, "alice", "wonder")
            # Nothing of the broker's is left in the way of a checkpoint.
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            assert CASE.code(b, "alice", "other") == 0


def test_as_many_handles_are_kept_as_are_wanted():
    with own_file(keep_open=1, offload_threads=4, acl_query=None, attributes_query=None) as (b, path):
        clients = []
        for i in range(40):
            clients.append(b.client())
            clients[-1].send_connect("c%d" % i, username="alice", password="wonder")
        for c in clients:
            assert c.expect(CONNACK).reason == 0
        b.wait_metric("plugin_connections" + PLUGIN, 1)
        assert kept_open(b, path) == [path]
    with own_file(keep_open=0) as (b, path):
        CASE.allowed(b)
        b.wait_metric("plugin_connections" + PLUGIN, 0)


# ---- queries ------------------------------------------------------------------------------------


def test_a_query_without_end_is_ended_at_the_deadline():
    CASE.up()
    with CASE.broker(login_query=ENDLESS, timeout="500ms", offload_threads=1) as b:
        for _ in range(2):
            CASE.unavailable(b, "bob")
            CASE.allowed(b)  # the one thread is free again
        b.wait_log("login_query gets no answer from database .*: it took too long")
        assert b.metric("plugin_queries_timed_out_total" + PLUGIN) == 2


def test_a_query_ends_when_its_client_has_left():
    CASE.up()
    with CASE.broker(login_query=ENDLESS, timeout="600s", offload_threads=1) as b:
        bob = b.client()
        bob.send_connect("bob", username="bob", password="builder")
        b.wait_metric("plugin_queries_total" + PLUGIN, 1)
        alice = b.client()
        alice.send_connect("alice", username="alice", password="wonder")
        b.wait_metric("plugin_queries_total" + PLUGIN, 2)  # it waits behind bob's
        bob.close()
        assert alice.expect(CONNACK).reason == 0


def test_queries_that_do_more_than_read_are_refused():
    CASE.up()
    bad = {
        "writes": ("UPDATE mqtt_user SET superuser = 1 WHERE username = %u RETURNING password", "it writes; only reading is allowed"),
        "two": ("SELECT password FROM mqtt_user WHERE username = %u; DROP TABLE mqtt_user", "more than one statement"),
        "empty": ("-- %u", "there is no statement in it"),
        "attach": ("ATTACH %u AS other", "gives no rows|too many attached"),
        "extension": ("SELECT load_extension(%u) AS password", "not authorized"),
        "own": ("SELECT password FROM mqtt_user WHERE username = %u AND 1 <> :mine", "parameters of its own"),
        "text": ('SELECT "secret" AS password FROM mqtt_user WHERE username = %u', "no such column: secret"),
    }
    others = {name: CASE.plugin(order=i, on_error="next", login_query=query) for i, (name, (query, _)) in enumerate(bad.items())}
    with CASE.broker(others=others) as b:
        CASE.allowed(b)  # the last one is asked, and it is all still there
        for name, (_, regex) in bad.items():
            b.wait_log(r'plugin "%s": login_query fails in database .*: .*(%s)' % (name, regex))


def test_a_path_must_be_whole():
    CASE.refused_configurations(
        ({"database": "users.db"}, "not a path from the root"),
        ({"database": ":memory:"}, "not a path from the root"),
        ({"database": "file:/x?mode=rwc"}, "not a path from the root"),
        ({"database": None}, "database"))
