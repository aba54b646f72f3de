package cpu

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/kernel/gemm"
	"github.com/polargo/polar/backend/cpu/program"
	"github.com/polargo/polar/backend/cpu/team"
	"k8s.io/klog/v2"
)

// Name is the name under which the backend is registered in package compute.
const Name = "polar"

// LevelEnvVar is the environment variable that names the instructions to use: generic, avx2, avx512, or empty for the best.
const LevelEnvVar = "POLAR_CPU"

// maxThreads bounds threads=N: more workers than this is a slip of the finger.
const maxThreads = 1024

func init() { compute.Register(Name, New) }

// errFinalized is returned by everything that is called on a backend after Finalize.
var errFinalized = errors.New("the polar backend was finalised")

// Backend implements compute.Backend. It owns a team of workers and a pool of memory; Finalize frees both.
type Backend struct {
	level   feature.Level
	bf16    bool
	team    *team.Team
	engine  *program.Engine // runs native programs on the team
	pool    *pool
	checker compute.Backend         // the go backend, in which shadows are built
	extra   map[compute.OpType]bool // what is done here and not there
	compile compiler                // native, but for tests
	logged  sync.Map                // reasons for the whole-function path that were logged

	// Executions and new constants hold mu for reading, Finalize for writing.
	mu        sync.RWMutex
	finalized bool
}

var _ compute.Backend = (*Backend)(nil)

type options struct {
	bf16    bool
	threads int
}

// New opens a backend. config is a list of options separated by commas: "bf16", "threads=N" (default: the cores that this
// process may use, at most GOMAXPROCS). Unknown options, "bf16" on a processor without products of bfloat16, and a wrong POLAR_CPU
// are errors.
func New(config string) (compute.Backend, error) {
	level, err := feature.Parse(os.Getenv(LevelEnvVar))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LevelEnvVar, err)
	}
	chosen, err := parse(config)
	if err != nil {
		return nil, err
	}
	if chosen.bf16 && !feature.BF16(level) {
		return nil, fmt.Errorf("polar:bf16 needs products of bfloat16 (AVX512_BF16), which %s has not; use polar", having(level))
	}
	checker, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		return nil, fmt.Errorf("open the go backend behind polar: %w", err)
	}
	workers := team.New(chosen.threads)
	memory := newPool()
	return &Backend{
		level: level, bf16: chosen.bf16, team: workers, engine: program.NewEngine(workers, level, memory.memory), pool: memory,
		checker: checker, extra: nativeOps, compile: native,
	}, nil
}

func having(level feature.Level) string {
	if level < feature.Detected() {
		return LevelEnvVar + "=" + level.String()
	}
	return "this processor"
}

func parse(config string) (options, error) {
	chosen := options{threads: min(runtime.GOMAXPROCS(0), Cores())}
	for option := range strings.SplitSeq(config, ",") {
		key, value, hasValue := strings.Cut(option, "=")
		switch {
		case option == "":
		case option == "bf16":
			chosen.bf16 = true
		case key == "threads" && hasValue:
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxThreads {
				return options{}, fmt.Errorf("polar:threads=%s: want a number from 1 to %d", value, maxThreads)
			}
			chosen.threads = n
		default:
			return options{}, fmt.Errorf("unknown option %q of the polar backend: it has bf16, threads=N", option)
		}
	}
	return chosen, nil
}

// Level is the instructions that the kernels use.
func (b *Backend) Level() feature.Level { return b.level }

// Threads is the number of workers, the goroutine that calls Execute among them.
func (b *Backend) Threads() int { return b.team.Size() }

// BF16 says whether products of float32 are computed from operands rounded to bfloat16.
func (b *Backend) BF16() bool { return b.bf16 }

// Name returns "polar".
func (b *Backend) Name() string { return Name }

// String returns "polar".
func (b *Backend) String() string { return Name }

// Description says which kernels and how many threads are used.
func (b *Backend) Description() string {
	precision := ""
	if b.bf16 {
		precision = ", products in bfloat16"
	}
	return fmt.Sprintf("Polar on the processor (%s%s, %d threads)", b.level, precision, b.Threads())
}

// NumDevices returns 1.
func (b *Backend) NumDevices() int { return 1 }

// DeviceDescription describes the only device, 0.
func (b *Backend) DeviceDescription(compute.DeviceNum) string { return b.Description() }

// Capabilities are those of the go backend and what is done natively besides. The caller may change what it gets.
func (b *Backend) Capabilities() compute.Capabilities {
	capabilities := b.checker.Capabilities().Clone()
	maps.Copy(capabilities.Operations, b.extra)
	return capabilities
}

// Builder starts the recording of a computation.
func (b *Backend) Builder(name string) compute.Builder { return newBuilder(b, name) }

// Finalize waits for executions that are running, ends the workers and gives the pool's memory back. Whatever is called later on
// the backend, its builders or executables is an error; buffers can still be finalised.
func (b *Backend) Finalize() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finalized {
		return
	}
	b.finalized = true
	b.team.Close()
	b.pool.close()
	b.engine.Release()
	b.checker.Finalize()
}

// IsFinalized says whether Finalize was called.
func (b *Backend) IsFinalized() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.finalized
}

// enter keeps Finalize out until leave. It must not be nested: a Finalize that waits between two would stop both.
func (b *Backend) enter() error {
	b.mu.RLock()
	if b.finalized {
		b.mu.RUnlock()
		return errFinalized
	}
	return nil
}

func (b *Backend) leave() { b.mu.RUnlock() }

// logOnce reports, once for each reason, that the go backend does what the native compiler cannot.
func (b *Backend) logOnce(reason string) {
	if _, known := b.logged.LoadOrStore(reason, true); !known {
		klog.V(1).Infof("polar: run by the go backend instead: %s", reason)
	}
}

// Peak measures the rate of multiply-adds of float32 that the workers reach together, in GFLOP/s (a multiplication and an addition are
// two); of products of bfloat16 with bf16, 0 where there are none. It takes about 0.1 s.
func (b *Backend) Peak(bf16 bool) float64 {
	if bf16 && !feature.BF16(b.level) {
		return 0
	}
	return gemm.Peak(b.team, b.level, bf16)
}
