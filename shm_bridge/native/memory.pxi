# What is needed of C: words that other processes read and write, the clock, semaphores, tuples with names.

cdef extern from *:
    """
    #include <Python.h>
    #include <sched.h>
    #include <semaphore.h>
    #include <time.h>
    static inline uint64_t load_word(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void store_word(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline void fetch_ahead(const void *record) { /* two lines of the cache, which the other side wrote last */
        __builtin_prefetch(record), __builtin_prefetch((const char *)record + 64);
    }
    static inline void full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline int64_t monotonic_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static inline int sleep_on(sem_t *semaphore, int64_t until) {
        struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
        return sem_clockwait(semaphore, CLOCK_MONOTONIC, &t) == 0;
    }
    /* An instance whose slots are still empty: the class's own __init__ costs ten times as much. */
    static inline PyObject *blank(PyObject *type) { return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0); }
    /* The fields as one of a NamedTuple's class. */
    static inline PyObject *named(PyObject *type, PyObject *fields) {
        Py_ssize_t count = PyTuple_GET_SIZE(fields);
        PyObject *result = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, count);
        for (Py_ssize_t at = 0; result && at < count; at++) {
            PyObject *field = PyTuple_GET_ITEM(fields, at);
            Py_INCREF(field);
            PyTuple_SET_ITEM(result, at, field);
        }
        return result;
    }
    static inline void relax(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("yield");
    #endif
    }
    """
    ctypedef struct sem_t:
        pass
    uint64_t load_word(const uint64_t *) noexcept nogil
    void store_word(uint64_t *, uint64_t) noexcept nogil
    void fetch_ahead(const void *) noexcept nogil
    void full_fence() noexcept nogil
    int64_t monotonic_ns() noexcept nogil
    bint sleep_on(sem_t *, int64_t) noexcept nogil
    object blank(object)
    object named(object, tuple)
    void relax() noexcept nogil
    int sched_yield() noexcept nogil
    int sem_post(sem_t *) noexcept nogil
    int sem_trywait(sem_t *) noexcept nogil


cdef int outside() except -1:
    raise IndexError("outside the memory")


cdef int64_t in_ns(double seconds) noexcept:
    """A time to wait, as nanoseconds; 0 for what is none, 30 years for what is for ever."""
    return 0 if not seconds > 0 else <int64_t>(min(seconds, 1e9) * 1e9)
