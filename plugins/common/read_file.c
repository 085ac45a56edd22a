/* SPDX-License-Identifier: Apache-2.0 */
#include "read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
say(char *error, size_t error_size, const char *path, const char *what)
{
	(void)snprintf(error, error_size, "%s: %s", path, what);
}

static void
say_errno(char *error, size_t error_size, const char *path)
{
	char buffer[128];

	say(error, error_size, path, strerror_r(errno, buffer, sizeof(buffer)));
}

bool
read_file(const char *path, size_t max_bytes, struct file_text *out, char *error, size_t error_size)
{
	struct file_text text = { NULL, 0, 0 };
	/* O_NONBLOCK: a FIFO by mistake must not hang the start. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t size;

	if (fd < 0) {
		say_errno(error, error_size, path);
		return false;
	}
	if (fstat(fd, &st) != 0) {
		say_errno(error, error_size, path);
		goto fail;
	}
	if (!S_ISREG(st.st_mode)) {
		say(error, error_size, path, "not a regular file");
		goto fail;
	}
	if (st.st_size < 0 || (size_t)st.st_size > max_bytes) {
		say(error, error_size, path, "too large");
		goto fail;
	}
	size = (size_t)st.st_size;
	text.mode = st.st_mode & 07777;
	if ((text.data = malloc(size + 1)) == NULL) {
		say(error, error_size, path, "out of memory");
		goto fail;
	}
	/* As much as there was at the start: one that grows meanwhile is read up to there. */
	while (text.len < size) {
		ssize_t n = read(fd, text.data + text.len, size - text.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			say_errno(error, error_size, path);
			goto fail;
		}
		if (n == 0)
			break;
		text.len += (size_t)n;
	}
	close(fd);
	*out = text;
	return true;
fail:
	file_text_free(&text);
	close(fd);
	return false;
}

void
file_text_free(struct file_text *text)
{
	if (text->data != NULL)
		explicit_bzero(text->data, text->len);
	free(text->data);
	text->data = NULL;
	text->len = 0;
}
