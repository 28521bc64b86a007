/* A system clock that a test can set: LD_PRELOAD it, and the file in QT_ROS_TEST_CLOCK holds what is added, int64 ns.

   The kernel knows nothing of it, so what waits until a time of the system clock is told the kernel's time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define LONG_AGO 1000000000 /* s: no computer is switched on for so long, so later times are of the system clock */

static const volatile int64_t *added;

__attribute__((constructor)) static void open_offset(void) {
  const char *path = getenv("QT_ROS_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  added = page == MAP_FAILED ? NULL : page;
}

static struct timespec shifted(struct timespec at, int64_t by) {
  int64_t ns = (int64_t)at.tv_sec * 1000000000 + at.tv_nsec + by;
  return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static struct timespec of_kernel(const struct timespec *until) {
  return added && until->tv_sec > LONG_AGO ? shifted(*until, -*added) : *until;
}

int clock_gettime(clockid_t id, struct timespec *now) {
  static __typeof__(&clock_gettime) real;
  if (!real) real = REAL(clock_gettime);
  int result = real(id, now);
  if (result == 0 && id == CLOCK_REALTIME && added) *now = shifted(*now, *added);
  return result;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
  struct timespec at = of_kernel(until);
  return REAL(pthread_cond_timedwait)(condition, mutex, &at);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
  struct timespec at = of_kernel(until);
  return REAL(pthread_mutex_timedlock)(mutex, &at);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
  struct timespec at = of_kernel(until);
  return REAL(sem_timedwait)(semaphore, &at);
}
