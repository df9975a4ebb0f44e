// Package watchdog is the guardian of an agent: its parent, its subreaper and the last word over its process tree.
//
// Promise: when the agent is gone, by its own will or not, every process that descends from it is dead before the
// watchdog exits, or the certificate names the ones that the kernel would not let go. The proof is parentage: all of
// them become children of the watchdog when their parents die, and wait4 says ECHILD when there is none left.
//
// The package reads like this: Main parses the flags and decides between the outer and the inner process (outer_linux.go);
// the inner one starts the agent (spawn_linux.go) and then runs one poll(2) loop (poll_linux.go), which turns what the
// kernel says into events. engine.go decides what follows from an event, ladder.go what must be killed, verdict.go whether a
// silent agent hangs: all three are pure, take the time as an argument and are tested over every pair.
//
// Owners. The main goroutine owns everything and stays on one thread, because the kernel lists children per thread and
// every child must be found. The one other goroutine (signals_linux.go) turns signals into bytes of a pipe and lives as
// long as the process.
//
// The kill path opens nothing, writes no disk before the tree is empty, blocks on no pipe and takes no lock.
//
// Imports: the standard library without net, golang.org/x/sys/unix and ipc; imports_test.go says why.
package watchdog
