# SPDX-License-Identifier: Apache-2.0
"""End points of webhooks that fail in every way while the broker is killed: lib/webhook_crash.py.

The seed is printed; GRAPNEL_SEED sets it. tests/faults/webhook runs the same for longer.
"""
import os
import random

from lib.broker import FACTOR
from lib.case import each
from lib.webhook_crash import World

ALONE = True
SEED = int(os.environ.get("GRAPNEL_SEED", "0")) or random.randrange(1, 1 << 30)


@each(crash=("kill", "power"))
def test_every_event_of_an_acknowledged_message_arrives_in_order(crash):
    with World(SEED, int(10000 / FACTOR), 4, crash) as w:
        w.run()
