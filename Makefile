# Millrace. `make demo` runs the main job, `make test` passes the tests.

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
ENGINE  := build/js-engine/millrace-js.wasm

# Rooms where goroutines share something, or must not.
RACED := ./broker/core ./broker/produce ./broker/fetch ./broker/raft ./broker/cluster ./broker/move \
	./broker/coordinator ./broker/script ./broker/kafka ./broker/peer ./pacemaker ./plugins

.PHONY: setup build engine test vet soak compat bench demo generate clean

setup: ## Install what the build needs; says what, skips what is there
	@deploy/setup.sh

engine: setup ## The JavaScript engine, from the registry's QuickJS sources
	@sdk/js/engine/build.sh

build: engine ## bin/millrace (static) and bin/millrace-sidecar (cgo: wasmtime)
	@mkdir -p bin
	cp $(ENGINE) bin/millrace-js.wasm
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/millrace ./broker/cmd/millrace
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '-s -w -X main.build=$(VERSION)' -o bin/millrace-sidecar ./sidecar/cmd/millrace-sidecar

vet: setup
	$(GO) vet ./...

test: build vet ## The fast suite: unit, crash, process and client tests
	$(GO) test -timeout 14m ./...
	$(GO) test -race -timeout 10m $(RACED)
	cd sdk/go && $(GO) vet ./... && $(GO) test ./...

soak: build ## Long loops of faults on one broker and on three, each judged
	$(GO) test -count=1 -p 1 -timeout 3h -tags soak -v -run Soak ./broker/sim ./test/soak/... ./test/cluster/...

compat: build ## Third-party clients, unmodified; results in docs/COMPAT.md
	@test/compat/run.sh

bench: build ## Side by side with Apache Kafka; prints a table
	@bench/run.sh

demo: build ## A broker, a sidecar, two scripts and real data; KEEP=1 leaves them running
	@$(GO) run ./demo $(if $(filter-out 0,$(KEEP)),-keep)

generate: ## Code and docs that are generated and checked in
	$(GO) generate ./...
	$(GO) test -count=1 ./broker/config ./broker/cli ./broker/admin -run 'Document|Reference|OpenAPI' -rewrite >/dev/null

clean:
	rm -rf bin build
