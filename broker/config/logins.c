/* SPDX-License-Identifier: Apache-2.0 */
#include "logins.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct login {
	uid_t uid;
	unsigned line;
	char *name;
};
struct logins {
	struct login *items; /* by uid, then in the order of the file */
	size_t count;
};

static int
compare(const void *a, const void *b)
{
	const struct login *x = a, *y = b;

	if (x->uid != y->uid)
		return x->uid < y->uid ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

/* name:password:uid:... @return false: another kind of line. */
static bool
parse(char *line, char **name, uid_t *uid)
{
	char *password = strchr(line, ':'), *number, *end;
	unsigned long value;

	/* "+" and "-" are lines of NIS; what getpwnam would not find is no name. */
	if (password == NULL || password == line || strchr("+-#", line[0]) != NULL ||
	    (number = strchr(password + 1, ':')) == NULL)
		return false;
	*password = '\0';
	number++;
	errno = 0;
	value = strtoul(number, &end, 10);
	if (*number < '0' || *number > '9' || *end != ':' || errno != 0 || value >= UINT32_MAX)
		return false;
	*name = line;
	*uid = (uid_t)value;
	return true;
}

static bool
add(struct logins *l, size_t *capacity, const char *name, uid_t uid, unsigned line)
{
	if (l->count == *capacity) {
		size_t more = *capacity == 0 ? 64 : *capacity * 2;
		struct login *items = realloc(l->items, more * sizeof(*items));

		if (items == NULL)
			return false;
		l->items = items;
		*capacity = more;
	}
	l->items[l->count] = (struct login){ .uid = uid, .line = line, .name = strdup(name) };
	return l->items[l->count++].name != NULL;
}

struct logins *
logins_read(const char *path)
{
	struct logins *l = calloc(1, sizeof(*l));
	FILE *f = fopen(path, "re");
	char *line = NULL, *name;
	size_t size = 0, capacity = 0;
	unsigned number = 0;
	int err = errno;
	uid_t uid;

	if (l == NULL || f == NULL)
		goto fail;
	while (getline(&line, &size, f) >= 0) {
		number++;
		if (parse(line, &name, &uid) && !add(l, &capacity, name, uid, number)) {
			err = ENOMEM;
			goto fail;
		}
	}
	if (ferror(f)) {
		err = errno;
		goto fail;
	}
	(void)fclose(f);
	free(line);
	if (l->count > 0)
		qsort(l->items, l->count, sizeof(*l->items), compare);
	return l;
fail:
	if (f != NULL)
		(void)fclose(f);
	free(line);
	logins_free(l);
	errno = err;
	return NULL;
}

void
logins_free(struct logins *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i].name);
	free(l->items);
	free(l);
}

const char *
logins_find(const struct logins *l, uid_t uid)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->items[middle].uid < uid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < l->count && l->items[low].uid == uid ? l->items[low].name : NULL;
}
