/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain - what would be decided, and by whom: a dry run that leaves no trace
 *
 * The plugins are really asked, kept answers are looked at; nothing is kept, counted as a failed login or told to anybody.
 *
 * Threads:   main begins and gets the answer; the rest is on the home worker of the Client Identifier.
 * Ownership: the question is copied; its password is wiped.
 */
#ifndef BROKER_CORE_EXPLAIN_H
#define BROKER_CORE_EXPLAIN_H

#include <grapnel/hooks.h>
#include <jansson.h>

struct broker;

struct explain_question {
	struct grapnel_str client_id;
	struct grapnel_str username;   /* .data NULL: none; the session's, when the client has one */
	struct grapnel_str password;   /* .data NULL: none */
	struct grapnel_str mountpoint; /* "" when none */
	struct grapnel_str listener;   /* "" when none */
	bool login;		       /* is the login explained? Rights are then those it gives; else the session's */
	enum grapnel_action action;    /* 0: no right is asked about */
	struct grapnel_str topic;
	uint8_t qos;
	bool retain;
};
/*
 * answer: {"session", "login": {"verdict", "plugin", "reason", "username", "attributes" ..., "steps"}, "right": {"verdict", "rule",
 * "plugin", "steps"}}, the caller's; NULL: no memory. Runs later on main, exactly once.
 * @return GRAPNEL_OK; GRAPNEL_ENOMEM: done will not run.
 */
int core_explain(struct broker *b, const struct explain_question *q, void (*done)(void *arg, json_t *answer), void *arg);

#endif
