/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http - one request over the admin socket, by libcurl
 *
 * libevent 2.1 has an HTTP client, but it cannot connect to a Unix socket.
 */
#include "ctl.h"
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (256u << 20)
#define TIMEOUT_S  60L

static size_t
on_bytes(char *data, size_t size, size_t count, void *arg)
{
	struct reply *reply = arg;
	size_t len = size * count; /* size is 1 */
	char *more;

	if (len > ANSWER_MAX - reply->len ||
	    (more = realloc(reply->body, reply->len + len + 1)) == NULL)
		return 0; /* libcurl gives up */
	memcpy(more + reply->len, data, len);
	reply->body = more;
	reply->len += len;
	more[reply->len] = '\0';
	return len;
}

/* Why the broker cannot be reached, and what to do about it. */
static void
say_unreachable(const struct ctl *ctl, CURLcode code, long os_error)
{
	fprintf(stderr, "grapnelctl: no answer at %s: %s\n", ctl->socket,
	    code == CURLE_COULDNT_CONNECT && os_error != 0 ? strerror((int)os_error)
							   : curl_easy_strerror(code));
	if (code != CURLE_COULDNT_CONNECT)
		return;
	if (os_error == EACCES || os_error == EPERM)
		fprintf(stderr,
		    "the group of the socket may use it: admin { group } of grapnel.conf says "
		    "which\n");
	else
		fprintf(stderr,
		    "is grapneld running? if its admin socket is elsewhere, name it with -S\n");
}

/* {"error": "...", "errors": ["..."]} in words. */
static void
say_refused(const struct reply *reply)
{
	json_t *answer = json_loadb(reply->body, reply->len, 0, NULL), *one, *list;
	const char *error = json_string_value(json_object_get(answer, "error"));
	char *text;
	size_t i;

	if (error == NULL || (text = show_escape(error, NULL)) == NULL)
		fprintf(stderr, "grapnelctl: the broker answered with HTTP status %ld\n",
		    reply->status);
	else {
		fprintf(stderr, "grapnelctl: %s\n", text);
		free(text);
	}
	list = json_object_get(answer, "errors");
	json_array_foreach(list, i, one) if (json_is_string(one) &&
	    (text = show_escape(json_string_value(one), NULL)) != NULL)
	{
		fprintf(stderr, "  %s\n", text);
		free(text);
	}
	list = json_object_get(answer, "mountpoints");
	json_array_foreach(list, i, one) if (json_is_string(one) &&
	    (text = show_escape(json_string_value(one), NULL)) != NULL)
	{
		fprintf(stderr, "  --mountpoint '%s'\n", text);
		free(text);
	}
	json_decref(answer);
}

static CURLcode
curl_prepare(CURL *curl, const struct ctl *ctl, const char *method, const char *url,
    const char *body, struct reply *reply)
{
	CURLcode code = curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, ctl->socket);

#define SET(option, value)                                                        \
	do {                                                                      \
		if (code == CURLE_OK)                                             \
			code = curl_easy_setopt(curl, CURLOPT_##option, (value)); \
	} while (0)
	SET(URL, url);
	SET(PATH_AS_IS, 1L); /* a client may be called ".." */
	SET(PROXY, "");      /* whatever http_proxy says */
	SET(CUSTOMREQUEST, method);
	SET(NOSIGNAL, 1L);
	SET(TIMEOUT, TIMEOUT_S);
	SET(WRITEFUNCTION, on_bytes);
	SET(WRITEDATA, reply);
	if (body != NULL)
		SET(POSTFIELDS, body);
	else if (strcmp(method, "POST") == 0)
		SET(POSTFIELDS, "");
#undef SET
	return code;
}

enum ctl_exit
http_ask(const struct ctl *ctl, const char *method, const char *path, const char *body,
    struct reply *reply)
{
	enum ctl_exit result = CTL_FAILED;
	struct curl_slist *headers = NULL;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	CURL *curl = NULL;
	char *url = NULL;
	long os_error = 0;

	*reply = (struct reply){ 0 };
	if (asprintf(&url, "http://grapnel%s", path) < 0)
		url = NULL;
	if (url == NULL || (curl = curl_easy_init()) == NULL ||
	    (reply->body = calloc(1, 1)) == NULL ||
	    (headers = curl_slist_append(NULL, "Content-Type: application/json")) == NULL)
		goto done;
	if ((code = curl_prepare(curl, ctl, method, url, body, reply)) != CURLE_OK ||
	    (code = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers)) != CURLE_OK)
		goto done;
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
	if (code == CURLE_OK && reply->status >= 200 && reply->status < 300)
		result = CTL_OK;
done:
	if (code == CURLE_OUT_OF_MEMORY)
		fprintf(stderr, "grapnelctl: no memory\n");
	else if (code == CURLE_WRITE_ERROR)
		fprintf(stderr, "grapnelctl: the answer is larger than there is memory for\n");
	else if (code != CURLE_OK) {
		say_unreachable(ctl, code, os_error);
		result = CTL_UNREACHABLE;
	} else if (result != CTL_OK)
		say_refused(reply);
	if (result != CTL_OK)
		reply_clear(reply);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	free(url);
	return result;
}

void
reply_clear(struct reply *reply)
{
	free(reply->body);
	*reply = (struct reply){ 0 };
}

enum ctl_exit
http_ask_json(
    const struct ctl *ctl, const char *method, const char *path, const char *body, json_t **answer)
{
	struct reply reply;
	json_error_t fault;
	enum ctl_exit result = http_ask(ctl, method, path, body, &reply);

	*answer = NULL;
	if (result != CTL_OK)
		return result;
	*answer = json_loadb(reply.body, reply.len, 0, &fault);
	reply_clear(&reply);
	if (*answer != NULL)
		return CTL_OK;
	fprintf(stderr, "grapnelctl: the answer is not JSON: %s\n", fault.text);
	return CTL_FAILED;
}

char *
http_encode(const char *text)
{
	char *encoded = curl_easy_escape(NULL, text, 0), *copy;

	if (text[0] == '\0') /* 0 means strlen, and "" is fine */
		copy = strdup("");
	else
		copy = encoded != NULL ? strdup(encoded) : NULL;
	curl_free(encoded);
	return copy;
}
