/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One query of one request: its parameters are copied to where they have a NUL behind them, its rows are counted.
 */
#include "sql_parts.h"

#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- parameters */

static enum sql_begun
copy_params(struct sql_run *run, const struct template_values *values)
{
	const struct sql_query *q = run->call.query;
	struct grapnel_str *params = run->call.params;
	size_t len = 0;
	char *p;

	for (unsigned i = 0; i < q->param_count; i++) {
		params[i] = template_value(template_part(q->template, q->part[i]), values);
		if (params[i].data == NULL)
			return SQL_ABSENT;
		/* Servers refuse other text with an error, which must not be had by whoever knocks. */
		if (!utf8_is_text(params[i], true))
			return SQL_UNSENDABLE;
		len += params[i].len + 1;
	}
	if ((p = malloc(len + 1)) == NULL)
		return SQL_FAILED;
	run->text = p;
	run->text_len = len;
	for (unsigned i = 0; i < q->param_count; i++) {
		if (params[i].len > 0)
			memcpy(p, params[i].data, params[i].len);
		p[params[i].len] = '\0';
		params[i].data = p;
		p += params[i].len + 1;
	}
	return SQL_BEGUN;
}

static void
free_params(struct sql_run *run)
{
	if (run->text != NULL)
		explicit_bzero(run->text, run->text_len); /* perhaps a password */
	free(run->text);
	run->text = NULL;
}

/* --------------------------------------------------------------------------- a run */

static bool
on_row(struct sql_call *call, const struct sql_row *row)
{
	struct sql_run *run = (struct sql_run *)call;

	if (run->wrong != NULL)
		return false;
	for (unsigned i = 0; i < row->columns; i++)
		run->bytes += row->values[i].len;
	if (++run->rows > SQL_MAX_ROWS || run->bytes > SQL_MAX_BYTES) {
		run->wrong = run->rows > SQL_MAX_ROWS ? "it has too many rows" : "it is too large";
		return false;
	}
	return run->on_row(run, row);
}

static void
on_done(struct sql_call *call, enum sql_status status)
{
	struct sql_run *run = (struct sql_run *)call;
	struct sql *s = run->w->s;
	bool good = status == SQL_OK && run->wrong == NULL;

	run->active = false;
	run->refused = status == SQL_REFUSED && run->rows == 0;
	free_params(run);
	if (run->wrong != NULL)
		sql_complain(run->w, call->query, run->wrong);
	else if (!good && !run->refused)
		sql_count(s, s->queries_failed);
	run->on_end(run, good);
}

enum sql_begun
sql_run_begin(struct sql_run *run, const struct sql_query *query,
    const struct template_values *values, uint32_t deadline_ms)
{
	struct sql *s = run->w->s;
	enum sql_begun begun;

	if (deadline_ms == 0)
		return SQL_FAILED;
	run->call.query = query;
	run->call.deadline_ms = deadline_ms;
	run->call.on_row = on_row;
	run->call.done = on_done;
	run->call.driver = NULL;
	run->call.link = NULL;
	run->wrong = NULL;
	run->rows = 0;
	run->bytes = 0;
	if ((begun = copy_params(run, values)) != SQL_BEGUN)
		return begun;
	run->active = true;
	sql_count(s, s->queries_total);
	s->driver->exec(run->w->pool, &run->call);
	return SQL_BEGUN; /* run may be gone */
}

void
sql_run_cancel(struct sql_run *run)
{
	if (run->active)
		run->w->s->driver->cancel(run->w->pool, &run->call);
}

void
sql_request_cancelled(struct sql *s, struct grapnel_request *req)
{
	struct sql_run *run = s->host->request_data(req);

	if (run != NULL)
		run->on_cancel(run);
}

/* -------------------------------------------------------------------------- columns */

bool
sql_column(struct grapnel_str name, char out[SQL_NAME_SIZE])
{
	if (name.len == 0 || name.len >= SQL_NAME_SIZE)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
	}
	out[name.len] = '\0';
	return true;
}

bool
sql_set_column(struct sql_run *run, struct grant *g, const struct sql_row *row, unsigned i)
{
	char name[SQL_NAME_SIZE];

	if (!sql_column(row->names[i], name)) {
		run->wrong = "a column's name is empty or too long";
		return false;
	}
	if (strcmp(name, "password") == 0)
		return true;
	if (grant_set(g, (struct grapnel_str){ name, row->names[i].len }, row->values[i]))
		return true;
	run->wrong = g->error;
	return false;
}

bool
sql_add_rule(struct sql_run *run, struct grant *g, const struct sql_row *row)
{
	struct grant_rule rule = { 0 };
	struct grapnel_str acl = { NULL, 0 };
	const struct {
		const char *name;
		struct grapnel_str *to;
	} columns[] = {
		{ "permission", &rule.permission },
		{ "action", &rule.action },
		{ "access", &rule.access },
		{ "topic", &rule.topic },
		{ "qos", &rule.qos },
		{ "retain", &rule.retain },
		{ "acl", &acl },
	};
	bool lines = false;

	for (unsigned i = 0, k; i < row->columns; i++) {
		char name[SQL_NAME_SIZE] = "";

		(void)sql_column(row->names[i], name);
		for (k = 0; k < sizeof(columns) / sizeof(*columns); k++)
			if (strcmp(name, columns[k].name) == 0)
				break;
		if (k == sizeof(columns) / sizeof(*columns)) {
			run->wrong = "a column is none of permission, action, access, topic, qos, "
				     "retain and acl";
			return false;
		}
		*columns[k].to = row->values[i];
		lines = lines || columns[k].to == &acl;
	}
	if (lines && row->columns > 1) {
		run->wrong = "the column acl stands for itself, without others";
		return false;
	}
	if (lines ? acl.data == NULL || grant_add_rules(g, acl) : grant_add_rule(g, &rule))
		return true;
	run->wrong = g->error;
	return false;
}
