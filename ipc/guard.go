package ipc

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// Version is the version of both binaries. They are installed as a pair: the guard link refuses a HELLO of another version.
const Version = "0.1.0"

const (
	// GuardVersion is the first byte of every guard message.
	GuardVersion = 1
	// GuardHeaderSize is the fixed part of a guard message in bytes.
	GuardHeaderSize = 24
	// MaxGuardText is the longest text of a guard message in bytes.
	MaxGuardText = 4000
	// MaxGuardSize is the longest guard message in bytes: the size of a receiver's buffer.
	MaxGuardSize = GuardHeaderSize + MaxGuardText
	// MaxGuardFDs is the most descriptors that any guard message carries.
	MaxGuardFDs = 2
	// MaxGuardMicros bounds every duration on the link (a grace, a stop budget): 24 hours in µs, so that a receiver
	// can convert to nanoseconds and add without overflow.
	MaxGuardMicros = 24 * 3600 * 1_000_000

	// BeatDraining is the flag of a BEAT whose agent is draining; the value is then the calls that still run.
	BeatDraining uint16 = 1
)

// GuardKind names the fact in a guard message. PROTOCOL.md §4 is the table behind it.
type GuardKind uint8

// The kinds of version 1: those below 64 go from the agent to the watchdog, the others back.
const (
	GuardHello    GuardKind = 1
	GuardGuard    GuardKind = 2
	GuardRelease  GuardKind = 3
	GuardPool     GuardKind = 4
	GuardBeat     GuardKind = 5
	GuardNotify   GuardKind = 6
	GuardStopping GuardKind = 7
	GuardBye      GuardKind = 8

	GuardWelcome GuardKind = 64
	GuardAck     GuardKind = 65
	GuardNack    GuardKind = 66
)

// Role is the flags word of a GUARD message: what kind of process lives.
type Role uint16

// The roles of guarded processes.
const (
	RoleLauncher Role = 1
	RoleKeeper   Role = 2
	RoleWorker   Role = 3
)

// valueRule says which values a kind may carry.
type valueRule uint8

const (
	valueZero   valueRule = iota
	valueMicros           // 0 to MaxGuardMicros
	valueCount            // ≥ 0
	valueExit             // 0 to 255
)

// guardRow is one row of the table of kinds.
type guardRow struct {
	name             string
	minFlag, maxFlag uint16
	value            valueRule
	pid              bool // names a process: pid > 0
	text             bool // may carry text
	fds              int  // descriptors that come with it …
	orNoFDs          bool // … or none
	answered         bool // the watchdog answers ACK, WELCOME or NACK
}

func (k GuardKind) row() (guardRow, bool) {
	switch k {
	case GuardHello:
		return guardRow{name: "HELLO", value: valueMicros, text: true, answered: true}, true
	case GuardGuard:
		return guardRow{name: "GUARD", minFlag: 1, maxFlag: 3, pid: true, text: true, fds: 1, answered: true}, true
	case GuardRelease:
		return guardRow{name: "RELEASE", pid: true, answered: true}, true
	case GuardPool:
		return guardRow{name: "POOL", value: valueMicros, text: true, fds: 2, orNoFDs: true, answered: true}, true
	case GuardBeat:
		return guardRow{name: "BEAT", maxFlag: BeatDraining, value: valueCount, answered: true}, true
	case GuardNotify:
		return guardRow{name: "NOTIFY", text: true}, true
	case GuardStopping:
		return guardRow{name: "STOPPING", value: valueMicros}, true
	case GuardBye:
		return guardRow{name: "BYE", value: valueExit}, true
	case GuardWelcome:
		return guardRow{name: "WELCOME", pid: true, text: true}, true
	case GuardAck:
		return guardRow{name: "ACK"}, true
	case GuardNack:
		return guardRow{name: "NACK", value: valueCount, text: true}, true
	}
	return guardRow{}, false
}

// String is the name in PROTOCOL.md, or the number of an unknown kind.
func (k GuardKind) String() string {
	if r, ok := k.row(); ok {
		return r.name
	}
	return "KIND(" + strconv.Itoa(int(k)) + ")"
}

// FDs lists the descriptor counts that a message of this kind may come with; nil for an unknown kind.
func (k GuardKind) FDs() []int {
	r, ok := k.row()
	switch {
	case !ok:
		return nil
	case r.orNoFDs:
		return []int{0, r.fds}
	}
	return []int{r.fds}
}

// FromAgent reports whether the agent sends this kind; the others are the watchdog's.
func (k GuardKind) FromAgent() bool { return k < GuardWelcome }

// Answered reports whether the watchdog answers this kind with WELCOME, ACK or NACK.
func (k GuardKind) Answered() bool {
	r, _ := k.row()
	return r.answered
}

// GuardKinds lists every kind of version 1, in the order of their numbers.
func GuardKinds() []GuardKind {
	var all []GuardKind
	for n := 0; n < 256; n++ {
		if _, ok := GuardKind(n).row(); ok {
			all = append(all, GuardKind(n))
		}
	}
	return all
}

// GuardMessage is one fact on the guard link. Its descriptors travel beside it, in the same packet.
type GuardMessage struct {
	Kind  GuardKind
	Flags uint16 // a Role in GUARD, BeatDraining in BEAT, else 0
	PID   uint32 // the process in GUARD, RELEASE and WELCOME
	Seq   uint64 // chosen by the agent; answers repeat it
	Value int64  // µs, a count, an exit code or an errno: see PROTOCOL.md §4
	Text  string // at most MaxGuardText bytes of UTF-8
}

// Append appends the bytes of m to dst. A text over MaxGuardText is cut, at a character, from the end.
func (m GuardMessage) Append(dst []byte) []byte {
	text := m.Text
	if len(text) > MaxGuardText {
		n := MaxGuardText
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	dst = append(dst, GuardVersion, byte(m.Kind))
	dst = binary.BigEndian.AppendUint16(dst, m.Flags)
	dst = binary.BigEndian.AppendUint32(dst, m.PID)
	dst = binary.BigEndian.AppendUint64(dst, m.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Value))
	return append(dst, text...)
}

// DecodeGuard reads one message. On a *ProtocolError the message still holds kind and sequence if the bytes reached that
// far, so that the refusal can name them.
func DecodeGuard(b []byte) (GuardMessage, error) {
	var m GuardMessage
	if len(b) >= 16 {
		m.Kind, m.Seq = GuardKind(b[1]), binary.BigEndian.Uint64(b[8:])
	}
	switch {
	case len(b) < GuardHeaderSize:
		return m, protocolError("cut", "guard message of", uint64(len(b)))
	case b[0] != GuardVersion:
		return m, protocolError("version", "guard message of version", uint64(b[0]))
	case len(b) > MaxGuardSize:
		return m, protocolError("text", "guard message with a text of", uint64(len(b)-GuardHeaderSize))
	}
	row, ok := m.Kind.row()
	if !ok {
		return m, protocolError("kind", "guard message of unknown kind", uint64(m.Kind))
	}
	m.Flags = binary.BigEndian.Uint16(b[2:])
	m.PID = binary.BigEndian.Uint32(b[4:])
	m.Value = int64(binary.BigEndian.Uint64(b[16:]))
	switch {
	case m.Flags < row.minFlag || m.Flags > row.maxFlag:
		return m, protocolError("flags", row.name+" with flags", uint64(m.Flags))
	case row.pid && (m.PID == 0 || m.PID > 1<<31-1):
		return m, protocolError("pid", row.name+" with pid", uint64(m.PID))
	case !row.value.allows(m.Value):
		return m, &ProtocolError{Code: "value", Detail: row.name + " with value " + strconv.FormatInt(m.Value, 10)}
	case !row.text && len(b) > GuardHeaderSize:
		return m, protocolError("text", row.name+" with a text of", uint64(len(b)-GuardHeaderSize))
	case !utf8.Valid(b[GuardHeaderSize:]):
		return m, protocolError("text", row.name+" with a text that is not UTF-8, of", uint64(len(b)-GuardHeaderSize))
	}
	m.Text = string(b[GuardHeaderSize:])
	return m, nil
}

// CheckFDs is nil if n descriptors may come with this message, else a *ProtocolError with code "fds".
func (m GuardMessage) CheckFDs(n int) error {
	r, ok := m.Kind.row()
	if ok && (n == r.fds || n == 0 && r.orNoFDs) {
		return nil
	}
	return protocolError("fds", m.Kind.String()+" with a descriptor count of", uint64(n))
}

func (v valueRule) allows(n int64) bool {
	switch v {
	case valueMicros:
		return n >= 0 && n <= MaxGuardMicros
	case valueCount:
		return n >= 0
	case valueExit:
		return n >= 0 && n <= 255
	}
	return n == 0
}
