# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: autotestdict=False
# cython: freethreading_compatible=True, subinterpreters_compatible=own_gil
"""Compiled parser: bytes → frames → values. What each call promises stands in ``_fastparse.pyi``.

Two halves: C functions over ``const unsigned char *`` that neither raise nor touch a Python object, and thin classes
that hand their results over. The rules are megatec-family.md section 13 and quirks.md "Parser rules in short".
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_FromDouble
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.math cimport NAN, floor, isfinite, isnan, rint
from libc.string cimport memchr, memcmp, memcpy

from fractions import Fraction

from qxfleet.errors import ReplyImplausible, ReplyMalformed

cdef enum:
    KIND_NUMBER = 0
    KIND_POINTED = 1
    KIND_TEXT = 2
    KIND_BIT = 3
    KIND_CODE = 4
    KIND_UNSIGNED = 5
    KIND_FLAG = 6
    KIND_MARK = 7
    KIND_CLOCK = 8

NUMBER = KIND_NUMBER
POINTED = KIND_POINTED
TEXT = KIND_TEXT
BIT = KIND_BIT
CODE = KIND_CODE
UNSIGNED = KIND_UNSIGNED
FLAG = KIND_FLAG
MARK = KIND_MARK
CLOCK = KIND_CLOCK

Slot = tuple[int, int, int, int, float, object, object, bool, *tuple[bytes, ...]]

cdef enum:
    MAX_FRAME = 1024  # the longest reply of any known dialect has some 110 bytes; beyond this it is noise
    MAX_WORDS = 64  # the wordiest known reply (inverter Q1) has 27
    MAX_SLOTS = 64  # twice the largest table; keeps the cells of one frame on the stack
    MAX_LEAD = 16
    MAX_BLANKS = 32  # three times what the widest table of columns has
    MAX_JUNK = 8  # quirks.md: an echo, a blank, XON before the lead character; what is more is another talker
    MAX_DIGITS = 15  # what a double holds exactly; the division below then rounds once, like float() does
    MAX_SCALE = 8  # decimals of a scale: 10 ** (14 + 8) is the largest power of ten a double holds exactly
    MAX_LAID = 31  # two bits of a key each; and as many numbers as a corridor has room for
    MAX_BYTES = 6  # of a binary number: a double holds 48 bits exactly
    ESCAPE = 0x28  # extra-dialects.md section 4.1
    BITS_TAIL = 2  # megatec-family.md section 8: bytes after the last bit are ignored

cdef enum Reason:
    OK = 0
    SHORT
    LONG
    LEAD
    TOO_MANY
    BAD_NUMBER
    BAD_BITS
    BAD_TEXT
    NO_POINT

_REASONS = ("", "short", "long", "lead", "tokens", "number", "bits", "text", "point")

cdef enum Outcome:
    ABSENT = 0
    VALUE
    STRING
    ZERO
    ONE
    BAD
    UNPOINTED

cdef extern from *:
    """
    static const double EXACT = 9007199254740992.0; /* up to here a double holds every whole number */
    static const double POWERS[15] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14};
    static const unsigned char ESCAPED[5] = {13, 17, 19, 10, 32};
    """
    const double EXACT
    const double POWERS[15]
    const unsigned char ESCAPED[5]

cdef struct Field:
    int kind
    int token
    Py_ssize_t start
    Py_ssize_t stop
    double times
    double over
    bint critical
    unsigned int marks[8]

cdef struct Layout:
    unsigned char lead[MAX_LEAD]
    Py_ssize_t lead_len
    Py_ssize_t min_len
    Py_ssize_t max_len
    bint by_words
    int min_words
    int max_words
    int bits_word
    Py_ssize_t bits_width
    unsigned char separator
    int width_count
    int widths[MAX_WORDS]
    Py_ssize_t digits_start
    Py_ssize_t digits_stop
    int blank_count
    Py_ssize_t blanks[MAX_BLANKS]
    bint lenient
    bint binary
    bint number_word[MAX_WORDS]
    int count
    Field fields[MAX_SLOTS]

cdef struct Text:
    const unsigned char *at
    Py_ssize_t len

cdef struct Cell:
    Outcome outcome
    double number
    Text text


cdef inline bint printable(unsigned char c) noexcept nogil:
    return 0x20 <= c <= 0x7E


cdef inline bint digit(unsigned char c) noexcept nogil:
    return 48 <= c <= 57


cdef inline bint starts(const unsigned char *p, Py_ssize_t n, const unsigned char *head, Py_ssize_t m) noexcept nogil:
    return n >= m and memcmp(p, head, <size_t> m) == 0


cdef bint only_fillers(Text t) noexcept nogil:
    """Nothing but what stands for "not available" (megatec-family.md section 13, rule 2)."""
    cdef Py_ssize_t i
    for i in range(t.len):
        if t.at[i] not in (b' ', b'@', b'-', b'.', b'#', b'*'):
            return False
    return True


cdef Outcome read_number(const Field *field, Text t, double *out) noexcept nogil:
    """Blanks and ``#``, one sign, digits, one dot with digits on both sides; or fillers only."""
    cdef const unsigned char *p = t.at
    cdef const unsigned char *end = p + t.len
    cdef bint negative = False
    cdef bint pointed = False
    cdef int digits = 0
    cdef int decimals = 0
    cdef unsigned long long mantissa = 0
    if only_fillers(t):
        return ABSENT
    while p < end and (p[0] == b' ' or p[0] == b'#'):
        p += 1
    while (end - 1)[0] == b' ':  # ends at the latest at the byte that is no filler
        end -= 1
    if p[0] == b'-' or p[0] == b'+':
        negative = p[0] == b'-'
        p += 1
    while p < end:
        if digit(p[0]):
            digits += 1
            if digits > MAX_DIGITS:
                return BAD
            mantissa = mantissa * 10 + (p[0] - 48)
            decimals += pointed
        elif p[0] == b'.' and digits > 0 and not pointed:
            pointed = True
        else:
            return BAD
        p += 1
    if digits == 0 or (pointed and decimals == 0):
        return BAD
    if field.kind == KIND_POINTED and not pointed:
        return UNPOINTED
    out[0] = (<double> mantissa) * field.times
    if out[0] > EXACT:
        return BAD
    out[0] /= POWERS[decimals] * field.over
    if negative and mantissa:
        out[0] = -out[0]
    return VALUE


cdef Outcome read_text(Text t, Text *out) noexcept nogil:
    """Stripped of blanks and ``#``; fillers or one character repeated mean "not told" (quirks.md, I)."""
    cdef Py_ssize_t i
    for i in range(t.len):
        if not printable(t.at[i]):
            return BAD
    if only_fillers(t):
        return ABSENT
    while t.at[0] == b' ' or t.at[0] == b'#':
        t.at += 1
        t.len -= 1
    while t.at[t.len - 1] == b' ' or t.at[t.len - 1] == b'#':
        t.len -= 1
    if t.len >= 3:
        i = 1
        while i < t.len and t.at[i] == t.at[0]:
            i += 1
        if i == t.len:
            return ABSENT
    out[0] = t
    return STRING


cdef Outcome read_code(Text t, Text *out) noexcept nogil:
    """Characters as they stand, without blanks around them; fillers alone mean "not told"."""
    cdef Py_ssize_t i
    for i in range(t.len):
        if not printable(t.at[i]):
            return BAD
    if only_fillers(t):
        return ABSENT
    while t.at[0] == b' ':
        t.at += 1
        t.len -= 1
    while t.at[t.len - 1] == b' ':
        t.len -= 1
    out[0] = t
    return STRING


cdef Text clean(const Layout *layout, const unsigned char *p, Py_ssize_t n) noexcept nogil:
    """The frame up to its first CR, without what stands before its lead (quirks.md, Framing). Bytes may be CRs themselves."""
    cdef Text whole
    cdef const unsigned char *cr
    cdef Py_ssize_t junk
    if not layout.binary:
        cr = <const unsigned char *> memchr(p, 13, <size_t> n)
        if cr != NULL:
            n = cr - p
    if layout.lead_len > 0:
        for junk in range(min(n, MAX_JUNK + 1)):
            if starts(p + junk, n - junk, layout.lead, layout.lead_len):
                p += junk
                n -= junk
                break
    whole.at = p
    whole.len = n
    return whole


cdef Reason split(const Layout *layout, Text frame, Text *words, int *count) noexcept nogil:
    """Words of the frame behind its lead, their number and their bytes checked, and the word of status bits."""
    cdef Py_ssize_t i = layout.lead_len
    cdef Py_ssize_t begin
    cdef bint alien = False
    cdef Text word
    cdef int nuls = 0
    count[0] = 0
    while True:
        while layout.separator == b' ' and i < frame.len and frame.at[i] == b' ':
            i += 1
        if i >= frame.len:
            break
        if count[0] == layout.max_words:
            return TOO_MANY
        begin = i
        while i < frame.len and frame.at[i] != layout.separator:
            if not printable(frame.at[i]) and count[0] != layout.bits_word:
                alien = True
            i += 1
        words[count[0]].at = frame.at + begin
        words[count[0]].len = i - begin
        count[0] += 1
        i += layout.separator != b' '
    if count[0] < layout.min_words:
        return SHORT
    if alien:
        return BAD_TEXT
    if count[0] > 0 and layout.number_word[count[0] - 1]:
        word = words[count[0] - 1]
        if word.len > 1 and word.at[word.len - 1] == b'.':
            return SHORT  # the reply was cut behind the point
    if layout.bits_word >= 0:
        word = words[layout.bits_word]
        if word.len < layout.bits_width:
            return SHORT
        if word.len > layout.bits_width + BITS_TAIL:
            return BAD_BITS
        for i in range(word.len):
            nuls += word.at[i] == 0
        if nuls > 1:
            return BAD_BITS
    return OK


cdef Py_ssize_t unescape(
    const unsigned char *p, Py_ssize_t n, unsigned char *out, Py_ssize_t most, bint spare
) noexcept nogil:
    """Bytes that ``p`` stands for, no more than ``most`` + 1 of them counted; ``spare``: the first ESCAPE stands for itself."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t got = 0
    cdef unsigned char c
    while at < n and got <= most:
        c = p[at]
        at += 1
        if c == ESCAPE and at < n and p[at] <= 4:
            if spare:
                spare = False
            else:
                c = ESCAPED[p[at]]
                at += 1
        if got < most:
            out[got] = c
        got += 1
    return got


cdef Reason unpack(const Layout *layout, Text frame, Text *words, unsigned char *room) noexcept nogil:
    """Words of bytes with one blank between them, unescaped into ``room``; each must have its width.

    ESCAPE and 0 to 4 stand for bytes that are never sent as they are. A word that comes out one byte short has an ESCAPE that
    stands for itself (extra-dialects.md sections 4.1 and 4.2).
    """
    cdef Py_ssize_t i = layout.lead_len
    cdef Py_ssize_t begin
    cdef Py_ssize_t width
    cdef Py_ssize_t got
    cdef int word
    for word in range(layout.width_count):
        if word > 0:
            if i >= frame.len:
                return SHORT
            i += 1
        begin = i
        while i < frame.len and frame.at[i] != b' ':
            i += 1
        width = layout.widths[word]
        got = unescape(frame.at + begin, i - begin, room, width, False)
        if got == width - 1:
            got = unescape(frame.at + begin, i - begin, room, width, True)
        if got != width:
            return SHORT if got < width else LONG
        words[word].at = room
        words[word].len = width
        room += width
    return LONG if i < frame.len else OK


cdef Outcome read_unsigned(const Field *field, Text t, bint bits, double *out) noexcept nogil:
    """Bytes as one number, high byte first; or, of ``bits``, those from ``start`` up to and with ``stop``."""
    cdef unsigned long long number = 0
    cdef Py_ssize_t i
    if not 0 < t.len <= MAX_BYTES:
        return BAD
    for i in range(t.len):
        number = number << 8 | t.at[i]
    if bits:
        number = number >> field.start & ((1ULL << (field.stop - field.start + 1)) - 1)
    if field.kind == KIND_FLAG:
        return ONE if number else ZERO
    out[0] = (<double> number) * field.times
    if out[0] > EXACT:
        return BAD
    out[0] /= field.over
    return VALUE


cdef Outcome read_clock(Text t, double *out) noexcept nogil:
    """Days, hours, minutes, seconds with ``:`` or ``.`` between them, as seconds; those in front may be missing."""
    cdef unsigned long long seconds = 0
    cdef unsigned long long part = 0
    cdef int digits = 0
    cdef int parts = 1
    cdef Py_ssize_t i
    if only_fillers(t):
        return ABSENT
    for i in range(t.len):
        if t.at[i] == b':' or t.at[i] == b'.':
            parts += 1
    for i in range(t.len):
        if digit(t.at[i]):
            part = part * 10 + (t.at[i] - 48)
            digits += 1
            if digits > 5:
                return BAD
        elif (t.at[i] == b':' or t.at[i] == b'.') and 0 < digits:
            seconds = (seconds + part) * (24 if parts == 4 else 60)
            parts -= 1
            part = 0
            digits = 0
        else:
            return BAD
        if parts > 4:
            return BAD
    if digits == 0:
        return BAD
    out[0] = <double> (seconds + part)
    return VALUE


cdef Outcome read_mark(const Field *field, Text t) noexcept nogil:
    """Whether one of the marks is among the letters; anything but capital letters and blanks is no word of them."""
    cdef Py_ssize_t i
    cdef Outcome found = ZERO
    for i in range(t.len):
        if not (b'A' <= t.at[i] <= b'Z' or t.at[i] == b' '):
            return BAD
        if field.marks[t.at[i] >> 5] >> (t.at[i] & 31) & 1:
            found = ONE
    return found


cdef Reason read_frame(const Layout *layout, const unsigned char *p, Py_ssize_t n, Cell *cells) noexcept nogil:
    """Fill one cell per slot, or say why not."""
    cdef Text words[MAX_WORDS]
    cdef unsigned char room[MAX_WORDS * MAX_BYTES]
    cdef Text frame
    cdef Text t
    cdef const Field *field
    cdef Reason reason
    cdef Py_ssize_t i
    cdef int word_count = 0
    cdef int tried = 0
    cdef int got = 0
    cdef bint unpointed = False
    cdef unsigned char c
    if n > MAX_FRAME:
        return LONG
    frame = clean(layout, p, n)
    if memcmp(frame.at, layout.lead, <size_t> min(frame.len, layout.lead_len)) != 0:
        return LEAD
    if frame.len < layout.lead_len or frame.len < layout.min_len:
        return SHORT
    if frame.len > layout.max_len:
        return LONG
    for i in range(layout.digits_start, layout.digits_stop):
        if i >= frame.len or not digit(frame.at[i]):
            return BAD_TEXT
    for i in range(layout.blank_count):
        if layout.blanks[i] >= frame.len or frame.at[layout.blanks[i]] != b' ':
            return BAD_TEXT
    if layout.width_count > 0:
        reason = unpack(layout, frame, words, room)
        if reason != OK:
            return reason
        word_count = layout.width_count
    elif layout.by_words:
        reason = split(layout, frame, words, &word_count)
        if reason != OK:
            return reason
    for i in range(layout.count):
        field = &layout.fields[i]
        cells[i].outcome = ABSENT
        if field.token >= 0:
            if field.token >= word_count:
                continue
            t = words[field.token]
        else:
            if field.start >= frame.len:
                if field.kind == KIND_MARK:
                    cells[i].outcome = ZERO  # no letters at all
                continue
            t.at = frame.at + field.start
            t.len = (frame.len if field.stop < 0 or field.stop > frame.len else field.stop) - field.start
        if field.kind == KIND_BIT:
            if field.token >= 0:
                if field.start >= t.len:
                    continue
                t.at += field.start
            c = t.at[0]
            if c == 0 and field.token >= 0 and not field.critical:
                c = b'0'  # quirks.md: some firmware sends one 0 of its bits as NUL
            if c == b'0':
                cells[i].outcome = ZERO
            elif c == b'1':
                cells[i].outcome = ONE
        elif field.kind == KIND_UNSIGNED or field.kind == KIND_FLAG:
            cells[i].outcome = read_unsigned(field, t, field.token >= 0 and field.stop >= 0, &cells[i].number)
            if cells[i].outcome == BAD:
                return BAD_NUMBER
        elif field.kind == KIND_MARK:
            cells[i].outcome = read_mark(field, t)
            if cells[i].outcome == BAD:
                return BAD_TEXT
        elif field.kind == KIND_TEXT or field.kind == KIND_CODE:
            if field.kind == KIND_TEXT:
                cells[i].outcome = read_text(t, &cells[i].text)
            else:
                cells[i].outcome = read_code(t, &cells[i].text)
            if cells[i].outcome == BAD:
                if not layout.lenient:
                    return BAD_TEXT
                cells[i].outcome = ABSENT
        else:
            if field.kind == KIND_CLOCK:
                cells[i].outcome = read_clock(t, &cells[i].number)
            else:
                cells[i].outcome = read_number(field, t, &cells[i].number)
            tried += cells[i].outcome != ABSENT
            got += cells[i].outcome == VALUE
            if cells[i].outcome == UNPOINTED:
                unpointed = True
                cells[i].outcome = ABSENT
            elif cells[i].outcome == BAD:
                if not layout.lenient:
                    return BAD_NUMBER
                cells[i].outcome = ABSENT
    if layout.lenient:
        return BAD_NUMBER if tried > 0 and got == 0 else OK
    return NO_POINT if unpointed else OK


@cython.final
cdef class Plan:
    """Reads frames of one layout into a list of values, one per slot; None is "not available"."""

    cdef Layout layout
    cdef tuple choices

    def __cinit__(
        self,
        bytes lead not None,
        Py_ssize_t min_len,
        Py_ssize_t max_len,
        slots,
        *,
        tokens=None,
        bits=None,
        widths=(),
        str separator not None=" ",
        digits=None,
        blanks=(),
        bint lenient=False,
    ):
        cdef Layout *layout = &self.layout
        cdef Field *field
        cdef bint of_bytes
        cdef unsigned char mark
        cdef list choices = []
        if len(lead) > MAX_LEAD:
            raise ValueError(f"a lead may have {MAX_LEAD} bytes at most")
        if len(separator) != 1 or not " " <= separator <= "~":
            raise ValueError(f"a separator is one printable character, not {separator!r}")
        if not 0 <= min_len <= max_len <= MAX_FRAME:
            raise ValueError(f"lengths must be 0 <= min_len <= max_len <= {MAX_FRAME}, not {min_len} and {max_len}")
        layout.lead_len = len(lead)
        memcpy(layout.lead, PyBytes_AS_STRING(lead), <size_t> len(lead))
        layout.min_len = min_len
        layout.max_len = max_len
        layout.lenient = lenient
        layout.bits_word = -1
        layout.separator = ord(separator)
        for width in widths:
            if layout.width_count == MAX_WORDS or not 0 < width <= MAX_BYTES:
                raise ValueError(f"widths must be up to {MAX_WORDS} numbers from 1 to {MAX_BYTES}, not {widths}")
            layout.widths[layout.width_count] = width
            layout.width_count += 1
        if layout.width_count > 0:
            if tokens is not None or bits is not None:
                raise ValueError("a reply in words of bytes has neither tokens nor bits")
            layout.max_words = layout.width_count
        if tokens is not None:
            layout.by_words = True
            layout.min_words, layout.max_words = tokens
            if not 0 <= layout.min_words <= layout.max_words <= MAX_WORDS:
                raise ValueError(f"tokens must be 0 <= min <= max <= {MAX_WORDS}, not {tokens}")
        if bits is not None:
            layout.bits_word, layout.bits_width = bits
            if not 0 <= layout.bits_word < layout.min_words or layout.bits_width < 1:
                raise ValueError(f"bits must name a word that is always there and a positive width, not {bits}")
        if digits is not None:
            layout.digits_start, layout.digits_stop = digits
            if not 0 <= layout.digits_start <= layout.digits_stop <= MAX_FRAME:
                raise ValueError(f"digits must be columns 0 <= start <= stop <= {MAX_FRAME}, not {digits}")
        for column in blanks:
            if layout.blank_count == MAX_BLANKS or not 0 <= column < MAX_FRAME:
                raise ValueError(f"blanks must be up to {MAX_BLANKS} columns within the frame, not {blanks}")
            layout.blanks[layout.blank_count] = column
            layout.blank_count += 1
        if len(slots) > MAX_SLOTS:
            raise ValueError(f"a plan may have {MAX_SLOTS} slots at most, not {len(slots)}")
        for kind, token, start, stop, scale, zero, one, critical, *marks in slots:
            field = &layout.fields[layout.count]
            field.kind = kind
            field.token = token
            field.start = start
            field.stop = stop
            field.critical = critical
            for mark in <bytes> b"".join(marks):
                field.marks[mark >> 5] |= 1U << (mark & 31)
            if not KIND_NUMBER <= field.kind <= KIND_CLOCK:
                raise ValueError(f"slot {layout.count}: unknown kind {kind}")
            of_bytes = field.kind == KIND_UNSIGNED or field.kind == KIND_FLAG
            if of_bytes is not (layout.width_count > 0) and (field.token >= 0 or layout.width_count > 0):
                raise ValueError(f"slot {layout.count}: bytes stand in columns, or in a reply made of words of bytes")
            if field.kind == KIND_MARK and field.token >= 0:
                raise ValueError(f"slot {layout.count}: letters stand in columns")
            if field.token >= layout.max_words or field.token < -1:
                raise ValueError(f"slot {layout.count}: word {token} lies outside the words")
            if (field.token < 0 or field.kind == KIND_BIT) and not 0 <= field.start < MAX_FRAME:
                raise ValueError(f"slot {layout.count}: column {start} lies outside the frame")
            if field.token < 0 and (not -1 <= field.stop <= MAX_FRAME or 0 <= field.stop <= field.start):
                raise ValueError(f"slot {layout.count}: columns {start} to {stop} are no span")
            ratio = Fraction(repr(float(scale)))
            if not 0 < ratio.numerator <= 1000000 or ratio * 10**MAX_SCALE % 1 != 0:
                raise ValueError(f"slot {layout.count}: scale {scale} is not a short positive decimal")
            field.times = ratio.numerator
            field.over = ratio.denominator
            if of_bytes:
                layout.binary = layout.width_count == 0
                if field.token >= 0 and stop != -1 and not 0 <= start <= stop < 8 * MAX_BYTES:
                    raise ValueError(f"slot {layout.count}: bits {start} to {stop} are none of a word")
            if field.token >= 0 and field.kind <= KIND_POINTED:
                layout.number_word[field.token] = True
            choices += (zero, one)
            layout.count += 1
        self.choices = tuple(choices)

    cdef object value(self, Cell *cells, int i):
        if cells[i].outcome == VALUE:
            return cells[i].number
        if cells[i].outcome == ZERO:
            return self.choices[2 * i]
        if cells[i].outcome == ONE:
            return self.choices[2 * i + 1]
        if cells[i].outcome == STRING:
            return PyUnicode_DecodeASCII(<const char *> cells[i].text.at, cells[i].text.len, NULL)
        return None

    cdef list values(self, Cell *cells):
        cdef list values = PyList_New(self.layout.count)
        cdef int i
        cdef object value
        for i in range(self.layout.count):
            value = self.value(cells, i)
            Py_INCREF(value)
            PyList_SET_ITEM(values, i, value)
        return values

    def parse(self, bytes frame not None):
        """Values of one frame. Raises ReplyMalformed or ReplyImplausible."""
        cdef Cell cells[MAX_SLOTS]
        cdef Reason reason = read_frame(
            &self.layout, <const unsigned char *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), cells
        )
        if reason == OK:
            return self.values(cells)
        raise (ReplyImplausible if reason == NO_POINT else ReplyMalformed)(_REASONS[<int> reason], frame)

    def parse_many(self, frames):
        """Values of each frame, or the reason why it has none."""
        cdef Cell cells[MAX_SLOTS]
        cdef Reason reason
        cdef bytes frame
        cdef list results = []
        for frame in frames:
            if frame is None:
                raise TypeError("a frame must be bytes, not None")
            reason = read_frame(
                &self.layout, <const unsigned char *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), cells
            )
            results.append(self.values(cells) if reason == OK else _REASONS[<int> reason])
        return results


def named(tuple names not None, list values not None):
    """Values by name; those that are not available are left out."""
    cdef dict found = {}
    cdef Py_ssize_t i
    if len(names) != len(values):
        raise ValueError(f"{len(names)} names for {len(values)} values")
    for i in range(len(names)):
        if values[i] is not None:
            found[names[i]] = values[i]
    return found


Rule = tuple[
    str, tuple[str, ...], tuple[str, ...], float, float, float, tuple[tuple[float, float | str | bool], ...],
    tuple[tuple[str, float, float], ...], tuple[tuple[str, tuple[float | str | bool, ...], bool], ...], bool,
]


@cython.final
cdef class Derivation:
    """Adds to values what follows from them."""

    cdef list rules

    def __cinit__(self, rules not None):
        self.rules = []
        for name, of, over, scale, step, most, table, given, when, wins in rules:
            if step < 0 or not isfinite(scale):
                raise ValueError(f"{name}: neither step {step} nor scale {scale} may be so")
            if any(higher[0] <= lower[0] for higher, lower in zip(table, table[1:])):
                raise ValueError(f"{name}: the rows of a table go from high to low")
            self.rules.append((name, of, over, float(scale), float(step), float(most), table, given, when, bool(wins)))

    def into(self, dict values not None):
        """Add them; the names that were added or changed."""
        cdef set done = set()
        cdef str name
        cdef double number
        cdef double part
        cdef double scale, step, most
        cdef bint wins
        for name, of, over, scale, step, most, table, given, when, wins in self.rules:
            if name in done or (name in values and not wins):
                continue
            if not holds(given, when, values):
                continue
            number = 1.0
            for other in of:
                part = number_of(values, other)
                number *= part
            for other in over:
                part = number_of(values, other)
                number = number / part if part != 0 else NAN
            if step > 0:
                number = floor(number / step) * step
            number *= scale
            if not isfinite(number):
                continue
            if number > most:
                number = most
            result = number
            if table:
                for least, result in table:
                    if number >= least:
                        break
                else:
                    continue
            values[name] = result
            done.add(name)
        return done


cdef double number_of(dict values, str name) except? -1.0:
    """The number of that name; not a number, where there is none."""
    cdef PyObject *found = PyDict_GetItem(values, name)
    if found == NULL or not PyFloat_CheckExact(<object> found):
        return NAN
    return PyFloat_AS_DOUBLE(<object> found)


cdef bint holds(tuple given, tuple when, dict values) except -1:
    cdef double number
    for name, low, high in given:
        number = number_of(values, name)
        if not <double> low <= number < <double> high:
            return False
    for name, wanted, negated in when:
        value = values.get(name)
        if (value is not None and (not wanted or value in wanted)) is negated:
            return False
    return True


@cython.final
cdef class Overlay:
    """Lays what a frame says over what was known before it, where nothing of it is out of the ordinary."""

    cdef Plan plan
    cdef tuple names
    cdef double low[MAX_LAID]
    cdef double high[MAX_LAID]

    def __cinit__(self, Plan plan not None, tuple names not None, ranges not None):
        cdef int i
        if not len(names) == len(ranges) == plan.layout.count:
            raise ValueError(f"{len(names)} names and {len(ranges)} ranges for {plan.layout.count} slots")
        if plan.layout.count > MAX_LAID:
            raise ValueError(f"a plan of {plan.layout.count} slots, {MAX_LAID} at most have room in a key")
        self.plan = plan
        self.names = names
        for i in range(plan.layout.count):
            self.low[i], self.high[i] = ranges[i]

    def lay(self, bytes frame not None, dict over not None):
        """The key of the frame, and its values laid over ``over``; or -1 and nothing done."""
        cdef Cell cells[MAX_SLOTS]
        cdef int count = self.plan.layout.count
        cdef int i
        cdef object value
        cdef unsigned long long key = 0
        if read_frame(
            &self.plan.layout, <const unsigned char *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), cells
        ) != OK:
            return -1
        for i in range(count):
            if cells[i].outcome == VALUE and not self.low[i] <= cells[i].number <= self.high[i]:
                return -1
        for i in range(count - 1, -1, -1):
            key = key << 2 | (0 if cells[i].outcome == ABSENT else 1 if cells[i].outcome == ZERO else 2)
        for i in range(count):
            if self.names[i] is not None:
                value = self.plan.value(cells, i)
                if value is not None:
                    over[self.names[i]] = value
        return key


def steps(tuple names not None, tuple scales not None, dict values not None, tuple before not None=(), tuple after not None=()):
    """Whole steps of each named number, None where it is not known; or None if one is no plain finite number."""
    cdef Py_ssize_t i
    cdef Py_ssize_t head = len(before)
    cdef Py_ssize_t count = len(names)
    cdef PyObject *found
    cdef double scaled
    cdef object step
    cdef tuple row
    if count != len(scales):
        raise ValueError(f"{count} names for {len(scales)} scales")
    row = PyTuple_New(head + count + len(after))
    for i in range(head):
        put(row, i, before[i])
    for i in range(len(after)):
        put(row, head + count + i, after[i])
    for i in range(count):
        found = PyDict_GetItem(values, names[i])
        step = None
        if found != NULL:
            if not PyFloat_CheckExact(<object> found):
                return None
            scaled = PyFloat_AS_DOUBLE(<object> found) * <double> scales[i]
            if not isfinite(scaled):
                return None
            step = PyLong_FromDouble(rint(scaled))
        put(row, head + i, step)
    return row


cdef inline void put(tuple row, Py_ssize_t i, object item) noexcept:
    Py_INCREF(item)
    PyTuple_SET_ITEM(row, i, item)


@cython.final
cdef class Corridor:
    """Where each of some numbers must be for all to be as it was."""

    cdef tuple names
    cdef double low[MAX_LAID]
    cdef double high[MAX_LAID]

    def __cinit__(self, dict ranges not None):
        cdef int i
        if len(ranges) > MAX_LAID:
            raise ValueError(f"{len(ranges)} numbers, {MAX_LAID} at most")
        self.names = tuple(ranges)
        for i, bounds in enumerate(ranges.values()):
            self.low[i], self.high[i] = (NAN, NAN) if bounds is None else bounds

    def holds(self, values not None):
        """Whether all of them are where they must be."""
        cdef dict known = values if type(values) is dict else dict(values)
        cdef Py_ssize_t i
        cdef PyObject *found
        cdef double number
        for i in range(len(self.names)):
            found = PyDict_GetItem(known, self.names[i])
            if found == NULL:
                if not isnan(self.low[i]):
                    return False
                continue
            if not PyFloat_CheckExact(<object> found):
                return False
            number = PyFloat_AS_DOUBLE(<object> found)
            if not self.low[i] <= number <= self.high[i]:
                return False
        return True


@cython.final
cdef class Framer:
    """Cuts a byte stream into frames at ``end``; bounded, and back in step after garbage."""

    cdef unsigned char *held
    cdef Py_ssize_t held_len
    cdef Py_ssize_t max_len
    cdef Py_ssize_t thrown
    cdef unsigned char end
    cdef bint overlong

    def __cinit__(self, unsigned char end=13, Py_ssize_t max_len=512):
        if max_len < 1:
            raise ValueError(f"max_len must be at least 1, not {max_len}")
        self.held = <unsigned char *> PyMem_Malloc(<size_t> max_len)
        if self.held == NULL:
            raise MemoryError
        self.end = end
        self.max_len = max_len

    def __dealloc__(self):
        PyMem_Free(self.held)

    @cython.critical_section
    def feed(self, bytes chunk not None):
        """Frames completed by ``chunk``, without end byte."""
        cdef const unsigned char *p = <const unsigned char *> PyBytes_AS_STRING(chunk)
        cdef const unsigned char *stop = p + PyBytes_GET_SIZE(chunk)
        cdef const unsigned char *cut
        cdef Py_ssize_t n
        cdef list frames = []
        while p < stop:
            if self.held_len == 0 and not self.overlong and p[0] != self.end and (p[0] == 0 or p[0] == 10):
                self.thrown += 1
                p += 1
                continue
            cut = <const unsigned char *> memchr(p, self.end, <size_t> (stop - p))
            n = (stop if cut == NULL else cut) - p
            if not self.overlong and self.held_len + n > self.max_len:
                self.overlong = True
                self.thrown += self.held_len
                self.held_len = 0
            if cut == NULL:
                if self.overlong:
                    self.thrown += n
                else:
                    memcpy(self.held + self.held_len, p, <size_t> n)
                    self.held_len += n
                break
            if self.overlong:
                self.thrown += n + 1
                self.overlong = False
            elif self.held_len > 0:
                memcpy(self.held + self.held_len, p, <size_t> n)
                frames.append(PyBytes_FromStringAndSize(<const char *> self.held, self.held_len + n))
                self.held_len = 0
            elif n > 0:
                frames.append(PyBytes_FromStringAndSize(<const char *> p, n))
            else:
                self.thrown += 1
            p = cut + 1
        return frames

    @cython.critical_section
    def only(self, bytes chunk not None, Py_ssize_t max_len):
        """The one frame that ``chunk`` is; None, and nothing done, for anything else."""
        cdef const unsigned char *p = <const unsigned char *> PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(chunk) - 1
        if n < 1 or n > max_len or n > self.max_len or self.held_len or self.overlong or p[0] == 0 or p[0] == 10:
            return None
        if p[n] != self.end or memchr(p, self.end, <size_t> n) != NULL:
            return None
        return PyBytes_FromStringAndSize(<const char *> p, n)

    @cython.critical_section
    def pending(self):
        """Bytes of the frame that is not complete yet."""
        return PyBytes_FromStringAndSize(<const char *> self.held, self.held_len)

    @cython.critical_section
    def reset(self):
        """Forget the incomplete frame; returns the bytes thrown away since the last reset."""
        cdef Py_ssize_t thrown = self.thrown + self.held_len
        self.held_len = 0
        self.thrown = 0
        self.overlong = False
        return thrown
