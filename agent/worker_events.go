package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// emitStarted tells of a worker's process before any user code runs in it.
func (w *worker) emitStarted() {
	fields := []slog.Attr{slog.Int("pid", w.process.pid), slog.Int("keeper_pid", w.keeper.pid), slog.Int("generation", w.generation)}
	if start, alive := startTime(w.process.pid); alive {
		fields = append(fields, slog.Int64("start_ticks", int64(start)))
	}
	w.emit(workerStarted, append(fields, slog.String("config_hash", w.cfg.hash()))...)
}

// hash tells two settings of workers apart. How many workers there are is none of theirs.
func (s *poolSettings) hash() string {
	one := s.PoolConfig
	one.Workers = 0
	text, err := json.Marshal(struct {
		Python string
		Pool   PoolConfig
	}{s.py.path, one})
	if err != nil { // only a type that JSON does not know, which the tests would meet at once
		panic(fmt.Sprintf("cannot encode the settings of pool %q: %v", s.Name, err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// emitExited tells of a worker's end with what the post-mortem knows; c is the call that ended with it, nil for none.
func (w *worker) emitExited(pm *PostMortem, c *call) {
	uptime, _ := time.ParseDuration(pm.Uptime)
	fields := []slog.Attr{slog.Int("pid", w.process.pid), slog.String("end", pm.Cause()), seconds("uptime_s", uptime),
		slog.Int64("calls", int64(pm.Calls)), slog.Int64("max_rss_kb", pm.MaxRSSKB)}
	if c != nil {
		fields = append(fields, slog.Int64("call", int64(c.id)))
	}
	if pm.Stack != "" {
		fields = append(fields, slog.String("stack", cutBack(pm.Stack, maxDetails)))
	}
	w.emit(workerExited, fields...)
}

// emitCleanup tells that the worker's keeper has ended; its status 0 is the proof that the tree is empty.
func (w *worker) emitCleanup(began time.Time, status int) {
	proof, killed := "ECHILD", 0
	if status != 0 {
		proof = "none"
	}
	if w.life.exited != nil {
		killed = w.life.exited.Killed
	}
	w.emit(cleanupCompleted, seconds("took_s", time.Since(began)), slog.String("proof", proof), slog.Int("killed", killed))
}
