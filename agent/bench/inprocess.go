package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/pitboss-run/pitboss/agent"
)

// inProcess runs an agent in this process, with real workers, and waits until it serves; end stops it and waits for it.
func (h *host) inProcess(workers int) (a *agent.Agent, end func(), err error) {
	cfg, pool := agent.Default(), agent.DefaultPool()
	pool.Name, pool.Adapter, pool.Workdir, pool.Python, pool.Guard, pool.Workers = "default", h.peer("tools.py"), h.dir, h.python, "group", workers
	cfg.Pools = []agent.PoolConfig{pool}
	a, err = agent.New(agent.Options{Config: cfg, Socket: filepath.Join(h.dir, "s"), RuntimeDir: filepath.Join(h.dir, "run"), GuardFD: -1,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	end = func() { a.Stop("measured"); <-ended }
	if err := a.WaitReady(context.Background()); err != nil {
		end()
		return nil, nil, err
	}
	return a, end, nil
}
