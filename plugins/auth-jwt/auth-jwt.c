/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-jwt - clients who bring a JSON Web Token (RFC 7519), as password, user name or in an AUTH packet
 *
 * Here: the options and the life of an instance. login.c follows one token through; token.h, claims.h and rights.h say what is
 * looked at, keyring.h where the keys come from.
 *
 * Bounded: max_token, max_keys, jwks_max_bytes; max_pending of the instance for those who wait.
 */
#include "auth-jwt.h"

#include "key_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_option auth_jwt_options[] = {
	{ .name = "acl_claim",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Claim with the client's rights: rules as text, as a list of texts or objects, "
		    "or EMQX's acl." },
	{ .name = "algorithms",
	    .type = GRAPNEL_OPTION_LIST,
	    .help =
		"Algorithms that are accepted, such as RS256; default: all that go with a key." },
	{ .name = "attributes",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Claims that become attributes of the client: claim, or attribute=claim." },
	{ .name = "audience",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "The aud of a token must have one of these." },
	{ .name = "claims",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "What claims must say, such as sub=%u or client=%c." },
	{ .name = "issuer",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "The iss of a token must be one of these." },
	{ .name = "jwks_ca",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the authorities that the certificate of jwks_url must come from; "
		    "default: the system's." },
	{ .name = "jwks_cooldown",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "30s",
	    .min = 100,
	    .max = 86400000,
	    .help = "Time after reading jwks_url in which an unknown key is no reason to read it "
		    "again." },
	{ .name = "jwks_file", .type = GRAPNEL_OPTION_STRING, .help = "Path of a JWK Set." },
	{ .name = "jwks_max_bytes",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "256k",
	    .min = 1024,
	    .max = 16777216,
	    .help = "Longest answer of jwks_url." },
	{ .name = "jwks_plain_http",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether jwks_url may be http://: whoever is on the way then decides who may "
		    "log in." },
	{ .name = "jwks_refresh",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10m",
	    .min = 1000,
	    .max = 604800000,
	    .help = "How often jwks_url is read." },
	{ .name = "jwks_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .min = 100,
	    .max = 300000,
	    .help = "Time that reading jwks_url may take." },
	{ .name = "jwks_url",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "https:// address of a JWK Set." },
	{ .name = "key",
	    .type = GRAPNEL_OPTION_LIST,
	    .help =
		"Paths of public keys or certificates in PEM, for tokens with any kid or none." },
	{ .name = "key_directory",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Folder of keys by kid: KID.pem, .pub, .crt, .cer (PEM) and .secret." },
	{ .name = "leeway",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .max = 86400000,
	    .help = "How far the clocks of issuer and broker may be apart." },
	{ .name = "limits_claim",
	    .type = GRAPNEL_OPTION_STRING,
	    .help =
		"Claim with an object of the client's limits, such as max_qos and message_rate." },
	{ .name = "max_keys",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "100",
	    .min = 1,
	    .max = 10000,
	    .help = "Keys of all sources together." },
	{ .name = "max_token",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "16k",
	    .min = 256,
	    .max = 65535,
	    .help = "Longest token; a longer one is refused unread." },
	{ .name = "method",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "JWT",
	    .help = "Authentication Method of MQTT 5 clients who bring the token as Authentication "
		    "Data; \"\": none." },
	{ .name = "min_rsa_bits",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "2048",
	    .min = 1024,
	    .max = KEY_MAX_RSA_BITS,
	    .help = "Shortest RSA key." },
	{ .name = "min_secret_bytes",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "32",
	    .min = 1,
	    .max = 1024,
	    .help = "Shortest secret; whoever has a token can try to guess it." },
	{ .name = "mountpoint_claim",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Claim with the client's mountpoint." },
	{ .name = "pass_on",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether what does not look like a token is left to the next plugin instead of "
		    "being refused." },
	{ .name = "pass_on_issuer",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether a token of none of the issuers is left to the next plugin instead of "
		    "being refused." },
	{ .name = "require_exp",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether a token without exp is refused." },
	{ .name = "secret",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Paths of files with the secret of an HMAC, for tokens with any kid or none." },
	{ .name = "secret_base64",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether files with secrets are base64 or base64url." },
	{ .name = "superuser_claim",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Claim that is true for a client whose rights are not asked about." },
	{ .name = "token",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "password",
	    .choices = "password|username",
	    .help = "Where the token is." },
	{ .name = "username_claim",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Claim with the client's user name, which replaces the one of CONNECT." },
	{ .name = NULL },
};

/* ------------------------------------------------------------------------- options */

static bool
read_algorithms(struct auth_jwt *a)
{
	struct grapnel_str name;
	bool good = true;

	for (size_t i = 0;
	     (name = a->host->option_list(a->self, NULL, "algorithms", i)).data != NULL; i++) {
		const struct key_alg *alg = key_alg_find(name);

		if (alg != NULL && a->algs.count < TOKEN_MAX_ALGS) {
			a->algs.algs[a->algs.count++] = alg;
			continue;
		}
		a->host->config_error(a->self, NULL, "algorithms",
		    "%.*s is no algorithm that signatures are checked with here", (int)name.len,
		    name.data);
		good = false;
	}
	return good;
}

static bool
read_names(struct auth_jwt *a, const char *option, struct grapnel_str *names, size_t *count)
{
	struct grapnel_str name;

	for (size_t i = 0; (name = a->host->option_list(a->self, NULL, option, i)).data != NULL;
	     i++) {
		if (*count == CLAIMS_MAX_NAMES) {
			a->host->config_error(
			    a->self, NULL, option, "there are more than %u", CLAIMS_MAX_NAMES);
			return false;
		}
		names[(*count)++] = name;
	}
	return true;
}

static bool
read_claims(struct auth_jwt *a)
{
	unsigned allowed = TEMPLATE_CLIENT;
	struct grapnel_str text;
	char error[256];
	bool good = true;

	if (a->from_username)
		allowed &= ~(unsigned)TEMPLATE_USERNAME; /* that is the token itself */
	for (size_t i = 0; (text = a->host->option_list(a->self, NULL, "claims", i)).data != NULL;
	     i++)
		if (!claims_policy_add(&a->policy, text, allowed, error, sizeof(error))) {
			a->host->config_error(
			    a->self, NULL, "claims", "%.*s: %s", (int)text.len, text.data, error);
			good = false;
		}
	for (size_t i = 0;
	     (text = a->host->option_list(a->self, NULL, "attributes", i)).data != NULL; i++)
		if (!rights_map_add(&a->rights, text, error, sizeof(error))) {
			a->host->config_error(a->self, NULL, "attributes", "%.*s: %s",
			    (int)text.len, text.data, error);
			good = false;
		}
	return good;
}

static bool
read_name(struct auth_jwt *a, const char *option, char **out)
{
	struct grapnel_str name = a->host->option_str(a->self, NULL, option);

	if (name.len == 0)
		return true;
	*out = strndup(name.data, name.len);
	return *out != NULL;
}

static bool
read_all(struct auth_jwt *a)
{
	const struct grapnel_host *host = a->host;
	struct grapnel_str token = host->option_str(a->self, NULL, "token");
	bool good;

	a->from_username = token.len > 0 && token.data[0] == 'u'; /* not password */
	a->pass_on = host->option_bool(a->self, NULL, "pass_on");
	a->pass_on_issuer = host->option_bool(a->self, NULL, "pass_on_issuer");
	a->method = host->option_str(a->self, NULL, "method");
	a->max_token = (size_t)host->option_int(a->self, NULL, "max_token");
	a->policy.leeway = host->option_int(a->self, NULL, "leeway") / 1000;
	a->policy.require_exp = host->option_bool(a->self, NULL, "require_exp");
	good = read_algorithms(a);
	good = read_names(a, "issuer", a->policy.issuers, &a->policy.issuer_count) && good;
	good = read_names(a, "audience", a->policy.audiences, &a->policy.audience_count) && good;
	good = read_claims(a) && good;
	good = read_name(a, "username_claim", &a->rights.username) &&
	    read_name(a, "superuser_claim", &a->rights.superuser) &&
	    read_name(a, "mountpoint_claim", &a->rights.mountpoint) &&
	    read_name(a, "acl_claim", &a->rights.acl) &&
	    read_name(a, "limits_claim", &a->rights.limits) && good;
	if (a->from_username && a->rights.username == NULL) {
		host->config_error(a->self, NULL, "token",
		    "token = username needs username_claim: a token is nobody's name");
		good = false;
	}
	if (a->pass_on_issuer && a->policy.issuer_count == 0) {
		host->config_error(
		    a->self, NULL, "pass_on_issuer", "pass_on_issuer = yes needs issuer");
		good = false;
	}
	return good;
}

/* ---------------------------------------------------------------------------- keys */

static bool
read_keys(struct auth_jwt *a)
{
	const struct grapnel_host *host = a->host;
	const struct key_limits limits = {
		.min_rsa_bits = (int)host->option_int(a->self, NULL, "min_rsa_bits"),
		.min_secret_bytes = (size_t)host->option_int(a->self, NULL, "min_secret_bytes"),
	};
	struct keyset *set = keyset_new((size_t)host->option_int(a->self, NULL, "max_keys"));
	bool url = host->option_given(a->self, NULL, "jwks_url");

	if (set == NULL)
		return false;
	if (!key_files_read(host, a->self, &limits, set)) {
		keyset_unref(set);
		return false;
	}
	if (set->count == 0 && !url) {
		host->config_error(a->self, NULL, NULL,
		    "there are no keys; set key, secret, key_directory, jwks_file or jwks_url");
		keyset_unref(set);
		return false;
	}
	if (a->policy.audience_count == 0 && a->policy.check_count == 0)
		host->log(a->self, GRAPNEL_LOG_WARNING,
		    "neither audience nor claims is set: whatever the issuer signs, for any "
		    "service and any client, is a login");
	a->ring = keyring_new(host, a->self, set, &limits, jwt_woken, a);
	return a->ring != NULL;
}

/* ---------------------------------------------------------------------------- life */

static void
auth_jwt_destroy(void *instance)
{
	struct auth_jwt *a = instance;

	keyring_free(a->ring);
	claims_policy_fini(&a->policy);
	rights_map_fini(&a->rights);
	free(a->workers);
	free(a);
}

/* What the answers depend on, and hooks that the options leave nothing for. */
static int
register_hooks(struct auth_jwt *a)
{
	const struct grapnel_host *host = a->host;
	uint64_t login = a->from_username ? GRAPNEL_DEPENDS_USERNAME : GRAPNEL_DEPENDS_PASSWORD;
	int err;

	for (size_t i = 0; i < a->policy.check_count; i++)
		login |= template_depends(a->policy.checks[i].is);
	if ((err = host->depends_on(a->self, "client_authenticate", login)) != GRAPNEL_OK ||
	    (err = host->depends_on(a->self, "client_revalidate", GRAPNEL_DEPENDS_ATTRIBUTES)) !=
		GRAPNEL_OK)
		return err;
	return a->method.len == 0 ? host->hook_disable(a->self, "client_auth_exchange")
				  : GRAPNEL_OK;
}

static int
auth_jwt_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_jwt *a = calloc(1, sizeof(*a));
	int err = GRAPNEL_EINVAL;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	a->workers = calloc(host->workers, sizeof(*a->workers));
	if (a->workers == NULL || !read_all(a) || !read_keys(a))
		goto fail;
	if ((err = register_hooks(a)) != GRAPNEL_OK)
		goto fail;
	a->accepted = host->metric_new(
	    self, GRAPNEL_COUNTER, "tokens_accepted_total", "Tokens that let a client in.");
	a->refused = host->metric_new(self, GRAPNEL_COUNTER, "tokens_refused_total",
	    "Tokens that were refused: malformed, signature, time, claims; and what is no token.");
	a->passed_on = host->metric_new(self, GRAPNEL_COUNTER, "tokens_passed_on_total",
	    "Logins that were left to the next plugin by pass_on or pass_on_issuer.");
	a->unavailable = host->metric_new(self, GRAPNEL_COUNTER, "tokens_unavailable_total",
	    "Tokens that could not be checked: jwks_url could not be read, offload queue full, "
	    "deadline passed, no memory.");
	a->waiting = host->metric_new(
	    self, GRAPNEL_GAUGE, "tokens_waiting", "Tokens that wait for jwks_url to be read.");
	*instance = a;
	return GRAPNEL_OK;
fail:
	auth_jwt_destroy(a);
	return err;
}

static int
auth_jwt_worker_start(void *instance, unsigned worker)
{
	struct auth_jwt *a = instance;

	return keyring_worker_start(a->ring, worker);
}

static void
auth_jwt_worker_stop(void *instance, unsigned worker)
{
	struct auth_jwt *a = instance;

	keyring_worker_stop(a->ring, worker);
}

GRAPNEL_PLUGIN(auth_jwt, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Clients who bring a JSON Web Token.", .options = auth_jwt_options,
    .create = auth_jwt_create, .destroy = auth_jwt_destroy, .worker_start = auth_jwt_worker_start,
    .worker_stop = auth_jwt_worker_stop, .reload_always = true,
    .request_cancelled = jwt_request_cancelled, .client_authenticate = jwt_client_authenticate,
    .client_auth_exchange = jwt_client_auth_exchange, .client_revalidate = jwt_client_revalidate);
