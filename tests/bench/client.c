/* Open, read and close a file for some seconds; print how often, and how often a second. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 1, began = now();
	char buffer[256];
	long n = 0;

	do {
		int fd = open(argv[1], O_RDONLY);

		if (fd < 0 || read(fd, buffer, sizeof(buffer)) <= 0 || close(fd) < 0) {
			perror(argv[1]);
			return 1;
		}
	} while (++n % 16 || now() - began < seconds);
	printf("%ld %f\n", n, n / (now() - began));
	return 0;
}
