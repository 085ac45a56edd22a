/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passwd_edit - change users of a password file, all of them or none
 *
 * The file is read, checked, and replaced by a new one under the same name (fsync, rename, fsync of
 * the folder), so that a reader sees the old or the new one and a crash leaves one of them.
 * Comments, blank lines and the order of lines stay. A new file has mode 0600; an old one keeps
 * owner, group and the group's right to read, and loses every other right. Two of these at once
 * wait for each other (flock on the folder).
 */
#ifndef CTL_PASSWD_EDIT_H
#define CTL_PASSWD_EDIT_H

#include "../plugins/common/passwd_file.h"

enum passwd_edit_mode {
	PASSWD_SET,    /* replace or append the users of changes; the file is made if need be */
	PASSWD_CREATE, /* likewise; the file must not exist yet */
	PASSWD_DELETE, /* remove them; each must be there */
};
struct passwd_edit_result {
	size_t added, changed, deleted;
	bool created;
};
/*
 * A user of changes has the lines that changes has and no others afterwards: no old password stays behind in another
 * scheme. The hashes of changes do not matter to PASSWD_DELETE. false: error (NUL-terminated, cut) says why.
 */
bool passwd_edit(const char *path, enum passwd_edit_mode mode, const struct passwd_file *changes,
    struct passwd_edit_result *result, char *error, size_t error_size);

#endif
