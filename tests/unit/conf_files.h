/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_files - a temporary folder with grapnel.conf and conf.d/ for tests of the configuration
 *
 * One at a time. conf_files_begin and _end are a checked fixture; the rest fails the test by itself.
 */
#ifndef TESTS_UNIT_CONF_FILES_H
#define TESTS_UNIT_CONF_FILES_H

#include "config/conf.h"
#include "config/settings.h"

void conf_files_begin(void);
void conf_files_end(void);
const char *conf_files_main(void); /* path of grapnel.conf */
/* Write a file of the folder ("conf.d/10-x.conf"); what was there is replaced. */
void conf_files_write(const char *name, const char *text);
void conf_files_write_bytes(const char *name, const char *bytes, size_t len);

/* All messages, one per line. Static: valid until the next call. */
const char *conf_files_messages(const struct conf_errors *errs);
/* The settings in the folder; fails the test with the messages when they are refused. */
struct settings *conf_files_load(void);
/* The messages with which they are refused; fails the test when they are not. Static, as above. */
const char *conf_files_refused(void);
/* The same for a grapnel.conf with this text. */
struct settings *conf_files_load_text(const char *text);
const char *conf_files_refused_text(const char *text);

#endif
