/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS of a listener: certificates, pre-shared keys, and what they say about who a client is.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "mqtt/wire.h"
#include <stdlib.h>
#include <string.h>

static bool
put_path(const struct import_one *x, const char *directive, const char *option)
{
	struct import_directive *d = import_own(x, directive);
	char *path = d != NULL ? import_path(x->im, d) : NULL;

	if (path == NULL)
		return false;
	import_string(x->f, d, option, path);
	import_converted(d);
	free(path);
	return true;
}

static bool
left_out(const struct import_one *x, struct import_directive *d, const char *why)
{
	import_fate(x->im, d, IMPORT_LOST, "%s; the listener is left out", why);
	import_fate(x->im, x->at, IMPORT_LOST, "left out, see %s", d->name);
	return false;
}

/* Who is asked for no certificate has no name in it, and Mosquitto lets nobody in without one. */
static bool
name_possible(const struct import_one *x)
{
	static const char *const names[] = { "use_identity_as_username",
		"use_subject_as_username" };

	if (import_own(x, "psk_hint") != NULL || import_own(x, "enable_proxy_protocol") != NULL)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (import_own_flag(x, names[i]))
			return left_out(x, import_own(x, names[i]),
			    "without require_certificate nobody shows one, so nobody comes in");
	return true;
}

bool
import_tls_possible(const struct import_one *x)
{
	static const char *const files[] = { "certfile", "keyfile", "cafile", "capath", "crlfile" };
	struct import_directive *d, *certificate = import_own(x, "certfile"),
				    *key = import_own(x, "keyfile");
	bool must = false;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if ((d = import_own(x, files[i])) != NULL &&
		    (d->value[0] == '\0' || !utf8_plain(d->value, strlen(d->value))))
			return left_out(x, d, "this is no path");
	d = import_own(x, "psk_hint") != NULL ? import_security(x->im, "psk_file", x->number)
					      : NULL;
	if (d != NULL && (d->value[0] == '\0' || !utf8_plain(d->value, strlen(d->value))))
		return left_out(x, d, "this is no path");
	if ((certificate == NULL) != (key == NULL))
		return left_out(x, certificate != NULL ? certificate : key,
		    "certfile and keyfile need each other");
	d = import_own(x, "require_certificate");
	(void)import_bool(x->im, d, &must);
	if (certificate != NULL && !must && !name_possible(x))
		return false;
	if (!must || certificate == NULL)
		return true;
	if (import_own(x, "cafile") == NULL && import_own(x, "capath") == NULL)
		return left_out(x, d, "without cafile or capath nobody's certificate is good");
	if (import_own(x, "psk_hint") != NULL)
		return left_out(x, d, "who comes with a pre-shared key shows no certificate");
	return true;
}

static void
put_client_certificates(const struct import_one *x)
{
	struct import_directive *required = import_own(x, "require_certificate"), *d;
	bool must = false, dates = false;

	if (!import_bool(x->im, required, &must) || !must) {
		import_converted(required);
		return;
	}
	import_line(x->f, required, "client_certificate = required");
	import_converted(required);
	if (!put_path(x, "cafile", "client_ca"))
		(void)put_path(x, "capath", "client_ca");
	else if ((d = import_own(x, "capath")) != NULL)
		import_fate(x->im, d, IMPORT_LOST,
		    "client_ca is a file or a folder: put all of them into one");
	if (put_path(x, "crlfile", "crl"))
		import_fate(x->im, import_own(x, "crlfile"), IMPORT_OTHER,
		    "each authority between a client and its root needs a list, not only the last "
		    "one");
	d = import_own(x, "disable_client_cert_date_checks");
	if (import_bool(x->im, d, &dates))
		import_fate(x->im, d, dates ? IMPORT_LOST : IMPORT_SAME,
		    "certificates that have ended let nobody in");
}

/* What becomes the user name. */
static void
put_identity(const struct import_one *x, bool verified)
{
	struct import_directive *id = import_own(x, "use_identity_as_username"),
				*subject = import_own(x, "use_subject_as_username"), *d;
	bool cn = false, whole = false;

	(void)import_bool(x->im, id, &cn);
	(void)import_bool(x->im, subject, &whole);
	d = cn ? id : subject;
	if (!cn)
		import_converted(id);
	if (!whole || cn)
		import_converted(subject);
	if (!cn && !whole)
		return;
	if (x->l->psk) { /* always so, with or without it */
		import_converted(d);
		return;
	}
	if (x->l->proxied && !cn) {
		import_fate(
		    x->im, d, IMPORT_LOST, "a proxy says the common name, and not the subject");
		return;
	}
	if (!verified) {
		import_fate(x->im, d, IMPORT_LOST,
		    "without require_certificate there is no certificate: clients log in with user "
		    "name and password");
		return;
	}
	import_line(x->f, d, "identity = %s", cn ? "cn" : "subject");
	import_converted(d);
	x->l->identity = true;
}

static void
put_tls_version(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "tls_version");
	char word[16];

	if (d == NULL)
		return;
	import_word(d, word, sizeof(word));
	if (strcmp(word, "tlsv1.3") == 0 || strcmp(word, "tlsv1.2") == 0) {
		import_line(x->f, d, "tls_minimum = %s", word + 4);
		import_converted(d);
	} else {
		import_fate(x->im, d, IMPORT_LOST, "TLS 1.2 is the oldest version");
	}
}

static void
put_psk(const struct import_one *x)
{
	struct import_directive *hint = import_own(x, "psk_hint"),
				*file = import_security(x->im, "psk_file", x->number);
	char *path;

	import_fate(x->im, hint, IMPORT_OTHER,
	    "no hint is sent; the identity of the key is always the user name, whatever name "
	    "CONNECT has");
	if (file == NULL) { /* a plugin has the keys */
		import_line(x->f, hint, "psk = yes");
	} else if ((path = import_path(x->im, file)) != NULL) {
		import_string(x->f, file, "psk_file", path);
		import_converted(file);
		free(path);
	}
}

void
import_tls(const struct import_one *x)
{
	struct import_directive *d, *certificate = import_own(x, "certfile");
	bool pair = certificate != NULL; /* and keyfile: import_tls_possible */
	char word[16];

	x->l->psk = import_own(x, "psk_hint") != NULL;
	if (!pair && !x->l->psk) {
		put_identity(x, x->l->proxied);
		return;
	}
	import_line(x->f, pair ? certificate : import_own(x, "psk_hint"), "tls = yes");
	if (pair) {
		(void)put_path(x, "certfile", "certificate");
		(void)put_path(x, "keyfile", "private_key");
		put_client_certificates(x);
	}
	if (x->l->psk)
		put_psk(x);
	put_identity(x, pair && import_own_flag(x, "require_certificate"));
	import_own_text(x, "ciphers", "ciphers");
	import_own_text(x, "ciphers_tls1.3", "cipher_suites");
	put_tls_version(x);
	if ((d = import_own(x, "tls_keyform")) != NULL)
		import_fate(x->im, d,
		    strcmp(import_word(d, word, sizeof(word)), "pem") == 0 ? IMPORT_SAME
									   : IMPORT_LOST,
		    "keys are in PEM files");
}
