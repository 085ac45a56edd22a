/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin_file.h"

#include <string.h>
#include <sys/stat.h>

bool
plugin_file_read(const struct grapnel_host *host, struct grapnel_instance *self, const char *option,
    struct grapnel_str path, size_t max_bytes, char name[PATH_MAX], struct file_text *text)
{
	char error[PATH_MAX + 128];

	if (path.len == 0 || path.len >= PATH_MAX || memchr(path.data, '\0', path.len) != NULL) {
		host->config_error(self, NULL, option, "this is not a path");
		return false;
	}
	memcpy(name, path.data, path.len);
	name[path.len] = '\0';
	if (!read_file(name, max_bytes, text, error, sizeof(error))) {
		host->config_error(self, NULL, option, "%s", error);
		return false;
	}
	if (text->mode & S_IWOTH)
		host->log(self, GRAPNEL_LOG_WARNING,
		    "%s can be changed by every user of this machine; chmod o-w", name);
	return true;
}

struct passwd_file *
plugin_file_passwords(const struct grapnel_host *host, struct grapnel_instance *self,
    const char *option, struct grapnel_str path)
{
	char name[PATH_MAX], error[PATH_MAX + 256];
	struct passwd_file *users;
	struct file_text text;

	if (!plugin_file_read(host, self, option, path, PASSWD_FILE_MAX_BYTES, name, &text))
		return NULL;
	if (text.mode & S_IROTH)
		host->log(self, GRAPNEL_LOG_WARNING,
		    "%s can be read by every user of this machine; its hashes can be guessed at: "
		    "chmod o-r",
		    name);
	users = passwd_file_parse(text.data, text.len, name, error, sizeof(error));
	if (users == NULL)
		host->config_error(self, NULL, option, "%s", error);
	return users;
}
