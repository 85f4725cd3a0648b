# How one side waits and the other wakes it; the Python of it is sync/parking.py.

cdef class Bell:
    """As ``parking.Bell``. ``words`` holds the waiter's parked word at ``flag``."""

    cdef const uint64_t[::1] words
    cdef const uint64_t *flag
    cdef sem_t *semaphore
    cdef uint64_t rung_for

    def __init__(self, const uint64_t[::1] words not None, Py_ssize_t flag, semaphore):
        if not 0 <= flag < words.shape[0]:
            outside()
        self.words, self.flag = words, &words[flag]
        self.semaphore = <sem_t *><uintptr_t>semaphore.address

    cdef inline void strike(self) noexcept:
        if self.semaphore == NULL:
            return
        cdef uint64_t number = load_word(self.flag)
        if number and number != self.rung_for:
            self.rung_for = number
            sem_post(self.semaphore)  # at its maximum it fails: whoever waits will wake

    def ring(self):
        self.strike()

    def close(self):
        """Silent from here on: the semaphore is about to be closed."""
        self.semaphore = NULL
        self.words = None


cdef class LaneBell:
    """As ``parking.LaneBell``: a lane's word among the bells, and the sidecar's doorbell."""

    cdef public uint64_t rings
    cdef uint64_t[::1] bells
    cdef Py_ssize_t index
    cdef Bell bell

    def __init__(self, uint64_t[::1] bells not None, Py_ssize_t index, Bell bell not None):
        if not 0 <= index < bells.shape[0]:
            outside()
        self.bells, self.index, self.bell = bells, index, bell
        self.rings = load_word(&bells[index])

    cdef inline void strike(self) noexcept:
        if self.bell.semaphore == NULL:
            return
        self.rings += 1
        store_word(&self.bells[self.index], self.rings)
        full_fence()
        self.bell.strike()

    def ring(self):
        self.strike()

    def announce(self):
        self.bell.strike()

    def close(self):
        self.bell.close()
        self.bells = None


cdef class Look:
    """What is waited for. Called: whether it is there. ``looks`` take ten to fifty microseconds."""

    cdef int looks

    def __cinit__(self):
        self.looks = LOOKS

    cdef bint there(self) noexcept nogil:
        return False

    def __call__(self):
        return self.there()

    def spin(self, int64_t until):
        """Looks until it is there or ``until``, monotonic ns; whether it is there."""
        return self.spin_until(until)

    cdef bint spin_until(self, int64_t until) noexcept:
        cdef bint found = look_for(self, self.looks)  # at first without letting the interpreter's lock go, which takes as long
        if not found:
            with nogil:
                found = spin_for(self, until)
        return found


cdef int drain(sem_t *semaphore) noexcept nogil:
    """Several may have posted for the last sleep: what is left of it would end the next one for nothing."""
    cdef int left
    for left in range(DRAIN_LIMIT):
        if sem_trywait(semaphore):
            return 0
    return 0


cdef bint glance_for(Look look, int64_t until) noexcept nogil:
    """Gives its core away between two looks."""
    while monotonic_ns() < until:
        sched_yield()
        if look.there():
            return True
    return False


cdef inline bint look_for(Look look, int looks) noexcept nogil:
    cdef int left
    for left in range(looks):
        if look.there():
            return True
        relax()
    return False


cdef bint spin_for(Look look, int64_t until) noexcept nogil:
    while monotonic_ns() < until:
        sched_yield()  # with more spinners than cores the one that is waited for must get its turn
        if look_for(look, look.looks // 8):
            return True
    return False


cdef class Sleeper:
    """As ``parking.Sleeper``. ``words`` has the parked word at ``flag``."""

    cdef uint64_t[::1] words
    cdef uint64_t *parked
    cdef sem_t *semaphore
    cdef public uint64_t number

    def __init__(self, uint64_t[::1] words not None, Py_ssize_t flag, semaphore):
        if not 0 <= flag < words.shape[0]:
            outside()
        self.words, self.parked, self.semaphore = words, &words[flag], <sem_t *><uintptr_t>semaphore.address
        self.number = monotonic_ns()  # no predecessor's sleep had a number as high
        store_word(self.parked, 0)

    def doze(self, ready, int64_t until):
        """One sleep; as ``parking.Sleeper.doze``."""
        cdef bint taken
        if isinstance(ready, Look):
            return self.doze_for(<Look>ready, until)
        self.lie_down()
        try:
            if ready():
                return THERE
            with nogil:
                taken = sleep_on(self.semaphore, until)
        finally:
            store_word(self.parked, 0)
        if ready():
            return THERE
        until = monotonic_ns() + early_ns
        while taken and monotonic_ns() < until:
            with nogil:
                sched_yield()
            if ready():
                return THERE
        return taken

    cdef inline void lie_down(self) noexcept:
        drain(self.semaphore)
        self.number += 1
        if self.number == 0:
            self.number = 1
        store_word(self.parked, self.number)
        full_fence()

    cdef int doze_for(self, Look look, int64_t until) noexcept:
        cdef bint found, taken
        self.lie_down()
        if look.there():
            store_word(self.parked, 0)
            return THERE
        with nogil:
            taken = sleep_on(self.semaphore, until)
            found = look.there()
            store_word(self.parked, 0)
            if taken and not found:
                found = glance_for(look, monotonic_ns() + early_ns)
        return THERE if found else taken

    cdef bint wait_for(self, Look look, int64_t now, int64_t spin_ns, int64_t until) noexcept:
        """Spins, then sleeps once; whether it is there."""
        if until <= now:
            return False
        if spin_ns and look.spin_until(min(now + spin_ns, until)):
            return True
        return self.doze_for(look, min(now + slice_ns, until)) == THERE
