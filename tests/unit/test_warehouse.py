"""The example's parts that need no node: the floor, how a robot moves, and both pictures."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import pytest

from examples import warehouse
from examples.warehouse import Canvas, Mover, is_shelf, neighbours, route
from velum.fleet import Figure, Robot


def robot(name: str, position: object, state: str = "alive", **figures: object) -> Robot:
    told = {"position": position, **figures}
    return Robot(name, 5, state, {key: Figure(value, 3.2) for key, value in told.items()})


def test_ways_lead_around_shelves() -> None:
    for start, goal in (((1, 5), (4, 5)), ((0, 20), (61, 20)), ((1, 2), (1, 2))):
        way = route(start, goal)
        for before, after in zip([start, *way], way, strict=False):
            assert after in set(neighbours(before)) and not is_shelf(*after)
            assert after[1] < warehouse.DOCKS or after == goal
        assert way[-1:] == ([goal] if start != goal else [])
    assert len(route((1, 5), (4, 5))) == 3 + 2 * 4, "around the near end"
    assert route((0, 0), (2, 5)) == [], "nobody climbs a shelf"
    assert route((0, 0), (2, 0), {(1, 0)})[:2] == [(0, 1), (1, 1)], "nobody runs into another"


def test_a_robot_fetches_delivers_and_charges() -> None:
    mover = Mover(1, 7)
    charged = False
    for _ in range(3000):
        before = mover.cell
        if mover.step(set()):
            assert mover.cell == (2, warehouse.DOCKS)
        charged = charged or mover.status == "charging"
        assert mover.cell == before or mover.cell in set(neighbours(before))
        assert mover.battery > 0
    assert mover.delivered > 10 and charged
    twin = Mover(1, 7)
    for _ in range(3000):
        twin.step(set())
    assert (twin.cell, twin.delivered) == (mover.cell, mover.delivered), "one seed, one way"


def test_a_robot_gives_way_and_goes_around() -> None:
    mover = Mover(2, 7)
    while not mover.step(set()):
        pass
    mover.step(set())
    start, around = mover.cell, set(neighbours(mover.cell))
    for _ in range(3 * warehouse.WAITS_MAX):
        assert not mover.step(around) and mover.cell == start
    for _ in range(8):
        mover.step(set())
    start = mover.cell
    front = {route(start, (61, 0))[0], route(start, (0, 0))[0]} - {start}
    for _ in range(8 * warehouse.WAITS_MAX):
        mover.step(front)
        assert mover.cell not in front
    assert mover.cell != start


def test_robots_do_not_stand_in_each_others_way_for_ever() -> None:
    movers = [Mover(number, 3) for number in range(1, 21)]
    for _ in range(1500):
        for mover in movers:
            mover.step({other.cell for other in movers if other is not mover})
        assert len({mover.cell for mover in movers}) == len(movers)
    assert min(mover.delivered for mover in movers) > 3


def test_the_map() -> None:
    robots = {
        r.name: r
        for r in (
            robot("robot_01", [0, 0], status="active"),
            robot("robot_02", (1, 0), "dead"),
            robot("robot_03", [5, 1], status="charging"),
            robot("robot_04", [99, 0]),
            robot("robot_05", [5, 1], "left"),
            robot("control", "nowhere"),
        )
    }
    lines = warehouse.map_lines(robots, False)
    assert len(lines) == warehouse.HEIGHT + 2 and {len(line) for line in lines} == {64}
    assert lines[1].startswith("|Ab  ") and lines[2][6] == "C" and "▒▒" in lines[3]
    assert warehouse.summary(robots, 7) == "2 of 4 robots are here, 1 charge; deliveries: 7"
    first, second = warehouse.away_lines(robots)
    assert first == "b robot_02 is away, heard 3.2 s ago at [1, 0]" and "robot_05" in second
    assert "\x1b[31mb\x1b[0m" in warehouse.map_lines(robots, True)[1]


def test_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    robots = {"robot_01": robot("robot_01", [0, 0])}
    for out, live in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", out)
        screen = warehouse.Screen()
        for _ in range(3):
            screen.show(robots, 0, ["robot_09 dies"])
        screen.say("robot_09 dies")
        text = out.getvalue()
        assert text.count("1 of 1 robots") == (3 if live else 1)
        assert text.count("robot_09 dies") == (3 if live else 1)
        assert text.count(f"\x1b[{warehouse.HEIGHT + 4}A") == (2 if live else 0)


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """What a PNG of this kind holds: width, height, three bytes a pixel."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size :][:4])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0] and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == height * (3 * width + 1)
    assert not any(rows[:: 3 * width + 1]), "no filter"
    lines = [rows[at + 1 : at + 1 + 3 * width] for at in range(0, len(rows), 3 * width + 1)]
    return width, height, b"".join(lines)


def test_the_canvas() -> None:
    canvas = Canvas(9, 5)
    canvas.dot(4, 2, 1, (1, 2, 3))
    canvas.line((0, 0), (8, 0), 0, (4, 5, 6), 4)
    canvas.dot(-3, 99, 2, (7, 7, 7))
    width, height, data = pixels(canvas.png())
    assert (width, height) == (9, 5)

    def where(colour: tuple[int, int, int]) -> list[tuple[int, int]]:
        spots = [at // 3 for at in range(0, len(data), 3) if data[at : at + 3] == bytes(colour)]
        return [(spot % 9, spot // 9) for spot in spots]

    assert where((1, 2, 3)) == [(4, 1), (3, 2), (4, 2), (5, 2), (4, 3)]
    assert where((4, 5, 6)) == [(0, 0), (4, 0), (8, 0)] and where((7, 7, 7)) == []


def test_the_picture() -> None:
    trails = {"robot_01": [(0, 0), (1, 0), (9, 0)], "robot_02": [(20, 10)]}
    robots = {
        "robot_01": robot("robot_01", [9, 0]),
        "robot_02": robot("robot_02", [20, 10], "dead"),
    }
    width, height, data = pixels(warehouse.painted(trails, robots))
    assert (width, height) == (62 * warehouse.SCALE, 21 * warehouse.SCALE)

    def at(x: int, y: int) -> tuple[int, ...]:
        spot = 3 * (y * width + x)
        return tuple(data[spot : spot + 3])

    middle = warehouse.pixel((0, 0), 0)[1]
    colour = warehouse.hue(0)
    assert at(warehouse.SCALE, middle) == colour, "one step: a line"
    gaps = [at(x, middle) == colour for x in range(2 * warehouse.SCALE, 8 * warehouse.SCALE)]
    assert 10 < sum(gaps) < len(gaps) // 2, "nothing was heard: dots"
    x, y = warehouse.pixel((20, 10), 1)
    assert at(x + 5, y + 5) == at(x - 5, y + 5) == warehouse.BLACK, "a cross"
    assert at(*warehouse.pixel((9, 0), 0)) == colour
    assert (
        at(*warehouse.pixel((2, 5), 0)) == warehouse.SHELF and at(6, height - 2) == warehouse.FLOOR
    )
    assert len({warehouse.hue(number) for number in range(26)}) == 26
