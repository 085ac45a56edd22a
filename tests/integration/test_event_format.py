# SPDX-License-Identifier: Apache-2.0
"""CloudEvents as the plugins write them, read by an independent implementation and the specification's JSON schema."""
import json
import os
import subprocess

from lib import cloudevents
from lib.case import skip_if

EVENTS = 21
PER_TYPE = 10


def no_duplicates(pairs):
    names = [name for name, unused in pairs]
    assert len(names) == len(set(names)), f"a member stands twice: {names}"
    return dict(pairs)


def parsed(text):
    return json.loads(text, object_pairs_hook=no_duplicates)


def samples():
    """Pairs: the event in structured mode, and (headers, body) of the binary mode."""
    program = os.path.join(os.environ.get("GRAPNEL_BUILD", "."), "tests/integration/event_samples")
    out = subprocess.run([program], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    found, headers, event = [], [], None
    for line in out.decode("utf-8").split("\n")[:-1]:
        kind, text = line.split(" ", 1)
        if kind == "event":
            event, headers = parsed(text), []
        elif kind == "header":
            headers.append(tuple(text.split(": ", 1)))
        else:
            assert kind == "body", kind
            found.append((event, headers, parsed(text)))
    assert len(found) == EVENTS * PER_TYPE, len(found)
    return found


@skip_if(not cloudevents.available(), "python3-jsonschema is not there")
def test_cloudevents_are_valid_by_the_schema_of_the_specification():
    types = set()
    for event, unused, unused_body in samples():
        cloudevents.check(event)
        types.add(event["type"])
    assert len(types) == EVENTS, types


@skip_if(not cloudevents.available(), "python3-jsonschema is not there")
def test_the_schema_refuses_what_is_no_cloudevent():
    good = samples()[0][0]
    for name in ("id", "source", "specversion", "type"):
        try:
            cloudevents.check({key: value for key, value in good.items() if key != name})
        except cloudevents.jsonschema.ValidationError:
            continue
        raise AssertionError(f"an event without {name} was accepted")


@skip_if(not cloudevents.available(), "python3-jsonschema is not there")
def test_binary_mode_says_the_same_as_structured_mode():
    for event, headers, body in samples():
        again = cloudevents.from_headers(headers + [("Content-Type", "application/json")], json.dumps(body))
        cloudevents.check(again)
        assert again == event, f"{again}\n{event}"
