package agent

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// documentedReasons are the rows of the table in docs/errors.md, by reason.
func documentedReasons(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) == 8 && strings.HasPrefix(cells[0], "`") {
			rows[strings.Trim(cells[0], "`")] = cells[1:]
		}
	}
	return rows
}

// TestCodesInTheErrorsDocument holds the documented codes to the table that answers with them.
func TestCodesInTheErrorsDocument(t *testing.T) {
	documented := documentedReasons(t)
	for reason, code := range reasonCodes {
		row := documented[string(reason)]
		if len(row) == 0 || row[0] != statusName(code.String()) {
			t.Errorf("%s is documented as %q and answers %s", reason, row, statusName(code.String()))
		}
		delete(documented, string(reason))
	}
	for reason, row := range documented {
		if row[0] != "none" {
			t.Errorf("%s is documented and no reason of the agent", reason)
		}
	}
}

// TestPostMortemInTheErrorsDocument holds the documented fields to the struct.
func TestPostMortemInTheErrorsDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The post-mortem of a worker")
	documented := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) == 4 && strings.HasPrefix(cells[1], " `") {
			for name := range strings.SplitSeq(cells[1], ",") {
				documented[strings.Trim(name, " `")] = true
			}
		}
	}
	fields := reflect.TypeFor[PostMortem]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("%s is documented and no field", name)
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
