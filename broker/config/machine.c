/* SPDX-License-Identifier: Apache-2.0 */
#include "config/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one file says: a number of bytes, or "max". */
static uint64_t
limit_in(const char *root, const char *hierarchy, const char *path, const char *name)
{
	uint64_t limit = UINT64_MAX;
	char file[4600], text[64];
	FILE *f;

	if (snprintf(file, sizeof(file), "%s/sys/fs/cgroup%s%s/%s", root, hierarchy, path, name) >=
	    (int)sizeof(file))
		return UINT64_MAX;
	if ((f = fopen(file, "re")) == NULL)
		return UINT64_MAX;
	if (fgets(text, sizeof(text), f) == NULL || sscanf(text, "%" SCNu64, &limit) != 1)
		limit = UINT64_MAX; /* "max" */
	(void)fclose(f);
	return limit == 0 ? UINT64_MAX : limit;
}

/* A group has no more than the groups it is in. In a container the path may be one of outside: the top is asked in any case. */
static uint64_t
lowest(const char *root, const char *hierarchy, char *path, const char *name)
{
	uint64_t limit = UINT64_MAX, here;
	char *slash;

	if (strcmp(path, "/") == 0)
		path[0] = '\0';
	for (;;) {
		here = limit_in(root, hierarchy, path, name);
		if (here < limit)
			limit = here;
		if ((slash = strrchr(path, '/')) == NULL)
			return limit;
		*slash = '\0';
	}
}

/* Is one of the controllers of "memory,cpu" the one of memory? */
static int
has_memory(const char *list)
{
	for (size_t n; *list != '\0'; list += n + (list[n] == ',')) {
		n = strcspn(list, ",");
		if (n == 6 && memcmp(list, "memory", 6) == 0)
			return 1;
	}
	return 0;
}

uint64_t
machine_cgroup_memory(const char *root)
{
	uint64_t limit = UINT64_MAX, here;
	char file[4200], line[4200];
	FILE *f;

	if (snprintf(file, sizeof(file), "%s/proc/self/cgroup", root) >= (int)sizeof(file) ||
	    (f = fopen(file, "re")) == NULL)
		return UINT64_MAX;
	/* "0::/path", or "4:memory:/path" of version 1; both may be there. */
	while (fgets(line, sizeof(line), f) != NULL) {
		char *controllers, *path;

		line[strcspn(line, "\n")] = '\0';
		if ((controllers = strchr(line, ':')) == NULL ||
		    (path = strchr(controllers + 1, ':')) == NULL)
			continue;
		*controllers++ = *path++ = '\0';
		if (controllers[0] == '\0')
			here = lowest(root, "", path, "memory.max");
		else if (has_memory(controllers))
			here = lowest(root, "/memory", path, "memory.limit_in_bytes");
		else
			continue;
		if (here < limit)
			limit = here;
	}
	(void)fclose(f);
	return limit;
}

uint64_t
machine_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t physical = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
	uint64_t group = machine_cgroup_memory("");
	uint64_t least = physical < group ? physical : group;

	return least == UINT64_MAX ? 0 : least;
}
