package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestExitCodesInTheGuarantees holds the documented exit codes to the table that main uses.
func TestExitCodesInTheGuarantees(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]int{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) == 7 && strings.HasPrefix(cells[1], " `") {
			code, err := strconv.Atoi(strings.TrimSpace(cells[3]))
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
			documented[strings.Trim(cells[1], " `")] = code
		}
	}
	if len(documented) != len(reasonExit) {
		t.Errorf("%d reasons are documented, there are %d", len(documented), len(reasonExit))
	}
	for reason, code := range reasonExit {
		if documented[reason] != code {
			t.Errorf("%s is documented with exit code %d and has %d", reason, documented[reason], code)
		}
	}
}
