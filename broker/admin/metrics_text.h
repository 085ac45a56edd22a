/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_text - the text exposition format of Prometheus, version 0.0.4
 *
 * Pure: writes to any stdio stream; errors stick to the stream (ferror), so only the end is checked.
 */
#ifndef BROKER_ADMIN_METRICS_TEXT_H
#define BROKER_ADMIN_METRICS_TEXT_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* # HELP and # TYPE of a metric, before its first sample. */
void metrics_text_begin(FILE *out, const char *name, bool is_gauge, const char *help);
/*
 * One sample. label NULL: none. The value of the label may be any text: backslash, quote and newline are escaped as
 * the format says, other control characters become a blank.
 */
void metrics_text_sample(FILE *out, const char *name, const char *label, const char *label_value, int64_t value);
void metrics_text_sample_real(FILE *out, const char *name, double value);
/* A whole metric with one sample and no label. */
void metrics_text_one(FILE *out, const char *name, bool is_gauge, const char *help, int64_t value);
/* text with the escapes of a label's value. */
void metrics_text_escape(FILE *out, const char *text);

#endif
