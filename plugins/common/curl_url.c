/* SPDX-License-Identifier: Apache-2.0 */
/* curl_url - URLs checked and taken apart: those of options and those that a server redirects to */
#include "curl_private.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HTTP_DEFAULT "http"

bool
curl_no(const struct curl_why *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(why->text, why->size, format, arguments);
	va_end(arguments);
	return false;
}

static bool
part(CURLU *u, CURLUPart which, unsigned flags, char **out)
{
	char *text = NULL;

	if (curl_url_get(u, which, &text, flags) != CURLUE_OK)
		return false;
	*out = strdup(text);
	curl_free(text);
	return *out != NULL;
}

static bool
absent(CURLU *u, CURLUPart which)
{
	char *text = NULL;
	bool is = curl_url_get(u, which, &text, 0) != CURLUE_OK;

	curl_free(text);
	return is;
}

static bool
numeric(const char *host)
{
	struct in_addr v4;

	return host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1;
}

/* Names that libcurl would change before it looks them up would miss the address that it is given. */
static bool
check_host(const char *host, const struct curl_why *why)
{
	size_t len = strlen(host);

	if (len == 0 || len > 253)
		return curl_no(why, "the URL's host name is empty or too long");
	if (host[0] == '[')
		return true;
	for (size_t i = 0; i < len; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
			host[i]) == NULL)
			return curl_no(why,
			    "the URL's host name may have letters of ASCII, digits, '.', '-' and "
			    "'_' only; write other names as IDNA does (\"xn--...\")");
	if (host[len - 1] == '.')
		return curl_no(why, "the URL's host name may not end with a dot");
	return true;
}

bool
curl_url_check(struct grapnel_str url, const struct curl_why *why)
{
	if (url.len == 0 || url.len > CURL_URL_MAX)
		return curl_no(why, "a URL has 1 to %u bytes", CURL_URL_MAX);
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.data[i] <= ' ' || (unsigned char)url.data[i] >= 0x7F)
			return curl_no(why,
			    "a URL has no spaces, no control characters and only ASCII; write %%20 "
			    "and the like");
	return true;
}

static bool
check_credentials(CURLU *u, const struct curl_why *why)
{
	if (absent(u, CURLUPART_USER) && absent(u, CURLUPART_PASSWORD))
		return true;
	return curl_no(
	    why, "a URL is shown in the log: put credentials into a header, not into the URL");
}

bool
curl_place_set(struct curl_place *p, CURLU *u, char **name, const struct curl_why *why)
{
	char *scheme = NULL, *path = NULL;
	bool good = false;

	if (!part(u, CURLUPART_SCHEME, 0, &scheme) || !part(u, CURLUPART_HOST, 0, &p->host) ||
	    !part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, &p->port) ||
	    !part(u, CURLUPART_PATH, 0, &path)) {
		curl_no(why, "this is not a URL of http or https");
		goto out;
	}
	p->tls = strcmp(scheme, "https") == 0;
	if (!p->tls && strcmp(scheme, HTTP_DEFAULT) != 0) {
		curl_no(why, "only http:// and https:// are possible");
		goto out;
	}
	if (!check_credentials(u, why))
		goto out;
	if (!absent(u, CURLUPART_FRAGMENT)) {
		curl_no(why, "'#' has no meaning in the URL of a request");
		goto out;
	}
	if (!check_host(p->host, why))
		goto out;
	p->has_query = !absent(u, CURLUPART_QUERY);
	p->look_up = !numeric(p->host);
	if (name != NULL && asprintf(name, "%s://%s:%s%s", scheme, p->host, p->port, path) < 0) {
		*name = NULL;
		curl_no(why, "no memory");
		goto out;
	}
	good = true;
out:
	free(scheme);
	free(path);
	return good;
}

bool
curl_place_same(const struct curl_place *a, const struct curl_place *b)
{
	return a->tls == b->tls && strcasecmp(a->host, b->host) == 0 &&
	    strcmp(a->port, b->port) == 0;
}

void
curl_place_free(struct curl_place *p)
{
	if (p->url != NULL)
		explicit_bzero(p->url, strlen(p->url));
	free(p->url);
	free(p->host);
	free(p->port);
	*p = (struct curl_place){ 0 };
}
