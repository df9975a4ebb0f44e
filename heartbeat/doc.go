// Package heartbeat decides what an unanswered ping means. It is pure: no goroutine, no clock, no I/O. Observations and
// the time go in, verdicts and actions come out; the agent's worker loop gathers the one and carries out the other.
//
// Time is a time.Duration since an arbitrary origin of the caller's, read from a monotonic clock: a wall clock cannot
// enter.
//
// # Terms
//
//   - turn: the moment when the next ping is due; every decision but a welcome is made at a turn.
//   - missed: a ping that is unanswered when the next one is due.
//   - suspect: misses in a row that nothing excuses. Progress, the end of a call, a suspended host, an own loop that was
//     late, a starved process and the end of a stop are excuses: they start the count and the silence anew.
//   - silence: the age of the oldest unanswered ping, counted from the last excuse at the earliest.
//   - fact: that a process is stopped, traced or frozen. It cannot answer, however late the loop; what is open is only whether that lasts.
//   - evidence: what the kernel says about the process when a ping was missed.
//
// From the first suspect miss in a call, and for a fact, the turns come at half the interval until the verdict: a substitute is due
// within the timeout, and under load it takes seconds to start.
//
// # Worked example, at the defaults (interval 2 s, max_missed 3, timeout 10 s)
//
// A worker stops answering at t = 0, right after an answer. The ping of t = 2 is missed at t = 4 (late), again at 6, and
// at 8 the third miss brings the verdict: lost (killed now). In a call the misses are at 4, 5 and 6, and the verdict is blocked then (a
// substitute at once, killed at 12 s, when the silence is 10 s). One that is stopped is missed at 4, 5 and 6 too, and is held: a
// substitute at once, killed at 66 s unless it answers. A worker whose call burns CPU in C code with the GIL held is busy for as long as
// it does.
package heartbeat
