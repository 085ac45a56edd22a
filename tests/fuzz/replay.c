/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A main() for a fuzz target without libFuzzer: runs it over the files and folders given, or
 * over FUZZ_CORPUS below the source tree. Finding no input at all is a failure, so that a
 * misplaced corpus is noticed.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static int
run_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size + 1);
	int err = -1;

	if (file != NULL && data != NULL && fread(data, 1, size, file) == size) {
		LLVMFuzzerTestOneInput(data, size);
		inputs++;
		err = 0;
	} else {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	}
	free(data);
	if (file != NULL)
		fclose(file);
	return err;
}

/* A file, or the files of a folder; folders in it are not entered. */
static int
run_path(const char *path)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int err = 0;

	if (stat(path, &st) != 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path, (size_t)st.st_size);
	if ((dir = opendir(path)) == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(dir)) != NULL) {
		char name[4096];
		int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

		if (len < 0 || (size_t)len >= sizeof(name) || stat(name, &st) != 0)
			err = -1;
		else if (S_ISREG(st.st_mode) && run_file(name, (size_t)st.st_size) != 0)
			err = -1;
	}
	closedir(dir);
	return err;
}

int
main(int argc, char **argv)
{
	const char *top = getenv("GRAPNEL_SRC");
	char corpus[4096];
	int err = 0;

	for (int i = 1; i < argc; i++)
		err |= run_path(argv[i]);
	if (argc < 2) {
		int len =
		    snprintf(corpus, sizeof(corpus), "%s/%s", top != NULL ? top : ".", FUZZ_CORPUS);

		err = len > 0 && (size_t)len < sizeof(corpus) ? run_path(corpus) : -1;
	}
	printf("%u inputs\n", inputs);
	return err == 0 && inputs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
