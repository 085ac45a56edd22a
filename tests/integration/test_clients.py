# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote: mosquitto_pub and mosquitto_sub, Paho Python, Paho C."""
import os
import queue
import shutil
import subprocess

from lib.broker import FACTOR
from lib.case import Skip, broker, each, skip_if, versions
from lib.mqtt import *  # noqa: F401,F403

try:
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    paho = None

WAIT = 20 * FACTOR
MOSQUITTO = {V31: "mqttv31", V311: "mqttv311", V5: "mqttv5"}

# ---- mosquitto_pub, mosquitto_sub -----------------------------------------------------------------

no_mosquitto = skip_if(not (shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub")),
                       "mosquitto_pub and mosquitto_sub are not installed")


def mosquitto(program, b, v, *args, **options):
    command = ["mosquitto_" + program, "-h", "127.0.0.1", "-p", str(b.port), "-V", MOSQUITTO[v]]
    return subprocess.Popen(command + list(args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, **options)


def output(process, code=0):
    try:
        out = process.communicate(timeout=WAIT)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("it hangs; so far: %r" % process.communicate()[0]) from None
    assert process.returncode == code, (process.args, process.returncode, out)
    return out


@each(v=ALL, qos=(0, 1, 2))
@no_mosquitto
def test_mosquitto_pub_and_sub_talk_to_each_other(b, v, qos):
    topic, name = b.unique("mosquitto"), b.unique("sub")
    b.wait_metric("subscriptions", 0)  # those of the test before are gone
    s = mosquitto("sub", b, v, "-i", name, "-t", topic + "/#", "-q", str(qos), "-C", "3", "-v")
    b.wait_metric("subscriptions", 1)
    for text in ("one", "two words", "drei ü"):
        output(mosquitto("pub", b, v, "-t", topic + "/x", "-m", text, "-q", str(qos)))
    assert output(s) == "".join("%s/x %s\n" % (topic, t) for t in ("one", "two words", "drei ü"))


@versions()
@no_mosquitto
def test_mosquitto_pub_sends_many_lines_in_order(b, v):
    topic = b.unique("lines")
    c = b.connect(V5)
    c.subscribe(topic, qos=2)
    p = mosquitto("pub", b, v, "-t", topic, "-l", "-q", "2", stdin=subprocess.PIPE)
    p.stdin.write("".join("line %d\n" % n for n in range(200)))
    p.stdin.close()
    p.stdin = None
    for n in range(200):
        c.expect_message(topic, "line %d" % n, qos=2)
    output(p)


@versions()
@no_mosquitto
def test_mosquitto_sub_gets_a_retained_message_and_leaves(b, v):
    topic = b.unique("kept")
    output(mosquitto("pub", b, v, "-t", topic, "-m", "kept", "-r", "-q", "1"))
    assert output(mosquitto("sub", b, v, "-t", topic, "-C", "1", "-F", "%r %p")) == "1 kept\n"


@versions()
@no_mosquitto
def test_mosquitto_sub_resumes_its_session(b, v):
    topic, name = b.unique("resume"), b.unique("sub")
    keep = ["-c", "-i", name, "-t", topic, "-q", "1"] + (["-x", "300"] if v == V5 else [])
    output(mosquitto("sub", b, v, "-E", *keep))
    output(mosquitto("pub", b, v, "-t", topic, "-m", "meanwhile", "-q", "1"))
    assert output(mosquitto("sub", b, v, "-C", "1", *keep)) == "meanwhile\n"


@no_mosquitto
def test_mosquitto_clients_pass_properties_on(b):
    topic = b.unique("props")
    before = b.metric("subscriptions")
    s = mosquitto("sub", b, V5, "-t", topic, "-C", "1", "-F", "%P|%C|%R|%D|%A|%p")
    b.wait_metric("subscriptions", before + 1)
    args = ["-D", "publish", "user-property", "key", "value", "-D", "publish", "content-type", "text",
            "-D", "publish", "response-topic", "answer", "-D", "publish", "correlation-data", "7"]
    output(mosquitto("pub", b, V5, "-t", topic, "-m", "hello", *args))
    assert output(s) == "key:value|text|answer|7||hello\n"


@versions()
@no_mosquitto
@broker(users={"alice": "secret"})
def test_mosquitto_pub_says_not_authorised_when_the_password_is_wrong(b, v):
    output(mosquitto("pub", b, v, "-t", "t", "-m", "x", "-u", "alice", "-P", "secret"))
    out = mosquitto("pub", b, v, "-t", "t", "-m", "x", "-u", "alice", "-P", "wrong").communicate(
        timeout=WAIT)[0]
    assert "not authori" in out.lower(), out


# ---- Paho Python ----------------------------------------------------------------------------------

no_paho = skip_if(paho is None, "python3-paho-mqtt is not installed")


class Paho:
    """A Paho client with its thread; what comes is in queues."""

    def __init__(self, b, v, name, **options):
        self.connected, self.messages, self.done = queue.Queue(), queue.Queue(), queue.Queue()
        if v == V5:
            self.client = paho.Client(name, protocol=paho.MQTTv5)
        else:
            self.client = paho.Client(name, clean_session=options.pop("clean", True),
                                      protocol=paho.MQTTv31 if v == V31 else paho.MQTTv311)
        c = self.client
        c.on_connect = lambda *a: self.connected.put(a)
        c.on_message = lambda client, data, m: self.messages.put(m)
        c.on_subscribe = lambda *a: self.done.put(a)
        c.on_disconnect = lambda *a: None
        c.connect("127.0.0.1", b.port, 60, **options)
        c.loop_start()
        assert int(getattr(self.connected.get(timeout=WAIT)[3], "value", 0)) == 0

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        self.done.get(timeout=WAIT)

    def message(self):
        try:
            return self.messages.get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError("no message came to Paho") from None

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@each(v=ALL, qos=(0, 1, 2))
@no_paho
def test_paho_python_clients_talk_to_each_other(b, v, qos):
    topic = b.unique("paho")
    s, p = Paho(b, v, b.unique("s")), Paho(b, v, b.unique("p"))
    try:
        s.subscribe(topic + "/+", qos)
        for n in range(100):
            p.client.publish(topic + "/x", b"%d" % n, qos)
        for n in range(100):
            m = s.message()
            assert (m.topic, m.payload, m.qos) == (topic + "/x", b"%d" % n, qos), m.payload
    finally:
        s.close()
        p.close()


@each(v=(V311, V5))
@no_paho
def test_paho_python_sends_large_messages(b, v):
    topic = b.unique("large")
    c = Paho(b, v, b.unique("c"))
    try:
        c.subscribe(topic, 2)
        payload = os.urandom(900000)
        for qos in (0, 1, 2):
            c.client.publish(topic, payload, qos)
            assert c.message().payload == payload
    finally:
        c.close()


@no_paho
def test_paho_python_passes_properties_on(b):
    topic = b.unique("props")
    c = Paho(b, V5, b.unique("c"))
    try:
        c.subscribe(topic, 1)
        props = Properties(PacketTypes.PUBLISH)
        props.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
        props.ContentType, props.ResponseTopic, props.CorrelationData = "text", "answer", b"\x00\xff"
        props.MessageExpiryInterval, props.PayloadFormatIndicator = 1000, 1
        c.client.publish(topic, "hello", 1, properties=props)
        got = c.message().properties
        assert got.UserProperty == [("a", "1"), ("b", "2"), ("a", "3")], got
        assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == (
            "text", "answer", b"\x00\xff"), got
        assert got.MessageExpiryInterval in (999, 1000) and got.PayloadFormatIndicator == 1, got
    finally:
        c.close()


@each(v=ALL)
@no_paho
def test_the_will_of_a_paho_python_client_is_published(b, v):
    topic = b.unique("will")
    s = b.connect(V5)
    s.subscribe(topic, qos=1)
    c = paho.Client(b.unique("w"), protocol={V31: paho.MQTTv31, V311: paho.MQTTv311, V5: paho.MQTTv5}[v])
    c.will_set(topic, "gone", 1)
    c.connect("127.0.0.1", b.port, 60)
    c.loop_start()
    b.wait_log('client_connected: client "%s"' % c._client_id.decode())
    c.loop_stop()
    c._sock_close()
    s.expect_message(topic, "gone", qos=1)


# ---- Paho C ---------------------------------------------------------------------------------------

@versions()
def test_paho_c_clients_do_round_trips(b, v):
    program = os.path.join(os.environ.get("GRAPNEL_BUILD", "."), "tests/integration/paho_client")
    if not os.path.exists(program):
        raise Skip("built by make check where libpaho-mqtt-dev is installed")
    r = subprocess.run([program, "tcp://127.0.0.1:%d" % b.port, str(v), b.unique("paho-c"), "10"],
                       text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT * 3,
                       check=False)
    assert r.returncode == 0 and r.stdout == "ok\n", r.stdout
