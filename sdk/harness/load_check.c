/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a shared object loads by itself: in a child, in a name space of the dynamic linker of its own, where nobody else's libraries
 * lend it a symbol. What its constructors leave behind is compared with what there was before.
 */
#include "inside.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD_SECONDS 30u

/* What the child says when it got that far, whatever its status is: a constructor can end it, too. */
static const char LOADED[] = "loaded";

struct seen {
	unsigned threads, descriptors;
	mode_t mask;
	char folder[512];
	struct sigaction signals[32];
};

static unsigned
entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

static void
look(struct seen *s)
{
	memset(s, 0, sizeof(*s));
	s->threads = entries("/proc/self/task");
	s->descriptors = entries("/proc/self/fd");
	s->mask = umask(0);
	(void)umask(s->mask);
	if (getcwd(s->folder, sizeof(s->folder)) == NULL)
		s->folder[0] = '\0';
	for (int i = 1; i < 32; i++)
		(void)sigaction(i, NULL, &s->signals[i]);
}

/* NULL: nothing has changed. */
static const char *
changed(const struct seen *before, const struct seen *after)
{
	if (after->threads != before->threads)
		return "loading it starts a thread; a plugin does nothing before create()";
	if (after->descriptors > before->descriptors)
		return "loading it opens a descriptor; a plugin does nothing before create()";
	if (after->mask != before->mask)
		return "loading it changes the umask";
	if (strcmp(after->folder, before->folder) != 0)
		return "loading it changes the working directory";
	for (int i = 1; i < 32; i++) {
		if (after->signals[i].sa_handler != before->signals[i].sa_handler)
			return "loading it sets a signal handler";
	}
	return NULL;
}

static int
child(const char *path, int out)
{
	struct seen before, after;
	const char *why;

	(void)alarm(LOAD_SECONDS);
	look(&before);
	if (dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL) == NULL) {
		why = dlerror();
		if (why != NULL && strncmp(why, path, strlen(path)) == 0 &&
		    why[strlen(path)] == ':')
			why += strlen(path) + 2;
		if (why == NULL)
			why = "it cannot be loaded";
	} else {
		look(&after);
		why = changed(&before, &after);
	}
	if (why == NULL)
		why = LOADED;
	(void)!write(out, why, strlen(why));
	return why != LOADED;
}

int
grapnel_harness_load_check(const char *path, char *error, size_t error_size)
{
	char absolute[PATH_MAX];
	int pipes[2], status = 0;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (dlsym(RTLD_DEFAULT, "__asan_init") != NULL ||
	    dlsym(RTLD_DEFAULT, "__tsan_init") != NULL ||
	    dlsym(RTLD_DEFAULT, "__ubsan_handle_add_overflow_abort") != NULL) {
		snprintf(error, error_size, "this program is built with a sanitizer");
		return GRAPNEL_EUNSUPPORTED;
	}
	if (realpath(path, absolute) == NULL || pipe2(pipes, O_CLOEXEC) != 0) {
		snprintf(error, error_size, "%s", strerror(errno));
		return GRAPNEL_ESYS;
	}
	pid = fork();
	if (pid == 0)
		_exit(child(absolute, pipes[1]));
	close(pipes[1]);
	while (pid > 0 && len + 1 < error_size &&
	    (n = read(pipes[0], error + len, error_size - len - 1)) > 0)
		len += (size_t)n;
	error[len] = '\0';
	close(pipes[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		snprintf(error, error_size, "%s", strerror(errno));
		return GRAPNEL_ESYS;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && strcmp(error, LOADED) == 0)
		return GRAPNEL_OK;
	if (strstr(error, "__asan_") != NULL || strstr(error, "__tsan_") != NULL ||
	    strstr(error, "__ubsan_") != NULL)
		return GRAPNEL_EUNSUPPORTED;
	if (WIFEXITED(status) && error[0] == '\0')
		snprintf(error, error_size, "loading it ends the process (status %d)",
		    WEXITSTATUS(status));
	if (WIFSIGNALED(status))
		snprintf(error, error_size,
		    WTERMSIG(status) == SIGALRM ? "loading it does not end"
						: "loading it crashes (signal %d)",
		    WTERMSIG(status));
	return GRAPNEL_EFAULT;
}
