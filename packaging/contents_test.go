//go:build package

package packaging

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// file is what a package says about one of its files.
type file struct {
	mode        fs.FileMode
	owner       string // user/group
	config, doc bool
}

// debFiles reads the archive itself, not a listing.
func debFiles(t *testing.T, deb string) map[string]file {
	t.Helper()
	c := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	files := map[string]file{}
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: %s belongs to %d:%d", deb, h.Name, h.Uid, h.Gid)
		}
		owner := h.Uname + "/" + h.Gname
		if owner == "/" {
			owner = "root/root"
		}
		files[strings.TrimSuffix(strings.TrimPrefix(h.Name, "."), "/")] = file{mode: h.FileInfo().Mode(), owner: owner}
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(run(t, "dpkg-deb", "--info", deb, "conffiles")) {
		f, ok := files[name]
		if !ok {
			t.Errorf("%s: conffile %s is not there", deb, name)
		}
		f.config = true
		files[name] = f
	}
	return files
}

func rpmFiles(t *testing.T, rpm string) map[string]file {
	t.Helper()
	need(t, "rpm", "rpm")
	files := map[string]file{}
	for _, line := range strings.Split(strings.TrimSpace(run(t, "rpm", "-qp", "--queryformat", `[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILEFLAGS:fflags};\n]`, rpm)), "\n") {
		var name, owner, flags string
		var mode uint32
		if _, err := fmt.Sscanf(line, "%s %o %s %s", &name, &mode, &owner, &flags); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		f := file{mode: fs.FileMode(mode & 0o777), owner: owner, doc: strings.Contains(flags, "d")}
		if mode&0o170000 == 0o040000 {
			f.mode |= fs.ModeDir
		}
		// config(noreplace): an upgrade leaves an edited file in its place.
		f.config = strings.Contains(flags, "c") && strings.Contains(flags, "n")
		files[name] = f
	}
	return files
}

// contract is what must be in both packages, by its path: its mode, and whether it is a file that the administrator edits.
func contract(t *testing.T) map[string]file {
	t.Helper()
	const plain, program, dir = fs.FileMode(0o644), fs.FileMode(0o755), fs.ModeDir | 0o755
	want := map[string]file{
		"/etc/pitboss/pitboss.yaml": {mode: plain, config: true}, "/etc/needrestart/conf.d/pitboss.conf": {mode: plain, config: true},
		"/etc/pitboss": {mode: dir}, "/etc/pitboss/conf.d": {mode: dir},
		"/usr/bin/pitboss": {mode: program}, "/usr/bin/pitboss-watchdog": {mode: program},
	}
	for _, name := range []string{"/usr/lib/systemd/system/pitboss.service", "/usr/lib/systemd/system/pitboss.socket", "/usr/lib/systemd/system/pitboss@.service",
		"/usr/lib/systemd/system/pitboss@.socket", "/usr/lib/systemd/user/pitboss.service", "/usr/lib/systemd/user/pitboss.socket", "/usr/lib/systemd/system-preset/90-pitboss.preset",
		"/usr/lib/systemd/catalog/pitboss.catalog", "/usr/lib/sysusers.d/pitboss.conf", "/usr/lib/tmpfiles.d/pitboss.conf",
		"/usr/share/bash-completion/completions/pitboss", "/usr/share/fish/vendor_completions.d/pitboss.fish", "/usr/share/doc/pitboss/README.md",
		"/usr/share/doc/pitboss/changelog.gz", "/usr/share/doc/pitboss/third-party-notices.gz", "/usr/share/doc/pitboss/examples/gpu.conf"} {
		want[name] = file{mode: plain}
	}
	for source, target := range map[string]string{"man/*.1": "/usr/share/man/man1/%s.gz", "man/*.8": "/usr/share/man/man8/%s.gz", "../docs/*.md": "/usr/share/doc/pitboss/docs/%s",
		"../examples/setups/*": "/usr/share/doc/pitboss/examples/setups/%s"} {
		sources, err := filepath.Glob(source)
		if err != nil || len(sources) == 0 {
			t.Fatalf("%s: %v", source, err)
		}
		for _, s := range sources {
			want[fmt.Sprintf(target, filepath.Base(s))] = file{mode: plain}
		}
	}
	return want
}

// only is what one of the formats has besides the contract.
var only = map[string][]string{
	"deb": {"/usr/share/zsh/vendor-completions/_pitboss", "/usr/share/doc/pitboss/copyright", "/usr/share/doc/pitboss/changelog.Debian.gz", "/usr/share/lintian/overrides/pitboss"},
	"rpm": {"/usr/share/zsh/site-functions/_pitboss", "/usr/share/licenses/pitboss/LICENSE"},
}

// compare says what a package's files lack, have too much, or have otherwise.
func compare(got, want map[string]file, also []string) (faults []string) {
	for name, w := range want {
		g, ok := got[name]
		switch {
		case !ok:
			faults = append(faults, "missing: "+name)
		case g.mode != w.mode || g.config != w.config:
			faults = append(faults, fmt.Sprintf("%s: mode %v and config %t, want %v and %t", name, g.mode, g.config, w.mode, w.config))
		}
	}
	for _, name := range also {
		if g, ok := got[name]; !ok || g.mode != 0o644 || g.config {
			faults = append(faults, fmt.Sprintf("%s: %+v, want a plain file of mode 0644", name, g))
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok && !g.mode.IsDir() && !slices.Contains(also, name) {
			faults = append(faults, "not in the contract: "+name)
		}
		if g.owner != "root/root" || g.mode.Perm()&0o022 != 0 || g.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			faults = append(faults, fmt.Sprintf("%s: owner %s, mode %v", name, g.owner, g.mode))
		}
	}
	slices.Sort(faults)
	return faults
}

// TestContents: every file of the contract is in both packages, with its mode, root's, and nothing else is.
func TestContents(t *testing.T) {
	want := contract(t)
	for _, arch := range architectures {
		for format, got := range map[string]map[string]file{"deb": debFiles(t, built(t, "pitboss_*_"+arch[0]+".deb")), "rpm": rpmFiles(t, built(t, "pitboss-*."+arch[1]+".rpm"))} {
			for _, fault := range compare(got, want, only[format]) {
				t.Errorf("%s %s: %s", format, arch[0], fault)
			}
			for name, f := range got {
				isDoc := strings.HasPrefix(name, "/usr/share/doc/") || strings.HasPrefix(name, "/usr/share/man/")
				if format == "rpm" && !f.mode.IsDir() && isDoc != f.doc {
					t.Errorf("%s: marked as documentation: %t", name, f.doc)
				}
			}
		}
	}
}

// TestTheContentsCheckCanFail is the control: each kind of fault planted in the true list is found.
func TestTheContentsCheckCanFail(t *testing.T) {
	want := contract(t)
	deb := built(t, "pitboss_*_amd64.deb")
	for name, plant := range map[string]func(map[string]file){
		"missing: /usr/bin/pitboss":                  func(f map[string]file) { delete(f, "/usr/bin/pitboss") },
		"not in the contract: /usr/bin/other":        func(f map[string]file) { f["/usr/bin/other"] = file{mode: 0o755, owner: "root/root"} },
		"/usr/bin/pitboss: owner pitboss/root":       func(f map[string]file) { f["/usr/bin/pitboss"] = file{mode: 0o755, owner: "pitboss/root"} },
		"/etc/pitboss: mode drwx------":              func(f map[string]file) { f["/etc/pitboss"] = file{mode: fs.ModeDir | 0o700, owner: "root/root"} },
		"/etc/pitboss/pitboss.yaml: mode -rw-r--r--": func(f map[string]file) { f["/etc/pitboss/pitboss.yaml"] = file{mode: 0o644, owner: "root/root"} },
	} {
		got := debFiles(t, deb)
		plant(got)
		if faults := compare(got, want, only["deb"]); len(faults) != 1 || !strings.HasPrefix(faults[0], name) {
			t.Errorf("%s: %q", name, faults)
		}
	}
}
