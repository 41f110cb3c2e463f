# The two commands of the README are `make run` and `make test`; both set up what they need.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Built and then run, not `go run`: that answers Ctrl-C with exit 1, whatever the program ended with.
run: build ## a ready Keybrake: temporary store, sandbox as upstream, two keys, snippets to paste
	@exec build/keybrake serve --dev

build: ## the static binary, in build/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o build/keybrake ./cmd/keybrake

setup: ## install what the tests need beyond Go, where it can be installed
	@scripts/setup

test: setup ## everything that must be green: vet, tests, race detector on the core, real SDKs
	$(GO) vet ./...
	$(GO) test ./...
	$(GO) test -race -short ./internal/ledger ./internal/vault ./internal/store/... ./internal/gateway/... ./internal/admin ./internal/alert
	cd test && $(GO) vet ./... && $(GO) test -count=1 -timeout 20m $$($(GO) list ./... | grep -v /contract$$) # not from the cache: it cannot see the binary that they build
	cd test && $(GO) test -count=1 -v ./contract # -v: it says how many operations it tried, and which differ
	cd test && $(GO) run ./mutate -pkg money,ledger -sample 8

generate: ## the parts of docs/ that show the catalog and the presets
	$(GO) test -count=1 ./docs -run TestGenerated -update

# The race detector needs a C compiler. What the second module drives is the program itself, built with it.
race: setup ## the race detector over everything: both modules, and the programs that the second one drives
	CGO_ENABLED=1 $(GO) test -race -timeout 40m ./...
	cd test && KEYBRAKE_RACE=1 CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 40m $$($(GO) list ./... | grep -v -e /bench -e /packaging)

check: ## format, vet and staticcheck over both modules, repo rules, short tests
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-clean:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./... && $(GO) run $(STATICCHECK) ./...
	cd test && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...
	$(GO) test -short ./internal/arch ./internal/money ./internal/policy ./internal/ledger ./internal/vault ./internal/audit

pictures: setup ## every page of the console at two widths, light and dark, into build/pictures
	cd test && KEYBRAKE_SHOTS=$(CURDIR)/build/pictures $(GO) test -count=1 -v -run 'TestConsole/pages' ./browser

dist: ## a release in dist/: archives for each platform with manual and completions, bills of materials, checksums
	scripts/release dist

image: ## the image built and the compose file run, by the Docker that is here or one for this alone (root on Debian)
	@scripts/image

recipes: ## the secret stores' command lines of docs/operating.md with the vendors' own programs, as far as they can be had
	@scripts/recipes

demo: build ## the runaway agent, against real processes
	scripts/demo build/keybrake

bench: bench-go bench-load bench-pages ## figures for docs/benchmarks.md; BENCH=create,refund,lone,reads,big,export chooses

bench-go: ## the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./internal/store/sqlite ./internal/upstream/stripe ./internal/vault ./internal/audit ./internal/policy ./internal/ledger ./internal/gateway/...

BENCH ?= create,refund,lone,reads,big,export

bench-load: build ## real processes under load; makes a 5 GB store in the temporary folder, once
	cd test && $(GO) build -o ../build/bench ./bench && $(GO) build -o ../build/caddy ./bench/caddy
	build/bench run -keybrake build/keybrake -caddy build/caddy -what $(BENCH)

bench-nodes: build ## two nodes and two gateways on one PostgreSQL, beside one transaction per call
	cd test && $(GO) build -o ../build/bench ./bench
	build/bench run -keybrake build/keybrake -what nodes,gateways

bench-pages: build ## how long the console's pages take over 10,000 keys and 5 million records; makes a 5 GB store, once
	cd test && $(GO) build -o ../build/bench ./bench
	build/bench run -keybrake build/keybrake -what pages -keys 10000

soak: build ## an hour (LAST) of ordinary calls and trouble: whether memory, goroutines or descriptors grow
	cd test && $(GO) build -o ../build/bench ./bench
	build/bench run -keybrake build/keybrake -what soak -warm 2m -last $${LAST:-1h}

# SEED=N makes the agents of the second want the same things again; how two programs' threads fall is nobody's to choose.
crash: ## processes killed with SIGKILL under load: the store alone (200 times), the whole program (300 times, a third as often on PostgreSQL, and 60 while records move into archives), or ROUNDS times
	KEYBRAKE_CRASH_ROUNDS=$${ROUNDS:-200} $(GO) test -count=1 -v -timeout 60m -run Kill ./internal/store/sqlite
	cd test && KEYBRAKE_CRASH_ROUNDS=$${ROUNDS:-300} KEYBRAKE_CRASH_SEED=$${SEED:-} $(GO) test -count=1 -v -timeout 60m -skip 'Cluster|AtEveryNode|CutOff|OneByOne' ./crash

# As root each process has a network namespace; KEYBRAKE_CLUSTER_NET=lines does without, and =netns fails where there are none.
cluster: ## three gateways on a PostgreSQL with a standby through ROUNDS rounds of trouble (200), STOPS stops measured (1000), nodes restarted one by one
	cd test && KEYBRAKE_CLUSTER_ROUNDS=$${ROUNDS:-200} KEYBRAKE_CLUSTER_STOPS=$${STOPS:-1000} KEYBRAKE_CRASH_SEED=$${SEED:-} \
		$(GO) test -count=1 -v -timeout 90m -run 'Cluster|AtEveryNode|CutOff|OneByOne' ./crash

postgres-versions: ## what concerns PostgreSQL on versions 16, 17 and 18, whose programs come from npm; VERSIONS="17 18" chooses, ROUNDS=N rounds of a cluster's trouble (17, one of each)
	@scripts/postgres-versions $(VERSIONS)

sim: ## the whole gateway under a scheduler: SEEDS seeds (default 2000) of CALLS calls (500), all failures of a day, 20 seeds again in SQLite and PostgreSQL, and PG_SEEDS seeds (40) and all failures of a day with PostgreSQL in the loop; SEED=N SEEDS=1 STEPS=1 replays one
	KEYBRAKE_SIM_SEEDS=$${SEEDS:-2000} KEYBRAKE_SIM_CALLS=$${CALLS:-500} KEYBRAKE_SIM_SEED=$${SEED:-1} KEYBRAKE_SIM_STEPS=$${STEPS:-0} \
		KEYBRAKE_SIM_ENGINE_SEEDS=$${SEEDS:-20} KEYBRAKE_SIM_SWEEP=1 KEYBRAKE_SIM_LIVE=20 KEYBRAKE_SIM_HISTORIES=30 \
		KEYBRAKE_SIM_PG_SEEDS=$${PG_SEEDS:-40} KEYBRAKE_SIM_PG_CALLS=300 KEYBRAKE_SIM_PG_SWEEP=1 \
		$(GO) test -count=1 -v -timeout 180m ./internal/sim | grep -v '^ *\(=== \|--- PASS.*/seed\)'

size: ## what a million calls take in the store, by table, and in archive files; CALLS=N makes fewer
	KEYBRAKE_SIZE_CALLS=$${CALLS:-1000000} $(GO) test -count=1 -v -timeout 120m -run SizePerMillion ./internal/store/sqlite | grep -v '^ *\(=== RUN\|--- PASS\)'

fuzz: ## each fuzz target for FUZZTIME (default 1m); FUZZ='FuzzForm|FuzzJSON' chooses
	@scripts/fuzz $${FUZZTIME:-1m}

mutate: ## change the packages that judge, one place at a time; PKG=money,policy,ledger chooses, PART=K/N does a part, SAMPLE=N draws
	cd test && $(GO) run ./mutate -pkg $${PKG:-money,policy,ledger} -part $${PART:-1/1} -sample $${SAMPLE:-0} -seed $${SEED:-1}

.PHONY: help run build dist setup pictures test generate check image recipes demo bench bench-go bench-load bench-nodes bench-pages crash cluster postgres-versions sim fuzz mutate race soak
