/* SPDX-License-Identifier: Apache-2.0 */
/* secret - passwords from a terminal or a pipe */
#include "ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t caught;

static void
on_signal(int signal)
{
	caught = signal;
}

/* One line into *line (getline's buffer). -1: end, error or signal. The line's end is cut. */
ssize_t
secret_line(char **line, size_t *size)
{
	ssize_t n;

	errno = 0;
	n = getline(line, size, stdin);
	if (n < 0)
		return -1;
	if (n > 0 && (*line)[n - 1] == '\n')
		n--;
	if (n > 0 && (*line)[n - 1] == '\r')
		n--;
	(*line)[n] = '\0';
	return n;
}

/* Ask on the terminal, without echo; a signal restores it and is raised again. */
ssize_t
secret_prompt(const char *question, char **line, size_t *size)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction catch = { .sa_handler = on_signal }, old[4];
	struct termios before, quiet;
	ssize_t n = -1;

	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return -1;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	quiet.c_lflag |= ECHONL;
	caught = 0;
	sigemptyset(&catch.sa_mask);
	for (size_t i = 0; i < 4; i++)
		sigaction(signals[i], &catch, &old[i]);
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0) {
		fputs(question, stderr);
		n = secret_line(line, size);
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	}
	for (size_t i = 0; i < 4; i++)
		sigaction(signals[i], &old[i], NULL);
	if (caught != 0) {
		fputc('\n', stderr);
		raise(caught);
		return -1;
	}
	return n;
}

void
secret_wipe(char *line, size_t size)
{
	if (line != NULL)
		explicit_bzero(line, size);
	free(line);
}
