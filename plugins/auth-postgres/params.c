/* SPDX-License-Identifier: Apache-2.0 */
#include "params.h"

#include "../common/read_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PASSWORD 4096u

/* Options of the section that are settings of libpq, and win over those in `connection`. */
static const char *const single_options[] = { "host", "port", "dbname", "user", "password",
	"service", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword" };

/*
 * Settings that are ours: each attempt has its own host, the service is looked into once, GSS encryption asks a KDC and
 * waits for it, and the queries' parameters are UTF-8.
 */
static const char *const own_settings[] = { "host", "hostaddr", "port", "service", "gssencmode",
	"client_encoding", "connect_timeout" };

/* Where nothing else is said: a network that swallows packets is noticed within a minute. */
static const struct {
	const char *keyword, *value;
} defaults[] = {
	{ "fallback_application_name", "grapnel" },
	{ "keepalives_idle", "30" },
	{ "keepalives_interval", "10" },
	{ "keepalives_count", "3" },
	{ "tcp_user_timeout", "30000" },
};

struct settings {
	const char *keywords[PG_MAX_SETTINGS + 1], *values[PG_MAX_SETTINGS + 1];
	unsigned count;
};

bool
pg_host_is_local(const struct pg_host *h)
{
	return h->address == NULL && (h->name == NULL || h->name[0] == '/' || h->name[0] == '@');
}

static bool
one_of(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

/* Replaces one of that name. false: too many. */
static bool
settings_put(struct settings *s, const char *keyword, const char *value)
{
	unsigned i = 0;

	while (i < s->count && strcmp(s->keywords[i], keyword) != 0)
		i++;
	if (i == PG_MAX_SETTINGS)
		return false;
	s->keywords[i] = keyword;
	s->values[i] = value;
	if (i == s->count)
		s->count++;
	return true;
}

static void
wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

/* PQconninfoFree leaves passwords in freed memory. */
static void
options_free(PQconninfoOption *options)
{
	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
		if (o->val != NULL)
			explicit_bzero(o->val, strlen(o->val));
	}
	PQconninfoFree(options);
}

/* ------------------------------------------------------------------- what libpq makes of it */

/* A NUL-terminated copy; NULL: not given, or no text. */
static char *
option_text(const struct grapnel_host *host, struct grapnel_instance *self, const char *name)
{
	struct grapnel_str value = host->option_str(self, NULL, name);

	if (value.data == NULL || value.len == 0)
		return NULL;
	if (memchr(value.data, '\0', value.len) != NULL) {
		host->config_error(self, NULL, name, "a NUL byte cannot be part of it");
		return NULL;
	}
	return strndup(value.data, value.len);
}

/*
 * Have libpq put everything together without connecting: with a setting it refuses, after it has read the rest. NULL after
 * config_error.
 */
static PQconninfoOption *
ask_libpq(const struct grapnel_host *host, struct grapnel_instance *self, struct settings *s)
{
	PQconninfoOption *options = NULL;
	char why[256];
	PGconn *conn;

	if (!settings_put(s, "gssencmode", "nothing-is-connected"))
		return NULL;
	conn = PQconnectStartParams(s->keywords, s->values, 0);
	if (conn == NULL) {
		host->config_error(self, NULL, NULL, "out of memory");
		return NULL;
	}
	if (strstr(PQerrorMessage(conn), "gssencmode") != NULL) {
		options = PQconninfo(conn);
	} else {
		pg_message(why, sizeof(why), PQerrorMessage(conn), false);
		host->config_error(self, NULL, NULL, "this is no way to a database: %s", why);
	}
	PQfinish(conn);
	return options;
}

/* Everything in force, defaults included. */
static PQconninfoOption *
gather(const struct grapnel_host *host, struct grapnel_instance *self)
{
	const size_t singles = sizeof(single_options) / sizeof(single_options[0]);
	char *texts[sizeof(single_options) / sizeof(single_options[0])] = { NULL };
	PQconninfoOption *given = NULL, *all = NULL;
	struct settings s = { .count = 0 };
	char *connection = option_text(host, self, "connection"), *error = NULL, why[256];

	if (connection != NULL && (given = PQconninfoParse(connection, &error)) == NULL) {
		pg_message(why, sizeof(why), error != NULL ? error : "out of memory", true);
		host->config_error(self, NULL, "connection",
		    "this is no connection string (\"host=... dbname=...\" or postgresql://...): "
		    "%s",
		    why);
		PQfreemem(error);
		goto end;
	}
	for (PQconninfoOption *o = given; o != NULL && o->keyword != NULL; o++) {
		if (o->val != NULL && !settings_put(&s, o->keyword, o->val))
			goto end;
	}
	for (size_t i = 0; i < singles; i++) {
		texts[i] = option_text(host, self, single_options[i]);
		if (texts[i] != NULL && !settings_put(&s, single_options[i], texts[i]))
			goto end;
	}
	all = ask_libpq(host, self, &s);
end:
	for (size_t i = 0; i < singles; i++)
		wipe(texts[i]);
	wipe(connection);
	options_free(given);
	return all;
}

/* ---------------------------------------------------------------------------- keeping it */

static bool
keep(struct pg_params *p, const char *keyword, const char *value)
{
	if (p->count == PG_MAX_SETTINGS - 8) /* room for what an attempt adds, and the end */
		return false;
	p->keywords[p->count] = strdup(keyword);
	p->values[p->count] = strdup(value);
	p->count++;
	return p->keywords[p->count - 1] != NULL && p->values[p->count - 1] != NULL;
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++) {
		if (strcmp(options->keyword, keyword) == 0)
			return options->val != NULL ? options->val : "";
	}
	return "";
}

static bool
keep_settings(struct pg_params *p, const PQconninfoOption *all)
{
	const size_t owns = sizeof(own_settings) / sizeof(own_settings[0]);

	for (const PQconninfoOption *o = all; o->keyword != NULL; o++) {
		if (o->val != NULL && o->val[0] != '\0' &&
		    !one_of(o->keyword, own_settings, owns) && !keep(p, o->keyword, o->val))
			return false;
	}
	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
		if (value_of(all, defaults[i].keyword)[0] == '\0' &&
		    !keep(p, defaults[i].keyword, defaults[i].value))
			return false;
	}
	return true;
}

/* Element i of a list with commas; NULL: empty, or no memory. */
static char *
element(const char *list, unsigned i)
{
	while (i > 0 && (list = strchr(list, ',')) != NULL) {
		list++;
		i--;
	}
	if (list == NULL || *list == ',' || *list == '\0')
		return NULL;
	return strndup(list, strcspn(list, ","));
}

static unsigned
elements(const char *list)
{
	unsigned count = 1;

	for (; *list != '\0'; list++)
		count += *list == ',';
	return count;
}

static bool
keep_hosts(const struct grapnel_host *host, struct grapnel_instance *self, struct pg_params *p,
    const PQconninfoOption *all)
{
	const char *names = value_of(all, "host"), *addresses = value_of(all, "hostaddr");
	const char *ports = value_of(all, "port");
	unsigned count = elements(*addresses != '\0' ? addresses : names);

	/* That the lists agree in length libpq has seen to. */
	if (count > PG_MAX_HOSTS) {
		host->config_error(
		    self, NULL, NULL, "%u hosts are more than %u", count, PG_MAX_HOSTS);
		return false;
	}
	for (unsigned i = 0; i < count; i++) {
		p->hosts[i].name = element(names, i);
		p->hosts[i].address = element(addresses, i);
		p->hosts[i].port = element(ports, elements(ports) == 1 ? 0 : i);
	}
	p->host_count = count;
	return true;
}

struct pg_params *
pg_params_new(const struct grapnel_host *host, struct grapnel_instance *self)
{
	struct pg_params *p = calloc(1, sizeof(*p));
	PQconninfoOption *all;

	if (p == NULL) {
		host->config_error(self, NULL, NULL, "out of memory");
		return NULL;
	}
	all = gather(host, self);
	if (all == NULL)
		goto fail;
	p->password_file = option_text(host, self, "password_file");
	if (!keep_hosts(host, self, p, all))
		goto fail;
	if (!keep_settings(p, all)) {
		host->config_error(self, NULL, NULL, "too many settings, or out of memory");
		goto fail;
	}
	options_free(all);
	return p;
fail:
	options_free(all);
	pg_params_free(p);
	return NULL;
}

void
pg_params_free(struct pg_params *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i < p->count; i++) {
		free(p->keywords[i]);
		wipe(p->values[i]);
	}
	for (unsigned i = 0; i < p->host_count; i++) {
		free(p->hosts[i].name);
		free(p->hosts[i].address);
		free(p->hosts[i].port);
	}
	free(p->password_file);
	free(p);
}

/* ------------------------------------------------------------------------------ connecting */

/*
 * The first line of password_file. A small local file, read when a connection is opened, as libpq reads certificates and
 * ~/.pgpass then; so that a new password needs no reload.
 */
static bool
read_password(const struct pg_params *p, char password[MAX_PASSWORD], char *why, size_t why_size)
{
	struct file_text text;
	size_t len;

	if (!read_file(p->password_file, MAX_PASSWORD - 1, &text, why, why_size))
		return false;
	len = 0;
	while (len < text.len && text.data[len] != '\n' && text.data[len] != '\r' &&
	    text.data[len] != '\0')
		len++;
	memcpy(password, text.data, len);
	password[len] = '\0';
	file_text_free(&text);
	return true;
}

static void
no_notice(void *arg, const PGresult *notice)
{
	(void)arg;
	(void)notice; /* may hold values of a query; libpq would print it to stderr */
}

PGconn *
pg_params_connect(const struct pg_params *p, const struct pg_host *h, const char *address,
    char *why, size_t why_size)
{
	struct settings s = { .count = 0 };
	char password[MAX_PASSWORD];
	PGconn *conn;

	for (unsigned i = 0; i < p->count; i++)
		(void)settings_put(&s, p->keywords[i], p->values[i]);
	if (p->password_file != NULL) {
		if (!read_password(p, password, why, why_size))
			return NULL;
		(void)settings_put(&s, "password", password);
	}
	if (h->name != NULL)
		(void)settings_put(&s, "host", h->name);
	if (address[0] != '\0')
		(void)settings_put(&s, "hostaddr", address);
	if (h->port != NULL)
		(void)settings_put(&s, "port", h->port);
	(void)settings_put(&s, "gssencmode", "disable");
	(void)settings_put(&s, "client_encoding", "UTF8");
	conn = PQconnectStartParams(s.keywords, s.values, 0);
	if (p->password_file != NULL)
		explicit_bzero(password, sizeof(password));
	if (conn == NULL)
		snprintf(why, why_size, "out of memory");
	else
		(void)PQsetNoticeReceiver(conn, no_notice, NULL);
	return conn;
}
