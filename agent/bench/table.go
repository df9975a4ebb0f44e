package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// row is one figure with what it is compared with and its bar.
type row struct {
	What   string  `json:"what"`
	Figure string  `json:"figure"`
	Beside string  `json:"beside"`
	Ratio  float64 `json:"ratio"` // of the bar's quantity: a ratio, or seconds, or KiB
	Bar    float64 `json:"bar"`   // the most (or with AtLeast the least) that holds; 0 for none
	Least  bool    `json:"at_least,omitempty"`
	Unit   string  `json:"unit,omitempty"`
}

func (r row) verdict() string {
	switch {
	case r.Bar == 0:
		return ""
	case r.Least && r.Ratio >= r.Bar, !r.Least && r.Ratio <= r.Bar:
		return "ok"
	}
	return "MISSED"
}

type table struct{ Rows []row }

func (t *table) add(r row) {
	t.Rows = append(t.Rows, r)
	fmt.Fprintf(os.Stderr, "  %s: %s; %s\n", r.What, r.Figure, r.Beside)
}

func (t *table) print(w io.Writer) {
	tab := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "WHAT\tFIGURE\tBESIDE\tVALUE\tBAR\t")
	for _, r := range t.Rows {
		sign := "<="
		if r.Least {
			sign = ">="
		}
		bar := ""
		if r.Bar != 0 {
			bar = fmt.Sprintf("%s %.4g %s", sign, r.Bar, r.Unit)
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%.3g %s\t%s\t%s\n", r.What, r.Figure, r.Beside, r.Ratio, r.Unit, bar, r.verdict())
	}
	_ = tab.Flush()
}

// write keeps the figures for a later comparison, and prints those of the newest earlier file beside them.
func (t *table) write(file, python string) error {
	if file == "" {
		return nil
	}
	if earlier := newestBefore(file); earlier != "" {
		var before struct{ Rows []row }
		text, err := os.ReadFile(earlier)
		if err == nil && json.Unmarshal(text, &before) == nil {
			fmt.Printf("\nagainst %s:\n", filepath.Base(earlier))
			for _, r := range t.Rows {
				for _, b := range before.Rows {
					if b.What == r.What {
						fmt.Printf("  %-50s %10.3g %s, was %.3g\n", r.What, r.Ratio, r.Unit, b.Ratio)
					}
				}
			}
		}
	}
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	version, _ := exec.Command(python, "--version").Output()
	text, err := json.MarshalIndent(map[string]any{
		"date": time.Now().UTC().Format(time.DateOnly), "kernel": unix.ByteSliceToString(uts.Release[:]), "cpu": cpuModel(), "cores": runtime.NumCPU(),
		"go": runtime.Version(), "python": strings.TrimSpace(string(version)), "rows": t.Rows}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func newestBefore(file string) string {
	all, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*.json"))
	all = slices.DeleteFunc(all, func(name string) bool { return filepath.Base(name) >= filepath.Base(file) })
	if len(all) == 0 {
		return ""
	}
	return slices.Max(all)
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(name), ":"))
		}
	}
	return "unknown"
}

// samples are times of one kind.
type samples []time.Duration

func (s samples) at(share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(float64(len(sorted))*share), len(sorted)-1)]
}

func (s samples) p50() time.Duration { return s.at(0.50) }
func (s samples) p99() time.Duration { return s.at(0.99) }

func (s samples) String() string {
	return fmt.Sprintf("p50 %s p99 %s max %s (n=%d)", short(s.p50()), short(s.p99()), short(s.at(1)), len(s))
}

func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.1fµs", float64(d)/1e3)
	}
	return fmt.Sprintf("%.1fms", float64(d)/1e6)
}
