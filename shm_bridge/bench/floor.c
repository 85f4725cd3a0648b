/* The floor: what two processes with two semaphores and one memcpy take which copy, then wake, then wait.
 * The client copies a frame into shared memory and posts; the server wakes, looks at both ends of the frame, posts back.
 * Timed as every other row: from before the copy until the answer is seen. Less than ours does: sleeps without an end
 * (ours: bounded, on the monotonic clock), no record, no checks, no verdict, no interpreter.
 * With SPIN both poll a word instead: what nobody beats who copies a frame and never sleeps.
 * usage: floor FRAME_BYTES WARMUP ROUNDS SERVER_CORE CLIENT_CORE (-1: any) GAP_US (between round trips) SPIN (0 or 1); prints ROUNDS
 * latencies in ns, then the CPU ns of both. */
#define _GNU_SOURCE
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct words { sem_t ask, answer; volatile uint32_t verdict; _Alignas(64) uint64_t asked; _Alignas(64) uint64_t answered; };

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void settle(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (core < 0) return;
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void tell(int spin, sem_t *semaphore, uint64_t *word, uint64_t value) {
    if (spin) __atomic_store_n(word, value, __ATOMIC_RELEASE);
    else sem_post(semaphore);
}

/* For the value-th time. */
static void await(int spin, sem_t *semaphore, uint64_t *word, uint64_t value) {
    for (long looks = 1; spin && __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; looks++)
        if (looks % 4096 == 0) sched_yield(); /* on one core the other must get its turn */
    while (!spin && sem_wait(semaphore)) {}
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    size_t bytes = strtoul(argv[1], 0, 10);
    long warmup = atol(argv[2]), rounds = atol(argv[3]);
    useconds_t gap = (useconds_t)atol(argv[6]);
    int spin = atoi(argv[7]);
    uint64_t turn = 0;
    size_t total = 4096 + bytes;
    char *shared = mmap(0, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *source = malloc(bytes);
    uint64_t *latency = malloc(sizeof(uint64_t) * (size_t)rounds);
    if (shared == MAP_FAILED || !source || !latency) return 3;
    struct words *w = (struct words *)shared;
    char *frame = shared + 4096;
    memset(source, 7, bytes);
    memset(frame, 1, bytes);
    sem_init(&w->ask, 1, 0);
    sem_init(&w->answer, 1, 0);
    pid_t child = fork();
    settle(atoi(argv[child == 0 ? 4 : 5]));
    if (child == 0) {
        for (long i = 0; i < warmup + rounds; i++) {
            await(spin, &w->ask, &w->asked, ++turn);
            w->verdict = (uint32_t)frame[0] + (uint32_t)frame[bytes - 1];
            tell(spin, &w->answer, &w->answered, turn);
        }
        _exit(0);
    }
    uint64_t cpu = 0;
    for (long i = -warmup; i < rounds; i++) {
        if (i == 0) cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        if (gap) usleep(gap);
        uint64_t start = now(CLOCK_MONOTONIC);
        memcpy(frame, source, bytes);
        tell(spin, &w->ask, &w->asked, ++turn);
        await(spin, &w->answer, &w->answered, turn);
        if (i >= 0) latency[i] = now(CLOCK_MONOTONIC) - start;
    }
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    waitpid(child, 0, 0);
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    cpu += (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
    for (long i = 0; i < rounds; i++) printf("%llu\n", (unsigned long long)latency[i]);
    printf("%llu\n", (unsigned long long)cpu);
    return 0;
}
