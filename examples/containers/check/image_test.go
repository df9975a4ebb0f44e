package check

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const repository = "../../.." // the build context

// basePath stands for what base images set: those of Go and Python have theirs below /usr/local.
const basePath = "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lane is a mount namespace in which this host's root stands for every base image, each stage of a build on an overlay of its own.
// There is no container runtime here: what a Dockerfile says is done by chroot, what a runtime does by namespaces.
type lane struct {
	t     *testing.T
	dir   string // its temporary file system, in the namespace only
	inits int    // pid of the process that keeps the namespace
}

func newLane(t *testing.T) *lane {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run this test as root: it makes namespaces and overlays")
	}
	l := &lane{t: t, dir: t.TempDir()}
	keeper := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc",
		`mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir "$1/host"; mount --bind / "$1/host"; echo ready; exec cat`, "sh", l.dir)
	stdin, err := keeper.StdinPipe() // its end, also by our death, ends the namespace
	must(t, err)
	stdout, err := keeper.StdoutPipe()
	must(t, err)
	keeper.Stderr = os.Stderr
	must(t, keeper.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = keeper.Wait() })
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal("the namespace was not made: ", err)
	}
	l.inits = keeper.Process.Pid
	return l
}

// command runs in the namespace.
func (l *lane) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(l.inits), "-m", "--"}, args...)...)
}

// sh runs a script in the namespace and returns what it printed.
func (l *lane) sh(script string, args ...string) string {
	l.t.Helper()
	c := l.command(append([]string{"sh", "-euc", script, "sh"}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
	return string(out)
}

// root makes a root directory on top of another one: what is written stays in it.
func (l *lane) root(name, base string) string {
	l.t.Helper()
	l.sh(`mkdir -p "$1/u" "$1/w" "$1/m"; mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/u,workdir=$1/w" "$1/m"
mount -t proc proc "$1/m/proc"; mount --rbind /dev "$1/m/dev"; mount -t tmpfs -o mode=1777 tmpfs "$1/m/tmp"`, l.dir+"/"+name, base)
	return l.dir + "/" + name + "/m"
}

// buildContext copies what the build may see, and returns where it is.
func (l *lane) buildContext() string {
	l.t.Helper()
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(l.t, dockerfile+".dockerignore")))
	must(l.t, err)
	ignored, err := patternmatcher.New(patterns)
	must(l.t, err)
	var names strings.Builder
	must(l.t, filepath.WalkDir(repository, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repository, file)
		if err != nil || name == "." {
			return err
		}
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || skip {
			if err == nil && entry.IsDir() {
				return filepath.SkipDir
			}
			return err
		}
		if !entry.IsDir() {
			names.WriteString(name + "\x00")
		}
		return nil
	}))
	absolute, err := filepath.Abs(repository)
	must(l.t, err)
	c := l.command("sh", "-euc", `mkdir "$2"; tar -C "$1" --null -T - -cf - | tar -C "$2" --no-same-owner -xf -`, "sh", absolute, l.dir+"/context")
	c.Stdin = strings.NewReader(names.String())
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("%v %s", err, out)
	}
	return l.dir + "/context"
}

// stage is a stage under way.
type stage struct {
	*lane
	root, context, workdir string
	env                    []string
	stages                 map[string]string // root directories of earlier ones
}

// build does what the Dockerfile says and returns the root directory of its last stage.
func (l *lane) build(file string) string {
	l.t.Helper()
	ast, err := parser.Parse(bytes.NewReader(read(l.t, file)))
	must(l.t, err)
	stages, _, err := instructions.Parse(ast.AST, nil)
	must(l.t, err)
	context, roots := l.buildContext(), map[string]string{}
	last := ""
	for i, spec := range stages {
		s := &stage{lane: l, root: l.root(fmt.Sprintf("stage%d", i), l.dir+"/host"), context: context, workdir: "/", env: []string{basePath, "HOME=/root"}, stages: roots}
		for _, pair := range os.Environ() { // proxies and caches of Go modules
			if strings.HasPrefix(pair, "GO") && !strings.HasPrefix(pair, "GOCOVERDIR=") || strings.Contains(strings.ToLower(pair), "_proxy=") {
				s.env = append(s.env, pair)
			}
		}
		for _, c := range spec.Commands {
			s.do(c)
		}
		roots[spec.Name], last = s.root, s.root
	}
	return last
}

// do carries out one instruction; those that only describe the image are the front end's to read (imageOf).
func (s *stage) do(command instructions.Command) {
	s.t.Helper()
	switch c := command.(type) {
	case *instructions.WorkdirCommand:
		s.workdir = s.absolute(c.Path)
		s.sh(`mkdir -p "$1"`, s.root+s.workdir)
	case *instructions.EnvCommand:
		for _, pair := range c.Env {
			s.env = append(s.env, pair.Key+"="+pair.Value)
		}
	case *instructions.RunCommand:
		args := []string(c.CmdLine)
		if c.PrependShell {
			args = []string{"/bin/sh", "-c", strings.Join(args, " ")}
		}
		run := s.command(slices.Concat([]string{"chroot", s.root, "env", "-i", "--chdir=" + s.workdir}, s.env, args)...)
		if out, err := run.CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v\n%s", c, err, out)
		}
	case *instructions.CopyCommand:
		s.copy(c)
	case *instructions.UserCommand, *instructions.CmdCommand, *instructions.EntrypointCommand, *instructions.HealthCheckCommand, *instructions.StopSignalCommand:
	default:
		s.t.Fatalf("this check does not know how to do %s", command)
	}
}

func (s *stage) absolute(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(s.workdir, name)
}

// copy is COPY without options: the content of directories, and files into a directory or in the place of one file.
func (s *stage) copy(c *instructions.CopyCommand) {
	s.t.Helper()
	if c.Chown != "" || c.Chmod != "" || c.Link || c.Parents || len(c.ExcludePatterns) > 0 || len(c.SourceContents) > 0 {
		s.t.Fatalf("this check does not know the options of %s", c)
	}
	from := s.context
	if c.From != "" {
		if from = s.stages[c.From]; from == "" {
			s.t.Fatalf("no stage is named %q", c.From)
		}
	}
	dest := s.root + s.absolute(c.DestPath)
	into := strings.HasSuffix(c.DestPath, "/") || c.DestPath == "." || len(c.SourcePaths) > 1
	for _, source := range c.SourcePaths {
		s.sh(`if [ -d "$1" ]; then mkdir -p "$2"; cp -r "$1/." "$2/"
elif [ "$3" = true ]; then mkdir -p "$2"; cp "$1" "$2/"
else mkdir -p "$(dirname "$2")"; cp "$1" "$2"; fi`, path.Join(from, source), dest, strconv.FormatBool(into))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o644))
}
