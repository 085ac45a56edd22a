# SPDX-License-Identifier: Apache-2.0
"""PROXY headers, versions 1 and 2: what they say is believed from trusted proxies, and from nobody else."""
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time

from lib import wire
from lib.broker import TIMEOUT, Broker
from lib.case import broker, each, skip_if
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import cpu_seconds, wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 1883\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"
RULES = "everyone\n  allow all t/%{proxy.cn}/#\n"


def v2(tlvs=b"", command=0x21, family=0x11, addresses=None):
    if addresses is None:
        addresses = {0x11: bytes([192, 0, 2, 7, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 1883),
                     0x21: socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4711, 1883),
                     0x31: b"/run/client".ljust(108, b"\0") * 2}.get(family & 0xF0 | 1, b"")
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(addresses) + len(tlvs)) + addresses + tlvs


def tlv(kind, value):
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def certificate(cn, client=7, verify=0):
    return tlv(0x20, struct.pack("!BI", client, verify) + tlv(0x21, b"TLSv1.3") + tlv(0x22, cn))


LOCAL = v2(command=0x20, family=0)
ALL = tlv(0x01, b"mqtt") + tlv(0x02, b"broker.example.org") + tlv(0x04, b"\0" * 7) + tlv(0x05, b"\x00\xff") + \
    tlv(0xEE, b"own")
PROXIED = {"anonymous": True, "proxy_protocol": True, "trusted_proxies": ["127.0.0.1", "unix"]}
BROKER = {"listeners": {
    "mqtt": PROXIED, "unix": dict(PROXIED, bind="unix:{dir}/mqtt.sock"), "elsewhere": dict(PROXIED, trusted_proxies=["10.0.0.0/8", "::1"]),
    "named": dict(PROXIED, identity="cn", anonymous=False)},
    "users": {"sensor-7": "p", "other": "p"}, "rules": RULES}


def connect_packet(client_id, **options):
    return wire.connect(V5, client_id, True, 60, None, options.get("username"), options.get("password"), ())


def through(b, header, listener="mqtt", client_id=None, **options):
    """A client whose header and CONNECT come in one segment. @return it, connected."""
    c = b.client(V5, listener)
    name = b.unique("proxied") if client_id is None else client_id
    c.send_raw(header + connect_packet(name, **options))
    c.client_id = name
    c.expect(CONNACK, reason=0)
    return c


def shown(b, c):
    return b.ctl_json("clients", "show", c.client_id)


def refused(b, send, listener="mqtt", why="handshake_failed: "):
    mark, failed = b.mark(), b.metric("handshakes_failed_total")
    c = b.client(V5, listener)
    try:
        c.send_raw(send)
    except (BrokenPipeError, ConnectionResetError):
        pass
    c.wait_closed()
    b.wait_metric("handshakes_failed_total", failed + 1)
    # So many are refused here that lines about the address are left out now and then.
    return b.log_lines(why, since=mark)


# ---- what is said ------------------------------------------------------------------------------


@each(header=(V1, v2(), v2(ALL), v2(family=0x12)), listener=("mqtt", "unix"))
def test_the_address_in_the_header_is_the_clients(b, header, listener):
    c = through(b, header, listener)
    assert shown(b, c)["peer"] == "192.0.2.7:4711"
    b.wait_log('client_connected: .*%s.*192.0.2.7:4711|"%s" from 192.0.2.7:4711' % (c.client_id, c.client_id))
    c.ping()


@each(header=(b"PROXY TCP6 2001:db8::7 ::1 4711 1883\r\n", v2(family=0x21)))
def test_an_ipv6_address_too(b, header):
    assert shown(b, through(b, header))["peer"] == "[2001:db8::7]:4711"


def test_a_mapped_address_is_the_ipv4_address(b):
    assert shown(b, through(b, b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 2\r\n"))["peer"] == "192.0.2.9:1"


@each(header=(UNKNOWN, b"PROXY UNKNOWN a b c d e\r\n", LOCAL, v2(command=0x20), v2(family=0), v2(family=0x31)))
def test_without_an_address_the_sockets_own_counts(b, header):
    c = through(b, header)
    assert shown(b, c)["peer"] == "127.0.0.1:%d" % c.sock.getsockname()[1]


@each(header=(V1, v2(ALL + certificate(b"sensor-7"))))
def test_a_header_may_come_byte_by_byte(b, header):
    c = b.client(V5)
    name = b.unique("slow")
    for byte in header + connect_packet(name):
        c.send_raw(bytes([byte]))
        time.sleep(0.0005)
    c.expect(CONNACK, reason=0)
    c.client_id = name
    assert shown(b, c)["peer"] == "192.0.2.7:4711"


@each(header=(V1, v2(ALL)))
def test_half_a_header_costs_no_processor(b, header):
    clients = [b.client(V5) for _ in range(5)]
    for n, c in enumerate(clients):
        c.send_raw(header[:-1 - 3 * n])
    through(b, V1)  # they have been looked at
    before = cpu_seconds(b)
    time.sleep(1)
    assert cpu_seconds(b) - before < 0.5
    for n, c in enumerate(clients):
        c.send_raw(header[-1 - 3 * n:] + connect_packet(b.unique("late")))
        c.expect(CONNACK, reason=0)


def test_a_second_header_is_no_mqtt(b):
    c = b.client(V5)
    c.send_raw(V1 + V1 + connect_packet("x"))
    c.wait_closed()


def test_tlvs_are_attributes(b):
    attributes = shown(b, through(b, v2(ALL + certificate(b"sensor-7"))))["attributes"]
    assert attributes == {"proxy.authority": "broker.example.org", "proxy.unique_id": "00ff", "proxy.cn": "sensor-7"}
    attributes = shown(b, through(b, v2(tlv(0x05, b"id-7") + certificate(b"x", verify=18))))["attributes"]
    assert attributes == {"proxy.unique_id": "id-7"}
    assert shown(b, through(b, V1))["attributes"] == {}


def test_attributes_count_in_rules(b):
    c = through(b, v2(certificate(b"sensor-7")))
    assert c.publish("t/sensor-7/x", "x", qos=1) in (0, 0x10)
    assert c.publish("t/sensor-8/x", "x", qos=1) == 0x87
    c.subscribe(["t/sensor-7/#", "t/sensor-8/#"], codes=[0, 0x87])
    # Literally, and nothing at all where there is none.
    for header in (v2(certificate(b"+")), v2(certificate(b"sensor-7", client=1)), V1):
        c = through(b, header)
        assert c.publish("t/sensor-7/x", "x", qos=1) == 0x87


# ---- identity = cn -----------------------------------------------------------------------------


def test_a_common_name_is_the_user_name(b):
    c = through(b, v2(certificate(b"sensor-7")), "named", username="other", password=b"p")
    o = shown(b, c)
    assert o["username"] == "sensor-7" and o["peer"] == "192.0.2.7:4711", o


def test_a_common_name_alone_lets_nobody_in(b):
    c = b.client(V5, "named")
    c.send_raw(v2(certificate(b"sensor-7")) + connect_packet(b.unique("x"), username="sensor-7", password=b"wrong"))
    assert c.expect(CONNACK).reason in (0x86, 0x87)
    c = b.client(V5, "named")
    c.send_raw(v2(certificate(b"unknown")) + connect_packet(b.unique("x"), username="sensor-7", password=b"p"))
    assert c.expect(CONNACK).reason in (0x86, 0x87)


@each(header=(V1, UNKNOWN, LOCAL, v2(), v2(certificate(b"sensor-7", verify=1)), v2(certificate(b"sensor-7", client=1)),
              v2(certificate(b"")), v2(certificate(b"a\nb")), v2(certificate(b"\xff")), v2(certificate(b"a\0b")),
              v2(certificate(b"sensor-7"), command=0x20)))
def test_who_needs_a_common_name_and_has_none_is_refused(b, header):
    refused(b, header + connect_packet("x", username="sensor-7", password=b"p"), "named")


# ---- what is no header -------------------------------------------------------------------------

BAD = {
    "mqtt": connect_packet("x"), "tls": bytes.fromhex("160301020001000001fc0303"), "http": b"GET / HTTP/1.1\r\n\r\n",
    "a zero": V1.replace(b"192.0.2.7", b"192.0.2.07"), "a port": V1.replace(b"4711", b"65536"), "lf": V1.replace(b"\r", b""),
    "lower case": V1.lower(), "an option more": V1.replace(b"\r\n", b" 1\r\n"), "overlong": b"PROXY UNKNOWN " + b"x" * 100,
    "nul": V1.replace(b"\r\n", b"\0\r\n"), "version 3": v2(command=0x31), "a command": v2(command=0x22),
    "a family": v2(family=0x41, addresses=b"x" * 12), "short": v2(addresses=b"x" * 11), "a tlv": v2(b"\x02\xff\xff"),
    "half a tlv": v2(b"\x04\0"), "an ssl tlv": v2(tlv(0x20, b"\x07\0\0\0")), "two names": v2(certificate(b"a") + certificate(b"b")),
    "a checksum": v2(tlv(0x03, b"\1\2\3\4")), "64k": SIGNATURE + b"\x20\0\xff\xff",
}


@each(what=tuple(BAD))
def test_garbage_is_refused_at_once(b, what):
    refused(b, BAD[what])


def test_what_is_refused_is_logged_with_the_address(b):
    own = Broker(**BROKER).start()
    try:
        lines = refused(own, V1.lower())
        assert len(lines) == 1 and re.search(r'127\.0\.0\.1:\d+ on listener "mqtt": a PROXY header was expected', lines[0]), lines
        c = own.client(V5)
        c.send_raw(V1[:20])
        c.sock.shutdown(socket.SHUT_WR)
        c.wait_closed()
        own.wait_log("handshake_failed: .*gone before its PROXY header was whole")
        own.stop()
    finally:
        own.remove()


@broker(own=True, listeners={"mqtt": dict(PROXIED, trusted_proxies=["10.0.0.0/8", "::1", "unix"])})
def test_who_is_not_trusted_is_refused_whatever_it_sends(b):
    for header in (V1, v2(), LOCAL, connect_packet("x"), b""):
        c = b.client(V5)
        try:
            c.send_raw(header)
        except (BrokenPipeError, ConnectionResetError):
            pass
        c.wait_closed()  # also who says nothing: not only when connect_timeout has passed
    b.wait_metric("handshakes_failed_total", 5)
    assert b.metric("connect_timeouts_total") == 0 and b.metric("sessions") == 0
    b.wait_log(r"handshake_failed: 127\.0\.0\.1:\d+ on listener \"mqtt\": it is none of trusted_proxies")


@broker(own=True, listeners={"mqtt": PROXIED})
def test_a_reload_changes_who_is_trusted(b):
    through(b, V1)
    b.configure(listeners={"mqtt": dict(PROXIED, trusted_proxies=["10.0.0.0/8"])})
    b.reload()
    refused(b, V1)
    b.configure(listeners={"mqtt": dict(PROXIED, proxy_protocol=False)})
    b.reload()
    b.connect(V5).ping()


@broker(own=True, listeners={"mqtt": PROXIED})
def test_a_header_begun_before_a_reload_is_taken_as_the_listener_was(b):
    clients = [b.client(V5) for _ in range(8)]  # on both workers
    for c in clients:
        c.send_raw(V1[:20])
    b.wait_metric("connections", 8)
    for round_ in range(3):  # the first configuration is gone by then
        b.configure(listeners={"mqtt": dict(PROXIED, trusted_proxies=["10.%d.0.0/16" % round_])})
        b.reload()
    b.wait_metric("connections", 8)
    for c in clients:
        c.send_raw(V1[20:] + connect_packet(b.unique("r")))
        c.expect(CONNACK, reason=0)


@broker(own=True, listeners={"mqtt": PROXIED}, limits={"connect_timeout": "400ms"})
def test_connect_timeout_counts_for_the_header(b):
    waiting = [b.client(V5) for _ in range(3)]
    waiting[0].send_raw(V1[:9])
    waiting[1].send_raw(LOCAL)
    for c in waiting:
        c.wait_closed()
    assert b.metric("connect_timeouts_total") == 3


# ---- health checks -----------------------------------------------------------------------------


@broker(own=True, listeners={"mqtt": PROXIED, "named": dict(PROXIED, identity="cn")})
def test_a_proxy_that_looks_after_us_is_no_failure(b):
    for listener in ("mqtt", "named"):
        for header in (b"", UNKNOWN, LOCAL, v2(command=0x20, addresses=b"x" * 12)):
            c = b.client(V5, listener)
            c.send_raw(header)
            c.sock.shutdown(socket.SHUT_WR)
            c.wait_closed()
            c = b.client(V5, listener)  # and without a goodbye
            c.send_raw(header)
            c.reset()
    b.wait_metric("connections", 0)
    assert b.metric("handshakes_failed_total") == 0 and b.metric("connections_refused_total") == 0
    assert not b.log_lines(" (notice|warning|error) handshake_failed")


# ---- below TLS ---------------------------------------------------------------------------------


def make_certificate(folder, name, cn):
    """Self-signed. @return paths of certificate and key."""
    pem, key = (os.path.join(folder, name + end) for end in (".pem", ".key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=" + cn], check=True, capture_output=True)
    return pem, key


needs_openssl = skip_if(shutil.which("openssl") is None, "the openssl program is not here")


@needs_openssl
def test_the_header_comes_before_tls():
    b = Broker(listeners={"mqtt": PROXIED})
    try:
        pem, key = make_certificate(b.dir, "server", "localhost")
        b.configure(listeners={"mqtt": dict(PROXIED, tls=True, certificate=pem, private_key=key)})
        b.start()
        context = ssl.create_default_context(cafile=pem)
        for header in (V1, v2(certificate(b"sensor-7"))):
            c = b.client(V5)
            c.send_raw(header)
            c.sock = context.wrap_socket(c.sock, server_hostname="localhost")
            c.connect(b.unique("tls"))
            o = shown(b, c)
            assert o["peer"] == "192.0.2.7:4711", o
            c.ping()
        # What goes wrong after the header is logged with the real address.
        c = b.client(V5)
        c.send_raw(V1 + b"no TLS at all")
        c.wait_closed()
        b.wait_log(r"handshake_failed: 192\.0\.2\.7:4711 on listener")
        b.stop()
    finally:
        b.remove()


# ---- a real one --------------------------------------------------------------------------------

haproxy_here = skip_if(shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin") is None, "haproxy is not installed")


class Haproxy:
    """In TCP mode, on a port that is free, in front of an address."""

    def __init__(self, folder, options, frontend=""):
        self.folder, self.options, self.frontend = folder, options, frontend
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]

    def __enter__(self):
        path = os.path.join(self.folder, "haproxy.cfg")
        with open(path, "w", encoding="ascii") as f:
            f.write("global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
                    "  timeout server 60s\nfrontend f\n  bind 127.0.0.1:%d %s\n  default_backend b\n"
                    "backend b\n  server s %s\n" % (self.port, self.frontend, self.options))
        binary = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
        self.process = subprocess.Popen([binary, "-db", "-f", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.accepts, "haproxy accepts", TIMEOUT)
        return self

    def accepts(self):
        assert self.process.poll() is None, "haproxy ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()


@haproxy_here
@each(send=("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"))
@broker(own=True, listeners={"mqtt": PROXIED})
def test_haproxy_says_who_the_client_is(b, send):
    with Haproxy(b.dir, "127.0.0.1:%d %s check inter 100 check-send-proxy" % (b.port, send)) as proxy:
        c = Client(("127.0.0.1", proxy.port), V5, "127.0.0.9")
        b.clients.append(c)
        c.connect(b.unique("behind"))
        o = shown(b, c)
        assert o["peer"] == "127.0.0.9:%d" % c.sock.getsockname()[1], o
        topic = b.unique("t")
        c.subscribe(topic)
        c.publish(topic, "x" * 100000, qos=1)
        assert len(c.expect_message(topic=topic).payload) == 100000
        accepted = b.metric("connections_accepted_total")
        b.wait_metric("connections_accepted_total", lambda v: v >= accepted + 3)  # its checks
        c.ping()
    assert b.metric("handshakes_failed_total") == 0


@haproxy_here
@needs_openssl
@broker(own=True, listeners={"mqtt": dict(PROXIED, identity="cn", anonymous=False)}, users={"sensor-7": "p"})
def test_haproxy_verifies_certificates_for_us(b):
    pem, key = make_certificate(b.dir, "server", "localhost")
    client_pem, client_key = make_certificate(b.dir, "client", "sensor-7")
    with open(pem, "rb") as f, open(key, "rb") as k:
        both = os.path.join(b.dir, "both.pem")
        with open(both, "wb") as out:
            out.write(f.read() + k.read())
    with Haproxy(b.dir, "127.0.0.1:%d send-proxy-v2-ssl-cn proxy-v2-options authority,crc32c" % b.port,
                 "ssl crt %s ca-file %s verify optional" % (both, client_pem)) as proxy:
        context = ssl.create_default_context(cafile=pem)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port)), server_hostname="localhost") as s:
            s.settimeout(TIMEOUT)
            try:
                s.sendall(connect_packet("x", username="sensor-7", password=b"p"))
                assert s.recv(1) == b""  # no certificate, no name
            except (ConnectionResetError, ssl.SSLError):
                pass
        context.load_cert_chain(client_pem, client_key)
        c = Client(("127.0.0.1", proxy.port), V5)
        b.clients.append(c)
        c.sock = context.wrap_socket(c.sock, server_hostname="localhost")
        c.connect(b.unique("behind"), password=b"p")
        o = shown(b, c)
        assert o["username"] == "sensor-7", o
        assert o["attributes"]["proxy.cn"] == "sensor-7" and o["attributes"]["proxy.authority"] == "localhost", o
