/* SPDX-License-Identifier: Apache-2.0 */
/* conf_errors - what is wrong with a configuration, all of it. A header of its own: conf.h and OpenSSL share a name. */
#ifndef BROKER_CONFIG_CONF_ERRORS_H
#define BROKER_CONFIG_CONF_ERRORS_H

struct conf_errors { /* collected messages, in file order of discovery */
	char **messages;
	unsigned count, capacity;
};
void conf_errors_add(struct conf_errors *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
void conf_errors_clear(struct conf_errors *e);

#endif
