package watchdog

import "github.com/pitboss-run/pitboss/ipc"

// writer writes lines to standard error and never waits: a line that does not fit is dropped.
type writer struct{ out *ipc.Output }

func newWriter(fd int) *writer { return &writer{ipc.NewOutput(fd)} }

// line writes "pitboss-watchdog: text".
func (w *writer) line(text string) { w.raw("pitboss-watchdog: " + text) }

// raw writes one line; longer than ipc.MaxLine it is cut, so that on a pipe it is whole or not there. Errors are ignored, there
// is nowhere to report them.
func (w *writer) raw(text string) {
	if len(text) > ipc.MaxLine-1 {
		text = text[:ipc.MaxLine-1]
	}
	_, _ = w.out.Write(append([]byte(text), '\n'))
}
