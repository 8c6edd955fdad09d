/* Copyright The c7n-keyrot Authors.
 * SPDX-License-Identifier: Apache-2.0
 * The time of day of whoever loads this library is SHIFT seconds ahead, and so are files' times; see
 * at.sh. Clocks that only measure how long something takes stay as they are, so that threads that
 * wait are woken in time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static int is_time_of_day(clockid_t clock) {
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
	static int (*real)(clockid_t, struct timespec *);
	if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
	int failed = real(clock, now);
	if (!failed && is_time_of_day(clock)) now->tv_sec += SHIFT;
	return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
	struct timespec exact;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *to) {
	struct timespec exact;
	clock_gettime(CLOCK_REALTIME, &exact);
	if (to) *to = exact.tv_sec;
	return exact.tv_sec;
}

/* Python 3.10 says until when it waits. */
int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
	static int (*real)(sem_t *, const struct timespec *);
	if (!real) real = dlsym(RTLD_NEXT, "sem_timedwait");
	struct timespec earlier = {until->tv_sec - SHIFT, until->tv_nsec};
	return real(semaphore, &earlier);
}

/* Each has two names, as programs are built for small or large files. */
#define FILE_TIMES(name, parameters, ...) \
	int name parameters { \
		static int (*real) parameters; \
		if (!real) real = dlsym(RTLD_NEXT, #name); \
		int failed = real(__VA_ARGS__); \
		if (!failed) { \
			file->st_atim.tv_sec += SHIFT; \
			file->st_mtim.tv_sec += SHIFT; \
			file->st_ctim.tv_sec += SHIFT; \
		} \
		return failed; \
	}

FILE_TIMES(stat, (const char *path, struct stat *file), path, file)
FILE_TIMES(stat64, (const char *path, struct stat64 *file), path, file)
FILE_TIMES(lstat, (const char *path, struct stat *file), path, file)
FILE_TIMES(lstat64, (const char *path, struct stat64 *file), path, file)
FILE_TIMES(fstat, (int fd, struct stat *file), fd, file)
FILE_TIMES(fstat64, (int fd, struct stat64 *file), fd, file)
FILE_TIMES(fstatat, (int fd, const char *path, struct stat *file, int flags), fd, path, file, flags)
FILE_TIMES(fstatat64, (int fd, const char *path, struct stat64 *file, int flags), fd, path, file, flags)

static const struct timespec *unshifted(const struct timespec to[2], struct timespec into[2]) {
	for (int i = 0; to && i < 2; i++) {
		into[i] = to[i];
		if (to[i].tv_nsec != UTIME_NOW && to[i].tv_nsec != UTIME_OMIT) into[i].tv_sec -= SHIFT;
	}
	return to ? into : to;
}

int utimensat(int fd, const char *path, const struct timespec to[2], int flags) {
	static int (*real)(int, const char *, const struct timespec[2], int);
	if (!real) real = dlsym(RTLD_NEXT, "utimensat");
	struct timespec into[2];
	return real(fd, path, unshifted(to, into), flags);
}

int futimens(int fd, const struct timespec to[2]) {
	static int (*real)(int, const struct timespec[2]);
	if (!real) real = dlsym(RTLD_NEXT, "futimens");
	struct timespec into[2];
	return real(fd, unshifted(to, into));
}
