# SPDX-License-Identifier: Apache-2.0
"""event-log: what happens as lines of JSON in files, pipes, syslog and MQTT; targets that fail, and nobody who waits for them."""
import base64
import glob
import json
import os
import re
import shutil
import socket
import tempfile
import threading

from lib.broker import Broker, run_grapneld
from lib.case import broker, each
from lib.disk import Disk
from lib.hooks import eventually
from lib.mqtt import PUBACK, V5, P
from lib.proc import threads
from lib.wire import Will

ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}-[0-9a-f]{16}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}
NEW = {"events": ["message_published"]}  # little else, so that a test can count


def elog(**options):
    """A plugins section."""
    return {"event-log": dict({"file": "{dir}/log"}, **options)}


def parse(data):
    """Every line is whole, and JSON; the last one may be on its way."""
    return [json.loads(line) for line in data[:data.rfind(b"\n") + 1].splitlines()]


def read(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        return parse(f.read())


def lines(b, event=None, client=None, topic=None, name="log"):
    return [x for x in read(b.path(name))
            if (event is None or x["event"] == event)
            and (client is None or x.get("client", {}).get("client_id") == client)
            and (topic is None or x.get("message", {}).get("topic") == topic)]


def wait(b, event=None, count=1, **what):
    """The last line like that, once there are so many."""
    def enough():
        found = lines(b, event, **what)
        return found if len(found) >= count else None
    return eventually(enough, "%d lines %s %r" % (count, event, what))[-1]


def metric(b, name, instance="event-log"):
    return b.metric('plugin_%s{plugin="%s"}' % (name, instance))


def wait_metric(b, name, wanted, instance="event-log"):
    return b.wait_metric('plugin_%s{plugin="%s"}' % (name, instance), wanted)


def payloads(found):
    return [x["message"]["payload"] for x in found]


# ---- lines ------------------------------------------------------------------------------------------


def test_everything_that_happens_is_a_line_with_an_id_and_a_time():
    with Broker(plugins=elog(), users={"u": "p"}, rules="allow all #\n", listeners={"mqtt": {}}) as b:
        login = {"username": "u", "password": "p"}
        c = b.connect(V5, "life", props=[(P.SESSION_EXPIRY, 100)], **login)
        c.subscribe("a/+", qos=1)
        c.publish("a/b", "hällo", qos=1, retain=True)
        c.expect_message("a/b")
        c.publish("a/b", b"", qos=1, retain=True)
        c.unsubscribe("a/+")
        again = b.connect(V5, "life", clean=False, session_present=True, **login)
        b.client(V5).connect("bad", reason=0x87, username="u", password="wrong")
        w = b.client(V5)
        w.connect("with-will", will=Will("w", b"gone"), **login)
        w.reset()
        wait(b, "will_published")
        again.disconnect(props=[(P.SESSION_EXPIRY, 0)])
        wait(b, "session_expired", client="life")
        b.stop()
        found = lines(b)
        assert {x["event"] for x in found} >= {
            "broker_starting", "broker_ready", "client_connected", "client_refused", "client_disconnected", "session_created",
            "session_resumed", "session_taken_over", "session_expired", "subscribed", "unsubscribed", "message_published",
            "message_delivered", "message_acknowledged", "retained_set", "retained_cleared", "will_published",
            "broker_stopping"}, {x["event"] for x in found}
        for x in found:
            assert ID.fullmatch(x["id"]) and TIME.fullmatch(x["time"]), x
        assert len({x["id"] for x in found}) == len(found)
        assert [x["event"] for x in lines(b, client="life")][:3] == ["session_created", "client_connected", "subscribed"]
        first = lines(b, "message_published", client="life")[0]
        assert (first["message"]["payload"], first["client"]["username"]) == ("hällo", "u"), first
        assert "wrong" not in json.dumps(found), "a password"
        assert os.stat(b.path("log")).st_mode & 0o777 == 0o640


@broker(plugins=elog(payload_max="1k", **NEW))
def test_bytes_of_all_kinds_are_valid_json(b):
    c = b.connect(V5, 'a"b\\c\u0085\u2028€')
    topic, blob = b.unique('t"\\'), bytes(range(256))
    c.publish(topic, blob, qos=1)
    c.publish(topic, "\x1b[31m\n\x7f", qos=1)
    c.publish(topic, b"x" * 1025, qos=1)
    wait(b, topic=topic, count=3)
    binary, control, long = lines(b, topic=topic)
    assert binary["client"]["client_id"] == 'a"b\\c\u0085\u2028€', binary
    assert base64.b64decode(binary["message"]["payload_base64"]) == blob and "payload" not in binary["message"], binary
    assert control["message"]["payload"] == "\x1b[31m\n\x7f", control
    assert long["message"]["payload_size"] == 1025 and not {"payload", "payload_base64"} & set(long["message"]), long


@broker(plugins=elog(payload="none", **NEW))
def test_payloads_can_be_left_out(b):
    topic = b.unique("t")
    b.connect(V5).publish(topic, "secret", qos=1)
    x = wait(b, topic=topic)
    assert x["message"]["payload_size"] == 6, x
    with open(b.path("log"), "rb") as f:
        assert b"secret" not in f.read()


@broker(workers=4, plugins=dict(elog(max_size="20k", keep=1000, **NEW), allow=ALLOW, **{
    "of-topics": {"module": "event-log", "file": "{dir}/topics", "topics": ["order/3/#"], "events": ["message_published", "subscribed"]},
    "of-clients": {"module": "event-log", "file": "{dir}/clients", "clients": ["c?1", "none*"], "events": ["client_connected"]},
    "of-users": {"module": "event-log", "file": "{dir}/users", "users": ["us*"]},
    "of-sample": {"module": "event-log", "file": "{dir}/sample", "sample": 4, "sample_by": "client"}}))
def test_order_per_client_over_files_and_selections_of_several_instances(b):
    clients = [b.connect(V5, "c-%d" % n, username="user" if n == 2 else None) for n in range(8)]
    for i in range(60):
        for n, c in enumerate(clients):
            c.send_publish("order/%d/x" % n, "%d" % i, qos=1, packet_id=i + 1)
    for c in clients:
        for _ in range(60):
            c.wait_for(PUBACK)
        c.subscribe("order/3/y")
    wait_metric(b, "lines_total", lambda v: v >= 480)
    files = sorted(glob.glob(b.path("log.*")), key=lambda p: -int(p.rsplit(".", 1)[1])) + [b.path("log")]
    assert len(files) > 3, "put aside: %s" % files
    assert all(os.path.getsize(p) <= 20480 for p in files), files
    found = [x for p in files for x in read(p)]
    for n in range(8):
        mine = [x for x in found if x["client"]["client_id"] == "c-%d" % n]
        assert payloads(mine) == [str(i) for i in range(60)], (n, payloads(mine))
    assert [x["event"] for x in found if x["event"] != "message_published"] == []

    eventually(lambda: len(lines(b, name="topics")) == 68, "60 messages and 8 subscriptions: %d" % len(lines(b, name="topics")))
    assert {x["client"]["client_id"] for x in lines(b, "message_published", name="topics")} == {"c-3"}
    wait(b, "client_connected", name="clients")
    assert [x["client"]["client_id"] for x in lines(b, name="clients")] == ["c-1"]
    b.close_clients()
    wait(b, "session_expired", name="users")
    assert {x["client"]["username"] for x in lines(b, name="users") if "client" in x} == {"user"}
    eventually(lambda: metric(b, "queue_bytes", "of-sample") == 0, "written")
    sampled = {x["client"]["client_id"] for x in lines(b, name="sample") if "client" in x}
    for name in sampled:  # of a client all, or nothing
        assert len(lines(b, "message_published", client=name, name="sample")) == 60, (name, sampled)
    assert len(sampled) < 8, sampled


# ---- files --------------------------------------------------------------------------------------------


@broker(own=True, plugins=elog(**NEW))
def test_a_file_that_is_moved_away_is_made_anew_and_a_reload_loses_nothing(b):
    c = b.connect(V5)
    for n in range(6):
        if n == 2:
            os.rename(b.path("log"), b.path("moved"))
        if n == 4:
            b.reload()  # nothing changed: the instance goes on
        if n == 5:
            plugins = elog(payload="base64", **NEW)
            plugins["auth"] = {"module": "event-log", "target": "none", "mqtt": True}
            b.configure(plugins=plugins)
            b.reload()
        c.publish("t", "%d" % n, qos=1)
        wait_metric(b, "lines_total", lambda v: v >= 1)
        wait(b, "message_published", count=(n + 1 if n < 2 else n - 1))
    assert payloads(lines(b, name="moved")) == ["0", "1"]
    assert payloads(lines(b)[:3]) == ["2", "3", "4"]
    assert lines(b)[3]["message"]["payload_base64"] == base64.b64encode(b"5").decode()
    os.rename(b.path("log"), b.path("idle"))
    eventually(lambda: os.path.exists(b.path("log")), "made anew without an event")


def test_a_full_disk_loses_nothing_that_fits_into_the_queue_and_breaks_no_line():
    folder = tempfile.mkdtemp(prefix="grapnel-test-")
    disk = Disk(os.path.join(folder, "disk"))
    b = Broker(plugins=elog(file=os.path.join(disk.folder, "log"), **NEW))
    b.env.update(disk.env)
    path = os.path.join(disk.folder, "log")
    try:
        with b:
            c = b.connect(V5)
            c.publish("t", "0", qos=1)
            eventually(lambda: read(path), "the first line")
            disk.fail("ENOSPC", "short", "grow", after=1)  # half a line, then nothing
            for n in range(1, 20):
                c.publish("t", "%d" % n + "." * (100 - 5 * n), qos=1)  # however many go at once, half of it ends in a line
            b.wait_log(r'plugin "event-log".*No space left on device; make room')
            wait_metric(b, "errors_total", lambda v: v >= 1)
            with open(path, "rb") as f:
                cut = f.read()
            disk.works()
            b.wait_log(r'plugin "event-log".*events are written again')
            eventually(lambda: len(read(path)) == 20, "all of them")
            assert [p.rstrip(".") for p in payloads(read(path))] == [str(n) for n in range(20)]
            assert not cut.endswith(b"\n"), "a line was cut meanwhile"
            assert len(b.log_lines("No space left")) == 1, "said once"
            assert metric(b, "lost_total") == 0
    finally:
        shutil.rmtree(folder)


@each(target=("file", "folder", "taken"))
def test_what_cannot_be_written_is_refused_before_anything_is_made(target):
    b = Broker(plugins=elog(file={"file": "{dir}/new", "folder": "{dir}/none/log", "taken": "{dir}"}[target]))
    b.configure()
    r = run_grapneld("-t", "-c", b.conf)
    assert (r.returncode == 0) == (target == "file"), r.stderr
    assert target != "folder" or "make its folder" in r.stderr, r.stderr
    assert target != "taken" or "is a folder; name a file in it" in r.stderr, r.stderr
    assert not os.path.exists(b.path("new")), "only a check"
    b.remove()


@each(case=(({"target": "stdout"}, "it is of no use with target = stdout"),
            ({"target": "none", "file": None}, "nothing to do with target = none; set mqtt = yes"),
            ({"mqtt_qos": 1}, "of no use without mqtt = yes"),
            ({"file": None}, "target = file needs it; set file"),
            ({"file": "log"}, "must be the absolute path"),
            ({"events": ["conected"]}, "there is no event \"conected\"")))
def test_options_that_make_no_sense_are_refused(case):
    options, message = case
    b = Broker(plugins=elog(**options))
    b.configure()
    r = run_grapneld("-t", "-c", b.conf)
    assert r.returncode != 0 and re.search(message, r.stderr), r.stderr
    b.remove()


# ---- targets that take nothing ------------------------------------------------------------------------


def log_to_pipe(b):
    """Start it again with a FIFO in the place of the file; nobody reads from it yet."""
    b.stop()
    os.unlink(b.path("log"))
    os.mkfifo(b.path("log"))
    b.start()


class Reader(threading.Thread):
    """All that comes out of a FIFO."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.data = path, b""
        self.start()

    def run(self):
        with open(self.path, "rb", buffering=0) as f:
            while piece := f.read(65536):
                self.data += piece


@broker(own=True, plugins=elog(queue="64k", **NEW))
def test_a_pipe_nobody_reads_holds_up_no_message_and_a_gap_says_what_is_missing(b):
    log_to_pipe(b)
    b.wait_log(r'plugin "event-log".*nobody reads from it; start what reads from it')
    c = b.connect(V5)
    c.subscribe("t")
    for n in range(3000):
        c.send_publish("t", "%d" % n + "." * 100)
        c.expect_message("t")
    wait_metric(b, "events_total", 3000)  # else the last of them may come when there is room, and be lost for a second gap
    lost = wait_metric(b, "lost_total", lambda v: v > 0)
    b.wait_log(r'plugin "event-log": events are lost')
    assert metric(b, "queue_bytes") <= 65536
    reader = Reader(b.path("log"))
    wait_metric(b, "queue_bytes", 0)
    c.send_publish("t", "last")
    eventually(lambda: b'"last"' in reader.data, "it goes on")
    found = parse(reader.data)
    numbers = [int(p.split(".")[0]) for p in payloads([x for x in found if x["event"] == "message_published"])[:-1]]
    assert numbers == list(range(len(numbers))), "the oldest, in order"
    gaps = [n for n, x in enumerate(found) if x["event"] == "gap"]
    # What was lost while the writer still had the queue's first part in hand has a line of its own.
    assert gaps and gaps == list(range(len(numbers), len(numbers) + len(gaps))), gaps
    told = sum(found[n]["lost"] for n in gaps)
    assert told == 3000 - len(numbers) == lost, (gaps, told, len(numbers), lost)
    assert ID.fullmatch(found[gaps[0]]["id"]) and len({x["id"] for x in found}) == len(found)
    b.held_nobody()


@broker(own=True, plugins=elog(queue="64k", **NEW))
def test_the_queue_is_for_events_and_not_for_what_they_do_not_fill(b):
    log_to_pipe(b)
    c = b.connect(V5)
    for n in range(100):
        c.publish("t", "%d" % n, qos=1)  # each by itself
    wait_metric(b, "events_total", 100)
    assert metric(b, "lost_total") == 0 and metric(b, "queue_bytes") < 65536, metric(b, "queue_bytes")
    reader = Reader(b.path("log"))
    wait_metric(b, "queue_bytes", 0)
    eventually(lambda: len(parse(reader.data)) == 100, "all of them")


@broker(own=True, plugins=elog(queue="64k", when_full="stop_publishers", event_queue=100, **NEW))
def test_publishers_wait_for_room_when_they_are_told_to(b):
    log_to_pipe(b)
    c = b.connect(V5)
    for n in range(2000):
        c.send_publish("t", "%d" % n + "." * 100)
    b.wait_log(r'plugin "event-log": its event queue on worker \d+ is full; publishers wait')
    b.connect(V5).ping()  # others do not wait
    reader = Reader(b.path("log"))
    c.ping()
    eventually(lambda: len(parse(reader.data)) == 2000, "all of them")
    assert [p.rstrip(".") for p in payloads(parse(reader.data))] == [str(n) for n in range(2000)]
    assert metric(b, "lost_total") == 0


@broker(own=True, plugins=elog(flush_timeout="100ms"))
def test_a_target_that_takes_nothing_does_not_hold_up_the_end(b):
    log_to_pipe(b)
    b.connect(V5)
    b.close_clients()
    b.stop()
    assert b.log_lines(r'plugin "event-log": \d+ events could not be written before the end')


def test_a_disk_that_does_not_answer_holds_up_no_message_no_reload_and_not_the_end():
    folder = tempfile.mkdtemp(prefix="grapnel-test-")
    disk = Disk(os.path.join(folder, "disk"))
    b = Broker(plugins=elog(file=os.path.join(disk.folder, "log"), flush_timeout="50ms", queue="64k"))
    b.env.update(disk.env)
    try:
        with b:
            disk.fail(None, "hang")
            c = b.connect(V5)
            for n in range(500):
                c.publish("t", "x" * 100, qos=1)
            wait_metric(b, "lost_total", lambda v: v > 0)
            b.configure(plugins={})
            b.reload()
            b.wait_log(r'plugin "event-log": its thread hangs in a call of the system')
            c.ping()
            assert len(threads(b, "event-log")) == 1
            disk.works()  # now it comes back, to where nobody waits for it
            eventually(lambda: len(threads(b, "event-log")) == 0, "its end")
            c.ping()
            b.configure(plugins=elog(file=os.path.join(disk.folder, "log"), flush_timeout="50ms"))
            b.reload()
            c.publish("t", "x", qos=1)
            disk.fail(None, "hang")
            c.publish("t", "x", qos=1)
            b.close_clients()
            b.stop()
            b.held_nobody()
    finally:
        shutil.rmtree(folder)


# ---- other targets ------------------------------------------------------------------------------------


def test_lines_on_stdout():
    b = Broker(plugins=elog(file=None, target="stdout"))
    b.wrapper = ["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh", b.path("out")]
    with b:
        b.connect(V5, "c")
        wait(b, "client_connected", client="c", name="out")
        b.close_clients()
        b.stop()
        assert lines(b, "broker_stopping", name="out")


def test_lines_to_syslog():
    b = Broker(plugins=elog(file=None, target="syslog", syslog_socket="{dir}/devlog", syslog_ident="mqtt", events=["client_connected"]))
    with b, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        b.connect(V5, "early")
        b.wait_log(r'plugin "event-log".*devlog: cannot connect: .*; see that the system\'s logger runs')
        logger.bind(b.path("devlog"))  # it comes late
        logger.settimeout(20)
        b.connect(V5, "late")
        for name in ("early", "late"):
            text = logger.recv(65536).decode()
            head, line = text.split(": ", 1)
            assert re.fullmatch(r"<30>[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d mqtt\[%d\]" % b.process.pid, head), head
            assert json.loads(line)["client"]["client_id"] == name, line


RULES = "user op\nallow read $SYS/events/#\nallow subscribe $SYS/events/#\nallow all t/#\nuser other\nallow all t/#\n"


@broker(plugins=elog(target="none", file=None, mqtt=True, mqtt_qos=1, topics=["t/#", "$SYS/#"],
                     events=["message_published", "message_delivered", "message_acknowledged"]),
        users={"op": "p", "other": "p"}, rules=RULES, listeners={"mqtt": {}}, top={"sys_interval": 0})
def test_events_are_messages_for_those_who_may_read_them_and_make_no_others(b):
    op = b.connect(V5, "op", username="op", password="p")
    other = b.connect(V5, "other", username="other", password="p")
    op.subscribe("$SYS/events/#", qos=1)
    other.subscribe("$SYS/events/#", codes=[0x87])
    for n in range(1, 4):
        other.publish("t/x", "%d" % n, qos=1)
        m = op.expect_message("$SYS/events/message_published", qos=1)
        op.acknowledge(m)
        line = json.loads(m.payload)
        assert (line["event"], line["message"]["payload"]) == ("message_published", "%d" % n), line
        wait_metric(b, "published_total", n)  # that it was delivered and acknowledged there is no event
    op.ping()
    op.subscribe("t/#")
    other.publish("t/y", "x")
    assert {op.expect_message().topic for _ in range(3)} == {
        "t/y", "$SYS/events/message_published", "$SYS/events/message_delivered"}
    other.ping()
