package watchdog

import (
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// A beat comes every second for months: from the socket to the engine it allocates nothing.
func TestBeatsCostNoMemory(t *testing.T) {
	e := engineIn(t, running, 0)
	ev := event{kind: evBeat, calls: 3}
	now := instant(0)
	if n := testing.AllocsPerRun(1000, func() { now++; e, _, _ = e.step(ev, now) }); n != 0 {
		t.Errorf("%v allocations a beat", n)
	}
	if e.beatAt != now {
		t.Error("the beats were not heard")
	}
}

func TestReceivingBeatsCostsNoMemory(t *testing.T) {
	mine, theirs, err := ipc.PacketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(theirs)
	l := newLink(mine)
	defer func() { _ = unix.Close(mine) }()
	beat := ipc.GuardMessage{Kind: ipc.GuardBeat, Value: 3}.Append(nil)
	heardBeats := 0
	n := testing.AllocsPerRun(200, func() {
		if _, err := unix.Write(theirs, beat); err != nil { // SendPacket would count with its own
			t.Fatal(err)
		}
		for more := true; more; {
			var h heard
			if h, more = l.receive(false); h.real && h.event.kind == evBeat {
				heardBeats++
			}
		}
	})
	if n != 0 || heardBeats != 201 {
		t.Errorf("%v allocations a beat, %d beats heard of 201", n, heardBeats)
	}
}

// An answer that the agent does not make room for is kept, and nothing more is read until it is sent: what an agent asks without
// reading is bounded by the socket. After its death everything is read all the same.
func TestADeafAgentIsNotReadFurther(t *testing.T) {
	mine, theirs, err := ipc.PacketPair()
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(mine)
	asked, read := 0, 0
	ask := func() {
		for ipc.SendPacket(theirs, ipc.GuardMessage{Kind: ipc.GuardRelease, PID: 1, Seq: uint64(asked)}.Append(nil), nil) == nil {
			asked++
		}
	}
	take := func(last bool) {
		for more := true; more; {
			if _, more = l.receive(last); more {
				read++
			}
		}
	}
	for range 3 {
		ask()
		take(false)
	}
	if l.wants() != unix.POLLOUT || read == 0 || read >= asked {
		t.Fatalf("%d of %d questions were read, it waits for %#x", read, asked, l.wants())
	}
	before := read
	take(false)
	if read != before {
		t.Errorf("%d more were read while an answer waits", read-before)
	}
	_ = unix.Close(theirs)
	take(true)
	if read != asked || l.fd != -1 {
		t.Errorf("%d of %d questions were read after the end, descriptor %d", read, asked, l.fd)
	}
}
