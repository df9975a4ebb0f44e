package agent

import (
	"strings"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	serves(t, a, 5*time.Second)
	if e := callFails(t, a, request("raises", `{}`), ToolRaised); e.Type != "ValueError" || !strings.Contains(e.Traceback, "on purpose") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("add", `{"a":1}`), BadArguments); !strings.Contains(e.Message, "'b'") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("ad", `{}`), UnknownTool); !strings.Contains(e.Message, "add") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("nowhere/add", `{}`), UnknownPool); !strings.Contains(e.Message, "default") {
		t.Errorf("%+v", e)
	}
	items := 0
	r, err := a.Stream(within(t, 20*time.Second), request("count", `{"n":1000}`), func(v *Value) error { items++; return nil })
	if err != nil || items != 1000 || string(r.JSON) != "1000" {
		t.Errorf("stream of %d items ended with %v %v", items, r, err)
	}
	// One answer, whatever the fork does, and the worker lives on.
	if r, err := a.Call(within(t, 20*time.Second), request("forks", `{}`)); err != nil || string(r.JSON) != `"parent"` {
		t.Errorf("%v %v", r, err)
	}
	for range 20 {
		serves(t, a, 5*time.Second)
	}
}
