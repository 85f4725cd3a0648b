# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The optional compiled helper: the ordinary question's way through the bridge, for ``shm_bridge.native``.

    worker                                                  sidecar
    Ledger.reserve -> (render) -> submit -> receive         News.spin -> News.take -> Served.take -> Served.answer
         or Ledger.send -------------^ |        ^                 ^                                      |
                                       |        +------------- Bell (its own) ---------------------------+
                                       +-- LaneBell -> Bell (the sidecar's)

It takes only what is in order. Whatever is not (another kind, several questions, a word out of its bounds, a lane that
is closed) it leaves untouched and says None, and the Python code beside the caller goes through all of it. So every
check is made here or there, and none is made here alone. Each shared word is read once, into a local, before it is
looked at. A method holds the interpreter's lock from its first check to its last store, so that no other thread comes
in between; only spinning and sleeping let it go, and look at nothing but memory they keep alive themselves.
"""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy

from shm_bridge import counters, layout, waiting
from shm_bridge.frames import FrameSlot
from shm_bridge.layout import FrameWord, QuestionWord, ServerWord, SidecarWord, TrainerWord, WorkerWord
from shm_bridge.ledger import Open
from shm_bridge.question import Question
from shm_bridge.spec import Kind, Phase, Status, Verdict

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
    /* As fast as memcpy, and always: glibc's takes one string instruction for as much as a frame, which on some
     * processors is 16 times slower when the target lies less than 64 bytes behind the source within their pages. */
    typedef long long chunk __attribute__((vector_size(16), aligned(1), may_alias));
    static inline void copy_bytes(uint8_t *to, const uint8_t *from, Py_ssize_t count) {
        Py_ssize_t at = 0;
        for (; at + 64 <= count; at += 64) {
            const chunk *source = (const chunk *)(from + at);
            chunk *target = (chunk *)(to + at), a = source[0], b = source[1], c = source[2], d = source[3];
            target[0] = a, target[1] = b, target[2] = c, target[3] = d;
            __asm__ volatile("" ::: "memory"); /* or the compiler sees through it and calls memcpy */
        }
        memcpy(to + at, from + at, count - at);
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
    void copy_bytes(uint8_t *, const uint8_t *, Py_ssize_t) noexcept nogil
    object blank(object)
    object named(object, tuple)
    void relax() noexcept nogil
    int sched_yield() noexcept nogil
    int sem_post(sem_t *) noexcept nogil
    int sem_trywait(sem_t *) noexcept nogil

VERSION = 2
LOOKS = 512  # of a spinner between two yields: about ten microseconds
FIELDS = layout.VERDICT.format

cdef uint64_t HALF = <uint64_t>1 << 63
cdef enum:  # of a verdict's record; FIELDS is compared in native.py
    STATUS = 1, IS_DONE, IS_VALID, A_VALUE, PROBABILITY, EPOCH, QUEUE_US, ENGINE_US, BATCH, VALUES, ANSWERED_NS
    RECORD = 16  # words of a question's and of a verdict's record
    FRAME = 4  # words of a frame's record
    LATENCY_BUCKETS = 127  # and one for all that is slower
cdef int WORKER = layout.WORKER_OFFSET // 8
cdef int ASKED = WORKER + WorkerWord.ASKED, CANCELLED = WORKER + WorkerWord.CANCELLED
cdef int PUBLISHED_SEQ = WORKER + WorkerWord.PUBLISHED, TASK_SEQ = WORKER + WorkerWord.TASK_SEQ
cdef int KIND = QuestionWord.KIND, Q_EPISODE = QuestionWord.EPISODE, FIRST = QuestionWord.FIRST
cdef int LAST = QuestionWord.LAST, STRIDE = QuestionWord.STRIDE, COUNT = QuestionWord.COUNT_FRAMES
cdef int FIRST_SEQ = QuestionWord.FIRST_SEQ, LAST_SEQ = QuestionWord.LAST_SEQ
cdef int ASKED_NS = QuestionWord.ASKED_NS, DEADLINE_NS = QuestionWord.DEADLINE_NS
cdef int STATE = FrameWord.STATE, SEQ = FrameWord.SEQ, STEP = FrameWord.STEP, F_EPISODE = FrameWord.EPISODE
cdef uint64_t WRITING = layout.FrameState.WRITING, PUBLISHED = layout.FrameState.PUBLISHED
cdef int ANSWERED = SidecarWord.ANSWERED
cdef int ACK_SEQ = ServerWord.ACK_SEQ, VERDICTS = ServerWord.VERDICTS, INVALID = ServerWord.INVALID
cdef int LATENCY = ServerWord.LATENCY, BATCHES = ServerWord.BATCHES, BATCH_BUCKETS = counters.BATCH_BUCKETS
cdef int QUESTIONS = ServerWord.QUESTIONS
cdef int REQUEST_SEQ = TrainerWord.REQUEST_SEQ, REQUEST_PHASE = TrainerWord.REQUEST_PHASE
cdef uint64_t ROLLOUT = Phase.ROLLOUT, UPDATE = Phase.UPDATE
cdef uint64_t DONE_KIND = Kind.DONE
cdef int64_t U32 = (<int64_t>1 << 32) - 1
cdef object DONE = Kind.DONE, OK = Status.OK, A_SLOT = FrameSlot, A_QUESTION = Question, A_VERDICT = Verdict, AN_OPEN = Open
cdef int looks = LOOKS, DRAIN_LIMIT = 4096, THERE = waiting.THERE
cdef int64_t early_ns = waiting.EARLY_NS, slice_ns = waiting.SLICE_NS
cdef int64_t edges_ns[LATENCY_BUCKETS]


if len(counters.EDGES_NS) != LATENCY_BUCKETS:
    raise ImportError("the helper is of another version")
for number, edge in enumerate(counters.EDGES_NS):
    edges_ns[number] = edge


cdef int outside() except -1:
    raise IndexError("outside the memory")


cdef class Bell:
    """As ``waiting.Bell``. ``words`` holds the waiter's parked word at ``flag``, ``address`` is of its sem_t."""

    cdef const uint64_t[::1] words
    cdef const uint64_t *flag
    cdef sem_t *semaphore
    cdef uint64_t rung_for

    def __init__(self, const uint64_t[::1] words not None, Py_ssize_t flag, uintptr_t address):
        if not 0 <= flag < words.shape[0]:
            outside()
        self.words, self.flag = words, &words[flag]
        self.semaphore = <sem_t *>address

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
    """As ``waiting.LaneBell``: a lane's word among the bells, and the sidecar's doorbell."""

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
    """What is waited for. Called: whether it is there."""

    cdef bint there(self) noexcept nogil:
        return False

    def __call__(self):
        return self.there()

    def spin(self, int64_t until):
        """Looks until it is there or ``until``, monotonic ns; whether it is there."""
        return self.spin_until(until)

    cdef bint spin_until(self, int64_t until) noexcept:
        cdef bint found = look_for(self)  # at first without letting the interpreter's lock go, which takes as long
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


cdef inline bint look_for(Look look) noexcept nogil:
    cdef int left
    for left in range(looks):
        if look.there():
            return True
        relax()
    return False


cdef bint spin_for(Look look, int64_t until) noexcept nogil:
    while monotonic_ns() < until:
        sched_yield()  # with more spinners than cores the one that is waited for must get its turn
        if look_for(look):
            return True
    return False


cdef class Sleeper:
    """As ``waiting.Sleeper``. ``words`` has the parked word at ``flag``, ``address`` is of the sem_t."""

    cdef uint64_t[::1] words
    cdef uint64_t *parked
    cdef sem_t *semaphore
    cdef public uint64_t number

    def __init__(self, uint64_t[::1] words not None, Py_ssize_t flag, uintptr_t address):
        if not 0 <= flag < words.shape[0]:
            outside()
        self.words, self.parked, self.semaphore = words, &words[flag], <sem_t *>address
        self.number = monotonic_ns()  # no predecessor's sleep had a number as high
        store_word(self.parked, 0)

    def doze(self, ready, int64_t until):
        """One sleep; as ``waiting.Sleeper.doze``."""
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
        if spin_ns and look.spin_until(min(now + spin_ns, until)):
            return True
        return self.doze_for(look, min(now + slice_ns, until)) == THERE


cdef class News(Look):
    """As ``news.News``. Lanes that are new, gone, or ask what is not ordinary are left in ``others``."""

    cdef const uint64_t[::1] bells, generations, trainer
    cdef uint64_t[::1] seen, server
    cdef Py_ssize_t count, turn
    cdef list rows
    cdef readonly list others
    cdef list held  # taken already, for the next take()
    cdef bint holding
    cdef uint64_t own
    cdef public Sleeper sleeper
    cdef int64_t spin_ns
    cdef public int64_t tidy_at
    cdef readonly int64_t waited_ns

    def __init__(
        self, const uint64_t[::1] bells not None, const uint64_t[::1] generations not None,
        uint64_t[::1] server not None, const uint64_t[::1] trainer not None, list rows not None,
    ):
        self.count = bells.shape[0]
        if generations.shape[0] < self.count or len(rows) < self.count or server.shape[0] <= ACK_SEQ or trainer.shape[0] < 2:
            outside()
        self.bells, self.generations, self.server, self.trainer, self.rows = bells, generations, server, trainer, rows
        self.seen = memoryview(bytearray(self.count * 8)).cast("Q")
        for at in range(self.count):  # at first every lane has rung
            self.seen[at] = load_word(&bells[at]) - 1
        self.others, self.held = [], []

    def equip(self, Sleeper sleeper not None, int64_t spin_ns):
        """For ``take_within``."""
        self.sleeper, self.spin_ns = sleeper, spin_ns

    @property
    def rung(self):
        return load_word(&self.own) != 0

    @rung.setter
    def rung(self, bint value):
        store_word(&self.own, value)

    @property
    def phase_pending(self):
        return self.count > 0 and self.asked_phase()

    cdef inline bint asked_phase(self) noexcept nogil:
        cdef uint64_t phase
        if load_word(&self.trainer[REQUEST_SEQ]) == load_word(&self.server[ACK_SEQ]):
            return False
        phase = load_word(&self.trainer[REQUEST_PHASE])
        return phase == ROLLOUT or phase == UPDATE

    cdef bint there(self) noexcept nogil:
        if self.count == 0:
            return False
        return (self.holding or memcmp(&self.bells[0], &self.seen[0], self.count * 8) != 0 or load_word(&self.own) != 0
                or self.asked_phase())

    def take(self):
        """Looks once at each lane that rang: the questions; the lane that comes first moves on from call to call."""
        questions, self.held = self.held, []
        if not self.holding:
            self.others = []
        self.holding = False
        self.sweep(self.turn, self.count, questions)
        self.sweep(0, min(self.turn, self.count), questions)
        return questions

    def take_within(self, double timeout):
        """Waits, at most a slice, and takes. None when there is more to be done than that: nothing came, a lane needs a
        longer look, or ``tidy_at`` is over; ``waited_ns`` says how long it took, and nothing is lost."""
        cdef int64_t now = monotonic_ns()
        cdef Py_ssize_t first = self.turn
        self.waited_ns = 0
        if self.count == 0 or self.sleeper is None or self.holding or now >= self.tidy_at:
            return None
        if not self.there() and not self.sleeper.wait_for(self, now, self.spin_ns, now + <int64_t>(max(timeout, 0.0) * 1e9)):
            self.waited_ns = monotonic_ns() - now
            return None
        questions = []
        self.others = []
        self.sweep(first, self.count, questions)
        self.sweep(0, min(first, self.count), questions)
        if self.others:
            self.held, self.holding = questions, True
            return None
        store_word(&self.own, 0)
        store_word(&self.server[QUESTIONS], load_word(&self.server[QUESTIONS]) + <uint64_t>len(questions))
        return questions

    cdef int sweep(self, Py_ssize_t at, Py_ssize_t end, list questions) except -1:
        cdef Py_ssize_t block
        cdef uint64_t bell
        if at < end and memcmp(&self.bells[at], &self.seen[at], (end - at) * 8) == 0:
            return 0
        while at < end:
            block = min(end - at, 64)
            if memcmp(&self.bells[at], &self.seen[at], block * 8) == 0:
                at += block
                continue
            bell = load_word(&self.bells[at])  # before the lane is read: what comes later rings again
            if bell != self.seen[at]:
                self.seen[at] = bell
                if not questions and not self.others:
                    self.turn = at + 1
                self.look_at(at, questions)
            at += 1

    cdef inline int look_at(self, Py_ssize_t at, list questions) except -1:
        served = self.rows[at]
        if type(served) is Served and (<Served>served).generation == load_word(&self.generations[at]):
            question = (<Served>served).take()
            if question is not None:
                questions.append(question)
                return 0
        self.others.append(at)

    def close(self):
        self.count = 0
        self.bells = self.generations = self.trainer = None
        self.server = None


cdef class Answered(Look):
    """Whether the verdict record at ``position`` is of this ticket."""

    cdef const uint64_t[::1] verdicts
    cdef const uint64_t *word
    cdef uint64_t ticket

    def __init__(self, const uint64_t[::1] verdicts not None, Py_ssize_t position, uint64_t ticket):
        if not 0 <= position < verdicts.shape[0]:
            outside()
        self.verdicts, self.ticket = verdicts, ticket
        self.word = &verdicts[position]

    cdef bint there(self) noexcept nogil:
        return load_word(self.word) == self.ticket


cdef class Ledger:
    """As ``ledger.Ledger``, with the ordinary question's way as methods."""

    cdef public uint64_t seq, next_ticket, cancelled
    cdef public Py_ssize_t place, order
    cdef public object episode, reserved, value
    cdef public dict by_step, open
    cdef public list busy, images, seal, slots
    cdef readonly Py_ssize_t capacity
    cdef bint retain
    cdef object attachment
    cdef public Sleeper sleeper
    cdef int64_t spin_ns
    cdef readonly int64_t waited_ns
    cdef uint64_t[::1] words
    cdef const uint64_t[::1] verdicts
    cdef uint8_t[::1] part
    cdef Py_ssize_t shape[3]
    cdef Py_ssize_t frame_bytes, frames_at, stride
    cdef uint64_t questions, question_base, frame_base, verdict_base

    def __init__(
        self, memory, attachment, Sleeper sleeper not None, uint64_t first_ticket, uint64_t first_frame, int64_t spin_ns
    ):
        spec, plan, camera = memory.spec, memory.layout, memory.spec.cameras[0]
        self.words, self.verdicts, self.part = memory.words, memory.verdict_words, memory.worker_part
        self.shape[0], self.shape[1], self.shape[2] = camera.shape
        self.frame_bytes = camera.nbytes if len(spec.cameras) == 1 else 0
        self.frames_at, self.stride = plan.frames, plan.frame_stride
        self.question_base, self.frame_base, self.verdict_base = (
            memory.question_base, memory.frame_base, memory.verdict_base
        )
        self.questions, self.capacity, self.retain = spec.question_slots, spec.frames, spec.retain
        if (self.words.shape[0] < max(self.question_base + self.questions * RECORD, self.frame_base + self.capacity * FRAME)
                or self.verdicts.shape[0] < self.verdict_base + self.questions * RECORD
                or self.part.shape[0] < self.frames_at + self.capacity * self.stride or self.stride < self.frame_bytes):
            outside()
        self.attachment, self.sleeper, self.spin_ns = attachment, sleeper, spin_ns
        self.seq, self.next_ticket, self.cancelled = first_frame, first_ticket, first_ticket - 1
        self.by_step, self.open = {}, {}
        self.busy, self.images, self.slots = [0] * spec.frames, [None] * spec.frames, [None] * spec.frames
        self.seal = [[] for _ in range(spec.frames)]

    def close(self):
        """From here on every method says None."""
        self.words = None
        self.verdicts = None
        self.part = None

    # --- frames

    cdef inline bint has_place(self) except -1:
        return not (self.words is None or self.episode is None or self.reserved is not None or self.busy[self.place]
                    or self.images[self.place] is None or (self.retain and self.order >= self.capacity))

    cdef inline int begin(self) except -1:
        old = self.slots[self.place]
        if old is not None:
            del self.by_step[old.step]
            self.slots[self.place] = None
        store_word(&self.words[self.frame_base + self.place * FRAME + STATE], WRITING)

    cdef inline object slot(self, step):
        slot = blank(A_SLOT)
        slot.index, slot.seq, slot.order, slot.episode = self.place, self.seq, self.order, self.episode
        slot._images, slot.step = self.images[self.place], step
        return slot

    def reserve(self):
        """The next frame's slot, its arrays writeable."""
        if not self.has_place():
            return None
        for setflags in <list>self.seal[self.place]:
            setflags(True)
        self.begin()
        self.reserved = self.slot(-1)
        return self.reserved

    cdef inline bint may_publish(self, slot, step) except -1:
        return (self.words is not None and slot is self.reserved and slot is not None and type(step) is int
                and 0 <= step < HALF and step not in self.by_step)

    cdef inline int show(self, uint64_t step) except -1:
        """The frame's record, its state last."""
        cdef uint64_t *record = &self.words[self.frame_base + self.place * FRAME]
        store_word(record + STEP, step)
        store_word(record + F_EPISODE, <uint64_t>self.episode)
        store_word(record + SEQ, self.seq)
        store_word(record + STATE, PUBLISHED)

    cdef inline int keep(self, slot, step) except -1:
        """The books of a frame that was shown."""
        cdef Py_ssize_t place = self.place
        store_word(&self.words[PUBLISHED_SEQ], self.seq)
        self.by_step[step] = slot
        self.slots[place] = slot
        self.reserved = None
        self.order += 1
        self.seq += 1
        self.place = place + 1 if place + 1 < self.capacity else 0

    def publish(self, slot, step):
        """True when it is done."""
        if not self.may_publish(slot, step):
            return None
        self.attachment.bell.announce()
        self.show(step)
        self.finish(slot, step)
        return True

    cdef inline int finish(self, slot, step) except -1:
        """The arrays that were handed out turn read-only."""
        for setflags in <list>self.seal[self.place]:
            setflags(False)
        slot.step = step
        self.keep(slot, step)

    # --- questions

    cdef inline LaneBell room(self):
        """The bell to ring when one more question may be asked."""
        if (self.next_ticket - self.questions) in self.open:
            return None
        bell = self.attachment.bell
        return <LaneBell>bell if type(bell) is LaneBell else None

    cdef inline int64_t write(
        self, LaneBell bell, uint64_t episode, uint64_t place, uint64_t seq, int64_t lasts_ns
    ) except -1:
        """A question about one frame: its record, its sequence, ASKED, the bell; each seen after the one before it."""
        cdef uint64_t ticket = self.next_ticket
        cdef uint64_t *record = &self.words[self.question_base + (ticket & (self.questions - 1)) * RECORD]
        cdef int64_t now = monotonic_ns()
        store_word(record + KIND, DONE_KIND)
        store_word(record + Q_EPISODE, episode)
        store_word(record + FIRST, place)
        store_word(record + LAST, place)
        store_word(record + STRIDE, 1)
        store_word(record + COUNT, 1)
        store_word(record + FIRST_SEQ, seq)
        store_word(record + LAST_SEQ, seq)
        store_word(record + ASKED_NS, <uint64_t>now)
        store_word(record + DEADLINE_NS, 0 if lasts_ns < 0 else <uint64_t>(now + lasts_ns))
        store_word(record, ticket)
        store_word(&self.words[ASKED], ticket)
        bell.strike()
        return now

    cdef inline object enter(self, episode, step, Py_ssize_t place, int64_t now):
        """The books of a question that was written."""
        cdef uint64_t at = self.verdict_base + (self.next_ticket & (self.questions - 1)) * RECORD
        ticket = self.next_ticket
        self.open[ticket] = named(AN_OPEN, (ticket, DONE, episode, step, (place,), 1, at, now))
        self.next_ticket += 1
        self.busy[place] = self.busy[place] + 1
        return ticket

    def ask(self, slot, int64_t lasts_ns):
        """A DONE question about a published frame, or the frame of a step; its ticket."""
        cdef LaneBell bell
        if self.words is None:
            return None
        if type(slot) is int:
            slot = self.by_step.get(slot)
        if slot is None or type(slot) is not A_SLOT or self.by_step.get(slot.step) is not slot:
            return None
        bell = self.room()
        if bell is None:
            return None
        bell.bell.strike()
        return self.enter(slot.episode, slot.step, slot.index,
                          self.write(bell, slot.episode, slot.index, slot.seq, lasts_ns))

    def submit(self, slot, step, int64_t lasts_ns):
        """``publish`` and ``ask`` in one; both or neither."""
        cdef LaneBell bell
        cdef Py_ssize_t place = self.place
        if not self.may_publish(slot, step):
            return None
        bell = self.room()
        if bell is None:
            return None
        bell.bell.strike()
        self.show(step)
        now = self.write(bell, self.episode, place, self.seq, lasts_ns)
        self.finish(slot, step)
        return self.enter(self.episode, step, place, now)

    def send(self, frame, step, int64_t lasts_ns):
        """``reserve``, the one copy and ``submit`` in one, for a lane of one camera and a contiguous frame of its shape;
        all or nothing."""
        cdef LaneBell bell
        cdef Py_buffer view
        cdef Py_ssize_t place = self.place
        if not (self.frame_bytes and self.has_place() and type(step) is int and 0 <= step < HALF):
            return None
        if step in self.by_step:
            return None
        bell = self.room()
        if bell is None:
            return None
        bell.bell.strike()
        PyObject_GetBuffer(frame, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            if not (view.ndim == 3 and view.itemsize == 1 and view.format[0] == b"B" and view.len == self.frame_bytes
                    and view.shape[0] == self.shape[0] and view.shape[1] == self.shape[1]):
                return None
            self.begin()
            copy_bytes(&self.part[self.frames_at + place * self.stride], <const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        self.show(step)
        now = self.write(bell, self.episode, place, self.seq, lasts_ns)
        self.finish(self.slot(step), step)
        return self.enter(self.episode, step, place, now)

    # --- verdicts

    def answered(self, position, ticket):
        return Answered(self.verdicts, position, ticket)

    def receive(self, ticket, double timeout):
        """The verdict on a question; waits for it, at most a slice. None when there is more to be done than that;
        ``waited_ns`` says how long it took."""
        cdef Answered look
        cdef int64_t now
        cdef uint64_t position
        self.waited_ns = 0
        question = self.open.get(ticket)
        if self.words is None or question is None or self.cancelled - <uint64_t>ticket < HALF:
            return None
        position = (<tuple>question)[6]
        if load_word(&self.verdicts[position]) != <uint64_t>ticket:
            look = Answered(self.verdicts, position, ticket)
            now = monotonic_ns()
            if not self.sleeper.wait_for(look, now, self.spin_ns, now + <int64_t>(max(timeout, 0.0) * 1e9)):
                self.waited_ns = monotonic_ns() - now
                return None
        return self.collect(question)

    def collect(self, question):
        """A verdict without values that is there; with it the question is closed and its frames are free."""
        cdef uint64_t found[ANSWERED_NS]
        cdef uint64_t position = (<tuple>question)[6]
        cdef int64_t asked_ns = (<tuple>question)[7]
        cdef double value, probability
        cdef int at
        if self.words is None or position + RECORD > <uint64_t>self.verdicts.shape[0]:
            return None
        fetch_ahead(&self.verdicts[position])
        for at in range(STATUS, ANSWERED_NS):
            found[at] = load_word(&self.verdicts[position + at])
        if found[STATUS] or found[IS_DONE] > 1 or found[IS_VALID] > 1 or found[VALUES]:
            return None
        memcpy(&value, &found[A_VALUE], 8)
        memcpy(&probability, &found[PROBABILITY], 8)
        ticket = (<tuple>question)[0]
        del self.open[ticket]
        for place in <tuple>(<tuple>question)[4]:
            self.busy[place] = self.busy[place] - 1
        if self.value is not None and self.value == ticket:
            self.value = None
        return named(A_VERDICT, (
            ticket, (<tuple>question)[1], (<tuple>question)[2], (<tuple>question)[3],
            found[IS_VALID] == 1 and found[IS_DONE] == 1, value, probability, found[IS_VALID] == 1, OK, None,
            <uint64_t>(monotonic_ns() - asked_ns) // 1000, found[QUEUE_US], found[ENGINE_US], found[BATCH], found[EPOCH],
        ))


cdef class Tally:
    """As ``counters.Counters.verdict``, for one good answer."""

    cdef uint64_t[::1] words

    def __init__(self, uint64_t[::1] words not None):
        if words.shape[0] < ServerWord.COUNT:
            outside()
        self.words = words

    cdef inline void more(self, int word) noexcept:
        store_word(&self.words[word], load_word(&self.words[word]) + 1)

    cdef void verdict(self, int64_t latency_ns, bint valid, uint64_t batch) noexcept:
        cdef int low = 0, high = LATENCY_BUCKETS, middle
        while low < high:
            middle = (low + high) // 2
            if edges_ns[middle] < latency_ns:
                low = middle + 1
            else:
                high = middle
        self.more(VERDICTS)
        if not valid:
            self.more(INVALID)
        self.more(LATENCY + low)
        self.more(BATCHES + <int>min(batch, <uint64_t>(BATCH_BUCKETS - 1)))


cdef inline uint64_t limited(number) except? 0:
    """A count or a time as the record holds it."""
    cdef int overflow
    cdef int64_t value = PyLong_AsLongLongAndOverflow(number if type(number) is int else int(number), &overflow)
    return U32 if overflow > 0 or value > U32 else 0 if overflow < 0 or value < 0 else value


cdef class Served:
    """A ServedLane's next question, when it is an ordinary one, and its answer; and its ``served_lane.Intake``."""

    cdef object owner
    cdef public object taken, task_episode, task_seq, task
    cdef readonly uint64_t generation
    cdef const uint64_t[::1] words
    cdef uint64_t[::1] verdicts
    cdef Bell bell
    cdef uint64_t questions, frames, question_base, frame_base, verdict_base, epoch
    cdef Tally tally
    cdef object is_answering
    cdef public list views

    def __init__(
        self, owner, uint64_t generation, memory, Bell bell not None, Tally tally not None, uint64_t epoch, mutex
    ):
        self.owner, self.generation = owner, generation
        self.task, self.task_seq = "", -1
        self.tally, self.epoch, self.is_answering = tally, epoch, mutex.locked
        spec = memory.spec
        self.words, self.verdicts, self.bell = memory.words, memory.verdict_words, bell
        self.question_base, self.frame_base, self.verdict_base = (
            memory.question_base, memory.frame_base, memory.verdict_base
        )
        self.questions, self.frames = spec.question_slots, spec.frames
        if (<uint64_t>self.words.shape[0] < max(self.question_base + self.questions * RECORD, self.frame_base + self.frames * FRAME)
                or <uint64_t>self.verdicts.shape[0] < self.verdict_base + self.questions * RECORD):
            outside()

    def close(self):
        """From here on every method says None."""
        self.words = None
        self.verdicts = None
        self.owner = self.views = None

    cpdef take(self):
        """The next question, when it is the only new one, about one frame that is published and of the episode whose
        task was read, and not cancelled."""
        cdef uint64_t ticket, place, step
        cdef uint64_t record[RECORD]
        cdef const uint64_t *words
        cdef int at
        if self.words is None or self.taken is None or self.task_episode is None:
            return None
        ticket = <uint64_t>self.taken + 1
        place = (ticket & (self.questions - 1)) * RECORD
        words = &self.words[0]
        fetch_ahead(words + self.question_base + place)
        if load_word(words + ASKED) != ticket or load_word(&self.verdicts[self.verdict_base + place]) == ticket:
            return None
        for at in range(DEADLINE_NS + 1):
            record[at] = load_word(words + self.question_base + place + at)
        if record[0] != ticket or load_word(words + CANCELLED) - ticket < HALF:
            return None
        if record[KIND] != DONE_KIND or record[FIRST] >= self.frames or record[LAST] != record[FIRST]:
            return None
        if record[STRIDE] < 1 or record[COUNT] != 1 or record[LAST_SEQ] != record[FIRST_SEQ]:
            return None
        if record[ASKED_NS] >= HALF or record[DEADLINE_NS] >= HALF:
            return None
        if record[Q_EPISODE] != <uint64_t>self.task_episode or load_word(words + TASK_SEQ) != <uint64_t>self.task_seq:
            return None
        words += self.frame_base + record[FIRST] * FRAME
        step = load_word(words + STEP)
        if (load_word(words + STATE) != PUBLISHED or load_word(words + F_EPISODE) != record[Q_EPISODE]
                or load_word(words + SEQ) != record[FIRST_SEQ]):
            return None
        self.taken = ticket
        return named(A_QUESTION, (
            self.owner, self.taken, DONE, self.task_episode, self.task, (record[FIRST],), (step,), record[FIRST_SEQ], record[ASKED_NS],
            record[DEADLINE_NS],
        ))

    def images(self, places):
        """Of ``views`` those of the places, when all were made."""
        if self.views is None:
            return None
        if len(<tuple>places) == 1:
            view = self.views[(<tuple>places)[0]]
            return None if view is None else (view,)
        images = []
        for place in <tuple>places:
            view = self.views[place]
            if view is None:
                return None
            images.append(view)
        return tuple(images)

    def answer(self, question, bint done, double value, double probability, bint valid, queue_us, engine_us, batch_size):
        """Writes a verdict with status OK and no values, its sequence last, wakes the worker and counts it. None, and
        nothing written, when it would not be the first, nobody waits for it any more, or another thread is at it."""
        cdef uint64_t ticket = (<tuple>question)[1], place = (ticket & (self.questions - 1)) * RECORD
        cdef uint64_t waited_us = limited(queue_us), computed_us = limited(engine_us), batch = limited(batch_size)
        cdef uint64_t *record
        cdef int64_t now = monotonic_ns()
        if self.words is None or self.is_answering():
            return None
        self.bell.strike()  # early: the worker wakes while the verdict is being written
        record = &self.verdicts[self.verdict_base + place]
        if load_word(record) == ticket or load_word(&self.words[self.question_base + place]) != ticket:
            return None
        if load_word(&self.words[CANCELLED]) - ticket < HALF:
            return None
        store_word(record + STATUS, 0)
        store_word(record + IS_DONE, done)
        store_word(record + IS_VALID, valid)
        memcpy(record + A_VALUE, &value, 8)
        memcpy(record + PROBABILITY, &probability, 8)
        store_word(record + EPOCH, self.epoch)
        store_word(record + QUEUE_US, waited_us)
        store_word(record + ENGINE_US, computed_us)
        store_word(record + BATCH, batch)
        store_word(record + VALUES, 0)
        store_word(record + ANSWERED_NS, <uint64_t>now)
        store_word(record, ticket)
        store_word(&self.verdicts[ANSWERED], load_word(&self.verdicts[ANSWERED]) + 1)
        full_fence()
        self.bell.strike()
        self.tally.verdict(now - <int64_t>(<tuple>question)[8], valid, batch)
        return True
