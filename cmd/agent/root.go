package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// supervised is the agent of this process, if it has been one: main tells its watchdog the exit code.
var supervised atomic.Pointer[agent.Agent]

// global are the flags of every command.
type global struct {
	socket   string
	json     bool
	instance string
	stdout   io.Writer
	stderr   io.Writer
}

// execute runs one command line and returns its exit code.
func execute(args []string) int {
	out := &output{Writer: os.Stdout}
	g := &global{stdout: out, stderr: os.Stderr}
	root := newRoot(g)
	root.SetArgs(args)
	err := out.verdict(g.unreachable(root.ExecuteContext(context.Background())))
	return report(g.stderr, err) // a command may have put another in its place
}

// unreachable says the same of an agent that does not answer, whichever command has found out.
func (g *global) unreachable(err error) error {
	var coded *codeError
	var remote *client.Error
	var refusal *client.AccessError
	if !errors.As(err, &coded) && errors.As(err, &refusal) {
		return keptOut(refusal)
	}
	if !errors.As(err, &coded) && errors.As(err, &remote) && remote.Reason == client.Unreachable {
		return noAgent(g.socketPath(), err)
	}
	return err
}

func newRoot(g *global) *cobra.Command {
	root := &cobra.Command{Use: "pitboss", Short: "run pools of warm Python workers that never leave an orphan",
		Args:          cobra.ArbitraryArgs, // a word that is no command is for RunE to explain
		SilenceErrors: true, SilenceUsage: true,
		RunE: namesACommand}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(exitUsage, nearFlag(cmd, err)+"`"+cmd.CommandPath()+" --help` shows its flags", "%v", err)
	})
	flags := root.PersistentFlags()
	flags.StringVar(&g.socket, "socket", "", "`PATH` of the agent's socket (default $PITBOSS_SOCKET, then the instance's)")
	flags.BoolVar(&g.json, "json", false, "print JSON for programs")
	flags.StringVar(&g.instance, "instance", "agent", "`NAME` of the agent on this host")
	root.AddCommand(newAgentCommand(g), newRunCommand(g), newCallCommand(g), newToolsCommand(g), newStatusCommand(g), newWorkersCommand(g),
		newCallsCommand(g), newCancelCommand(g), newExplainCommand(g), newStackCommand(g), newEventsCommand(g), newLogsCommand(g),
		newPingCommand(g), newStopCommand(g), newRestartCommand(g), newDrainCommand(g), newResumeCommand(g), newScaleCommand(g),
		newReloadCommand(g), newWaitCommand(g), newHealthCommand(g), newConfigCommand(g), newVersionCommand(g), newNewCommand(g),
		newDoctorCommand(g), newVerifyCommand(g), newBenchCommand(g), newCompletionCommand(g))
	help := newHelpCommand()
	root.SetHelpCommand(help)
	help.DisableFlagsInUseLine = true
	g.completeNames(root)
	g.layOutHelp(root)
	for _, c := range root.Commands() {
		wrapUsage(c)
	}
	return root
}

// nearFlag is a hint when the flag that cobra does not know is close to one of the command's.
func nearFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	near := ""
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if near == "" && !f.Hidden && agent.NearName(unknown.GetSpecifiedName(), []string{f.Name}) != "" {
			near = "did you mean --" + f.Name + "? "
		}
	})
	return near
}

// namesACommand runs where only the name of a command can stand: without one it prints the overview or the help.
func namesACommand(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 && !cmd.HasParent():
		writeOverview(cmd.OutOrStdout(), cmd)
		return nil
	case len(args) == 0:
		return cmd.Help()
	}
	next := "`" + cmd.CommandPath() + " --help` lists the commands"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		next = "did you mean `" + cmd.CommandPath() + " " + near[0] + "`? " + next
	}
	return fail(exitUsage, next, "unknown command %q", args[0])
}

// wrapUsage gives cobra's own complaints about arguments the exit code of a usage error.
func wrapUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err != nil && !cmd.HasSubCommands() && strings.HasPrefix(err.Error(), "unknown command") { // cobra's word for it
				err = fmt.Errorf("%q takes no argument such as %q", cmd.CommandPath(), args[0])
			}
			if err != nil {
				return fail(exitUsage, "usage: "+cmd.UseLine(), "%v", err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapUsage(sub)
	}
}

// connect dials the agent that the flags name.
func (g *global) connect(ctx context.Context) (*client.Client, error) {
	path, err := g.trustedSocket()
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, path)
	if err != nil {
		return nil, noAgent(path, err)
	}
	return c, nil
}

// mute says of an error that somebody holds the socket and says nothing: within 5 s (client.New) an agent that runs begins to speak.
func mute(err error) bool { return strings.Contains(err.Error(), "error reading server preface") }

// trustedSocket is the socket that the flags name, unless somebody else may answer there.
func (g *global) trustedSocket() (string, error) {
	if path := g.namedSocket(); path != "" {
		return path, nil
	}
	path, err := client.Socket(os.Getenv, g.instance)
	if err != nil {
		return "", fail(exitPermission, "somebody else may answer there; name a socket with --socket", "%w", err)
	}
	return path, nil
}

// socketPath is the same for messages.
func (g *global) socketPath() string {
	path, err := g.trustedSocket()
	if err != nil {
		return defaultSocket(g.instance)
	}
	return path
}

func (g *global) namedSocket() string {
	switch {
	case g.socket != "":
		return g.socket
	case g.instance == "agent":
		return os.Getenv("PITBOSS_SOCKET")
	}
	return ""
}

func noAgent(path string, err error) error {
	next := "start one with `pitboss agent` or `pitboss run ADAPTER`, or name its socket with --socket"
	var refusal *client.AccessError
	switch {
	case errors.As(err, &refusal):
		return keptOut(refusal)
	case mute(err):
		return fail(exitTemporary, silence(path), "the agent at %q does not answer", path)
	case errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "no such file"):
		return fail(exitUnavailable, next, "no agent at %q", path)
	case errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "connection refused"):
		return fail(exitUnavailable, next, "cannot reach the agent at %q: it has ended and left its socket behind", path)
	}
	return fail(exitUnavailable, next, "cannot reach the agent at %q: %w", path, err)
}

// keptOut is for whom the socket's file, or a directory above it, does not let through.
func keptOut(refusal *client.AccessError) error {
	return fail(exitPermission, refusal.Remedy(), "%w", refusal)
}

// silence says what may be the matter with an agent that does not answer. A service manager holds the socket of the system's agent:
// there it may be an agent that cannot start.
func silence(path string) string {
	const held = "be stopped (SIGSTOP), or the host overloaded; "
	if filepath.Dir(path) != "/run/pitboss" {
		return "it may " + held + "`ps` tells"
	}
	unit := "pitboss"
	if name := strings.TrimSuffix(filepath.Base(path), ".sock"); name != "agent" {
		unit += "@" + name
	}
	return "it may not be able to start, " + held + "`systemctl status " + unit + "` and `ps` tell"
}
