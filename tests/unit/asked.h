/* SPDX-License-Identifier: Apache-2.0 */
/*
 * asked - questions to the plugins of core_stubs, and what came of them
 *
 * first and second are probes that a test fills before it calls begin(); note() keeps in `order`
 * who was asked.
 */
#ifndef TESTS_UNIT_ASKED_H
#define TESTS_UNIT_ASKED_H

#include "core_stubs.h"

/* One question from a worker, and all that came of it. */
struct asked {
	enum hook hook;
	const void *question;
	const char *only;
	_Atomic unsigned decided; /* at once or later; 2 would be a fault */
	bool at_once;
	enum grapnel_verdict verdict;
	char plugin[32];
	char reason[64], topic[64], payload[64], filter[64], username[64], rule[64];
	uint8_t reason_code;
	bool drop, has_qos, has_retain, retain;
	uint8_t qos;
	unsigned steps;
	size_t property_count;
	struct grapnel_request *pending;
};

void keep(char *to, size_t size, struct grapnel_str s);
/* For on_worker; arg is a struct asked. */
void ask_here(struct worker *w, void *arg);
void cancel_here(struct worker *w, void *arg);
/* Ask on worker 0. */
void ask(struct asked *a, enum hook h, const void *question);

extern struct probe first, second;
extern char order[64]; /* who was asked: "1", "12" ...; worker 0 */
void note(const struct probe *p);
/* A broker with both, or with more_second NULL only the first; more: options of their sections. */
void begin(const char *more_first, const char *more_second);
void reset_probes(void); /* a checked fixture */

/* acl_check hooks. acl_hold keeps the request in held_requests and returns PENDING. */
enum grapnel_verdict acl_allow(
    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q);
enum grapnel_verdict acl_deny(
    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q);
enum grapnel_verdict acl_next(
    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q);
enum grapnel_verdict acl_hold(
    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q);
extern _Atomic unsigned held, cancelled;
extern struct grapnel_request *held_requests[64];
extern const struct grapnel_acl_check *held_question;
/* begin() with first holding everything. */
void begin_hold(const char *more_first, const char *more_second);

#endif
