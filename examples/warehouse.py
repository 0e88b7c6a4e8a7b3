"""A warehouse of robots that share their state: `python examples/warehouse.py --png warehouse.png`.

Every robot is a process with a node of its own. It moves along the aisles to what it fetches, looks
at where the others say they are, and tells where it is itself; there is no server. A third of the
way in one robot is killed and another goes out of radio range, where it works on alone and writes
into its own log. Later it comes back, and what it did meanwhile is merged: its deliveries count.

Owns: the floor, how a robot moves, and the picture. The map is redrawn ten times a second on a
terminal; elsewhere a line is printed every two seconds. The PNG shows every robot's way: dotted
while nothing was heard of it, a cross where it died.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from velum.fleet import Robot
from velum.robots import RobotNode

Cell = tuple[int, int]

WIDTH, HEIGHT = 62, 21  # cells: the map and a frame fit a terminal of 80 by 30
DOCKS = HEIGHT - 1  # the row of docks, one for each robot: nobody passes through it
STEP_S = 0.2  # five steps a second: 20 robots on two cores, and the picture still moves
FRAME_S = 0.1
LINE_S = 2.0  # between lines where nobody looks
WAITS_MAX = 3  # steps that a robot stands in front of another before it goes around
LOW, FULL = 35.0, 100.0  # percent of battery: goes to charge, goes to work
DRAIN, CHARGE = 0.2, 4.0  # percent a step: there and back takes a third at most
CONTROL = 1  # the id of the node that looks on; robots count up from here
START_S = 30.0  # many processes on a small machine start slowly


# ---- the floor ----


def is_shelf(x: int, y: int) -> bool:
    """Shelves stand two wide and seven long, with an aisle of three between them."""
    return x % 5 in (2, 3) and (2 <= y <= 8 or 12 <= y <= 18) and 1 < x < WIDTH - 1


PLACES = [
    (x, y) for x in range(WIDTH) for y in range(HEIGHT) if is_shelf(x + 1, y) and not is_shelf(x, y)
]


def neighbours(cell: Cell) -> Iterable[Cell]:
    """Where one step leads."""
    x, y = cell
    for nx, ny in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
        if 0 <= nx < WIDTH and 0 <= ny < HEIGHT and not is_shelf(nx, ny):
            yield nx, ny


def route(start: Cell, goal: Cell, taken: Set[Cell] = frozenset()) -> list[Cell]:
    """The cells of a shortest way, the start left out; empty when there is none. It leads through
    no cell that is taken and, but for its ends, past the docks in the last row."""
    came: dict[Cell, Cell] = {start: start}
    queue = deque([start])
    while queue and goal not in came:
        cell = queue.popleft()
        for near in neighbours(cell):
            if near not in came and near not in taken and (near[1] < DOCKS or near == goal):
                came[near] = cell
                queue.append(near)
    way: list[Cell] = []
    cell = goal
    while cell in came and cell != start:
        way.append(cell)
        cell = came[cell]
    return way[::-1]


class Mover:
    """One robot's mind: where it goes, and when it charges. It knows no network."""

    def __init__(self, number: int, seed: int) -> None:
        self._random = random.Random(f"{seed} {number}")
        self._dock: Cell = (2 * number % WIDTH, DOCKS)
        self.cell = random.Random(seed).sample(PLACES, len(PLACES))[number]
        self.battery = self._random.uniform(LOW, 2 * LOW)
        self.status = "active"
        self.delivered = 0
        self.told: tuple[str, int, int] | None = None  # what the others know of these three
        self._way: list[Cell] = []
        self._loaded = self._random.random() < 0.5
        self._waits = 0

    def step(self, taken: Set[Cell]) -> bool:
        """One step, if the others are not in the way; True when it has delivered something."""
        if self.status == "charging":
            self.battery = min(FULL, self.battery + CHARGE)
            if self.battery < FULL:
                return False
            self.status = "active"
        self.battery = max(0.0, self.battery - DRAIN)
        if not self._way:
            self._choose()
        elif self._way[0] in taken:
            self._waits += 1
            if self._waits % WAITS_MAX == 0:
                self._way = route(self.cell, self._way[-1], taken) or self._way
            return False
        else:
            self._waits = 0
            self.cell = self._way.pop(0)
        return self._arrived() if not self._way else False

    def _choose(self) -> None:
        """The dock with what it has fetched or when it has to charge, else some shelf."""
        goal = self._dock
        if not self._loaded and self.battery > LOW:
            goal = self._random.choice(PLACES)
        self._way = route(self.cell, goal)

    def _arrived(self) -> bool:
        if self.cell != self._dock:
            self._loaded = self._loaded or is_shelf(self.cell[0] + 1, self.cell[1])
            return False
        delivered, self._loaded = self._loaded, False
        self.delivered += delivered
        if self.battery <= LOW:
            self.status = "charging"
        return delivered


# ---- a robot's process ----


def live(name: str, id: int, home: str, folder: str, seed: int) -> None:
    """Is one robot until standard input ends. A line "cut" or "back" there is its radio."""
    wishes: deque[str] = deque()
    ended = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            wishes.append(line.strip())
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    mover = Mover(id - CONTROL, seed)
    robot = start(name, id, folder, home)
    try:
        while not ended.wait(STEP_S):
            if wishes:
                robot.close()
                robot = start(name, id, folder, home if wishes.popleft() == "back" else None)
            tell(robot, mover)
    finally:
        robot.close()


def start(name: str, id: int, folder: str, home: str | None) -> RobotNode:
    """A robot whose log is in the folder; without a home it hears nobody and nobody hears it."""
    return RobotNode(
        name,
        0,
        id=id,
        log=Path(folder, f"{name}.log"),
        join=[home] if home else [],
        beacon=False,
        workers=0,
        ram=0,
    )


def tell(robot: RobotNode, mover: Mover) -> None:
    """One step, told to all."""
    others = robot.fleet().values()
    taken = {cell_of(other) for other in others if other.name != robot.name and not other.away}
    if mover.step({cell for cell in taken if cell is not None}):
        robot.kv.incr("deliveries")
    robot.position = mover.cell
    figures = (mover.status, round(mover.battery), mover.delivered)
    if figures != mover.told:
        robot.status, robot.battery, robot.delivered = mover.told = figures


def cell_of(robot: Robot) -> Cell | None:
    """Where it says that it is."""
    position = robot.position
    if not isinstance(position, (list, tuple)) or len(position) != 2:
        return None
    x, y = position
    inside = isinstance(x, int) and isinstance(y, int) and 0 <= x < WIDTH and 0 <= y < HEIGHT
    return (x, y) if inside else None


# ---- the picture in the terminal ----


def sign(name: str) -> str:
    """The letter that a robot is on the map."""
    number = int(name.rpartition("_")[2] or 0) if name.rpartition("_")[2].isdigit() else 0
    return chr(ord("A") + (number - 1) % 26)


def map_lines(robots: Mapping[str, Robot], colours: bool) -> list[str]:
    """The floor with everybody on it; who is away is drawn where it was last heard of."""
    cells = {(x, y): "▒" for x in range(WIDTH) for y in range(HEIGHT) if is_shelf(x, y)}
    if colours:
        cells = {cell: f"\x1b[2m{text}\x1b[0m" for cell, text in cells.items()}
    for robot in sorted(robots.values(), key=lambda robot: not robot.away):
        cell = cell_of(robot)
        if cell is not None:
            letter = sign(robot.name).lower() if robot.away else sign(robot.name)
            code = "31" if robot.away else "33" if robot.status == "charging" else "1;32"
            cells[cell] = f"\x1b[{code}m{letter}\x1b[0m" if colours else letter
    rows = ["".join(cells.get((x, y), " ") for x in range(WIDTH)) for y in range(HEIGHT)]
    edge = "+" + "-" * WIDTH + "+"
    return [edge, *(f"|{row}|" for row in rows), edge]


def summary(robots: Mapping[str, Robot], deliveries: int) -> str:
    """``19 of 20 robots are here, 2 charge; deliveries: 37``."""
    placed = [robot for robot in robots.values() if cell_of(robot) is not None]
    here = [robot for robot in placed if not robot.away]
    charging = sum(robot.status == "charging" for robot in here)
    counts = f"{len(here)} of {len(placed)} robots are here, {charging} charge"
    return f"{counts}; deliveries: {deliveries}"


def away_lines(robots: Mapping[str, Robot]) -> list[str]:
    """``g robot_07 is away, heard 3.2 s ago at [12, 5]``."""
    lines = []
    for robot in robots.values():
        if robot.away and cell_of(robot) is not None:
            age = robot.figures["position"].age
            name = f"{sign(robot.name).lower()} {robot.name}"
            lines.append(f"{name} is away, heard {age:.1f} s ago at {list(robot.position)}")
    return lines


class Screen:
    """A picture that is redrawn in place; a line now and then where nobody looks."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._next = 0.0

    def show(self, robots: Mapping[str, Robot], deliveries: int, story: Sequence[str]) -> None:
        """Shows how it is now."""
        line = summary(robots, deliveries)
        if not self._live:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + LINE_S
                print(line, flush=True)
            return
        lines = [*map_lines(robots, True), line, *away_lines(robots), *story[-3:]]
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\r{text}\x1b[K\n" for text in lines)
        sys.stdout.write(f"{back}{body}\x1b[J")
        sys.stdout.flush()
        self._drawn = len(lines)

    def say(self, text: str) -> None:
        """Something has happened."""
        if not self._live:
            print(text, flush=True)


# ---- the picture in a file ----

SCALE = 14  # pixels of a cell
LANES = 5  # ways through one cell lie beside each other
Colour = tuple[int, int, int]
FLOOR, SHELF, BLACK = (250, 250, 247), (214, 205, 190), (30, 30, 30)


def hue(number: int) -> Colour:
    """A colour that is unlike its neighbours'."""
    sixth, rest = divmod(number * 0.618034 % 1.0 * 6, 1.0)
    rise, fall = int(60 + 150 * rest), int(210 - 150 * rest)
    wheel = [(210, rise, 60), (fall, 210, 60), (60, 210, rise), (60, fall, 210), (rise, 60, 210)]
    return (*wheel, (210, 60, fall))[int(sixth)]


class Canvas:
    """Pixels, and the PNG that they are."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = bytearray(bytes(FLOOR) * (width * height))

    def dot(self, x: int, y: int, radius: int, colour: Colour) -> None:
        """A disc, as much of it as is inside."""
        for row in range(max(0, y - radius), min(self.height, y + radius + 1)):
            for column in range(max(0, x - radius), min(self.width, x + radius + 1)):
                if (row - y) ** 2 + (column - x) ** 2 <= radius * radius:
                    at = 3 * (row * self.width + column)
                    self._pixels[at : at + 3] = bytes(colour)

    def box(self, cell: Cell, colour: Colour) -> None:
        """A whole cell."""
        for row in range(cell[1] * SCALE, (cell[1] + 1) * SCALE):
            at = 3 * (row * self.width + cell[0] * SCALE)
            self._pixels[at : at + 3 * SCALE] = bytes(colour) * SCALE

    def line(self, a: Cell, b: Cell, radius: int, colour: Colour, gap: int = 1) -> None:
        """A line; with a gap one of dots."""
        steps = max(abs(a[0] - b[0]), abs(a[1] - b[1]), 1)
        for step in range(0, steps + 1, gap):
            x = a[0] + (b[0] - a[0]) * step // steps
            self.dot(x, a[1] + (b[1] - a[1]) * step // steps, radius, colour)

    def png(self) -> bytes:
        """8 bits of red, green and blue each, no filter (PNG, RFC 2083)."""
        size = 3 * self.width
        rows = (self._pixels[at : at + size] for at in range(0, len(self._pixels), size))
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
        chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def painted(trails: Mapping[str, Sequence[Cell]], robots: Mapping[str, Robot]) -> bytes:
    """Everybody's way as a PNG; cells that are not next to each other are a gap."""
    canvas = Canvas(WIDTH * SCALE, HEIGHT * SCALE)
    for x in range(WIDTH):
        for y in range(HEIGHT):
            if is_shelf(x, y):
                canvas.box((x, y), SHELF)
    for number, (name, trail) in enumerate(sorted(trails.items())):
        for a, b in zip(trail, trail[1:], strict=False):
            apart = abs(a[0] - b[0]) + abs(a[1] - b[1])
            ends = pixel(a, number), pixel(b, number)
            canvas.line(*ends, 1, hue(number), 1 if apart <= 1 else SCALE // 2)
        robot = robots.get(name)
        x, y = pixel(trail[-1], number)
        if robot is None or robot.away:
            for side in (-1, 1):
                canvas.line((x - 5, y - 5 * side), (x + 5, y + 5 * side), 1, BLACK)
        else:
            canvas.dot(x, y, 5, BLACK)
            canvas.dot(x, y, 4, hue(number))
    return canvas.png()


def pixel(cell: Cell, number: int) -> Cell:
    """Near the middle of a cell: in a robot's own lane."""
    aside = SCALE // 2 + 2 * (number % LANES - LANES // 2)
    return cell[0] * SCALE + aside, cell[1] * SCALE + aside


# ---- the whole ----


class Warehouse:
    """Starts the robots, looks on, and lets happen what is to happen."""

    def __init__(self, count: int, seed: int, folder: str) -> None:
        self.names = [f"robot_{number:02d}" for number in range(1, count + 1)]
        self.story: list[str] = []
        self.trails: dict[str, list[Cell]] = {}
        self.screen = Screen()
        self.control = start("control", CONTROL, folder, None)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        home = self.control.node.address
        for number, name in enumerate(self.names, CONTROL + 1):
            words = ["--robot", name, str(number), home, folder, str(seed)]
            self._processes[name] = subprocess.Popen(
                [sys.executable, __file__, *words], stdin=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip

    def look(self) -> dict[str, Robot]:
        """How everybody is; shown, and noted for the picture."""
        robots = self.control.fleet()
        for robot in robots.values():
            cell = cell_of(robot)
            trail = self.trails.setdefault(robot.name, []) if cell is not None else []
            if cell is not None and trail[-1:] != [cell]:
                trail.append(cell)
        self.screen.show(robots, int(self.control.kv.get("deliveries", 0)), self.story)
        return robots

    def all_here(self) -> bool:
        """Whether every robot has told where it is."""
        return len([name for name in self.look() if name in self.names]) == len(self.names)

    def watch(self, seconds: float) -> None:
        """Looks on for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(FRAME_S)

    def kill(self, name: str) -> None:
        """It says nothing to anybody."""
        self._processes[name].kill()
        self._tell(f"{name} dies")

    def radio(self, name: str, on: bool) -> None:
        """In range again, or out of it."""
        pipe = self._processes[name].stdin
        assert pipe is not None
        pipe.write("back\n" if on else "cut\n")
        pipe.flush()
        self._tell(f"{name} is back in range" if on else f"{name} goes out of range, and works on")

    def _tell(self, text: str) -> None:
        self.story.append(text)
        self.screen.say(text)

    def close(self) -> None:
        """Ends all of them."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.control.close()


def run(count: int, seconds: float, seed: int, png: str | None) -> int:
    """The story from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(count, seed, folder)
        try:
            end = time.monotonic() + START_S
            while not warehouse.all_here():
                if time.monotonic() > end:
                    print("not all robots have come up", file=sys.stderr)
                    return 1
                time.sleep(FRAME_S)
            dies, leaves = warehouse.names[-1], warehouse.names[0]
            warehouse.watch(seconds / 3)
            warehouse.kill(dies)
            warehouse.radio(leaves, False)
            warehouse.watch(seconds / 3)
            warehouse.radio(leaves, True)
            warehouse.watch(seconds / 3)
            robots = warehouse.look()
            said = sum(robot.figures["delivered"].value for robot in robots.values()
                       if "delivered" in robot.figures)  # fmt: skip
            total = warehouse.control.kv.get("deliveries", 0)
            print(f"the counter says {total} deliveries, the robots say {said}")
            print("\n".join(away_lines(robots)))
            if png:
                Path(png).write_bytes(painted(warehouse.trails, robots))
                print(f"wrote {png}")
            return 0
        finally:
            warehouse.close()


def main() -> int:
    """Reads the words of the command line."""
    parser = argparse.ArgumentParser(description="Robots in a warehouse share their state.")
    parser.add_argument("--robots", type=int, default=20, help="how many, 3 to 26 (default 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="decides who goes where")
    parser.add_argument("--png", metavar="FILE", help="draw everybody's way there")
    parser.add_argument("--robot", nargs=5, help=argparse.SUPPRESS)  # its own robots
    args = parser.parse_args()
    if args.robot:
        name, id, home, folder, seed = args.robot
        live(name, int(id), home, folder, int(seed))
        return 0
    if not 3 <= args.robots <= 26:
        parser.error("3 to 26 robots")
    try:
        return run(args.robots, args.seconds, args.seed, args.png)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
