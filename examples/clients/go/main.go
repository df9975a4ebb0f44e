// Command go is a client of a running agent in Go.
//
//	pitboss run examples/clients/tools.py -- go run ./examples/clients/go
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, err := client.Dial(ctx, client.DefaultSocket(os.Getenv))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.WaitReady(ctx, "default"); err != nil {
		return err
	}
	fmt.Println("health: SERVING")

	sum, err := client.Call[int](ctx, c, "add", map[string]any{"a": 20, "b": 22})
	if err != nil {
		return err
	}
	fmt.Println("add:", sum)

	data, err := client.Call[[]byte](ctx, c, "reverse", map[string]any{"data": []byte("abc")})
	if err != nil {
		return err
	}
	fmt.Printf("reverse: %s\n", data)

	type item struct {
		I int `json:"i"`
	}
	for got, err := range client.Stream[item](ctx, c, "count", map[string]any{"n": 3}) {
		if err != nil {
			return err
		}
		fmt.Println("count:", got.I)
	}

	_, err = client.Call[any](ctx, c, "refuse", map[string]any{"retryable": true})
	var e *client.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("refuse did not fail as it should: %w", err)
	}
	retry, after := client.Retryable(err)
	fmt.Printf("refuse: %s, tool's reason %s, may have run %t, data %s, retry %t after %s\n", e.Reason, e.ToolReason, e.MayHaveRun, e.Data, retry, after)
	return nil
}
