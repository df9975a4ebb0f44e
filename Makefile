# The commands of this repository. `make demo` needs only Go, Python 3.9 or later with venv, and make; `make test` also root, Node and npm.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
TOOLS := $(CURDIR)/.build/bin
VENV := .venv/.ready
FUZZTIME ?= 20s
FUZZEXAMPLES ?= 2000
ROUNDS ?= 12

BUF := github.com/bufbuild/buf/cmd/buf@v1.75.0
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

.PHONY: help build install demo test check containers chaos fuzz cover bench gen clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build bin/pitboss and bin/pitboss-watchdog
	CGO_ENABLED=0 go build -trimpath -o bin/pitboss ./cmd/agent
	CGO_ENABLED=0 go build -trimpath -o bin/pitboss-watchdog ./cmd/watchdog

PREFIX ?= /usr/local
install: build ## install both binaries, man pages and shell completion below PREFIX (DESTDIR is put before it)
	install -D -t "$(DESTDIR)$(PREFIX)/bin" bin/pitboss bin/pitboss-watchdog
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/man/man1" packaging/man/*.1
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/man/man8" packaging/man/*.8
	install -d "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	bin/pitboss completion bash > "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pitboss"
	bin/pitboss completion zsh > "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pitboss"
	bin/pitboss completion fish > "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pitboss.fish"

$(VENV): python/requirements-dev.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r python/requirements-dev.txt
	touch $(VENV)

$(TOOLS)/%:
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install $($(shell echo $* | tr 'a-z-' 'A-Z_'))

demo: build ## run an example for real, SIGKILL its agent, count survivors by the OS
	examples/demo.sh

test: build $(VENV) ## Go tests with -race, Python tests, golden frames both ways
	PITBOSS_PYTHON="$(CURDIR)/.venv/bin/python" go test -race -count=1 -timeout 20m ./...
	cd python && ../.venv/bin/python -m pytest -q

check: $(VENV) $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/staticcheck ## format, vet, static analysis, ruff, mypy, proto lint, generated code, imports
	test -z "$$(gofmt -l *.go agent cmd examples heartbeat ipc packaging python watchdog | tee /dev/stderr)"
	go vet ./...
	GOOS=darwin go build ./agent/client && GOOS=windows go build ./agent/client
	$(TOOLS)/staticcheck ./...
	cd python && ../.venv/bin/ruff check src tests && ../.venv/bin/mypy
	cd proto && $(TOOLS)/buf lint && $(TOOLS)/buf breaking --against released.binpb
	rm -rf .build/gen && mkdir -p .build/gen && cd proto && PATH="$(TOOLS):$$PATH" $(TOOLS)/buf generate -o ../.build/gen
	diff -r --exclude='*.proto' .build/gen/pitboss proto/pitboss
	go run ./agent/configdoc > .build/config.md && diff -u docs/config.md .build/config.md
	go test -count=1 -run Import ./heartbeat ./ipc .
	go test -count=1 -run TestEventsDocument ./agent
	go test -count=1 -run TestCatalogueDocument ./agent/chaos
	go test -count=1 -run 'TestManual|TestHelpTexts' ./cmd/agent ./watchdog

containers: build $(TOOLS)/staticcheck ## the container examples: linted, validated as the API server does, built and run in namespaces (root)
	cd examples/containers/check && go vet ./... && $(TOOLS)/staticcheck ./... && go test -count=1 -timeout 10m ./...

chaos: build ## the catalogue of pitboss verify as tests; ROUNDS per cell of the kill matrix
	go test -count=1 -timeout 60m -v -run 'TestCatalogue/^(control|kill|cgroup-kill)-' ./agent/chaos -chaos.rounds=$(ROUNDS)
	go test -count=1 -timeout 30m -v -run 'TestCatalogue' -skip 'TestCatalogue/^(kill|cgroup-kill)-' ./agent/chaos
	go test -count=1 -timeout 30m -v -tags soak -run TestSoak ./agent/chaos

fuzz: $(VENV) ## every fuzz target for FUZZTIME, every property of the Python half with FUZZEXAMPLES
	for dir in agent ipc heartbeat watchdog; do for f in $$(grep -ho 'func Fuzz[A-Za-z]*' $$dir/*_test.go | cut -c6-); do \
	  go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$dir; done; done
	cd python && HYPOTHESIS_PROFILE=fuzz PITBOSS_FUZZ_EXAMPLES=$(FUZZEXAMPLES) ../.venv/bin/python -m pytest -q --timeout 900 -k "test_any_ or round_trip" tests

cover: $(VENV) ## which code the tests run, real processes included: one table
	.ci/cover

bench: build $(VENV) ## the figures of this host beside what they are compared with; BENCH_OUT=FILE keeps them
	.venv/bin/pip install --quiet -r python/requirements-bench.txt
	go build -o .build/bin/bench ./agent/bench
	.build/bin/bench -out "$(BENCH_OUT)"
	PITBOSS_BIN="$(CURDIR)/bin" PITBOSS_PYTHON="$(CURDIR)/.venv/bin/python" go test -count=1 -v -run 'Hostile' ./cmd/agent -hostile.noise=500us | grep -v level=

# Two machines of their own, both made of one debootstrap below .build: root, and the network on the first run. They install what they need with apt-get.
IN_VM := packaging/test/vm/run -p Delegate='cpu memory pids' -p User=tester -p LimitNICE=-10 -c bin/pitboss=/usr/bin/pitboss -c bin/pitboss-watchdog=/usr/bin/pitboss-watchdog
.PHONY: test-vm
test-vm: build $(TOOLS)/staticcheck ## emulated machine (about 3 min): pure cgroup v2, a real OOM killer
	go vet -tags vm ./packaging/test/vm/... ./cmd/agent && $(TOOLS)/staticcheck -tags vm ./packaging/test/vm/...
	mkdir -p .build/vm && CGO_ENABLED=0 go test -c -tags vm -o .build/vm/guest.test ./packaging/test/vm/guest
	CGO_ENABLED=0 go test -c -tags vm -o .build/vm/agent.test ./cmd/agent
	CGO_ENABLED=0 go test -c -tags vm -o .build/vm/wholehost.test ./packaging/test/vm/wholehost
	packaging/test/vm/run -c bin/pitboss=/usr/bin/pitboss -c bin/pitboss-watchdog=/usr/bin/pitboss-watchdog -e HOME=/root .build/vm/wholehost.test -test.v -test.timeout 4m
	$(IN_VM) .build/vm/guest.test -test.v -test.timeout 4m
	$(IN_VM) -c cmd/agent/testdata=/payload/testdata -e PITBOSS_BIN=/usr/bin -e PITBOSS_PYTHON=/usr/bin/python3 -e HOME=/tmp .build/vm/agent.test -test.v -test.timeout 4m -test.run '^Test(LimitsBite|ALimitThatIsNotGivenIsSaid|TheTryTakesLittleTime)$$'
	go test -tags vm -count=1 -v ./packaging/test/vm

.PHONY: test-clean-root
test-clean-root: package $(TOOLS)/staticcheck ## container (about 20 s): a minimal Debian stable installs the deb, uses it, reboots, purges it
	go vet -tags cleanroot ./packaging/test/cleanroot && $(TOOLS)/staticcheck -tags cleanroot ./packaging/test/cleanroot
	packaging/test/cleanroot/run "$(DIST)"/pitboss_*_amd64.deb

gen: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## generate the Go code of proto/, docs/config.md, docs/events.md, docs/verify.md and the man pages
	cd proto && PATH="$(TOOLS):$$PATH" $(TOOLS)/buf generate
	mkdir -p .build && go run ./agent/configdoc > .build/config.md && mv .build/config.md docs/config.md
	go test -count=1 -run TestEventsDocument ./agent -events.write
	go test -count=1 -run TestCatalogueDocument ./agent/chaos -chaos.write
	go test -count=1 -run 'TestManual$$' ./cmd/agent ./watchdog -manual.write

DIST ?= dist
WHEEL_VENV := .build/wheel-venv/.ready
$(WHEEL_VENV): packaging/wheel/requirements.txt
	$(PYTHON) -m venv .build/wheel-venv
	.build/wheel-venv/bin/pip install --quiet -r packaging/wheel/requirements.txt
	touch $(WHEEL_VENV)

.PHONY: package check-package
package: $(TOOLS)/nfpm $(WHEEL_VENV) ## deb, rpm, tarball and wheel of both architectures in DIST; VERSION=X.Y.Z names deb, rpm and tarball differently
	NFPM=$(TOOLS)/nfpm WHEEL_PYTHON="$(CURDIR)/.build/wheel-venv/bin/python" packaging/build "$(DIST)"

check-package: package $(VENV) $(TOOLS)/staticcheck ## lintian, rpmlint, contents, a second build elsewhere with the same bytes, the wheel in a fresh venv
	go vet -tags package ./packaging && $(TOOLS)/staticcheck -tags package ./packaging
	.venv/bin/ruff check --config python/pyproject.toml packaging/wheel && .venv/bin/mypy --strict --ignore-missing-imports packaging/wheel/build.py
	NFPM=$(TOOLS)/nfpm WHEEL_PYTHON="$(CURDIR)/.build/wheel-venv/bin/python" go test -count=1 -v -tags package ./packaging -dist "$(abspath $(DIST))"

.PHONY: test-package
test-package: package $(VENV) $(TOOLS)/staticcheck ## boot systemd and live with deb, rpm and units: kills, hangs, upgrades, removals; root
	go vet -tags booted ./packaging/test && $(TOOLS)/staticcheck -tags booted ./packaging/test
	VERSION=99.0.0 $(MAKE) package DIST=.build/next
	packaging/test/run "$(DIST)" .build/next

clean: ## remove what was built
	rm -rf bin .build .venv dist
