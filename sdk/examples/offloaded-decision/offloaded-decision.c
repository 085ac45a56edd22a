/* SPDX-License-Identifier: MIT-0 */
/*
 * offloaded-decision - passwords from a file, whose hashes are slow on purpose and so are computed in the offload pool
 *
 * The file has "name:hash" lines, hashes as of crypt(5). It is read in create(), at each reload again.
 *
 * Threads:   client_authenticate, done and request_cancelled on the worker of the request; work on a thread of the pool, where it
 *            reads the question and the users, which do not change, and writes its own job.
 * Ownership: a job lives from the hook to done, which always runs. The request is resolved there and nowhere else: so the
 *            question stays valid as long as work may read it.
 * Bounded:   offload_threads and offload_queue of the section; USERS_MAX and FILE_MAX; a job has until the request's deadline.
 */
#include <grapnel/plugin.h>

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USERS_MAX    100000u
#define FILE_MAX     (16u * 1024u * 1024u)
#define PASSWORD_MAX 512u

enum { BAD_CREDENTIALS = 0x86 };

struct user {
	const char *name, *hash; /* in the text of the file */
};

struct offloaded {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	int metric_checked, metric_refused;
	char *text;
	struct user *users; /* sorted by name */
	size_t count;
};

struct job {
	const struct offloaded *o;
	struct grapnel_request *req;
	const struct grapnel_authenticate *question;
	const struct user *user;
	struct grapnel_job *job;
	bool computed, right; /* work writes them, done reads them */
};

/* ------------------------------------------------------------------------------- a job */

/* On a thread of the pool: may take its time, and calls nothing of the host. */
static void
work(void *arg)
{
	struct job *j = arg;
	struct crypt_data *scratch = calloc(1, sizeof(*scratch)); /* 32 KiB: not for a stack */
	char password[PASSWORD_MAX + 1];
	const char *hash;

	if (scratch == NULL)
		return;
	memcpy(password, j->question->password.data, j->question->password.len);
	password[j->question->password.len] = '\0';
	/* crypt_r() would answer a hash it does not know with another one; this one says so. */
	hash = crypt_rn(password, j->user->hash, scratch, (int)sizeof(*scratch));
	j->computed = hash != NULL;
	if (hash != NULL)
		j->right = j->o->host->secret_equal((struct grapnel_str){ hash, strlen(hash) },
		    (struct grapnel_str){ j->user->hash, strlen(j->user->hash) });
	explicit_bzero(password, sizeof(password));
	explicit_bzero(scratch, sizeof(*scratch));
	free(scratch);
}

/* On the worker again. Not run: it was cancelled, or could not start in time. Not computed: no memory, or crypt() does not know such
 * a hash; that is our trouble, and no wrong password. */
static void
done(void *arg)
{
	struct job *j = arg;
	const struct grapnel_host *host = j->o->host;
	const struct grapnel_auth_answer wrong = { .size = sizeof(wrong),
		.reason_code = BAD_CREDENTIALS };

	/* ECANCELED says that the client has gone meanwhile: nothing to undo. */
	if (!host->job_ran(j->job) || !j->computed)
		(void)host->auth_resolve(j->req, GRAPNEL_UNAVAILABLE, NULL);
	else if (j->right)
		(void)host->auth_resolve(j->req, GRAPNEL_ALLOW, NULL);
	else
		(void)host->auth_resolve(j->req, GRAPNEL_DENY, &wrong);
	host->metric_add(j->o->self, j->o->metric_checked, 1);
	free(j);
}

/* The client has left, or its time is up. A job that waits is given up, one that runs goes on: done comes for both. */
static void
offloaded_request_cancelled(void *instance, struct grapnel_request *req)
{
	const struct offloaded *o = instance;
	const struct job *j = o->host->request_data(req);

	o->host->offload_cancel(j->job);
}

/* ------------------------------------------------------------------------------ the hook */

/* bsearch() gives the key first. */
static int
compare_key(const void *key, const void *user)
{
	const struct grapnel_str *name = key;
	const char *other = ((const struct user *)user)->name;
	size_t len = strlen(other), least = name->len < len ? name->len : len;
	int order = memcmp(name->data, other, least);

	return order != 0 ? order : name->len < len ? -1 : name->len > len;
}

/* All jobs of the pool are taken. That is trouble of this moment and says nothing of the next question: no_store keeps the broker
 * from taking the plugin out of the chain for a while. */
static enum grapnel_verdict
refuse(const struct offloaded *o, struct grapnel_request *req)
{
	const struct grapnel_auth_answer busy = { .size = sizeof(busy), .no_store = true };

	o->host->metric_add(o->self, o->metric_refused, 1);
	(void)o->host->auth_answer(req, &busy);
	return GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
offloaded_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	const struct offloaded *o = instance;
	const struct grapnel_auth_answer wrong = { .size = sizeof(wrong),
		.reason_code = BAD_CREDENTIALS };
	const struct user *user;
	struct job *j;

	if (q->client->username.data == NULL || q->password.data == NULL)
		return GRAPNEL_NEXT;
	user = bsearch(&q->client->username, o->users, o->count, sizeof(*user), compare_key);
	if (user == NULL)
		return GRAPNEL_NEXT;
	/* crypt() takes C strings: a password with a NUL in it would be cut there. */
	if (q->password.len > PASSWORD_MAX ||
	    memchr(q->password.data, '\0', q->password.len) != NULL)
		return o->host->auth_answer(req, &wrong) == GRAPNEL_OK ? GRAPNEL_DENY
								       : GRAPNEL_UNAVAILABLE;
	j = calloc(1, sizeof(*j));
	if (j == NULL)
		return GRAPNEL_UNAVAILABLE;
	j->o = o;
	j->req = req;
	j->question = q; /* stays as it is, for every thread, until the request is resolved */
	j->user = user;
	j->job = o->host->offload(o->self, o->host->request_time_left(req), work, done, j);
	if (j->job == NULL) {
		free(j);
		return refuse(o, req);
	}
	o->host->request_set_data(req, j);
	return GRAPNEL_PENDING;
}

/* ------------------------------------------------------------------------------ the file */

static int
compare_users(const void *a, const void *b)
{
	return strcmp(((const struct user *)a)->name, ((const struct user *)b)->name);
}

static char *
read_file(const struct offloaded *o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = NULL;
	struct stat st;
	size_t len = 0;
	ssize_t n = 0;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size <= (off_t)FILE_MAX && (text = malloc((size_t)st.st_size + 1)) != NULL)
		while (len < (size_t)st.st_size &&
		    (n = read(fd, text + len, (size_t)st.st_size - len)) > 0)
			len += (size_t)n;
	if (text != NULL && n >= 0) {
		text[len] = '\0';
	} else {
		o->host->config_error(o->self, NULL, "file", "%s: %s", path,
		    fd < 0 || n < 0 ? strerror(errno) : "it is no regular file, or too large");
		free(text);
		text = NULL;
	}
	if (fd >= 0)
		(void)close(fd);
	return text;
}

/* NULL: it is a user. Of a wrong line the number is shown, not what is in it. */
static const char *
parse_line(char *line, struct user *user)
{
	char *colon = strchr(line, ':');

	if (colon == NULL || colon == line)
		return "it is not name:hash";
	*colon = '\0';
	user->name = line;
	user->hash = colon + 1;
	if (user->hash[0] != '$' || strlen(user->hash) >= CRYPT_OUTPUT_SIZE)
		return "the hash is none of crypt(5) that begins with $";
	return NULL;
}

static bool
parse(struct offloaded *o, const char *path)
{
	unsigned number = 0;
	char *rest = o->text, *line;

	while ((line = strsep(&rest, "\n")) != NULL) {
		const char *why = NULL;

		number++;
		if (line[0] == '\0' || line[0] == '#')
			continue;
		if (o->count == USERS_MAX)
			why = "there are too many users";
		else
			why = parse_line(line, &o->users[o->count++]);
		if (why != NULL) {
			o->host->config_error(
			    o->self, NULL, "file", "%s:%u: %s", path, number, why);
			return false;
		}
	}
	qsort(o->users, o->count, sizeof(*o->users), compare_users);
	for (size_t i = 1; i < o->count; i++)
		if (strcmp(o->users[i - 1].name, o->users[i].name) == 0) {
			o->host->config_error(o->self, NULL, "file", "%s: \"%s\" is in it twice",
			    path, o->users[i].name);
			return false;
		}
	return true;
}

static bool
load(struct offloaded *o)
{
	struct grapnel_str s = o->host->option_str(o->self, NULL, "file");
	char *path = strndup(s.data, s.len);
	size_t lines = 1;
	bool good = false;

	o->text = path != NULL ? read_file(o, path) : NULL;
	if (o->text != NULL) {
		for (const char *c = o->text; *c != '\0' && lines < USERS_MAX; c++)
			lines += *c == '\n';
		o->users = calloc(lines, sizeof(*o->users));
		good = o->users != NULL && parse(o, path);
	}
	free(path);
	return good;
}

/* ------------------------------------------------------------------------ the instance */

static void
offloaded_destroy(void *instance)
{
	struct offloaded *o = instance;

	free(o->users);
	free(o->text);
	free(o);
}

static int
offloaded_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct offloaded *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return GRAPNEL_ENOMEM;
	o->host = host;
	o->self = self;
	o->metric_checked =
	    host->metric_new(self, GRAPNEL_COUNTER, "jobs_total", "Jobs that have ended.");
	o->metric_refused = host->metric_new(self, GRAPNEL_COUNTER, "refused_total",
	    "Logins that found no place in the pool's queue.");
	if (o->metric_checked < 0 || o->metric_refused < 0 || !load(o)) {
		offloaded_destroy(o);
		return GRAPNEL_EINVAL;
	}
	*instance = o;
	return GRAPNEL_OK;
}

static const struct grapnel_option offloaded_options[] = {
	{ .name = "file",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Users and hashes, name:hash a line." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(offloaded_decision, .version = "1.0", .license = "MIT-0",
    .description = "Slow password hashes, computed in the offload pool",
    .options = offloaded_options, .create = offloaded_create, .destroy = offloaded_destroy,
    .reload_always = true, .request_cancelled = offloaded_request_cancelled,
    .client_authenticate = offloaded_client_authenticate);
