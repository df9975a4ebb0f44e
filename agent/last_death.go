package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// certificateFile is what the watchdog writes into the runtime directory when an agent has died.
	certificateFile = "last-death.json"
	// reportedFile holds the run id of the certificate that an agent has reported as an event.
	reportedFile = "last-death.reported"
	// maxCertificate is the most that is read, in bytes; the watchdog writes less than 4 KiB.
	maxCertificate = 4 << 10
)

// DeathCertificate is what a watchdog wrote about an agent that died (schema 1).
type DeathCertificate struct {
	Schema        int             `json:"schema"`
	RunID         string          `json:"run_id"`
	AgentPID      int             `json:"agent_pid"`
	Cause         string          `json:"cause"`
	DetectUS      int64           `json:"t_detect_us"`
	TermUS        int64           `json:"t_term_us"`
	EmptyUS       int64           `json:"t_empty_us"`
	Killed        int             `json:"killed"`
	Survivors     json.RawMessage `json:"survivors"`
	SurvivorCount int             `json:"survivor_count"`
	Tier          string          `json:"tier"`
	Proof         string          `json:"proof"`
	Guarded       int             `json:"guarded"`
}

// lastDeath is what an agent found about the one before; it never changes.
type lastDeath struct {
	certificate *DeathCertificate // nil when nobody died
	fault       error             // why a file that is there is not believed
	reported    bool              // an earlier agent has told it
}

func readDeath(dir string) (d lastDeath) {
	if d.certificate, d.fault = readLastDeath(dir); d.certificate != nil {
		d.reported = wasReported(dir, d.certificate.RunID)
	}
	return d
}

// reportLastDeath tells of the last agent's death if it died and no agent has told it yet. What lies in the runtime
// directory is not believed blindly: a fault in it is an event, never an end.
func (a *Agent) reportLastDeath() {
	if d := a.death.certificate; d != nil && !a.death.reported {
		a.emit(agentDied, slog.String("run_id", d.RunID), slog.Int("pid", d.AgentPID), slog.String("cause", d.Cause), slog.Int64("empty_us", d.EmptyUS),
			slog.Int("killed", d.Killed), slog.Int("survivors", d.SurvivorCount), slog.String("tier", d.Tier), slog.String("proof", d.Proof))
		if err := markReported(a.options.RuntimeDir, d.RunID); err != nil {
			a.log.Warn("the last death will be reported again", "cause", err)
		}
	}
	if a.death.fault != nil {
		a.emit(agentCertRefused, slog.String("file", filepath.Join(a.options.RuntimeDir, certificateFile)), slog.String("cause", a.death.fault.Error()))
	}
}

// readLastDeath returns nil without an error when nobody died.
func readLastDeath(dir string) (*DeathCertificate, error) {
	text, err := readOwnFile(filepath.Join(dir, certificateFile), maxCertificate)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &DeathCertificate{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("it is torn or no JSON: %w", err)
	}
	if d.Schema != 1 || d.RunID == "" || d.AgentPID <= 0 || d.Cause == "" || d.Proof == "" {
		return nil, fmt.Errorf("it is no certificate of schema 1: %.80q", text)
	}
	return d, nil
}

// readOwnFile reads a small regular file that only this user can have written. It follows no symbolic link and waits for
// no FIFO.
func readOwnFile(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case int(stat.Uid) != os.Geteuid():
		return nil, fmt.Errorf("it belongs to user %d, not to %d", stat.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others may write it (mode %#o)", info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return text, err
}

// wasReported says whether an agent has told of this death already.
func wasReported(dir, runID string) bool {
	text, err := readOwnFile(filepath.Join(dir, reportedFile), maxCertificate)
	return err == nil && string(bytes.TrimSpace(text)) == runID
}

// markReported replaces the mark as a whole.
func markReported(dir, runID string) error {
	temp, err := os.CreateTemp(dir, "."+reportedFile+"-")
	if err != nil {
		return err
	}
	_, err = temp.WriteString(runID + "\n")
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, reportedFile))
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
