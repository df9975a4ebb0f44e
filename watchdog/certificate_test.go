package watchdog

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pitboss-run/pitboss/ipc"
)

var hostile = []string{"", "default-0.1", `"`, `\`, "\n\r\t\x00\x1f\x7f", "\xff\xfe\xc3", "grün 🦊", strings.Repeat(`"`, 5000), strings.Repeat("\x00", 5000),
	strings.Repeat("🦊", 2000), `</script>` + "\u2028", `{"pid":1}`, strings.Repeat("\xff", 3000)}

func TestCertificateIsOneShortLineOfJSON(t *testing.T) {
	for _, text := range hostile {
		for _, left := range []int{0, 1, maxSurvivors, maxSurvivors + 1, 1000} {
			c := certificate{runID: text, agentPID: 1<<31 - 1, cause: text, detect: time.Hour, empty: 24 * time.Hour, killed: 1 << 30, guarded: 1 << 30, cgroups: left%2 == 0}
			for i := range left {
				c.survivors = append(c.survivors, survivor{pid: 1<<31 - 1 - int32(i), name: text, state: text, tracer: 1<<31 - 1, wchan: text, errno: 133})
			}
			b := c.json()
			if len(b) > ipc.MaxLine-1 {
				t.Errorf("%.20q, %d survivors: %d bytes do not fit into one write of %d", text, left, len(b), ipc.MaxLine)
			}
			if strings.ContainsAny(string(b), "\n\r") || !utf8.Valid(b) {
				t.Errorf("%.20q: not one line of UTF-8: %q", text, b)
			}
			d := parseCertificate(t, b)
			if d.Count != left || len(d.Survivors) != min(left, maxSurvivors) || d.AgentPID != c.agentPID || d.EmptyUS != c.empty.Microseconds() || d.TermUS != 0 {
				t.Errorf("%.20q: %+v", text, d)
			}
			short := strings.ToValidUTF8(text, "\ufffd")
			if len(text) <= maxText/6 && utf8.ValidString(text) && d.RunID != short {
				t.Errorf("%q came back as %q", text, d.RunID)
			}
		}
	}
}

func TestJSONStringOfAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, random.IntN(12))
		for i := range b {
			b[i] = byte(random.IntN(256))
		}
		want := ""
		for _, r := range string(b) {
			want += string(r)
		}
		var got string
		if err := json.Unmarshal(jsonString(string(b)), &got); err != nil || got != want && len(want) < maxText/6 {
			t.Fatalf("%q: %v, %q", b, err, got)
		}
	}
}

func TestCertificateTierAndProof(t *testing.T) {
	one := []survivor{{pid: 1}}
	for _, c := range []struct {
		c           certificate
		tier, proof string
	}{
		{certificate{}, "tree", "ECHILD"},
		{certificate{cgroups: true}, "cgroup", "ECHILD+populated 0"},
		{certificate{survivors: one}, "tree", "none"},
		{certificate{survivors: one, cgroups: true}, "cgroup", "none"},
	} {
		if d := parseCertificate(t, c.c.json()); d.Tier != c.tier || d.Proof != c.proof {
			t.Errorf("%+v: tier %q, proof %q", c.c, d.Tier, d.Proof)
		}
	}
}

func TestWriteCertificate(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"one", "two"} { // the second replaces the first
		if err := writeCertificate(dir, []byte(text)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dir + "/" + certificateFile)
		if err != nil || string(b) != text+"\n" {
			t.Errorf("%q %v, want %q", b, err, text)
		}
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("%d files, want the certificate alone", len(all))
	}
	if err := writeCertificate("", []byte("x")); err != nil {
		t.Errorf("nowhere: %v", err)
	}
	err := writeCertificate(dir+"/gone", []byte("x"))
	if err == nil || !strings.HasPrefix(err.Error(), "cannot write ") || errors.Unwrap(err) != nil && !os.IsNotExist(err) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
