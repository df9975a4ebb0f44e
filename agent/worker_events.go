package agent

import (
	"log/slog"
	"strings"
	"time"
)

// emitExited tells of a worker's end with what the post-mortem knows; c is the call that ended with it, nil for none.
func (w *worker) emitExited(pm *PostMortem, c *call) {
	uptime, _ := time.ParseDuration(pm.Uptime)
	fields := []slog.Attr{slog.Int("pid", w.process.pid), slog.String("end", pm.Cause()), seconds("uptime_s", uptime),
		slog.Int64("calls", int64(pm.Calls)), slog.Int64("max_rss_kb", pm.MaxRSSKB)}
	if c != nil {
		fields = append(fields, slog.Int64("call", int64(c.id)))
	}
	if pm.Tool != "" {
		fields = append(fields, slog.String("tool", pm.Tool))
	}
	if pm.Evidence != "" {
		fields = append(fields, slog.String("evidence", pm.Evidence))
	}
	orderly := c == nil && (pm.Killer != "" || pm.Code != nil && *pm.Code == 0) // nobody asks for its last words
	if len(pm.Output) > 0 && !orderly {
		fields = append(fields, slog.String("output", cutFront(strings.Join(pm.Output, "\n"), maxDetails)))
	}
	if pm.Stack != "" {
		fields = append(fields, slog.String("stack", cutBack(pm.Stack, maxDetails)))
	}
	w.emit(workerExited, fields...)
}

// emitCleanup tells that the worker's keeper has ended; its status 0 is the proof that the tree is empty.
func (w *worker) emitCleanup(began time.Time, status int, empty bool, left []survivor) {
	proof, tier := "ECHILD", w.pool.agent.tier()
	if w.cgroup != nil && tier == tierCgroup {
		proof = "ECHILD+populated 0"
	}
	if status != 0 || !empty {
		proof = "none"
	}
	fields := []slog.Attr{seconds("took_s", time.Since(began)), slog.String("tier", tier.String()), slog.String("proof", proof), slog.Int("killed", w.life.killed)}
	if len(left) > 0 {
		fields = append(fields, slog.String("survivors", survivorsText(left)))
	}
	w.emit(cleanupCompleted, fields...)
	for _, s := range left {
		w.emit(cleanupSurvivor, s.fields()...)
	}
}

// hearKeeper takes what the keeper says of the end of its worker's tree.
func (w *worker) hearKeeper(r *keeperReport) {
	switch r.Op {
	case "exited":
		w.life.exited = r
	case "denied":
		w.emit(cleanupDenied, survivor{PID: r.PID, Errno: r.Errno, State: r.State, WChan: r.WChan}.fields()...)
		w.cgroup.kill() // reaches other users' processes too
	case "empty", "left":
		w.life.killed = r.Killed
	}
}
