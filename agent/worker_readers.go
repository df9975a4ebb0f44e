package agent

import (
	"fmt"

	"github.com/pitboss-run/pitboss/ipc"
)

// workerEvent is one report of a reader.
type workerEvent struct {
	frame  *ipc.Frame    // from the control socket
	keeper *keeperReport // from the keeper's link
	cut    error         // a socket ended or spoke nonsense
	mute   bool          // that was the keeper's link
	pong   chan<- Pong   // somebody wants a ping
}

// keeperReport is everything that a keeper may say (PROTOCOL.md §3).
type keeperReport struct {
	Op         string     `json:"op"`
	Keeper     int        `json:"keeper"`
	PID        int        `json:"pid"`
	DumpSignal int        `json:"dump_signal"`
	Reason     string     `json:"reason"`
	Message    string     `json:"message"`
	Code       *int       `json:"code"`
	Signal     *int       `json:"signal"`
	MaxRSSKB   int64      `json:"maxrss_kb"`
	Killed     int        `json:"killed"`
	Left       []survivor `json:"left"`
	Errno      int        `json:"errno"`
	State      string     `json:"state"`
	WChan      string     `json:"wchan"`
}

func (w *worker) post(ev workerEvent) {
	select {
	case w.events <- ev:
	case <-w.done:
	}
}

func (w *worker) readKeeper() {
	for {
		report, err := receiveOrder[keeperReport](w.keeperLink, &w.pool.agent.buffers.orders)
		if err != nil {
			w.post(workerEvent{cut: fmt.Errorf("keeper: %w", err), mute: true})
			return
		}
		w.post(workerEvent{keeper: &report})
	}
}

func (w *worker) readControl() {
	defer close(w.heard)
	r := ipc.NewFrameReader(w.link.control, ipc.Control, ipc.MaxControlJSON)
	for {
		f, err := r.Next()
		if err != nil {
			w.post(workerEvent{cut: fmt.Errorf("control socket: %w", err)})
			return
		}
		w.post(workerEvent{frame: f})
	}
}

// readData hands answers to the calls that wait for them; it is the hot path and passes no other goroutine.
func (w *worker) readData() {
	defer close(w.read)
	defer w.link.data.readerLeft()
	r := ipc.NewFrameReader(w.link.data, ipc.Data, int(w.cfg.Limits.Payload))
	for {
		f, err := r.Next()
		if err == nil {
			err = w.pool.deliver(w, f)
		}
		if err != nil {
			w.post(workerEvent{cut: fmt.Errorf("data socket: %w", err)})
			return
		}
	}
}
