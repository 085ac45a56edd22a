# SPDX-License-Identifier: Apache-2.0
"""How a test file says what its tests need.

    @versions()                              # once for each of 3.1, 3.1.1 and 5.0
    def test_a_ping_is_answered(b, v):
        b.connect(v).ping()

    @broker(limits={"max_qos": 1})           # a broker with this configuration
    def test_qos_2_is_refused(b): ...

`b` is a running broker, shared by all tests of a file that ask for the same configuration, so a
test uses its own names: b.unique("topic"). A broker that a test breaks, stops or reloads is for it
alone: @broker(own=True, ...). A test without `b` gets none. All clients of a test are closed after it.
"""
import functools
import itertools


class Skip(Exception):
    """Raised by a test that cannot run here; the text says why."""


def broker(own=False, **options):
    """Options of class Broker for this test; own: shared with no other test."""
    def decorate(function):
        function.broker_options = options
        function.broker_own = own
        return function
    return decorate


def default_broker(**options):
    """For a module: `BROKER = default_broker(...)` is what tests without @broker get."""
    return options


def each(**parameters):
    """@each(qos=(0, 1, 2)): the test runs once per value; several multiply."""
    def decorate(function):
        rows = getattr(function, "rows", [{}])
        names, values = list(parameters), list(parameters.values())
        function.rows = [dict(row, **dict(zip(names, combination)))
                         for row in rows for combination in itertools.product(*values)]
        return function
    return decorate


def versions(*some):
    return each(v=some or (3, 4, 5))


def skip_if(condition, why):
    def decorate(function):
        if not condition:
            return function

        @functools.wraps(function)
        def skipped(**unused):
            raise Skip(why)
        return skipped
    return decorate
