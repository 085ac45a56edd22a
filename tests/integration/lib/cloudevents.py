# SPDX-License-Identifier: Apache-2.0
"""CloudEvents 1.0 as a receiver reads them: by the specification's own JSON schema, and what a schema cannot say.

    check(event)                an object in the JSON format
    from_headers(names, body)   one in binary mode, as the object it stands for
"""
import json
import os
import re

try:
    import jsonschema
except ImportError:
    jsonschema = None  # see available()

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "cloudevents.schema.json")
ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}\Z")
TIME = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
URI_REFERENCE = re.compile(r"([A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+\Z")
NOT_IN_STRINGS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]")
_validator = None


def available():
    """python3-jsonschema is there."""
    return jsonschema is not None


def validator():
    global _validator
    if _validator is None:
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        jsonschema.Draft7Validator.check_schema(schema)
        _validator = jsonschema.Draft7Validator(schema)
    return _validator


def check_string(name, value):
    assert isinstance(value, str) and value, f"{name} is not a text: {value!r}"
    assert not NOT_IN_STRINGS.search(value), f"{name} has characters that no attribute may have: {value!r}"
    assert not any(ord(c) & 0xfffe == 0xfffe for c in value), f"{name} has noncharacters: {value!r}"


def check(event):
    """AssertionError or jsonschema's ValidationError says what is wrong with it."""
    validator().validate(event)
    assert event["specversion"] == "1.0", event["specversion"]
    for name, value in event.items():
        if name in ("data", "data_base64"):
            continue
        assert ATTRIBUTE.match(name), f"not the name of an attribute: {name!r}"
        check_string(name, value)
    assert not ("data" in event and "data_base64" in event), "data and data_base64"
    assert URI_REFERENCE.match(event["source"]), event["source"]
    if "time" in event:
        assert TIME.match(event["time"]), event["time"]


def decoded(value):
    """The value of a header, percent-decoded once; bytes that are no UTF-8 are an error (HTTP binding, 3.1.3.2)."""
    assert all(0x21 <= ord(c) <= 0x7e for c in value), f"not printable: {value!r}"
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), value.encode("ascii"))
    return raw.decode("utf-8")


def from_headers(headers, body):
    """headers: pairs of name and value, Content-Type among them or not; body: bytes of JSON."""
    event = {}
    for name, value in headers:
        name = name.lower()
        if name.startswith("ce-"):
            assert name[3:] not in event, f"{name} twice"
            event[name[3:]] = decoded(value)
        elif name == "content-type":
            event["datacontenttype"] = value
    event["data"] = json.loads(body)
    return event
