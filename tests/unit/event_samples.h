/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_samples - one event of each type, with what the broker tells in it
 *
 * Ownership: a sample points into itself and to literals; tests change it as they like.
 */
#ifndef TESTS_UNIT_EVENT_SAMPLES_H
#define TESTS_UNIT_EVENT_SAMPLES_H

#include <grapnel/events.h>

struct sample {
	struct grapnel_event event;
	struct grapnel_client_info client;
	struct grapnel_message_info message;
	struct grapnel_pair attributes[2];
};

/* Client "clientid" of user "username" at 127.0.0.1:8888, MQTT 3.1.1; message "hello" to "a/b", QoS 1; filter "a/b". */
void sample_event(struct sample *s, enum grapnel_event_type type);

#endif
