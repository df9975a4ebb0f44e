package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long the files must stay as they are before they are loaded: an editor or a checkout writes several.
	settleTime = 100 * time.Millisecond
	// maxCodeDirs is how many directories are watched at most: a user has some 8 192 inotify watches at least (inotify(7)).
	maxCodeDirs = 1000
)

// codeWatch tells when Python files below a directory change. close it.
type codeWatch struct {
	dir     string
	watcher *fsnotify.Watcher
	dirs    int
	loaded  chan struct{} // capacity 1: the code was loaded after a change, with success
}

// codeDir is the directory whose files an adapter's code is taken to be: that of its file, or the working directory.
func codeDir(adapter, workdir string) string {
	file, _, _ := strings.Cut(adapter, ".py:")
	if name := strings.TrimSuffix(file, ".py") + ".py"; strings.HasSuffix(adapter, ".py") || file != adapter {
		return filepath.Dir(name)
	}
	return workdir
}

// newCodeWatch watches dir and what is below it, except hidden directories, caches and virtual environments.
func newCodeWatch(dir string) (*codeWatch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch %q for changes: %w", dir, err)
	}
	w := &codeWatch{dir: dir, watcher: watcher, loaded: make(chan struct{}, 1)}
	if err := w.add(dir); err != nil {
		_ = watcher.Close()
		return nil, fmt.Errorf("cannot watch %q for changes: %w", dir, err)
	}
	return w, nil
}

func (w *codeWatch) add(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == w.dir:
			return err
		case err != nil || !d.IsDir():
			return nil // a file, or one that went away meanwhile
		case path != w.dir && foreign(path):
			return filepath.SkipDir
		case w.dirs == maxCodeDirs:
			return fmt.Errorf("more than %d directories are below it; put the adapter into a directory of its own", maxCodeDirs)
		}
		w.dirs++
		return w.watcher.Add(path)
	})
}

// foreign says of a directory that it holds no code of the user's.
func foreign(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || name == "__pycache__" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "pyvenv.cfg"))
	return err == nil
}

// anyCode is a Python file in dir, "" if it has none.
func anyCode(dir string) string {
	found, err := filepath.Glob(filepath.Join(dir, "*.py"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0]
}

// next returns a file that has changed, after settleTime without another change; ok is false when ctx ends or the watch does.
func (w *codeWatch) next(ctx context.Context) (file string, ok bool) {
	settled := time.NewTimer(time.Hour)
	defer settled.Stop()
	settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", false
		case <-settled.C:
			return file, true
		case err, open := <-w.watcher.Errors:
			if !open {
				return "", false
			}
			file = err.Error() // events may have been lost: to load once too often does no harm
			settled.Reset(settleTime)
		case ev, open := <-w.watcher.Events:
			if !open {
				return "", false
			}
			if ev.Has(fsnotify.Create) && !foreign(ev.Name) {
				if info, err := os.Stat(ev.Name); err == nil && info.IsDir() {
					_ = w.add(ev.Name)
					if code := anyCode(ev.Name); code != "" { // it was written before it was watched
						file = code
						settled.Reset(settleTime)
					}
					continue
				}
			}
			if strings.HasSuffix(ev.Name, ".py") && !ev.Has(fsnotify.Chmod) {
				file = ev.Name
				settled.Reset(settleTime)
			}
		}
	}
}

func (w *codeWatch) close() { _ = w.watcher.Close() }

// followCode restarts the pool with each change of its code, until ctx ends. Code that cannot start is told and changes nothing.
func (r *privateRun) followCode(ctx context.Context, w *codeWatch) {
	for {
		file, ok := w.next(ctx)
		if !ok {
			return
		}
		if name, err := filepath.Rel(w.dir, file); err == nil {
			file = name
		}
		workers, err := r.agent.Restart(ctx, "", "default")
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			report(r.stderr, err)
			fmt.Fprintf(r.stderr, "[reload] %s changed and cannot be used; what ran before runs on\n", file)
		default:
			select {
			case w.loaded <- struct{}{}:
			default:
			}
			fmt.Fprintf(r.stderr, "[reload] %s changed: %s with the new code\n", file, counted(len(workers), "worker"))
		}
	}
}
