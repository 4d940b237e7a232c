# `make` lists the targets. Each does one thing that works without make, too.

BIN     := bin/holdfast
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X holdfast/internal/cli.version=$(VERSION) -X holdfast/internal/cli.commit=$(COMMIT)

# What serves no requests is compiled without inlining: copies of small functions in
# their callers' code make the program 5 % larger, compressed. What serves requests, and what
# checks a drill's answers, is left to the compiler. Of the standard library it is what no request
# needs. The last pattern that matches counts.
HOT     := attack commands history hostname load metrics quote redis/... socket static token web/...
COLD    := holdfast/internal/... filippo.io/... github.com/goccy/... github.com/hashicorp/... github.com/minio/... \
           github.com/spf13/... github.com/coreos/... github.com/rs/... github.com/tinylib/... go.etcd.io/... \
           go.opentelemetry.io/otel/exporters/... go.opentelemetry.io/proto/... go.yaml.in/... golang.org/x/net/... \
           golang.org/x/text/... google.golang.org/... gopkg.in/... \
           crypto/x509/... encoding/asn1 encoding/xml encoding/csv encoding/gob regexp/... html/... text/... math/big net/mail net/http/httputil
GCFLAGS := $(COLD:%=-gcflags=%=-l) $(HOT:%=-gcflags=holdfast/internal/%=)

# No server of Holdfast speaks HTTP/2, and what it calls (S3, collectors of traces) speaks
# HTTP/1.1 as well. Without HTTP/2 the program is 2 % smaller.
TAGS := nethttpomithttp2

# Run by its version and not listed in go.mod, so that the linter's own
# dependencies do not become the program's.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# More flags for go test, such as TESTFLAGS='-v -run Failover'.
TESTFLAGS ?=

.PHONY: help up down test test-containers test-kubernetes test-versions build image generate lint mutants bench profile

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST)

up: ## stand the stack up: install what is missing, build, start in the background
	scripts/setup
	$(MAKE) --no-print-directory build
	$(BIN) up -d

down: $(BIN) ## take the stack down; data stays
	$(BIN) down

# More tests run at once than there are cores, since most of them wait for servers. Which
# end-to-end tests run beside each other is in test/beside_test.go, and -parallel only has to
# be larger. Four of the other packages run at once, with two tests each. 'make lint' vets.
# Without debugging information (-w) a test is linked in three quarters of the time.
GOTEST := go test -race -count=1 -timeout 40m -vet=off -ldflags=-w

test: ## every test, the end-to-end ones with the real servers too
	scripts/setup --test
	@set -x; $(GOTEST) -parallel 24 $(TESTFLAGS) ./test; stacks=$$?; \
	go -C deploy/image test ./... && $(GOTEST) -p 4 -parallel 2 $(TESTFLAGS) $$(go list ./... | grep -v -e '^holdfast/test$$' -e '^holdfast/test/containers$$' -e '^holdfast/test/kubernetes$$') && exit $$stacks

# The race detector needs C. All else is compiled without, so that it is compiled once.
lint test-containers test-kubernetes test-versions: export CGO_ENABLED = 0

# With the dockerd that answers, or one of its own for as long as the tests run. The tests of
# Compose take the image that HOLDFAST_STACK_IMAGE names, holdfast-stack by default.
test-containers: ## the images, and the stack in containers of a real dockerd, with Docker Compose, under load (Linux; 10 minutes)
	scripts/setup --containers
	$(MAKE) --no-print-directory image
	scripts/with-dockerd sh -ec 'docker load -q -i $(IMAGES)/holdfast-stack-$(shell go env GOHOSTARCH).tar; \
		HOLDFAST_IMAGES=$(abspath $(IMAGES)) go test -count=1 -timeout 40m -vet=off $(TESTFLAGS) ./test/containers'

# What is run, and in what Debian, is in scripts/versions. Without root it says so, and runs nothing.
VERSIONS := bin/versions

test-versions: ## what servers do, on Debian 13 with Redis 8.0 and with Valkey 8.1 (root; 6 minutes, and 2 for the first time)
	@if scripts/versions able; then set -ex; \
	scripts/setup --versions; \
	scripts/versions prepare; \
	mkdir -p $(VERSIONS); \
	go build -pgo=off -o $(VERSIONS)/holdfast ./cmd/holdfast; \
	for package in ./test ./internal/redis ./internal/plan; do go test -c -vet=off -o $(VERSIONS)/$$(basename $$package).test $$package; done; \
	scripts/versions run $(VERSIONS); fi

# What takes long: it waits for minutes that Kubernetes or the stack gives itself. With
# KUBERNETES=all it runs, too.
KUBERNETES      := most
KUBERNETES_LONG := TestAMasterIsBornAgainBeforeItIsHeldForDown|TestCertificatesAreRenewedWhilePodsLive|TestAProgramOfOnesOwn|TestChart/(an_upgrade_to_another_stack_file|more_nodes|fewer_nodes|a_rollback|an_autoscaler)|TestDrill/(kill-master|roll|lose-volume|scale-zero|delete-all|a_machine)

# The chart is first checked by Helm's own engine, without a cluster. The programs are compiled
# without a test's deadline.
test-kubernetes: ## the tests on a real Kubernetes of three nodes, on this machine (Linux, root); all with KUBERNETES=all
	scripts/setup --kubernetes
	go -C test/kubernetes/chart test -count=1 ./...
	go run ./test/kube/run build
	@$(if $(filter all,$(KUBERNETES)),true,echo "left to KUBERNETES=all, since it takes long: $(KUBERNETES_LONG)")
	HOLDFAST_TEST_KUBERNETES=yes go test -count=1 -timeout 80m $(if $(filter all,$(KUBERNETES)),,-skip '$(KUBERNETES_LONG)') $(TESTFLAGS) ./test/kubernetes

build: ## build bin/holdfast, one static binary
	CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/holdfast

# The images' own module is not part of the program's. SERVER=valkey makes holdfast-stack
# with Valkey.
IMAGES := bin/image
ARCHS  := amd64 arm64
SERVER := redis
# More flags, such as IMAGEFLAGS=-update=false: no look for newer packages;
# IMAGEFLAGS='-archive URL -security URL -past': Debian's packages as they were at some time.
IMAGEFLAGS ?=
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

image: ## container images in bin/image, for amd64 and arm64 (Debian: apt; needs no container engine, no root)
	@set -e; for arch in $(ARCHS); do GOOS=linux GOARCH=$$arch $(MAKE) --no-print-directory build BIN=$(IMAGES)/$$arch/holdfast; done
	go run -C deploy/image . -root $(CURDIR) -programs $(abspath $(IMAGES)) -out $(abspath $(IMAGES)) -archs '$(ARCHS)' \
		-server $(SERVER) -version $(VERSION) $(IMAGEFLAGS)

generate: ## Go code from the templates (*.qtpl); a test says when it is missing
	go generate ./internal/...

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w): $$unformatted"; exit 1; fi
	go vet ./...
	go -C deploy/image vet ./...
	go -C test/containers/lint vet ./...
	go -C test/kubernetes/chart vet ./...
	go run $(STATICCHECK) ./...

# Some of them alone: make mutants MUTANTS=old-proof,write-again
mutants: ## break each rule of safety in a program of its own, and see that a test or drill notices (an hour)
	scripts/setup --test
	go run ./test/mutants/run $(if $(MUTANTS),-only $(MUTANTS))

PROFILE := cmd/holdfast/default.pgo

# More flags for the comparison, such as BENCHFLAGS='-rounds 3 -cases get-64';
# the benchmarks beside the code: go test -run '^$$' -bench . -benchmem ./...
BENCHFLAGS ?= -o docs/benchmarks.md

# The ceiling is this program's own event loop: it is compiled as the nodes' is.
bench: ## Holdfast against its peers, side by side (Linux; the best part of an hour)
	scripts/setup --bench
	$(MAKE) --no-print-directory build
	go run -pgo=$(PROFILE) ./bench $(BENCHFLAGS)

# The compiler reads it at every build of cmd/holdfast (https://go.dev/doc/pgo). It
# need not be new to be of use; it is made anew when the hot paths have changed.
profile: ## where the web node's time goes under load, for the compiler (2 minutes)
	scripts/setup --bench
	$(MAKE) --no-print-directory build
	go run ./bench -only holdfast -cases get-64,set-64,haproxy-get-64,haproxy-set-64 -rounds 1 -seconds 10 -pairs 0 -profile $(PROFILE)

# A stack is taken down by the binary that stood it up; it is built only when
# there is none.
$(BIN):
	$(MAKE) --no-print-directory build
