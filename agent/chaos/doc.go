// Package chaos does to a real agent's tree what hosts, kernels and users do to it, and counts by the operating system what
// survives, what was killed without need, and who was hit that is none of ours. `pitboss verify` and this package's tests run
// the same scenarios.
//
// # The way of one round
//
// The catalogue (catalogue.go) lists the scenarios. Verify (verify.go) runs first the leaking control, and then each
// scenario's rounds. A Round (round.go) has a directory, a token and, where one may be made, a cgroup of its own; it starts
// private agents (launch.go), does its harm, and waits until nobody of its Tree (tree.go) is left. Its Outcome joins the
// scenario's Row of the Report (report.go).
//
// A scenario uses the agent's public socket and the operating system, nothing else: what pitboss believes is not evidence.
package chaos
