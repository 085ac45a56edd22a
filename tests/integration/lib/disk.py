# SPDX-License-Identifier: Apache-2.0
"""A disk that forgets and fails, and a clock that jumps: tests/faults/disk.h, loaded into a program under test.

    disk = Disk(folder, platter=True)
    program = subprocess.Popen(..., env=dict(os.environ, **disk.env))
    disk.fail("EIO", "sync")      # from now on; disk.works() ends it
    disk.clock(-3600)             # the wall clock is an hour behind
    program.kill()
    disk.cut(random.Random(1))    # the folder as a loss of power leaves it
"""
import ctypes
import errno
import mmap
import os
import shutil

from .case import Skip

LIBRARY = os.path.join(os.path.abspath(os.environ.get("GRAPNEL_BUILD", ".")), "tests/faults/.libs/disk.so")
OPERATIONS = {"write": 1, "sync": 2, "read": 4, "open": 8, "short": 16, "grow": 32, "hang": 64}
SECTOR = 512


class Disk:
    """folder: what is watched, made if need be. platter: keep what a loss of power would leave of it."""

    def __init__(self, folder, platter=False):
        if not os.path.exists(LIBRARY):
            raise Skip("%s was not built" % LIBRARY)
        self.folder = os.path.realpath(folder)
        self.control = self.folder + ".control"
        self.platter = self.folder + ".platter" if platter else None
        os.makedirs(self.folder, exist_ok=True)
        with open(self.control, "wb") as f:
            f.write(bytes(4096))
        with open(self.control, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)
        self.at = [ctypes.c_int64.from_buffer(self.map, 8 * i) for i in range(6)]
        self.env = {"LD_PRELOAD": LIBRARY, "GRAPNEL_DISK": self.folder, "GRAPNEL_DISK_CONTROL": self.control}
        if self.platter:
            os.makedirs(self.platter, exist_ok=True)
            self.env["GRAPNEL_DISK_PLATTER"] = self.platter

    # ---- what fails ----------------------------------------------------------------------------

    def fail(self, error, *operations, after=0):
        """`operations` fail with this errno, after so many that still work."""
        self.at[0].value = getattr(errno, error) if error else 0
        self.at[2].value = after
        self.at[1].value = sum(OPERATIONS[o] for o in operations)

    def works(self):
        self.at[1].value = 0
        self.at[0].value = 0

    @property
    def failed(self):
        """How many operations did."""
        return self.at[3].value

    def clock(self, seconds):
        """The wall clock of the program, against the real one."""
        self.at[4].value = int(seconds * 1000)

    def slow(self, seconds):
        """What an fsync takes, also one that has begun; only where there is a platter."""
        self.at[5].value = int(seconds * 1e6)

    # ---- loss of power -------------------------------------------------------------------------

    def cut(self, rng=None):
        """
        The program was killed: the folder becomes what is on the platter. With rng, some of what was written and not
        synced reached it, too: single sectors, in no order.
        """
        if rng is not None:
            for name in sorted(os.listdir(self.platter)):
                if os.path.exists(os.path.join(self.folder, name)):
                    self._tear(name, rng)
        for name in os.listdir(self.platter):
            if name.startswith("."):
                os.unlink(os.path.join(self.platter, name))
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))
        for name in os.listdir(self.platter):
            shutil.copy(os.path.join(self.platter, name), os.path.join(self.folder, name))

    def _tear(self, name, rng):
        with open(os.path.join(self.folder, name), "rb") as f:
            new = f.read()
        with open(os.path.join(self.platter, name), "r+b") as f:
            old = f.read()
            if old == new:
                return
            reached = rng.random()
            size = len(old) + int(max(0, len(new) - len(old)) * rng.random())
            for at in range(0, size, SECTOR):
                piece = new[at:min(at + SECTOR, size)]
                if piece != old[at:at + len(piece)] and rng.random() < reached:
                    f.seek(at)
                    f.write(piece)
            if size > len(old):
                f.truncate(size)
