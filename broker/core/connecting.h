/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connecting - what is known of a Client between its CONNECT and its CONNACK
 *
 *	worker that accepted	decode, check what needs no rights, find the home worker, move there
 *	home worker		authenticate (plugins, perhaps several AUTH rounds) -> rights of the Will
 *				-> attach (take-over, clean start, resume) -> CONNACK
 *
 * connect.c		CONNECT: decoding, limits, refusals, the way home
 * connect_auth.c	the decision of the plugins
 * connect_exchange.c	enhanced authentication: AUTH packets, re-authentication
 * connect_will.c	the Will Message and its rights
 * connect_attach.c	attaching to the Session, CONNACK
 *
 * Every step may wait for a plugin; connecting_cancel lets go of whatever it waits for.
 *
 * Threads:   the worker that holds the connection.
 * Ownership: c->connecting; freed when the Session is attached or the connection closes.
 */
#ifndef BROKER_CORE_CONNECTING_H
#define BROKER_CORE_CONNECTING_H

#include "core/conn.h"

struct connecting {
	struct mqtt_connect p; /* borrows from packet */
	unsigned home;
	char assigned_id[32]; /* "" when the Client chose one */
	struct grapnel_client client;
	struct identity *identity;
	struct grapnel_rules *rules;
	struct grapnel_client_limits asked_limits;
	bool has_limits, superuser, anonymous, waiting_for_auth;
	bool refused; /* its event has been emitted */
	bool login_failed;
	int64_t valid_until;
	uint16_t auth_plugin; /* session_plugin_name */
	char *response_info, *auth_data;
	size_t response_info_len, auth_data_len;
	struct message *will;
	struct grapnel_request *pending;
	struct conn *conn;        /* back, for the timer */
	struct timer guard_timer; /* the login waits, since others like it failed */
	uint32_t packet_len;
	uint8_t packet[]; /* the CONNECT's body, kept while plugins may look at it */
};

/* ---- connect.c --------------------------------------------------------------------------- */
/* CONNACK with reason_code, then the end. `why` goes to the log and, as the Reason String, to the Client. */
void connect_refuse(struct conn *c, uint8_t reason_code, const char *why);
/* The same for what a plugin decided; plugin may be NULL. */
void connect_refuse_with(struct conn *c, uint8_t reason_code, const char *why,
    struct grapnel_str server_reference, const char *plugin);
void connecting_free(struct conn *c);

/* ---- connect_auth.c ---------------------------------------------------------------------- */
void connect_authenticate(struct conn *c); /* k->p is whole, on the home worker */
/* Ask the chain that fits; phase 0: an ordinary CONNECT. */
void connect_ask(struct conn *c, enum grapnel_exchange_phase phase, struct grapnel_str data);
/* Why a plugin says no, as a C string; a long one is cut between two characters. */
const char *connect_plugin_reason(
    char *buffer, size_t size, const struct decision *d, const char *otherwise);
/*
 * The attributes of a connection, which no login changes (cert. … unix., a handler's), and those that a plugin adds. Heap, borrowing the
 * strings; *count is that of `more` and becomes that of all. NULL: no memory.
 */
struct grapnel_pair *connect_attributes(const struct identity *who, const struct grapnel_pair *more, size_t *count);
/* The Reason Code a plugin chose, where the packet has it. */
uint8_t connect_plugin_code(unsigned packet, const struct decision *d);

/* ---- connect_exchange.c ------------------------------------------------------------------ */
/*
 * A later answer about who the Client is (re-authentication, client_revalidate) counts from here on, as if it had come
 * with CONNECT. But the Session stays where it is, with its user and mountpoint, and what CONNACK told the Client stays
 * true. @return why not; NULL: done.
 */
const char *connect_new_login(struct conn *c, const struct grapnel_auth_answer *a);

/* ---- the others, in the order of the steps -------------------------------------------------- */
void connect_send_auth(struct conn *c, uint8_t reason_code, struct grapnel_str data);
void connect_will(struct conn *c);
void connect_attach(struct conn *c);
/* base, lowered by what an answer says. Heap; NULL: no memory. */
struct limits *connect_limits(const struct limits *base, const struct grapnel_client_limits *a);

#endif
