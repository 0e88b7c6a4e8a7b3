"""Replies of the Redis protocol as Python values: the part of `velum.resp` that has to be quick."""

cdef enum:
    RESP_DEPTH_MAX = 16  # arrays in arrays; what velum answers has two
    RESP_LENGTH_DIGITS_MAX = 18
    RESP_SHORT_DIGITS_MAX = 18  # of a number that is read here


cdef class RespReader:
    """Values of one piece of bytes, one after the other.

    `rare(kind, line)` reads a value of a line that is no short integer; what is wrong is raised as
    `malformed(text)`."""
    cdef bytes data
    cdef const char *p
    cdef size_t size, at
    cdef object rare, malformed

    def __cinit__(self, bytes data, object rare, object malformed):
        self.data = data
        self.p = PyBytes_AS_STRING(data)
        self.size = <size_t>PyBytes_GET_SIZE(data)
        self.at = 0
        self.rare = rare
        self.malformed = malformed

    def left(self):
        """How many bytes are behind what was read."""
        return self.size - self.at

    def next(self):
        """The next value."""
        return self.value(0)

    cdef size_t line(self) except? 0:
        """Where the line that begins here ends; passes it and its end."""
        cdef size_t i = self.at
        while i + 1 < self.size:
            if self.p[i] == c"\r" and self.p[i + 1] == c"\n":
                self.at = i + 2
                return i
            i += 1
        raise self.malformed("a line does not end")

    cdef int64_t digits(self, size_t begin, size_t end, size_t most) noexcept:
        """A number of digits alone; -1: it is none."""
        cdef int64_t number = 0
        if begin == end or end - begin > most:
            return -1
        for i in range(begin, end):
            if self.p[i] < c"0" or self.p[i] > c"9":
                return -1
            number = number * 10 + (self.p[i] - c"0")
        return number

    cdef size_t length(self, size_t begin, size_t end) except? 0:
        cdef int64_t number = self.digits(begin, end, RESP_LENGTH_DIGITS_MAX)
        if number < 0:
            raise self.malformed(f"{self.data[begin:min(end, begin + 20)]!r} is no length")
        return <size_t>number

    cdef object value(self, int depth):
        if self.at >= self.size:
            raise self.malformed("a line does not end")
        cdef char kind = self.p[self.at]
        self.at += 1
        cdef size_t begin = self.at
        cdef size_t end = self.line()
        cdef int64_t number
        if kind == c"$":
            return self.bulk(begin, end)
        if kind == c":":
            number = self.digits(begin, end, RESP_SHORT_DIGITS_MAX)
            if number >= 0:
                return number
        if kind in (c"*", c"~", c"%", c">", c"|"):
            return self.aggregate(kind, begin, end, depth)
        if kind in (c"!", c"="):
            return self.rare(chr(kind).encode(), self.bulk(begin, end))
        return self.rare(self.data[begin - 1:begin], self.data[begin:end])

    cdef object bulk(self, size_t begin, size_t end):
        if end - begin == 2 and self.p[begin] == c"-" and self.p[begin + 1] == c"1" and \
                self.p[begin - 1] == c"$":
            return None
        cdef size_t n = self.length(begin, end), at = self.at
        if self.size < 2 or at > self.size - 2 or n > self.size - 2 - at or \
                self.p[at + n] != c"\r" or self.p[at + n + 1] != c"\n":
            raise self.malformed(f"a string of {n} bytes does not end")
        self.at = at + n + 2
        return PyBytes_FromStringAndSize(self.p + at, n)

    cdef object aggregate(self, char kind, size_t begin, size_t end, int depth):
        if kind == c"*" and end - begin == 2 and self.p[begin] == c"-" and \
                self.p[begin + 1] == c"1":
            return None
        if depth >= RESP_DEPTH_MAX:
            raise self.malformed(f"nested deeper than {RESP_DEPTH_MAX}")
        cdef size_t count = self.length(begin, end), i
        if kind in (c"%", c"|"):
            count *= 2
        cdef list items = []
        for i in range(count):
            items.append(self.value(depth + 1))
        if kind == c"|":  # attributes: the reply itself follows
            return self.value(depth + 1)
        if kind in (c"*", c">"):
            return items
        try:
            return set(items) if kind == c"~" else dict(zip(items[::2], items[1::2]))
        except TypeError:
            raise self.malformed("an element that is an aggregate itself") from None
