# Targets for people and for CI; `make` alone lists them.

GO        ?= go
TOOL       = $(GO) tool -modfile=internal/tools/go.mod
PACKAGES   = ./...
export GOFLAGS ?= -trimpath

.DEFAULT_GOAL := help
.PHONY: help build demo test check ci histories bench generate fmt fuzz oracle lint race clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/holdfast
	$(GO) build -o bin/holdfast ./cmd/holdfast

demo: build ## three nodes: load a real database, back it up, lose it and a node, bring it back
	./test/demo.sh bin/holdfast

test: ## run all tests but the slow scenarios
	$(GO) test -timeout 10m $(PACKAGES)

check: lint ## format, vet, lint, layers, short tests
	$(GO) test -short -timeout 4m $(PACKAGES)

race: ## short tests under the race detector
	$(GO) test -race -short -timeout 9m $(PACKAGES)

lint: ## format, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
	  if [ -n "$$out" ]; then echo "gofmt these files:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)

fuzz: ## fuzz every decoder for a short, bounded time
	./test/fuzz.sh $(or $(FOR),3s)

oracle: ## random schemas, writes and backups against a plain model; FOR=1m
	$(GO) test -timeout 30m -count 1 -v -run TestRestoresEqualTheModel ./test/oracle -oracle.duration=$(or $(FOR),1m)

histories: ## clients' histories on five nodes that are mistreated; FOR=1h SEED=0 (any)
	$(GO) test -timeout 0 -count 1 -v -run TestHistories ./test/histories -histories.duration=$(or $(FOR),4m) -histories.seed=$(or $(SEED),1)

bench: build ## figures as ratios against PostgreSQL in the same run
	$(GO) run ./test/bench

generate: ## regenerate protobuf code
	$(TOOL) buf generate
	$(TOOL) buf generate --template buf.gen.rpc.yaml --path kv/kvpb/wirepb --path kv/noderpc --path server/adminpb --path server/peerpb

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

ci: build check test oracle histories fuzz demo ## what CI runs

clean: ## remove what was built
	rm -rf bin
