package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// eventClass groups events.
type eventClass string

const (
	classAgent     eventClass = "agent"
	classWatchdog  eventClass = "watchdog"
	classPool      eventClass = "pool"
	classProcess   eventClass = "process"
	classHeartbeat eventClass = "heartbeat"
	classAccess    eventClass = "access"
)

// eventKind is one row of the registry. Nothing is emitted that has none.
type eventKind struct {
	name   string // dotted, lower case
	class  eventClass
	level  slog.Level // of its line in the log
	text   string     // the line's message: what happened, in a few words
	fields []eventField
}

// eventField is one field of an event. A field may be left out of an emission, but none may be added.
type eventField struct {
	name    string
	kind    slog.Kind
	unit    string // empty for a text, a name or a plain number
	meaning string
}

func text(name, meaning string) eventField { return eventField{name, slog.KindString, "", meaning} }
func number(name, unit, meaning string) eventField {
	return eventField{name, slog.KindInt64, unit, meaning}
}
func span(name, meaning string) eventField { return eventField{name, slog.KindFloat64, "s", meaning} }

// The fields that many events share.
var (
	poolField      = text("pool", "name of the pool")
	workerField    = text("worker", "id of the worker")
	causeField     = text("cause", "what went wrong")
	tryField       = number("try", "starts", "how many in a row have failed, this one included")
	launcherField  = number("pid", "", "process id of the launcher")
	methodField    = text("method", "of the API: CancelCall, Stack, Restart, Drain, Resume, Scale, Reload or Stop")
	uidField       = number("uid", "", "number of the user who ordered it, as of its connection")
	peerPIDField   = number("pid", "", "process id of who ordered it, as of its connection; 0 from another pid namespace")
	userField      = text("user", "its name; absent when the host does not know it")
	survivorFields = []eventField{number("pid", "", "its process id"), text("cause", "why it is still there"), text("state", "letter of /proc/PID/stat; absent when it cannot be read"), text("wchan", "kernel function it waits in; absent when it cannot be read"), number("tracer", "", "process id of its tracer; absent without one")}
	levelField     = number("generation", "", "number of the launcher within its pool, from 1")
	indexField     = number("index", "", "number of the worker in its pool, from 0")
	resourceField  = text("resource", "what it is: a port, a file or a GPU")
	holderField    = text("holder", "who has it: process ids and names, or why that cannot be told; absent when not known")
)

// The registry. docs/events.md is generated from it: `make gen`.
var (
	agentStarted = &eventKind{"agent.started", classAgent, slog.LevelInfo, "agent started", []eventField{
		number("pid", "", "process id of the agent"), text("run_id", "random id of this life of the agent"),
		text("version", "of pitboss"), text("socket", "path of the API's socket"), number("pools", "pools", "how many are configured")}}
	agentIdle        = &eventKind{"agent.no_pools", classAgent, slog.LevelWarn, "no pool is configured: nothing can be called; add one under `pools:` in the configuration", []eventField{text("config", "file that was read")}}
	agentStopOrdered = &eventKind{"agent.stop_ordered", classAgent, slog.LevelInfo, "stop ordered", []eventField{text("why", "who ordered it")}}
	agentStopping    = &eventKind{"agent.stopping", classAgent, slog.LevelInfo, "stopping", []eventField{number("calls_running", "calls", "that may end before their workers do")}}
	agentStopped     = &eventKind{"agent.stopped", classAgent, slog.LevelInfo, "every worker and launcher is gone", []eventField{span("uptime_s", "life of the agent")}}
	agentDied        = &eventKind{"agent.died", classAgent, slog.LevelWarn, "the agent before this one died; its watchdog's certificate says how", []eventField{
		text("run_id", "its run id"), number("pid", "", "its process id"), text("cause", "how it ended"), number("empty_us", "us", "from its death to the proof that its tree was empty"),
		number("killed", "processes", "that the watchdog had to kill"), number("survivors", "processes", "that could not be killed in time"), text("tier", "kill tier that held"), text("proof", "that nothing was left; none if something was")}}
	agentCertRefused = &eventKind{"agent.certificate_refused", classAgent, slog.LevelWarn, "the last death certificate is not believed", []eventField{text("file", "where it lies"), causeField}}
	agentSwept       = &eventKind{"agent.swept", classAgent, slog.LevelWarn, "swept what an earlier run had left", []eventField{
		text("run_id", "of the earlier run"), number("killed", "processes", "that it had left and that are gone now"), number("survivors", "processes", "that could not be killed"), number("took_ms", "ms", "how long that took")}}
	agentSweepRefused = &eventKind{"agent.sweep_refused", classAgent, slog.LevelWarn, "the record of an earlier run is not believed, and nothing was swept", []eventField{causeField}}
	agentReloaded     = &eventKind{"agent.reloaded", classAgent, slog.LevelInfo, "configuration reloaded", []eventField{text("change", "one thing that changed")}}
	agentReloadFailed = &eventKind{"agent.reload_failed", classAgent, slog.LevelError, "the reload failed", []eventField{causeField}}
	logDropped        = &eventKind{"log.dropped", classAgent, slog.LevelWarn, "lines of the log were lost: whoever reads standard error is too slow", []eventField{number("lines", "lines", "that are missing before this one")}}
	agentStray        = &eventKind{"agent.stray_killed", classAgent, slog.LevelWarn, "killed a stray process that fell to the agent", []eventField{number("pid", "", "its process id")}}
	agentStrayLeft    = &eventKind{"agent.stray_left", classAgent, slog.LevelError, "a stray process that fell to the agent does not end", survivorFields}

	watchdogArmed  = &eventKind{"watchdog.armed", classWatchdog, slog.LevelInfo, "the watchdog answers", []eventField{number("pid", "", "process id of the watchdog"), text("from", "its state before")}}
	watchdogSilent = &eventKind{"watchdog.silent", classWatchdog, slog.LevelWarn, "the watchdog does not answer; new workers wait, calls go on", []eventField{number("pid", "", "process id of the watchdog"), text("from", "its state before")}}
	watchdogLost   = &eventKind{"watchdog.lost", classWatchdog, slog.LevelError, "the watchdog is gone", []eventField{causeField, text("then", "what watchdog.on_loss says: drain or continue in tier group")}}

	poolState           = &eventKind{"pool.state", classPool, slog.LevelInfo, "pool state changed", []eventField{poolField, text("from", "state before"), text("to", "state from now on"), text("reason", "why it failed; absent otherwise")}}
	poolScaled          = &eventKind{"pool.scaled", classPool, slog.LevelInfo, "pool scaled", []eventField{poolField, number("from", "workers", "how many there should be until now"), number("to", "workers", "how many from now on")}}
	poolRestarted       = &eventKind{"pool.restarted", classPool, slog.LevelInfo, "workers were replaced", []eventField{poolField, number("workers", "workers", "how many new ones there are")}}
	poolRestartFailed   = &eventKind{"pool.restart_failed", classPool, slog.LevelWarn, "workers were not replaced; the old ones serve on", []eventField{poolField, causeField, number("workers", "workers", "how many had been replaced before")}}
	launcherStarted     = &eventKind{"pool.launcher.started", classPool, slog.LevelInfo, "launcher started", []eventField{poolField, launcherField, levelField, text("python", "path of the interpreter")}}
	launcherExited      = &eventKind{"pool.launcher.exited", classPool, slog.LevelInfo, "launcher exited", []eventField{poolField, launcherField, levelField, text("end", "how it ended")}}
	limitNotEnforced    = &eventKind{"pool.limit_not_enforced", classPool, slog.LevelWarn, "a limit of the pool binds nobody on this host", []eventField{poolField, text("limit", "its key"), causeField}}
	forkRefused         = &eventKind{"pool.fork_refused", classPool, slog.LevelWarn, "pool cannot fork its workers and starts a fresh interpreter for each", []eventField{poolField, text("reason", "what forbids it, and which import did it")}}
	launcherLost        = &eventKind{"pool.launcher.lost", classPool, slog.LevelWarn, "launcher died; its workers serve on, a new generation starts", []eventField{poolField, launcherField, levelField}}
	launcherStartFailed = &eventKind{"pool.launcher.start_failed", classPool, slog.LevelWarn, "launcher did not start", []eventField{poolField, tryField, causeField}}
	launcherLate        = &eventKind{"pool.launcher.late", classPool, slog.LevelWarn, "launcher did not answer in time", []eventField{poolField, launcherField, number("times", "times", "it has not; at 2 it is killed")}}
	launcherUnkillable  = &eventKind{"pool.launcher.unkillable", classPool, slog.LevelError, "launcher outlives KILL; another is started", append([]eventField{poolField}, survivorFields...)}
	launcherKilled      = &eventKind{"pool.launcher.killed", classPool, slog.LevelWarn, "killing a launcher", []eventField{poolField, launcherField, text("why", "what it has not done in time")}}

	workerStarted = &eventKind{"worker.started", classProcess, slog.LevelDebug, "worker started", []eventField{poolField, workerField, number("pid", "", "its process id"), number("keeper_pid", "", "of its keeper"), levelField,
		number("start_time", "ticks", "since boot, field 22 of /proc/PID/stat: with the pid it names the process for good; absent if it had ended already"), text("config", "hash of the pool's settings that it runs with: the same for the same settings")}}
	workerReady       = &eventKind{"worker.ready", classProcess, slog.LevelInfo, "worker ready", []eventField{poolField, workerField, number("pid", "", "its process id"), span("after_s", "from the order to start it to its first answer")}}
	workerStartFailed = &eventKind{"worker.start_failed", classProcess, slog.LevelWarn, "worker did not start", []eventField{poolField, workerField, tryField, causeField}}
	workerUnkillable  = &eventKind{"worker.unkillable", classProcess, slog.LevelError, "worker outlives KILL, or what it has left does; another takes its place", append(append([]eventField{poolField, workerField}, survivorFields...),
		number("call", "", "id of the call that ended with it; absent when none ran"), text("tool", "that ended with it; absent when none ran"))}
	workerExited = &eventKind{"worker.exited", classProcess, slog.LevelInfo, "worker exited", []eventField{poolField, workerField, number("pid", "", "its process id"), text("end", "exit code or signal, and who ended it and why"),
		span("uptime_s", "life of the worker"), number("calls", "calls", "that it ran"), number("call", "", "id of the call that ended with it; absent when none ran"), number("max_rss_kb", "KiB", "its peak memory; 0 when not known"),
		text("tool", "that ended with it; absent when none ran"), text("evidence", "what its kill rests on, or signs of the kernel's out-of-memory killer; absent without any"),
		text("output", "its last 50 lines, the last 2 KiB of them; absent when it ended as it was told to, with no call"),
		text("stack", "its last Python stack, at most 2 KiB; absent when there is none")}}
	workerReleaseWaited = &eventKind{"worker.release_waited", classProcess, slog.LevelInfo, "a worker could not start before something was free that its predecessor may have held", []eventField{poolField, indexField, resourceField, holderField,
		span("waited_s", "from when nothing else kept the worker back to the look that found it free")}}
	workerReleaseOverdue = &eventKind{"worker.release_overdue", classProcess, slog.LevelWarn, "something that a worker needs is not free within release.timeout", []eventField{poolField, indexField, resourceField, holderField,
		span("waited_s", "so far"), text("then", "what release.on_timeout makes of it")}}
	cleanupCompleted = &eventKind{"cleanup.completed", classProcess, slog.LevelInfo, "clean-up completed", []eventField{poolField, workerField, span("took_s", "from the end of the worker's process to the end of its keeper"),
		text("tier", "kill tier that held"), text("proof", "ECHILD: the keeper has seen its tree empty; populated 0: and its cgroup is; none: something was left, and its launcher kills it"), number("killed", "processes", "that the keeper had to kill"),
		text("survivors", "what could not be ended, and why; absent when nothing is left")}}
	cleanupDenied   = &eventKind{"cleanup.denied", classProcess, slog.LevelWarn, "a process that a worker left refuses KILL: it has become another user's; only its cgroup or a privileged user can end it", append([]eventField{poolField, workerField}, survivorFields...)}
	cleanupSurvivor = &eventKind{"cleanup.survivor", classProcess, slog.LevelError, "a process that a worker left could not be ended", append([]eventField{poolField, workerField}, survivorFields...)}
	keeperKilled    = &eventKind{"keeper.killed", classProcess, slog.LevelError, "keeper does not end; killing it, its children fall to the launcher", []eventField{poolField, workerField, number("keeper_pid", "", "process id of the keeper")}}

	heartbeatMissed   = &eventKind{"heartbeat.missed", classHeartbeat, slog.LevelDebug, "heartbeat missed", []eventField{poolField, workerField, number("missed", "pings", "in a row without an answer")}}
	heartbeatVerdict  = &eventKind{"heartbeat.verdict", classHeartbeat, slog.LevelInfo, "heartbeat verdict", []eventField{poolField, workerField, text("from", "verdict before"), text("to", "verdict from now on"), text("evidence", "what speaks for it")}}
	heartbeatReported = &eventKind{"heartbeat.reported", classHeartbeat, slog.LevelError, "worker is lost; heartbeat.on_lost says report", []eventField{poolField, workerField, text("evidence", "what speaks for it")}}

	adminAction = &eventKind{"admin.action", classAccess, slog.LevelInfo, "an admin's order was carried out, or failed", []eventField{
		methodField, uidField, peerPIDField, userField, poolField, workerField, number("call", "", "id of the call"),
		number("workers", "workers", "how many were ordered"), text("why", "what the order gives as its reason"), text("outcome", "ok, or the reason of the error that the caller got"), span("took_s", "how long it took")}}
	adminRefused = &eventKind{"admin.refused", classAccess, slog.LevelWarn, "refused an order that only admins may give", []eventField{
		methodField, uidField, peerPIDField, userField, number("count", "orders", "of this user and method that were refused since the event before, of which there is at most one a second")}}
)

// eventKinds is every row, sorted by class and name.
var eventKinds = []*eventKind{
	agentCertRefused, agentDied, agentIdle, logDropped, agentStarted, agentStopOrdered, agentStopped, agentStopping, agentStray, agentStrayLeft, agentSwept, agentSweepRefused, agentReloaded, agentReloadFailed,
	watchdogArmed, watchdogLost, watchdogSilent,
	launcherExited, launcherKilled, launcherLate, launcherLost, launcherStartFailed, launcherStarted, launcherUnkillable, forkRefused, limitNotEnforced, poolRestartFailed, poolRestarted, poolScaled, poolState,
	cleanupCompleted, cleanupDenied, cleanupSurvivor, keeperKilled, workerExited, workerReady, workerReleaseOverdue, workerReleaseWaited, workerStartFailed, workerStarted, workerUnkillable,
	heartbeatMissed, heartbeatReported, heartbeatVerdict,
	adminAction, adminRefused,
}

// EventNames lists the name of every event that there is.
func EventNames() []string {
	var names []string
	for _, k := range eventKinds {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

func anEventBegins(prefix string) bool {
	for _, name := range EventNames() {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// eventPrefixes is the first word of each event, once.
func eventPrefixes() (words []string) {
	for _, name := range EventNames() {
		word, _, _ := strings.Cut(name, ".")
		if len(words) == 0 || words[len(words)-1] != word+"." {
			words = append(words, word+".")
		}
	}
	return words
}

// EventsMarkdown is docs/events.md.
func EventsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Events\n\nGenerated from the registry in the code by `make gen`. `pitboss events` shows the last 1 000; each is a line of the log, too,\n" +
		"with its name in the field `event`, when `log.level` lets its level through. A field that does not apply is absent.\n")
	class := eventClass("")
	for _, k := range eventKinds {
		if k.class != class {
			class = k.class
			fmt.Fprintf(&b, "\n## Class %s\n", class)
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s (level %s)\n\n%s| field | type | unit | meaning |\n|---|---|---|---|\n", k.name, k.text, strings.ToLower(k.level.String()), catalogNote(k))
		for _, f := range k.fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, map[slog.Kind]string{slog.KindString: "text", slog.KindInt64: "whole number", slog.KindFloat64: "number"}[f.kind], f.unit, f.meaning)
		}
	}
	return b.String()
}
