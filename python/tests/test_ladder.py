"""The keeper's decisions over every state and every observation."""

from __future__ import annotations

import itertools

from pitboss import _ladder
from pitboss._ladder import Ladder, Seen

BOOLS = (False, True)
STATES = [
    Ladder(stopping=s, killing=k, kill_at=at, termed=t, reported=r)
    for s, k, at, t, r in itertools.product(BOOLS, BOOLS, (None, 10.0), BOOLS, BOOLS)
    if (s or not (k or t)) and (s or at is None)
]
SEEN = [Seen(*row) for row in itertools.product(BOOLS, repeat=4)]


def test_every_pair() -> None:
    for state, seen, now in itertools.product(STATES, SEEN, (9.0, 10.0)):
        after, actions = _ladder.decide(state, seen, now)
        assert len(set(actions)) == len(actions)
        killing = state.killing or (state.kill_at is not None and now >= state.kill_at)
        empty = seen.leader_dead and not seen.in_group and not seen.strays
        assert (_ladder.FINISH in actions) == (empty and seen.may_reap)
        assert (_ladder.REAP in actions) == (_ladder.FINISH in actions and not state.reaped)
        assert (_ladder.REPORT in actions) == (seen.leader_dead and not state.reported)
        # TERM once, never to a dead worker, never after the grace.
        assert (_ladder.TERM in actions) == (state.stopping and not killing and not state.termed and not seen.leader_dead)
        # A living worker is only ever killed when its grace is over.
        if not seen.leader_dead:
            assert (_ladder.KILL_ALL in actions) == (state.stopping and killing)
            assert _ladder.KILL_STRAYS not in actions
        # The group keeps its grace after its leader's death, if it was given one; strays do not.
        elif seen.in_group or seen.strays:
            graceful = after.termed and not killing
            assert (_ladder.KILL_ALL in actions) == (not graceful)
            assert (_ladder.KILL_STRAYS in actions) == (graceful and seen.strays)


def test_no_state_waits_for_ever_once_it_is_stopping() -> None:
    for state, seen in itertools.product(STATES, SEEN):
        if state.stopping and (state.killing or state.kill_at is not None):
            assert _ladder.wait(state, seen, 9.0) is not None


def test_a_second_stop_only_shortens() -> None:
    state = _ladder.stop(Ladder(), 0.0, 3.0)
    assert _ladder.stop(state, 1.0, 60.0).kill_at == 3.0
    assert _ladder.stop(state, 1.0, 0.5).kill_at == 1.5
    assert _ladder.kill(state).killing
