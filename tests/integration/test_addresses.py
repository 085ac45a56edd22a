# SPDX-License-Identifier: Apache-2.0
"""max_connections_per_address and connection_rate_per_address: one address cannot have it all."""
import socket
import ssl
import threading
import time

from lib.broker import FACTOR, Broker
from lib.case import broker, each
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import wait_until
from test_proxy import PROXIED, V1, connect_packet, make_certificate, needs_openssl, v2

OPEN = {"mqtt": {"anonymous": True}}


def let_in(c, client_id="x"):
    """Does the broker answer a CONNECT? The connection stays."""
    try:
        c.send_connect(client_id)
        p = c.poll(c.timeout)
    except (BrokenPipeError, ConnectionResetError):
        return False
    assert p is not None or c.eof
    return p is not None and p.type == CONNACK and p.reason == 0


def attempt(b, listener="mqtt", source=None):
    """@return a connected client, or None: refused."""
    c = b.client(V5, listener, source)
    return c if let_in(c, b.unique("a")) else None


def reaches(b, count, **options):
    """@return as many clients as get in, until one does not."""
    inside = []
    while len(inside) < 50:
        c = attempt(b, **options)
        if c is None:
            break
        inside.append(c)
    assert len(inside) == count, len(inside)
    return inside


@each(workers=(1, 2))
@broker(own=True, listeners=OPEN, limits={"max_connections_per_address": 5}, workers=lambda workers: workers)
def test_an_address_has_so_many_connections(b, workers):
    inside = reaches(b, 5)
    assert b.metric("connections_refused_address_total") == 1 and b.metric("connections_refused_total") == 1
    b.wait_log(r"connection_refused: 127\.0\.0\.1:\d+ on listener \"mqtt\": max_connections_per_address is reached")
    assert attempt(b, source="127.0.0.2") is not None  # another address is not in it
    assert b.metric("addresses") == 2
    for way in ("disconnect", "close", "reset"):
        c = inside.pop()
        getattr(c, way)()
        b.wait_metric("connections", len(inside) + 1)
        inside += reaches(b, 1)
    inside[0].ping()
    while inside:
        inside.pop().close()
    b.wait_metric("connections", 1)
    inside = reaches(b, 5)
    assert b.metric("connections") == 6


@broker(own=True, listeners=OPEN, limits={"max_connections_per_address": 3, "connect_timeout": "%dms" % (500 * FACTOR)})
def test_connections_that_say_nothing_count_and_end(b):
    silent = [b.client(V5) for _ in range(3)]
    wait_until(lambda: len(b.log_lines("debug connection from")) == 3, "they are there", TIMEOUT)
    assert attempt(b) is None
    for c in silent:
        c.wait_closed()
    b.wait_metric("connections", 0)
    reaches(b, 3)


@broker(own=True, listeners=OPEN, limits={"max_connections_per_address": 2})
def test_whoever_is_refused_for_another_reason_counts_no_more(b):
    for _ in range(10):
        c = b.client(V5)
        c.send_raw(b"\x20\x02\x00\x00")
        c.wait_closed()
        b.wait_metric("connections", 0)
    first = b.connect(V5, "same")
    second = b.connect(V5, "same")  # takes over
    first.wait_closed()
    b.wait_metric("connections", 1)
    reaches(b, 1)
    second.ping()


@broker(own=True, listeners=OPEN, limits={"connection_rate_per_address": 5})
def test_an_address_connects_so_fast(b):
    started, inside, outside = time.monotonic(), 0, 0
    for _ in range(40):
        c = attempt(b)
        inside += c is not None
        outside += c is None
        if c is not None:
            c.close()
    seconds = time.monotonic() - started
    assert 5 <= inside <= 5 + 5 * seconds + 1, (inside, seconds)
    assert outside == b.metric("connections_refused_address_total")
    if outside:
        b.wait_log("connection_refused: .*connection_rate_per_address is exceeded")
    assert attempt(b, source="127.0.0.3") is not None
    deadline = time.monotonic() + 10
    while attempt(b) is None:  # and again after a while
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ipv6_here():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@broker(own=True, listeners={"mqtt": {"anonymous": True, "bind": "*:0"}}, limits={"max_connections_per_address": 3})
def test_ipv4_on_a_dual_stack_socket_is_ipv4_and_ipv6_counts_by_its_64(b):
    port = b.port
    b.addresses["mqtt"] = ("127.0.0.1", port)
    reaches(b, 3)
    assert attempt(b, source="127.0.0.2") is not None
    if ipv6_here():
        b.addresses["mqtt"] = ("::1", port)
        reaches(b, 3)


@broker(own=True, listeners={"mqtt": dict(PROXIED)}, limits={"max_connections_per_address": 2})
def test_behind_a_proxy_the_real_address_counts(b):
    def from_address(header):
        c = b.client(V5)
        try:
            c.send_raw(header + connect_packet(b.unique("p")))
            p = c.poll(c.timeout)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return p is not None and p.reason == 0

    def v6(address):
        return ("PROXY TCP6 %s ::1 1 2\r\n" % address).encode()

    for _ in range(2):
        assert from_address(V1)
    assert not from_address(v2())  # the same one
    b.wait_log(r"connection_refused: 192\.0\.2\.7:4711 on listener \"mqtt\": max_connections_per_address")
    assert b.metric("handshakes_failed_total") == 0
    # Any number of them from the proxy's own address; IPv6 by its /64.
    for i in range(20):
        assert from_address(b"PROXY TCP4 198.51.100.%d 192.0.2.1 1 2\r\n" % i)
    assert from_address(v6("2001:db8:0:1::1")) and from_address(v6("2001:db8:0:1:ffff::2"))
    assert not from_address(v6("2001:db8:0:1:8000::3"))
    assert from_address(v6("2001:db8:0:2::1"))
    b.close_clients()
    b.wait_metric("connections", 0)
    for _ in range(2):
        assert from_address(V1)
    assert not from_address(V1)


@broker(own=True, listeners={"mqtt": PROXIED}, limits={"max_connections_per_address": 1})
def test_the_checks_of_a_proxy_count_for_nobody(b):
    checks = []
    for _ in range(5):
        c = b.client(V5)
        c.send_raw(b"PROXY UNKNOWN\r\n")
        checks.append(c)
    c = b.client(V5)
    c.send_raw(b"PROXY UNKNOWN\r\n")
    assert let_in(c, "local")
    for c in checks:
        c.close()
    b.wait_metric("connections", 1)
    assert b.metric("connections_refused_total") == 0


@needs_openssl
def test_the_limit_comes_before_tls():
    b = Broker(listeners=OPEN)
    try:
        pem, key = make_certificate(b.dir, "server", "localhost")
        b.configure(listeners={"mqtt": {"anonymous": True, "tls": True, "certificate": pem, "private_key": key},
                               "proxied": dict(PROXIED, tls=True, certificate=pem, private_key=key)},
                    limits={"max_connections_per_address": 2})
        b.start()
        silent = [b.client(V5) for _ in range(2)]
        b.wait_metric("connections", 2)
        context = ssl.create_default_context(cafile=pem)

        def greeted(listener, header):
            c = b.client(V5, listener)
            try:
                c.send_raw(header)
                context.wrap_socket(c.sock, server_hostname="localhost").close()
                return True
            except (ssl.SSLError, OSError):
                return False
            finally:
                c.sock = None

        assert not greeted("mqtt", b"")
        for c in silent:
            c.close()
        b.wait_metric("connections", 0)
        failed = b.metric("handshakes_failed_total")  # of those two
        assert failed == 2 and greeted("mqtt", b"")
        held = [b.client(V5, "proxied") for _ in range(2)]
        for c in held:
            c.send_raw(V1)
        b.wait_metric("addresses", lambda v: v >= 1)
        deadline = time.monotonic() + 10
        while greeted("proxied", V1):  # until both have been looked at
            assert time.monotonic() < deadline
        b.wait_log(r"connection_refused: 192\.0\.2\.7:4711 on listener \"proxied\"")
        assert b.metric("handshakes_failed_total") == failed
        b.stop()
    finally:
        b.remove()


@broker(own=True, listeners={"mqtt": {"anonymous": True, "max_connections_per_address": 2}, "free": {"anonymous": True}})
def test_limits_belong_to_listeners_and_are_reloaded(b):
    inside = reaches(b, 2)
    free = [attempt(b, "free") for _ in range(10)]
    assert None not in free and b.metric("addresses") == 1
    b.configure(listeners={"mqtt": {"anonymous": True}, "free": {"anonymous": True}})
    b.reload()
    inside += [attempt(b) for _ in range(4)]
    assert None not in inside
    b.configure(listeners={"mqtt": {"anonymous": True, "max_connections_per_address": 2}, "free": {"anonymous": True}})
    b.reload()
    assert attempt(b) is None  # the first two still count
    inside.pop(0).close()
    b.wait_metric("connections", len(inside) + len(free))
    inside += reaches(b, 1)
    for c in inside + free:
        c.close()
    b.wait_metric("connections", 0)
    reaches(b, 2)


@broker(own=True, listeners={"mqtt": {"anonymous": True}, "unix": {"anonymous": True, "bind": "unix:{dir}/s"}},
        limits={"max_connections_per_address": 1, "connection_rate_per_address": 1})
def test_unix_sockets_have_no_address(b):
    assert None not in [attempt(b, "unix") for _ in range(5)]
    assert b.metric("addresses") == 0


@broker(own=True, workers=2, listeners=OPEN, limits={"max_connections_per_address": 20})
def test_a_storm_from_one_address_keeps_nobody_else_out(b):
    """Many threads at once; never more than the limit, and all places are given back."""
    most, lock, stop = [0], threading.Lock(), threading.Event()
    address = b.address()

    def hammer():
        mine = []
        while not stop.is_set():
            try:
                s = socket.create_connection(address, 5)
                mine.append(s)
            except OSError:
                pass
            if len(mine) > 8:
                mine.pop(0).close()
        for s in mine:
            s.close()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for i in range(20):
            assert attempt(b, source="127.0.0.4") is not None
            with lock:
                most[0] = max(most[0], b.metric("connections") - i - 1)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert most[0] <= 20 and b.metric("connections_refused_address_total") > 0
    b.close_clients()
    b.wait_metric("connections", 0)
    reaches(b, 20)
