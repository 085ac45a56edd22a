/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_old - plugins of versions 3 and 4, which have functions of fixed names, as if they had callbacks: foreign.h */
#include "engine.h"

#include <string.h>

static int
on_basic_auth(int event, void *event_data, void *userdata)
{
	const struct foreign *f = &((struct engine *)userdata)->foreign;
	const struct evt_basic_auth *ed = event_data;

	(void)event;
	return f->unpwd_check(f->userdata, ed->client, ed->username, ed->password);
}

/* Their rules have patterns that a name like "+" would match more with than its own. */
static bool
is_dangerous(const char *name)
{
	return name != NULL && strpbrk(name, "+#/") != NULL;
}

static int
on_acl_check(int event, void *event_data, void *userdata)
{
	struct engine *e = userdata;
	const struct foreign *f = &e->foreign;
	const struct evt_acl_check *ed = event_data;
	const struct acl_msg msg = { .topic = ed->topic,
		.payload = ed->payload,
		.payloadlen = (long)ed->payloadlen,
		.qos = ed->qos,
		.retain = ed->retain };

	(void)event;
	if (e->loaded->deny_special_chars &&
	    (is_dangerous(ed->client->id) || is_dangerous(ed->client->username))) {
		engine_log(e, GRAPNEL_LOG_DEBUG,
		    "rights are denied to a client with one of + # / in its user name or Client "
		    "Identifier (deny_special_chars)");
		return MOSQ_ACL_DENIED;
	}
	return f->acl_check(f->userdata, ed->access, ed->client, &msg);
}

static int
on_psk_key(int event, void *event_data, void *userdata)
{
	const struct foreign *f = &((struct engine *)userdata)->foreign;
	const struct evt_psk_key *ed = event_data;

	(void)event;
	return f->psk_key_get(
	    f->userdata, ed->client, ed->hint, ed->identity, ed->key, ed->max_key_len);
}

static int
on_start(int event, void *event_data, void *userdata)
{
	const struct foreign *f = &((struct engine *)userdata)->foreign;
	struct evt_extended_auth *ed = event_data;

	(void)event;
	return f->start(f->userdata, ed->client, ed->auth_method, false, ed->data_in,
	    ed->data_in_len, &ed->data_out, &ed->data_out_len);
}

static int
on_continue(int event, void *event_data, void *userdata)
{
	const struct foreign *f = &((struct engine *)userdata)->foreign;
	struct evt_extended_auth *ed = event_data;

	(void)event;
	return f->go_on(f->userdata, ed->client, ed->auth_method, ed->data_in, ed->data_in_len,
	    &ed->data_out, &ed->data_out_len);
}

static int
on_reload(int event, void *event_data, void *userdata)
{
	struct foreign *f = &((struct engine *)userdata)->foreign;
	const struct evt_reload *ed = event_data;
	int rc = f->security_cleanup(f->userdata, ed->options, ed->option_count, true);

	(void)event;
	f->secured = false;
	if (rc == MOSQ_SUCCESS)
		rc = f->security_init(f->userdata, ed->options, ed->option_count, true);
	f->secured = rc == MOSQ_SUCCESS;
	return rc;
}

static bool
find_all(struct engine *e)
{
	struct foreign *f = &e->foreign;
	const struct {
		const char *name;
		void *fn;
		bool required;
	} functions[] = {
		{ "mosquitto_auth_plugin_cleanup", &f->auth_cleanup, true },
		{ "mosquitto_auth_security_init", &f->security_init, true },
		{ "mosquitto_auth_security_cleanup", &f->security_cleanup, true },
		{ "mosquitto_auth_acl_check", &f->acl_check, true },
		{ "mosquitto_auth_unpwd_check", &f->unpwd_check, false },
		{ "mosquitto_auth_psk_key_get", &f->psk_key_get, false },
		{ "mosquitto_auth_start", &f->start, false },
		{ "mosquitto_auth_continue", &f->go_on, false },
	};

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (foreign_find(e, functions[i].name, functions[i].fn) == NULL &&
		    functions[i].required)
			return foreign_fail(e, "it has no function %s", functions[i].name);
	if (f->start != NULL && f->go_on == NULL)
		return foreign_fail(
		    e, "it has a function mosquitto_auth_start but no mosquitto_auth_continue");
	return true;
}

int
foreign_old_init(struct engine *e)
{
	struct foreign *f = &e->foreign;
	struct opt *options = e->loaded->options;
	int count = e->loaded->count, rc;
	auth_init_fn init;

	if (!find_all(e))
		return MOSQ_UNKNOWN;
	if (foreign_find(e, "mosquitto_auth_plugin_init", &init) == NULL) {
		(void)foreign_fail(e, "it has no function mosquitto_auth_plugin_init");
		return MOSQ_UNKNOWN;
	}
	foreign_enter(e, "mosquitto_auth_plugin_init");
	rc = init(&f->userdata, options, count);
	foreign_leave(e);
	if (rc != MOSQ_SUCCESS)
		return rc;
	foreign_enter(e, "mosquitto_auth_security_init");
	rc = f->security_init(f->userdata, options, count, false);
	foreign_leave(e);
	f->secured = rc == MOSQ_SUCCESS;
	if (rc != MOSQ_SUCCESS)
		return rc;
	rc = foreign_register(e, EVT_RELOAD, on_reload, NULL, e);
	if (rc == MOSQ_SUCCESS)
		rc = foreign_register(e, EVT_ACL_CHECK, on_acl_check, NULL, e);
	if (rc == MOSQ_SUCCESS && f->unpwd_check != NULL)
		rc = foreign_register(e, EVT_BASIC_AUTH, on_basic_auth, NULL, e);
	if (rc == MOSQ_SUCCESS && f->psk_key_get != NULL)
		rc = foreign_register(e, EVT_PSK_KEY, on_psk_key, NULL, e);
	if (rc == MOSQ_SUCCESS && f->start != NULL)
		rc = foreign_register(e, EVT_EXT_AUTH_START, on_start, NULL, e);
	if (rc == MOSQ_SUCCESS && f->go_on != NULL)
		rc = foreign_register(e, EVT_EXT_AUTH_CONTINUE, on_continue, NULL, e);
	return rc;
}

void
foreign_old_cleanup(struct engine *e)
{
	struct foreign *f = &e->foreign;
	struct opt *options = e->loaded->options;
	int count = e->loaded->count;

	if (f->secured) {
		foreign_enter(e, "mosquitto_auth_security_cleanup");
		(void)f->security_cleanup(f->userdata, options, count, false);
		foreign_leave(e);
	}
	foreign_enter(e, "mosquitto_auth_plugin_cleanup");
	(void)f->auth_cleanup(f->userdata, options, count);
	foreign_leave(e);
}
