/*
 * static answers each connection with a byte, and is as small as a daemon can be:
 * what is measured of its start is what starting it costs.
 *
 *	static FD     serves the listener that the descriptor is
 *	static        serves descriptor 3, if LISTEN_PID is its own pid (sd_listen_fds(3))
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = 3;
	if (argc > 1) {
		fd = atoi(argv[1]);
	} else {
		const char *pid = getenv("LISTEN_PID");
		if (!pid || atoi(pid) != getpid())
			return 2;
	}
	for (;;) {
		int c = accept(fd, NULL, NULL);
		if (c < 0)
			return 1;
		if (write(c, "1", 1) != 1)
			return 1;
		close(c);
	}
}
