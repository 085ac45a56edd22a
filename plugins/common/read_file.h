/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_file - a whole regular file into memory, with an error that can be shown
 *
 * Blocks: for create() and for tools, never on a worker.
 */
#ifndef PLUGINS_COMMON_READ_FILE_H
#define PLUGINS_COMMON_READ_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct file_text {
	char *data; /* heap, never NULL after success */
	size_t len;
	mode_t mode; /* permission bits */
};

/* false: error (NUL-terminated, cut) says "path: what"; *out is untouched. */
bool read_file(const char *path, size_t max_bytes, struct file_text *out, char *error, size_t error_size);
/* Wipe and free; for texts that may hold secrets. */
void file_text_free(struct file_text *text);

#endif
