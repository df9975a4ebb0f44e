package agent

import (
	"os"
	"strings"
	"testing"
	"unicode"
)

// TestReasonsInTheGuarantees holds the documented codes to the table that answers with them.
func TestReasonsInTheGuarantees(t *testing.T) {
	text, err := os.ReadFile("../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) == 7 && strings.HasPrefix(cells[1], " `") {
			documented[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	for reason, code := range reasonCodes {
		if got := documented[string(reason)]; got != statusName(code.String()) {
			t.Errorf("%s is documented as %q and answers %s", reason, got, statusName(code.String()))
		}
		delete(documented, string(reason))
	}
	for reason := range documented {
		t.Errorf("%s is documented and no reason of the agent", reason)
	}
}

// statusName is "INVALID_ARGUMENT" for grpc-go's "InvalidArgument"; CANCELLED has two l in the protocol.
func statusName(code string) string {
	if code == "Canceled" {
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range code {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
