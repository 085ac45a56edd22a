/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that fail on demand: see disk.h. */
#include "disk.h"

#include <errno.h>

struct disk_control *disk_control;

static bool
is_due(enum disk_operation what)
{
	struct disk_control *c = disk_control;

	if (c == NULL || (atomic_load(&c->operations) & what) == 0)
		return false;
	if (atomic_load(&c->error) == 0 && what != DISK_SHORT)
		return false;
	if (atomic_load(&c->after) > 0 && atomic_fetch_sub(&c->after, 1) > 0)
		return false;
	atomic_fetch_add(&c->failed, 1);
	return true;
}

bool
disk_fails(enum disk_operation what)
{
	if (!is_due(what))
		return false;
	errno = (int)atomic_load(&disk_control->error);
	return true;
}

bool
disk_is_short(void)
{
	return is_due(DISK_SHORT);
}
