# Everything that is done with this repository. The first run installs pinned tools into the user's cache
# (about 5 GB), and compiles some of them, which takes half an hour on two cores; later runs find them there.
# Needs Go, Python 3, gcc and git; the two-node Kubernetes of the integration tests also root and Debian 12.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
FUZZTIME ?= 10s
BASE     ?= scratch
IMAGE    ?= lifeboat:$(VERSION)
BUILDER  ?= $(firstword $(foreach b,docker podman buildah,$(shell command -v $(b))))

SPARKS  := 3.5.9 4.1.4 4.3.0
HADOOPS := hadoop-aws-3.5.9 hadoop-aws-4.3.0
STORES  := versitygw fake-gcs-server azurite
CLUSTER := kubernetes containers imagebase coredns csi helm kubeconform schemas promtool buildah cyclonedx-gomod spark-operator
TOOLS   := java golangci-lint gotestsum toxiproxy $(CLUSTER) $(SPARKS:%=spark-%) $(HADOOPS) $(STORES) s5cmd rclone
buildvcs := $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)
install  := bash integration/tools/install.sh

.DEFAULT_GOAL := help
.PHONY: help build test lint unit integration demo bench fuzz manifests sbom image clean tools $(TOOLS:%=tools-%)

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## Build bin/lifeboat, one static binary (its version comes from git)
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(buildvcs) -ldflags '-s -w' -o bin/lifeboat ./cmd/lifeboat

test: lint unit integration ## Lint, unit tests, and scenarios on real Spark

lint: ## Check format, vet and the linters of .golangci.yaml
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		[ -z "$$bad" ] || { echo "gofmt -w these: $$bad"; exit 1; }
	go vet ./...
	go vet -tags integration ./integration/...
	@dir=$$($(install) golangci-lint); PATH="$$dir:$$PATH" golangci-lint run --build-tags integration ./...

unit: ## Unit tests with the race detector
	@command -v gcc >/dev/null || { echo "the race detector needs gcc: apt-get install gcc libc6-dev"; exit 1; }
	@mkdir -p build
	@dir=$$($(install) gotestsum); CGO_ENABLED=1 "$$dir/gotestsum" --format pkgname --format-hide-empty-pkg \
		--jsonfile build/unit.json -- -race ./...

integration: $(SPARKS:%=tools-spark-%) $(HADOOPS:%=tools-%) $(STORES:%=tools-%) $(CLUSTER:%=tools-%) tools-java tools-toxiproxy ## Scenarios on real Spark and real Kubernetes
	@mkdir -p build
	@dir=$$($(install) gotestsum); cd integration/kubernetes/csi; CGO_ENABLED=0 "$$dir/gotestsum" --format pkgname \
		--jsonfile ../../../build/csi.json -- -trimpath ./... # as tools-csi has compiled what it needs
	@dir=$$($(install) gotestsum); "$$dir/gotestsum" --format testname --format-hide-empty-pkg \
		--jsonfile build/integration.json -- -tags integration -count=1 -p 1 -timeout 75m ./integration/...

demo: tools-java tools-spark-4.3.0 ## Take a node from a Spark job, without and with Lifeboat
	@go run ./integration/demo

bench: tools-java tools-spark-4.3.0 tools-hadoop-aws-4.3.0 ## Measure copying against Spark's own migration
	@go run ./integration/bench

fuzz: ## Run each fuzz test for FUZZTIME (10s)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$pkg"; \
		done; \
	done

manifests: ## Write the schema of the chart's values, and the plain manifests that are made of the chart
	@go test ./agent/config -count=1 -update >/dev/null
	@go test -tags integration ./integration/chart -count=1 -run 'TestPlainManifests' -update >/dev/null

sbom: build ## Write build/sbom.json (CycloneDX): every module in bin/lifeboat
	@mkdir -p build
	@dir=$$($(install) cyclonedx-gomod); "$$dir/cyclonedx-gomod" bin -json -std -noserial -notimestamp -version '$(VERSION)' \
		-output build/sbom.json bin/lifeboat

image: build sbom ## Build the container image; BASE, IMAGE, BUILDER and BUILDFLAGS can be given
	@[ -n "$(BUILDER)" ] || { echo "image needs docker, podman or buildah (or BUILDER=...)"; exit 1; }
	$(BUILDER) build $(BUILDFLAGS) --build-arg BASE=$(BASE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		-t $(IMAGE) -f Dockerfile .

tools: $(TOOLS:%=tools-%) ## Install all pinned tools into the cache

$(TOOLS:%=tools-%): tools-%:
	@$(install) $* >/dev/null

clean: ## Remove what was built here; the cache stays
	rm -rf bin build
