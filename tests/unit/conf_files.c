/* SPDX-License-Identifier: Apache-2.0 */
#include "conf_files.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256], main_path[300], messages[65536];

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
conf_files_begin(void)
{
	const char *top = getenv("TMPDIR");
	char path[300];

	snprintf(folder, sizeof(folder), "%s/grapnel-conf-XXXXXX", top != NULL ? top : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(main_path, sizeof(main_path), "%s/grapnel.conf", folder);
	snprintf(path, sizeof(path), "%s/conf.d", folder);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

void
conf_files_end(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
conf_files_main(void)
{
	return main_path;
}

void
conf_files_write_bytes(const char *name, const char *bytes, size_t len)
{
	char path[600];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "wb");
	ck_assert_msg(f != NULL, "cannot write %s", path);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

void
conf_files_write(const char *name, const char *text)
{
	conf_files_write_bytes(name, text, strlen(text));
}

const char *
conf_files_messages(const struct conf_errors *errs)
{
	size_t len = 0;

	messages[0] = '\0';
	for (unsigned i = 0; i < errs->count && len < sizeof(messages); i++) {
		len += (size_t)snprintf(messages + len, sizeof(messages) - len, "%s%s",
		    i == 0 ? "" : "\n", errs->messages[i]);
	}
	return messages;
}

struct settings *
conf_files_load(void)
{
	struct conf_errors errs = { 0 };
	struct settings *s = NULL;
	int err = settings_load(main_path, &errs, &s);

	ck_assert_msg(err == GRAPNEL_OK, "refused: %s", conf_files_messages(&errs));
	ck_assert_ptr_nonnull(s);
	ck_assert_uint_eq(errs.count, 0);
	return s;
}

const char *
conf_files_refused(void)
{
	struct conf_errors errs = { 0 };
	struct settings *s = NULL;
	int err = settings_load(main_path, &errs, &s);

	ck_assert_msg(err == GRAPNEL_EINVAL, "not refused");
	ck_assert_ptr_null(s);
	ck_assert_uint_gt(errs.count, 0);
	conf_files_messages(&errs);
	conf_errors_clear(&errs);
	return messages;
}

struct settings *
conf_files_load_text(const char *text)
{
	conf_files_write("grapnel.conf", text);
	return conf_files_load();
}

const char *
conf_files_refused_text(const char *text)
{
	conf_files_write("grapnel.conf", text);
	return conf_files_refused();
}
