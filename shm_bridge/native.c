/* The optional helper: the ordinary question's way through the bridge in five small steps, for shm_bridge.native.
 *
 * It takes only what is in order. Whatever is not (another kind, several questions, a word out of its bounds) it leaves
 * untouched and returns None, and the Python code beside the caller goes through all of it. So every check is made
 * here or there, and none is made here alone. Each shared word is read once, into a local, before it is looked at. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define VERSION 1
#define HALF ((uint64_t)1 << 63)
#define RECORD 16 /* words of a question's and of a verdict's record */
/* words of the tables in layout.py; native.py compares them and does without the helper when they differ */
enum { ASKED = 4, CANCELLED = 5, TASK_SEQ = 2, WORKER = 128 };
enum { KIND = 1, EPISODE, FIRST, LAST, STRIDE, COUNT, FIRST_SEQ, LAST_SEQ, ASKED_NS, DEADLINE_NS };
enum { STATE, SEQ, STEP, FRAME_EPISODE, FRAME_WORDS };
enum { STATUS = 1, DONE, VALID, VALUE, PROBABILITY, EPOCH, QUEUE_US, ENGINE_US, BATCH, VALUES };
enum { PUBLISHED = 2 };

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static uint64_t number(PyObject *object) { return PyLong_AsUnsignedLongLongMask(object); }

static int within(uint64_t at, uint64_t count, uint64_t size) { return count <= size && at <= size - count; }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int expect(Py_ssize_t given, Py_ssize_t wanted) {
    if (given != wanted) PyErr_Format(PyExc_TypeError, "%zd arguments; must be %zd", given, wanted);
    return given == wanted;
}

/* The memory of two objects; both or none. */
static int views(PyObject *const *objects, Py_buffer *first, Py_buffer *second, int flags) {
    if (PyObject_GetBuffer(objects[0], first, flags)) return 0;
    if (PyObject_GetBuffer(objects[1], second, flags) == 0) return 1;
    PyBuffer_Release(first);
    return 0;
}

/* sleep(address of a sem_t, until: monotonic ns) -> whether a post was taken; False also when a signal came */
static PyObject *sleep_until(PyObject *module, PyObject *const *a, Py_ssize_t count) {
    if (!expect(count, 2)) return NULL;
    sem_t *semaphore = PyLong_AsVoidPtr(a[0]);
    int64_t until = PyLong_AsLongLong(a[1]);
    if (PyErr_Occurred()) return NULL;
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = sem_clockwait(semaphore, CLOCK_MONOTONIC, &t);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(result == 0);
}

/* glance(words, seen, until: monotonic ns) -> whether the words differ from those seen; gives its core away in between */
static PyObject *glance(PyObject *module, PyObject *const *a, Py_ssize_t count) {
    if (!expect(count, 3)) return NULL;
    int64_t until = PyLong_AsLongLong(a[2]);
    Py_buffer words, seen;
    if (PyErr_Occurred() || !views(a, &words, &seen, PyBUF_SIMPLE)) return NULL;
    const uint64_t *now = words.buf, *then = seen.buf;
    Py_ssize_t total = (words.len < seen.len ? words.len : seen.len) / 8;
    int differ = 0;
    Py_BEGIN_ALLOW_THREADS
    do {
        sched_yield();
        for (Py_ssize_t at = 0; at < total && !differ; at++) differ = load(now + at) != then[at];
    } while (!differ && now_ns() < until);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&words), PyBuffer_Release(&seen);
    return PyBool_FromLong(differ);
}

/* A tuple of new references; takes them over, also when one is missing. */
static PyObject *tuple_of(PyObject **items, Py_ssize_t count) {
    PyObject *result = PyTuple_New(count);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (!items[at]) Py_CLEAR(result);
        if (result) PyTuple_SET_ITEM(result, at, items[at]);
        else Py_XDECREF(items[at]);
    }
    return result;
}

static PyObject *word(uint64_t value) { return PyLong_FromUnsignedLongLong(value); }

/* Whether the only new question is about one frame, published and of this episode; then its record and its step. */
static int sound(
    const uint64_t *words, const uint64_t *verdict, uint64_t ticket, uint64_t question_at, uint64_t frame_at,
    uint64_t frames, uint64_t task_seq, uint64_t episode, uint64_t done, uint64_t *record, uint64_t *step
) {
    if (load(words + WORKER + ASKED) != ticket || load(verdict) == ticket) return 0;
    for (int at = 0; at <= DEADLINE_NS; at++) record[at] = load(words + question_at + at);
    if (record[0] != ticket || load(words + WORKER + CANCELLED) - ticket < HALF) return 0;
    if (record[KIND] != done || record[FIRST] >= frames || record[LAST] != record[FIRST]) return 0;
    if (record[STRIDE] < 1 || record[COUNT] != 1 || record[LAST_SEQ] != record[FIRST_SEQ]) return 0;
    if (record[ASKED_NS] >= HALF || record[DEADLINE_NS] >= HALF) return 0;
    if (record[EPISODE] != episode || load(words + WORKER + TASK_SEQ) != task_seq) return 0;
    const uint64_t *frame = words + frame_at + record[FIRST] * FRAME_WORDS;
    *step = load(frame + STEP);
    return load(frame + STATE) == PUBLISHED && load(frame + FRAME_EPISODE) == episode &&
           load(frame + SEQ) == record[FIRST_SEQ];
}

/* take(words, verdicts, taken, slots, frames, question word, frame word, verdict word, task sequence, episode, lane, task,
 * DONE) -> the fields of a Question or None */
static PyObject *take(PyObject *module, PyObject *const *a, Py_ssize_t count) {
    if (!expect(count, 13)) return NULL;
    uint64_t ticket = number(a[2]) + 1, place = (ticket & (number(a[3]) - 1)) * RECORD, frames = number(a[4]);
    uint64_t question_at = number(a[5]) + place, frame_at = number(a[6]), verdict_at = number(a[7]) + place;
    uint64_t task_seq = number(a[8]), episode = number(a[9]), done = number(a[12]);
    Py_buffer words, verdicts;
    if (PyErr_Occurred() || !views(a, &words, &verdicts, PyBUF_SIMPLE)) return NULL;
    uint64_t record[DEADLINE_NS + 1], step, size = (uint64_t)words.len / 8;
    int fits = within(question_at, RECORD, size) && within(frame_at, frames * FRAME_WORDS, size) &&
               within(WORKER, RECORD, size) && within(verdict_at, RECORD, (uint64_t)verdicts.len / 8);
    int found = fits && sound(words.buf, (uint64_t *)verdicts.buf + verdict_at, ticket, question_at, frame_at, frames,
                              task_seq, episode, done, record, &step);
    PyBuffer_Release(&words), PyBuffer_Release(&verdicts);
    if (!found) Py_RETURN_NONE;
    PyObject *first = word(record[FIRST]), *at_step = word(step);
    PyObject *fields[] = {
        Py_NewRef(a[10]), word(ticket), Py_NewRef(a[12]), word(episode), Py_NewRef(a[11]), tuple_of(&first, 1),
        tuple_of(&at_step, 1), word(record[FIRST_SEQ]), word(record[ASKED_NS]), word(record[DEADLINE_NS]),
    };
    return tuple_of(fields, 10);
}

/* ask(words, bells, question word, ticket, lane, its ring, deadline in ns from now or -1, kind, episode, first, last,
 * stride, count, first number, last number) -> asked, monotonic ns. The record, its sequence,
 * ASKED, the bell: each seen by nobody before the one before it; then a fence, since PARKED is read next. */
static PyObject *ask(PyObject *module, PyObject *const *a, Py_ssize_t count) {
    if (!expect(count, 15)) return NULL;
    uint64_t at = number(a[2]), ticket = number(a[3]), lane = number(a[4]), ring = number(a[5]), record[DEADLINE_NS + 1];
    int64_t within_ns = PyLong_AsLongLong(a[6]), asked_ns = now_ns();
    for (int field = KIND; field <= LAST_SEQ; field++) record[field] = number(a[6 + field]);
    record[ASKED_NS] = (uint64_t)asked_ns;
    record[DEADLINE_NS] = within_ns < 0 ? 0 : (uint64_t)(asked_ns + within_ns);
    Py_buffer words, bells;
    if (PyErr_Occurred() || !views(a, &words, &bells, PyBUF_WRITABLE)) return NULL;
    uint64_t *memory = words.buf, size = (uint64_t)words.len / 8;
    int fits = within(at, RECORD, size) && within(WORKER, RECORD, size) && lane < (uint64_t)bells.len / 8;
    if (fits) {
        for (int field = KIND; field <= DEADLINE_NS; field++) store(memory + at + field, record[field]);
        store(memory + at, ticket);
        store(memory + WORKER + ASKED, ticket);
        store((uint64_t *)bells.buf + lane, ring);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    PyBuffer_Release(&words), PyBuffer_Release(&bells);
    return fits ? PyLong_FromLongLong(asked_ns) : PyErr_Format(PyExc_IndexError, "outside the lane");
}

/* collect(verdicts, the fields of an Open, Status.OK) -> the fields of a Verdict without values, or None */
static PyObject *collect(PyObject *module, PyObject *const *a, Py_ssize_t count) {
    if (!expect(count, 3)) return NULL;
    if (!PyTuple_Check(a[1]) || PyTuple_GET_SIZE(a[1]) != 8) return PyErr_Format(PyExc_TypeError, "not a question");
    uint64_t position = number(PyTuple_GET_ITEM(a[1], 6)), asked_ns = number(PyTuple_GET_ITEM(a[1], 7));
    if (PyErr_Occurred()) return NULL;
    Py_buffer verdicts;
    if (PyObject_GetBuffer(a[0], &verdicts, PyBUF_SIMPLE)) return NULL;
    uint64_t record[VALUES + 1];
    int fits = within(position, RECORD, (uint64_t)verdicts.len / 8);
    for (int at = STATUS; fits && at <= VALUES; at++) record[at] = load((uint64_t *)verdicts.buf + position + at);
    PyBuffer_Release(&verdicts);
    if (!fits || record[STATUS] || record[DONE] > 1 || record[VALID] > 1 || record[VALUES]) Py_RETURN_NONE;
    double value, probability;
    memcpy(&value, record + VALUE, 8);
    memcpy(&probability, record + PROBABILITY, 8);
    PyObject *fields[] = {
        Py_NewRef(PyTuple_GET_ITEM(a[1], 0)), Py_NewRef(PyTuple_GET_ITEM(a[1], 1)),
        Py_NewRef(PyTuple_GET_ITEM(a[1], 2)), Py_NewRef(PyTuple_GET_ITEM(a[1], 3)),
        PyBool_FromLong(record[VALID] && record[DONE]), PyFloat_FromDouble(value), PyFloat_FromDouble(probability),
        PyBool_FromLong(record[VALID] != 0), Py_NewRef(a[2]), Py_NewRef(Py_None),
        word(((uint64_t)now_ns() - asked_ns) / 1000), word(record[QUEUE_US]), word(record[ENGINE_US]),
        word(record[BATCH]), word(record[EPOCH]),
    };
    return tuple_of(fields, 15);
}

#define METHOD(name, function) {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    METHOD("sleep", sleep_until), METHOD("glance", glance), METHOD("ask", ask),
    METHOD("take", take), METHOD("collect", collect), {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *words = Py_BuildValue(
        "(iiiii(iiiiiiiiiii)(iiiii)i(iiiiiiiiiii))", VERSION, WORKER, ASKED, CANCELLED, TASK_SEQ, RECORD, KIND, EPISODE,
        FIRST, LAST, STRIDE, COUNT, FIRST_SEQ, LAST_SEQ, ASKED_NS, DEADLINE_NS, STATE, SEQ, STEP, FRAME_EPISODE,
        FRAME_WORDS, PUBLISHED, STATUS, DONE, VALID, VALUE, PROBABILITY, EPOCH, QUEUE_US, ENGINE_US, BATCH, VALUES, RECORD
    );
    if (module && words && PyModule_AddObject(module, "WORDS", words) == 0) return module;
    Py_XDECREF(words);
    Py_XDECREF(module);
    return NULL;
}
