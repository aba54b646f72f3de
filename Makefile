# Measurements that need more than Go. Everything else is plain go build, go test, go vet.

BENCH_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/polar-bench
BENCH_VENV ?= $(BENCH_CACHE)/venv
ARGS ?=
SOURCES := $(shell find . -name '*.go' -o -name '*.s') go.mod

# Polar beside PyTorch, JAX and OpenBLAS, on two threads each: one table, to the terminal and bench/results/peers.md.
# ARGS="--quick" takes fewer repetitions; ARGS="--only step2" one row, to the terminal only. BENCH_VENV names a Python environment.
.PHONY: bench-peers
bench-peers: $(BENCH_VENV)/bench-ready $(BENCH_CACHE)/polarbench-plain $(BENCH_CACHE)/polarbench-simd $(BENCH_CACHE)/polarbench-xla
	@$(BENCH_VENV)/bin/python bench/peers/drive.py --python $(BENCH_VENV)/bin/python --cache $(BENCH_CACHE) --plugin $(BENCH_VENV)/pjrt \
		$(if $(findstring --only,$(ARGS)),,--out bench/results/peers.md) $(ARGS)

$(BENCH_VENV)/bench-ready: bench/peers/environment.sh
	bench/peers/environment.sh $(BENCH_VENV)

$(BENCH_CACHE)/polarbench-plain: $(SOURCES)
	go build -o $@ ./bench/peers/polarbench

$(BENCH_CACHE)/polarbench-simd: $(SOURCES)
	GOEXPERIMENT=simd go build -o $@ ./bench/peers/polarbench

# Without a C compiler there is no XLA, and the table says so.
$(BENCH_CACHE)/polarbench-xla: $(SOURCES)
	-go build -tags xla -o $@ ./bench/peers/polarbench
