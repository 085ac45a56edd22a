/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COMMENT_COLUMN 44

static void
put_about(FILE *out, const char *about)
{
	while (*about != '\0') {
		size_t n = strcspn(about, "\n");

		fprintf(out, n > 0 ? "# %.*s\n" : "#\n", (int)n, about);
		about += n + (about[n] == '\n');
	}
}

struct import_file *
import_out_file(
    struct import *im, struct import_out *o, const char *name, unsigned mode, const char *about)
{
	struct import_file *f = &o->files[o->count];

	*f = (struct import_file){ .name = name, .mode = mode };
	if (o->count == IMPORT_FILES || (f->stream = open_memstream(&f->text, &f->len)) == NULL) {
		im->no_memory = true;
		return NULL;
	}
	o->count++;
	put_about(f->stream, about);
	return f;
}

/* As text of a comment: one line. */
static void
put_origin(FILE *out, const struct import_directive *d)
{
	fputs("# ", out);
	for (const char *p = d->file; *p != '\0'; p++)
		fputc((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p, out);
	fprintf(out, ":%u: %s", d->line, d->known->name);
}

void
import_line(struct import_file *f, const struct import_directive *d, const char *format, ...)
{
	char *text = NULL;
	va_list ap;
	int len;

	if (f == NULL)
		return;
	va_start(ap, format);
	len = vasprintf(&text, format, ap);
	va_end(ap);
	if (len < 0) {
		f->failed = true;
		return;
	}
	len = fprintf(f->stream, "%*s%s", (int)(4 * f->blocks), "", text);
	if (d != NULL) {
		fprintf(f->stream, "%*s", len < COMMENT_COLUMN ? COMMENT_COLUMN - len : 2, "");
		put_origin(f->stream, d);
	}
	fputc('\n', f->stream);
	if (text[0] != '\0' && text[strlen(text) - 1] == '{')
		f->blocks++;
	free(text);
}

void
import_quote(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (strchr("\"\\$", *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

void
import_string(
    struct import_file *f, const struct import_directive *d, const char *name, const char *value)
{
	char *quoted = NULL;
	size_t len = 0;
	FILE *out;

	if (f == NULL)
		return;
	if ((out = open_memstream(&quoted, &len)) == NULL) {
		f->failed = true;
		return;
	}
	import_quote(out, value);
	if (fclose(out) == 0)
		import_line(f, d, "%s = %s", name, quoted);
	else
		f->failed = true;
	free(quoted);
}

void
import_end(struct import_file *f)
{
	if (f == NULL)
		return;
	f->blocks--;
	import_line(f, NULL, "}");
}

bool
import_out_end(struct import *im, struct import_out *o)
{
	for (unsigned i = 0; i < o->count; i++) {
		struct import_file *f = &o->files[i];

		if (fclose(f->stream) != 0 || f->failed)
			im->no_memory = true;
		f->stream = NULL;
	}
	return !im->no_memory;
}

void
import_out_free(struct import_out *o)
{
	for (unsigned i = 0; i < o->count; i++) {
		if (o->files[i].stream != NULL)
			(void)fclose(o->files[i].stream);
		free(o->files[i].text);
	}
}
