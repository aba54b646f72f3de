package cpu

import (
	"runtime"
	"runtime/metrics"

	"golang.org/x/sys/cpu"
)

// Machine is what is known about the computer that runs this process. Zero values and "" mean unknown.
type Machine struct {
	Processor string   // its maker's name for it
	Features  []string // instructions that kernels use or could use, as Linux names them
	Cores     int      // physical cores that this process may use
	Threads   int      // logical processors that this process may use
	L1, L2    int64    // bytes of cache of one core, L1 for data only
	L3        int64    // bytes of cache shared by cores
	Memory    int64    // bytes, or the control group's limit where that is lower
	Available int64    // bytes that can be allocated now
}

// Describe reads the machine's description from the operating system.
func Describe() Machine {
	m := Machine{Threads: runtime.NumCPU(), Cores: Cores(), Features: features()}
	m.Processor, m.L1, m.L2, m.L3 = processor()
	m.Memory, m.Available = memory()
	return m
}

func features() (names []string) {
	x := &cpu.X86
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"sse4_2", x.HasSSE42}, {"avx", x.HasAVX}, {"avx2", x.HasAVX2}, {"fma", x.HasFMA}, {"avx512f", x.HasAVX512F},
		{"avx512bw", x.HasAVX512BW}, {"avx512cd", x.HasAVX512CD}, {"avx512dq", x.HasAVX512DQ}, {"avx512vl", x.HasAVX512VL},
		{"avx512_vnni", x.HasAVX512VNNI}, {"avx512_bf16", x.HasAVX512BF16}, {"amx_bf16", x.HasAMXBF16},
		{"asimd", cpu.ARM64.HasASIMD}, {"sve", cpu.ARM64.HasSVE},
	} {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}

// Cores is the number of physical cores that this process may use, as far as known, else of logical processors.
func Cores() int {
	if n := physicalCores(); n > 0 {
		return min(n, runtime.NumCPU())
	}
	return runtime.NumCPU()
}

// room is the number of bytes that can be allocated now, what Go's heap holds free included; ok is false where it is unknown.
func room() (bytes int64, ok bool) {
	total, available := memory()
	if total == 0 {
		return 0, false
	}
	free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(free)
	if free[0].Value.Kind() == metrics.KindUint64 {
		available += int64(free[0].Value.Uint64())
	}
	return available, true
}
