package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// LoadAll reads the whole configuration: the file at path, conf.d/*.yaml beside it in lexical order, then the PITBOSS_…
// variables of environ ("NAME=value"). It returns a validated configuration and where each value came from, or all faults of
// all sources at once: the error joins Fault values, and errors of files that cannot be read. It changes nothing and may be
// called again for a reload. With path "" only the environment is read.
func LoadAll(path string, environ []string) (Config, Origins, error) {
	l := newLoading()
	if path != "" {
		files, err := ConfigFiles(path)
		if err != nil {
			l.unreadable = append(l.unreadable, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				l.unreadable = append(l.unreadable, fmt.Errorf("cannot read the configuration: %w", err))
				continue
			}
			l.read(file, text)
		}
	}
	l.overrides(environ)
	return l.finish()
}

// ConfigFiles are the files that LoadAll reads for path, in its order. A file of conf.d whose name begins with a dot is left
// out: it is an editor's or a package manager's.
func ConfigFiles(path string) ([]string, error) {
	files := []string{path}
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return files, fmt.Errorf("cannot read the configuration: %w", err)
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// loading is one configuration while its sources are read, each over the ones before.
type loading struct {
	cfg        Config
	readers    []*configReader
	set        map[string]Origin // of every key that a source has set; pools by their number
	faults     []Fault           // those that no reader has
	unreadable []error
}

func newLoading() *loading { return &loading{cfg: Default(), set: map[string]Origin{}} }

// read puts one file over what is there: its pools are added, its other keys may not have been set before.
func (l *loading) read(path string, text []byte) {
	r := &configReader{file: path, at: map[string]position{}, given: map[string]position{}, base: len(l.cfg.Pools)}
	before := l.cfg.Pools
	l.cfg.Pools = nil
	if body := r.parseYAML(text); body != nil {
		r.into(reflect.ValueOf(&l.cfg).Elem(), body, "", "")
	}
	r.pools = len(l.cfg.Pools)
	l.cfg.Pools = append(before, l.cfg.Pools...)
	for key, at := range r.given {
		global := renumber(key, r.base)
		if first, twice := l.set[global]; twice {
			r.faults = append(r.faults, Fault{File: path, Line: at.line, Column: at.column, Key: key,
				Problem: fmt.Sprintf("is set at %s too; keep one of the two", first)})
			continue
		}
		l.set[global] = Origin{Kind: FromFile, File: path, Line: at.line, Column: at.column}
	}
	l.readers = append(l.readers, r)
}

// renumber adds by to the number of the pool that a key is about.
func renumber(key string, by int) string {
	i, rest, ok := poolOf(key)
	if !ok {
		return key
	}
	return fmt.Sprintf("pools[%d]%s", i+by, rest)
}

// poolOf splits "pools[3].name" into 3 and ".name".
func poolOf(key string) (i int, rest string, ok bool) {
	number, found := strings.CutPrefix(key, "pools[")
	if !found {
		return 0, "", false
	}
	number, rest, _ = strings.Cut(number, "]")
	i, err := strconv.Atoi(number)
	return i, rest, err == nil
}

// reader is the file that a key stands in, or would: a pool's own, else the first.
func (l *loading) reader(key string) *configReader {
	if i, _, ok := poolOf(key); ok {
		for _, r := range l.readers {
			if i >= r.base && i < r.base+r.pools {
				return r
			}
		}
	}
	for _, r := range l.readers {
		if _, ok := r.at[key]; ok {
			return r
		}
	}
	if len(l.readers) > 0 {
		return l.readers[0]
	}
	return nil
}

// locate gives a fault of the finished configuration its place: the variable or the file that set the value.
func (l *loading) locate(f Fault) Fault {
	if f.other != "" {
		f.Problem = strings.Replace(f.Problem, "another pool;", "another pool, at "+l.locate(Fault{Key: f.other}).position()+";", 1)
		f.other = ""
	}
	r := l.reader(f.Key)
	if o := l.set[f.Key]; o.Kind == FromVariable {
		f.Variable = o.Variable
		if i, rest, ok := poolOf(f.Key); ok { // no file to count the pools in: by name
			f.Key = "pools." + l.cfg.Pools[i].Name + rest
		}
		return f
	}
	f.Problem += l.partners(f.Key)
	if r != nil {
		f.Key = renumber(f.Key, -r.base)
		at := r.nearest(f.Key)
		f.File, f.Line, f.Column = r.file, at.line, at.column
	}
	return f
}

func (f Fault) position() string { return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column) }

// partners names the variables that set other keys of the same group where values are checked against each other.
func (l *loading) partners(key string) string {
	i := strings.LastIndexByte(key, '.')
	if i < 0 || !(strings.HasSuffix(key[:i], "heartbeat") || key[:i] == "watchdog") {
		return ""
	}
	var names []string
	for other, o := range l.set {
		if o.Kind == FromVariable && strings.HasPrefix(other, key[:i+1]) {
			names = append(names, "$"+o.Variable)
		}
	}
	if names == nil {
		return ""
	}
	slices.Sort(names)
	return " (with " + strings.Join(names, ", ") + ")"
}

// finish checks the whole and returns it with its origins, or every fault: file by file in the order of their lines, then
// the environment.
func (l *loading) finish() (Config, Origins, error) {
	for i := range l.cfg.Pools {
		l.cfg.Pools[i].resolve(filepath.Dir(l.reader(fmt.Sprintf("pools[%d]", i)).file))
	}
	faults := l.faults
	for _, r := range l.readers {
		faults = append(faults, r.faults...)
	}
	for _, f := range l.cfg.faults() {
		faults = append(faults, l.locate(f))
	}
	if len(faults)+len(l.unreadable) == 0 {
		return l.cfg, l.origins(), nil
	}
	order := map[string]int{"": len(l.readers)}
	for i, r := range l.readers {
		order[r.file] = i
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		switch {
		case order[a.File] != order[b.File]:
			return order[a.File] - order[b.File]
		case a.Line != b.Line:
			return a.Line - b.Line
		case a.Column != b.Column:
			return a.Column - b.Column
		}
		return strings.Compare(a.Variable+a.Key, b.Variable+b.Key)
	})
	all := slices.Clone(l.unreadable)
	for _, f := range faults {
		all = append(all, f)
	}
	return Config{}, nil, errors.Join(all...)
}
