# SPDX-License-Identifier: Apache-2.0
"""Commands of plugins for grapnelctl whose answers come at once, later or never."""
import json
import socket

from lib.broker import TIMEOUT
from lib.case import broker, each

COMMANDER = {"boss": {"module": "commander"}}


@broker(plugins=COMMANDER)
def test_commands_answer_at_once_or_later(b):
    for word, answer in (("now", "now"), ("thread", "thread"), ("twice", "once"), ("before", "before"), ("thread", "thread")):
        assert b.ctl("boss", word).stdout == answer + "\n", word
    assert "not today" in b.ctl("boss", "fail", code=1).stderr
    assert "error -2" in b.ctl("boss", "what", code=1).stderr


def ask_raw(b, word):
    """The command by hand, so that the asker can leave."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(b.socket)
    body = json.dumps({"arguments": [word]})
    s.sendall(b"POST /v1/plugins/command/boss HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
    return s


def answered(s):
    s.settimeout(TIMEOUT)
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        more = s.recv(4096)
        assert more, data
        data += more
    return int(data.split()[1]), json.loads(data[data.index(b"\r\n\r\n"):])


@broker(own=True, plugins=COMMANDER)
def test_an_answer_that_comes_when_the_asker_has_gone(b):
    gone, stays = ask_raw(b, "keep"), ask_raw(b, "keep")
    gone.close()
    released = 0
    while released < 2:  # each is asked for before or after that, as the sockets come
        released += json.loads(b.ctl("boss", "release").stdout)
    assert answered(stays) == (200, {"answer": "kept"})
    assert b.ctl("boss", "thread").stdout == "thread\n"


@each(word=("keep", "never"))
@broker(own=True, plugins=COMMANDER)
def test_an_answer_that_is_owed_when_the_instance_goes(b, word):
    s = ask_raw(b, word)
    b.ctl("boss", "now")  # behind it
    b.configure(plugins={"boss": {"module": "commander", "tag": "other"}})
    b.reload()
    status, answer = answered(s)
    if word == "keep":
        assert (status, answer) == (200, {"answer": "kept"})
    else:
        assert status == 503 and "ended without answering" in answer["error"], (status, answer)
    assert b.ctl("boss", "now").stdout == "now\n"


@broker(own=True, plugins=COMMANDER)
def test_answers_that_are_owed_when_the_broker_stops(b):
    asked = [ask_raw(b, word) for word in ("keep", "never", "keep")]
    b.ctl("boss", "now")
    b.stop()
    for s in asked:
        with s:
            s.settimeout(TIMEOUT)
            data = s.recv(4096)  # nothing, when the connection was closed before that left
            assert not data or data.split()[1] == b"503" and b"the broker is stopping" in data, data
