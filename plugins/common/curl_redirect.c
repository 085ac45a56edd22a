/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_redirect - an answer that says to ask elsewhere
 *
 * libcurl could follow it, but then it would look names up itself, and take the client certificate along.
 */
#include "curl_private.h"

#include <string.h>

#define HOPS_MAX 3u

const struct curl_place *
curl_call_place(const struct curl_call *c)
{
	return c->hops > 0 ? &c->hop : &c->target->place;
}

/* What a Location means that came from where the call is now. */
static bool
resolve(const struct curl_call *c, struct curl_place *next)
{
	const char *from = c->hops == 0 && c->url != NULL ? c->url : curl_call_place(c)->url;
	char unused[8], *text = NULL;
	const struct curl_why why = { unused, sizeof(unused) };
	CURLU *u = curl_url();
	bool good = u != NULL && curl_url_set(u, CURLUPART_URL, from, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, c->location, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK && /* is never sent */
	    curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK;

	if (good) {
		struct grapnel_str url = { text, strlen(text) };

		good = curl_url_check(url, &why) && curl_place_set(next, u, NULL, &why) &&
		    (next->url = text_copy(url)) != NULL;
	}
	curl_free(text);
	curl_url_cleanup(u);
	return good;
}

static bool
allowed(const struct curl_call *c, const struct curl_place *next)
{
	if (curl_call_place(c)->tls && !next->tls)
		return false;
	return c->target->redirects == CURL_REDIRECTS_ANY ||
	    (c->target->redirects == CURL_REDIRECTS_SAME_HOST &&
		curl_place_same(&c->target->place, next));
}

bool
curl_redirect(struct curl_call *c)
{
	struct curl_place next = { 0 };
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->target->redirects == CURL_REDIRECTS_NONE || (status != 307 && status != 308) ||
	    c->location == NULL || c->hops == HOPS_MAX)
		return false;
	if (!resolve(c, &next) || !allowed(c, &next)) {
		curl_place_free(&next);
		return false;
	}
	/* One who was sent away and back comes with what was asked there: not with our credentials. */
	c->foreign = c->foreign || !curl_place_same(&c->target->place, &next);
	if (!c->foreign && c->target->unix_socket != NULL)
		next.look_up = false;
	next.passing = c->foreign;
	curl_place_free(&c->hop);
	c->hop = next;
	c->hops++;
	curl_call_again(c);
	return true;
}
