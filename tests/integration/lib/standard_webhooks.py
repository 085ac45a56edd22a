# SPDX-License-Identifier: Apache-2.0
"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), as a receiver checks them.

    verify(delivery.headers, delivery.body, ["whsec_..."])      # raises Wrong, or returns the signature that fits
"""
import base64
import hashlib
import hmac
import re
import time

TOLERANCE = 300


class Wrong(Exception):
    """Not from who has the secret, or too old."""


def sign(secret, message_id, timestamp, body):
    """The signature without its version."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    content = message_id.encode() + b"." + str(timestamp).encode() + b"." + body
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def verify(headers, body, secrets, now=None):
    """headers: names in lower case. secrets: any of them. @return the signature that fits."""
    try:
        message_id, stamp, signatures = (headers["webhook-" + name] for name in ("id", "timestamp", "signature"))
    except KeyError as e:
        raise Wrong("no %s" % e) from e
    if not message_id or "." in message_id:
        raise Wrong("the id is empty, or could be confused with what follows it: %r" % message_id)
    if not re.fullmatch(r"\d{1,12}", stamp):
        raise Wrong("no timestamp: %r" % stamp)
    if abs((time.time() if now is None else now) - int(stamp)) > TOLERANCE:
        raise Wrong("the timestamp is not of now: %s" % stamp)
    for one in signatures.split(" "):
        version, comma, value = one.partition(",")
        if not comma or not version:
            raise Wrong("no signature: %r" % one)
        if version != "v1":
            continue
        for secret in secrets:
            if hmac.compare_digest(value, sign(secret, message_id, int(stamp), body)):
                return one
    raise Wrong("no signature fits: %s" % signatures)
