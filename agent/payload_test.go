package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"
)

func TestLargePayloads(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	r, err := a.Call(within(t, 60*time.Second), request("big", `{"n":100000000}`))
	if err != nil || len(r.Parts) != 1 || len(r.Parts[0]) != 100_000_000 {
		t.Fatalf("%v", err)
	}
	sum := sha256.Sum256(r.Parts[0])
	r, err = a.Call(within(t, 60*time.Second), &Request{Tool: "take", Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: r.Parts}})
	if err != nil || string(r.JSON) != `"`+hex.EncodeToString(sum[:])+`"` {
		t.Fatalf("%v %v", r, err)
	}
	callFails(t, a, request("big", `{"n":140000000}`), PayloadTooLarge)
	callFails(t, a, &Request{Tool: "take", Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: [][]byte{make([]byte, 140_000_000)}}}, PayloadTooLarge)
	serves(t, a, 5*time.Second)
}
