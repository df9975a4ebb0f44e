"""The keeper's decisions: what to do about one worker, as a pure function of what is known and the time.

Nothing here signals, waits or reads a clock; the keeper observes, asks, acts, and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

# What the keeper may be told to do.
TERM = "term"  # TERM to the worker's group, then CONT so that a stopped one sees it
REPORT = "report"  # tell the agent how the worker ended
KILL_STRAYS = "kill-strays"  # KILL what descends from the worker but left its group
KILL_ALL = "kill-all"  # KILL the group and every child
REAP = "reap"  # collect the worker itself; its pid and group number are free from here on
FINISH = "finish"  # nothing is left: say so and exit 0

# Seconds between two looks where nothing announces what is waited for, and once the killing has gone on for HARDLY seconds: then
# somebody is in uninterruptible sleep, and may be for days.
LOOK_AGAIN = 0.002
LOOK_SELDOM = 0.1
HARDLY = 2.0

ACTIONS = (TERM, REPORT, KILL_STRAYS, KILL_ALL, REAP, FINISH)


@dataclass(frozen=True)
class Ladder:
    """What has happened so far. Times are monotonic seconds."""

    stopping: bool = False  # a stop was ordered, or the agent is gone
    killing: bool = False  # no grace (any more)
    grace: float = 0.0  # seconds from TERM to KILL
    termed: bool = False
    kill_at: Optional[float] = None  # end of the grace, once TERM was sent
    reported: bool = False
    reaped: bool = False
    hunting: Optional[float] = None  # since when somebody is being killed


@dataclass(frozen=True)
class Seen:
    """One look at the worker and what descends from it."""

    leader_dead: bool  # a zombie, kept so until REAP
    may_reap: bool  # the agent holds its pidfd, or is gone
    in_group: bool  # some live child is in the worker's group (the dead leader does not count)
    strays: bool  # some live child is in another group


def stop(state: Ladder, now: float, grace: float) -> Ladder:
    """A stop was ordered. A second one can only shorten the grace, which begins with TERM: a keeper that the host did not run
    for a while still gives all of it."""
    if state.stopping:
        grace = min(grace, state.grace)
    if state.kill_at is not None:
        return replace(state, grace=grace, kill_at=min(state.kill_at, now + grace))
    return replace(state, stopping=True, grace=grace)


def kill(state: Ladder) -> Ladder:
    """No TERM, no grace."""
    return replace(state, stopping=True, killing=True)


def decide(state: Ladder, seen: Seen, now: float) -> Tuple[Ladder, List[str]]:
    """The next state and what to do now, in order."""
    actions: List[str] = []
    if state.kill_at is not None and now >= state.kill_at:
        state = replace(state, killing=True)
    if seen.leader_dead and not state.reported:
        state = replace(state, reported=True)
        actions.append(REPORT)
    if not seen.leader_dead and not state.stopping:
        return state, actions
    if state.stopping and not state.killing and not state.termed and not seen.leader_dead:
        state = replace(state, termed=True, kill_at=now + state.grace)
        actions.append(TERM)
    if seen.leader_dead:
        # A worker that ended by itself was given no TERM, so nothing of its group has a grace to wait for.
        if not state.termed or state.killing:
            if seen.in_group or seen.strays:
                actions.append(KILL_ALL)
        elif seen.strays:
            actions.append(KILL_STRAYS)
        if not seen.in_group and not seen.strays and seen.may_reap:
            if not state.reaped:
                state = replace(state, reaped=True)
                actions.append(REAP)
            actions.append(FINISH)
    elif state.killing:
        actions.append(KILL_ALL)
    if state.hunting is None and (KILL_ALL in actions or KILL_STRAYS in actions):
        state = replace(state, hunting=now)
    return state, actions


def wait(state: Ladder, seen: Seen, now: float) -> Optional[float]:
    """Seconds until the next look, None for until something happens."""
    if state.killing or (seen.leader_dead and (seen.strays or (seen.in_group and not state.termed))):
        if state.hunting is not None and now - state.hunting > HARDLY:
            return LOOK_SELDOM
        return LOOK_AGAIN  # a killed process is not gone at once, and one that forks in this moment is seen only by looking
    if state.kill_at is not None:
        return max(state.kill_at - now, 0.0)
    return None
