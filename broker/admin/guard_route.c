/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard_route - GET and DELETE /v1/guard: addresses that are kept out
 */
#include "api.h"
#include "base/log.h"
#include "core/broker.h"
#include "core/worker.h"
#include "net/guard.h"

#define LISTED_MAX 10000u

void
route_guard(struct api_call *call)
{
	struct guard *g = call->broker->guard;
	uint64_t now_ms = call->broker->main->now_ms;
	struct guard_counts n;

	guard_counts(g, now_ms, &n);
	api_reply_json(call, 200,
	    json_pack("{s:I, s:I, s:o}", "watched", (json_int_t)n.watched, "banned",
		(json_int_t)n.banned, "bans", guard_list(g, now_ms, LISTED_MAX)));
}

void
route_guard_lift(struct api_call *call)
{
	const char *address = api_query_get(&call->query, "address");
	unsigned lifted = guard_lift(call->broker->guard, address);

	if (lifted == 0 && address != NULL) {
		api_reply_error(call, 404, "\"%s\" is no address that is banned", address);
		return;
	}
	log_at(GRAPNEL_LOG_NOTICE, "ban_lifted", "admin (%s) lifts the ban of %s: %u", call->who,
	    address != NULL ? address : "all", lifted);
	api_reply_json(call, 200, json_pack("{s:i}", "lifted", (int)lifted));
}
