"""The numbers of the jobs' protocol, each with its reason.

Owns: intervals, counts and bounds of policy/jobs.py. Refuses to know: how they are used. How fast
jobs are adopted by them is measured: docs/scaling.md.
"""

from typing import Final

# A coordinator tells of its jobs so often: four times within what a person takes for at once, and
# ten times before its silence means anything.
BEAT_MS: Final = 250
SILENT_MS: Final = 2500
# Of a coordinator whose link has closed: one that lives has dialled again and told of the job.
SUSPECTED_MS: Final = 400
# Holders that might adopt wait for each other so long: an order of magnitude above a round trip.
RANK_MS: Final = 600
UNRANKED: Final = 20  # a node that holds a copy, though the record does not name it, waits so long
GONE_MS: Final = 20  # a coordinator that is gone for certain
MODULE_MS: Final = 3000  # more for one without the module: others may have it
MODULE_TRIES_MAX: Final = 20  # a minute of asking for it
SEEK_MS: Final = 1500  # for all members to say whether they know a job
NO_WORKER_MS: Final = 10_000  # as for a single task
COMPARE_MS: Final = 1000  # between two copies sent or asked for because checksums differ
RUNNING_MAX: Final = 64  # jobs that one node coordinates
RETAIN_MS: Final = 3_600_000  # of what has ended: time to fetch an answer after a break
RETAIN_BYTES_MAX: Final = 64 << 20  # twice a node's own memory
HELD_BYTES_MAX: Final = 512 << 20  # of ledgers of running jobs: 56 of a million slices
TOLD_AGAIN_MAX: Final = 256  # ended jobs, the latest, that a member is told of when it comes
SLICE_BYTES: Final = 9
JOB_BYTES: Final = 4096  # of a job beside its slices, about

# Errors of a lease that are the job's own fault: they would come from every node.
JOB_FAULTS: Final = range(40, 60)
MODULE_MISSING: Final = 54
