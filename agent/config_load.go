package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads one configuration file, without conf.d and without the environment. All faults come at once, each with file,
// line, key and what to do: the error joins Fault values.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return parseConfig(path, text)
}

func parseConfig(path string, text []byte) (Config, error) {
	l := newLoading()
	l.read(path, text)
	cfg, _, err := l.finish()
	return cfg, err
}

// parseYAML is the one document of a file, nil if it is empty.
func (r *configReader) parseYAML(text []byte) (body ast.Node) {
	defer func() { // the parser is a library, and the text may be anything
		if p := recover(); p != nil {
			r.whole(1, 1, fmt.Sprintf("cannot parse: %v", p))
			body = nil
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		line, column, problem := 1, 1, err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			problem = syntax.Message
			if syntax.Token != nil && syntax.Token.Position != nil {
				line, column = max(1, syntax.Token.Position.Line), max(1, syntax.Token.Position.Column)
			}
		}
		r.whole(line, column, "cannot parse: "+problem)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) > 1 {
		p := place(bodies[1])
		r.whole(p.line, p.column, fmt.Sprintf("cannot parse: the file holds %d documents; one is allowed", len(bodies)))
		return nil
	}
	if len(bodies) == 0 {
		return nil
	}
	return bodies[0]
}

// whole notes that nothing can be said about the keys of this file.
func (r *configReader) whole(line, column int, problem string) {
	r.broken = true
	r.faults = append(r.faults, Fault{File: r.file, Line: line, Column: column, Problem: problem})
}

// resolve makes the pool's paths absolute, from the directory of its file.
func (p *PoolConfig) resolve(dir string) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	if !filepath.IsAbs(p.Workdir) {
		p.Workdir = filepath.Join(abs, p.Workdir)
	}
	if file, class, isFile := adapterFile(p.Adapter); isFile && !filepath.IsAbs(file) {
		p.Adapter = filepath.Join(p.Workdir, file) + class
	}
	for i, file := range p.Release.Files {
		if file != "" && file[0] != '@' && file[0] != '/' {
			p.Release.Files[i] = filepath.Join(p.Workdir, file)
		}
	}
	if strings.Contains(p.Python, "/") && !filepath.IsAbs(p.Python) {
		p.Python = filepath.Join(abs, p.Python)
	}
}

// adapterFile splits "path/to/file.py:Class" into the file and ":Class"; isFile is false for a module's name.
func adapterFile(adapter string) (file, class string, isFile bool) {
	file = adapter
	if i := strings.LastIndexByte(adapter, ':'); i > 0 && !strings.Contains(adapter[i:], "/") {
		file, class = adapter[:i], adapter[i:]
	}
	return file, class, strings.HasSuffix(file, ".py")
}

type position struct{ line, column int }

// configReader walks the syntax tree beside the struct, so that every fault has its place and none hides another.
type configReader struct {
	file   string
	faults []Fault
	at     map[string]position // of every key that stands in the file
	given  map[string]position // of those that set a value
	broken bool                // no key could be read
	base   int                 // how many pools earlier files have given
	pools  int                 // how many this one gives
}

// place is where a node stands; the start of the file if its token does not say.
func place(n ast.Node) position {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{max(1, t.Position.Line), max(1, t.Position.Column)}
	}
	return position{1, 1}
}

func (r *configReader) fault(n ast.Node, key, format string, args ...any) {
	p := place(n)
	r.faults = append(r.faults, Fault{File: r.file, Line: p.line, Column: p.column, Key: key, Problem: fmt.Sprintf(format, args...)})
}

// nearest is the position of a key or of the closest one above it.
func (r *configReader) nearest(key string) position {
	for key != "" {
		if p, ok := r.at[key]; ok {
			return p
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			break
		}
		key = key[:i]
	}
	return position{1, 1}
}

// into puts the node into v. key names it ("pools[0].name"), general is the same without numbers ("pools[].name").
func (r *configReader) into(v reflect.Value, n ast.Node, key, general string) {
	if key != "" {
		r.at[key] = place(n)
	}
	if _, null := n.(*ast.NullNode); null {
		return // an empty key keeps its default
	}
	switch {
	case v.Kind() == reflect.Struct:
		r.intoStruct(v, n, key, general)
	case v.Kind() == reflect.Map:
		r.intoMap(v, n, key)
	case v.Kind() == reflect.Slice:
		r.intoSlice(v, n, key, general)
	default:
		r.intoScalar(v, n, key, general)
	}
}

func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func (r *configReader) intoStruct(v reflect.Value, n ast.Node, key, general string) {
	values, ok := pairs(n)
	if !ok {
		r.fault(n, orElse(key, "configuration"), "must be a mapping of keys to values")
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		fields[name] = i
		names = append(names, name)
	}
	seen := map[string]bool{}
	for _, pair := range values {
		name := pair.Key.GetToken().Value
		path, path2 := joinKey(key, name), joinKey(general, name)
		i, known := fields[name]
		switch {
		case seen[name]:
			r.fault(pair.Key, path, "is given twice")
		case known:
			r.into(v.Field(i), pair.Value, path, path2)
		case notAvailable[path2]:
			r.fault(pair.Key, path, "not available in this version; remove it")
		default:
			r.fault(pair.Key, path, "unknown key%s", didYouMean(name, names))
		}
		seen[name] = true
	}
}

func joinKey(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func (r *configReader) intoMap(v reflect.Value, n ast.Node, key string) {
	values, ok := pairs(n)
	if !ok {
		r.fault(n, key, "must be a mapping of names to texts")
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, pair := range values {
		name := pair.Key.GetToken().Value
		path := joinKey(key, name)
		text, ok := scalarText(pair.Value)
		if !ok {
			r.fault(pair.Value, path, "must be a text")
			continue
		}
		if _, twice := r.given[path]; twice {
			r.fault(pair.Key, path, "is given twice")
		}
		r.at[path], r.given[path] = place(pair.Value), place(pair.Value)
		m.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(text))
	}
	v.Set(m)
}

func (r *configReader) intoSlice(v reflect.Value, n ast.Node, key, general string) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.fault(n, key, "must be a list")
		return
	}
	if v.Type().Elem().Kind() != reflect.Struct {
		r.given[key] = place(n)
	}
	s := reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values))
	for i, item := range list.Values {
		if s.Index(i).Type() == reflect.TypeFor[PoolConfig]() {
			s.Index(i).Set(reflect.ValueOf(DefaultPool()))
		}
		r.into(s.Index(i), item, fmt.Sprintf("%s[%d]", key, i), general+"[]")
	}
	v.Set(s)
}

func scalarText(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func (r *configReader) intoScalar(v reflect.Value, n ast.Node, key, general string) {
	r.given[key] = place(n)
	text, ok := scalarText(n)
	if values, isMap := pairs(n); isMap && len(values) > 0 && notAvailable[general+"."+values[0].Key.GetToken().Value] {
		r.fault(n, key+"."+values[0].Key.GetToken().Value, "not available in this version; give a single value")
		return
	}
	if !ok {
		r.fault(n, key, "must be a single value")
		return
	}
	if err := setScalar(v, text); err != nil {
		r.fault(n, key, "%v", err)
	}
}

// didYouMean names the candidate that is at most two edits away.
func didYouMean(name string, candidates []string) string {
	best := NearName(name, candidates)
	if best == "" {
		sort.Strings(candidates)
		return "; known here: " + strings.Join(candidates, ", ")
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
