package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsinstall "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	coreinstall "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

const manifest = "../sidecar.yaml"

// killMargin is what a stop takes beyond timeouts.drain at most: timeouts.kill (3 s) and the last proofs (12 s).
const killMargin = 15 * time.Second

// decode reads every document as the API server does: unknown and doubled fields are errors, defaults are filled in.
func decode(t *testing.T, text []byte) (objects []runtime.Object, err error) {
	t.Helper()
	scheme := runtime.NewScheme()
	coreinstall.Install(scheme)
	appsinstall.Install(scheme)
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(core.SchemeGroupVersion, apps.SchemeGroupVersion)
	documents := kubeyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	for {
		buffer := make([]byte, 64<<10)
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

// faults is what the API server says to the manifest when it is applied to the namespace "default".
func faults(t *testing.T, text []byte) (all []string) {
	t.Helper()
	objects, err := decode(t, text)
	if err != nil {
		return []string{err.Error()}
	}
	for _, object := range objects {
		var list field.ErrorList
		switch o := object.(type) {
		case *core.ConfigMap:
			o.Namespace = "default"
			list = corevalidation.ValidateConfigMap(o)
		case *apps.Deployment:
			o.Namespace = "default"
			list = appsvalidation.ValidateDeployment(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
		default:
			t.Errorf("nothing validates a %T", object)
		}
		for _, fault := range list {
			all = append(all, fault.Error())
		}
	}
	return all
}

func TestTheAPIServerWouldTakeTheManifest(t *testing.T) {
	if all := faults(t, read(t, manifest)); len(all) != 0 {
		t.Errorf("%q", all)
	}
}

// TestTheValidationCanFail is its control: each fault is one that the API server knows.
func TestTheValidationCanFail(t *testing.T) {
	good := string(read(t, manifest))
	for _, c := range []struct{ old, new, fault string }{
		{"restartPolicy: Always", "restartPolicy: Often", "restartPolicy"},
		{"failureThreshold: 60", "failureTreshold: 60", `unknown field "spec.template.spec.initContainers[0].startupProbe.failureTreshold"`},
		{"medium: Memory, sizeLimit: 1Mi", "medium: Memory, sizeLimit: many", "quantities must match"},
		{"{name: socket, mountPath: /run/pitboss}", "{name: sockets, mountPath: /run/pitboss}", "volumeMounts[1].name: Not found"},
		{"          restartPolicy: Always # this is what makes it a sidecar\n", "", "may not be set for init containers"},
		{"matchLabels: {app: application}", "matchLabels: {app: other}", "does not match template"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if all := strings.Join(faults(t, []byte(bad)), "\n"); bad == good || !strings.Contains(all, c.fault) {
			t.Errorf("%q: %q", c.new, all)
		}
	}
}

// sidecar is the pod of the manifest with its sidecar, its application and the configuration of pitboss.
func sidecar(t *testing.T) (spec core.PodSpec, pitboss, application core.Container, config string) {
	t.Helper()
	objects, err := decode(t, read(t, manifest))
	if err != nil || len(objects) != 2 {
		t.Fatal(objects, err)
	}
	spec = objects[1].(*apps.Deployment).Spec.Template.Spec
	return spec, spec.InitContainers[0], spec.Containers[0], objects[0].(*core.ConfigMap).Data["pitboss.yaml"]
}

// TestTheSidecarIsStoppedInTime: what the API server cannot know of pitboss.
func TestTheSidecarIsStoppedInTime(t *testing.T) {
	spec, pitboss, _, config := sidecar(t)
	if pitboss.RestartPolicy == nil || *pitboss.RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Error("it is no sidecar")
	}
	cfg := configOf(t, config)
	for _, p := range cfg.Pools {
		if stop := p.Timeouts.duration(t, "drain") + killMargin; time.Duration(*spec.TerminationGracePeriodSeconds)*time.Second <= stop {
			t.Errorf("the pod has %d s to end, and pool %q alone may take %s", *spec.TerminationGracePeriodSeconds, p.Name, stop)
		}
		probe, start := pitboss.StartupProbe, p.Timeouts.duration(t, "start")
		if patience := time.Duration(probe.PeriodSeconds*probe.FailureThreshold) * time.Second; patience < start {
			t.Errorf("the startup probe gives up after %s, and pool %q may start for %s", patience, p.Name, start)
		}
	}
	groups := cfg.Access.Clients.Groups
	if want := []string{"10000"}; !slices.Equal(groups, want) || *spec.SecurityContext.FSGroup != 10000 {
		t.Errorf("groups %q may call, the volume's is %d", groups, *spec.SecurityContext.FSGroup)
	}
}

// timeouts are a pool's, by key.
type timeouts map[string]string

func (all timeouts) duration(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(all[key])
	must(t, err)
	return d
}

type effective struct {
	Access struct{ Clients struct{ Groups []string } }
	Pools  []struct {
		Name     string
		Timeouts timeouts
	}
}

// configOf is what pitboss makes of a configuration of the image; its files are those of this directory.
func configOf(t *testing.T, text string) effective {
	t.Helper()
	app, err := filepath.Abs("../app")
	must(t, err)
	file := filepath.Join(t.TempDir(), "pitboss.yaml")
	write(t, file, strings.ReplaceAll(text, "/app/", app+"/"))
	show := exec.Command(filepath.Join(repository, "bin", "pitboss"), "config", "show", "--config", file, "--json")
	show.Stderr = os.Stderr
	out, err := show.Output()
	if err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	var shown struct{ Config effective }
	must(t, json.Unmarshal(out, &shown))
	if len(shown.Config.Pools) == 0 {
		t.Fatalf("no pool is in %s", out)
	}
	return shown.Config
}
