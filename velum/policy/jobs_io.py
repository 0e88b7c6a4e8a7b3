"""What the jobs of a node hear and what they ask for: events and effects of `policy/jobs.py`.

Owns: their shapes. Refuses to know: how either comes about. Events are past-tense nouns, effects
are verbs. They are not frozen: a report comes for every lease many times a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .job import Failure, Record, Run, Spec

# ---- events ----


@dataclass(slots=True)
class JobSubmitted:
    """A client of this node, or its program, wants this job, and its `values` too or not. Its
    module is held here. `fresh`: it has been made just now, so nobody else can have it yet; else
    others are asked before it is started."""

    spec: Spec
    fresh: bool
    values: bool = False


@dataclass(slots=True)
class WatchBegan:
    """A client of this node wants to know of a job by its id, and of its `values` too or not; ends
    in Tell or Refuse."""

    job: int
    values: bool = False


@dataclass(slots=True)
class CancelRequested:
    """Somebody, here or elsewhere, wants the job cancelled."""

    job: int


@dataclass(slots=True)
class ResumeRequested:
    """Somebody wants a failed or cancelled job taken up again."""

    job: int


@dataclass(slots=True)
class HoldRequested:
    """A node wants to be a holder of the job."""

    job: int
    node: int


@dataclass(slots=True)
class JobUnknown:
    """A node that was asked for the job has not got it."""

    job: int
    node: int


@dataclass(slots=True)
class SpecHeard:
    """A node says what a job is: this node shall hold a copy."""

    spec: Spec
    node: int


@dataclass(slots=True)
class RecordHeard:
    """A node says how a job stands."""

    record: Record
    node: int


@dataclass(slots=True)
class CopyHeard:
    """A node tells of slices, to be merged."""

    job: int
    node: int
    runs: Sequence[Run]
    failures: Sequence[Failure]


@dataclass(slots=True)
class LeaseReported:
    """A node reports of a lease of ours; `last`: it is over."""

    node: int
    ticket: int
    job: int
    runs: Sequence[Run]
    failures: Sequence[Failure]
    busy_us: int
    last: bool


@dataclass(slots=True)
class LeaseRefused:
    """A lease of ours ended with an error; `deaths` as in the frame ERROR."""

    node: int
    ticket: int
    code: int
    deaths: int
    text: str


@dataclass(slots=True)
class ModuleHeld:
    """The module of a job that this node holds is here now."""

    job: int


@dataclass(slots=True)
class JobRestored:
    """A journal tells of a job from before this node's start. The module is held if it was there;
    ModuleHeld says so."""

    spec: Spec
    record: Record
    runs: Sequence[Run]
    failures: Sequence[Failure]


@dataclass(slots=True)
class MemberUsable:
    """A member can be sent leases, this node too; `holds`: it can keep copies (a full node)."""

    node: int
    slots: int
    speed: int
    holds: bool


@dataclass(slots=True)
class MemberLost:
    """A member is suspected, unreachable or gone, or the link to it was lost and with it what was
    under way; `gone`: dead or left by the membership's word."""

    node: int
    gone: bool


@dataclass(slots=True)
class LeaveStarted:
    """This node leaves: copies get what they lack, no more leases are granted."""


@dataclass(slots=True)
class TimePassed:
    """The instant that next_deadline() named has come. Early or late does no harm."""


Event = (
    JobSubmitted
    | WatchBegan
    | CancelRequested
    | ResumeRequested
    | HoldRequested
    | JobUnknown
    | SpecHeard
    | RecordHeard
    | CopyHeard
    | LeaseReported
    | LeaseRefused
    | ModuleHeld
    | JobRestored
    | MemberUsable
    | MemberLost
    | LeaveStarted
    | TimePassed
)

# ---- effects ----


@dataclass(slots=True)
class Grant:
    """Send a LEASE of slices [first, first + count) to the node, which may be this one."""

    node: int
    ticket: int
    spec: Spec
    first: int
    count: int
    careful: bool


@dataclass(slots=True)
class Trim:
    """Tell the node that the lease keeps slices below `end` only."""

    node: int
    ticket: int
    end: int


@dataclass(slots=True)
class Revoke:
    """Tell the node to end the lease; nobody waits for its report."""

    node: int
    ticket: int


@dataclass(slots=True)
class SendSpec:
    """Send SCATTER to a node that is to hold the job."""

    node: int
    spec: Spec


@dataclass(slots=True)
class SendCopy:
    """Send SLICES to a holder; large ones in several frames."""

    node: int
    job: int
    runs: list[Run]
    failures: list[Failure]


@dataclass(slots=True)
class SendRecord:
    """Send JOB to a node."""

    node: int
    record: Record


@dataclass(slots=True)
class SendAsk:
    """Send JOB_ASK to a node."""

    node: int
    job: int
    ask: int


@dataclass(slots=True)
class NeedModule:
    """Get the job's module from the node, and hold it until Forget; ModuleHeld follows."""

    job: int
    hash: bytes
    node: int


@dataclass(slots=True)
class Begin:
    """This node holds a copy of the job from now on: open its journal. Comes before all else of
    the job."""

    spec: Spec


@dataclass(slots=True)
class Keep:
    """The ledger has gained these: journal them, and pass them to who follows the values here."""

    job: int
    runs: list[Run]
    failures: list[Failure]


@dataclass(slots=True)
class Tell:
    """The record as known here has changed: journal it, tell who watches here."""

    record: Record


@dataclass(slots=True)
class Refuse:
    """The job that was submitted or asked for here cannot be had: tell who waits for it."""

    job: int
    code: int
    text: str


@dataclass(slots=True)
class Forget:
    """The job's time is up: drop its module and journal."""

    job: int


Effect = (
    Grant
    | Trim
    | Revoke
    | SendSpec
    | SendCopy
    | SendRecord
    | SendAsk
    | NeedModule
    | Begin
    | Keep
    | Tell
    | Refuse
    | Forget
)
