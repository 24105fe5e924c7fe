# Everything here runs on a bare Debian machine with Go, make and root; what is missing is installed by the step that needs it.
# `make` alone lists the targets.
SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help

CLUSTER_DIR ?= $(CURDIR)/.cluster
export CLUSTER_DIR
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Show the whole path in seconds, without a cluster and without root.
	@echo "Building what the demo needs; the first time this takes a minute or two."
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/kms-agent ./test/demo
	@bin/demo bin/kms-agent

demo-cluster: ## Show it on a real Kubernetes, built from source, or on that of DEMO_KUBECONFIG=FILE; leaves the cluster up.
	@test/demo/cluster.sh

test: ## Everything that continuous integration runs: checks, unit, integration and end-to-end tests.
	@test/run.sh

test-unit: ## Unit, property and integration tests with the race detector; needs no root.
	@test/run.sh unit

faults: ## Break what the agent depends on, one thing at a time, and print what became of the files.
	@test/run.sh faults

fleet: ## Start and refresh thousands of agents in virtual time, and print what they ask of STS and KMS.
	go test -count=1 -timeout 20m -v -run '^TestFleet' ./agent

fuzz: ## Fuzz what strangers write, a minute for each target (FUZZTIME=10m for longer).
	@test/run.sh fuzz

lint: ## Formatting, vet, golangci-lint, the chart's checks and generated files.
	@test/run.sh lint

test-e2e: ## The end-to-end suite on the test cluster (K8S_VERSION=1.35: of that version), or on the cluster of KUBECONFIG.
	@test/run.sh e2e

bench: ## Benchmarks, as ratios within one run.
	@test/bench.sh

bench-start: ## Compare the start of injected pods with control pods of the same shape, and list 100 of them, on the test cluster.
	go test -tags e2e -count=1 -timeout 60m -v -run '^(TestStartCost|TestStatusOfManyPods)$$' ./test/e2e -start-rounds 20 -status-pods 100

proof-sync: ## Kill kms-sync's writer of Secrets 200 times at random calls; what strangers wrote stays, and no Secret is ever short.
	go test -count=1 -run '^TestKilled$$' ./cmd/kms-sync/internal/target -kills 200

proof-fleet-sync: ## Run kms-sync for 2,000 ExternalSecrets in virtual time, through a restart and an outage; the table goes into docs/operations.md.
	go test -count=1 -timeout 60m -v -run '^TestFleet$$' ./cmd/kms-sync/internal/sync -fleet-part 1 -update-fleet

proof-sync-memory: ## Measure kms-sync beside 5,000 Secrets of others of 10 kB, in the first minute of its work, on the test cluster.
	go test -tags e2e -count=1 -timeout 30m -v -run '^TestSync$$/^memory$$' ./test/e2e -foreign-secrets 5000 -memory-time 1m

proof-at-rest: ## Rewrite 5,000 Secrets at rest within a minute, and again by a StorageVersionMigration; make test has 2,000.
	go test -C test/cluster -tags e2e -count=1 -timeout 30m -v -run '^TestAtRest$$' . -at-rest-secrets 5000

cluster-up: ## Start the test cluster: a real one-node Kubernetes, built from source at the first time.
	@go run -C test/cluster ./cmd/cluster up

cluster-down: ## Stop the test cluster and remove everything it left.
	@go run -C test/cluster ./cmd/cluster down

images: ## Build the multi-arch OCI images into dist/images.
	@go run -C deploy ./images

manifests: ## Make deploy/manifests anew from the chart.
	@deploy/verify.sh --update

chart-values: ## Write the values into the charts' READMEs anew.
	@go test -C deploy -count=1 -run TestValuesAreDocumented . -update-values

licenses: ## Check the licenses of what the programs are linked with, and write them into dist/THIRD_PARTY_LICENSES.
	@deploy/licenses.sh

vulncheck: ## Look for known vulnerabilities that the programs can reach.
	@test/vulncheck.sh

release: ## Make everything that the tag of this commit is published as, in dist/release (REGISTRY=…: of the images).
	@REGISTRY=$(REGISTRY) test/tools/run.sh goreleaser release --clean --skip=publish,sign
	@mv dist/parts/* dist/release

release-check: ## Check the configuration of releases.
	@test/tools/run.sh goreleaser check

.PHONY: proof-at-rest proof-fleet-sync proof-sync proof-sync-memory bench-start fleet chart-values licenses vulncheck release release-check manifests faults help demo demo-cluster test test-unit test-e2e lint fuzz bench cluster-up cluster-down images
