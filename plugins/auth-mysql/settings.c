/* SPDX-License-Identifier: Apache-2.0 */
/* settings - see settings.h */
#include "settings.h"

#include "common/read_file.h"
#include "sql/sql.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_HOST           255u
#define MAX_PASSWORD_BYTES 4096u

/*
 * The client answers nothing else that a server asks for: not with the password as it is, over a connection that anybody may
 * have answered, and not with a question on a terminal (dialog).
 */
#define SAFE_METHODS "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password"
/* What a session must be like whatever the server's defaults are: TIMESTAMP as UTC, each query sees what is committed. */
#define SESSION "SET SESSION time_zone = '+00:00', autocommit = 1"

struct reader {
	struct settings *s;
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	bool good;
};

static void
fault(struct reader *r, const char *option, const char *what)
{
	r->host->config_error(r->self, NULL, option, "%s", what);
	r->good = false;
}

/* A C string of it; the library knows no others. */
static char *
copy(struct reader *r, const char *option, struct grapnel_str text)
{
	char *s;

	if (memchr(text.data, '\0', text.len) != NULL) {
		fault(r, option, "this may not hold a NUL byte");
		return NULL;
	}
	s = malloc(text.len + 1);
	if (s == NULL) {
		fault(r, option, "out of memory");
		return NULL;
	}
	memcpy(s, text.data, text.len);
	s[text.len] = '\0';
	return s;
}

static char *
string(struct reader *r, const char *option)
{
	struct grapnel_str text = r->host->option_str(r->self, NULL, option);

	return text.data == NULL ? NULL : copy(r, option, text);
}

/* ------------------------------------------------------------------------- hosts */

/* The library takes more than names for a host: lists, connection strings, "driver://". */
static bool
is_host(const char *text)
{
	return *text != '\0' &&
	    text[strspn(text,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%")] == '\0';
}

static bool
is_numeric(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static bool
parse_port(const char *text, unsigned *port)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || n == 0 || n > 65535)
		return false;
	*port = (unsigned)n;
	return true;
}

/* "name", "name:port", "192.0.2.1:port", "2001:db8::1", "[2001:db8::1]:port"; takes it apart in place. */
static bool
parse_place(char *text, unsigned default_port, struct place *out)
{
	char *host = text, *colon = strchr(text, ':'), *end;

	out->port = default_port;
	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':') ||
		    (end[1] == ':' && !parse_port(end + 2, &out->port)))
			return false;
		*end = '\0';
	} else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
		if (!parse_port(colon + 1, &out->port))
			return false;
		*colon = '\0';
	}
	if (!is_host(host) || strlen(host) > MAX_HOST)
		return false;
	out->numeric = is_numeric(host);
	if (!out->numeric && strpbrk(host, ":%") != NULL)
		return false;
	out->host = strdup(host);
	return out->host != NULL;
}

static void
read_places(struct reader *r)
{
	struct settings *s = r->s;
	unsigned port = (unsigned)r->host->option_int(r->self, NULL, "port");
	struct grapnel_str text;

	if (s->socket != NULL) {
		if (r->host->option_given(r->self, NULL, "host"))
			fault(r, "host", "there is a `socket` as well; leave one of them out");
		s->place_count = 1;
		return;
	}
	for (size_t i = 0; (text = r->host->option_list(r->self, NULL, "host", i)).data != NULL;
	     i++) {
		char *place = copy(r, "host", text);

		if (place == NULL)
			return;
		if (s->place_count == SETTINGS_MAX_PLACES)
			fault(r, "host", "more than 16 hosts");
		else if (!parse_place(place, port, &s->places[s->place_count]))
			fault(r, "host",
			    "each host is a name or an address, with a port behind it if need be: "
			    "db1, "
			    "db2:3307, \"[2001:db8::1]:3306\"");
		else
			s->place_count++;
		free(place);
		if (!r->good)
			return;
	}
	if (s->place_count == 0)
		fault(r, "host", "no host");
}

/* -------------------------------------------------------------------- the others */

static void
read_password(struct reader *r)
{
	struct grapnel_str path = r->host->option_str(r->self, NULL, "password_file");
	char error[PATH_MAX + 128], *name;
	struct file_text text;
	size_t len;

	r->s->password = string(r, "password");
	if (path.data == NULL)
		return;
	if (r->s->password != NULL) {
		fault(r, "password_file", "there is a `password` as well; leave one of them out");
		return;
	}
	name = copy(r, "password_file", path);
	if (name == NULL)
		return;
	if (!read_file(name, MAX_PASSWORD_BYTES, &text, error, sizeof(error))) {
		fault(r, "password_file", error);
		free(name);
		return;
	}
	if (text.mode & S_IROTH)
		r->host->log(r->self, GRAPNEL_LOG_WARNING,
		    "%s can be read by every user of this machine: chmod o-r", name);
	len = text.len;
	while (len > 0 && (text.data[len - 1] == '\n' || text.data[len - 1] == '\r'))
		len--;
	r->s->password = copy(r, "password_file", (struct grapnel_str){ text.data, len });
	file_text_free(&text);
	free(name);
}

/* A file that the library will open, only later and without saying what is wrong. */
static char *
readable(struct reader *r, const char *option)
{
	char *path = string(r, option), error[PATH_MAX + 128];
	struct file_text text;

	if (path == NULL)
		return NULL;
	if (!read_file(path, 16u << 20, &text, error, sizeof(error))) {
		fault(r, option, error);
		return path;
	}
	if (text.len == 0)
		fault(r, option, "the file is empty");
	file_text_free(&text);
	return path;
}

static void
read_tls(struct reader *r)
{
	struct settings *s = r->s;
	struct grapnel_str mode = r->host->option_str(r->self, NULL, "tls");

	s->tls = mode.len == 6 ? TLS_VERIFY : mode.len == 8 ? TLS_REQUIRED : TLS_NO;
	s->tls_ca = readable(r, "tls_ca");
	s->tls_certificate = readable(r, "tls_certificate");
	s->tls_key = readable(r, "tls_key");
	if (s->tls == TLS_NO &&
	    (s->tls_ca != NULL || s->tls_certificate != NULL || s->tls_key != NULL))
		fault(r, "tls", "tls = no, yet there are files for TLS; say verify or required");
	if (s->tls != TLS_NO && s->socket != NULL)
		fault(r, "tls", "TLS is for TCP, not for a Unix socket");
	if (s->tls == TLS_VERIFY && s->tls_ca == NULL && r->good)
		fault(r, "tls_ca",
		    "tls = verify needs the file of the authorities that sign the server's "
		    "certificate; "
		    "those of the system: /etc/ssl/certs/ca-certificates.crt");
	if ((s->tls_certificate == NULL) != (s->tls_key == NULL) && r->good)
		fault(r, "tls_key", "tls_certificate and tls_key come together");
}

bool
settings_read(struct settings *s, const struct grapnel_host *host, struct grapnel_instance *self)
{
	struct reader r = { s, host, self, true };

	s->socket = string(&r, "socket");
	if (s->socket != NULL && s->socket[0] != '/')
		fault(&r, "socket", "this is not an absolute path");
	read_places(&r);
	s->user = string(&r, "user");
	if (s->user != NULL && s->user[0] == '\0')
		fault(&r, "user", "this may not be empty");
	s->database = string(&r, "database");
	read_password(&r);
	if (s->password == NULL && r.good)
		s->password = copy(&r, "password", GRAPNEL_STR(""));
	read_tls(&r);
	s->connections = (unsigned)host->option_int(self, NULL, "connections");
	s->connect_timeout_ms = (uint32_t)host->option_int(self, NULL, "connect_timeout");
	s->query_timeout_ms = (uint32_t)host->option_int(self, NULL, "query_timeout");
	s->reconnect_max_ms = (uint32_t)host->option_int(self, NULL, "reconnect_max");
	return r.good;
}

void
settings_fini(struct settings *s)
{
	for (unsigned i = 0; i < SETTINGS_MAX_PLACES; i++)
		free(s->places[i].host);
	if (s->password != NULL)
		explicit_bzero(s->password, strlen(s->password));
	free(s->password);
	free(s->socket);
	free(s->user);
	free(s->database);
	free(s->tls_ca);
	free(s->tls_certificate);
	free(s->tls_key);
}

/* ---------------------------------------------------------------------- a handle */

static bool
set_tls(MYSQL *m, const struct settings *s)
{
#ifdef MARIADB_BASE_VERSION
	mysql_flag enforce = s->tls != TLS_NO, verify = s->tls == TLS_VERIFY;

	if (mysql_options(m, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify) != 0)
		return false;
	/* Required: a server without TLS, or somebody between who hides it, is refused. */
	if (mysql_options(m, MYSQL_OPT_SSL_ENFORCE, &enforce) != 0)
		return false;
#else
	unsigned mode = s->tls == TLS_VERIFY ? SSL_MODE_VERIFY_IDENTITY
	    : s->tls == TLS_REQUIRED ? (s->tls_ca != NULL ? SSL_MODE_VERIFY_CA : SSL_MODE_REQUIRED)
				     : SSL_MODE_DISABLED;

	if (mysql_options(m, MYSQL_OPT_SSL_MODE, &mode) != 0)
		return false;
#endif
	return (s->tls_ca == NULL || mysql_options(m, MYSQL_OPT_SSL_CA, s->tls_ca) == 0) &&
	    (s->tls_certificate == NULL ||
		mysql_options(m, MYSQL_OPT_SSL_CERT, s->tls_certificate) == 0) &&
	    (s->tls_key == NULL || mysql_options(m, MYSQL_OPT_SSL_KEY, s->tls_key) == 0);
}

/* In the whole seconds that the library knows; what must be exact, the plugin measures itself. */
static unsigned
seconds(uint32_t ms)
{
	return ms / 1000 + 1;
}

MYSQL *
settings_handle(const struct settings *s)
{
	unsigned connect = seconds(s->connect_timeout_ms), query = seconds(s->query_timeout_ms),
		 infile = 0;
	/* Not "localhost means the Unix socket". */
	unsigned protocol = s->socket != NULL ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
	unsigned long packet = SETTINGS_MAX_ROW;
	mysql_flag truncation = 1;
	MYSQL *m = mysql_init(NULL);

	if (m == NULL)
		return NULL;
	if (mysql_options(m, MYSQL_OPT_PROTOCOL, &protocol) == 0 &&
	    mysql_options(m, MYSQL_OPT_CONNECT_TIMEOUT, &connect) == 0 &&
	    mysql_options(m, MYSQL_OPT_READ_TIMEOUT, &query) == 0 &&
	    mysql_options(m, MYSQL_OPT_WRITE_TIMEOUT, &query) == 0 &&
	    mysql_options(m, MYSQL_SET_CHARSET_NAME, "utf8mb4") == 0 &&
	    mysql_options(m, MYSQL_INIT_COMMAND, SESSION) == 0 &&
	    mysql_options(m, MYSQL_REPORT_DATA_TRUNCATION, &truncation) == 0 &&
	    mysql_options(m, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet) == 0 &&
	    /* A server may ask for any file of the client's. */
	    mysql_options(m, MYSQL_OPT_LOCAL_INFILE, &infile) == 0 &&
#if defined(MARIADB_PACKAGE_VERSION_ID) && MARIADB_PACKAGE_VERSION_ID >= 30300
	    mysql_optionsv(m, MARIADB_OPT_RESTRICTED_AUTH, SAFE_METHODS) == 0 &&
#endif
	    set_tls(m, s))
		return m;
	mysql_close(m);
	return NULL;
}
