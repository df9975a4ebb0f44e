package agent

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestACutLinkIsDeath(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if e := callFails(t, a, request("cut_control", `{}`), WorkerDied); !strings.Contains(e.Message, "link cut") && e.PostMortem.Code == nil {
		t.Errorf("%+v", e)
	}
	serves(t, a, 2*time.Second)
}

func TestAHalfOpenDataSocketIsDeath(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Workers = 2 })
	if e := callFails(t, a, request("close_answers", `{}`), WorkerDied); !strings.Contains(e.Message, "link cut") {
		t.Errorf("%s", e.Message)
	}
	serves(t, a, 2*time.Second)
	// The other half: the call is answered, then the worker hears the end of its requests and ends; nobody is lost.
	r, err := a.Call(within(t, 20*time.Second), request("close_requests", `{}`))
	if err != nil || string(r.JSON) != `"answered"` {
		t.Fatalf("%v %v", r, err)
	}
	await(t, 10*time.Second, "replaced", func() bool {
		for _, w := range a.Status().Pools[0].Workers {
			if w.ID == r.Worker {
				return false
			}
		}
		return a.Status().Pools[0].Ready == 2
	})
	serves(t, a, 2*time.Second)
}

// TestFullBuffersCostTheirOwnWorker: a worker that reads nothing any more (it is stopped, and heartbeats would take seconds
// to say so) fills its sockets; neither the agent nor its other workers wait for it.
func TestFullBuffersCostTheirOwnWorker(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		a := startTestAgent(t, testTools, nil)
		stopTheOnlyWorker(t, a)
		req := &Request{Tool: "take", Timeout: time.Second, Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: [][]byte{make([]byte, 10_000_000)}}}
		if e := callFails(t, a, req, CallTimeout); e.MayHaveRun || !strings.Contains(e.Message, "never ran") {
			t.Errorf("%+v", e)
		}
		serves(t, a, 2*time.Second)
	})
	t.Run("control", func(t *testing.T) {
		a := startTestAgent(t, testTools, nil)
		first := stopTheOnlyWorker(t, a)
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		await(t, 20*time.Second, "replaced", func() bool {
			for range 100 {
				_, _ = a.Ping(gone, first.ID)
			}
			w := a.Status().Pools[0].Workers
			return len(w) == 1 && w[0].ID != first.ID && strings.Contains(w[0].LastExit, "link cut")
		})
		serves(t, a, 2*time.Second)
	})
}

func stopTheOnlyWorker(t *testing.T, a *Agent) WorkerStatus {
	t.Helper()
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	w := a.Status().Pools[0].Workers[0]
	if err := syscall.Kill(w.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, 5*time.Second, "stopped", func() bool { return sampleProcess(w.PID, 0).State == 'T' })
	return w
}
