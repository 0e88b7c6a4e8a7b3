"""Who is a member of the shared state: nobody is lost, and who is forgotten stays so."""

from __future__ import annotations

import pytest

from velum.policy import kvroster
from velum.policy.kvroster import Meeting, Member, Roster, read_roster

ME = Member(1, 0x11)
TWO = Member(2, 0x22)
THREE = Member(3, 0x33)


def roster(*members: Member, forgotten: tuple[int, ...] = ()) -> Roster:
    return Roster(ME, members, forgotten)


def test_who_is_met_is_a_member_once() -> None:
    r = roster()
    assert r.met(TWO) is Meeting.NEW
    assert r.met(TWO) is Meeting.KNOWN
    assert r.members == {ME, TWO} and r.others == {TWO}


def test_rosters_merge_to_the_same_in_any_order() -> None:
    a, b = roster(TWO), Roster(TWO, [THREE], [0x99])
    assert a.merge(b.members, b.forgotten)
    assert b.merge(a.members, a.forgotten)
    assert a.members == b.members == {ME, TWO, THREE}
    assert a.digest == b.digest
    assert not a.merge(b.members, b.forgotten), "nothing new"


def test_forgetting_wins_over_every_sighting() -> None:
    a, b = roster(TWO, THREE), Roster(THREE, [ME, TWO])
    assert a.forget(2)
    assert not a.merge(b.members, b.forgotten), "another has seen it"
    assert a.met(TWO) is Meeting.REFUSED
    assert b.merge(a.members, a.forgotten)
    assert TWO not in b.members and b.met(TWO) is Meeting.REFUSED


def test_a_forgotten_node_comes_back_with_another_store() -> None:
    r = roster(TWO)
    assert r.forget(2)
    assert r.met(Member(2, 0x44)) is Meeting.NEW
    assert r.others == {Member(2, 0x44)}


def test_a_node_has_one_store() -> None:
    r = roster(TWO)
    assert r.met(Member(2, 0x44)) is Meeting.NEW
    assert r.others == {Member(2, 0x44)} and 0x22 in r.forgotten
    assert r.met(TWO) is Meeting.REFUSED, "the older log is put back"


def test_who_is_forgotten_itself_knows_it() -> None:
    r = roster(TWO)
    assert r.merge([TWO], [ME.store]) and r.is_out and not r.confirmed


@pytest.mark.parametrize("id", [1, 9])
def test_oneself_and_strangers_are_not_forgotten(id: int) -> None:
    r = roster(TWO)
    assert not r.forget(id) and r.members == {ME, TWO}


def test_a_link_to_oneself_is_refused() -> None:
    assert roster().met(Member(1, 0x99)) is Meeting.REFUSED


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvroster, "MEMBERS_MAX", 2)
    monkeypatch.setattr(kvroster, "FORGOTTEN_MAX", 1)
    r = roster(TWO)
    assert r.met(THREE) is Meeting.REFUSED
    assert not r.merge([THREE], []) and not r.merge([], [1, 2])
    assert r.met(Member(2, 0x44)) is Meeting.NEW, "in its own place"
    assert not r.forget(2), "no room"


def test_who_votes() -> None:
    r = roster()
    assert r.confirmed, "alone"
    r.met(TWO)
    assert not r.confirmed and r.majority == 2
    assert r.confirm() and r.confirmed and not r.confirm()
    r.forget(2)
    r.met(THREE)
    assert not r.confirmed, "it is another roster"


def test_the_file_says_it_all() -> None:
    r = roster(TWO, THREE)
    r.forget(3)
    r.confirm()
    again = read_roster(1, r.text())
    assert (again.me, again.members, again.forgotten) == (r.me, r.members, r.forgotten)
    assert again.digest == r.digest and again.confirmed
    r.met(THREE._replace(store=7))
    assert not read_roster(1, r.text()).confirmed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "member 2 0000000000000022\n",
        "self 11\n",
        "self 0000000000000011\nmember 0 0000000000000022\n",
        "self 0000000000000011\nmember 65536 0000000000000022\n",
        "self 0000000000000011\nfriend 2\n",
        "self 000000000000001G\n",
    ],
)
def test_a_file_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="members"):
        read_roster(1, text)
