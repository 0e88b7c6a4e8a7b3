"""What a run of chaos takes for right: what a read of a file may find, and what is put."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from velum.chaoscalls import SIZE_MAX, codings, draw_content
from velum.chaoshistory import BLOCK_BYTES, Content, History, Write, digest_of

A, B, C = (Content(seed, 10, False) for seed in (1, 2, 3))


class Told:
    """A history of one name; times are small integers."""

    def __init__(self) -> None:
        self.history = History(["name"])

    def write(self, content: Content | None, began: float, ended: float, sure: bool) -> Write:
        write = self.history.begin("name", content, began)
        (self.history.acknowledge if sure else self.history.doubt)(write, ended)
        return write

    def found(self, began: float, ended: float) -> list[Content | None]:
        return [write.content for write in self.history.possible("name", began, ended)]


def test_there_is_nothing_at_first() -> None:
    assert Told().found(0, 1) == [None]


def test_what_was_acknowledged_is_found_and_nothing_older() -> None:
    told = Told()
    told.write(A, 1, 2, sure=True)
    assert told.found(1.5, 3) == [None, A], "the read began before it was acknowledged"
    assert told.found(3, 4) == [A]
    told.write(B, 3, 5, sure=True)
    assert told.found(4, 6) == [A, B]
    assert told.found(6, 7) == [B]


def test_what_was_removed_does_not_return() -> None:
    told = Told()
    told.write(A, 1, 2, sure=True)
    told.write(None, 3, 4, sure=True)
    assert told.found(5, 6) == [None]
    told.write(A, 7, 8, sure=True)
    assert told.found(9, 10) == [A]


def test_an_error_leaves_both_possible_until_the_next_write() -> None:
    told = Told()
    told.write(A, 1, 2, sure=True)
    told.write(B, 3, 4, sure=False)
    assert told.found(5, 6) == [A, B]
    told.write(None, 7, 8, sure=False)
    assert told.found(9, 10) == [A, B, None]
    told.write(C, 11, 12, sure=True)
    assert told.found(13, 14) == [C], "it is later than all that was in doubt before"


def test_of_two_at_once_either_is_the_later() -> None:
    told = Told()
    told.write(A, 1, 4, sure=True)
    told.write(B, 2, 3, sure=True)
    assert told.found(5, 6) == [A, B]
    told.write(C, 1, 3, sure=False)
    assert told.found(5, 6) == [A, B, C]


def test_what_is_under_way_may_be_found_and_what_begins_later_not() -> None:
    told = Told()
    write = told.history.begin("name", A, 5)
    assert told.found(1, 4) == [None]
    assert told.found(6, 7) == [None, A]
    told.history.forget("name", write)
    assert told.found(6, 7) == [None]


def test_contents_follow_from_their_seeds() -> None:
    rng = random.Random(1)
    contents = [draw_content(rng) for _ in range(300)]
    assert any(not content.size for content in contents)
    assert max(content.size for content in contents) > SIZE_MAX // 2
    for content in contents[:40]:
        data = content.data()
        assert len(data) == content.size <= SIZE_MAX
        assert data == content.data() and content.digest == digest_of(data)
    digests = [content.digest for content in contents if content.size > 100]
    assert len(set(digests)) == len(digests), "each is told from all others"


def test_some_contents_have_chunks_in_common() -> None:
    files = [Content(seed, 8 * BLOCK_BYTES, True).data() for seed in range(4)]
    cuts = list(pairwise(range(0, 9 * BLOCK_BYTES, BLOCK_BYTES)))
    blocks = [{data[begin:end] for begin, end in cuts} for data in files]
    assert len(set(files)) == 4 and len(set().union(*blocks)) < sum(map(len, blocks))


@pytest.mark.parametrize("nodes", [4, 5, 6, 9])
def test_no_coding_loses_a_file_with_one_node(nodes: int) -> None:
    for coding in codings(nodes):
        if coding.ec:
            k, m = coding.ec
            on_one = -(-(k + m) // (nodes - 1))  # while one node is away already
            assert on_one <= m
        else:
            assert coding.copies in range(2, nodes)
