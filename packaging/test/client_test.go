//go:build booted

package booted

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// tally is what a client has seen that makes a new connection for every call, as fast as it can.
type tally struct {
	Connects       int           `json:"connects"`
	FailedConnects int           `json:"failed_connects"`
	Answered       int           `json:"answered"`
	Resent         int           `json:"resent"` // refused or cut before they ran, and sent again
	Lost           int           `json:"lost"`   // failed in a way that a careful client may not send again
	Losses         []string      `json:"losses"`
	Gap            time.Duration `json:"gap_ns"` // longest time between two answers
}

// playClient is the client's process: it says "calling" after its first answer, "refused" when a connect fails for the first time, and
// its tally when standard input ends.
func playClient(path string) int {
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
	}()
	var n tally
	last := time.Time{}
	for i := 0; ; i++ {
		select {
		case <-stop:
			_ = json.NewEncoder(os.Stdout).Encode(n)
			return 0
		default:
		}
		if !n.one(path, i) {
			continue
		}
		if last.IsZero() {
			fmt.Println("calling")
		} else {
			n.Gap = max(n.Gap, time.Since(last))
		}
		last = time.Now()
	}
}

// one connects and calls until the call is answered; false means that it was lost.
func (n *tally) one(path string, i int) bool {
	for {
		n.Connects++
		conn, err := net.Dial("unix", path)
		if err != nil {
			if n.FailedConnects++; n.FailedConnects == 1 {
				fmt.Println("refused")
			}
			n.Losses = append(n.Losses, err.Error())
			time.Sleep(10 * time.Millisecond)
			continue
		}
		_ = conn.Close()
		err = n.call(path, i)
		if err == nil {
			n.Answered++
			return true
		}
		again, pause := client.Retryable(err)
		if !again {
			n.Lost++
			var e *client.Error
			if errors.As(err, &e) {
				err = fmt.Errorf("%s: %w", e.Reason, err)
			}
			n.Losses = append(n.Losses, err.Error())
			return false
		}
		n.Resent++
		time.Sleep(pause)
	}
}

func (n *tally) call(path string, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.New(path)
	if err != nil {
		return err
	}
	defer c.Close()
	sum, err := client.Call[int](ctx, c, "add", map[string]any{"a": i, "b": 1})
	if err == nil && sum != i+1 {
		return fmt.Errorf("%d + 1 = %d", i, sum)
	}
	return err
}

// calling starts such a client as a member of the clients' group and waits for its first answer. The function that it returns ends
// the client and says what it has seen; the other one waits for its next line.
func calling(t *testing.T) (end func() tally, says func(string)) {
	t.Helper()
	cmd := exec.Command("runuser", "-u", member, "--", os.Args[0], "role=client", apiPath)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	says = func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the client says %q", lines.Text())
		}
	}
	says("calling")
	return func() tally {
		t.Helper()
		must(t, in.Close())
		for lines.Scan() {
			if lines.Text() == "refused" {
				continue
			}
			var n tally
			must(t, json.Unmarshal(lines.Bytes(), &n))
			return n
		}
		t.Fatalf("the client has no tally: %v", lines.Err())
		return tally{}
	}, says
}

// nothingLost prints what the client saw into the table, and fails if one connect was refused or one call lost.
func nothingLost(t *testing.T, what string, n tally) {
	t.Helper()
	figure("client during "+what, "%d calls, %d connects failed, %d lost, %d sent again, longest gap %.0f ms",
		n.Answered, n.FailedConnects, n.Lost, n.Resent, n.Gap.Seconds()*1000)
	if n.FailedConnects != 0 || n.Lost != 0 || n.Answered < 10 {
		t.Errorf("%+v", n)
	}
}

// TestClientControl: the client does count what fails.
func TestClientControl(t *testing.T) {
	serving(t)
	end, says := calling(t)
	run(t, "systemctl", "stop", socket, service)
	says("refused")
	run(t, "systemctl", "start", socket, service)
	ready(t)
	if n := end(); n.FailedConnects == 0 {
		t.Errorf("no connect failed while the socket was gone: %+v", n)
	}
}
