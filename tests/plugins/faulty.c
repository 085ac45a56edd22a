/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faulty - a plugin with one fault of your choice, for the tests of the SDK's harness
 *
 *	fault = "name"	of the list below; each happens in acl_check, unless it belongs somewhere else
 * With FAULTY_NO_SLOT_FREE it has no client_slot_free.
 */
#include <errno.h>
#include <fcntl.h>
#include <grapnel/plugin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct faulty;
typedef enum grapnel_verdict (*fault_fn)(
    struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q);

struct faulty {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	char fault[64];
	struct grapnel_request *req;
	const struct grapnel_acl_check *question;
	const struct grapnel_event *event;
	struct grapnel_watch *watch;
	struct grapnel_timer *timer;
	struct grapnel_sub *sub;
	struct grapnel_client *client;
	struct grapnel_rules *rules;
	int metric;
	int pipe[2];
	pthread_t thread;
	bool has_thread, offered;
};

/* The last instance that was destroyed, and a thread that outlives all of them. */
static struct grapnel_instance *gone;
static volatile char sink;

static bool
is(const struct faulty *f, const char *fault)
{
	return strcmp(f->fault, fault) == 0;
}

static void
nothing(void *arg)
{
	(void)arg;
}

static void
on_fd(void *arg, int fd, unsigned events)
{
	(void)arg;
	(void)fd;
	(void)events;
}

static void
on_message(void *arg, const struct grapnel_message_info *message)
{
	struct faulty *f = arg;

	f->host->metric_add(f->self, f->metric, (int64_t)message->payload.len);
}

static void
on_client(void *arg, const struct grapnel_client_info *info)
{
	struct faulty *f = arg;

	if (info != NULL)
		f->host->metric_add(f->self, f->metric, 100);
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	(void)arg;
	(void)err;
	(void)addresses;
	(void)count;
}

static void
nap(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		continue;
}

static void
compute(long ms)
{
	struct timespec begin, now;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	do {
		(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

/* ---- what is left behind --------------------------------------------------------------------------- */

static enum grapnel_verdict
leak_watch(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	f->watch = f->host->watch_fd(f->self, f->pipe[0], GRAPNEL_READABLE, on_fd, f);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
watch_file(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)req;
	(void)q;
	(void)f->host->watch_fd(f->self, fd, GRAPNEL_READABLE, on_fd, f);
	close(fd);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
leak_timer(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	f->timer = f->host->timer_new(f->self, nothing, f);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
leak_subscription(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	(void)f->host->subscribe(f->self, GRAPNEL_STR("a/#"), on_message, f);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
leak_request(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
leak_rules(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	char error[128];

	(void)req;
	(void)q;
	f->rules = f->host->rules_compile(
	    GRAPNEL_STR("allow all #"), GRAPNEL_STR("faulty"), false, error, sizeof(error));
	return GRAPNEL_ALLOW;
}

static void *
live_on(void *arg)
{
	(void)arg;
	nap(3000);
	return NULL;
}

static enum grapnel_verdict
leak_thread(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	pthread_t thread;

	(void)req;
	(void)q;
	if (pthread_create(&thread, NULL, live_on, f) == 0)
		pthread_detach(thread);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
leak_descriptor(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	(void)eventfd(0, EFD_CLOEXEC);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
leak_lookup(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	/* Looked up by worker_stop, so that there is no time for an answer. */
	(void)on_addresses;
	return f->host != NULL ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

static enum grapnel_verdict
keep_slot(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	f->client = q->client->client;
	(void)f->host->client_set_slot(f->self, f->client, f);
	return GRAPNEL_ALLOW;
}

/* ---- what is used too late --------------------------------------------------------------------------- */

static enum grapnel_verdict
keep_question(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	if (f->question != NULL)
		sink = *f->question->topic.data;
	f->question = q;
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
resolve_twice(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)q;
	(void)f->host->acl_resolve(req, GRAPNEL_ALLOW, NULL);
	(void)f->host->acl_resolve(req, GRAPNEL_DENY, NULL);
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
keep_request(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)q;
	if (f->req != NULL)
		(void)f->host->request_data(f->req);
	f->req = req;
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
timer_after_free(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct grapnel_timer *t = f->host->timer_new(f->self, nothing, f);

	(void)req;
	(void)q;
	f->host->timer_free(t);
	(void)f->host->timer_arm(t, 10);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
no_handle(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	(void)f->host->timer_arm((struct grapnel_timer *)(void *)f, 10);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
unref_twice(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)leak_rules(f, req, q);
	f->host->rules_unref(f->rules);
	f->host->rules_unref(f->rules);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
log_of_another(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	if (gone != NULL)
		f->host->log(gone, GRAPNEL_LOG_INFO, "I am no more");
	return GRAPNEL_ALLOW;
}

/* ---- contract ------------------------------------------------------------------------------------------ */

static enum grapnel_verdict
another_function(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)q;
	(void)f->host->auth_resolve(req, GRAPNEL_ALLOW, NULL);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
answer_without_size(
    struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_acl_answer a = { .reason_code = 0x87 };

	(void)q;
	(void)f->host->acl_answer(req, &a);
	return GRAPNEL_DENY;
}

static enum grapnel_verdict
answer_to_pending(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_acl_answer a = { .size = sizeof(a), .rule = GRAPNEL_STR("x") };

	(void)q;
	(void)f->host->acl_answer(req, &a);
	(void)f->host->acl_resolve(req, GRAPNEL_ALLOW, NULL);
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
answer_too_late(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_acl_answer a = { .size = sizeof(a), .rule = GRAPNEL_STR("x") };

	(void)q;
	if (f->req != NULL)
		(void)f->host->acl_answer(f->req, &a);
	f->req = req;
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
resolve_and_answer(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)q;
	(void)f->host->acl_resolve(req, GRAPNEL_ALLOW, NULL);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
no_verdict(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	return (enum grapnel_verdict)17;
}

static enum grapnel_verdict
counter_down(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	f->host->metric_add(f->self, f->metric, -1);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
metric_too_late(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	(void)f->host->metric_new(f->self, GRAPNEL_COUNTER, "late", "Too late.");
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
bad_topic(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = GRAPNEL_STR("a/#") };

	(void)req;
	(void)q;
	(void)f->host->publish(f->self, &p);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
bad_property(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_property alias = { .id = 0x23, .u.number = 1 };
	const struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = GRAPNEL_STR("a/b"),
		.properties = &alias,
		.property_count = 1 };

	(void)req;
	(void)q;
	(void)f->host->publish(f->self, &p);
	return GRAPNEL_ALLOW;
}

/* ---- threads and time ------------------------------------------------------------------------------------ */

static void *
wrong_thread(void *arg)
{
	struct faulty *f = arg;

	(void)f->host->timer_new(f->self, nothing, f);
	return NULL;
}

static enum grapnel_verdict
own_thread(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	f->has_thread = pthread_create(&f->thread, NULL, wrong_thread, f) == 0;
	return GRAPNEL_ALLOW;
}

/* The first question makes a timer on its worker, the second one arms it on its own. */
static enum grapnel_verdict
other_worker(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	if (f->timer == NULL)
		f->timer = f->host->timer_new(f->self, nothing, f);
	else
		(void)f->host->timer_arm(f->timer, 10);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
sleeps(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	nap(100);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
computes(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	compute(200);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
hangs(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	nap(600000);
	return GRAPNEL_ALLOW;
}

static void
again(void *arg)
{
	struct faulty *f = arg;

	(void)f->host->timer_arm(f->timer, 0);
}

static enum grapnel_verdict
spins(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	f->timer = f->host->timer_new(f->self, again, f);
	(void)f->host->timer_arm(f->timer, 0);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
closed_first(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)req;
	(void)q;
	f->watch = f->host->watch_fd(f->self, fd, GRAPNEL_READABLE, on_fd, f);
	close(fd);
	f->host->watch_remove(f->watch);
	f->watch = NULL;
	return GRAPNEL_ALLOW;
}

/* A job that blocks until somebody asks about "go". */
struct job {
	struct faulty *f;
	struct grapnel_request *req;
	struct grapnel_job *job;
};

static void
job_work(void *arg)
{
	const struct job *j = arg;
	char c;

	(void)!read(j->f->pipe[0], &c, 1);
}

static void
job_done(void *arg)
{
	struct job *j = arg;
	const struct grapnel_host *host = j->f->host;

	(void)host->acl_resolve(
	    j->req, host->job_ran(j->job) ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE, NULL);
	free(j);
}

static enum grapnel_verdict
jobs(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct job *j;

	if (q->topic.len == 2)
		return write(f->pipe[1], "x", 1) == 1 ? GRAPNEL_NEXT : GRAPNEL_DENY;
	if ((j = calloc(1, sizeof(*j))) == NULL)
		return GRAPNEL_UNAVAILABLE;
	j->f = f;
	j->req = req;
	j->job = f->host->offload(f->self, 50, job_work, job_done, j);
	if (j->job != NULL)
		return GRAPNEL_PENDING;
	free(j);
	return GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
harmless(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)f;
	(void)req;
	(void)q;
	return GRAPNEL_ALLOW;
}

/* No fault, but much that a script can expect. */
static enum grapnel_verdict
services(struct faulty *f, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_property property = { .id = 3, .u.str = GRAPNEL_STR("text/plain") };
	const struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = GRAPNEL_STR("in/1"),
		.payload = GRAPNEL_STR("four"),
		.qos = 1,
		.retain = true,
		.properties = &property,
		.property_count = 1 };

	(void)req;
	if (f->sub == NULL)
		f->sub = f->host->subscribe(f->self, GRAPNEL_STR("in/#"), on_message, f);
	(void)f->host->publish(f->self, &p);
	(void)f->host->client_kick(f->self, GRAPNEL_STR(""), GRAPNEL_STR("dev9"), 0x98);
	(void)f->host->client_find(
	    f->self, q->client->mountpoint, q->client->client_id, on_client, f);
	(void)f->host->cache_purge(f->self, GRAPNEL_STR("alice"), (struct grapnel_str){ NULL, 0 });
	f->host->rights_changed(f->self);
	return GRAPNEL_ALLOW;
}

static const struct {
	const char *name;
	fault_fn fn;
} faults[] = {
	{ "another-function", another_function },
	{ "answer-to-pending", answer_to_pending },
	{ "answer-too-late", answer_too_late },
	{ "answer-without-size", answer_without_size },
	{ "bad-property", bad_property },
	{ "bad-topic", bad_topic },
	{ "closed-first", closed_first },
	{ "computes", computes },
	{ "counter-down", counter_down },
	{ "hangs", hangs },
	{ "jobs", jobs },
	{ "keep-question", keep_question },
	{ "keep-request", keep_request },
	{ "keep-slot", keep_slot },
	{ "leak-descriptor", leak_descriptor },
	{ "leak-lookup", leak_lookup },
	{ "leak-request", leak_request },
	{ "leak-rules", leak_rules },
	{ "leak-subscription", leak_subscription },
	{ "leak-thread", leak_thread },
	{ "leak-timer", leak_timer },
	{ "leak-watch", leak_watch },
	{ "log-of-another", log_of_another },
	{ "metric-too-late", metric_too_late },
	{ "no-handle", no_handle },
	{ "no-verdict", no_verdict },
	{ "other-worker", other_worker },
	{ "own-thread", own_thread },
	{ "resolve-and-answer", resolve_and_answer },
	{ "resolve-twice", resolve_twice },
	{ "services", services },
	{ "sleeps", sleeps },
	{ "spins", spins },
	{ "timer-after-free", timer_after_free },
	{ "unref-twice", unref_twice },
	{ "watch-file", watch_file },
};

/* ---- the plugin ---------------------------------------------------------------------------------------------- */

static fault_fn
fault_of(const struct faulty *f)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		if (is(f, faults[i].name))
			return faults[i].fn;
	}
	return harmless;
}

static int
faulty_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct faulty *f = calloc(1, sizeof(*f));
	struct grapnel_str fault = host->option_str(self, NULL, "fault");

	if (f == NULL)
		return GRAPNEL_ENOMEM;
	f->host = host;
	f->self = self;
	snprintf(f->fault, sizeof(f->fault), "%.*s", (int)fault.len, fault.data);
	if (pipe(f->pipe) != 0) {
		free(f);
		return GRAPNEL_ESYS;
	}
	f->metric = host->metric_new(self, GRAPNEL_COUNTER, "questions_total", "Questions.");
	if (is(f, "complain-and-start"))
		host->config_error(self, NULL, "fault", "I complain");
	*instance = f;
	return is(f, "no-reason") ? (close(f->pipe[0]), close(f->pipe[1]), free(f), GRAPNEL_ESYS)
				  : GRAPNEL_OK;
}

static void
faulty_destroy(void *instance)
{
	struct faulty *f = instance;

	if (f->has_thread)
		pthread_join(f->thread, NULL);
	close(f->pipe[0]);
	close(f->pipe[1]);
	gone = f->self;
	free(f);
}

static void
faulty_worker_stop(void *instance, unsigned worker)
{
	struct faulty *f = instance;

	if (is(f, "leak-lookup") && worker == 0)
		(void)f->host->dns_lookup(f->self, GRAPNEL_STR("localhost"), 0, on_addresses, f);
	if (f->sub != NULL && worker == 0)
		f->host->unsubscribe(f->sub);
	if (f->timer != NULL && worker == 0 && !is(f, "leak-timer"))
		f->host->timer_free(f->timer);
}

static enum grapnel_verdict
faulty_acl(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct faulty *f = instance;

	return fault_of(f)(f, req, q);
}

static enum grapnel_verdict
faulty_publish(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct faulty *f = instance;

	(void)req;
	(void)q;
	if (is(f, "keep-slot"))
		(void)f->host->client_slot(f->self, f->client);
	return GRAPNEL_NEXT;
}

#ifndef FAULTY_NO_SLOT_FREE
static void
faulty_slot_free(void *instance, void *data)
{
	(void)instance;
	(void)data;
}
#endif

static size_t
faulty_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct faulty *f = instance;

	if (f->event != NULL)
		sink = (char)f->event->reason_code;
	if (is(f, "keep-event"))
		f->event = events[0];
	if (is(f, "take-later")) {
		f->offered = !f->offered;
		if (f->offered)
			return 0;
		f->host->log(f->self, GRAPNEL_LOG_INFO, "took %zu", count);
	}
	return is(f, "take-too-many") ? count + 1 : count;
}

static const struct grapnel_option faulty_options[] = {
	{ .name = "fault",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "none",
	    .help = "What it does wrong." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(faulty, .version = "1", .license = "Apache-2.0",
    .description = "Does one thing wrong.", .options = faulty_options, .create = faulty_create,
    .destroy = faulty_destroy, .worker_stop = faulty_worker_stop, .acl_check = faulty_acl,
    .message_publish = faulty_publish,
#ifndef FAULTY_NO_SLOT_FREE
    .client_slot_free = faulty_slot_free,
#endif
    .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED), .on_events = faulty_events);
