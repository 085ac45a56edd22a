/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core_stubs - a broker of workers and plugins, without connections and sessions, for tests of
 * broker/plugin/
 *
 * The workers are real threads; what runs on one is started with on_worker. The functions that
 * plugins need of the core are replaced by ones that count (the linker takes ours before it looks
 * into the library). A test begins with stub_settings and stub_start, and ends with stub_stop.
 */
#ifndef TESTS_UNIT_CORE_STUBS_H
#define TESTS_UNIT_CORE_STUBS_H

#include "../plugins/probe.h"
#include "core/broker.h"
#include "plugin/hooks.h"

extern struct broker stub_broker;
#define STUB_WORKERS 2u

extern struct stub_counts {
	_Atomic unsigned published, kicked, resumed, rights_changed, subscribed, unsubscribed;
} stub_counts;
/* What core_each_client walks, on worker 0. */
extern struct grapnel_client *stub_clients[8];

/* The folder of the modules: GRAPNEL_PLUGINS. */
const char *stub_modules(void);
/*
 * Make broker and settings from plugin sections; plugin_directory and a listener are added. Fails
 * the test on errors.
 */
void stub_settings(const char *plugin_sections);
/* plugins_new and plugins_start, threads, wait for plugins_ready. @return its err. */
int stub_start(void);
/*
 * Reload with other sections. @return what plugins_prepare or the switch gave; messages in
 * stub_messages().
 */
int stub_reload(const char *plugin_sections);
/* plugins_stop, threads joined, everything freed. Also after a stub_start that failed. */
void stub_stop(void);
/* plugins_new alone, for sections that are refused: its messages. NULL: they were accepted. */
const char *stub_refused(const char *plugin_sections);
const char *stub_messages(void);

/* A section for a probe. Static, several at a time. */
const char *stub_probe(const char *name, const struct probe *p, const char *more);

/* Run fn(w, arg) on a worker and wait until it has returned. */
void on_worker(unsigned worker, void (*fn)(struct worker *w, void *arg), void *arg);
/* Run it on main while main's loop runs. */
void on_main(void (*fn)(void *arg), void *arg);
/* Wait until *counter is at least n. Fails the test after ten seconds. */
void wait_for(_Atomic unsigned *counter, unsigned n);
/* Nothing happens for a while: let the workers turn a few times. */
void pause_ms(unsigned ms);

/* A question of each kind, about a client "c1" with user "u1". */
extern const struct grapnel_client_info stub_client;
extern const struct grapnel_message_info stub_message;
extern const struct grapnel_authenticate stub_authenticate;
extern const struct grapnel_acl_check stub_acl;
extern const struct grapnel_message_publish stub_publish;
extern const struct grapnel_client_subscribe stub_subscribe;

bool str_is(struct grapnel_str s, const char *text);

#endif
