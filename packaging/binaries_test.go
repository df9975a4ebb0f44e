//go:build package

package packaging

import (
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// unpacked is the tree of a package.
func unpacked(t *testing.T, name string) string {
	t.Helper()
	root := t.TempDir()
	switch {
	case strings.HasSuffix(name, ".deb"):
		run(t, "dpkg-deb", "--extract", name, root)
	case strings.HasSuffix(name, ".rpm"):
		need(t, "rpm2cpio", "rpm2cpio")
		need(t, "cpio", "cpio")
		// The status of rpm2cpio says nothing: it compares with a size that nfpm does not write. checkBinary reads what came out.
		run(t, "bash", "-c", `rpm2cpio "$1" | (cd "$2" && cpio --extract --quiet --make-directories --no-absolute-filenames)`, "bash", name, root)
	case strings.HasSuffix(name, ".tar.gz"):
		run(t, "tar", "-xzf", name, "-C", root, "--strip-components=1")
	}
	return root
}

// TestBinaries of each archive are static ELF files of its architecture, and those of this machine run.
func TestBinaries(t *testing.T) {
	for arch, names := range architectures {
		for _, archive := range []string{built(t, "pitboss_*_"+names[0]+".deb"), built(t, "pitboss-*."+names[1]+".rpm"), built(t, "pitboss-*-linux-"+arch+".tar.gz")} {
			bin := filepath.Join(unpacked(t, archive), "usr/bin")
			if strings.HasSuffix(archive, ".tar.gz") {
				bin = filepath.Join(filepath.Dir(filepath.Dir(bin)), "bin")
			}
			for _, name := range []string{"pitboss", "pitboss-watchdog"} {
				checkBinary(t, filepath.Join(bin, name), arch)
			}
		}
	}
}

// TestManPagesAndNotices are whole gzip files, and the notices name every module that the binaries hold.
func TestManPagesAndNotices(t *testing.T) {
	root := unpacked(t, built(t, "pitboss_*_amd64.deb"))
	pages, err := filepath.Glob(filepath.Join(root, "usr/share/man/man[18]/*.gz"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		if text := gunzip(t, page); !strings.Contains(text, ".TH ") {
			t.Errorf("%s is no man page: %.80q", page, text)
		}
	}
	notices := gunzip(t, filepath.Join(root, "usr/share/doc/pitboss/third-party-notices.gz"))
	modules := 0
	for _, line := range strings.Split(run(t, "go", "version", "-m", filepath.Join(root, "usr/bin/pitboss")), "\n") {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			modules++
			if !strings.Contains(notices, "==== "+f[1]+" "+f[2]+" ====") {
				t.Errorf("the notices do not name %s %s", f[1], f[2])
			}
		}
	}
	if modules < 5 {
		t.Errorf("only %d modules were found in the binary", modules)
	}
}

func gunzip(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(text)
}

// checkBinary holds a program to its architecture, to needing no library, and to running where it can.
func checkBinary(t *testing.T, name, arch string) {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != want {
		t.Errorf("%s is for %s, want %s", name, f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static: it has %s", name, p.Type)
		}
	}
	if arch != runtime.GOARCH {
		return
	}
	flag := "version"
	if filepath.Base(name) == "pitboss-watchdog" {
		flag = "--version"
	}
	if out := run(t, name, flag); !strings.HasPrefix(out, filepath.Base(name)+" ") {
		t.Errorf("%s %s: %q", name, flag, out)
	}
}
