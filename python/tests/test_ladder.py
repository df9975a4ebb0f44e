"""The keeper's decisions over every state and every observation."""

from __future__ import annotations

import itertools

from pitboss import _ladder
from pitboss._ladder import Ladder, Seen

BOOLS = (False, True)
STATES = [
    Ladder(stopping=s, killing=k, grace=g, termed=t, kill_at=10.0 if t else None, reported=r, reaped=c)
    for s, k, g, t, r, c in itertools.product(BOOLS, BOOLS, (0.0, 3.0), BOOLS, BOOLS, BOOLS)
    if s or not (k or t or g)
]
SEEN = [Seen(*row) for row in itertools.product(BOOLS, repeat=6)]


def test_every_pair() -> None:
    for state, seen, now in itertools.product(STATES, SEEN, (9.0, 10.0)):
        after, actions = _ladder.decide(state, seen, now)
        assert len(set(actions)) == len(actions)
        killing = state.killing or (state.termed and now >= 10.0)
        empty = seen.leader_dead and not seen.in_group and not seen.strays
        assert (_ladder.FINISH in actions) == (empty and seen.may_reap)
        # KILL was of no use for all that is left, and nobody there has a grace: only then is it left to the next guardian.
        hopeless = seen.leader_dead and not empty and seen.overdue and seen.may_reap and (killing or not state.termed)
        assert (_ladder.GIVE_UP in actions) == hopeless
        assert (_ladder.REAP in actions) == ((_ladder.FINISH in actions or hopeless) and not state.reaped)
        assert (_ladder.REPORT in actions) == (seen.leader_dead and not state.reported)
        # TERM once, never to a dead worker, never after a kill; and the grace is counted from it, however late it came.
        assert (_ladder.TERM in actions) == (state.stopping and not killing and not state.termed and not seen.leader_dead)
        assert after.kill_at == (now + state.grace if _ladder.TERM in actions else state.kill_at)
        # A living worker is only ever killed when its grace is over.
        if not seen.leader_dead:
            assert (_ladder.KILL_ALL in actions) == (state.stopping and killing)
            assert _ladder.KILL_STRAYS not in actions
        # The group keeps its grace after its leader's death, if it was given one; strays do not.
        elif hopeless:
            assert not {_ladder.KILL_ALL, _ladder.KILL_STRAYS} & set(actions)
        elif seen.in_group or seen.strays:
            graceful = after.termed and not killing
            assert (_ladder.KILL_ALL in actions) == (not graceful)
            assert (_ladder.KILL_STRAYS in actions) == (graceful and seen.strays)


def test_no_state_waits_for_ever_once_it_is_stopping() -> None:
    for state, seen in itertools.product(STATES, SEEN):
        after, actions = _ladder.decide(state, seen, 9.0)
        if state.stopping and _ladder.FINISH not in actions and not (seen.leader_dead and not seen.in_group and not seen.strays):
            assert _ladder.wait(after, seen, 9.0) is not None


def test_nothing_is_killed_that_was_not_given_its_grace() -> None:
    """However late the keeper runs: TERM first, and KILL not before the grace has passed since."""
    alive = Seen(leader_dead=False, may_reap=True, in_group=True, strays=True)
    state = _ladder.stop(Ladder(), 0.0, 3.0)
    for late in (0.0, 2.9, 3.0, 3.1, 1000.0):
        termed, actions = _ladder.decide(state, alive, late)
        assert actions == [_ladder.TERM]
        assert _ladder.decide(termed, alive, late + 2.9)[1] == []
        assert _ladder.decide(termed, alive, late + 3.0)[1] == [_ladder.KILL_ALL]


def test_a_second_stop_only_shortens() -> None:
    alive = Seen(leader_dead=False, may_reap=True, in_group=False, strays=False)
    state = _ladder.stop(Ladder(), 0.0, 3.0)
    assert _ladder.stop(state, 1.0, 60.0).grace == 3.0
    assert _ladder.stop(state, 1.0, 0.5).grace == 0.5
    termed, _ = _ladder.decide(state, alive, 1.0)
    assert termed.kill_at == 4.0
    assert _ladder.stop(termed, 2.0, 60.0).kill_at == 4.0
    assert _ladder.stop(termed, 2.0, 0.5).kill_at == 2.5
    assert _ladder.kill(state).killing


def test_who_outlives_kill_is_looked_at_less_often() -> None:
    """Often until everybody had KILL; after that a death announces itself, and who sleeps in the kernel may do so for days."""
    for told, again in ((False, _ladder.LOOK_AGAIN), (True, _ladder.LOOK_RARELY)):
        for seen in (Seen(False, True, True, True, told), Seen(True, True, False, True, told)):
            state, actions = _ladder.decide(_ladder.kill(Ladder()), seen, 10.0)
            assert _ladder.KILL_ALL in actions
            assert _ladder.wait(state, seen, 10.0) == again

