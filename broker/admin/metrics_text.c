/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics_text.h"

void
metrics_text_escape(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\n')
			fputs("\\n", out);
		else if (c == '\\' || c == '"')
			fprintf(out, "\\%c", c);
		else
			putc(c < 0x20 || c == 0x7f ? ' ' : c, out);
	}
}

void
metrics_text_begin(FILE *out, const char *name, bool is_gauge, const char *help)
{
	fprintf(out, "# HELP %s ", name);
	for (; *help != '\0'; help++) { /* quotes stand for themselves here */
		if (*help == '\n')
			fputs("\\n", out);
		else if (*help == '\\')
			fputs("\\\\", out);
		else
			putc(*help, out);
	}
	fprintf(out, "\n# TYPE %s %s\n", name, is_gauge ? "gauge" : "counter");
}

void
metrics_text_sample(
    FILE *out, const char *name, const char *label, const char *label_value, int64_t value)
{
	fputs(name, out);
	if (label != NULL) {
		fprintf(out, "{%s=\"", label);
		metrics_text_escape(out, label_value);
		fputs("\"}", out);
	}
	fprintf(out, " %" PRId64 "\n", value);
}

void
metrics_text_sample_real(FILE *out, const char *name, double value)
{
	fprintf(out, "%s %.6f\n", name, value);
}

void
metrics_text_one(FILE *out, const char *name, bool is_gauge, const char *help, int64_t value)
{
	metrics_text_begin(out, name, is_gauge, help);
	metrics_text_sample(out, name, NULL, NULL, value);
}
