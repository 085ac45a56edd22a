/* SPDX-License-Identifier: Apache-2.0 */
/* What a project is made of: new.h */
#include "new.h"
#include "new_template.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* In the order of the descriptor's members. */
const struct new_hook new_hooks[NEW_HOOK_COUNT] = {
	{ "client_authenticate", "authenticate", "authenticate", "auth" },
	{ "client_auth_exchange", "auth_exchange", "auth_exchange", "auth" },
	{ "client_revalidate", "revalidate", "revalidate", "auth" },
	{ "acl_check", "acl_check", "acl_check", "acl" },
	{ "message_publish", "publish", "message_publish", "publish" },
	{ "client_subscribe", "subscribe", "client_subscribe", "subscribe" },
	{ "client_unsubscribe", "unsubscribe", "client_subscribe", "subscribe" },
	{ "message_deliver", "deliver", "message_deliver", "publish" },
	{ "message_acknowledge", "acknowledge", "message_acknowledge", "ack" },
	{ "tls_psk_key", "psk_key", "tls_psk", "psk" },
};

/* enum grapnel_event_type, but for GAP, which comes unasked. */
const struct new_event new_events[] = {
	{ "client_connected", "connected" },
	{ "client_refused", "refused" },
	{ "client_disconnected", "disconnected" },
	{ "session_created", "session created" },
	{ "session_resumed", "session resumed" },
	{ "session_taken_over", "session taken over" },
	{ "session_expired", "session expired" },
	{ "subscribed", "subscribed" },
	{ "unsubscribed", "unsubscribed" },
	{ "message_published", "message published" },
	{ "message_delivered", "message delivered" },
	{ "message_acknowledged", "message acknowledged" },
	{ "message_dropped", "message dropped" },
	{ "message_expired", "message expired" },
	{ "will_published", "will published" },
	{ "retained_set", "retained message set" },
	{ "retained_cleared", "retained message cleared" },
	{ "broker_starting", "broker starting" },
	{ "broker_ready", "broker ready" },
	{ "broker_stopping", "broker stopping" },
};
const size_t new_event_count = sizeof(new_events) / sizeof(*new_events);

/* The answers' kinds, and the place of each in struct pending when there are several. */
static const struct {
	const char *kind, *place;
} kinds[] = {
	{ "auth", "answer.auth" },
	{ "acl", "answer.acl" },
	{ "publish", "answer.publish" },
	{ "subscribe", "answer.subscribe" },
	{ "ack", "answer.ack" },
	{ "psk", "answer.psk" },
};
#define KIND_COUNT (sizeof(kinds) / sizeof(*kinds))

/* Each file: its template, and its path, which is `before` or `before` NAME `after`. */
static const struct file {
	const char *template, *before, *after;
	mode_t mode;
} files[] = {
	{ "conf.in", "conf.d/50-", ".conf", 0666 },
	{ "debian/changelog.in", "debian/changelog", NULL, 0666 },
	{ "debian/control.in", "debian/control", NULL, 0666 },
	{ "debian/copyright.in", "debian/copyright", NULL, 0666 },
	{ "debian/format.in", "debian/source/format", NULL, 0666 },
	{ "debian/rules.in", "debian/rules", NULL, 0777 },
	{ "gitignore.in", ".gitignore", NULL, 0666 },
	{ "license.in", "LICENSE", NULL, 0666 },
	{ "makefile.in", "Makefile", NULL, 0666 },
	{ "man.in", "man/grapnel-", ".5", 0666 },
	{ "meson.build.in", "meson.build", NULL, 0666 },
	{ "plugin.c.in", "", ".c", 0666 },
	{ "readme.in", "README.md", NULL, 0666 },
	{ "steps.in", "tests/", ".steps", 0666 },
};
#define FILE_COUNT (sizeof(files) / sizeof(*files))

/* Everything that the templates can name; the texts that values point to. */
struct content {
	struct template_values values;
	struct template_list lists[4]; /* hooks, events, kinds of answers; the last one ends them */
	char id[NEW_NAME_MAX + 1], package[NEW_NAME_MAX + 1], upper[NEW_NAME_MAX + 1];
	char event_upper[64][32];
	char holder[NEW_TEXT_MAX + NEW_NAME_MAX];
	char year[16], man_date[32], rfc_date[64];
	char event_list[1024], event_count[8];
	char *license_text, *license_indented; /* allocated */
};

/* ------------------------------------------------------------------------------- reading */

static char *
read_text(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = f != NULL ? malloc(NEW_FILE_MAX + 1) : NULL;
	size_t n;

	if (text == NULL) {
		fprintf(stderr, "grapnel-plugin: %s: %s\n", path, strerror(errno));
		if (f != NULL)
			fclose(f);
		return NULL;
	}
	n = fread(text, 1, NEW_FILE_MAX + 1, f);
	if (ferror(f) || n > NEW_FILE_MAX) {
		fprintf(stderr, "grapnel-plugin: %s: %s\n", path,
		    ferror(f) ? strerror(errno) : "is no template or licence: it is too long");
		free(text);
		text = NULL;
	} else {
		text[n] = '\0';
	}
	fclose(f);
	return text;
}

static char *
read_expanded(const struct project *p, const struct content *c, const char *template)
{
	char path[PATH_MAX], *text, *result;

	snprintf(path, sizeof(path), "%s/%s", p->templates, template);
	if ((text = read_text(path)) == NULL)
		return NULL;
	result = template_expand(path, text, &c->values, c->lists);
	free(text);
	return result;
}

/* ------------------------------------------------------------------------------- content */

static void
map_name(char *to, const char *from, int (*map)(int c), char dash)
{
	for (; *from != '\0'; from++)
		*to++ = *from == '-' ? dash : (char)(map != NULL ? map(*from) : *from);
	*to = '\0';
}

static void
fill_dates(struct content *c)
{
	static const char *const months[] = { "January", "February", "March", "April", "May",
		"June", "July", "August", "September", "October", "November", "December" };
	const char *fixed = getenv("SOURCE_DATE_EPOCH");
	time_t now = fixed != NULL ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
	struct tm tm = { 0 };

	gmtime_r(&now, &tm);
	snprintf(c->year, sizeof(c->year), "%d", tm.tm_year + 1900);
	snprintf(c->man_date, sizeof(c->man_date), "%s %d, %d", months[tm.tm_mon], tm.tm_mday,
	    tm.tm_year + 1900);
	strftime(c->rfc_date, sizeof(c->rfc_date), "%a, %d %b %Y %H:%M:%S +0000", &tm);
	template_set(&c->values, "year", c->year);
	template_set(&c->values, "man_date", c->man_date);
	template_set(&c->values, "rfc_date", c->rfc_date);
}

static void
fill_names(struct content *c, const struct project *p)
{
	map_name(c->id, p->name, NULL, '_');
	map_name(c->package, p->name, tolower, '-');
	map_name(c->upper, p->name, toupper, '-');
	snprintf(c->holder, sizeof(c->holder), "%.*s",
	    (int)(strrchr(p->author, '<') - p->author - 1), p->author);
	template_set(&c->values, "name", p->name);
	template_set(&c->values, "id", c->id);
	template_set(&c->values, "package", c->package);
	template_set(&c->values, "NAME", c->upper);
	template_set(&c->values, "author", p->author);
	template_set(&c->values, "holder", c->holder);
	template_set(&c->values, "license", p->license);
	template_set(&c->values, "sysconfdir", GRAPNEL_SYSCONFDIR);
}

/* Is one of these hooks chosen? Their names with spaces between them. */
static bool
any_of(const struct project *p, const char *names)
{
	for (size_t i = 0; i < NEW_HOOK_COUNT; i++) {
		if ((p->hooks & (1u << i)) != 0 && strstr(names, new_hooks[i].name) != NULL)
			return true;
	}
	return false;
}

static bool
kind_used(const struct project *p, const char *kind)
{
	for (size_t i = 0; i < NEW_HOOK_COUNT; i++) {
		if ((p->hooks & (1u << i)) != 0 && strcmp(new_hooks[i].kind, kind) == 0)
			return true;
	}
	return false;
}

/* @return Is there more than one? */
static bool
fill_kinds(struct template_list *list, const struct project *p)
{
	size_t used = 0;

	for (size_t k = 0; k < KIND_COUNT; k++)
		used += kind_used(p, kinds[k].kind);
	list->name = "kind";
	for (size_t k = 0; k < KIND_COUNT; k++) {
		if (!kind_used(p, kinds[k].kind))
			continue;
		template_set(&list->rows[list->count], "kind", kinds[k].kind);
		template_set(
		    &list->rows[list->count], "answer", used > 1 ? kinds[k].place : "answer");
		list->count++;
	}
	return used > 1;
}

static void
fill_hooks(struct content *c, const struct project *p)
{
	struct template_list *list = &c->lists[0];
	bool several = fill_kinds(&c->lists[2], p);

	list->name = "hook";
	for (size_t i = 0; i < NEW_HOOK_COUNT; i++) {
		const struct new_hook *hook = &new_hooks[i];
		struct template_values *row = &list->rows[list->count];

		template_set_flag(&c->values, hook->name, (p->hooks & (1u << i)) != 0);
		if ((p->hooks & (1u << i)) == 0)
			continue;
		list->count++;
		template_set(row, "hook", hook->name);
		template_set(row, "question", hook->question);
		template_set(row, "kind", hook->kind);
		for (size_t k = 0; k < KIND_COUNT; k++) {
			if (strcmp(hook->kind, kinds[k].kind) == 0)
				template_set(row, "answer", several ? kinds[k].place : "answer");
		}
	}
	template_set_flag(&c->values, "hooks", p->hooks != 0);
	template_set_flag(&c->values, "async", p->async);
	template_set_flag(&c->values, "several", several);
}

/* What the source needs besides the hooks themselves. */
static void
fill_parts(struct content *c, const struct project *p)
{
	bool topics = any_of(p, "acl_check message_deliver message_acknowledge");
	bool texts =
	    any_of(p, "client_authenticate client_auth_exchange client_unsubscribe tls_psk_key");
	bool equal = texts || any_of(p, "client_revalidate");

	template_set_flag(&c->values, "topics", topics);
	template_set_flag(&c->values, "texts", texts);
	template_set_flag(&c->values, "checked", topics || texts);
	template_set_flag(&c->values, "equal", equal);
	/* Is one of them asked about a client? */
	template_set_flag(&c->values, "client", (p->hooks & ~(1u << NEW_HOOK_PSK)) != 0);
	template_set_flag(&c->values, "memory", topics || equal);
	template_set_flag(&c->values, "cached",
	    p->async && any_of(p, "client_authenticate client_revalidate acl_check"));
	/* The key is read while it is checked. */
	template_set(&c->values, "p_const", any_of(p, "tls_psk_key") ? "" : "const ");
}

static void
fill_events(struct content *c, const struct project *p)
{
	struct template_list *list = &c->lists[1];
	bool of_clients = false;
	size_t used = 0;

	list->name = "event";
	for (size_t i = 0; i < new_event_count; i++) {
		struct template_values *row = &list->rows[list->count];
		bool last = (p->events >> i) == 1;

		if ((p->events & (UINT64_C(1) << i)) == 0)
			continue;
		map_name(c->event_upper[i], new_events[i].name, toupper, '-');
		template_set(row, "event", new_events[i].name);
		template_set(row, "EVENT", c->event_upper[i]);
		template_set(row, "event_text", new_events[i].text);
		template_set_flag(row, "of_client", strncmp(new_events[i].name, "broker_", 7) != 0);
		of_clients = of_clients || strncmp(new_events[i].name, "broker_", 7) != 0;
		template_set(row, "or", last ? "," : " |");
		used += (size_t)snprintf(c->event_list + used, sizeof(c->event_list) - used,
		    "%s`%s`", list->count == 0 ? "" : ", ", new_events[i].name);
		assert(used < sizeof(c->event_list));
		list->count++;
	}
	template_set_flag(&c->values, "events", p->events != 0);
	template_set_flag(&c->values, "client_events", of_clients);
	template_set(&c->values, "event_list", c->event_list);
	snprintf(c->event_count, sizeof(c->event_count), "%zu", list->count);
	template_set(&c->values, "event_count", c->event_count);
}

/* As debian/copyright wants it: a space before each line, and a dot in empty ones. */
static char *
indented(const char *text)
{
	char *result = NULL;
	size_t size;
	FILE *out = open_memstream(&result, &size);

	if (out == NULL)
		return NULL;
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		fprintf(out, " %.*s%s", len > 0 ? (int)len : 1, len > 0 ? text : ".",
		    text[len] == '\n' && text[len + 1] != '\0' ? "\n" : "");
		text += text[len] == '\n' ? len + 1 : len;
	}
	if (fclose(out) != 0) {
		free(result);
		return NULL;
	}
	return result;
}

/* The text stands in LICENSE and, indented, in debian/copyright. */
static bool
fill_license(struct content *c, const struct project *p)
{
	char name[128];

	snprintf(name, sizeof(name), "license/%s.in", p->license);
	c->license_text =
	    p->license_file != NULL ? read_text(p->license_file) : read_expanded(p, c, name);
	if (c->license_text == NULL)
		return false;
	if ((c->license_indented = indented(c->license_text)) == NULL) {
		perror("grapnel-plugin");
		return false;
	}
	template_set(&c->values, "license_indented", c->license_indented);
	return true;
}

/* --------------------------------------------------------------------------------- files */

static void
file_path(const struct project *p, const struct file *file, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s%s%s", file->before, file->after != NULL ? p->name : "",
	    file->after != NULL ? file->after : "");
}

/* At a path in the folder `dir`, with the folders that it goes through. */
static bool
write_file(int dir, char *path, mode_t mode, const char *text)
{
	size_t len = strlen(text);
	FILE *f;
	int fd;

	for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdirat(dir, path, 0777) != 0 && errno != EEXIST)
			return false;
		*slash = '/';
	}
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return false;
	if ((f = fdopen(fd, "w")) == NULL) {
		close(fd);
		return false;
	}
	if (fwrite(text, 1, len, f) != len) {
		fclose(f);
		return false;
	}
	return fclose(f) == 0;
}

/* Of a project that could not be written whole. All in it is ours: the folder was made a moment ago. */
static void
remove_all(const struct project *p, int dir)
{
	char path[PATH_MAX], *slash;

	for (size_t i = 0; i < FILE_COUNT; i++) {
		file_path(p, &files[i], path);
		unlinkat(dir, path, 0);
	}
	for (size_t i = 0; i < FILE_COUNT; i++) {
		file_path(p, &files[i], path);
		while ((slash = strrchr(path, '/')) != NULL) {
			*slash = '\0';
			unlinkat(dir, path, AT_REMOVEDIR);
		}
	}
	rmdir(p->directory);
}

static bool
write_all(const struct project *p, char *const texts[FILE_COUNT])
{
	char path[PATH_MAX];
	int dir = -1;

	if (mkdir(p->directory, 0777) != 0 ||
	    (dir = open(p->directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC)) < 0) {
		fprintf(stderr, "grapnel-plugin: the folder %s cannot be made: %s\n", p->directory,
		    strerror(errno));
		return false;
	}
	for (size_t i = 0; i < FILE_COUNT; i++) {
		file_path(p, &files[i], path);
		if (write_file(dir, path, files[i].mode, texts[i]))
			continue;
		fprintf(stderr, "grapnel-plugin: %s/%s cannot be written: %s\n", p->directory, path,
		    strerror(errno));
		remove_all(p, dir);
		close(dir);
		return false;
	}
	close(dir);
	return true;
}

bool
project_write(const struct project *p)
{
	struct content *c = calloc(1, sizeof(*c));
	char *texts[FILE_COUNT] = { NULL };
	bool good = c != NULL;

	if (!good) {
		perror("grapnel-plugin");
		return false;
	}
	fill_names(c, p);
	fill_dates(c);
	fill_hooks(c, p);
	fill_parts(c, p);
	fill_events(c, p);
	good = fill_license(c, p);
	/* All of them before the first is written. */
	for (size_t i = 0; good && i < FILE_COUNT; i++) {
		texts[i] = strcmp(files[i].template, "license.in") == 0
		    ? strdup(c->license_text)
		    : read_expanded(p, c, files[i].template);
		good = texts[i] != NULL;
	}
	good = good && write_all(p, texts);
	for (size_t i = 0; i < FILE_COUNT; i++)
		free(texts[i]);
	free(c->license_text);
	free(c->license_indented);
	free(c);
	return good;
}
