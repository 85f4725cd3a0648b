# Places of the words, from the tables in memory/layout.py.

cdef uint64_t HALF = <uint64_t>1 << 63
cdef enum:  # of a verdict's record; FIELDS is compared in backend.py
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
cdef int REQUEST_SEQ = TrainerWord.REQUEST_SEQ, REQUEST_PHASE = TrainerWord.REQUEST_PHASE
cdef uint64_t ROLLOUT = Phase.ROLLOUT, UPDATE = Phase.UPDATE
cdef uint64_t DONE_KIND = Kind.DONE
cdef int64_t U32 = (<int64_t>1 << 32) - 1
cdef object DONE = Kind.DONE, OK = Status.OK
cdef object A_SLOT = FrameSlot, A_QUESTION = Question, A_VERDICT = Verdict, AN_OPEN = OpenQuestion
cdef int DRAIN_LIMIT = 4096, THERE = parking.THERE
cdef int LOOKS = 512  # of a spinner at once
cdef int64_t early_ns = parking.EARLY_NS, slice_ns = parking.SLICE_NS
cdef int64_t edges_ns[LATENCY_BUCKETS]


if len(counters.EDGES_NS) != LATENCY_BUCKETS:
    raise ImportError("the native backend is of another version")
for number, edge in enumerate(counters.EDGES_NS):
    edges_ns[number] = edge
