/* How often and for how long this machine takes a core away (timer ticks, its hypervisor) from who only looks at the clock.
 * usage: pauses CORE (-1: any) SECONDS; prints how many pauses there were over 5 us, and the ns of all of them. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int core = atoi(argv[1]);
    cpu_set_t set;
    CPU_ZERO(&set);
    if (core >= 0) CPU_SET(core, &set), sched_setaffinity(0, sizeof set, &set);
    uint64_t last = now(), end = last + (uint64_t)(atof(argv[2]) * 1e9), count = 0, total = 0;
    while (last < end) {
        uint64_t next = now();
        if (next - last > 5000) count++, total += next - last;
        last = next;
    }
    printf("%llu %llu\n", (unsigned long long)count, (unsigned long long)total);
    return 0;
}
