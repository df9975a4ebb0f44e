package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pitboss-run/pitboss/agent"
)

// flood compares the calls to one worker beside another that prints without end with the same beside one that sleeps, in
// windows that alternate.
func (h *host) flood() error {
	a, end, err := h.inProcess(2)
	if err != nil {
		return err
	}
	defer end()
	var quiet, flooded samples
	for range h.times(10) {
		for tool, s := range map[string]*samples{"pause": &quiet, "print_on": &flooded} {
			beside, err := besideOf(a, tool)
			if err != nil {
				return err
			}
			*s = append(*s, beside...)
		}
	}
	dropped := uint64(0)
	for _, w := range a.Status().Pools[0].Workers {
		dropped += w.LinesDropped
	}
	h.table.add(row{What: fmt.Sprintf("other calls beside an endless print loop (%d lines dropped): p99", dropped), Figure: flooded.String(),
		Beside: "beside a sleep " + quiet.String(), Ratio: ratio(flooded.p99(), quiet.p99()), Bar: 2, Unit: "x"})
	return nil
}

// besideOf is what calls take while the other worker runs the tool for a second.
func besideOf(a *agent.Agent, tool string) (samples, error) {
	other := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), &agent.Request{Tool: tool, Args: agent.Value{JSON: []byte(`{"seconds":1.0}`)}})
		other <- err
	}()
	for a.Running() == 0 { // a moment: dispatch is synchronous
	}
	var s samples
	for {
		start := time.Now()
		_, err := a.Call(context.Background(), &agent.Request{Tool: "echo", Args: agent.Value{JSON: []byte(echoArgs)}})
		took := time.Since(start)
		if err != nil {
			return nil, err
		}
		select {
		case err := <-other: // that call may have had both workers to choose from
			return s, err
		default:
			s = append(s, took)
		}
	}
}
