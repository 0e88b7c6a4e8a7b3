"""The codes of the frames that travel on links, as the core's one table has them."""

from __future__ import annotations

from velum import _core

_CODES = _core.frame_types()

CALL = _CODES["CALL"]
TASK = _CODES["TASK"]
RESULT = _CODES["RESULT"]
ERROR = _CODES["ERROR"]
PROGRESS = _CODES["PROGRESS"]
CANCEL = _CODES["CANCEL"]
SCATTER = _CODES["SCATTER"]
LEASE = _CODES["LEASE"]
SLICES = _CODES["SLICES"]
TRIM = _CODES["TRIM"]
JOB = _CODES["JOB"]
JOB_ASK = _CODES["JOB_ASK"]
SYNC = _CODES["SYNC"]
SYNC_REPLY = _CODES["SYNC_REPLY"]
HEALTH = _CODES["HEALTH"]
QUERY = _CODES["QUERY"]
ANSWER = _CODES["ANSWER"]
