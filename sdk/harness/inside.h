/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside - what the files of the harness share
 *
 * Threads:   the driver (whoever called the harness) and one thread for each simulated worker; of all these one runs at a
 *            time, handed on by on_worker(), so what no lock is named for needs none. The plugin's own threads, its offloaded
 *            work and look-ups come in through the host's functions: what those touch is under h->lock.
 * Ownership: struct grapnel_harness owns everything, to its end: what a plugin gave back is kept, so that a second use is named.
 * Bounded:   a run is a test: memory grows with the number of its steps.
 */
#ifndef SDK_HARNESS_INSIDE_H
#define SDK_HARNESS_INSIDE_H

#include "config/conf.h"
#include "config/settings.h"
#include "plugin/answer.h"
#include "plugin/copy.h"
#include "plugin/host_pure.h"
#include "plugin/module.h"
/* The one header whose functions are seen from outside. */
#pragma GCC visibility push(default)
#include <grapnel/harness.h>
#pragma GCC visibility pop
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#define WORKERS_MAX    64u
#define METRICS_MAX    64u
#define TEXT_MAX       1024 /* of a message */
#define JOIN_MS        5000u /* for look-ups that were given up */
#define HOLD_MS        5u
#define PATIENCE_MS    5000u
#define GRACE_MS       2000u
#define TURNS_MAX      10000u /* without a pause: the plugin spins */
#define DEADLINE_MS    10000u /* of a request, unless the section says otherwise */

struct grapnel_harness;
typedef struct grapnel_harness harness;

/* Where something came from: a call into the plugin, in a step. */
struct origin {
	const char *call; /* "acl_check", "worker_start" ...; constant text */
	int line;
};

/* ---- regions: memory that can be taken back (region.c) --------------------------------------- */
struct region {
	struct region *next;
	void *at;
	size_t len;
	struct origin given;
	const char *what;      /* "the question of acl_check" */
	_Atomic bool taken;    /* back: a touch is a finding */
	_Atomic bool touched;
	const char *touched_by; /* call at that time; set by the handler before touched */
	bool reported;
};
struct region *region_new(harness *h, size_t len, const char *what);
void region_take(struct region *r); /* any thread */
void regions_report(harness *h);    /* findings of what was touched since */
void regions_free(harness *h);
int regions_catch(harness *h);	  /* the handler of SIGSEGV */
void regions_uncatch(void);

/* ---- the plugin's instances (plug.c) ----------------------------------------------------------- */
enum plug_state { PLUG_NEW, PLUG_CREATING, PLUG_RUNS, PLUG_RETIRING, PLUG_GONE };

struct event_kept {
	struct event_kept *next;
	struct region *region;
	struct grapnel_event *event; /* in it */
};
struct plug_worker {
	bool started;	     /* worker_start ran and said OK */
	bool callable;	     /* it may use the worker's services: from worker_start to worker_stop, both included */
	_Atomic bool open;   /* post is taken */
	struct event_kept *events, **events_end;
	unsigned event_count;
	bool stalled;	     /* not all were taken */
	uint64_t retry_ms;
};
struct command {
	struct command *next;
	char *name;
	int (*fn)(void *arg, const struct grapnel_command *command, void (*reply)(void *ctx, struct grapnel_str json), void *ctx);
	void *arg;
};
struct counted {
	char *name;
	enum grapnel_metric_kind kind;
	_Atomic int64_t value;
};
struct plug {
	struct plug *next;
	harness *h;
	unsigned number;
	_Atomic enum plug_state state;
	char *name;
	struct module *module;		     /* NULL: linked in */
	struct grapnel_plugin plugin;	     /* what it lacks is NULL */
	void *instance;
	struct settings *settings;
	const struct plugin_settings *section;
	struct plugin_options *options;
	struct conf_errors errs;
	bool complained;
	uint16_t disabled;
	uint64_t depends[HOOK_COUNT];
	_Atomic uint64_t events;
	struct counted metrics[METRICS_MAX];
	_Atomic unsigned metric_count;
	struct command *commands;
	struct plug_worker workers[WORKERS_MAX];
	uint64_t retiring_since_ms;
	unsigned pending;		     /* asks; lock */
	unsigned jobs_running, jobs_waiting; /* lock */
};
/* From "section"; NULL: not started, the reason is in error (never empty). */
struct plug *plug_start(harness *h, char *error, size_t error_size);
bool plug_has(const struct plug *p, enum hook hook);
/* Tries to leave the workers and destroy it; false: something of it runs yet. */
bool plug_retire(struct plug *p);
void plugs_retire(harness *h); /* those that were replaced and are done */
void plugs_stop(harness *h); /* all of them, and their findings */
void plugs_free(harness *h);
struct plug *plug_of(const struct grapnel_instance *self, const char *function); /* NULL: not a handle; a finding */
struct plug *plug_here(const struct grapnel_instance *self, const char *function); /* the same, on a worker it runs on */

/* ---- things that a plugin makes on a worker (things.c) ------------------------------------------ */
enum thing_kind { THING_WATCH, THING_TIMER, THING_SUB, THING_LOOKUP, THING_JOB };
enum job_state { JOB_NEW, JOB_WAITS, JOB_RUNS, JOB_DONE };
struct thing {
	struct thing *next; /* newest first */
	harness *h;
	enum thing_kind kind;
	struct plug *plug;
	unsigned worker;
	struct origin made, ended;
	bool gone;
	void *arg;
	grapnel_call_fn fn; /* timer, done of a job */
	/* watch */
	grapnel_watch_fn watch_fn;
	int fd;
	unsigned events;
	/* timer; look-up: its end */
	bool armed;
	uint64_t due_ms, order;
	/* sub */
	grapnel_message_fn message_fn;
	char *filter;
	/* look-up */
	grapnel_resolve_fn resolve_fn;
	int err;
	struct grapnel_str *addresses; /* one block */
	size_t address_count;
	/* job, look-up; lock */
	grapnel_call_fn work;
	enum job_state job;
	bool cancelled, ran, has_deadline;
	uint64_t deadline_ms;
};
struct thing *thing_new(struct plug *p, enum thing_kind kind, void *arg);
/* NULL: no handle of a living thing of that kind, or of another thread's: a finding that names function. */
struct thing *thing_of(harness *h, const void *handle, enum thing_kind kind, const char *function);
void thing_end(struct thing *t);
void things_leaked(struct plug *p, unsigned worker); /* findings; they end */
bool things_busy(const struct plug *p, unsigned worker); /* jobs and look-ups under way */
void things_free(harness *h);
void things_publish(harness *h, const struct grapnel_message_info *m); /* to the plugin's subscriptions */

/* Calls to a worker, in order; any thread. */
struct posted {
	struct posted *next;
	struct plug *plug;
	grapnel_call_fn fn;
	void *arg;
	const char *call;
	bool always; /* the harness's own: also after worker_stop */
};
int posted_add(harness *h, unsigned worker, struct plug *p, const char *call, grapnel_call_fn fn, void *arg, bool always);

/* ---- threads (worker.c) ------------------------------------------------------------------------- */
typedef void (*worker_fn)(harness *h, unsigned worker, void *arg);
struct sim_worker {
	harness *h;
	unsigned index;
	pthread_t thread;
	pthread_cond_t turn;
	bool exists, ready, quit, busy;
	worker_fn fn;
	void *arg;
	struct posted *posts, **posts_end; /* lock */
};
int workers_start(harness *h);
void workers_stop(harness *h);
/* Runs fn there and waits for it. false: it never came back; the run is over. */
bool on_worker(harness *h, unsigned worker, worker_fn fn, void *arg);
unsigned stuck_s(const harness *h); /* a call that lasts longer ends the run */
int worker_here(void); /* -1: none */

/* A call into the plugin: what it is called, and how long it held its thread. */
struct call {
	struct call *outer;
	const char *name;
	struct plug *plug;
	uint64_t wall_us, cpu_us, wait_us, faults, sleeps;
	bool wait_known;
};
void call_begin(struct call *c, struct plug *p, const char *name);
void call_end(struct call *c);
const char *call_name(void); /* of this thread; NULL: none, a thread that is not the harness's */
struct origin origin_now(const harness *h);

/* ---- time and turns (loop.c) -------------------------------------------------------------------- */
void posts_end(harness *h); /* what still waits for a worker after the last plugin has gone */
void pump(harness *h);			   /* all that is ready, until nothing is */
void advance(harness *h, uint64_t ms);
/* In real time, with the clock going along, until done(). false: patience ran out. */
bool wait_until(harness *h, uint32_t patience_ms, bool (*done)(harness *h, void *arg), void *arg);
bool idle(harness *h, void *arg); /* nothing is under way: no request, job, look-up, call */
void wake(harness *h);		  /* any thread */
uint64_t clock_now(const harness *h);
void clock_live(harness *h, bool live); /* driver; nests */

/* ---- jobs.c -------------------------------------------------------------------------------------- */
bool jobs_next(harness *h);  /* starts those that may */
void lookup_due(struct thing *t); /* on its worker */
bool jobs_join(harness *h, unsigned ms); /* false: threads of it still run after that time */
void dns_name(harness *h, const char *name, char *const *addresses, unsigned count);
void dns_free(harness *h);

/* ---- clients.c ----------------------------------------------------------------------------------- */
struct sim_client {
	struct grapnel_client handle; /* first: what the plugin has */
	struct sim_client *next;
	harness *h;
	char *name;
	unsigned worker;
	bool left;
	struct grapnel_client_info info; /* strings are the client's own */
	struct grapnel_pair *own;	 /* attributes of the connection, then those of the login */
	size_t own_count, connection_count;
	struct grapnel_rules *rules;	 /* of the login */
	struct plug *slot_plug[4];	 /* who has something in it */
	void *slots[4];
};
struct sim_client *client_find_name(harness *h, const char *name);
int client_set(struct sim_client *c, const char *key, struct grapnel_str value, char *error, size_t size);
struct sim_client *client_add(harness *h, const char *name);
void client_login(struct sim_client *c, const struct grapnel_auth_answer *a, bool again);
void client_leave(struct sim_client *c);
void clients_slots_drop(struct plug *p, unsigned worker);
void clients_free(harness *h);
void *slot_get(struct grapnel_instance *self, const struct grapnel_client *client);
int slot_set(struct grapnel_instance *self, struct grapnel_client *client, void *data);
int client_look(struct grapnel_instance *self, struct grapnel_str mountpoint, struct grapnel_str client_id,
    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg);

/* ---- asks.c --------------------------------------------------------------------------------------- */
enum ask_state { ASK_IN_HOOK, ASK_PENDING, ASK_CANCELLED, ASK_RESOLVED, ASK_DONE };
struct asked {
	struct asked *next;
	harness *h;
	unsigned number; /* from 1 */
	char *name;	 /* in the script; NULL: none */
	struct plug *plug;
	enum hook hook;
	unsigned worker;
	struct sim_client *client; /* NULL: none */
	struct origin made;
	struct region *region;
	struct question *question;
	enum ask_state state; /* lock, as all below */
	uint64_t deadline_ms;
	pthread_t hook_thread;
	bool at_once, cancelled, resolved_inside;
	void *data;
	int verdict;
	struct answer *answer; /* NULL: no details */
	struct answer *attached;
	bool by_rules, superuser;
	uint32_t rule_flags;
	char *rule;
	bool applied; /* to the client */
};
/* One that nobody is asked: done, UNAVAILABLE. NULL: no memory. */
struct asked *ask_new(harness *h, struct sim_client *c, enum hook hook, unsigned worker);
/* What a login's answer says becomes the client's, once. */
void ask_settle(struct asked *a);
/* NULL: no memory, or the run is over. */
struct asked *ask_hook(harness *h, struct sim_client *c, enum hook hook, unsigned worker, const void *question);
void ask_cancel(struct asked *a); /* if it is pending */
void asks_due(harness *h);

bool number_of(struct grapnel_str value, uint64_t max, uint64_t *out); /* all of it is one; words.c */
bool ask_decided(harness *h, void *arg);
struct asked *ask_named(harness *h, const char *name);
void asks_leaked(harness *h, struct plug *p);
void asks_free(harness *h);
void host_requests(struct grapnel_host *host);

/* ---- events.c -------------------------------------------------------------------------------------- */
int events_add(harness *h, unsigned worker, const struct grapnel_event *e); /* to the running instance, if it wants it */
/* Offers what waits; @return how many were taken. On the worker. */
size_t events_offer(struct plug *p, unsigned worker);
void events_drop(struct plug *p, unsigned worker);

/* ---- records.c: what the plugin did to the broker; lock ---------------------------------------------- */
enum record_kind { RECORD_LOG, RECORD_PUBLISHED, RECORD_KICK, RECORD_PURGE, RECORD_RIGHTS, RECORD_CONNECTION };
struct record {
	struct record *next;
	enum record_kind kind;
	bool used;   /* an expectation has met it */
	bool told;   /* a log line: reported */
	bool routed; /* published: the plugin's subscriptions have it */
	enum grapnel_log_level level;
	char *text; /* log line, topic, client id */
	struct grapnel_str more; /* payload, mountpoint; .data heap */
	char *properties;
	size_t properties_len;
	uint8_t qos, reason_code;
	bool retain;
	int fd; /* the broker's end of a connection */
};
struct record *record_new(enum record_kind kind, const char *text, size_t len); /* filled in by the caller, then added */
void record_add(harness *h, struct record *r);
void record_free(struct record *r); /* one that was not added */
/* The one behind r, or (NULL) the first: the driver walks while others add. */
struct record *record_next(harness *h, const struct record *r);
void records_free(harness *h);

/* ---- values.c, rules.c -------------------------------------------------------------------------------- */
void host_values(struct grapnel_host *host);
int value_put(harness *h, struct grapnel_str key, struct grapnel_str value);
bool value_look(harness *h, struct grapnel_str key, struct grapnel_str *value); /* .data is heap */
void values_free(harness *h);
void host_rules(struct grapnel_host *host);
bool rules_held_by_plugin(harness *h, const struct grapnel_rules *rules, const char *function);
void rules_leaked(harness *h);
void rules_free(harness *h);

/* ---- host.c, services.c -------------------------------------------------------------------------------- */
void host_fill(struct grapnel_host *host, unsigned workers);
void host_services(struct grapnel_host *host);
void host_jobs(struct grapnel_host *host);
/* Runs a command; *err: what fn returned. NULL: the instance has none of that name. */
void commands_drop(struct plug *p);
struct reply *command_run(harness *h, const struct grapnel_command *question, int *err);

/* ---- listeners.c ----------------------------------------------------------------------------------------- */
bool listener_add(harness *h, const char *name, const char *bind, char *error, size_t size);
void listeners_switch(harness *h, struct plug *neu); /* from the running one */
void listeners_close(struct plug *p, unsigned worker);
const char *listener_address(const harness *h, const char *name); /* NULL: none of that name */
bool listener_has(harness *h, int fd);
void listeners_free(harness *h);
int connection_open(struct grapnel_instance *self, const struct grapnel_connection *c, int *fd);

/* ---- script.c ---------------------------------------------------------------------------------------------- */
int script_run(harness *h, const char *text, size_t len, const char *shown_as, bool whole);

/* ---- the whole ----------------------------------------------------------------------------------------------- */
struct value;
struct rules_held;
struct dns_entry;
struct listener;
struct report;
/* What a command was answered; kept until its reply has come. */
struct reply {
	struct reply *next;
	harness *h;
	bool owed; /* lock, as text */
	char *text;
};
struct grapnel_harness {
	char *path, *name;
	const struct grapnel_plugin *linked;
	uint32_t hold_ms, patience_ms;
	void (*report)(void *arg, enum grapnel_harness_report kind, const char *where, const char *text);
	void *report_arg;

	pthread_t driver;
	pthread_mutex_t lock;
	pthread_cond_t came_back;
	int wake_fd;
	bool stuck; /* a call never came back: nothing can be done any more */
	bool stopped;
	bool spins; /* said already */

	/* what the script set before start */
	unsigned worker_count;
	char *section;
	int section_line;
	struct grapnel_host host;
	struct sim_worker workers[WORKERS_MAX];

	_Atomic uint64_t now_ms; /* while it is not live */
	_Atomic bool live;
	_Atomic uint64_t live_offset; /* to the real clock */
	unsigned live_depth;
	_Atomic int64_t wall_us; /* at now_ms */

	struct module *modules;
	struct plug *plugs, *running;
	unsigned plug_count;
	struct thing *things;
	uint64_t order;
	struct sim_client *clients;
	struct asked *asks;
	unsigned ask_count;
	struct region *regions; /* lock */
	struct record *records;
	struct value *values;
	struct rules_held *rules;
	struct dns_entry *dns;
	struct listener *listeners;
	struct reply *replies;
	unsigned pool_threads;

	/* reports; lock for the counts and what is kept for the driver */
	const char *shown_as;
	_Atomic int line;
	unsigned failures, findings;
	struct report *late, **late_end; /* findings that are not told yet; lock */
};

extern harness *the_harness; /* for functions of the host that are told of no instance */

void report_tell(harness *h, enum grapnel_harness_report kind, int line, const char *text); /* driver */
void harness_stop(harness *h);
void failure(harness *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* On any thread; told once the driver is back. */
void finding(harness *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reports_out(harness *h); /* driver */
char *copy_text(const char *data, size_t len); /* with a NUL; aborts nothing: NULL without memory */

#endif
