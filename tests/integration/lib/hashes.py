# SPDX-License-Identifier: Apache-2.0
"""Password hashes for tests that are about something else."""
import base64
import hashlib


def quick_hash(password):
    """One that costs nothing to check: the older form of mosquitto_passwd."""
    salt = b"0123456789ab"
    digest = hashlib.sha512(password.encode() + salt).digest()
    return "$6$%s$%s" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())
