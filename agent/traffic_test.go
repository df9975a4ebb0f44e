package agent

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/versioned.py
var versionedTools string

// versioned is the tool file of one version of the code; what ran is counted in its file "ran".
func versioned(version string) string {
	return strings.Replace(versionedTools, `VERSION = "1"`, fmt.Sprintf("VERSION = %q", version), 1)
}

// versionedAgent runs two workers of version 1.
func versionedAgent(t *testing.T, change func(*PoolConfig)) (a *Agent, cfg PoolConfig) {
	t.Helper()
	a = startTestAgent(t, versioned("1"), func(p *PoolConfig) {
		p.Workers = 2
		if change != nil {
			change(p)
		}
		cfg = *p
	})
	waitReady(t, a)
	return a, cfg
}

func setCode(t *testing.T, cfg PoolConfig, text string) {
	t.Helper()
	write(t, filepath.Join(cfg.Workdir, "tools.py"), text, 0o600)
}

// traffic calls without a pause from several goroutines until stopped; each call carries a nonce.
type traffic struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	calls map[string]string // nonce to answer
	fails []error
}

func startTraffic(a *Agent, callers int) *traffic {
	tr := &traffic{stop: make(chan struct{}), calls: map[string]string{}}
	for i := range callers {
		tr.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-tr.stop:
					return
				default:
				}
				nonce := fmt.Sprintf("%d.%d", i, n)
				r, err := a.Call(context.Background(), request("version", `{"nonce":"`+nonce+`"}`))
				tr.mu.Lock()
				if err != nil {
					tr.fails = append(tr.fails, err)
				} else {
					tr.calls[nonce] = string(r.JSON)
				}
				tr.mu.Unlock()
			}
		})
	}
	return tr
}

// end stops the traffic and checks by the tool's own file that each call ran once and was answered once.
func (tr *traffic) end(t *testing.T, cfg PoolConfig) map[string]int {
	t.Helper()
	close(tr.stop)
	tr.wg.Wait()
	for _, err := range tr.fails {
		t.Errorf("a call failed: %v", err)
	}
	ran := map[string]int{}
	for _, nonce := range linesOf(t, filepath.Join(cfg.Workdir, "ran")) {
		ran[nonce]++
	}
	answers := map[string]int{}
	for nonce, answer := range tr.calls {
		answers[answer]++
		if ran[nonce] != 1 {
			t.Errorf("call %s was answered once and ran %d times", nonce, ran[nonce])
		}
	}
	if len(tr.calls) == 0 {
		t.Error("there was no traffic")
	}
	return answers
}

func linesOf(t *testing.T, file string) []string {
	t.Helper()
	return strings.Fields(contents(t, file))
}

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
