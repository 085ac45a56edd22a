/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/harness.h - a simulated host, so that a plugin can be tested without a broker (-lgrapnel-harness)
 *
 * The harness loads a plugin as the broker does, gives it a complete struct grapnel_host, and drives it: every hook, in any
 * order, with answers now or later, deadlines, clients that leave, reloads. Time is virtual and stands still until it is moved.
 * All the while it looks for faults that a broker would suffer from ("findings": leaks, use of a question after its answer, a
 * worker that is held, a function on a wrong thread ...). grapnel-harness(7) lists them, and the script language.
 *
 *	struct grapnel_harness_config config = { .size = sizeof(config), .path = "./my-plugin.so" };
 *	struct grapnel_harness *h;
 *
 *	if (grapnel_harness_new(&config, &h) != GRAPNEL_OK)
 *		return 1;
 *	grapnel_harness_step(h, "start");
 *	grapnel_harness_step(h, "client c1 username=%s", name);
 *	grapnel_harness_step(h, "acl publish c1 a/b -> allow");
 *	return grapnel_harness_free(h) > 0;
 *
 * Threads:   every function on the thread that made the harness. One harness at a time in a process. The plugin's workers are
 *            threads of the harness, of which one runs at a time, and only inside these functions; a plugin's own threads and
 *            its offloaded work run when they like.
 * Signals:   SIGSEGV is caught while a harness exists, to name the use of memory that was taken back; other faults go to the
 *            handler that was there before.
 */
#ifndef GRAPNEL_HARNESS_H
#define GRAPNEL_HARNESS_H

#include <grapnel/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct grapnel_harness;

/** What is reported. */
enum grapnel_harness_report {
	GRAPNEL_HARNESS_FAILURE = 1, /* an expectation did not hold, or a step cannot be done */
	GRAPNEL_HARNESS_FINDING = 2, /* a fault of the plugin that nobody asked about */
	GRAPNEL_HARNESS_LOG = 3,     /* what the plugin logged */
	GRAPNEL_HARNESS_STEP = 4,    /* a step begins */
};

/** What is tested, and how. Copied, strings too; the descriptor is not. */
struct grapnel_harness_config {
	size_t size;
	const char *path;	      /* the shared object */
	const struct grapnel_plugin *plugin; /* or one that is linked to the test; path is NULL then */
	const char *name;	      /* of the instance; NULL: that of the file, or of the descriptor */
	uint32_t hold_ms;	      /* how long a worker may be held by one call; 0: 5 */
	uint32_t patience_ms;	      /* how long is waited for what happens in real time; 0: 5000 */
	/* where is "file:line", or "" for steps from C. NULL: failures and findings go to stderr. On the harness's own thread */
	void (*report)(void *arg, enum grapnel_harness_report kind, const char *where, const char *text);
	void *report_arg;
};

/**
 * Make a harness. The plugin is not loaded before the step "start".
 *
 * @return GRAPNEL_OK; GRAPNEL_EINVAL: neither path nor plugin, or both; GRAPNEL_ESTATE: there is one already; GRAPNEL_ENOMEM: no
 *         memory, or no descriptor.
 * @owner   The caller, until grapnel_harness_free. The config is copied.
 * @threads Any; all the others then on that one.  @since ABI 1.0
 */
int grapnel_harness_new(const struct grapnel_harness_config *config, struct grapnel_harness **out);
/**
 * Stop and unload the plugin if that has not been done, look for what it has left, and free all.
 *
 * @return How many failures and findings there were. NULL: 0.
 * @owner   Takes the harness, and all that its functions have given.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
unsigned grapnel_harness_free(struct grapnel_harness *h);

/**
 * Run one step of the script language, as if by printf. A here-document with its lines counts as one.
 *
 * @return GRAPNEL_OK; GRAPNEL_EFAULT: it failed, or there was a finding in it; both have been reported. GRAPNEL_ENOMEM.
 * @owner   The text stays the caller's.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
int grapnel_harness_step(struct grapnel_harness *h, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/**
 * Run a script from its first line to its last, or to the first step that cannot be done, and then the step "stop".
 *
 * @param shown_as  Its name in reports.
 * @return GRAPNEL_OK; GRAPNEL_EFAULT: something failed, or there was a finding; all have been reported.
 * @owner   The text stays the caller's; shown_as has to live as long as the harness.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
int grapnel_harness_script(struct grapnel_harness *h, const char *text, size_t len, const char *shown_as);

/** What a hook answered. Details that do not belong to it are NULL, as are those that nobody attached. */
struct grapnel_harness_answer {
	size_t size;
	enum grapnel_verdict verdict; /* GRAPNEL_PENDING: not yet */
	bool at_once;		      /* the hook itself returned it */
	bool cancelled;		      /* the client left or the deadline passed before; the verdict is UNAVAILABLE */
	const struct grapnel_auth_answer *auth;
	const struct grapnel_acl_answer *acl;
	const struct grapnel_publish_answer *publish;
	const struct grapnel_subscribe_answer *subscribe;
	const struct grapnel_ack_answer *ack;
	const struct grapnel_psk_answer *psk;
};
/**
 * Ask a hook with a question made by hand.
 *
 * @param hook      Its name, "acl_check".
 * @param worker    On which it is asked.
 * @param question  The struct of that hook.
 * @param number    Filled, for grapnel_harness_answer.
 * @return GRAPNEL_OK; GRAPNEL_ENOENT: no such hook, or the plugin has it not; GRAPNEL_EINVAL: no such worker; GRAPNEL_ESTATE: not
 *         started; GRAPNEL_ENOMEM.
 * @owner   The question is copied.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
int grapnel_harness_ask(struct grapnel_harness *h, const char *hook, unsigned worker, const void *question, unsigned *number);
/**
 * What came of a question.
 *
 * @param wait_ms  How long to wait in real time if it is not there yet, driving the plugin meanwhile.
 * @return GRAPNEL_OK; GRAPNEL_ETIMEOUT: the verdict is PENDING; GRAPNEL_ENOENT: no such question.
 * @owner   The harness: what *out points to is valid until grapnel_harness_free.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
int grapnel_harness_answer(struct grapnel_harness *h, unsigned number, uint32_t wait_ms, struct grapnel_harness_answer *out);

/**
 * The table that the plugin gets, for tests of its parts.
 *
 * @return Never NULL; empty before the step "start".
 * @owner   The harness.
 * @threads That of grapnel_harness_new; what is in it as grapnel/host.h says.  @since ABI 1.0
 */
const struct grapnel_host *grapnel_harness_host(const struct grapnel_harness *h);
/**
 * The running instance, as the host's functions want it.
 *
 * @return NULL: none runs.
 * @owner   The harness.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
struct grapnel_instance *grapnel_harness_instance(const struct grapnel_harness *h);
/**
 * The running instance, as create() gave it.
 *
 * @return NULL: none runs.
 * @owner   The plugin.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
void *grapnel_harness_state(const struct grapnel_harness *h);
/**
 * The descriptor of the running instance.
 *
 * @return NULL: none runs. Members that the plugin's own descriptor lacks are NULL.
 * @owner   The harness.
 * @threads That of grapnel_harness_new.  @since ABI 1.0
 */
const struct grapnel_plugin *grapnel_harness_plugin(const struct grapnel_harness *h);
/** Failures so far.  @return Their number.  @threads That of grapnel_harness_new.  @since ABI 1.0 */
unsigned grapnel_harness_failures(const struct grapnel_harness *h);
/** Findings so far.  @return Their number.  @threads That of grapnel_harness_new.  @since ABI 1.0 */
unsigned grapnel_harness_findings(const struct grapnel_harness *h);

/**
 * Load a shared object by itself, in a process of its own, and say what is wrong with how it loads: a symbol that none of the
 * libraries it names has, something that its constructors leave behind. Needs no harness.
 *
 * @param error  Filled with the reason, NUL-terminated.
 * @return GRAPNEL_OK; GRAPNEL_EFAULT: it does not load as it should; GRAPNEL_EUNSUPPORTED: it, or this program, is built with a
 *         sanitizer, whose runtime cannot be loaded twice; GRAPNEL_ESYS.
 * @owner   All stays the caller's.
 * @threads Any; best while there is no other: it calls fork().  @since ABI 1.0
 */
int grapnel_harness_load_check(const char *path, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
