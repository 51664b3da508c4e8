# make help lists the verbs.

PREFIX   ?= /usr/local
FUZZTIME ?= 10s
BENCH    ?= .
TIMEOUT  ?= 15m
TESTFLAGS ?=

VERSION  = $(shell git describe --always --dirty 2>/dev/null || echo dev)
CACHE    = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mithrilfs

GOLANGCI_VERSION = v2.15.0
GOLANGCI = $(CACHE)/golangci-lint-$(GOLANGCI_VERSION)-$(shell go env GOVERSION)

# Go tests find the Python libraries through MITHRILFS_PYTHON.
GOTEST = export MITHRILFS_PYTHON; MITHRILFS_PYTHON=$$(.ci/setup) && go test -timeout $(TIMEOUT) $(TESTFLAGS)

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help build demo test unit race single python fuzz lint bench bench-mount bench-series gobench install clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

build: ## build bin/mithrilfs
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/mithrilfs ./cmd/mithrilfs

demo: ## save and load a real model through a mount
	.ci/demo

test: lint build unit race single python ## everything that must pass

unit: ## all Go tests
	$(GOTEST) ./...

race: ## all Go tests under the race detector, with smaller corpora
	$(GOTEST) -race -short ./...

# One CPU finds waits that only another running goroutine would end. It is no
# input to go test's cache, hence -count=1.
single: ## all Go tests on one CPU, with smaller corpora
	export GOMAXPROCS=1; $(GOTEST) -count=1 -short ./...

python: ## tests of the Python scripts
	@py=$$(.ci/setup) && find docs testdata -name '*_test.py' | sort | while read -r t; do \
		echo "$$t"; "$$py" "$$t" || exit 1; \
	done

fuzz: ## run each fuzz target for FUZZTIME
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | sed 's|/[^/]*:func | |' | \
	while read -r dir target; do \
		echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$dir" </dev/null || exit 1; \
	done

lint: $(GOLANGCI) ## gofmt, go vet and golangci-lint
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w needed:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(GOLANGCI) run --allow-parallel-runners

$(GOLANGCI):
	GOBIN=$@.tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $@.tmp/golangci-lint $@ && rm -rf $@.tmp

bench: ## compare the codec with its peers; BENCH_QUICK=1 is shorter
	@testdata/bench/run

bench-mount: ## compare the mount with other filesystems; BENCH_QUICK=1 is shorter
	@testdata/bench/mount/run

bench-series: ## measure what runs of checkpoints take; BENCH_SERIES=export is shorter
	@testdata/bench/series/run

gobench: ## Go benchmarks matching BENCH
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

install: build ## install under DESTDIR/PREFIX, with shell completions
	install -D -m 755 bin/mithrilfs $(DESTDIR)$(PREFIX)/bin/mithrilfs
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/mithrilfs completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mithrilfs
	bin/mithrilfs completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mithrilfs
	bin/mithrilfs completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mithrilfs.fish

clean: ## remove what build made
	rm -rf bin .bench
