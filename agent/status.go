package agent

// StatusSchema is the version of the Status document; fields are only ever added within a version.
const StatusSchema = 1

// Status is what `pitboss status --json` prints. Every pid in it is a live process at the time of the answer.
type Status struct {
	Schema   int            `json:"schema"`
	Agent    AgentStatus    `json:"agent"`
	Watchdog WatchdogStatus `json:"watchdog"`
	// LastDeath is the certificate of the last agent that died in this runtime directory; absent if none did.
	LastDeath *DeathCertificate `json:"last_death,omitempty"`
	// Swept is what that agent's run had left and this one has ended before it started; absent if there was nothing.
	Swept *SweepStatus `json:"swept,omitempty"`
	Pools []PoolStatus `json:"pools"`
}

// AgentStatus describes the agent process.
type AgentStatus struct {
	PID     int     `json:"pid"`
	RunID   string  `json:"run_id"`
	Version string  `json:"version"`
	UptimeS float64 `json:"uptime_s"`
	// Tier is the kill tier that holds now: cgroup (each worker in a cgroup of its own, and guardians above and below), tree (the
	// guardians alone) or group (the watchdog is gone or off).
	Tier string `json:"tier"`
	// TierReason is why it is not cgroup.
	TierReason string `json:"tier_reason,omitempty"`
	// Lacks is what the kernel, or the sandbox that the agent lives in, does not have, and what is done instead; absent for nothing.
	Lacks []string `json:"lacks,omitempty"`
	// Limits is what was found when memory, cpu and pids of limits: were tried at the start.
	Limits []LimitStatus `json:"limits"`
	Socket string        `json:"socket"`
	Config string        `json:"config"`
	State  string        `json:"state"` // running, draining
}

// WatchdogStatus describes the guardian: state is armed, silent (no answer within 1 s), gone or off.
type WatchdogStatus struct {
	PID   int    `json:"pid"`
	State string `json:"state"`
}

// PoolStatus describes one pool.
type PoolStatus struct {
	Name          string          `json:"name"`
	State         string          `json:"state"`
	Reason        string          `json:"reason"`
	Ready         int             `json:"ready"`
	Busy          int             `json:"busy"`
	Queued        int             `json:"queued"`
	Desired       int             `json:"desired"`
	StartMethod   string          `json:"start_method"`
	StartRefusal  string          `json:"start_refusal,omitempty"` // why fork was refused and exec is used
	Python        string          `json:"python"`
	LauncherPID   int             `json:"launcher_pid"`
	Doing         string          `json:"doing,omitempty"`   // what its launcher does while it starts
	DoingS        float64         `json:"doing_s,omitempty"` // for how many seconds
	Generation    int             `json:"generation"`
	LimitsVoid    []string        `json:"limits_void,omitempty"` // its limits that bind nobody here, and why
	Waiting       []ReleaseStatus `json:"waiting,omitempty"`     // slots whose next worker waits for what its predecessor may hold
	CallsTotal    uint64          `json:"calls_total"`
	ErrorsTotal   uint64          `json:"errors_total"`
	RejectedTotal uint64          `json:"rejected_total"`
	Workers       []WorkerStatus  `json:"workers"`
}

// WorkerStatus describes one worker.
type WorkerStatus struct {
	ID           string          `json:"id"`
	Index        int             `json:"index"`
	Generation   int             `json:"generation"`
	PID          int             `json:"pid"`
	PGID         int             `json:"pgid"`
	KeeperPID    int             `json:"keeper_pid"`
	State        string          `json:"state"`
	Doing        string          `json:"doing,omitempty"`   // while it starts
	DoingS       float64         `json:"doing_s,omitempty"` // for how many seconds
	Tier         string          `json:"tier"`
	InFlight     int             `json:"in_flight"`
	CallsTotal   uint64          `json:"calls_total"`
	Heartbeat    HeartbeatStatus `json:"heartbeat"`
	RSSBytes     int64           `json:"rss_bytes"` // resident memory, 0 where the kernel does not say; at most 5 s old
	PSSBytes     int64           `json:"pss_bytes"` // its proportional share: what is shared counts once over all workers
	UptimeS      float64         `json:"uptime_s"`
	LinesDropped uint64          `json:"lines_dropped"`
	Unkillable   string          `json:"unkillable,omitempty"` // which process outlives KILL, and where the kernel holds it
	LastExit     string          `json:"last_exit,omitempty"`  // how the previous worker of this index ended
}

// HeartbeatStatus is the failure detector's view of one worker.
type HeartbeatStatus struct {
	Verdict      string  `json:"verdict"`
	Missed       int     `json:"missed"`
	RTTMS        float64 `json:"rtt_ms"`
	LastPongAgeS float64 `json:"last_pong_age_s"`
}
