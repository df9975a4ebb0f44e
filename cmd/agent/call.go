package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

// callFlags are the flags of `call`.
type callFlags struct {
	pool, out string
	timeout   time.Duration
}

func newCallCommand(g *global) *cobra.Command {
	var f callFlags
	c := &cobra.Command{Use: "call TOOL [key=value | key=@file | JSON | -]...", Short: "call a tool of a running agent",
		Long: `Arguments are key=value (by the tool's signature: text for a str, else JSON, else text), key=@file (the file's
bytes), or one JSON object, or - to read that object from standard input. TOOL is a name, or POOL/NAME.

The result is printed as JSON, and each item of a stream tool as a line of JSON. Bytes in a result are printed as their
size; --out writes a result that is bytes to a file.`,
		Example: `  pitboss call add a=1 b=2
  pitboss call images/classify image=@cat.jpg top_k=3
  echo '{"a": 1, "b": 2}' | pitboss call add -
  pitboss call thumbnail image=@cat.jpg --out small.jpg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			c, err := g.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			return callTool(ctx, g, c, f, args[0], args[1:])
		}}
	c.Flags().StringVar(&f.pool, "pool", "", "the `POOL`, where there is more than one")
	c.Flags().StringVar(&f.out, "out", "", "write a result that is bytes to `FILE`")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "budget of the call (default: the pool's)")
	return c
}

// callTool runs one call and prints what comes of it.
func callTool(ctx context.Context, g *global, c *client.Client, f callFlags, name string, args []string) error {
	pool, bare := f.pool, name
	if p, t, ok := strings.Cut(name, "/"); ok && pool == "" {
		pool, bare = p, t
	}
	tool, err := findTool(ctx, c, pool, bare)
	if err != nil {
		return err
	}
	value, err := parseArguments(args, tool, os.Stdin)
	if err != nil {
		return err
	}
	req := client.Request{Pool: pool, Tool: bare, Args: value, Timeout: f.timeout}
	if tool != nil && tool.Stream {
		_, err = c.StreamRaw(ctx, req, func(item client.Value) error { return printValue(g, item, true) })
		if errors.Is(err, errReaderLeft) { // `| head -3` has what it wanted
			return nil
		}
		return interrupted(ctx, err)
	}
	result, err := c.CallRaw(ctx, req)
	if err != nil {
		return interrupted(ctx, err)
	}
	if f.out != "" {
		return writeBytes(f.out, result.Value)
	}
	if err := printValue(g, result.Value, false); !errors.Is(err, errReaderLeft) {
		return err
	}
	return nil
}

// errReaderLeft ends a stream whose reader has left. Commands other than `run` die of SIGPIPE there, as usual.
var errReaderLeft = errors.New("whoever read standard output has left")

// interrupted keeps "the user pressed Ctrl-C" apart from "the agent failed", and an agent that has ended with the call apart from one
// that was never reached.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return &codeError{code: exitInterrupted, err: errors.New("interrupted; the call was cancelled")}
	}
	var remote *client.Error
	if errors.As(err, &remote) && remote.Reason == client.Unreachable && remote.MayHaveRun && !mute(err) {
		return fail(exitUnavailable, "it may have run; `pitboss status` of the next agent tells of the last one's death",
			"the agent ended while it had the call, and the call's worker with it (%w)", err)
	}
	return err
}

// findTool looks the tool up for its signature; nil when the agent will say itself that there is none.
func findTool(ctx context.Context, c *client.Client, pool, name string) (*client.Tool, error) {
	tools, err := c.Tools(ctx, pool)
	if err != nil {
		return nil, err
	}
	for i := range tools {
		if tools[i].Name == name && (pool == "" || tools[i].Pool == pool) {
			return &tools[i], nil
		}
	}
	return nil, nil
}

// parseArguments turns the words of the command line into one arguments object.
func parseArguments(args []string, tool *client.Tool, stdin io.Reader) (client.Value, error) {
	if len(args) == 1 && (args[0] == "-" || strings.HasPrefix(strings.TrimSpace(args[0]), "{")) {
		text := []byte(args[0])
		if args[0] == "-" {
			var err error
			if text, err = io.ReadAll(stdin); err != nil {
				return client.Value{}, fail(exitArguments, "", "cannot read the arguments: %w", err)
			}
		}
		var object json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			where := ""
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				where = fmt.Sprintf(" at byte %d", syntax.Offset)
			}
			return client.Value{}, fail(exitArguments, `write an object such as {"a": 1}`, "the arguments are not JSON: %w%s of %.80s", err, where, text)
		}
		return client.Value{JSON: text}, nil
	}
	object := map[string]any{}
	for _, arg := range args {
		key, text, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return client.Value{}, fail(exitUsage, "write key=value, key=@file, one JSON object, or -", "cannot understand the argument %q", arg)
		}
		if _, twice := object[key]; twice {
			return client.Value{}, fail(exitUsage, "", "the argument %q is given twice", key)
		}
		value, err := parseArgument(key, text, tool)
		if err != nil {
			return client.Value{}, err
		}
		object[key] = value
	}
	value, err := client.Encode(object)
	if err != nil {
		return client.Value{}, fail(exitArguments, "", "cannot encode the arguments: %w", err)
	}
	return value, nil
}

func parseArgument(key, text string, tool *client.Tool) (any, error) {
	if file, ok := strings.CutPrefix(text, "@"); ok {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fail(exitArguments, "", "cannot read the file of argument %q: %w", key, err)
		}
		return content, nil
	}
	if tool != nil {
		for _, p := range tool.Params {
			if p.Name == key && p.Type == "str" {
				return text, nil
			}
			if p.Name == key && p.Type == "bytes" {
				return []byte(text), nil
			}
		}
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text), nil
	}
	return text, nil
}

// printValue prints a result: JSON, with bytes shown by their size unless a program reads it.
func printValue(g *global, v client.Value, line bool) error {
	text := v.JSON
	if len(v.Parts) > 0 && !g.json {
		for i, part := range v.Parts {
			text = bytes.Replace(text, fmt.Appendf(nil, `{"$part":%d}`, i), fmt.Appendf(nil, `"<%d bytes>"`, len(part)), 1)
		}
	}
	if !line && !g.json {
		var pretty bytes.Buffer
		if json.Indent(&pretty, text, "", "  ") == nil {
			text = pretty.Bytes()
		}
	}
	if _, err := fmt.Fprintf(g.stdout, "%s\n", text); errors.Is(err, syscall.EPIPE) {
		return errReaderLeft
	} else if err != nil {
		return fail(exitFailed, "", "cannot print the result: %w", err)
	}
	return nil
}

func writeBytes(file string, v client.Value) error {
	if len(v.Parts) != 1 || string(v.JSON) != `{"$part":0}` {
		return fail(exitFailed, "leave --out away to see it", "the result is not bytes")
	}
	if err := os.WriteFile(file, v.Parts[0], 0o644); err != nil {
		return fail(exitFailed, "", "cannot write the result: %w", err)
	}
	return nil
}
