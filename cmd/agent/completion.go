package main

import (
	"github.com/spf13/cobra"
)

// newCompletionCommand prints the scripts that cobra makes; complete.go answers what they ask.
func newCompletionCommand(g *global) *cobra.Command {
	var bare bool
	c := &cobra.Command{Use: "completion bash|fish|zsh", Short: "print the completion script of a shell",
		Long: `The script completes commands, flags, and the names of tools, pools and workers of the running agent. For bash
it needs the package bash-completion, for zsh that compinit runs before.`,
		Example: "  source <(pitboss completion bash)\n" +
			"  pitboss completion bash > /etc/bash_completion.d/pitboss\n" +
			"  pitboss completion zsh > \"${fpath[1]}/_pitboss\"\n" +
			"  pitboss completion fish > ~/.config/fish/completions/pitboss.fish",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []cobra.Completion{"bash", "fish", "zsh"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch {
			case args[0] == "bash":
				return root.GenBashCompletionV2(g.stdout, !bare)
			case args[0] == "fish":
				return root.GenFishCompletion(g.stdout, !bare)
			case bare:
				return root.GenZshCompletionNoDesc(g.stdout)
			}
			return root.GenZshCompletion(g.stdout)
		}}
	c.Flags().BoolVar(&bare, "no-descriptions", false, "complete without descriptions")
	return c
}
