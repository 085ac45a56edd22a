/* SPDX-License-Identifier: Apache-2.0 */
/*
 * new_template - text with conditions, loops and values, for `grapnel-plugin new`
 *
 *	%if a|b&!c	the lines up to %else or %end are written when a, or b without c
 *	%else
 *	%end
 *	%for list	once for each row of the list, whose values can be used inside
 *	%# text		not written
 *	@name@		the value of that name, anywhere in a line; other @ are written as they are
 *
 * Directives stand alone in their lines, without indentation. A name that is not known is a fault of the template, and so is
 * a block that does not end: both are said with file and line.
 *
 * Threads: one. Ownership: names and values are borrowed. Bounded: TEMPLATE_VALUES_MAX, TEMPLATE_ROWS_MAX (asserted: what
 * goes in is the program's own), TEMPLATE_DEPTH_MAX blocks inside each other.
 */
#ifndef GRAPNEL_TOOL_NEW_TEMPLATE_H
#define GRAPNEL_TOOL_NEW_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#define TEMPLATE_VALUES_MAX 96
#define TEMPLATE_ROWS_MAX   32
#define TEMPLATE_DEPTH_MAX  16

struct template_value {
	const char *name;
	const char *value; /* NULL: false as a condition, an error as a value */
};

struct template_values {
	size_t count;
	struct template_value of[TEMPLATE_VALUES_MAX];
};

struct template_list {
	const char *name;
	size_t count;
	struct template_values rows[TEMPLATE_ROWS_MAX];
};

void template_set(struct template_values *values, const char *name, const char *value);
void template_set_flag(struct template_values *values, const char *name, bool set);

/*
 * Expand text. @return The result, the caller's to free; NULL after saying on stderr what is wrong.
 * lists end with a NULL name.
 */
char *template_expand(const char *file, const char *text, const struct template_values *values,
    const struct template_list *lists);

#endif
