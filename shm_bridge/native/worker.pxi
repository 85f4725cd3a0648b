# The worker's side: the state of its lane, and the ordinary question's way through it.

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


cdef class LaneState:
    """As ``lane_state.LaneState``, with the ordinary question's way as methods."""

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
    cdef uint64_t questions, question_base, frame_base, verdict_base

    def __init__(
        self, memory, attachment, Sleeper sleeper not None, uint64_t first_ticket, uint64_t first_frame, int64_t spin_ns
    ):
        spec = memory.spec
        self.words, self.verdicts = memory.words, memory.verdict_words
        self.question_base, self.frame_base, self.verdict_base = (
            memory.question_base, memory.frame_base, memory.verdict_base
        )
        self.questions, self.capacity, self.retain = spec.question_slots, spec.frames, spec.retain
        if (<uint64_t>self.words.shape[0] < max(self.question_base + self.questions * RECORD,
                                                self.frame_base + <uint64_t>self.capacity * FRAME)
                or <uint64_t>self.verdicts.shape[0] < self.verdict_base + self.questions * RECORD):
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
        """Keeps a frame that was shown."""
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
        """Keeps a question that was written."""
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
            if not self.sleeper.wait_for(look, now, self.spin_ns, now + in_ns(timeout)):
                self.waited_ns = monotonic_ns() - now
                return None
        return self.collect(question)

    def collect(self, question):
        """The verdict on an Open, when it is there and has no values; with it the question is closed and its frames are free."""
        cdef uint64_t found[ANSWERED_NS]
        cdef uint64_t position = (<tuple>question)[6]
        cdef int64_t asked_ns = (<tuple>question)[7]
        cdef double value, probability
        cdef int at
        if self.words is None or position > <uint64_t>self.verdicts.shape[0] - RECORD:
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
