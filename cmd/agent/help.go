package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is the width that help is laid out for, in columns.
const helpWidth = 80

// group is a heading of the overview with its commands; the order is that of their use, not of the alphabet.
type group struct {
	title    string
	commands []string
}

// commandGroups hold every command but help, which the overview's last line names.
var commandGroups = []group{
	{"Run and serve", []string{"run", "agent"}},
	{"Call", []string{"call", "tools"}},
	{"Look", []string{"status", "workers", "calls", "logs", "events", "explain", "ping", "stack", "wait", "health"}},
	{"Act", []string{"cancel", "restart", "drain", "resume", "scale", "reload", "stop"}},
	{"Help", []string{"new", "doctor", "verify", "bench", "config", "version", "completion"}},
}

// firstSteps is what somebody needs who sees pitboss for the first time.
const firstSteps = `  pitboss new greeter                      write an adapter, and its test
  pitboss run greeter.py hello who=world   call a tool of it, once
  pitboss run greeter.py                   keep it running; it prints its socket`

// layOutHelp gives root and all its commands the help of this file.
func (g *global) layOutHelp(root *cobra.Command) {
	for _, of := range commandGroups {
		root.AddGroup(&cobra.Group{ID: of.title, Title: of.title})
		for _, name := range of.commands {
			if c := child(root, name); c != nil {
				c.GroupID = of.title
			}
		}
	}
	root.SetOut(g.stdout)
	plainUseLines(root)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { writeHelp(c.OutOrStdout(), c) })
}

// plainUseLines leaves "[flags]" away: cobra adds it or not by what it has set up so far, and the flags stand just below.
func plainUseLines(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		plainUseLines(sub)
	}
}

func child(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// writeOverview is what `pitboss` alone prints: one screen.
func writeOverview(w io.Writer, root *cobra.Command) {
	fmt.Fprintf(w, "%s\n\nFirst steps:\n%s\n\n", sentence(root.Short), firstSteps)
	for _, of := range commandGroups {
		fmt.Fprintf(w, "%s:\n", of.title)
		for _, name := range of.commands {
			if c := child(root, name); c != nil {
				fmt.Fprintf(w, "  %-11s %s\n", name, c.Short)
			}
		}
	}
	fmt.Fprintln(w, "\n`pitboss help COMMAND` tells more of one, with examples and exit codes.")
}

// writeHelp is the help of one command; that of root begins with the overview.
func writeHelp(w io.Writer, c *cobra.Command) {
	if !c.HasParent() {
		writeOverview(w, c)
	} else {
		fmt.Fprintln(w, fill(sentence(c.Short), ""))
	}
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", fill(c.Long, ""))
	}
	if c.HasParent() {
		fmt.Fprint(w, "\nUsage:\n")
		if !c.HasSubCommands() {
			fmt.Fprintf(w, "  %s\n", c.UseLine())
		}
		for _, sub := range c.Commands() {
			fmt.Fprintf(w, "  %s\n", sub.UseLine())
		}
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	if flags := c.NonInheritedFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", flags.FlagUsagesWrapped(helpWidth))
	}
	if flags := c.InheritedFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags of every command:\n%s", flags.FlagUsagesWrapped(helpWidth))
	}
	fmt.Fprint(w, "\nExit codes:\n")
	codes, text := exitsOf(c)
	for _, code := range codes {
		fmt.Fprintf(w, "  %3d  %s\n", code, text[code])
	}
}

// sentence makes one of a Short text.
func sentence(short string) string {
	if short == "" {
		return ""
	}
	return strings.ToUpper(short[:1]) + short[1:] + "."
}

// fill breaks paragraphs, which an empty line parts, into lines of the help's width.
func fill(text, indent string) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		var lines []string
		line := indent
		for word := range strings.FieldsSeq(paragraph) {
			if line != indent && len([]rune(line))+1+len([]rune(word)) > helpWidth {
				lines, line = append(lines, line), indent
			}
			if line != indent {
				line += " "
			}
			line += word
		}
		paragraphs = append(paragraphs, strings.Join(append(lines, line), "\n"))
	}
	return strings.Join(paragraphs, "\n\n")
}

// newHelpCommand is cobra's `help`, but a command that there is not is an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]...", Short: "show the help of a command",
		Example: "  pitboss help run\n  pitboss help config check",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, word := range args {
				next := child(at, word)
				if next == nil {
					return namesACommand(at, []string{word})
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			at, _, err := cmd.Root().Find(args)
			if err == nil {
				for _, c := range at.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}}
}
