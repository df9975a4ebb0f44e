package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// errEnough ends a stream whose reader has seen enough; it never leaves this package.
var errEnough = errors.New("enough")

// Stream runs a stream tool and yields its items in order, decoded; nothing is called before the loop begins, and leaving the loop
// ends the call. A failure is the last pair, its error an *Error if the agent answered.
//
//	for item, err := range client.Stream[Point](ctx, c, "points", map[string]any{"n": 10}) {
func Stream[Item any](ctx context.Context, c *Client, tool string, in any) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var none Item
		args, err := Encode(in)
		if err != nil {
			yield(none, fmt.Errorf("cannot encode the arguments of %q: %w", tool, err))
			return
		}
		_, err = c.StreamRaw(ctx, Request{Tool: tool, Args: args}, func(v Value) error {
			var item Item
			if err := Decode(v, &item); err != nil {
				return fmt.Errorf("cannot decode an item of %q: %w", tool, err)
			}
			if !yield(item, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(none, err)
		}
	}
}
