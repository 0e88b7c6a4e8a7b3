"""Random WebAssembly modules, and damage to them.

Owns: a generator of modules that are valid by construction, and mutations that may or may not leave
them so. Refuses to know: any validator or engine. How: every function body is a tree of typed
expressions and statements, written out as it is drawn; a tree stays valid whatever branches stand
in it, because code behind a branch may take operands that are not there. The same seed gives the
same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

I32, I64, F32, F64 = 0x7F, 0x7E, 0x7D, 0x7C
NUMBERS = (I32, I64, F32, F64)
PAGE_BYTES = 65536

Section = tuple[int, bytes]

# Opcodes by operand and result type: the one-byte numeric instructions of WebAssembly 1.0 and the
# sign extension proposal, ranges inclusive.
_UNARY: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (I32, I32): ((0x45, 0x45), (0x67, 0x69), (0xC0, 0xC1)),
    (I64, I32): ((0x50, 0x50), (0xA7, 0xA7)),
    (I64, I64): ((0x79, 0x7B), (0xC2, 0xC4)),
    (F32, F32): ((0x8B, 0x91),),
    (F64, F64): ((0x99, 0x9F),),
    (F32, I32): ((0xA8, 0xA9), (0xBC, 0xBC)),
    (F64, I32): ((0xAA, 0xAB),),
    (I32, I64): ((0xAC, 0xAD),),
    (F32, I64): ((0xAE, 0xAF),),
    (F64, I64): ((0xB0, 0xB1), (0xBD, 0xBD)),
    (I32, F32): ((0xB2, 0xB3), (0xBE, 0xBE)),
    (I64, F32): ((0xB4, 0xB5),),
    (F64, F32): ((0xB6, 0xB6),),
    (I32, F64): ((0xB7, 0xB8),),
    (I64, F64): ((0xB9, 0xBA), (0xBF, 0xBF)),
    (F32, F64): ((0xBB, 0xBB),),
}
_BINARY: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (I32, I32): ((0x46, 0x4F), (0x6A, 0x78)),
    (I64, I32): ((0x51, 0x5A),),
    (F32, I32): ((0x5B, 0x60),),
    (F64, I32): ((0x61, 0x66),),
    (I64, I64): ((0x7C, 0x8A),),
    (F32, F32): ((0x92, 0x98),),
    (F64, F64): ((0xA0, 0xA6),),
}
# Saturating conversions, behind the 0xfc prefix: operand, result, opcodes.
_SATURATING = {
    (F32, I32): (0, 1),
    (F64, I32): (2, 3),
    (F32, I64): (4, 5),
    (F64, I64): (6, 7),
}
# Loads and stores of a type: (opcode, log2 of the natural alignment).
_LOADS = {
    I32: ((0x28, 2), (0x2C, 0), (0x2D, 0), (0x2E, 1), (0x2F, 1)),
    I64: ((0x29, 3), (0x30, 0), (0x31, 0), (0x32, 1), (0x33, 1), (0x34, 2), (0x35, 2)),
    F32: ((0x2A, 2),),
    F64: ((0x2B, 3),),
}
_STORES = {
    I32: ((0x36, 2), (0x3A, 0), (0x3B, 1)),
    I64: ((0x37, 3), (0x3C, 0), (0x3D, 1), (0x3E, 2)),
    F32: ((0x38, 2),),
    F64: ((0x39, 3),),
}


def leb(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def vector(items: list[bytes]) -> bytes:
    """A vector of items that are encoded already."""
    return leb(len(items)) + b"".join(items)


def encode(sections: list[Section]) -> bytes:
    """A whole module."""
    return b"\0asm\1\0\0\0" + b"".join(bytes([i]) + leb(len(p)) + p for i, p in sections)


@dataclass(slots=True)
class FunctionType:
    params: tuple[int, ...]
    result: int | None

    def encode(self) -> bytes:
        results = () if self.result is None else (self.result,)
        return (
            b"\x60"
            + leb(len(self.params))
            + bytes(self.params)
            + leb(len(results))
            + bytes(results)
        )


@dataclass(slots=True)
class Plan:
    """What function bodies may refer to."""

    types: list[FunctionType]
    functions: list[int]
    globals: list[tuple[int, bool]]
    pages: int | None
    table: int | None


@dataclass(slots=True)
class Body:
    """Writes one function body."""

    rng: random.Random
    plan: Plan
    type: FunctionType
    locals: list[int]
    budget: int
    code: bytearray = field(default_factory=bytearray)
    labels: list[int | None] = field(default_factory=list)

    def write(self) -> bytes:
        """The body's code, its end included."""
        self.labels.append(self.type.result)
        self.block_body(self.type.result)
        return bytes(self.code) + b"\x0b"

    def block_body(self, result: int | None) -> None:
        for _ in range(self.rng.randrange(4)):
            self.statement()
        if result is not None:
            self.value(result)

    # -- expressions ------------------------------------------------------

    def value(self, kind: int) -> None:
        """Code that leaves one value of `kind`."""
        self.budget -= 1
        if self.budget <= 0:
            self.constant(kind)
            return
        if self.rng.random() < 0.08:
            self.statement()
        writers: list[Callable[[int], None]] = [
            self.constant,
            self.constant,
            self.read_variable,
            self.read_variable,
            self.unary,
            self.binary,
            self.binary,
            self.select,
            self.load,
            self.call_value,
            self.block_value,
            self.if_value,
        ]
        self.rng.choice(writers)(kind)

    def constant(self, kind: int) -> None:
        if kind in (I32, I64):
            bits = 31 if kind == I32 else 63
            size = self.rng.choice((3, 7, bits))
            number = self.rng.randrange(-(1 << size), 1 << size)
            self.code += bytes([0x41 if kind == I32 else 0x42]) + sleb(number)
        elif kind == F32:
            self.code += b"\x43" + self.rng.choice((b"\0\0\x80\x3f", self.rng.randbytes(4)))
        else:
            self.code += b"\x44" + self.rng.choice((b"\0" * 6 + b"\xf0\x3f", self.rng.randbytes(8)))

    def read_variable(self, kind: int) -> None:
        choices = [(0x20, i) for i, t in enumerate(self.locals) if t == kind]
        choices += [(0x23, i) for i, (t, _) in enumerate(self.plan.globals) if t == kind]
        if not choices:
            self.constant(kind)
            return
        opcode, index = self.rng.choice(choices)
        if opcode == 0x20 and self.rng.random() < 0.2:
            self.value(kind)
            opcode = 0x22
        self.code += bytes([opcode]) + leb(index)

    def unary(self, kind: int) -> None:
        saturating = [s for s in _SATURATING if s[1] == kind]
        if saturating and self.rng.random() < 0.3:
            pair = self.rng.choice(saturating)
            self.value(pair[0])
            self.code += bytes([0xFC, self.rng.choice(_SATURATING[pair])])
            return
        pair = self.rng.choice([p for p in _UNARY if p[1] == kind])
        self.value(pair[0])
        low, high = self.rng.choice(_UNARY[pair])
        self.code.append(self.rng.randint(low, high))

    def binary(self, kind: int) -> None:
        pair = self.rng.choice([p for p in _BINARY if p[1] == kind])
        self.value(pair[0])
        self.value(pair[0])
        low, high = self.rng.choice(_BINARY[pair])
        self.code.append(self.rng.randint(low, high))

    def select(self, kind: int) -> None:
        self.value(kind)
        self.value(kind)
        self.value(I32)
        self.code.append(0x1B)

    def memory_argument(self, alignment: int) -> bytes:
        offset = self.rng.choice(
            (0, 1, 8, self.rng.randrange(1 << 16), self.rng.randrange(1 << 32))
        )
        return leb(self.rng.randint(0, alignment)) + leb(offset)

    def load(self, kind: int) -> None:
        if self.plan.pages is None:
            self.constant(kind)
        elif kind == I32 and self.rng.random() < 0.2:
            self.code += b"\x3f\0"
            if self.rng.random() < 0.3:
                self.code += b"\x41\x01\x71\x40\0"  # grow by that number's lowest bit
        else:
            opcode, alignment = self.rng.choice(_LOADS[kind])
            self.value(I32)
            self.code += bytes([opcode]) + self.memory_argument(alignment)

    def call_value(self, kind: int) -> None:
        callees = [
            i for i, t in enumerate(self.plan.functions) if self.plan.types[t].result == kind
        ]
        if callees:
            self.call(self.rng.choice(callees))
        else:
            self.constant(kind)

    def call(self, index: int) -> None:
        type_index = self.plan.functions[index]
        for kind in self.plan.types[type_index].params:
            self.value(kind)
        if self.plan.table is not None and self.rng.random() < 0.3:
            self.value(I32)
            self.code += b"\x11" + leb(type_index) + b"\0"
        else:
            self.code += b"\x10" + leb(index)

    def block_value(self, kind: int) -> None:
        self.block(kind, self.rng.choice((0x02, 0x02, 0x03)))

    def if_value(self, kind: int) -> None:
        self.conditional(kind)

    # -- statements -------------------------------------------------------

    def statement(self) -> None:
        """Code that leaves the operand stack as it was."""
        self.budget -= 1
        if self.budget <= 0:
            self.code.append(0x01)
            return
        writers: list[Callable[[], None]] = [
            self.set_variable,
            self.set_variable,
            self.store,
            self.drop,
            self.call_statement,
            self.block_statement,
            self.if_statement,
            self.branch_if,
            self.branch_if,
            self.branch,
            self.bulk_memory,
        ]
        self.rng.choice(writers)()

    def set_variable(self) -> None:
        choices = [(0x21, i, t) for i, t in enumerate(self.locals)]
        choices += [(0x24, i, t) for i, (t, mutable) in enumerate(self.plan.globals) if mutable]
        if choices:
            opcode, index, kind = self.rng.choice(choices)
            self.value(kind)
            self.code += bytes([opcode]) + leb(index)

    def store(self) -> None:
        if self.plan.pages is not None:
            kind = self.rng.choice(NUMBERS)
            opcode, alignment = self.rng.choice(_STORES[kind])
            self.value(I32)
            self.value(kind)
            self.code += bytes([opcode]) + self.memory_argument(alignment)

    def drop(self) -> None:
        self.value(self.rng.choice(NUMBERS))
        self.code.append(0x1A)

    def call_statement(self) -> None:
        index = self.rng.randrange(len(self.plan.functions))
        self.call(index)
        if self.plan.types[self.plan.functions[index]].result is not None:
            self.code.append(0x1A)

    def block_statement(self) -> None:
        self.block(None, self.rng.choice((0x02, 0x03)))

    def if_statement(self) -> None:
        self.conditional(None)

    def block(self, result: int | None, opcode: int) -> None:
        self.code += bytes([opcode, 0x40 if result is None else result])
        self.labels.append(None if opcode == 0x03 else result)
        self.block_body(result)
        self.labels.pop()
        self.code.append(0x0B)

    def conditional(self, result: int | None) -> None:
        self.value(I32)
        self.code += bytes([0x04, 0x40 if result is None else result])
        self.labels.append(result)
        self.block_body(result)
        if result is not None or self.rng.random() < 0.5:
            self.code.append(0x05)
            self.block_body(result)
        self.labels.pop()
        self.code.append(0x0B)

    def some_label(self) -> int:
        """The depth of a label; mostly not one of a float, which velum refuses in many places."""
        depth = self.rng.randrange(len(self.labels))
        if self.labels[-1 - depth] in (F32, F64) and self.rng.random() < 0.8:
            depth = len(self.labels) - 1
        return depth

    def carried(self, depth: int) -> int | None:
        """Writes the value that the label at `depth` wants."""
        kind = self.labels[-1 - depth]
        if kind is not None:
            self.value(kind)
        return kind

    def branch_if(self) -> None:
        depth = self.some_label()
        kind = self.carried(depth)
        self.value(I32)
        self.code += b"\x0d" + leb(depth)
        if kind is not None:
            self.code.append(0x1A)

    def branch(self) -> None:
        choice = self.rng.randrange(8)
        if choice == 0:
            self.code.append(0x00)
        elif choice == 1:
            self.carried(len(self.labels) - 1)
            self.code.append(0x0F)
        elif choice <= 4:
            depth = self.some_label()
            self.carried(depth)
            self.code += b"\x0c" + leb(depth)
        else:
            kind = self.carried(self.some_label())
            depths = [d for d in range(len(self.labels)) if self.labels[-1 - d] == kind]
            self.value(I32)
            targets = [leb(self.rng.choice(depths)) for _ in range(self.rng.randint(0, 4))]
            self.code += b"\x0e" + vector(targets) + leb(self.rng.choice(depths))

    def bulk_memory(self) -> None:
        if self.plan.pages is not None:
            for _ in range(3):
                self.value(I32)
            self.code += self.rng.choice((b"\xfc\x0a\0\0", b"\xfc\x0b\0"))


def _name(rng: random.Random) -> bytes:
    text = "".join(rng.choice("abcxyz_.é漢😀") for _ in range(rng.randrange(8))).encode()
    return leb(len(text)) + text


def _limits(rng: random.Random, minimum: int, most: int) -> bytes:
    if rng.random() < 0.5:
        return b"\0" + leb(minimum)
    return b"\1" + leb(minimum) + leb(rng.randint(max(minimum, 1), most))


def _constant(rng: random.Random, kind: int) -> bytes:
    body = Body(rng, Plan([], [], [], None, None), FunctionType((), None), [], 0)
    body.constant(kind)
    return bytes(body.code) + b"\x0b"


def _plan(rng: random.Random) -> Plan:
    types = [FunctionType((), None)]
    for _ in range(rng.randrange(5)):
        params = tuple(rng.choice(NUMBERS) for _ in range(rng.randrange(5)))
        types.append(FunctionType(params, rng.choice((None, *NUMBERS))))
    return Plan(
        types=types,
        functions=[rng.randrange(len(types)) for _ in range(rng.randint(1, 5))],
        globals=[(rng.choice(NUMBERS), rng.random() < 0.6) for _ in range(rng.randrange(5))],
        pages=rng.choice((None, 1, 1, 2)),
        table=rng.choice((None, 0, 4, 9)),
    )


def _function(rng: random.Random, plan: Plan, type_index: int, budget: int) -> bytes:
    kind = plan.types[type_index]
    groups = [(rng.randrange(4), rng.choice(NUMBERS)) for _ in range(rng.randrange(4))]
    declared = [t for count, t in groups for _ in range(count)]
    body = Body(rng, plan, kind, [*kind.params, *declared], budget)
    code = vector([leb(count) + bytes([t]) for count, t in groups]) + body.write()
    return leb(len(code)) + code


def _exports(rng: random.Random, plan: Plan) -> bytes:
    items = [leb(len(n := b"f%d" % i)) + n + b"\0" + leb(i) for i in range(len(plan.functions))]
    if plan.pages is not None:
        items.append(b"\6memory\2\0")
    items += [leb(len(n := b"g%d" % i)) + n + b"\3" + leb(i) for i in range(len(plan.globals))]
    rng.shuffle(items)
    return vector(items)


def generate(rng: random.Random, budget: int = 60) -> list[Section]:
    """A valid module, as its sections. `budget` bounds the size of each function."""
    plan = _plan(rng)
    sections: list[Section] = [
        (1, vector([t.encode() for t in plan.types])),
        (3, vector([leb(t) for t in plan.functions])),
    ]
    if plan.table is not None:
        sections.append((4, b"\1\x70" + _limits(rng, plan.table, 20)))
    if plan.pages is not None:
        sections.append((5, b"\1" + _limits(rng, plan.pages, 9)))
    if plan.globals:
        items = [bytes([t, mutable]) + _constant(rng, t) for t, mutable in plan.globals]
        sections.append((6, vector(items)))
    sections.append((7, _exports(rng, plan)))
    starts = [i for i, t in enumerate(plan.functions) if plan.types[t] == FunctionType((), None)]
    if starts and rng.random() < 0.2:
        sections.append((8, leb(rng.choice(starts))))
    if plan.table:
        offset = rng.randrange(plan.table)
        indices = [leb(rng.randrange(len(plan.functions))) for _ in range(plan.table - offset)]
        sections.append((9, b"\1\0\x41" + sleb(offset) + b"\x0b" + vector(indices)))
    data = [] if plan.pages is None else _data(rng, plan.pages)
    if rng.random() < 0.3:
        sections.append((12, leb(len(data))))
    sections.append((10, vector([_function(rng, plan, t, budget) for t in plan.functions])))
    if data or rng.random() < 0.2 or any(i == 12 for i, _ in sections):
        sections.append((11, vector(data)))
    for _ in range(rng.randrange(3)):
        custom = _name(rng) + rng.randbytes(rng.randrange(9))
        sections.insert(rng.randint(0, len(sections)), (0, custom))
    return sections


def _data(rng: random.Random, pages: int) -> list[bytes]:
    items = []
    for _ in range(rng.randrange(3)):
        payload = rng.randbytes(rng.randrange(20))
        offset = rng.randrange(pages * PAGE_BYTES - 20)
        items.append(b"\0\x41" + sleb(offset) + b"\x0b" + leb(len(payload)) + payload)
    return items


# -- damage ---------------------------------------------------------------


def _damage_bytes(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not out:
            break
        at = rng.randrange(len(out))
        choice = rng.randrange(6)
        if choice == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif choice == 1:
            out[at] = rng.randrange(256)
        elif choice == 2:
            out[at] = out[at] + rng.choice((-1, 1)) & 0xFF
        elif choice == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 3))
        elif choice == 4:
            del out[at : at + rng.randint(1, 3)]
        else:  # the same number in a longer LEB128, where a number stands here
            out[at : at + 1] = bytes([out[at] | 0x80, 0x7F if out[at] & 0x40 else 0x00])
    return bytes(out)


def _retype(rng: random.Random, data: bytes) -> bytes:
    """Damage that keeps every size: a few bytes that may be opcodes or types become others."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        places = [i for i, b in enumerate(out) if b <= 0x24 or 0x28 <= b <= 0xC4]
        out[rng.choice(places)] = rng.choice(
            (rng.randrange(0x12), rng.randrange(0x1A, 0x25), rng.randrange(0x28, 0xC5))
        )
    return bytes(out)


def _swap_sections(rng: random.Random, sections: list[Section]) -> list[Section]:
    out = list(sections)
    a, b = rng.randrange(len(out)), rng.randrange(len(out))
    choice = rng.randrange(4)
    if choice == 0:
        out[a], out[b] = out[b], out[a]
    elif choice == 1:
        out.insert(b, out[a])
    elif choice == 2:
        del out[a]
    else:
        out[a] = (rng.randrange(15), out[a][1])
    return out


def mutate(rng: random.Random, sections: list[Section]) -> bytes:
    """The module with one kind of damage; some damage does no harm."""
    choice = rng.randrange(10)
    if choice == 0:
        return encode(_swap_sections(rng, sections))
    if choice == 1:
        whole = encode(sections)
        return whole[: rng.randrange(len(whole))]
    if choice == 2:
        return _damage_bytes(rng, encode(sections))
    # Inside one section, whose size is then made right: reaches deeper than a broken size would.
    at = rng.randrange(len(sections))
    if choice >= 5:
        at = next(i for i, (number, _) in enumerate(sections) if number == 10)
    number, payload = sections[at]
    out = list(sections)
    out[at] = (number, _damage_bytes(rng, payload) if choice < 7 else _retype(rng, payload))
    return encode(out)
