package check

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const dockerfile = "../Dockerfile"

// emptyBase is the registry: every base image is one without a configuration of its own.
type emptyBase struct{}

func (emptyBase) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	text, err := json.Marshal(ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispecs.ImageConfig{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}}})
	return ref, digest.FromBytes(text), text, err
}

// lint is what `docker build --check` says of a Dockerfile.
func lint(t *testing.T, text []byte) (warnings []string) {
	t.Helper()
	results, err := dockerfile2llb.DockerfileLint(t.Context(), text, convertOptions(t, text))
	if err != nil {
		return []string{err.Error()}
	}
	if results.Error != nil {
		warnings = append(warnings, results.Error.Message)
	}
	for _, w := range results.Warnings {
		warnings = append(warnings, w.RuleName+": "+w.Detail)
	}
	return warnings
}

func convertOptions(t *testing.T, text []byte) dockerfile2llb.ConvertOpt {
	t.Helper()
	state := llb.Scratch()
	source := llb.NewSourceMap(&state, "Dockerfile", "Dockerfile", text)
	var err error
	if source.Definition, err = state.Marshal(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dockerfile2llb.ConvertOpt{MetaResolver: emptyBase{}, SourceMap: source,
		TargetPlatform: &ocispecs.Platform{OS: "linux", Architecture: "amd64"}}
}

// imageOf is the configuration of the image that the build tool makes of a Dockerfile.
func imageOf(t *testing.T, text []byte) *dockerspec.DockerOCIImage {
	t.Helper()
	result, err := dockerfile2llb.Dockerfile2LLB(t.Context(), text, convertOptions(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return result.Image
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheDockerfileHasNoWarnings(t *testing.T) {
	if warnings := lint(t, read(t, dockerfile)); len(warnings) != 0 {
		t.Errorf("%q", warnings)
	}
}

// TestTheLinterCanFail is its control: what is wrong in a Dockerfile is found.
func TestTheLinterCanFail(t *testing.T) {
	for fault, text := range map[string]string{
		"FromAsCasing":          "FROM a as b\nRUN true\n",
		"StageNameCasing":       "FROM a AS B\nRUN true\n",
		"JSONArgsRecommended":   "FROM a\nENTRYPOINT pitboss agent\n",
		"WorkdirRelativePath":   "FROM a\nWORKDIR app\n",
		"unknown instruction":   "FROM a\nRUNN true\n",
		"unknown flag":          "FROM a\nHEALTHCHECK --often=1s CMD true\n",
		"UndefinedVar":          "FROM a\nWORKDIR /x/$NOWHERE\n",
		"ConsistentInstruction": "FROM a\nrun true\nRUN true\n",
	} {
		if warnings := strings.Join(lint(t, []byte(text)), "\n"); !strings.Contains(warnings, fault) {
			t.Errorf("%s: %q", fault, warnings)
		}
	}
}

// TestTheImageIsOneForAnOrchestrator: not root, by number, so that runAsNonRoot can tell; a signal that drains; a health check; and no
// shell between the runtime and pitboss.
func TestTheImageIsOneForAnOrchestrator(t *testing.T) {
	c := imageOf(t, read(t, dockerfile)).Config
	if c.User != "10001:10001" {
		t.Errorf("the user is %q", c.User)
	}
	if c.StopSignal != "SIGTERM" || len(c.Entrypoint) < 2 || c.Entrypoint[0] != "pitboss" || c.Entrypoint[1] != "agent" {
		t.Errorf("%q %q", c.StopSignal, c.Entrypoint)
	}
	if c.Healthcheck == nil || strings.Join(c.Healthcheck.Test, " ") != "CMD pitboss health" {
		t.Errorf("%+v", c.Healthcheck)
	}
}
