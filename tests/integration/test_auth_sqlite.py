# SPDX-License-Identifier: Apache-2.0
"""auth-sqlite, with database files that Python's sqlite3 makes and changes."""
import contextlib
import os
import shutil
import sqlite3
import tempfile

from lib import sql_cases
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


def test_the_file_is_not_there_at_start():
    CASE.stopped_before_start()


def test_the_file_is_gone_under_load():
    CASE.killed_under_load()


def test_it_is_locked_by_a_writer():
    CASE.hung()
