package agent

import (
	"strings"
	"testing"
)

func TestUserStackShowsTheUsersFramesInnermostFirst(t *testing.T) {
	const library = "/run/pitboss/python-0123456789abcdef"
	const dump = `Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "` + library + `/pitboss/_control.py", line 84 in _run
  File "/usr/lib/python3.11/threading.py", line 982 in run

Thread 0x00007f02 (most recent call first):
  File "/srv/app/tools.py", line 3 in background

Current thread 0x00007f03 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/srv/app/tools.py", line 19 in crash
  File "` + library + `/pitboss/_worker.py", line 203 in _run
  File "<string>", line 5 in <module>

Extension modules: numpy (total: 1)
`
	want := `Fatal Python error: Segmentation fault

Current thread 0x00007f03 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/srv/app/tools.py", line 19 in crash

Thread 0x00007f02 (most recent call first):
  File "/srv/app/tools.py", line 3 in background

Extension modules: numpy (total: 1)`
	if got := userStack(dump, library); got != want {
		t.Errorf("got\n%s", got)
	}
	// A user's own directory called pitboss is not our library.
	if got := userStack(strings.ReplaceAll(dump, library, "/srv/app"), library); !strings.Contains(got, "_worker.py") {
		t.Errorf("frames of the user were left out:\n%s", got)
	}
	for _, other := range []string{"", "no dump at all", "line\nline"} {
		if got := userStack(other, library); got != other {
			t.Errorf("%q became %q", other, got)
		}
	}
	idle := ownStack + "\n  File \"" + library + "/pitboss/_worker.py\", line 1 in _loop\n"
	if got := userStack(idle, library); !strings.Contains(got, "no Python frame of yours") {
		t.Errorf("got %q", got)
	}
}

func TestCutBackKeepsTheBeginningAndWholeCharacters(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{{"abc", 3, "abc"}, {"abcdef", 5, "ab…"}, {"aäöü", 6, "aä…"}, {"äöüä", 7, "äö…"}} {
		if got := cutBack(c.text, c.limit); got != c.want || len(got) > c.limit {
			t.Errorf("cutBack(%q, %d) = %q", c.text, c.limit, got)
		}
	}
}
