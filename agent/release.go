package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// resourceKind is what sort of thing a worker needs for itself.
type resourceKind string

const (
	resourcePort resourceKind = "port"
	resourceFile resourceKind = "file"
	resourceGPU  resourceKind = "gpu"
	// resourceTree is not configured: it is what a keeper that was killed could not prove to be gone.
	resourceTree resourceKind = "processes of"
)

// resource is one thing that must be free before a worker starts.
type resource struct {
	kind resourceKind
	name string // as it is configured, its templates filled in
	port portAddress
}

func (r resource) String() string { return string(r.kind) + " " + r.name }

// portAddress is where a worker binds.
type portAddress struct {
	ip   netip.Addr // the zero value: any
	port uint16
	udp  bool
}

// resourceList is one key of release with its entries.
type resourceList struct {
	kind    resourceKind
	key     string
	entries []string
}

func (r ReleaseConfig) lists() []resourceList {
	return []resourceList{{resourcePort, "ports", r.Ports}, {resourceFile, "files", r.Files}, {resourceGPU, "gpus", r.GPUs}}
}

// gated says whether there is anything to wait for.
func (p *PoolConfig) gated() bool {
	return len(p.Release.Ports)+len(p.Release.Files)+len(p.Release.GPUs) > 0
}

// resources are those of one worker. The entries were checked with the configuration.
func (p *PoolConfig) resources(index int) (all []resource) {
	for _, list := range p.Release.lists() {
		for _, entry := range list.entries {
			if r, err := expandResource(list.kind, entry, p.Name, index); err == nil {
				all = append(all, r)
			}
		}
	}
	return all
}

func expandResource(kind resourceKind, entry, pool string, index int) (resource, error) {
	name, err := expandTemplate(entry, pool, index)
	if err != nil {
		return resource{}, fmt.Errorf("cannot expand %q: %w", entry, err)
	}
	r := resource{kind: kind, name: name}
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return r, fmt.Errorf("%q names no %s", name, kind)
	case kind == resourcePort:
		r.port, err = parsePort(name)
	case kind == resourceGPU && strings.HasPrefix(name, "-"):
		err = fmt.Errorf("%q is neither an index nor a UUID of a GPU", name)
	}
	return r, err
}

// parsePort reads [ADDRESS:]PORT[/tcp|/udp].
func parsePort(text string) (a portAddress, err error) {
	malformed := fmt.Errorf("%q is no port; write PORT, ADDRESS:PORT or [IPv6]:PORT, 1 to 65535, with /udp behind it for UDP", text)
	rest, protocol, named := strings.Cut(text, "/")
	if named && protocol != "udp" && protocol != "tcp" {
		return a, malformed
	}
	a.udp = protocol == "udp"
	number := rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		number = rest[i+1:]
		if a.ip, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(rest[:i], "["), "]")); err != nil {
			return a, malformed
		}
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return a, malformed
	}
	a.port = uint16(n)
	return a, nil
}

// hold is a resource that is not free.
type hold struct {
	resource string // as it is shown
	by       string // who holds it, as far as is known; "" if not
}

func (h hold) String() string {
	if h.by == "" {
		return h.resource
	}
	return h.resource + " (" + h.by + ")"
}

// errHeld says that a resource is in use.
var errHeld = errors.New("in use")

const (
	releasePauseFirst = 5 * time.Millisecond
	releasePauseLast  = time.Second
	// releaseNaming is how much longer than its limit a wait may last for the look that finds out who holds what.
	releaseNaming = 5 * time.Second
	// releaseFresh is how long a resource that was found free is taken to be so.
	releaseFresh = 100 * time.Millisecond
)

// releaseView is all that decides about a slot whose worker could start but for what it needs.
type releaseView struct {
	waited  time.Duration // so far; the limit is its
	probing bool          // a look goes on
	looked  bool          // there is the answer of a look
	free    bool          // everything was, then
	age     time.Duration // of that answer
	named   bool          // that look, or the one that goes on, also asks who holds what
	overdue bool          // the limit has passed, and that was told
}

// releaseStep is what to do about such a slot.
type releaseStep string

const (
	releaseWait  releaseStep = "wait"
	releaseLook  releaseStep = "look"
	releaseStart releaseStep = "start"
	releaseForce releaseStep = "start all the same"
	releaseFail  releaseStep = "fail"
)

// decideRelease is the whole policy. again is after which time to ask anew at the latest; 0: when something changes.
func decideRelease(v releaseView, timeout time.Duration, force bool, probe time.Duration) (step releaseStep, again time.Duration) {
	left := timeout - v.waited
	limit := left <= 0 && !v.overdue
	switch {
	case v.looked && v.free && v.age <= releaseFresh:
		return releaseStart, 0
	case limit && v.looked && !v.probing && !v.named: // nobody is told of a holder without a name if one can be had
		return releaseLook, 0
	case limit && v.probing && v.named && left > -releaseNaming:
		return releaseWait, left + releaseNaming
	case limit && force:
		return releaseForce, 0
	case limit:
		return releaseFail, 0
	case v.probing && v.overdue:
		return releaseWait, 0
	case v.probing:
		return releaseWait, left
	case !v.looked || v.free:
		return releaseLook, 0
	}
	pause := min(max(v.waited/8, releasePauseFirst), releasePauseLast)
	if v.overdue {
		pause = probe
	}
	if v.age >= pause {
		return releaseLook, 0
	}
	again = pause - v.age
	if !v.overdue {
		again = min(again, left)
	}
	return releaseWait, again
}
