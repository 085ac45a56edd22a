/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_upgrade - the HTTP request that a WebSocket begins with. RFC 6455 section 4.2
 *
 * http-parser takes it apart while it arrives, so that what is no HTTP is refused at once. Fields are checked as they
 * come; what needs all of them is checked at the end.
 */
#include "config/cidr.h"
#include "net/websocket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GUID     "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_SIZE 24 /* 16 bytes in base64 */

/* ---- answers ----------------------------------------------------------------------------------- */

static const char *
phrase(unsigned status)
{
	switch (status) {
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 426:
		return "Upgrade Required";
	case 431:
		return "Request Header Fields Too Large";
	default:
		return "Bad Request";
	}
}

/* text: for the peer, and for the log with `more` behind it. Always 1, which stops http-parser. */
static int __attribute__((format(printf, 4, 5)))
refuse(struct upgrade *u, unsigned status, const char *text, const char *more, ...)
{
	const char *fields = status == 405 ? "Allow: GET\r\n"
	    : status == 426                ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
					   : "";
	va_list ap;
	int n;

	n = snprintf(u->answer, sizeof(u->answer),
	    "HTTP/1.1 %u %s\r\n"
	    "Connection: close\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Length: %zu\r\n"
	    "%s\r\n"
	    "%s\n",
	    status, phrase(status), strlen(text) + 1, fields, text);
	u->answer_len = (size_t)n;
	n = snprintf(u->why, sizeof(u->why), "answered %u: %s", status, text);
	va_start(ap, more);
	(void)vsnprintf(u->why + n, sizeof(u->why) - (size_t)n, more, ap);
	va_end(ap);
	u->status = UPGRADE_REFUSED;
	return 1;
}

static bool
accept_token(const struct upgrade *u, char out[static 32])
{
	char text[KEY_SIZE + sizeof(GUID)];
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len;

	memcpy(text, u->key.data, KEY_SIZE);
	memcpy(text + KEY_SIZE, GUID, sizeof(GUID));
	if (EVP_Digest(text, strlen(text), hash, &len, EVP_sha1(), NULL) != 1)
		return false;
	(void)EVP_EncodeBlock((unsigned char *)out, hash, (int)len);
	return true;
}

static int
accept_it(struct upgrade *u)
{
	char token[32];

	if (!accept_token(u, token))
		return refuse(u, 400, "the key cannot be hashed", " (OpenSSL has no SHA-1)");
	u->answer_len = (size_t)snprintf(u->answer, sizeof(u->answer),
	    "HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: %s\r\n"
	    "Sec-WebSocket-Protocol: %s\r\n\r\n",
	    token, u->protocol);
	u->status = UPGRADE_ACCEPTED;
	return 0;
}

/* ---- values ------------------------------------------------------------------------------------ */

static struct grapnel_str
trim(struct grapnel_str s)
{
	while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
		s.data++;
		s.len--;
	}
	while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static bool
same(struct grapnel_str s, const char *text)
{
	return s.len == strlen(text) && strncasecmp(s.data, text, s.len) == 0;
}

/* The next one of a list with commas; *rest moves on. */
static bool
next_item(struct grapnel_str *rest, struct grapnel_str *item)
{
	while (rest->len > 0) {
		const char *comma = memchr(rest->data, ',', rest->len);
		size_t len = comma != NULL ? (size_t)(comma - rest->data) : rest->len;
		size_t step = comma != NULL ? len + 1 : len;

		*item = trim((struct grapnel_str){ rest->data, len });
		rest->data += step;
		rest->len -= step;
		if (item->len > 0)
			return true;
	}
	return false;
}

static bool
lists(struct grapnel_str value, const char *text)
{
	struct grapnel_str item;

	while (next_item(&value, &item))
		if (same(item, text))
			return true;
	return false;
}

static bool
is_key(struct grapnel_str v)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (v.len != KEY_SIZE || memcmp(v.data + KEY_SIZE - 2, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < KEY_SIZE - 2; i++)
		if (memchr(alphabet, v.data[i], sizeof(alphabet) - 1) == NULL)
			return false;
	return true;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80". */
static socklen_t
parse_address(struct grapnel_str v, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
	char text[INET6_ADDRSTRLEN + 8], *host = text, *port = NULL, *end;
	unsigned long number = 0;

	if (v.len >= sizeof(text) || memchr(v.data, '\0', v.len) != NULL)
		return 0;
	memcpy(text, v.data, v.len);
	text[v.len] = '\0';
	if (text[0] == '[') {
		if ((end = strchr(text, ']')) == NULL || (end[1] != '\0' && end[1] != ':'))
			return 0;
		host = text + 1;
		port = end[1] == ':' ? end + 2 : NULL;
		*end = '\0';
	} else if ((end = strchr(text, ':')) != NULL && strchr(end + 1, ':') == NULL) {
		port = end + 1;
		*end = '\0';
	}
	if (port != NULL) {
		if (*port == '\0' || strspn(port, "0123456789") != strlen(port) ||
		    (number = strtoul(port, NULL, 10)) > 65535)
			return 0;
	}
	memset(out, 0, sizeof(*out));
	if (text[0] != '[' && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)number);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)number);
		return sizeof(*v6);
	}
	return 0;
}

/* ---- fields ------------------------------------------------------------------------------------ */

static int
take_connection(struct upgrade *u, struct grapnel_str v)
{
	u->connection |= lists(v, "upgrade");
	return 0;
}

static int
take_upgrade(struct upgrade *u, struct grapnel_str v)
{
	u->upgrade |= lists(v, "websocket");
	return 0;
}

static int
take_version(struct upgrade *u, struct grapnel_str v)
{
	u->version = v;
	return 0;
}

static int
take_key(struct upgrade *u, struct grapnel_str v)
{
	u->key = v;
	return 0;
}

/* The first one offered that we know; several fields are one list. */
static int
take_protocol(struct upgrade *u, struct grapnel_str v)
{
	static const char *const known[] = { "mqtt", "mqttv3.1" };
	struct grapnel_str item;

	u->protocol_asked = true;
	while (u->protocol == NULL && next_item(&v, &item))
		for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++)
			if (item.len == strlen(known[i]) &&
			    memcmp(item.data, known[i], item.len) == 0)
				u->protocol = known[i];
	return 0;
}

static int
take_origin(struct upgrade *u, struct grapnel_str v)
{
	const struct string_list *allowed = &u->ls->websocket_origins;

	for (unsigned i = 0; i < allowed->count; i++)
		if (same(v, allowed->items[i]))
			return 0;
	if (allowed->count > 0)
		return refuse(u, 403, "this origin may not connect",
		    ": \"%.*s\" is not in websocket_origins", (int)(v.len < 80 ? v.len : 80),
		    v.data);
	return 0;
}

/*
 * From left to right, where each proxy has added whom it had it from: the last one that is no proxy of ours is the
 * Client, as far as is known. What is left of that one is hearsay.
 */
static int
take_forwarded(struct upgrade *u, struct grapnel_str v)
{
	struct grapnel_str item;

	if (!u->trusted)
		return 0;
	while (next_item(&v, &item)) {
		struct sockaddr_storage sa;
		socklen_t len = parse_address(item, &sa);

		if (len == 0) {
			u->forwarded_len = 0; /* somebody, but who? */
		} else if (!cidr_contains(u->ls->trusted, u->ls->trusted_proxies.count,
			       (const struct sockaddr *)&sa)) {
			u->forwarded = sa;
			u->forwarded_len = len;
		}
	}
	return 0;
}

static int
take_host(struct upgrade *u, struct grapnel_str v)
{
	(void)v;
	(void)u;
	return 0;
}

static int
take_body(struct upgrade *u, struct grapnel_str v)
{
	return same(v, "0") ? 0 : refuse(u, 400, "a request for WebSocket has no body", "%s", "");
}

static const struct {
	const char *name;
	bool once; /* twice would mean that two programs could read the request differently */
	int (*take)(struct upgrade *u, struct grapnel_str v);
} known_fields[] = {
	{ "connection", false, take_connection },
	{ "content-length", true, take_body },
	{ "host", true, take_host },
	{ "origin", true, take_origin },
	{ "sec-websocket-key", true, take_key },
	{ "sec-websocket-protocol", false, take_protocol },
	{ "sec-websocket-version", true, take_version },
	{ "transfer-encoding", true, take_body },
	{ "upgrade", false, take_upgrade },
	{ "x-forwarded-for", false, take_forwarded },
};
#define KNOWN_FIELDS (sizeof(known_fields) / sizeof(*known_fields))

static bool
seen(const struct upgrade *u, const char *name)
{
	for (unsigned i = 0; i < KNOWN_FIELDS; i++)
		if (strcmp(known_fields[i].name, name) == 0)
			return u->once & 1u << i;
	return false;
}

static int
field_done(struct upgrade *u)
{
	struct grapnel_str name = u->name, value = trim(u->value);

	if (name.data == NULL)
		return 0;
	u->name = u->value = (struct grapnel_str){ 0 };
	u->name_done = false;
	if (++u->fields > UPGRADE_FIELDS_MAX)
		return refuse(
		    u, 431, "too many header fields", " (more than %u)", UPGRADE_FIELDS_MAX);
	if (name.data[name.len - 1] == ' ')
		return refuse(u, 400, "a blank behind the name of a header field", "%s", "");
	for (unsigned i = 0; i < KNOWN_FIELDS; i++) {
		if (!same(name, known_fields[i].name))
			continue;
		if (known_fields[i].once && u->once & 1u << i)
			return refuse(
			    u, 400, "a header field comes twice", ": %s", known_fields[i].name);
		u->once |= 1u << i;
		return known_fields[i].take(u, value);
	}
	return 0;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static int
check_path(struct upgrade *u)
{
	struct http_parser_url url;
	const char *path = "/";
	size_t len = 1;

	http_parser_url_init(&url);
	if (http_parser_parse_url(u->url.data, u->url.len, 0, &url) != 0)
		return refuse(u, 400, "the path is not well-formed", "%s", "");
	if (url.field_set & 1u << UF_PATH) {
		path = u->url.data + url.field_data[UF_PATH].off;
		len = url.field_data[UF_PATH].len;
	}
	if (u->ls->websocket_path == NULL ||
	    (len == strlen(u->ls->websocket_path) && memcmp(path, u->ls->websocket_path, len) == 0))
		return 0;
	return refuse(u, 404, "there is no WebSocket at this path", ": \"%.*s\", but at \"%s\"",
	    (int)(len < 60 ? len : 60), path, u->ls->websocket_path);
}

static int
check_all(struct upgrade *u)
{
	const http_parser *p = &u->parser;

	if (p->method != HTTP_GET)
		return refuse(u, 405, "only GET is served here", ", not %s",
		    http_method_str((enum http_method)p->method));
	if (p->http_major != 1 || p->http_minor < 1)
		return refuse(
		    u, 400, "HTTP/1.1 is needed", ", not %u.%u", p->http_major, p->http_minor);
	if (!seen(u, "host"))
		return refuse(u, 400, "the header field Host is missing", "%s", "");
	if (check_path(u) != 0)
		return 1;
	if (!u->upgrade || !u->connection)
		return refuse(u, 426, "this port serves MQTT over WebSocket",
		    " (no \"Upgrade: websocket\" with \"Connection: Upgrade\")");
	if (!same(u->version, "13"))
		return refuse(u, 426, "the version of WebSocket must be 13", ", not \"%.*s\"",
		    (int)(u->version.len < 20 ? u->version.len : 20),
		    u->version.len > 0 ? u->version.data : "");
	if (!is_key(u->key))
		return refuse(u, 400, "Sec-WebSocket-Key must be 16 bytes in base64", "%s", "");
	if (u->protocol == NULL)
		return refuse(u, 400,
		    u->protocol_asked
			? "of the sub-protocols in Sec-WebSocket-Protocol none is mqtt or mqttv3.1"
			: "Sec-WebSocket-Protocol is missing: offer mqtt or mqttv3.1",
		    "%s", "");
	return 0;
}

static bool
extend(struct grapnel_str *s, const char *at, size_t len)
{
	if (s->data == NULL)
		*s = (struct grapnel_str){ at, 0 };
	else if (len > 0 && s->data + s->len != at)
		return false;
	s->len += len;
	return true;
}

static int
on_url(http_parser *p, const char *at, size_t len)
{
	struct upgrade *u = p->data;

	return extend(&u->url, at, len) ? 0 : 1;
}

static int
on_name(http_parser *p, const char *at, size_t len)
{
	struct upgrade *u = p->data;

	if (u->name_done && field_done(u) != 0)
		return 1;
	return extend(&u->name, at, len) ? 0 : 1;
}

static int
on_value(http_parser *p, const char *at, size_t len)
{
	struct upgrade *u = p->data;

	u->name_done = true;
	if (!extend(&u->value, at, len)) /* RFC 9112 section 5.2 */
		return refuse(u, 400, "a header field goes on in a second line", "%s", "");
	return 0;
}

static int
on_head(http_parser *p)
{
	struct upgrade *u = p->data;

	if (field_done(u) != 0 || check_all(u) != 0)
		return -1;
	u->complete = true;
	return 2; /* no body: what follows is not HTTP */
}

void
upgrade_init(struct upgrade *u, const struct listener_settings *ls, bool trusted)
{
	memset(u, 0, offsetof(struct upgrade, head));
	u->answer_len = u->answer_off = 0;
	u->why[0] = '\0';
	u->ls = ls;
	u->trusted = trusted;
	http_parser_init(&u->parser, HTTP_REQUEST);
	u->parser.data = u;
}

enum upgrade_status
upgrade_parse(struct upgrade *u, size_t n)
{
	static const http_parser_settings callbacks = {
		.on_url = on_url,
		.on_header_field = on_name,
		.on_header_value = on_value,
		.on_headers_complete = on_head,
	};
	const char *fresh = u->head + u->len;
	size_t parsed = http_parser_execute(&u->parser, &callbacks, fresh, n);

	u->len += n;
	if (u->status == UPGRADE_REFUSED)
		return u->status;
	if (HTTP_PARSER_ERRNO(&u->parser) != HPE_OK) {
		(void)refuse(u, 400, "this is not a request that HTTP/1.1 knows", " (%s)%s",
		    http_errno_description(HTTP_PARSER_ERRNO(&u->parser)),
		    u->head[0] == 0x10 ? "; it looks like MQTT: websocket = auto serves both" : "");
	} else if (u->complete) {
		u->used = u->len - n + parsed;
		(void)accept_it(u);
	} else if (u->len == sizeof(u->head)) {
		(void)refuse(
		    u, 431, "the request is too long", " (more than %u bytes)", UPGRADE_HEAD_MAX);
	}
	return u->status;
}
