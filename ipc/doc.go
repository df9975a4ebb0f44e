// Package ipc is the wires of pitboss: the framing between agent and worker, the packets with descriptors that carry
// orders and guard messages, and peer credentials. PROTOCOL.md beside this file is the contract; the code is its
// transcription, and the golden bytes in testdata/ are shared with the Python half.
//
// The package promises framing, limits, typed errors and descriptor hygiene (close-on-exec, exact count, closed on every
// error path). What a message means, who may send it when, and what a broken peer costs is the caller's business.
//
// It imports the standard library and golang.org/x/sys/unix only, and never net: the watchdog links it and must stay small.
package ipc
