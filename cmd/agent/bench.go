package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"os/signal"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

// benchAdapter is what is called: as little as a tool can do.
const benchAdapter = `import pitboss


@pitboss.tool
def echo(text: str) -> str:
    return text
`

// benchText makes a request's arguments and its result 64 bytes of JSON, nearly.
const benchText = "the quick brown fox jumps over the lazy dog, and again"

// benchFlags are how much is measured.
type benchFlags struct {
	calls, inFlight, workers int
	python                   string
}

// benchResult is what `bench --json` prints. Times are in microseconds.
type benchResult struct {
	Workers    int     `json:"workers"`
	Calls      int     `json:"calls"`
	InFlight   int     `json:"in_flight"`
	StartMS    float64 `json:"start_ms"` // from the order to the first call that may come
	CallP50    float64 `json:"call_p50_us"`
	CallP99    float64 `json:"call_p99_us"`
	CallMax    float64 `json:"call_max_us"`
	Throughput float64 `json:"calls_per_s"`
}

func newBenchCommand(g *global) *cobra.Command {
	f := benchFlags{}
	c := &cobra.Command{Use: "bench", Short: "measure start, call and throughput on this host", Args: cobra.NoArgs,
		Long: "A private agent with an adapter that echoes is started, called over its socket one call after another, then with many in\n" +
			"flight. The figures are those of this host at this moment: compare ratios of one run, on a quiet machine.",
		Example: "  pitboss bench\n  pitboss bench --workers 8 --in-flight 64",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.calls < 100 || f.calls > 1_000_000 || f.inFlight < 1 || f.inFlight > 1000 || f.workers < 1 || f.workers > 1000 {
				return fail(exitUsage, "--calls is 100 to 1 000 000, --in-flight and --workers 1 to 1 000", "cannot measure %d calls, %d in flight, with %d workers", f.calls, f.inFlight, f.workers)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r, err := f.measure(ctx, g)
			switch {
			case ctx.Err() != nil:
				return &codeError{code: exitInterrupted}
			case err != nil:
				return err
			case g.json:
				return printJSON(g.stdout, r)
			}
			fmt.Fprintf(g.stdout, "start       %s ready after %.0f ms, watchdog and agent included\n", counted(r.Workers, "worker"), r.StartMS)
			fmt.Fprintf(g.stdout, "call        p50 %.0f µs, p99 %.0f µs, max %.0f µs; %d calls, one after another\n", r.CallP50, r.CallP99, r.CallMax, r.Calls)
			fmt.Fprintf(g.stdout, "throughput  %.0f calls/s; %d calls, %d in flight\n", r.Throughput, r.Calls, r.InFlight)
			return nil
		}}
	c.Flags().IntVar(&f.calls, "calls", 2000, "how `MANY` calls each measurement makes")
	c.Flags().IntVar(&f.inFlight, "in-flight", 16, "how `MANY` calls are open at once in the second")
	c.Flags().IntVar(&f.workers, "workers", 2, "how `MANY` workers there are")
	c.Flags().StringVar(&f.python, "python", "", "`PATH` of the interpreter (default: $PITBOSS_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	return c
}

func (f *benchFlags) measure(ctx context.Context, g *global) (r benchResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, fail(exitInternal, "", "cannot find our own binary: %w", err)
	}
	dir, err := os.MkdirTemp("", "pitboss-bench")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.WriteFile(filepath.Join(dir, "echo.py"), []byte(benchAdapter), 0o600)
	}
	if err != nil {
		return r, fail(exitFailed, "", "cannot write the adapter: %w", err)
	}
	began := time.Now()
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return r, fail(exitFailed, "", "%w", err)
	}
	defer quiet.Close()
	a, err := client.Launch(ctx, client.LaunchOptions{Adapter: filepath.Join(dir, "echo.py"), Python: f.python, Workers: f.workers, Binary: self, Stderr: quiet})
	if err != nil {
		return r, fail(exitUnavailable, "`pitboss doctor` checks what an agent needs", "cannot start an agent to measure: %w", err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	r = benchResult{Workers: f.workers, Calls: f.calls, InFlight: f.inFlight, StartMS: float64(time.Since(began).Microseconds()) / 1000}
	call := func() error {
		_, err := client.Call[string](ctx, a.Client, "echo", map[string]string{"text": benchText})
		return err
	}
	for range f.calls / 10 { // warm
		if err := call(); err != nil {
			return r, err
		}
	}
	took := make([]time.Duration, f.calls)
	for i := range took {
		began := time.Now()
		if err := call(); err != nil {
			return r, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	r.CallP50, r.CallP99, r.CallMax = us(took[len(took)/2]), us(took[len(took)*99/100]), us(took[len(took)-1])
	r.Throughput, err = f.flood(call)
	return r, err
}

// flood makes the calls with as many in flight as was asked for, and returns how many a second there were.
func (f *benchFlags) flood(call func() error) (perSecond float64, err error) {
	var left atomic.Int64
	left.Store(int64(f.calls))
	failed := make(chan error, f.inFlight)
	var callers sync.WaitGroup
	began := time.Now()
	for range f.inFlight {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	callers.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(f.calls) / took.Seconds(), nil
	}
}
