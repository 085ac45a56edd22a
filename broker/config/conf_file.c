/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and text into a tree.
 */
#include "conf.h"
#include "conf_parser.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tree with the names of the files it came from; nodes point to them. */
struct conf_root {
	struct conf_node node; /* stands first: this is what others see */
	char **files;
	unsigned file_count;
};

void
conf_free(struct conf_node *root)
{
	struct conf_root *r = (struct conf_root *)root;

	if (r == NULL)
		return;
	conf_node_fini(&r->node);
	for (unsigned i = 0; i < r->file_count; i++)
		free(r->files[i]);
	free(r->files);
	free(r);
}

static struct conf_root *
root_new(unsigned max_files)
{
	struct conf_root *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->node.kind = CONF_BLOCK;
	r->files = calloc(max_files, sizeof(*r->files));
	r->node.name = strdup("");
	if (r->files == NULL || r->node.name == NULL) {
		conf_free(&r->node);
		return NULL;
	}
	return r;
}

static const char *
root_add_file(struct conf_root *r, const char *directory, const char *name)
{
	if (asprintf(&r->files[r->file_count], "%s%s", directory, name) < 0)
		return NULL;
	return r->files[r->file_count++];
}

/* ---- the text of a file ---------------------------------------------------------------------- */

/* Length of the well-formed UTF-8 sequence at s, as Unicode's table 3-7 has them; 0: none. */
static size_t
utf8_sequence(const unsigned char *s, size_t len)
{
	unsigned char low = 0x80, high = 0xBF;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 0;
	n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	if (s[0] == 0xE0)
		low = 0xA0;
	if (s[0] == 0xED)
		high = 0x9F;
	if (s[0] == 0xF0)
		low = 0x90;
	if (s[0] == 0xF4)
		high = 0x8F;
	if (len < n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	}
	return n;
}

/* Binary content is one error, not thousands of syntax errors. */
static bool
text_check(struct conf_parser *x, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	struct conf_place place = { 1, 1 };

	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(s + i, len - i);

		if (n == 0) {
			conf_fault(x, place, "byte 0x%02x is not UTF-8 text", s[i]);
			return false;
		}
		if (s[i] == '\0') {
			conf_fault(x, place, "the file holds a NUL byte");
			return false;
		}
		if ((s[i] < 0x20 && s[i] != '\t' && s[i] != '\n' && s[i] != '\r') || s[i] == 0x7f) {
			conf_fault(x, place, "the file holds a control character (0x%02x)", s[i]);
			return false;
		}
		place.line += s[i] == '\n';
		i += n;
	}
	return true;
}

/* Scan one text into x->result. */
static bool
text_parse(struct conf_parser *x, const char *text, size_t len)
{
	char *buffer;

	x->at = (struct conf_place){ 1, 1 };
	if (len > CONF_MAX_FILE) {
		conf_fault(x, x->at, "the file is larger than %d bytes", CONF_MAX_FILE);
		return false;
	}
	if (!text_check(x, text, len))
		return false;
	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
		text += 3; /* byte order mark */
		len -= 3;
	}
	if ((buffer = calloc(1, len + 2)) == NULL) {
		conf_fault(x, x->at, "out of memory");
		return false;
	}
	if (len > 0)
		memcpy(buffer, text, len);
	conf_scanner_start(x, buffer, len);
	if (conf_yyparse(x) != 0)
		x->failed = true;
	conf_scanner_stop(x);
	conf_text_fini(&x->held_text);
	conf_wipe_free(buffer, len);
	if (x->failed)
		conf_items_clear(&x->result);
	return !x->failed;
}

/* Parse a text and append what is in it to the root. */
static bool
root_parse(struct conf_root *r, const char *text, size_t len, const char *shown_as,
    const char *directory, struct conf_errors *errs)
{
	struct conf_parser *x = calloc(1, sizeof(*x));
	struct conf_items into = { r->node.items, r->node.item_count };
	bool ok = false;

	if (x == NULL) {
		conf_errors_add(errs, "%s: out of memory", shown_as);
		return false;
	}
	x->shown_as = shown_as;
	x->directory = directory;
	x->errs = errs;
	if (text_parse(x, text, len)) {
		unsigned moved = 0;

		while (moved < x->result.count && conf_items_add(&into, &x->result.items[moved]))
			moved++;
		ok = moved == x->result.count;
		if (!ok)
			conf_errors_add(errs, "%s: out of memory", shown_as);
		for (unsigned i = 0; i < moved; i++)
			x->result.items[i] =
			    (struct conf_node){ 0 }; /* moved: not to be freed here */
		conf_items_clear(&x->result);
		r->node.items = into.items;
		r->node.item_count = into.count;
	}
	free(x);
	return ok;
}

struct conf_node *
conf_parse(const char *text, size_t len, const char *shown_as, struct conf_errors *errs)
{
	struct conf_root *r = root_new(1);

	if (r == NULL || (r->node.file = root_add_file(r, "", shown_as)) == NULL) {
		conf_errors_add(errs, "%s: out of memory", shown_as);
	} else if (root_parse(r, text, len, r->node.file, NULL, errs)) {
		return &r->node;
	}
	conf_free(r == NULL ? NULL : &r->node);
	return NULL;
}

/* ---- files ----------------------------------------------------------------------------------- */

char *
conf_file_read(const char *path, size_t *len, const char **why)
{
	int fd = open(path,
	    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not stop the start */
	char *text = NULL;
	struct stat st;
	size_t got = 0;
	ssize_t n = 0;

	if (fd < 0) {
		*why = strerror(errno);
		return NULL;
	}
	if (fstat(fd, &st) < 0) {
		*why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		*why = "not a regular file";
	} else if (st.st_size > CONF_MAX_FILE) {
		*why = "the file is too large (more than 1 MiB)";
	} else if ((text = calloc(1, CONF_MAX_FILE + 2)) == NULL) {
		*why = strerror(errno);
	} else {
		/* Sizes are not believed: files of /proc have none, and others may grow meanwhile. */
		while (
		    got <= CONF_MAX_FILE && (n = read(fd, text + got, CONF_MAX_FILE + 1 - got)) > 0)
			got += (size_t)n;
		if (n < 0 || got > CONF_MAX_FILE) {
			*why = n < 0 ? strerror(errno) : "the file is too large (more than 1 MiB)";
			conf_wipe_free(text, got);
			text = NULL;
		}
	}
	close(fd);
	*len = got;
	return text;
}

/* Read one file. */
static bool
root_read(struct conf_root *r, const char *directory, const char *name, struct conf_errors *errs)
{
	const char *shown_as = root_add_file(r, "", name), *why = NULL;
	char *path = NULL, *text = NULL;
	size_t len = 0;
	bool ok = false;

	if (shown_as == NULL || asprintf(&path, "%s/%s", directory, name) < 0) {
		conf_errors_add(errs, "%s: out of memory", name);
		return false;
	}
	if (r->node.file == NULL)
		r->node.file = shown_as;
	if ((text = conf_file_read(path, &len, &why)) == NULL)
		conf_errors_add(errs, "%s: cannot read %s: %s", shown_as, path, why);
	else
		ok = root_parse(r, text, len, shown_as, directory, errs);
	conf_wipe_free(text, len);
	free(path);
	return ok;
}

static int
is_conf_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

/* In the order of bytes, whatever the locale. */
static int
name_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool
root_read_conf_d(struct conf_root *r, const char *directory, struct conf_errors *errs)
{
	struct dirent **entries = NULL;
	char *path = NULL;
	bool ok = true;
	int n;

	if (asprintf(&path, "%s/conf.d", directory) < 0) {
		conf_errors_add(errs, "conf.d: out of memory");
		return false;
	}
	n = scandir(path, &entries, is_conf_file, name_order);
	if (n < 0 && errno != ENOENT) {
		conf_errors_add(errs, "conf.d: cannot read %s: %s", path, strerror(errno));
		ok = false;
	}
	if (n > CONF_MAX_FILES) {
		conf_errors_add(
		    errs, "conf.d: %d files are more than the limit of %d", n, CONF_MAX_FILES);
		ok = false;
	}
	for (int i = 0; i < n; i++) {
		char *name = NULL;

		if (n > CONF_MAX_FILES) {
			/* only freed */
		} else if (asprintf(&name, "conf.d/%s", entries[i]->d_name) < 0) {
			conf_errors_add(errs, "conf.d: out of memory");
			ok = false;
		} else {
			ok = root_read(r, directory, name, errs) && ok;
			free(name);
		}
		free(entries[i]);
	}
	free(entries);
	free(path);
	return ok;
}

struct conf_node *
conf_read(const char *path, bool with_conf_d, struct conf_errors *errs)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;
	char *directory =
	    slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
	struct conf_root *r = root_new(CONF_MAX_FILES + 1);
	bool ok = false;

	if (directory == NULL || r == NULL) {
		conf_errors_add(errs, "%s: out of memory", name);
	} else {
		ok = root_read(r, directory, name, errs);
		if (with_conf_d)
			ok = root_read_conf_d(r, directory, errs) && ok;
	}
	free(directory);
	if (ok)
		return &r->node;
	conf_free(r == NULL ? NULL : &r->node);
	return NULL;
}
