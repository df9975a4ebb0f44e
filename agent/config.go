package agent

import (
	"fmt"
	"runtime"
	"time"

	"github.com/pitboss-run/pitboss/heartbeat"
	"github.com/pitboss-run/pitboss/ipc"
)

// Config is the whole configuration. It is read once and passed on as values; nothing else reads files or environment
// for settings. The tags of a field are the one source of what is said about it and of how it is checked: doc, unit, min and
// max (inclusive), oneof, zero (0 is allowed below min), and default where Default
// and DefaultPool cannot say it. docs/config.md and `pitboss config defaults` are generated from them.
type Config struct {
	Pools    []PoolConfig   `yaml:"pools" doc:"the pools; each runs one adapter in its own workers"`
	Watchdog WatchdogConfig `yaml:"watchdog" doc:"the guardian process above the agent"`
	Access   AccessConfig   `yaml:"access" doc:"who may use the socket"`
	API      APIConfig      `yaml:"api" doc:"what the clients of the socket may take"`
	Log      LogConfig      `yaml:"log" doc:"the agent's own log, on stderr"`
}

// PoolConfig is one adapter and its workers.
type PoolConfig struct {
	Name          string            `yaml:"name" doc:"letters a-z, digits, - and _; at most 32; calls say name/tool" default:"none, must be given"`
	Adapter       string            `yaml:"adapter" doc:"module, path/to/file.py, or either with :Class" default:"none, must be given"`
	Workdir       string            `yaml:"workdir" doc:"working directory and first place to import from" default:"the directory of its file"`
	Python        string            `yaml:"python" doc:"interpreter, 3.9 or later" default:"$PITBOSS_PYTHON, $VIRTUAL_ENV, .venv in workdir, the venv of pitboss itself, python3 on the path"`
	Workers       int               `yaml:"workers" doc:"how many workers are kept ready" unit:"workers" min:"1" max:"1000" default:"2, or 1 on a single core"`
	Start         string            `yaml:"start" doc:"fork: from a launcher that has imported preload; exec: a fresh interpreter for each" oneof:"fork|exec"`
	StartParallel int               `yaml:"start_parallel" doc:"how many workers may be starting at once" unit:"workers" min:"1" max:"100"`
	Preload       []string          `yaml:"preload" doc:"modules that the launcher imports before it forks"`
	Env           map[string]string `yaml:"env" doc:"environment of the workers; values may use {{.Index}}, {{.Pool}} and {{add 8500 .Index}}"`
	Queue         QueueConfig       `yaml:"queue" doc:"calls that wait for a worker"`
	Timeouts      TimeoutsConfig    `yaml:"timeouts" doc:"every wait has an end"`
	Heartbeat     HeartbeatConfig   `yaml:"heartbeat" doc:"the failure detector"`
	Limits        LimitsConfig      `yaml:"limits" doc:"what a worker and a call may use"`
	Release       ReleaseConfig     `yaml:"release" doc:"what must be free before a worker starts: nothing by default. With any of ports, files and gpus a worker ends before its successor starts"`
	Serialization string            `yaml:"serialization" doc:"a result that cannot be sent: strict: TypeError; markers: an object with its type and repr in its place" oneof:"strict|markers"`
	Guard         string            `yaml:"guard" doc:"lowest kill tier that this pool accepts: cgroup (a delegated cgroup for each worker), tree, or group (no watchdog)" oneof:"cgroup|tree|group"`
}

// QueueConfig bounds the calls that wait.
type QueueConfig struct {
	Max     int           `yaml:"max" doc:"calls that may wait; above it: QUEUE_FULL" unit:"calls" min:"0" max:"1000000"`
	Timeout time.Duration `yaml:"timeout" doc:"longest wait; after it: QUEUE_TIMEOUT" unit:"duration" min:"1ms" max:"1h"`
}

// TimeoutsConfig are the pool's deadlines.
type TimeoutsConfig struct {
	Start  time.Duration `yaml:"start" doc:"until a worker is ready; stretched while it makes progress" unit:"duration" min:"1s" max:"1h"`
	Call   time.Duration `yaml:"call" doc:"whole budget of a call that names none" unit:"duration" min:"10ms" max:"24h"`
	Stream time.Duration `yaml:"stream" doc:"the same for a stream" unit:"duration" min:"10ms" max:"24h"`
	Drain  time.Duration `yaml:"drain" doc:"how long running calls may go on at a stop" unit:"duration" min:"5s" max:"300s"`
	Kill   time.Duration `yaml:"kill" doc:"between TERM and KILL" unit:"duration" min:"10ms" max:"60s"`
}

// HeartbeatConfig is heartbeat.Config with its keys; see there for ranges.
type HeartbeatConfig struct {
	Enabled      bool          `yaml:"enabled" doc:"false: only death and a cut link end a worker"`
	Interval     time.Duration `yaml:"interval" doc:"between two pings" unit:"duration" min:"1s" max:"60s"`
	Timeout      time.Duration `yaml:"timeout" doc:"longest silence; at least interval x max_missed" unit:"duration" min:"5s" max:"300s"`
	MaxMissed    int           `yaml:"max_missed" doc:"missed pings in a row" unit:"pings" min:"1" max:"10"`
	InitialDelay time.Duration `yaml:"initial_delay" doc:"before the first ping" unit:"duration" min:"0s" max:"300s"`
	Jitter       Share         `yaml:"jitter" doc:"how much the interval varies" unit:"share" min:"0%" max:"50%"`
	OnLost       string        `yaml:"on_lost" doc:"replace, or report only" oneof:"replace|report"`
	HeldLimit    time.Duration `yaml:"held_limit" doc:"how long a stopped or frozen worker is kept" unit:"duration" min:"1s" max:"24h"`
	BlockedLimit time.Duration `yaml:"blocked_limit" doc:"how long a call may block the interpreter without progress" unit:"duration" min:"1s" max:"24h"`
}

// LimitsConfig bounds a worker and its calls.
type LimitsConfig struct {
	Memory  Size  `yaml:"memory" doc:"memory of a worker and all that it starts, swap included; beyond it the kernel kills there; 0 for no limit. Memory, cpu and pids need a delegated cgroup with that controller, status says whether they bind" unit:"bytes" min:"16MiB" max:"1024GiB" zero:"true"`
	CPU     Share `yaml:"cpu" doc:"processor time of a worker and all that it starts: 150% is one and a half processors; 0 for no limit" unit:"share" min:"1%" max:"102400%" zero:"true"`
	PIDs    int   `yaml:"pids" doc:"processes and threads of a worker and all that it starts; 0 for no limit" unit:"processes" min:"8" max:"4194304" zero:"true"`
	NoFile  int   `yaml:"nofile" doc:"soft RLIMIT_NOFILE of a worker; 0 keeps the agent's" unit:"descriptors" min:"64" max:"1048576" zero:"true"`
	Core    Size  `yaml:"core" doc:"soft RLIMIT_CORE in bytes; 0, because writing a large dump hides a death for seconds" unit:"bytes" min:"0" max:"1048576GiB"`
	Payload Size  `yaml:"payload" doc:"largest arguments or result" unit:"bytes" min:"1KiB" max:"3GiB"`
}

// ReleaseConfig is what a worker needs for itself alone and what its predecessor may hold a moment longer than it lives.
type ReleaseConfig struct {
	Ports        []string      `yaml:"ports" doc:"ports that the worker binds, as [ADDRESS:]PORT[/udp]; may use {{.Index}}, {{.Pool}} and {{add 8500 .Index}}"`
	ReuseAddress bool          `yaml:"reuse_address" doc:"the worker binds its TCP ports with SO_REUSEADDR, as asyncio and most servers do; false: connections in TIME_WAIT (60 s) keep a port from being free, too"`
	Files        []string      `yaml:"files" doc:"lock files (flock and fcntl locks) and unix sockets (@NAME: an abstract one) of the worker, relative to workdir; the same templates"`
	GPUs         []string      `yaml:"gpus" doc:"GPUs, by index or UUID of nvidia-smi, whose memory no dead process may hold; the same templates"`
	GPUMemory    Size          `yaml:"gpu_memory" doc:"free memory that each of gpus must have; 0 for no demand" unit:"bytes" min:"1MiB" max:"1024GiB" zero:"true"`
	Timeout      time.Duration `yaml:"timeout" doc:"longest wait for all of them" unit:"duration" min:"100ms" max:"1h"`
	OnTimeout    string        `yaml:"on_timeout" doc:"fail: the worker stays away, the pool says what is held and by whom, and looks again every 30 s; start: it starts all the same" oneof:"fail|start"`
}

// WatchdogConfig is how the agent is guarded.
type WatchdogConfig struct {
	Mode         string        `yaml:"mode" doc:"auto: under the watchdog; off: without, in tier group" oneof:"auto|off"`
	AgentTimeout time.Duration `yaml:"agent_timeout" doc:"silence of the agent that the watchdog takes for a hang" unit:"duration" min:"3s" max:"300s"`
	OnLoss       string        `yaml:"on_loss" doc:"when the watchdog dies: drain and end, or continue in tier group" oneof:"drain|continue"`
	Require      string        `yaml:"require" doc:"refuse to start below this tier: cgroup, tree, or empty for no demand" oneof:"|cgroup|tree"`
}

// APIConfig bounds what the clients of the socket take in the agent.
type APIConfig struct {
	Memory Size `yaml:"memory" doc:"of requests and answers of all clients; with half of it in arguments calls get QUEUE_FULL, above it the connection that holds most is closed" unit:"bytes" min:"4MiB" max:"1024GiB"`
}

// LogConfig is the agent's log.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error" oneof:"debug|info|warn|error"`
	Format string `yaml:"format" doc:"text, json, journald (its own fields, systemd.journal-fields(7)), or auto: journald where standard error leads there, text on a terminal, json elsewhere" oneof:"auto|text|json|journald"`
}

// Share is a part of a whole, 0.1 or "10%".
type Share float64

// Size is a number of bytes, 1048576 or "1MiB".
type Size int64

// Default is the configuration of an agent that is told nothing. It has no pools.
func Default() Config {
	return Config{
		Watchdog: WatchdogConfig{Mode: "auto", AgentTimeout: 8 * time.Second, OnLoss: "drain"},
		API:      APIConfig{Memory: 1 << 30},
		Log:      LogConfig{Level: "info", Format: "auto"},
	}
}

// DefaultPool is a pool that says nothing but its name and adapter.
func DefaultPool() PoolConfig {
	h := heartbeat.Default()
	return PoolConfig{
		Workers: min(2, runtime.NumCPU()), Start: "fork", StartParallel: 4, Env: map[string]string{},
		Queue: QueueConfig{Max: 1000, Timeout: 10 * time.Second},
		Timeouts: TimeoutsConfig{Start: 120 * time.Second, Call: 300 * time.Second, Stream: 900 * time.Second,
			Drain: 30 * time.Second, Kill: 3 * time.Second},
		Heartbeat:     HeartbeatConfig{h.Enabled, h.Interval, h.Timeout, h.MaxMissed, h.InitialDelay, Share(h.Jitter), h.OnLost, h.HeldLimit, h.BlockedLimit},
		Limits:        LimitsConfig{Payload: ipc.DefaultPayloadLimit},
		Release:       ReleaseConfig{ReuseAddress: true, Timeout: 30 * time.Second, OnTimeout: "fail"},
		Serialization: "strict",
		Guard:         "tree",
	}
}

// detector is the failure detector's own form of the settings.
func (h HeartbeatConfig) detector() heartbeat.Config {
	return heartbeat.Config{Enabled: h.Enabled, Interval: h.Interval, Timeout: h.Timeout, MaxMissed: h.MaxMissed, InitialDelay: h.InitialDelay,
		Jitter: float64(h.Jitter), OnLost: h.OnLost, HeldLimit: h.HeldLimit, BlockedLimit: h.BlockedLimit}
}

// notAvailable are keys that a later version reads. They are refused by name: a setting that is silently ignored is worse
// than an error.
var notAvailable = map[string]bool{
	"telemetry": true, "pools[].slots": true, "pools[].affinity": true, "pools[].recycle": true,
	"pools[].workers.min": true, "pools[].workers.max": true, "pools[].workers.idle": true, "pools[].timeouts.cancel_grace": true,
}

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // 0, as Column, when the value came from no file
	Column   int    `json:"column,omitempty"`
	Variable string `json:"variable,omitempty"` // the environment variable that set the value, "" if none did
	Key      string `json:"key,omitempty"`      // "" when the file as a whole cannot be read
	Problem  string `json:"problem"`

	other string // key of a second place that is to be named behind the problem
}

func (f Fault) Error() string {
	text := f.Problem
	if f.Key != "" {
		text = f.Key + ": " + text
	}
	if f.Variable != "" {
		text = "$" + f.Variable + ": " + text
	}
	if f.File != "" {
		text = fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, text)
	}
	return text
}
