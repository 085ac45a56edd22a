/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the host's table that lives on a worker's loop: descriptors, timers, calls, subscriptions. */
#include "inside.h"
#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROPERTIES_MAX 256u /* of a publication, as in the broker */

/* ---- descriptors ---------------------------------------------------------------------------------- */

static struct grapnel_watch *
watch_fd(struct grapnel_instance *self, int fd, unsigned events, grapnel_watch_fn fn, void *arg)
{
	struct plug *p = plug_here(self, "watch_fd");
	struct thing *t;
	struct stat st;

	if (p == NULL || fd < 0 || fn == NULL)
		return NULL;
	if (fcntl(fd, F_GETFD) < 0) {
		finding(p->h, "descriptor: watch_fd was given %d, which is not open", fd);
		return NULL;
	}
	if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
		finding(p->h,
		    "descriptor: watch_fd was given %d, a file, which the system does not watch",
		    fd);
		return NULL;
	}
	if ((t = thing_new(p, THING_WATCH, arg)) == NULL)
		return NULL;
	t->fd = fd;
	t->watch_fn = fn;
	t->events = events & (GRAPNEL_READABLE | GRAPNEL_WRITABLE);
	return (struct grapnel_watch *)(void *)t;
}

static int
watch_change(struct grapnel_watch *watch, unsigned events)
{
	struct thing *t = thing_of(the_harness, watch, THING_WATCH, "watch_change");

	if (t == NULL)
		return GRAPNEL_ESTATE;
	t->events = events & (GRAPNEL_READABLE | GRAPNEL_WRITABLE);
	return GRAPNEL_OK;
}

static void
watch_remove(struct grapnel_watch *watch)
{
	struct thing *t =
	    watch != NULL ? thing_of(the_harness, watch, THING_WATCH, "watch_remove") : NULL;

	if (t == NULL)
		return;
	if (fcntl(t->fd, F_GETFD) < 0 && t->events != 0)
		finding(t->h,
		    "descriptor: %d was closed before watch_remove; by then it could be another's",
		    t->fd);
	thing_end(t);
}

/* ---- timers ---------------------------------------------------------------------------------------- */

static struct grapnel_timer *
sim_timer_new(struct grapnel_instance *self, grapnel_call_fn fn, void *arg)
{
	struct plug *p = plug_here(self, "timer_new");
	struct thing *t;

	if (p == NULL || fn == NULL || (t = thing_new(p, THING_TIMER, arg)) == NULL)
		return NULL;
	t->fn = fn;
	return (struct grapnel_timer *)(void *)t;
}

static int
sim_timer_arm(struct grapnel_timer *timer, uint32_t delay_ms)
{
	struct thing *t = thing_of(the_harness, timer, THING_TIMER, "timer_arm");

	if (t == NULL)
		return GRAPNEL_ESTATE;
	t->armed = true;
	t->due_ms = clock_now(t->h) + delay_ms;
	t->order = ++t->h->order;
	return GRAPNEL_OK;
}

static void
sim_timer_disarm(struct grapnel_timer *timer)
{
	struct thing *t =
	    timer != NULL ? thing_of(the_harness, timer, THING_TIMER, "timer_disarm") : NULL;

	if (t != NULL)
		t->armed = false;
}

static void
sim_timer_free(struct grapnel_timer *timer)
{
	struct thing *t =
	    timer != NULL ? thing_of(the_harness, timer, THING_TIMER, "timer_free") : NULL;

	if (t != NULL)
		thing_end(t);
}

/* ---- calls ------------------------------------------------------------------------------------------- */

static int
post(struct grapnel_instance *self, unsigned worker, grapnel_call_fn fn, void *arg)
{
	struct plug *p = plug_of(self, "post");

	if (p == NULL || worker >= p->h->worker_count || fn == NULL)
		return GRAPNEL_EINVAL;
	if (!atomic_load(&p->workers[worker].open))
		return GRAPNEL_ESTATE;
	return posted_add(p->h, worker, p, "posted call", fn, arg, false);
}

static int
this_worker(void)
{
	return worker_here();
}

/* ---- messages ------------------------------------------------------------------------------------------ */

/* Those that the broker takes. */
static bool
properties_valid(const struct grapnel_property *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		switch (list[i].id) {
		case PROP_MESSAGE_EXPIRY:
		case PROP_PAYLOAD_FORMAT:
		case PROP_CONTENT_TYPE:
		case PROP_RESPONSE_TOPIC:
		case PROP_CORRELATION_DATA:
		case PROP_USER_PROPERTY:
			break;
		default:
			return false;
		}
	}
	return count <= PROPERTIES_MAX;
}

static int
publish(struct grapnel_instance *self, const struct grapnel_publication *pub)
{
	struct plug *p = plug_of(self, "publish");
	struct record *r;
	size_t size;

	if (p == NULL || pub == NULL || pub->size < sizeof(*pub) || pub->qos > 2 ||
	    !topic_name_valid(pub->topic_name) || pub->topic_name.len > 65535 ||
	    !utf8_valid(pub->topic_name.data, pub->topic_name.len) ||
	    (pub->payload.data == NULL && pub->payload.len > 0) ||
	    (pub->properties == NULL && pub->property_count > 0) ||
	    !properties_valid(pub->properties, pub->property_count)) {
		if (p != NULL)
			finding(p->h,
			    "contract: publish was given what is no message: a topic name that is "
			    "not "
			    "valid, a QoS above 2, a length without data, a property that is none "
			    "of an Application Message, or a size that is not set");
		return GRAPNEL_EINVAL;
	}
	r = record_new(RECORD_PUBLISHED, pub->topic_name.data, pub->topic_name.len);
	if (r == NULL)
		return GRAPNEL_ENOMEM;
	r->more = (struct grapnel_str){ copy_text(pub->payload.data, pub->payload.len),
		pub->payload.len };
	size = mqtt_properties_size(pub->properties, pub->property_count);
	r->properties = malloc(size + 1);
	if (r->properties == NULL) {
		record_free(r);
		return GRAPNEL_ENOMEM;
	}
	mqtt_properties_put((uint8_t *)r->properties, pub->properties, pub->property_count);
	r->properties_len = size;
	r->qos = pub->qos;
	r->retain = pub->retain;
	record_add(p->h, r);
	return GRAPNEL_OK;
}

static struct grapnel_sub *
subscribe(
    struct grapnel_instance *self, struct grapnel_str filter, grapnel_message_fn fn, void *arg)
{
	struct plug *p = plug_here(self, "subscribe");
	struct thing *t;

	if (p == NULL || fn == NULL || filter.data == NULL || filter.len > 65535 ||
	    !utf8_valid(filter.data, filter.len) || !topic_filter_valid(filter, NULL, NULL) ||
	    (t = thing_new(p, THING_SUB, arg)) == NULL)
		return NULL;
	t->message_fn = fn;
	t->filter = copy_text(filter.data, filter.len);
	return (struct grapnel_sub *)(void *)t;
}

static void
unsubscribe(struct grapnel_sub *sub)
{
	struct thing *t = sub != NULL ? thing_of(the_harness, sub, THING_SUB, "unsubscribe") : NULL;

	if (t != NULL)
		thing_end(t);
}

void
host_services(struct grapnel_host *host)
{
	host->watch_fd = watch_fd;
	host->watch_change = watch_change;
	host->watch_remove = watch_remove;
	host->timer_new = sim_timer_new;
	host->timer_arm = sim_timer_arm;
	host->timer_disarm = sim_timer_disarm;
	host->timer_free = sim_timer_free;
	host->post = post;
	host->this_worker = this_worker;
	host->publish = publish;
	host->subscribe = subscribe;
	host->unsubscribe = unsubscribe;
}
