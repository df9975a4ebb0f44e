// Package agent is the daemon: pools of warm Python workers, their supervision, and the API in front of them.
//
// # Who owns whom
//
// New builds, Run runs, and Run returns only after everything below has been joined:
//
//	Agent.Run
//	├─ API server (grpc)        serves Pool, Admin and health on the socket
//	├─ beatLoop, healthLoop     tell the watchdog and the health service
//	├─ children                 the one thread that clones, the one loop that sweeps strangers
//	└─ pool.run, one per pool   starts, restarts, rolls, retires, stops; a removed pool's runs on until its calls have ended
//	   ├─ launcher              one generation: its reader, and the waiter for its death
//	   └─ worker.run            one process with its keeper, from the order to spawn to the proof that its tree is empty
//	      └─ readers            keeper's link, control socket, data socket, stdout, stderr, the pidfd's end
//
// The link to the watchdog (guard) has its own reader, which outlives Run, because Bye is the last word. The log's writer
// (LogWriter) belongs to whoever opened the log and closes it after Run; whatever logs only queues.
//
// A call is carried by its client's goroutine: it meets its worker under pool.mu, and the worker's data reader hands it
// the answer. No loop is between them.
//
// # Locks
//
// pool.mu guards dispatch and every worker's shown. poolLoop.mu guards the two mailboxes of the loop, launcher.mu what is
// asked of a launcher, children.mu what the agent has started: it is held from a clone until its pid is recorded.
// workerLink.dataMu is held while a request is written, which may wait for the worker; no other is held while anything is
// waited for. Two are never held at once, but for launcher.mu and then its output's, Agent.poolsMu (pools come, go or are told to
// stop) and then poolLoop.mu, and those that are always the last: a feed's, the log's, a connection's load, the bytes of an output
// pipe. Agent.reloading is held by a whole reload.
//
// # Settings
//
// pool.cfg is what new workers get; it is replaced as a whole, by the loop, when the first worker with the new ones is ready. A
// worker keeps those that it was started with.
//
// # How a worker ends
//
// workerMachine is the table of states; transition is its one writer. worker.escalate is the one ladder: drain, TERM by
// the keeper, KILL by the keeper, KILL by us, and for who outlives that the verdict unkillable. Each rung sets the deadline of the
// next.
package agent
