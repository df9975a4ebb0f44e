// Command bench prints the figures of this host, each beside what it is compared with, in one run:
//
//	worker link      Go to Python and back on the data socket, against a C program's round trip on a socket pair
//	unary call       a gRPC client through the agent, against a grpcio server in Python and ProcessPoolExecutor
//	start            100 workers ready
//	death            SIGKILL of the agent to the last process gone; an idle worker after EOF alone
//	scale            10, 100 and 1 000 workers: memory, the cost of watching, pongs on a loaded host, deaths
//
// A bar that is missed is said, not failed; what cannot be measured fails. It needs bin/ (make build), cc, and for the grpcio
// server a Python that has grpcio (make bench installs it into .venv).
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed peers
var peers embed.FS

// host is where the measured programs are.
type host struct {
	bin, python, dir string // pitboss's binaries; the interpreter; a scratch directory
	scale            float64
	table            table
}

func (h *host) peer(name string) string { return filepath.Join(h.dir, "peers", name) }

// times is a number of repetitions, scaled by -scale.
func (h *host) times(n int) int { return max(int(float64(n)*h.scale), 3) }

func main() {
	link := flag.String("link", "", "internal: measure the worker link with the worker on this core")
	bin := flag.String("bin", "bin", "directory of pitboss and pitboss-watchdog")
	python := flag.String("python", ".venv/bin/python", "interpreter")
	out := flag.String("out", "", "write the figures as JSON to this file")
	only := flag.String("only", "link,unary,flood,start,death,scale", "what to measure")
	scale := flag.Float64("scale", 1, "multiplies every number of repetitions")
	spin := flag.Bool("spin", false, "internal: burn one processor until killed")
	flag.Parse()
	if *spin {
		burn()
	}
	if err := run(*link, *only, *bin, *python, *out, *scale); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(link, only, bin, python, out string, scale float64) error {
	h := &host{scale: scale}
	var err error
	if h.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if h.python, err = filepath.Abs(python); err != nil {
		return err
	}
	for _, program := range []string{h.python, filepath.Join(h.bin, "pitboss"), filepath.Join(h.bin, "pitboss-watchdog")} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("cannot measure: %w; make bench builds what is needed, -python and -bin name others", err)
		}
	}
	if h.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	if err := os.CopyFS(h.dir, peers); err != nil {
		return err
	}
	if link != "" {
		return h.measureLink(link)
	}
	for _, m := range []struct {
		name string
		run  func() error
	}{{"link", h.link}, {"unary", h.unary}, {"flood", h.flood}, {"start", h.start}, {"death", h.death}, {"scale", h.many}} {
		if !strings.Contains(only, m.name) {
			continue
		}
		if err := m.run(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	h.table.print(os.Stdout)
	return h.table.write(out, h.python)
}
