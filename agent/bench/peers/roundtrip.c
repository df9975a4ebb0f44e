/* One byte string of 64 bytes there and back over a unix socket pair between two processes, each pinned to a core.
   usage: roundtrip CORE_A CORE_B COUNT; prints the round trips' times in ns, one a line. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64 };

static void pin(int core) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0) {
		perror("sched_setaffinity");
		exit(1);
	}
}

int main(int argc, char **argv) {
	int fds[2], count;
	char buf[SIZE] = {0};
	if (argc != 4 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		return 1;
	count = atoi(argv[3]);
	if (fork() == 0) {
		pin(atoi(argv[2]));
		close(fds[0]);
		while (read(fds[1], buf, SIZE) == SIZE)
			if (write(fds[1], buf, SIZE) != SIZE)
				break;
		_exit(0);
	}
	pin(atoi(argv[1]));
	close(fds[1]);
	for (int i = 0; i < count; i++) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		if (write(fds[0], buf, SIZE) != SIZE || read(fds[0], buf, SIZE) != SIZE)
			return 1;
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000LL + (b.tv_nsec - a.tv_nsec));
	}
	close(fds[0]);
	wait(NULL);
	return 0;
}
