"""The numbers of the membership protocol, each with its reason.

Owns: intervals, counts and bounds of policy/membership.py. Refuses to know: how they are used.
What they add up to is measured: docs/membership.md has the table, bench/membership_table.py makes
it. Suspicion, dissemination and probe timeouts have theirs in their own files.
"""

# One member is probed each period. A crash is first probed after about one period whatever the
# size of the mesh, and the cost is two small datagrams a node and period.
PERIOD_MS = 1_000

# The period of a small mesh, where few probe each member and the longest gap between two probes
# counts: with three others 3 s at worst, so that a stopped process is suspected within 4 s.
PERIOD_SMALL_MS = 600

# Second stage of a probe: helpers try, and the direct way is tried again. With the direct stage
# (300 to 500 ms) it fits into a period.
INDIRECT_MS = 500

# Helpers of an indirect probe, as in SWIM: with 10% loss all three ways fail once in 25 times.
HELPERS = 3

# A helper says NACK after this time: two thirds of what the asking node waits, so that the NACK
# arrives before it gives up.
NACK_MS = 330

# Members that check a fresh accusation at once, on average. With 8, three or more do in 98% of
# cases, which is what makes a suspicion certain.
CONFIRMERS = 8

# An accuser speaks to the suspect again so often: it can refute within a round trip once it hears.
TELL_MS = 600

# Who only heard of a suspicion and of no end to it for this long, longer than either a death or a
# refutation takes to get around, asks the suspect itself: the refutation may have missed it.
DOUBT_MS = 4_000

# Interval and width of gossip while there is news: a few intervals reach everybody.
GOSSIP_MS = 50
GOSSIP_WIDTH = 3

# Beacon interval of a small mesh, and the size from which beacons get rarer, so that a large mesh
# broadcasts about ten a second at any size.
BEACON_MS = 3_000
BEACON_MEMBERS = 32

# Members that answer a beacon, on average: enough that one does, few enough not to flood it.
BEACON_ANSWERS = 8

# A node alone tries its seeds again after this time, doubled each time up to the second.
SEED_MS_MIN = 500
SEED_MS_MAX = 5_000

# A node among others looks so often for a seed that it does not see, as after a mass restart in
# two halves. The mesh as a whole keeps the pace of SEEK_MEMBERS: an exchange costs 44 bytes a
# member each way.
SEED_MISSING_MS = 15_000

# A node tries one dead member so often; past SEEK_FADE_MS after a death, ever more rarely: twice as
# long ago, half as often. Above SEEK_MEMBERS the mesh as a whole keeps the pace of that many.
SEEK_MS = 3_000
SEEK_FADE_MS = 60_000
SEEK_MEMBERS = 16

# When one of the dead comes back, others may have: every node that sees it tries so many of its
# dead, one each interval. After a partition this finds those whose return was missed in the rush.
EAGER_SEEKS = 10
EAGER_SEEK_MS = 1_000

# No second exchange with the same address, and no second word on a clash of ids, within this time.
HOLD_MS = 1_000

# Exchanges asked for within HOLD_MS: datagrams with invented senders cannot make a node dial more.
EXCHANGES_MAX = 32

# A node that is still joining and hears of an id like its own with an incarnation this far in the
# future has a clock that is behind: the other was there before it all the same.
CLOCK_SKEW_MS = 2_000

# A small mesh: every pair of members keeps a TCP link, so that a killed process is noticed at once.
# These are 120 links in all, 15 a node.
SMALL_MEMBERS = 16

# A node that comes this much too late to its own deadline was stopped, or starved: what it missed
# meanwhile says nothing about others.
OVERSLEPT_MS = 1_000

# Probes under way for others: a bound, far above what an honest mesh asks of one node.
RELAYS_MAX = 1_024

# A leave is told to so many members directly; in a larger mesh gossip does the rest.
FAREWELLS = 64

# Variation of the slow intervals, either way, so that nodes started together drift apart.
JITTER_PERCENT = 20
