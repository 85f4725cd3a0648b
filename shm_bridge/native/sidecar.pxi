# The sidecar's side: which lanes rang, what they ask when it is ordinary, and the answer to that.

cdef class LaneScanner(Look):
    """As ``lane_table.LaneScanner``. Lanes that are new, gone, or ask what is not ordinary are left in ``others``."""

    cdef const uint64_t[::1] bells, generations, trainer
    cdef uint64_t[::1] seen, server
    cdef Py_ssize_t count, turn
    cdef list intakes
    cdef readonly list others
    cdef uint64_t own

    def __init__(
        self, const uint64_t[::1] bells not None, const uint64_t[::1] generations not None,
        uint64_t[::1] server not None, const uint64_t[::1] trainer not None, list intakes not None,
    ):
        self.count = bells.shape[0]
        if generations.shape[0] < self.count or len(intakes) < self.count:
            outside()
        if server.shape[0] < <Py_ssize_t>ServerWord.COUNT or trainer.shape[0] < <Py_ssize_t>TrainerWord.COUNT:
            outside()
        self.looks = max(LOOKS * 64 // (64 + self.count), 16)
        self.bells, self.generations, self.server, self.trainer, self.intakes = (
            bells, generations, server, trainer, intakes
        )
        self.seen = memoryview(bytearray(self.count * 8)).cast("Q")
        for at in range(self.count):  # at first every lane has rung
            self.seen[at] = load_word(&bells[at]) - 1
        self.others = []

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
        return (memcmp(&self.bells[0], &self.seen[0], self.count * 8) != 0 or load_word(&self.own) != 0
                or self.asked_phase())

    def take(self):
        """Looks once at each lane that rang: the questions; the lane that comes first moves on from call to call."""
        cdef Py_ssize_t first = self.turn
        questions, self.others = [], []
        self.sweep(first, self.count, questions)
        self.sweep(0, min(first, self.count), questions)
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
        served = self.intakes[at]
        if type(served) is Intake and (<Intake>served).generation == load_word(&self.generations[at]):
            question = (<Intake>served).take()
            if question is not None:
                questions.append(question)
                return 0
        self.others.append(at)

    def close(self):
        self.count = 0
        self.bells = self.generations = self.trainer = None
        self.server = None


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


cdef class Intake:
    """As ``question.Intake``: a ServedLane's next question, when it is an ordinary one, and its answer."""

    cdef object lane
    cdef public object taken, task_episode, task_seq, task
    cdef readonly uint64_t generation
    cdef const uint64_t[::1] words
    cdef uint64_t[::1] verdicts
    cdef Bell bell
    cdef uint64_t questions, frames, question_base, frame_base, verdict_base, epoch, next_frame
    cdef Tally tally
    cdef object is_answering
    cdef public list views

    def __init__(
        self, lane, uint64_t generation, memory, Bell bell not None, uint64_t[::1] counters not None, uint64_t epoch,
        mutex,
    ):
        self.lane, self.generation = lane, generation
        self.task, self.task_seq = "", -1
        self.tally, self.epoch, self.is_answering = Tally(counters), epoch, mutex.locked
        spec = memory.spec
        self.words, self.verdicts, self.bell = memory.words, memory.verdict_words, bell
        self.question_base, self.frame_base, self.verdict_base = (
            memory.question_base, memory.frame_base, memory.verdict_base
        )
        self.questions, self.frames = spec.question_slots, spec.frames
        if (<uint64_t>self.words.shape[0] < max(self.question_base + self.questions * RECORD,
                                                self.frame_base + self.frames * FRAME)
                or <uint64_t>self.verdicts.shape[0] < self.verdict_base + self.questions * RECORD):
            outside()

    def close(self):
        """From here on every method says None."""
        self.words = None
        self.verdicts = None
        self.lane = self.views = None

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
        fetch_ahead(words + self.frame_base + self.next_frame * FRAME)
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
        self.next_frame = record[FIRST] + 1 if record[FIRST] + 1 < self.frames else 0  # as a rule
        self.taken = ticket
        return named(A_QUESTION, (
            self.lane, self.taken, DONE, self.task_episode, self.task, (record[FIRST],), (step,), record[FIRST_SEQ],
            record[ASKED_NS], record[DEADLINE_NS],
        ))

    def images(self, places):
        """Of ``views`` those of the places, when all were made."""
        if self.views is None:
            return None
        if len(places) == 1:
            view = self.views[places[0]]
            return None if view is None else (view,)
        images = []
        for place in places:
            view = self.views[place]
            if view is None:
                return None
            images.append(view)
        return tuple(images)

    def answer(self, question, reply):
        """Writes a verdict with status OK and no values, its sequence last, wakes the worker and counts it. None, and
        nothing written, when it would not be the first, nobody waits for it any more, or another thread is at it."""
        cdef uint64_t ticket, waited_us, computed_us, batch
        cdef bint done, valid
        cdef double value, probability
        cdef uint64_t *record
        cdef int64_t now = monotonic_ns(), asked_ns
        if self.words is None or type(question) is not A_QUESTION or self.is_answering():
            return None
        if reply.status is not OK or reply.values is not None:
            return None
        done, value, probability, valid = reply.done, reply.value, reply.probability, reply.valid
        waited_us, computed_us = limited(reply.queue_us), limited(reply.engine_us)
        batch = limited(reply.batch_size)
        ticket, asked_ns = (<tuple>question)[1], (<tuple>question)[8]
        self.bell.strike()  # early: the worker wakes while the verdict is being written
        record = &self.verdicts[self.verdict_base + (ticket & (self.questions - 1)) * RECORD]
        if load_word(record) == ticket:
            return None
        if load_word(&self.words[self.question_base + (ticket & (self.questions - 1)) * RECORD]) != ticket:
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
        self.tally.verdict(now - asked_ns, valid, batch)
        return True
