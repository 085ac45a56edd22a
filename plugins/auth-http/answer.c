/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer - from an HTTP answer to a verdict
 *
 * Only what is understood lets anybody in. A status or a body that means nothing here is trouble of the backend
 * (UNAVAILABLE), be it a page of a proxy with status 200.
 */
#include "parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
outcome_fail(struct outcome *out, const char *format, ...)
{
	va_list arguments;

	out->verdict = GRAPNEL_UNAVAILABLE;
	va_start(arguments, format);
	(void)vsnprintf(out->error, sizeof(out->error), format, arguments);
	va_end(arguments);
}

static bool
contains(struct grapnel_str s, const char *word)
{
	return s.data != NULL && memmem(s.data, s.len, word, strlen(word)) != NULL;
}

/* mosquitto-go-auth: "ok", or why not. */
static void
read_text(const struct curl_answer *answer, struct outcome *out)
{
	struct grapnel_str body = answer->body;

	while (body.len > 0 && (body.data[body.len - 1] == '\n' || body.data[body.len - 1] == '\r'))
		body.len--;
	if (body.len == 2 && memcmp(body.data, "ok", 2) == 0)
		out->verdict = GRAPNEL_ALLOW;
	else if (body.len == 0 || contains(answer->content_type, "html"))
		outcome_fail(out, "the body is neither \"ok\" nor a text that says why not");
	else
		out->verdict = GRAPNEL_DENY;
}

static void
read_body(const struct auth_http *a, enum about about, const struct curl_answer *answer,
    struct grant *g, struct outcome *out)
{
	switch (a->answer) {
	case ANSWER_STATUS:
		out->verdict = GRAPNEL_ALLOW;
		break;
	case ANSWER_TEXT:
		read_text(answer, out);
		break;
	case ANSWER_JSON:
		if (a->dialect == DIALECT_GO_AUTH)
			answer_read_ok(answer->body, out);
		else
			answer_read_json(a->dialect, about, answer->body, g, out);
		break;
	}
}

void
answer_read(const struct auth_http *a, enum about about, const struct curl_answer *answer,
    struct grant *g, struct outcome *out)
{
	long status = answer->status;

	memset(out, 0, sizeof(*out));
	if (answer->err != GRAPNEL_OK)
		outcome_fail(out, "%s", answer->error);
	else if (status == 204)
		out->verdict = a->no_content;
	else if (status == 404)
		out->verdict = a->not_found;
	else if (status == 401 || status == 403 || (status == 400 && a->dialect == DIALECT_GO_AUTH))
		out->verdict = GRAPNEL_DENY;
	else if (status >= 300 && status < 400)
		outcome_fail(out,
		    "the answer is status %ld, a redirection, and those are not followed", status);
	else if (status < 200 || status > 299)
		outcome_fail(out, "the answer is status %ld", status);
	else
		read_body(a, about, answer, g, out);
}
