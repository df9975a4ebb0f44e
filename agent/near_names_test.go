package agent

import "testing"

func TestNearNames(t *testing.T) {
	known := []string{"default", "add", "count", "embed-text"}
	for name, want := range map[string]string{
		"ad": "add", "defalt": "default", "cuont": "count", "embed_text": "embed-text", "nothing": "", "x": "", "zzz": "", "": "",
	} {
		if got := NearName(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := nearName("ad", known); got != `; did you mean "add"?` {
		t.Error(got)
	}
	if got := nearName("zzz", known); got != "" {
		t.Error(got)
	}
}
