/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "conf.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define EXPECTED                                                                              \
	"must be ADDRESS:PORT, such as 127.0.0.1:1883, [::1]:1883 or *:1883, or unix:/path, " \
	"unix:@name or systemd:NAME, or udp:ADDRESS:PORT for a plugin"

void
address_fini(struct address *a)
{
	free(a->host);
	free(a->port);
	free(a->path);
	free(a->systemd);
	*a = (struct address){ 0 };
}

bool
address_check_path(const char *path, char *why, size_t size)
{
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (path[0] != '/' && path[0] != '@')
		snprintf(
		    why, size, "must be an absolute path, or \"@name\" for an abstract socket");
	else if (path[1] == '\0')
		snprintf(why, size, "must name a socket");
	else if (strlen(path) > max)
		snprintf(
		    why, size, "must not be longer than %zu bytes, a limit of Unix sockets", max);
	else
		return true;
	return false;
}

/* As FileDescriptorName= of systemd.socket(5) has it. */
static bool
systemd_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > 255)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || (unsigned char)name[i] >= 0x7f ||
		    name[i] == ':')
			return false;
	return true;
}

static bool
port_ok(const char *port)
{
	int64_t number = 0;

	return port[0] >= '0' && port[0] <= '9' && strlen(port) <= 5 &&
	    conf_to_int(port, &number) && number <= 65535;
}

/* A link-local address may name its interface: fe80::1%eth0. */
static bool
host_ok(const char *host, bool bracketed)
{
	unsigned char binary[sizeof(struct in6_addr)];
	char plain[INET6_ADDRSTRLEN];
	const char *zone = strchr(host, '%');
	size_t len = zone == NULL ? strlen(host) : (size_t)(zone - host);

	if (!bracketed)
		return strcmp(host, "*") == 0 || inet_pton(AF_INET, host, binary) == 1;
	if (len >= sizeof(plain) || (zone != NULL && zone[1] == '\0'))
		return false;
	memcpy(plain, host, len);
	plain[len] = '\0';
	return inet_pton(AF_INET6, plain, binary) == 1;
}

bool
address_parse(const char *text, struct address *a, char *why, size_t size)
{
	bool udp = strncmp(text, "udp:", 4) == 0, bracketed;
	const char *colon, *end, *host;

	text += udp ? 4 : 0;
	colon = end = strrchr(text, ':');
	bracketed = text[0] == '[';
	host = bracketed ? text + 1 : text;
	*a = (struct address){ 0 };
	if (!udp && strncmp(text, "unix:", 5) == 0) {
		if (!address_check_path(text + 5, why, size))
			return false;
		a->is_unix = true;
		if ((a->path = strdup(text + 5)) == NULL)
			goto no_memory;
		return true;
	}
	if (strncmp(text, "systemd:", 8) == 0) {
		if (!systemd_name_ok(text + 8)) {
			snprintf(why, size,
			    "must have a name of 1 to 255 printable characters without \":\" after "
			    "\"systemd:\", as FileDescriptorName= of the socket unit has it");
			return false;
		}
		if ((a->systemd = strdup(text + 8)) == NULL)
			goto no_memory;
		return true;
	}
	if (colon == NULL || inet_pton(AF_INET6, text, &(struct in6_addr){ 0 }) == 1 ||
	    (bracketed && (colon == text || colon[-1] != ']'))) {
		snprintf(why, size, EXPECTED);
		return false;
	}
	if (bracketed)
		end--;
	else if (memchr(text, ':', (size_t)(colon - text)) != NULL) {
		snprintf(why, size, "must have the IPv6 address in brackets: [%.*s]:%s",
		    (int)(colon - text), text, colon + 1);
		return false;
	}
	a->host = strndup(host, (size_t)(end - host));
	a->port = strdup(colon + 1);
	if (a->host == NULL || a->port == NULL)
		goto no_memory;
	if (!port_ok(a->port)) {
		snprintf(why, size, "must end with a port, 0 to 65535");
	} else if (!host_ok(a->host, bracketed)) {
		snprintf(why, size,
		    "must have a numeric address, or * for all (host names are not looked up)");
	} else {
		a->is_udp = udp;
		return true;
	}
	address_fini(a);
	return false;
no_memory:
	address_fini(a);
	snprintf(why, size, "cannot be kept: out of memory");
	return false;
}
